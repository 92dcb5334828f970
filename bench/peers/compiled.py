"""The same step in PyTorch at its best: `Lean`'s passes, compiled, in bf16, channels last, and on a GPU replayed as one CUDA graph.

What each setting is for: `torch.compile(mode="max-autotune")` fuses what is between the convolutions, and the optimiser's update into
a few kernels; autocast runs matrix products in bf16 with float32 weights and statistics, as our engine does; `channels_last` is cuDNN's
own layout for tensor cores; `cudnn.benchmark` lets it try its algorithms; the CUDA graph removes every launch and every wait. What does
not help can be left out: `Settings` says what is on, and `bench.step` takes the fastest of the sensible ones.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from bench.peers.networks import Networks
from bench.peers.pytorch import Lean, optimizer


@dataclass(frozen=True)
class Settings:
    """What PyTorch is given. ``compile``: a mode of `torch.compile`, or None: eager. ``graph``: capture the step (GPU only)."""

    compile: str | None = "max-autotune-no-cudagraphs"  # the whole step is captured here, so the compiler need not capture its parts
    backend: str = "inductor"  # "aot_eager": the compiler's graphs without its code, for tests
    autocast: bool = True
    channels_last: bool = True
    graph: bool = True

    def __str__(self) -> str:
        words = [f"compile {self.compile}" if self.compile else "eager", "bf16 autocast" if self.autocast else "",
                 "channels last" if self.channels_last else "NCHW", "CUDA graph" if self.graph else ""]  # fmt: skip
        return ", ".join(word for word in words if word)


class Compiled(Lean):
    """`Lean` with these settings, on any device.

    Args:
        networks: on their device already, weights loaded.
        settings: see `Settings`; ``graph`` is ignored on the CPU.
        options: of `Peer` (gamma, real_weight, gan_eps, lr).
    """

    def __init__(self, networks: Networks, settings: Settings | None = None, **options: Any):
        self.settings = settings or Settings()
        self.device = next(networks.parameters()).device
        self.on_gpu = self.device.type == "cuda"
        if self.settings.channels_last:
            networks = networks.to(memory_format=torch.channels_last)
        super().__init__(networks, **options)
        lr = options.get("lr", 3e-4)
        self.optimizers = [optimizer(m, lr, True, capturable=self.on_gpu) for m in self.modules]
        self.captured: Callable[[], None] | None = None
        self.inputs: tuple[Tensor, ...] = ()
        self.compiled = False

    def compile(self) -> None:
        """Replace the networks' parts by compiled functions; before the first step."""
        if self.settings.compile is None or self.compiled:
            return
        import torch._functorch.config

        torch._functorch.config.donated_buffer = False  # two backward passes run through one compiled forward
        mode = self.settings.compile if self.settings.backend == "inductor" else None

        def make(f: Callable[..., Any]) -> Callable[..., Any]:
            return torch.compile(f, mode=mode, backend=self.settings.backend)

        for name in ("encode", "decode", "trunk", "top"):
            setattr(self, name, make(getattr(self, name)))
        for opt in self.optimizers:
            opt.step = make(opt.step)  # type: ignore[method-assign]
        self.compiled = True

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        return torch.autocast(self.device.type, torch.bfloat16) if self.settings.autocast else contextlib.nullcontext()

    def gradients(self, x: Tensor, eps: Tensor, z_p: Tensor) -> list[list[Tensor]]:
        with self.autocast():
            return super().gradients(x, eps, z_p)

    def step(self, x: Tensor, eps: Tensor, z_p: Tensor) -> None:
        """One training step; on a GPU with ``graph`` the first call warms up and captures, the others copy the inputs in and replay."""
        self.compile()
        if not (self.on_gpu and self.settings.graph):
            super().step(x, eps, z_p)
            return
        if self.captured is None:
            self.capture(x, eps, z_p)
        for kept, new in zip(self.inputs, (x, eps, z_p), strict=True):
            if kept is not new:
                kept.copy_(new)
        assert self.captured is not None
        self.captured()

    def capture(self, x: Tensor, eps: Tensor, z_p: Tensor) -> None:
        """Record the step. Three steps on a side stream come first, as PyTorch asks; they train, so the state is restored after them."""
        self.inputs = tuple(t.clone(memory_format=torch.preserve_format) for t in (x, eps, z_p))
        before = [t.clone() for t in self.state()]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                super().step(*self.inputs)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            super().step(*self.inputs)
        with torch.no_grad():
            for tensor, kept in zip(self.state(), before, strict=False):  # the optimisers' state is new; it began with zeros
                tensor.copy_(kept)
            for tensor in self.state()[len(before) :]:
                tensor.zero_()
        self.captured = graph.replay

    def state(self) -> list[Tensor]:
        """Parameters, running statistics, then what the optimisers keep."""
        kept = [v for opt in self.optimizers for entry in opt.state.values() for v in entry.values() if isinstance(v, Tensor)]
        return [*self.networks.parameters(), *self.networks.buffers(), *kept]

    # Latents, images and losses leave the compiled parts in float32, whatever autocast does inside.

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mu, logvar = super().encode(x)
        return wide(mu), wide(logvar)

    def decode(self, z: Tensor) -> Tensor:
        return wide(super().decode(z))

    def gan_loss(self, logits: Tensor, n: int) -> Tensor:
        return super().gan_loss(wide(logits), n)


def wide(t: Tensor) -> Tensor:
    """bf16 as float32, others as they are."""
    return t.float() if t.dtype == torch.bfloat16 else t
