"""RMSProp and Adam over the largest weights; bytes moved: every array read, and written where it changes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bench.harness import agree, compare, setup
from bench.shapes import WEIGHTS


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize("optimizer", ["rmsprop", "adam"])
def test_optimizer(benchmark, name, optimizer):
    eng, rng = setup(), np.random.default_rng(0)
    w, dw = (eng.asarray(rng.standard_normal(WEIGHTS[name])) for _ in range(2))
    zeros = [eng.asarray(np.zeros(w.shape)) for _ in range(2)]
    t = eng.empty((1,), np.int64)
    t[...] = 0
    parameter = torch.nn.Parameter(torch.from_numpy(w.copy()))
    parameter.grad = torch.from_numpy(dw.copy())
    if optimizer == "rmsprop":
        peer = torch.optim.RMSprop([parameter], lr=1e-3, alpha=0.9, weight_decay=2e-5, foreach=True)

        def ours():
            eng.rmsprop_update(w, zeros[0], dw, lr=1e-3, weight_decay=2e-5)
    else:
        peer = torch.optim.Adam([parameter], lr=1e-3, betas=(0.5, 0.999), weight_decay=2e-5, fused=True)

        def ours():
            eng.adam_update(w, *zeros, t, dw, lr=1e-3, weight_decay=2e-5)

    ours()
    peer.step()
    agree(eng.to_numpy(w), parameter)
    compare(benchmark, ours, peer.step, nbytes=(5 if optimizer == "rmsprop" else 7) * w.nbytes)
