"""``python -m vaegan_kernels.experiments.stability``: how many of N seeds end in diverse faces, with the gate, without it, and so on.

Each condition is trained from N seeds. A run's verdict is `measures.quality.diverse_faces`, a stated measure of its samples; the
samples of every run are drawn, so that the verdict can be looked at. The results are written after each run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vaegan_kernels.experiments.common import add_common, as_flags, config_of, parse, train_flags
from vaegan_kernels.experiments.parallel import Job, add_jobs, check_jobs, job_of, train_all
from vaegan_kernels.experiments.results import about, add_regressor, load_data, open_model, read_json, regressor_of
from vaegan_kernels.experiments.samples import list_of
from vaegan_kernels.experiments.share import add_share, check_some, diverged, failure_of, only_train
from vaegan_kernels.experiments.stability_figure import SHOWN, draw_page
from vaegan_kernels.experiments.tables import markdown, number, numbers_of, spread
from vaegan_kernels.files import write_json
from vaegan_kernels.runs.metrics import read_metrics
from vaegan_kernels.runs.run_folder import RunFolder
from vaegan_kernels.sample import check_count
from vaegan_kernels.shell.cli import Parser, run_main
from vaegan_kernels.shell.cli import whole_number as whole
from vaegan_kernels.shell.errors import UserError

CONDITIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "no-gate": {"gate": False},
    "non-saturating": {"generator_loss": "non-saturating"},
    "minimax": {"generator_loss": "minimax"},
}
SAMPLES = 256  # that a run is judged by
FINAL_LINES = 5  # of metrics.jsonl, whose mean is the final loss

EPILOG = """examples:
  python -m vaegan_kernels.experiments.stability --data celeba/ --out results/ --jobs 2
  python -m vaegan_kernels.experiments.stability --data celeba/ --out results/ --seeds 3 --conditions default,no-gate --steps 500"""


def make_parser() -> Parser:
    """The command line."""
    parser = Parser(
        prog="python -m vaegan_kernels.experiments.stability", epilog=EPILOG,
        description="Train the VAE/GAN from several seeds under several conditions; count the runs that end in diverse faces.",
    )  # fmt: skip
    add_common(parser, seed=False)
    parser.add_argument("--seeds", type=whole, default=10, metavar="N", help="seeds 0 to N-1 (default: 10)")
    parser.add_argument(
        "--conditions", metavar="A,B", help=f"of {', '.join(CONDITIONS)} (default: all but the one of the two losses that the preset has)"
    )  # fmt: skip
    add_jobs(parser)
    add_share(parser)
    add_regressor(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    arguments = parse(make_parser(), argv)
    check_count("--seeds", arguments.seeds, 1000)
    check_jobs(arguments)
    conditions = conditions_of(arguments)
    jobs = {job: condition for condition in conditions for job in jobs_of(arguments, condition)}

    if only_train(arguments, list(jobs)):
        return 0
    if arguments.report:
        check_some(list(jobs))
    dataset = load_data(arguments)
    regressor = regressor_of(arguments, dataset)
    study = Study(arguments, jobs, dataset, regressor)

    def skip(job: Job) -> bool:
        return study.gave_up(job) or bool(arguments.report)

    train_all(list(jobs), workers=arguments.jobs, quiet=arguments.quiet, done=study.judge, failed=study.give_up, skip=skip)
    study.draw()
    print(table(study.results["conditions"]))
    print(f"{study.path}, and a page of samples for each condition beside it")
    return 0


def conditions_of(arguments: argparse.Namespace) -> list[str]:
    """Those of ``--conditions``, or all. One that would train the default's runs once more is left out, or refused if it was named."""
    flags = train_flags(arguments)
    default = config_of(flags)
    same = [name for name, settings in CONDITIONS.items() if settings and config_of([*flags, *as_flags(settings)]) == default]
    if arguments.conditions is None:
        return [name for name in CONDITIONS if name not in same]
    conditions = list_of("--conditions", arguments.conditions, list(CONDITIONS))
    for name in conditions:
        if name in same:
            raise UserError(
                f"--conditions: {name} is what the preset {default.preset} does already: its runs are those of default; leave it out"
            )
    return conditions


def jobs_of(arguments: argparse.Namespace, condition: str) -> list[Job]:
    """The runs of a condition. Those of "default" are the plain vaegan runs of OUT, shared with other experiments."""
    name = "" if condition == "default" else condition
    return [job_of(arguments, "vaegan", seed, name=name, **CONDITIONS[condition]) for seed in range(arguments.seeds)]


class Study:
    """Judges runs as they end, and keeps OUT/stability.json and the samples that are drawn."""

    def __init__(self, arguments: argparse.Namespace, jobs: Mapping[Job, str], dataset: Any, regressor: Any) -> None:
        from vaegan_kernels.experiments.reconstructions import test_images

        self.arguments, self.jobs, self.dataset, self.regressor = arguments, jobs, dataset, regressor
        self.path = Path(arguments.out) / "stability.json"
        self.test_images = test_images(dataset, 2 * SAMPLES)
        earlier = read_json(self.path).get("conditions", {}) if self.path.exists() else {}
        self.results: dict[str, Any] = {"conditions": earlier}

    def judge(self, job: Job) -> None:
        """Measure a finished run and write the results so far."""
        from vaegan_kernels.measures import quality

        images = open_model(self.arguments, job.folder).sample(SAMPLES, seed=job.seed)
        measures = dict(quality.diverse_faces(images, self.test_images, self.regressor))
        verdict = bool(measures.pop("diverse_faces"))
        self.note(job, {"folder": job.folder.name, "diverse_faces": verdict, "measures": measures, **final_numbers(job.folder)})

    def give_up(self, job: Job, error: str) -> bool:
        """A run whose loss is no number any more has failed, and the others continue; any other error ends the experiment."""
        if not diverged(error):
            return False
        self.note(job, {"folder": job.folder.name, "diverse_faces": False, "failed": error.split(";")[0], **final_numbers(job.folder)})
        if not self.arguments.quiet:
            print(f"{job.folder.name}: {error.split(';')[0]}", flush=True)
        return True

    def gave_up(self, job: Job) -> bool:
        """True for a run that failed in an earlier call of the command, or in a task; it would fail again."""
        if error := failure_of(job):
            return self.give_up(job, error)
        return job.folder.exists() and "failed" in self.results["conditions"].get(self.jobs[job], {}).get(str(job.seed), {})

    def note(self, job: Job, result: dict[str, Any]) -> None:
        """Put a run's result in its place and write stability.json."""
        runs = self.results["conditions"].setdefault(self.jobs[job], {})
        runs[str(job.seed)] = result
        self.results["conditions"][self.jobs[job]] = dict(sorted(runs.items(), key=lambda item: int(item[0])))
        finished = [job.folder for job in self.jobs if RunFolder(job.folder).summary.is_file()]
        facts = about(self.arguments, self.dataset, finished)
        tables = {"stability": table(self.results["conditions"])}
        write_json(self.path, {**facts, "conditions": self.results["conditions"], "tables": tables})

    def draw(self) -> None:
        """The page of each condition with the runs that there are."""
        for condition in dict.fromkeys(self.jobs.values()):
            results = self.results["conditions"].get(condition, {})
            rows = [
                (job.seed, shown_samples(self.arguments, job), results[str(job.seed)])
                for job in self.jobs
                if self.jobs[job] == condition and str(job.seed) in results
            ]
            if rows:
                draw_page(Path(self.arguments.out) / f"stability-{condition}.png", condition, rows, self.dataset.images.shape[1])


def shown_samples(arguments: argparse.Namespace, job: Job) -> Any:
    """The samples of a run that the figure shows; None where a failed run left no checkpoint."""
    if not RunFolder(job.folder).checkpoint.is_file():
        return None
    return open_model(arguments, job.folder).sample(SHOWN, seed=job.seed)


def final_numbers(folder: Path) -> dict[str, Any]:
    """Of a run's metrics: the losses, the mean of the last lines, and the share of all steps in which Dec and Dis were updated."""
    lines = read_metrics(RunFolder(folder).metrics)
    last = lines[-FINAL_LINES:]
    losses = {
        name: sum(line[name] for line in last) / len(last)
        for name in ("prior", "like", "gan_real", "gan_generated", "generator")
        if last and all(isinstance(line.get(name), int | float) for line in last)
    }
    rates = {}
    for name in ("dec_update_rate", "dis_update_rate"):
        known = [line[name] for line in lines if isinstance(line.get(name), int | float)]
        if known:
            rates[name] = sum(known) / len(known)
    return {"step": lines[-1]["step"] if lines else 0, "losses": losses, **rates}


def table(conditions: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """A line for each condition: runs, those that ended in diverse faces, mean and deviation of the measured numbers over the runs."""
    every = [numbers_of(run.get("measures", {})) for runs in conditions.values() for run in runs.values()]
    names = list(dict.fromkeys(name for measures in every for name in measures))
    header = ["condition", "runs", "diverse faces", *(name.replace("_", " ") for name in names), "Dec updated", "Dis updated"]
    rows = []
    for condition, runs in conditions.items():
        good = sum(bool(run["diverse_faces"]) for run in runs.values())
        measured = [spread([numbers_of(run.get("measures", {})).get(name) for run in runs.values()], 2) for name in names]
        rates = [percent([run.get(name) for run in runs.values()]) for name in ("dec_update_rate", "dis_update_rate")]
        rows.append([condition, str(len(runs)), f"{good} of {len(runs)}", *measured, *rates])
    return markdown(header, rows)


def percent(values: Sequence[float | None]) -> str:
    """The mean of shares in per cent, a dash for none."""
    known = [value for value in values if value is not None]
    return f"{number(100 * sum(known) / len(known), 2)} %" if known else "–"


if __name__ == "__main__":
    sys.exit(run_main(main))
