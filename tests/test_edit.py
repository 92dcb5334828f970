"""The edit command: what it decodes, what it writes, which checkpoint it takes, and the one-line errors."""

from __future__ import annotations

import os

import numpy as np
import pytest
from app_case import TINY, call, one_line, tree, write_tiny
from PIL import Image

import vaegan_kernels
from vaegan_kernels import attribute_vectors as command
from vaegan_kernels import edit
from vaegan_kernels.measures import attribute_vectors
from vaegan_kernels.pictures.labelled_grid import labelled_grid, shortened, wrap
from vaegan_kernels.train import main

PLAIN = ("--steps", 2, "--no-animation", "--no-curves", "--quiet", "--threads", 1, *TINY)
ONE = ("--threads", 1)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A folder with runs/: one with vectors, one without, a conditional one, a gan; and photos."""
    home = tmp_path_factory.mktemp("home")
    (home / "runs").mkdir()
    packed = write_tiny(home / "tiny.h5")
    for name, flags in (("plain", ()), ("given", ("--conditional",)), ("gan", ("--model", "gan"))):
        assert call(main, "--data", packed, "--out", home / "runs" / name, *flags, *PLAIN) == 0
    for name in ("old", "new"):
        (home / "runs" / name).mkdir()
        (home / "runs" / name / "checkpoint.h5").write_bytes((home / "runs" / "plain" / "checkpoint.h5").read_bytes())
        assert call(command.main, home / "runs" / name, "--quiet") == 0
    for age, name in enumerate(("plain", "given", "gan", "new", "old")):
        os.utime(home / "runs" / name / "checkpoint.h5", (10**9 - age, 10**9 - age))
    (home / "runs" / "broken").mkdir()
    (home / "runs" / "broken" / "checkpoint.h5").write_bytes(b"nothing")
    random = np.random.default_rng(4)
    for name, size in (("a.png", (40, 32)), ("b.png", (32, 50))):
        Image.fromarray(random.integers(0, 256, (*size, 3), dtype=np.uint8)).save(home / name)
    (home / "bad.png").write_bytes(b"nothing")
    return home


@pytest.fixture
def seen(monkeypatch):
    """What `side_by_side` is given."""
    rows, own = [], edit.side_by_side
    monkeypatch.setattr(edit, "side_by_side", lambda *given: rows.append(given) or own(*given))
    return rows


def test_it_decodes_z_plus_the_vectors(home, tmp_path, monkeypatch, capfd, seen):
    monkeypatch.chdir(home)
    line = ("a.png", "b.png", "--add", "Big", "--remove", "Red", "--strength", 4, *ONE)
    for extra in ((), ("--mean",), ("--seed", 5)):
        assert call(edit.main, *line, *extra, "--out", tmp_path / "e.png", "--overwrite") == 0
    assert "runs/new: the newest run with attribute vectors" in capfd.readouterr().out
    model, vectors = vaegan_kernels.load_model("runs/new", threads=1), attribute_vectors.load("runs/new")
    for (photos, rebuilt, edited, what), options in zip(seen, ({}, {"mean": True}, {"seed": 5}), strict=True):
        assert photos.shape == (2, 32, 32, 3) and what == "+Big -Red, strength 4"
        np.testing.assert_array_equal(rebuilt, model.reconstruct(photos, **options))
        z = model.latents(photos, **options)
        expected = model.decode(z + 4 * (vectors["Big"] - vectors["Red"]))
        assert np.linalg.norm(edited - expected) < 1e-4 * np.linalg.norm(expected) < 1e3 * np.linalg.norm(edited - rebuilt)
    assert not np.array_equal(seen[0][1], seen[1][1]) and not np.array_equal(seen[0][1], seen[2][1])
    np.testing.assert_array_equal(seen[0][0][0], np.asarray(Image.open("a.png"))[4:36], err_msg="the centred square")


def test_the_picture_has_three_columns_or_the_edited_alone(home, tmp_path, capfd):
    line = (home / "a.png", home / "b.png", "--add", "Big", "--checkpoint", home / "runs" / "new", *ONE)
    assert call(edit.main, *line, "--out", tmp_path / "e.png") == 0
    assert call(edit.main, *line, "--only", "--out", tmp_path / "o.png") == 0
    assert "newest" not in capfd.readouterr().out
    picture, alone = (np.asarray(Image.open(tmp_path / name)) for name in ("e.png", "o.png"))
    assert alone.shape == (192, 384, 3)
    height, width = picture.shape[:2]
    assert width > 3 * 192 and height > 2 * 192
    np.testing.assert_array_equal(picture[height - 14 - 192 : height - 14, width - 14 - 192 : width - 14], alone[:, 192:])
    photo = np.asarray(Image.open(home / "a.png"))[4:36]
    np.testing.assert_array_equal(picture[height - 14 - 388 : height - 14 - 196 : 6, 14 : 14 + 192 : 6], photo)


def test_a_conditional_model_is_given_other_attributes(home, tmp_path, monkeypatch, capfd, seen):
    monkeypatch.chdir(home)
    line = ("a.png", "--attributes", "Big=1", "--own", "Red=-1,Big=-1", *ONE, "--out", tmp_path / "e.png")
    assert call(edit.main, *line) == 0
    assert "runs/given: the newest run with a conditional model" in capfd.readouterr().out
    photos, rebuilt, edited, _ = seen[0]
    model = vaegan_kernels.load_model("runs/given", threads=1)
    has = np.array([[-1.0, -1.0]])
    z = model.latents(photos, attributes=has)
    np.testing.assert_array_equal(rebuilt, model.reconstruct(photos, attributes=has))
    np.testing.assert_array_equal(edited, model.decode(z, np.array([[1.0, -1.0]])))
    assert call(edit.main, "a.png", "--attributes", "Big=1", *ONE, "--out", tmp_path / "f.png") == 0
    np.testing.assert_array_equal(seen[1][1], model.reconstruct(photos, attributes=model.mean_attributes()[None]))


BAD = {
    "nothing": (["a.png"], "nothing to change"),
    "unknown": (["a.png", "--add", "Bgi"], "did you mean Big?"),
    "twice": (["a.png", "--add", "Big", "--remove", "Big"], "given twice"),
    "no vectors": (["a.png", "--add", "Big", "--checkpoint", "runs/plain"], "make them with: python -m vaegan_kernels.attribute_vectors"),
    "gan": (["a.png", "--add", "Big", "--checkpoint", "runs/gan"], "gan has no encoder"),
    "conditional": (["a.png", "--add", "Big", "--checkpoint", "runs/given"], "give --attributes NAME=1"),
    "not conditional": (["a.png", "--attributes", "Big=1", "--checkpoint", "runs/new"], "give --add NAME"),
    "both": (["a.png", "--attributes", "Big=1", "--add", "Big"], "give one kind"),
    "unknown given": (["a.png", "--attributes", "Bgi=1", "--checkpoint", "runs/given"], "did you mean Big?"),
    "strength": (["a.png", "--add", "Big", "--strength", "inf"], "--strength: got 'inf'"),
    "no photo": (["none.png", "--add", "Big"], "none.png: no such file"),
    "bad photo": (["bad.png", "--add", "Big"], "bad.png: not a readable image"),
    "suffix": (["a.png", "--add", "Big", "--out", "x.txt"], "--out"),
    "exists": (["a.png", "--add", "Big", "--out", "b.png"], "--overwrite"),
    "no checkpoint": (["a.png", "--add", "Big", "--checkpoint", "runs/none"], "no such checkpoint"),
    "broken": (["a.png", "--add", "Big", "--checkpoint", "runs/broken"], "not an HDF5 file"),
    "seed": (["a.png", "--add", "Big", "--seed", "-1"], "--seed"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name, home, monkeypatch, capfd):
    words, expected = BAD[name]
    monkeypatch.chdir(home)
    before = tree(home)
    assert call(edit.main, *words) == 2
    assert expected in one_line(capfd.readouterr().err)
    assert tree(home) == before


def test_no_run_that_can_do_it(home, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    for words, expected in ((("--add", "Big"), "make them with"), (("--attributes", "Big=1"), "--conditional")):
        assert call(edit.main, home / "a.png", *words) == 2
        assert expected in one_line(capfd.readouterr().err)
    assert tree(tmp_path) == {}


def test_a_labelled_grid_puts_images_and_texts_apart(rng):
    """Every image is where it belongs, whole; nothing is written over one; a text that is too long is cut off, not laid over the next."""
    images = rng.integers(0, 100, (6, 32, 32, 3), dtype=np.uint8)
    options = {"title": "A title that is longer than the picture is wide, by far", "note": "a note", "beside": 60}
    rows = ["word " * 80, "short"]
    picture = np.asarray(
        labelled_grid(images, ["one", "a long name", "Unbreakablename"], rows, gaps=[1], heads=[(1, 2, "both")], **options)
    )
    dark = picture.max(axis=2) < 240
    found = []
    for image in images:
        large = image.repeat(3, axis=0).repeat(3, axis=1)
        corners = np.argwhere((picture == large[0, 0]).all(axis=2))
        places = [(y, x) for y, x in corners if np.array_equal(picture[y : y + 96, x : x + 96], large)]
        assert places
        found.append(places[0])
    assert [y for y, _ in found] == sorted(y for y, _ in found) and found[0][0] == found[2][0] < found[3][0]
    assert found[0][1] < found[1][1] < found[2][1] and found[0][1] == found[3][1]
    text = dark[found[0][0] - 3 : found[0][0] + 200, : found[0][1] - 9]
    lines = np.flatnonzero(text.any(axis=1))
    assert len(lines) and lines.min() >= 3 and not text[99 : 99 + 3].any(), "the long text ends above the next row"
    assert not dark[:, -4:].any() and not dark[:, :10].any()


def test_wrapping():
    words = ["Mouth", "Slightly", "Open", "and", "some", "more", "words", "of", "several", "lengths"]
    for width in (60, 90, 140):
        lines = wrap(" ".join(words), width)
        assert " ".join(lines) == " ".join(words) and len(lines) > 1 and all(len(wrap(line, width)) == 1 for line in lines)
        assert all(len(wrap(f"{a} {b.split()[0]}", width)) == 2 for a, b in zip(lines, lines[1:], strict=False)), "lines are filled"
    assert wrap("Unbreakable", 10) == ["Unbreakable"] and wrap("", 10) == []
    assert shortened(["a", "b", "c"], 2) == ["a", "b …"] and shortened(["a"], 0) == ["a"]
