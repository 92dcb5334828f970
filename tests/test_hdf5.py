"""HDF5 read with distrust: bombs, links, groups without end, locks; whatever h5py raises is one line."""

from __future__ import annotations

import subprocess
import sys

import h5py
import numpy as np
import pytest

from vaegan_kernels import hdf5, hdf5_probe
from vaegan_kernels.runs import checkpoint
from vaegan_kernels.shell.errors import UserError


@pytest.fixture
def path(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["parameters/encoder/w"] = np.arange(6.0)
        file["attribute_vectors/Big"] = np.ones(3)
    return tmp_path / "a.h5"


def opened(path):
    return hdf5.reading(path, what="a file of a test", advice="make it again")


def test_an_array_that_was_never_written_is_not_allocated(path):
    with h5py.File(path, "r+") as file:
        file.create_dataset("attribute_vectors/Huge", (20_000_000, 80), np.float64, compression="gzip", chunks=(1000, 80))
    assert path.stat().st_size < 20_000
    with pytest.raises(UserError, match=r"attribute_vectors/Huge says it has 12,800,000,000 bytes and stores next to none"):
        checkpoint.read_extra(path, "attribute_vectors/Huge")
    assert checkpoint.read_extra(path, "attribute_vectors/Big").tolist() == [1, 1, 1]
    with opened(path) as file, pytest.raises(UserError, match="stores next to none"):
        [hdf5.array_of(file, name, path) for name in hdf5.names_of(file, path)]


def test_what_compresses_well_is_read(path):
    with h5py.File(path, "r+") as file:
        file.create_dataset("attribute_vectors/Zeros", data=np.zeros((100, 100)), compression="gzip", compression_opts=9)
    assert not checkpoint.read_extra(path, "attribute_vectors/Zeros").any()


def soft(file):
    file["x"] = h5py.SoftLink("/parameters/encoder/w")


def external(file):
    file["x"] = h5py.ExternalLink("other.h5", "/x")


def raw(file):
    file.create_dataset("x", (8,), np.uint8, external=[("/etc/hostname", 0, 8)])


def virtual(file):
    layout = h5py.VirtualLayout((8,), np.float64)
    layout[:] = h5py.VirtualSource("other.h5", "x", (8,))
    file.create_virtual_dataset("x", layout)


def through_a_group(file):
    file["x_group"] = h5py.SoftLink("/parameters")


@pytest.mark.parametrize("make, name", [(soft, "x"), (external, "x"), (raw, "x"), (virtual, "x"), (through_a_group, "x_group/encoder/w")])
def test_nothing_outside_of_a_file_is_read(path, make, name):
    with h5py.File(path, "r+") as file:
        make(file)
    with opened(path) as file, pytest.raises(UserError, match=f"the array {name} points outside the file"):
        hdf5.array_of(file, name, path)


def test_what_is_not_there_is_none(path):
    with opened(path) as file:
        assert hdf5.array_of(file, "parameters/encoder", path) is None
        assert hdf5.array_of(file, "parameters/encoder/w/more", path) is None
        assert hdf5.array_of(file, "nothing/at all", path) is None
        assert hdf5.array_of(file, "parameters/encoder/w", path)[2] == 2
        assert hdf5.names_of(file, path) == ["attribute_vectors/Big", "parameters/encoder/w"]
        assert hdf5.strangers(file, {"parameters/encoder/w"}, ("attribute_vectors/",)) == []
        assert hdf5.strangers(file, {"parameters/encoder/v"}) == ["attribute_vectors", "parameters/encoder/w"]


def test_groups_without_end(path, monkeypatch):
    with h5py.File(path, "r+") as file:
        file["parameters/encoder/again"] = file["parameters"]  # a hard link to the group that it lies in
    with opened(path) as file, pytest.raises(UserError, match="has more in it than a checkpoint has"):
        hdf5.names_of(file, path)
    monkeypatch.setattr(hdf5, "MOST", 1)
    with opened(path) as file, pytest.raises(UserError, match="has more in it"):
        hdf5.names_of(file, path)


@pytest.mark.parametrize(
    "error", [RuntimeError("a\nb"), KeyError("x"), UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"), SystemError(), MemoryError()]
)
def test_any_error_within_is_one_line(path, error):
    with pytest.raises(UserError, match=r"a.h5: is damaged \(.+\); make it again") as told, opened(path):
        raise error
    assert "\n" not in str(told.value)
    with pytest.raises(UserError, match="^mine$"), opened(path):
        raise UserError("mine")
    with pytest.raises(KeyboardInterrupt), opened(path):
        raise KeyboardInterrupt


def test_why_a_file_cannot_be_opened(path, tmp_path):
    content = path.read_bytes()
    for change, expected in (
        (b"", "the file is empty, expected a file of a test"), (b"text" * 50, "not an HDF5 file"),
        (content[:-100], "the file is truncated"),
        (content[:8] + b"\xff" * 200 + content[208:], "the file is damaged"),
    ):  # fmt: skip
        path.write_bytes(change)
        with pytest.raises(UserError, match=expected), opened(path):
            pass
    for place in (tmp_path / "nothing.h5", tmp_path, path / "below"):
        with pytest.raises(UserError, match="no such file; expected a file of a test"), opened(place):
            pass


def test_a_file_that_another_program_has_open(path):
    """Which holds a lock on it: reading asks for none."""
    code = f"import h5py; f = h5py.File({str(path)!r}, 'r+'); print('open', flush=True); input()"
    other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "open\n"
        with pytest.raises(OSError):
            h5py.File(path, "r", locking=True)
        assert checkpoint.read_extra(path, "attribute_vectors/Big").tolist() == [1, 1, 1]
    finally:
        other.communicate("\n", timeout=30)


# ---- the first look, in another process ----


@pytest.fixture
def look(monkeypatch):
    """A fresh `hdf5_probe`, which has seen no file."""
    monkeypatch.setattr(hdf5_probe, "_known", set())
    monkeypatch.setattr(hdf5_probe, "_server", None)
    return hdf5_probe


def test_a_file_is_looked_at_once(path, look, monkeypatch):
    assert look.harmless(path)
    monkeypatch.setattr(look, "_ask", lambda path: pytest.fail("asked again"))
    assert look.harmless(path)
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(pytest.fail.Exception):
        look.harmless(path)
    look.trust(path)
    assert look.harmless(path)


@pytest.mark.parametrize("end", ["import os; os.kill(os.getpid(), 11)", "import time; time.sleep(60)", "raise SystemExit"])
def test_a_library_that_dies_or_hangs_takes_nothing_along(path, look, monkeypatch, end):
    monkeypatch.setattr(look, "PATIENCE", 1.0)
    monkeypatch.setattr(look, "SERVER", look.SERVER.replace("def look(path):", f"def look(path):\n    if 'bad' in path:\n        {end}"))
    bad = path.with_name("bad.h5")
    bad.write_bytes(path.read_bytes())
    with (
        pytest.raises(UserError, match="bad.h5: is damaged, so that the HDF5 library crashes or never ends on it; make it again"),
        opened(bad),
    ):
        pass
    with opened(path) as file:  # by a new process
        assert "parameters" in file
    assert not look.harmless(bad)


def test_own_files_start_no_process(tmp_path, look, monkeypatch):
    from app_case import TINY, call, write_tiny

    from vaegan_kernels import sample, train

    monkeypatch.setattr(look, "_ask", lambda path: pytest.fail("a process for a file of its own"))
    data = write_tiny(tmp_path / "discs.h5")
    assert call(train.main, "--data", data, "--out", tmp_path / "run", *TINY, "--steps", 2, "--stop-after", 1) == 0
    assert call(train.main, "--resume", tmp_path / "run") == 0
    assert call(sample.main, tmp_path / "run", "--out", tmp_path / "s.png") == 0


def test_no_processes_to_be_had(path, look, monkeypatch):
    def fail(*_, **__):
        raise OSError("no more processes")

    monkeypatch.setattr(look.subprocess, "Popen", fail)
    assert look.harmless(path)
