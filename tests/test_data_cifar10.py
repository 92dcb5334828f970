"""CIFAR-10 in both official forms: pixels, labels, splits, missing and damaged files, and pickles that are more than data."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import tarfile
import time

import numpy as np
import pytest
from app_case import call
from data_case import CIFAR_NAMES, load, planes, python2_pickle, refused, tar_of, write_cifar

from vaegan_kernels import pack, train
from vaegan_kernels.data import describe_source, read_packed
from vaegan_kernels.data.formats import records as records_module
from vaegan_kernels.data.formats.plain_pickle import read_plain_pickle
from vaegan_kernels.shell.errors import UserError


@pytest.mark.parametrize("form", ["py", "bin"])
@pytest.mark.parametrize("packing", ["folder", "parent", "archive", "parent of archive"])
def test_images_labels_names_and_splits(tmp_path, form, packing):
    folder, images, labels = write_cifar(tmp_path / "in", form)
    source = {"folder": folder, "parent": folder.parent}.get(packing)
    if source is None:
        (tmp_path / "out").mkdir()
        source = tar_of(folder, tmp_path / "out" / f"cifar-10-{'python' if form == 'py' else 'binary'}.tar.gz")
        source = source if packing == "archive" else source.parent
    data = load(source)
    assert np.array_equal(data.images, images), "32 pixels need no resizing"
    assert data.labels.dtype == np.int16
    assert data.labels.tolist() == labels.tolist()
    assert data.label_names == tuple(CIFAR_NAMES)
    validation = [1 if i % 10 == 9 else 0 for i in range(20)]
    assert data.splits.tolist() == validation * 5 + [2] * 20
    assert (data.name, data.skipped, data.attributes) == ("CIFAR-10", 0, None)
    assert data.labelled("validation").tolist() == data.split("validation").tolist()
    assert describe_source(source, 32) == ("CIFAR-10", 120)


def test_both_forms_are_the_same_data(tmp_path):
    one, two = (load(write_cifar(tmp_path / form, form)[0]) for form in ("py", "bin"))
    assert one.fingerprint == two.fingerprint


def test_the_pickles_of_these_tests_are_such(tmp_path):
    """Python's own module reads what `write_cifar` writes, and the plain reader gives the same."""
    folder, _, _ = write_cifar(tmp_path, "py")
    for name in ("data_batch_2", "batches.meta"):
        content = (folder / name).read_bytes()
        expected, got = pickle.loads(content, encoding="latin1"), read_plain_pickle(content)
        assert expected.keys() == got.keys()
        assert all(np.array_equal(expected[key], got[key]) for key in got)
    official = python2_pickle({"num_cases_per_batch": 10000, "label_names": CIFAR_NAMES, "num_vis": 3072})
    assert hashlib.md5(official).hexdigest() == "5ff9c542aee3614f3951f8cda6e48888", "the official batches.meta, byte for byte"


@pytest.mark.parametrize("protocol", [3, 4])
def test_pickled_again_by_python_3(tmp_path, protocol):
    folder, images, labels = write_cifar(tmp_path, "py", only=["test_batch"])
    for order in "CF":
        batch = {b"data": np.array(planes(images), order=order), b"labels": [int(i) for i in labels]}
        (folder / "test_batch").write_bytes(pickle.dumps(batch, protocol))
        assert np.array_equal(load(folder).images, images)


@pytest.mark.parametrize(("size", "channels"), [(64, 3), (128, 3), (32, 1), (64, 1)])
def test_other_sizes_and_channels(tmp_path, size, channels):
    folder, images, _ = write_cifar(tmp_path, "bin")
    data = load(folder, image_size=size, channels=channels)
    assert data.images.shape == (120, size, size, channels)
    grey = images @ np.array([0.299, 0.587, 0.114])
    expected = images.mean(axis=(1, 2)) if channels == 3 else grey.mean(axis=(1, 2))[:, None]
    assert np.abs(data.images.mean(axis=(1, 2)) - expected).max() < 3


def test_parts_that_are_there(tmp_path):
    folder, images, _ = write_cifar(tmp_path / "a", "py", only=["data_batch_3", "test_batch"], names=False)
    data = load(folder)
    assert np.array_equal(data.images, images)
    assert [len(data.split(name)) for name in ("train", "validation", "test")] == [18, 2, 20]
    assert data.label_names == tuple("0123456789")
    folder, _, _ = write_cifar(tmp_path / "b", "bin", only=["test_batch"])
    assert load(folder).splits.tolist() == [2] * 20
    folder, _, _ = write_cifar(tmp_path / "c", "py", only=[])
    refused(folder, "no image in this folder")  # a folder is not taken for its name
    refused(tar_of(folder, tmp_path / "cifar-10-python.tar.gz"), "has no batch of CIFAR-10")


def test_limit_makes_no_more_images_than_asked(tmp_path, monkeypatch):
    folder, images, _ = write_cifar(tmp_path, "bin")
    made = []
    original = records_module.square_of_array
    monkeypatch.setattr(records_module, "square_of_array", lambda *a: made.append(1) or original(*a))
    data = load(folder, limit=12)
    assert len(data) == len(made) == 12
    assert [len(data.split(name)) for name in ("train", "validation", "test")] == [9, 1, 2]
    whole = load(folder)
    for image, label in zip(data.images, data.labels, strict=True):
        (place,) = np.flatnonzero((whole.images == image).all(axis=(1, 2, 3)))
        assert whole.labels[place] == label


def test_damaged_binary(tmp_path):
    folder, _, _ = write_cifar(tmp_path, "bin")
    path = folder / "data_batch_2.bin"
    content = path.read_bytes()
    path.write_bytes(content[:-100])
    refused(folder, r"data_batch_2.bin: is 61360 bytes, expected a multiple of 3073; it is cut off")
    path.write_bytes(b"")
    refused(folder, r"data_batch_2.bin: holds no image")
    path.write_bytes(content[:3073] + b"\x0b" + content[3074:])
    refused(folder, r"data_batch_2.bin: image 1 has the label 11, expected 0 to 9")
    path.write_bytes(content)
    (folder / "batches.meta.txt").write_text("one\ntwo\n")
    refused(folder, "batches.meta.txt: got 2 names, expected 10 different ones")
    (folder / "batches.meta.txt").write_bytes(b"\xff\xfe\x00")
    refused(folder, "batches.meta.txt: is no text file")


@pytest.mark.parametrize(
    ("batch", "expected"),
    [
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [1, 2, 3]}, "has 3 labels for 2 images"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": [1, 10]}, "image 1 has the label 10"),
        ({"data": np.zeros((2, 3072), np.uint8), "labels": ["cat", "dog"]}, "no list 'labels' of numbers"),
        ({"data": np.zeros((2, 3072), np.uint8), "fine_labels": [1, 2]}, "no list 'labels' of numbers"),
        ({"data": np.zeros((2, 3000), np.uint8), "labels": [1, 2]}, r"'data' is uint8 \[2, 3000\], expected uint8 \[n, 3072\]"),
        ({"data": np.zeros((2, 3072), np.int32), "labels": [1, 2]}, r"'data' is int32 \[2, 3072\]"),
        ({"labels": [1, 2]}, "'data' is none"),
        ([1, 2], "holds a list, expected a dict"),
        ({"data": np.zeros((0, 3072), np.uint8), "labels": []}, "holds no image"),
    ],
)
def test_foreign_pickles(tmp_path, batch, expected):
    folder, _, _ = write_cifar(tmp_path, "py", only=["test_batch"])
    (folder / "test_batch").write_bytes(python2_pickle(batch))
    refused(folder, f"test_batch: .*{expected}")


def test_truncated_pickle_and_archive(tmp_path):
    folder, _, _ = write_cifar(tmp_path, "py", only=["data_batch_1", "test_batch"])
    archive = tar_of(folder, tmp_path / "cifar-10-python.tar.gz")
    whole = archive.read_bytes()
    for size in (0, 1, 20, len(whole) // 3, len(whole) * 9 // 10):
        archive.write_bytes(whole[:size])
        refused(archive, "cifar-10-python.tar.gz.*download it again")
    content = (folder / "test_batch").read_bytes()
    for size in (0, 1, 5, 60, len(content) // 2, len(content) - 1):
        (folder / "test_batch").write_bytes(content[:size])
        refused(folder, "test_batch: is a damaged pickle.*download it again")


class Evil:
    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_a_malicious_pickle_runs_nothing(tmp_path, protocol):
    folder, _, _ = write_cifar(tmp_path, "py", only=["test_batch"])
    proof = tmp_path / "proof"
    content = pickle.dumps({"data": Evil(os.system, f"touch {proof}")}, protocol)
    for target in ("test_batch", "batches.meta"):
        kept = (folder / target).read_bytes()
        (folder / target).write_bytes(content)
        refused(folder, rf"{target}: (names '(posix|nt).system', expected plain data: nothing of it was run|has the operation)")
        (folder / target).write_bytes(kept)
    assert not proof.exists()
    pickle.loads(content)
    assert proof.exists(), "the pickle of this test is harmless"


def test_archives_with_odd_members(tmp_path):
    """Names that lead elsewhere, links, devices: nothing is written or followed."""
    folder, images, _ = write_cifar(tmp_path / "in", "bin", only=["test_batch"])
    secret = tmp_path / "secret.bin"
    secret.write_bytes(bytes(3073 * 3))
    place = tmp_path / "deep" / "down"
    place.mkdir(parents=True)
    with tarfile.open(place / "cifar-10-binary.tar.gz", "w:gz") as archive:
        for target, kind in (
            ("data_batch_1.bin", tarfile.SYMTYPE),
            ("data_batch_2.bin", tarfile.LNKTYPE),
            ("data_batch_3.bin", tarfile.CHRTYPE),
        ):
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{target}")
            member.type, member.linkname = kind, str(secret)
            archive.addfile(member)
        for target in ("../../escaped.bin", "/tmp/escaped.bin"):
            member = tarfile.TarInfo(target)
            member.size = 3073
            archive.addfile(member, io.BytesIO(bytes(3073)))
        archive.add(folder / "test_batch.bin", "../../../test_batch.bin")
    before = sorted(tmp_path.rglob("*"))
    assert np.array_equal(load(place / "cifar-10-binary.tar.gz").images, images)
    assert sorted(tmp_path.rglob("*")) == before


def test_archive_that_lies_about_sizes(tmp_path):
    path = tmp_path / "cifar-10-binary.tar.gz"
    for kind, size in ((tarfile.REGTYPE, 1 << 43), (tarfile.XHDTYPE, 1 << 33), (tarfile.GNUTYPE_LONGNAME, 1 << 33)):
        member = tarfile.TarInfo("data_batch_1.bin")
        member.type, member.size = kind, size
        with tarfile.open(path, "w:gz", format=tarfile.GNU_FORMAT) as archive:
            archive.fileobj.write(member.tobuf(tarfile.GNU_FORMAT))
            archive.fileobj.write(bytes(10240))
        start = time.perf_counter()
        refused(path, "cifar-10-binary.tar.gz")
        assert time.perf_counter() - start < 20


def test_several_data_sets_in_one_folder(tmp_path):
    write_cifar(tmp_path, "py")
    (tmp_path / "train_X.bin").write_bytes(bytes(27648))
    refused(tmp_path, "holds CIFAR-10 and STL-10; give the folder or archive of one of them")


def test_unknown_archives_and_lone_files(tmp_path):
    folder, _, _ = write_cifar(tmp_path, "bin")
    refused(tar_of(folder, tmp_path / "cifar.tar.gz"), "archives are known by their official names.*cifar-10-python.tar.gz")
    refused(folder / "test_batch.bin", "give the folder that holds it")


def test_pack_and_train(tmp_path, capsys):
    folder, images, labels = write_cifar(tmp_path, "py")
    archive, out = tar_of(folder, tmp_path / "cifar-10-python.tar.gz"), tmp_path / "c.h5"
    assert pack.main([str(archive), str(out), "--image-size", "32"]) == 0
    printed = capsys.readouterr().out
    counts = ", ".join(f"{one} {(labels == i).sum()}" for i, one in enumerate(CIFAR_NAMES))
    assert "CIFAR-10: 120 images" in printed
    assert f"labels      10 classes ({counts}), 0 unlabelled" in printed
    again = read_packed(out)
    assert np.array_equal(again.images, images)
    assert (again.labels.tolist(), again.label_names) == (labels.tolist(), tuple(CIFAR_NAMES))
    assert call(train.main, "--data", archive, "--steps", "2", "--batch-size", "4", "--device", "cpu", "--out", tmp_path / "run") == 0
    assert "data: CIFAR-10, 90 train, 10 validation, 20 test images" in capsys.readouterr().out
    folder, _, _ = write_cifar(tmp_path / "t", "py", only=["test_batch"])
    with pytest.raises(UserError, match="--batch-size: got 4, but there are only 0 images to train on"):
        train.main(["--data", str(folder), "--steps", "2", "--batch-size", "4", "--device", "cpu", "--out", str(tmp_path / "three")])
