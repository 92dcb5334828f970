"""``python -m vaegan_kernels.experiments.sweep``: every combination of some settings from several seeds, and one table of the measures.

A run is a cell of the table and a seed; its folder is OUT/runs/<system>-<setting=value,...>-seed<k>. The figures are those of the end of
each run (`evaluate`). OUT/sweep.json and OUT/sweep.md are made when all runs are there, or of what is there with --report.
"""

from __future__ import annotations

import argparse
import itertools
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vaegan_kernels.experiments.common import add_common, config_of, finished, parse, run_flags, run_folder, train_flags
from vaegan_kernels.experiments.parallel import Job, add_jobs, check_jobs
from vaegan_kernels.experiments.results import about, load_data, read_json
from vaegan_kernels.experiments.share import add_share, check_some, failure_of, task_of, train_share
from vaegan_kernels.experiments.tables import markdown, mean_and_deviation, spread
from vaegan_kernels.files import write_atomically, write_json
from vaegan_kernels.runs.run_folder import RunFolder
from vaegan_kernels.settings.config import CHANGEABLE, FIELDS, Config
from vaegan_kernels.settings.fields import field_type, flag
from vaegan_kernels.shell.cli import Parser, check_choice, run_main
from vaegan_kernels.shell.errors import UserError

# What a sweep does not vary: what the experiment itself sets, the images, and what does not change a run's result.
FIXED = {"seed", "conditional", "attributes", "gan", "init", "image_channels", "limit", "fit", "data_seed"} | CHANGEABLE
# Of summary.json: what is no figure, and what the data alone decides.
OTHERS = {"step", "steps", "seconds", "mean_image_mse", "data_diversity", "constant_agreement"}
MOST = 10_000  # runs
WORDS = {"true": True, "on": True, "yes": True, "false": False, "off": False, "no": False}

EPILOG = """examples:
  python -m vaegan_kernels.experiments.sweep --data photos.h5 --out sweep --set margin=0.35,0.5 --set gamma=0.01,0.02 --seeds 0,1,2 --jobs 2
  python -m vaegan_kernels.experiments.sweep --data photos.h5 --out sweep --set margin=0.35,0.5 --set gate=on,off --task 3/8
  python -m vaegan_kernels.experiments.sweep --data photos.h5 --out sweep --set margin=0.35,0.5 --set gate=on,off --report"""


def make_parser() -> Parser:
    """The command line."""
    parser = Parser(
        prog="python -m vaegan_kernels.experiments.sweep", epilog=EPILOG,
        description="Train every combination of some settings from several seeds; one table of the measures, mean and deviation.",
    )  # fmt: skip
    add_common(parser, seed=False)
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=A,B", dest="sets", help="a setting of train and its values; as often as wanted"
    )
    parser.add_argument("--seeds", default="0,1,2", metavar="K,L", help="seeds of every combination (default: 0,1,2)")
    add_jobs(parser)
    add_share(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    arguments = parse(make_parser(), argv)
    check_jobs(arguments)
    task = task_of(arguments)
    sets = sets_of(arguments.sets)
    cells = cells_of(sets)
    jobs = {cell: jobs_of(arguments, cells[cell], cell, seeds_of(arguments.seeds)) for cell in cells}
    every = [job for row in jobs.values() for job in row]
    left = 0 if arguments.report else train_share(arguments, every, task)
    if left:  # others have them
        print("the table is made by whoever finishes last, or with --report", flush=True)
        return 0
    check_some(every)
    done = [job.folder for job in every if finished(job.folder)]
    facts = about(arguments, load_data(arguments), done)
    results = {cell: results_of(cells[cell], row) for cell, row in jobs.items()}
    text = table(sets, results)
    out = Path(arguments.out)
    write_json(out / "sweep.json", {**facts, "settings": sets, "cells": results, "tables": {"sweep": text}}, shared=True)
    write_atomically(out / "sweep.md", lambda file: file.write(f"{text}\n".encode()), shared=True)
    print(text)
    print(f"{out / 'sweep.json'}, {out / 'sweep.md'}: {len(done)} of {len(every)} runs")
    return 0


def sets_of(words: Sequence[str]) -> dict[str, list[Any]]:
    """``["margin=0.35,0.5"]`` as ``{"margin": [0.35, 0.5]}``. Raises `UserError` in one line."""
    sets: dict[str, list[Any]] = {}
    for word in words:
        name, equals, values = word.partition("=")
        name = name.strip().lstrip("-").replace("-", "_")
        if not equals or not values:
            raise UserError(f"--set: got {word!r}, expected a setting and its values, such as margin=0.35,0.5")
        check_choice("--set", name, [known for known in FIELDS if known not in FIXED])
        if name in sets:
            raise UserError(f"--set: {name} is given twice; give all its values at once")
        sets[name] = [value_of(name, value.strip()) for value in values.split(",")]
        if len(set(sets[name])) < len(sets[name]):
            raise UserError(f"--set: {name} has a value twice: {values}")
    if not sets:
        raise UserError("--set: missing; give at least one setting and its values, such as --set margin=0.35,0.5")
    return sets


def value_of(name: str, text: str) -> Any:
    """A setting's value, as train reads it. Raises `UserError`."""
    kind = field_type(FIELDS[name])
    words = {bool: "on or off", int: "a whole number", float: "a number"}
    try:
        return WORDS[text.lower()] if kind is bool else kind(text)
    except (ValueError, KeyError):
        raise UserError(f"--set: {name}: got {text!r}, expected {words[kind]}") from None


def seeds_of(text: str) -> list[int]:
    """``"0,1,2"`` as numbers. Raises `UserError`."""
    words = [word.strip() for word in text.split(",")]
    if not all(re.fullmatch(r"[0-9]{1,18}", word) for word in words) or len(set(map(int, words))) < len(words):
        raise UserError(f"--seeds: got {text!r}, expected whole numbers, each once, with commas between: 0,1,2")
    return [int(word) for word in words]


def cells_of(sets: Mapping[str, Sequence[Any]]) -> dict[str, dict[str, Any]]:
    """{name: settings} of every combination, the last setting changing first. Raises `UserError` for too many."""
    combinations = [dict(zip(sets, values, strict=True)) for values in itertools.islice(itertools.product(*sets.values()), MOST + 1)]
    if len(combinations) > MOST:
        raise UserError(f"--set: more than {MOST:,} combinations; take fewer values")
    return {",".join(f"{name}={shown(value)}" for name, value in cell.items()): cell for cell in combinations}


def shown(value: Any) -> str:
    """A value as it stands in tables and in names of folders."""
    return ("off", "on")[value] if isinstance(value, bool) else re.sub(r"[^\w.+-]", "_", str(value))


def jobs_of(arguments: argparse.Namespace, settings: dict[str, Any], cell: str, seeds: Sequence[int]) -> list[Job]:
    """The runs of a cell. Raises `UserError` for settings that train refuses."""
    own = dict(settings)
    system = own.pop("model", Config.model)
    jobs = []
    for seed in seeds:
        words = run_flags(system, False, seed, train_flags(arguments), own)
        jobs.append(Job(run_folder(arguments.out, f"{system}-{cell}", seed=seed), system, seed, tuple(words)))
    config, common = config_of(jobs[0].words), config_of(train_flags(arguments))
    if config.network_spec().image_size != common.network_spec().image_size:
        raise UserError(f"--set: {cell} is for images of another size than --network {common.network}; all runs need the same images")
    return jobs


def figures_of(job: Job) -> dict[str, Any]:
    """A finished run's measures, why it failed, or nothing."""
    if error := failure_of(job):
        return {"failed": error}
    if not finished(job.folder):
        return {}
    summary = read_json(RunFolder(job.folder).summary)
    return {name: value for name, value in summary.items() if name not in OTHERS}


def results_of(settings: Mapping[str, Any], jobs: Sequence[Job]) -> dict[str, Any]:
    """A cell: its settings, the measures of each seed's run, and of each measure mean and deviation over the seeds."""
    runs = {str(job.seed): found for job in jobs if (found := figures_of(job))}
    names = dict.fromkeys(name for run in runs.values() for name in run if name != "failed")
    return {"settings": settings, "runs": runs, "over_seeds": {name: over(runs, name) for name in names}}


def over(runs: Mapping[str, Mapping[str, Any]], name: str) -> dict[str, Any]:
    """Mean and sample deviation of a measure over the runs that have it, and how many those are."""
    mean, deviation, count = mean_and_deviation([run.get(name) for run in runs.values()])
    return {"mean": mean, "deviation": deviation, "runs": count}


def table(sets: Mapping[str, Sequence[Any]], results: Mapping[str, Mapping[str, Any]]) -> str:
    """A line for each cell: its settings, how many runs there are and how many of them failed, each measure's mean and deviation."""
    names = list(dict.fromkeys(name for cell in results.values() for name in cell["over_seeds"]))
    rows = []
    for cell in results.values():
        runs = cell["runs"].values()
        measured = [spread([run.get(name) for run in runs]) for name in names]
        failed = sum("failed" in run for run in runs)
        rows.append([*(shown(value) for value in cell["settings"].values()), str(len(runs)), str(failed), *measured])
    return markdown([*(flag(name).lstrip("-") for name in sets), "runs", "failed", *(name.replace("_", " ") for name in names)], rows)


if __name__ == "__main__":
    sys.exit(run_main(main))
