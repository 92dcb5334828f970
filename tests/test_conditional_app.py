"""Conditional runs: the attributes of a batch, the checkpoint's examples and extras, the commands, the errors."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from app_case import TINY, arrays_of, assert_same_run, call, one_line, write_tiny
from PIL import Image

from vaegan_kernels import data, interpolate, load_model, reconstruct, sample
from vaegan_kernels.data import Dataset, read_packed, write_packed
from vaegan_kernels.runs import checkpoint, trainer
from vaegan_kernels.settings.condition import parse
from vaegan_kernels.shell.errors import UserError
from vaegan_kernels.train import main

FLAGS = ("--steps", 4, "--save-every", 3, "--draw-every", 100, "--no-animation", "--no-curves", "--threads", 1, "--quiet", *TINY)


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """The tiny set with real-valued attributes, of which a row tells the image."""
    path = write_tiny(tmp_path_factory.mktemp("data") / "tiny.h5")
    tiny = read_packed(path)
    values = np.random.default_rng(8).standard_normal((len(tiny), 3)).astype(np.float32)
    write_packed(path, Dataset("discs", tiny.images, tiny.splits, values, ("Big", "Very Red", "Round")))
    return path


@pytest.fixture(scope="module")
def run(packed, tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "run"
    assert call(main, "--data", packed, "--conditional", "--attributes", "Round, Big", "--out", out, *FLAGS) == 0
    return out


def test_real_valued_attributes_are_packed_and_read(packed, tmp_path):
    dataset = read_packed(packed)
    assert dataset.attributes.dtype == np.float32 and data.attribute_names(packed) == ("Big", "Very Red", "Round")
    np.testing.assert_array_equal(dataset.attributes_of(("Round", "Big")), dataset.attributes[:, [2, 0]])
    part = dataset.take(np.array([3, 1]))
    np.testing.assert_array_equal(part.attributes, dataset.attributes[[3, 1]])
    assert part.fingerprint != dataset.fingerprint
    other = Dataset("discs", dataset.images, dataset.splits, dataset.attributes + np.float32(1e-3), dataset.attribute_names)
    assert other.fingerprint != dataset.fingerprint
    with pytest.raises(ValueError, match="got 'Small', expected one of Big, Very Red, Round"):
        dataset.attributes_of(("Small",))
    with pytest.raises(ValueError, match="not finite"):
        Dataset("discs", dataset.images, dataset.splits, dataset.attributes * np.float32(np.nan), dataset.attribute_names)
    with pytest.raises(ValueError, match="expected int8 or float32"):
        Dataset("discs", dataset.images, dataset.splits, dataset.attributes.astype(np.float64), dataset.attribute_names)
    assert read_packed(write_tiny(tmp_path / "int8.h5")).attributes_of(("Red",)).dtype == np.float32


def test_a_batch_has_the_attributes_of_its_images(packed, tmp_path, monkeypatch):
    """Over the end of an epoch: each row of attributes is that of the image beside it."""
    seen = []
    own = trainer.Trainer.train_step

    def train_step(self):
        own(self)
        seen.append((self.engine.to_numpy(self.x).copy(), self.engine.to_numpy(self.given[0]).copy()))

    monkeypatch.setattr(trainer.Trainer, "train_step", train_step)
    flags = (*FLAGS, "--steps", 9, "--model", "vae", "--no-flip")
    assert call(main, "--data", packed, "--conditional", "--out", tmp_path / "run", *flags) == 0
    dataset = read_packed(packed)
    place = {image.tobytes(): row for image, row in zip(dataset.images, dataset.attributes, strict=True)}
    assert len(seen) == 9
    for x, rows in seen:
        images = np.round((x + 1) * 127.5).astype(np.uint8)
        np.testing.assert_array_equal(rows, [place[image.tobytes()] for image in images])


@pytest.mark.parametrize("system", ["vaegan", "vae-dis"])
def test_a_stopped_run_goes_on_to_the_same_bits(system, packed, tmp_path):
    flags = ("--data", packed, "--conditional", "--model", system, *FLAGS)
    assert call(main, *flags, "--out", tmp_path / "a") == 0
    gan = ("--gan", tmp_path / "a" / "gan") if system == "vae-dis" else ()
    assert call(main, *flags, *gan, "--out", tmp_path / "b", "--stop-after", 2) == 0
    assert call(main, "--resume", tmp_path / "b", "--quiet") == 0
    assert_same_run(tmp_path / "a", tmp_path / "b")
    assert checkpoint.read_header(tmp_path / "a" / "checkpoint.h5").config.attributes == "Big,Very Red,Round"


def test_a_gan_without_attributes_in_a_conditional_run(packed, run, tmp_path, rng, capfd):
    """Its FC layer gets rows of zeros: the same function; a conditional GAN fits only the same attributes."""
    gan, out = tmp_path / "gan", tmp_path / "run"
    assert call(main, "--data", packed, "--model", "gan", "--out", gan, *FLAGS, "--steps", 1) == 0
    flags = ("--data", packed, "--model", "vae-dis", *FLAGS, "--steps", 1)
    assert call(main, *flags, "--conditional", "--gan", gan, "--out", out) == 0
    images, values = rng.integers(0, 256, (3, 32, 32, 3), dtype=np.uint8), rng.standard_normal((3, 3))
    np.testing.assert_allclose(load_model(out).discriminate(images, values), load_model(gan, weights="raw").discriminate(images), rtol=1e-5)
    for more, message in (((), "but this run is not conditional"), (("--conditional",), "but this run is given Big,Very Red,Round")):
        assert call(main, *flags, *more, "--gan", run, "--out", tmp_path / "c") == 2
        assert f"is conditional on Round,Big, {message}" in one_line(capfd.readouterr().err)


def test_the_model_that_is_loaded(run, packed, rng):
    model, dataset = load_model(run, precision="float64"), read_packed(packed)
    assert model.attribute_names == ("Round", "Big") and model.spec.attributes == 2
    rows = dataset.attributes_of(model.attribute_names)[dataset.split("train")]
    examples = model.examples(40, seed=1)
    assert examples.shape == (40, 2) and {row.tobytes() for row in examples} == {row.tobytes() for row in rows}
    assert (model.examples(5, seed=1) == examples[:5]).all() and (model.examples(5, seed=2) != examples[:5]).any()
    np.testing.assert_allclose(model.mean_attributes(), rows.mean(axis=0), rtol=1e-5)
    images = rng.integers(0, 256, (3, 32, 32, 3), dtype=np.uint8)
    given = rng.standard_normal((3, 2))
    np.testing.assert_array_equal(model.sample(3, seed=4), model.sample(3, seed=4, attributes=model.examples(3, 4)))
    for call_ in (lambda a: model.encode(images, a)[0], lambda a: model.decode(np.zeros((3, 128)), a),
                  lambda a: model.discriminate(images, a), lambda a: model.reconstruct(images, mean=True, attributes=a)):  # fmt: skip
        assert np.abs(call_(given) - call_(given[::-1])).max() > 1e-6
        for bad, message in (
            (None, r"missing, expected \[3, 2\]: Round, Big"),
            (given[:2], r"got float64 \[2, 2\]"),
            (given * np.inf, "finite"),
        ):
            with pytest.raises(ValueError, match=message):
                call_(bad)
    assert model.features(images).shape == (3, model.spec.metric_size)
    gradients, _ = model.gradients(images, *rng.standard_normal((2, 3, 128)), attributes=given)
    assert gradients["decoder/fc/weight"].shape[0] == 130 and np.abs(gradients["decoder/fc/weight"][128:]).min() > 0


def test_extras_of_a_checkpoint(run, tmp_path, rng):
    path = tmp_path / "checkpoint.h5"
    path.write_bytes((run / "checkpoint.h5").read_bytes())
    before = arrays_of(path)
    vectors = rng.standard_normal((2, 128)).astype(np.float32)
    assert checkpoint.read_extra(path, "attribute_vectors/vectors") is None
    for array in (vectors[:1], vectors):  # the second time in place of the first
        checkpoint.write_extra(path, {"attribute_vectors/vectors": array}, {"attribute_vector_names": '["Big", "Round"]'})
    assert checkpoint.read_extra_names(path, "attribute_vector_names") == ("Big", "Round")
    np.testing.assert_array_equal(checkpoint.read_extra(path, "attribute_vectors/vectors"), vectors)
    after = arrays_of(path)
    assert after.keys() - before.keys() == {"attribute_vectors/vectors"}
    assert all(after[name].tobytes() == before[name].tobytes() for name in before)
    assert checkpoint.read_header(path) == checkpoint.read_header(run / "checkpoint.h5")
    assert load_model(path).decode(np.zeros((1, 128)), np.ones((1, 2))).any()
    with pytest.raises(ValueError, match="expected one in"):
        checkpoint.write_extra(path, {"parameters/x": vectors}, {})
    with h5py.File(path, "r+") as file:
        del file["condition/examples"]
        file["condition/examples"] = h5py.ExternalLink("/etc/hostname", "x")
    with pytest.raises(UserError, match="points outside the file"):
        load_model(path)


def test_training_on_drops_the_vectors(packed, tmp_path):
    out = tmp_path / "run"
    assert call(main, "--data", packed, "--conditional", "--model", "gan", "--out", out, *FLAGS, "--stop-after", 1) == 0
    checkpoint.write_extra(out / "checkpoint.h5", {"attribute_vectors/vectors": np.ones((1, 128), np.float32)}, {})
    assert call(main, "--resume", out, "--quiet") == 0
    assert checkpoint.read_extra(out / "checkpoint.h5", "attribute_vectors/vectors") is None
    assert checkpoint.read_extra(out / "checkpoint.h5", "condition/examples").shape == (28, 3)


def test_commands(run, packed, tmp_path, capfd, rng):
    photo = tmp_path / "noise.png"
    Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(photo)
    commands = {
        "sample": (sample.main, "--count", 4),
        "own": (reconstruct.main, "--count", 4),
        "photo": (reconstruct.main, "--images", photo),
        "walk": (interpolate.main, "--from", photo, "--to", 2, "--frames", 3),
    }
    for name, (command, *arguments) in commands.items():
        pictures = set()
        for number, more in enumerate(((), ("--attributes", "Round=9"), ("--attributes", "Round=9"))):
            out = tmp_path / f"{name}{number}.png"
            assert call(command, run, "--out", out, "--threads", 1, *arguments, *more) == 0, name
            pictures.add(out.read_bytes())
        assert len(pictures) == 2, name
    for text, message in (
        ("Rond=1", "did you mean Round?"),
        ("Small=1", "it has Round, Big"),
        ("Big", "expected NAME=NUMBER"),
        ("Big=1,Big=2", "Big is given twice"),
    ):
        capfd.readouterr()
        assert call(sample.main, run, "--out", tmp_path / "no.png", "--attributes", text) == 2
        assert message in one_line(capfd.readouterr().err) and not (tmp_path / "no.png").exists()
    assert call(reconstruct.main, run, "--data", write_tiny(tmp_path / "other.h5"), "--out", tmp_path / "no.png") == 2
    assert "has no attribute 'Round'" in one_line(capfd.readouterr().err)


@pytest.mark.parametrize("text", ["", "=1", "Big=", "Big=nan", "Big=1,", "Big=x"])
def test_attributes_that_are_refused(text):
    with pytest.raises(UserError, match="expected NAME=NUMBER"):
        parse(text)
    assert parse("Very Red = -1.5,a=b=2") == {"Very Red": -1.5, "a=b": 2.0} and parse(None) == {}


def test_errors_before_anything_is_written(packed, run, tmp_path, capfd):
    out, photos = tmp_path / "run", tmp_path / "photos"
    photos.mkdir()
    for i in range(8):
        Image.new("RGB", (40, 40), (i, 2 * i, 9)).save(photos / f"{i}.png")
    dataset = read_packed(packed)
    write_packed(tmp_path / "comma.h5", Dataset("d", dataset.images, dataset.splits, dataset.attributes, ("A", "B,C", "D")))
    for flags, message in (
        (("--attributes", "Big"), "--attributes: only with --conditional"),
        (("--conditional", "--attributes", "Big,Rund"), "no attribute 'Rund'; did you mean Round?"),
        (("--conditional", "--attributes", "Nose"), "it has Big, Very Red, Round"),
        (("--conditional", "--attributes", "Big,Big"), "Big is named twice"),
        (("--conditional", "--attributes", ""), "no attribute ''"),
        (("--conditional", "--data", photos), "has no attributes; use CelebA, LFW or a packed file"),
        (("--conditional", "--data", tmp_path / "comma.h5"), "has a comma in its name"),
        (("--conditional", "--data", tmp_path / "none.h5"), "no such file"),
    ):
        assert call(main, "--data", packed, *flags, "--out", out, *FLAGS) == 2, flags
        assert message in one_line(capfd.readouterr().err)
        assert not out.exists()
    for flags, message in ((("--attributes", "Big"), "has Round,Big"), (("--no-conditional",), "--conditional: got False")):
        assert call(main, "--resume", run, *flags) == 2
        assert message in one_line(capfd.readouterr().err)
    assert call(main, "--resume", run, "--conditional", "--attributes", " Round ,Big", "--quiet") == 0


def test_dry_run_of_the_built_in_faces(tmp_path, monkeypatch, capfd):
    """The names come from the source; no face is drawn."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(data, "load_dataset", None)
    assert call(main, "--conditional", "--model", "gan", "--dry-run", "--threads", 1, "--device", "cpu") == 0
    printed = capfd.readouterr().out
    names = data.attribute_names(None)
    assert len(names) > 1 and ",".join(names) in printed
    assert f"runs{'/'}small32-gan-quick-faces-conditional-001" in printed
