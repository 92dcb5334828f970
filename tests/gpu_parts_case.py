"""Parts of a section that go wrong in every way: for the tests of what runs them."""

from __future__ import annotations

import os
import time

from bench.gpu.parts import Part


def fine(engine):
    return {"ok": True, "text": "fine", "value": 1}


def wrong(engine):
    return {"ok": False, "why": "too large", "text": "wrong"}


def raises(engine):
    raise ValueError("bad\nshape")


def crashes(engine):
    os.abort()


def hangs(engine):
    time.sleep(600)


def parts(options):
    found = [("one", fine), ("two", wrong), ("three", raises), ("four", crashes), ("five", fine), ("six", hangs), ("seven", fine)]
    return [Part(label, "", run) for label, run in found]
