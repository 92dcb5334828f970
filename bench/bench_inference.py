"""Inference with running statistics: batches of BENCH_NETWORK, and the latency of one image; arrays on the device before and after."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import torch

from bench.contestants import batch
from bench.gpu.common import spec_of
from bench.harness import agree, best, compare
from bench.peers.networks import Networks
from bench.shapes import NETWORK
from bench.side import side
from models.layer import Pass
from models.vaegan import VAEGAN

BATCHES, TASKS = (16, 256), ("encode", "decode", "judge")
SINGLE = tuple(dict.fromkeys(("small32", "paper64", NETWORK)))  # networks whose latency is measured
FORMATS = (torch.channels_last, torch.contiguous_format)


def ours(task, n, spec):
    """(the call, the model's state as NumPy arrays, what a call writes)."""
    eng = side().engine
    model = VAEGAN(eng, spec, seed=0)
    x, _, z = batch(spec, n)
    x, z, pass_ = eng.asarray(x), eng.asarray(z), Pass((n,), train=False)
    out = {"encode": eng.empty((n, spec.latent), eng.wide), "judge": eng.empty((n, 1), eng.wide)}.get(task)
    out = eng.empty(x.shape) if out is None else out

    def encode(target):
        applied = model.encoder.apply(x, pass_)
        eng.copy(target, applied.mu)
        applied.release()

    def decode():
        model.decoder.apply(z, pass_, out=out).release()

    def reconstruct():
        encode(z)
        decode()

    def judge():
        applied = model.discriminator.apply(x, pass_, pass_)
        eng.sigmoid_forward(out, applied.logits)
        applied.release()

    call = {"encode": lambda: encode(out), "decode": decode, "reconstruct": reconstruct, "judge": judge}[task]
    return call, {k: np.array(eng.to_numpy(a)) for k, a in model.state_arrays().items()}, out


def peer(task, n, spec, state, memory_format):
    """PyTorch's call: modules in evaluation mode, in the precision's dtype."""
    networks = Networks.from_state(state, spec.metric).eval().to(side().torch_device, side().dtype, memory_format=memory_format)
    x, _, z = (torch.from_numpy(a).to(side().torch_device, side().dtype) for a in batch(spec, n))
    x = x.permute(0, 3, 1, 2).contiguous(memory_format=memory_format)
    return {
        "encode": lambda: networks.encoder(x)[0],
        "decode": lambda: networks.decoder(z).permute(0, 2, 3, 1),
        "reconstruct": lambda: networks.decoder(networks.encoder(x)[0]).permute(0, 2, 3, 1),
        "judge": lambda: torch.sigmoid(networks.discriminator(x)[1]),
    }[task]


def run(benchmark, task, n, spec):
    call, state, out = ours(task, n, spec)
    with torch.inference_mode():
        candidates = [peer(task, n, spec, state, f) for f in FORMATS]
        theirs = best(side(), *candidates)
        del candidates
        gc.collect()
        call()
        agree(side(), out, theirs(), 10)
        compare(benchmark, side(), lambda seed: (call, theirs), held=1e12)
    benchmark.extra_info["images_per_s"] = round(1e3 * n / benchmark.extra_info["ours_ms"]) if "ours_ms" in benchmark.extra_info else None


@pytest.mark.parametrize("n", BATCHES)
@pytest.mark.parametrize("task", TASKS)
def test_inference(benchmark, task, n):
    run(benchmark, task, n, spec_of(NETWORK))


@pytest.mark.parametrize("task", [*TASKS, "reconstruct"])
@pytest.mark.parametrize("network", SINGLE)
def test_latency(benchmark, network, task):
    run(benchmark, task, 1, spec_of(network))
