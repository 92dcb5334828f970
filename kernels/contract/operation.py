"""What an operation is: a method that says and checks what it takes, and behind it the engine's unchecked form."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeAlias, TypeVar

import numpy as np

#: An array of the engine's device: NumPy's on the CPU, CuPy's on a GPU. Each operation gives the shapes.
Array: TypeAlias = Any

#: Names of all operations, in the order of their files: `operation` adds them.
OPERATIONS: list[str] = []

_Self = TypeVar("_Self", bound="Contract")
_Arguments = ParamSpec("_Arguments")


class Contract:
    """Base of the files of the contract. ``dtype``: of activations, errors and operands; ``wide``: of parameters, their gradients and
    optimiser state, statistics, noise, latents and logits; ``host_memory``: whether values can be read at once, and so are checked."""

    dtype: np.dtype[Any]
    wide: np.dtype[Any]
    host_memory: bool


def operation(checks: Callable[Concatenate[_Self, _Arguments], None]) -> Callable[Concatenate[_Self, _Arguments], None]:
    """The operation whose arguments ``checks`` documents and checks. Behind the checks runs the engine's own method of the same name and
    signature with an underscore before it: ``conv2d_forward`` calls ``_conv2d_forward`` (tests/test_engine.py holds them together)."""
    name = checks.__name__
    OPERATIONS.append(name)

    @functools.wraps(checks)
    def checked(self: _Self, *args: _Arguments.args, **kwargs: _Arguments.kwargs) -> None:
        checks(self, *args, **kwargs)
        getattr(self, f"_{name}")(*args, **kwargs)

    return checked
