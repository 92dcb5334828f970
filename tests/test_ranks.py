"""Several processes that share a batch: the mathematics of one, bits that repeat, and runs that go on with any number of them."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from app_case import arrays_of, call, write_tiny
from ranks_case import HERE, ended, mpiexec, run, start, train

import kernels
from bench.dry import OneOf
from kernels.ranks import mpi
from kernels.ranks.engine import RankedEngine
from kernels.ranks.ranks import shards
from vaegan_kernels.train import main

TINY = ("--network", "small32", "--batch-size", 5, "--steps", 9, "--log-every", 2, "--save-every", 4, "--draw-every", 9, "--no-curves",
        "--no-animation", "--device", "cpu", "--quiet")  # fmt: skip


@pytest.mark.parametrize(("images", "size", "expected"), [(8, 4, (2, 2, 2, 2)), (5, 2, (3, 2)), (8, 3, (3, 3, 2)), (3, 3, (1, 1, 1))])
def test_shares_of_a_batch(images, size, expected):
    assert shards(images, size) == expected
    assert sum(expected) == images


@pytest.mark.parametrize(
    ("variables", "size", "rank"),
    [
        ({}, 1, 0), ({"OMPI_COMM_WORLD_SIZE": "4", "OMPI_COMM_WORLD_RANK": "2"}, 4, 2), ({"PMI_SIZE": "2", "PMI_RANK": "1"}, 2, 1),
        ({"SLURM_NTASKS": "8"}, 1, 0), ({"SLURM_STEP_NUM_TASKS": "8", "SLURM_PROCID": "7"}, 8, 7), ({"PMI_SIZE": ""}, 1, 0),
    ],
)  # fmt: skip
def test_what_a_launcher_says(variables, size, rank):
    assert (mpi.launched(variables), mpi.rank_of_launch(variables)) == (size, rank)


def test_which_gradients_are_gathered():
    """Inputs and errors of three parts of a batch, or twice the gradient: what is fewer bytes."""
    shared = RankedEngine(kernels.engine("cpu", "float64", implementation="numpy"), OneOf(0, 8), 512)
    assert shared.gathers((16384, 2048), 1)
    assert not shared.gathers((5, 5, 256, 256), 1)
    assert shared.gathers((16384, 512), 1) and not shared.gathers((16384, 512), 3)
    with pytest.raises(ValueError, match="batch size: got 7, expected at least 8, an image for each process"):
        RankedEngine(shared.own, OneOf(0, 8), 7)
    with pytest.raises(ValueError, match="got 64, expected 512"):
        shared.shard(64)
    assert shared.describe()["processes"] == 8


@pytest.mark.parametrize(("count", "every"), [(2, 3), (3, 1)])
def test_the_mathematics_of_one_process(count, every):
    """All systems, groupings and losses, conditional or not, shares that differ: gradients, losses, and ten steps."""
    found = [json.loads(line) for line in run(count, HERE / "ranks_steps.py", every).splitlines()]
    assert len(found) == len(range(0, 26, every))
    assert {case["case"].split()[0] for case in found} == {"vaegan", "vae", "vae-dis", "gan"}
    for case in found:
        assert max(case.get("gradients", 0), case.get("losses", 0)) <= 1e-10, case
        assert max(case["state"], case["means"]) <= 1e-9, case


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("ranks") / "discs.h5")


def arrays(folder):
    """Everything of the checkpoint that training makes."""
    found = arrays_of(folder / "checkpoint.h5")
    return {name: array for name, array in found.items() if name.split("/")[0] in ("parameters", "statistics", "optimizer", "average")}


def apart(a, b):
    a, b = arrays(a), arrays(b)
    assert set(a) == set(b)
    return max(np.linalg.norm(a[name] - b[name]) / max(np.linalg.norm(b[name]), 1e-300) for name in a)


def trained(place, data, name, count, *flags):
    if count == 1:
        assert call(main, "--data", data, "--out", place / name, *TINY, *flags) == 0
    else:
        run(count, *train("--data", data, "--out", place / name, *TINY, *flags))
    return place / name


@pytest.mark.parametrize(
    "flags",
    [
        ("--augment", "--dis-noise", "0.1"), ("--preset", "paper", "--network", "small32", "--accumulate", "2"),
        ("--conditional", "--attributes", "Red"), ("--model", "vae-dis", "--gan-steps", "3"),
    ],
    ids=lambda flags: flags[0],
)  # fmt: skip
def test_a_run_is_that_of_one_process(tmp_path, data, flags):
    """Order, mirrors, augmentation, attributes and noise are functions of an image's number in the step, whoever has it."""
    mpiexec()
    flags = (*flags, "--precision", "float64")
    one, three = trained(tmp_path, data, "one", 1, *flags), trained(tmp_path, data, "three", 3, *flags)
    assert apart(three, one) <= 1e-9
    last = [json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1]) for folder in (one, three)]
    for name in ("prior", "like"):
        assert last[1][name] == pytest.approx(last[0][name], rel=1e-9)
    assert sorted(path.name for path in three.iterdir()) == sorted(path.name for path in one.iterdir())


def test_bits_repeat_and_resume(tmp_path, data):
    """The same bits again, resumed on as many processes too; on another number the numbers go on, rounded otherwise."""
    whole = trained(tmp_path, data, "whole", 2)
    assert apart(trained(tmp_path, data, "again", 2), whole) == 0
    parts = trained(tmp_path, data, "parts", 2, "--stop-after", 6)
    fewer = shutil.copytree(parts, tmp_path / "fewer")
    run(2, *train("--resume", parts, "--quiet"))
    assert apart(parts, whole) == 0
    out = run(3, *train("--resume", fewer))
    assert "until now the run was on 2 processes: its numbers continue, not its bits" in out
    assert 0 < apart(fewer, whole) < 1e-2
    about = json.loads((fewer / "device.json").read_text())
    assert about["processes"] == 3 and about["bn_sync"] is True


def test_statistics_of_each_share_alone(tmp_path, data):
    flags = ("--precision", "float64")
    own, synced = trained(tmp_path, data, "own", 2, "--no-bn-sync", *flags), trained(tmp_path, data, "synced", 2, *flags)
    assert apart(own, synced) > 1e-6
    out = start(2, *train("--resume", own, "--bn-sync"))
    code, _, err = ended(out)
    assert code == 2 and "--bn-sync: got True, but the run in" in err


def test_it_says_how_many(tmp_path, data):
    flags = [flag for flag in TINY if flag != "--quiet"]
    out = run(2, *train("--data", data, "--out", tmp_path / "run", *flags, "--steps", 2))
    assert "2 processes, each with 3 or 2 of a batch's 5 images" in out
    assert out.count("device:") == 1, "only the first one speaks"
