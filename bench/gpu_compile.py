"""Section ``compile``: the code of every launch of the other sections, made in parallel from dry runs, so that cold caches cost seconds."""

from __future__ import annotations

import os
import time
from typing import Any

from bench.gpu_common import Options, Report, Skip, about, device_precisions, open_engine, spec_of

#: Sections whose launches are known beforehand.
KNOWN = ("kernels", "step", "bits", "time", "train", "sanitizer")


def wanted_launches(options: Options, chip: Any, precisions: tuple[str, ...], report: Report) -> list[Any]:
    """Launches of the chosen sections, from runs of their own code on a device that only records."""
    found: list[Any] = []
    for precision in precisions:
        if "kernels" in options.sections:
            found += collect(report, f"kernels {precision}", lambda p=precision: kernel_launches(options, chip, p))
        for name, batch, objective in step_shapes(options, precision):
            what = f"{name}, batch {batch}, {precision}"
            found += collect(report, what, lambda p=precision, n=name, b=batch, o=objective: step_launches(chip, p, n, b, o))
    return found


def collect(report: Report, what: str, make: Any) -> list[Any]:
    """What ``make`` returns; a dry run that fails is a failed row, and the others go on."""
    try:
        launches: list[Any] = make()
    except Exception as error:
        report.row(f"dry run of {what}: {type(error).__name__}: {error}", ok=False, label=what, why=str(error)[:300])
        return []
    report.row(f"dry run of {what}: {len(launches)} launches", label=what, launches=len(launches))
    return launches


def kernel_launches(options: Options, chip: Any, precision: str) -> list[Any]:
    """Those of the kernel checks, without TMA too for the first precision."""
    from bench.gpu_kernels import PRODUCTS, case_list, without_tma
    from kernels.cuda.engine import dry_engine

    engine = dry_engine(chip, precision)
    from kernel_check import launch

    for case in case_list(options):
        launch(engine, case)
        if precision == options.precisions[0] and chip.tma and case.operation.startswith(PRODUCTS):
            with without_tma(engine):
                launch(engine, case)
    return list(engine.device.launches)


def step_launches(chip: Any, precision: str, name: str, batch: int, objective: Any) -> list[Any]:
    """Those of a whole step."""
    from bench.gpu_stepper import Stepper
    from kernels.cuda.engine import dry_engine

    engine = dry_engine(chip, precision)
    Stepper(engine, spec_of(name), batch, objective).body()
    return list(engine.device.launches)


def step_shapes(options: Options, precision: str) -> list[tuple[str, int, Any]]:
    """(network, batch, objective) of the chosen sections' steps."""
    from bench.gpu_step import combinations
    from bench.gpu_time import timed_batches
    from models.vaegan import Objective

    shapes: list[tuple[str, int, Any]] = []
    if "step" in options.sections or "bits" in options.sections:
        shapes += [(c.network, c.batch, c.objective) for c in combinations(options, precision)]
    if "time" in options.sections:
        shapes += [(name, batch, Objective()) for name, batch in timed_batches(options, precision)]
    if "train" in options.sections and precision == options.precisions[0]:
        shapes.append(("paper64", 64, Objective()))
    if "sanitizer" in options.sections and precision == options.precisions[0]:
        shapes.append(("little", 4, Objective()))
    return list(dict.fromkeys(shapes))


def compile_section(options: Options, report: Report) -> None:
    """Records, then compiles with as many processes as there are cores."""
    if options.host:
        raise Skip("the emulated device interprets Triton; there is nothing to compile ahead")
    if not set(options.sections) & set(KNOWN):
        raise Skip("no section was chosen that has launches to prepare")
    engine = open_engine(options, options.precisions[0])
    report.note(about=about(engine))
    chip = engine.device.chip
    launches = wanted_launches(options, chip, device_precisions(options, engine), report)
    if not launches:
        raise RuntimeError("no dry run gave any launch")
    from kernels.cuda.compile import compile_many

    started, shown = time.perf_counter(), [time.perf_counter()]

    def progress(done: int, total: int) -> None:
        if time.perf_counter() - shown[0] > 2.0 or done == total:
            shown[0] = time.perf_counter()
            print(f"compiled {done} of {total}", flush=True)
            report.note(compiled=done, of=total)

    jobs = max(1, len(os.sched_getaffinity(0)))
    code = compile_many(launches, chip, jobs, progress)
    seconds = time.perf_counter() - started
    report.note(summary=[f"{len(code)} kernels for {chip.name} (sm_{chip.sm}) in {seconds:.0f} s on {jobs} cores"])
