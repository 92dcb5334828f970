"""The experiments on attributes: vectors and correlations (Fig. 5), similarity (Table 2, Fig. 6)."""

from __future__ import annotations

import json

import numpy as np
import pytest
from app_case import call, one_line, tree, write_tiny
from PIL import Image

import vaegan_kernels
from vaegan_kernels.data import Dataset, read_packed, write_packed
from vaegan_kernels.experiments import attribute_similarity, attribute_vectors, correlations, similarity
from vaegan_kernels.measures import attribute_vectors as vectors
from vaegan_kernels.measures import quality
from vaegan_kernels.measures.regressor import load_regressor
from vaegan_kernels.runs.trainer import Trainer
from vaegan_kernels.shell.errors import UserError

FLAGS = ("--steps", "2", "--batch-size", "4", "--device", "cpu", "--threads", "1", "--quiet")
PLAIN = ("--", "--no-curves", "--no-animation", "--draw-every", "100", "--save-every", "100", "--log-every", "1")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("data") / "discs.h5", n=60)


@pytest.fixture(scope="module")
def fig5(tmp_path_factory, data):
    """An experiment's folder with the figures of attribute vectors."""
    out = tmp_path_factory.mktemp("experiment") / "out"
    assert (
        call(attribute_vectors.main, "--data", data, "--out", out, *FLAGS, "--count", 3, "--strengths=-2,0,2", "--no-originals", *PLAIN)
        == 0
    )
    return out


def test_figures_and_numbers_of_the_vectors(fig5):
    kept = vectors.load(fig5 / "runs" / "vaegan-seed0")
    results = json.loads((fig5 / "attribute_vectors.json").read_text())
    assert sorted(results["names"]) == sorted(kept) == ["Big", "Red"]
    cosine = np.array(results["cosine"])
    a, b = kept["Big"].astype(float), kept["Red"].astype(float)
    assert cosine[0, 1] == cosine[1, 0] == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b), abs=1e-3)
    assert "| Big, Red |" in (table := results["tables"]["attribute-vectors"]) or "| Red, Big |" in table
    assert results["runs"]["vaegan-seed0"]["steps"] == 2
    for name in ("attribute_vectors.png", "attribute_correlations.png", "attribute_vectors/Big.png", "attribute_vectors/Red.png"):
        with Image.open(fig5 / name) as picture:
            picture.load()
            assert picture.width > 3 * 96 and picture.height > 3 * 96


def test_originals_only_where_they_are_wanted(fig5, data, monkeypatch):
    dataset = read_packed(data)
    first = dataset.images[dataset.split("test")[0]].repeat(3, axis=0).repeat(3, axis=1)
    drawn = []
    monkeypatch.setattr(Trainer, "train_step", lambda self: pytest.fail("trained again"))
    monkeypatch.setattr(attribute_vectors, "save_image", lambda path, picture: drawn.append(np.asarray(picture)))
    for flag, shown in (("--originals", True), ("--no-originals", False)):
        assert call(attribute_vectors.main, "--data", data, "--out", fig5, *FLAGS, "--count", 2, flag, *PLAIN) == 0
        for picture in drawn:
            corners = np.argwhere((picture == first[0, 0]).all(axis=2))
            found = any(np.array_equal(picture[y : y + 96, x : x + 96], first) for y, x in corners if (y, x) < picture.shape[:2])
            assert found is shown
        assert len(drawn) == 3
        drawn.clear()


def test_blocks_hold_every_attribute_once_the_authors_first():
    others = [f"Other_{k}" for k in range(22)]
    names = [*others[:10], *attribute_vectors.AUTHORS, *others[10:]]
    blocks = attribute_vectors.blocks(names)
    flat = [name for block in blocks for name, _ in block]
    assert flat == [*attribute_vectors.AUTHORS, *others] and {len(block) for block in blocks} == {10}
    assert attribute_vectors.headings(blocks[1], 2) == [(2, 9, "the authors' attributes"), (10, 11, "others")]
    few = attribute_vectors.blocks(("Big", "Smiling"))
    assert [name for name, _ in few[0]] == ["Big", "Smiling"] and attribute_vectors.headings(few[0], 1) == []
    assert attribute_vectors.strengths_of("-2, 0,1.5") == [-2, 0, 1.5]
    assert attribute_vectors.file_name("5/o Clock:Shadow") == "5_o_Clock_Shadow"


def test_correlations_and_their_order(rng):
    labels = rng.random((300, 1)) < 0.5
    labels = np.concatenate([labels, ~labels, rng.random((300, 2)) < 0.3], axis=1)
    found = correlations.correlations(labels)
    np.testing.assert_allclose(found, np.corrcoef(labels.T.astype(float)), atol=1e-12)
    centres = np.repeat(np.eye(3), 4, axis=0)  # three groups of four, mixed up
    mixed = rng.permutation(12)
    points = (centres + 0.1 * rng.standard_normal((12, 3)))[mixed]
    order = correlations.order_of(vectors.cosines(points))
    groups = (mixed // 4)[order]
    assert sorted(order) == list(range(12)) and (np.diff(groups) != 0).sum() == 2, "each group lies together"
    a = rng.standard_normal((6, 6))
    a = a + a.T
    assert correlations.agreement(a, 3 * a + np.eye(6)) == pytest.approx(1) and np.isnan(correlations.agreement(a[:2, :2], a[:2, :2]))


def test_scores_against_a_plain_computation(rng):
    predicted, targets = rng.standard_normal((2, 7, 4))
    for k in range(7):
        assert similarity.squared_errors(predicted, targets)[k] == pytest.approx(
            sum((p - t) ** 2 for p, t in zip(predicted[k], targets[k], strict=True))
        )
        lengths = np.linalg.norm(predicted[k]) * np.linalg.norm(targets[k])
        assert similarity.cosine_rows(predicted, targets)[k] == pytest.approx(predicted[k] @ targets[k] / lengths)
    assert similarity.described(["A_b", "C", "D"], np.array([1, -1, 1])) == "A b, D"
    assert similarity.described(list("abcd"), np.array([0.1, 0.4, -1, 0.3]), most=2) == "b, d"
    assert similarity.described(["A"], np.array([-1])) == "none"


class Echo:
    """A model and a regressor in one: it draws the attributes that it is given, plus noise of a known size, and reads them."""

    attribute_names, noise, image_shape = ("Red", "Big"), 0.5, (32, 32, 3)

    def prior(self, count, seed):
        return np.random.default_rng(seed).standard_normal((count, 2))

    def decode(self, z, attributes):
        return attributes + self.noise * z

    def predict(self, images):
        return images


def test_the_judge_takes_the_best_cosine_and_the_error_of_each_run(data):
    dataset, echo = read_packed(data), Echo()
    judge = attribute_similarity.Judge(echo, dataset, ("Big", "Red"), 6)
    targets = dataset.attributes_of(("Big", "Red"))[dataset.split("test")[:6]]
    np.testing.assert_array_equal(judge.targets, targets)
    echo.predict = lambda images: images[:, ::-1]  # its attributes are in the other order
    row = {"mse": [], "other_mse": [], "best": [-1.0] * 6}
    for seed in range(5):
        judge.run(echo, row, seed, best_of=3)
        assert ("best" in row) == (seed < 2) and ("cosine" in row) == (seed >= 2)
    samples = [targets + 0.5 * echo.prior(6, seed) for seed in range(5)]
    expected = [((s - targets) ** 2).sum(axis=1).mean() for s in samples]
    np.testing.assert_allclose(row["mse"], expected, rtol=1e-9)
    other = targets[[5, 0, 1, 2, 3, 4]]
    np.testing.assert_allclose(row["other_mse"], [((s - other) ** 2).sum(axis=1).mean() for s in samples], rtol=1e-9)
    cosines = [(s * targets).sum(1) / np.linalg.norm(s, axis=1) / np.linalg.norm(targets, axis=1) for s in samples[:3]]
    assert row["cosine"] == pytest.approx(np.max(cosines, axis=0).mean(), abs=1e-5)
    train = dataset.attributes_of(("Big", "Red"))[dataset.split("train")].mean(axis=0)
    assert judge.training_mean()["mse"][0] == pytest.approx(((targets - train) ** 2).sum(axis=1).mean(), rel=1e-6)
    for name, value, names in (("image_shape", (64, 64, 3), ()), ("attribute_names", ("Big", "Round"), ()), ("noise", 0, ("Round",))):
        other = Echo()
        setattr(other, name, value)
        with pytest.raises(UserError, match="--regressor: it was trained on other data"):
            attribute_similarity.Judge(other, dataset, ("Big", *names), 6)


def test_table_has_the_papers_numbers_beside_ours():
    one = {"cosine": 0.51, "mse": [10.0, 12.0, 99.0], "other_mse": [20.0, 20.0, 20.0]}
    lines = similarity.table({"VAE/GAN": [one]}, 2).splitlines()
    assert lines[2] == "| VAE/GAN | 0.5100 | 11.00 ± 1.41 | 20.00 ± 0.00 | 0.9114 | 22.39 ± 1.16 |"
    assert lines[4].startswith("± is over 2 runs of samples. ")
    two = {"cosine": 0.53, "mse": [13.0, 17.0, 99.0], "other_mse": [20.0, 22.0, 20.0]}
    lines = similarity.table({"VAE/GAN": [one, two]}, 2).splitlines()
    assert lines[2] == "| VAE/GAN | 0.5200 ± 0.0141 | 13.00 ± 2.83 | 20.50 ± 0.71 | 0.9114 | 22.39 ± 1.16 |"
    assert lines[4].startswith("± is over 2 models, each the mean of 2 runs of samples. ")


@pytest.fixture(scope="module")
def table2(tmp_path_factory, data):
    """(folder, command) of a finished experiment of two systems and two repeats, the real regressor trained with it."""
    out = tmp_path_factory.mktemp("experiment") / "out"
    small = ("--best-of", 2, "--rows", 2, "--columns", 2, "--regressor-steps", 2)
    command = ("--data", data, "--out", out, *FLAGS, "--systems", "vae,gan", *small)
    assert call(attribute_similarity.main, *command, "--repeats", 2, *PLAIN) == 0
    return out, command


def test_similarity_is_written_and_goes_on(table2, monkeypatch, capsys):
    out, command = table2
    path = out / "attribute_similarity.json"
    results = json.loads(path.read_text())
    assert list(results["systems"]) == ["test set", "training mean", "vae", "gan"] and results["test_images"] == 8
    assert {len(results["systems"][name]["mse"]) for name in ("vae", "gan")} == {2}
    assert results["tables"]["attribute-similarity"].count("\n| ") == 4 + 1
    dataset, judge = read_packed(command[1]), load_regressor(out / "regressor.h5")
    targets = dataset.attributes_of(("Big", "Red"))[dataset.split("test")]
    for name in ("vae", "gan"):  # against the other implementation
        model = vaegan_kernels.load_model(out / "runs" / f"{name}-conditional-seed0", threads=1)
        expected = quality.attribute_similarity(model, judge, targets, samples=2)
        assert results["systems"][name]["cosine"] == pytest.approx(expected["cosine"], abs=1e-4)
        assert np.mean(results["systems"][name]["mse"]) == pytest.approx(expected["mse"], rel=1e-4)
    with Image.open(out / "attribute_similarity.png") as picture:
        assert picture.width > 260 + 4 * 96 and picture.height > 2 * 96
    monkeypatch.setattr(Trainer, "train_step", lambda self: pytest.fail("trained again"))
    seeds = []
    own = attribute_similarity.Judge.run

    def run(self, model, row, seed, best_of):
        seeds.append((model.system, seed))
        if len(seeds) == 2:
            raise KeyboardInterrupt
        own(self, model, row, seed, best_of)

    monkeypatch.setattr(attribute_similarity.Judge, "run", run)
    assert call(attribute_similarity.main, *command, "--repeats", 3, *PLAIN) == 130
    assert call(attribute_similarity.main, *command, "--repeats", 3, *PLAIN) == 0
    assert seeds == [("vae", 2), ("gan", 2), ("gan", 2)]
    again = json.loads(path.read_text())
    for name in ("vae", "gan"):
        assert again["systems"][name]["mse"][:2] == results["systems"][name]["mse"]
        assert again["systems"][name]["cosine"] == results["systems"][name]["cosine"]
    again["systems"]["vae"]["key"]["step"] = 1  # as if of another checkpoint
    path.write_text(json.dumps(again))
    seeds[:] = [None, None]
    assert call(attribute_similarity.main, *command, "--systems", "vae", "--repeats", 2, *PLAIN) == 0
    assert seeds[2:] == [("vae", 0), ("vae", 1)]
    last = json.loads(path.read_text())["systems"]
    assert last["vae"]["mse"] == results["systems"]["vae"]["mse"] and last["gan"] == again["systems"]["gan"], "no other results are lost"


def test_similarity_of_several_seeds_keeps_each(table2):
    out, command = table2
    path = out / "attribute_similarity.json"
    before = json.loads(path.read_text())["systems"]
    assert call(attribute_similarity.main, *command, "--systems", "vae", "--seeds", 2, "--repeats", 2, *PLAIN) == 0
    results = json.loads(path.read_text())
    assert list(results["runs"]) == ["vae-conditional-seed0", "vae-conditional-seed1"]
    first, second = results["systems"]["vae"], results["systems"]["vae-seed1"]
    assert first["mse"][:2] == before["vae"]["mse"][:2] != second["mse"] and len(second["mse"]) == 2
    assert results["systems"]["gan"] == before["gan"]
    assert f"{(first['cosine'] + second['cosine']) / 2:.4f} ± " in results["tables"]["attribute-similarity"]


def test_vectors_are_judged_where_there_is_a_regressor(fig5, table2, data, capsys):
    file = table2[0] / "regressor.h5"
    assert "seen" not in json.loads((fig5 / "attribute_vectors.json").read_text())
    assert call(attribute_vectors.main, "--data", data, "--out", fig5, *FLAGS, "--count", 1, "--regressor", file, *PLAIN) == 0
    results = json.loads((fig5 / "attribute_vectors.json").read_text())
    assert set(results["seen"]["attributes"]) == {"Big", "Red"} and "the regressor sees it" in results["tables"]["attribute-vectors"]


@pytest.mark.parametrize(
    ("module", "words", "expected"),
    [
        (attribute_vectors, ["--system", "gan"], "--system: got 'gan'"),
        (attribute_vectors, ["--strengths", "1,x"], "--strengths: got 'x'"),
        (attribute_vectors, ["--count", "0"], "--count"),
        (attribute_vectors, ["--data", "{bare}"], "no attributes"),
        (attribute_vectors, ["--regressor", "{bare}.none"], "bare.h5.none"),
        (attribute_similarity, ["--regressor", "{bare}"], "bare.h5"),
        (attribute_similarity, ["--systems", "vae,vea"], "did you mean"),
        (attribute_similarity, ["--repeats", "5"], "--best-of: got 10"),
        (attribute_similarity, ["--seeds", "0"], "--seeds: got 0"),
        (attribute_similarity, ["--data", "{bare}"], "no attributes"),
    ],
)
def test_bad_input_trains_nothing(module, words, expected, data, tmp_path, capsys):
    tiny = read_packed(data)
    write_packed(tmp_path / "bare.h5", Dataset("bare", tiny.images, tiny.splits))
    line = ["--data", data, *(word.format(bare=tmp_path / "bare.h5") for word in words)]
    assert call(module.main, "--out", tmp_path / "out", *FLAGS, *line) == 2
    assert expected in one_line(capsys.readouterr().err)
    assert not (tmp_path / "out").exists() or tree(tmp_path / "out") == {}
