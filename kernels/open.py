"""The only switch between engines: ``engine("cpu", "float32")``. Never a silent fallback: where the CPU's native engine cannot be had,
the NumPy engine's ``notice`` says why."""

from __future__ import annotations

from collections.abc import Callable

from kernels.engine import PRECISIONS, Engine

#: Of the CPU: C++ compiled for this machine, NumPy and BLAS, or the first where it can be had.
IMPLEMENTATIONS = ("auto", "native", "numpy")


def engine(
    device: str = "cpu", precision: str = "float32", threads: int | None = None, *,
    implementation: str = "auto", progress: Callable[[str], None] | None = None,
) -> Engine:  # fmt: skip
    """The engine of ``device`` ("cpu" or "cuda") in ``precision``.

    Args:
        device: "cpu" or "cuda".
        precision: "float32" or "float64" on the CPU; "bf16", "tf32" or "float32" on a GPU; "auto": float32 on the CPU, on a GPU
            bf16 where its tensor cores have that.
        threads: worker threads of the CPU engine; None means every core the process may use.
        implementation: of the CPU: "native" (C++, float32 alone, compiled at first use), "numpy", or "auto": native in float32 where a
            compiler is found, else NumPy.
        progress: called with one line where the native engine must be compiled, which takes some seconds.

    Raises:
        ValueError: an unknown device, precision or implementation, ones that do not go together, or threads < 1.
        RuntimeError: the device or the implementation cannot be used here; one line that says why.
    """
    if device not in ("cpu", "cuda"):
        raise ValueError(f"device: got {device!r}, expected 'cpu' or 'cuda'")
    if precision not in (*PRECISIONS, "auto"):
        raise ValueError(f"precision: got {precision!r}, expected one of {', '.join(PRECISIONS)}")
    if implementation not in IMPLEMENTATIONS:
        raise ValueError(f"implementation: got {implementation!r}, expected one of {', '.join(IMPLEMENTATIONS)}")
    if device == "cuda":
        if implementation != "auto":
            raise ValueError(f"implementation: got {implementation!r}, which is the CPU's; use 'auto' on a GPU")
        from kernels.cuda.open import open_engine

        return open_engine(precision)
    precision = "float32" if precision == "auto" else precision
    if precision not in ("float32", "float64"):
        raise ValueError(f"precision: got {precision!r}, which needs a GPU; the CPU engine has float32 and float64")
    if threads is not None and threads < 1:
        raise ValueError(f"threads: got {threads}, expected at least 1")
    if implementation == "native" and precision == "float64":
        raise ValueError("implementation: got 'native', but float64 is the NumPy engine's; use 'numpy' or 'auto'")
    why = ""
    if implementation != "numpy" and precision == "float32":
        from kernels.cpu.native.commands import Unavailable
        from kernels.cpu.native.open import open_engine as open_native

        try:
            return open_native(threads, progress=progress)
        except Unavailable as error:
            if implementation == "native":
                raise RuntimeError(f"engine native: {error}") from None
            why = str(error)
    from kernels.cpu.engine import CPUEngine

    numpy_engine = CPUEngine(precision, threads)
    numpy_engine.notice = why
    return numpy_engine
