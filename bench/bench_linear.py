"""The fully connected layers of Table 1, each with both gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bench.harness import agree, compare, setup
from bench.shapes import LINEARS


@pytest.mark.parametrize("shape", LINEARS, ids=lambda s: s.name)
@pytest.mark.parametrize("part", ["forward", "dgrad", "wgrad"])
def test_linear(benchmark, shape, part):
    eng, rng = setup(), np.random.default_rng(0)
    x, dy = (eng.asarray(rng.standard_normal((shape.n, c))) for c in (shape.inputs, shape.outputs))
    w = eng.asarray(rng.standard_normal((shape.inputs, shape.outputs)))
    tx, ty, tw = torch.from_numpy(x), torch.from_numpy(dy), torch.from_numpy(w.T.copy())  # nn.Linear keeps [out, in]
    out = eng.empty({"forward": dy, "dgrad": x, "wgrad": w}[part].shape)
    ours, peer = {
        "forward": (lambda: eng.linear_forward(out, x, w), lambda: torch.nn.functional.linear(tx, tw)),
        "dgrad": (lambda: eng.linear_dgrad(out, dy, w), lambda: ty @ tw),
        "wgrad": (lambda: eng.linear_wgrad(out, x, dy), lambda: ty.T @ tx),
    }[part]
    ours()
    result = peer()
    agree(eng.to_numpy(out), result.T if part == "wgrad" else result)
    compare(benchmark, ours, peer, flop=shape.flop)
