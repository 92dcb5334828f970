"""RMSProp and Adam in CUDA C on the emulated device: one array at a time and in a list, against the NumPy engine in float64."""

from __future__ import annotations

import numpy as np
import pytest
from cuda_case import FLOAT32, PRECISIONS, Operations, draw, float64, same_bits
from gradcheck import assert_close

from kernels import UpdateEntry
from kernels.cpu import optimizer as cpu

SHAPES = [(1,), (5, 5, 3, 4), (129, 33), (20_001,)]  # the last one in three chunks
KINDS = {"rmsprop": 1, "adam": 2}  # states of w's shape
LIMIT = 1e-6


def states_of(rng, kind, shape):
    """w and its states in the middle of a training, float64."""
    return [draw(rng, "float32", *shape), *(np.abs(draw(rng, "float32", *shape)) for _ in range(KINDS[kind]))]


def update_numpy(kind, arrays, t, dw, **options):
    if kind == "rmsprop":
        cpu.rmsprop_update(*arrays, dw, **options)
    else:
        cpu.adam_update(*arrays, t, dw, **options)


def update(ops, kind, arrays, t, dw, **options):
    if kind == "rmsprop":
        ops.rmsprop_update(*arrays, dw, **options)
    else:
        ops.adam_update(*arrays, t, dw, **options)


@pytest.mark.parametrize("shift", [0, 1], ids=["aligned", "unaligned"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_one_parameter(rng, kind, shape, shift):
    ops = Operations()
    arrays, t = states_of(rng, kind, shape), np.array([2])
    device, device_t = [ops.put(a, shift=shift) for a in arrays], ops.put([2], np.int64)
    rate = ops.put([0.01])
    for step, (scale, lr) in enumerate(((1.0, 0.01), (1e-6, rate), (30.0, np.float64(0.01)))):
        dw = draw(rng, "float32", *shape, scale=scale)
        given = ops.put(dw, shift=shift)
        update_numpy(kind, arrays, t, dw, lr=float(np.float32(0.01)), weight_decay=0.02 * (step % 2))
        update(ops, kind, device, device_t, given, lr=lr, weight_decay=0.02 * (step % 2))
        assert np.array_equal(given, dw), "the gradient was written"
    for name, got, expected in zip(("w", "s0", "s1"), device, arrays, strict=False):
        assert_close(float64(got), expected, LIMIT, name)
    assert device_t[0] == t[0] == (5 if kind == "adam" else 2)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("flag", [0, 1])
def test_a_gated_update_freezes_parameter_and_state(rng, kind, flag):
    ops = Operations()
    device, t = [ops.put(a) for a in states_of(rng, kind, (5, 7))], ops.put([3], np.int64)
    before = [a.tobytes() for a in device]
    update(ops, kind, device, t, ops.put(rng.standard_normal((5, 7))), lr=0.1, weight_decay=0.1, enabled=ops.put([flag], np.uint8))
    for array, bits in zip(device, before, strict=True):
        assert (array.tobytes() == bits) == (flag == 0)
    assert t[0] == 3 + (flag if kind == "adam" else 0)


def entries_of(ops, rng, kind, flags):
    """Parameters of three networks as they come: gated, with a compute copy, without, the copy w itself, unaligned, no gradient."""
    entries, arrays = [], []
    for i, shape in enumerate([(1,), (20_001,), (5, 5, 3, 4), (64, 128), (7,), (3, 3)]):
        values, dw = states_of(rng, kind, shape), draw(rng, "float32", *shape)
        shift = 1 if i == 3 else 0
        device = [ops.put(a, FLOAT32, shift) for a in values]
        states = tuple(device[1:]) + ((ops.put([i], np.int64),) if kind == "adam" else ())
        own = device[0] if ops.dtype == FLOAT32 else ops.out(shape)
        copy = [None, own, own, ops.out(shape, shift=shift), own, own][i]
        enabled = None if i == 2 else flags[i % 2]
        grad = None if i == 4 else ops.put(dw, FLOAT32, shift)
        entries.append(UpdateEntry(device[0], copy, states, grad, 0.01 * (i % 3), enabled))
        arrays.append((values, dw))
    return entries, arrays


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("gate", [(1, 1), (0, 1), (1, 0)])
@pytest.mark.parametrize("kind", KINDS)
def test_a_table_of_parameters(rng, precision, gate, kind):
    ops = Operations(precision)
    flags = [ops.put([flag], np.uint8) for flag in gate]
    entries, arrays = entries_of(ops, rng, kind, flags)
    before = [[a.tobytes() for a in (e.w, *e.states)] for e in entries]
    poison = [None if e.copy is None else e.copy.tobytes() for e in entries]
    updates = ops.update_list(kind, entries)
    ops.device.launches = launches = []
    for lr in (0.01, ops.put([0.01], FLOAT32)):
        (ops.rmsprop_update_all if kind == "rmsprop" else ops.adam_update_all)(updates, lr=lr)
    assert len(launches) == 2 * KINDS[kind], "one launch for RMSProp, two for Adam"
    for i, (entry, (values, dw)) in enumerate(zip(entries, arrays, strict=True)):
        applied = entry.grad is not None and (entry.enabled is None or entry.enabled[0])
        if not applied:
            assert [a.tobytes() for a in (entry.w, *entry.states)] == before[i]
            assert entry.copy is None or entry.copy.tobytes() == poison[i], "the copy of a parameter that is not updated"
            continue
        t = np.array([i])
        for _ in range(2):
            update_numpy(kind, values, t, dw, lr=float(np.float32(0.01)), weight_decay=entry.weight_decay)
        for got, expected in zip((entry.w, *entry.states), values, strict=False):
            assert_close(float64(got), expected, LIMIT, f"entry {i}")
        if kind == "adam":
            assert entry.states[2][0] == t[0] == i + 2, "t advances once an update"
        if entry.copy is not None:
            assert entry.copy.tobytes() == entry.w.astype(ops.dtype).tobytes(), "the copy is not the new parameter"


def test_the_table_does_what_single_calls_do(rng):
    """The same bits, whichever way a parameter is updated and in whatever order the threads run."""
    values, dw = states_of(rng, "adam", (9001,)), draw(rng, "float32", 9001)

    def run(seed, updates=True):
        ops = Operations(seed=seed)
        w, m, v = (ops.put(a) for a in values)
        t, grad = ops.put([6], np.int64), ops.put(dw)
        if updates:
            rows = ops.update_list("adam", [UpdateEntry(w, None, (m, v, t), grad, 0.03, None)])
            ops.adam_update_all(rows, lr=0.02)
        else:
            ops.adam_update(w, m, v, t, grad, lr=0.02, weight_decay=0.03)
        return w, m, v, t

    same_bits(run)
    assert [a.tobytes() for a in run(0)] == [a.tobytes() for a in run(0, updates=False)]


@pytest.mark.parametrize("kind", KINDS)
def test_cost_and_empty_table(kind):
    ops = Operations("bf16")
    states = tuple(ops.out((10,), FLOAT32) for _ in range(KINDS[kind]))
    t = (ops.put([0], np.int64),) if kind == "adam" else ()
    w, grad, copy = ops.out((10,), FLOAT32), ops.out((10,), FLOAT32), ops.out((10,))
    updates = ops.update_list(kind, [UpdateEntry(w, copy, states + t, grad, 0.0, None)])
    assert (updates.device.cost.reads, updates.device.cost.writes) == (40 * (2 + KINDS[kind]), 40 * (1 + KINDS[kind]) + 20)
    empty = ops.update_list(kind, [UpdateEntry(w, copy, states + t, None, 0.0, None)])
    ops.device.launches = launches = []
    (ops.rmsprop_update_all if kind == "rmsprop" else ops.adam_update_all)(empty, lr=0.1)
    assert launches == []


def test_an_infinite_gradient_is_not_hidden():
    ops = Operations()
    w, ms = ops.put([1.0, 1.0, 1.0]), ops.put([1.0, 1.0, 1.0])
    ops.rmsprop_update(w, ms, ops.put([np.inf, np.nan, 1.0]), lr=0.1)
    assert np.isnan(w[:2]).all() and np.isfinite(w[2]) and not np.isfinite(ms[:2]).any()


def test_optimizers_refuse():
    ops = Operations("bf16")
    good, t = ops.out((2, 3), FLOAT32), ops.put([0], np.int64)
    flag = ops.put([1], np.uint8)
    for bad in (ops.out((2, 4), FLOAT32), ops.out((2, 3)), ops.out((2, 3), np.float64)):
        for position in range(3):
            arguments = [good, good, good]
            arguments[position] = bad
            with pytest.raises(ValueError, match="got .*expected"):
                ops.rmsprop_update(*arguments, lr=0.1)
            with pytest.raises(ValueError, match="got .*expected"):
                ops.adam_update(arguments[0], arguments[1], good, t, arguments[2], lr=0.1)
            with pytest.raises(ValueError, match="got .*expected"):
                ops.update_list("rmsprop", [UpdateEntry(arguments[0], None, (arguments[1],), arguments[2], 0.0, None)])
    narrow = ops.out((2, 3))
    for call in (
        lambda: ops.adam_update(good, good, good, ops.put([0], np.int32), good, lr=0.1),
        lambda: ops.rmsprop_update(good, good, good, lr=ops.put([0.1], np.float64)),
        lambda: ops.rmsprop_update(good, good, good, lr=0.1, enabled=ops.put([1, 1], np.uint8)),
        lambda: ops.update_list("sgd", []),
        lambda: ops.update_list("adam", [UpdateEntry(good, None, (good, good), good, 0.0, flag)]),
        lambda: ops.update_list("rmsprop", [UpdateEntry(good, ops.out((2, 4)), (good,), good, 0.0, flag)]),
        lambda: ops.update_list("rmsprop", [UpdateEntry(narrow, None, (good,), good, 0.0, flag)]),
        lambda: ops.rmsprop_update_all(ops.update_list("adam", []), lr=0.1),
    ):
        with pytest.raises(ValueError, match="got .*expected"):
            call()
