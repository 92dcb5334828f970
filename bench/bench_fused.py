"""The blocks of the networks, forward and backward (all gradients), against the same PyTorch modules under autograd."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bench.harness import agree, compare, fastest, setup
from bench.peers.networks import conv_block, fc_block, upconv_block
from bench.shapes import CONVS, LINEARS, UPCONVS

BLOCKS = [("conv2d", s) for s in CONVS if s.stride == 2] + [("upconv", s) for s in UPCONVS]
BLOCKS += [("linear", s) for s in LINEARS if s.name != "enc mu"]


def sizes(kind, s):
    """Shapes of x, w, y."""
    if kind == "linear":
        return (s.n, s.inputs), (s.inputs, s.outputs), (s.n, s.outputs)
    large, small, w = (s.n, s.size, s.size, s.ci), (s.n, s.out, s.out, s.co), (5, 5, s.ci, s.co)
    return (large, w, small) if kind == "conv2d" else (small, w, large)


def torch_block(kind, w, x, dy, channels_last):
    """A step forward and backward of the module; returns (y, dx, dw)."""
    block = {"conv2d": conv_block, "upconv": upconv_block, "linear": fc_block}[kind](w.shape)
    tx, tdy, tw = torch.from_numpy(x), torch.from_numpy(dy), torch.from_numpy(w)
    if kind == "linear":
        tw = tw.T.contiguous()
    else:
        layout = torch.channels_last if channels_last else torch.contiguous_format
        tx, tdy = (t.permute(0, 3, 1, 2).contiguous(memory_format=layout) for t in (tx, tdy))
        tw, block = tw.permute(3, 2, 0, 1), block.to(memory_format=layout)
    with torch.no_grad():
        block[0].weight.copy_(tw)
    leaf = tx.requires_grad_()

    def step():
        y = block(leaf)
        dx, dw, *_ = torch.autograd.grad(y, [leaf, *block.parameters()], tdy)
        return y, dx, dw

    return step


@pytest.mark.parametrize(("kind", "shape"), BLOCKS, ids=[f"{kind} {s.name}" for kind, s in BLOCKS])
def test_fused_block(benchmark, kind, shape):
    eng, rng = setup(), np.random.default_rng(0)
    x_shape, w_shape, y_shape = sizes(kind, shape)
    x, dy = eng.asarray(rng.standard_normal(x_shape)), eng.asarray(rng.standard_normal(y_shape))
    w, c = eng.asarray(rng.standard_normal(w_shape) / np.sqrt(np.prod(w_shape[:-1]))), y_shape[-1]
    y, pre, error, dx, dw = (eng.empty(a.shape) for a in (dy, dy, dy, x, w))
    mean, var, gamma, beta = eng.empty((1, c)), eng.empty((1, c)), eng.asarray(np.ones(c)), eng.asarray(np.zeros(c))
    dgamma, dbeta, groups = eng.empty((c,)), eng.empty((c,)), (shape.n,)
    options = {"eps": 1e-5} if kind == "linear" else {"eps": 1e-6, "stride": 2}
    forward, backward = getattr(eng, f"{kind}_bn_relu_forward"), getattr(eng, f"{kind}_bn_relu_backward")

    def ours():
        forward(y, pre, mean, var, x, w, gamma, beta, groups, **options)
        error[...] = dy  # the backward overwrites it
        backward(dx, dw, dgamma, dbeta, error, y, pre, mean, var, x, w, gamma, groups, **options)

    peer = fastest(*(torch_block(kind, w, x, dy, last) for last in ((True,) if kind == "linear" else (True, False))))
    ours()
    ty, tdx, tdw = peer()
    if kind == "linear":
        pairs = ((y, ty), (dx, tdx), (dw, tdw.T))
    else:
        pairs = ((y, ty.permute(0, 2, 3, 1)), (dx, tdx.permute(0, 2, 3, 1)), (dw, tdw.permute(2, 3, 1, 0)))
    if shape.n > 3:  # batch norm of the FC layers over very few images amplifies float32's rounding
        for got, expected in pairs:
            agree(eng.to_numpy(got), expected, 1e-2)
    compare(benchmark, ours, peer, flop=3 * shape.flop)
