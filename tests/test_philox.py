"""The random numbers: known answers, independence of streams, moments, determinism."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import philox

# Random123's kat_vectors for philox4x32 with 10 rounds: counter, key, output
KNOWN_ANSWERS = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]  # fmt: skip
STREAMS = {name: getattr(philox, name) for name in dir(philox) if name.startswith("STREAM_")}
MASK = 0xFFFFFFFF


def scalar_philox(counter, key):
    """Philox4x32-10 with Python integers, after the paper (Salmon et al. 2011, section 3.3)."""
    (c0, c1, c2, c3), (k0, k1) = counter, key
    for _ in range(10):
        low, high = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (high >> 32) ^ c1 ^ k0, high & MASK, (low >> 32) ^ c3 ^ k1, low & MASK
        k0, k1 = (k0 + 0x9E3779B9) & MASK, (k1 + 0xBB67AE85) & MASK
    return c0, c1, c2, c3


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN_ANSWERS, ids=["zeros", "ones", "digits of pi"])
def test_known_answers(counter, key, expected):
    assert scalar_philox(counter, key) == expected
    got = philox.philox4x32(np.array([counter, counter], np.uint32), key)
    assert got.dtype == np.uint32
    assert [tuple(map(int, row)) for row in got] == [expected, expected]


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**64 - 1), step=st.integers(0, 2**64 - 1), stream=st.integers(0, 2**32 - 1), n=st.integers(1, 9))
def test_the_documented_counter_and_key(seed, step, stream, n):
    """Element i is word i % 4 of block i // 4; counter = (block, stream, step), key = seed, low words first."""
    expected = []
    for block in range(-(-n // 4)):
        expected += scalar_philox((block, stream, step & MASK, step >> 32), (seed & MASK, seed >> 32))
    assert philox.uint32(n, seed=seed, step=step, stream=stream).tolist() == expected[:n]


def test_streams_are_distinct():
    assert len(STREAMS) >= 8
    assert len(set(STREAMS.values())) == len(STREAMS)


@pytest.mark.parametrize("draw", [philox.uint32, philox.normal])
def test_a_draw_is_a_pure_function(draw):
    """Same arguments, same bits; the shape only folds them; a longer draw begins with the shorter one."""
    first = draw((4, 6), seed=1, step=2, stream=3)
    draw(1000, seed=9, step=9, stream=9)
    assert np.array_equal(first, draw((4, 6), seed=1, step=2, stream=3))
    assert np.array_equal(first.reshape(-1), draw(24, seed=1, step=2, stream=3))
    assert np.array_equal(draw(23, seed=1, step=2, stream=3), first.reshape(-1)[:23])
    assert draw((3, 0), seed=1, step=2, stream=3).shape == (3, 0)


@pytest.mark.parametrize("draw", [philox.uint32, philox.normal])
def test_seeds_steps_and_streams_share_nothing(draw):
    """No value of one draw is found in another (64-bit keys of pairs, so a chance hit is out of the question)."""
    keys = [(0, 0, 1), (1, 0, 1), (0, 1, 1), (0, 0, 2), (2**32, 0, 1), (0, 2**32, 1)]
    draws = [draw(2000, seed=a, step=b, stream=c).reshape(-1, 2) for a, b, c in keys]
    seen = {tuple(map(float, row)) for pairs in draws for row in pairs}
    assert len(seen) == 1000 * len(keys)


def test_normal_has_the_moments_of_a_normal():
    n = 400_000
    for stream in (philox.STREAM_EPS, philox.STREAM_PRIOR):
        x = philox.normal(n, seed=5, step=7, stream=stream)
        assert x.dtype == np.float64
        assert np.isfinite(x).all()
        for power, moment, spread in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
            assert abs((x**power).mean() - moment) < 5 * math.sqrt(spread / n), f"moment {power}"
        assert abs((x > 1.959964).mean() - 0.025) < 5 * math.sqrt(0.025 / n)
        assert abs((x[::2] * x[1::2]).mean()) < 5 / math.sqrt(n / 2), "the two of a Box-Muller pair"
        assert abs((x[:-1] * x[1:]).mean()) < 5 / math.sqrt(n)


def test_uint32_is_uniform():
    words = philox.uint32(400_000, seed=3, step=0, stream=1)
    assert words.dtype == np.uint32
    counts = np.bincount(words >> 24, minlength=256)
    chi2 = float(((counts - counts.mean()) ** 2 / counts.mean()).sum())
    assert 150 < chi2 < 380  # 255 degrees of freedom, about ±5 standard deviations


def test_draws_of_one_stream_are_uncorrelated_with_the_next_step():
    x = np.stack([philox.normal(50_000, seed=1, step=s, stream=1) for s in range(4)])
    correlation = np.corrcoef(x) - np.eye(4)
    assert np.abs(correlation).max() < 5 / math.sqrt(50_000)


@pytest.mark.parametrize("n", [0, 1, 2, 7, 1000])
def test_permutation(n):
    order = philox.permutation(n, seed=1, step=2, stream=philox.STREAM_SHUFFLE)
    assert order.dtype == np.int64
    assert np.array_equal(np.sort(order), np.arange(n))
    assert np.array_equal(order, philox.permutation(n, seed=1, step=2, stream=philox.STREAM_SHUFFLE))


def test_every_element_goes_everywhere():
    """First places over many epochs: each of five elements about equally often, and epochs differ."""
    orders = np.stack([philox.permutation(5, seed=4, step=s, stream=philox.STREAM_SHUFFLE) for s in range(2000)])
    for place in range(5):
        counts = np.bincount(orders[:, place], minlength=5)
        assert abs(counts - 400).max() < 5 * math.sqrt(400)


def test_engine_draws_the_same_normals(engine):
    """Every engine: integers to the bit, normals to 1e-6."""
    out = engine.empty((3, 5))
    engine.normal(out, seed=1, step=2, stream=3)
    assert np.abs(engine.to_numpy(out) - philox.normal((3, 5), seed=1, step=2, stream=3)).max() < 1e-6


@pytest.mark.parametrize("bad", [{"seed": -1}, {"step": -1}, {"stream": -1}, {"seed": 2**64}, {"stream": 2**32}])
def test_negative_and_too_large_keys_are_refused(engine, bad):
    key = {"seed": 0, "step": 0, "stream": 0, **bad}
    with pytest.raises(ValueError, match="got .*expected"):
        philox.uint32(4, **key)
    with pytest.raises(ValueError, match="got .*expected"):
        engine.normal(engine.empty((4,), engine.wide), **key)
