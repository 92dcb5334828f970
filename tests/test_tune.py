"""The tuner: what it proposes, what it selects with a clock of the test's own, what it keeps, and what it does with a damaged cache."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from models.networks import NETWORKS

pytest.importorskip("triton", reason="Triton is not installed")
pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")

from kernels.cuda.device.chips import CHIPS
from kernels.cuda.engine import dry_engine, emulated_engine
from kernels.cuda.products import tiles
from kernels.cuda.products.tiles import Tile
from kernels.cuda.tuning import tile_cache
from kernels.cuda.tuning.tuner import Tuner, candidates

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """No test sees, or leaves behind, tuned tiles."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    tiles.override(None)
    yield
    tiles.override(None)


def clock(prefer):
    """A measure that says of the launches of a product what ``prefer(BM, BN, BK, stages, warps)`` says, and 1 for every other launch."""

    def seconds(call):
        c = call.launch.constexprs
        return prefer(c["BM"], c["BN"], c["BK"], call.launch.stages, call.launch.warps) if "BM" in c else 1.0

    return lambda calls: sum(map(seconds, calls))


def forward(engine, seed=0):
    """A small convolution: its output. Its product is "forward"."""
    rng = np.random.default_rng(seed)
    x, w = engine.asarray(rng.standard_normal((2, 8, 8, 32))), engine.asarray(rng.standard_normal((3, 3, 32, 32)))
    y = engine.empty((2, 8, 8, 32))
    engine.conv2d_forward(y, x, w, stride=1)
    return np.array(engine.to_numpy(y))


def tuned(engine, measure, **options):
    watching = Tuner(engine, measure=measure, **options)
    with watching.watching():
        result = forward(engine)
    return watching, result


@pytest.mark.parametrize("chip", ["sm_80", "sm_89", "sm_90"])
@pytest.mark.parametrize("precision", ["bf16", "tf32", "float32"])
@pytest.mark.parametrize("default", [Tile(128, 256, 64, 4, 8), Tile(128, 128, 32, 3, 8), Tile(64, 64, 16, 3, 4)])
def test_candidates_fit_the_chip(chip, precision, default):
    chip, size = CHIPS[chip], 2 if precision == "bf16" else 4
    found = candidates("forward", default, chip, precision)
    assert found and len(found) == len(set(found)) and default not in found
    for t in found:
        assert t.stages * (t.bm + t.bn) * t.bk * size <= chip.shared_bytes
        assert all(n & (n - 1) == 0 for n in t[:3]) and t.bm * t.bn <= 128 * 32 * t.warps and t.stages >= 2


def proposed():
    """The product of `forward` on the emulated chip: its name, the table's tile, the candidates."""
    engine = dry_engine(emulated_engine("float32").device.chip, "float32")
    found = Tuner(engine)
    with found.watching():
        forward(engine)
    ((name, (default, others)),) = found.proposals.items()
    return name, default, others


def favour(times):
    """A clock on which the tiles of ``times`` take so long, every other one 1."""
    return clock(lambda *t: times.get(Tile(*t), 1.0))


def test_a_faster_tile_wins_and_is_used():
    name, default, others = proposed()
    engine = emulated_engine("float32")
    plain = forward(engine)
    found, result = tuned(engine, favour({others[1]: 0.5, others[3]: 0.7}))
    (outcome,) = found.outcomes
    assert outcome[:5] == (name, default, others[1], 1.0, 0.5) and outcome.measured > 2 and not outcome.failed
    assert found.chosen == {name: others[1]}
    assert np.allclose(result, plain, rtol=0, atol=1e-4 * np.abs(plain).max())  # the step that was watched goes on with right results
    assert not tiles.describe()["tuned"], "nothing may be left behind but the cache"


@pytest.mark.parametrize("prefer", [lambda *t: 1.0, lambda bm, bn, bk, stages, warps: 1.0 - 1e-6 * bk])
def test_noise_does_not_win(prefer):
    found, _ = tuned(emulated_engine("float32"), clock(prefer))
    (outcome,) = found.outcomes
    assert outcome.best == outcome.default and not found.chosen and outcome.measured > 2


def test_a_tile_with_other_results_is_refused():
    _, _, (bad, good, *_) = proposed()
    engine = emulated_engine("float32")
    right = engine.conv2d_forward

    def wrong_with_one(y, *args, **kwargs):
        right(y, *args, **kwargs)
        if bad in tiles._used.values():
            engine.fill(y, 0.5)

    found = Tuner(engine, measure=lambda calls: favour({bad: 0.1, good: 0.5})([c for c in calls if "BM" in c.launch.constexprs]))
    engine.conv2d_forward = found._watched(wrong_with_one)
    result = forward(engine)
    (outcome,) = found.outcomes
    assert outcome.best == good and [why for why in outcome.failed if "wrong results" in why and str(list(bad)) in why]
    assert not (result == 0.5).all()


def test_a_tile_that_does_not_compile_is_passed_over():
    _, _, (bad, good, *_) = proposed()

    def measure(calls):
        seconds = favour({bad: 0.1, good: 0.5})(calls)
        if seconds == 0.1:
            raise RuntimeError("convolve: needs too much")
        return seconds

    found, _ = tuned(emulated_engine("float32"), measure)
    (outcome,) = found.outcomes
    assert outcome.best == good and outcome.failed == (f"{list(bad)}: convolve: needs too much",)


def test_each_product_is_tuned_once_and_within_the_budget():
    engine = emulated_engine("float32")
    found = Tuner(engine, measure=clock(lambda *t: 1.0))
    with found.watching():
        forward(engine)
        forward(engine, 1)
    assert len(found.outcomes) == 1
    late = Tuner(engine, measure=clock(lambda *t: 1.0), budget=-1.0)
    with late.watching():
        forward(engine)
    assert not late.outcomes and len(late.left_out) == 1
    assert "conv2d_forward" not in vars(engine), "the engine is as it was"


def test_a_dry_device_collects_what_is_to_be_compiled():
    engine = dry_engine(CHIPS["sm_90"], "bf16")
    found = Tuner(engine)
    with found.watching():
        forward(engine)
    ((name, (default, others)),) = found.proposals.items()
    assert name.startswith("forward 128x32x288 bf16") and found.waiting and default not in others
    assert {(launch.constexprs["BM"], launch.constexprs["BN"]) for launch in found.waiting if "BM" in launch.constexprs} <= {
        t[:2] for t in others
    }


def test_the_cache_is_written_and_read_again():
    engine = emulated_engine("float32")
    chip = engine.device.chip
    kept = []

    def keep(chosen, settled):
        kept.append(tile_cache.save(chip, chosen, settled))

    found, _ = tuned(engine, favour({proposed()[2][1]: 0.5}), keep_each=keep)
    ((name, best),) = found.chosen.items()
    assert kept == [tile_cache.cache_path(chip)] and json.loads(kept[0].read_text()) == {name: list(best)}
    assert tile_cache.load(chip) == ""
    forward(engine)
    assert list(tiles.describe()["tuned"]) == [name] and tiles.describe()["used"][name] == list(best)

    other = {"forward 1x1x1 bf16 sm_90": Tile(64, 64, 64, 3, 4)}
    tile_cache.save(chip, other)
    assert set(json.loads(kept[0].read_text())) == {name, *other}  # beside it
    tile_cache.save(chip, {}, settled=[name])
    assert set(json.loads(kept[0].read_text())) == set(other)  # it did not win again
    assert not list(kept[0].parent.glob("*.part")) and [p.name for p in kept[0].parent.iterdir()] == [kept[0].name]


@pytest.mark.parametrize(
    "text", ["", "{", "[1, 2]", '{"forward": 7}', '{"forward": [1, 2, 3]}', '{"forward": [0, 64, 64, 3, 4]}', "\x00\xff"]
)
def test_a_damaged_cache_is_told_in_one_line_and_not_used(text):
    chip = CHIPS["sm_90"]
    path = tile_cache.cache_path(chip)
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="latin-1")
    warning = tile_cache.load(chip)
    assert "damaged" in warning and str(path) in warning and "\n" not in warning
    assert tiles._overrides == {}
    tile_cache.save(chip, {"forward 1x1x1 bf16 sm_90": Tile(64, 64, 64, 3, 4)})  # tuning again mends it
    assert tile_cache.load(chip) == "" and tiles._overrides


def test_no_cache_is_no_warning():
    assert tile_cache.load(CHIPS["sm_80"]) == ""


def command(*arguments):
    env = {**os.environ}
    env.pop("TRITON_INTERPRET", None)
    return subprocess.run(
        [sys.executable, "-m", "vaegan_kernels.tune", *arguments], capture_output=True, text=True, cwd=ROOT, env=env, timeout=300
    )


def test_dry_run_prints_what_would_be_tried():
    done = command("--dry-run", "--network", "small32", "--batch-size", "8", "--precision", "tf32")
    assert done.returncode == 0, done.stderr
    assert "candidates; nothing was measured" in done.stdout and "wgrad" in done.stdout and "forward" in done.stdout


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            ["--network", "paper46"],
            f"--network: got 'paper46', expected one of {', '.join(NETWORKS)}; did you mean paper64?",
        ),
        (["--precision", "float64"], "--precision: got 'float64'"),
        (["--budget-s", "0"], "--budget-s: got 0, expected a whole number of at least 1"),
        (["--batch-size", "x"], "--batch-size: got 'x', expected a whole number"),
    ],
)
def test_bad_flags_are_one_line(arguments, message):
    done = command(*arguments)
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1, done.stderr


def test_without_a_gpu_one_line_says_so():
    done = command("--network", "small32", "--batch-size", "8", "--budget-s", "1")
    if done.returncode == 0:
        pytest.skip("there is a GPU here: it was used")
    assert done.returncode == 2 and done.stderr.startswith("error: tuning needs an NVIDIA GPU: device cuda:"), done.stderr
    assert done.stderr.count("\n") == 1 and "--device cpu" not in done.stderr
