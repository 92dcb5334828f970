"""Section 4.3 as an experiment: which labels are drawn, what each training begins with and keeps, resuming, results, bad input."""

from __future__ import annotations

import dataclasses
import json
import signal

import numpy as np
import pytest
from app_case import arrays_of, call, one_line, tree, write_tiny
from PIL import Image

from models.classifier import Classifier
from vaegan_kernels.data import Dataset, load_dataset, write_packed
from vaegan_kernels.experiments import labels as labelling
from vaegan_kernels.experiments import semi_supervised
from vaegan_kernels.experiments.labels import check_counts, draw_labelled, majority, target_of
from vaegan_kernels.experiments.semi_supervised import Part, Study
from vaegan_kernels.experiments.semi_supervised_figure import curves, table
from vaegan_kernels.runs.trainer import Trainer
from vaegan_kernels.shell.errors import UserError

PLAIN = ("--", "--no-curves", "--no-animation", "--draw-every", "100", "--save-every", "100", "--log-every", "1")
FLAGS = ("--target", "Big", "--steps", "2", "--batch-size", "4", "--tune-steps", "4", "--tune-batch-size", "4", "--device", "cpu")
FLAGS += ("--threads", "1", "--quiet")
SMALL = ("--labels", "4,8", "--seeds", "2")


def dataset_of(labels=None, names=(), attributes=None, attribute_names=(), splits=None):
    """30 images without content: 20 to train on, 4 for validation, 6 to test."""
    splits = np.repeat(np.arange(3, dtype=np.uint8), [20, 4, 6]) if splits is None else splits
    dataset = Dataset("data", np.zeros((30, 8, 8, 3), np.uint8), splits, attributes, attribute_names)
    dataset.labels, dataset.label_names = None if labels is None else np.asarray(labels, np.int16), tuple(names)
    return dataset


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("data") / "discs.h5")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, data):
    """An experiment's folder: both features, two numbers of labels, two seeds."""
    out = tmp_path_factory.mktemp("experiment") / "out"
    assert call(semi_supervised.main, "--data", data, "--out", out, *FLAGS, *SMALL, *PLAIN) == 0
    return out


def results(out):
    return json.loads((out / "semi_supervised.json").read_text())


def test_it_trains_measures_and_draws(finished, data):
    found = results(finished)
    names = {
        f"{f}-{start}-{n}-seed{seed}" for f in ("enc", "dis") for start in ("fine-tuned", "scratch") for n in (4, 8) for seed in (0, 1)
    }
    assert set(found["parts"]) == names and set(found["runs"]) == {"vaegan-seed0", "vaegan-seed1"}
    assert all(0 <= part["accuracy"] <= 1 and 1 <= part["step"] <= 4 for part in found["parts"].values())
    assert found["labelled"] == {"train": 28, "validation": 4, "test": 8} and found["settings"]["target"] == "Big"
    dataset = load_dataset(data, image_size=32, channels=3)
    big = dataset.attributes[:, 0] > 0
    most = big[dataset.split("train")].mean() > 0.5
    assert found["majority"]["accuracy"] == pytest.approx((big[dataset.split("test")] == most).mean())
    lines = found["tables"]["semi-supervised"].splitlines()
    assert len(lines) == 2 + 4 + 1 and "Enc, from scratch" in found["tables"]["semi-supervised"] and "4 labels" in lines[0]
    with Image.open(finished / "semi_supervised.png") as picture:
        picture.load()
        assert picture.size[0] > 2 * 400


def test_what_is_finished_is_not_done_again_and_freezing_adds_to_it(finished, data, monkeypatch, tmp_path):
    monkeypatch.setattr(Trainer, "train_step", lambda self: pytest.fail("pre-trained again"))
    before = results(finished)["parts"]
    with monkeypatch.context() as patch:
        patch.setattr(Classifier, "train_step", lambda *_: pytest.fail("trained again"))
        assert call(semi_supervised.main, "--data", data, "--out", finished, *FLAGS, *SMALL) == 0
    assert results(finished)["parts"] == before
    more = (*FLAGS, "--features", "dis", "--labels", "8", "--seeds", "1", "--freeze")
    assert call(semi_supervised.main, "--data", data, "--out", finished, *more) == 0
    assert results(finished)["parts"].items() >= before.items()
    assert set(results(finished)["parts"]) - set(before) == {"dis-frozen-8-seed0"}
    assert "Dis, pre-trained, frozen" in results(finished)["tables"]["semi-supervised"]


def test_a_stopped_experiment_goes_on_and_ends_the_same(finished, data, tmp_path, monkeypatch, capsys):
    own, calls = Classifier.train_step, []

    def train_step(self, *batch):
        own(self, *batch)
        calls.append(1)
        if len(calls) == 6:  # in the second training
            signal.raise_signal(signal.SIGINT)

    command = ("--data", data, "--out", tmp_path / "out", *FLAGS, *SMALL, "--features", "enc", *PLAIN)
    with monkeypatch.context() as patch:
        patch.setattr(Classifier, "train_step", train_step)
        assert call(semi_supervised.main, *command) == 130
        assert "run the same command again" in capsys.readouterr().out
    assert list(results(tmp_path / "out")["parts"]) == ["enc-fine-tuned-4-seed0"] and len(calls) == 6
    assert call(semi_supervised.main, *command) == 0
    for name, part in results(tmp_path / "out")["parts"].items():
        straight = results(finished)["parts"][name]
        assert {**part, "seconds": 0} == {**straight, "seconds": 0}, name


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (("--tune-steps", "5"), "tune_steps 4, asked for is 5"), (("--target", "Red"), "target Big"),
        (("--learning-rate", "0.5"), "learning_rate"), (("--steps", "3"), "steps 2, asked for is 3"),
    ],
)  # fmt: skip
def test_other_settings_are_refused_in_one_line(finished, data, capsys, change, word):
    before = tree(finished)
    assert call(semi_supervised.main, "--data", data, "--out", finished, *FLAGS, *SMALL, *change) == 2
    assert word in one_line(capsys.readouterr().err)
    assert tree(finished) == before


def study_of(data, out, *more):
    """A study without anything trained, and its arguments."""
    from vaegan_kernels.experiments.results import load_data

    seen = []

    def keep(arguments, dataset, target, given):
        seen.append((arguments, dataset, target, given))
        raise UserError("enough")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(semi_supervised, "Study", keep)
        assert call(semi_supervised.main, "--data", data, "--out", out, *FLAGS, *SMALL, *more) == 2
    arguments, _, target, given = seen[0]
    return Study(arguments, load_data(arguments), target, given)


def test_what_a_training_begins_with(finished, data, tmp_path):
    """Pre-trained: the run's own averages to the bit. From scratch: others. The linear layer is the same in both."""
    study = study_of(data, tmp_path / "out", "--pretrained", finished / "runs" / "vaegan-seed1")
    study.engine = semi_supervised.open_engine(study.config)[0]
    stored = arrays_of(finished / "runs" / "vaegan-seed1" / "checkpoint.h5")
    for features, weight in (("enc", "parameters/encoder/fc/weight"), ("dis", "parameters/discriminator/fc/weight")):
        one, two = (study.begin(Part(features, start, 8, 0)) for start in ("fine-tuned", "scratch"))
        assert all(np.array_equal(array, stored[f"average/{name}"]) for name, array in one.trunk_arrays().items())
        assert not np.array_equal(two.state_arrays()[weight], stored[weight])
        top = "parameters/classifier/output/weight"
        assert np.array_equal(one.state_arrays()[top], two.state_arrays()[top])
        assert study.begin(Part(features, "frozen", 8, 0)).freeze


def test_the_state_that_is_kept_is_the_best_on_validation_images(finished, data, tmp_path, monkeypatch):
    """Of equals the later one; the test images are asked once, behind that choice."""
    study = study_of(data, tmp_path / "out", "--pretrained", finished / "runs" / "vaegan-seed0")
    validation, asked, states = [0.25, 0.75, 0.75, 0.5], [], []
    splits = {len(study.target.labelled(study.dataset, name)): name for name in ("validation", "test")}

    def accuracy(model, indices):
        name = splits.get(len(indices), "chosen")
        asked.append(name)
        states.append(np.array(model.state_arrays()["parameters/classifier/output/weight"]))
        return validation[asked.count("validation") - 1] if name == "validation" else 0.125

    monkeypatch.setattr(study, "accuracy", accuracy)
    result = study.result(Part("enc", "fine-tuned", 6, 0))
    assert asked == ["validation"] * 4 + ["test", "chosen"]
    assert result["step"] == 3 and result["validation_accuracy"] == 0.75 and result["accuracy"] == 0.125
    assert np.array_equal(states[4], states[2]) and not np.array_equal(states[4], states[3])


def test_it_learns_what_is_in_the_picture(tmp_path):
    """Brightness of discs from twelve labels: test images are recognised, whatever the trunk began with."""
    dataset = load_dataset(write_tiny(tmp_path / "tiny.h5", n=120), image_size=32, channels=3)
    bright = np.random.default_rng(0).permutation(120) % 2 == 0
    images = dataset.images // 2 + np.where(bright, 128, 0).astype(np.uint8)[:, None, None, None]
    splits = np.repeat(np.arange(3, dtype=np.uint8), 40)
    attributes = np.where(np.stack([bright, ~bright], axis=1), 1, -1).astype(np.int8)
    write_packed(tmp_path / "bright.h5", dataclasses.replace(dataset, images=images, splits=splits, attributes=attributes, fingerprint=""))
    words = ("--data", tmp_path / "bright.h5", "--out", tmp_path / "out", *FLAGS, "--tune-steps", "40", "--tune-batch-size", "12")
    assert call(semi_supervised.main, *words, "--labels", "12", "--seeds", "1", *PLAIN) == 0
    parts = results(tmp_path / "out")["parts"].values()
    assert len(parts) == 4 and all(part["training_accuracy"] > 0.9 for part in parts)
    assert np.mean([part["accuracy"] for part in parts]) > 0.8, "of 40 images, half of each kind"


def test_labels_are_drawn_equally_and_each_number_holds_the_smaller_ones():
    labels = np.r_[np.zeros(9), np.ones(6), np.full(5, -1), np.arange(10) % 2]
    dataset = dataset_of(labels, ("cat", "dog"))
    target = target_of(dataset, None)
    few, more = draw_labelled(target, dataset, 5, 0), draw_labelled(target, dataset, 10, 0)
    assert np.bincount(target.labels[few]).tolist() == [3, 2] and np.bincount(target.labels[more]).tolist() == [5, 5]
    assert set(few) < set(more) and (np.diff(more) > 0).all() and (dataset.splits[more] == 0).all()
    assert np.array_equal(few, draw_labelled(target, dataset, 5, 0)) and not np.array_equal(few, draw_labelled(target, dataset, 5, 1))
    assert labelling.counts_of(target, dataset).tolist() == [9, 6]
    assert majority(target, dataset) == {"class": "cat", "accuracy": 0.5}


def test_targets():
    """Class labels where there are any, an attribute by name, its sign where it is real-valued."""
    attributes = np.linspace(-1, 1, 30, dtype=np.float32)[:, None].repeat(2, axis=1)
    both = dataset_of(np.arange(30) % 3, ("a", "b"), attributes, ("Big", "Smiling"))
    assert target_of(both, None).classes == ("a", "b", "2") and target_of(both, "labels").labels.tolist() == both.labels.tolist()
    splits = np.tile(np.array([0, 1, 2], np.uint8), 10)
    signs = dataset_of(None, (), attributes, ("Big", "Smiling"), splits)
    target = target_of(signs, "Big")
    assert np.array_equal(target.labels, attributes[:, 0] > 0) and target.classes == ("not Big", "Big") and target.labels.dtype == np.int32
    assert target_of(signs, None, built_in=True).name == "Smiling"


@pytest.mark.parametrize(
    ("dataset", "asked", "word"),
    [
        (dataset_of(), None, "has no class labels, nor attributes"),
        (dataset_of(attributes=np.ones((30, 1), np.int8), attribute_names=("Big",)), None, "name an attribute to be recognised: Big"),
        (dataset_of(attributes=np.ones((30, 1), np.int8), attribute_names=("Big",)), "labels", "no class labels"),
        (dataset_of(attributes=np.ones((30, 1), np.int8), attribute_names=("Smiling",)), "Smilling", "did you mean Smiling"),
        (dataset_of(attributes=np.ones((30, 1), np.int8), attribute_names=("Big",)), "Big", "of one class, 'Big'"),
        (dataset_of(np.full(30, -1), ("a", "b")), None, "no training image"),
        (dataset_of(np.r_[np.arange(20) % 2, np.full(10, -1)], ("a", "b")), None, "no test image"),
    ],
)
def test_targets_that_cannot_be_learned_are_one_line(dataset, asked, word):
    with pytest.raises(UserError, match=word) as caught:
        target_of(dataset, asked)
    assert "\n" not in str(caught.value)


def test_too_few_labels_are_one_line():
    dataset = dataset_of(np.r_[np.zeros(15), np.ones(5), np.arange(10) % 2], ("cat", "dog"))
    target = target_of(dataset, None)
    check_counts([2, 10], target, dataset)
    with pytest.raises(UserError, match="--labels: 12 labels take 6 of the class 'dog', but only 5 .* expected at most 10"):
        check_counts([2, 12], target, dataset)
    with pytest.raises(UserError, match="--labels: got 1, expected at least 2"):
        check_counts([1], target, dataset)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--labels", "4,x"), "--labels: got '4,x'"), (("--labels", "4,4"), "each once"),
        (("--labels", "400"), "--labels: 400 labels take"),
        (("--features", "enc,dec"), "--features"), (("--target", "Bigg"), "did you mean Big"), (("--target", "labels"), "no class labels"),
        (("--tune-steps", "0"), "--tune-steps"), (("--learning-rate", "nan"), "--learning-rate"), (("--seeds", "0"), "--seeds"),
        (("--pretrained", "/nowhere"), "no such checkpoint"), (("--", "--conditional"), "--conditional after --"),
    ],
)  # fmt: skip
def test_bad_flags_are_one_line_and_train_nothing(tmp_path, data, capsys, words, expected):
    assert call(semi_supervised.main, "--data", data, "--out", tmp_path / "out", *FLAGS, *words) == 2
    assert expected in one_line(capsys.readouterr().err)
    assert tree(tmp_path) == {} or not list((tmp_path / "out").iterdir())


def test_a_pretrained_run_that_does_not_fit_is_one_line(finished, data, tmp_path, capsys):
    from vaegan_kernels import train

    run = finished / "runs" / "vaegan-seed0"
    tiny = ("--data", data, "--steps", "1", "--batch-size", "4", "--device", "cpu", "--quiet", "--no-curves", "--no-animation")
    for name, more in (("vae", ("--model", "vae")), ("conditional", ("--conditional",)), ("units", ("--encoder-units", "40"))):
        assert call(train.main, *tiny, *more, "--out", tmp_path / name) == 0
    capsys.readouterr()
    for given, words, expected in (
        (run, ("--network", "paper32"), "add --network small32"),
        (tmp_path / "conditional", (), "is conditional"),
        (tmp_path / "units", (), "--encoder-units 40, asked for is 256"),
        (tmp_path / "vae", ("--labels", "4", "--features", "enc,dis"), "has no discriminator; leave dis out of --features"),
    ):
        assert call(semi_supervised.main, "--data", data, "--out", tmp_path / "out", *FLAGS, "--pretrained", given, *words) == 2
        assert expected in one_line(capsys.readouterr().err)
    words = ("--pretrained", tmp_path / "vae", "--labels", "4", "--features", "enc", "--seeds", "2")
    assert call(semi_supervised.main, "--data", data, "--out", tmp_path / "out", *FLAGS, *words) == 0
    assert results(tmp_path / "out")["settings"]["steps"] == 1 and not (tmp_path / "out" / "runs").exists()


def test_the_table_has_means_of_the_seeds():
    parts = {}
    for start, seed in (("scratch", 0), ("scratch", 1), ("frozen", 0), ("frozen", 1)):
        accuracy = 0.5 + 0.1 * seed + (start == "frozen") / 4
        parts[f"{start}{seed}"] = {"features": "dis", "start": start, "labels": 1000, "seed": seed, "accuracy": accuracy}
    assert list(curves(parts)) == [("dis", "frozen"), ("dis", "scratch")]
    lines = table(parts, {"class": "no", "accuracy": 0.5}).splitlines()
    assert lines[0] == "| test accuracy, % | 1,000 labels |" and lines[-1] == "| always 'no' | 50.0 |"
    assert lines[2] == "| Dis, pre-trained, frozen | 80.0 ± 7.1 |" and lines[3] == "| Dis, from scratch | 55.0 ± 7.1 |"
