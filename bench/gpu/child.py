"""One section of `bench.gpu` in a process of its own: an illegal access in one cannot spoil the next.

    python -m bench.gpu.child SECTION OPTIONS-AS-JSON

Exit code 0 (done), 1 (something failed), 3 (skipped). The result is in <out>/SECTION.json either way.
"""

from __future__ import annotations

import faulthandler
import importlib
import sys
import traceback

from bench.gpu.common import Options, Report, Skip

#: Section → module and function.
HOMES = {
    "compile": ("bench.gpu.compile", "compile_section"), "kernels": ("bench.gpu.kernels", "kernels_section"),
    "step": ("bench.gpu.step", "step_section"), "bits": ("bench.gpu.bits", "bits_section"), "tma": ("bench.gpu.tma", "tma_section"),
    "peaks": ("bench.gpu.peaks", "peaks_section"), "time": ("bench.gpu.time", "time_section"),
    "peers": ("bench.gpu.peers", "peers_section"), "cudnn": ("bench.gpu.peers", "cudnn_section"),
    "train": ("bench.gpu.train", "train_section"), "sanitizer": ("bench.gpu.sanitizer", "sanitizer_section"),
}  # fmt: skip


def main(argv: list[str]) -> int:
    section, options = argv[0], Options.from_json(argv[1])
    faulthandler.enable()
    report = Report(section, options)
    module, name = HOMES[section]
    try:
        getattr(importlib.import_module(module), name)(options, report)
    except Skip as why:
        report.end("skipped", str(why))
        return 3
    except Exception as error:
        traceback.print_exc()
        report.end("failed", f"{type(error).__name__}: {' '.join(str(error).split())[:400]}")
        return 1
    failed = report.result["failed"]
    if not report.result["rows"]:
        report.end("failed", "nothing was reached in the time")
        return 1
    rows, late = len(report.result["rows"]), report.result.get("not_reached", 0)
    unknown = sum(row["ok"] and bool(row.get("why")) for row in report.result["rows"])
    words = [f"{failed} of {rows} rows failed"] * bool(failed) + [f"{unknown} of {rows} not measured"] * bool(unknown)
    words += [f"{late} of {rows + late} not reached in the time"] * bool(late)
    report.end("failed" if failed else "ok", "; ".join(words))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
