"""export: the PyTorch module, safetensors and ONNX give what `load_model` gives, for every system, size and kind of model."""

from __future__ import annotations

import importlib.util
import json
import sys

import numpy as np
import onnxruntime
import pytest
import torch
from app_case import TINY, call, one_line, tree, write_tiny
from gradcheck import relative_error
from safetensors.numpy import load_file

import vaegan_kernels
from models.system import SYSTEMS
from vaegan_kernels import export, train
from vaegan_kernels.portable import layout
from vaegan_kernels.runs import checkpoint

KINDS = {
    "vaegan": (), "vae": ("--model", "vae"), "gan": ("--model", "gan"), "conditional": ("--conditional",), "grey": ("--image-channels", 1),
    "small64": ("--image-size", 64),
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("export")


@pytest.fixture(scope="module", params=KINDS)
def exported(request, folder):
    """(the run's folder, the export's folder) of a kind of model with running statistics that are not the start's."""
    kind = request.param
    size, channels = (64 if kind == "small64" else 32), (1 if kind == "grey" else 3)
    packed = write_tiny(folder / f"{kind}.h5", size=size, channels=channels)
    run, out = folder / f"run-{kind}", folder / f"out-{kind}"
    assert call(train.main, "--data", packed, "--steps", 3, "--out", run, *KINDS[kind], *TINY[2:]) == 0
    assert call(export.main, run, "--out", out) == 0
    return run, out


def inputs(model, n, seed=0):
    """Random images NHWC, latents and attributes."""
    random = np.random.default_rng(seed)
    images = random.uniform(-1, 1, (n, *model.image_shape)).astype(np.float32)
    attributes = random.choice([-1.0, 1.0], (n, len(model.attribute_names))).astype(np.float32) if model.attribute_names else None
    return images, random.standard_normal((n, model.latent)).astype(np.float32), attributes


def nchw(images):
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def module_of(folder):
    """The exported source, imported from the folder that a user has."""
    spec = importlib.util.spec_from_file_location("exported_vaegan", folder / "vaegan_torch.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_files(exported):
    run, out = exported
    networks = SYSTEMS[vaegan_kernels.load_model(run).system].networks
    assert {p.name for p in out.iterdir()} == {
        "vaegan.json", "vaegan.pt", "vaegan_torch.py", "vaegan.safetensors", *(f"{name}.onnx" for name in networks),
    }  # fmt: skip


@pytest.mark.parametrize(("precision", "limit"), [("float32", 2e-5), ("float64", 1e-9)])
def test_the_torch_module_gives_the_same(exported, precision, limit):
    run, out = exported
    model = vaegan_kernels.load_model(run, precision=precision)
    theirs = module_of(out).load(out).to(getattr(torch, precision))
    images, z, attributes = (None if a is None else a.astype(precision) for a in inputs(model, 3))
    x, zt, a = (None if value is None else torch.from_numpy(value) for value in (nchw(images), z, attributes))
    with torch.no_grad():
        pictures = theirs.decode(zt, a).numpy().transpose(0, 2, 3, 1)
        assert relative_error(pictures, model.decode(z, attributes)) < limit
        if model.has_encoder:
            for got, wanted in zip(theirs.encode(x, a), model.encode(images, attributes), strict=True):
                assert relative_error(got.numpy(), wanted) < limit
            assert theirs.reconstruct(x, a).shape == x.shape
        if model.has_discriminator:
            assert relative_error(theirs.discriminate(x, a).numpy(), model.discriminate(images, attributes)) < limit
            features = theirs.features(x).numpy().transpose(0, 2, 3, 1).reshape(3, -1)
            assert relative_error(features, model.features(images).reshape(3, -1)) < limit
        assert theirs.sample(3, a).shape == x.shape
        assert (theirs.encoder is None, theirs.discriminator is None) == (not model.has_encoder, not model.has_discriminator)


@pytest.mark.parametrize("n", [1, 3, 5])
def test_onnx_gives_the_same_for_any_batch(exported, n):
    run, out = exported
    model = vaegan_kernels.load_model(run)
    images, z, attributes = inputs(model, n, seed=n)

    def ask(network, **given):
        session = onnxruntime.InferenceSession(out / f"{network}.onnx", providers=["CPUExecutionProvider"])
        given |= {} if attributes is None else {"attributes": attributes}
        assert {value.name for value in session.get_inputs()} == set(given)
        return dict(zip([value.name for value in session.get_outputs()], session.run(None, given), strict=True)), session.get_modelmeta()

    got, meta = ask("decoder", z=z)
    assert relative_error(got["images"].transpose(0, 2, 3, 1), model.decode(z, attributes)) < 2e-5
    assert json.loads(meta.custom_metadata_map["attributes"]) == list(model.attribute_names)
    if model.has_encoder:
        got, _ = ask("encoder", images=nchw(images))
        for name, wanted in zip(("mu", "logvar"), model.encode(images, attributes), strict=True):
            assert relative_error(got[name], wanted) < 2e-5
    if model.has_discriminator:
        got, _ = ask("discriminator", images=nchw(images))
        assert got["probability"].shape == (n,)
        assert relative_error(got["probability"], model.discriminate(images, attributes)) < 2e-5
        assert relative_error(got["features"].transpose(0, 2, 3, 1).reshape(n, -1), model.features(images).reshape(n, -1)) < 2e-5


def test_safetensors_has_the_same_tensors_and_says_what_they_are(exported):
    _, out = exported
    tensors, state = load_file(out / "vaegan.safetensors"), torch.load(out / "vaegan.pt", weights_only=True)
    assert tensors.keys() == state.keys()
    assert all(np.array_equal(tensors[name], state[name].numpy()) for name in tensors)
    about = json.loads((out / "vaegan.json").read_text())
    assert about["format"] == layout.FORMAT
    from safetensors import safe_open

    with safe_open(out / "vaegan.safetensors", framework="np") as file:
        assert json.loads(file.metadata()["vaegan"]) == about


@pytest.fixture
def run(folder, exported):
    return exported[0]


@pytest.mark.parametrize("exported", ["vaegan"], indirect=True)
@pytest.mark.parametrize("case", ["format", "missing", "no checkpoint", "damaged", "exists", "file in the way"])
def test_bad_input(case, run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "foreign.h5").write_bytes(b"x" * 100)
    (tmp_path / "broken.h5").write_bytes((run / "checkpoint.h5").read_bytes()[:5000])
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "vaegan.pt").write_text("mine")
    arguments, wrong = {
        "format": ([run, "--format", "onnz"], "got 'onnz', expected one of torch, safetensors, onnx, checkpoint; did you mean onnx?"),
        "missing": (["nothing"], "no such checkpoint: nothing"),
        "no checkpoint": (["foreign.h5"], "foreign.h5: not an HDF5 file"),
        "damaged": (["broken.h5"], "broken.h5: "),
        "exists": ([run, "--out", "used"], "used/vaegan.pt exists already"),
        "file in the way": ([run, "--out", "foreign.h5"], "foreign.h5 is a file, expected a folder"),
    }[case]
    before = tree(tmp_path)
    assert call(export.main, *arguments) == 2
    assert wrong in one_line(capsys.readouterr().err)
    assert tree(tmp_path) == before


@pytest.mark.parametrize("exported", ["vaegan"], indirect=True)
def test_a_package_that_is_not_there(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name == "onnx" else real(name, *a))
    assert call(export.main, run, "--format", "onnx") == 2
    assert one_line(capsys.readouterr().err) == "error: --format onnx: needs the package onnx; pip install onnx"
    assert call(export.main, run) == 0
    assert "left out: onnx (pip install onnx)" in capsys.readouterr().out
    assert not (tmp_path / "exported" / "encoder.onnx").exists()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: None if name in export.FORMATS else real(name, *a))
    assert call(export.main, run, "--out", "other") == 2
    expected = "error: none of the packages torch, safetensors, onnx is installed, and each format needs one; pip install"
    assert one_line(capsys.readouterr().err).startswith(expected)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("exported", ["vaegan"], indirect=True)
def test_a_failing_export_leaves_nothing_behind(run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(export.WRITERS, "onnx", lambda *a: (_ for _ in ()).throw(MemoryError))
    assert call(export.main, run) == 2
    assert "out of memory" in one_line(capsys.readouterr().err)
    assert not (tmp_path / "exported").exists()


def test_every_array_of_a_checkpoint_is_exported_once(exported):
    run, _ = exported
    model = vaegan_kernels.load_model(run)
    ours = {name for name in model.network.state_arrays() if name.startswith(("parameters/", "statistics/"))}
    theirs = layout.names(model.spec, SYSTEMS[model.system].networks)
    assert set(theirs.values()) == ours and len(theirs) == len(ours)
    assert checkpoint.read_header(run / "checkpoint.h5").step == layout.description(model)["step"]


def test_the_source_needs_pytorch_alone():
    text = export.SOURCE.read_text(encoding="utf-8")
    found = {line.split()[1].split(".")[0] for line in text.splitlines() if line.startswith(("import ", "from "))}
    assert found - set(sys.stdlib_module_names) == {"torch"}
