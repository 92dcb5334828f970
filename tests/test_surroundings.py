"""What surrounds a run must not end it: displays, fonts, names, what fails to be drawn, runs that are started at once."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from app_case import ROOT, TINY, call, environment, write_tiny
from PIL import Image

from vaegan_kernels import train
from vaegan_kernels.data import check_source
from vaegan_kernels.pictures import figures
from vaegan_kernels.pictures.labelled_grid import labelled_grid
from vaegan_kernels.pictures.overlaid import write_overlaid
from vaegan_kernels.runs.run_folder import claim, fresh_folder
from vaegan_kernels.shell.errors import UserError

ODD = ("a$b_{x$", "日本 العربية", "name\udcff", "a\nb", "\\frac{$", "")
METRICS = [{"step": k, "gan_real": 0.5, "gan_generated": 0.6, "like": 1.0 + k, "prior": 2.0} for k in range(5)]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("data") / "discs.h5")


def sound(path):
    with Image.open(path) as picture:
        picture.load()
        assert picture.width > 100
    return True


@pytest.mark.parametrize("title", ODD)
def test_any_text_is_drawn(tmp_path, title):
    figures.write_curves(METRICS, tmp_path / "curves.png", title)
    assert write_overlaid([(title, METRICS), ("other", METRICS)], tmp_path / "both.png")
    assert sound(tmp_path / "curves.png") and sound(tmp_path / "both.png")
    images = np.zeros((4, 32, 32, 3), np.uint8)
    figures.grid(images, 2, title, title, [title, title]).save(tmp_path / "grid.png")
    labelled_grid(images, [title, "b"], [title, "d"], title=title, note=title).save(tmp_path / "labelled.png")


@pytest.mark.parametrize("backend", ["module://matplotlib_inline.backend_inline", "TkAgg", "no such backend"])
def test_the_backend_of_a_notebook_is_not_asked_for(tmp_path, backend):
    code = "import os, pathlib\nfrom vaegan_kernels.pictures.figures import write_curves\n"
    code += f"write_curves({METRICS}, pathlib.Path('c.png'), 't')\nprint(os.environ['MPLBACKEND'])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**environment(), "MPLBACKEND": backend},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and done.stdout.strip() == backend, done.stderr[-2000:]
    assert sound(tmp_path / "c.png")


@pytest.mark.parametrize("part", ["grid", "write_curves", "write_animation"])
def test_what_cannot_be_drawn_does_not_end_a_run(tmp_path, data, monkeypatch, capsys, part):
    def fail(*_, **__):
        raise ValueError("no such\nfont")

    monkeypatch.setattr(figures, part, fail)
    assert call(train.main, "--data", data, "--out", tmp_path / "run", *TINY, "--steps", 4, "--draw-every", 1, "--save-every", 2) == 0
    out = capsys.readouterr()
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["step"] == 4 and (tmp_path / "run" / "checkpoint.h5").exists()
    assert (out.out + out.err).count(
        "a picture is not drawn (ValueError: no such font); the run goes on"
    ) >= 1 and "Traceback" not in out.err


def test_runs_that_start_at_once_have_a_folder_each(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: claim(lambda: fresh_folder("n", "p", "d", tmp_path / "runs")), range(8)))
    assert len(set(found)) == 8 and all(path.is_dir() for path in found)


def test_two_default_runs_at_once(tmp_path, data):
    command = [sys.executable, "-m", "vaegan_kernels.train", "--data", str(data), *TINY, "--steps", "2", "--threads", "1"]
    both = [
        subprocess.Popen(command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for one in both:
        out, err = one.communicate(timeout=120)
        assert one.returncode == 0, out + err
    names = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert names == [f"small32-quick-discs.h5-{k:03d}" for k in (1, 2)]
    assert all((tmp_path / "runs" / name / "summary.json").exists() for name in names)


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_outputs(tmp_path, data, closed):
    """As under a service that gives none: the run goes on, and no file of its own takes the place of an output."""
    words = f"{sys.executable} -m vaegan_kernels.train --data {data} {' '.join(TINY)} --steps 2 --threads 1 --out run {closed}"
    done = subprocess.run(["sh", "-c", words], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["step"] == 2
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert all(json.loads(line)["step"] for line in lines)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_consoles_of_other_encodings(tmp_path, data, encoding):
    command = [
        sys.executable,
        "-m",
        "vaegan_kernels.train",
        "--data",
        str(data),
        *TINY,
        "--steps",
        "2",
        "--threads",
        "1",
        "--out",
        "öl 日本",
    ]
    env = {**environment(), "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0 and b"Traceback" not in done.stderr, done.stderr
    assert (tmp_path / "öl 日本" / "summary.json").exists()


def test_an_empty_data_is_no_folder():
    with pytest.raises(UserError, match="--data: got an empty text"):
        check_source("", image_size=32, channels=3)
    assert ROOT.is_dir()


def test_hints_can_be_copied(tmp_path, data, capsys):
    out = tmp_path / "my runs" / "it's one"
    assert call(train.main, "--data", data, "--out", out, *TINY, "--steps", 4, "--stop-after", 1) == 0
    (hint,) = [line for line in capsys.readouterr().out.splitlines() if "--resume" in line]
    words = shlex.split(hint.split("resume with: ")[1])
    assert words == ["python", "-m", "vaegan_kernels.train", "--resume", str(out)]
