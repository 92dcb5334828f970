"""The binary interface of launches without a GPU: the engine on CuPy's own arrays, whose addresses nobody touches, through the launcher to
a stand-in for the driver. What compiled kernels take in return is `bench.aot`'s business (bench/aot/abi.py), where they are compiled.
"""

from __future__ import annotations

import itertools
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("triton", reason="Triton, whose functions are launched, is not installed (Linux only)")
pytest.importorskip("cupy", reason="CuPy is not installed")
if shutil.which("gcc") is None:
    pytest.skip("no gcc to compile the stand-in for libcuda", allow_module_level=True)

import cupy
from libcuda_case import NoCompiler, NoLaunches, cleared, libcuda

from bench.aot import abi
from bench.aot.collect import CI_PAIRS, cases, perform
from kernels.cuda.device.base import BFLOAT16, Device, Refused
from kernels.cuda.device.chips import CHIPS
from kernels.cuda.device.gpu import CuPyDevice
from kernels.cuda.device.host.build import function
from kernels.cuda.engine import CUDAEngine, dry_engine

FIRST, ALIGNMENT = 0x7F00_0000_0000, 512


class NoGPU(CuPyDevice):
    """A `CuPyDevice` whose arrays are `cupy.ndarray`s at made-up addresses: whatever used one of CuPy's own kernels would raise."""

    def __init__(self, chip):
        Device.__init__(self, chip)
        self.launches = []
        self.driver = NoLaunches()
        self.stream = SimpleNamespace(ptr=77, synchronize=lambda: None)
        self._cupy = cupy
        self._launcher = NoCompiler(self.driver, chip, lambda array: array.data.ptr, dependent=True)
        self._scratch, self._outgrown, self._graphs, self._allocations = {}, [], 0, 0
        self._next = itertools.count(FIRST, 1 << 32)

    def _allocate(self, size):
        self._allocations += 1
        room = -(-max(1, size) // ALIGNMENT) * ALIGNMENT
        return cupy.cuda.MemoryPointer(cupy.cuda.UnownedMemory(next(self._next), room, None, 0), 0)

    def _put(self, array, values):
        assert isinstance(array, cupy.ndarray) and isinstance(values, np.ndarray)

    def _download(self, array):
        assert isinstance(array, cupy.ndarray)
        return np.zeros(array.shape, array.dtype)


def described(launch):
    """All of a launch that decides what is launched."""
    types, constants = tuple(launch.signature.items()), {key: str(value) for key, value in launch.constexprs.items()}
    return launch.name, launch.grid, launch.warps, launch.stages, launch.shared, types, constants, launch.aligned, launch.defines


@pytest.mark.parametrize(("chip", "precision"), CI_PAIRS)
def test_every_launch_of_a_step(chip, precision):
    """On CuPy's arrays the same launches as recorded ones, each given the parameters of its signature; every tensor map as promised."""
    cleared(libcuda())
    for case in cases(False):
        if case.pairs and (chip, precision) not in case.pairs:
            continue
        recorded, engine = dry_engine(CHIPS[chip], precision), CUDAEngine(NoGPU(CHIPS[chip]), precision)
        perform(recorded, case)
        perform(engine, case)
        device = engine.device
        pairs = zip(map(described, device.launches), map(described, recorded.device.launches), strict=True)
        assert next((pair for pair in pairs if pair[0] != pair[1]), None) is None, case.title
        assert not device.pointers, "a tensor map was refused"
        for launch, given in zip(device.launches, device.driver.launched, strict=True):
            block = launch.constexprs["block"] if launch.kind == "cuda" else (32 * launch.warps, 1, 1)
            early = CHIPS[chip].dependent  # every kernel waits first
            assert given == (launch.name, launch.grid, block, launch.shared, 77, abi.sizes_of(launch), early), (case.title, launch.title)


def host_type(kind):
    """The name that the emulation has for an argument's type in a signature: "*f4", or "null"."""
    star, name = "*" * kind.startswith("*"), kind.lstrip("*")
    if name == "null":
        return name
    dtype = BFLOAT16 if name == "bfloat16" else np.dtype(name)
    return f"{star}{dtype.kind}{dtype.itemsize}"


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++, which reads the types of CUDA C functions")
@pytest.mark.parametrize("precision", ["bf16", "float32"])
def test_cuda_c_is_given_the_types_of_its_parameters(precision):
    engine = dry_engine(CHIPS["sm_90"], precision)
    for case in cases(False):
        perform(engine, case)
    wanted = {(one.source, one.name, one.defines, tuple(one.signature.values())) for one in engine.device.launches if one.kind == "cuda"}
    assert len(wanted) > 30
    for file, name, defines, signature in sorted(wanted):
        _, parameters = function(file, name, defines)
        given = list(map(host_type, signature))
        fits = [
            have == want or (want.startswith("*") and have == "null") or (want == "*x" and have.startswith("*"))
            for have, want in zip(given, parameters, strict=True)
        ]
        assert all(fits), (name, defines, given, parameters)


# ---- tensor maps ----

#: A map of [4, 6, 8, 64] bfloat16, its box one of [1, 2, 8, 64].
GOOD = {
    "address": 4096, "element": 2, "kind": 9, "swizzle": 3,
    "shape": [4, 6, 8, 64], "strides": [3072, 512, 64, 1], "box": [1, 2, 8, 64],
}  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"strides": [4096, 512, 64, 1]},  # padding
        {"shape": [64], "strides": [1], "box": [64]},
        {"shape": [2**32, 64], "strides": [64, 1], "box": [256, 64]},
        {"swizzle": 0, "box": [1, 2, 8, 256], "shape": [4, 6, 8, 256], "strides": [12288, 2048, 256, 1]},
        {"swizzle": 2, "box": [1, 2, 8, 32]},
    ],
)
def test_maps_that_are_promised(change):
    cleared(libcuda())
    assert bytes(NoLaunches().tensor_map(**{**GOOD, **change})) == b"\xab" * 128


@pytest.mark.parametrize(
    "change",
    [
        {"address": 4104},
        {"kind": 13},
        {"shape": [4, 0, 8, 64]},
        {"shape": [2**32 + 1, 6, 8, 64]},
        {"shape": [2] * 6, "strides": [128] * 5 + [1], "box": [1] * 5 + [64]},
        {"strides": [3072, 512, 68, 1]},  # no multiple of 16 bytes
        {"strides": [2**39, 512, 64, 1]},
        {"strides": [64, 512, 3072, 1], "shape": [8, 6, 4, 64]},  # the axes in another order
        {"strides": [3072, 448, 64, 1]},  # rows that overlap
        {"strides": [3072, 512, 56, 1]},  # pixels that overlap
        {"strides": [3136, 520, 64, 1]},  # no multiple of the next
        {"box": [0, 2, 8, 64]},
        {"box": [1, 2, 512, 64]},
        {"box": [1, 2, 8, 4], "swizzle": 0},  # 8 bytes
        {"box": [1, 2, 8, 128]},  # 256 bytes within 128
        {"swizzle": 1, "box": [1, 2, 8, 32]},
        {"swizzle": 7},
    ],
    ids=str,
)
def test_maps_that_are_not(change):
    cleared(libcuda())
    with pytest.raises(Refused, match=r"cuTensorMapEncodeTiled: CUDA_ERROR_OTHER \(1\): what it means; tensor map of shape"):
        NoLaunches().tensor_map(**{**GOOD, **change})
