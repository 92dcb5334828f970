"""Processes with a GPU each: NCCL, through CuPy, for their arrays, and MPI for all else.

Everything goes to the device's one stream and one communicator, and so into its graph. The sum of the gradients is not made beside the
backward pass: docs/many.md has the reasons, and what it would save.
"""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Sequence
from typing import Any

from kernels.contract.operation import Array
from kernels.ranks.device import DeviceRanks
from kernels.ranks.mpi import MPIRanks
from kernels.ranks.ranks import Ranks


class NCCLRanks(DeviceRanks):
    """The processes of ``host``, on ``device``, a GPU that no other of them has (`take_gpu`). Made by all of them at once.

    Unless $NCCL_ALGO is set it becomes Ring, whose sums have the same bits at every run (docs/many.md).

    Raises:
        RuntimeError: two processes have one GPU, NCCL is not there, or it refuses; one line.
    """

    def __init__(self, host: MPIRanks, device: Any):
        super().__init__(host, device)
        self._nccl = _library(host)
        _check_apart(host, device)
        os.environ.setdefault("NCCL_ALGO", "Ring")
        number = host.exchange(self._nccl.get_unique_id() if host.rank == 0 else None)[0]
        try:
            self._communicator = self._nccl.NcclCommunicator(host.size, number, host.rank)
        except Exception as error:
            raise RuntimeError(f"device cuda: NCCL cannot join the processes: {_line(error)}; NCCL_DEBUG=WARN says more") from None
        self._types = {"float32": self._nccl.NCCL_FLOAT32, "float64": self._nccl.NCCL_FLOAT64}

    def _gather(self, buffer: Array) -> None:
        """In place; a copy, so bytes whatever the type."""
        whole, part = buffer.data.ptr, buffer.nbytes // self.size
        self._communicator.allGather(whole + self.rank * part, whole, part, self._nccl.NCCL_INT8, self.device.stream.ptr)

    def _total(self, arrays: Sequence[Array]) -> None:
        """In place; all arrays in one launch."""
        types = [self._types[array.dtype.name] for array in arrays]  # a wrong one: before the group is begun
        self._nccl.groupStart()
        try:
            for array, kind in zip(arrays, types, strict=True):
                at = array.data.ptr
                self._communicator.allReduce(at, at, array.size, kind, self._nccl.NCCL_SUM, self.device.stream.ptr)
        finally:
            self._nccl.groupEnd()


def of_device(host: MPIRanks, device: Any) -> Ranks:
    """The processes of ``host`` for an engine of ``device``; None: the CPU. Called by all of them at once.

    Raises:
        RuntimeError: as `NCCLRanks`; or some have a GPU and others have none.
    """
    names = host.exchange("cpu" if device is None else device.name)
    if len(set(names)) > 1:
        raise RuntimeError(f"device: process {names.index('cpu')} of {host.size} found no GPU, others did; use --device cpu on all")
    if device is None:
        return host
    return NCCLRanks(host, device) if device.name == "gpu" else DeviceRanks(host, device)


def take_gpu(local: int) -> None:
    """Make GPU number ``local`` of those that this process sees the current one, for `kernels.engine` to open; where it sees fewer, because
    the launcher has chosen for it, counted from the start again. Where there is none, nothing: opening says why."""
    with contextlib.suppress(Exception):
        import cupy

        cupy.cuda.Device(local % cupy.cuda.runtime.getDeviceCount()).use()


def _check_apart(host: MPIRanks, device: Any) -> None:
    """Raise `RuntimeError`, the same on all processes, where two of them have one GPU."""
    places = host.exchange((host.machine, device.bus_id))
    doubled = sorted(place for place in set(places) if places.count(place) > 1)
    if doubled:
        raise RuntimeError(
            f"device cuda: {places.count(doubled[0])} processes of one machine have the GPU {doubled[0][1]}, and NCCL allows one a GPU; "
            "start as many on each machine as it has GPUs (mpiexec -n, srun --ntasks-per-node)"
        )


def _library(host: MPIRanks) -> Any:
    """CuPy's module of NCCL, if all processes have it: one without would leave the others waiting."""
    nccl: Any = None
    problem = ""
    try:
        nccl = importlib.import_module("cupy_backends.cuda.libs.nccl")
    except Exception as error:
        problem = f"device cuda: NCCL cannot be loaded ({_line(error)}); pip install nvidia-nccl-cu13 (nvidia-nccl-cu12)"
    if problems := [line for line in host.exchange(problem) if line]:
        raise RuntimeError(problems[0])
    return nccl


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
