"""load_model and the commands sample, reconstruct and interpolate."""

from __future__ import annotations

import numpy as np
import pytest
from app_case import TINY, call, one_line, tree, write_tiny
from PIL import Image

import vaegan_kernels
from vaegan_kernels import interpolate, reconstruct, sample
from vaegan_kernels.shell.errors import UserError
from vaegan_kernels.train import main


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    packed = write_tiny(folder / "tiny.h5")
    options = ("--steps", 3, "--gamma", 0.02, "--no-animation", "--no-curves", "--quiet")
    assert call(main, "--data", packed, "--out", folder / "run", *options, *TINY) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def model(run):
    return vaegan_kernels.load_model(run, precision="float64")


@pytest.fixture
def images(rng):
    return rng.integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)


def test_encode_decode_discriminate(model, images):
    mu, logvar = model.encode(images)
    assert mu.shape == logvar.shape == (5, 128) and mu.dtype == np.float64
    again, _ = model.encode(images[2:3] / 127.5 - 1)
    np.testing.assert_allclose(again[0], mu[2], rtol=1e-12, atol=1e-12)
    pictures = model.decode(mu)
    assert pictures.shape == (5, 32, 32, 3) and np.abs(pictures).max() <= 1
    probabilities = model.discriminate(images)
    assert probabilities.shape == (5,) and ((probabilities > 0) & (probabilities < 1)).all()


def test_a_file_and_its_folder_are_the_same_model(run, images):
    a, b = vaegan_kernels.load_model(run), vaegan_kernels.load_model(str(run / "checkpoint.h5"))
    assert a.encode(images)[0].dtype == np.float32
    np.testing.assert_array_equal(a.encode(images)[0], b.encode(images)[0])


def test_gradients(model, images, rng):
    eps, z_p = rng.standard_normal((2, 5, 128))
    before = {name: array.copy() for name, array in model.network.state_arrays().items()}
    gradients, losses = model.gradients(images, eps, z_p)
    stored = {name: getattr(model.header.config, name) for name in ("real_weight", "gan_eps", "bn_groups")}
    own, _ = model.gradients(images, eps, z_p, gamma=0.02, **stored)
    other, _ = model.gradients(images, eps, z_p, gamma=0.5)
    for name, array in model.network.state_arrays().items():
        np.testing.assert_array_equal(array, before[name], err_msg=name)
    parameters = {name.removeprefix("parameters/"): a.shape for name, a in before.items() if name.startswith("parameters/")}
    assert {name: array.shape for name, array in gradients.items()} == parameters
    assert {"prior", "like", "gan_real", "gan_generated"} <= losses.keys()
    for name in gradients:
        np.testing.assert_array_equal(gradients[name], own[name], err_msg="the defaults are the checkpoint's")
    assert not np.allclose(gradients["decoder/up1/weight"], other["decoder/up1/weight"])
    np.testing.assert_array_equal(gradients["encoder/mu/weight"], other["encoder/mu/weight"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x[0], r"got shape \(32, 32, 3\), expected \[N, 32, 32, 3\]"),
        (lambda x: x[:0], "N >= 1"),
        (lambda x: x.transpose(0, 3, 1, 2), "NHWC"),
        (lambda x: x.astype(np.int32), "got dtype int32"),
        (lambda x: x.astype(np.float32), r"expected \[-1, 1\]"),
        (lambda x: np.full(x.shape, np.nan), "nan"),
    ],
)
def test_images_that_are_refused(change, message, model, images):
    for method in (model.encode, model.discriminate):
        with pytest.raises(ValueError, match=message):
            method(change(images))


def test_latents_that_are_refused(model, images, rng):
    eps, z_p = rng.standard_normal((2, 5, 128))
    with pytest.raises(ValueError, match=r"z: got shape \(5, 64\)"):
        model.decode(eps[:, :64])
    with pytest.raises(ValueError, match="not finite"):
        model.decode(np.full((1, 128), np.inf))
    with pytest.raises(ValueError, match="eps: got shape"):
        model.gradients(images, eps[:4], z_p)
    with pytest.raises(ValueError, match="--bn-groups"):
        model.gradients(images, eps, z_p, bn_groups="x")
    with pytest.raises(ValueError, match="--gamma"):
        model.gradients(images, eps, z_p, gamma=float("nan"))


def test_load_model_errors(run, tmp_path):
    for path, options, message in (
        (tmp_path / "none", {}, "no such checkpoint"),
        (tmp_path, {}, "no checkpoint.h5"),
        (run, {"device": "cuda"}, "--device cuda"),
        (run, {"precision": "bf16"}, "needs a GPU"),
        (run, {"precision": "half"}, "--precision"),
    ):
        with pytest.raises(UserError, match=message):
            vaegan_kernels.load_model(path, **options)


def test_sample_command(run, tmp_path, capfd):
    out = tmp_path / "s.png"
    assert call(sample.main, run, "--count", 6, "--grid", "3x2", "--out", out) == 0
    with Image.open(out) as picture:
        assert picture.width > picture.height
    first = out.read_bytes()
    assert call(sample.main, run, "--count", 6, "--grid", "3x2", "--out", out) == 2
    assert "--overwrite" in one_line(capfd.readouterr().err)
    assert call(sample.main, run, "--count", 6, "--grid", "3x2", "--out", out, "--overwrite") == 0
    assert out.read_bytes() == first, "the same seed draws the same picture"


def test_reconstruct_command(run, tmp_path, capfd, images):
    assert call(reconstruct.main, run, "--out", tmp_path / "a.png") == 0
    assert "8 reconstructions" in capfd.readouterr().out
    for i, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    (tmp_path / "bad.png").write_bytes(b"nothing")
    assert call(reconstruct.main, run, "--images", tmp_path / "0.png", "--mean", "--out", tmp_path / "b.png") == 0
    capfd.readouterr()
    folder = tmp_path / "0.png", tmp_path / "bad.png", tmp_path / "1.png"
    assert call(reconstruct.main, run, "--images", *folder, "--out", tmp_path / "c.png") == 0
    captured = capfd.readouterr()
    assert "2 reconstructions" in captured.out and "skipped" in captured.err
    assert call(reconstruct.main, run, "--data", run.parent / "tiny.h5", "--count", 3, "--out", tmp_path / "d.png") == 0


def test_interpolate_command(run, tmp_path, images):
    Image.fromarray(images[0]).save(tmp_path / "0.png")
    assert call(interpolate.main, run, "--from", 1, "--to", 2, "--frames", 5, "--out", tmp_path / "walk.gif") == 0
    with Image.open(tmp_path / "walk.gif") as picture:
        assert picture.n_frames == 8
    line = ("--from", tmp_path / "0.png", "--to", 2, "--frames", 3, "--path", "linear", "--mean", "--out", tmp_path / "w.png")
    assert call(interpolate.main, run, *line) == 0


def test_walk_keeps_lengths(rng):
    a, b = rng.standard_normal((2, 128))
    path = interpolate.walk(a, 2 * b, 9, "spherical")
    np.testing.assert_allclose(path[[0, -1]], [a, 2 * b], atol=1e-12)
    lengths = np.linalg.norm(path, axis=1)
    np.testing.assert_allclose(np.diff(lengths), (lengths[-1] - lengths[0]) / 8, rtol=1e-9)
    np.testing.assert_allclose(interpolate.walk(a, b, 3, "linear")[1], (a + b) / 2)
    np.testing.assert_allclose(interpolate.walk(a, a, 3, "spherical")[1], a)


BAD = {
    "no checkpoint": (sample, ["{x}/nowhere"], "no such checkpoint"),
    "count 0": (sample, ["{run}", "--count", "0"], "--count: got 0"),
    "grid": (sample, ["{run}", "--grid", "8by8"], "expected COLUMNSxROWS"),
    "grid too small": (sample, ["{run}", "--count", "10", "--grid", "3x3"], "holds 9"),
    "suffix": (sample, ["{run}", "--out", "{x}/a.txt"], ".png"),
    "folder of out": (sample, ["{run}", "--out", "{x}/no/a.png"], "no folder"),
    "threads 0": (sample, ["{run}", "--threads", "0"], "--threads"),
    "seed": (sample, ["{run}", "--seed=-1"], "--seed"),
    "images missing": (reconstruct, ["{run}", "--images", "{x}/no.jpg"], "no such file"),
    "images none": (reconstruct, ["{run}", "--images", "{x}"], "no images"),
    "both": (reconstruct, ["{run}", "--images", "a", "--data", "b"], "both given"),
    "data missing": (reconstruct, ["{run}", "--data", "{x}/nowhere"], "nowhere"),
    "one end": (interpolate, ["{run}", "--from", "1"], "--to"),
    "no end": (interpolate, ["{run}", "--from", "1", "--to", "{x}/no.jpg"], "--to: got"),
    "one frame": (interpolate, ["{run}", "--from", "1", "--to", "2", "--frames", "1"], "--frames: got 1"),
    "path": (interpolate, ["{run}", "--from", "1", "--to", "2", "--path", "sferical"], "did you mean spherical?"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_of_the_commands(name, run, tmp_path, monkeypatch, capfd):
    module, words, expected = BAD[name]
    monkeypatch.chdir(tmp_path)
    assert call(module.main, *(word.format(x=tmp_path, run=run) for word in words)) == 2
    assert expected in one_line(capfd.readouterr().err)
    assert tree(tmp_path) == {}
