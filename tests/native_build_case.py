"""What the tests of the native engine's build share: compilers that are shell scripts, and the engine that comes of them."""

from __future__ import annotations

import os
import shutil

import numpy as np

import kernels
from kernels.cpu.native import build, library

REAL = shutil.which("g++")
VERSION = 'case "$*" in *--version*) echo "c++ (Test) 1.0"; exit;; esac\n'
# In a hurry. An object that another test of this worker has made with the same flags is taken from it, in the folder of all tests' folders.
GOOD = f"""
case "$*" in *" -c {library.HERE}/"*" -o "*)
    kept=$(dirname "$0")/../../objects-$(echo "$*" | sed 's/ -o .*//' | cksum | tr ' ' '-')
    out=$(echo "$*" | sed 's/.* -o //')
    [ -f "$kept" ] || {{ {REAL} "$@" -O0 && cp "$out" "$kept.$$" && mv "$kept.$$" "$kept"; }} || exit
    exec cp "$kept" "$out";;
esac
exec {REAL} "$@" -O0
"""
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
