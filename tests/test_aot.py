"""Ahead-of-time compilation: the whole check that CI rests on, and whether it would notice."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")
pytest.importorskip("cupy_backends")
from bench.aot.collect import CI_PAIRS, SYSTEM_PAIRS, cases, collect
from bench.aot.compile import READER, select
from bench.aot.exceptions import Exemption
from bench.aot.rules import RULES, Measured, allowed, difference, growth, judge
from kernels.cuda.device.chips import CHIPS

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "bench" / "results" / "aot.json"


def run(*command):
    """A program with Triton compiling, not interpreting as in the tests' own process: (exit status, what it printed)."""
    clean = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, *command], cwd=ROOT, env=clean, capture_output=True, text=True, timeout=1500, check=False)
    return done.returncode, done.stdout + done.stderr


# ---- the check itself ----


def test_every_kernel_of_a_training_step_compiles_as_it_must():
    """What is exactly as when the table was written is not compiled again (``--check`` alone does), but one kernel of each function on
    each chip is."""
    status, text = run("-m", "bench.aot", "--check", "--changed")
    assert status == 0 and "nothing wrong" in text, text[-6000:]


def test_a_kernel_worse_than_the_table_fails_the_check(tmp_path):
    table = json.loads(TABLE.read_text(encoding="utf-8"))
    rows = {key: row for key, row in table["kernels"].items() if (row["chip"], row["precision"]) == ("sm_90", "bf16")}
    fewer, shorter, unknown, better = [key for key, row in rows.items() if row["kernel"] == "convolve" and row["loop"]][:4]
    rows[fewer]["registers"] -= 40
    rows[shorter]["loop"]["all"] //= 2
    rows["sm_90 bf16 a kernel of old"] = rows.pop(unknown)
    rows[better]["registers"] += 40
    for key in (fewer, shorter, better):
        rows[key]["digest"] = "of another source"
    path = tmp_path / "table.json"
    path.write_text(json.dumps({**table, "kernels": rows}), encoding="utf-8")
    status, text = run("-m", "bench.aot", "--check", "--changed", "--chips", "sm_90", "--precision", "bf16", "--out", str(path))
    assert f"{unknown}: not in the committed table" in text, text[-3000:]
    assert "sm_90 bf16 a kernel of old: in the committed table, but no longer launched" in text
    if "no growth" in text:
        pytest.skip("another Triton than the table's: growth is not compared")
    assert f"{fewer}: registers grew from" in text and f"{shorter}: instructions in the main loop grew from" in text
    assert status == 1 and "4 things wrong" in text, text[-3000:]
    assert json.loads(path.read_text(encoding="utf-8"))["kernels"] == rows  # a check writes nothing


def test_another_compiler_is_held_to_the_rules_alone(tmp_path):
    table = json.loads(TABLE.read_text(encoding="utf-8"))
    table["versions"]["triton"] = "3.0.0"
    for row in table["kernels"].values():
        if row["family"] != "cuda":  # those are NVRTC's
            row["registers"] = 1
    (path := tmp_path / "table.json").write_text(json.dumps(table), encoding="utf-8")
    _, text = run("-m", "bench.aot", "--check", "--changed", "--chips", "sm_90", "--precision", "bf16", "--out", str(path))
    assert "(the table: 3.0.0)" in text and "of these kernels only the rules are checked" in text, text[-3000:]
    assert "registers grew" not in text
    status, text = run("-m", "bench.aot", "--changed", "--out", str(path))  # a table is not written by two compilers
    assert status == 1 and "written with other compilers: write it anew" in text and json.loads(path.read_text()) == table


# ---- which kernels ----


@pytest.fixture(scope="module")
def kernels():
    """The kernels of sm_90 in bf16."""
    return collect([("sm_90", "bf16")], cases(False))


def test_every_layer_of_table_1_has_its_three_products(kernels):
    """Forward, input gradient and weight gradient of all 17 layers; nobody wants the gradient by Enc's input."""
    products = {(use.split()[0], use.split()[1], "wgrad" in k.launch.name) for k in kernels if k.product for use in k.uses}
    products = {found for found in products if not found[0].startswith(("regressor/", "classifier/"))}
    forward = {layer for layer, operation, _ in products if "forward" in operation}
    dw = {layer for layer, _, weights in products if weights}
    dx = {layer for layer, operation, weights in products if not weights and "forward" not in operation}
    enc, dis = ("conv1", "conv2", "conv3", "fc", "mu", "logvar"), ("conv1", "conv2", "conv3", "conv4", "fc", "output")
    dec = ("fc", "up1", "up2", "up3", "image")
    layers = {f"{net}/{name}" for net, names in (("encoder", enc), ("decoder", dec), ("discriminator", dis)) for name in names}
    assert forward == dw == layers
    assert dx == layers - {"encoder/conv1"}


def test_keys_are_stable_and_distinct(kernels):
    keys = [k.key for k in kernels]
    assert len(set(keys)) == len(keys) > 30
    assert keys == [k.key for k in collect([("sm_90", "bf16")], cases(False))]
    assert all(key.startswith("sm_90 bf16 ") for key in keys)


def test_the_committed_table_holds_every_pair_of_the_clause():
    rows = json.loads(TABLE.read_text(encoding="utf-8"))["kernels"]
    assert {(row["chip"], row["precision"]) for row in rows.values()} == set(CI_PAIRS)
    assert len(CI_PAIRS) == 9 and all((chip, "bf16") in CI_PAIRS for chip in ("sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120"))
    assert ("sm_75", "float32") in CI_PAIRS
    old = [row for row in rows.values() if row["chip"] == "sm_75"]
    assert (
        len(old) > 60 and max(row["registers"] for row in old) <= 255 and max(row["shared"] for row in old) <= CHIPS["sm_75"].shared_bytes
    )
    assert all(row["spills"] == row["stack"] == 0 for row in rows.values() if row["family"] == "product")
    for case in ("(conditional)", "(vae)", "(vae-dis)", "(gan)", "(regressor)", "(classifier enc)", "(classifier dis)"):
        assert {(row["chip"], row["precision"]) for key, row in rows.items() if key.endswith(case)} == set(SYSTEM_PAIRS)


def test_what_is_compiled_again(kernels):
    pointers = [k for k in kernels if k.launch.name == "convolve"]
    first, same, changed, new = pointers[:4]
    row = {**GOOD.line(), "chip": "sm_90", "precision": "bf16", "loop": {"all": 77}, "uses": ["of old"]}
    table = {k.key: {**row, "digest": f"{k.digest}-{READER}"} for k in (first, same, changed)}
    table[changed.key]["digest"] = "of another source"
    todo, known = select([first, same, changed, new], table, {"triton"})
    assert [k.key for k in todo] == [first.key, changed.key, new.key]
    assert [(m.key, m.loop["all"], m.uses) for m in known] == [(same.key, 77, same.uses)]
    todo, known = select([first, same, changed, new], table, {"cuda"})  # another Triton: a first look alone
    assert ([k.key for k in todo], known) == ([first.key], [])


# ---- the rules ----

GOOD = Measured(
    key="sm_90 bf16 enc/conv1 conv2d_forward 4x4 taps", kernel="taps", chip="sm_90", precision="bf16", family="product", tile="8 warps",
    threads=256, bytes=5_000_000, registers=168, stack=0, spills=0, shared=100_000, limit=232_448,
    loop={"all": 90, "matrix": 4, "UTMALDG": 2, "integer": 60}, whole={"all": 500, "matrix": 4, "UTMALDG": 6, "STG.128": 4},
    matrix=("HGMMA",), fused=0, waits=True, uses=["enc/conv1 conv2d_forward 4x4"],
)  # fmt: skip
FLOAT32 = dataclasses.replace(
    GOOD, precision="float32", loop={"all": 1200, "LDGSTS.128": 4}, whole={"all": 2000, "LDGSTS.128": 8}, matrix=(), fused=1024
)
OTHER = dataclasses.replace(GOOD, family="cuda", loop={}, whole={"all": 50, "LDG.128": 2}, matrix=())


def broken(m, **exceptions):
    return [(rule.name, wrong) for _, rule, wrong in judge([m], exceptions=exceptions.get("exceptions", ())).broken]


@pytest.mark.parametrize("m", [GOOD, FLOAT32, OTHER, dataclasses.replace(GOOD, chip="sm_120", matrix=("HMMA",))])
def test_what_the_rules_accept(m):
    assert broken(m) == []


@pytest.mark.parametrize(
    ("good", "change", "rule", "words"),
    [
        (GOOD, {"stack": 8}, "spills", "8 bytes of stack"),
        (OTHER, {"spills": 2}, "spills", "2 local loads and stores"),
        (GOOD, {"shared": 232_449}, "shared", "232449 bytes of shared memory, 232448 there are"),
        (OTHER, {"registers": 81, "threads": 768}, "launchable", "67584 registers"),
        (GOOD, {"matrix": ("HMMA",)}, "tensor cores", "without HGMMA (it has HMMA)"),
        (GOOD, {"matrix": ()}, "tensor cores", "without HGMMA"),
        (GOOD, {"chip": "sm_100"}, "tensor cores", "without UTC*MMA"),
        (GOOD, {"chip": "sm_80"}, "tensor cores", "without HMMA"),
        (GOOD, {"precision": "tf32", "matrix": ()}, "tensor cores", "without HGMMA"),
        (GOOD, {"from_registers": 4}, "shared operands", "4 wgmma take their first operand from registers"),
        (FLOAT32, {"whole": {"all": 2000, "matrix": 1}}, "strict float32", "1 matrix instructions"),
        (FLOAT32, {"fused": 0}, "strict float32", "without FFMA"),
        (GOOD, {"loop": {"all": 90, "LDG.128": 4}}, "asynchronous", "without 16-byte asynchronous copies"),
        (GOOD, {"loop": {"all": 90, "LDGSTS.128": 4, "LDGSTS.32": 16}}, "whole words", "16 LDGSTS.32"),
        (GOOD, {"loop": {"all": 90, "UTMALDG": 1, "LDG.16": 3}}, "whole words", "3 LDG.16"),
        (OTHER, {"whole": {"all": 50, "LDG.32": 2}}, "vectors", "no 16-byte access"),
        (OTHER, {"waits": False}, "waits", "touches memory first"),
    ],
)
def test_what_the_rules_refuse(good, change, rule, words):
    ((name, wrong),) = broken(dataclasses.replace(good, **change))
    assert name == rule and words in wrong


def test_small_kernels_need_no_vectors():
    assert broken(dataclasses.replace(OTHER, whole={"all": 50, "LDG.32": 2}, bytes=999_999)) == []


def test_an_exception_excuses_its_rule_alone_and_becomes_stale():
    bad = dataclasses.replace(GOOD, stack=8, shared=300_000)
    excuse = Exemption("enc/*", "sm_90", "bf16", "spills", "a reason")
    verdict = judge([bad], exceptions=[excuse])
    assert [rule.name for _, rule, _ in verdict.broken] == ["shared"]
    assert [(rule.name, e) for _, rule, _, e in verdict.excused] == [("spills", excuse)] and verdict.stale == []
    assert judge([GOOD], exceptions=[excuse]).stale == [excuse]
    assert judge([dataclasses.replace(GOOD, chip="sm_80", matrix=("HMMA",))], exceptions=[excuse]).stale == []  # its chip is not there
    rare = excuse._replace(everywhere=False)
    assert judge([GOOD], exceptions=[rare]).stale == [] and judge([GOOD], everything=True, exceptions=[rare]).stale == [rare]


def test_growth_has_a_margin():
    table = {GOOD.key: GOOD.line()}
    assert allowed(100) == 110 and allowed(40) == 48
    assert growth([dataclasses.replace(GOOD, registers=184, loop={**GOOD.loop, "all": 99})], table) == []
    (line,) = growth([dataclasses.replace(GOOD, registers=185)], table)
    assert line == f"{GOOD.key}: registers grew from 168 to 185"
    (line,) = growth([dataclasses.replace(GOOD, loop={**GOOD.loop, "all": 100})], table)
    assert "main loop grew from 90 to 100" in line
    lines = growth([dataclasses.replace(GOOD, loop={}, matrix=())], table)
    assert len(lines) == 2 and "main loop is gone" in lines[0] + lines[1]
    assert growth([], table) == growth([GOOD], {}) == []


def test_kernels_that_only_one_side_has():
    assert difference(["a", "b"], ["b", "c"]) == ["a: not in the committed table", "c: in the committed table, but no longer launched"]
    assert difference(["a"], ["a"]) == []


def test_every_rule_says_what_it_means():
    assert len({rule.name for rule in RULES}) == len(RULES) == 10 and all(len(rule.meaning) > 20 for rule in RULES)


# ---- real code that breaks them ----

BAD = """
from bench.aot.compile import measure, quiet_environment
quiet_environment()
from bench.aot.collect import Kernel
from bench.aot.rules import judge
from kernels.cuda.device.base import Launch
from kernels.ledger import Cost
from tests.sass_kernels import boxes, product

def kernel(name, function, chip, kind, precision, tile, warps, pointers):
    signature = dict(zip("cab", pointers)) | {"n": "i32", "k": "i32"} | dict.fromkeys(("PRECISION", "BM", "BN", "BK"), "constexpr")
    constants = dict(zip(("PRECISION", "BM", "BN", "BK"), (kind, *tile)))
    shape = ((1, 1, 1), warps, 3, signature, constants, ("c", "a", "b", "n", "k"), (), 0, Cost(8, 8, 8))
    launch = Launch("triton", function.__name__, function, *shape)
    return Kernel(f"{chip} {precision} {name}", chip, precision, launch, True)

fp32 = ["*fp32"] * 3
boxed = ["*fp32", "tensordesc<fp32[64, 32]>", "tensordesc<fp32[32, 64]>"]
half = ["*bf16", "tensordesc<bf16[128, 64]>", "tensordesc<bf16[64, 128]>"]
kernels = [
    kernel("spilling", boxes, "sm_90", "ieee", "float32", (64, 64, 32), 4, boxed),
    kernel("on CUDA cores", product, "sm_80", "ieee", "bf16", (32, 32, 16), 4, fp32),
    kernel("too large", product, "sm_86", "tf32", "tf32", (256, 128, 64), 8, fp32),
    *(kernel("fine", product, chip, "tf32", "tf32", (64, 64, 32), 4, fp32) for chip in ("sm_80", "sm_90")),
    *(kernel("fine", boxes, chip, "ieee", "bf16", (128, 128, 64), 8, half) for chip in ("sm_90", "sm_100", "sm_120")),
]
if __name__ == "__main__":
    measured, failed = measure(kernels, 2)
    for m, rule, wrong in judge(measured, exceptions=()).broken:
        print("broken", m.key, rule.name, wrong, sep="|")
    print("failed", *failed, sep="|")
    print("measured", *(f"{m.key} {m.steps}" for m in measured), sep="|")
"""


def test_real_kernels_that_break_rules_are_caught():
    status, text = run("-c", BAD)
    assert status == 0, text
    lines = [line.split("|") for line in text.splitlines() if "|" in line]
    found = {(key, rule) for word, key, rule, *_ in (line for line in lines if line[0] == "broken")}
    assert ("sm_90 float32 spilling", "spills") in found
    assert ("sm_80 bf16 on CUDA cores", "tensor cores") in found
    assert ("sm_90 tf32 fine", "whole words") in found  # wgmma reads tf32 with K innermost only: B's columns are copied 4 bytes at a time
    assert len({key for key, rule in found if rule != "waits"}) == 3
    assert {key[:6] for key, rule in found if rule == "waits"} == {"sm_90 ", "sm_100", "sm_120"}  # none of these little kernels waits
    (failed,) = (line for line in lines if line[0] == "failed")
    assert len(failed) == 2 and "sm_86 tf32 too large" in failed[1] and "shared memory" in failed[1]
    pairs = ("sm_80 tf32", "sm_90 tf32", "sm_90 bf16", "sm_100 bf16", "sm_120 bf16")
    steps = {text.rsplit(" ", 1)[0]: float(text.rsplit(" ", 1)[1]) for text in lines[-1][1:]}
    assert {f"{pair} fine" for pair in pairs} < steps.keys()
    assert set(steps.values()) == {1.0}  # one K-step in a pass through the loop, by every kind of matrix instruction and by FFMA
