"""Every command of README and task pages (fenced as ``sh``) runs, in the page's order, on small data, in few steps."""

from __future__ import annotations

import importlib
import re
import shlex

import numpy as np
import pytest
from app_case import ROOT, call
from data_case import tar_of, write_cifar, write_idx, write_stl
from lfw_case import KEYS, moved_shapes, write_faces
from PIL import Image

from kernels.cache import cache_folder

PAGES = ("README", *(f"docs/{name}" for name in ("photos", "gamma", "curves", "collapse", "gpu", "export", "data", "native")))
FEW = {"--steps": "3", "--epochs": "1", "--stop-after": "2", "--batch-size": "4", "--count": "4", "--tune-steps": "2"}


def commands(page):
    """The lines of the page's ``sh`` blocks, split into words, continuation lines joined: the module, then its arguments."""
    text = (ROOT / f"{page}.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [module_form(shlex.split(line, comments=True)) for line in lines if line.strip()]


def module_form(words):
    """``vaegan experiments walk …`` and ``python -m vaegan_kernels.experiments.walk …`` as the module and its arguments."""
    if words[0] == "vaegan":
        count = 3 if words[1] == "experiments" else 2
        return [".".join(["vaegan_kernels", *words[1:count]]), *words[count:]]
    assert words[:2] == ["python", "-m"], words
    return words[2:]


def shortened(words):
    """The command with small numbers of steps and images, whatever the page says."""
    words = [FEW.get(before, word) if before else word for before, word in zip([None, *words], words, strict=False)]
    if words[0] == "vaegan_kernels.train" and "--resume" not in words and "--config" not in words:
        words += [] if "--batch-size" in words else ["--batch-size", FEW["--batch-size"]]
        words += [] if "--steps" in words else ["--steps", FEW["--steps"]]
        words += [] if "--data" in words else ["--limit", "200"]
        words += ["--threads", "1"]
    return words


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """A folder ``photos`` of 48 pictures of several sizes, and no other place to read or write."""
    monkeypatch.chdir(tmp_path)
    built, cache = cache_folder("native"), tmp_path / "cache" / "vaegan-kernels"
    cache.mkdir(parents=True)
    (cache / "native").symlink_to(built)  # the CPU's kernels need not be compiled for each page
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder, random = tmp_path / "photos", np.random.default_rng(0)
    folder.mkdir()
    for name in ["one", "two", *(f"picture{i:02}" for i in range(46))]:
        small = Image.fromarray(random.integers(0, 256, (5, 5, 3), np.uint8))
        small.resize(tuple(int(n) for n in random.integers(40, 90, 2))).save(folder / f"{name}.jpg")
    return folder


@pytest.fixture
def official(photos, tmp_path):
    """Beside the photos the data sets that docs/data.md names, tiny, each where its commands look for it."""
    tar_of(write_cifar(tmp_path / "made", "py")[0], tmp_path / "cifar-10-python.tar.gz")
    tar_of(write_stl(tmp_path / "made")[0], tmp_path / "stl10_binary.tar.gz")
    write_idx(tmp_path / "fashion-mnist", packed=True)
    (tmp_path / "lfw").mkdir()
    write_faces(tmp_path / "lfw", list(moved_shapes(len(KEYS))), range(0, 68, 9)).rename(tmp_path / "landmarks.txt")


@pytest.mark.parametrize("page", PAGES)
def test_commands_of_a_page(page, photos, official, capfd):
    found = commands(page)
    assert found, f"{page}.md: no block fenced as sh"
    for words in found:
        module, *arguments = shortened(words)
        module = "vaegan_kernels.portable.import_model" if module == "vaegan_kernels.import" else module  # the command's name is a keyword
        code = call(importlib.import_module(module).main, *arguments)
        captured = capfd.readouterr()
        assert code == 0, f"{shlex.join(words)}: {captured.err}"


def test_python_of_the_export_page(photos, monkeypatch, capfd):
    """Its snippets run in the export's folder, one after the other."""
    assert call(importlib.import_module("vaegan_kernels.train").main, *shortened(["vaegan_kernels.train", "--out", "run"])[1:]) == 0
    assert call(importlib.import_module("vaegan_kernels.export").main, "run") == 0
    monkeypatch.chdir("exported")
    monkeypatch.syspath_prepend(".")
    text = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
    snippets = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert len(snippets) == 3
    found = {}
    for snippet in snippets:
        exec(compile(snippet, "docs/export.md", "exec"), found)
    assert found["pictures"].shape == (16, 3, 32, 32) and found["metric"].shape == (16, 48, 8, 8)
    assert found["images"].shape == (16, 3, 32, 32) and found["probability"].shape == (16,)
    assert found["weight"].shape == (3, 16, 5, 5) and found["sizes"]["latent"] == 128


def test_the_extras_that_are_named_can_be_installed():
    """From a clone: the project is in no package index."""
    there = set(
        re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(encoding="utf-8").partition("optional-dependencies]")[2], re.M)
    )
    files = [*ROOT.glob("*.md"), *(path for part in ("docs", "bench", "kernels", "vaegan_kernels") for path in (ROOT / part).rglob("*"))]
    texts = {path: path.read_text(encoding="utf-8") for path in files if path.suffix in (".md", ".py")}
    assert not [path for path, text in texts.items() if "vaegan-kernels[" in text]
    named = {name for text in texts.values() for names in re.findall(r"install [^\n`]*'\.\[([\w,]+)\]'", text) for name in names.split(",")}
    assert {"cuda12", "cuda13", "mpi", "export"} <= named <= there
