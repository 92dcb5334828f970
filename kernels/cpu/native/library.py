"""The compiled library as Python functions. Their signatures are read from the C++ sources, behind the word EXPORT: they are said once."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SOURCES = tuple(sorted(HERE.glob("*.cpp")))
HEADERS = tuple(sorted(HERE.glob("*.h")))

_EXPORTED = re.compile(r"^EXPORT\s+(\w+)\s+(\w+)\(([^)]*)\)", re.MULTILINE)
_SCALARS = {
    "int": ctypes.c_int, "Z": ctypes.c_ssize_t, "float": ctypes.c_float, "double": ctypes.c_double, "uint64_t": ctypes.c_uint64,
    "uint32_t": ctypes.c_uint32, "void": None,
}  # fmt: skip


def address(array: Any) -> int:
    """Of an ndarray's first element; 0 of None."""
    return 0 if array is None else int(array.__array_interface__["data"][0])


_byte_at = ctypes.c_char.from_buffer


class _Pointer:
    """An argument that is an array's address: an ndarray, whose type and layout the contract has checked, or None."""

    @staticmethod
    def from_param(array: Any) -> Any:
        if array is None:
            return None
        try:
            return ctypes.byref(_byte_at(array))  # a quarter of the time that asking NumPy for the address takes
        except (TypeError, ValueError, BufferError):  # read-only, or empty
            return ctypes.c_void_p(address(array))


def declarations() -> list[tuple[str, str, str]]:
    """(result, name, arguments) of every exported function, in the words of the sources."""
    return [found for path in SOURCES for found in _EXPORTED.findall(path.read_text(encoding="utf-8"))]


def signatures() -> dict[str, tuple[Any, list[Any]]]:
    """{name: (ctypes result, ctypes arguments)} of every exported function."""
    found = {}
    for result, name, arguments in declarations():
        kinds = [_Pointer if "*" in a else _SCALARS[a.split()[-2]] for a in arguments.split(",") if a.strip()]
        found[name] = _SCALARS[result], kinds
    return found


def load(path: str | Path) -> Any:
    """The library at ``path`` with every function's types set. Calls release the interpreter's lock; one that finds no memory for what
    it works in raises `MemoryError`.

    Raises:
        OSError: it cannot be loaded here.
        AttributeError: a function is missing: it was built from other sources.
    """
    library = ctypes.CDLL(str(path))

    def check(result: Any, function: Any, arguments: Any) -> Any:
        if library.take_error():
            raise MemoryError(f"native engine: no memory for what {function.__name__} works in; try a smaller batch")
        return result

    for name, (result, arguments) in signatures().items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
        if name != "take_error":
            function.errcheck = check
    return library
