"""The command line of `python -m bench.aot`: which chips and precisions are meant, and what makes no sense."""

from __future__ import annotations

import pytest
from app_case import ROOT

pytest.importorskip("triton")
pytest.importorskip("cupy_backends")
from bench.aot import __main__ as aot


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--chips", "sm_60"], "--chips: got sm_60, expected some of sm_75"),
        (["--precision", "fp8,bf16"], "--precision: got fp8, expected some of bf16"),
        (["--jobs", "0"], "--jobs: got 0"),
        (["--chips", "sm_80", "--precision", "tf32"], "without --all"),
    ],
)
def test_arguments_that_make_no_sense(arguments, words, capsys):
    with pytest.raises(SystemExit) as end:
        aot.parse(arguments)
    assert end.value.code == 2 and words in capsys.readouterr().err


def test_check_without_a_table(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")  # main removes it; put back afterwards
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.setenv("TRITON_DEFAULT_FP_FUSION", "1")
    (tmp_path / "broken.json").write_text("{}")
    for name in ("none.json", "broken.json"):
        assert aot.main(["--check", "--out", str(tmp_path / name)]) == 1
        assert "no table of compiled kernels" in capsys.readouterr().err


def test_chips_that_are_tried():
    """Only where they are named, and never into the table."""
    assert not {"sm_87", "sm_103", "sm_121"} & {chip for chip, _ in [*aot.parse([]).pairs, *aot.parse(["--all"]).pairs]}
    page = (ROOT / "docs" / "gpu.md").read_text(encoding="utf-8")
    args = aot.parse(["--chips", *page.split("`python -m bench.aot --chips ")[1].split("`")[0].split()])
    assert args.pairs == [("sm_87", "bf16"), ("sm_103", "bf16"), ("sm_121", "bf16")] and args.partial
    assert aot.parse(["--chips", "sm_75,sm_80,sm_86,sm_89,sm_90,sm_100,sm_120,sm_121"]).partial and not aot.parse([]).partial
    assert [pair for pair in aot.parse(["--all"]).pairs if pair[0] == "sm_75"] == [("sm_75", "float32")]
