"""Pictures that are given to the commands that use a model: folders, what a shell makes of *, what no picture is."""

from __future__ import annotations

import shutil

import pytest
from app_case import call, one_line
from test_data_as_found import photos

from vaegan_kernels import edit, evaluate, interpolate, reconstruct
from vaegan_kernels.data import kinds


@pytest.fixture(autouse=True)
def without_heif(monkeypatch):
    monkeypatch.setattr(kinds, "find_spec", lambda name: None)
    kinds.formats.cache_clear(), kinds.endings.cache_clear()


def from_a_shell(folder):
    """What a shell makes of ``folder/*``: two photos and what lies beside them."""
    photos(folder, 2)
    photos(folder / "__MACOSX", 1)
    shutil.copy(folder / "p0.png", folder / "no ending")
    (folder / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    (folder / "._p0.png").write_bytes(b"\0\5\x16\7")
    (folder / "cut.jpg").write_bytes(b"\xff\xd8\xff")
    (folder / "c.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    return sorted(map(str, folder.iterdir()))


@pytest.mark.parametrize("given", ["the folder", "its files"])
@pytest.mark.parametrize("main, words", [
    (reconstruct.main, ("faces", "--images", "PHOTOS")), (edit.main, ("PHOTOS", "--add", "Smiling", "--checkpoint", "faces")),
])  # fmt: skip
def test_photos_of_every_command(tmp_path, capsys, main, words, given):
    files = from_a_shell(tmp_path / "photos")
    places = [str(tmp_path / "photos")] if given == "the folder" else files
    line = [one for word in words for one in (places if word == "PHOTOS" else [word])]
    assert call(main, *line, "--out", tmp_path / "out.png", "--engine", "numpy") == 0
    out, err = capsys.readouterr()
    assert out.startswith("3 ") and "cut.jpg: not a readable image" in err and "c.heic" in err + "c.heic" * (given == "the folder")
    assert "pip install pillow-heif" in err and "Thumbs" not in err and "._p0" not in err and "Traceback" not in err


@pytest.mark.parametrize("words, expected", [
    ("--from {x}/photos --to 1", "--from: got a folder, expected an image file"),
    ("--from {x}/photos/c.heic --to 1", "c.heic: not a readable image: it has the ending .heic (pip install pillow-heif)"),
    ("--from {x}/photos/cut.jpg --to 1", "cut.jpg: not a readable image ("),
])  # fmt: skip
def test_an_end_that_is_no_picture(tmp_path, capsys, words, expected):
    from_a_shell(tmp_path / "photos")
    line = words.format(x=tmp_path).split()
    assert call(interpolate.main, "faces", *line, "--out", tmp_path / "w.png", "--engine", "numpy") == 2
    assert expected in one_line(capsys.readouterr().err) and not (tmp_path / "w.png").exists()


def test_data_of_a_measure(tmp_path, capsys):
    from_a_shell(tmp_path / "photos")
    assert call(evaluate.main, "faces", "--data", tmp_path / "photos", "--out", tmp_path / "e.json", "--engine", "numpy") == 0
    err = capsys.readouterr().err
    assert "1 unreadable skipped" in err and "1 with" in err and ".heic" in err
