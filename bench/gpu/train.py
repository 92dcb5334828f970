"""Section ``train``: a training run of the paper's network through the command that users type, as long as the time allows."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.gpu.common import ROOT, Options, Report, about

TRAINING = 90.0  # seconds of steps wanted
AROUND = 35.0  # seconds for imports, data, pictures and the evaluation


def steps_for(options: Options, seconds: float) -> int:
    """Steps that fit into ``seconds``, by the step's time where section ``time`` measured it; a careful number otherwise."""
    step = 0.03
    with contextlib.suppress(OSError, ValueError, KeyError, IndexError):
        rows = json.loads((Path(options.out) / "time.json").read_text(encoding="utf-8"))["rows"]
        own = [r for r in rows if r["ok"] and r["network"] == "paper64" and r["batch"] == 64 and r["precision"] == options.precisions[0]]
        step = max(1e-3, 1.4 * own[0]["step_ms"]["median"] / 1e3)  # with logging and pictures
    count = int(seconds / step)
    return max(100, count // 100 * 100)


def command_of(options: Options, folder: Path, steps: int) -> list[str]:
    """The command line of the run."""
    command = [
        sys.executable,
        "-m",
        "vaegan_kernels.train",
        "--out",
        str(folder),
        "--steps",
        str(steps),
        "--log-every",
        str(max(1, steps // 50)),
    ]
    if options.data:
        command += ["--data", options.data]
    if options.host:  # no emulated training: the command itself, on the CPU
        return [*command, "--device", "cpu", "--network", "small32", "--limit", "80", "--batch-size", "8", "--threads", "2"]
    precision = options.precisions[0]
    return [*command, "--device", "cuda", "--precision", precision, "--network", "paper64", "--preset", "paper", "--batch-size", "64"]


def run(command: list[str], seconds: float) -> tuple[int | None, str, float]:
    """Run it for at most ``seconds``, then ask it to stop (it saves); exit code (None: it had to be killed), output, seconds."""
    env = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", cwd=ROOT, env=env)
    code: int | None = None
    output = ""
    for patience, then in ((seconds, process.terminate), (8.0, process.kill)):
        try:
            output, _ = process.communicate(timeout=max(1.0, patience))
            code = process.returncode
            break
        except subprocess.TimeoutExpired:
            then()
    else:
        output, _ = process.communicate()
    print(output, flush=True)
    return code, output, time.perf_counter() - started


def newest(folder: Path) -> Path | None:
    """The last picture of a folder of a run."""
    return max(folder.glob("*.png"), default=None, key=lambda p: p.name)


def keep_pictures(run_folder: Path, out: Path) -> list[str]:
    """Copy what shows how the run went, without checkpoint and animation."""
    target = out / "train"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name in ("metrics.jsonl", "summary.json", "config.json", "curves.png"):
        if (run_folder / name).is_file():
            shutil.copyfile(run_folder / name, target / name)
    for name in ("samples", "reconstructions"):
        if picture := newest(run_folder / name):
            shutil.copyfile(picture, target / f"{name}-{picture.name}")
    return sorted(p.name for p in target.iterdir())


def train_section(options: Options, report: Report) -> None:
    """The run; its metrics, figures and summary."""
    seconds = min(TRAINING, report.left - AROUND)
    steps = 4 if options.host else steps_for(options, seconds)
    report.note(about=about(), data=options.data or "the built-in faces (no --data was given)")
    with tempfile.TemporaryDirectory() as base:
        folder = Path(base) / "run"
        command = command_of(options, folder, steps)
        print(" ".join(command), flush=True)
        code, output, took = run(command, report.left - 10.0)
        metrics = [json.loads(line) for line in read_lines(folder / "metrics.jsonl")]
        summary: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError):
            summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        kept = keep_pictures(folder, Path(options.out)) if folder.exists() else []
    done = metrics[-1]["step"] if metrics else 0
    why = ""
    if code != 0:
        last = [line for line in output.splitlines() if line.strip()][-1:] or [""]
        why = f"exit code {code} after {took:.0f} s, {done} of {steps} steps: {last[0][:200]}"
    elif not metrics or not all(math.isfinite(v) for line in metrics for v in line.values() if isinstance(v, float)):
        why = "no metrics, or some that are not finite"
    text = f"{done} of {steps} steps in {took:.0f} s, data: {report.result['data']}"
    if metrics:
        first, last_line = metrics[0], metrics[-1]
        speed = max(line["images_per_second"] for line in metrics)
        text += f"; like {first['like']:.4g} to {last_line['like']:.4g}, GAN {last_line['gan_real']:.2f}/{last_line['gan_generated']:.2f}"
        text += f", up to {speed:.0f} images/s"
    report.row(
        text + (f": {why}" if why else ""),
        ok=not why,
        label="run",
        why=why,
        command=command,
        steps=steps,
        done=done,
        metrics=metrics,
        result=summary,
    )
    figures = ", ".join(f"{k} {v:.4g}" for k, v in summary.items() if isinstance(v, float))
    report.note(summary=[text, *([figures] if figures else [])], files=kept)


def read_lines(path: Path) -> list[str]:
    """The whole lines of a text file; none where there is no file."""
    with contextlib.suppress(OSError):
        text = path.read_text(encoding="utf-8")
        return [line for line in text.splitlines() if line.startswith("{") and line.endswith("}")]
    return []
