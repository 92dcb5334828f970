"""Fixtures of every test: the engine in both precisions, and a generator seeded by the test's own name."""

from __future__ import annotations

import os
import shutil
import zlib

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: its idle threads must not spin on a busy machine
os.environ.setdefault("TRITON_INTERPRET", "1")  # before triton, which decides at import: GPU kernels run interpreted here

import numpy as np
import pytest
import torch
from native_case import native_engine

import kernels


@pytest.fixture(scope="session", autouse=True)
def two_torch_threads():
    """The reference must not take cores that the machine does not have; results do not depend on it."""
    torch.set_num_threads(2)


@pytest.fixture(scope="session", autouse=True)
def compiled():
    """The native engine's library is in the cache before a test runs a command, which would say that it compiles it."""
    kernels.engine("cpu")


@pytest.fixture(scope="session", params=["cpu-float64", "cpu-float32", "native-native", "native-avx2", "native-baseline", "cuda-float32"])
def engine(request):
    """Each engine that operations are held against PyTorch on; "cuda" is the CUDA engine on the host: kernels interpreted and emulated;
    "native" the C++ one at each width of vectors that this machine has."""
    device, precision = request.param.split("-")
    if device == "native":
        return native_engine(precision)
    if device == "cuda":
        return emulated(precision)
    return kernels.engine(device, precision=precision, implementation="numpy")


def emulated(precision: str):
    """The CUDA engine on the host; skips, and says so, where Triton or a C++ compiler is missing."""
    pytest.importorskip("triton", reason="Triton, which interprets the GPU kernels, is not installed (Linux only)")
    if shutil.which("g++") is None:
        pytest.skip("no g++ to compile the CUDA C kernels for the host")
    from kernels.cuda.engine import emulated_engine

    return emulated_engine(precision)


@pytest.fixture(scope="session")
def cuda32():
    """The CUDA engine on the host in float32."""
    return emulated("float32")


@pytest.fixture(scope="session")
def engine64():
    """The NumPy engine in float64, for checks that need no second precision."""
    return kernels.engine("cpu", precision="float64")


@pytest.fixture(scope="session")
def engine32():
    """The NumPy engine in float32."""
    return kernels.engine("cpu", precision="float32", implementation="numpy")


@pytest.fixture
def rng(request):
    """Random data, different in every test, the same in every run."""
    return np.random.default_rng(zlib.crc32(request.node.nodeid.encode()))


@pytest.fixture
def cheap_launches(monkeypatch):
    """A time model in which a launch costs nothing, so that products small enough for the interpreter are split too."""
    from kernels.cuda.products import time_model

    for name in ("GAP", "DEPENDENT_GAP", "RAMP", "LATENCY"):
        monkeypatch.setattr(time_model, name, 1e-12)
    time_model.split.cache_clear()
    yield
    time_model.split.cache_clear()


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """The folder of a short run, for the explorer."""
    import explorer_case

    return explorer_case.train_short(tmp_path_factory.mktemp("explorer"))


@pytest.fixture(scope="module")
def site(run_folder):
    """The explorer's server of that run and of the model that comes with the program."""
    import explorer_case

    with explorer_case.served(run_folder, "faces") as server:
        yield server


@pytest.fixture(scope="module")
def downloads(tmp_path_factory):
    """The folder that ``driver`` downloads to."""
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="module")
def driver(downloads):
    """A browser."""
    import browser_case

    with browser_case.chromium(downloads) as driver:
        yield driver
