"""Inference with running statistics: encode, decode and judge batches of BENCH_NETWORK, arrays on the device before and after."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import torch

from bench.contestants import batch
from bench.harness import agree, best, compare
from bench.peers.networks import Networks
from bench.shapes import SPEC
from bench.side import side
from models.layer import Pass
from models.vaegan import VAEGAN

BATCHES = (1, 16, 256)
FORMATS = (torch.channels_last, torch.contiguous_format)


def ours(task, n):
    """(the call, the model's state as NumPy arrays, a function that returns the result of a call)."""
    eng = side().engine
    model = VAEGAN(eng, SPEC, seed=0)
    x, _, z = batch(SPEC, n)
    x, z, pass_ = eng.asarray(x), eng.asarray(z), Pass((n,), train=False)
    out = {"encode": eng.empty((n, SPEC.latent), eng.wide), "decode": eng.empty(x.shape), "judge": eng.empty((n, 1), eng.wide)}[task]

    def call():
        if task == "encode":
            applied = model.encoder.apply(x, pass_)
            eng.copy(out, applied.mu)
        elif task == "decode":
            applied = model.decoder.apply(z, pass_, out=out)
        else:
            applied = model.discriminator.apply(x, pass_, pass_)
            eng.sigmoid_forward(out, applied.logits)
        applied.release()

    return call, {k: np.array(eng.to_numpy(a)) for k, a in model.state_arrays().items()}, out


def peer(task, n, state, memory_format):
    """PyTorch's call: modules in evaluation mode, in the precision's dtype."""
    networks = Networks.from_state(state, SPEC.metric).eval().to(side().torch_device, side().dtype, memory_format=memory_format)
    x, _, z = (torch.from_numpy(a).to(side().torch_device, side().dtype) for a in batch(SPEC, n))
    x = x.permute(0, 3, 1, 2).contiguous(memory_format=memory_format)
    return {
        "encode": lambda: networks.encoder(x)[0],
        "decode": lambda: networks.decoder(z).permute(0, 2, 3, 1),
        "judge": lambda: torch.sigmoid(networks.discriminator(x)[1]),
    }[task]


@pytest.mark.parametrize("n", BATCHES)
@pytest.mark.parametrize("task", ["encode", "decode", "judge"])
def test_inference(benchmark, task, n):
    call, state, out = ours(task, n)
    with torch.inference_mode():
        candidates = [peer(task, n, state, f) for f in FORMATS]
        theirs = best(side(), *candidates)
        del candidates
        gc.collect()
        call()
        agree(side(), out, theirs(), 10)
        compare(benchmark, side(), lambda seed: (call, theirs), held=1e12)
    benchmark.extra_info["images_per_s"] = round(1e3 * n / benchmark.extra_info["ours_ms"]) if "ours_ms" in benchmark.extra_info else None
