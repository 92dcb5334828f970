"""The time model: what follows from its words, on hand-made launches, and the tiles that are chosen by it."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from bench import many
from bench.ledger import main
from kernels.cuda.device.boards import BOARDS, SHOWN, board_of
from kernels.cuda.device.chips import CHIPS
from kernels.cuda.products import tiles, time_model
from kernels.cuda.products.partials import split_grid
from kernels.cuda.products.time_model import Tile, busiest, passes, product, split
from models.objective import Objective

ROOT = Path(__file__).resolve().parent.parent
TILE = Tile(128, 128, 64, 3, 8)


def seconds(programs, steps=100, tile=TILE, board="H100", **options):
    return product(BOARDS[board], "bf16", tile, ((programs, steps),), tma=True, shared=232448, **options).seconds


def test_the_busiest_multiprocessor():
    assert busiest(((132, 10),), 132) == 10 and busiest(((133, 10),), 132) == 20
    assert busiest(((4, 9), (4, 6), (4, 6), (4, 4)), 4) == 25  # one of each phase
    assert busiest(((2, 9), (2, 6)), 3) == 12  # two heavy ones, then two light ones on the third
    rng = np.random.default_rng(0)
    for _ in range(20):
        classes = tuple((int(n), int(s)) for n, s in zip(rng.integers(1, 60, 3), rng.integers(1, 30, 3), strict=True))
        work, longest = sum(n * s for n, s in classes), max(s for _, s in classes)
        assert max(work / 7, longest) <= busiest(classes, 7) <= work / 7 + longest


def test_a_grid_that_does_not_fill_the_chip_costs_a_whole_wave():
    full, one_more, idle = seconds(132), seconds(133), seconds(96)
    assert one_more > 1.5 * full
    assert idle == pytest.approx(full, rel=0.3)  # a quarter of the chip idle: nearly the same time for three quarters of the work
    assert seconds(132, steps=200) > 1.8 * (full - time_model.overhead(BOARDS["H100"]))


def test_no_launch_is_under_its_floor():
    for name, board in BOARDS.items():
        for tile, programs, steps in itertools.product((TILE, Tile(64, 64, 32, 3, 4)), (1, 100, 1000), (1, 50)):
            flops = 2 * tile.bm * tile.bn * tile.bk * programs * steps
            assert seconds(programs, steps, tile, name) > flops / board.matrix("bf16")
        assert passes(board, 4096, 256, 1e9).seconds > 1e9 / board.bandwidth
    assert seconds(132, moved=1e9) > 1e9 / BOARDS["H100"].bandwidth


def test_few_blocks_do_not_reach_the_memorys_rate():
    board = BOARDS["H100"]
    assert passes(board, 2, 256, 2.5e6).seconds > 10 * passes(board, 1000, 256, 2.5e6).seconds


def test_few_elements_of_many_splits_fill_the_chip():
    assert split_grid(4800, 262, 132)[0] > 132 and split_grid(4800, 1, 132)[1] == 1
    for entries, splits, multiprocessors in itertools.product((1, 3, 4800, 10**6), (1, 2, 52, 1000), (1, 132)):
        blocks, lanes = split_grid(entries, splits, multiprocessors)
        assert lanes & (lanes - 1) == 0 and (lanes == 1 or 4 * lanes <= splits)
        assert blocks * 256 * 4 >= entries * lanes  # every element has its threads


@pytest.mark.parametrize("chip", list(CHIPS))
def test_the_tile_with_the_least_time_is_taken(chip):
    shape = {"rows": 12288, "columns": 256, "depth": 6400, "channels": 256, "chip": CHIPS[chip], "precision": "bf16"}
    if not CHIPS[chip].bf16:
        shape["precision"] = "float32"
    chosen = tiles.tile("forward", **shape)
    of = {t: tiles._seconds(t, "forward", **shape) for t in tiles.fitted(256, 256, CHIPS[chip], shape["precision"])}
    assert of[chosen] == min(of.values())
    assert len(set(of.values())) > 1, "nothing to choose from"


def test_a_boards_rates_follow_its_multiprocessors():
    half = board_of(CHIPS["sm_90"]._replace(multiprocessors=66))
    assert half.bandwidth == BOARDS["H100"].bandwidth / 2 and half.bf16 == BOARDS["H100"].bf16 / 2
    assert board_of(CHIPS["sm_90"]) == BOARDS["H100"]
    assert board_of(CHIPS["sm_90"]._replace(capability=(5, 0))).name == "T4"


def test_the_best_split_is_the_least_of_all():
    chip, board, tile = CHIPS["sm_90"], BOARDS["H100"], Tile(128, 256, 64, 4, 8)
    count, each, best = split(25, 512, tile, 819200, chip, "bf16")
    assert (count - 1) * each < 512 <= count * each

    def whole(other):
        time = product(board, "bf16", tile, ((25 * other, -(-512 // other)),), tma=True, shared=chip.shared_bytes).seconds
        return time + (passes(board, split_grid(819200, other, 132)[0], 256, 4 * 819200 * (other + 1)).seconds if other > 1 else 0.0)

    assert best == pytest.approx(min(map(whole, range(1, 60)))) and best < 0.5 * whole(1)
    assert split(1, 1, tile, 100, chip, "bf16")[:2] == (1, 1)


def test_the_command_prints_the_model(capsys):
    assert main(["--network", "small32", "--batch-size", "16", "--top", "2", "--model"]) == 0
    text = capsys.readouterr().out
    assert all(f"{board}, launch and tile" in text for board in SHOWN)
    assert text.count("ms by the model") == len(SHOWN) and "GAP" in text


def test_a_collective_takes_its_hops_and_its_bytes():
    small, large = (many.Collective(kind, ("float32",), (size,)) for kind, size in (("gather", 4096), ("total", 1 << 30)))
    assert many.sent(small, 8) == 7 / 8 * 4096 and many.sent(large, 4) == 2 * 3 / 4 * (1 << 30)
    assert many.seconds(small, 8, "nvlink") == pytest.approx(6.6e-6 + 7 * 0.6e-6, rel=0.01)  # latency
    assert many.seconds(small, 16, "ib") == pytest.approx(6.6e-6 + 13 * 0.6e-6 + 2 * 2.7e-6, rel=0.01)
    assert many.seconds(large, 8, "pcie") == pytest.approx(2 * 7 / 8 * (1 << 30) / 20e9, rel=0.01)  # bytes


def test_the_committed_table_of_several_gpus():
    """It is what the command gives, and the page says the same."""
    found = json.loads((ROOT / "bench" / "results" / "many.json").read_text(encoding="utf-8"))
    assert found["command"] == "python -m bench.many --out bench/results/many.json" and found["assumptions"] == many.assumptions()
    assert [(row["processes"], row["link"]) for row in found["rows"]] == list(many.ROWS)
    again = many.table("paper64", 64, "bf16", Objective(), [(1, "nvlink"), (8, "pcie")])
    assert [found["rows"][i] for i in (0, 4)] == again
    page = (ROOT / "docs" / "many.md").read_text(encoding="utf-8")
    for row in found["rows"]:
        assert f"| {row['launches']} | {row['collectives']} | {row['bytes'] / 1e6:.0f} | {row['step_ms']:.2f} ms |" in page, row


def test_the_committed_ledger(tmp_path):
    """It is what the command gives, and the page says the same."""
    found = json.loads((ROOT / "bench" / "results" / "ledger.json").read_text(encoding="utf-8"))
    command = "python -m bench.ledger --model --top 12 --out bench/results/ledger.json"
    again = tmp_path / "ledger.json"
    assert main([*command.split()[3:-1], str(again)]) == 0
    written = json.loads(again.read_text(encoding="utf-8"))
    assert found == {**written, "command": command, "date": found["date"]}
    times = {board: f"{one['model_ms']:.{2 if one['model_ms'] < 5 else 1}f}" for board, one in found["model"].items()}
    page = " ".join((ROOT / "docs" / "gpu.md").read_text(encoding="utf-8").split())
    for text in (
        f"executes {found['flops_ratio']:.3f} times the operations",
        f"moves {found['bytes_ratio']:.3f} times the bytes, in {found['launches']} launches",
        f"floors on an H100 add up to {found['floor_ms']:.2f} ms",
        f"gives {times['H100']} ms on an H100, {times['H200']} on an H200, {times['A100']} on an A100, {times['RTX 4090']} on an RTX 4090",
    ):
        assert text in page, text


def test_the_ledger_of_several_processes(capsys, tmp_path):
    out = tmp_path / "ledger.json"
    assert main(["--network", "small32", "--batch-size", "16", "--top", "2", "--ranks", "3", "--link", "pcie", "--out", str(out)]) == 0
    (row,) = json.loads(out.read_text())["ranks"]
    assert row["images"] == 48 and 0 < row["efficiency"] < 1 and sum(kind["bytes"] for kind in row["kinds"].values()) == row["bytes"]
    assert "pcie" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["--ranks", "0"])
