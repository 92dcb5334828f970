"""Section ``sanitizer``: two steps of a tiny network under compute-sanitizer's memcheck and racecheck.

Arrays are allocated one by one, not from CuPy's pool, so that an access beyond one's end is outside all of them.
"""

from __future__ import annotations

import glob
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from bench.gpu.common import ROOT, Options, Report, Skip, about, open_engine, spec_of

TOOLS = ("memcheck", "racecheck")
SUMMARY = re.compile(r"ERROR SUMMARY: (\d+) error|RACECHECK SUMMARY: (\d+) hazard\w* displayed \((\d+) error\w*, (\d+) warning")


def find_tool() -> str | None:
    """compute-sanitizer on the PATH or in CUDA's usual folders."""
    found = sorted(glob.glob("/usr/local/cuda*/bin/compute-sanitizer") + glob.glob("/opt/nvidia/*/compute-sanitizer/compute-sanitizer"))
    return shutil.which("compute-sanitizer") or (found[-1] if found else None)


def errors_in(output: str) -> tuple[int, int] | None:
    """(errors, warnings) of the tool's last summary line; None where there is none."""
    found = None
    for match in SUMMARY.finditer(output):
        found = (int(match[1]), 0) if match[1] is not None else (int(match[3]), int(match[4]))
    return found


def sanitizer_section(options: Options, report: Report) -> None:
    """One row a tool."""
    if options.host:
        raise Skip("compute-sanitizer needs a GPU; the emulated device guards its memory itself")
    tool = find_tool()
    if tool is None:
        raise Skip("compute-sanitizer is not installed (it comes with the CUDA toolkit)")
    report.note(about=about(), tool=tool)
    summary = []
    for number, name in enumerate(TOOLS):
        limit = report.left / (len(TOOLS) - number) - 3.0
        if limit < 10.0:
            report.row(f"{name}: not reached in the time", label=name, skipped=True)
            continue
        command = [
            tool,
            "--tool",
            name,
            "--print-limit",
            "20",
            sys.executable,
            "-m",
            "bench.gpu.sanitizer",
            options.to_json(),
            str(int(limit)),
        ]
        log = Path(options.out) / f"sanitizer-{name}.log"
        try:
            done = subprocess.run(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", cwd=ROOT, timeout=limit
            )
            output, ended = done.stdout, f"exit code {done.returncode}"
        except subprocess.TimeoutExpired as error:
            partial = error.stdout or b""
            output = partial.decode(errors="replace") if isinstance(partial, bytes) else partial
            ended = f"cut off after {limit:.0f} s"
        log.write_text(output, encoding="utf-8")
        counts, finished = errors_in(output), "two steps done" in output
        ok = counts is not None and counts[0] == 0 and finished
        why = (
            ""
            if ok
            else f"{ended}; steps {'done' if finished else 'not done'}; {output.strip().splitlines()[-1][:160] if output.strip() else ''}"
        )
        text = f"{name}: {f'{counts[0]} errors, {counts[1]} warnings' if counts else 'no summary'}"
        report.row(f"{text} {why}", ok=ok, label=name, why=why, counts=counts)
        summary.append(text)
    report.note(summary=summary)


def main(argv: list[str]) -> int:
    """What the tool runs: two steps, launched one by one, with plain allocations."""
    import cupy
    import numpy as np

    from bench.gpu.stepper import Stepper
    from models.objective import Objective

    options = Options.from_json(argv[0])
    if hasattr(signal, "alarm"):
        signal.alarm(int(argv[1]))  # the tool may be gone by then
    cupy.cuda.set_allocator(None)
    engine = open_engine(options, options.precisions[0])
    stepper = Stepper(engine, spec_of("little"), 4, Objective())
    for _ in range(2):
        stepper.body()
    engine.synchronize()
    losses = engine.to_numpy(stepper.model.losses)
    assert np.isfinite(losses).all(), losses
    print("two steps done:", losses.tolist(), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
