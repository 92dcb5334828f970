"""The regressor as a program: learns, is resumed to the same bits, is read with distrust; and the evaluate command that uses it."""

from __future__ import annotations

import dataclasses
import json
import signal

import h5py
import numpy as np
import pytest
from app_case import TINY, arrays_of, call, one_line, write_tiny
from PIL import Image

from models.regressor import Regressor
from vaegan_kernels import evaluate, load_model, regressor, train
from vaegan_kernels.data import load_dataset
from vaegan_kernels.measures import quality
from vaegan_kernels.measures.regressor import load_regressor, scores, train_regressor
from vaegan_kernels.runs import regressor_file
from vaegan_kernels.shell.errors import UserError


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with tiny data (discs, "Big" and "Red" at random), a regressor of 6 steps, and a run of 2 steps of each kind of system."""
    folder = tmp_path_factory.mktemp("regressor")
    write_tiny(folder / "tiny.h5")
    words = ("--data", folder / "tiny.h5", "--out", folder / "r.h5", "--steps", 6, "--batch-size", 8, "--device", "cpu", "--quiet")
    assert call(regressor.main, *words) == 0
    for seed, name in enumerate(("vaegan", "gan")):
        tiny = ("--data", folder / "tiny.h5", *TINY, "--steps", 2, "--out", folder / name, "--model", name, "--seed", seed, "--quiet")
        assert call(train.main, *tiny) == 0
    return folder


def data_of(place):
    return load_dataset(place / "tiny.h5", image_size=32, channels=3)


def test_it_learns_what_is_in_the_picture(tmp_path):
    """Discs whose attribute is their brightness: read off test images after a few steps."""
    dataset = load_dataset(write_tiny(tmp_path / "tiny.h5", n=120), image_size=32, channels=3)
    bright = dataset.images.mean(axis=(1, 2, 3)) > 127
    dataset = dataclasses.replace(dataset, attributes=np.where(np.stack([bright, ~bright], axis=1), 1, -1).astype(np.int8), fingerprint="")
    out = train_regressor(dataset, out=tmp_path / "r.h5", steps=60, batch_size=16, device="cpu", quiet=True)
    report = regressor_file.read_header(out).report
    assert report["attributes"]["Big"]["accuracy"] > 0.8 and report["correlation"] > 0.6, report
    seen = load_regressor(out).predict(dataset.images)
    assert np.mean((seen[:, 0] > 0) == bright) > 0.8
    assert report["attributes"]["Big"]["share"] == pytest.approx(bright[-8:].mean())


def test_the_report_and_the_table_agree(place, capsys):
    report = json.loads((place / "r.json").read_text())
    model, dataset = load_regressor(place / "r.h5"), data_of(place)
    test = dataset.split("test")
    seen = model.predict(dataset.images[test])
    assert report["images"] == len(test) == 8
    assert report["mse"] == pytest.approx(((seen - dataset.attributes[test]) ** 2).sum(axis=1).mean(), rel=1e-5)
    assert model.features(dataset.images[test] / 127.5 - 1) == pytest.approx(model.features(dataset.images[test]), rel=1e-4, abs=1e-5)
    assert call(regressor.main, "--data", place / "tiny.h5", "--out", place / "r.h5", "--steps", 6, "--batch-size", 8) == 0
    text = capsys.readouterr().out
    assert "Big" in text and "8 test images: accuracy" in text and "training" not in text  # finished: nothing is trained again


def test_scores_of_one_attribute():
    wanted = np.array([1.0, 1.0, -1.0, -1.0, -1.0, -1.0])
    found = scores(np.array([0.5, -0.1, -1.0, -0.2, 0.3, -2.0]), wanted)
    assert found["accuracy"] == pytest.approx(4 / 6) and found["balanced_accuracy"] == pytest.approx((1 / 2 + 3 / 4) / 2)
    assert scores(wanted * 2, wanted)["correlation"] == pytest.approx(1.0)
    assert scores(wanted, np.ones(6))["balanced_accuracy"] is None and scores(wanted, np.ones(6))["correlation"] is None


def test_stopped_and_resumed_is_the_same_regressor(place, tmp_path, monkeypatch):
    dataset, settings = data_of(place), {"steps": 6, "batch_size": 8, "device": "cpu", "quiet": True}
    out, real = tmp_path / "r.h5", Regressor.train_step

    def stop_in_the_third(self, *batch):
        real(self, *batch)
        stop_in_the_third.calls += 1
        if stop_in_the_third.calls == 3:
            signal.raise_signal(signal.SIGINT)

    stop_in_the_third.calls = 0
    monkeypatch.setattr(Regressor, "train_step", stop_in_the_third)
    with pytest.raises(SystemExit) as stop:
        train_regressor(dataset, out=out, **settings)
    assert stop.value.code == 130 and regressor_file.read_header(out).step == 3
    with pytest.raises(UserError, match="trained for 3 of 6 steps"):
        load_regressor(out)
    monkeypatch.setattr(Regressor, "train_step", real)
    train_regressor(dataset, out=out, **settings)
    one, two = arrays_of(out), arrays_of(place / "r.h5")
    assert one.keys() == two.keys() and all(one[name].tobytes() == two[name].tobytes() for name in one)
    with pytest.raises(UserError, match="has steps 6, asked for is 7"):
        train_regressor(dataset, out=out, **{**settings, "steps": 7})


def test_bad_files_and_flags_are_one_line(place, tmp_path, capsys):
    (tmp_path / "text.h5").write_text("no regressor")
    for path, words in (
        (tmp_path / "none.h5", "no such regressor"),
        (tmp_path / "text.h5", "not an HDF5"),
        (place / "gan" / "checkpoint.h5", "not a"),
    ):
        with pytest.raises(UserError, match=words):
            load_regressor(path)
    with h5py.File(place / "r.h5") as good, h5py.File(tmp_path / "bad.h5", "w") as bad:
        bad.attrs.update(good.attrs)
        bad.attrs["header"] = json.dumps({**json.loads(good.attrs["header"]), "steps": "many"})
    with pytest.raises(UserError, match="header is damaged"):
        load_regressor(tmp_path / "bad.h5")
    new, tiny = tmp_path / "a.h5", place / "tiny.h5"
    for words in (("--network", "small"), ("--batch-size", 0), ("--batch-size", 900, "--data", tiny), ("--resume",), ("--out", "r.txt")):
        assert call(regressor.main, "--out", new, *words, "--device", "cpu", "--quiet") == 2
        assert one_line(capsys.readouterr().err).startswith("error: --")
    assert not list(tmp_path.glob("a.*"))


@pytest.mark.parametrize("name", ["vaegan", "gan"])
def test_evaluate_measures_writes_and_lists(place, tmp_path, capsys, name):
    out, pictures = tmp_path / "m.json", tmp_path / "pictures"
    words = ("--regressor", place / "r.h5", "--metric-from", place / "gan", "--out", out, "--write-images", pictures, "--count", 5)
    assert call(evaluate.main, place / name, *words) == 0
    found, text = json.loads(out.read_text()), capsys.readouterr().out
    assert found["summary"]["colour_noise_ratio"] == pytest.approx(found["colour_noise"])  # eight images either way
    assert found["system"] == name and found["images"] == 8 and f"frechet                  {found['frechet']:.4f}" in text
    assert len(list((pictures / "samples").glob("*.png"))) == len(list((pictures / "real").glob("*.png"))) == 5
    if name == "gan":
        assert found["rebuilt"] is None and not (pictures / "reconstructions").exists()
        return
    model, dataset = load_model(place / name), data_of(place)
    real = dataset.images[dataset.split("test")]
    rebuilt = model.reconstruct(real, seed=0)
    assert found["rebuilt"]["mse"] == pytest.approx(np.mean((rebuilt - (real / 127.5 - 1)) ** 2), rel=1e-5)
    other = load_model(place / "gan")
    assert found["rebuilt"]["dis_l"] == pytest.approx(quality.dis_l_distance(other, rebuilt, real), rel=1e-5)
    assert found["rebuilt"]["dis_l"] != pytest.approx(quality.dis_l_distance(model, rebuilt, real), rel=1e-3)
    assert set(found["attribute_vectors"]["attributes"]) == {"Big", "Red"}


def test_evaluate_alone_is_the_end_of_the_run_again(place, tmp_path, capsys):
    out = tmp_path / "m.json"
    assert call(evaluate.main, place / "vaegan", "--out", out) == 0
    text, found = capsys.readouterr().out, json.loads(out.read_text())
    summary = json.loads((place / "vaegan" / "summary.json").read_text())
    for name in ("reconstruction_ratio", "diversity_ratio", "sharpness_ratio", "colour_noise_ratio"):
        assert found[name] == pytest.approx(summary[name], rel=1e-5)
    assert found["system"] == "vaegan" and found["step"] == 2 and "attribute_agreement" not in found  # these are discs
    for line in evaluate.describe(found):
        assert line in text
    assert text.splitlines()[-1] == str(out)


def test_evaluate_of_one_image(place, tmp_path, capsys):
    data = data_of(place)
    (tmp_path / "photos").mkdir()
    Image.fromarray(data.images[0]).save(tmp_path / "photos" / "one.png")
    words = ("--data", tmp_path / "photos", "--regressor", place / "r.h5", "--out", tmp_path / "m.json")
    assert call(evaluate.main, place / "vaegan", *words) == 0
    text, found = capsys.readouterr().out, json.loads((tmp_path / "m.json").read_text())
    assert "reconstruction error" in text and "% of the" not in text
    summary = found.pop("summary")
    missing = {name for name, value in found.items() if value is None}
    assert missing == {"mean_image_mse", "pixel_diversity", "attribute_similarity", "attribute_vectors"} | {
        f"frechet{of}" for of in ("", "_rebuilt", "_real")
    }
    own = {name for name, value in summary.items() if value is None}  # the one image is a test image
    assert own == {"mean_image_mse", "reconstruction_ratio", "data_diversity", "diversity_ratio"}
    assert text.count("not measured") == 2 + len(missing)


def test_encoder_units_make_a_small_file_that_is_used_without_its_optimizer(place, tmp_path, capsys):
    out, words = tmp_path / "r.h5", ("--steps", 2, "--batch-size", 8, "--device", "cpu", "--quiet")
    assert call(regressor.main, "--data", place / "tiny.h5", "--out", out, "--encoder-units", 8, *words) == 0
    model, images = load_regressor(out), data_of(place).images[:5]
    assert model.features(images).shape == (5, 8) and out.stat().st_size < (place / "r.h5").stat().st_size / 2
    weights = {name: array for name, array in arrays_of(out).items() if not name.startswith("optimizer/")}
    regressor_file.save(tmp_path / "weights.h5", weights, regressor_file.read_header(out))
    assert np.array_equal(load_regressor(tmp_path / "weights.h5").predict(images), model.predict(images))
    assert call(regressor.main, "--data", place / "tiny.h5", "--out", out, "--encoder-units", 9, *words) == 2
    assert "has encoder_units 8, asked for is 9" in one_line(capsys.readouterr().err)
    with h5py.File(out, "r+") as h5:  # a file from before there was the setting
        header = json.loads(h5.attrs["header"])
        header.pop("encoder_units")
        h5.attrs["header"] = json.dumps(header)
    assert regressor_file.read_header(out).encoder_units is None


def test_evaluate_refuses_in_one_line(place, tmp_path, capsys):
    run = place / "vaegan"
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a").write_text("a")
    for words in (("--metric-from", run), ("--out", "m.txt"), ("--write-images", tmp_path / "full"),
                  ("--regressor", tmp_path / "none.h5"), ("--write-images", tmp_path / "new", "--count", 0)):  # fmt: skip
        assert call(evaluate.main, run, *words) == 2
        one_line(capsys.readouterr().err)
    assert not (tmp_path / "new").exists()
