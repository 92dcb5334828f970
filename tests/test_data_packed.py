"""The packed file: round trip, every kind of file that is not one, nothing left behind where writing fails."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from vaegan_kernels.data import Dataset, check_source, describe_source, load_dataset, read_packed, write_packed
from vaegan_kernels.shell.errors import UserError


@pytest.fixture
def dataset(rng):
    return Dataset(
        name="naïve set",
        images=rng.integers(0, 256, (20, 16, 16, 3), dtype=np.uint8),
        splits=np.array([0] * 16 + [1, 1, 2, 2], np.uint8),
        attributes=np.where(rng.random((20, 2)) < 0.5, -1, 1).astype(np.int8),
        attribute_names=("Bald", "Gray_Hair"),
        preprocessing={"resize": "bicubic", "image_size": 16},
        skipped=3,
    )


def test_round_trip(tmp_path, dataset):
    write_packed(tmp_path / "a.h5", dataset)
    again = read_packed(tmp_path / "a.h5")
    assert again.fingerprint == dataset.fingerprint == again.compute_fingerprint()
    assert (again.name, again.attribute_names, again.preprocessing, again.skipped) == (
        "naïve set",
        ("Bald", "Gray_Hair"),
        {"resize": "bicubic", "image_size": 16},
        3,
    )
    for name in ("images", "splits", "attributes"):
        assert np.array_equal(getattr(again, name), getattr(dataset, name))
    assert [p.name for p in tmp_path.iterdir()] == ["a.h5"], "a temporary file was left behind"
    assert describe_source(tmp_path / "a.h5", 16) == ("packed file", 20)


def test_readable_with_h5py_alone(tmp_path, dataset):
    write_packed(tmp_path / "a.h5", dataset)
    with h5py.File(tmp_path / "a.h5") as file:
        assert file.attrs["format"] == "vaegan-kernels packed images"
        assert file.attrs["format_version"] == 1
        assert json.loads(file.attrs["preprocessing"])["resize"] == "bicubic"
        assert file["attribute_names"].asstr()[1] == "Gray_Hair"
        assert file["images"].dtype == np.uint8


def test_without_attributes_and_with_limit(tmp_path, dataset):
    write_packed(tmp_path / "a.h5", Dataset("x", dataset.images, dataset.splits))
    data = load_dataset(tmp_path / "a.h5", image_size=16, channels=3, limit=5)
    assert data.attributes is None
    assert set(data.splits) == {0, 1, 2}
    assert len(data) == 5


def test_other_size_or_channels_say_what_to_do(tmp_path, dataset):
    write_packed(tmp_path / "a.h5", dataset)
    for call in (check_source, load_dataset):
        with pytest.raises(UserError, match="holds images of 16 pixels, 32 are needed; pack them again with --image-size 32"):
            call(tmp_path / "a.h5", image_size=32, channels=3)
        with pytest.raises(UserError, match="holds images of 3 channels, 1 needed; pack them again with --channels 1"):
            call(tmp_path / "a.h5", image_size=16, channels=1)


def refused(path):
    """The one-line message with which both readers refuse ``path``."""
    messages = []
    for call in (check_source, load_dataset):
        with pytest.raises(UserError) as error:
            call(path, image_size=16, channels=3)
        messages.append(str(error.value))
        assert "\n" not in messages[-1]
        assert path.name in messages[-1]
    return messages[-1]


def test_foreign_and_truncated_files(tmp_path, dataset):
    path = tmp_path / "a.h5"
    path.write_bytes(b"")
    assert "the file is empty, expected a packed .h5 file; make it with" in refused(path)
    path.write_bytes(b"hello" * 1000)
    assert "not an HDF5 file" in refused(path)
    with h5py.File(path, "w") as file:
        file["weights"] = np.zeros(3)
    assert "not one of packed images" in refused(path)
    write_packed(path, dataset)
    whole = path.read_bytes()
    for size in (8, 100, 2000, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        refused(path)


def test_a_flipped_bit_is_noticed(tmp_path, dataset):
    path = tmp_path / "a.h5"
    write_packed(path, dataset)
    content = bytearray(path.read_bytes())
    content[content.find(dataset.images.tobytes()) + 77] ^= 4
    path.write_bytes(content)
    with pytest.raises(UserError, match="do not match its fingerprint"):
        read_packed(path)


def damage(path, dataset, change):
    write_packed(path, dataset)
    with h5py.File(path, "r+") as file:
        change(file)


def replace(name, value):
    def change(file):
        del file[name]
        if value is not None:
            file[name] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        replace("images", None),
        replace("images", np.zeros((20, 16, 16, 3), np.float32)),
        replace("images", np.zeros((20, 16, 8, 3), np.uint8)),
        replace("images", np.zeros((0, 16, 16, 3), np.uint8)),
        replace("images", h5py.SoftLink("/elsewhere")),
        replace("images", h5py.ExternalLink("/etc/hostname", "/images")),
        lambda file: (replace("images", None)(file), file.create_dataset("images", (10**9, 16, 16, 3), np.uint8, chunks=(64, 16, 16, 3))),
        lambda file: (
            replace("images", None)(file),
            file.create_dataset("images", (2, 16, 16, 3), np.uint8, external=[("/etc/hostname", 0, 1536)]),
        ),
    ],
)
def test_arrays_of_the_wrong_kind(tmp_path, dataset, change):
    damage(tmp_path / "a.h5", dataset, change)
    refused(tmp_path / "a.h5")


@pytest.mark.parametrize(
    "change",
    [
        replace("splits", np.full(20, 9, np.uint8)),
        replace("splits", np.zeros(3, np.uint8)),
        replace("attributes", np.zeros((20, 2), np.int8)),
        replace("attribute_names", np.zeros(2)),
        lambda file: file.attrs.__setitem__("preprocessing", "{"),
        lambda file: file.attrs.__delitem__("fingerprint"),
        lambda file: file.attrs.__setitem__("skipped", "many"),
    ],
)
def test_damage_found_on_reading(tmp_path, dataset, change):
    damage(tmp_path / "a.h5", dataset, change)
    with pytest.raises(UserError) as error:
        read_packed(tmp_path / "a.h5")
    assert "\n" not in str(error.value)


def test_version_of_the_future(tmp_path, dataset):
    damage(tmp_path / "a.h5", dataset, lambda file: file.attrs.__setitem__("format_version", 3))
    assert "has format version 3, expected 1 or 2" in refused(tmp_path / "a.h5")


def test_disk_full_leaves_the_older_file(tmp_path, dataset, monkeypatch):
    path = tmp_path / "a.h5"
    path.write_bytes(b"older")
    usage = type("usage", (), {"free": 1000})
    monkeypatch.setattr("shutil.disk_usage", lambda where: usage)
    with pytest.raises(UserError, match="the disk is full"):
        write_packed(path, dataset)
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a.h5", b"older")]


@pytest.mark.skipif(sys.platform == "win32", reason="needs resource limits")
def test_disk_that_fills_half_way_leaves_nothing(tmp_path):
    """A limit on the size of files stands in for the disk; in a process of its own, since the limit cannot be lifted."""
    program = f"""
import resource, numpy as np
from vaegan_kernels.data import Dataset, write_packed
from vaegan_kernels.shell.errors import UserError
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
data = Dataset("x", np.zeros((100, 64, 64, 3), np.uint8), np.zeros(100, np.uint8))
try:
    write_packed({str(tmp_path / "a.h5")!r}, data)
except UserError as error:
    print("refused:", error)
"""
    root = str(Path(__file__).resolve().parents[1])
    result = subprocess.run([sys.executable, "-c", program], cwd=root, capture_output=True, text=True, timeout=60)
    assert result.stdout.startswith("refused:"), result.stderr
    assert list(tmp_path.iterdir()) == []


def test_unwritable_place(tmp_path, dataset):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UserError, match="cannot be written"):
        write_packed(tmp_path / "file" / "a.h5", dataset)
    with pytest.raises(UserError, match="is a folder"):
        write_packed(tmp_path, dataset)


def test_dataset_checks_its_arrays(dataset):
    with pytest.raises(ValueError, match=r"images: got float64 \[2, 8, 8, 3\], expected uint8"):
        Dataset("x", np.zeros((2, 8, 8, 3)), np.zeros(2, np.uint8))
    with pytest.raises(ValueError, match="splits"):
        Dataset("x", dataset.images, np.full(20, 3, np.uint8))
    with pytest.raises(ValueError, match="attributes"):
        Dataset("x", dataset.images, dataset.splits, dataset.attributes, ("Bald",))
    with pytest.raises(ValueError, match="split: got 'dev'"):
        dataset.split("dev")
    assert dataset.split("test").tolist() == [18, 19]


def labelled(dataset, names=("cat", "dog", "frog")):
    labels = np.array([i % 4 - 1 for i in range(20)], np.int16)
    return Dataset("x", dataset.images, dataset.splits, dataset.attributes, dataset.attribute_names, labels=labels, label_names=names)


@pytest.mark.parametrize("names", [("cat", "dog", "frog"), ()])
def test_labels_round_trip(tmp_path, dataset, names):
    data = labelled(dataset, names)
    write_packed(tmp_path / "a.h5", data)
    again = read_packed(tmp_path / "a.h5")
    assert again.labels.dtype == np.int16 and again.labels.tolist() == data.labels.tolist()
    assert again.label_names == names
    assert again.fingerprint == data.fingerprint
    with h5py.File(tmp_path / "a.h5") as file:
        assert file.attrs["format_version"] == 2
        assert file["labels"].dtype == np.int16
    limited = load_dataset(tmp_path / "a.h5", image_size=16, channels=3, limit=5)
    assert limited.label_names == names
    for image, label in zip(limited.images, limited.labels, strict=True):
        assert label == data.labels[np.flatnonzero((data.images == image).all(axis=(1, 2, 3)))[0]]


def test_labelled_images_of_a_split(dataset):
    data = labelled(dataset)
    assert data.labelled("train").tolist() == [i for i in range(16) if i % 4]
    assert data.labelled("test").tolist() == [18, 19]
    assert dataset.labelled("train").tolist() == []
    assert data.take(np.array([0, 1, 18])).labels.tolist() == [-1, 0, 1]
    with pytest.raises(ValueError, match="split: got 'dev'"):
        data.labelled("dev")


def test_fingerprints(dataset):
    """Labels and their names count; data without labels has the fingerprint that it always had."""
    digest = hashlib.sha256()
    for array in (dataset.images, dataset.splits, dataset.attributes):
        digest.update(f"{array.dtype.str}{array.shape};".encode() + array.tobytes())
    digest.update(b"Bald\nGray_Hair")
    assert dataset.fingerprint == digest.hexdigest()
    others = [labelled(dataset), labelled(dataset, ("cat", "dog", "toad")), labelled(dataset, ())]
    other = labelled(dataset)
    others.append(Dataset("x", other.images, other.splits, other.attributes, other.attribute_names, labels=other.labels[::-1].copy()))
    assert len({one.fingerprint for one in [dataset, *others]}) == 5


def test_wrong_labels(tmp_path, dataset):
    for labels, names, expected in (
        (np.zeros(20), (), r"labels: got float64 \[20\], expected int16 \[20\]"),
        (np.zeros(19, np.int16), (), r"labels: got int16 \[19\]"),
        (np.full(20, -2, np.int16), (), "labels: got -2 to -2, expected -1 to any class"),
        (np.full(20, 2, np.int16), ("a", "b"), "labels: got 2 to 2, expected -1 to 1, the last of label_names"),
        (None, ("a",), "label_names: got 1 names, expected none without labels"),
    ):
        with pytest.raises(ValueError, match=expected):
            Dataset("x", dataset.images, dataset.splits, labels=labels, label_names=names)
    for change in (
        replace("labels", np.zeros(20, np.int64)), replace("labels", np.zeros(19, np.int16)), replace("labels", np.full(20, 7, np.int16)),
        replace("label_names", None), replace("labels", np.zeros(20, np.int16)),
        replace("labels", h5py.ExternalLink("/etc/hostname", "/x")),
    ):  # fmt: skip
        write_packed(tmp_path / "a.h5", labelled(dataset))
        with h5py.File(tmp_path / "a.h5", "r+") as file:
            change(file)
        with pytest.raises(UserError, match="pack the images again|points outside the file"):
            read_packed(tmp_path / "a.h5")
