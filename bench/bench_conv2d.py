"""Convolutions and fractional-strided convolutions of Table 1, each with both gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bench.harness import agree, best, compare
from bench.shapes import CONVS, UPCONVS
from bench.side import side

PARTS = ["forward", "dgrad", "wgrad"]
FORMATS = (torch.channels_last, torch.contiguous_format)


def arrays(shape, seed):
    """Random large image, small image and weights of ours, the weights as operands."""
    eng, rng = side().engine, np.random.default_rng(seed)
    large = eng.asarray(rng.standard_normal((shape.n, shape.size, shape.size, shape.ci)))
    small = eng.asarray(rng.standard_normal((shape.n, shape.out, shape.out, shape.co)))
    return large, small, eng.asarray(rng.standard_normal((5, 5, shape.ci, shape.co)))


def twins(large, small, w, memory_format):
    """The same for PyTorch: NCHW in ``memory_format``."""
    nchw = [side().tensor(a).permute(0, 3, 1, 2) for a in (large, small)] + [side().tensor(w).permute(3, 2, 0, 1)]
    return [t.contiguous(memory_format=memory_format) for t in nchw]


def torch_call(shape, part, tensors, transposed):
    """PyTorch's forward, dgrad or wgrad alone. x is the small image of a transposed convolution."""
    large, small, w = tensors
    x, dy = (small, large) if transposed else (large, small)
    if part == "forward":
        if transposed:
            return lambda: torch.nn.functional.conv_transpose2d(x, w, None, 2, 2, output_padding=1)
        return lambda: torch.nn.functional.conv2d(x, w, None, shape.stride, 2)
    mask, extra, stride = [part == "dgrad", part == "wgrad", False], [1, 1] if transposed else [0, 0], [shape.stride] * 2
    backward = torch.ops.aten.convolution_backward
    return lambda: backward(dy, x, w, None, stride, [2, 2], [1, 1], transposed, extra, 1, mask)[int(part == "wgrad")]


def our_call(shape, part, large, small, w, transposed):
    """(the call, its output)."""
    eng = side().engine
    operation = getattr(eng, f"{'conv_transpose2d' if transposed else 'conv2d'}_{part}")
    x, dy = (small, large) if transposed else (large, small)
    # a weight gradient is wide, as master weights are
    out = eng.empty(w.shape, eng.wide) if part == "wgrad" else eng.empty({"forward": dy, "dgrad": x}[part].shape)
    inputs = {"forward": (x, w), "dgrad": (dy, w), "wgrad": (x, dy)}[part]
    return (lambda: operation(out, *inputs, stride=shape.stride)), out


def run(benchmark, shape, part, transposed):
    first = arrays(shape, 0)
    ours, out = our_call(shape, part, *first, transposed)
    candidates = [torch_call(shape, part, twins(*first, f), transposed) for f in FORMATS]
    with torch.no_grad():
        layout = FORMATS[candidates.index(best(side(), *candidates))]
        ours()
        result = candidates[0]()
        agree(side(), out, result.permute(2, 3, 1, 0) if part == "wgrad" else result.permute(0, 2, 3, 1))
        del candidates, result

        def build(seed):
            own = arrays(shape, seed)
            return our_call(shape, part, *own, transposed)[0], torch_call(shape, part, twins(*own, layout), transposed)

        held = sum(a.nbytes for a in first)
        compare(benchmark, side(), build, held=held, flop=shape.flop, nbytes=held)


@pytest.mark.parametrize("shape", CONVS, ids=lambda s: s.name)
@pytest.mark.parametrize("part", PARTS)
def test_conv2d(benchmark, shape, part):
    run(benchmark, shape, part, transposed=False)


@pytest.mark.parametrize("shape", UPCONVS, ids=lambda s: s.name)
@pytest.mark.parametrize("part", PARTS)
def test_conv_transpose2d(benchmark, shape, part):
    run(benchmark, shape, part, transposed=True)
