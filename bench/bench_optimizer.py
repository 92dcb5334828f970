"""RMSProp and Adam over the largest weights; bytes moved: every array read, and written where it changes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bench.harness import agree, compare
from bench.shapes import WEIGHTS
from bench.side import side


def calls(name, kind, seed):
    """(our call, PyTorch's call, our weights, PyTorch's): PyTorch's fused update where it has one, else foreach."""
    eng, rng = side().engine, np.random.default_rng(seed)
    w, dw = (eng.asarray(rng.standard_normal(WEIGHTS[name]), eng.wide) for _ in range(2))
    zeros = [eng.asarray(np.zeros(w.shape), eng.wide) for _ in range(2)]
    t = eng.asarray(np.zeros(1), np.int64)
    parameter = torch.nn.Parameter(side().tensor(w, wide=True))
    parameter.grad = side().tensor(dw, wide=True)
    on_gpu = side().on_gpu
    if kind == "rmsprop":
        peer = torch.optim.RMSprop([parameter], lr=1e-3, alpha=0.9, weight_decay=2e-5, foreach=True, capturable=on_gpu)
        return (lambda: eng.rmsprop_update(w, zeros[0], dw, lr=1e-3, weight_decay=2e-5)), peer.step, w, parameter
    peer = torch.optim.Adam([parameter], lr=1e-3, betas=(0.5, 0.999), weight_decay=2e-5, fused=True, capturable=on_gpu)
    return (lambda: eng.adam_update(w, *zeros, t, dw, lr=1e-3, weight_decay=2e-5)), peer.step, w, parameter


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize("optimizer", ["rmsprop", "adam"])
def test_optimizer(benchmark, name, optimizer):
    ours, peer, w, parameter = calls(name, optimizer, 0)
    ours()
    peer()
    agree(side(), w, parameter)
    arrays = 5 if optimizer == "rmsprop" else 7
    compare(benchmark, side(), lambda seed: calls(name, optimizer, seed)[:2], held=arrays * w.nbytes, nbytes=arrays * w.nbytes)
