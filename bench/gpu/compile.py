"""Section ``compile``: the code of every launch of the other sections, compiled in parallel from dry runs, so that later ones find it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Any

from bench.gpu.common import Options, Report, Skip, about, device_precisions, open_engine, spec_of
from kernels.cpu.threads import available_cores

#: Sections whose launches are known beforehand.
KNOWN = ("kernels", "step", "bits", "time", "train", "sanitizer")

#: Seconds of one core for a kernel, the mean of those that all sections launch on sm_90 (Triton 3.9, NVRTC 13.0, an AMD EPYC).
EACH = 0.61

#: Kernels that are compiled by one pool of processes: starting one takes seconds.
POOL = 200


def groups(options: Options, chip: Any, precisions: tuple[str, ...]) -> list[tuple[str, Callable[[], list[Any]]]]:
    """What is to be compiled, the most valuable first: a name, and what records its launches in a run of the section's own code."""
    result: list[tuple[str, Callable[[], list[Any]]]] = []
    for precision in precisions:
        if "kernels" in options.sections:
            result.append((f"kernels {precision}", lambda p=precision: kernel_launches(options, chip, p)))  # type: ignore[misc]
    for precision in precisions:
        for name, batch, objective in step_shapes(options, precision):
            what = f"{name}, batch {batch}, {precision}, {objective.bn_groups}, {objective.generator_loss}"
            result.append((what, lambda p=precision, n=name, b=batch, o=objective: step_launches(chip, p, n, b, o)))  # type: ignore[misc]
    return result


def kernel_launches(options: Options, chip: Any, precision: str) -> list[Any]:
    """Those of the kernel checks in ``precision``."""
    from bench.gpu.kernels import wanted, without_tma
    from kernels.cuda.engine import dry_engine

    engine = dry_engine(chip, precision)
    cases = wanted(options)
    from kernel_check import launch

    for p, case, tma in cases:
        if p == precision and (tma or chip.tma):
            with contextlib.nullcontext() if tma else without_tma(engine):
                launch(engine, case)
    return list(engine.device.launches)


def step_launches(chip: Any, precision: str, name: str, batch: int, objective: Any) -> list[Any]:
    """Those of a whole step."""
    from bench.gpu.stepper import Stepper
    from kernels.cuda.engine import dry_engine

    engine = dry_engine(chip, precision)
    Stepper(engine, spec_of(name), batch, objective).body()
    return list(engine.device.launches)


def step_shapes(options: Options, precision: str) -> list[tuple[str, int, Any]]:
    """(network, batch, objective) of the chosen sections' steps."""
    from bench.gpu.step import combinations
    from bench.gpu.time import timed_batches
    from models.objective import Objective

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
    """Records and compiles group by group, with as many processes as there are cores, while the time lasts."""
    if options.host:
        raise Skip("the emulated device interprets Triton; there is nothing to compile ahead")
    if not set(options.sections) & set(KNOWN):
        raise Skip("no section was chosen that has launches to prepare")
    engine = open_engine(options, options.precisions[0])
    report.note(about=about(engine))
    chip, jobs = engine.device.chip, available_cores()
    compile_groups(groups(options, chip, device_precisions(options, engine)), chip, jobs, report)


def compile_groups(wanted: list[tuple[str, Callable[[], list[Any]]]], chip: Any, jobs: int, report: Report) -> None:
    """Groups together until there are about POOL kernels, each kernel once; a row for each pool."""
    from kernels.cuda.device.compile import key_of
    from kernels.cuda.device.parallel import compile_many

    started = time.perf_counter()
    known: set[Any] = set()
    todo: dict[Any, Any] = {}
    names: list[str] = []
    left_out: list[str] = []
    for number, (what, record) in enumerate(wanted):
        if report.left < 10.0 + EACH * len(todo) / jobs:
            left_out.append(what)
            continue
        try:
            fresh = {key_of(launch): launch for launch in record()}
        except Exception as error:
            why = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
            report.row(f"dry run of {what}: {why}", ok=False, label=what, why=why)
            continue
        todo |= {key: launch for key, launch in fresh.items() if key not in known}
        known |= set(fresh)
        names.append(what)
        if len(todo) < POOL and number + 1 < len(wanted):
            continue
        begun, why = time.perf_counter(), ""
        try:
            compile_many(todo.values(), chip, jobs)
        except Exception as error:
            why = f"{type(error).__name__}: {' '.join(str(error).split())[:600]}"
        took, label = time.perf_counter() - begun, "; ".join(names)
        report.row(f"{len(todo)} kernels in {took:.1f} s: {label} {why}", ok=not why, label=label, why=why, kernels=len(todo), took=took)
        todo, names = {}, []
    summary = f"{len(known)} kernels for {chip.name} (sm_{chip.sm}) in {time.perf_counter() - started:.0f} s on {jobs} cores"
    late = [f"left to be compiled at their first launch: {'; '.join(left_out)}"] if left_out else []
    report.note(summary=[summary, *late], kernels=len(known), left_out=left_out)
