"""Runs the parts of a section one after the other in a worker process that is replaced when a part kills it.

An illegal access makes every later call of its process fail: the part that did it is marked, and the rest continues in a new process.
A module with parts has ``parts(options) -> list[Part]``, the same list in every process.
"""

from __future__ import annotations

import importlib
import json
import os
import queue
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

from bench.gpu.common import Options, Report, about, open_engine

MARK = "@@row "  # before a line of the worker that is for the supervisor
RESTARTS = 12
STARTING = 60.0  # seconds for imports and the device's start


class Part(NamedTuple):
    """``run(engine) -> values`` of the row ("ok" included); ``precision`` of the engine that it needs, or "" for none."""

    label: str
    precision: str
    run: Callable[[Any], dict[str, Any]]


def supervise(module: str, options: Options, report: Report, *, patience: float = 60.0) -> int:
    """Run all parts of ``module`` and add a row for each; returns how many were left out because the time was over.

    ``patience``: seconds for one part (the first one of a worker may take longer: imports, the device's start).
    """
    done, restarts, total = 0, 0, None
    while total is None or done < total:
        if report.left < 3.0:
            break
        command = [sys.executable, "-m", "bench.gpu.parts", module, options.to_json(), str(done)]
        worker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
        lines: queue.Queue[str | None] = queue.Queue()
        reader = threading.Thread(target=_read, args=(worker, lines), daemon=True)
        reader.start()
        why, label, last, wait = "", "", "", patience + STARTING
        while True:
            try:
                line = lines.get(timeout=max(0.1, min(wait, report.left)))
            except queue.Empty:
                why = f"took more than {patience:.0f} s" if report.left > 1.0 else "cut off: the section's time was over"
                break
            if line is None:
                break
            if not line.startswith(MARK):
                last = line.strip() or last
                print(line, end="", flush=True)
                continue
            message = json.loads(line[len(MARK) :])
            if "about" in message:
                report.note(about=message["about"])
            if "total" in message:
                total = message["total"]
            if "begin" in message:
                label, wait = message["begin"], patience
            if "row" in message:
                done += 1
                row = message["row"]
                report.row(row.pop("text"), **row)
                label, wait = "", patience + STARTING
        cut = worker.poll() is None and bool(why)
        worker.kill() if cut else None
        code = worker.wait()
        reader.join(5.0)
        if code == 0:
            break
        if why.startswith("cut off"):
            break
        if total is None:
            raise RuntimeError(f"the worker did not start (code {code}): {last[:300]}")
        if label:  # it died, or hung, within this part
            done += 1
            report.row(
                f"{label}: {why or f'killed the process (code {code}): {last[:200]}'}",
                ok=False,
                label=label,
                why=why or f"crash: {last[:200]}",
            )
        restarts += 1
        if restarts > RESTARTS:
            raise RuntimeError(f"{restarts} workers died: given up; the last line was: {last[:300]}")
    return (total or 0) - done


def _read(worker: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
    assert worker.stdout is not None
    with worker.stdout:
        for line in worker.stdout:
            lines.put(line)
    lines.put(None)


def _tell(**message: Any) -> None:
    print(MARK + json.dumps(message, default=str), flush=True)


def main(argv: list[str]) -> int:
    """The worker: parts from number ``argv[2]`` on."""
    module, options, first = importlib.import_module(argv[0]), Options.from_json(argv[1]), int(argv[2])
    parts: list[Part] = module.parts(options)
    _tell(total=len(parts))
    engines: dict[str, Any] = {}
    for part in parts[first:]:
        _tell(begin=part.label)
        started = time.perf_counter()
        broken = False
        try:
            if part.precision and part.precision not in engines:
                engines[part.precision] = open_engine(options, part.precision)
                if len(engines) == 1:
                    _tell(about=about(engines[part.precision]))
            row = part.run(engines.get(part.precision))
        except Exception as error:
            traceback.print_exc()
            why = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            row = {"ok": False, "why": why, "text": f"{part.label}: {why}"}
            broken = not _alive(engines.get(part.precision))
        row.setdefault("text", part.label)
        _tell(row={"label": part.label, "precision": part.precision, **row, "seconds": round(time.perf_counter() - started, 3)})
        if broken:
            print("the device is unusable now: continuing in a new process", flush=True)
            sys.stdout.flush()
            os._exit(9)  # a broken context can hang in its own clean-up
    return 0


def _alive(engine: Any) -> bool:
    """Whether the device still answers."""
    import numpy as np

    try:
        if engine is not None:
            engine.synchronize()
            engine.to_numpy(engine.asarray(np.zeros(4, np.float32), np.float32))
        return True
    except Exception:
        return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
