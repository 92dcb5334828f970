"""The native engine: NumPy arrays, and the operations of this folder's C++ library in float32; what it has not is the NumPy engine's."""

from __future__ import annotations

from typing import Any

from kernels.cpu.engine import CPUEngine
from kernels.cpu.native.batch import Batch
from kernels.cpu.native.elementwise import Elementwise
from kernels.cpu.native.latent import Latent
from kernels.cpu.native.losses import Losses
from kernels.cpu.native.optimizer import Optimizer
from kernels.cpu.native.random import Random


class NativeEngine(Elementwise, Latent, Losses, Optimizer, Batch, Random, CPUEngine):
    """As `CPUEngine` in float32; ``library`` is what `kernels.cpu.native.library.load` gives."""

    def __init__(self, library: Any, thread_count: int | None = None):
        super().__init__("float32", thread_count)
        self.library = library
        library.set_threads(self.threads)
