"""Data as people have it: layouts of re-uploads, folders of splits, pictures of any name, what is nobody's picture."""

from __future__ import annotations

import json
import os
import shutil
import sys

import numpy as np
import pytest
from lfw_case import write_lfw
from PIL import Image
from test_data_celeba import NAMES, write_celeba

from vaegan_kernels.data import check_source, describe_source, kinds, load_dataset
from vaegan_kernels.data.formats.folder import list_images, splits_of, walk
from vaegan_kernels.reconstruct import list_files
from vaegan_kernels.shell.errors import UserError


def load(folder, **options):
    return load_dataset(folder, **{"image_size": 32, "channels": 3, "cache_dir": False} | options)


def photos(folder, count=3, ending="png", first=0):
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(first, first + count):
        Image.new("RGB", (20, 20), (10 * i, 90, 30)).save(folder / f"p{i}.{ending}")
    return folder


# ---- which data set a folder is ----


@pytest.mark.parametrize(
    "name", ["train", "test", "val", "unlabeled", "train_X", "raw", "stl10_binary", "cifar-10-batches-py", "lfw", "celeba"]
)
def test_a_folder_is_not_taken_for_its_name(tmp_path, name):
    photos(tmp_path / "photos" / name)
    assert describe_source(tmp_path / "photos", 32) == ("image folder", 3)
    assert describe_source(tmp_path / "photos" / name, 32) == ("image folder", 3)


def test_cifar_100_is_not_stl10(tmp_path):
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    for name in ("train", "test", "meta"):
        (folder / name).write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(UserError, match="no image in this folder"):
        check_source(folder, image_size=32, channels=3)


def test_an_empty_folder_beside_celeba(tmp_path):
    write_celeba(tmp_path)
    (tmp_path / "test").mkdir()
    assert describe_source(tmp_path, 32) == ("CelebA folder", 6)


def test_own_pictures_in_a_folder_called_as_celebas(tmp_path):
    photos(tmp_path / "img_align_celeba")
    assert describe_source(tmp_path, 32) == describe_source(tmp_path / "img_align_celeba", 32) == ("image folder", 3)


# ---- splits ----


def test_folders_of_splits(tmp_path):
    for name, count, first in (("Train/cats", 5, 0), ("train", 4, 10), ("valid", 2, 20), ("test", 3, 22), ("more", 1, 15)):
        photos(tmp_path / name, count, first=first)
    data = load(tmp_path)
    assert np.bincount(data.splits).tolist() == [10, 2, 3]
    red = {code: sorted(set(data.images[data.splits == code][:, 0, 0, 0] // 10)) for code in (1, 2)}
    assert red == {1: [20, 21], 2: [22, 23, 24]}


def test_folders_of_two_splits_and_of_one():
    names = [f"train/{i}.png" for i in range(400)] + [f"test/{i}.png" for i in range(9)]
    splits = splits_of(names)
    assert (splits[400:] == 2).all() and not (splits[:400] == 2).any() and 5 <= (splits[:400] == 1).sum() <= 40
    assert splits_of([*names[:100], "val/a.png"]).tolist() == [0] * 100 + [1]
    assert set(splits_of(names[:400])) == set(splits_of(["train.png", "test.png", "val.png"])) == {0, 1, 2}  # one folder; files


# ---- CelebA and LFW ----


def to_csv(folder):
    """CelebA's lists as those of the common re-upload."""
    text = (folder / "list_attr_celeba.txt").read_text().splitlines()
    rows = [",".join(line.split()) for line in text[2:]]
    (folder / "list_attr_celeba.csv").write_text("image_id," + ",".join(NAMES) + "\n" + "\n".join(rows) + "\n")
    parts = [",".join(line.split()) for line in (folder / "list_eval_partition.txt").read_text().splitlines()]
    (folder / "list_eval_partition.csv").write_text("image_id,partition\n" + "\n".join(parts) + "\n")
    for name in ("list_attr_celeba.txt", "list_eval_partition.txt"):
        (folder / name).unlink()


@pytest.mark.parametrize("layout", ["re-upload", "re-upload, pictures", "official", "official, zip", "official, pictures", "beside", "zip"])
def test_celeba_as_people_have_it(tmp_path, layout):
    expected = load(write_celeba(tmp_path / "plain"))
    folder = given = write_celeba(tmp_path / "data", zipped="zip" in layout)
    if "re-upload" in layout:
        to_csv(folder)
        inner = folder / "img_align_celeba"
        (folder / "aside").mkdir()
        shutil.move(inner, folder / "aside")
        shutil.move(folder / "aside", inner)
        given = inner if "pictures" in layout else folder
    if "official" in layout:
        for name, files in (("Img", "img_align_celeba"), ("Anno", "list_attr_celeba.txt"), ("Eval", "list_eval_partition.txt")):
            (folder / name).mkdir()
            for path in folder.glob(f"{files}*"):
                shutil.move(path, folder / name)
        given = folder / "Img" / "img_align_celeba.zip" if "zip" in layout else folder
        given = folder / "Img" / "img_align_celeba" if "pictures" in layout else given
    if layout in ("beside", "zip"):
        given = next(folder.glob("img_align_celeba*"))
    data = load(given)
    assert data.name == "CelebA" and data.attribute_names == tuple(NAMES)
    assert data.fingerprint == expected.fingerprint and describe_source(given, 32) == ("CelebA folder", 6)


@pytest.mark.parametrize("change, expected", [
    (lambda t: t.replace("image_id,Bald", "image_id,1"), "line 1: got 'image_id,1,Smiling.*commas between, behind image_id"),
    (lambda t: t.replace(",1,", ",2,", 1), r"line \d+ \(00000\d.jpg\): got the value '2', expected 1 or -1"),
    (lambda t: t.splitlines()[0], "has no row"),
    (lambda t: t.replace("000002.jpg", "000001.jpg"), "line 3: 000001.jpg is listed twice"),
])  # fmt: skip
def test_wrong_csv_lists(tmp_path, change, expected):
    to_csv(write_celeba(tmp_path))
    path = tmp_path / "list_attr_celeba.csv"
    path.write_text(change(path.read_text()))
    with pytest.raises(UserError, match=f"list_attr_celeba.csv.*{expected}"):
        load(tmp_path)


def test_lfw_s_lists_as_csv(tmp_path):
    expected = load(write_lfw(tmp_path / "a", "lfw-deepfunneled")).splits.tolist()
    folder = write_lfw(tmp_path / "b", "lfw-deepfunneled")
    for name in ("peopleDevTrain", "peopleDevTest"):
        rows = [",".join(line.split()) for line in (folder / f"{name}.txt").read_text().splitlines()[1:]]
        (folder / f"{name}.csv").write_text("name,images\n" + "\n".join(rows) + "\n")
        (folder / f"{name}.txt").unlink()
    assert load(folder).splits.tolist() == expected
    (folder / "peopleDevTest.csv").write_text("name,images\nDi_O'Hara,many\n")
    with pytest.raises(UserError, match='peopleDevTest.csv, line 2: got "Di_O\'Hara,many"'):
        load(folder)


def test_lfw_s_people_csv(tmp_path):
    folder = write_lfw(tmp_path, dev=False, sets=True)
    expected = load(folder).splits.tolist()
    (folder / "people.txt").unlink()
    without = load(folder).splits.tolist()
    rows = "name,images\nAnn_Smith,3\nBo_Li,1\nCy_van_der_Berg,2\n{}Di_O'Hara,1\n{}El_Ng,2\n"
    (folder / "people.csv").write_text(rows.format("1,\n", "name,images\n"))
    assert load(folder).splits.tolist() == expected
    (folder / "people.csv").write_text(rows.format("", ""))  # one set says nothing of splits
    assert load(folder).splits.tolist() == without


# ---- which files are pictures ----


def test_pictures_of_any_name(tmp_path):
    image = Image.new("RGB", (20, 20), (200, 30, 40))
    for name, kind in (
        ("a.jfif", "JPEG"), ("b.ppm", "PPM"), ("c", "PNG"), ("d.dat", "WEBP"), ("e.picture", "BMP"), ("f.tga", "TGA"),
        ("g.jp2", "JPEG2000"), ("h.txt", "GIF"), ("i.upload", "JPEG"),
    ):  # fmt: skip
        image.save(tmp_path / name, kind)
    (tmp_path / "notes.txt").write_text("Pictures of a day")
    (tmp_path / "empty").write_bytes(b"")
    data = load(tmp_path)
    assert (len(data), data.skipped, data.left_out) == (9, 0, {})
    assert np.abs(data.images.astype(int) - (200, 30, 40)).max() < 12
    assert [path.name for path in list_files([str(tmp_path)])] == [name for name, _, _ in list_images(tmp_path)]


@pytest.mark.skipif("AVIF" not in Image.OPEN and "AVIF" not in kinds.formats(), reason="this Pillow has no AVIF")
def test_avif(tmp_path):
    Image.new("RGB", (20, 20), (200, 30, 40)).save(tmp_path / "a.avif")
    assert len(load(tmp_path)) == 1


def test_what_cannot_be_read_is_counted_by_kind(tmp_path, monkeypatch, capsys):
    from vaegan_kernels.pack import main as pack

    photos(tmp_path)
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
    for name in ("a.heic", "b.HEIC", "c.heif"):
        (tmp_path / name).write_bytes(heic)
    (tmp_path / "d").write_bytes(heic)
    (tmp_path / "e.nef").write_bytes(b"II*\0" + bytes(60))
    (tmp_path / "f.svg").write_text("<svg/>")
    monkeypatch.setattr(kinds, "find_spec", lambda name: None)
    kinds.formats.cache_clear(), kinds.endings.cache_clear()
    data = load(tmp_path)
    assert (len(data), data.skipped) == (3, 0)
    assert data.left_out == {
        "the ending .heic (pip install pillow-heif)": 2, "the ending .heif (pip install pillow-heif)": 1,
        "no ending, HEIF inside (pip install pillow-heif)": 1,
        "the ending .nef (save them as JPEG or PNG)": 1, "the ending .svg (save them as PNG)": 1,
    }  # fmt: skip
    assert pack([str(tmp_path), str(tmp_path / "out.h5"), "--image-size", "32"]) == 0
    assert "left out    2 with the ending .heic (pip install pillow-heif)" in capsys.readouterr().out
    for path in tmp_path.glob("*.png"):
        path.unlink()
    with pytest.raises(UserError, match=r"no image in this folder that can be read; .*2 with the ending .heic \(pip install pillow-heif\)"):
        check_source(tmp_path, image_size=32, channels=3)


def test_what_is_nobody_s_picture(tmp_path):
    photos(tmp_path)
    for name in (".hidden", "__MACOSX", "@eaDir", "$RECYCLE.BIN"):
        photos(tmp_path / name)
    for name in ("._p0.png", "Thumbs.db", ".DS_Store"):
        shutil.copy(tmp_path / "p0.png", tmp_path / name)
    assert len(list_images(tmp_path)) == len(list_files([str(tmp_path)])) == 3


def test_this_program_s_runs_are_not_trained_on(tmp_path):
    photos(tmp_path)
    run = photos(tmp_path / "runs" / "one" / "samples").parent
    assert len(list_images(tmp_path)) == 6
    (run / "config.json").write_text("{}")
    (run / "metrics.jsonl").write_text("")
    assert len(list_images(tmp_path)) == 3


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="needs a folder that this user may not open")
def test_closed_folders_are_counted(tmp_path):
    photos(tmp_path)
    photos(tmp_path / "closed").chmod(0)
    try:
        assert load(tmp_path).left_out == {"no right to be opened: folders": 1}
    finally:
        (tmp_path / "closed").chmod(0o700)


def test_a_folder_that_fails_to_list_is_counted(tmp_path, monkeypatch):
    photos(tmp_path)
    photos(tmp_path / "closed")
    real = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: real(path) if "closed" not in str(path) else (_ for _ in ()).throw(PermissionError()))
    assert walk(tmp_path).others == {"no right to be opened: folders": 1}


def test_a_tree_deeper_than_python_s_stack(tmp_path):
    photos(tmp_path / "/".join("d" * 400))
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(300)
    try:
        assert len(list_images(tmp_path)) == 3
    finally:
        sys.setrecursionlimit(limit)


def test_facts_are_json(tmp_path):
    photos(tmp_path)
    assert json.loads(json.dumps(load(tmp_path).preprocessing))["left_out"] == {}


@pytest.mark.parametrize("name", ["img_align_celeba", "lfw", "stl10_binary", "cifar-10-batches-py", "raw", "photos"])
def test_a_closed_folder_of_any_name_is_counted(tmp_path, monkeypatch, name):
    photos(tmp_path)
    photos(tmp_path / name)
    real = os.scandir

    def scandir(path):
        if name in str(path).removeprefix(str(tmp_path)):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert load(tmp_path).left_out == {"no right to be opened: folders": 1}
