"""The experiments: runs that are trained once, resume after a signal and refuse other settings; figures, tables and the report."""

from __future__ import annotations

import json
import signal

import numpy as np
import pytest
from app_case import assert_same_run, call, one_line, tree, write_tiny
from PIL import Image

from vaegan_kernels.experiments import common, reconstructions, report, samples, tables, walk
from vaegan_kernels.experiments.results import read_json
from vaegan_kernels.files import plain, write_json
from vaegan_kernels.runs.trainer import Trainer
from vaegan_kernels.shell.errors import UserError

FLAGS = ("--steps", "2", "--batch-size", "4", "--device", "cpu", "--threads", "1", "--quiet")
PLAIN = ("--", "--no-curves", "--no-animation", "--draw-every", "100", "--save-every", "100", "--log-every", "1")  # nothing that takes time


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A tiny packed data set."""
    return write_tiny(tmp_path_factory.mktemp("data") / "discs.h5")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data):
    """An experiment's folder in which samples has trained the four systems."""
    out = tmp_path_factory.mktemp("experiment") / "out"
    assert call(samples.main, "--data", data, "--out", out, *FLAGS, "--rows", "2", "--columns", "3", *PLAIN) == 0
    return out


def stop_at(monkeypatch, step):
    """Send Ctrl-C to this process in the given step of any training, once."""
    own, sent = Trainer.train_step, []

    def train_step(trainer):
        own(trainer)
        if trainer.step == step and not sent:
            sent.append(step)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Trainer, "train_step", train_step)
    return sent


def test_samples_trains_what_it_needs_and_draws(trained):
    assert sorted(path.name for path in (trained / "runs").iterdir()) == ["gan-seed0", "vae-dis-seed0", "vae-seed0", "vaegan-seed0"]
    config = json.loads((trained / "runs" / "vae-dis-seed0" / "config.json").read_text())
    assert config["gan"].endswith("gan-seed0") and config["steps"] == 2
    with Image.open(trained / "samples.png") as picture:
        picture.load()
        assert picture.size[1] > 8 * 96  # four blocks of two rows


def test_finished_runs_are_not_trained_again(trained, data, monkeypatch):
    monkeypatch.setattr(Trainer, "train_step", lambda self: pytest.fail("trained again"))
    before = tree(trained / "runs")
    assert call(samples.main, "--data", data, "--out", trained, *FLAGS, "--rows", "1") == 0
    assert call(reconstructions.main, "--data", data, "--out", trained, *FLAGS, "--count", "5", "--no-originals") == 0
    assert tree(trained / "runs") == before


@pytest.mark.parametrize(
    ("change", "word"),
    [(("--steps", "3"), "--steps 2, asked for is 3"), (("--batch-size", "5"), "--batch-size 4"), (("--", "--gamma", "0.5"), "--gamma")],
)
def test_other_settings_are_refused_in_one_line(trained, data, capsys, change, word):
    before = tree(trained)
    assert call(samples.main, "--data", data, "--out", trained, *FLAGS, *change) == 2
    assert word in one_line(capsys.readouterr().err)
    assert tree(trained) == before


def test_other_data_is_refused(trained, tmp_path, capsys):
    other = write_tiny(tmp_path / "others.h5", seed=1)
    assert call(samples.main, "--data", other, "--out", trained, *FLAGS) == 2
    assert "--data" in one_line(capsys.readouterr().err)


def test_a_stopped_experiment_goes_on_with_the_same_command(tmp_path, data, monkeypatch, capsys):
    command = ("--data", data, *FLAGS[:1], "4", *FLAGS[2:], "--systems", "vae,gan", "--rows", "1", *PLAIN)
    with monkeypatch.context() as patch:
        sent = stop_at(patch, 2)
        assert call(samples.main, "--out", tmp_path / "stopped", *command) == 130
        assert sent == [2] and "run the same command again" in capsys.readouterr().out
    stopped = tmp_path / "stopped" / "runs" / "vae-seed0"
    assert not common.finished(stopped) and not (tmp_path / "stopped" / "samples.png").exists()
    assert call(samples.main, "--out", tmp_path / "stopped", *command) == 0
    assert common.finished(stopped) and (tmp_path / "stopped" / "samples.png").exists()
    flags = common.as_flags({"data": data, "steps": 4, "batch_size": 4, "device": "cpu", "threads": 1})
    flags += PLAIN[1:]
    straight = common.ensure_run(tmp_path / "straight", system="vae", flags=flags, quiet=True)
    assert_same_run(stopped, straight)


def test_a_folder_that_moved_goes_on(trained, data, tmp_path):
    moved = tmp_path / "elsewhere" / data.name
    moved.parent.mkdir()
    moved.write_bytes(data.read_bytes())
    words = common.run_flags("vae", False, 0, ["--data", str(moved), "--steps", "2", "--batch-size", "4"], {})
    assert common.run_state(trained / "runs" / "vae-seed0", words) == "finished"
    words[words.index(str(moved))] = str(moved.with_name("others.h5"))
    with pytest.raises(UserError, match="--data"):
        common.run_state(trained / "runs" / "vae-seed0", words)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--steps", "0"), "--steps"),
        (("--network", "small23"), "did you mean small32"),
        (("--systems", "vae,van"), "did you mean"),
        (("--systems", "vae,vae"), "each once"),
        (("--data", "/nowhere.h5"), "nowhere.h5"),
        (("--", "--seed", "3"), "--seed after --"),
        (("--", "--gama", "3"), "--gama"),
    ],
)
def test_bad_flags_are_one_line_and_write_nothing(tmp_path, data, capsys, words, expected):
    assert call(samples.main, "--data", data, "--out", tmp_path / "out", *words) == 2
    assert expected in one_line(capsys.readouterr().err)
    assert tree(tmp_path) == {} or not list((tmp_path / "out").iterdir())


def test_reconstructions_without_originals_has_no_real_pixel(trained, data, monkeypatch):
    seen = []
    monkeypatch.setattr(reconstructions, "save_image", lambda out, picture: seen.append(np.asarray(picture)))
    for flag in ("--originals", "--no-originals"):
        assert call(reconstructions.main, "--data", data, "--out", trained, *FLAGS, "--count", "4", "--columns", "4", flag) == 0
    with_originals, without = seen
    assert with_originals.shape[0] - without.shape[0] == 100  # one row of images and its gap
    assert (with_originals[-without.shape[0] + 40 :, -400:] == without[40:, -400:]).all()


def test_walk_draws_loops(trained, data):
    assert call(walk.main, "--data", data, "--out", trained, *FLAGS, "--rows", "1", "--frames", "4") == 0
    for name, frames in (("images", 6), ("samples", 6), ("prior", 8)):
        with Image.open(trained / f"walk-{name}.gif") as animation:
            # Equal frames of an untrained model may be joined into one.
            assert 1 <= animation.n_frames <= frames and animation.info["loop"] == 0


def test_closed_walk_is_closed_smooth_and_stays_in_the_prior():
    z = walk.closed_walk(400, 32, 16, harmonics=3, seed=1)
    steps = np.linalg.norm(np.diff(np.concatenate([z, z[:, :1]], axis=1), axis=1), axis=2)
    assert steps.mean() < 0.35 * np.sqrt(2 * 16)  # independent draws would be about sqrt(2 L) apart
    assert steps.mean(axis=0).max() < 1.1 * steps.mean()  # the step from the last frame to the first is like any other
    assert np.abs(z.mean(axis=(0, 2))).max() < 0.05 and np.abs(z.var(axis=(0, 2)) - 1).max() < 0.1  # N(0, I) at every moment
    assert (walk.closed_walk(400, 32, 16, harmonics=3, seed=2) != z).all()


def test_strips_have_both_ends():
    ways = np.arange(2 * 9).reshape(2, 9, 1, 1, 1)
    assert walk.strips(ways, 3).ravel().tolist() == [0, 4, 8, 9, 13, 17]
    assert walk.strips(ways, 20).ravel().tolist() == list(range(18))


def test_bands_leave_out_an_incomplete_row_and_keep_the_places():
    series = np.arange(7, dtype=np.uint8)[:, None, None, None] * np.ones((1, 32, 32, 3), np.uint8)
    picture = np.asarray(reconstructions.bands([("a", series), ("b", series + 100)], 3, "t"))
    column = picture[:, -20, 0]
    values = [value for value, before in zip(column[1:], column, strict=False) if value != before and value != 250]
    assert values == [2, 102, 5, 105]


def test_numbers_and_spreads():
    assert [tables.number(x) for x in (0.0012345, 12.345, 1234.5, 0.0, None, float("nan"))] == ["0.00123", "12.3", "1,234", "0", "–", "–"]
    assert tables.spread([0.2, 0.22, 0.24]) == "0.220 ± 0.020"
    assert tables.spread([0.25, None]) == "0.250" and tables.spread([None]) == "–"


def test_json_has_plain_numbers(tmp_path):
    write_json(tmp_path / "a.json", {"a": np.float32(0.5), "b": (np.int64(2), float("nan")), "c": {"d": np.ones(2)}})
    assert read_json(tmp_path / "a.json") == {"a": 0.5, "b": [2, None], "c": {"d": [1.0, 1.0]}}
    assert plain({1: tmp_path}) == {"1": str(tmp_path)}


PAGE = """# Page
before
<!-- table: one -->
old
<!-- /table -->
between <!-- a comment -->
<!-- table: two -->
<!-- /table -->

after
"""


def test_report_inserts_tables_and_leaves_the_rest_alone(tmp_path, capsys):
    page, out = tmp_path / "page.md", tmp_path / "out"
    page.write_text(PAGE)
    out.mkdir()
    table = tables.markdown(["", "x"], [["a", "1"], ["b", "2"]])
    write_json(out / "some.json", {"command": "python -m x --data /home/me/faces", "tables": {"one": table, "elsewhere": "no place"}})
    write_json(out / "plan.json", {"steps": 2})
    for _ in range(2):  # a second time changes nothing
        assert call(report.main, out, "--page", page) == 0
        assert page.read_text() == PAGE.replace("old", table)
    assert "one renewed; no results for two" in capsys.readouterr().out
    assert call(report.main, out) == 0
    printed = capsys.readouterr().out
    assert "`python -m x --data faces`" in printed and "/home/me" not in printed


def test_report_refuses_in_one_line(tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text("<!-- table: one -->\nno end\n")
    (tmp_path / "empty").mkdir()
    write_json(tmp_path / "some.json", {"tables": {"one": "x"}})
    for words, expected in (
        ((tmp_path / "nowhere",), "no such folder"),
        ((tmp_path / "empty",), "no results"),
        ((tmp_path, "--page", page), "needs both"),
        ((tmp_path, "--page", tmp_path / "no.md"), "cannot be read"),
    ):
        assert call(report.main, *words) == 2
        assert expected in one_line(capsys.readouterr().err)
    assert page.read_text() == "<!-- table: one -->\nno end\n"


def test_the_paper_page_has_room_for_every_table():
    from app_case import ROOT

    names = tables.markers((ROOT / "docs" / "paper.md").read_text(encoding="utf-8"))
    wanted = {"plan", "celeba", "stability", "attribute-similarity", "attribute-vectors", "semi-supervised"}
    assert wanted | {f"{name}-source" for name in wanted} == set(names)
