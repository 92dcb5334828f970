"""The products of the CUDA engine: which kernel, form, tile and loading a shape takes (recorded, nothing executed), splits, long arrays,
and what only this engine refuses. Their results are in test_kernels."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

pytest.importorskip("triton", reason="Triton, which interprets the GPU kernels, is not installed (Linux only)")
if shutil.which("g++") is None:
    pytest.skip("no g++ to compile the CUDA C kernels for the host", allow_module_level=True)

import kernel_cases_layers as layers
from kernel_check import check, launch, relative_error, tolerance
from kernel_counts import counted
from kernel_shapes import ODD, Conv, Dense

from kernels.cuda.device.base import BFLOAT16
from kernels.cuda.device.chips import CHIPS
from kernels.cuda.device.dry import DryDevice
from kernels.cuda.device.host.device import HostDevice
from kernels.cuda.engine import dry_engine, emulated_engine
from kernels.cuda.products import few_outputs, images, tiles, wgrad
from kernels.cuda.products.convolve import linear_splits
from kernels.cuda.products.convolve_kernel import convolve as convolve_kernel
from kernels.cuda.products.epilogue import Epilogue, Statistics
from kernels.cuda.products.time_model import Tile, split
from kernels.ledger import Cost

CHIP = {"boxes": CHIPS["sm_90"], "pointers": CHIPS["sm_80"]}
PATHS = pytest.mark.parametrize("path", CHIP)


def recorded(path, precision, *cases, multiprocessors=1):
    """The Triton launches of ``cases``."""
    engine = dry_engine(CHIP[path]._replace(multiprocessors=multiprocessors), precision)
    for case in cases:
        launch(engine, case)
    return [one for one in engine.device.launches if one.kind == "triton"]


def computed(engine, reference, case):
    """The Triton launches of ``case``, which must be right and cost what they say."""
    engine.device.launches = []
    with counted(engine.device) as counts:
        assert all(outcome.ok for outcome in check(engine, reference, case))
    assert counts and all((one.flops, one.reads, one.writes) == tuple(one.declared) for one in counts)
    return [one for one in engine.device.launches if one.kind == "triton"]


def few_multiprocessors(path, count, precision="float32"):
    return emulated_engine(precision, chip=CHIP[path]._replace(multiprocessors=count))


# ---- convolutions and linear layers ----


@PATHS
@pytest.mark.parametrize("conv", [c for c in ODD.products if isinstance(c, Conv)], ids=lambda c: c.label)
def test_boxes_where_positions_are_powers_of_two(path, conv):
    _, h, w, _ = conv.large
    divisible = all(size & (size - 1) == 0 for size in (h, w, *conv.small[1:3])) and (conv.s == 1 or (h % 2 == 0 and w % 2 == 0))
    launches = recorded(path, "float32", *layers.one_forward(conv), *layers.dgrads(conv, False))
    assert [(one.name, one.constexprs["TMA"]) for one in launches] == [("convolve", path == "boxes" and divisible)] * 2


@PATHS
@pytest.mark.parametrize("precision", ["float32", "bf16", "tf32"])
def test_forms(path, precision):
    """bf16 makes the phases of few columns one product; tf32 turns and transposes the weights for a chip with tensor descriptors."""
    ahead, back = (one.constexprs for one in recorded(path, precision, *layers.convolution(Conv("", 2, 8, 8, 32, 16, 2)))[:2])
    assert ahead["TMA"] == back["TMA"] == (path == "boxes")
    assert ahead["FLIPPED"] == ahead["TRANSPOSED"] == (precision == "tf32" and path == "boxes")
    assert back["SHUFFLED"] == (precision == "bf16") and back["FRACTIONAL"] == (precision != "bf16")


@PATHS
@pytest.mark.parametrize("precision", ["float32", "bf16", "tf32"])
@pytest.mark.parametrize("attributes", [3, 40, 73])
def test_linear_layers_with_attributes_behind_the_inputs(path, precision, attributes):
    """Zeros behind the weights are the descriptor's: no copy of a large layer. The update is one launch."""
    engine = dry_engine(CHIP[path], precision)
    for case in layers.linear(Dense("", 5, 96 + attributes, 24)):
        engine.device.launches = []
        launch(engine, case)
        launches = engine.device.launches
        if case.operation == "linear_forward" and path == "boxes" and precision != "tf32":
            assert "pack_weights" not in [one.name for one in launches]
        if case.operation == "linear_wgrad":  # rows are no multiple of 16 bytes, or no unit of channels divides them
            assert not any("tensordesc" in kind for one in launches for kind in one.signature.values())
        if case.operation == "linear_wgrad_rmsprop":
            assert [one.name for one in launches] == ["wgrad_rmsprop"]


@PATHS
def test_linear_in_splits(cheap_launches, engine64, path):
    """More multiprocessors than tiles: the inputs are cut among programs; statistics then come from the finished result."""
    engine, layer = few_multiprocessors(path, 4, "bf16"), Dense("long", 6, 2000, 24, 0, (2, 4))
    assert linear_splits(engine.device, "bf16", 6, 2000, 24) > 1
    for case in (*list(layers.linear(layer))[:2], next(iter(layers.block("linear", layer, False)))):
        (product,) = computed(engine, engine64, case)
        assert product.constexprs["SPLIT"]


def test_arrays_longer_than_32_bits(rng):
    """The last tile of 2³¹ elements and more: memory that nothing else touches costs nothing."""
    images = 2**31 // (64 * 64 * 16) + 2
    rows = images * 64 * 64
    src, out = (np.zeros((images, 64, 64, 16), BFLOAT16) for _ in range(2))
    w = rng.standard_normal((1, 16, 16)).astype(BFLOAT16)
    src[-1] = rng.standard_normal((64, 64, 16)).astype(BFLOAT16)
    table = np.array([[rows - 128, rows, 0]], np.int32)
    dev = HostDevice(CHIP["pointers"])
    dev._require_on_device = lambda *_: None  # arrays of its own would be filled
    dev.triton(
        convolve_kernel, (1,), src, w, None, None, table, out, *[None] * 8, 0.0, rows, 1, 1, warps=4, stages=1, cost=Cost(0, 0, 0),
        PH=64, PW=64, OH=64, OW=64, OC=16, SH=64, SW=64, SC=16, WR=16, WC=16, KH=1, KW=1, S=1,
        BACK=False, FRACTIONAL=False, SHUFFLED=False, TRANSPOSED=False, FLIPPED=False, SPLIT=False, N=16, CHANNELS=16, ACTIVATION=None,
        BM=128, BN=16, BK=16, TMA=False, PARTS=0, PRECISION="ieee", INTERPRETED=True, DEPENDENT=False,
    )  # fmt: skip
    expected = src[-1, -2:].astype(np.float64) @ w[0].astype(np.float64)
    assert relative_error(out[-1, -2:], expected) < tolerance("bf16", "act") and not out[-1, :-2].any()


def test_what_is_refused(cuda32):
    dev, x = cuda32.device, cuda32.empty((1, 3, 3, 16))
    with pytest.raises(ValueError, match="w: got a 33x1 kernel, expected at most 31x31"):
        cuda32.conv2d_forward(x, x, cuda32.empty((33, 1, 16, 16)))
    src, out, w = dev.empty((1, 4, 4, 3), np.float32), dev.empty((1, 8, 8, 16), np.float32), dev.empty((5, 5, 16, 3), np.float32)
    with pytest.raises(ValueError, match="dgrad, stride 2, expected at most 8 channels, and stride 1 for a dgrad"):
        images.image_convolve(dev, "float32", out, src, w, kind="dgrad", stride=2, epilogue=Epilogue())


# ---- into at most four channels ----


def few(conv, precision="float32", path="boxes", multiprocessors=1):
    return recorded(path, precision, *layers.one_forward(conv), multiprocessors=multiprocessors)[-1]


@PATHS
@pytest.mark.parametrize("conv", [c for c in ODD.forwards if c.co <= 4], ids=lambda c: c.label)
def test_few_outputs_and_their_boxes(path, conv):
    """Boxes are whole rows of an even height, of one image or of whole images."""
    boxes = path == "boxes" and (conv.h % 2 == 0 or conv.h == 1)
    assert (few(conv, path=path).name, few(conv, path=path).constexprs["TMA"]) == ("few_outputs", boxes)


@pytest.mark.parametrize(
    ("conv", "taken"),
    [
        (Conv("taken", 2, 64, 64, 32, 3, 1), True),
        (Conv("five channels", 2, 64, 64, 32, 5, 1), False),
        (Conv("channels off 16", 2, 64, 64, 24, 3, 1), False),
        (Conv("48 wide", 2, 64, 48, 32, 3, 1), False),
        (Conv("256 wide", 2, 8, 256, 32, 3, 1), False),
        (Conv("nine columns", 2, 8, 8, 32, 3, 1, (), (5, 9)), False),
        (Conv("1x1", 2, 8, 8, 32, 3, 1, (), (1, 1)), False),
        (Conv("stride 2", 2, 8, 8, 32, 3, 2), False),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_what_few_outputs_takes(conv, taken):
    assert (few(conv).name == "few_outputs") == taken


def test_few_outputs_take_no_statistics():
    dev = DryDevice(CHIPS["sm_90"])
    out, src, w = (dev.empty(shape, np.float32) for shape in ((2, 8, 8, 3), (2, 8, 8, 32), (5, 5, 32, 3)))
    epilogue = Epilogue(statistics=Statistics(dev.empty((1, 3), np.float32), dev.empty((1, 3), np.float32), (2,)))
    assert not few_outputs.takes_few_outputs(out, src, w, 1, epilogue)
    with pytest.raises(ValueError, match="does not take"):
        few_outputs.few_outputs(dev, "float32", out, src, w, kind="forward", epilogue=epilogue)


def test_bf16_sums_of_few_outputs_are_not_rounded():
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


@pytest.mark.parametrize(("numbers", "fits"), [((256, 32, 16, 2, 8), True), ((32, 32, 16, 2, 4), False), ((256, 16, 16, 2, 4), False)])
def test_tile_of_few_outputs(tmp_path, numbers, fits):
    """Long where there are rows enough; a tuner's tile where it holds whole rows and all columns, else the rule's."""
    conv = Conv("", 2, 64, 64, 32, 3, 1)
    assert [few(conv, p, multiprocessors=1).constexprs["BM"] for p in ("bf16", "tf32")] == [256, 128]
    name = tiles.key("few_outputs", 2 * 64 * 64, 32, 5 * 32, CHIPS["sm_90"], "bf16")
    path = tmp_path / "tiles.json"
    path.write_text(f'{{"{name}": {list(numbers)}}}')
    tiles.override(path)
    try:
        one = few(conv, "bf16", multiprocessors=CHIPS["sm_90"].multiprocessors)
    finally:
        tiles.override(None)
    expected = numbers if fits else (128, 32, 32, 3, 4)
    assert (one.constexprs["BM"], 32, one.constexprs["BK"], one.stages, one.warps) == expected


# ---- weight gradients ----


def weight_gradient(path, precision, *numbers, kernel=(3, 3)):
    """(name, constexprs) of the launch for [n, h, w, ci, co, stride]."""
    (one,) = recorded(path, precision, *layers.one_wgrad(Conv("", *numbers, (), kernel)), multiprocessors=2)
    return one.name, one.constexprs


@pytest.mark.parametrize(
    ("precision", "numbers", "kernel", "expected"),
    [
        ("float32", (16, 4, 6, 64, 24, 2), (3, 3), {"PAIR": False, "UNITS": 1}),
        ("bf16", (32, 4, 8, 64, 32, 2), (5, 5), {"PAIR": False, "UNITS": 3}),  # a last program with fewer units
        *(("bf16", (32, 6, 8, 32, 16, 2), (3, kw), {"PAIR": True, "UNITS": 3}) for kw in (3, 5, 7)),
        ("bf16", (32, 3, 5, 128, 40, 1), (3, 3), {"PAIR": False, "BM": 128}),
        ("float32", (31, 4, 4, 64, 8, 2), (3, 3), {"BK": 32}),  # what lies outside counts as zero
        ("bf16", (32, 5, 7, 64, 16, 2), (3, 3), {"PAIR": False}),  # odd sizes
    ],
)
def test_boxes_of_a_weight_gradient(precision, numbers, kernel, expected):
    name, constexprs = weight_gradient("boxes", precision, *numbers, kernel=kernel)
    assert name == "wgrad_boxes" and expected.items() <= constexprs.items()
    assert weight_gradient("pointers", precision, *numbers, kernel=kernel)[0] == "wgrad_pointers"


@pytest.mark.parametrize(("n", "w", "ci"), [(10, 4, 64), (32, 5, 32), (32, 4, 48)], ids=["batch", "pairs", "channels"])
def test_pointers_where_boxes_do_not_fit(n, w, ci):
    assert weight_gradient("boxes", "bf16", n, 4, w, ci, 16, 2)[0] == "wgrad_pointers"


@pytest.mark.parametrize(
    ("ci", "co", "stride"), [(3, 40, 1), (3, 70, 2), (4, 40, 2), (5, 40, 2), (8, 40, 1), (24, 3, 1), (24, 4, 1), (24, 5, 1), (20, 1, 1)]
)
@PATHS
def test_weight_gradients_of_images(path, ci, co, stride):
    """Turned where dy is the image; a pixel is no wider than it must be."""
    name, constexprs = weight_gradient(path, "bf16", 2, 8, 6, ci, co, stride, kernel=(5, 5))
    assert name == "image_wgrad" and constexprs["SWAPPED"] == (ci > 8)
    assert constexprs["PIXEL"] == (4 if min(ci, co) <= 4 else 8)


@pytest.mark.parametrize(
    ("path", "multiprocessors", "conv", "kernel"),
    [
        ("boxes", 12, Conv("splits", 32, 14, 2, 64, 8, 2, (), (3, 3)), "wgrad_boxes"),  # the last split is shorter than the others
        ("pointers", 12, Conv("splits", 32, 14, 2, 64, 8, 2, (), (3, 3)), "wgrad_pointers"),
        ("boxes", 16, Conv("splits", 2, 17, 17, 3, 8, 1, (), (3, 3)), "image_wgrad"),
    ],
)
def test_splits(cheap_launches, engine64, path, multiprocessors, conv, kernel):
    (case,) = layers.one_wgrad(conv)
    (one,) = computed(few_multiprocessors(path, multiprocessors), engine64, case)
    assert one.name == kernel and one.grid[2] > 1
    steps = conv.positions // one.constexprs["BK"]
    assert kernel == "image_wgrad" or steps % one.grid[2]


@pytest.mark.parametrize(("ci", "stride"), [(16, 1), (3, 2)], ids=["taps", "image"])
def test_offsets_of_64_bits(engine64, monkeypatch, ci, stride):
    monkeypatch.setattr(wgrad, "LONG", 0)
    monkeypatch.setattr(images, "LONG", 0)
    engine, conv = few_multiprocessors("pointers", 2), Conv("long", 2, 5, 4, ci, 16, stride, (), (3, 3))
    for case in (*layers.one_wgrad(conv), *layers.one_forward(conv)):
        (one,) = computed(engine, engine64, case)
        assert one.constexprs.get("LONG", one.name == "convolve")


def test_the_copy_is_the_new_parameter(rng):
    """Rounded as NumPy rounds, in the launch that makes it."""
    engine = few_multiprocessors("boxes", 2, "bf16")
    w, ms = (engine.asarray(values, np.float32) for values in (rng.standard_normal((72, 64)), np.ones((72, 64))))
    copy = engine.empty(w.shape)
    x, dy = engine.asarray(rng.standard_normal((70, 72))), engine.asarray(rng.standard_normal((70, 64)))
    engine.linear_wgrad_rmsprop(w, ms, copy, x, dy, lr=0.01)
    assert np.array_equal(copy, w.astype(BFLOAT16))


@pytest.mark.parametrize("tiles, steps", [(1, 1), (1, 12288), (25, 64), (50, 768), (7, 3072), (2048, 1)])
def test_no_split_is_empty(tiles, steps):
    for chip in CHIPS.values():
        count, each, _ = split(tiles, steps, Tile(128, 128, 64, 3, 8), 819200, chip, "bf16")
        assert (count - 1) * each < steps <= count * each


def test_more_multiprocessors_more_splits():
    """Neither half of the chip idle, nor more copies of the result than fill it."""
    count, *_ = split(25, 512, Tile(128, 256, 64, 4, 8), 819200, CHIPS["sm_90"], "bf16")
    assert 0.75 * 132 <= 25 * count <= 132
