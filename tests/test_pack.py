"""The pack command: what it prints and writes, and one line for each thing that is wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from vaegan_kernels import pack
from vaegan_kernels.data import read_packed
from vaegan_kernels.shell.errors import UserError

ROOT = str(Path(__file__).resolve().parents[1])


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(5):
        Image.new("RGB", (20, 30), (40 * i, 90, 90)).save(folder / f"{i}.png")
    (folder / "broken.jpg").write_text("no picture")
    return folder


def test_packs_and_says_what(pictures, tmp_path, capsys):
    out = tmp_path / "made" / "out.h5"
    assert pack.main([str(pictures), str(out), "--image-size", "32", "--channels", "1"]) == 0
    printed = capsys.readouterr()
    assert "packed      5 images of 32 x 32 x 1" in printed.out
    assert "skipped     1" in printed.out
    assert "attributes  none" in printed.out
    assert "decoding: 6 of 6" in printed.err
    data = read_packed(out)
    assert data.images.shape == (5, 32, 32, 1)
    assert data.skipped == 1


def test_packs_built_in_faces_and_packed_files(tmp_path, capsys):
    first, second = str(tmp_path / "a.h5"), str(tmp_path / "b.h5")
    pack.main(["faces", first, "--image-size", "32", "--limit", "60"])
    pack.main([first, second, "--image-size", "32", "--limit", "20"])
    assert "Eyeglasses" in capsys.readouterr().out
    assert len(read_packed(second)) == 20


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--image-size", "4"], "image size: got 4"),
        (["--channels", "2"], "channels: got 2"),
        (["--limit", "0"], "limit: got 0"),
        (["--workers", "0"], "--workers: got 0"),
    ],
)
def test_wrong_numbers(pictures, tmp_path, arguments, expected):
    with pytest.raises(UserError, match=expected):
        pack.main([str(pictures), str(tmp_path / "out.h5"), *arguments])
    assert not (tmp_path / "out.h5").exists()


def test_existing_output_is_kept_unless_told(pictures, tmp_path):
    out = tmp_path / "out.h5"
    out.write_text("precious")
    with pytest.raises(UserError, match="exists already.*--overwrite"):
        pack.main([str(pictures), str(out)])
    assert out.read_text() == "precious"
    pack.main([str(pictures), str(out), "--overwrite", "--image-size", "16"])
    assert len(read_packed(out)) == 5


def test_output_is_checked_before_decoding(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(pack, "plan_of", lambda *a, **k: pytest.fail("decoded first"))
    with pytest.raises(UserError, match="is a folder"):
        pack.main([str(pictures), str(tmp_path)])
    with pytest.raises(UserError, match="cannot be written"):
        pack.main([str(pictures), str(pictures / "0.png" / "out.h5")])


@pytest.mark.parametrize("arguments", [["nowhere", "out.h5"], [], ["a", "b", "--image-size", "big"], ["a", "b", "--colour"]])
def test_errors_are_one_line(tmp_path, arguments):
    command = [sys.executable, "-m", "vaegan_kernels.pack", *arguments]
    result = subprocess.run(command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": ROOT}, capture_output=True, text=True, timeout=60)
    assert result.returncode == 2
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
