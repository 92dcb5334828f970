"""The native engine's small operations: every width of vectors, extremes, NaN, ends of pieces, threads, NumPy's bits where promised."""

from __future__ import annotations

import numpy as np
import pytest
from gradcheck import assert_close, draw, poisoned, put, relative_error
from kernel_cases import cases
from kernel_check import check
from kernel_shapes import ODD
from native_case import LEVELS, native_engine

import kernels
from kernels.augmentation import AUTHORS, Augmentation

SIZES = [1, 3, 4, 15, 16, 17, 2047, 2049, 16383, 16384, 16385, 40001]  # ends of vectors, of their sums and of pieces
STRONG = Augmentation(0.1, 0.1, 0.6, 0.3, 0.4, 0.3)


@pytest.fixture(params=LEVELS)
def native(request):
    return native_engine(request.param)


def test_the_cases_hold_unaligned(native, engine64):
    """Every operation's cases, inputs and outputs beside the vectors' boundaries."""
    wrong = [(case.name, o) for case in cases(ODD) for o in check(native, engine64, case, seed=5, shift=(1, 3)) if not o.ok]
    assert not wrong, wrong[:5]


def units(got, expected):
    """The largest error in units in the last place of float32, normal or not."""
    place = np.spacing(np.abs(expected.astype(np.float32))).astype(np.float64)
    return float((np.abs(got.astype(np.float64) - expected) / place).max())


def every_size():
    """Floats of every exponent and both signs, with all that are not normal thinned out, and many where functions bend."""
    bits = np.arange(0, 0x7F800000, 4999, np.uint32).view(np.float32)
    near = np.linspace(-20, 20, 200_001).astype(np.float32)
    return np.concatenate([bits, -bits, near, np.float32([1e-45, -1e-45])])


def test_tanh_and_sigmoid_of_every_size(native):
    x = every_size()
    y, wide = np.empty_like(x), x.astype(np.float64)
    native.tanh_forward(y, x)
    assert units(y, np.tanh(wide)) < 3
    assert (np.signbit(y) == np.signbit(x)).all() and np.abs(y).max() == 1
    native.sigmoid_forward(y, x)
    small = np.exp(-np.abs(wide))
    assert units(y, np.where(wide < 0, small, 1) / (1 + small)) < 3
    special, out = np.float32([np.inf, -np.inf, 0.0, -0.0]), np.empty(4, np.float32)
    native.tanh_forward(out, special)
    assert out.tolist() == [1, -1, 0, 0] and np.signbit(out).tolist() == [False, True, False, True]
    native.sigmoid_forward(out, special)
    assert out.tolist() == [1, 0, 0.5, 0.5]


def test_exponentials_of_every_size(native):
    """exp in z and expm1 in the gradient of log σ², to where they overflow and vanish."""
    x = every_size()
    x = x[np.abs(x) < 88]
    z, kl, dmu, dlogvar, zero = np.empty_like(x), np.empty(1), np.empty_like(x), np.empty_like(x), np.zeros_like(x)
    native.reparametrize_forward(z[None], kl, zero[None], 2 * x[None], np.ones_like(x)[None])
    assert units(z, np.exp(x.astype(np.float64))) < 2
    native.reparametrize_backward(*(a[None] for a in (dmu, dlogvar, zero, zero, x, zero)))
    assert units(dlogvar, 0.5 * np.expm1(x.astype(np.float64))) < 3
    ends = np.float32([[-1000.0, -210.0, 1000.0, -np.inf, np.inf]])
    z = np.empty_like(ends)
    native.reparametrize_forward(z, kl, np.zeros_like(ends), ends, np.ones_like(ends))
    assert z.tolist() == [[0, 0, np.inf, 0, np.inf]]


def flat_calls(rng, size):
    """{operation: (outputs, inputs, options)} of the element-wise ones and the sums, on arrays of ``size``."""

    def array(scale=1.0):
        return (scale * rng.standard_normal((1, size))).astype(np.float32)

    def empty():
        return np.full((1, size), np.nan, np.float32)

    a, b, c, d, draw_key = array(), array(0.5), array(), array(), {"seed": 2**40 + 1}
    calls = {f"{name}_forward": ([empty()], [a], {}) for name in ("relu", "tanh", "sigmoid")}
    calls |= {f"{name}_backward": ([empty()], [a, b], {}) for name in ("relu", "tanh", "sigmoid")}
    return calls | {
        "add": ([empty()], [a, b], {"alpha": 0.3, "beta": -1.7}),
        "scale": ([empty()], [a], {"factor": -0.37}),
        "reparametrize_forward": ([empty(), np.full(1, np.nan)], [a, b, c], {}),
        "reparametrize_backward": ([empty(), empty()], [a, d, b, c], {}),
        "feature_likelihood": ([np.full(1, np.nan), empty()], [a, b], {}),
        "rmsprop_update": ([array(), np.abs(array())], [a], {"lr": 0.01, "weight_decay": 0.1}),
        "adam_update": ([array(), array(), np.abs(array()), np.array([3])], [a], {"lr": 0.01, "weight_decay": 0.1}),
        "normal": ([empty()], [], {"step": 2**33 + 5, "stream": 3} | draw_key),
        "uniform_init": ([empty()], [], {"bound": 0.05, "index": 7} | draw_key),
    }


def widened(arrays):
    return [a.astype(np.float64) if a.dtype == np.float32 else a.copy() for a in arrays]


@pytest.mark.parametrize("size", SIZES)
def test_ends_of_vectors_and_pieces(native, engine64, rng, size):
    for name, (outputs, inputs, options) in flat_calls(rng, size).items():
        expected = widened(outputs)
        getattr(engine64, name)(*expected, *widened(inputs), **options)
        getattr(native, name)(*outputs, *inputs, **options)
        for got, wanted in zip(outputs, expected, strict=True):
            assert relative_error(got, wanted) < 1e-6 or not (got.any() or wanted.any()), name


def test_bits_do_not_depend_on_threads(rng, request):
    """Of every operation that is cut into pieces: one thread, two, five."""
    request.addfinalizer(native_engine)  # the number of threads is the process's
    images, order, step = rng.integers(0, 256, (9, 33, 31, 3), dtype=np.uint8), rng.permutation(9).astype(np.int32), np.array([5])
    found, options = [], {"per_epoch": 1, "seed": 7, "flip": True}
    for threads in (1, 2, 5):
        engine, results = native_engine(threads=threads), []
        for name, (outputs, inputs, given) in flat_calls(np.random.default_rng(3), 100_003).items():
            getattr(engine, name)(*outputs, *inputs, **given)
            results += outputs
        batches = [np.empty(images.shape, np.float32) for _ in range(2)]
        engine.gather_batch(batches[0], images, order, step, **options)
        engine.augment_batch(batches[1], images, order, step, strengths=STRONG, **options)
        found.append(results + batches)
    for results in found[1:]:
        assert all(np.array_equal(one, other) for one, other in zip(found[0], results, strict=True))


@pytest.mark.parametrize("place", [0, 17, 36])
def test_nan_stays(native, rng, place):
    """A NaN in the first input: in its place of every output of that shape, and in every sum."""
    for name, (outputs, inputs, options) in flat_calls(rng, 37).items():
        if not inputs:
            continue
        inputs[0][0, place] = np.nan
        getattr(native, name)(*outputs, *inputs, **options)
        for out in outputs:
            if out.size > 1:
                assert np.flatnonzero(np.isnan(out)).tolist() == [place], name
            elif out.dtype == np.float64:
                assert np.isnan(out[0]), name


@pytest.mark.parametrize("size", [1, 37, 16400])
def test_in_place_gives_the_same_bits(native, rng, size):
    a, b = (rng.standard_normal(size).astype(np.float32) for _ in range(2))

    def both(name, *inputs, at, **options):
        out, copies = np.empty_like(a), [i.copy() if isinstance(i, np.ndarray) else i for i in inputs]
        getattr(native, name)(out, *inputs, **options)
        getattr(native, name)(copies[at], *copies, **options)
        assert np.array_equal(out, copies[at]), name

    for name in ("relu", "tanh", "sigmoid"):
        both(f"{name}_forward", a, at=0)
        both(f"{name}_backward", a, b, at=0)
        both(f"{name}_backward", a, b, at=1)
    both("add", a, b, at=1, alpha=0.3, beta=-1.7)
    both("scale", a, 0.7, at=0)


def test_nothing_is_done_to_nothing(native):
    """Arrays of no element: nothing is read or written, and sums are 0."""
    none, kl = np.empty((0, 4), np.float32), np.full(1, np.nan)
    native.tanh_forward(none, none)
    native.normal(none, seed=0, step=0, stream=1)
    native.reparametrize_forward(none, kl, none, none, none)
    assert kl[0] == 0
    native.gan_loss(losses := np.full(2, np.nan), None, np.empty(0, np.float32), 0, (1.0, 1.0))
    assert losses.tolist() == [0, 0]
    images = np.zeros((3, 2, 2, 1), np.uint8)
    native.gather_images(np.empty((0, 2, 2, 1), np.float32), images, np.empty(0, np.int64))
    native.rmsprop_update_all(native.update_list("rmsprop", []), lr=0.1)


@pytest.mark.parametrize("size", SIZES)
def test_draws_are_numpys(native, engine32, size):
    """Initial values to the bit; normals within one unit in the last place, of double precision's rounding."""
    for seed, step in ((0, 0), (2**64 - 1, 2**63 - 1), (77, 2**32)):
        got, expected = poisoned(native, size), poisoned(native, size)
        for engine, out in ((native, got), (engine32, expected)):
            engine.uniform_init(out, 0.0371, seed=seed, index=step)
        assert np.array_equal(got, expected)
        for engine, out in ((native, got), (engine32, expected)):
            engine.normal(out, seed=seed, step=np.array([step]), stream=2**32 - 1)
        assert units(got, expected.astype(np.float64)) <= 1


@pytest.mark.parametrize("kind", ["rmsprop", "adam"])
def test_a_list_of_many_pieces(native, engine64, rng, kind):
    """Large and small parameters; gates are read when it runs, not when the list is made."""
    flags = [None, None, np.array([0], np.uint8), np.array([1], np.uint8), None]
    lists = []
    for engine in (native, engine64):
        rng = np.random.default_rng(3)
        entries = []
        for size, flag in zip((16385, 1, 40_001, 8192, 0), flags, strict=True):
            w, dw = draw(native, rng, size), draw(native, rng, size)
            states = [put(engine, np.abs(draw(native, rng, size))) for _ in range(1 if kind == "rmsprop" else 2)]
            states += [put(engine, [4], np.int64)] if kind == "adam" else []
            copy = put(engine, w) if size == 16385 else None
            entries.append(kernels.UpdateEntry(put(engine, w), copy, tuple(states), put(engine, dw), 0.02, flag))
        lists.append(engine.update_list(kind, entries))
    for gates in ((0, 1), (1, 0), (1, 1)):
        flags[2][0], flags[3][0] = gates
        for engine, updates in zip((native, engine64), lists, strict=True):
            before = [e.w.copy() for e in updates.entries]
            getattr(engine, f"{kind}_update_all")(updates, lr=np.full(1, 0.01, engine.wide))
            assert [bool((e.w != w).any()) for e, w in zip(updates.entries, before, strict=True)] == [True, True, *map(bool, gates), False]
        for got, expected in zip(*(u.entries for u in lists), strict=True):
            for one, two in zip((got.w, *got.states), (expected.w, *expected.states), strict=True):
                assert not one.size or relative_error(one, two) < 2e-6
        assert np.array_equal(lists[0].entries[0].copy, lists[0].entries[0].w)


@pytest.mark.parametrize("strengths", [AUTHORS, STRONG])
@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 5, 1), (7, 33, 3), (16, 16, 1)])
def test_augment_is_numpys(native, engine32, rng, strengths, shape):
    images, order = rng.integers(0, 256, (6, *shape), dtype=np.uint8), rng.permutation(6).astype(np.int32)
    images[0], images[1] = 0, 255
    got, expected = poisoned(native, 6, *shape), poisoned(native, 6, *shape)
    for engine, x in ((native, got), (engine32, expected)):
        engine.augment_batch(x, images, order, np.array([2]), per_epoch=1, seed=9, flip=True, strengths=strengths)
    assert_close(got, expected, 1e-5)


def test_absurd_strengths_stay_within_the_image(native, rng):
    """Places beyond every integer, angles that are not finite: the pixels are still the image's."""
    images, x = rng.integers(100, 200, (8, 5, 6, 3), dtype=np.uint8), poisoned(native, 8, 5, 6, 3)
    strengths = Augmentation(translation=1.7e308, rotation=1.7e308)
    native.augment_batch(x, images, np.arange(8, dtype=np.int32), np.array([2]), per_epoch=1, seed=9, flip=True, strengths=strengths)
    assert x.min() >= 100 / 127.5 - 1 - 1e-6 and x.max() <= 200 / 127.5 - 1 + 1e-6


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_gather_is_numpys(native, engine32, rng, channels):
    """To the bit, from a data set that cannot be written and indices of any type."""
    images = rng.integers(0, 256, (11, 7, 5, channels), dtype=np.uint8)
    images.flags.writeable = False
    flips = rng.random(6) < 0.5
    for dtype in (np.int64, np.uint8):
        got, expected = poisoned(native, 6, 7, 5, channels), poisoned(native, 6, 7, 5, channels)
        for engine, x in ((native, got), (engine32, expected)):
            engine.gather_images(x, images, np.array([10, 0, 3, 3, 7, 1], dtype), flips)
        assert np.array_equal(got, expected)
