"""Convolutions and fractional-strided convolutions of Table 1, each with both gradients."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from bench.harness import agree, compare, fastest, setup
from bench.shapes import CONVS, UPCONVS

PARTS = ["forward", "dgrad", "wgrad"]


def arrays(shape):
    """Random large image, small image, weights, and their PyTorch twins in both memory layouts."""
    eng, rng = setup(), np.random.default_rng(0)
    large = eng.asarray(rng.standard_normal((shape.n, shape.size, shape.size, shape.ci)))
    small = eng.asarray(rng.standard_normal((shape.n, shape.out, shape.out, shape.co)))
    w = eng.asarray(rng.standard_normal((5, 5, shape.ci, shape.co)))
    nchw = [torch.from_numpy(a).permute(0, 3, 1, 2) for a in (large, small)] + [torch.from_numpy(w).permute(3, 2, 0, 1)]
    formats = (torch.channels_last, torch.contiguous_format)
    return eng, large, small, w, [[t.contiguous(memory_format=f) for t in nchw] for f in formats]


def convolution_backward(dy, x, w, stride, transposed, mask):
    """PyTorch's dgrad (mask (True, False, False)) or wgrad alone."""
    extra = [1, 1] if transposed else [0, 0]
    return torch.ops.aten.convolution_backward(dy, x, w, None, [stride, stride], [2, 2], [1, 1], transposed, extra, 1, list(mask))


def peers(shape, part, layouts, transposed):
    """One PyTorch call for each memory layout. x is the small image of a transposed convolution."""

    def call(large, small, w):
        x, dy = (small, large) if transposed else (large, small)
        if part == "forward":
            if transposed:
                return lambda: torch.nn.functional.conv_transpose2d(x, w, None, 2, 2, output_padding=1)
            return lambda: torch.nn.functional.conv2d(x, w, None, shape.stride, 2)
        mask = (part == "dgrad", part == "wgrad", False)
        return lambda: convolution_backward(dy, x, w, shape.stride, transposed, mask)[int(part == "wgrad")]

    return [call(*tensors) for tensors in layouts]


def run(benchmark, shape, part, transposed):
    eng, large, small, w, layouts = arrays(shape)
    operations = SimpleNamespace(
        forward=eng.conv_transpose2d_forward if transposed else eng.conv2d_forward,
        dgrad=eng.conv_transpose2d_dgrad if transposed else eng.conv2d_dgrad,
        wgrad=eng.conv_transpose2d_wgrad if transposed else eng.conv2d_wgrad,
    )
    x, dy = (small, large) if transposed else (large, small)
    out = eng.empty({"forward": dy, "dgrad": x, "wgrad": w}[part].shape)
    inputs = {"forward": (x, w), "dgrad": (dy, w), "wgrad": (x, dy)}[part]

    def ours():
        getattr(operations, part)(out, *inputs, stride=shape.stride)

    peer = fastest(*peers(shape, part, layouts, transposed))
    ours()
    with torch.no_grad():
        result = peer()
        agree(eng.to_numpy(out), result.permute(2, 3, 1, 0) if part == "wgrad" else result.permute(0, 2, 3, 1))
        compare(benchmark, ours, peer, flop=shape.flop)


@pytest.mark.parametrize("shape", CONVS, ids=lambda s: s.name)
@pytest.mark.parametrize("part", PARTS)
def test_conv2d(benchmark, shape, part):
    run(benchmark, shape, part, transposed=False)


@pytest.mark.parametrize("shape", UPCONVS, ids=lambda s: s.name)
@pytest.mark.parametrize("part", PARTS)
def test_conv_transpose2d(benchmark, shape, part):
    run(benchmark, shape, part, transposed=True)
