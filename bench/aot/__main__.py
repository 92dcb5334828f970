"""``python -m bench.aot``: every GPU kernel of a training step, compiled with no GPU, and its machine code checked against rules.

A whole step of Algorithm 1 at Table 1's shapes runs through the CUDA engine's own code on a device that only records. Each different
kernel is compiled for each chip, disassembled and measured: registers, spills, shared memory, instructions of the main loop
(bench.aot.rules has the rules, bench.aot.exceptions the exceptions from them). The table goes to bench/results/aot.json, and for
readers to aot.md, which is not committed.

    python -m bench.aot            write the table: bf16 for six chips, float32 for sm_75, tf32 and float32 for sm_90
    python -m bench.aot --changed  the same, but kernels that are unchanged since the table was written are not compiled again, apart from
                                   one of each function on each chip
    python -m bench.aot --check    compile again, compare with the committed table, exit with 1 if anything is worse
    python -m bench.aot --check --changed      the same, in a fraction of the time
    python -m bench.aot --all      every precision on every chip; other networks, batches and groupings; inference
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parents[1] / "results"


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line; exits with 2 and a line that says why where it makes no sense."""
    from bench.aot.collect import ALL_PAIRS, CHIPS, CI_PAIRS, PRECISIONS, TRIED, TRIED_PAIRS
    from kernels.cpu.threads import available_cores

    parser = argparse.ArgumentParser(prog="python -m bench.aot", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="every precision on every chip, other networks, batches, groupings, inference")
    parser.add_argument("--check", action="store_true", help="compare with the table instead of writing it")
    parser.add_argument("--changed", action="store_true", help="compile only what changed since the table was written, and a sample")
    parser.add_argument("--chips", metavar="SM,...", help=f"only these of {', '.join((*CHIPS, *TRIED))}")
    parser.add_argument("--precision", metavar="P,...", help=f"only these of {', '.join(PRECISIONS)}")
    parser.add_argument("--jobs", type=int, metavar="N", help="processes that compile (default: the cores there are)")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the table (default: bench/results/aot.json; with --all aot-all.json)")
    args = parser.parse_args(argv)
    wanted = {}
    for name, given, known in (("--chips", args.chips, (*CHIPS, *TRIED)), ("--precision", args.precision, PRECISIONS)):
        wanted[name] = given.split(",") if given else known
        if wrong := [value for value in wanted[name] if value not in known]:
            parser.error(f"{name}: got {', '.join(wrong)}, expected some of {', '.join(known)}")
    every = ALL_PAIRS if args.all else CI_PAIRS
    there = (*every, *(TRIED_PAIRS if args.chips else ()))
    args.pairs = [(chip, precision) for chip, precision in there if chip in wanted["--chips"] and precision in wanted["--precision"]]
    if not args.pairs:
        parser.error("no such chip in this precision without --all")
    if args.jobs is None:
        args.jobs = available_cores()
    elif args.jobs < 1:
        parser.error(f"--jobs: got {args.jobs}, expected at least 1")
    args.partial = set(args.pairs) != set(every)
    args.table = args.out or RESULTS / ("aot-all.json" if args.all else "aot.json")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Compile, measure, judge; write the table or compare with it. Returns 1 if a rule is broken or a kernel is worse than in the table."""
    from bench.aot.compile import measure, quiet_environment, select

    quiet_environment()
    from rich.console import Console

    from bench.aot.collect import SYSTEM_PAIRS, cases, collect
    from bench.aot.rules import difference, growth, judge
    from bench.aot.table import load, markdown, print_overview, rows_of, same_compilers, save, versions

    args = parse(argv)
    command = "python -m bench.aot" + (" --all" if args.all else "")
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    wrong: list[str] = []
    rows: dict[str, Any] = {}
    kinds = {"triton", "cuda"}
    start = time.monotonic()
    if args.check or args.changed:
        try:
            table = load(args.table)
        except ValueError as error:
            print(error, file=sys.stderr)
            return 1
        rows = rows_of(table, args.pairs)
        kinds, note = same_compilers(table, versions())
        if note and not args.check:
            print(f"{args.table} was written with other compilers: write it anew, without --changed", file=sys.stderr)
            return 1
        if note:
            print(note)
    kernels = collect(args.pairs, cases(args.all))
    todo, known = select(kernels, rows, kinds) if args.changed else (kernels, [])
    console.print(
        f"{len(kernels)} kernels for {len(args.pairs)} pairs of chip and precision, {len(todo)} to compile in {args.jobs} processes"
        + (f", {len(known)} as in the table" if args.changed else "")
    )
    with _progress(console) as advance:
        fresh, failed = measure(todo, args.jobs, advance)
    measured = [*fresh, *known]
    verdict = judge(measured, everything=args.all)
    print_overview(console, measured)
    console.print(
        f"{time.monotonic() - start:.0f} s, {len(verdict.excused)} exceptions from rules (their reasons: bench/aot/exceptions.py)"
    )
    wrong += [f"does not compile: {line}" for line in failed]
    wrong += [f"{m.key}: {rule.name}: {what}" for m, rule, what in verdict.broken]
    if len(measured) + len(failed) == len(kernels) and set(SYSTEM_PAIRS) & set(args.pairs):  # all cases are there
        wrong += [f"exception no longer needed: {e.rule}, {e.kernel} on {e.chip} in {e.precision}" for e in verdict.stale]
    if args.check:
        wrong += difference((k.key for k in kernels), rows)
        wrong += growth((m for m in fresh if ("cuda" if m.family == "cuda" else "triton") in kinds), rows)
    elif args.partial and not args.out:
        print("part of the table only: not written (--out FILE writes it elsewhere)")
    else:
        save(args.table, command, measured)
        args.table.with_suffix(".md").write_text(markdown(measured, verdict, command), encoding="utf-8")
        print(f"written: {args.table} and {args.table.with_suffix('.md').name}")
    for line in wrong:
        print(line)
    print(f"{len(wrong)} things wrong" if wrong else "nothing wrong")
    return 1 if wrong else 0


class _progress:
    """A bar on a terminal; elsewhere a line every tenth of the way."""

    def __init__(self, console: Any):
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (TextColumn("compiling"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self.console = console
        self.bar = Progress(*columns, console=console, disable=not console.is_terminal, transient=True)

    def __enter__(self) -> Any:
        self.bar.start()
        self.task = self.bar.add_task("compiling", total=None)
        return self.advance

    def advance(self, done: int, of: int) -> None:
        self.bar.update(self.task, completed=done, total=of)
        if not self.console.is_terminal and (10 * done // of > 10 * (done - 1) // of):
            self.console.print(f"compiled {done} of {of}")

    def __exit__(self, *_: Any) -> None:
        self.bar.stop()


if __name__ == "__main__":
    sys.exit(main())
