"""One training step of paper64 against PyTorch, plain and lean. `python -m bench.step` adds memory and writes a report."""

from __future__ import annotations

import os

import pytest

from bench.harness import compare
from bench.shapes import BATCH
from bench.step import faster_layout, make

NETWORK = os.environ.get("BENCH_NETWORK", "paper64")


@pytest.mark.parametrize("peer", ["plain", "lean"])
def test_step(benchmark, peer):
    """Correctness is tests/test_peers.py and tests/test_vaegan.py."""
    layout = faster_layout(peer, NETWORK, BATCH)
    compare(benchmark, make("ours", NETWORK, BATCH), make(peer, NETWORK, BATCH, layout))
