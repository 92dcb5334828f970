"""checkpoint.h5: there and back, the documented layout, distrust, and writes that are whole or not there."""

from __future__ import annotations

import errno
import re
import subprocess
import sys

import h5py
import numpy as np
import pytest
from app_case import ROOT

from kernels import engine
from models import VAEGAN, network
from vaegan_kernels import hdf5
from vaegan_kernels.runs import checkpoint
from vaegan_kernels.settings.config import Config
from vaegan_kernels.shell.errors import UserError


@pytest.fixture(scope="module")
def model():
    return VAEGAN(engine("cpu", "float32"), network("small32"), seed=3)


@pytest.fixture
def path(model, tmp_path):
    header = checkpoint.Header(7, Config(seed=3), "abc", "faces", ("Smiling", "Hat"), 12.5)
    checkpoint.save(tmp_path / "checkpoint.h5", model.state_arrays(), header)
    return tmp_path / "checkpoint.h5"


def test_there_and_back(model, path):
    header = checkpoint.read_header(path)
    assert (header.step, header.seed, header.config, header.seconds) == (7, 3, Config(seed=3), 12.5)
    assert (header.data_fingerprint, header.data_name, header.attribute_names) == ("abc", "faces", ("Smiling", "Hat"))
    arrays = checkpoint.read_arrays(path, model.state_arrays())
    for name, array in model.state_arrays().items():
        assert arrays[name].tobytes() == array.tobytes() and arrays[name].dtype == array.dtype
    other = VAEGAN(engine("cpu", "float32"), network("small32"), seed=4)
    other.load_state(arrays)
    assert all(np.array_equal(a, b) for a, b in zip(other.state_arrays().values(), model.state_arrays().values(), strict=True))


def test_the_documented_example_runs_with_h5py_alone(path):
    text = (ROOT / "docs" / "checkpoint.md").read_text(encoding="utf-8")
    example = re.search(r"```python\n(.*?)```", text, re.S)[1]
    done = subprocess.run([sys.executable, "-c", example], cwd=path.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "(5, 5, 3, " in done.stdout and "small32" in done.stdout and "1 7" in done.stdout
    assert "vaegan" not in example and "kernels" not in example


def test_the_documented_names_are_those_of_the_file(model, path):
    text = (ROOT / "docs" / "checkpoint.md").read_text(encoding="utf-8")
    with h5py.File(path, "r") as file:
        for name in file.attrs:
            assert f"`{name}`" in text, name
    for name in model.state_arrays():
        parts = name.split("/")
        assert parts[0] in ("parameters", "statistics", "optimizer", "gate")
        for part in parts[1:]:
            assert f"`{part}`" in text or name == "gate/counts", name


def edit(path, change):
    with h5py.File(path, "r+") as file:
        change(file)


def replace(name, value):
    def change(file):
        del file[name]
        if value is not None:
            file[name] = value

    return change


WEIGHT = "parameters/encoder/conv1/weight"
DAMAGE = {
    "newer format": (lambda f: f.attrs.__setitem__("format_version", 2), "reads format 1"),
    "other format": (lambda f: f.attrs.__setitem__("format", "x"), "not a checkpoint"),
    "format as bytes": (lambda f: f.attrs.__setitem__("format", np.zeros(3)), "not a checkpoint"),
    "no step": (lambda f: f.attrs.__delitem__("step"), "step"),
    "negative step": (lambda f: f.attrs.__setitem__("step", -1), "step"),
    "config no JSON": (lambda f: f.attrs.__setitem__("config", "{"), "config"),
    "config of a pickle": (lambda f: f.attrs.__setitem__("config", np.void(b"\x80\x04N.")), "config"),
    "unknown setting": (lambda f: f.attrs.__setitem__("config", '{"x": 1}'), "unknown setting"),
    "missing array": (replace(WEIGHT, None), "missing"),
    "other shape": (replace(WEIGHT, np.zeros((3, 3), "f")), "shape"),
    "other type": (replace(WEIGHT, np.zeros((5, 5, 3, 16), "i4")), "conv1/weight has"),
    "NaN": (lambda f: f[WEIGHT].__setitem__((0, 0, 0, 0), np.nan), "not finite"),
    "additional array": (lambda f: f.__setitem__("parameters/x", np.zeros(2)), "unknown array"),
    "link to another file": (replace(WEIGHT, h5py.ExternalLink("/etc/hostname", "/x")), "outside the file"),
    "soft link": (replace(WEIGHT, h5py.SoftLink("/parameters/encoder/conv2/weight")), "outside the file"),
    "group in place": (replace("parameters/encoder/mu/bias", None), "missing"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_told_in_one_line(case, model, path):
    change, expected = DAMAGE[case]
    edit(path, change)
    with pytest.raises(UserError) as caught:
        checkpoint.read_header(path)
        checkpoint.read_arrays(path, model.state_arrays())
    assert expected in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_external_storage_is_refused(model, path):
    secret = path.parent / "secret"
    secret.write_bytes(bytes(4 * 128))

    def change(file):
        like = file["parameters/encoder/mu/bias"]
        shape = like.shape
        del file["parameters/encoder/mu/bias"]
        file.create_dataset("parameters/encoder/mu/bias", shape, "f4", external=[(str(secret), 0, h5py.h5f.UNLIMITED)])

    edit(path, change)
    with pytest.raises(UserError, match="outside the file"):
        checkpoint.read_arrays(path, model.state_arrays())


@pytest.mark.parametrize("size", [0, 100, 2000, 0.5, 0.999])
def test_truncated_files(size, model, path):
    whole = path.read_bytes()
    path.write_bytes(whole[: int(size * len(whole)) if isinstance(size, float) else size])
    with pytest.raises(UserError, match="truncated|empty|not an HDF5"):
        checkpoint.read_header(path)


def test_a_checkpoint_of_another_network(path):
    other = VAEGAN(engine("cpu", "float32"), network("small32", channels=1), seed=3)
    with pytest.raises(UserError, match="of another network"):
        checkpoint.read_arrays(path, other.state_arrays())


@pytest.mark.parametrize("fail_at", [1, 3, 10, 40, 100])
def test_a_full_disk_while_writing(fail_at, model, path, monkeypatch):
    """Every write from the n-th on fails: the old file stays, the temporary one goes, and the system's error comes out."""
    before = path.read_bytes()
    real_open = open

    class Full:
        def __init__(self, file):
            self.file, self.writes = file, 0

        def write(self, data):
            self.writes += 1
            if self.writes >= fail_at:
                raise OSError(errno.ENOSPC, "No space left on device", str(path))
            return self.file.write(data)

        def __getattr__(self, name):
            return getattr(self.file, name)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.file.close()

    monkeypatch.setattr("vaegan_kernels.files.open", lambda *a: Full(real_open(*a)), raising=False)
    with pytest.raises(OSError, match="No space left") as caught:
        checkpoint.save(path, model.state_arrays(), checkpoint.Header(8, Config(), "", ""))
    assert caught.value.errno == errno.ENOSPC
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def flip(file, name):
    """Flip one low bit of one value of the array ``name``, in the bytes of the file."""
    with h5py.File(file, "r") as h5:
        place = h5[name].id.get_offset() + h5[name].nbytes // 2 // 8 * 8
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(bytes(content))


def test_a_flipped_bit_is_refused(model, path):
    name = "parameters/decoder/up1/weight"
    flip(path, name)
    with pytest.raises(UserError, match=f"{name} is not what was written, the file is damaged"):
        checkpoint.read_arrays(path, model.state_arrays())
    with pytest.raises(UserError, match="is not what was written"):  # it does not get a new checksum
        checkpoint.write_extra(path, {"attribute_vectors/vectors": np.zeros((1, 4), np.float32)}, {})
    with h5py.File(path, "r+") as h5:  # a file from before there were any
        del h5.attrs[checkpoint.CHECKSUMS]
    assert checkpoint.read_arrays(path, model.state_arrays())


def test_checksums_of_extras(path):
    vectors = np.arange(12, dtype=np.float32).reshape(3, 4)
    checkpoint.write_extra(path, {"attribute_vectors/vectors": vectors}, {"attribute_vector_names": '["a", "b", "c"]'})
    assert np.array_equal(checkpoint.read_extra(path, "attribute_vectors/vectors"), vectors)
    flip(path, "attribute_vectors/vectors")
    with pytest.raises(UserError, match="is not what was written"):
        checkpoint.read_extra(path, "attribute_vectors/vectors")


def test_a_checksum_sees_every_bit(rng):
    for array in (rng.standard_normal((37, 41)).astype(np.float32), np.zeros(3, np.int64), np.ones((2, 1024)), np.zeros(0), np.array(1.0)):
        before = hdf5.checksum(array)
        assert hdf5.checksum(array.copy(order="F")) == before
        for place in rng.integers(0, max(array.nbytes, 1), 20) if array.nbytes else ():
            content = bytearray(array.tobytes())
            content[place] ^= 1 << int(rng.integers(8))
            assert hdf5.checksum(np.frombuffer(content, array.dtype).reshape(array.shape)) != before
    blocks = rng.standard_normal((2, 512))
    assert hdf5.checksum(blocks) != hdf5.checksum(blocks[::-1])  # moved
