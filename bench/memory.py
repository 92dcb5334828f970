"""Peak memory of two training steps of one contestant, in a process of its own."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import subprocess
import sys
from pathlib import Path


def measure(name: str, network: str, n: int, *, device: str, precision: str, settings: str) -> dict[str, float]:
    """{"peak_mb", "state_mb" (parameters, optimiser, statistics), "activations_mb" (all else that the step holds), "imports_mb"}.

    On the CPU the peak is the process's resident memory, imports (the interpreter and libraries, before any array) included. On a GPU it is
    what the side's allocator asked the driver for at most, so without the driver's own context, and imports are 0.
    """
    words = [name, network, str(n), device, precision, settings]
    done = subprocess.run([sys.executable, "-m", "bench.memory", *words], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{name}, {network}, batch {n}: {done.stderr.strip().splitlines()[-1:] or 'no message'}")
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def resident_mb() -> float:
    """Peak resident memory of this process. Not ru_maxrss on Linux: there a child starts with its parent's peak."""
    status = Path("/proc/self/status")
    if status.exists():
        return next(float(line.split()[1]) / 1024 for line in status.read_text().splitlines() if line.startswith("VmHWM"))
    try:
        import resource
    except ImportError:
        raise RuntimeError("this system does not say how much memory a process has had") from None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024.0**2 if sys.platform == "darwin" else 1024.0)


def reset_peak() -> None:
    """Give freed memory back to the system and restart `resident_mb` from what is held now (Linux; elsewhere nothing)."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")


def alone(name: str, network: str, n: int, *, device: str, precision: str, settings: str) -> dict[str, float]:
    """The child of `measure`."""
    from bench.contestants import OURS, make
    from bench.gpu.common import spec_of

    if name in OURS:
        import kernels
        import models.vaegan

        _ = kernels, models.vaegan
    else:
        import bench.peers.compiled

        _ = bench.peers.compiled
    imports = resident_mb() if device == "cpu" else 0.0
    contestant = make(name, spec_of(network), n, device=device, precision=precision, settings=settings)
    reset_peak()  # PyTorch's weights came from a model of ours, gone by now: it is not to be charged for that
    for _ in range(2):
        contestant.step()
    contestant.wait()
    peak, state = resident_mb() if device == "cpu" else device_mb(name), contestant.state_bytes / 2**20
    parts = {"peak": peak, "state": state, "activations": peak - state - imports, "imports": imports}
    return {f"{key}_mb": round(value, 1) for key, value in parts.items()}


def device_mb(name: str) -> float:
    """The most GPU memory that a side's allocator has held."""
    if name == "ours":
        import cupy

        return float(cupy.get_default_memory_pool().total_bytes()) / 2**20
    import torch

    return torch.cuda.max_memory_reserved() / 2**20


def main() -> None:
    """The child: the arguments of `measure` in their order."""
    name, network, n, device, precision, settings = sys.argv[1:]
    print(json.dumps(alone(name, network, int(n), device=device, precision=precision, settings=settings)))


if __name__ == "__main__":
    main()
