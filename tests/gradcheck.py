"""What every test of an operation against PyTorch shares: drawing, comparison and torch views; table and placing are kernel_check's.

A gradient is never checked by `y.sum().backward()` (its true value can be 0): each test draws an upstream error `dy`
of its own, and a reference of zero norm, a NaN or an unwritten output is a failure, not a small error.
"""

from __future__ import annotations

from typing import Any

import kernel_check
import numpy as np
import torch
from kernel_check import relative_error


def tolerance(dtype: Any, reduction: int = 1) -> float:
    """Allowed relative error of a result that sums `reduction` products in `dtype`."""
    return kernel_check.tolerance(np.dtype(dtype).name, "wide", reduction)


def assert_close(got: Any, expected: Any, limit: float, name: str = "result") -> None:
    """Fail, with the worst element, unless the relative error of `got` against `expected` is below `limit`."""
    got, expected = np.asarray(got), numpy(expected)
    assert got.shape == expected.shape, f"{name}: got shape {got.shape}, expected {expected.shape}"
    assert not np.isnan(got).any(), f"{name}: {int(np.isnan(got).sum())} of {got.size} elements are NaN (unwritten?)"
    error = relative_error(got, expected)
    if not error < limit:
        worst = np.unravel_index(np.argmax(np.abs(got - expected)), got.shape) if got.ndim else ()
        norm = np.linalg.norm(expected)
        raise AssertionError(
            f"{name}: relative error {error:.3g}, allowed {limit:.3g} (norm of the reference {norm:.3g}); "
            f"worst at {tuple(int(i) for i in worst)}: got {got[worst]!r}, expected {expected[worst]!r}"
        )


def assert_zero(got: Any, name: str = "result") -> None:
    """Fail unless every element is exactly 0 (for the few results whose true value is 0)."""
    got = np.asarray(got)
    assert (got == 0).all(), f"{name}: expected zeros, got up to {np.abs(got).max()!r}"


def draw(engine: Any, rng: np.random.Generator, *shape: int, scale: float = 1.0, shift: float = 0.0) -> np.ndarray:
    """N(shift, scale²) values that the engine's dtype holds exactly, as float64 (so that both sides see the same)."""
    return (shift + scale * rng.standard_normal(shape)).astype(engine.dtype).astype(np.float64)


def put(engine: Any, array: Any, dtype: Any = None) -> Any:
    """A fresh device array of the engine's dtype (or of `dtype`) with the values of `array`."""
    return kernel_check.place(engine, array, np.shape(array), engine.dtype if dtype is None else dtype)


def poisoned(engine: Any, *shape: int, dtype: Any = None) -> Any:
    """An output full of NaN: an element that an operation leaves alone, or accumulates into, shows."""
    return kernel_check.place(engine, None, shape, engine.dtype if dtype is None else dtype)


def leaf(array: Any) -> torch.Tensor:
    """A float64 torch leaf that wants its gradient."""
    return torch.tensor(np.asarray(array, np.float64), requires_grad=True)


def gradients(y: torch.Tensor, dy: Any, *leaves: torch.Tensor) -> list[np.ndarray]:
    """Gradients of sum(y * dy) by autograd, as NumPy."""
    return [numpy(g) for g in torch.autograd.grad(y, leaves, torch.as_tensor(np.asarray(dy, np.float64)))]


def numpy(tensor: Any) -> np.ndarray:
    """A tensor or array as NumPy."""
    return tensor.detach().numpy() if isinstance(tensor, torch.Tensor) else np.asarray(tensor)


def check_products(
    engine: Any, rng: np.random.Generator, kind: str, reference: Any, x: Any, w: Any, y: Any, bias: bool, terms: Any, **options: Any
) -> None:
    """Forward, dgrad and wgrad of `kind` ("conv2d", …), given the shapes of x, w and y, against `reference(x, w, bias)` in torch.

    `terms`: products summed in an element of (y, dx, dw); `bias`: whether there is one; `options` of all three operations.
    """
    count = y[-1]
    x, w, dy, b = draw(engine, rng, *x), draw(engine, rng, *w), draw(engine, rng, *y), draw(engine, rng, count) * bias
    leaves = leaf(x), leaf(w), leaf(b)
    ty = reference(*leaves)
    assert ty.shape == y
    ex, ew, eb = gradients(ty, dy, *leaves)
    limits = [tolerance(engine.dtype, n) for n in terms]

    got = poisoned(engine, *y)
    getattr(engine, f"{kind}_forward")(got, put(engine, x), put(engine, w), put(engine, b) if bias else None, **options)
    assert_close(engine.to_numpy(got), ty, limits[0], "y")
    dx = poisoned(engine, *x.shape)
    getattr(engine, f"{kind}_dgrad")(dx, put(engine, dy), put(engine, w), **options)
    assert_close(engine.to_numpy(dx), ex, limits[1], "dx")
    dw, db = poisoned(engine, *w.shape), poisoned(engine, count) if bias else None
    getattr(engine, f"{kind}_wgrad")(dw, put(engine, x), put(engine, dy), dbias=db, **options)
    assert_close(engine.to_numpy(dw), ew, limits[2], "dw")
    if bias:
        assert_close(engine.to_numpy(db), eb, 10 * tolerance(engine.dtype, dy.size // count), "dbias")


# Torch forms of the layouts of this repository: activations NHWC, convolution weights [KH, KW, Ci, Co].


def torch_conv2d(x: torch.Tensor, w: torch.Tensor, bias: torch.Tensor | None = None, stride: int = 1) -> torch.Tensor:
    """Same-padded convolution, NHWC in and out."""
    padding = ((w.shape[0] - 1) // 2, (w.shape[1] - 1) // 2)
    # contiguous: for some small shapes PyTorch's float64 convolutions refuse permuted arrays in the backward
    x, w = x.permute(0, 3, 1, 2).contiguous(), w.permute(3, 2, 0, 1).contiguous()
    y = torch.nn.functional.conv2d(x, w, bias, stride, padding)
    return y.permute(0, 2, 3, 1)


def torch_conv_transpose2d(
    x: torch.Tensor, w: torch.Tensor, size: tuple[int, int], bias: torch.Tensor | None = None, stride: int = 2
) -> torch.Tensor:
    """Fractional-strided convolution to rows and columns `size`, NHWC in and out, w [KH, KW, Co, Ci]."""
    padding = ((w.shape[0] - 1) // 2, (w.shape[1] - 1) // 2)
    extra = tuple(size[i] - (stride * (x.shape[1 + i] - 1) + 1) for i in range(2))
    x, w = x.permute(0, 3, 1, 2).contiguous(), w.permute(3, 2, 0, 1).contiguous()
    y = torch.nn.functional.conv_transpose2d(x, w, bias, stride, padding, output_padding=extra)
    return y.permute(0, 2, 3, 1)


def torch_batch_norm(x: torch.Tensor, gamma: torch.Tensor, beta: torch.Tensor, groups: tuple[int, ...], eps: float) -> torch.Tensor:
    """Batch norm over all axes but the last, each group of images with its own biased statistics."""
    axes = tuple(range(x.ndim - 1))
    parts = [(part - part.mean(axes)) / torch.sqrt(part.var(axes, unbiased=False) + eps) for part in torch.split(x, groups)]
    return torch.cat(parts) * gamma + beta


def statistics(x: np.ndarray, groups: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and biased variance [G, C] of the groups of `x` [N, ..., C]."""
    parts = np.split(x, np.cumsum(groups)[:-1])
    axes = tuple(range(x.ndim - 1))
    return np.stack([p.mean(axes) for p in parts]), np.stack([p.var(axes) for p in parts])
