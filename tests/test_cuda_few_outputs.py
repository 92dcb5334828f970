"""Convolutions into at most four channels on the CUDA engine, interpreted on the host, against the NumPy engine in float64: both ways of
loading, which shapes take this kernel, and the declared cost of each launch against what the interpreter counts."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

pytest.importorskip("triton", reason="Triton, which interprets the GPU kernels, is not installed (Linux only)")
if shutil.which("g++") is None:
    pytest.skip("no g++ to compile the CUDA C kernels for the host", allow_module_level=True)

from interpreter_counts import counted

from kernels.cuda.device.chips import CHIPS
from kernels.cuda.device.dry import DryDevice
from kernels.cuda.engine import dry_engine, emulated_engine
from kernels.cuda.products import few_outputs, tiles
from kernels.cuda.products.epilogue import Epilogue, Statistics
from kernels.cuda.products.packing import pack_weights

#: A chip with tensor descriptors and one without; one multiprocessor, so that bf16 takes the longer tile.
CHIP = {"boxes": CHIPS["sm_90"]._replace(multiprocessors=1), "pointers": CHIPS["sm_80"]._replace(multiprocessors=1)}
LIMIT = 1e-6  # relative error in float32
ROUNDED = 4e-3  # where the result was rounded to bfloat16

# (N, H, W, many channels, few channels, KH, KW), boxes where the chip has them, and why it is here
CASES = [
    pytest.param(2, 16, 32, 32, 3, 5, 5, True, id="the networks' kind, H ≠ W"),
    pytest.param(3, 8, 4, 16, 3, 5, 5, True, id="two images a tile, the last tile half full"),
    pytest.param(1, 4, 64, 48, 1, 5, 5, True, id="one image, one channel, three steps a kernel row"),
    pytest.param(1, 2, 128, 16, 4, 3, 3, True, id="the widest row, four channels, 3x3"),
    pytest.param(1, 7, 16, 16, 2, 3, 7, False, id="odd height, no box; a kernel that is not square"),
    pytest.param(2, 12, 32, 16, 3, 5, 5, True, id="a height that is no power of two"),
    pytest.param(2, 5, 4, 16, 3, 7, 5, False, id="a tile of many odd images, kernel higher than the picture"),
    pytest.param(1, 1, 2, 16, 3, 5, 5, True, id="two pixels"),
]


def error(got, expected):
    """Relative error ‖got − expected‖ / ‖expected‖; NaN where an element was not written."""
    return np.linalg.norm(np.asarray(got).astype(np.float64) - expected) / np.linalg.norm(expected)


def draw(engine, rng, *shape):
    """Values that the engine's dtype holds exactly, in float64."""
    return rng.standard_normal(shape).astype(engine.dtype).astype(np.float64)


def run(engine, engine64, rng, n, h, w, many, few, kh, kw, activation="tanh"):
    """Forward into ``few`` channels with bias and activation, and a gradient with as many: [(got, expected)] and the launches."""
    x, weight = draw(engine, rng, n, h, w, many), draw(engine, rng, kh, kw, many, few) / np.float64(8)
    bias = rng.standard_normal(few).astype(np.float32).astype(np.float64)
    turned = draw(engine, rng, kh, kw, few, many) / np.float64(8)
    y, dx = engine.empty((n, h, w, few)), engine.empty((n, h, w, few))
    expected_y, expected_dx = np.empty(y.shape), np.empty(dx.shape)
    engine64.conv2d_forward(expected_y, x, weight, bias, activation=activation)
    engine64.conv2d_dgrad(expected_dx, x, turned)
    with counted(engine.device) as launches:
        engine.conv2d_forward(y, engine.asarray(x), engine.asarray(weight), engine.asarray(bias, np.float32), activation=activation)
        engine.conv2d_dgrad(dx, engine.asarray(x), engine.asarray(turned))
    return [(y, expected_y), (dx, expected_dx)], launches


@pytest.mark.parametrize("path", ["boxes", "pointers"])
@pytest.mark.parametrize(("n", "h", "w", "many", "few", "kh", "kw", "boxes"), CASES)
def test_against_numpy(engine64, rng, path, n, h, w, many, few, kh, kw, boxes):
    """Forward with bias and tanh, gradient by the input; each launch executed and touched what it declared."""
    engine = emulated_engine("float32", chip=CHIP[path])
    engine.device.launches = []
    pairs, launches = run(engine, engine64, rng, n, h, w, many, few, kh, kw)
    for got, expected in pairs:
        assert error(got, expected) < LIMIT
    assert [launch.name for launch in launches] == ["few_outputs"] * 2
    for launch in launches:
        assert (launch.flops, launch.reads, launch.writes) == tuple(launch.declared)
    products = [launch for launch in engine.device.launches if launch.name == "few_outputs"]
    assert [p.constexprs["TMA"] for p in products] == [boxes and path == "boxes"] * 2


@pytest.mark.parametrize("precision", ["bf16", "tf32"])
@pytest.mark.parametrize("path", ["boxes", "pointers"])
def test_other_precisions(engine64, rng, precision, path):
    """bf16 results are rounded once, from float32 sums; tf32 is exact when interpreted."""
    engine = emulated_engine(precision, chip=CHIP[path])
    engine.device.launches = []
    pairs, _ = run(engine, engine64, rng, 2, 16, 32, 32, 3, 5, 5, activation="relu")
    for got, expected in pairs:
        assert error(got, expected) < (ROUNDED if precision == "bf16" else LIMIT)
    rows = [launch.constexprs["BM"] for launch in engine.device.launches if launch.name == "few_outputs"]
    assert rows == [256 if precision == "bf16" and path == "boxes" else 128] * 2


def test_bf16_sums_are_not_rounded(engine64, rng):
    """1 + 2⁻⁹ + 2⁻⁹ from three kernel columns: a sum of rounded columns would lose both small terms."""
    engine = emulated_engine("bf16")
    x, weight = np.zeros((1, 4, 32, 16)), np.zeros((3, 3, 16, 1))
    x[..., 0] = 1
    weight[1, :, 0, 0] = 2.0**-8, 1, 2.0**-8
    y = engine.empty((1, 4, 32, 1))
    engine.conv2d_forward(y, engine.asarray(x), engine.asarray(weight))
    expected = np.ones((4, 32)) + 2.0**-7
    expected[:, [0, -1]] = 1.0  # 1 + 2⁻⁸ lies between two bfloat16 numbers: to the even one
    assert np.array_equal(np.asarray(y).astype(np.float64)[0, :, :, 0], expected)


def shapes_of(out, src, w):
    dev = DryDevice(CHIPS["sm_90"])
    return (dev.empty(out, np.float32), dev.empty(src, np.float32), dev.empty(w, np.float32))


@pytest.mark.parametrize(
    ("out", "src", "w", "stride", "taken"),
    [
        ((2, 64, 64, 3), (2, 64, 64, 32), (5, 5, 32, 3), 1, True),
        ((2, 64, 64, 5), (2, 64, 64, 32), (5, 5, 32, 5), 1, False),
        ((2, 64, 64, 3), (2, 64, 64, 24), (5, 5, 24, 3), 1, False),
        ((2, 64, 48, 3), (2, 64, 48, 32), (5, 5, 32, 3), 1, False),
        ((2, 8, 256, 3), (2, 8, 256, 32), (5, 5, 32, 3), 1, False),
        ((2, 8, 8, 3), (2, 8, 8, 32), (5, 9, 32, 3), 1, False),
        ((2, 8, 8, 3), (2, 8, 8, 32), (1, 1, 32, 3), 1, False),
        ((2, 4, 4, 3), (2, 8, 8, 32), (5, 5, 32, 3), 2, False),
    ],
    ids=["taken", "five channels", "channels off 16", "48 wide", "256 wide", "kernel of 9 columns", "1x1", "stride 2"],
)
def test_what_is_taken(out, src, w, stride, taken):
    out, src, w = shapes_of(out, src, w)
    assert few_outputs.takes_few_outputs(out, src, w, stride, Epilogue()) == taken


def test_statistics_are_not_taken():
    out, src, w = shapes_of((2, 8, 8, 3), (2, 8, 8, 32), (5, 5, 32, 3))
    dev = DryDevice(CHIPS["sm_90"])
    epilogue = Epilogue(statistics=Statistics(dev.empty((1, 3), np.float32), dev.empty((1, 3), np.float32), (2,)))
    assert not few_outputs.takes_few_outputs(out, src, w, 1, epilogue)
    with pytest.raises(ValueError, match="does not take"):
        few_outputs.few_outputs(dev, "float32", out, src, w, kind="forward", epilogue=epilogue)


@pytest.mark.parametrize("mode", ["columns", "columns_dgrad1"])
def test_packing(rng, mode):
    """The weights' rows (kw, channel), against NumPy; more rows and columns than needed are zero."""
    dev = emulated_engine("float32").device
    kernel = rng.standard_normal((3, 5, 18, 3)).astype(np.float32)
    w = dev.upload(kernel if mode == "columns" else np.ascontiguousarray(kernel[::-1, ::-1].transpose(0, 1, 3, 2)))
    dst = dev.empty((3, 32, 20), np.float32)
    pack_weights(dev, dst, w, mode=mode)
    expected = np.zeros((3, 8, 4, 20), np.float32)
    expected[:, :5, :3, :18] = kernel.transpose(0, 1, 3, 2)
    assert np.array_equal(dev.download(dst), expected.reshape(3, 32, 20))


def test_packing_refuses_five_channels():
    dev = DryDevice(CHIPS["sm_90"])
    with pytest.raises(ValueError, match="at most 4 channels"):
        pack_weights(dev, dev.empty((5, 32, 16), np.float32), dev.empty((5, 5, 16, 5), np.float32), mode="columns")


@pytest.mark.parametrize(("numbers", "fits"), [((256, 32, 16, 2, 8), True), ((32, 32, 16, 2, 4), False), ((256, 16, 16, 2, 4), False)])
def test_tuned_tile(tmp_path, numbers, fits):
    """A tuner's tile is used where it holds whole rows and all columns, else the rule's."""
    engine = dry_engine(CHIPS["sm_90"], "bf16")
    name = tiles.key("few_outputs", 2 * 64 * 64, 32, 5 * 32, CHIPS["sm_90"], "bf16")
    path = tmp_path / "tiles.json"
    path.write_text(f'{{"{name}": {list(numbers)}}}')
    tiles.override(path)
    try:
        engine.device.launches = []
        engine.conv2d_forward(engine.empty((2, 64, 64, 3)), engine.empty((2, 64, 64, 32)), engine.empty((5, 5, 32, 3)))
    finally:
        tiles.override(None)
    launch = engine.device.launches[-1]
    expected = numbers if fits else (128, 32, 32, 3, 4)
    assert (launch.constexprs["BM"], 32, launch.constexprs["BK"], launch.stages, launch.warps) == expected
