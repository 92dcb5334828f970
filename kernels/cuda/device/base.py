"""The device that launches run on: a GPU, an emulation of one in NumPy memory, or a recorder that executes nothing.

Launchers use this file only. All three devices take the same calls, so what is emulated, counted and compiled ahead of time
is what a GPU runs.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Concatenate, ParamSpec

import numpy as np

from kernels.contract.operation import Array
from kernels.cuda.device import arguments
from kernels.cuda.device.arguments import Descriptor, Refused
from kernels.cuda.device.chips import Chip, without_tma
from kernels.cuda.device.collective import Collecting
from kernels.cuda.device.ring import Copying
from kernels.engine import OutOfMemory
from kernels.ledger import Cost

__all__ = ["Descriptor", "Device", "Launch", "OutOfMemory", "boxes_or_pointers"]

_Arguments = ParamSpec("_Arguments")
_log = logging.getLogger("kernels")

GRID_LIMITS = (2**31 - 1, 65535, 65535)
BLOCK_LIMITS = (1024, 1024, 64)


def __getattr__(name: str) -> Any:
    """``BFLOAT16``, NumPy's dtype of it: only where it is used is ml_dtypes needed."""
    if name != "BFLOAT16":
        raise AttributeError(f"module {__name__} has no {name}")
    import ml_dtypes

    return np.dtype(ml_dtypes.bfloat16)


@dataclass(frozen=True)
class Launch:
    """One launch as recorded: all that compiling it ahead of time and counting it needs.

    ``kind`` is "triton" or "cuda"; ``source`` the Triton function, or the file name of CUDA C. ``signature`` has a kernel's
    argument types in order (Triton: by parameter name, constexprs included), ``aligned`` the names of arguments divisible by 16.
    """

    kind: str
    name: str
    source: Any
    grid: tuple[int, int, int]
    warps: int
    stages: int
    signature: dict[str, str]
    constexprs: dict[str, Any]
    aligned: tuple[str, ...]
    defines: tuple[str, ...]
    shared: int
    cost: Cost

    @property
    def title(self) -> str:
        """The name with the grid, which distinguishes the layers of a network."""
        return f"{self.name} {'×'.join(map(str, self.grid))}"


class Device(Collecting, Copying):
    """Memory and launches of one device.

    Attributes:
        name: "gpu", "host" or "dry".
        chip: what it is, or imitates.
        executes: False where launches are only recorded and memory is never touched.
        interpreted: True where Triton kernels run in Triton's interpreter, whose bfloat16 is wrong (`tl.dot` multiplies raw bits,
            float32 → bfloat16 truncates): launchers pass it as constexpr, and the kernel then casts to float32 before it computes.
        launches: None, or a list that each launch is appended to.
        pointers: names of the launchers that do without descriptors, since the driver refused one (`boxes_or_pointers`).
        capturing: True while launches become part of a graph, which keeps the addresses of their arrays.
        rehearsing: True while launches are checked and noted, and not executed.
    """

    name: str
    executes = True
    interpreted = False
    capturing = False
    rehearsing = False

    def __init__(self, chip: Chip):
        self.chip = chip
        self.launches: list[Launch] | None = None
        self.pointers: set[str] = set()

    @property
    def dependent(self) -> bool:
        """Whether kernels can begin before the launch before has ended: they then wait for it (`after_previous_launch`)."""
        return self.chip.dependent and not self.interpreted

    @functools.cached_property
    def counters(self) -> Any:
        """Integers that are 0 before and after every launch; one whose blocks wait for each other counts in them (`first_of_all`)."""
        return self.upload(np.zeros(6, np.uint32))

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """An uninitialised C-contiguous array, aligned to 256 bytes. Raises `OutOfMemory`."""
        raise NotImplementedError

    def scratch(self, key: str, shape: tuple[int, ...], dtype: Any) -> Any:
        """Working memory kept under ``key``: contents undefined at each call, valid until the next call with this key."""
        raise NotImplementedError

    def upload(self, array: np.ndarray) -> Any:
        """A new device array with the values of ``array``."""
        result = self.empty(array.shape, array.dtype)
        self.put(result, array)
        return result

    def put(self, array: Array, values: np.ndarray) -> None:
        """Copy host values into a device array of the same shape and dtype. Raises `ValueError` for another, and for a view with gaps."""
        if array.shape != values.shape or array.dtype != values.dtype:
            raise ValueError(f"put: got {values.dtype} {values.shape}, expected {array.dtype} {array.shape}")
        self.settle()
        self._put(_whole("put", array), np.ascontiguousarray(values))

    def _put(self, array: Array, values: np.ndarray) -> None:
        raise NotImplementedError

    def download(self, array: Array) -> np.ndarray:
        """The values of a device array, after everything launched before. Raises `ValueError` for a view with gaps."""
        array = _whole("download", array)
        self.settle()
        return np.zeros(array.shape, array.dtype) if self.rehearsing else self._download(array)

    def _download(self, array: Array) -> np.ndarray:
        raise NotImplementedError

    def synchronize(self) -> None:
        """Wait for everything launched."""
        self.settle()

    def record(self, body: Callable[[], None]) -> Callable[[], None]:
        """A function that does what ``body`` does: the same launches on the same arrays at every call, replayed as one graph where it can.

        ``body`` must launch the same kernels with the same arguments each time; numbers that change belong in device arrays.
        """
        return body

    def prepare(self, body: Callable[[], None], progress: Callable[[int, int], None] | None = None) -> None:
        """Make ready what ``body`` launches, by rehearsals: all is allocated and written as ever, nothing is launched, what is read is
        zeros. A GPU then compiles what was noted; ``progress`` is told (done, of). Raises as `Engine.prepare`."""
        if self.rehearsing:  # what follows is noted by the one around this
            return
        while self._make_ready(self._rehearsal(body), progress):
            continue  # what is ready now may be refused (`boxes_or_pointers`): another takes its place

    def _rehearsal(self, body: Callable[[], None]) -> list[Launch]:
        """What ``body`` launches."""
        self.settle()
        noted: list[Launch] = []
        kept, self.launches, self.rehearsing = self.launches, noted, True
        try:
            body()
            self.settle()
        finally:
            self.launches, self.rehearsing, self._held = kept, False, None
        return noted

    def _rehearse(self, launch: Launch, values: dict[str, Any]) -> None:
        """What can be tried of a launch without making it."""

    def _make_ready(self, launches: list[Launch], progress: Callable[[int, int], None] | None) -> bool:
        """Whether something was not ready yet; it is now."""
        return False

    def triton(self, kernel: Any, grid: tuple[int, ...], *args: Any, warps: int, stages: int, cost: Cost, **constexprs: Any) -> None:
        """Launch a ``@triton.jit`` function.

        Args:
            args: the parameters that are not constexpr, in order: arrays of this device (pointers), `Descriptor`, int (32 bits, or
                64 where needed; never specialised to 1), float (float32) or None (becomes a constexpr).
            constexprs: the constexpr parameters by name.

        Raises:
            TypeError: arguments that do not fit the function. RuntimeError: it could not be compiled, launched or run.
        """
        name = str(kernel.__name__)
        names, constants = arguments.parameters(kernel)
        if len(args) != len(names):
            raise TypeError(f"{name}: got {len(args)} arguments, expected {len(names)}: {', '.join(names)}")
        wanted = {constant for constant, default in constants.items() if default is inspect.Parameter.empty}
        if wrong := (wanted - set(constexprs)) | (set(constexprs) - set(constants)):
            raise TypeError(f"{name}: constexprs missing or unknown: {', '.join(sorted(wrong))}")
        values = dict(zip(names, args, strict=True))
        types = {key: arguments.triton_type(name, key, value) for key, value in values.items()}
        signature = {key: types.get(key, "constexpr") for key in kernel.arg_names}
        fixed = constants | constexprs | {key: None for key, value in values.items() if value is None}
        addresses = {key: self._address(value) for key, value in values.items()}
        aligned = tuple(key for key, address in addresses.items() if address is not None and address % 16 == 0)
        for key in (key for key, value in values.items() if isinstance(value, Descriptor)):
            if not self.chip.tma:
                raise RuntimeError(f"{name}: argument {key}: got a descriptor, {self.chip.name} has no TMA")
            if key not in aligned:
                raise ValueError(f"{name}: argument {key}: got a descriptor of an array that does not start at a multiple of 16 bytes")
        extents = arguments.extents(name, grid, GRID_LIMITS)
        self._launch(Launch("triton", name, kernel, extents, warps, stages, signature, fixed, aligned, (), 0, cost), values)

    def cuda(
        self,
        file: str,
        function: str,
        grid: int | tuple[int, ...],
        block: int | tuple[int, ...],
        *args: Any,
        cost: Cost,
        defines: tuple[str, ...] = (),
        shared: int = 0,
    ) -> None:
        """Launch an ``extern "C" __global__`` function of a CUDA C file in kernels/cuda; ``common.cuh`` precedes its text.

        Args:
            args: arrays of this device (pointers), NumPy scalars (by value) or None (null pointer).
            defines: names, or ``NAME=value``, defined for the preprocessor: ("ACT_BF16",).
            shared: bytes of dynamic shared memory.

        Raises:
            TypeError: an argument that is none of these. RuntimeError: it could not be compiled, launched or run.
        """
        threads = arguments.extents(function, block, BLOCK_LIMITS)
        if (count := threads[0] * threads[1] * threads[2]) > 1024:
            raise ValueError(f"{function}: got a block of {count} threads, expected at most 1024")
        if shared > self.chip.shared_bytes:
            raise RuntimeError(
                f"{function}: needs {shared} bytes of shared memory, a block of {self.chip.name} has {self.chip.shared_bytes}"
            )
        values = {str(i): value for i, value in enumerate(args)}
        signature = {key: arguments.cuda_type(function, key, value) for key, value in values.items()}
        extents = arguments.extents(function, grid, GRID_LIMITS)
        constants = {"block": threads}
        self._launch(Launch("cuda", function, file, extents, -(-count // 32), 0, signature, constants, (), defines, shared, cost), values)

    def _launch(self, launch: Launch, values: dict[str, Any]) -> None:
        self.settle()
        if self.rehearsing:
            self._rehearse(launch, values)
        elif launch.kind == "triton":
            self._run_triton(launch, values)
        else:
            self._run_cuda(launch, tuple(values.values()))
        if self.launches is not None:
            self.launches.append(launch)

    def _run_triton(self, launch: Launch, values: dict[str, Any]) -> None:
        raise NotImplementedError

    def _run_cuda(self, launch: Launch, args: tuple[Any, ...]) -> None:
        raise NotImplementedError

    def _address(self, value: Any) -> Any:
        """The device address of an array or descriptor; an int itself; None for what is never divisible."""
        raise NotImplementedError


def _whole(what: str, array: Array) -> Array:
    """``array``, whose bytes are copied as one piece."""
    if not array.flags.c_contiguous:
        raise ValueError(f"{what}: got a view of shape {array.shape} that is not C-contiguous, whose bytes are no piece of memory")
    return array


def boxes_or_pointers(launcher: Callable[Concatenate[Device, _Arguments], None]) -> Callable[Concatenate[Device, _Arguments], None]:
    """A launcher that loads by descriptor where ``dev.chip.tma``. Where the driver refuses the tensor map of one, it is called again, as on
    a chip without TMA, and so from then on, which is said once. What it writes it may write twice, so it must not read it."""
    name = launcher.__name__

    @functools.wraps(launcher)
    def call(dev: Device, *args: _Arguments.args, **keywords: _Arguments.kwargs) -> None:
        if name not in dev.pointers:
            try:
                return launcher(dev, *args, **keywords)
            except Refused as error:
                _log.warning("%s; %s loads by pointers from now on, which may be slower", error, name)
                dev.pointers.add(name)
        chip, dev.chip = dev.chip, without_tma(dev.chip)
        try:
            return launcher(dev, *args, **keywords)
        finally:
            dev.chip = chip

    return call
