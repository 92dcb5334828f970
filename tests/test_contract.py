"""What every operation of the contract refuses, on every engine: arrays of another shape, dtype or layout, in any place, and wrong values.

The arguments are those of the kernel cases; one of them after the other is replaced. Nothing may be computed before all is checked.
"""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from kernel_cases import cases
from kernel_check import Run, place
from kernel_draw import Draw, Slot
from kernel_shapes import FEW

import kernels

#: Arguments that may be otherwise, by kind of change: lengths that nothing else has, dtypes that do not count.
ALONE = {("fill", "out"), ("normal", "out"), ("uniform_init", "out")}
LONGER = {("look_up_rate", "rates"), ("gather_batch", "order"), ("augment_batch", "order"), ("gather_rows", "order")}
FREE = {
    "dtype": {("fill", "out"), ("gather_images", "indices")},
    "layout": {("gather_images", "indices")},
    "axes": ALONE,
    "last": ALONE | LONGER,
    "middle": ALONE | {("batch_norm_statistics", "x")},
    "first": ALONE | LONGER | {
        ("gather_images", "images"), ("gather_batch", "images"), ("augment_batch", "images"), ("gather_rows", "rows"),
        ("gather_rows", "out"), ("sum_parts", "parts"),
    },
}  # fmt: skip


@pytest.fixture(scope="module", params=["cpu-float64", "cpu-float32", "cuda-float32", "cuda-bf16"])
def checking(request):
    """An engine that need not execute anything: on "cuda" launches are recorded."""
    device, precision = request.param.split("-")
    if device == "cpu":
        return kernels.engine("cpu", precision)
    pytest.importorskip("triton", reason="Triton is not installed (Linux only)")
    from kernels.cuda.device.chips import CHIPS
    from kernels.cuda.engine import dry_engine

    return dry_engine(CHIPS["sm_90"], precision)


def bound(case, args, kwargs):
    """{name of the parameter: the case's argument}."""
    names = list(inspect.signature(case.call or getattr(kernels.Engine, case.operation)).parameters)[1:]
    return {**dict(zip(names, args, strict=False)), **kwargs}


def named(arguments):
    """{name: slot} of the arrays; those within named tuples and lists as "previous.sums"."""
    found = {}

    def walk(name, value):
        if isinstance(value, Slot):
            found[name] = value
        elif isinstance(value, tuple | list):
            for field, part in zip(getattr(value, "_fields", range(len(value))), value, strict=True):
                walk(f"{name}.{field}", part)

    for name, value in arguments.items():
        walk(name, value)
    return found


def fullest():
    """{operation: its case with most arrays}, and of gradients one that is given the sums and reads no y."""
    found = {}
    for case in cases(FEW):
        arguments = bound(case, *case.build(Draw("float32", 0)))
        slots = named(arguments)
        apart = len({id(slot) for slot in slots.values()}) == len(slots)  # not in place
        rank = apart and arguments.get("sums") is None and arguments.get("relu") is not False, len(slots)
        if case.operation in kernels.OPERATIONS and rank > found.get(case.operation, ((), None))[0]:
            found[case.operation] = rank, case
        if arguments.get("sums") is not None:
            found[f"{case.operation}, sums given"] = rank, case
    return {title: case for title, (_, case) in found.items()}


CASES = fullest()


def changes(engine, array):
    """(kind, an array like ``array`` that is otherwise in that)."""
    for axis, length in enumerate(array.shape):
        kind = "last" if axis == array.ndim - 1 else "middle" if axis else "first"
        shape = (*array.shape[:axis], length + 3, *array.shape[axis + 1 :])  # 3: no odd kernel, no picture of as many outputs
        yield kind, place(engine, None, shape, array.dtype)
    yield "axes", place(engine, None, (*array.shape, 1), array.dtype)
    yield "dtype", place(engine, None, array.shape, np.int16)
    yield "dtype", place(engine, None, array.shape, np.float64 if array.dtype == np.float32 else np.float32)
    if array.shape[-1] > 1:
        yield "layout", place(engine, None, (*array.shape[:-1], 2 * array.shape[-1]), array.dtype)[..., ::2]


def test_every_operation_is_here():
    assert {title.split(",")[0] for title in CASES} == set(kernels.OPERATIONS)


@pytest.mark.parametrize("title", CASES)
def test_an_array_that_does_not_fit_is_refused(checking, title):
    """In one line that says what was got and what was expected; and nothing was computed."""
    case, accepted = CASES[title], []
    first = Run(checking, case)
    for name, slot in named(bound(case, first.args, first.kwargs)).items():
        if "sums given" in title and name == "y" or (checking.dtype != checking.wide and case.operation == "copy"):
            continue  # not read; converted
        for kind, bad in changes(checking, first.arrays[id(slot)]):
            if (case.operation, name) in FREE.get(kind, ()):
                continue
            run = Run(checking, case)
            arrays = {id(s): run.arrays[id(s)] for s in run.slots}
            before = {key: np.array(checking.to_numpy(array)) for key, array in arrays.items()}
            number = first.slots.index(slot)
            run.arrays[id(run.slots[number])] = bad
            with pytest.raises(ValueError) as caught:
                run()
                accepted.append((name, kind, bad.shape, bad.dtype))
                raise ValueError("got, expected")
            assert "got" in str(caught.value) and "expected" in str(caught.value) and "\n" not in str(caught.value), (
                name,
                kind,
                caught.value,
            )
            for key, array in arrays.items():
                now = checking.to_numpy(array)
                assert np.array_equal(now, before[key], equal_nan=before[key].dtype.kind == "f"), (name, kind)
    assert not accepted


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
    for case in cases(FEW):
        if case.operation == operation and case.call is None:
            run = Run(engine, case)
            arguments = bound(case, *run.filled())
            if arguments.get(name) is not None:
                break
    else:
        raise AssertionError(f"no case of {operation} has {name}")
    arguments[name] = change(engine, arguments[name]) if callable(change) else change
    with pytest.raises(ValueError, match=message):
        getattr(engine, operation)(**arguments)
