"""``python -m vaegan_kernels.experiments.semi_supervised``: pre-training without labels, then fine-tuning with few (section 4.3).

For each seed a VAE/GAN is trained on all training images; no label takes part. Its Enc or Dis, up to the FC layer, and a linear layer are
then trained on the few images that keep their labels, and beside them the same networks from scratch: the same labels, steps, schedule.
Of the states that are looked at on the way, the one that is right most often on the validation images is kept; the test images are for
the result alone. OUT/semi_supervised.json is written after each training, and those that are in it are not done again.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kernels import Engine
from models.classifier import FEATURES, NETWORK_OF, Classifier
from models.system import SYSTEMS
from vaegan_kernels.experiments.common import add_common, config_of, parse, run_folder, train_flags
from vaegan_kernels.experiments.labels import Target, check_counts, draw_labelled, majority, target_of
from vaegan_kernels.experiments.parallel import add_jobs, check_jobs, job_of, train_all
from vaegan_kernels.experiments.results import about, load_data, read_json
from vaegan_kernels.experiments.samples import list_of
from vaegan_kernels.experiments.semi_supervised_figure import draw_curves, table
from vaegan_kernels.files import plain, write_json
from vaegan_kernels.runs import checkpoint
from vaegan_kernels.runs.supervised import RATE, Schedule, train_steps
from vaegan_kernels.sample import check_count
from vaegan_kernels.settings.options import open_engine
from vaegan_kernels.shell.cli import Parser, real_number, run_main, tell
from vaegan_kernels.shell.cli import whole_number as whole
from vaegan_kernels.shell.errors import UserError

LABELS, TUNE_STEPS, TUNE_BATCH = "100,400,1000", 300, 32
LOOKS = 10  # at the validation images in one training
PIECE = 512  # images that are judged at once

EPILOG = """examples:
  python -m vaegan_kernels.experiments.semi_supervised --out results/                                    built-in faces: who smiles
  python -m vaegan_kernels.experiments.semi_supervised --data celeba/ --target Male --out results/ --labels 50,200,1000
  python -m vaegan_kernels.experiments.semi_supervised --data cifar10.h5 --network paper32 --out results/          data with class labels
  the same command with --freeze adds linear layers on the frozen features to the results"""


class Part(NamedTuple):
    """One training of a classifier. ``start``: "fine-tuned" and "frozen" begin with pre-trained features, "scratch" does not."""

    features: str
    start: str
    labels: int
    seed: int

    @property
    def name(self) -> str:
        """``enc-scratch-100-seed0``."""
        return f"{self.features}-{self.start}-{self.labels}-seed{self.seed}"


def make_parser() -> Parser:
    """The command line."""
    parser = Parser(
        prog="python -m vaegan_kernels.experiments.semi_supervised", epilog=EPILOG,
        description="Fine-tune Enc's or Dis's features with few labels: after training without labels, and beside the same from scratch.",
    )  # fmt: skip
    add_common(parser, seed=False)
    text = "what is recognised: labels, the data's classes (the default where it has them), or an attribute (built-in faces: Smiling)"
    parser.add_argument("--target", metavar="NAME", help=text)
    parser.add_argument("--labels", default=LABELS, metavar="N,...", help=f"labelled images, equally many of a class (default: {LABELS})")
    parser.add_argument("--features", default=",".join(FEATURES), metavar="A,B", help=f"which (default: {','.join(FEATURES)})")
    parser.add_argument("--seeds", type=whole, default=3, metavar="N", help="seeds 0 to N-1: pre-training, labels, training (default: 3)")
    parser.add_argument("--pretrained", metavar="RUN", help="a trained run whose networks every seed begins with (default: trained now)")
    parser.add_argument(
        "--freeze", action="store_true", help="train the linear layer alone on pre-trained features, which stay as they are"
    )
    parser.add_argument("--tune-steps", type=whole, default=TUNE_STEPS, metavar="N", help=f"steps with labels (default: {TUNE_STEPS})")
    text = f"labelled images in a step, all of them where there are fewer (default: {TUNE_BATCH})"
    parser.add_argument("--tune-batch-size", type=whole, default=TUNE_BATCH, metavar="N", help=text)
    parser.add_argument(
        "--learning-rate", type=real_number, default=RATE, metavar="X", help=f"of these steps, at the start (default: {RATE})"
    )
    add_jobs(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    arguments = parse(make_parser(), argv)
    features, counts = list_of("--features", arguments.features, FEATURES), checked(arguments)
    given = given_run(arguments, features)
    dataset = load_data(arguments)
    target = target_of(dataset, arguments.target, built_in=arguments.data is None)
    check_counts(counts, target, dataset)
    study = Study(arguments, dataset, target, given)

    seeds = range(arguments.seeds)
    if given is None:
        train_all([job_of(arguments, "vaegan", seed) for seed in seeds], workers=arguments.jobs, quiet=arguments.quiet)
    start = "frozen" if arguments.freeze else "fine-tuned"
    parts = [Part(f, kind, n, seed) for f in features for kind in (start, "scratch") for n in counts for seed in seeds]
    study.train(parts)
    study.finish()
    return 0


def checked(arguments: argparse.Namespace) -> list[int]:
    """The numbers of labels, rising; checks the other numbers too. Raises `UserError`."""
    check_count("--seeds", arguments.seeds, 100)
    check_count("--tune-steps", arguments.tune_steps, 10**9)
    check_count("--tune-batch-size", arguments.tune_batch_size, 10**6)
    check_jobs(arguments)
    if not 0 < arguments.learning_rate < float("inf"):
        raise UserError(f"--learning-rate: got {arguments.learning_rate}, expected a number above 0")
    words = [word.strip() for word in arguments.labels.split(",")]
    if not all(word.isdecimal() for word in words) or len(set(words)) < len(words):
        raise UserError(f"--labels: got {arguments.labels!r}, expected whole numbers, each once, with commas between: {LABELS}")
    return sorted(map(int, words))


def given_run(arguments: argparse.Namespace, features: Sequence[str]) -> Path | None:
    """The checkpoint of --pretrained. Raises `UserError` if its networks are not those that the flags ask for."""
    if arguments.pretrained is None:
        return None
    file = checkpoint.find(arguments.pretrained)
    config, wanted = checkpoint.read_header(file).config, config_of(train_flags(arguments))
    if config.conditional:
        raise UserError(f"--pretrained: {file} is conditional, its networks want attributes beside the images; give one that is not")
    if config.network != wanted.network:
        raise UserError(f"--pretrained: {file} is of the network {config.network}, not {wanted.network}; add --network {config.network}")
    for name in features:
        if NETWORK_OF[name] not in SYSTEMS[config.model].networks:
            raise UserError(f"--pretrained: {file} is a {config.model}, which has no {NETWORK_OF[name]}; leave {name} out of --features")
    own, asked = config.network_spec(), wanted.network_spec()
    for name, kind in (("channels", "--image-channels"), ("encoder_units", "--encoder-units")):
        if getattr(own, name) != getattr(asked, name):
            raise UserError(
                f"--pretrained: {file} has {kind} {getattr(own, name)}, asked for is {getattr(asked, name)}; "
                f"add -- {kind} {getattr(own, name)}"
            )
    return file


class Study:
    """Trains classifiers and keeps OUT/semi_supervised.json. ``given``: the checkpoint that all begin with, or None: a run a seed."""

    def __init__(self, arguments: argparse.Namespace, dataset: Any, target: Target, given: Path | None) -> None:
        self.arguments, self.dataset, self.target, self.given = arguments, dataset, target, given
        self.config = config_of(train_flags(arguments))
        self.path = Path(arguments.out) / "semi_supervised.json"
        names = {"tune_steps": "tune_steps", "tune_batch_size": "tune_batch_size", "learning_rate": "learning_rate", "steps": "steps"}
        self.settings: dict[str, Any] = {
            "target": target.name, "classes": list(target.classes), "fingerprint": dataset.fingerprint, "network": self.config.network,
            **{name: getattr(arguments, flag) for name, flag in names.items()},
        }  # fmt: skip
        if given is not None:
            header = checkpoint.read_header(given)
            self.settings |= {"steps": header.step, "pretrained": header.config.seed, "pretrained_on": header.data_fingerprint}
        stored = read_json(self.path) if self.path.exists() else {}
        for name in {**stored.get("settings", {}), **self.settings} if stored else ():
            own, asked = stored.get("settings", {}).get(name), plain(self.settings.get(name))
            if own != asked:
                raise UserError(
                    f"{self.path}: the results there are of {name} {own}, asked for is {asked}; give the same settings, or another --out"
                )
        self.parts: dict[str, Any] = stored.get("parts", {})

    @cached_property
    def engine(self) -> Engine:
        return open_engine(self.config, None if self.arguments.quiet else tell)[0]

    def train(self, parts: list[Part]) -> None:
        """All of ``parts`` that are not in the results yet."""
        for part in parts:
            if part.name not in self.parts:
                self.parts[part.name] = self.result(part)
                self.write()
                if not self.arguments.quiet:
                    print(f"{part.name}: {self.parts[part.name]['accuracy']:.1%} of the test images right", flush=True)

    def result(self, part: Part) -> dict[str, Any]:
        """Train one classifier, keep its best state and test that."""
        begun = time.monotonic()
        model = self.begin(part)
        chosen = draw_labelled(self.target, self.dataset, part.labels, part.seed)
        labels, validation = self.target.labels, self.target.labelled(self.dataset, "validation")
        best: dict[str, Any] = {"accuracy": -1.0, "step": 0}

        def look(step: int) -> None:
            accuracy = self.accuracy(model, validation) if len(validation) else 0.0
            if accuracy >= best["accuracy"]:  # of equals the one that was trained longer; without validation images the last one
                state = {name: self.engine.to_numpy(array).copy() for name, array in model.state_arrays().items()}
                best.update(accuracy=accuracy, step=step, state=state)

        steps = self.arguments.tune_steps
        schedule = Schedule(steps, min(self.arguments.tune_batch_size, part.labels), self.arguments.learning_rate, part.seed)
        images, known, rows = self.dataset.images, labels, chosen
        if not self.engine.host_memory:  # a GPU is given no more than it needs
            images, known, rows = images[chosen], labels[chosen], np.arange(len(chosen))
        train_steps(
            model, images, known, rows, schedule, what=part.name, save=look,
            every=max(1, steps // LOOKS), quiet=self.arguments.quiet,
            stopped=lambda step: f"stopped in {part.name}; run the same command again to resume: finished trainings are kept",
        )  # fmt: skip
        model.load_state(best["state"])
        return plain({
            **part._asdict(), "accuracy": self.accuracy(model, self.target.labelled(self.dataset, "test")),
            "training_accuracy": self.accuracy(model, chosen), "validation_accuracy": best["accuracy"] if len(validation) else None,
            "step": best["step"], "seconds": round(time.monotonic() - begun, 2),
        })  # fmt: skip

    def begin(self, part: Part) -> Classifier:
        """The classifier of a part before its first step."""
        spec = self.config.network_spec()
        options = {"seed": part.seed, "optimizer": self.config.optimizer, "weight_decay": self.config.weight_decay}
        model = Classifier(
            self.engine, spec, len(self.target.classes), features=part.features, freeze=part.start == "frozen", **options
        )  # fmt: skip
        if part.start != "scratch":
            file = self.given or checkpoint.find(run_folder(self.arguments.out, "vaegan", seed=part.seed))
            model.load_trunk(checkpoint.read_weights(file, model.trunk_arrays()))
        return model

    def accuracy(self, model: Classifier, indices: np.ndarray) -> float:
        """The share of the images at ``indices`` whose class gets the largest logit (of equals the first)."""
        right = 0
        for start in range(0, len(indices), PIECE):
            piece = indices[start : start + PIECE]
            images = self.dataset.images[piece].astype(self.engine.wide) / 127.5 - 1
            right += int((model.predict(images.astype(self.engine.wide)).argmax(axis=1) == self.target.labels[piece]).sum())
        return right / len(indices)

    def write(self, **more: Any) -> None:
        """Write the results so far."""
        write_json(self.path, {**more, "settings": self.settings, "parts": self.parts})

    def finish(self) -> None:
        """Table, figure and facts of all that the results hold."""
        seeds = sorted({part["seed"] for part in self.parts.values()})
        folders = [] if self.given else [run_folder(self.arguments.out, "vaegan", seed=seed) for seed in seeds]
        facts = about(self.arguments, self.dataset, folders)
        counts = {name: len(self.target.labelled(self.dataset, name)) for name in ("train", "validation", "test")}
        baseline = majority(self.target, self.dataset)
        text = table(self.parts, baseline)
        self.write(**facts, labelled=counts, majority=baseline, tables={"semi-supervised": text})
        figure = self.path.with_suffix(".png")
        draw_curves(figure, self.parts, baseline, f"{self.dataset.name}, {self.target.name}: accuracy on {counts['test']:,} test images")
        print(text)
        print(f"{self.path}, {figure}")


if __name__ == "__main__":
    sys.exit(run_main(main))
