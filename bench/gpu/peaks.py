"""Section ``peaks``: the two ceilings that floors are quoted against, measured with libraries and not read from a data sheet:
a large copy within the device's memory, and a large matrix product through PyTorch or CuPy (cuBLAS) on random numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bench.gpu.common import Options, Report, about, open_engine
from kernels.cuda.device.timing import Span, timed

SIZE = 8192  # of the square matrices


def copy_peak(device: Any, nbytes: int) -> tuple[float, Span]:
    """Bytes a second, those read and those written counted, of a copy of ``nbytes``."""
    source, target = (device.empty((nbytes,), np.uint8) for _ in range(2))
    if device.name == "gpu":
        source.data.memset_async(1, nbytes, device.stream)

        def work() -> None:
            target.data.copy_from_device_async(source.data, nbytes, device.stream)
    else:
        source[...] = 1

        def work() -> None:
            np.copyto(target, source)

    work()
    span = timed(device, work, rounds=9)
    return 2 * nbytes / span.median, span


def torch_product(name: str, size: int) -> Any:
    """A product of two random matrices in PyTorch, and what to time it with; None where PyTorch has no CUDA."""
    try:
        import torch
    except ImportError:
        return None
    if not torch.cuda.is_available():
        return None
    torch.backends.cuda.matmul.allow_tf32 = name == "tf32"
    kind = torch.bfloat16 if name == "bf16" else torch.float32
    a, b = (torch.randn(size, size, device="cuda", dtype=kind) for _ in range(2))
    out = torch.empty_like(a)

    def seconds(calls: int) -> float:
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(calls):
            torch.matmul(a, b, out=out)
        end.record()
        end.synchronize()
        return float(begin.elapsed_time(end)) / 1e3 / calls

    return seconds


def cupy_product(name: str, size: int) -> Any:
    """The same through CuPy, which has float16 (as fast as bf16) and float32."""
    import cupy

    if name == "tf32":
        return None
    kind = cupy.float16 if name == "bf16" else cupy.float32
    a, b = (cupy.random.standard_normal((size, size), dtype=cupy.float32).astype(kind) for _ in range(2))
    out = cupy.empty((size, size), kind)

    def seconds(calls: int) -> float:
        begin, end = cupy.cuda.Event(), cupy.cuda.Event()
        begin.record()
        for _ in range(calls):
            cupy.matmul(a, b, out=out)
        end.record()
        end.synchronize()
        return float(cupy.cuda.get_elapsed_time(begin, end)) / 1e3 / calls

    return seconds


def product_peak(name: str, size: int) -> tuple[float, str]:
    """Operations a second of the product, and the library. Raises `RuntimeError` where none can do it."""
    tried = []
    for library, make in (("torch", torch_product), ("cupy", cupy_product)):
        try:
            seconds = make(name, size)
            if seconds is None:
                continue
            for _ in range(3):
                seconds(1)
            values = sorted(seconds(5 if name != "float32" else 2) for _ in range(7))
            return 2.0 * size**3 / values[3], library + (" float16" if library == "cupy" and name == "bf16" else "")
        except Exception as error:
            tried.append(f"{library}: {type(error).__name__}: {str(error)[:120]}")
    raise RuntimeError("; ".join(tried) or "no library for it")


def peaks_section(options: Options, report: Report) -> None:
    """Copies of three sizes; products in each precision."""
    engine = open_engine(options, options.precisions[0])
    report.note(about=about(engine))
    summary = []
    for megabytes in (16,) if options.host else (64, 1024, 4096):
        try:
            rate, span = copy_peak(engine.device, megabytes << 20)
        except RuntimeError as error:  # a GPU with less memory
            report.row(f"copy of {megabytes} MiB: not measured: {error}", label=f"copy {megabytes} MiB", why=str(error))
            continue
        report.row(f"copy of {megabytes} MiB: {rate / 1e12:.3f} TB/s", label=f"copy {megabytes} MiB", bytes_per_s=rate, **span.as_dict(1e6))
        summary.append(f"copy {megabytes} MiB {rate / 1e12:.2f} TB/s")
    report.note(bandwidth=max((row.get("bytes_per_s", 0.0) for row in report.result["rows"]), default=0.0))
    products: dict[str, float] = {}
    for name in ("bf16", "tf32", "float32") if not options.host else ():
        try:
            products[name], library = product_peak(name, SIZE)
        except RuntimeError as error:
            report.row(f"product in {name}: not measured: {error}", label=f"product {name}", why=str(error))
            continue
        text = f"product {SIZE}³ {name} {products[name] / 1e12:.0f} TFLOP/s ({library})"
        report.row(text, label=f"product {name}", flops_per_s=products[name], library=library)
        summary.append(text)
    report.note(products=products, summary=["; ".join(summary)])
