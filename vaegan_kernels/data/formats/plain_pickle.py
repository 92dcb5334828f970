"""Reads a pickle as data: Python's own reader with the few operations that plain values are made of, and names that lead nowhere.

Admitted are dicts, lists, tuples, text, bytes, whole numbers, True, False, None and NumPy arrays and scalars of whole numbers. A global
is a mere name here: nothing is ever imported or called, and of the names only those of NumPy's own reconstruction are known. Arrays are
views of bytes that are in the file, so that no value is larger than the file.

`find_class` alone would not do, and neither would the reader in C, `pickle.Unpickler`. It makes room for as many bytes or memo entries as
the file says before it looks whether they are there; it hashes any key (a tuple of tuples, each twice the one before, takes for ever, a
deep one overruns C's stack); BUILD writes attributes, EXT takes objects that never pass `find_class`. So it is the same reader in Python,
`pickle._Unpickler`, whose table of operations is a part of the class: all that is not listed here is refused by name.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import re
import struct
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, NoReturn

import numpy as np

MOST = 1 << 26  # bytes of a pickle; CIFAR-10's batches have 31 million
_MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")
_GLOBALS = {
    **{f"{module}.{name}": name for module in _MULTIARRAY for name in ("_reconstruct", "scalar")},
    "numpy.ndarray": "ndarray",
    "numpy.dtype": "dtype",
}
_AS_IN_PYTHON = """PROTO FRAME MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 SHORT_BINSTRING BINSTRING BINUNICODE
    SHORT_BINUNICODE BINBYTES SHORT_BINBYTES EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST APPEND APPENDS EMPTY_DICT GLOBAL STACK_GLOBAL
    BINPUT LONG_BINPUT MEMOIZE BINGET LONG_BINGET STOP"""
_DAMAGED = (ValueError, LookupError, TypeError, AttributeError, OverflowError, MemoryError, EOFError, struct.error, pickle.UnpicklingError)


class Refused(ValueError):
    """The pickle is damaged, or is more than plain data; the message says what."""


class _Global:
    def __init__(self, name: str) -> None:
        self.name = name


class _Type:
    """A dtype that is being made: BUILD gives the byte order."""

    def __init__(self, code: Any) -> None:
        if not isinstance(code, str) or not re.fullmatch("[iu][1248]", code):
            kind = repr(code[:20]) if isinstance(code, str) else "that is a " + type(code).__name__
            raise Refused(f"has an array of type {kind}, expected whole numbers")
        self.code, self.order = code, "="

    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.order + self.code)


class _Array:
    """An array that is being made: BUILD gives all of it. Memo and containers hold this one object."""

    value: np.ndarray | None = None


def read_plain_pickle(content: bytes) -> Any:
    """The value that a pickle holds. Text of Python 2 (bytes there) comes as str, one character a byte.

    Raises:
        Refused: for anything but plain data, before anything is made of it.
    """
    if len(content) > MOST:
        raise Refused(f"is {len(content)} bytes, expected at most {MOST}")
    reader = _Reader(io.BytesIO(content), encoding="latin-1")
    try:
        value = reader.load()
        if reader.stack or reader.metastack:
            raise ValueError("more than one value")
        return _finished(value)
    except Refused:
        raise
    except _DAMAGED as error:
        raise Refused(f"is a damaged pickle ({(str(error) or type(error).__name__).splitlines()[0][:80]})") from error


def _refuse(name: str, reader: Any) -> NoReturn:
    raise Refused(f"has the operation {name}, expected plain data: nothing of it was run")


class _Reader(pickle._Unpickler):
    dispatch: ClassVar[dict[int, Any]] = {
        **{ord(operation.code): partial(_refuse, operation.name) for operation in pickletools.opcodes},
        **{code: pickle._Unpickler.dispatch[code] for code in (getattr(pickle, name)[0] for name in _AS_IN_PYTHON.split())},
    }
    stack: list[Any]
    metastack: list[Any]  # the stacks below the marks
    pop_mark: Callable[[], list[Any]]  # the values after the last mark

    def find_class(self, module: str, name: str) -> Any:
        known = _GLOBALS.get(f"{module}.{name}")
        if known is None:
            raise Refused(f"names {f'{module}.{name}'[:80]!r}, expected plain data: nothing of it was run")
        return _Global(known)

    def set_items(self, items: list[Any]) -> None:
        for key, value in zip(items[::2], items[1::2], strict=True):
            _kind(self.stack[-1], dict)[_kind(key, (str, bytes))] = value

    def reduce(self) -> None:
        arguments = _kind(self.stack.pop(), tuple)
        self.stack[-1] = _reduced(_kind(self.stack[-1], _Global).name, arguments)

    def build(self) -> None:
        state = _kind(self.stack.pop(), tuple)
        _build(self.stack[-1], state)

    dispatch[pickle.SETITEM[0]] = lambda self: self.set_items([self.stack.pop(), self.stack.pop()][::-1])
    dispatch[pickle.SETITEMS[0]] = lambda self: self.set_items(self.pop_mark())
    dispatch[pickle.REDUCE[0]], dispatch[pickle.BUILD[0]] = reduce, build


def _kind(value: Any, kinds: Any) -> Any:
    if not isinstance(value, kinds):
        raise ValueError(f"a {type(value).__name__.strip('_')} in the wrong place")
    return value


def _reduced(name: str, arguments: tuple[Any, ...]) -> Any:
    """What numpy's ``name`` would make of ``arguments``."""
    if name == "_reconstruct":
        kind, shape, _ = arguments
        if _kind(kind, _Global).name != "ndarray" or shape != (0,):
            raise ValueError("an array of a strange kind")
        return _Array()
    if name == "dtype":
        return _Type(arguments[0])
    if name == "scalar":
        kind, content = arguments
        return int(_array(_kind(kind, _Type).dtype(), (), content))
    raise ValueError("a call of numpy.ndarray")


def _build(target: Any, state: tuple[Any, ...]) -> None:
    if isinstance(target, _Type):
        if state[1] not in ("<", ">", "|", "="):
            raise ValueError("a type of a strange byte order")
        target.order = state[1]
        return
    _kind(target, _Array)
    shape, kind, fortran, content = state[-4:]
    if target.value is not None or len(_kind(shape, tuple)) > 4 or any(type(n) is not int or n < 0 for n in shape):
        raise ValueError("an array of a strange shape")
    by_columns = bool(_kind(fortran, (bool, int)))
    target.value = _array(_kind(kind, _Type).dtype(), shape[::-1] if by_columns else shape, content)
    if by_columns:
        target.value = target.value.T


def _array(dtype: np.dtype[Any], shape: tuple[int, ...], content: Any) -> np.ndarray:
    """A read-only view of ``content``, which is just as long as ``shape`` says."""
    if isinstance(content, str):
        content = content.encode("latin-1")
    if len(_kind(content, bytes)) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"an array of shape {list(shape)[:4]} with {len(content)} bytes of {dtype.name}")
    return np.frombuffer(content, dtype).reshape(shape)


def _finished(value: Any) -> Any:
    """The arrays in the outermost dict or list put in the place of those that were being made; what is deeper is left as it is."""
    if isinstance(value, _Array):
        return value.value
    if isinstance(value, dict):
        return {key: one.value if isinstance(one, _Array) else one for key, one in value.items()}
    return value
