"""Attribute vectors: their numbers against a plain computation, the checkpoint that keeps them, the command, and sample's edits."""

from __future__ import annotations

import types

import h5py
import numpy as np
import pytest
from app_case import TINY, arrays_of, call, one_line, tree, write_tiny
from PIL import Image

import vaegan_kernels
from vaegan_kernels import attribute_vectors as command
from vaegan_kernels import sample
from vaegan_kernels.data import Dataset, read_packed, write_packed
from vaegan_kernels.measures import attribute_vectors
from vaegan_kernels.runs import checkpoint
from vaegan_kernels.settings import edits
from vaegan_kernels.shell.errors import UserError
from vaegan_kernels.train import main

PLAIN = ("--no-animation", "--no-curves", "--quiet", "--threads", 1, *TINY)


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("data") / "tiny.h5")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, packed):
    folder = tmp_path_factory.mktemp("run") / "run"
    assert call(main, "--data", packed, "--out", folder, "--steps", 3, *PLAIN) == 0
    return folder


@pytest.fixture
def run(trained, tmp_path):
    """A copy of the run, to be written to."""
    copy = tmp_path / "run"
    copy.mkdir()
    (copy / "checkpoint.h5").write_bytes((trained / "checkpoint.h5").read_bytes())
    return copy


class Linear:
    """A model whose z is a projection of the pixels: what is expected can be said beforehand."""

    has_encoder, attribute_names, latent = True, (), 5

    def __init__(self, pixels, rng):
        self.weight, self.largest = rng.standard_normal((pixels, self.latent)) / pixels, 0

    def encode(self, images):
        self.largest = max(self.largest, len(images))
        mu = (images.reshape(len(images), -1) @ self.weight).astype(np.float32)
        return mu, np.full_like(mu, np.log(0.25))


def dataset_of(rng, n=700, values=None):
    """Images of 8 pixels a side with four attributes: in some, in none, in all, in some."""
    images = rng.integers(0, 256, (n, 8, 8, 1), dtype=np.uint8)
    has = np.stack([rng.random(n) < 0.3, np.zeros(n, bool), np.ones(n, bool), rng.random(n) < 0.8], axis=1)
    attributes = np.where(has, 1, -1).astype(np.int8) if values is None else (np.where(has, 1, -1) * values).astype(np.float32)
    splits = (np.arange(n) % 10 == 0).astype(np.uint8) * 2
    return Dataset("noise", images, splits, attributes, ("A", "None", "All", "B"))


def test_vectors_are_the_difference_of_means_batch_by_batch(rng):
    dataset = dataset_of(rng)
    model = Linear(64, rng)
    found = attribute_vectors.measure(model, dataset)
    train = dataset.split("train")
    assert model.largest == attribute_vectors.BATCH < len(train)
    mu, _ = model.encode(dataset.images[train])
    for vector, column in zip(found.vectors, (0, 3), strict=True):
        has = dataset.attributes[train, column] > 0
        expected = mu[has].mean(axis=0, dtype=np.float64) - mu[~has].mean(axis=0, dtype=np.float64)
        assert np.linalg.norm(vector - expected) < 1e-5 * np.linalg.norm(expected)
    assert found.names == ("A", "B") and found.left_out == ("None", "All") and found.vectors.dtype == np.float32
    assert (found.with_it + found.without == len(train)).all() and found.with_it[0] == (dataset.attributes[train, 0] > 0).sum()
    assert found.deviation == pytest.approx(np.sqrt(np.mean(mu.astype(np.float64).var(axis=0) + 0.25)), rel=1e-5)
    vectors, names = attribute_vectors.compute(model, dataset, "test")
    assert names == ("A", "B") and np.linalg.norm(vectors - found.vectors) > 0.1 * np.linalg.norm(vectors), "the split matters"


def test_real_valued_attributes_count_as_present_above_zero(rng):
    state = rng.bit_generator.state
    plain = attribute_vectors.measure(Linear(64, np.random.default_rng(1)), dataset_of(rng))
    rng.bit_generator.state = state
    real = attribute_vectors.measure(Linear(64, np.random.default_rng(1)), dataset_of(rng, values=0.3))
    np.testing.assert_array_equal(plain.vectors, real.vectors)


def test_what_cannot_be_measured(rng):
    dataset = dataset_of(rng)
    same = dataset.take(np.flatnonzero((dataset.attributes[:, 0] > 0) & (dataset.attributes[:, 3] > 0) & (dataset.splits == 0)))
    bare = Dataset("bare", dataset.images, dataset.splits)
    gan = types.SimpleNamespace(has_encoder=False, system="gan", attribute_names=())
    conditional = types.SimpleNamespace(has_encoder=True, system="vae", attribute_names=("A",))
    model = Linear(64, rng)
    for arguments, message in (
        ((model, same), "every attribute of noise is the same"),
        ((model, bare), "no attributes"),
        ((model, dataset, "validation"), "--split validation"),
        ((gan, dataset), "gan has no encoder"),
        ((conditional, dataset), "conditional"),
    ):
        with pytest.raises(UserError, match=message):
            attribute_vectors.compute(*arguments)


def test_cosines(rng):
    vectors = rng.standard_normal((4, 6))
    vectors[3] = 0
    cosines = attribute_vectors.cosines(vectors)
    assert cosines[0, 1] == pytest.approx(vectors[0] @ vectors[1] / np.linalg.norm(vectors[0]) / np.linalg.norm(vectors[1]), rel=1e-12)
    np.testing.assert_allclose(np.diag(cosines), [1, 1, 1, 0], atol=1e-12)


def test_the_command_keeps_them_in_the_checkpoint(run, packed, capfd, rng):
    before = arrays_of(run / "checkpoint.h5")
    assert call(command.main, run, "--threads", 1) == 0
    printed = capfd.readouterr().out
    assert "2 attribute vectors" in printed and "Big" in printed and "cosine" in printed
    after = arrays_of(run / "checkpoint.h5")
    assert set(after) - set(before) == {"attribute_vectors/vectors"}
    for name, array in before.items():
        np.testing.assert_array_equal(after[name], array, err_msg=name)
    vectors = attribute_vectors.load(run)
    model = vaegan_kernels.load_model(run, threads=1)
    computed, names = attribute_vectors.compute(model, read_packed(packed))
    assert list(vectors) == list(names) == ["Big", "Red"]
    np.testing.assert_array_equal(np.stack(list(vectors.values())), computed)
    assert call(command.main, run / "checkpoint.h5", "--data", packed, "--split", "test", "--quiet") == 0
    assert not np.array_equal(attribute_vectors.load(run)["Big"], vectors["Big"])


def test_load_refuses_what_does_not_fit(run):
    with pytest.raises(UserError, match=r"no attribute vectors in it .*make them with: python -m vaegan_kernels.attribute_vectors"):
        attribute_vectors.load(run)
    checkpoint.write_extra(
        run / "checkpoint.h5", {attribute_vectors.VECTORS: np.ones((3, 128), np.float32)}, {"attribute_vector_names": '["A"]'}
    )
    with pytest.raises(UserError, match="for 1 names"):
        attribute_vectors.load(run)
    with h5py.File(run / "checkpoint.h5", "r+") as file:
        file.attrs["attribute_vector_names"] = "[nonsense"
    with pytest.raises(UserError, match="attribute_vector_names is missing or damaged"):
        attribute_vectors.load(run)


def test_directions(rng):
    vectors = dict(zip("abc", rng.standard_normal((3, 4)), strict=True))
    np.testing.assert_allclose(
        edits.direction(vectors, ["a", "b"], ["c"], 2.0), 2 * (vectors["a"] + vectors["b"] - vectors["c"]), rtol=1e-12
    )
    np.testing.assert_allclose(edits.direction(vectors, [], ["c"], None), -1.5 * vectors["c"], rtol=1e-12)
    assert edits.names_of(["Smiling, Male", "Young,"]) == ["Smiling", "Male", "Young"]
    with pytest.raises(UserError, match=r"--remove: .* 'd'; it has a, b, c"):
        edits.direction(vectors, ["a"], ["d"], 1.0)
    with pytest.raises(UserError, match="a is given twice"):
        edits.direction(vectors, ["a"], ["a"], 1.0)


def test_sample_adds_them(run, tmp_path, monkeypatch):
    assert call(command.main, run, "--quiet") == 0
    drawn = []
    from vaegan_kernels.pictures import figures

    own = figures.grid
    monkeypatch.setattr(figures, "grid", lambda images, *rest: drawn.append((images, rest)) or own(images, *rest))
    line = ("--count", 4, "--seed", 3, "--out", tmp_path / "s.png", "--threads", 1, "--overwrite")
    assert call(sample.main, run, *line) == 0
    assert call(sample.main, run, *line, "--add", "Big", "--remove", "Red", "--strength", 3) == 0
    model, vectors = vaegan_kernels.load_model(run, threads=1), attribute_vectors.load(run)
    z = model.prior(4, 3)
    plain, edited = (images for images, _ in drawn)
    np.testing.assert_array_equal(plain, model.decode(z))
    expected = model.decode(z + 3 * (vectors["Big"] - vectors["Red"]))
    assert np.linalg.norm(edited - expected) < 1e-4 * np.linalg.norm(expected) < 1e3 * np.linalg.norm(edited - plain)
    assert "+Big -Red, strength 3" in drawn[1][1][1]
    with Image.open(tmp_path / "s.png") as picture:
        assert picture.size[0] > 2 * 96


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--split", "tset"], "did you mean test?"),
        (["--data", "{x}/nowhere"], "nowhere"),
        (["--data", "{x}/bare.h5"], "no attributes"),
        (["--threads", "0"], "--threads"),
    ],
)
def test_bad_input_of_the_command(run, tmp_path, packed, capfd, words, expected):
    tiny = read_packed(packed)
    write_packed(tmp_path / "bare.h5", Dataset("bare", tiny.images, tiny.splits))
    before = tree(tmp_path)
    assert call(command.main, run, *(word.format(x=tmp_path) for word in words)) == 2
    assert expected in one_line(capfd.readouterr().err)
    assert tree(tmp_path) == before


def test_data_that_moved_is_told(run, packed, tmp_path, capfd):
    with h5py.File(run / "checkpoint.h5", "r+") as file:
        file.attrs["config"] = file.attrs["config"].replace(str(packed), str(tmp_path / "gone.h5"))
    assert call(command.main, run) == 2
    assert "--data says where" in one_line(capfd.readouterr().err)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--add", "Bgi"], "did you mean Big?"),
        (["--add", "Big", "--strength", "x"], "--strength: got 'x'"),
        (["--add", "Big", "--strength", "nan"], "--strength: got 'nan'"),
        (["--strength", "2"], "without --add"),
        (["--add", "Big", "--attributes", "Big=1"], "not conditional"),
    ],
)
def test_bad_edits_of_sample(run, tmp_path, capfd, words, expected):
    assert call(command.main, run, "--quiet") == 0
    capfd.readouterr()
    assert call(sample.main, run, "--out", tmp_path / "s.png", *words) == 2
    assert expected in one_line(capfd.readouterr().err)
    assert not (tmp_path / "s.png").exists()
