"""Patches of Triton's interpreter: what it would not run, and what it takes most of its time for. No result changes."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any


@functools.cache
def patched_interpreter() -> set[frozenset[int]]:
    """Patches it at the first call. Returns the set of language modules patched in this launch, to be cleared before each.

    Loops with run-time bounds: Triton 3.6 makes int() of an array of one element, which NumPy 2.4 refuses. And speed: each call of a
    jit function from another patches the language again, where once a launch is enough.
    """
    from triton.runtime import interpreter

    patched: set[frozenset[int]] = set()
    patch, patch_tensor = interpreter._patch_lang, interpreter._patch_lang_tensor
    languages = (interpreter.tl, interpreter.tl.core)

    def patch_with_index(tensor: Any, scope: Any) -> None:
        patch_tensor(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    @functools.cache
    def used(fn: Any) -> frozenset[int]:
        return frozenset(id(v) for v in list(fn.__globals__.values()) if any(v is language for language in languages))

    def patch_once(fn: Any) -> Any:
        if used(fn) in patched:
            return interpreter._LangPatchScope()
        patched.add(used(fn))
        return patch(fn)

    interpreter._patch_lang_tensor, interpreter._patch_lang = patch_with_index, patch_once
    _without_assertions(interpreter.interpreter_builder)
    _cheaper_types(interpreter)
    _cheaper_tensors(interpreter.tl.core)
    return patched


def _without_assertions(builder: Any) -> None:
    """Without debugging no assertion is made; each sum and product of integers is made in 64 bits all the same, to be held against 32."""
    builder.options = dataclasses.replace(builder.options, sanitize_overflow=builder.options.debug)


def _cheaper_types(interpreter: Any) -> None:
    """NumPy's type of each value made: from a table that is not built anew for each."""
    look_up = interpreter._get_np_dtype
    looked_up = functools.cache(look_up)  # pointers cannot be hashed

    def remembered(kind: Any) -> Any:
        scalar = kind.scalar
        return look_up(scalar) if scalar.is_ptr() else looked_up(scalar)

    interpreter._get_np_dtype = remembered


def _cheaper_tensors(core: Any) -> None:
    """What follows from a tensor's shape is made once for each shape, not for each tensor."""
    make_tensor, make_block, constexpr = core.tensor.__init__, core.block_type.__init__, core.constexpr
    tensors: dict[str, dict[str, Any]] = {}
    blocks: dict[Any, dict[str, Any]] = {}

    def tensor(self: Any, handle: Any, type: Any) -> None:
        known = tensors.get(type.name)  # which tells the shape
        if known is None:
            make_tensor(self, handle, type)
            tensors[type.name] = {name: value for name, value in vars(self).items() if name not in ("handle", "type", "dtype")}
        else:
            vars(self).update(known, handle=handle, type=type, dtype=type.scalar)

    def block(self: Any, element_ty: Any, shape: Any) -> None:
        key = element_ty.__class__, element_ty.name, *[n.value if isinstance(n, constexpr) else n for n in shape]
        known = blocks.get(key)
        if known is None:
            make_block(self, element_ty, shape)
            blocks[key] = {name: value for name, value in vars(self).items() if name != "element_ty"}
        else:
            vars(self).update(known, element_ty=element_ty)

    core.tensor.__init__, core.block_type.__init__ = tensor, block
