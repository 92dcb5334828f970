"""Processes with a GPU each: NCCL, through CuPy, for their arrays, and MPI for all else.

Everything goes to the device's one stream and one communicator, and so into its graph. The sum of the gradients is not made beside the
backward pass: docs/many.md has the reasons, and what it would save.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from typing import Any

from kernels.contract.operation import Array
from kernels.ranks.device import DeviceRanks
from kernels.ranks.mpi import MPIRanks
from kernels.ranks.ranks import Ranks


class NCCLRanks(DeviceRanks):
    """The processes of ``host``, on ``device``, a GPU that no other of them has (`take_gpu`).

    Unless $NCCL_ALGO is set it becomes Ring, whose sums have the same bits at every run (docs/many.md).

    Raises:
        RuntimeError: NCCL is not there, or refuses; one line, on all processes the same where it is not there.
    """

    def __init__(self, host: MPIRanks, device: Any):
        super().__init__(host, device)
        self._nccl = _library(host)
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
    """The processes of ``host`` for an engine of ``device``; None: the CPU. Raises as `NCCLRanks`."""
    if device is None:
        return host
    return NCCLRanks(host, device) if device.name == "gpu" else DeviceRanks(host, device)


def take_gpu(host: MPIRanks) -> None:
    """Make a GPU of this machine the current one, for `kernels.engine` to open: that of the process's number on the machine. Where none
    can be used, opening says why.

    Raises:
        RuntimeError: two processes have the same one; one line, the same on all processes.
    """
    node, number = host.place()
    here: tuple[int, str] | None = None
    try:
        import cupy

        count = cupy.cuda.runtime.getDeviceCount()
        if count:
            device = cupy.cuda.Device(number % count)
            device.use()
            here = node, device.pci_bus_id
    except Exception:
        here = None  # `open_device` has the words for it
    taken = [place for place in host.exchange(here) if place]
    if doubled := {place for place in taken if taken.count(place) > 1}:
        node, gpu = min(doubled)
        raise RuntimeError(
            f"device cuda: {taken.count((node, gpu))} processes of one machine have the GPU {gpu}, and NCCL allows one a GPU; "
            "start as many processes on each machine as it has GPUs (mpiexec -n, srun --ntasks-per-node)"
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
