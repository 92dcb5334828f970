"""Reads a pickle as data: a stack machine of the few operations that plain values are made of. Python's pickle module is not used.

Admitted are dicts, lists, tuples, text, bytes, whole numbers, True, False, None and NumPy arrays and scalars of whole numbers. A global
is a mere name here: nothing is ever imported or called, and of the names only those of NumPy's own reconstruction are known. Arrays are
views of bytes that are in the file, so that no value is larger than the file.
"""

from __future__ import annotations

import io
import math
import pickletools
import re
from typing import Any

import numpy as np

MOST = 1 << 26  # bytes of a pickle; CIFAR-10's batches have 31 million
_MULTIARRAY = ("numpy.core.multiarray", "numpy._core.multiarray")
_GLOBALS = {
    **{f"{module} {name}": name for module in _MULTIARRAY for name in ("_reconstruct", "scalar")},
    "numpy ndarray": "ndarray",
    "numpy dtype": "dtype",
}
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_VALUES = {"BININT", "BININT1", "BININT2", "LONG1", "SHORT_BINSTRING", "BINSTRING", "BINUNICODE", "SHORT_BINUNICODE", "BINBYTES",
           "SHORT_BINBYTES"}  # fmt: skip
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_MARK = object()


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
    machine = _Machine()
    try:
        for operation, argument, _ in pickletools.genops(io.BytesIO(content)):
            if operation.name == "STOP":
                return machine.result()
            machine.do(operation.name, argument)
    except Refused:
        raise
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, OverflowError, MemoryError, EOFError) as error:
        raise Refused(f"is a damaged pickle ({(str(error) or type(error).__name__).splitlines()[0][:80]})") from error
    raise Refused("is a damaged pickle (it has no end)")


class _Machine:
    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def result(self) -> Any:
        value = self.pop()
        if self.stack:
            raise ValueError("more than one value")
        return _finished(value)

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise ValueError("a mark where a value belongs")
        return value

    def after_mark(self) -> list[Any]:
        place = len(self.stack) - 1
        while self.stack[place] is not _MARK:
            place -= 1
            if place < 0:
                raise ValueError("no mark")
        values = self.stack[place + 1 :]
        del self.stack[place:]
        return values

    def do(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in ("PROTO", "FRAME"):
            pass
        elif name in _VALUES:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in ("BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self.memo[len(self.memo) if name == "MEMOIZE" else argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif name == "MARK":
            stack.append(_MARK)
        elif name in _TUPLES:
            count = _TUPLES[name]
            values = [self.pop() for _ in range(count)][::-1]
            stack.append(tuple(values))
        elif name == "TUPLE":
            stack.append(tuple(self.after_mark()))
        elif name == "EMPTY_LIST":
            stack.append([])
        elif name in ("APPEND", "APPENDS"):
            values = [self.pop()] if name == "APPEND" else self.after_mark()
            _kind(stack[-1], list).extend(values)
        elif name == "EMPTY_DICT":
            stack.append({})
        elif name in ("SETITEM", "SETITEMS"):
            values = [self.pop(), self.pop()][::-1] if name == "SETITEM" else self.after_mark()
            for key, value in zip(values[::2], values[1::2], strict=True):
                _kind(stack[-1], dict)[_kind(key, (str, bytes))] = value
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            if name == "STACK_GLOBAL":
                last, first = _kind(self.pop(), str), _kind(self.pop(), str)
                argument = f"{first} {last}"
            if argument not in _GLOBALS:
                raise Refused(f"names {str(argument).replace(' ', '.', 1)[:80]!r}, expected plain data: nothing of it was run")
            stack.append(_Global(_GLOBALS[argument]))
        elif name == "REDUCE":
            arguments, function = _kind(self.pop(), tuple), self.pop()
            stack.append(_reduced(_kind(function, _Global).name, arguments))
        elif name == "BUILD":
            state = _kind(self.pop(), tuple)
            _build(stack[-1], state)
        else:
            raise Refused(f"has the operation {name}, expected plain data: nothing of it was run")


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
    raise Refused(f"calls numpy.{name}, expected plain data: nothing of it was run")


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
