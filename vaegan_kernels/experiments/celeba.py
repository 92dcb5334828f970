"""``python -m vaegan_kernels.experiments.celeba``: the four systems over several seeds with a budget fixed beforehand, measured.

The plan (systems, seeds, steps, every setting, the data's fingerprint) is written to OUT/plan.json before anything is trained and is not
changed afterwards. Then all systems are trained, measured by `vaegan_kernels.measures.quality.measure`, and drawn.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import Any

from vaegan_kernels.experiments import reconstructions, samples
from vaegan_kernels.experiments.common import NAMES, ORDER, add_common, config_of, finished, parse, run_folder, run_name, train_flags
from vaegan_kernels.experiments.parallel import Job, add_jobs, check_jobs, job_of, train_all
from vaegan_kernels.experiments.results import (
    about,
    about_run,
    add_regressor,
    load_data,
    open_model,
    read_json,
    regressor_of,
)
from vaegan_kernels.experiments.samples import list_of
from vaegan_kernels.experiments.share import add_share, only_train
from vaegan_kernels.experiments.tables import markdown, number, numbers_of, spread
from vaegan_kernels.files import plain, write_json
from vaegan_kernels.sample import check_count
from vaegan_kernels.shell.cli import Parser, run_main
from vaegan_kernels.shell.cli import whole_number as whole
from vaegan_kernels.shell.errors import UserError

# Of a configuration, what a plan leaves out: where it runs and what it reports, what differs from run to run, what the data decides.
NOT_PLANNED = {"data", "device", "engine", "threads", "model", "gan", "gan_steps", "seed", "conditional", "attributes"}
NOT_PLANNED |= {"log_every", "draw_every"}
NOT_PLANNED |= {"save_every", "reconstruct_from", "animation", "curves", "tensorboard"}

# The table's lines: numbers of `quality.measure`, and what they are called there. celeba.json has all of them, and those of each attribute.
MEASURES = {
    "sharpness": "samples: sharpness over that of real images",
    "colour_noise": "samples: colour noise over that of real images",
    "pixel_diversity": "samples: mean distance of two over that of real images",
    "frechet": "samples: Fréchet distance",
    "frechet_real": "the same of training images: the floor",
    "rebuilt mse": "reconstructions, z sampled: squared error of a pixel",
    "mean_image_mse": "the same of the mean image",
    "rebuilt ssim": "reconstructions: SSIM",
    "rebuilt dis_l": "reconstructions: Dis_l distance",
    "rebuilt sharpness": "reconstructions: sharpness over that of real images",
    "frechet_rebuilt": "reconstructions: Fréchet distance",
    "rebuilt_mean mse": "reconstructions, z = μ: squared error of a pixel",
    "rebuilt_mean ssim": "the same: SSIM",
    "rebuilt_mean dis_l": "the same: Dis_l distance",
    "rebuilt_mean sharpness": "the same: sharpness over that of real images",
    "attribute_vectors seen_before": "attribute vectors: attribute seen without it, of images that lack it",
    "attribute_vectors seen": "attribute vectors: attribute seen with it",
    "attribute_vectors moved": "attribute vectors: seen with it and not without",
    "attribute_vectors change": "attribute vectors: change of the attribute's score (-1 to 1)",
    "attribute_vectors others": "attribute vectors: change of the other scores, absolute",
}

EPILOG = """examples:
  python -m vaegan_kernels.experiments.celeba --data celeba/ --out results/ --jobs 2                           small networks, on a CPU
  python -m vaegan_kernels.experiments.celeba --data celeba/ --out results/ --network paper64 --steps 37500 --batch-size 64 --device cuda \\
      -- --preset paper                                                                                      the paper's, on a GPU"""


def make_parser() -> Parser:
    """The command line."""
    parser = Parser(
        prog="python -m vaegan_kernels.experiments.celeba", epilog=EPILOG,
        description="Train the four systems from several seeds, measure them and draw Fig. 3 and 4: by a plan that is fixed beforehand.",
    )  # fmt: skip
    add_common(parser, seed=False)
    parser.add_argument("--systems", default=",".join(ORDER), metavar="A,B", help=f"which (default: {','.join(ORDER)})")
    parser.add_argument("--seeds", type=whole, default=3, metavar="N", help="seeds 0 to N-1 of every system (default: 3)")
    add_jobs(parser)
    add_share(parser)
    add_regressor(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    arguments = parse(make_parser(), argv)
    check_count("--seeds", arguments.seeds, 100)
    check_jobs(arguments)
    systems = list_of("--systems", arguments.systems, ORDER)
    dataset = load_data(arguments)
    out = Path(arguments.out)
    plan = plan_of(arguments, systems, dataset)
    keep_plan(out / "plan.json", plan)

    jobs = jobs_of(arguments, systems)
    if only_train(arguments, jobs):
        return 0
    if arguments.report:
        jobs = there(jobs, out)
        systems = [system for system in systems if run_folder(out, system, seed=0) in {job.folder for job in jobs}]
    else:
        train_all(jobs, workers=arguments.jobs, quiet=arguments.quiet)
    regressor = regressor_of(arguments, dataset)
    results = measure_all(arguments, systems, dataset, regressor, {job.folder for job in jobs})
    facts = about(arguments, dataset, [job.folder for job in jobs])
    tables = {"celeba": table(results), "plan": plan_table(plan, [about_run(job.folder) for job in jobs])}
    write_json(out / "celeba.json", {**facts, "plan": plan, "systems": results, "tables": tables})
    first = {system: open_model(arguments, run_folder(out, system, seed=0)) for system in systems}
    samples.draw(first, out / "samples.png")
    rebuilt = {system: model for system, model in first.items() if system != "gan"}
    if rebuilt:
        images = reconstructions.test_images(dataset, 20)
        reconstructions.draw(rebuilt, images, out / "reconstructions.png")
        reconstructions.draw(rebuilt, images, out / "reconstructions-only.png", originals=False)
    print(tables["celeba"])
    print(f"{out / 'celeba.json'}; figures of seed 0: samples.png, reconstructions.png (reconstructions-only.png: no real faces)")
    return 0


def there(jobs: Sequence[Job], out: Path) -> list[Job]:
    """Those of ``jobs`` that are finished. Raises `UserError` for none of seed 0, with which figures and distances are made."""
    found = [job for job in jobs if finished(job.folder)]
    if not any(job.seed == 0 for job in found):
        raise UserError(f"--report: no run of seed 0 in {out} is finished; train them first")
    gan = [job for job in jobs if job.system == "gan" and job.seed == 0]
    if gan and gan[0] not in found:
        raise UserError(f"--report: {gan[0].folder} is not finished, and Dis_l distances are taken in its Dis; train it first")
    return found


def plan_of(arguments: argparse.Namespace, systems: Sequence[str], dataset: Any) -> dict[str, Any]:
    """What is fixed beforehand."""
    config = config_of(train_flags(arguments)).to_dict()
    return {
        "systems": list(systems),
        "seeds": list(range(arguments.seeds)),
        "data": dataset.name,
        "fingerprint": dataset.fingerprint,
        "regressor": "given" if arguments.regressor else f"{arguments.regressor_steps} steps",
        "settings": {name: value for name, value in config.items() if name not in NOT_PLANNED},
    }


def keep_plan(path: Path, plan: dict[str, Any]) -> None:
    """Write the plan, or hold it against the one that is there. Raises `UserError` for the first entry that differs."""
    if not path.exists():
        write_json(path, plan, shared=True)
        return
    stored, asked = flat(read_json(path)), flat(plain(plan))
    for name in {**stored, **asked}:
        if stored.get(name) != asked.get(name):
            raise UserError(
                f"{path}: the plan was fixed with {name} {stored.get(name)}, asked for is {asked.get(name)}; "
                "keep to the plan, or begin another one with another --out"
            )


def flat(plan: Mapping[str, Any]) -> dict[str, Any]:
    """The plan with its settings beside the other entries."""
    return {**{name: value for name, value in plan.items() if name != "settings"}, **plan.get("settings", {})}


def jobs_of(arguments: argparse.Namespace, systems: Sequence[str]) -> list[Job]:
    """All runs, seed by seed; a gan comes before the vae-dis that takes its Dis, and is there even if it was not asked for."""
    needed = [*systems, "gan"] if "vae-dis" in systems and "gan" not in systems else list(systems)
    order = sorted(needed, key=lambda system: system == "vae-dis")
    return [job_of(arguments, system, seed) for seed in range(arguments.seeds) for system in order]


def measure_all(
    arguments: argparse.Namespace, systems: Sequence[str], dataset: Any, regressor: Any, folders: Container[Path]
) -> dict[str, Any]:  # fmt: skip
    """{system: {seed: measures}} of the runs in ``folders``. Dis_l distances are taken in the Dis of the gan of seed 0 for all systems, so
    that they compare."""
    from vaegan_kernels.measures import quality

    judge = run_folder(arguments.out, "gan", seed=0)
    metric = open_model(arguments, judge) if "gan" in systems or "vae-dis" in systems else None
    results: dict[str, Any] = {}
    for system in systems:
        for seed in range(arguments.seeds):
            if run_folder(arguments.out, system, seed=seed) not in folders:
                continue
            if not arguments.quiet:
                print(f"measuring {run_name(system, seed=seed)}", flush=True)
            model = open_model(arguments, run_folder(arguments.out, system, seed=seed))
            measured = quality.measure(model, dataset, regressor, metric=metric, seed=0)
            results.setdefault(system, {})[str(seed)] = plain(measured)
    return results


def table(results: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """A line for each of `MEASURES`, a column for each system: mean and deviation over the seeds."""
    measured = {system: [numbers_of(run) for run in runs.values()] for system, runs in results.items()}
    rows = [[label, *(spread([run.get(name) for run in runs]) for runs in measured.values())] for name, label in MEASURES.items()]
    known = [row for row in rows if any(cell != number(None) for cell in row[1:])]
    return markdown(["", *(NAMES[system] for system in results)], known)


def plan_table(plan: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]) -> str:
    """What was fixed beforehand, and the time that it took."""
    settings = plan["settings"]
    seconds = sum(run["seconds"] for run in runs)
    rows = [
        ["data", str(plan["data"])],
        ["systems", ", ".join(NAMES[system] for system in plan["systems"])],
        ["seeds", ", ".join(map(str, plan["seeds"]))],
        ["network, preset", f"{settings['network']}, {settings['preset']}"],
        ["steps x batch", f"{settings['steps']:,} x {settings['batch_size']}"],
        ["training time", f"{number(seconds / 60)} minutes for {len(runs)} runs"],
        ["device", ", ".join(dict.fromkeys(str(run["device"]) for run in runs))],
    ]
    return markdown(["", "fixed beforehand"], rows)


if __name__ == "__main__":
    sys.exit(run_main(main))
