"""Damaged files of every kind are read or refused in one line: 200 of them (docs/reliability.md has 10,000)."""

from __future__ import annotations

import random

import numpy as np
import pytest
from fuzz_files import damaged, fuzz, read

from vaegan_kernels.shell.errors import UserError


def test_200_damaged_files():
    results, wrong = fuzz(200, seed=3)
    assert wrong == []
    ended = {ending: sum(found[ending] for found in results.values()) for ending in ("read", "refused")}
    assert len(results) > 15 and sum(ended.values()) == 200 and min(ended.values()) > 30


@pytest.mark.parametrize("error, ending", [(KeyError("x"), "KeyError: 'x'"), (UserError("a\nb"), "more than one line: a\nb")])
def test_a_wrong_ending_is_seen(tmp_path, monkeypatch, error, ending):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("fuzz_files.check_source", fail)
    assert read(tmp_path, "x", "data") == ending


def test_what_is_damaged_differs():
    rng = random.Random(0)
    content = np.random.default_rng(0).bytes(5000)
    assert sum(damaged(content, rng) != content for _ in range(100)) > 90
