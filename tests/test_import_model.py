"""import: what export wrote comes back bit for bit, changed values come back changed, and a file that is not one is refused."""

from __future__ import annotations

import json
import os
import pickle

import numpy as np
import pytest
import torch
from app_case import TINY, arrays_of, call, command, one_line, tree, write_tiny
from safetensors.numpy import load_file, save_file

import vaegan_kernels
from vaegan_kernels import export, sample, train
from vaegan_kernels.portable import import_model

KINDS = {"vaegan": (), "gan": ("--model", "gan"), "conditional": ("--conditional",)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("import")


@pytest.fixture(scope="module", params=KINDS)
def exported(request, folder):
    """(the run's folder, the export's folder) of a kind of model."""
    packed = write_tiny(folder / f"{request.param}.h5")
    run, out = folder / f"run-{request.param}", folder / f"out-{request.param}"
    assert call(train.main, "--data", packed, "--steps", 3, "--out", run, *KINDS[request.param], *TINY) == 0
    assert call(export.main, run, "--out", out) == 0
    return run, out


def state_of(run):
    """What travels: the average of each weight that has one, in the place of the weight too."""
    arrays = arrays_of(run / "checkpoint.h5")
    return {name: arrays.get(f"average/{name}", a) for name, a in arrays.items() if not name.startswith("optimizer/")}


@pytest.mark.parametrize("name", ["vaegan.pt", "vaegan.safetensors"])
def test_a_round_trip_keeps_every_bit(exported, name, tmp_path, capsys):
    run, out = exported
    assert call(import_model.main, out / name, "--out", tmp_path / "back") == 0
    before, after = state_of(run), state_of(tmp_path / "back")
    assert before.keys() == after.keys()
    for key in before:
        assert before[key].tobytes() == after[key].tobytes(), key
    one, two = vaegan_kernels.load_model(run), vaegan_kernels.load_model(tmp_path / "back")
    assert np.array_equal(one.sample(4, seed=3), two.sample(4, seed=3))
    assert (one.header.step, one.header.config) == (two.header.step, two.header.config)
    assert call(sample.main, tmp_path / "back", "--count", 4, "--out", tmp_path / "samples.png") == 0
    assert call(export.main, tmp_path / "back", "--format", "safetensors", "--out", tmp_path / "again") == 0
    again, first = (load_file(folder / "vaegan.safetensors") for folder in (tmp_path / "again", out))
    assert again.keys() == first.keys() and all(again[key].tobytes() == first[key].tobytes() for key in first)
    assert (tmp_path / "again" / "vaegan.json").read_bytes() == (out / "vaegan.json").read_bytes()


@pytest.mark.parametrize("exported", ["vaegan"], indirect=True)
def test_changes_come_back(exported, tmp_path):
    """The bias of Dec's last convolution, moved in PyTorch: every picture is brighter."""
    run, out = exported
    state = torch.load(out / "vaegan.pt", weights_only=True)
    state["decoder.image.bias"] += 0.5
    torch.save(state, tmp_path / "tuned.pt")
    assert call(import_model.main, tmp_path / "tuned.pt", "--out", tmp_path / "tuned", "--description", out / "vaegan.json") == 0
    old, new = vaegan_kernels.load_model(run), vaegan_kernels.load_model(tmp_path / "tuned")
    z = old.prior(4)
    before, after = (np.arctanh(np.float64(model.decode(z))) for model in (old, new))
    assert np.allclose(after - before, 0.5, atol=1e-4)


@pytest.mark.parametrize("exported", ["vaegan"], indirect=True)
def test_training_goes_on_from_an_imported_model(exported, tmp_path, monkeypatch, capsys):
    """A run that was stopped half-way, exported, imported: it ends at its last step, with the data that it began with."""
    monkeypatch.chdir(tmp_path)
    packed = write_tiny(tmp_path / "tiny.h5")
    assert call(train.main, "--data", packed, "--steps", 4, "--stop-after", 2, "--out", "run", *TINY) == 0
    assert call(export.main, "run", "--format", "torch") == 0
    assert call(import_model.main, "exported/vaegan.pt", "--out", "back") == 0
    assert call(train.main, "--resume", "back") == 0, capsys.readouterr().err
    assert vaegan_kernels.load_model("back").header.step == 4


@pytest.mark.parametrize("exported", ["vaegan"], indirect=True)
def test_half_precision_is_widened(exported, tmp_path):
    _, out = exported
    state = {name: t.bfloat16() if t.is_floating_point() else t for name, t in torch.load(out / "vaegan.pt", weights_only=True).items()}
    torch.save(state, tmp_path / "half.pt")
    assert call(import_model.main, tmp_path / "half.pt", "--out", tmp_path / "half", "--description", out / "vaegan.json") == 0
    assert state_of(tmp_path / "half")["parameters/encoder/conv1/weight"].dtype == np.float32


class Bad:
    """A pickle that would run a command."""

    def __reduce__(self):
        return os.mkdir, ("ran",)


CASES = {
    "missing": "no such file: nothing.pt",
    "name": "expected .pt or .safetensors",
    "foreign pt": "is no PyTorch file of tensors alone",
    "code": "is no PyTorch file of tensors alone",
    "no state": "is no state_dict",
    "foreign safetensors": "is no safetensors file",
    "no description": "vaegan.json: no such file",
    "bad description": "is no description that export wrote",
    "old description": "has version 99, expected 1",
    "entry": "the entry config is missing or damaged",
    "absent": "the tensor encoder.mu.bias is missing",
    "unknown": "unknown tensor encoder.extra",
    "shape": "encoder.mu.bias has shape (3,), expected (128,)",
    "nan": "encoder.mu.bias is not an array of finite",
    "variance": "has negative values, and is no variance",
    "out": "is not empty",
}


@pytest.mark.parametrize("exported", ["vaegan"], indirect=True)
@pytest.mark.parametrize("case", CASES)
def test_bad_input(case, exported, tmp_path, monkeypatch, capsys):
    _, out = exported
    monkeypatch.chdir(tmp_path)
    tensors, about = load_file(out / "vaegan.safetensors"), json.loads((out / "vaegan.json").read_text())
    file = "model.safetensors"
    changes = {
        "absent": lambda: tensors.pop("encoder.mu.bias"),
        "unknown": lambda: tensors.update({"encoder.extra": np.zeros(2, np.float32)}),
        "shape": lambda: tensors.update({"encoder.mu.bias": np.zeros(3, np.float32)}),
        "nan": lambda: tensors.update({"encoder.mu.bias": np.full(128, np.nan, np.float32)}),
        "variance": lambda: tensors.update({"encoder.fc.1.running_var": -tensors["encoder.fc.1.running_var"] - 1}),
        "old description": lambda: about.update(format_version=99),
        "entry": lambda: about.pop("config"),
        "bad description": lambda: about.pop("format"),
    }
    changes.get(case, lambda: None)()
    save_file(tensors, "model.safetensors")
    (tmp_path / "vaegan.json").write_text(json.dumps(about))
    if case == "no description":
        (tmp_path / "vaegan.json").unlink()
    if case == "out":
        (tmp_path / "back").mkdir()
        (tmp_path / "back" / "mine").write_text("x")
    if case in ("foreign pt", "code", "no state"):
        file = "model.pt"
        content = {"foreign pt": b"x" * 50, "code": pickle.dumps({"a": Bad()})}.get(case)
        torch.save([1, 2], "model.pt") if content is None else (tmp_path / file).write_bytes(content)
    if case == "foreign safetensors":
        (tmp_path / file).write_bytes(b"x" * 50)
    file = {"missing": "nothing.pt", "name": "vaegan.json"}.get(case, file)
    before = tree(tmp_path)
    assert call(import_model.main, file, "--out", "back") == 2
    assert CASES[case] in one_line(capsys.readouterr().err)
    assert tree(tmp_path) == before, "nothing was made, and no code ran"


def test_the_command_is_called_import(tmp_path):
    """`import` is a keyword: the module is run, never imported."""
    import subprocess
    import sys

    from app_case import environment

    done = subprocess.run(
        [sys.executable, "-m", "vaegan_kernels.import", "nothing.pt", "--out", "back"], env=environment(), capture_output=True, text=True,
        cwd=tmp_path, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, one_line(done.stderr).split(";")[0]) == (2, "error: no such file: nothing.pt")
    assert command("--help").returncode == 0
