"""`bench.gpu` as it will be called on a borrowed GPU, without one: every section once against the stand-ins of CuPy and libcuda, a crash of
each, its archive, and the time that it may take."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile

import pytest

pytest.importorskip("triton", reason="Triton, which compiles the GPU kernels, is not installed (Linux only)")
pytest.importorskip("cupy", reason="CuPy, whose arrays the stand-in for a GPU has, is not installed")
if shutil.which("gcc") is None:
    pytest.skip("no gcc to compile the stand-in for libcuda", allow_module_level=True)

from app_case import ROOT, write_tiny

from bench.gpu import __main__ as script
from bench.gpu.common import SECTIONS, Options
from bench.gpu.compile import EACH, groups
from kernels.cuda.device.chips import CHIPS
from kernels.cuda.device.compile import key_of

NAMES = list(SECTIONS)
#: The arguments of each command that a page or the script's own text names; its words stand apart by one space.
PAGES = [*ROOT.glob("*.md"), *(page for folder in ("docs", "bench") for page in (ROOT / folder).rglob("*.md"))]
TEXTS = [script.__doc__, *(page.read_text(encoding="utf-8") for page in PAGES)]
DOCUMENTED = sorted({words for text in TEXTS for words in re.findall(r"python -m bench\.gpu(?![.\w])((?: [^` \n]+)*)", text)})
ON_A_GPU = [words for words in DOCUMENTED if "--device host" not in words and "--data" not in words]
#: In the place of NVIDIA's tool: runs what it is given and finds nothing.
SANITIZER = """#!/bin/sh
shift 4
"$@"
echo "========= ERROR SUMMARY: 0 errors"
echo "========= RACECHECK SUMMARY: 0 hazards displayed (0 errors, 0 warnings)"
"""


def rehearse(place, *more, crash=""):
    """The command in a process of its own, its results and the names in its archive."""
    tool = place / "bin" / "compute-sanitizer"
    tool.parent.mkdir()
    tool.write_text(SANITIZER)
    tool.chmod(0o755)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("TRITON_INTERPRET", "PYTEST_XDIST"))}  # `pytest bench` is no worker
    env = kept | {"CRASH": crash, "PATH": f"{tool.parent}:{os.environ['PATH']}"}
    env["PYTHONPATH"] = os.pathsep.join(map(str, (ROOT / "tests" / "gpu_stand_in", ROOT / "tests", ROOT)))
    target = place / "elsewhere" / "results.tar.gz"
    command = [sys.executable, "-m", "bench.gpu", "--archive", str(target), "--out", str(place / "out"), *more]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=900)
    assert "Traceback" not in done.stderr and "Error in sitecustomize" not in done.stderr, done.stderr[-3000:]
    with tarfile.open(target) as file:
        names = set(file.getnames())
    return done, {name: json.loads((place / "out" / f"{name}.json").read_text()) for name in NAMES}, names


def test_every_section_through_the_stand_ins(tmp_path):
    """What is read from the stand-in are zeros: comparisons fail, by their numbers and by nothing else; the rest is done."""
    done, results, names = rehearse(tmp_path, "--quick", "--data", str(write_tiny(tmp_path / "discs.h5", n=120, size=64)))
    assert done.returncode == 1 and "holds everything" in done.stdout, done.stdout[-3000:] + done.stderr[-2000:]
    assert {f"gpu/{name}.{kind}" for name in NAMES for kind in ("json", "log")} | {"gpu/about.json", "gpu/summary.json"} <= names
    failed = {name for name in NAMES if results[name]["status"] == "failed"}
    assert failed == {"kernels", "step", "bits", "tma"} and {results[name]["status"] for name in NAMES} == {"ok", "failed"}
    assert all("allowed" in row["why"] for row in results["kernels"]["rows"])
    assert all("the gate is" in row["why"] for row in results["step"]["rows"])
    assert all(row["why"] == "the steps changed nothing" for row in results["bits"]["rows"])
    assert all("elements differ" in row.get("why", "elements differ") for row in results["tma"]["rows"] if not row["ok"])
    assert not results["compile"]["left_out"] and results["compile"]["kernels"] > 300
    assert all(row["step_ms"]["median"] > 0 and row["kernels"][0]["us"] for row in results["time"]["rows"][:2])
    run = results["train"]["rows"][0]
    assert run["done"] > 0 and len(results["sanitizer"]["rows"]) == 2 and "not measured" in results["peers"]["why"]
    assert len(results["cudnn"]["rows"]) == 3 and results["cudnn"]["not_reached"] == 0


def test_a_crash_of_each_section_stops_no_other(tmp_path):
    done, results, names = rehearse(
        tmp_path, "--quick", "--data", str(write_tiny(tmp_path / "discs.h5", n=120, size=64)), crash=",".join(NAMES)
    )
    assert done.returncode == 1 and done.stdout.strip().endswith("failed: " + ", ".join(NAMES))
    for name in NAMES:
        rows = 0 if name in ("compile", "sanitizer") else 1
        assert results[name]["why"].startswith(f"its process ended with code -6; {rows} rows were done"), results[name]["why"]
        assert len(results[name]["rows"]) == rows and {f"gpu/{name}.json", f"gpu/{name}.log"} <= names
    assert "gpu/summary.json" in names


class Clock:
    """In the place of `time`: stands still until a section passes."""

    def __init__(self):
        self.now = 1000.0

    def perf_counter(self):
        return self.now

    time = perf_counter


@pytest.fixture
def passing(monkeypatch, tmp_path):
    """Runs the script with sections that take ``overrun`` seconds more than they may: (seconds in all, what each was given, output)."""

    def run(*more, overrun=0.0, seen=lambda section: None):
        clock, given = Clock(), {}

        def section(name, options, console):
            seen(name)
            given[name] = options.budget
            clock.now += options.budget + overrun
            result = {"section": name, "rows": [], "failed": 0, "status": "ok", "why": "", "seconds": options.budget}
            (tmp_path / "out" / f"{name}.json").write_text(json.dumps(result))
            return result

        for name, value in (("time", clock), ("run_section", section), ("unusable", str), ("driver", str)):
            monkeypatch.setattr(script, name, value)
        monkeypatch.setattr(script.signal, "signal", lambda *_: None)
        target = tmp_path / "there" / "all.tar.gz"
        code = script.main([*more, "--out", str(tmp_path / "out"), "--archive", str(target), "--seed", "1"])
        return code, clock.now - 1000.0, given

    return run


@pytest.mark.parametrize("words", DOCUMENTED)
def test_documented_commands_are_understood(words):
    given = script.parser().parse_args(words.split())
    assert script.chosen(given.sections, SECTIONS, "--sections", pytest.fail)


@pytest.mark.parametrize("words", ON_A_GPU)
def test_sections_that_take_all_that_they_may_fit_nine_minutes(words, passing):
    """Every documented command gives each of its sections what is its own, the one of all sections too."""
    code, seconds, given = passing(*words.split())
    assert code == 0 and seconds <= 520
    assert all(given[name] >= script.LIMITS[name][1] >= script.LIMITS[name][0] for name in given), given
    assert "--sections" in words or list(given) == NAMES


def test_sections_that_must_be_killed_fit_nine_minutes(passing, capsys):
    code, seconds, given = passing(overrun=script.GRACE + sum(script.PATIENCE))
    assert code == 0 and seconds <= 540 and 5 < len(given) < len(NAMES)
    skipped = [line for line in capsys.readouterr().out.splitlines() if ": skipped" in line]
    assert len(skipped) == len(NAMES) - len(given) and all("s are left of --budget-s 520" in line for line in skipped)


def test_what_a_section_leaves_is_the_next_one_s(passing):
    _, _, given = passing("--sections", "bits,tma", "--budget-s", "100")
    assert given["bits"] == 100 - script.LAST - script.LIMITS["tma"][1] and given["tma"] == script.LIMITS["tma"][1]


def test_the_archive_is_written_anew_after_every_section(passing, tmp_path):
    before = []

    def seen(section):
        with tarfile.open(tmp_path / "there" / "all.tar.gz") as file:
            before.append({name for name in file.getnames() if name.removeprefix("gpu/").removesuffix(".json") in SECTIONS})
        if section == "bits":
            raise KeyboardInterrupt

    passing(seen=seen)
    assert before == [{f"gpu/{name}.json" for name in NAMES[:count]} for count in range(4)]
    with tarfile.open(tmp_path / "there" / "all.tar.gz") as file:
        assert {"gpu/about.json", "gpu/summary.json", "gpu/step.json"} <= set(file.getnames())
    assert not list((tmp_path / "there").glob("*.part"))


def test_cold_caches_are_filled_in_the_section_s_own_time():
    """Kernels of all sections of the command by the seconds that one took, on 16 cores, with as much again for dry runs and processes."""
    keys = {
        key_of(launch) for _, record in groups(Options(sections=tuple(NAMES)), CHIPS["sm_90"], script.PRECISIONS) for launch in record()
    }
    assert 2 * EACH * len(keys) / 16 < script.LIMITS["compile"][1], len(keys)
