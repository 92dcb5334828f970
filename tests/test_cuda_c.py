"""What the CUDA C kernels do beyond their results, which are in test_kernels: launches, costs, bits, grids smaller than the work, indices
that are not there, refusals; and proof that the emulation shows what it is there for: real kernels, broken on purpose."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ml_dtypes", reason="ml_dtypes, NumPy's bfloat16, is not installed")
if shutil.which("g++") is None:
    pytest.skip("no g++ to compile the CUDA C kernels for the host", allow_module_level=True)

from kernel_cases_parts import pack_weights
from kernel_check import place, relative_error

from kernels import UpdateEntry, philox
from kernels.cpu import conv2d
from kernels.cuda import batch_norm, elementwise
from kernels.cuda.device.base import BFLOAT16
from kernels.cuda.device.source import CUDA
from kernels.cuda.engine import emulated_engine
from kernels.cuda.products import packing, partials
from kernels.ledger import cost

FLOAT32 = np.float32


@pytest.fixture
def engine():
    """A device of its own: what a test leaves behind is no other's."""
    return emulated_engine("float32")


@pytest.fixture
def bf16():
    return emulated_engine("bf16")


def names(engine, call):
    """The launches of ``call``."""
    engine.device.launches = []
    call()
    return [launch.name for launch in engine.device.launches]


# ---- launches and costs ----


def test_batch_norm_backward_sums_what_is_wanted_alone(engine, rng):
    """Sums that are given, or not asked for, cost no launch; with them dy and x are read once."""

    def normal(*shape):
        return engine.asarray(rng.standard_normal(shape))

    dx, dy, x = engine.empty((2, 4, 4, 8)), normal(2, 4, 4, 8), normal(2, 4, 4, 8)
    mean, gamma, sums = normal(1, 8), normal(8), normal(2, 1, 8)
    arguments, options = (dx, dy, x, x, mean, engine.asarray(np.ones((1, 8))), gamma, (2,)), {"eps": 1e-5, "relu": True}
    assert names(engine, lambda: engine.batch_norm_backward(*arguments, **options, batch_statistics=False)) == ["bn_backward"]
    assert names(engine, lambda: engine.batch_norm_backward(*arguments, **options)) == ["bn_sums_backward"]
    assert engine.device.launches[0].cost.reads > 4 * x.size * 4  # dy and x twice
    assert names(engine, lambda: engine.batch_norm_backward(*arguments, **options, sums=sums)) == ["bn_backward"]
    found, small = engine.device.launches[0].cost, 4 * (3 * 8 + 2 * 8)
    assert (found.reads, found.writes, found.flops) == (2 * x.size * 4 + small, x.size * 4, 0)


@pytest.mark.parametrize(("kind", "count"), [("rmsprop", 1), ("adam", 2)])
def test_launches_and_cost_of_a_list(bf16, kind, count):
    """One launch for RMSProp, two for Adam; none for a list without gradients."""

    def wide(value=1.0):
        return bf16.asarray(np.full(10, value), FLOAT32)

    states = tuple(wide() for _ in range(count)) + ((bf16.asarray([0], np.int64),) if kind == "adam" else ())
    entry = UpdateEntry(wide(), bf16.empty((10,)), states, wide(), 0.0, None)
    update = getattr(bf16, f"{kind}_update_all")
    updates = bf16.update_list(kind, [entry, entry._replace(grad=None)])
    assert (updates.device.cost.reads, updates.device.cost.writes) == (40 * (2 + count), 40 * (1 + count) + 20)
    assert len(names(bf16, lambda: update(updates, lr=0.1))) == count
    assert np.array_equal(entry.copy, entry.w.astype(BFLOAT16)), "the copy is not the new parameter"
    assert names(bf16, lambda: update(bf16.update_list(kind, [entry._replace(grad=None)]), lr=0.1)) == []
    with pytest.raises(ValueError, match="updates: got .*expected"):
        update(bf16.update_list("adam" if kind == "rmsprop" else "rmsprop", []), lr=0.1)


# ---- bits ----


def test_normal_draws_have_numpys_bits(bf16):
    """But for the odd last one; a narrow draw is the wide one rounded."""
    wide, narrow = bf16.empty((2, 7, 333), FLOAT32), bf16.empty((2, 7, 333))
    key = {"seed": 2**64 - 1, "step": 2**40 + 3, "stream": 2**32 - 1}
    for out in (wide, narrow):
        bf16.normal(out, **key)
    bf16.synchronize()
    assert (wide == philox.normal(wide.shape, **key).astype(FLOAT32)).mean() >= 0.99
    assert np.array_equal(narrow, wide.astype(BFLOAT16))


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_every_byte_becomes_numpys_float32(precision):
    engine = emulated_engine(precision)
    images, x = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1), engine.empty((1, 16, 16, 1))
    engine.gather_images(x, engine.upload_images(images), np.array([0]))
    assert x.tobytes() == (images.astype(FLOAT32) / FLOAT32(127.5) - FLOAT32(1)).astype(engine.dtype).tobytes()
    assert (x.min(), x.max()) == (-1.0, 1.0)


@pytest.mark.parametrize("size", [1, 5, 16, 4099])
@pytest.mark.parametrize("shift", [0, 1])
@pytest.mark.parametrize("dtype", [np.float32, BFLOAT16, np.float64, np.uint8, np.int64])
def test_fill_leaves_the_neighbours(engine, dtype, size, shift):
    whole = engine.empty((size + shift + 3,), dtype)
    before = whole.copy()
    engine.fill(whole[shift : shift + size], 3.0)
    assert (whole[shift : shift + size] == 3).all()
    for part in (slice(0, shift), slice(shift + size, None)):
        assert whole[part].tobytes() == before[part].tobytes()


@pytest.mark.parametrize("shift", [0, 1])
def test_copy_converts_as_numpy_does(bf16, rng, shift):
    """float32 → bfloat16: to nearest, ties to even; what is too large becomes infinite."""
    values = rng.standard_normal((2, 3, 1031)).astype(FLOAT32)
    values[0, 0, :5] = 1.00390625, np.nan, np.inf, -np.inf, 3.4e38  # first halfway between two bfloat16 values: down to the even one
    narrow, wide = bf16.empty(values.shape), bf16.empty(values.shape, FLOAT32)
    bf16.copy(narrow, place(bf16, values, values.shape, FLOAT32, shift))
    bf16.copy(wide, narrow)
    with np.errstate(over="ignore"):
        expected = values.astype(BFLOAT16)
    assert np.array_equal(narrow.astype(FLOAT32), expected.astype(FLOAT32), equal_nan=True)
    assert np.array_equal(wide, expected.astype(FLOAT32), equal_nan=True)


# ---- grids smaller than the work, the kernels by themselves ----


def test_more_images_than_rows_of_the_grid(engine, rng):
    images, x = rng.integers(0, 256, (5, 2, 2, 1), dtype=np.uint8), engine.empty((5, 2, 2, 1))
    arrays = x, engine.upload_images(images), engine.asarray(np.arange(5), np.int64), None
    scalars = np.int32(1), np.int64(5), np.int32(5), np.int32(2), np.int32(1), np.int64(4)
    engine.device.cuda("random.cu", "gather_images", (1, 2), 256, *arrays, *scalars, cost=cost(0))
    assert np.array_equal(x, images.astype(FLOAT32) / FLOAT32(127.5) - FLOAT32(1))


def test_more_rows_than_the_grid_has(engine, rng):
    x, a, y = engine.asarray(rng.standard_normal((7, 9))), engine.asarray(rng.standard_normal((7, 2))), engine.empty((7, 11))
    engine.device.cuda("elementwise.cu", "concatenate", (1, 2), 256, y, x, a, np.int64(7), np.int64(9), np.int64(2), cost=cost(0))
    assert np.array_equal(y, np.concatenate([x, a], axis=1))


# ---- a device does not read indices before it computes: NaN, and no stray access ----


@pytest.mark.parametrize("label", [-2, 3, 2**31 - 1])
def test_a_label_that_is_no_class_shows(engine, label):
    labels, loss = engine.asarray([0, label], np.int32), engine.empty((1,), np.float64)
    p, slope = engine.empty((2, 3)), engine.empty((2, 3))
    engine.softmax_cross_entropy_forward(loss, p, engine.asarray(np.zeros((2, 3))), labels)
    engine.softmax_cross_entropy_backward(slope, p, labels)
    assert np.isnan(loss[0]) and np.isfinite(p).all() and np.isfinite(slope[0]).all() and np.isnan(slope[1]).all()


def test_an_index_outside_the_data_set_shows(engine, rng):
    images, x = engine.upload_images(rng.integers(0, 256, (4, 3, 3, 1), dtype=np.uint8)), engine.empty((3, 3, 3, 1))
    order, counter = engine.asarray([2, 1 << 30, -7], np.int32), engine.asarray([0], np.int64)
    engine.gather_batch(x, images, order, counter, per_epoch=1, seed=1, flip=False)
    assert np.isfinite(x[0]).all() and np.isnan(x[1:]).all()


# ---- the kernels that serve the products ----


def test_the_phases_are_a_fractional_strided_convolution(rng):
    """A 3×3 convolution with the packed weights and a pixel shuffle = the data gradient of the 5×5 stride-2 convolution."""
    n, h, ci, co = 2, 4, 3, 5
    w, dy = rng.standard_normal((5, 5, ci, co)), rng.standard_normal((n, h, h, co))
    dx, packed, y = np.empty((n, 2 * h, 2 * h, ci)), np.empty((9, co, 4 * ci)), np.empty((n, h, h, 4 * ci))
    conv2d.conv2d_dgrad(dx, dy, w, stride=2)
    pack_weights(packed, w, mode="phases")
    conv2d.conv2d_forward(y, dy, packed.reshape(3, 3, co, 4 * ci), stride=1)
    shuffled = y.reshape(n, h, h, 2, 2, ci).transpose(0, 1, 3, 2, 4, 5).reshape(dx.shape)
    assert relative_error(shuffled, dx) < 1e-12


def test_partials_and_packing_refuse(bf16):
    dev, out = bf16.device, bf16.empty

    def wide(*shape):
        return out(shape, FLOAT32)

    narrow, w, partial, row, counts = out((3, 4)), out((5, 5, 3, 9)), wide(6, 2, 8), wide(1, 4), wide(6)
    for call in (
        lambda: partials.split_reduce(dev, narrow, wide(2, 3, 5)),
        lambda: partials.split_reduce(dev, narrow, out((2, 3, 4))),
        lambda: partials.split_reduce(dev, wide(3, 4), wide(2, 3, 4), wide(3)),
        lambda: partials.split_reduce(dev, out((3, 4), np.float64), wide(2, 3, 4)),
        lambda: partials.bn_finalise(dev, row, row, partial, counts, (0, 4), 4),
        lambda: partials.bn_finalise(dev, row, row, partial, counts, (0, 3, 2), 4),
        lambda: partials.bn_finalise(dev, row, row, partial, counts[:5], (0, 6), 4),
        lambda: partials.bn_sums_finalise(dev, row, partial, (0, 6), 4, row, 0.0),
        lambda: partials.bn_sums_finalise(dev, wide(2, 1, 3), partial, (0, 6), 3, wide(1, 3), 0.0),
        lambda: partials.column_sums(dev, wide(3), wide(3, 4)),
        lambda: packing.pack_weights(dev, out((25, 16, 16)), w, mode="backward"),
        lambda: packing.pack_weights(dev, out((25, 2, 16)), w, mode="forward"),
        lambda: packing.pack_weights(dev, wide(25, 16, 16), w, mode="forward"),
        lambda: packing.pack_weights(dev, out((9, 16, 16)), out((3, 3, 3, 9)), mode="phases"),
        lambda: packing.pack_weights(dev, out((1, 256, 16)), w, mode="image_dgrad1"),
        lambda: packing.pack_weights(dev, out((5, 32, 16)), out((5, 5, 16, 5)), mode="columns"),
        lambda: packing.pad_images(dev, out((1, 5, 5, 8)), out((1, 4, 4, 3)), 2),
        lambda: packing.pad_channels(dev, out((3, 2)), narrow),
    ):
        with pytest.raises(ValueError, match="got .*expected|at most 4 channels"):
            call()


# ---- what the emulation is there for ----

BARRIER = "    __syncthreads();\n"


def broken(tmp_path, file, old, new, index=0):
    """``file`` with the index-th ``old`` replaced: the path of the broken copy."""
    parts = (CUDA / file).read_text(encoding="utf-8").split(old)
    assert len(parts) > index + 1, f"{file} has no {index + 1} of {old!r}"
    path = tmp_path / Path(file).name
    path.write_text(old.join(parts[: index + 1]) + new + old.join(parts[index + 1 :]), encoding="utf-8")
    return str(path)


def column_sums(rng, seed, rows):
    engine = emulated_engine("float32", seed=1000 * seed)
    matrix, out = rng.standard_normal((rows, 16)).astype(np.float32), engine.empty((16,))
    partials.column_sums(engine.device, out, engine.asarray(matrix))
    return np.abs(out - matrix.sum(axis=0)).max()


def test_a_missing_barrier_shows(rng, tmp_path, monkeypatch):
    assert all(column_sums(rng, seed, 130) < 1e-4 for seed in range(3))
    last_but_one = (CUDA / "products/partials.cu").read_text(encoding="utf-8").count(BARRIER) - 2
    monkeypatch.setattr(partials, "FILE", broken(tmp_path, "products/partials.cu", BARRIER, "", last_but_one))
    assert not all(column_sums(rng, seed, 130) < 1e-4 for seed in range(3))


def test_a_missing_barrier_in_the_statistics_shows(rng, tmp_path, monkeypatch):
    x = rng.standard_normal((300, 8)).astype(np.float32)

    def error(seed):
        engine = emulated_engine("float32", seed=1000 * seed)
        mean, var = engine.empty((1, 8)), engine.empty((1, 8))
        engine.batch_norm_statistics(mean, var, engine.asarray(x), (300,))
        engine.synchronize()
        return np.abs(var - x.var(axis=0)).max()

    assert all(error(seed) < 1e-5 for seed in range(3))
    monkeypatch.setattr(batch_norm, "FILE", broken(tmp_path, "batch_norm.cu", BARRIER, ""))
    assert not all(error(seed) < 1e-5 for seed in range(3))


def test_a_barrier_that_some_threads_miss_shows(rng, tmp_path, monkeypatch):
    path = broken(
        tmp_path,
        "products/partials.cu",
        "    float *own = shared + threadIdx.x;\n",
        "    if (threadIdx.x == 7) return;\n    float *own = shared + threadIdx.x;\n",
    )
    monkeypatch.setattr(partials, "FILE", path)
    with pytest.raises(RuntimeError, match="divergent __syncthreads"):
        column_sums(rng, 0, 130)


def test_a_read_outside_an_array_shows(rng, tmp_path, monkeypatch):
    """Behind every array lie NaN bytes."""
    assert column_sums(rng, 0, 130) < 1e-4
    monkeypatch.setattr(partials, "FILE", broken(tmp_path, "products/partials.cu", "min(start + chunk_rows, rows)", "start + chunk_rows"))
    assert np.isnan(column_sums(rng, 0, 130))


def test_a_write_outside_an_array_shows(engine, tmp_path, monkeypatch):
    monkeypatch.setattr(elementwise, "FILE", broken(tmp_path, "elementwise.cu", "min(first + PER_BLOCK, n)", "first + PER_BLOCK - 4000"))
    with pytest.raises(RuntimeError, match="wrote out of bounds: after argument 0"):
        engine.relu_forward(engine.empty((90,)), engine.asarray(np.ones(90)))


def test_a_misaligned_vector_shows(engine, tmp_path, monkeypatch):
    x = place(engine, np.ones(4096), (4096,), FLOAT32, shift=1)
    engine.relu_forward(engine.empty((4096,)), x)
    monkeypatch.setattr(elementwise, "FILE", broken(tmp_path, "elementwise.cu", "return ((u64)p & 15) == 0;", "return true;"))
    with pytest.raises(RuntimeError, match="misaligned"):
        engine.relu_forward(engine.empty((4096,)), x)
