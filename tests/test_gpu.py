"""The checks that need a GPU (skipped, with the reason, where there is none), and the script that runs them on the emulated device."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import tarfile
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from kernel_cases import cases, part_cases
from kernel_check import TOLERANCE, Case, check, launch, relative_error, tolerance
from kernel_draw import Draw, round_to
from kernel_shapes import CORE, FEW, ODD, PAPER

from bench.gpu.__main__ import LIMITS as TIMES
from bench.gpu.__main__ import chosen
from bench.gpu.bits import bits_part
from bench.gpu.child import HOMES
from bench.gpu.common import SECTIONS, Options, Report
from bench.gpu.parts import supervise
from bench.gpu.rounding import CutEngine, cut, measure
from bench.gpu.sanitizer import errors_in
from bench.gpu.step import BEST, JUMPS, LIMITS, Combination, compare_step, judge, step_part
from bench.gpu.stepper import Stepper, mid_training
from kernels.contract.operation import OPERATIONS
from models.networks import NetworkSpec
from models.objective import Objective

ROOT = Path(__file__).resolve().parent.parent
needs_emulation = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ to compile the CUDA C kernels for the host")


def run(*arguments, timeout=900):
    """``python -m bench.gpu`` as a user calls it."""
    env = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "bench.gpu", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=env, timeout=timeout)


# ---- on a GPU ----


@pytest.fixture(scope="module")
def gpu():
    """Skips where no GPU can be used, with the engine's own reason."""
    env = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    code = "import kernels; print(kernels.engine('cuda', 'auto').device.chip.name)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=env)
    if done.returncode:
        pytest.skip("no GPU: " + (done.stderr.strip().splitlines() or ["?"])[-1].removeprefix("RuntimeError: "))
    return done.stdout.strip()


@pytest.mark.parametrize("section", ["kernels", "step", "bits", "tma"])
def test_on_the_gpu(gpu, section, tmp_path):
    done = run("--sections", f"compile,{section}", "--quick", "--out", tmp_path, "--budget-s", 400)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert json.loads((tmp_path / f"{section}.json").read_text())["status"] == "ok", done.stdout[-3000:]


# ---- the list of checks ----


def test_every_operation_has_a_case():
    checked = {case.operation for case in cases(PAPER)}
    assert checked >= {*OPERATIONS, "normal", "uniform_init"}
    for shapes in (ODD, CORE, FEW):
        assert {case.operation for case in cases(shapes)} == checked
    names = [case.name for case in [*cases(PAPER, ODD), *part_cases()]]
    assert len(names) == len(set(names)), "each case has a name of its own: results are found by it"


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_the_cases_hold_for_the_numpy_engine(precision, request, engine64, engine32):
    """In float32 against float64; and in float64 against itself."""
    engine = engine32 if precision == "float32" else engine64
    wrong = [(case.name, o) for case in cases(ODD) for o in check(engine, engine64, case, seed=3) if not o.ok]
    assert not wrong, wrong[:5]


def test_every_case_can_be_recorded():
    """What compiles the kernels ahead of time: the launches without the values."""
    pytest.importorskip("triton", reason="Triton is not installed")
    from kernels.cuda.device.chips import CHIPS
    from kernels.cuda.engine import dry_engine

    for case in [*cases(ODD), *part_cases()]:
        engine = dry_engine(CHIPS["sm_90"], "bf16")
        launch(engine, case)
        assert engine.device.launches, case.name


class Spoiled:
    """An engine whose relu_forward is spoiled in one way."""

    def __init__(self, engine, spoil):
        self._engine, self._spoil = engine, spoil

    def __getattr__(self, name):
        return getattr(self._engine, name)

    def relu_forward(self, y, x):
        self._engine.relu_forward(y, x)
        self._spoil(y, x)


def spoil_value(y, x):
    y[0, 0] += 1e-3


def spoil_unwritten(y, x):
    y[-1, -1] = np.nan


def spoil_input(y, x):
    x[0, 0] += 1.0


@pytest.mark.parametrize("spoil", [spoil_value, spoil_unwritten, spoil_input])
def test_a_check_finds_what_is_wrong(engine32, engine64, spoil):
    case = Case("relu_forward", "one", lambda d: ((d.out(4, 6), d.act(4, 6)), {}))
    assert all(o.ok for o in check(engine32, engine64, case))
    assert any(not o.ok for o in check(Spoiled(engine32, spoil), engine64, case))


def test_operands_are_rounded_to_their_type():
    values = np.random.default_rng(0).standard_normal(1000)
    for precision, bits in (("bf16", 8), ("tf32", 11), ("float32", 24)):
        found = round_to(values, precision)
        assert np.array_equal(round_to(found, precision), found)  # it holds them exactly
        assert 2.0 ** -(bits + 2) < np.max(np.abs(found - values) / np.abs(values)) <= 2.0**-bits
    assert Draw("bf16", 1).act(3).values.dtype == np.float64
    for precision, row in TOLERANCE.items():
        assert row["wide"] <= row["act"] <= row["loose"] and tolerance(precision, "wide", 1000) > row["wide"]
    assert relative_error(np.ones(3), np.zeros(3)) == math.inf and relative_error(np.array([np.nan]), np.ones(1)) == math.inf


# ---- the comparison of steps ----


SPEC = NetworkSpec("tiny", 8, 3, 8, (8, 8, 8), 8, (8, 8, 8, 8), (8, 8, 8, 8), 8, metric=3)


def steppers(*engines):
    made = [Stepper(engine, SPEC, 4, Objective(), seed=2) for engine in engines]
    state = mid_training(made[0].state(), 2)
    for stepper in made:
        stepper.model.load_state(state)
        stepper.body()
    return made


def test_two_engines_agree_and_a_wrong_one_does_not(engine32, engine64):
    theirs, mine = steppers(engine64, engine32)
    errors, worst = compare_step(mine, theirs)
    assert set(errors) == {"losses", "statistics", "parameters", "mean squares", "gradients"} == set(worst)
    assert errors["losses"] < 1e-6 and errors["gradients"] < 1e-2
    parameter = mine.model.encoder.parameters[0]
    parameter.data += 0.01 * np.abs(parameter.data).max()
    assert judge([compare_step(mine, theirs)[0]], "float32")


class OnGPU:
    """A NumPy engine that says it is a GPU's; where launches go in turn it takes another rate if ``wrong``."""

    def __init__(self, engine, wrong):
        self.engine, self.wrong, self.in_turn = engine, wrong, 0
        self.device = SimpleNamespace(name="gpu", launches_in_turn=self.turn)
        self.record = lambda body: body

    def __getattr__(self, name):
        return getattr(self.engine, name)

    @contextmanager
    def turn(self):
        self.in_turn += 1
        yield
        self.in_turn += 1

    def look_up_rate(self, rate, *rest):
        self.engine.look_up_rate(rate, *rest)
        rate *= 2 if self.wrong and self.in_turn % 2 else 1


@pytest.mark.parametrize("wrong", [False, True])
def test_bits_are_compared_with_and_without_dependent_launches(engine32, wrong):
    engine = OnGPU(engine32, wrong)
    found = bits_part(engine, "tiny", 4, 2, Objective(gamma=1e-2), 0)
    assert engine.in_turn == 2 and found["ok"] is not wrong and found["moved"]
    assert ("arrays differ in a run without dependent launches" in found["why"]) is wrong and "captured" not in found["why"]


@pytest.mark.parametrize(
    "kind, values, good",
    [
        ("losses", [1e-6] * 20, True),
        ("losses", [1e-6] * 19 + [2e-5], False),
        ("gradients", [3e-6] * 15 + [1e-3] * 5, True),  # masks near 0 turned in a few steps
        ("gradients", [3e-6] * 2 + [1e-3] * 18, True),
        ("gradients", [1e-3] * 20, False),  # the best tenth is spoiled like the rest
        ("gradients", [3e-6] * 19 + [0.1], False),
        ("gradients", [1e-3] * 3, True),  # in so few steps each may have one
        ("losses", [1e-3] * 3, False),
        ("parameters", [math.inf] * 20, False),
    ],
)
def test_what_a_comparison_allows(kind, values, good):
    assert (judge([{kind: value} for value in values], "float32") == []) == good


def test_what_cut_mantissas_do_to_a_step():
    """A step of operands with 10 bits is within tf32's limits, one with 7 is not; from which these limits are (bench/gpu/rounding.py)."""
    values = np.random.default_rng(5).standard_normal(1000)
    for precision, bits in (("bf16", 7), ("tf32", 10)):
        assert np.array_equal(cut(values, bits, True), round_to(values, precision))
    down = cut(values, 10, False)
    assert (np.abs(down) <= np.abs(values)).all() and 2.0**-11 < np.max(np.abs(down - values) / np.abs(values)) <= 2.0**-10
    compared = Combination("tiny", 4, Objective(gamma=1e-2), 10, "joint")
    assert step_part(CutEngine("tf32"), compared, 0)["ok"]
    coarse = CutEngine("bf16")
    errors = step_part(coarse, compared, 0)["errors"]
    assert judge(errors, "tf32") and not judge(errors, "bf16")


def test_the_limits_of_tf32_are_no_looser_than_its_operands():
    """Twice what `bench.gpu.rounding` has on larger networks, so at most 2.5 times what two seeds have on a tiny one."""
    runs = [measure("tf32", [Combination("tiny", 4, Objective(gamma=1e-2), 10, "joint")], seed) for seed in (0, 1)]
    worst = {kind: max(max(run[kind]) for run in runs) for kind in runs[0]}
    best = max(sorted(run["gradients"])[0] for run in runs)
    found, limits = (worst["losses"], worst["gradients"], worst["parameters"], best), (LIMITS["tf32"], *JUMPS["tf32"], BEST["tf32"])
    assert all(limit <= 2.5 * most for limit, most in zip(limits, found, strict=True)), (limits, found)


def test_limits_cover_every_precision():
    assert set(LIMITS) == {"float32", "tf32", "bf16"} and LIMITS["float32"] == 1e-5 and LIMITS["bf16"] == 2e-2


# ---- the script ----


def test_sections_have_homes_and_limits():
    assert set(HOMES) == set(SECTIONS) == set(TIMES)
    assert chosen("step, kernels", SECTIONS, "--sections", None) == ("kernels", "step")
    done = run("--sections", "kernel")
    assert done.returncode == 2 and "--sections: got 'kernel', expected some of compile" in done.stderr


def test_no_time_means_skipped_and_said(tmp_path):
    done = run("--device", "host", "--budget-s", "5", "--out", tmp_path, "--sections", "kernels,sanitizer")
    assert done.returncode == 0, done.stdout + done.stderr
    for section in ("kernels", "sanitizer"):
        result = json.loads((tmp_path / f"{section}.json").read_text())
        assert result["status"] == "skipped" and "s are left of --budget-s 5" in result["why"]
    assert (tmp_path / "results.tar.gz").is_file()


def test_a_part_that_crashes_or_hangs_does_not_stop_the_others(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "tests")]))
    options = Options(device="host", out=str(tmp_path), budget=120.0)
    report = Report("case", options)
    assert supervise("gpu_parts_case", options, report, patience=3.0) == 0
    rows = json.loads((tmp_path / "case.json").read_text())["rows"]
    assert [row["label"] for row in rows] == ["one", "two", "three", "four", "five", "six", "seven"]
    assert [row["ok"] for row in rows] == [True, False, False, False, True, False, True]
    assert "ValueError: bad shape" in rows[2]["why"] and "crash" in rows[3]["why"] and "took more than 3 s" in rows[5]["why"]


def test_the_sanitizer_s_summary_is_read():
    assert errors_in("========= COMPUTE-SANITIZER\n========= ERROR SUMMARY: 0 errors\n") == (0, 0)
    assert errors_in("x\n========= ERROR SUMMARY: 12 errors\n") == (12, 0)
    assert errors_in("========= RACECHECK SUMMARY: 3 hazards displayed (1 error, 2 warnings)\n") == (1, 2)
    assert errors_in("Segmentation fault") is None


@needs_emulation
def test_the_script_on_the_emulated_device(tmp_path):
    pytest.importorskip("triton", reason="Triton is not installed")
    sections = "compile,kernels,step,tma,peaks,sanitizer"
    done = run("--device", "host", "--quick", "--seed", 4, "--sections", sections, "--budget-s", 800, "--out", tmp_path / "out",
               "--archive", tmp_path / "all.tar.gz")  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    results = {name: json.loads((tmp_path / "out" / f"{name}.json").read_text()) for name in sections.split(",")}
    skipped = {name for name, result in results.items() if result["status"] == "skipped"}
    assert skipped == {"compile", "sanitizer"} and all(results[name]["status"] == "ok" for name in set(results) - skipped)
    assert all(row["ok"] for result in results.values() for row in result["rows"])
    assert len(results["kernels"]["rows"]) > 15 and results["kernels"]["about"]["emulated"] is True
    assert results["step"]["rows"][0]["largest"]["gradients"] < 1e-3
    with tarfile.open(tmp_path / "all.tar.gz") as file:
        names = set(file.getnames())
    assert {"gpu/kernels.json", "gpu/kernels.log", "gpu/step.json", "gpu/about.json", "gpu/summary.json"} <= names
    last = done.stdout.strip().splitlines()
    assert "nothing failed" in last[-1] and [line.split()[0] for line in last[-1 - len(results) : -1]] == sections.split(",")
