"""The native library's threads as Python uses them; what Python cannot show is proven by native_proof.py."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from native_compile import shared_library

from kernels.cpu.native import library

ROOT = Path(__file__).resolve().parent.parent
SOURCES = (library.HERE / "pool.cpp", library.HERE / "elementwise.cpp", ROOT / "tests" / "native" / "no_memory.cpp")
SIZE = 300_001  # several pieces, the last one odd


@pytest.fixture(scope="module", autouse=True)
def built(tmp_path_factory):
    """The library's path: the pool, operations to run on it, and calls that fail."""
    if shutil.which("g++") is None:
        pytest.skip("no g++ to compile the native library")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(library, "SOURCES", SOURCES)
        yield shared_library(tmp_path_factory.mktemp("native") / "pool.so")


@pytest.fixture(scope="module")
def loaded(built):
    return library.load(built)


def relu(loaded, x):
    y = np.full_like(x, np.nan)
    loaded.relu_forward(y, x, x.size)
    return y


def draw(rng, size=SIZE):
    return rng.standard_normal(size, dtype=np.float32)


@pytest.mark.parametrize("threads", [1, 2, 5, 2, 16])
def test_the_number_of_threads_changes_no_bit(loaded, rng, threads):
    loaded.set_threads(threads)
    for size in (1, 16_384, 16_385, SIZE):
        x, dy = draw(rng, size), draw(rng, size)
        y, dx = relu(loaded, x), np.full_like(x, np.nan)
        loaded.relu_backward(dx, dy, y, size)
        assert np.array_equal(y, np.maximum(x, 0))
        assert np.array_equal(dx, dy * (x > 0))


def test_python_threads_at_once(loaded, rng):
    """Three threads call operations while a fourth changes the number of threads."""
    wrong, stop = [], threading.Event()

    def work(x):
        for _ in range(100):
            if not np.array_equal(relu(loaded, x), np.maximum(x, 0)):
                wrong.append("other values")

    def change():
        for threads in itertools.cycle((1, 3, 2)):
            loaded.set_threads(threads)
            if stop.wait(0.001):
                return

    workers = [threading.Thread(target=work, args=(draw(rng),)) for _ in range(3)]
    changer = threading.Thread(target=change)
    for thread in (changer, *workers):
        thread.start()
    for thread in workers:
        thread.join(60)
    stop.set()
    changer.join(60)
    assert not wrong and not any(thread.is_alive() for thread in (changer, *workers))


@pytest.mark.parametrize("threads", [1, 3])
def test_no_memory_is_an_error_of_that_call(loaded, rng, threads):
    loaded.set_threads(threads)
    for call in (lambda: loaded.fail_in_piece(8, 5), lambda: loaded.fail_in_piece(1, 0), lambda: loaded.fail_outside(1)):
        with pytest.raises(MemoryError, match="no memory for what fail_.* try a smaller batch") as caught:
            call()
        assert "\n" not in str(caught.value)
        loaded.fail_in_piece(8, -1)
        loaded.fail_outside(0)
        x = draw(rng)
        assert np.array_equal(relu(loaded, x), np.maximum(x, 0))


PROGRAM = """
import os, signal, sys, threading, time
from pathlib import Path
import numpy as np
from kernels.cpu.native import library
library.SOURCES = tuple(map(Path, sys.argv[2:]))
loaded = library.load(sys.argv[1])
loaded.set_threads(3)
x = np.random.default_rng(0).standard_normal(300_001, dtype=np.float32)

def right():
    y = np.full_like(x, np.nan)
    loaded.relu_forward(y, x, x.size)
    return np.array_equal(y, np.maximum(x, 0))

assert right()
"""

FORK = """
stop = False

def work():
    while not stop:
        assert right()

thread = threading.Thread(target=work)
thread.start()
for _ in range(20):
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # a hang ends it
        good = all([right() for _ in range(5)])
        threads = len(os.listdir("/proc/self/task")) if os.path.isdir("/proc/self/task") else 3
        loaded.set_threads(2)
        os._exit(0 if good and threads == 3 and right() else 1)
    assert os.waitpid(child, 0)[1] == 0
stop = True
thread.join()
"""

IDLE = """
for threads in (3, 1):
    loaded.set_threads(threads)
    assert right()
    time.sleep(0.05)
    before = time.process_time()
    time.sleep(0.5)
    used = time.process_time() - before
    assert used < 0.005, f"{used} s of CPU time in half a second of sleep"
"""


@pytest.mark.parametrize("program", [FORK, IDLE], ids=["forked processes", "idle"])
def test_in_a_process_of_its_own(built, program):
    if program is FORK and not hasattr(os, "fork"):
        pytest.skip("this system has no fork")
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PROGRAM + program, str(built), *map(str, SOURCES)],
        capture_output=True, text=True, timeout=120, check=False, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
