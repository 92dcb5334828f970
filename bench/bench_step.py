"""One training step of BENCH_NETWORK against PyTorch. `python -m bench.step` adds memory and writes a report."""

from __future__ import annotations

import pytest

from bench.contestants import OURS, defaults, fastest, make
from bench.harness import compare
from bench.shapes import BATCH, SPEC
from bench.side import side

TARGET = {"device": side().name, "precision": side().precision}


@pytest.mark.parametrize("peer", [name for name in defaults(side().name) if name not in OURS])
def test_step(benchmark, peer):
    """Correctness is tests/test_peers.py and tests/test_vaegan.py."""
    settings = fastest(peer, SPEC, BATCH, **TARGET)
    ours, theirs = (make(name, SPEC, BATCH, settings=s, **TARGET) for name, s in (("ours", ""), (peer, settings)))
    compare(benchmark, side(), lambda seed: (ours.step, theirs.step), held=1e12, graphs=False)
