"""Several processes with a GPU each, without one: what they do together is the same on all (recorded), legal in a CUDA graph (a stand-in
for NCCL), and right (emulated GPUs, over MPI)."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("triton", reason="Triton, whose kernels the CUDA engine launches, is not installed (Linux only)")
pytest.importorskip("ml_dtypes", reason="ml_dtypes, NumPy's bfloat16, is not installed")

from bench.dry import OneOf, record_step, shared, step_body
from kernels.cuda.device.chips import CHIPS
from kernels.cuda.engine import CUDAEngine, dry_engine
from kernels.ranks.device import DeviceRanks
from kernels.ranks.engine import RankedEngine
from kernels.ranks.nccl import NCCLRanks, of_device, take_gpu
from models.objective import Objective
from models.vaegan import VAEGAN

needs_stand_in = pytest.mark.skipif(
    importlib.util.find_spec("cupy") is None or shutil.which("gcc") is None, reason="no CuPy or no gcc for the stand-in for a GPU"
)


# ---- recorded ----


def recorded(rank, size, images):
    """The launches and the collectives of a step of paper64 by process ``rank``."""
    engine = shared(dry_engine(CHIPS["sm_90"]), rank, size, images)
    launches = record_step(engine, "paper64", engine.here)
    return launches, engine.device.collectives


def test_all_processes_do_the_same_together():
    """500 images on 8 processes: four have 63, four 62. Order, kind, types and bytes of what they do together are the same."""
    steps = [recorded(rank, 8, 500) for rank in range(8)]
    collectives = steps[0][1]
    assert all(found == collectives for _, found in steps)
    assert len(collectives) == 36 and [c.kind for c in collectives].count("total") == 1 and collectives[-1].kind == "total"
    assert collectives[-1].dtypes == ("float64", "float32", "float32", "float32")
    gathered = [c for c in collectives if c.dtypes == ("bfloat16",)]  # rows of the two large layers, of 63 images each
    spec = [3 * 63 * (16384 + 512), 63 * (16384 + 2048)]
    assert [sum(n for c in gathered[i : i + 2] for n in c.nbytes) for i in (0, 2)] == [2 * 8 * n for n in spec]
    names = [[launch.name for launch in launches] for launches, _ in steps]
    assert all(sorted(found) == sorted(names[0]) for found in names[:4]) and len(names[0]) <= 210, len(names[0])


def test_alone_nothing_is_shared():
    engine = dry_engine(CHIPS["sm_90"])
    assert len(record_step(engine, "paper64", 64)) == 120 and engine.device.collectives == []


def test_the_place_among_the_launches():
    engine = dry_engine(CHIPS["sm_90"])
    device, ranks = engine.device, DeviceRanks(OneOf(1, 2), engine.device)
    device.prepare(lambda: ranks.gather(engine.empty((2, 4))))
    assert [c.kind for c in device.collectives] == ["gather"]
    device.launches, buffer = [], engine.empty((2, 4))
    engine.normal(buffer, seed=0, step=0, stream=1)
    assert not device.launches, "it is held back"
    ranks.gather(buffer)
    assert len(device.launches) == 1
    with pytest.raises(ValueError, match="gather: got a view of shape"):
        ranks.gather(engine.empty((2, 4, 2))[..., 0])


# ---- emulated ----


def test_a_bias_within_together(cuda32, rng):
    """The gradient of a bias is shared when it is there, which is at the end; not one that lies there from before."""
    engine = RankedEngine(cuda32, DeviceRanks(OneOf(0, 1), cuda32.device), 6)
    shape = (16, 24)
    assert engine.gathers(shape, 1)
    x, dy = rng.standard_normal((2, 6, 16)), rng.standard_normal((2, 6, 24))
    grads = [engine.gradients([shape, (24,)], 1).arrays for _ in range(2)]
    engine.ranks._gather = lambda buffer: None
    with engine.together(), engine.together():
        for (dw, dbias), rows, errors in zip(grads, x, dy, strict=True):
            engine.linear_wgrad(dw, cuda32.asarray(rows), cuda32.asarray(errors), dbias=dbias)
    for (dw, dbias), rows, errors in zip(grads, x, dy, strict=True):
        assert np.allclose(cuda32.to_numpy(dw), rows.T @ errors, atol=1e-5)
        assert np.allclose(cuda32.to_numpy(dbias), errors.sum(axis=0), atol=1e-5)


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ to compile the CUDA C kernels for the host")
def test_two_emulated_gpus_over_mpi(cuda32, tmp_path):
    """A step of a small VAE/GAN on 7 images, shared as 4 and 3, in float32, against that on one emulated GPU: parameters, optimiser state
    and statistics."""
    from ranks_case import HERE, ended, start
    from ranks_emulated import stepped
    from test_cuda_step import errors

    job = start(2, HERE / "ranks_emulated.py", tmp_path / "found.npz")
    expected = stepped(cuda32, slice(None))  # meanwhile
    code, out, err = ended(job, 600)
    assert code == 0, f"{out}\n{err}"
    found = dict(np.load(tmp_path / "found.npz"))
    assert found.pop("gathers") > 30 and found.keys() == expected.keys()
    assert np.array_equal(found.pop("flags"), expected.pop("flags"))
    for name, error in errors(found, expected).items():
        assert error < (1e-6 if name.startswith("means") else 1e-5), (name, error)


# ---- a stand-in for NCCL ----


@pytest.fixture
def gpu(monkeypatch):
    """The stand-in for a GPU, that for NCCL, and `NCCLRanks` on them."""
    from fake_nccl import GPU, FakeNCCL, Host
    from libcuda_case import libcuda, uncompiled

    from kernels.cuda.device import launcher

    monkeypatch.setattr(launcher, "compile_launch", lambda launch, chip, *, cached=False: uncompiled(launch))
    monkeypatch.delenv("NCCL_ALGO", raising=False)
    device = GPU(libcuda())
    nccl = FakeNCCL(device)
    monkeypatch.setitem(sys.modules, "cupy_backends.cuda.libs.nccl", nccl)
    host = Host(device)
    return SimpleNamespace(device=device, nccl=nccl, host=host, ranks=NCCLRanks(host, device))


@needs_stand_in
def test_a_step_is_captured_with_its_collectives(gpu):
    """Steps until nothing is allocated, then one graph, and from then on neither MPI nor NCCL is called."""
    from test_cuda_step import TINY

    assert of_device(gpu.host, None) is gpu.host
    gpu.host.others = [["gpu", "cpu", "gpu"]]
    with pytest.raises(RuntimeError, match="process 1 of 3 found no GPU, others did"):
        of_device(gpu.host, gpu.device)
    gpu.host.others = None
    engine = RankedEngine(CUDAEngine(gpu.device, "bf16"), gpu.ranks, 7)
    model = VAEGAN(engine, TINY)
    body = step_body(engine, model, engine.here, Objective(), engine.asarray(np.zeros((9, 8, 8, 3)), np.uint8))
    engine.prepare(body)
    assert gpu.nccl.done == []
    replay = engine.record(body)
    gpu.device.collectives = []
    while not gpu.device.stream.captured:
        replay()
    calls, asked = len(gpu.nccl.done), gpu.host.asked
    replay()
    assert gpu.device.stream.replayed == 2 and (len(gpu.nccl.done), gpu.host.asked) == (calls, asked)
    captured = [(kind, n) for kind, n, inside in gpu.nccl.done if inside]
    before = [(kind, n) for kind, n, inside in gpu.nccl.done if not inside]
    assert len(captured) > 30 and len(before) % len(captured) == 0 and before[-len(captured) :] == captured
    assert [(c.kind, sum(c.nbytes)) for c in gpu.device.collectives][-len(captured) :] == captured
    assert os.environ["NCCL_ALGO"] == "Ring"


@needs_stand_in
def test_processes_capture_at_the_same_call(gpu):
    """One that has allocated nothing waits for one that has."""
    votes = [1, 1, 0]
    gpu.host.largest = lambda number: votes.pop(0)
    replay = gpu.device.record(lambda: None)
    for _ in range(3):
        replay()
    assert not votes and gpu.device.stream.captured == 1


@needs_stand_in
def test_a_launch_behind_a_collective_begins_when_that_has_ended(gpu):
    engine, buffer, given = CUDAEngine(gpu.device, "float32"), gpu.device.empty((3, 4), np.float32), []

    def gather():
        gpu.ranks.gather(buffer)

    def rehearse():
        gpu.device.prepare(gather)

    for act in (None, None, gather, None, rehearse, lambda: (gather(), rehearse())):
        if act:
            act()
        engine.fill(buffer, 0)
        given.append(bool(gpu.device.seen.dependent))
    assert given == [True, True, False, True, True, False]


@needs_stand_in
def test_what_is_refused(gpu):
    """The stand-in refuses what it must, and the engine's own code what it can."""
    from fake_nccl import Refused

    device, ranks, nccl = gpu.device, gpu.ranks, gpu.nccl
    buffer, stream = device.empty((3, 8), np.float32), device.stream.ptr
    at, part, join = buffer.data.ptr, buffer.nbytes // 3, ranks._communicator
    whole = nccl.NCCL_INT8
    for wrong in (
        lambda: join.allGather(at + part, at, part, whole, stream + 1),
        lambda: join.allGather(at, at, part, whole, stream),
        lambda: join.allGather(at + 4 * part, at, 4 * part, whole, stream),
        lambda: join.allGather(at + part, at, np.int64(part), whole, stream),
        lambda: join.allReduce(at, at, 24, nccl.NCCL_FLOAT32, nccl.NCCL_SUM, stream),
        lambda: join.allReduce(at, at, 24, whole, nccl.NCCL_SUM, stream),
        nccl.groupEnd,
        lambda: nccl.NcclCommunicator(3, nccl.NUMBER, 1),
        lambda: device.record(lambda: ranks.gather(buffer))() or device._capture(lambda: ranks.total([buffer])),
    ):
        with pytest.raises(Refused):
            wrong()
    for wrong, words in (
        (lambda: device._capture(lambda: ranks.largest(3)), "asks other processes while a graph is captured"),
        (lambda: device._capture(lambda: ranks.gather(device.empty((3, 8), np.float32))), "allocates an array while a graph"),
        (lambda: ranks.gather(np.zeros((3, 8), np.float32)), "not on the device"),
        (lambda: ranks.gather(device.empty((3, 8, 2), np.float32)[..., 0]), "not C-contiguous"),
    ):
        with pytest.raises((RuntimeError, ValueError), match=words):
            wrong()
    with pytest.raises(KeyError):
        ranks.total([device.empty((3,), np.int64)])
    assert nccl.group is None
    ranks.total([buffer, device.empty((0,), np.float32), device.empty((5,), np.float64)])
    assert nccl.done[-1] == ("total", buffer.nbytes + 40, False)


@needs_stand_in
def test_without_nccl_all_say_so(gpu, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy_backends.cuda.libs.nccl", None)
    gpu.host.others = [["", "device cuda: NCCL cannot be loaded (elsewhere)", ""]]
    with pytest.raises(RuntimeError, match="elsewhere"):
        NCCLRanks(gpu.host, gpu.device)
    gpu.host.others = None
    with pytest.raises(RuntimeError, match=r"^device cuda: NCCL cannot be loaded \(.*pip install nvidia-nccl-cu13"):
        NCCLRanks(gpu.host, gpu.device)


@needs_stand_in
def test_which_gpu_a_process_takes(gpu, monkeypatch):
    """That of its number on the machine, of those that it sees; two processes with one GPU are told so, one on each of two machines not."""
    import cupy

    used, one, other = [], "0000:00:00.0", "0000:01:00.0"
    monkeypatch.setattr(cupy.cuda, "Device", lambda number: SimpleNamespace(use=lambda: used.append(number)))
    for count in (2, 1, 0):
        monkeypatch.setattr(cupy.cuda.runtime, "getDeviceCount", lambda count=count: count)
        take_gpu(1)
    assert used == [1, 0]
    gpu.nccl.made = 0
    gpu.host.others = [["", "", ""], [(0, one), (0, other), (2, one)], [gpu.nccl.NUMBER] * 3]
    NCCLRanks(gpu.host, gpu.device)
    gpu.host.others = [["", "", ""], [(0, one), (0, other), (0, one)]]
    with pytest.raises(RuntimeError, match=r"^device cuda: 2 processes of one machine have the GPU 0000:00:00.0, .*one a GPU"):
        NCCLRanks(gpu.host, gpu.device)
