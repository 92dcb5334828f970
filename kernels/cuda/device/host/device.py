"""The emulated GPU: NumPy memory, Triton's interpreter, and CUDA C compiled by g++ with `host/emulation.h`. For tests.

Stricter than a GPU where it can be: memory is NaN until written, each array has a red zone on both sides that is checked after each
launch, arguments must have the types of the CUDA C function, and a barrier that not all threads reach is an error. A launch that is
given the device's counters has blocks that wait for each other: several run in turns, each sees no more of what others wrote than a GPU
promises (`host/blocks.h`), and the counters must be 0 again.
"""

from __future__ import annotations

import ctypes
import itertools
import weakref
from collections.abc import Iterable
from typing import Any

import numpy as np

from kernels.contract.operation import Array
from kernels.cuda.device.base import Descriptor, Device, Launch
from kernels.cuda.device.chips import CHIPS, Chip
from kernels.cuda.device.host.build import function
from kernels.cuda.device.host.interpreter import patched_interpreter
from kernels.cuda.device.host.streams import HostEvent, HostStream, LaunchStream

ZONE = 256
POISON = 0xFF


class HostDevice(Device):
    """Emulation on the host. Triton kernels need ``TRITON_INTERPRET=1`` in the environment before Triton is first imported.

    In Triton's interpreter bfloat16 is wrong (see `Device.interpreted`). CUDA C computes bfloat16 as a GPU does, except that
    the host's mathematical functions may differ in the last bit.

    Args:
        chip: the GPU whose limits are imitated.
        seed: of the order in which threads and blocks run.
        blocks: of a launch, that run in turns at the most if they wait for each other; 1: one after the other.
    """

    name = "host"
    interpreted = True

    def __init__(self, chip: Chip = CHIPS["sm_90"], seed: int = 0, blocks: int = 8):
        super().__init__(chip)
        self.seed, self.blocks = seed, blocks
        self._allocated: dict[int, tuple[weakref.ref[np.ndarray], int, int, bytes]] = {}
        self._numbers = itertools.count()
        self._scratch: dict[str, np.ndarray] = {}
        self.stream: HostStream = LaunchStream()

    def empty(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """An array of NaN bytes between red zones, 256-byte aligned."""
        kind = np.dtype(dtype)
        size = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
        raw = np.full(size + 3 * ZONE, POISON, np.uint8)
        start = ZONE + -raw.ctypes.data % ZONE
        zone = _zone(kind, next(self._numbers))
        raw[start - ZONE : start] = raw[start + size : start + size + ZONE] = np.frombuffer(zone, np.uint8)
        key = id(raw)
        self._allocated[key] = weakref.ref(raw, lambda _: self._allocated.pop(key, None)), start, start + size, zone
        return raw[start : start + size].view(kind).reshape(shape)

    def scratch(self, key: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """A fresh array each time: what an earlier call left is NaN again."""
        self._scratch[key] = self.empty(shape, dtype)
        return self._scratch[key]

    def pinned(self, shape: tuple[int, ...]) -> np.ndarray:
        return np.full(shape, POISON, np.uint8)

    def new_stream(self) -> HostStream:
        return HostStream()

    def new_event(self) -> HostEvent:
        return HostEvent()

    def copy(self, array: np.ndarray, values: np.ndarray, stream: HostStream) -> None:
        stream.add(lambda: np.copyto(array, values))

    def _put(self, array: np.ndarray, values: np.ndarray) -> None:
        array[...] = values

    def _download(self, array: Array) -> np.ndarray:
        return np.array(array)

    def _address(self, value: Any) -> int | None:
        if isinstance(value, Descriptor):
            value = value.array
        return value.ctypes.data if isinstance(value, np.ndarray) else value if isinstance(value, int) else None

    def _run_triton(self, launch: Launch, values: dict[str, Any]) -> None:
        if type(launch.source).__name__ != "InterpretedFunction":
            raise RuntimeError(f"{launch.name}: the host device interprets Triton: set TRITON_INTERPRET=1 before Python starts")
        self._require_on_device(launch.name, values)
        patched_interpreter().clear()
        given = {name: _interpreted(value) for name, value in values.items()}
        try:
            with np.errstate(invalid="ignore"):  # NaN is no error on a GPU
                launch.source[launch.grid](**given, **{k: v for k, v in launch.constexprs.items() if k not in given})
        except Exception as error:
            raise RuntimeError(f"{launch.name} in Triton's interpreter: {error}") from error
        self._check_zones(launch.name, values)

    def _run_cuda(self, launch: Launch, args: tuple[Any, ...]) -> None:
        values = dict(zip(launch.signature, args, strict=True))
        self._require_on_device(launch.name, values)
        threads = launch.constexprs["block"]
        run, parameters = function(launch.source, launch.name, launch.defines)
        if len(args) != len(parameters):
            raise TypeError(f"{launch.name}: got {len(args)} arguments, expected {len(parameters)}: {', '.join(parameters)}")
        for index, (value, parameter) in enumerate(zip(args, parameters, strict=True)):
            _check_type(launch.name, index, value, parameter)
        held = [_by_value(value) for value in args]
        pointers = (ctypes.c_void_p * max(1, len(held)))(*(ctypes.addressof(cell) for cell in held))
        self.seed += 1
        waits = any(value is self.__dict__.get("counters") for value in args if value is not None)
        met = _memory(value for value in args if isinstance(value, np.ndarray)) if waits else []
        words, extents = (ctypes.c_uint64 * (2 * len(met)))(*itertools.chain(*met)), (ctypes.c_uint * 6)(*launch.grid, *threads)
        message = run(pointers, extents, launch.shared, self.seed, words, len(met), self.blocks)
        if message:
            raise RuntimeError(f"{launch.name} ({launch.source}): {message.decode()}")
        if waits and self.counters.any():
            left, self.counters[...] = self.counters.tolist(), 0
            raise RuntimeError(f"{launch.name} ({launch.source}): left its counters at {left}: the next launch would not wait")
        self._check_zones(launch.name, values)

    def _require_on_device(self, kernel: str, values: dict[str, Any]) -> None:
        for name, value in values.items():
            array = value.array if isinstance(value, Descriptor) else value
            if isinstance(array, np.ndarray) and id(_raw(array)) not in self._allocated:
                raise ValueError(f"{kernel}: argument {name}: got a NumPy array that is not on the device; use empty or upload")

    def _check_zones(self, kernel: str, values: dict[str, Any]) -> None:
        arrays = ((n, v.array if isinstance(v, Descriptor) else v) for n, v in values.items())
        names = {id(_raw(a)): f"argument {n}" for n, a in arrays if isinstance(a, np.ndarray)}
        for key, (reference, start, end, zone) in self._allocated.copy().items():  # collecting garbage may drop arrays meanwhile
            raw = reference()
            if raw is None:
                continue
            before, after = raw[start - ZONE : start], raw[end : end + ZONE]
            touched = [side for side, bytes_now in (("before", before), ("after", after)) if bytes_now.tobytes() != zone]
            if touched:
                before[...] = after[...] = np.frombuffer(zone, np.uint8)
                array = names.get(key, f"an array of {end - start} bytes that is no argument")
                raise RuntimeError(f"{kernel}: wrote out of bounds: {' and '.join(touched)} {array}")


def _zone(kind: np.dtype[Any], number: int) -> bytes:
    """Signalling NaNs that differ from array to array: neither a NaN that was computed with one, nor a copy of another's is the same."""
    mark = 0x7F81 + number % 62
    return (
        np.full(ZONE // 8, 0x7FF0 << 48 | mark, np.uint64).tobytes()
        if kind == np.float64
        else np.full(ZONE // 2, mark, np.uint16).tobytes()
    )


class HostPointer:
    """An array as Triton's interpreter takes it; its copies between devices do nothing."""

    def __init__(self, array: np.ndarray):
        self.array, self.dtype = array, array.dtype

    def data_ptr(self) -> int:
        return self.array.ctypes.data

    def untyped_storage(self) -> HostPointer:
        return self

    def cpu(self) -> HostPointer:
        return self

    def new_empty(self, *_: Any, **__: Any) -> HostPointer:
        return HostPointer(self.array)

    def set_(self, *_: Any) -> None:
        pass

    def copy_(self, *_: Any) -> None:
        pass

    def storage_offset(self) -> int:
        return 0

    def size(self) -> tuple[int, ...]:
        return self.array.shape

    def stride(self) -> tuple[int, ...]:
        return tuple(s // self.array.itemsize for s in self.array.strides)


def _interpreted(value: Any) -> Any:
    """A run-time argument for the interpreter: what a GPU would get, floats rounded to float32."""
    if isinstance(value, Descriptor):
        from triton.tools.tensor_descriptor import TensorDescriptor

        return TensorDescriptor(HostPointer(value.array), list(value.shape), list(value.strides), list(value.block))
    if isinstance(value, np.ndarray):
        return HostPointer(value)
    return float(np.float32(value)) if isinstance(value, float) else value


def _raw(array: np.ndarray) -> np.ndarray:
    """The allocation that an array is a view of."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def _memory(arrays: Iterable[np.ndarray]) -> list[tuple[int, int]]:
    """Addresses and bytes of what arrays lie in, none twice: some are given as two arguments, or are parts of others."""
    result: list[tuple[int, int]] = []
    for start, size in sorted((a.ctypes.data, a.nbytes) for a in arrays):
        first, length = result.pop() if result and start < sum(result[-1]) else (start, 0)
        result.append((first, max(first + length, start + size) - first))
    return result


def _by_value(value: Any) -> Any:
    if isinstance(value, np.generic):
        return np.ctypeslib.as_ctypes_type(value.dtype)(value.item())
    return ctypes.c_void_p(None if value is None else value.ctypes.data)


def _check_type(kernel: str, index: int, value: Any, parameter: str) -> None:
    """The array or scalar ``value`` must be what the CUDA C ``parameter`` ("*f4", "i8"; "*x": any pointer) says."""
    if value is None:
        good = parameter.startswith("*")
        given = "None"
    else:
        code = value.dtype.kind + str(value.dtype.itemsize)
        given = f"*{code}" if isinstance(value, np.ndarray) else code
        good = given == parameter or parameter == "*x" and given.startswith("*")
    if not good:
        raise TypeError(f"{kernel}: argument {index}: got {given}, expected {parameter} (* is an array, f4 float32, V2 bfloat16, *x any)")
