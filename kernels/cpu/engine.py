"""The NumPy engine: every machine has it, and every GPU kernel is held against it."""

from __future__ import annotations

from typing import Any

import numpy as np

from kernels.contract.operation import Array
from kernels.cpu import (
    activations,
    augment,
    batch,
    batch_norm,
    conv2d,
    conv_transpose2d,
    elementwise,
    fused,
    latent,
    linear,
    losses,
    optimizer,
    parts,
    random,
    threads,
)  # fmt: skip
from kernels.engine import Engine


class CPUEngine(Engine):
    """NumPy arrays; BLAS for products; pieces on ``threads`` threads. The thread count is the process's, not the object's."""

    def __init__(self, precision: str, thread_count: int | None = None):
        self.name = "cpu"
        self.precision = precision
        self.dtype = self.wide = np.dtype(precision)
        self.threads = threads.configure(thread_count)
        self.host_memory = True

    def empty(self, shape: tuple[int, ...], dtype: Any = None) -> np.ndarray:
        return np.empty(shape, self.dtype if dtype is None else dtype)

    def asarray(self, array: Any, dtype: Any = None) -> np.ndarray:
        return np.ascontiguousarray(array, self.dtype if dtype is None else dtype)

    def put(self, array: Array, values: Any) -> None:
        array[...] = values

    def upload_images(self, images: np.ndarray) -> np.ndarray:
        return images

    def to_numpy(self, array: Array) -> np.ndarray:
        return np.asarray(array)

    def describe(self) -> dict[str, Any]:
        return {"device": "cpu", "engine": "numpy", "precision": self.precision, "threads": self.threads}

    # ---- operations: the functions of this folder, by name ----

    _conv2d_forward = staticmethod(conv2d.conv2d_forward)
    _conv2d_dgrad = staticmethod(conv2d.conv2d_dgrad)
    _conv2d_wgrad = staticmethod(conv2d.conv2d_wgrad)
    _conv_transpose2d_forward = staticmethod(conv_transpose2d.conv_transpose2d_forward)
    _conv_transpose2d_dgrad = staticmethod(conv_transpose2d.conv_transpose2d_dgrad)
    _conv_transpose2d_wgrad = staticmethod(conv_transpose2d.conv_transpose2d_wgrad)
    _linear_forward = staticmethod(linear.linear_forward)
    _linear_dgrad = staticmethod(linear.linear_dgrad)
    _linear_wgrad = staticmethod(linear.linear_wgrad)
    _batch_norm_statistics = staticmethod(batch_norm.batch_norm_statistics)
    _batch_norm_forward = staticmethod(batch_norm.batch_norm_forward)
    _batch_norm_backward = staticmethod(batch_norm.batch_norm_backward)
    _finish_previous = staticmethod(batch_norm.finish_previous)
    _combine_statistics = staticmethod(parts.combine_statistics)
    _sum_parts = staticmethod(parts.sum_parts)
    _conv2d_bn_relu_forward = staticmethod(fused.conv2d_bn_relu_forward)
    _upconv_bn_relu_forward = staticmethod(fused.upconv_bn_relu_forward)
    _linear_bn_relu_forward = staticmethod(fused.linear_bn_relu_forward)
    _relu_forward = staticmethod(activations.relu_forward)
    _relu_backward = staticmethod(activations.relu_backward)
    _tanh_forward = staticmethod(activations.tanh_forward)
    _tanh_backward = staticmethod(activations.tanh_backward)
    _sigmoid_forward = staticmethod(activations.sigmoid_forward)
    _sigmoid_backward = staticmethod(activations.sigmoid_backward)
    _reparametrize_forward = staticmethod(latent.reparametrize_forward)
    _reparametrize_backward = staticmethod(latent.reparametrize_backward)
    _feature_likelihood = staticmethod(losses.feature_likelihood)
    _gan_loss = staticmethod(losses.gan_loss)
    _generator_loss = staticmethod(losses.generator_loss)
    _softmax_cross_entropy_forward = staticmethod(losses.softmax_cross_entropy_forward)
    _softmax_cross_entropy_backward = staticmethod(losses.softmax_cross_entropy_backward)
    _equilibrium_gate = staticmethod(losses.equilibrium_gate)
    _count_gate = staticmethod(losses.count_gate)
    _rmsprop_update = staticmethod(optimizer.rmsprop_update)
    _adam_update = staticmethod(optimizer.adam_update)
    _rmsprop_update_all = staticmethod(optimizer.rmsprop_update_all)
    _adam_update_all = staticmethod(optimizer.adam_update_all)
    _linear_wgrad_rmsprop = staticmethod(optimizer.linear_wgrad_rmsprop)
    _gather_images = staticmethod(batch.gather_images)
    _gather_batch = staticmethod(batch.gather_batch)
    _gather_rows = staticmethod(batch.gather_rows)
    _look_up_rate = staticmethod(batch.look_up_rate)
    _advance = staticmethod(batch.advance)
    _augment_batch = staticmethod(augment.augment_batch)
    _add = staticmethod(elementwise.add)
    _scale = staticmethod(elementwise.scale)
    _fill = staticmethod(elementwise.fill)
    _copy = staticmethod(elementwise.copy)
    _concatenate = staticmethod(elementwise.concatenate)
    _normal = staticmethod(random.normal)
    _uniform_init = staticmethod(random.uniform_init)
