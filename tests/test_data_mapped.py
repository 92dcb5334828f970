"""Packed files that are larger than memory: their images stay in the file, which is checked once; no reader copies all of them."""

from __future__ import annotations

import os
import subprocess
import sys

import h5py
import numpy as np
import pytest
from app_case import environment

from vaegan_kernels import hdf5
from vaegan_kernels.data import Dataset, checked, load_dataset, read_packed, write_packed
from vaegan_kernels.data.dataset import blocks
from vaegan_kernels.shell.errors import UserError


def make(path, n=20, **options):
    """A packed file of random images of 16 pixels, and its data set."""
    images = np.random.default_rng(3).integers(0, 256, (n, 16, 16, 3), dtype=np.uint8)
    dataset = Dataset("some", images, np.zeros(n, np.uint8), np.ones((n, 1), np.int8), ("Round",), **options)
    write_packed(path, dataset)
    return dataset


def lies_in(images):
    """The np.memmap that ``images`` are a view of, or None."""
    while images is not None and not isinstance(images, np.memmap):
        images = getattr(images, "base", None)
    return images


def test_images_stay_in_the_file(tmp_path):
    made = make(tmp_path / "a.h5")
    found = load_dataset(tmp_path / "a.h5", image_size=16, channels=3)
    assert lies_in(found.images) is not None and not found.images.flags.writeable
    assert np.array_equal(found.images, made.images) and found.fingerprint == made.fingerprint
    assert lies_in(load_dataset(tmp_path / "a.h5", image_size=16, channels=3, limit=5).images) is None


@pytest.mark.parametrize("options", [{"compression": "gzip"}, {"chunks": (4, 16, 16, 3)}, {"fletcher32": True}])
def test_what_lies_in_pieces_is_read_into_memory(tmp_path, options):
    made = make(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        del file["images"]
        file.create_dataset("images", data=made.images, **options)
    found = read_packed(tmp_path / "a.h5")
    assert lies_in(found.images) is None and np.array_equal(found.images, made.images)


def move(path, name, to):
    """Have the file say that the array ``name`` lies at the byte ``to``."""
    with h5py.File(path) as file:
        place, size = (number.to_bytes(8, "little") for number in (file[name].id.get_offset(), file[name].nbytes))
    content = path.read_bytes()
    assert content.count(place + size) == 1
    path.write_bytes(content.replace(place + size, to.to_bytes(8, "little") + size))


@pytest.mark.parametrize("to", [2**20, 2**40, 2**63])
def test_a_place_outside_of_the_file_is_refused(tmp_path, to):
    make(tmp_path / "a.h5")
    move(tmp_path / "a.h5", "images", to)
    with pytest.raises(UserError, match="pack the images again") as error:
        read_packed(tmp_path / "a.h5")
    assert "\n" not in str(error.value)


def test_pages_beyond_the_end_or_of_other_bytes_are_not_taken(tmp_path, monkeypatch):
    """The library would have to be wrong, or the file another one by now."""
    make(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5") as file:
        array, (start, end) = file["images"], hdf5.place_of(file["images"])
        assert hdf5.mapped(array, tmp_path / "a.h5") is not None
        for place in ((start + 2**20, end + 2**20), (start + 8, end + 8), None):
            monkeypatch.setattr(hdf5, "place_of", lambda array, place=place: place)
            assert hdf5.mapped(array, tmp_path / "a.h5") is None


def test_two_arrays_at_one_place_are_refused(tmp_path):
    made = make(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5") as file:
        place = file["images"].id.get_offset()
    made.images[0, 0, 0] = 0  # so that the split codes there are good ones
    made.images[0, 0, 1:8] = 1
    move(tmp_path / "a.h5", "splits", place + 64)
    with pytest.raises(UserError, match="two of its arrays lie at the same place"):
        read_packed(tmp_path / "a.h5")


@pytest.fixture
def counted(tmp_path, monkeypatch):
    """Every file counts as large, the cache is an empty folder; how often a fingerprint was computed."""
    monkeypatch.setenv("VAEGAN_KERNELS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(checked, "SMALL", 0)
    own, seen = Dataset.compute_fingerprint, []
    monkeypatch.setattr(Dataset, "compute_fingerprint", lambda *a: seen.append(1) or own(*a))
    return seen


def test_a_large_file_is_checked_once_and_again_when_it_has_changed(tmp_path, counted):
    path = tmp_path / "a.h5"
    made = make(path)
    counted.clear()
    assert read_packed(path).fingerprint == made.fingerprint and not counted, "this program has just written it"
    (tmp_path / "b.h5").write_bytes(path.read_bytes())
    for _ in range(2):
        read_packed(tmp_path / "b.h5")
    assert len(counted) == 1, "a copy is checked, once"
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[content.find(made.images.tobytes()) + 77] ^= 4
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(UserError, match="do not match its fingerprint"):
        read_packed(path)
    (tmp_path / "cache" / "checked").rename(tmp_path / "elsewhere")
    (tmp_path / "cache" / "checked").write_text("in the way")
    for _ in range(2):
        read_packed(tmp_path / "b.h5")
    assert len(counted) == 4, "what cannot be noted is checked each time"


def test_small_files_are_always_checked(tmp_path, counted, monkeypatch):
    make(tmp_path / "a.h5")
    monkeypatch.setattr(checked, "SMALL", 1 << 20)
    counted.clear()
    for _ in range(2):
        read_packed(tmp_path / "a.h5")
    assert len(counted) == 2


def test_fingerprints_are_computed_in_blocks(tmp_path):
    made = make(tmp_path / "a.h5")
    assert [block.stop for block in blocks(made.images, 7 * 768)] == [7, 14, 20]
    assert [block.stop for block in blocks(made.images, 1)] == list(range(1, 21))
    seen = []
    assert made.compute_fingerprint(lambda done, total: seen.append((done, total))) == made.fingerprint and seen == [(20, 20)]


LIMITED = """
import importlib, resource, sys
resource.setrlimit(resource.RLIMIT_DATA, ({limit}, {limit}))
from vaegan_kernels.shell import cli
main = importlib.import_module("vaegan_kernels." + sys.argv[1]).main
sys.exit(cli.run_main(lambda: main(sys.argv[2:])))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts a process's own memory alone")
def test_more_images_than_memory(tmp_path, monkeypatch):
    """Training with its pictures and measures, and the regressor with its 10,000 test images, in less memory than the images take."""
    monkeypatch.setenv("VAEGAN_KERNELS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    images, splits = np.zeros((150_000, 32, 32, 3), np.uint8), np.zeros(150_000, np.uint8)
    images[::1000] = np.random.default_rng(0).integers(0, 256, (150, 32, 32, 3))
    splits[-10_000:] = 2
    write_packed(tmp_path / "large.h5", Dataset("large", images, splits, np.resize(np.int8([1, -1, 1]), (150_000, 1)), ("Round",)))
    limit = 300_000_000
    assert images.nbytes > 1.4 * limit
    common = f"--data {tmp_path}/large.h5 --network small32 --device cpu --threads 1 --batch-size 4"
    for words in (f"train --out {tmp_path}/run --steps 3 --draw-every 3 --no-animation", f"regressor --out {tmp_path}/r.h5 --steps 2"):
        command = [sys.executable, "-c", LIMITED.format(limit=limit), *words.split(), *common.split()]
        result = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=300)
        assert result.returncode == 0 and not result.stderr, result.stdout + result.stderr
