"""Base of the operation files: what each finds on the engine that it is part of."""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels.cuda.device.base import Device


class Operations:
    """Unchecked forms of operations of the contract. ``device``, ``precision``, ``dtype`` and ``wide`` are the engine's."""

    device: Device
    precision: str
    dtype: np.dtype[Any]
    wide: np.dtype[Any]
