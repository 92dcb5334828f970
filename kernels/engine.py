"""An engine: every operation of the contract on one device in one precision, and its memory.

What holds for every operation:

- outputs come first and are given by the caller: C-contiguous arrays, overwritten, never accumulated into;
- inputs are C-contiguous; a wrong shape, dtype or layout is a `ValueError` that says which argument, what was got and what was
  expected;
- an engine has two dtypes: ``dtype`` of activations, errors and the operands of products, and ``wide`` of parameters, their
  gradients and optimiser state, batch-norm statistics and sums, noise, μ, log σ² and logits (what losses read). On the CPU and in
  float32 they are one. An array is of ``dtype`` unless its operation says "wide" or another;
- activations are NHWC, convolution weights ``[KH, KW, Cin, Cout]``, linear weights ``[in, out]``;
- a gradient that is not wanted is passed as ``None``;
- losses are float64 sums; statistics are accumulated in at least float32;
- a learning rate is a float or a wide array [1], a step number an int or an int64 array [1]: a recorded step reads both from arrays.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import numpy as np

from kernels.contract.activations import Activations
from kernels.contract.batch import Batch
from kernels.contract.conv2d import Conv2d
from kernels.contract.conv_transpose2d import ConvTranspose2d
from kernels.contract.elementwise import Elementwise
from kernels.contract.fused import Fused
from kernels.contract.latent import Latent
from kernels.contract.linear import Linear
from kernels.contract.losses import Losses
from kernels.contract.operation import Array
from kernels.contract.optimizer import Optimizer
from kernels.contract.parts import Parts
from kernels.contract.previous import Finish
from kernels.contract.random import Random

PRECISIONS = ("float32", "float64", "tf32", "bf16")


ALIGNED = 64  # elements: where each of several arrays begins in theirs


class Gradients(NamedTuple):
    """The gradients of one network: ``arrays``, one a parameter, all of them views of ``flat``; ``summed``, one of those or None, has those
    that each process makes of its own images alone."""

    arrays: list[Array]
    flat: tuple[Array, ...]
    summed: Array


class OutOfMemory(RuntimeError):
    """A device has no room. Attributes ``needed`` and ``free``: bytes."""

    def __init__(self, needed: int, free: int):
        super().__init__(f"device cuda: out of memory: {needed:,} bytes more were needed, {free:,} are free")
        self.needed, self.free = needed, free


class CompilationError(RuntimeError):
    """Kernels of a GPU do not compile: their names, for which chip, why; one line."""


class Engine(
    Conv2d, ConvTranspose2d, Linear, Fused, Finish, Activations, Latent, Losses, Optimizer, Batch, Elementwise, Parts, Random,
):  # fmt: skip
    """Operations on one device in one precision. Made by `engine`, not by hand.

    Attributes: ``name`` ("cpu" or "cuda"), ``precision``, ``dtype`` (of activations and operands), ``wide`` (of parameters and
    statistics), ``threads`` (0 on a GPU), ``device`` (what a GPU's launches run on; None on the CPU), ``host_memory`` (whether values
    can be read at once: a step then leaves out what the equilibrium gate holds back), ``notice`` (a line for the user; on the CPU why it
    is not the native engine), ``compiling`` (told (done, of) while a GPU's kernels are compiled, or None).
    """

    name: str
    precision: str
    threads: int
    device: Any = None
    notice = ""
    compiling: Callable[[int, int], None] | None = None

    @property
    def capturing(self) -> bool:
        """Whether what is done now becomes part of a graph (`record`), which keeps the addresses of its arrays."""
        return self.device is not None and bool(self.device.capturing)

    def empty(self, shape: tuple[int, ...], dtype: Any = None) -> Array:
        """An uninitialised array of the device, of the engine's dtype unless another is given."""
        raise NotImplementedError

    def asarray(self, array: Any, dtype: Any = None) -> Array:
        """A device array, C-contiguous and of the engine's dtype (or of ``dtype``), from anything NumPy reads."""
        raise NotImplementedError

    def put(self, array: Array, values: Any) -> None:
        """Copy values that NumPy reads into a device array of the same shape, converting the type."""
        raise NotImplementedError

    def upload_images(self, images: np.ndarray) -> Array:
        """A uint8 data set [n, H, W, C] where `gather_batch` can read it: on a GPU a copy there. Raises `OutOfMemory`."""
        raise NotImplementedError

    def ring(self, slots: int, shape: tuple[int, ...]) -> Any:
        """Of a GPU: room for ``slots`` batches uint8 [N, H, W, C] beside each other, which the host fills ahead of the launches that read
        them: a `kernels.cuda.device.ring.Ring`. Raises `OutOfMemory`."""
        raise NotImplementedError

    def to_numpy(self, array: Array) -> np.ndarray:
        """The same values as a NumPy array; bfloat16 as float32."""
        raise NotImplementedError

    def record(self, body: Callable[[], None]) -> Callable[[], None]:
        """A function that does what ``body`` does. A GPU runs it until nothing is allocated any more, then records it as one graph and
        replays that: ``body`` must issue the same operations on the same arrays each time."""
        return body

    def prepare(self, body: Callable[[], None]) -> None:
        """Make ready what ``body`` will need, without doing what it does: a GPU's kernels are compiled, many at once, or found in the
        caches of earlier runs. It is called for that, must launch what it will launch later, and reads nothing but zeros.

        Raises:
            CompilationError: some kernel does not compile. OutOfMemory: as ``body`` itself.
        """

    def together(self) -> AbstractContextManager[None]:
        """Within it nobody reads a parameter's gradient (dw, dbias), nor what `linear_forward` gives: both are there at the end, so that a
        GPU can finish all of them at once."""
        return nullcontext()

    def fixed_weights(self) -> AbstractContextManager[None]:
        """For a model to keep, and to enter anew in each step: within it no weights of products change, so that a GPU can bring them into
        the order that its kernels read at once, and only once."""
        return nullcontext()

    def unchanged(self, array: Array) -> AbstractContextManager[None]:
        """Within it nobody writes to ``array``, so that a GPU needs to make what its kernels read in place of it only once."""
        return nullcontext()

    def synchronize(self) -> None:
        """Wait for everything that was asked of the device."""

    # ---- where several processes share a batch (`kernels.ranks.engine`); else it is all here ----

    def shard(self, images: int) -> tuple[int, int]:
        """Of a batch of ``images`` those of this process: (number of the first one, how many)."""
        return 0, images

    def of_all(self, rows: int) -> int:
        """How many there are in all processes where this one has ``rows``, some for each of its images."""
        return rows

    def gathers(self, shape: tuple[int, ...], times: int) -> bool:
        """Whether a weight's gradient is whole as soon as it is made. ``times``: rows that it is made of for each image, at most."""
        return True

    def gradients(self, shapes: Sequence[tuple[int, ...]], times: int) -> Gradients:
        """Wide arrays for the gradients of one network, 0 at first; ``times`` as of `gathers`."""
        flat, arrays = self.side_by_side(shapes)
        return Gradients(arrays, (flat,), None)

    def side_by_side(self, shapes: Sequence[tuple[int, ...]]) -> tuple[Array, list[Array]]:
        """A wide array of zeros, and views of it, each of one of ``shapes``."""
        ends = list(itertools.accumulate(-(-math.prod(shape) // ALIGNED) * ALIGNED for shape in shapes))
        flat = self.empty((ends[-1],), self.wide)
        self.fill(flat, 0)
        return flat, [flat[a:][: math.prod(shape)].reshape(shape) for a, shape in zip((0, *ends), shapes, strict=False)]

    def total(self, gradients: Sequence[Gradients], losses: Array) -> None:
        """``gradients`` and float64 ``losses`` become those of the whole batch, where they are not yet."""

    def describe(self) -> dict[str, Any]:
        """What the bits of a result depend on besides data and software: the device, its precision, its settings."""
        raise NotImplementedError
