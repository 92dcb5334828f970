"""The only switch between devices: ``engine("cpu", "float32")``. Never a silent fallback."""

from __future__ import annotations

from kernels.engine import PRECISIONS, Engine


def engine(device: str = "cpu", precision: str = "float32", threads: int | None = None) -> Engine:
    """The engine of ``device`` ("cpu" or "cuda") in ``precision``.

    Args:
        device: "cpu" (NumPy and BLAS) or "cuda".
        precision: "float32" or "float64" on the CPU; "bf16", "tf32" or "float32" on a GPU; "auto": float32 on the CPU, on a GPU
            bf16 where its tensor cores have that.
        threads: worker threads of the CPU engine; None means every core the process may use.

    Raises:
        ValueError: an unknown device or precision, a precision that the device does not have, or threads < 1.
        RuntimeError: the device cannot be used here; one line that says why.
    """
    if device not in ("cpu", "cuda"):
        raise ValueError(f"device: got {device!r}, expected 'cpu' or 'cuda'")
    if precision not in (*PRECISIONS, "auto"):
        raise ValueError(f"precision: got {precision!r}, expected one of {', '.join(PRECISIONS)}")
    if device == "cuda":
        from kernels.cuda.open import open_engine

        return open_engine(precision)
    precision = "float32" if precision == "auto" else precision
    if precision not in ("float32", "float64"):
        raise ValueError(f"precision: got {precision!r}, which needs a GPU; the CPU engine has float32 and float64")
    if threads is not None and threads < 1:
        raise ValueError(f"threads: got {threads}, expected at least 1")
    from kernels.cpu.engine import CPUEngine

    return CPUEngine(precision, threads)
