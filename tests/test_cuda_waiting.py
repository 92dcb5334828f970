"""Launches held back for the next one, whose blocks wait for the sums that the first of them make, and sums that the last block adds up:
the same bits as two launches and as one block after the other, in every order of blocks that is tried, again and again.

That these orders show a broken fence, barrier, wait, count or reset: tests/test_cuda_blocks.py.
"""

from __future__ import annotations

import shutil

import numpy as np
import pytest

pytest.importorskip("ml_dtypes", reason="ml_dtypes, NumPy's bfloat16, is not installed")
if shutil.which("g++") is None:
    pytest.skip("no g++ to compile the CUDA C kernels for the host", allow_module_level=True)

from kernel_check import relative_error

from kernels import Running
from kernels.cuda import batch_norm, losses
from kernels.cuda.device import source
from kernels.cuda.engine import emulated_engine
from kernels.cuda.products import partials
from kernels.ledger import cost

GROUPS = (40, 24)
SHAPE = (64, 3, 3, 12)
SEEDS = range(0, 10_000, 1000)
JOINED = ["bn_statistics_forward", "bn_sums_backward"]


class Block:
    """Batch norm forward and backward on a device of its own, as a graph replays them: the same arrays at every call."""

    def __init__(self, seed=0, apart=False, blocks=8):
        rng = np.random.default_rng(0)
        eng = self.engine = emulated_engine("float32", seed=seed, blocks=blocks)
        self.apart = apart
        c, groups = SHAPE[-1], len(GROUPS)
        self.x, self.dy = (eng.asarray(rng.standard_normal(SHAPE)) for _ in range(2))
        self.gamma, self.beta = (eng.asarray(rng.standard_normal(c)) for _ in range(2))
        self.mean, self.var, self.running = eng.empty((groups, c)), eng.empty((groups, c)), [eng.asarray(np.ones(c)) for _ in range(2)]
        self.y, self.dx, self.dgamma, self.dbeta = eng.empty(SHAPE), eng.empty(SHAPE), eng.empty((c,)), eng.empty((c,))
        self.outputs = (self.mean, self.var, self.y, self.dx, self.dgamma, self.dbeta, *self.running)

    def __call__(self):
        """The outputs' bytes, after one replay."""
        eng, settle = self.engine, self.engine.device.settle
        for array in self.outputs[:6]:
            array[...] = np.nan  # nothing is left of the replay before
        eng.device.launches = []
        eng.batch_norm_statistics(self.mean, self.var, self.x, GROUPS)
        if self.apart:
            settle()
        options = {"eps": 1e-5, "relu": True}
        running = Running(*self.running, 0.9)
        eng.batch_norm_forward(self.y, self.x, self.mean, self.var, self.gamma, self.beta, GROUPS, running=running, **options)
        eng.batch_norm_backward(
            self.dx, self.dy, self.x, self.y, self.mean, self.var, self.gamma, GROUPS, dgamma=self.dgamma, dbeta=self.dbeta, **options
        )
        return [np.array(array).tobytes() for array in self.outputs]

    @property
    def launches(self):
        return [launch.name for launch in self.engine.device.launches]


@pytest.fixture
def many_blocks(monkeypatch):
    """Grids of dozens of blocks, and sums of several parts."""
    monkeypatch.setattr(batch_norm, "UNROLL", 1)


def test_joined_launches_have_the_bits_of_two(many_blocks):
    """When they are replayed, too."""
    one, apart = Block(), Block(apart=True)
    for _ in range(3):
        assert one() == apart()
    assert one.launches == JOINED and apart.launches == ["bn_statistics", "bn_finalise", "bn_forward", JOINED[1]]
    assert all(launch.grid[0] > 4 for launch in one.engine.device.launches), "too few blocks to wait for each other"
    for mean, group in zip(np.array(one.mean), np.split(np.array(one.x), [40]), strict=True):
        np.testing.assert_allclose(mean, group.mean(axis=(0, 1, 2)), atol=1e-6)


@pytest.mark.parametrize(
    "kernels", [JOINED, ["bn_statistics", "bn_forward", "bn_backward_sums", "bn_backward"]], ids=["sums too", "sums apart"]
)
def test_blocks_in_turns_have_the_bits_of_one_after_the_other(many_blocks, kernels, monkeypatch):
    """Up to eight at a time, replayed with the same counters."""
    if kernels is not JOINED:
        monkeypatch.setattr(batch_norm, "Made", lambda launch, chunks: launch())
    one = Block(blocks=1)
    right = [one(), one()]
    assert one.launches == kernels
    for seed in SEEDS:
        block = Block(seed=seed)
        assert [block(), block()] == right, seed


def test_what_is_held_back_is_seen_by_nobody(many_blocks):
    """The host, another launch, a rehearsal or a wait: each finds it done."""
    block = Block()
    eng, dev = block.engine, block.engine.device
    for look in (dev.settle, eng.synchronize, lambda: eng.to_numpy(block.mean), lambda: eng.copy(block.y, block.x),
                 lambda: eng.put(block.y, 0 * np.array(block.x)), lambda: eng.prepare(lambda: None)):  # fmt: skip
        block.mean[...] = np.nan
        eng.batch_norm_statistics(block.mean, block.var, block.x, GROUPS)
        assert np.isnan(block.mean).all(), "was not held back"
        look()
        assert np.isfinite(block.mean).all()
    other = eng.empty(block.mean.shape)
    eng.batch_norm_statistics(block.mean, block.var, block.x, GROUPS)
    eng.batch_norm_statistics(other, block.var, block.x, GROUPS)  # holds one back itself
    assert np.isfinite(block.mean).all() and np.isnan(other).all()
    dev.settle()
    noted = dev._rehearsal(lambda: eng.batch_norm_statistics(block.mean, block.var, block.x, GROUPS))
    assert [launch.name for launch in noted] == ["bn_statistics", "bn_finalise"] and dev._held is None


def test_a_missing_fence_shows(many_blocks, tmp_path, monkeypatch):
    """In batch norm's own kernels."""
    right = Block()()
    _break("__threadfence();  // others", "// others", tmp_path, monkeypatch)
    for module, file in ((batch_norm, "batch_norm.cu"), (partials, "products/partials.cu")):
        monkeypatch.setattr(module, "FILE", _copied(file, tmp_path))
    assert any(Block(seed=seed)() != right for seed in SEEDS)


def _break(old, new, folder, monkeypatch):
    text = (source.HERE / "common.cuh").read_text(encoding="utf-8")
    assert text.count(old) == 1
    (folder / "common.cuh").write_text(text.replace(old, new), encoding="utf-8")
    monkeypatch.setattr(source, "HERE", folder)


def _copied(file, folder):
    """Another path, so that it is compiled again."""
    copy = folder / file.rsplit("/", 1)[-1]
    copy.write_text((source.CUDA / file).read_text(encoding="utf-8"), encoding="utf-8")
    return str(copy)


def sums(seed, blocks=8):
    """L_like of six blocks' elements and the KL divergence of three's, replayed."""
    rng = np.random.default_rng(0)
    eng = emulated_engine("float32", seed=seed, blocks=blocks)
    pred, target = (eng.asarray(rng.standard_normal(5 * 2048 + 77)) for _ in range(2))
    mu, logvar, eps = (eng.asarray(rng.standard_normal((50, 43))) for _ in range(3))
    like, kl, difference, z = eng.empty((1,), np.float64), eng.empty((1,), np.float64), eng.empty(pred.shape), eng.empty(mu.shape)
    results = []
    for _ in range(2):
        like[0] = kl[0] = np.nan
        eng.feature_likelihood(like, difference, pred, target)
        eng.reparametrize_forward(z, kl, mu, logvar, eps)
        results.append((float(like[0]), float(kl[0])))
    return results


def test_sums_over_blocks_have_the_bits_of_one_block_after_the_other(tmp_path, monkeypatch):
    right = sums(0, blocks=1)
    assert np.isfinite(right).all() and all(sums(seed) == right for seed in SEEDS)
    _break("__threadfence();  // what was written is seen before the count is\n", "\n", tmp_path, monkeypatch)
    monkeypatch.setattr(losses, "FILE", _copied("losses.cu", tmp_path))
    assert any(sums(seed) != right for seed in SEEDS), "a missing fence does not show"


def test_feature_likelihood_goes_round_the_grid(rng):
    """With fewer blocks than the elements would have."""
    engine = emulated_engine("float32")
    n = 5 * 2048 + 77
    pred, target = (engine.asarray(rng.standard_normal(n)) for _ in range(2))
    loss, partial, dpred = engine.empty((1,), np.float64), engine.empty((2,), np.float64), engine.empty((n,))
    arrays = loss, partial, dpred, pred, target
    engine.device.cuda("losses.cu", "feature_likelihood", 2, 256, *arrays, np.int64(n), engine.device.counters, cost=cost(0))
    assert relative_error(2 * loss[0], ((pred - target).astype(np.float64) ** 2).sum()) < 1e-6
    assert np.array_equal(dpred, pred - target)


def test_counters_that_were_not_set_back_show_in_the_next_replay(many_blocks):
    """Were there no check of them behind each launch: no part is made, and the outputs are not those of the first replay."""
    block = Block()
    right = block()
    block.engine.device.counters[:2] = 100  # as they would be left
    assert block()[2] != right[2]
