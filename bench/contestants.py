"""The whole training step of each contestant, ready to be called over and over on one device.

`ours`, on the CPU the native engine wherever there is one; `numpy`, the same step on the NumPy engine; `plain`, eager PyTorch as public
VAE/GAN code is written; `lean`, PyTorch without waste; `compiled`, PyTorch at its best (bench/peers). All do the same step from the same
weights on the same batch (tests/test_peers.py). PyTorch gets the fastest of the settings that make sense: either memory layout, compiled or
not.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

OURS = ("ours", "numpy")
NAMES = (*OURS, "plain", "lean", "compiled")
LR = 3e-4


@dataclass
class Contestant:
    """``step()`` asks for a step, ``wait()`` returns when it is done. ``settings``: which of PyTorch's. ``state_bytes``: what is kept
    from step to step: parameters, their copies as operands, running statistics, optimiser state. ``weights()``: the parameters by this
    repository's names, in its layouts."""

    name: str
    settings: str
    step: Callable[[], None]
    wait: Callable[[], None]
    state_bytes: int
    weights: Callable[[], dict[str, np.ndarray]]


def defaults(device: str) -> tuple[str, ...]:
    """Who is compared on a device."""
    return ("ours", "numpy", "plain", "lean") if device == "cpu" else ("ours", "plain", "compiled")


def candidates(name: str, device: str) -> list[str]:
    """The settings that a contestant may choose from."""
    if name in OURS:
        return [""]
    if name != "compiled":
        return ["NHWC", "NCHW"]
    modes = ["max-autotune-no-cudagraphs", "eager"] if device == "cuda" else ["default"]
    return [f"NHWC, {mode}" for mode in modes]


def batch(spec: Any, n: int) -> tuple[np.ndarray, ...]:
    """x in [-1, 1], eps, z_p."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (n, spec.image_size, spec.image_size, spec.channels))
    return tuple(np.asarray(a, np.float32) for a in (x, *(rng.standard_normal((n, spec.latent)) for _ in range(2))))


def make(name: str, spec: Any, n: int, *, device: str, precision: str, settings: str = "") -> Contestant:
    """A contestant with a batch of ``n`` images. ``spec``: a `NetworkSpec`; ``settings``: one of `candidates`."""
    from bench.side import side
    from models.objective import Objective
    from models.vaegan import VAEGAN

    here = side(device, precision, "numpy" if name == "numpy" else "auto")
    model = VAEGAN(here.engine, spec, seed=0)
    state = model.state_arrays()
    if name not in OURS:
        host = {key: np.array(here.engine.to_numpy(array)) for key, array in state.items()}
        del model, state
        gc.collect()
        return _peer(name, spec, host, batch(spec, n), here, settings or candidates(name, device)[0])
    engine, arrays = here.engine, batch(spec, n)
    x, (eps, z_p) = engine.asarray(arrays[0]), (engine.asarray(a, engine.wide) for a in arrays[1:])
    rate = LR if device == "cpu" else engine.asarray(np.full(1, LR), engine.wide)
    objective = Objective(gate=False)  # the gate would skip work of ours alone
    step = engine.record(lambda: model.train_step(x, eps, z_p, objective, rate))
    copies = sum(p.compute.nbytes for p in model.parameters if p.compute is not p.data)

    def weights() -> dict[str, np.ndarray]:
        return {p.name: np.array(engine.to_numpy(p.data)) for p in model.parameters}

    return Contestant(name, settings, step, here.wait, copies + sum(a.nbytes for a in state.values()), weights)


def _peer(name: str, spec: Any, state: dict[str, np.ndarray], arrays: tuple[np.ndarray, ...], here: Any, settings: str) -> Contestant:
    """PyTorch from these weights."""
    import torch

    from bench.peers.compiled import Compiled, Settings
    from bench.peers.networks import Networks
    from bench.peers.pytorch import Lean, Plain
    from bench.side import prepare_torch

    prepare_torch(here)
    layout, _, mode = settings.partition(", ")
    last = layout == "NHWC"
    memory_format = torch.channels_last if last else torch.contiguous_format
    networks = Networks.from_state(state, spec.metric).to(here.torch_device, memory_format=memory_format)
    if name == "compiled":
        chosen = Settings(
            compile=None if mode == "eager" else mode, autocast=here.precision == "bf16", channels_last=last, graph=here.on_gpu
        )
        peer: Any = Compiled(networks, chosen, lr=LR)
    else:
        peer = {"plain": Plain, "lean": Lean}[name](networks, lr=LR)
    x, eps, z_p = (torch.from_numpy(a.copy()).to(here.torch_device) for a in arrays)
    x = x.permute(0, 3, 1, 2).contiguous(memory_format=memory_format)
    kept = [*networks.parameters(), *networks.buffers()]
    squares = sum(p.nbytes for p in networks.parameters())  # RMSProp's state, made in the first step

    def weights() -> dict[str, np.ndarray]:
        return networks.gradients({name: t.cpu() for name, (t, is_parameter) in networks.tensors().items() if is_parameter})

    return Contestant(name, settings, lambda: peer.step(x, eps, z_p), here.wait, squares + sum(t.nbytes for t in kept), weights)


def fastest(name: str, spec: Any, n: int, *, device: str, precision: str) -> str:
    """The best of a contestant's settings, by the least of three steps after two."""
    from bench.side import side

    choices = candidates(name, device)
    if len(choices) == 1:
        return choices[0]
    times = {}
    for settings in choices:
        contestant = make(name, spec, n, device=device, precision=precision, settings=settings)
        for _ in range(2):
            contestant.step()
        times[settings] = min(side(device, precision).elapsed(contestant.step) for _ in range(3))
        del contestant
        gc.collect()
    return min(times, key=times.__getitem__)
