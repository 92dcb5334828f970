"""``python -m vaegan_kernels.tune``: measure other tiles for every product of a training step on this GPU, and keep the faster ones."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from kernels import Engine
from models.networks import NETWORKS
from vaegan_kernels.shell.cli import Parser, check_choice, run_main, whole_number
from vaegan_kernels.shell.errors import UserError

PRECISIONS = ("auto", "bf16", "tf32", "float32")
BN_GROUPS = ("joint", "split")

DESCRIPTION = """Measure other tiles for the matrix products of a training step on this GPU, and keep the faster ones.
A tile is the block that one program of a product computes; one that is at least 2 % faster is kept in the user's cache, where runs find it:
nothing else needs to be set. Tiles change the order of sums, so a run that is resumed with other tiles is not the same run to the bit."""


def make_parser() -> Parser:
    """The command line."""
    parser = Parser(prog="python -m vaegan_kernels.tune", description=DESCRIPTION)
    add = parser.add_argument
    add("--network", default="paper64", metavar="NAME", help=f"of {', '.join(NETWORKS)} (default: paper64)")
    add("--batch-size", type=whole_number, default=64, metavar="N", help="images in a step (default: 64)")
    add("--precision", default="auto", metavar="P", help=f"of {', '.join(PRECISIONS)} (default: auto, what training takes)")
    add("--bn-groups", default="joint", metavar="G", help=f"of {', '.join(BN_GROUPS)}, as the run will have (default: joint)")
    add("--budget-s", type=whole_number, default=300, metavar="S", help="seconds for everything (default: 300)")
    add("--jobs", type=whole_number, metavar="N", help="processes that compile (default: one a core)")
    add("--dry-run", action="store_true", help="print what would be tried; works without a GPU, for an H100 then")
    return parser


def step_body(engine: Engine, network: str, batch: int, bn_groups: str) -> Callable[[], None]:
    """A training step of ``network`` on random images, as a function of nothing."""
    from kernels import philox
    from models.networks import network as spec_of
    from models.objective import Objective
    from models.vaegan import VAEGAN

    spec = spec_of(network)
    model = VAEGAN(engine, spec, seed=0)
    objective = Objective(bn_groups=bn_groups, gate=False)
    x = engine.asarray(np.random.default_rng(0).uniform(-1, 1, (batch, spec.image_size, spec.image_size, spec.channels)))
    eps, z_p = (engine.empty((batch, spec.latent), engine.wide) for _ in range(2))
    engine.normal(eps, seed=0, step=0, stream=philox.STREAM_EPS)
    engine.normal(z_p, seed=0, step=0, stream=philox.STREAM_PRIOR)
    return lambda: model.train_step(x, eps, z_p, objective, 1e-4)


def propose(chip: Any, precision: str, a: Any) -> Any:
    """A tuner that has seen a step on a device that executes nothing: its proposals, and the launches of all candidates."""
    from kernels.cuda.engine import dry_engine
    from kernels.cuda.tuning.tuner import Tuner

    engine = dry_engine(chip, precision)
    body = step_body(engine, a.network, a.batch_size, a.bn_groups)
    tuner = Tuner(engine)
    with tuner.watching():
        body()
    return tuner


def print_proposals(tuner: Any, chip: Any, precision: str) -> None:
    """What would be tried, a line for each product."""
    print(f"{chip.name} (sm_{chip.sm}), {precision}: tiles [rows, columns, depth, stages, warps]")
    for name, (default, others) in tuner.proposals.items():
        print(f"{name:52} {list(default)!s:24} and {len(others)} others: {' '.join(str(list(t)) for t in others[:3])} ...")
    count = sum(len(others) for _, others in tuner.proposals.values())
    print(f"{len(tuner.proposals)} products, {count} candidates; nothing was measured")


def compile_ahead(tuner: Any, chip: Any, jobs: int, seconds: float, show: Callable[[int, int], None]) -> str:
    """Compile the candidates' code in parallel, as far as ``seconds`` allow; a note of what was left for later."""
    from kernels.cuda.device.compile import key_of
    from kernels.cuda.device.parallel import compile_many

    wanted = list({key_of(launch): launch for launch in tuner.waiting}.values())
    started, done = time.monotonic(), 0
    slice_size = 8 * jobs
    for first in range(0, len(wanted), slice_size):
        if done and time.monotonic() - started > seconds:
            break
        part = wanted[first : first + slice_size]
        with contextlib.suppress(RuntimeError):  # a candidate that does not compile is told when it is measured
            compile_many(part, chip, jobs)
        done += len(part)
        show(done, len(wanted))
    return "" if done == len(wanted) else f"{len(wanted) - done} of {len(wanted)} kernels were left to be compiled when they are measured"


@contextlib.contextmanager
def bar(text: str, total: int) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on a terminal; elsewhere nothing. Called with (done, total)."""
    if not sys.stdout.isatty():
        yield lambda done, total: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    with Progress(TextColumn(text), BarColumn(bar_width=24), MofNCompleteColumn(), TimeElapsedColumn()) as progress:
        task = progress.add_task(text, total=total)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def describe(outcome: Any) -> str:
    """One product's result as a line."""
    before, after = 1e6 * outcome.default_seconds, 1e6 * outcome.best_seconds
    if not outcome.measured and not outcome.failed:
        return f"{outcome.name:52} {list(outcome.default)!s:24} no other tile changes a launch"
    failed = f"; {len(outcome.failed)} failed: {outcome.failed[0]}" if outcome.failed else ""
    if outcome.best == outcome.default:
        return f"{outcome.name:52} {list(outcome.default)!s:24} {before:8.1f} us stays, {outcome.measured} others measured{failed}"
    return f"{outcome.name:52} {list(outcome.default)!s:24} {before:8.1f} us -> {list(outcome.best)!s:24} {after:8.1f} us{failed}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code. Errors are raised for `run_main`."""
    a = make_parser().parse_args(argv)
    check_choice("--network", a.network, NETWORKS)
    check_choice("--precision", a.precision, PRECISIONS)
    check_choice("--bn-groups", a.bn_groups, BN_GROUPS)
    for flag, value in (("--batch-size", a.batch_size), ("--budget-s", a.budget_s), ("--jobs", a.jobs)):
        if value is not None and value < 1:
            raise UserError(f"{flag}: got {value}, expected a whole number of at least 1")
    started = time.monotonic()
    import kernels

    try:
        engine: Engine | None = kernels.engine("cuda", a.precision)
    except (RuntimeError, ValueError) as error:
        if not a.dry_run:
            raise UserError(f"tuning needs an NVIDIA GPU: {error}") from None
        engine = None
    if a.dry_run or engine is None:
        return dry_run(a, engine)
    return tune(a, engine, started)


def dry_run(a: Any, engine: Engine | None) -> int:
    """Print the proposals: for this GPU, or for an H100 where there is none."""
    try:
        from kernels.cuda.device.chips import CHIPS

        chip = engine.device.chip if engine is not None else CHIPS["sm_90"]
        precision = engine.precision if engine is not None else "bf16" if a.precision == "auto" else a.precision
        print_proposals(propose(chip, precision, a), chip, precision)
    except ImportError as error:
        raise UserError(f"--dry-run needs Triton and ml_dtypes ({error}); pip install triton ml_dtypes") from None
    return 0


def tune(a: Any, engine: Engine, started: float) -> int:
    """Compile, measure, keep."""
    from kernels.cpu.threads import available_cores
    from kernels.cuda.products import tiles
    from kernels.cuda.tuning.tile_cache import cache_path, save
    from kernels.cuda.tuning.tuner import Tuner

    chip, precision = engine.device.chip, engine.precision
    print(f"device: {chip.name} (sm_{chip.sm}), {precision}; {a.network}, batch {a.batch_size}, {a.bn_groups} statistics", flush=True)
    tiles.override(None)  # against the table, not against an earlier tuning
    proposed = propose(chip, precision, a)
    with bar("compiling", len(proposed.waiting)) as show:
        note = compile_ahead(proposed, chip, a.jobs or available_cores(), 0.45 * a.budget_s, show)
    if note:
        print(note, flush=True)
    products = len(proposed.proposals)
    body = step_body(engine, a.network, a.batch_size, a.bn_groups)
    engine.prepare(body)  # the rest of the step
    with bar("measuring", products) as show:

        def tell(outcome: Any) -> None:
            print(describe(outcome), flush=True)
            show(len(tuner.outcomes), products)

        def keep(chosen: Any, settled: list[str]) -> None:
            save(chip, chosen, settled)

        tuner = Tuner(engine, budget=a.budget_s - (time.monotonic() - started), listener=tell, keep_each=keep)
        with tuner.watching():
            body()
    engine.synchronize()
    better = [o for o in tuner.outcomes if o.best != o.default]
    if tuner.left_out:
        print(f"{len(tuner.left_out)} products were not reached in --budget-s {a.budget_s}; a longer budget begins from the start")
    where = f", kept in {cache_path(chip)}" if better else ""
    print(f"{len(better)} of {products} products have a faster tile{where}")
    return 0


if __name__ == "__main__":
    sys.exit(run_main(main))
