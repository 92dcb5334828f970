"""The NVIDIA GPU: CuPy's memory and stream, launches through the driver, launches that repeat as a CUDA graph."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from kernels.contract.operation import Array
from kernels.cuda.device.base import Descriptor, Device, Launch, OutOfMemory
from kernels.cuda.device.chips import Chip
from kernels.cuda.device.driver import ON, Driver, dependent_launches, driver_version
from kernels.cuda.device.launcher import Launcher
from kernels.cuda.device.toolchain import CUDA_12, check_nvrtc, choose_ptxas, dotted

LEAST = (7, 0)
NO_GPU = "device cuda: the NVIDIA driver finds no GPU; see nvidia-smi"


class CuPyDevice(Device):
    """The current GPU of CuPy. Launches and copies go to one stream of its own.

    Raises:
        RuntimeError: the GPU cannot be used. `open_device` says why in more cases.
    """

    name = "gpu"
    _number = 0

    def __init__(self) -> None:
        import cupy

        self._cupy = cupy
        cupy.cuda.runtime.free(0)  # makes the GPU's context current
        super().__init__(chip_of(cupy.cuda.Device()))
        self._number = int(cupy.cuda.Device().id)
        self.stream = cupy.cuda.Stream(non_blocking=True)
        self._launcher = Launcher(Driver(), self.chip, lambda array: array.data.ptr, dependent_launches())
        self._scratch: dict[str, Any] = {}
        self._outgrown: list[Any] = []
        self._graphs = 0
        self._allocations = 0  # so far

    @property
    def bus_id(self) -> str:
        """Which GPU of the machine it is."""
        return str(self._cupy.cuda.Device(self._number).pci_bus_id)

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        kind = np.dtype(dtype)
        return self._cupy.ndarray(shape, kind, self._allocate(int(np.prod(shape, dtype=np.int64)) * kind.itemsize))

    def scratch(self, key: str, shape: tuple[int, ...], dtype: Any) -> Any:
        kind = np.dtype(dtype)
        size = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
        if key not in self._scratch or self._scratch[key].mem.size < size:
            if key in self._scratch and self._graphs:
                self._outgrown.append(self._scratch[key])  # a captured graph still writes there
            self._scratch[key] = self._allocate(size)
        return self._cupy.ndarray(shape, kind, self._scratch[key])

    def _allocate(self, size: int) -> Any:
        self._refuse_in_capture("allocates an array")
        self._allocations += 1
        with self.stream:
            try:
                return self._cupy.cuda.alloc(size)
            except self._cupy.cuda.memory.OutOfMemoryError:
                free = int(self._cupy.cuda.runtime.memGetInfo()[0]) + self._cupy.get_default_memory_pool().free_bytes()
                raise OutOfMemory(size, free) from None

    def _put(self, array: Array, values: np.ndarray) -> None:
        self._refuse_in_capture("writes an array")
        if values.nbytes:
            array.data.copy_from_host_async(ctypes.c_void_p(values.ctypes.data), values.nbytes, self.stream)
            self.stream.synchronize()  # the caller may change its array

    def _download(self, array: Array) -> np.ndarray:
        self._refuse_in_capture("reads an array")
        target = np.empty(array.shape, array.dtype)
        if target.nbytes:
            array.data.copy_to_host_async(ctypes.c_void_p(target.ctypes.data), target.nbytes, self.stream)
        self.stream.synchronize()
        return target

    def enter(self) -> None:
        self._cupy.cuda.runtime.setDevice(self._number)  # a new thread's is the first

    def pinned(self, shape: tuple[int, ...]) -> np.ndarray:
        size = int(np.prod(shape, dtype=np.int64))
        try:
            memory = self._cupy.cuda.alloc_pinned_memory(size)
        except self._cupy.cuda.runtime.CUDARuntimeError as error:
            raise MemoryError(f"the driver keeps no {size:,} bytes of the host's in place: {_line(error)}") from None
        return np.frombuffer(memory, np.uint8, size).reshape(shape)

    def new_stream(self) -> Any:
        return self._cupy.cuda.Stream(non_blocking=True)

    def new_event(self) -> Any:
        return self._cupy.cuda.Event(block=True, disable_timing=True)  # a thread that waits for it sleeps

    def copy(self, array: Array, values: np.ndarray, stream: Any) -> None:
        array.data.copy_from_host_async(ctypes.c_void_p(values.ctypes.data), values.nbytes, stream)

    def synchronize(self) -> None:
        self._refuse_in_capture("waits")
        self.settle()
        self.stream.synchronize()

    def record(self, body: Callable[[], None]) -> Callable[[], None]:
        """Runs ``body``, which compiles and allocates what is missing, until a call has allocated nothing: then ``body`` is captured as a
        CUDA graph, which every later call launches. The arrays that ``body`` uses must stay where they are."""
        graph: Any = None
        before = -1

        def replay() -> None:
            nonlocal graph, before
            if graph is None:
                if self.agreed(before != self._allocations):  # the last call allocated something: this one may allocate more
                    before = self._allocations
                    return body()
                graph = self._capture(body)
            self.settle()
            graph.launch(self.stream)

        return replay

    def _capture(self, body: Callable[[], None]) -> Any:
        self.settle()
        self._graphs += 1  # from here on an outgrown scratch buffer may be part of a graph
        launches, self.launches = self.launches, None
        with self._frozen(), self.stream:
            self.stream.begin_capture()
            try:
                body()
                self.settle()
            except BaseException:
                self._held = None
                self._abandon_capture()
                raise
            finally:
                self.launches = launches
            return self.stream.end_capture()

    def _abandon_capture(self) -> None:
        try:
            self.stream.end_capture()
        except Exception:  # the capture is broken already; the caller sees what broke it
            return

    @contextmanager
    def _frozen(self) -> Iterator[None]:
        self.capturing = self._launcher.frozen = True
        try:
            yield
        finally:
            self.capturing = self._launcher.frozen = False

    def collective(self, kind: str, arrays: Sequence[Array], perform: Callable[[], None]) -> None:
        super().collective(kind, arrays, perform)
        self._launcher.in_turn |= not self.rehearsing  # a capture may put more than a kernel into its place

    @contextmanager
    def launches_in_turn(self) -> Iterator[None]:
        """Within it each kernel begins when the launch before has ended, as with VAEGAN_DEPENDENT_LAUNCHES=0."""
        before, self._launcher.dependent = self._launcher.dependent, False
        try:
            yield
        finally:
            self._launcher.dependent = before

    def _refuse_in_capture(self, what: str) -> None:
        if self.capturing:
            raise RuntimeError(f"device cuda: {what} while a graph is captured; the first call of what is recorded must have done it")

    def _make_ready(self, launches: list[Launch], progress: Callable[[int, int], None] | None) -> bool:
        return self._launcher.prepare(launches, progress)

    def _rehearse(self, launch: Launch, values: dict[str, Any]) -> None:
        self._launcher.make_maps(launch, values)

    def _address(self, value: Any) -> int | None:
        if isinstance(value, Descriptor):
            value = value.array
        return int(value.data.ptr) if isinstance(value, self._cupy.ndarray) else value if isinstance(value, int) else None

    def _run_triton(self, launch: Launch, values: dict[str, Any]) -> None:
        self._require_on_device(launch.name, values)
        self._launcher.triton(launch, values, self.stream.ptr)

    def _run_cuda(self, launch: Launch, args: tuple[Any, ...]) -> None:
        self._require_on_device(launch.name, dict(zip(launch.signature, args, strict=True)))
        self._launcher.cuda(launch, args, self.stream.ptr)

    def _require_on_device(self, kernel: str, values: dict[str, Any]) -> None:
        for name, value in values.items():
            array = value.array if isinstance(value, Descriptor) else value
            if isinstance(array, np.ndarray):
                raise ValueError(f"{kernel}: argument {name}: got a NumPy array that is not on the device; use empty or upload")


def chip_of(device: Any) -> Chip:
    """The chip of a ``cupy.cuda.Device``."""
    import cupy

    about = device.attributes
    name = cupy.cuda.runtime.getDeviceProperties(device.id)["name"].decode()
    capability = (about["ComputeCapabilityMajor"], about["ComputeCapabilityMinor"])
    return Chip(name, capability, about["MaxSharedMemoryPerBlockOptin"], about["MultiProcessorCount"])


def open_device(precision: str | None = None) -> CuPyDevice:
    """The NVIDIA GPU as a `CuPyDevice`; with ``precision``, one that has it.

    Raises:
        RuntimeError: one line that begins with "device cuda: " and says what is missing and what to do.
    """
    if os.environ.get("TRITON_INTERPRET", "0").lower() in ON:
        raise RuntimeError("device cuda: TRITON_INTERPRET is set, so Triton would not compile for the GPU; unset it")
    if not sys.platform.startswith(("linux", "win32")):
        raise RuntimeError(f"device cuda: Triton has no version for {sys.platform}; use Linux or Windows")
    try:
        import ml_dtypes  # noqa: F401
        import triton  # noqa: F401
    except Exception as error:
        raise RuntimeError(_not_imported("Triton", error)) from error
    try:
        import cupy
        from cupy_backends.cuda.libs import nvrtc
    except Exception as error:
        raise RuntimeError(_not_imported("CuPy", error)) from error
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except Exception as error:
        raise RuntimeError(_no_gpu(error)) from error
    if count == 0:
        raise RuntimeError(NO_GPU)
    try:
        version, chips = nvrtc.getVersion(), nvrtc.getSupportedArchs()
    except Exception as error:
        raise RuntimeError(
            f"device cuda: NVRTC cannot be loaded ({_line(error)}); pip install nvidia-cuda-nvrtc (nvidia-cuda-nvrtc-cu12)"
        ) from error
    chip = chip_of(cupy.cuda.Device())
    if chip.capability < LEAST:
        raise RuntimeError(f"device cuda: {chip.name} has compute capability {_dotted(chip)}, the least is 7.0; use a newer GPU")
    if precision not in (None, "float32") and not chip.bf16:
        raise RuntimeError(
            f"device cuda: {precision} needs compute capability 8.0, {chip.name} has {_dotted(chip)}; use --precision float32"
        )
    if (driver := driver_version()) is not None:
        check_nvrtc(chip, driver, version, chips)
        choose_ptxas(chip, driver)
    return CuPyDevice()


def _not_imported(package: str, error: Exception) -> str:
    """What to do where a package is not there, or fails while it is imported: any error can come of a build that does not fit, or of a home
    that cannot be written."""
    advice = "pip install '.[cuda12]' or '.[cuda13]' in the clone"
    if isinstance(error, ModuleNotFoundError):
        return f"device cuda: {error.name or package} is not installed; {advice}"
    return f"device cuda: {package} cannot be imported ({type(error).__name__}: {_line(error)}); {advice}"


def _no_gpu(error: Exception) -> str:
    """What to do, by the CUDA run time's error number."""
    status = getattr(error, "status", None)
    if status == 35 and (version := driver_version()) is not None:
        return f"device cuda: the NVIDIA driver supports CUDA {dotted(version)}, too old for this CuPy; update it, or {CUDA_12}"
    if status == 35:
        return "device cuda: no NVIDIA driver is installed; install one"
    if status == 100:
        return NO_GPU
    return f"device cuda: the GPU cannot be used: {_line(error)}; see nvidia-smi"


def _line(error: BaseException) -> str:
    """An error as one line."""
    return " ".join(str(error).split())[:300]


def _dotted(chip: Chip) -> str:
    return f"{chip.capability[0]}.{chip.capability[1]}"
