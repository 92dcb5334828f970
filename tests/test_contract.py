"""What every operation of the contract refuses, on every engine: arrays of another shape, dtype or layout, in any place, and wrong values.

The arguments are those of the kernel cases; one of them after the other is replaced. Nothing may be computed before all is checked.
"""

from __future__ import annotations

import inspect

import kernel_check as kernel
import numpy as np
import pytest
from kernel_cases import cases
from kernel_shapes import TINY

import kernels

CASES = [case for case in cases(TINY) if case.operation in kernels.OPERATIONS]

#: What may be otherwise, by kind of change: lengths that nothing else has, dtypes that do not count.
FREE = {
    "dtype": {("fill", "out"), ("gather_images", "indices")},
    "columns": {
        ("fill", "out"), ("normal", "out"), ("uniform_init", "out"), ("look_up_rate", "rates"), ("gather_batch", "order"),
        ("augment_batch", "order"), ("gather_rows", "order"),
    },
    "rows": {
        ("fill", "out"), ("normal", "out"), ("uniform_init", "out"), ("look_up_rate", "rates"), ("gather_batch", "order"),
        ("augment_batch", "order"), ("gather_rows", "order"), ("gather_images", "images"), ("gather_batch", "images"),
        ("augment_batch", "images"), ("gather_rows", "rows"), ("gather_rows", "out"),
    },
    "axes": {("fill", "out"), ("normal", "out"), ("uniform_init", "out")},
}  # fmt: skip


def bound(case, args, kwargs):
    """{name of the parameter: the case's argument}."""
    names = list(inspect.signature(case.call or getattr(kernels.Engine, case.operation)).parameters)[1:]
    return {**dict(zip(names, args, strict=False)), **kwargs}


def slots_of(arguments):
    """{name: slot} of the arrays, those within named tuples and lists as "previous.sums", without those that are not read."""
    found = {}

    def walk(name, value):
        if isinstance(value, kernel.Slot):
            found[name] = value
        elif isinstance(value, tuple | list):
            for field, part in zip(getattr(value, "_fields", range(len(value))), value, strict=True):
                walk(f"{name}.{field}", part)

    for name, value in arguments.items():
        walk(name, value)
    return found


def changed(engine, array, kind):
    """An array like ``array`` with another dtype, layout, last axis, first axis or number of axes."""
    first, *rest = array.shape
    last = array.shape[-1]
    if kind == "dtype":
        return engine.empty(array.shape, np.int16)
    if kind == "layout":
        return engine.empty((*array.shape[:-1], 2 * last + 2), array.dtype)[..., : 2 * last : 2]
    shape = {"columns": (*array.shape[:-1], last + 1), "rows": (first + 1, *rest), "axes": (*array.shape, 1)}[kind]
    return engine.empty(shape, array.dtype)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_an_array_that_does_not_fit_is_refused(engine, case):
    args, kwargs = case.build(kernel.Draw(engine.precision, 0))
    arguments = bound(case, args, kwargs)
    slots = slots_of(arguments)
    unread = "y" if arguments.get("sums") is not None or arguments.get("relu") is False else None  # of a gradient
    for name, slot in slots.items():
        for kind in ("dtype", "layout", "columns", "rows", "axes"):
            if (case.operation, name) in FREE.get(kind, ()) or (case.operation.endswith("backward") and name == unread):
                continue
            if kind == "layout" and slot.shape[-1] < 2:
                continue
            arrays = {id(s): kernel._place(engine, s) for s in slots.values()}
            before = {key: np.array(engine.to_numpy(array)) for key, array in arrays.items()}
            given = {**arrays, id(slot): changed(engine, arrays[id(slot)], kind)}
            with pytest.raises(ValueError, match="got .*expected") as caught:
                kernel._call(engine, case, kernel._fill(args, given), kernel._fill(kwargs, given))
                pytest.fail(f"{name}: other {kind} were taken")
            assert "\n" not in str(caught.value)
            for key, array in arrays.items():
                assert np.array_equal(engine.to_numpy(array), before[key], equal_nan=before[key].dtype.kind == "f"), (name, kind)


def test_every_operation_is_among_the_cases():
    assert {case.operation for case in CASES} == set(kernels.OPERATIONS)


def resized(**sizes):
    """A change of an array: its axes by number, as in a0=4."""
    return lambda engine, array: engine.empty(tuple(sizes.get(f"a{i}", n) for i, n in enumerate(array.shape)), array.dtype)


def set_to(value):
    """A change of an array's values."""

    def change(engine, array):
        engine.put(array, np.full(array.shape, value))
        return array

    return change


#: (operation, argument, what it is changed to or a function of the engine and the argument, what is said)
VALUES = [
    ("conv2d_forward", "y", resized(a3=99), r"^y: got shape .*, expected \("),
    ("conv2d_forward", "stride", 3, "stride: got 3, expected 1 or 2"),
    ("conv2d_wgrad", "stride", 0, "stride: got 0, expected 1 or 2"),
    ("conv2d_forward", "activation", "gelu", "activation: got 'gelu', expected"),
    ("conv_transpose2d_forward", "activation", "sigmoid", "activation: got 'sigmoid', expected"),
    ("conv2d_forward", "w", resized(a0=4), "w: got a 4x5 kernel, expected odd sizes"),
    ("conv2d_wgrad", "dw", resized(a1=2), "dw: got a 5x2 kernel, expected odd sizes"),
    ("conv_transpose2d_forward", "y", resized(a1=9), "x: got shape"),
    ("conv_transpose2d_forward", "y", resized(a1=4, a2=4), "x: got shape"),
    *(
        (operation, "groups", groups, "groups: got .*expected positive image counts")
        for operation in ("batch_norm_statistics", "batch_norm_forward", "batch_norm_backward", "conv2d_bn_relu_forward")
        for groups in ((), (99,), (99, -1), (1, 0))
    ),
    ("conv2d_dgrad", "previous", lambda engine, previous: previous._replace(groups=(99,)), "groups: got"),
    ("gan_loss", "n_real", 10**6, "n_real: got 1000000, expected"),
    ("generator_loss", "n_real", -1, "n_real: got -1, expected"),
    ("gather_batch", "per_epoch", 0, "order: got .*expected at least"),
    ("gather_batch", "per_epoch", 10**6, "order: got .*expected at least 1000000 batches"),
    ("gather_rows", "per_epoch", 10**6, "order: got .*expected at least 1000000 batches"),
    ("gather_batch", "seed", -1, "seed: got -1, expected"),
    ("augment_batch", "seed", 1 << 64, "seed: got .*expected"),
    ("normal", "seed", 1 << 64, "seed: got .*expected"),
    ("normal", "stream", 1 << 32, "stream: got .*expected"),
    ("normal", "step", -1, "step: got -1, expected"),
    ("uniform_init", "index", -1, "index: got -1, expected"),
    ("gather_images", "indices", set_to(-1), "indices: got values from -1 to -1, expected"),
    ("rmsprop_update", "lr", lambda engine, lr: engine.empty((2,), engine.wide), r"lr: got shape \(2,\), expected"),
]
#: Of values that only an engine with ``host_memory`` can read first; on a GPU they give NaN (tests/test_cuda_c.py and others).
READ = [
    ("gather_batch", "order", set_to(10**6), "order: got values from 1000000 to 1000000, expected"),
    ("augment_batch", "order", set_to(-1), "order: got values from -1 to -1, expected"),
    ("gather_rows", "order", set_to(10**6), "order: got values"),
    ("softmax_cross_entropy_forward", "labels", set_to(10**6), "labels: got values"),
    ("softmax_cross_entropy_backward", "labels", set_to(-2), "labels: got values from -2 to -2, expected"),
]


@pytest.mark.parametrize(("operation", "name", "change", "message"), VALUES + READ)
def test_a_value_that_does_not_fit_is_refused(engine, operation, name, change, message):
    if (operation, name, change, message) in READ and not engine.host_memory:
        pytest.skip("a GPU's values are not read before a launch")
    for case in CASES:
        if case.operation == operation and case.call is None:
            args, kwargs = case.build(kernel.Draw(engine.precision, 0))
            arguments = bound(case, args, kwargs)
            if arguments.get(name) is not None:
                break
    else:
        raise AssertionError(f"no case of {operation} has {name}")
    arrays = {id(slot): kernel._place(engine, slot) for slot in slots_of(arguments).values()}
    arguments = kernel._fill(arguments, arrays)
    arguments[name] = change(engine, arguments[name]) if callable(change) else change
    with pytest.raises(ValueError, match=message):
        getattr(engine, operation)(**arguments)
