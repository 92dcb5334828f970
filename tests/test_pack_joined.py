"""Packing several sources into one file: splits, attributes, labels, names; what is refused; going on after a kill."""

from __future__ import annotations

import numpy as np
import pytest
from app_case import call, one_line, tree
from packing_case import Killed, flush_often, kill_at, packed, write_pictures

from vaegan_kernels import pack
from vaegan_kernels.data import load_dataset, read_packed


@pytest.fixture
def pictures(tmp_path):
    return write_pictures(tmp_path / "pictures", broken=(0, 7, 8, 39))


@pytest.fixture
def often(monkeypatch):
    flush_often(monkeypatch)


def test_several_sources_in_one_file(pictures, tmp_path, capsys):
    a = packed(tmp_path / "a.h5", ("Old", "Bald", "Round"), skipped=2)
    b = packed(tmp_path / "bb.h5", ("Round", "Bald", "Red"), kind=np.float32, preprocessing={"left_out": {"none": 3}})
    assert call(pack.main, tmp_path / "a.h5", tmp_path / "bb.h5", tmp_path / "ab.h5", "--image-size", "16") == 0
    printed = capsys.readouterr().out
    assert "packed file: 5 images in" in printed and "not kept    attributes that not all sources have: Old, Red" in printed
    found = read_packed(tmp_path / "ab.h5")
    assert found.name == "a + bb" and found.skipped == 2 and found.left_out == {"none": 3}
    assert [source["name"] for source in found.preprocessing["sources"]] == ["a", "bb"]
    assert np.array_equal(found.images, np.concatenate([a.images, b.images])) and found.splits.tolist() == [0, 1, 2, 0, 0] * 2
    assert found.attribute_names == ("Bald", "Round") and found.attributes.dtype == np.float32
    assert np.array_equal(found.attributes_of(("Round",)), np.concatenate([a.attributes_of(("Round",)), b.attributes_of(("Round",))]))
    words = (pictures, tmp_path / "a.h5", tmp_path / "three.h5", "--image-size", "16", "--limit", "30")
    assert call(pack.main, *words) == 0
    found = read_packed(tmp_path / "three.h5")
    assert found.attributes is None and found.skipped >= 2 and 26 <= len(found) <= 30 and set(found.splits) == {0, 1, 2}


def test_joined_sources_go_on_too(pictures, tmp_path, often, monkeypatch):
    more = write_pictures(tmp_path / "more", 11, broken=(3,))
    words = [str(word) for word in (more, pictures, tmp_path / "out.h5", "--image-size", "16")]
    pack.main(words)
    whole = (tmp_path / "out.h5").read_bytes()
    for moment in (3, 7, 11, 20):
        (tmp_path / "out.h5").unlink()
        with monkeypatch.context() as patch, pytest.raises(Killed):
            kill_at(patch, moment)
            pack.main(words)
        pack.main(words)
        assert (tmp_path / "out.h5").read_bytes() == whole
    one, other = (load_dataset(folder, image_size=16, channels=3, cache_dir=False) for folder in (more, pictures))
    found = read_packed(tmp_path / "out.h5")
    assert np.array_equal(found.images, np.concatenate([one.images, other.images])) and found.skipped == 5
    assert found.splits.tolist() == [*one.splits, *other.splits], "a picture keeps its split"


@pytest.mark.parametrize(
    ("first", "second", "labels", "names"),
    [
        (([0, 1, -1, 0, 1], ("cat", "dog")), ([1, 0, 0, 1, -1], ("dog", "eel")), [0, 1, -1, 0, 1, 2, 1, 1, 2, -1], ("cat", "dog", "eel")),
        (([0, 1, -1, 0, 1], ("cat", "dog")), (None, ()), [0, 1, -1, 0, 1, -1, -1, -1, -1, -1], ("cat", "dog")),
        (([0, 1, 2, 3, 4], ()), ([0, 1, 2, 3, 9], ()), [0, 1, 2, 3, 4, 0, 1, 2, 3, 9], ()),
        (([0, 1, 2, 3, 4], ()), ([1, 0, 0, 1, -1], ("dog", "eel")), None, ()),
        (([0, 1, 2, 3, 4], ()), (None, ()), None, ()),
    ],
)
def test_labels_of_several_sources(tmp_path, capsys, first, second, labels, names):
    packed(tmp_path / "a.h5", (), *first)
    packed(tmp_path / "b.h5", (), *second)
    assert call(pack.main, tmp_path / "a.h5", tmp_path / "b.h5", tmp_path / "ab.h5", "--image-size", "16") == 0
    found = read_packed(tmp_path / "ab.h5")
    assert (None if found.labels is None else found.labels.tolist()) == labels and found.label_names == names
    assert ("not kept    labels" in capsys.readouterr().out) == (labels is None)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["{0}"], "missing argument: OUT.h5"),
        (["{0}", "{0}/../pictures", "{1}"], "is given twice"),
        (["{0}", "{1}", "{1}", "--overwrite"], "is a source too"),
        (["{0}", "{1}/nowhere", "{1}"], "no such file"),
        (["{0}", "faces", "{1}", "--landmarks", "x"], "--landmarks"),
        (["--verify", "{0}"], "no such file"),
    ],
)
def test_bad_words_are_one_line_and_write_nothing(pictures, tmp_path, capsys, words, expected):
    before = tree(tmp_path)
    assert call(pack.main, *(word.format(pictures, tmp_path / "out.h5") for word in words)) == 2
    assert expected in one_line(capsys.readouterr().err)
    assert tree(tmp_path) == before
