"""STL-10's binary form: column-major pixels, labels from 1 on, the unlabelled part, memory, missing and damaged files."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from data_case import STL_NAMES, load, refused, tar_of, write_stl

from vaegan_kernels import pack
from vaegan_kernels.data import describe_source, read_packed
from vaegan_kernels.data.formats import records as records_module

RECORD = 96 * 96 * 3


@pytest.mark.parametrize("packing", ["folder", "parent", "archive", "parent of archive"])
def test_images_labels_names_and_splits(tmp_path, packing):
    folder, images, labels = write_stl(tmp_path / "in")
    source = {"folder": folder, "parent": folder.parent}.get(packing)
    if source is None:
        (tmp_path / "out").mkdir()
        source = tar_of(folder, tmp_path / "out" / "stl10_binary.tar.gz")
        source = source if packing == "archive" else source.parent
    data = load(source, image_size=96)
    assert np.array_equal(data.images, images), "96 pixels need no resizing"
    assert data.labels.tolist() == labels.tolist()
    assert data.label_names == tuple(STL_NAMES)
    assert data.splits.tolist() == [0] * 32 + [2] * 6
    assert data.labelled("train").tolist() == list(range(12))
    assert data.labelled("test").tolist() == list(range(32, 38))
    assert data.labelled("validation").tolist() == []
    assert describe_source(source, 64) == ("STL-10", 38)


@pytest.mark.parametrize(("size", "channels"), [(32, 3), (64, 1), (128, 3)])
def test_other_sizes_and_channels(tmp_path, size, channels):
    folder, images, _ = write_stl(tmp_path)
    data = load(folder, image_size=size, channels=channels)
    assert data.images.shape == (38, size, size, channels)
    corner = images[:, :48, :48].mean(axis=(1, 2)) @ (np.eye(3) if channels == 3 else np.array([[0.299], [0.587], [0.114]]))
    half = size // 2
    assert np.abs(data.images[:, :half, :half].mean(axis=(1, 2)) - corner).max() < 3


def test_parts_that_are_there(tmp_path):
    folder, images, _ = write_stl(tmp_path / "a", train=0, test=0, names=False)
    data = load(folder, image_size=96)
    assert np.array_equal(data.images, images)
    assert data.labels is None and data.label_names == ()
    folder, _, labels = write_stl(tmp_path / "b", unlabeled=0, names=False)
    data = load(folder)
    assert data.labels.tolist() == labels.tolist()
    assert data.label_names == tuple(str(i) for i in range(1, 11))
    (folder / "train_y.bin").unlink()
    assert load(folder).labels.tolist() == [-1] * 12 + labels[12:].tolist()
    folder, _, _ = write_stl(tmp_path / "c", train=0, test=0, unlabeled=0)
    refused(folder, "no image in this folder")  # a folder is not taken for its name


def test_damaged_files(tmp_path):
    folder, _, _ = write_stl(tmp_path)
    images, labels = folder / "train_X.bin", folder / "train_y.bin"
    content, classes = images.read_bytes(), labels.read_bytes()
    images.write_bytes(content[:-1])
    refused(folder, f"train_X.bin: is {12 * RECORD - 1} bytes, expected a multiple of 27648; it is cut off or not STL-10's")
    images.write_bytes(b"")
    refused(folder, "train_X.bin: holds no image")
    images.write_bytes(content[:-RECORD])
    refused(folder, "train_y.bin: has 12 labels for 11 images")
    images.write_bytes(content)
    for wrong in (0, 11):
        labels.write_bytes(classes[:3] + bytes([wrong]) + classes[4:])
        refused(folder, f"train_y.bin: image 3 has the label {wrong}, expected 1 to 10")
    labels.write_bytes(classes)
    (folder / "class_names.txt").write_text("cat\n" * 10)
    refused(folder, "class_names.txt: got 10 names, expected 10 different ones")


def test_truncated_archive(tmp_path):
    folder, _, _ = write_stl(tmp_path)
    archive = tar_of(folder, tmp_path / "stl10_binary.tar.gz")
    whole = archive.read_bytes()
    for size in (0, 30, len(whole) // 2, len(whole) * 9 // 10):
        archive.write_bytes(whole[:size])
        refused(archive, "stl10_binary.tar.gz.*download it again")


@pytest.mark.parametrize("packing", ["folder", "archive"])
def test_only_the_result_is_held(tmp_path, packing):
    """55 MB of images are reduced in much less memory, from the folder and through the archive."""
    folder, _, _ = write_stl(tmp_path)
    with open(folder / "unlabeled_X.bin", "wb") as stream:
        stream.truncate(2000 * RECORD)
    source = folder if packing == "folder" else tar_of(folder, tmp_path / "stl10_binary.tar.gz")
    load(source, image_size=8, limit=10)  # what is imported and listed once
    tracemalloc.start()
    data = load(source, image_size=8)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(data) == 2018
    assert peak < 25_000_000


def test_limit_makes_no_more_images_than_asked(tmp_path, monkeypatch):
    folder, images, labels = write_stl(tmp_path)
    made = []
    original = records_module.square_of_array
    monkeypatch.setattr(records_module, "square_of_array", lambda *a: made.append(1) or original(*a))
    data = load(folder, image_size=96, limit=10)
    assert len(made) == len(data) == 10
    for image, label in zip(data.images, data.labels, strict=True):
        (place,) = np.flatnonzero((images == image).all(axis=(1, 2, 3)))
        assert labels[place] == label


def test_pack(tmp_path, capsys):
    folder, _, labels = write_stl(tmp_path)
    out = tmp_path / "s.h5"
    assert pack.main([str(folder), str(out), "--image-size", "32"]) == 0
    counts = ", ".join(f"{one} {(labels == i).sum()}" for i, one in enumerate(STL_NAMES))
    assert f"labels      10 classes ({counts}), 20 unlabelled" in capsys.readouterr().out
    assert read_packed(out).labels.tolist() == labels.tolist()
