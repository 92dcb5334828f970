"""The networks' blocks, forward and backward (all gradients), against PyTorch's convolution (cuDNN, oneDNN), batch norm and ReLU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bench.harness import agree, best, compare
from bench.peers.networks import conv_block, fc_block, upconv_block
from bench.shapes import CONVS, LINEARS, UPCONVS
from bench.side import side

BLOCKS = [("conv2d", s) for s in CONVS if s.stride == 2] + [("upconv", s) for s in UPCONVS]
BLOCKS += [("linear", s) for s in LINEARS if s.name != "enc mu"]
FORMATS = (torch.channels_last, torch.contiguous_format)


def sizes(kind, s):
    """Shapes of x, w, y."""
    if kind == "linear":
        return (s.n, s.inputs), (s.inputs, s.outputs), (s.n, s.outputs)
    large, small, w = (s.n, s.size, s.size, s.ci), (s.n, s.out, s.out, s.co), (5, 5, s.ci, s.co)
    return (large, w, small) if kind == "conv2d" else (small, w, large)


def torch_block(kind, arrays, memory_format):
    """A step forward and backward of the module; returns (y, dx, dw). Batch norm is in float32 inside, as under autocast."""
    x, dy, w = arrays
    block = {"conv2d": conv_block, "upconv": upconv_block, "linear": fc_block}[kind](w.shape)
    tx, tdy, tw = (side().tensor(a) for a in (x, dy, w))
    if kind == "linear":
        tw = tw.T.contiguous()
    else:
        tx, tdy = (t.permute(0, 3, 1, 2).contiguous(memory_format=memory_format) for t in (tx, tdy))
        tw = tw.permute(3, 2, 0, 1).contiguous(memory_format=memory_format)
    block = block.to(side().torch_device)
    block[0].weight = torch.nn.Parameter(tw)
    leaf = tx.requires_grad_()

    def step():
        y = block(leaf)
        dx, dw, *_ = torch.autograd.grad(y, [leaf, *block.parameters()], tdy)
        return y, dx, dw

    return step


def in_our_layout(kind, y, dx, dw):
    """PyTorch's results in our layout."""
    if kind == "linear":
        return y, dx, dw.T
    return y.permute(0, 2, 3, 1), dx.permute(0, 2, 3, 1), dw.permute(2, 3, 1, 0)


def arrays_of(kind, shape, seed):
    """Random x, dy and w."""
    eng, rng = side().engine, np.random.default_rng(seed)
    x_shape, w_shape, y_shape = sizes(kind, shape)
    x, dy = eng.asarray(rng.standard_normal(x_shape)), eng.asarray(rng.standard_normal(y_shape))
    return x, dy, eng.asarray(rng.standard_normal(w_shape) / np.sqrt(np.prod(w_shape[:-1])))


def our_block(kind, shape, arrays):
    """(our call, its outputs y, dx, dw)."""
    eng, (x, dy, w) = side().engine, arrays
    c = dy.shape[-1]
    y, pre, error, dx = (eng.empty(a.shape) for a in (dy, dy, dy, x))
    dw = eng.empty(w.shape, eng.wide)
    mean, var, dgamma, dbeta = (eng.empty(s, eng.wide) for s in ((1, c), (1, c), (c,), (c,)))
    gamma, beta, groups = eng.asarray(np.ones(c), eng.wide), eng.asarray(np.zeros(c), eng.wide), (shape.n,)
    options = {"eps": 1e-5} if kind == "linear" else {"eps": 1e-6, "stride": 2}
    forward, backward = getattr(eng, f"{kind}_bn_relu_forward"), getattr(eng, f"{kind}_bn_relu_backward")

    def call():
        forward(y, pre, mean, var, x, w, gamma, beta, groups, **options)
        eng.copy(error, dy)  # the backward overwrites it
        backward(dx, dw, dgamma, dbeta, error, y, pre, mean, var, x, w, gamma, groups, **options)

    return call, (y, dx, dw)


@pytest.mark.parametrize(("kind", "shape"), BLOCKS, ids=[f"{kind} {s.name}" for kind, s in BLOCKS])
def test_fused_block(benchmark, kind, shape):
    arrays = arrays_of(kind, shape, 0)
    formats = FORMATS[:1] if kind == "linear" else FORMATS
    candidates = [torch_block(kind, arrays, f) for f in formats]
    layout = formats[candidates.index(best(side(), *candidates))]
    ours, results = our_block(kind, shape, arrays)
    ours()
    expected = in_our_layout(kind, *candidates[0]())
    if shape.n > 3:  # batch norm of the FC layers over very few images amplifies rounding
        for got, wanted in zip(results, expected, strict=True):
            agree(side(), got, wanted, 100 if side().precision == "float32" else 5)
    del candidates, results, expected

    def build(seed):
        own = arrays_of(kind, shape, seed)
        return our_block(kind, shape, own)[0], torch_block(kind, own, layout)

    x, dy, w = (a.nbytes for a in arrays)
    # x and w are read by the forward and by the backward, dx and dw written; y and pre are written, pre read again by batch norm and by
    # its gradient, y and dy by that too
    compare(benchmark, side(), build, held=3 * (x + dy + w), flop=3 * shape.flop, nbytes=3 * x + 3 * w + 7 * dy)
