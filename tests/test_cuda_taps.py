"""Convolutions and linear layers of the CUDA engine, interpreted on the host, against the NumPy engine in float64: both ways of loading
(tensor descriptors and pointers), every epilogue, and the declared cost of each launch against what the interpreter counts."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

pytest.importorskip("triton", reason="Triton, which interprets the GPU kernels, is not installed (Linux only)")
if shutil.which("g++") is None:
    pytest.skip("no g++ to compile the CUDA C kernels for the host", allow_module_level=True)

from interpreter_counts import counted

from kernels.contract.previous import Previous
from kernels.cuda.device.base import BFLOAT16
from kernels.cuda.device.chips import CHIPS
from kernels.cuda.device.host.device import HostDevice
from kernels.cuda.engine import emulated_engine
from kernels.cuda.products.convolve import convolve, linear_splits
from kernels.cuda.products.convolve_kernel import convolve as convolve_kernel
from kernels.cuda.products.epilogue import Epilogue, Statistics
from kernels.ledger import Cost

#: A chip with tensor descriptors and one without; one multiprocessor, so that the rule takes the largest tiles: few programs to interpret.
CHIP = {"boxes": CHIPS["sm_90"]._replace(multiprocessors=1), "pointers": CHIPS["sm_80"]._replace(multiprocessors=1)}
LIMIT = 1e-5  # relative error in float32
ROUNDED = 4e-3  # where the result was rounded to bfloat16

# (N, H, W, Ci, Co, KH, KW, stride) with so many channels that no image form serves, and why it is here
CASES = [
    pytest.param(2, 8, 8, 16, 32, 5, 5, 2, id="the networks' kind"),
    pytest.param(3, 8, 16, 32, 20, 3, 3, 1, id="stride 1, columns that are no power of two"),
    pytest.param(2, 7, 9, 12, 18, 5, 5, 2, id="odd sizes, channels padded to 16"),
    pytest.param(1, 6, 9, 16, 11, 5, 5, 2, id="even height, odd width, weights padded"),
    pytest.param(3, 5, 6, 16, 24, 1, 1, 2, id="1x1 stride 2: most pixels unread, three phases of four without a tap"),
    pytest.param(2, 4, 4, 48, 16, 1, 1, 1, id="1x1; three steps of channels"),
    pytest.param(2, 6, 7, 9, 17, 3, 5, 2, id="a kernel that is not square"),
    pytest.param(2, 6, 6, 16, 16, 1, 5, 2, id="a kernel of one row, stride 2"),
    pytest.param(2, 1, 9, 16, 16, 5, 5, 2, id="one row"),
    pytest.param(1, 1, 1, 16, 16, 5, 5, 1, id="one pixel"),
    pytest.param(1, 2, 4, 16, 16, 7, 7, 2, id="kernel larger than the picture"),
    pytest.param(1, 3, 3, 16, 16, 31, 1, 1, id="the largest kernel"),
    pytest.param(5, 2, 4, 16, 18, 3, 3, 1, id="boxes beyond the last image"),
    pytest.param(5, 4, 4, 16, 250, 1, 1, 1, id="two tiles of columns, finished in pieces"),
]


def error(got, expected):
    """Relative error ‖got − expected‖ / ‖expected‖; NaN where an element was not written."""
    return np.linalg.norm(np.asarray(got).astype(np.float64) - expected) / np.linalg.norm(expected)


def draw(engine, rng, *shape):
    """Values that the engine's dtype holds exactly, in float64."""
    return rng.standard_normal(shape).astype(engine.dtype).astype(np.float64)


@pytest.fixture(params=["boxes", "pointers"])
def engine(request):
    engine = emulated_engine("float32", chip=CHIP[request.param])
    engine.path = request.param
    return engine


def exact(launches):
    """Every launch executed and touched what it declared."""
    assert launches and all((one.flops, one.reads, one.writes) == tuple(one.declared) for one in launches), launches


@pytest.mark.parametrize(("n", "h", "w", "ci", "co", "kh", "kw", "stride"), CASES)
def test_convolution(engine, engine64, rng, n, h, w, ci, co, kh, kw, stride):
    """Forward with bias and ReLU, gradient by the input."""
    x, weight, b = draw(engine, rng, n, h, w, ci), draw(engine, rng, kh, kw, ci, co), draw(engine, rng, co)
    dy = draw(engine, rng, n, -(-h // stride), -(-w // stride), co)
    y, dx, expected_y, expected_dx = engine.empty(dy.shape), engine.empty(x.shape), np.empty(dy.shape), np.empty(x.shape)
    engine64.conv2d_forward(expected_y, x, weight, b, stride=stride, activation="relu")
    engine64.conv2d_dgrad(expected_dx, dy, weight, stride=stride)
    engine.device.launches = []
    with counted(engine.device) as launches:
        engine.conv2d_forward(y, engine.asarray(x), engine.asarray(weight), engine.asarray(b), stride=stride, activation="relu")
        engine.conv2d_dgrad(dx, engine.asarray(dy), engine.asarray(weight), stride=stride)
    exact(launches)
    assert error(y, expected_y) < LIMIT
    assert error(dx, expected_dx) < LIMIT
    boxes = [launch.constexprs["TMA"] for launch in engine.device.launches if launch.name == "convolve"]
    divisible = all(size & (size - 1) == 0 for size in (h, w, *dy.shape[1:3])) and (stride == 1 or (h % 2 == 0 and w % 2 == 0))
    assert boxes == [engine.path == "boxes" and divisible] * 2


@pytest.mark.parametrize("size", [(8, 8), (7, 6)], ids=["even", "odd"])
def test_fractional_stride(engine, engine64, rng, size):
    """y = tanh(convᵀ(x) + bias), and its gradient by the input."""
    x, weight, b = draw(engine, rng, 2, 4, size[1] // 2, 16), draw(engine, rng, 5, 5, 12, 16) / 8, draw(engine, rng, 12)
    dy = draw(engine, rng, 2, *size, 12)
    y, dx, expected_y, expected_dx = engine.empty(dy.shape), engine.empty(x.shape), np.empty(dy.shape), np.empty(x.shape)
    engine64.conv_transpose2d_forward(expected_y, x, weight, b, activation="tanh")
    engine64.conv_transpose2d_dgrad(expected_dx, dy, weight)
    engine.conv_transpose2d_forward(y, engine.asarray(x), engine.asarray(weight), engine.asarray(b), activation="tanh")
    engine.conv_transpose2d_dgrad(dx, engine.asarray(dy), engine.asarray(weight))
    assert error(y, expected_y) < LIMIT
    assert error(dx, expected_dx) < LIMIT


@pytest.mark.parametrize("precision", ["bf16", "tf32"])
@pytest.mark.parametrize("path", ["boxes", "pointers"])
def test_other_precisions(engine64, rng, precision, path):
    """bf16 results are rounded once from float32 sums; tf32 (exact when interpreted) turns and transposes the weights on some chips."""
    engine = emulated_engine(precision, chip=CHIP[path])
    x, weight, dy = draw(engine, rng, 2, 8, 8, 32), draw(engine, rng, 5, 5, 32, 16), draw(engine, rng, 2, 4, 4, 16)
    y, dx, expected_y, expected_dx = engine.empty(dy.shape), engine.empty(x.shape), np.empty(dy.shape), np.empty(x.shape)
    engine64.conv2d_forward(expected_y, x, weight, stride=2)
    engine64.conv2d_dgrad(expected_dx, dy, weight, stride=2)
    engine.device.launches = []
    engine.conv2d_forward(y, engine.asarray(x), engine.asarray(weight), stride=2)
    engine.conv2d_dgrad(dx, engine.asarray(dy), engine.asarray(weight), stride=2)
    products = [launch.constexprs for launch in engine.device.launches if launch.name == "convolve"]
    assert [p["TMA"] for p in products] == [path == "boxes"] * 2
    assert products[0]["FLIPPED"] == (precision == "tf32" and path == "boxes") and products[1]["SHUFFLED"] == (precision == "bf16")
    assert error(y, expected_y) < (ROUNDED if precision == "bf16" else LIMIT)
    assert error(dx, expected_dx) < (ROUNDED if precision == "bf16" else LIMIT)


def below_of(engine, rng, shape, channels, groups, relu_alone=False):
    """A layer below with the given output shape, and what it makes of a gradient: (Previous, masked gradient, sums) in float64."""
    g = len(groups)
    pre = draw(engine, rng, *shape).reshape(shape[0], -1, channels)
    mean, var = draw(engine, rng, g, channels), 0.5 + draw(engine, rng, g, channels) ** 2
    gamma, beta = draw(engine, rng, channels), draw(engine, rng, channels)
    of = np.repeat(np.arange(g), groups)
    mean, var, gamma, beta = (a.astype(np.float32).astype(np.float64) for a in (mean, var, gamma, beta))
    normed = (pre - mean[of][:, None]) / np.sqrt(var[of][:, None] + 1e-5)
    y = np.maximum(pre if relu_alone else gamma * normed + beta, 0)
    arrays = (
        [None] * 5
        if relu_alone
        else [engine.asarray(pre.reshape(shape)), *(engine.asarray(a, np.float32) for a in (mean, var, gamma, beta))]
    )
    sums = engine.empty((1, 1, channels) if relu_alone else (2, g, channels), np.float32)
    below = Previous(engine.asarray(y.reshape(shape)), *arrays, 0.0 if relu_alone else 1e-5, groups, sums)

    def expected(dx):
        masked = dx.reshape(pre.shape) * (y > 0)
        if relu_alone:
            return masked.reshape(shape), masked.sum((0, 1))[None, None]
        parts = [[(masked * factor)[of == k].sum((0, 1)) for k in range(g)] for factor in (1, normed)]
        return masked.reshape(shape), np.array(parts)

    return below, expected


@pytest.mark.parametrize(
    ("kind", "shape", "source", "weight", "stride", "groups", "relu_alone"),
    [
        pytest.param("conv2d", (4, 6, 8, 16), (4, 6, 8, 9), (3, 3, 16, 9), 1, (1, 3), False, id="stride 1, two groups"),
        pytest.param("conv2d", (3, 7, 6, 16), (3, 4, 3, 16), (5, 5, 16, 16), 2, (1, 1, 1), False, id="phases, odd rows, three groups"),
        pytest.param("conv2d", (2, 8, 8, 24), (2, 4, 4, 16), (5, 5, 24, 16), 2, (2,), True, id="phases, ReLU alone"),
        pytest.param("conv_transpose2d", (4, 4, 4, 20), (4, 8, 8, 16), (5, 5, 16, 20), 2, (1, 2, 1), False, id="transposed"),
        pytest.param("linear", (70, 48), (70, 10), (48, 10), None, (40, 30), False, id="a flattened image of three positions"),
    ],
)
def test_below(engine, engine64, rng, kind, shape, source, weight, stride, groups, relu_alone):
    """The mask and the sums of the layer below, tiles beginning anew with each group."""
    dy, w = draw(engine, rng, *source), draw(engine, rng, *weight)
    options = {} if stride is None else {"stride": stride}
    below, expected = below_of(engine, rng, shape, 16 if kind == "linear" else shape[-1], groups, relu_alone)
    dx, plain = engine.empty(shape), np.empty(shape)
    getattr(engine64, f"{kind}_dgrad")(plain, dy, w, **options)
    with counted(engine.device) as launches:
        getattr(engine, f"{kind}_dgrad")(dx, engine.asarray(dy), engine.asarray(w), previous=below, **options)
    exact(launches)
    masked, sums = expected(plain)
    assert error(dx, masked) < LIMIT
    for row in range(len(sums)):
        assert error(below.sums[row], sums[row]) < LIMIT


@pytest.mark.parametrize("groups", [(4,), (1, 3), (1, 2, 1), (1, 1, 1, 1)], ids=str)
@pytest.mark.parametrize("kind", ["conv2d", "upconv", "upconv odd", "linear"])
def test_block(engine, engine64, rng, kind, groups):
    """Batch norm statistics from the epilogue, about means that are large beside the deviation, then the whole block and its gradients."""
    images = 16 if kind == "linear" else 1
    groups = tuple(images * g for g in groups)
    n = sum(groups)
    kind, _, odd = kind.partition(" ")
    shapes = {
        "conv2d": ((n, 6, 8, 16), (n, 3, 4, 12), (3, 3, 16, 12)),
        "upconv": ((n, 3, 4, 16), (n, 5 if odd else 6, 7 if odd else 8, 12), (3, 3, 12, 16)),
        "linear": ((n, 32), (n, 12), (32, 12)),
    }[kind]
    x, w, dy = (draw(engine, rng, *shape) for shape in (shapes[0], shapes[2], shapes[1]))
    x = (x + 4.0).astype(np.float32).astype(np.float64)
    gamma, beta = draw(engine, rng, 12), draw(engine, rng, 12)
    options = {"eps": 1e-5, **({} if kind == "linear" else {"stride": 2})}

    def run(engine, put, empty):
        y, pre, mean, var = empty(dy.shape), empty(dy.shape), empty((len(groups), 12)), empty((len(groups), 12))
        given, weights = put(x), put(w)
        getattr(engine, f"{kind}_bn_relu_forward")(y, pre, mean, var, given, weights, put(gamma), put(beta), groups, **options)
        results = empty(x.shape), empty(w.shape), empty((12,)), empty((12,))
        upper = put(dy)
        getattr(engine, f"{kind}_bn_relu_backward")(*results, upper, y, pre, mean, var, given, weights, put(gamma), groups, **options)
        return dict(zip(("y", "pre", "mean", "var", "dx", "dw", "dgamma", "dbeta"), (y, pre, mean, var, *results), strict=True))

    got = run(engine, engine.asarray, engine.empty)
    expected = run(engine64, np.array, np.empty)
    for name in expected:
        assert error(got[name], expected[name]) < (10 * LIMIT if name in ("dx", "dw") else LIMIT), name


@pytest.mark.parametrize("path", ["boxes", "pointers"])
def test_fused_phases(engine64, rng, path):
    """The four phases as column blocks of one product: statistics and sums over all of them, the store to every second pixel."""
    engine = emulated_engine("bf16", chip=CHIP[path])
    dev, groups = engine.device, (1, 2)
    x, w = draw(engine, rng, 3, 4, 4, 16), draw(engine, rng, 5, 5, 12, 16)
    expected = np.empty((3, 8, 8, 12))
    engine64.conv_transpose2d_forward(expected, x, w)
    mean, var, out = (engine.empty(shape, np.float32) for shape in ((2, 12), (2, 12), expected.shape))
    with counted(dev) as launches:
        epilogue = Epilogue(statistics=Statistics(mean, var, groups))
        convolve(dev, "bf16", out, engine.asarray(x), engine.asarray(w), kind="dgrad", stride=2, epilogue=epilogue)
    exact(launches)
    assert error(out, expected) < LIMIT
    for group, part in enumerate(np.split(expected, [1])):
        assert error(mean[group], part.mean((0, 1, 2))) < LIMIT
        assert error(var[group], part.var((0, 1, 2))) < LIMIT
    bias = draw(engine, rng, 12)
    engine.conv_transpose2d_forward(
        out := engine.empty(expected.shape), engine.asarray(x), engine.asarray(w), engine.asarray(bias, np.float32)
    )
    assert error(out, expected + bias) < ROUNDED
    below, by_hand = below_of(engine, rng, expected.shape, 12, groups)
    dx = engine.empty(expected.shape)
    engine.conv2d_dgrad(dx, engine.asarray(x), engine.asarray(w), stride=2, previous=below)
    masked, sums = by_hand(expected)
    assert error(dx, masked) < ROUNDED
    for row in (0, 1):
        assert error(below.sums[row], sums[row]) < LIMIT


@pytest.mark.parametrize(("n", "inputs", "outputs"), [(4, 12, 7), (1, 9, 5), (5, 8, 1), (3, 1, 4), (7, 300, 129), (130, 32, 16)])
def test_linear(engine, engine64, rng, n, inputs, outputs):
    x, w, b, dy = (draw(engine, rng, *shape) for shape in ((n, inputs), (inputs, outputs), (outputs,), (n, outputs)))
    y, dx = engine.empty((n, outputs)), engine.empty((n, inputs))
    with counted(engine.device) as launches:
        engine.linear_forward(y, engine.asarray(x), engine.asarray(w), engine.asarray(b))
        engine.linear_dgrad(dx, engine.asarray(dy), engine.asarray(w))
    exact(launches)
    assert error(y, x @ w + b) < LIMIT
    assert error(dx, dy @ w.T) < LIMIT


@pytest.mark.parametrize("path", ["boxes", "pointers"])
def test_linear_in_splits(rng, path):
    """More multiprocessors than tiles: the inputs are cut among programs; statistics then come from the finished result."""
    engine = emulated_engine("bf16", chip=CHIP[path]._replace(multiprocessors=4))
    x, w, b = draw(engine, rng, 6, 2000), draw(engine, rng, 2000, 24), rng.standard_normal(24).astype(np.float32)
    y, given, weights = engine.empty((6, 24), np.float32), engine.asarray(x), engine.asarray(w)
    with counted(engine.device) as launches:
        engine.linear_forward(y, given, weights, engine.asarray(b, np.float32))
    exact(launches)
    assert linear_splits(engine.device, "bf16", 6, 2000, 24) > 1
    assert error(y, x @ w + b) < LIMIT
    pre, out, mean, var = engine.empty((6, 24)), engine.empty((6, 24)), engine.empty((2, 24), np.float32), engine.empty((2, 24), np.float32)
    gamma, beta = (engine.asarray(np.full(24, value), np.float32) for value in (1, 0))
    engine.linear_bn_relu_forward(out, pre, mean, var, given, weights, gamma, beta, (2, 4), eps=1e-5)
    for group, part in enumerate(np.split(x @ w, [2])):
        assert error(mean[group], part.mean(0)) < ROUNDED
        assert error(var[group], part.var(0)) < 2 * ROUNDED


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
        convolve_kernel, (1,), src, w, table, out, *[None] * 8, 0.0, rows, 1, 1, warps=4, stages=1, cost=Cost(0, 0, 0),
        PH=64, PW=64, OH=64, OW=64, OC=16, SH=64, SW=64, SC=16, WR=16, WC=16, KH=1, KW=1, S=1,
        BACK=False, FRACTIONAL=False, SHUFFLED=False, TRANSPOSED=False, FLIPPED=False, SPLIT=False, N=16, CHANNELS=16, ACTIVATION=None,
        BM=128, BN=16, BK=16, TMA=False, PRECISION="ieee", INTERPRETED=True,
    )  # fmt: skip
    expected = src[-1, -2:].astype(np.float64) @ w[0].astype(np.float64)
    assert error(out[-1, -2:], expected) < ROUNDED and not out[-1, :-2].any()


def test_kernels_too_large_are_refused(engine):
    x, w = engine.empty((1, 3, 3, 16)), engine.empty((33, 1, 16, 16))
    with pytest.raises(ValueError, match="w: got a 33x1 kernel, expected at most 31x31"):
        engine.conv2d_forward(engine.empty((1, 3, 3, 16)), x, w)
    with pytest.raises(ValueError, match="activation: got 'gelu', expected"):
        engine.conv2d_forward(engine.empty((1, 3, 3, 16)), x, engine.empty((3, 3, 16, 16)), activation="gelu")
