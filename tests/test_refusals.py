"""What every operation of every engine refuses: any of its arrays with another shape, number of axes, dtype or layout. Values that are
refused (a stride of 3, groups that do not sum to the batch, …) are in each operation's own test."""

from __future__ import annotations

import numpy as np
import pytest
from kernel_cases import cases
from kernel_check import Run, dtype_of, place
from kernel_draw import Draw
from kernel_shapes import FEW

import kernels


def spoiled(engine, array):
    """(what is wrong, such an array): each axis longer, an axis more, another dtype, gaps between elements."""
    for axis in range(array.ndim):
        what = "last" if axis == array.ndim - 1 else "middle" if axis else "first"
        shape = (*array.shape[:axis], array.shape[axis] + 3, *array.shape[axis + 1 :])  # 3: no odd kernel, no picture of as many outputs
        yield what, place(engine, None, shape, array.dtype)
    yield "axes", place(engine, None, (*array.shape, 1), array.dtype)
    yield "dtype", place(engine, None, array.shape, np.float64 if array.dtype == np.float32 else np.float32)
    if array.shape[-1] > 1:
        yield "layout", place(engine, None, (*array.shape[:-1], 2 * array.shape[-1]), array.dtype)[..., ::2]


ALL = "first middle last axes dtype layout"
SIZES = "first middle last axes"
BLOCKS = tuple(f"{kind}_bn_relu_backward" for kind in ("conv2d", "upconv", "linear"))
#: What arrays may be otherwise, by operation and number: an output that says how much is wanted, a larger data set, more indices, y where
#: the sums are given.
FREE = {
    "fill": {0: SIZES + " dtype"}, "normal": {0: SIZES}, "uniform_init": {0: SIZES}, "look_up_rate": {1: "last"},
    "batch_norm_statistics": {2: "middle"}, "gather_batch": {1: "first", 2: SIZES}, "augment_batch": {1: "first", 2: SIZES},
    "gather_rows": {1: "first", 2: SIZES}, "gather_images": {1: "first", 2: SIZES + " dtype layout"}, **{name: {5: ALL} for name in BLOCKS},
}  # fmt: skip
#: Arrays that an engine does not look at so closely, by number.
LENIENT = {
    "cpu": {
        "conv2d_dgrad": (7, 8), "conv_transpose2d_dgrad": (7, 8), "linear_dgrad": (7, 8), **dict.fromkeys(BLOCKS, (17, 18)),
        "linear_wgrad_rmsprop": (2, 5), "batch_norm_update_running": (0, 1), "rmsprop_update": (3,), "adam_update": (5,),
        "rmsprop_update_all": (5, 13, 19, 26, 29), "adam_update_all": (7, 19, 27, 29, 40, 45), "copy": (0, 1), "gather_batch": (0,),
        "augment_batch": (0,), "gather_images": (0,), "normal": (0, 1), "uniform_init": (0,), "look_up_rate": (0, 1, 2), "advance": (0,),
        "count_gate": (0, 1),
    },
    "cuda": {"rmsprop_update_all": (16, 17), "adam_update_all": (24, 25, 26, 27)},  # of a parameter without a gradient
    "cuda-bf16": {"copy": (0, 1), "batch_norm_statistics": (2,), "gather_batch": (0,), "augment_batch": (0,), "gather_images": (0,)},
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


def fullest():
    """Of each operation the case with most arrays."""
    found = {}
    for case in cases(FEW):
        arrays = len(Run.slots_of(case.build(Draw("float32", 0))))
        if "relu False" not in case.label and arrays > found.get(case.operation, (0, None))[0]:
            found[case.operation] = arrays, case
    return {operation: case for operation, (_, case) in found.items()}


CASES = fullest()


@pytest.mark.parametrize("operation", CASES)
def test_wrong_arrays_are_refused(checking, operation):
    """With a message that says which argument, what was got and what was expected."""
    lenient = [LENIENT.get(name, {}).get(operation, ()) for name in (checking.name, f"{checking.name}-{checking.precision}")]
    accepted = []
    for number, slot in enumerate(Run(checking, CASES[operation]).slots):
        if any(number in numbers for numbers in lenient):
            continue
        for what, bad in spoiled(checking, place(checking, None, slot.shape, dtype_of(checking, slot.role))):
            if what in FREE.get(operation, {}).get(number, "").split():
                continue
            run = Run(checking, CASES[operation])
            run.arrays[id(run.slots[number])] = bad
            try:
                run()
            except ValueError as error:
                if "got " in str(error) and "expected " in str(error):
                    continue
            except Exception:  # another error is no refusal
                pass
            accepted.append((number, what))
    assert not accepted
