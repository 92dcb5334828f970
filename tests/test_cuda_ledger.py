"""What launches declare, against what the interpreter counts; and the targets of the whole step."""

from __future__ import annotations

import json
import re

import pytest
from app_case import ROOT
from kernel_counts import counted
from test_cuda_step import TINY, batch, twins

from bench.ledger import TARGET_BYTES, TARGET_FLOPS, TARGET_LAUNCHES, ledger, main
from bench.minimum import layers, minimum
from models.networks import network
from models.objective import Objective


def test_every_launch_of_a_step_declares_what_it_executes(cuda32):
    """Operations and written bytes exactly; read bytes too, but for launches that read less of an array than all of it."""
    _, model = twins(cuda32)
    data = [cuda32.asarray(a) for a in batch(TINY)]
    with counted(cuda32.device) as launches:
        model.train_step(*data, Objective(gamma=0.1), 1e-3)
    assert len(launches) > 40
    for launch in launches:
        assert launch.declared.flops == launch.flops, launch
        assert launch.declared.writes == launch.writes, launch
        assert launch.reads <= launch.declared.reads <= 1.05 * launch.reads + 64, launch


def test_the_step_of_paper64_meets_its_targets():
    result = ledger("paper64", 64, "bf16")
    assert result["flops_ratio"] <= TARGET_FLOPS
    assert result["bytes_ratio"] <= TARGET_BYTES
    assert result["launches"] <= TARGET_LAUNCHES
    assert result["minimum_floor_ms"] < result["floor_ms"]


def test_the_minimum_is_the_methods():
    """Forward passes of 0.29, 0.86 and 0.88 GFLOP an image, a step of about 1.1 TFLOP at batch 64: counted from Table 1 by hand."""
    spec = network("paper64")
    forward = {name: sum(2 * layer.macs for layer in net) / 1e9 for name, net in layers(spec).items()}
    assert forward == pytest.approx({"encoder": 0.29, "decoder": 0.86, "discriminator": 0.88}, abs=0.005)
    assert 1.0e12 < minimum(spec, 64).flops < 1.15e12
    assert minimum(spec, 64, bn_groups="split").flops < minimum(spec, 64).flops
    assert minimum(spec, 64, item=4).bytes > minimum(spec, 64).bytes


def test_the_command_prints_the_ledger(capsys, tmp_path):
    assert main(["--network", "small32", "--batch-size", "16", "--top", "3", "--out", str(tmp_path / "ledger.json")]) == 0
    text = capsys.readouterr().out
    assert "H100 floor" in text and "flops:" in text and "bytes:" in text
    assert (tmp_path / "ledger.json").stat().st_size > 500


def test_results_say_the_command_that_made_them():
    """The page of results names each file's own command, with … for what it leaves out."""
    folder = ROOT / "bench" / "results"
    rows = re.findall(r"^\| (`[^|]*\.json`) \| `([^`]*)`", (folder / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    said = {name: words for names, words in rows for name in re.findall(r"`([^`]+)`", names)}
    made = {name: json.loads((folder / name).read_text(encoding="utf-8")).get("command") for name in said}
    assert "ledger.json" in said and sum(command is not None for command in made.values()) > 10
    patterns = {name: ".*".join(re.escape(part.strip()) for part in words.split("…")) for name, words in said.items()}
    assert not [(name, command) for name, command in made.items() if command and not re.match(patterns[name], command)]
