"""What the tests of the native engine's build share: compilers that are shell scripts, and the engine that comes of them."""

from __future__ import annotations

import os
import shutil

import numpy as np

import kernels
from kernels.cpu.native import build

REAL = shutil.which("g++")
VERSION = 'case "$*" in *--version*) echo "c++ (Test) 1.0"; exit;; esac\n'
GOOD = f'exec {REAL} "$@" -O0\n'  # in a hurry
OUT = 'out=$(echo "$*" | sed "s/.*-o //; s/ .*//")\n'
FEW = ("elementwise", "pool")  # of the sources


def install(machine, text, name="c++"):
    """A compiler that is a shell script. It may use the programs that /bin has."""
    path = machine / "bin" / name
    path.write_text(f"#!/bin/sh\nPATH={os.environ['PATH']}:{os.path.dirname(REAL)}:/usr/bin:/bin\n{text}")
    path.chmod(0o755)


def cached(machine):
    return sorted((machine / "cache" / "vaegan-kernels" / "native").glob("*"))


def opened(**options):
    """(the engine, lines of progress); forgets what an earlier call in this process found."""
    build._opened.clear()
    lines = []
    engine = kernels.engine("cpu", "float32", progress=lines.append, **options)
    x = np.array([-1, 0, 2, np.nan], np.float32)
    y = engine.empty(x.shape)
    engine.relu_forward(y, x)
    assert np.array_equal(y, [0, 0, 2, np.nan], equal_nan=True), "it works, whichever it is"
    return engine, lines


def kind(engine):
    return engine.describe()["engine"]
