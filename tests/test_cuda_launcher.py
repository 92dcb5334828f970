"""Ahead-of-time compilation, and what the driver is given at a launch: a stand-in for libcuda writes it down."""

from __future__ import annotations

import ctypes
import dataclasses
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("triton", reason="Triton, which compiles the GPU kernels, is not installed (Linux only)")
pytest.importorskip("cupy", reason="CuPy, through which NVRTC compiles the CUDA C kernels, is not installed")
if shutil.which("gcc") is None:
    pytest.skip("no gcc to compile the stand-in for libcuda", allow_module_level=True)

import device_demo
from libcuda_case import cleared, libcuda

from bench.aot import abi
from kernels.cuda.device.base import BFLOAT16, Descriptor
from kernels.cuda.device.chips import CHIPS
from kernels.cuda.device.compile import Code, compile_launch, key_of, parameter_sizes, whole_elf
from kernels.cuda.device.driver import Driver, driver_version
from kernels.cuda.device.dry import DryDevice
from kernels.cuda.device.host.device import HostDevice
from kernels.cuda.device.launcher import Launcher
from kernels.cuda.device.parallel import compile_many
from kernels.cuda.device.source import CUDA, kernels_of, source_of, waits_first
from kernels.ledger import Cost

HERE = Path(__file__).parent
FILE = str(HERE / "device_demo.cu")
REST = {"warps": 4, "stages": 2, "cost": Cost(0, 0, 0)}


@pytest.fixture
def library():
    """The stand-in for libcuda."""
    return libcuda()


@pytest.fixture
def seen(library):
    return cleared(library)


class FakeGPU(HostDevice):
    """Arrays of the host, launches to the stand-in for libcuda on stream 77."""

    interpreted = False

    def __init__(self, library, **options):
        super().__init__(**options)
        self.launcher = Launcher(Driver(library), self.chip, lambda array: array.ctypes.data, dependent=True)

    def _run_triton(self, launch, values):
        self.launcher.triton(launch, values, 77)

    def _run_cuda(self, launch, args):
        self.launcher.cuda(launch, args, 77)


def product(dev, out, a, b):
    left, right = Descriptor(a, a.shape, [a.shape[1], 1], [64, 64]), Descriptor(b, b.shape, [b.shape[1], 1], [64, 64])
    dev.triton(device_demo.product, (2, 3), out, left, right, 64, **REST, M=64, N=64, K=64, INTERPRETED=False)


def demo_launches(dev):
    dev.launches = []
    a, b, out = (dev.empty((64, 64), BFLOAT16) for _ in range(3))
    product(dev, out, a, b)
    dev.triton(device_demo.scale_rows, (4,), out, a, None, 2**40, 1.5, **REST, COLUMNS=64)
    dev.cuda(FILE, "scale", 1, 64, out, a, np.float32(2), np.int64(64), cost=REST["cost"], defines=("ACT_BF16",))
    return dev.launches


@pytest.fixture(scope="module", params=["sm_90", "sm_100"])
def compiled(request):
    """Launches by name, and their code: compiled in other processes, since this one interprets."""
    chip = CHIPS[request.param]
    launches = demo_launches(DryDevice(chip))
    steps = []
    codes = compile_many([*launches, launches[0]], chip, 2, lambda done, of: steps.append((done, of)))
    assert steps == [(0, 3), (1, 3), (2, 3), (3, 3)]
    return {launch.name: (launch, codes[key_of(launch)]) for launch in launches}


def test_compiled_code(compiled):
    for launch, code in compiled.values():
        assert code.image[:4] == b"\x7fELF" and code.name == launch.name
        assert code.image == whole_elf(code.image), "a byte is missing"
    code = compiled["product"][1]
    assert code.warps == 4 and code.shared >= 2 * 64 * 64 * 2
    assert [meta["block_size"] for meta in code.descriptors] == [[64, 64], [64, 64]]


def test_what_compiled_code_takes(compiled):
    """`bench.aot` reads it off each cubin that it compiles."""
    for launch, code in compiled.values():
        assert abi.wrong(launch, code.name, code) == []
    launch, code = compiled["product"]
    longer = dataclasses.replace(launch, signature=launch.signature | {"K2": "i64"})
    (line,) = abi.wrong(longer, "product", code)
    assert line.startswith("takes parameters of [8, 128, 4, 4, 8, 8, 128, ") and line.endswith("4, 8, 8, 8]")
    types = {name: kind.replace("64, 64", "64, 32") for name, kind in launch.signature.items()}
    (line,) = abi.wrong(dataclasses.replace(launch, signature=types), "product", code)
    assert line.startswith("has boxes [{'block_size': [64, 64], 'elem_size': 2, 'swizzle': 3}") and "'swizzle': 2}" in line
    (line,) = abi.wrong(launch, "product", code._replace(warps=8))
    assert "of at most (128, 1, 1) threads" in line or "requires blocks of (128, 1, 1) threads" in line
    launch, code = compiled["scale"]
    (line,) = abi.wrong(dataclasses.replace(launch, signature=launch.signature | {"3": "int32"}), "scale", code)
    assert "[8, 8, 4, 8] bytes, launches give [8, 8, 4, 4]" in line
    with pytest.raises(RuntimeError, match=r"other: the cubin has no section .nv.info.other"):
        abi.wrong(launch, "other", code)


def test_parameter_sizes():
    signature = {"x": "*bf16", "d": "tensordesc<fp32[1, 8, 16]>", "n": "i32", "m": "i64", "f": "fp32", "B": "constexpr"}
    assert parameter_sizes(signature) == [8, 128, 4, 4, 4, 8, 8, 8, 4, 8, 4, 8, 8]


def test_what_does_not_compile_is_named(tmp_path):
    broken = tmp_path / "broken.cu"
    broken.write_text('extern "C" __global__ void broken(float* x) {\n    x[0] = y;\n}\n')
    dry = DryDevice(CHIPS["sm_86"])
    x = dry.empty((64, 64), np.float32)
    dry.cuda(str(broken), "broken", 1, 32, x, cost=REST["cost"])
    dry.triton(device_demo.scale_rows, (4,), x, x, None, 4, 1.5, **REST, COLUMNS=63)
    dry.cuda(FILE, "not_there", 1, 32, x, cost=REST["cost"])
    with pytest.raises(RuntimeError) as caught:
        compile_many(dry.launches, dry.chip, 2)
    text = str(caught.value)
    assert text.startswith("3 of 3 kernels do not compile for RTX 30: ")
    assert "broken.cu(2): error" in text and "scale_rows for RTX 30" in text and "power of 2" in text and "not_there" in text


def test_shared_memory_is_the_chips():
    """Three stages of 64×256 and 256×64 boxes need 192 KB: an H100 has them, an RTX 50 does not."""
    messages = []
    for name in ("sm_90", "sm_120"):
        dry = DryDevice(CHIPS[name])
        a, b, out = dry.empty((64, 1024), BFLOAT16), dry.empty((1024, 64), BFLOAT16), dry.empty((64, 64), BFLOAT16)
        left, right = Descriptor(a, a.shape, [1024, 1], [64, 256]), Descriptor(b, b.shape, [64, 1], [256, 64])
        rest = REST | {"stages": 3}
        dry.triton(device_demo.product, (1,), out, left, right, 1024, **rest, M=64, N=64, K=256, INTERPRETED=False)
        try:
            compile_many(dry.launches, dry.chip, 2)
        except RuntimeError as error:
            messages.append((name, str(error)))
    assert [name for name, _ in messages] == ["sm_120"]
    assert "bytes of shared memory, a block of RTX 50 has 101376" in messages[0][1]


def test_no_compiling_in_a_process_that_interprets():
    launch = demo_launches(DryDevice())[0]
    with pytest.raises(RuntimeError, match="unset TRITON_INTERPRET"):
        compile_launch(launch, CHIPS["sm_90"])


# ---- the driver ----


def load(dev, compiled, seen, name):
    launch, code = compiled[name]
    dev.launcher.load(launch, code)
    sizes = parameter_sizes(launch.signature) if launch.kind == "triton" else [8, 8, 4, 8]
    seen.parameters, seen.sizes[: len(sizes)] = len(sizes), sizes
    return [bytes(value)[:size] for value, size in zip(seen.values, sizes, strict=False)]


def given(seen):
    return [bytes(seen.values[i])[: seen.sizes[i]] for i in range(seen.parameters)]


def number(kind, value):
    return np.array(value, kind).tobytes()


def test_triton_launch(library, seen, compiled):
    dev = FakeGPU(library)
    a, b, out = dev.empty((96, 64), BFLOAT16), dev.empty((64, 64), BFLOAT16), dev.empty((128, 64), BFLOAT16)
    load(dev, compiled, seen, "product")
    product(dev, out, a, b)
    code = compiled["product"][1]
    assert (list(seen.grid), list(seen.block), seen.shared, seen.stream) == ([2, 3, 1], [128, 1, 1], code.shared, 77)
    view = [b"\xab" * 128, *(number("i4", n) for n in (96, 64)), *(number("i8", n) for n in (64, 1))]
    other = [b"\xab" * 128, *(number("i4", n) for n in (64, 64)), *(number("i8", n) for n in (64, 1))]
    null = number("u8", 0)
    assert given(seen) == [number("u8", out.ctypes.data), *view, *other, number("i4", 64), null, null]


def test_tensor_map(library, seen, compiled):
    """Innermost axis first, strides in bytes without the innermost, bfloat16 = 9, 128-byte swizzle = 3, outside zero."""
    dev = FakeGPU(library)
    load(dev, compiled, seen, "product")
    a, b, out = (dev.empty((64, 64), BFLOAT16) for _ in range(3))
    product(dev, out, a, b)
    assert (seen.map_kind, seen.map_rank, seen.map_swizzle, seen.map_address) == (9, 2, 3, b.ctypes.data)
    assert (seen.map_interleave, seen.map_promotion, seen.map_fill) == (0, 2, 0)
    dev.launcher._driver.tensor_map(4096, 4, 7, 1, [5, 6, 7, 8], [512, 64, 8, 1], [1, 2, 4, 8])
    assert list(seen.map_shape)[:4] == [8, 7, 6, 5] and list(seen.map_strides)[:3] == [32, 256, 2048]
    assert list(seen.map_box)[:4] == [8, 4, 2, 1] and list(seen.map_steps)[:4] == [1, 1, 1, 1]


def test_scalars_of_triton(library, seen, compiled):
    dev = FakeGPU(library)
    load(dev, compiled, seen, "scale_rows")
    x, y = dev.empty((64, 64), BFLOAT16), dev.empty((64, 64), BFLOAT16)
    dev.triton(device_demo.scale_rows, (4,), y, x, None, 2**40, 1.5, **REST, COLUMNS=64)
    null = number("u8", 0)
    assert given(seen) == [number("u8", y.ctypes.data), number("u8", x.ctypes.data), number("i8", 2**40), number("f4", 1.5), null, null]


def test_cuda_launch(library, seen, compiled):
    dev = FakeGPU(library)
    load(dev, compiled, seen, "scale")
    x = dev.empty((64,), BFLOAT16)
    dev.cuda(FILE, "scale", (2, 3), (32, 2), None, x, np.float32(2), np.int64(-1), cost=REST["cost"], defines=("ACT_BF16",), shared=1000)
    assert (list(seen.grid), list(seen.block), seen.shared, seen.stream) == ([2, 3, 1], [32, 2, 1], 1000, 77)
    assert given(seen) == [number("u8", 0), number("u8", x.ctypes.data), number("f4", 2), number("i8", -1)]


def test_large_shared_memory_is_asked_for_once(library, seen, compiled):
    dev = FakeGPU(library)
    load(dev, compiled, seen, "scale")
    x = dev.empty((64,), BFLOAT16)
    for shared in (48 << 10, 50_000, 60_000, 55_000):
        dev.cuda(FILE, "scale", 1, 32, x, x, np.float32(2), np.int64(1), cost=REST["cost"], defines=("ACT_BF16",), shared=shared)
    assert seen.attribute_count == 4 and list(seen.attribute) == [50_000, -9, 60_000, -9] and seen.loads == 1


def test_only_kernels_that_wait_are_launched_early(library, seen, compiled):
    """The demonstration's kernels do not wait; a chip without the instruction has none that can."""
    x = HostDevice().empty((64,), BFLOAT16)

    def early(chip, waits):
        dev = FakeGPU(library, chip=CHIPS[chip])
        launch, code = compiled["scale"]
        dev.launcher.load(launch, code._replace(image=b"waits", waits=waits))
        seen.parameters, seen.sizes[:4] = 4, [8, 8, 4, 8]
        dev.cuda(FILE, "scale", (2, 3), (32, 2), x, x, np.float32(2), np.int64(-1), cost=REST["cost"], defines=("ACT_BF16",), shared=96)
        assert (list(seen.grid), list(seen.block), seen.shared, seen.stream) == ([2, 3, 1], [32, 2, 1], 96, 77)
        assert given(seen)[2:] == [number("f4", 2), number("i8", -1)]
        return bool(seen.dependent)

    assert [early("sm_90", True), early("sm_90", False), early("sm_80", True)] == [True, False, False]
    assert not compiled["scale"][1].waits


def test_every_kernel_waits_for_the_launch_before():
    """Its first statement: a kernel that is launched early must touch no memory before."""
    files = [path for path in CUDA.rglob("*.cu") if kernels_of(source_of(str(path)))]
    assert len(files) > 8
    for path in files:
        text = source_of(str(path))
        assert [name for name in kernels_of(text) if not waits_first(text, name)] == [], path
    assert not waits_first('extern "C" __global__ void f(int *p) { *p = 1; after_previous_launch(); }', "f")


def test_driver_errors(library, seen, compiled):
    dev = FakeGPU(library)
    load(dev, compiled, seen, "scale")
    x = dev.empty((64,), BFLOAT16)
    with pytest.raises(RuntimeError, match=r"cuLaunchKernel: CUDA_ERROR_ILLEGAL_ADDRESS \(700\): what it means"):
        dev.cuda(FILE, "scale", 700, 32, x, x, np.float32(2), np.int64(1), cost=REST["cost"], defines=("ACT_BF16",))
    with pytest.raises(RuntimeError, match=r"cuModuleLoadData: CUDA_ERROR_OTHER \(200\).*while loading f"):
        dev.launcher._driver.load(b"wrong", "f", 0)
    with pytest.raises(RuntimeError, match="device cuda: the NVIDIA driver's no-such.so cannot be loaded"):
        Driver("no-such.so")
    with pytest.raises(RuntimeError, match="has no cuTensorMapEncodeTiled: it is too old"):
        old = Driver(library)
        old._library = ctypes.CDLL(None)
        old.tensor_map(4096, 2, 9, 3, [64, 64], [64, 1], [64, 64])
    assert driver_version(library) == 12040 and driver_version("no-such.so") is None


def test_other_threads_get_the_context(library, seen):
    driver = Driver(library)
    threads = [threading.Thread(target=driver.load, args=(b"\x7fELF", "f", 0)) for _ in range(2)]
    for thread in threads:
        thread.start()
        thread.join()
    driver.load(b"\x7fELF", "f", 0)
    driver.load(b"\x7fELF", "f", 0)
    assert seen.context_sets == 3 and seen.loads == 4


def test_nothing_is_loaded_while_a_graph_is_captured(library, seen, compiled):
    dev = FakeGPU(library)
    dev.launcher.frozen = True
    with pytest.raises(RuntimeError, match="scale_rows: first launched while a graph is captured"):
        dev.launcher.load(compiled["scale_rows"][0], Code(b"", "scale_rows"))
    assert seen.loads == 0
