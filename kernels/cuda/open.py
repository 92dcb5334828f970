"""Opening the CUDA engine on the GPU of this machine. Nothing of it is imported before it is asked for."""

from __future__ import annotations

from typing import Any


def open_engine(precision: str = "auto") -> Any:
    """The engine of the current NVIDIA GPU. "auto": bf16 on sm_80 and later, float32 below, which ``notice`` then says.

    Raises:
        ValueError: a precision that this GPU does not have.
        RuntimeError: no usable GPU, driver or package; one line, "device cuda: …".
    """
    from kernels.cuda.device.gpu import open_device

    device = open_device()  # before Triton is imported: it says in one line what is missing
    from kernels.cuda.engine import CUDAEngine
    from kernels.cuda.tuning import tile_cache

    modern = device.chip.capability >= (8, 0)
    if not modern and precision in ("bf16", "tf32"):
        raise ValueError(f"precision: got {precision!r}, but {device.chip.name} (sm_{device.chip.sm}) has only float32")
    engine = CUDAEngine(device, ("bf16" if modern else "float32") if precision == "auto" else precision)
    notices = [f"{device.chip.name} (sm_{device.chip.sm}) is older than sm_80: float32"] if precision == "auto" and not modern else []
    if warning := tile_cache.load(device.chip):  # the tuner's winners, if it ran here
        notices.append(warning)
    engine.notice = "; ".join(notices)
    return engine
