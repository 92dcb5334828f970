"""Everything that only a GPU can show, in one call: ``python -m bench.gpu``.

    python -m bench.gpu --budget-s 520 --archive results.tar.gz          all sections, the most valuable first
    python -m bench.gpu --sections kernels,step,bits                     are the results right?
    python -m bench.gpu --sections time --data faces.h5                  how long does a step take?
    python -m bench.gpu --device host --sections kernels,step,bits       the same script on the emulated device (no GPU, tiny shapes)

Each section runs in a process of its own, with a time limit, and writes <out>/SECTION.json and .log as it goes; one that fails, hangs
or crashes the device does not stop the others. What the time does not allow is skipped, and the table at the end says so.

compile    all launches of the other sections, in parallel on all cores, so that cold caches cost only seconds
kernels    every operation against the NumPy engine in float64
step       the captured step against the NumPy engine's, twenty steps, each from the reference's state
bits       the same bits from two runs
tma        boxes outside their tensor; a Triton kernel inside a captured graph
peaks      what this GPU reaches: copies, matrix products
time       a step, and each of its kernels, beside the least possible
peers      the step beside PyTorch's, eager to max-autotune
train      a training run, on real faces where --data gives them
cudnn      every operation beside cuDNN's and cuBLAS's
sanitizer  compute-sanitizer's memcheck and racecheck on two steps of a tiny network
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from bench.gpu.common import ROOT, SECTIONS, Options, about, write_json
from kernels.processes import own_group, signal_group

PRECISIONS = ("bf16", "tf32", "float32")

#: Seconds: with less than the first a section is not started; the second is its own, which those before it leave to it. What a section does
#: not need goes to the next. All together fit --budget-s: with cold caches they take that at most, 9 minutes with every kill.
LIMITS = {
    "compile": (15, 95), "kernels": (20, 80), "step": (20, 50), "bits": (10, 20), "tma": (8, 15), "peaks": (8, 20),
    "time": (20, 55), "peers": (30, 45), "train": (40, 45), "cudnn": (30, 45), "sanitizer": (30, 40),
}  # fmt: skip
LAST = 8.0  # seconds kept for the archive and the table
GRACE = 6.0  # seconds between a section's own limit and its kill
PATIENCE = (4.0, 10.0)  # seconds that a killed section has after SIGTERM, and after SIGKILL


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = result.add_argument
    add("--sections", metavar="A,B", help=f"which, comma-separated (default: all): {', '.join(SECTIONS)}")
    add("--device", choices=("gpu", "host"), default="gpu", help="host: emulated, tiny shapes (default: gpu)")
    add("--precisions", metavar="A,B", help=f"of {', '.join(PRECISIONS)} (default: all; on the host float32)")
    add("--budget-s", type=float, default=520.0, metavar="S", help="seconds for everything (default: 520)")
    add("--quick", action="store_true", help="fewer steps, shapes and rounds")
    add("--data", metavar="PATH", help="images to train on: a folder or packed file (default: the built-in faces)")
    add("--out", default="bench/results/gpu", metavar="FOLDER", help="results (default: bench/results/gpu)")
    add("--archive", metavar="FILE", help="where all results go as one tar.gz (default: results.tar.gz in --out)")
    add("--seed", type=int, default=int(time.time()) // 86400, metavar="N", help="of the inputs (default: another one each day)")
    return result


def chosen(text: str | None, known: Sequence[str], flag: str, fail: Any) -> tuple[str, ...]:
    """The names in ``text``, in the order of ``known``; all of them where there is none."""
    if text is None:
        return tuple(known)
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in known:
            fail(f"{flag}: got {name!r}, expected some of {', '.join(known)}")
    if not names:
        fail(f"{flag}: got nothing, expected some of {', '.join(known)}")
    return tuple(name for name in known if name in names)


def environment(options: Options) -> dict[str, str]:
    """Of a section's process: Triton interprets only for the emulated device."""
    env = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])}
    env.setdefault("TRITON_DEFAULT_FP_FUSION", "1")
    if options.host:
        env["TRITON_INTERPRET"] = "1"
    else:
        env.pop("TRITON_INTERPRET", None)
    return env


def end_group(process: subprocess.Popen[Any]) -> None:
    """End a section and everything that it started: SIGTERM, then SIGKILL."""
    for kill, patience in zip((False, True), PATIENCE, strict=True):
        signal_group(process, kill)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)
            return


def run_section(section: str, options: Options, console: Console) -> dict[str, Any]:
    """One section in its process; its result, however it ended."""
    out = Path(options.out)
    path, log = out / f"{section}.json", out / f"{section}.log"
    path.unlink(missing_ok=True)
    command = [sys.executable, "-m", "bench.gpu.child", section, options.to_json()]
    started, forced = time.perf_counter(), False
    with log.open("wb") as file:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env=environment(options),
            **own_group(),
        )
        try:
            with console.status(section) if console.is_terminal else contextlib.nullcontext() as status:
                while process.poll() is None:
                    time.sleep(0.2)
                    if time.perf_counter() - started > options.budget + GRACE:
                        forced = True
                        break
                    if status is not None:
                        status.update(escape(f"{section}: {last_line(log)}"))
        finally:
            if process.poll() is None:
                end_group(process)
            signal_group(process, kill=True)  # what it started and left behind
    result: dict[str, Any] = {"section": section, "rows": [], "failed": 0, "status": "running", "why": ""}
    with contextlib.suppress(OSError, ValueError):
        result = json.loads(path.read_text(encoding="utf-8"))
    if result["status"] == "running":  # it was killed before it could write how it ended
        ended = f"did not end within {options.budget:.0f} s" if forced else f"its process ended with code {process.returncode}"
        result |= {"status": "failed", "why": f"{ended}; {len(result['rows'])} rows were done; last line: {last_line(log)}"}
    result["seconds"] = round(time.perf_counter() - started, 1)
    write_json(path, result)
    return result


def last_line(log: Path) -> str:
    """The last line that a section printed, shortened."""
    with contextlib.suppress(OSError), log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 2000))
        lines = [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]
        return lines[-1].strip()[:110] if lines else ""
    return ""


def driver() -> str:
    """What nvidia-smi says of GPU and driver; empty where there is none."""
    try:
        query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
        return subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def archive(out: Path, target: Path) -> None:
    """All results as one file. Written after every section, so that an interrupted run leaves one too."""
    part = target.with_name(target.name + ".part")
    with tarfile.open(part, "w:gz") as file:
        for path in sorted(out.rglob("*")):
            if path.is_file() and path not in (target, part) and path.suffix not in (".part", ".h5", ".gz"):
                file.add(path, arcname=f"gpu/{path.relative_to(out)}")
    os.replace(part, target)


def table(results: list[dict[str, Any]], say: Any) -> None:
    """What was found, in short; failures first."""
    for result in results:
        bad = [row for row in result["rows"] if not row["ok"]]
        for row in bad[:10]:
            say(f"  FAILED {result['section']}: {row.get('label', '')} {row.get('why', '')}"[:220])
        if len(bad) > 10:
            say(f"  ... and {len(bad) - 10} more in {result['section']}.json")
    for result in results:
        for line in result.get("summary", []):
            say(f"  {result['section']}: {line}")
    say("")
    for result in results:
        say(f"{result['section']:<10} {result['status']:<8} {result['seconds']:6.1f} s  {result['why']}"[:230])


def share(section: str, later: Sequence[str], left: float) -> float:
    """Of ``left`` seconds those of a section: its own where there are so many, and what those after it do not have as theirs."""
    return max(min(left, LIMITS[section][1]), left - sum(LIMITS[name][1] for name in later))


def unusable() -> str:
    """Why no section could run on a GPU here, in one line; "" where one could. Asked in another process: this one holds no GPU memory."""
    program = "import sys, kernels\ntry:\n    kernels.engine('cuda', 'auto')\nexcept RuntimeError as error:\n    sys.exit(str(error))"
    clean = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    try:
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, env=clean, capture_output=True, text=True, timeout=120, check=False
        )
    except subprocess.TimeoutExpired:
        return ""  # the sections will say
    lines = done.stderr.strip().splitlines()
    return lines[-1] if done.returncode and lines and lines[-1].startswith("device cuda: ") else ""


def main(argv: Sequence[str] | None = None) -> int:
    arguments_of = parser()
    a = arguments_of.parse_args(argv)
    started = time.perf_counter()
    sections = chosen(a.sections, SECTIONS, "--sections", arguments_of.error)
    precisions = chosen(a.precisions or ("float32" if a.device == "host" else None), PRECISIONS, "--precisions", arguments_of.error)
    if a.data is not None and not Path(a.data).exists():
        arguments_of.error(f"--data: no such file or folder: {a.data}")
    if a.device == "gpu" and (reason := unusable()):
        arguments_of.error(f"{reason}, or --device host for a try without one")
    out = Path(a.out).resolve()
    out.mkdir(parents=True, exist_ok=True)
    target = Path(a.archive).resolve() if a.archive else out / "results.tar.gz"
    target.parent.mkdir(parents=True, exist_ok=True)
    data = str(Path(a.data).resolve()) if a.data else None
    options = Options(a.device, sections, precisions, a.quick, data, str(out), 0.0, a.seed)
    console = Console(highlight=False, soft_wrap=True)

    def say(text: str) -> None:
        console.print(text, markup=False)

    def stop(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    facts = {**about(), "command": "python -m bench.gpu " + " ".join(sys.argv[1:] if argv is None else argv), "driver": driver()}
    write_json(out / "about.json", facts)
    say(f"{'emulated device' if a.device == 'host' else facts['driver'] or 'nvidia-smi says nothing'}; {facts['date']}; results in {out}")
    results: list[dict[str, Any]] = []
    try:
        archive(out, target)
        for number, section in enumerate(sections):
            results.append(skipped(section, "interrupted"))
            left = a.budget_s - LAST - (time.perf_counter() - started)
            least = LIMITS[section][0]
            if left < (least if a.device == "gpu" else 1.0):
                results[-1] = skipped(section, f"needs at least {least} s, {max(0.0, left):.0f} s are left of --budget-s {a.budget_s:.0f}")
                write_json(out / f"{section}.json", results[-1])
            else:
                budget = share(section, sections[number + 1 :], left) if a.device == "gpu" else left
                results[-1] = run_section(section, dataclasses.replace(options, budget=budget), console)
            say(f"{section}: {results[-1]['status']} ({results[-1]['seconds']:.0f} s) {results[-1]['why']}"[:200])
            archive(out, target)
    except KeyboardInterrupt:
        say("interrupted")
    write_json(out / "summary.json", [{k: v for k, v in r.items() if k != "rows"} for r in results])
    archive(out, target)
    say("")
    table(results, say)
    bad = [r["section"] for r in results if r["status"] not in ("ok", "skipped")]
    ended = "failed: " + ", ".join(bad) if bad else "nothing failed"
    say(f"{target} holds everything; {time.perf_counter() - started:.0f} s in all; {ended}")
    return 1 if bad else 0


def skipped(section: str, why: str) -> dict[str, Any]:
    return {"section": section, "status": "skipped", "why": why, "seconds": 0.0, "rows": [], "failed": 0}


if __name__ == "__main__":
    sys.exit(main())
