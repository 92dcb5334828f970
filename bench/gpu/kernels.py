"""Section ``kernels``: every operation of the engine against the NumPy engine in float64, on fresh random inputs, outputs poisoned first.

The inputs are rounded to the operands' type before both see them, so what is compared is the kernel's arithmetic alone; the tolerances
are in tests/kernel_check.py. Where the chip has TMA, the products run a second time without it: other chips take that path.
"""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

from bench.gpu.common import ROOT, Options, Report, reference_engine
from bench.gpu.parts import Part, supervise
from kernels.cuda.device import chips

#: Operations with more than one path to their operands.
PRODUCTS = ("conv", "upconv", "linear")


def case_list(options: Options, part: str = "all") -> list[Any]:
    """The cases for this device: "all", or the "core" of them; with --quick some."""
    sys.path.insert(0, str(ROOT / "tests"))
    from kernel_cases import cases, part_cases
    from kernel_shapes import CORE, FEW, ODD, PAPER

    if part == "all":
        found = [*cases(*((ODD,) if options.host else (PAPER, ODD))), *part_cases()]
    else:
        found = list(cases(FEW if options.host else CORE))
    every = 9 if options.host else 3
    return found[options.seed % every :: every] if options.quick else found


def wanted(options: Options) -> list[tuple[str, Any, bool]]:
    """(precision, case, with TMA): all cases in the first precision, the core of them in the others, and the products' without TMA."""
    result = []
    for number, precision in enumerate(options.precisions):
        result += [(precision, case, True) for case in case_list(options, "core" if number else "all")]
    products = [case for case in case_list(options, "core") if case.operation.startswith(PRODUCTS)]
    return result + [(options.precisions[0], case, False) for case in products]


@contextlib.contextmanager
def without_tma(engine: Any) -> Iterator[None]:
    """Launchers see a chip that has no TMA; code is still compiled for the real one."""
    device = engine.device
    chip = device.chip
    device.chip = chips.without_tma(chip)
    try:
        yield
    finally:
        device.chip = chip


def check_part(engine: Any, case: Any, seed: int, tma: bool) -> dict[str, Any]:
    """The row of one case."""
    from kernel_check import check

    chip = engine.device.chip
    if not tma and not chip.tma:
        return {
            "ok": True,
            "skipped": True,
            "text": f"{engine.precision} {case.name}: this chip has no TMA, that is the path checked already",
        }
    with contextlib.nullcontext() if tma else without_tma(engine):
        outcomes = check(engine, reference(), case, seed)
    worst = max(outcomes, key=lambda o: o.error / o.limit if o.limit else o.error)
    ok = all(o.ok for o in outcomes)
    why = "" if ok else "; ".join(f"{o.output}: error {o.error:.2e}, allowed {o.limit:.1e}" for o in outcomes if not o.ok)
    text = f"{engine.precision} {case.name}{'' if tma else ', no TMA'}: {worst.error:.2e} of {worst.limit:.1e} ({worst.output}) {why}"
    values = [{"output": o.output, "error": o.error, "limit": o.limit} for o in outcomes]
    share = worst.error / worst.limit if worst.limit else float(not ok)
    return {"ok": ok, "why": why, "text": text, "operation": case.operation, "share": share, "outputs": values}


_reference: list[Any] = []


def reference() -> Any:
    """The NumPy engine in float64, made once."""
    if not _reference:
        _reference.append(reference_engine())
    return _reference[0]


def parts(options: Options) -> list[Part]:
    """One part a check."""

    def part(precision: str, case: Any, tma: bool) -> Part:
        label = f"{precision} {case.name}{'' if tma else ', no TMA'}"
        return Part(label, precision, lambda engine: check_part(engine, case, options.seed, tma))

    return [part(*w) for w in wanted(options)]


def kernels_section(options: Options, report: Report) -> None:
    """Runs the parts; the summary has the worst of each precision."""
    report.note(operations=sorted({case.operation for case in case_list(options)}))
    left_out = supervise("bench.gpu.kernels", options, report, patience=40.0)
    rows = report.result["rows"]
    summary = []
    for precision in options.precisions:
        own = [row for row in rows if row.get("precision") == precision and "share" in row]
        failed = sum(not row["ok"] for row in rows if row.get("precision") == precision)
        if own:
            worst = max(own, key=lambda row: row["share"])
            summary.append(
                f"{precision}: {len(own)} checks, {failed} failed; nearest to its limit: {worst['label']} ({worst['share']:.0%})"
            )
    if left_out:
        summary.append(f"{left_out} checks not reached in the time")
    report.note(summary=summary, not_reached=left_out, counts=dict(Counter(row.get("operation", "?") for row in rows)))
