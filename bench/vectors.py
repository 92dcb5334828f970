"""PyTorch and our library held to the same vectors of the processor, and a check that PyTorch obeys.

    python -m bench.vectors avx2

A library reads what it may use from the environment when it is loaded: `held` says what must be there before.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.report.tables import held_text

_AVX512 = "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR X86_V4"  # each NumPy knows some of these names
#: What is set for a level: our library's, PyTorch's own kernels', oneDNN's (convolutions), MKL's (PyTorch's products), those of NumPy and
#: its BLAS. MKL_ENABLE_INSTRUCTIONS is for Intel's processors; on others MKL has no AVX-512, and without MKL_CBWR no less than AVX2.
ENVIRONMENT = {
    "native": {},
    "avx2": {
        "VAEGAN_NATIVE_LEVEL": "avx2", "ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "OPENBLAS_CORETYPE": "Haswell", "NPY_DISABLE_CPU_FEATURES": _AVX512,
    },
    "baseline": {
        "VAEGAN_NATIVE_LEVEL": "baseline", "ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_CBWR": "COMPATIBLE",
        "OPENBLAS_CORETYPE": "Nehalem", "NPY_DISABLE_CPU_FEATURES": f"{_AVX512} AVX F16C FMA3 FMA4 XOP AVX2 X86_V3",
    },
}  # fmt: skip
LEVELS = tuple(ENVIRONMENT)
#: What PyTorch and oneDNN then say of themselves, and what no kernel of oneDNN and no line of MKL may name.
EXPECTED = {"avx2": ("AVX2", "Intel AVX2", "avx512"), "baseline": ("DEFAULT", "Intel SSE4.1", "avx")}
#: The C library's copies use AVX-512 in every process that may; without them /proc/self/arch_status tells of PyTorch's.
PLAIN_COPIES = "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512BW,-AVX512DQ,-AVX512CD"
STATUS, WATCHED = Path("/proc/self/arch_status"), 0.3  # seconds of steps


def missing(level: str) -> dict[str, str]:
    """What a process that is to be held to ``level`` lacks in its environment."""
    return {name: value for name, value in ENVIRONMENT[level].items() if os.environ.get(name) != value}


def check(level: str) -> dict[str, Any]:
    """What PyTorch uses in a process that is held to ``level``: see `found_here`, with "level".

    Raises:
        RuntimeError: it does not obey, or does not say; one line.
    """
    environment = {**os.environ, **ENVIRONMENT[level], "GLIBC_TUNABLES": PLAIN_COPIES, "BENCH_THREADS": "1"}
    done = subprocess.run([sys.executable, "-m", "bench.vectors"], capture_output=True, text=True, env=environment)
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        raise RuntimeError(f"--vectors {level}: PyTorch could not be asked: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    found = {"level": level, **json.loads(next(line for line in lines if line.startswith("{"))), **said(done.stdout)}
    if level in EXPECTED and (why := refusal(level, found)):
        raise RuntimeError(f"--vectors {level}: PyTorch does not keep to it: {why}")
    return found


def said(text: str) -> dict[str, Any]:
    """oneDNN's and MKL's own lines: {"onednn": its instructions, "kernels": those of convolutions, "mkl": what it is made for}."""
    isa = re.search(r"onednn_verbose,.*info,cpu,isa:(.*)", text)
    kernels = sorted(set(re.findall(r"exec,cpu,convolution,([^,]+),", text)))
    mkl = re.search(r"^MKL_VERBOSE oneMKL.* for (.*?)(?:,|$)", text, re.MULTILINE)
    mode = re.search(r"^MKL_VERBOSE .*\bCNR:(\S+)", text, re.MULTILINE)
    made_for = f"{mkl[1]}, MKL_CBWR {mode[1] if mode else 'unknown'}" if mkl else ""
    return {"onednn": isa[1].strip() if isa else "", "kernels": kernels, "mkl": made_for}


def refusal(level: str, found: dict[str, Any]) -> str:
    """What of ``found`` is not as ``level`` says; empty: nothing."""
    pytorch, onednn, forbidden = EXPECTED[level]
    for name, value in (("pytorch", pytorch), ("onednn", onednn)):
        if found[name] != value:
            return f"{name} says {found[name] or 'nothing'!r}, expected {value!r}"
    for text in (*found["kernels"], found["mkl"].lower().replace("-", "").replace("(r)", "")):
        if forbidden in text:
            return f"it runs {text}"
    if level == "baseline" and found["mkl"] and "COMPATIBLE" not in found["mkl"]:
        return f"MKL is for {found['mkl']}"
    return "a training step used AVX-512 registers" if found["avx512"] == "used" else ""


def idle() -> float | None:
    """Seconds since this thread was last seen with AVX-512 registers in use; None where the system does not say, or it never was."""
    time.sleep(0.02)  # the registers are looked at where a thread is taken from its core
    words = STATUS.read_text().split() if STATUS.exists() else []
    return int(words[1]) / 1000 if len(words) == 2 and words[0].startswith("AVX512") and int(words[1]) >= 0 else None


def avx512_in(work: Callable[[], Any]) -> str:
    """ "used" or "unused" by ``work``, called over and over; "unknown" where this process cannot tell."""

    def seen(body: Callable[[], Any]) -> bool | None:
        start = time.perf_counter()
        while time.perf_counter() - start < WATCHED:
            body()
            time.sleep(1e-3)
        since = idle()
        return None if since is None else since < time.perf_counter() - start

    copied = bytearray(1 << 20)
    control = seen(lambda: bytes(copied))
    if control or not STATUS.exists():
        return "unknown"
    return "used" if seen(work) else "unused"


def found_here() -> dict[str, Any]:
    """{"pytorch": the kernels it chooses, "blas": those of NumPy's BLAS, "avx512": `avx512_in` a lean step of `small32`}; a convolution
    in both layouts and a product print oneDNN's and MKL's lines (`said`)."""
    import torch
    from threadpoolctl import threadpool_info

    from bench.contestants import make
    from bench.gpu.common import spec_of

    lean = make("lean", spec_of("small32"), 4, device="cpu", precision="float32")
    avx512 = avx512_in(lean.step)
    x, w = torch.ones(2, 32, 16, 16), torch.ones(32, 32, 5, 5)
    with torch.no_grad(), torch.backends.mkldnn.verbose(1), torch.backends.mkl.verbose(1):
        for layout in (torch.contiguous_format, torch.channels_last):
            torch.nn.functional.conv2d(x.to(memory_format=layout), w.to(memory_format=layout), None, 2, 2)
        torch.mm(x[0, 0], x[0, 0])
    blas = next((info.get("architecture", "") for info in threadpool_info() if info["internal_api"] == "openblas"), "")
    return {"pytorch": torch.backends.cpu.get_cpu_capability(), "blas": blas, "avx512": avx512}


def main() -> None:
    """With a level: what PyTorch does when held to it. Without: the child of `check`."""
    if len(sys.argv) < 2:
        print("\n" + json.dumps(found_here()), flush=True)
        return
    if sys.argv[1] not in LEVELS:
        sys.exit(f"bench.vectors: got {sys.argv[1]!r}, expected one of {', '.join(LEVELS)}")
    try:
        print(held_text(check(sys.argv[1])))
    except RuntimeError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
