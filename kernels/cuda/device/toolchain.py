"""The compilers held against driver and chip before the first launch: a driver does not load code of a newer CUDA than its own ("CUDA
Compatibility", NVIDIA: only within a major version), and no compiler knows every chip."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from typing import Any

from kernels.cuda.device.chips import Chip

CUDA_12 = "pip install '.[cuda12]' in the clone, in a new environment (CuPy takes NVRTC 13 where both are)"


def dotted(driver: int) -> str:
    """A version of CUDA as the driver has it, 12040, as people have it: "12.4"."""
    return f"{driver // 1000}.{driver % 1000 // 10}"


def check_nvrtc(chip: Chip, driver: int, version: tuple[int, int], chips: Sequence[int]) -> None:
    """Raise `RuntimeError` unless NVRTC of ``version``, which compiles for ``chips`` (75, 80, …), makes code that runs here."""
    name = f"device cuda: NVRTC {version[0]}.{version[1]}"
    if version[0] > driver // 1000:
        raise RuntimeError(f"{name} makes code that a driver of CUDA {dotted(driver)} does not load, NVRTC 12 would; {CUDA_12}")
    if chip.sm < min(chips):
        raise RuntimeError(f"{name} cannot compile for {chip.name} (sm_{chip.sm}), NVRTC 12 can; {CUDA_12}")


def choose_ptxas(chip: Chip, driver: int) -> None:
    """Let Triton assemble with a ptxas whose code this driver loads, here and in the processes that this one starts.

    Triton has two, and takes the newer one by the chip alone: from sm_100 on (3.6 to 3.8), from sm_90 on (3.9). That one is of CUDA 13
    since 3.7; the older one is 12.8 (3.6, 3.7) or 12.9. The version is part of the key of Triton's cache, so that code of one is not
    taken for the other's.

    Raises:
        RuntimeError: none of them serves; one line.
    """
    from triton import __version__, knobs
    from triton.backends.nvidia import compiler

    try:
        usual = compiler.get_ptxas(chip.sm)
    except (AttributeError, RuntimeError) as error:
        raise RuntimeError(f"device cuda: Triton {__version__} finds no ptxas ({error}); install Triton 3.6 to 3.9 anew") from error
    if _serves(usual, chip, driver):
        return
    found = [usual]
    for name in ("ptxas", "ptxas_blackwell"):
        try:
            found.append(getattr(knobs.nvidia, name))
        except RuntimeError:  # Windows: there is one
            continue
    tool = next((tool for tool in found if _serves(tool, chip, driver)), None)
    if tool is None:
        have = " and ".join(sorted({tool.version for tool in found}))
        raise RuntimeError(
            f"device cuda: ptxas {have} of Triton {__version__} cannot make code for {chip.name} (sm_{chip.sm}) that a driver of CUDA "
            f"{dotted(driver)} loads; update the driver, or Triton (3.9)"
        )
    knobs.nvidia.ptxas = knobs.nvidia.ptxas_blackwell = tool.path  # sets the environment, too
    compiler.get_ptxas_version.cache_clear()  # kept by chip, not by path


def _serves(tool: Any, chip: Chip, driver: int) -> bool:
    """Whether a ptxas makes code for the chip that the driver loads."""
    target = f"sm_{chip.sm}" + ("a" if chip.sm >= 90 else "")  # as Triton asks for it
    if int(tool.version.split(".")[0]) > driver // 1000:
        return False
    return f"'{target}'" in subprocess.run([tool.path, "--help"], capture_output=True, text=True, check=False).stdout
