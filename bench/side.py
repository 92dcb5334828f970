"""Where a comparison runs: our engine and PyTorch on one device, in one precision, and how calls are timed there.

BENCH_DEVICE is "cpu" (the default), "cuda", or "host" (the CUDA engine emulated, PyTorch on the CPU: a test of the benchmarks, not of
speed); BENCH_PRECISION is float32, tf32 or bf16 (default: float32, on a GPU bf16).

On a GPU each side's calls are captured in a CUDA graph, so that neither Python nor launches are timed, and cycle through several sets of
inputs, together twice as large as the L2 cache: a kernel that is repeated on the same arrays would find them in the cache.
"""

from __future__ import annotations

import functools
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

import kernels
from kernels.cpu.threads import available_cores

if TYPE_CHECKING:
    import torch  # imported where it is used: a process that measures our memory must not hold PyTorch

THREADS = int(os.environ.get("BENCH_THREADS", available_cores()))
LONGEST_SETS = 32
PAUSE = 5e-3  # seconds; PyTorch's threads spin for about a millisecond where they have nothing left to do
#: Relative error against PyTorch in the same precision that a result may have to be timed.
LIMITS = {"float32": 1e-4, "tf32": 5e-3, "bf16": 3e-2}


@dataclass(frozen=True)
class Side:
    """One device and precision. Attributes: ``engine`` (ours), ``on_gpu``, ``torch_device``, ``dtype`` (PyTorch's of activations)."""

    name: str
    precision: str
    engine: Any

    @property
    def on_gpu(self) -> bool:
        return self.name == "cuda"

    @property
    def torch_device(self) -> str:
        return "cuda" if self.on_gpu else "cpu"

    @property
    def dtype(self) -> torch.dtype:
        import torch

        return torch.bfloat16 if self.precision == "bf16" else torch.float32

    @property
    def limit(self) -> float:
        return LIMITS[self.precision]

    def tensor(self, array: Any, wide: bool = False) -> torch.Tensor:
        """A copy of one of our arrays for PyTorch, in its dtype of activations, or in float32 where ``wide``."""
        import torch

        values = torch.from_numpy(np.array(self.engine.to_numpy(array)))
        return values.to(self.torch_device, torch.float32 if wide and values.is_floating_point() else self.dtype)

    def wait(self) -> None:
        """Until both sides' work is done."""
        self.engine.synchronize()
        if self.on_gpu and "torch" in sys.modules:
            sys.modules["torch"].cuda.synchronize()

    def rest(self) -> None:
        """Before a turn: on the CPU until the threads of the one before are asleep, so that each side has all cores."""
        if not self.on_gpu:
            time.sleep(PAUSE)

    def sets(self, nbytes: float) -> int:
        """How many sets of ``nbytes`` of inputs and outputs to cycle through."""
        if not self.on_gpu:
            return 1
        import torch

        cache = torch.cuda.get_device_properties(0).L2_cache_size
        return int(min(LONGEST_SETS, max(2, -(-2 * cache // max(1, int(nbytes))))))

    def ours(self, calls: Sequence[Callable[[], Any]]) -> Callable[[], None]:
        """All of our ``calls`` as one: a graph on a GPU."""

        def body() -> None:
            for call in calls:
                call()

        run: Callable[[], None] = self.engine.record(body)
        for _ in range(3):  # allocates, has nothing left to allocate, captures
            run()
        return run

    def peer(self, calls: Sequence[Callable[[], Any]]) -> Callable[[], None]:
        """All of PyTorch's ``calls`` as one: a graph on a GPU, where they can be captured."""

        def body() -> None:
            for call in calls:
                call()

        if not self.on_gpu:
            return body
        import torch

        other = torch.cuda.Stream()  # PyTorch asks for a few calls on another stream before a capture
        other.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(other):
            for _ in range(3):
                body()
        torch.cuda.current_stream().wait_stream(other)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            body()
        return graph.replay

    def elapsed(self, work: Callable[[], Any], times: int = 1) -> float:
        """Seconds of one of ``times`` calls in a row, from an idle device until it is idle again."""
        if self.on_gpu:
            self.wait()
        start = time.perf_counter()
        for _ in range(times):
            work()
        if self.on_gpu:
            self.wait()
        return (time.perf_counter() - start) / times


def usual_precision(device: str) -> str:
    """What is compared on a device where nothing else is asked for."""
    return "bf16" if device == "cuda" else "float32"


@functools.cache
def side(name: str | None = None, precision: str | None = None, implementation: str = "auto") -> Side:
    """The side that BENCH_DEVICE and BENCH_PRECISION name, or these. ``implementation``: which engine of the CPU's (`kernels.engine`)."""
    name = name or os.environ.get("BENCH_DEVICE", "cpu")
    precision = precision or os.environ.get("BENCH_PRECISION") or usual_precision(name)
    if name == "cpu":
        return Side(name, precision, kernels.engine("cpu", precision=precision, threads=THREADS, implementation=implementation))
    if name == "host":
        os.environ.setdefault("TRITON_INTERPRET", "1")
        from kernels.cuda.engine import emulated_engine

        return Side(name, precision, emulated_engine(precision))
    return Side(name, precision, kernels.engine("cuda", precision=precision))


def prepare_torch(here: Side) -> None:
    """PyTorch's settings for a fair comparison: as many threads as our engine; cuDNN may try its algorithms, and use tf32 where we do."""
    import torch

    torch.set_num_threads(THREADS)
    if here.on_gpu:
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = here.precision != "float32"
