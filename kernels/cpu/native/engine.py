"""The native engine: NumPy arrays, and the operations of this folder's C++ library in float32; what it has not is the NumPy engine's."""

from __future__ import annotations

from typing import Any

from kernels.cpu.engine import CPUEngine
from kernels.cpu.native.batch import Batch
from kernels.cpu.native.convolutions import Convolutions
from kernels.cpu.native.elementwise import Elementwise
from kernels.cpu.native.latent import Latent
from kernels.cpu.native.linear import Linear
from kernels.cpu.native.losses import Losses
from kernels.cpu.native.optimizer import Optimizer
from kernels.cpu.native.random import Random


class NativeEngine(Convolutions, Linear, Elementwise, Latent, Losses, Optimizer, Batch, Random, CPUEngine):
    """As `CPUEngine` in float32; made by `kernels.cpu.native.open.open_engine`. Bits do not depend on the number of threads.

    ``library`` is what `kernels.cpu.native.library.load` gives; ``vectors`` and ``compiler`` say how it was made.
    """

    def __init__(self, library: Any, thread_count: int | None = None, *, vectors: str = "", compiler: str = ""):
        super().__init__("float32", thread_count)
        self.library, self.vectors, self.compiler = library, vectors, compiler
        library.set_threads(self.threads)

    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "engine": "native", "vectors": self.vectors, "compiler": self.compiler}
