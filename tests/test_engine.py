"""The switch between devices: what exists, what is refused, and that every engine has every operation."""

from __future__ import annotations

import inspect
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import kernels

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_cpu_engine(precision):
    engine = kernels.engine("cpu", precision=precision)
    assert (engine.name, engine.precision, engine.dtype) == ("cpu", precision, np.dtype(precision))
    assert engine.threads >= 1
    assert engine.empty((2, 3)).dtype == engine.dtype
    assert engine.empty((2, 3), np.uint8).dtype == np.uint8
    array = engine.asarray([[1, 2], [3, 4]])
    assert array.dtype == engine.dtype
    assert engine.asarray(np.ones((4, 6))[:, ::2]).flags.c_contiguous
    assert np.array_equal(engine.to_numpy(array), [[1, 2], [3, 4]])


def test_memory_of_an_engine(engine, rng):
    """What the floors above ask of every engine besides its operations."""
    array, values = engine.empty((3, 4)), rng.standard_normal((3, 4))
    engine.put(array, values)
    assert np.array_equal(engine.to_numpy(array), values.astype(engine.dtype))
    assert engine.asarray(values, engine.wide).dtype == engine.wide
    counter = engine.empty((1,), np.int64)
    engine.put(counter, [7])
    assert int(engine.to_numpy(counter)[0]) == 7
    images = rng.integers(0, 256, (5, 2, 2, 3), dtype=np.uint8)
    assert np.array_equal(engine.to_numpy(engine.upload_images(images)), images)
    calls = []
    replay = engine.record(lambda: calls.append(1))
    for _ in range(3):
        replay()
    engine.synchronize()
    assert len(calls) == 3, "nothing to record without a GPU"
    assert engine.describe()["precision"] == engine.precision
    assert json.dumps(engine.describe())


@pytest.mark.parametrize("number", [0, 5, (1 << 40) + 3])
def test_draws_at_a_step_in_an_array(engine, number):
    """A recorded step reads its number from an array: the same draws as for the number."""
    step = engine.empty((1,), np.int64)
    engine.put(step, [number])
    one, two, other = (engine.empty((6, 9), engine.wide) for _ in range(3))
    engine.normal(one, seed=3, step=number, stream=5)
    engine.normal(two, seed=3, step=step, stream=5)
    engine.normal(other, seed=3, step=number + 1, stream=5)
    assert np.array_equal(engine.to_numpy(one), engine.to_numpy(two))
    assert not np.array_equal(engine.to_numpy(one), engine.to_numpy(other))


def test_default_is_float32_on_the_cpu():
    assert kernels.engine().dtype == np.float32
    assert kernels.engine("cpu").name == "cpu"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"device": "tpu"}, "device: got 'tpu', expected"),
        ({"precision": "float16"}, "precision: got 'float16', expected"),
        ({"precision": "bf16"}, "precision: got 'bf16'"),
        ({"threads": 0}, "threads: got 0, expected"),
        ({"threads": -2}, "threads: got -2, expected"),
    ],
)
def test_engine_refuses(arguments, message):
    with pytest.raises(ValueError, match=message) as caught:
        kernels.engine(**{"device": "cpu", **arguments})
    assert "\n" not in str(caught.value)


def test_cuda_is_an_error_and_never_a_fallback():
    try:
        engine = kernels.engine("cuda")
    except RuntimeError as error:
        assert "\n" not in str(error)
        assert "cuda" in str(error).lower()
    else:
        assert engine.name == "cuda"


def test_every_engine_implements_every_operation(engine):
    """An operation of the contract and the engine's unchecked form of it have one signature, defaults included."""
    for name in kernels.OPERATIONS:
        contract, unchecked = (list(inspect.signature(getattr(engine, n)).parameters.values()) for n in (name, f"_{name}"))
        assert [(p.name, p.kind, p.default) for p in unchecked] == [(p.name, p.kind, p.default) for p in contract], name
        assert getattr(kernels.Engine, name).__doc__, name
    with pytest.raises(AttributeError, match="no_such_operation"):
        _ = engine.no_such_operation


#: (file of models/, words of it, others in their place, what mypy says of these)
MISSPELT = (
    ("blocks.py", "stride=self.stride, activation=", "strid=self.stride, activation=", 'Unexpected keyword argument "strid"'),
    ("vae.py", "eng.reparametrize_forward(", "eng.reparametrise_forward(", 'has no attribute "reparametrise_forward"'),
    ("gan.py", "log_eps=log_eps)", "log_eps=log_eps, weight=1)", 'Unexpected keyword argument "weight"'),
)


def test_a_misspelt_operation_or_keyword_is_a_type_error(tmp_path):
    """mypy, once, on a copy of models/ with a word wrong in each of some files: as many errors, each where it is."""
    pytest.importorskip("mypy", reason="mypy is not installed")
    shutil.copytree(ROOT / "models", tmp_path / "models", ignore=shutil.ignore_patterns("__pycache__"))
    for file, right, wrong, _ in MISSPELT:
        path = tmp_path / "models" / file
        text = path.read_text(encoding="utf-8")
        assert right in text
        path.write_text(text.replace(right, wrong, 1), encoding="utf-8")
    command = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), "-p", "models"]
    environment = {**os.environ, "MYPYPATH": f"{tmp_path}:{ROOT}", "PYTHONPATH": ""}
    done = subprocess.run(
        [*command, "--cache-dir", str(tmp_path / "cache")], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    errors = [line for line in done.stdout.splitlines() if ": error: " in line]
    assert done.returncode == 1 and len(errors) == len(MISSPELT), done.stdout + done.stderr
    for file, _, _, message in MISSPELT:
        assert sum(f"{file}:" in line and message in line for line in errors) == 1, done.stdout


def test_every_forward_has_its_backward():
    for name in kernels.OPERATIONS:
        if name.endswith("_forward"):
            stem = name.removesuffix("_forward")
            assert f"{stem}_backward" in kernels.OPERATIONS or {f"{stem}_dgrad", f"{stem}_wgrad"} <= set(kernels.OPERATIONS)


PROGRAM = """
import sys, numpy as np, kernels
eng = kernels.engine("cpu", precision="float32", threads=int(sys.argv[1]))
assert eng.threads == int(sys.argv[1]), eng.threads
rng = np.random.default_rng(0)
x, w = eng.asarray(rng.standard_normal((5, 16, 16, 8))), eng.asarray(rng.standard_normal((5, 5, 8, 12)))
y, pre = eng.empty((5, 8, 8, 12)), eng.empty((5, 8, 8, 12))
mean, var, gamma = eng.empty((1, 12)), eng.empty((1, 12)), eng.asarray(np.ones(12))
eng.conv2d_bn_relu_forward(y, pre, mean, var, x, w, gamma, gamma, (5,), stride=2, eps=1e-6)
dx, dw, dg, db = eng.empty(x.shape), eng.empty(w.shape), eng.empty((12,)), eng.empty((12,))
dy = eng.asarray(rng.standard_normal(y.shape))
eng.conv2d_bn_relu_backward(dx, dw, dg, db, dy, y, pre, mean, var, x, w, gamma, (5,), stride=2, eps=1e-6)
import hashlib
print(hashlib.sha256(b"".join(a.tobytes() for a in (y, dx, dw, dg, db))).hexdigest(), float(np.abs(dw).sum()))
"""


def run_program(threads):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(threads)], cwd=ROOT, capture_output=True, text=True, timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    digest, total = done.stdout.split()
    return digest, float(total)


def test_same_threads_same_bits_and_other_threads_same_numbers():
    """What --resume promises: equal bits on the same machine with the same thread count."""
    first, again, one = run_program(2), run_program(2), run_program(1)
    assert first == again
    assert one[1] == pytest.approx(first[1], rel=1e-5)
