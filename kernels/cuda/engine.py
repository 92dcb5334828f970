"""The CUDA engine: the operations of kernels.engine as launches of Triton and CUDA C kernels on one `Device`.

The same object runs on a GPU, on the host (Triton interpreted, CUDA C compiled by the C++ compiler) and dry (launches
recorded, nothing executed): which of them is the device's business alone.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from kernels.contract.operation import Array
from kernels.cuda.activations import Activations
from kernels.cuda.batch import Batch
from kernels.cuda.device.base import Device
from kernels.cuda.device.ring import Ring
from kernels.cuda.elementwise import Elementwise
from kernels.cuda.fused import Fused
from kernels.cuda.latent import Latent
from kernels.cuda.losses import Losses
from kernels.cuda.optimizer import Optimizer
from kernels.cuda.parts import Parts
from kernels.cuda.products.packing import FixedWeights, unchanged
from kernels.cuda.products.partials import summed_together
from kernels.cuda.random import Random
from kernels.engine import Engine

PRECISIONS = ("bf16", "tf32", "float32")


class CUDAEngine(Fused, Activations, Latent, Losses, Optimizer, Batch, Elementwise, Parts, Random, Engine):
    """Operations on ``device`` in ``precision``.

    "bf16": activations, errors and operands in bfloat16, sums in float32; "tf32": float32 arrays, products on the tensor cores
    with 10-bit mantissas; "float32": strict. Parameters, gradients, statistics, latents, logits and optimiser state are float32
    in all three.

    Raises:
        ValueError: another precision.
    """

    def __init__(self, device: Device, precision: str = "bf16"):
        if precision not in PRECISIONS:
            raise ValueError(f"precision: got {precision!r}, which the CUDA engine does not have; expected one of {', '.join(PRECISIONS)}")
        self.name = "cuda"
        self.host_memory = False
        self.device = device
        self.precision = precision
        self.wide = np.dtype(np.float32)
        self.dtype = _bfloat16() if precision == "bf16" else self.wide
        self.threads = 0
        self.notice = ""

    # ---- memory ----

    def empty(self, shape: tuple[int, ...], dtype: Any = None) -> Array:
        return self.device.empty(shape, self.dtype if dtype is None else np.dtype(dtype))

    def asarray(self, array: Any, dtype: Any = None) -> Array:
        return self.device.upload(np.ascontiguousarray(np.asarray(array), self.dtype if dtype is None else np.dtype(dtype)))

    def to_numpy(self, array: Array) -> np.ndarray:
        host = self.device.download(array)
        return host.astype(np.float32) if host.dtype == self.dtype and self.dtype != self.wide else host

    def put(self, array: Array, values: Any) -> None:
        """Copy host values into a device array of the same shape, converting the type."""
        self.device.put(array, np.ascontiguousarray(np.asarray(values), array.dtype))

    def upload_images(self, images: np.ndarray) -> Any:
        return self.device.upload(np.ascontiguousarray(images, np.uint8))

    def ring(self, slots: int, shape: tuple[int, ...]) -> Ring:
        return Ring(self.device, slots, shape)

    # ---- execution ----

    def together(self) -> AbstractContextManager[None]:
        return summed_together(self.device)

    def unchanged(self, array: Array) -> AbstractContextManager[None]:
        return unchanged(self.device, array)

    def fixed_weights(self) -> AbstractContextManager[None]:
        return FixedWeights(self.device)

    def record(self, body: Callable[[], None]) -> Callable[[], None]:
        return self.device.record(body)

    def prepare(self, body: Callable[[], None]) -> None:
        self.device.prepare(body, self.compiling)

    def synchronize(self) -> None:
        """Wait until the device has done everything that was asked of it."""
        self.device.synchronize()

    def describe(self) -> dict[str, Any]:
        """Device, precision and tile table: with the versions, what a run's bits depend on."""
        from kernels.cuda.products import tiles

        chip = self.device.chip
        capability = ".".join(map(str, chip.capability))
        return {"device": chip.name, "capability": capability, "precision": self.precision, "tiles": tiles.describe()}


def _bfloat16() -> np.dtype[Any]:
    try:
        import ml_dtypes
    except ImportError:
        raise RuntimeError("device cuda: bf16 needs the package ml_dtypes; run: pip install ml_dtypes") from None
    return np.dtype(ml_dtypes.bfloat16)


def emulated_engine(precision: str = "float32", **options: Any) -> CUDAEngine:
    """The engine on the host: Triton interpreted (TRITON_INTERPRET=1 must be set before Triton is imported), CUDA C compiled by g++.

    For tests: every kernel runs, slowly, with memory poisoned and guarded. Options are `HostDevice`'s. The interpreter costs by the
    program, so the chip imitated by default has one multiprocessor to fill: the largest tiles.
    """
    from kernels.cuda.device.chips import CHIPS
    from kernels.cuda.device.host.device import HostDevice

    return CUDAEngine(HostDevice(**{"chip": CHIPS["sm_90"]._replace(multiprocessors=1), **options}), precision)


def dry_engine(chip: Any, precision: str = "bf16") -> CUDAEngine:
    """The engine that only records its launches: for tables of kernels, operations and bytes, and for memory estimates."""
    from kernels.cuda.device.dry import DryDevice

    return CUDAEngine(DryDevice(chip), precision)
