"""Loaded functions and their parameters as the driver takes them: what a recorded launch becomes on a GPU."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from kernels.cpu.threads import available_cores
from kernels.cuda.device.base import Descriptor, Launch
from kernels.cuda.device.chips import Chip
from kernels.cuda.device.compile import Code, NotCached, compile_launch, key_of
from kernels.cuda.device.driver import Driver
from kernels.cuda.device.parallel import compile_many

#: Triton's numbers of element types in tensor maps that differ from the driver's.
ELEMENT_KINDS = {8: 10, 9: 8, 10: 9}

WORTHWHILE = 3  # kernels for a process more: starting one takes as long

INTEGERS = {"i32": ctypes.c_int32, "i64": ctypes.c_int64}


class Launcher:
    """Compiles, loads and launches on one chip; keeps what it loaded.

    Args:
        address: of an array, its first element's.
        dependent: whether kernels that wait for the launch before may begin before it has ended.
    """

    def __init__(self, driver: Driver, chip: Chip, address: Callable[[Any], int], dependent: bool = False):
        self._driver, self._chip, self._address, self.dependent = driver, chip, address, dependent and chip.dependent
        self._loaded: dict[tuple[Any, ...], tuple[Any, Code]] = {}
        self._allowed: dict[tuple[Any, ...], int] = {}
        self._maps: dict[tuple[Any, ...], Any] = {}
        self.in_turn = False  # whether the next launch begins when the one before has ended, dependent or not
        self.frozen = False  # while launches are captured: loading would break the capture

    def load(self, launch: Launch, code: Code | None = None) -> tuple[Any, Code]:
        """The loaded function of a launch, compiled now if it was not before (and ``code`` is not given)."""
        key = key_of(launch)
        if key not in self._loaded:
            if self.frozen:
                raise RuntimeError(f"{launch.name}: first launched while a graph is captured; its first call did not launch it")
            code = code or compile_launch(launch, self._chip)
            shared = code.shared if launch.kind == "triton" else launch.shared
            self._loaded[key] = self._driver.load(code.image, code.name, shared), code
            self._allowed[key] = shared
        function, code = self._loaded[key]
        if launch.kind == "cuda" and launch.shared > self._allowed[key]:
            self._driver.allow_shared(function, launch.shared)
            self._allowed[key] = launch.shared
        return function, code

    def prepare(self, launches: Iterable[Launch], progress: Callable[[int, int], None] | None = None) -> bool:
        """Load what the launches need: from the caches, the rest compiled on all cores. ``progress`` is told of the latter alone.

        Returns: whether anything was not loaded before.

        Raises:
            CompilationError: something does not compile.
        """
        wanted = {key: launch for launch in launches if (key := key_of(launch)) not in self._loaded}
        missing: dict[tuple[Any, ...], Launch] = {}
        for key, launch in wanted.items():
            try:
                self.load(launch, compile_launch(launch, self._chip, cached=True))
            except NotCached:
                missing[key] = launch
        if missing:
            jobs = min(available_cores(), len(missing) // WORTHWHILE)
            for key, code in compile_many(missing.values(), self._chip, jobs, progress).items():
                self.load(missing[key], code)
        return bool(wanted)

    def make_maps(self, launch: Launch, values: dict[str, Any]) -> None:
        """The tensor maps of a launch whose function is loaded. Raises `Refused`."""
        if key_of(launch) in self._loaded:
            given = (value for value in values.values() if isinstance(value, Descriptor))
            for value, meta in zip(given, self._loaded[key_of(launch)][1].descriptors, strict=True):
                self._tensor_map(value, meta)

    def triton(self, launch: Launch, values: dict[str, Any], stream: int) -> None:
        """Launch a Triton function: its run-time arguments in order, then two null pointers for scratch memory that it does not use."""
        function, code = self.load(launch)
        parameters: list[Any] = []
        descriptors = iter(code.descriptors)
        for name, value in values.items():
            kind = launch.signature[name]
            if isinstance(value, Descriptor):
                parameters.append(self._tensor_map(value, next(descriptors)))
                parameters += map(ctypes.c_int32, value.shape)
                parameters += map(ctypes.c_int64, value.strides)
            elif kind in INTEGERS:
                parameters.append(INTEGERS[kind](value))
            elif kind == "fp32":
                parameters.append(ctypes.c_float(value))
            elif kind != "constexpr":
                parameters.append(ctypes.c_void_p(self._address(value)))
        parameters += [ctypes.c_void_p(), ctypes.c_void_p()]
        self._launch(launch, code, function, (32 * code.warps, 1, 1), code.shared, stream, parameters)

    def cuda(self, launch: Launch, args: tuple[Any, ...], stream: int) -> None:
        """Launch a CUDA C function."""
        function, code = self.load(launch)
        parameters = [self._by_value(value) for value in args]
        self._launch(launch, code, function, launch.constexprs["block"], launch.shared, stream, parameters)

    def _launch(
        self, launch: Launch, code: Code, function: Any, block: tuple[int, ...], shared: int, stream: int, parameters: list[Any]
    ) -> None:
        dependent, self.in_turn = self.dependent and code.waits and not self.in_turn, False
        self._driver.launch(function, launch.grid, block, shared, stream, parameters, dependent)

    def _by_value(self, value: Any) -> Any:
        if isinstance(value, np.generic):
            return np.ctypeslib.as_ctypes_type(value.dtype)(value.item())
        return ctypes.c_void_p(None if value is None else self._address(value))

    def _tensor_map(self, descriptor: Descriptor, meta: dict[str, Any]) -> Any:
        """The tensor map of a descriptor. Kept: the same view of the same address has the same one."""
        kind, size = ELEMENT_KINDS.get(meta["elem_type"], meta["elem_type"]), meta["elem_size"]
        address, shape, strides = self._address(descriptor.array), tuple(descriptor.shape), tuple(descriptor.strides)
        key = (address, shape, strides, tuple(meta["block_size"]), kind, meta["swizzle"])
        if key not in self._maps:
            self._maps[key] = self._driver.tensor_map(address, size, kind, meta["swizzle"], shape, strides, meta["block_size"])
        return self._maps[key]
