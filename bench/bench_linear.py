"""The fully connected layers of Table 1, each with both gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bench.harness import agree, compare
from bench.shapes import LINEARS
from bench.side import side


def calls(shape, part, seed):
    """(our call, PyTorch's call, our output, bytes of a set)."""
    eng, rng = side().engine, np.random.default_rng(seed)
    x, dy = (eng.asarray(rng.standard_normal((shape.n, c))) for c in (shape.inputs, shape.outputs))
    w = eng.asarray(rng.standard_normal((shape.inputs, shape.outputs)))
    tx, ty, tw = side().tensor(x), side().tensor(dy), side().tensor(w).T.contiguous()  # nn.Linear keeps [out, in]
    out = eng.empty(w.shape, eng.wide) if part == "wgrad" else eng.empty({"forward": dy, "dgrad": x}[part].shape)
    ours, peer = {
        "forward": (lambda: eng.linear_forward(out, x, w), lambda: torch.nn.functional.linear(tx, tw)),
        "dgrad": (lambda: eng.linear_dgrad(out, dy, w), lambda: ty @ tw),
        "wgrad": (lambda: eng.linear_wgrad(out, x, dy), lambda: ty.T @ tx),
    }[part]
    return ours, peer, out, x.nbytes + dy.nbytes + w.nbytes


@pytest.mark.parametrize("shape", LINEARS, ids=lambda s: s.name)
@pytest.mark.parametrize("part", ["forward", "dgrad", "wgrad"])
def test_linear(benchmark, shape, part):
    ours, peer, out, held = calls(shape, part, 0)
    ours()
    result = peer()
    agree(side(), out, result.T if part == "wgrad" else result)
    del ours, peer, result
    compare(benchmark, side(), lambda seed: calls(shape, part, seed)[:2], held=held, flop=shape.flop, nbytes=held)
