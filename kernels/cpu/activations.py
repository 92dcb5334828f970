"""ReLU, tanh and sigmoid, each gradient from the output; contract: `kernels.contract.activations`."""

from __future__ import annotations

import numpy as np

from kernels.cpu.threads import elementwise, scratch


def activate(y: np.ndarray, activation: str | None) -> None:
    """``activation`` of a convolution ("relu", "tanh" or None) on its output, in place."""
    if activation == "relu":
        relu_forward(y, y)
    elif activation == "tanh":
        tanh_forward(y, y)


def relu_forward(y: np.ndarray, x: np.ndarray) -> None:
    elementwise(clip, y, x)


def clip(y: np.ndarray, x: np.ndarray) -> None:
    """y = max(x, 0) of a piece, NaN where x is (`np.clip` has vector instructions for a constant bound, `np.maximum` has none)."""
    np.clip(x, 0, np.inf, out=y)


def relu_backward(dx: np.ndarray, dy: np.ndarray, y: np.ndarray) -> None:
    def work(out: np.ndarray, error: np.ndarray, value: np.ndarray) -> None:
        positive = scratch("positive", value.shape, bool)
        np.greater(value, 0, out=positive)
        np.multiply(error, positive, out=out)

    elementwise(work, dx, dy, y)


def tanh_forward(y: np.ndarray, x: np.ndarray) -> None:
    elementwise(lambda o, a: np.tanh(a, out=o), y, x)


def tanh_backward(dx: np.ndarray, dy: np.ndarray, y: np.ndarray) -> None:
    def work(out: np.ndarray, error: np.ndarray, value: np.ndarray) -> None:
        slope = scratch("slope", value.shape, value.dtype)
        np.multiply(value, value, out=slope)
        np.subtract(1, slope, out=slope)
        np.multiply(error, slope, out=out)

    elementwise(work, dx, dy, y)


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(−x)) without overflow, by tanh: a new array, for small ones."""
    return 0.5 * np.tanh(0.5 * x) + 0.5


def sigmoid_forward(y: np.ndarray, x: np.ndarray) -> None:
    def work(out: np.ndarray, value: np.ndarray) -> None:
        np.multiply(value, 0.5, out=out)
        np.tanh(out, out=out)
        out *= 0.5
        out += 0.5

    elementwise(work, y, x)


def sigmoid_backward(dx: np.ndarray, dy: np.ndarray, y: np.ndarray) -> None:
    def work(out: np.ndarray, error: np.ndarray, value: np.ndarray) -> None:
        slope = scratch("slope", value.shape, value.dtype)
        np.subtract(1, value, out=slope)
        slope *= value
        np.multiply(error, slope, out=out)

    elementwise(work, dx, dy, y)
