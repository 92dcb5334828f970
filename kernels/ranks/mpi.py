"""Processes that MPI has started, with arrays in the memory of the CPU; and whether it has."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kernels.ranks.ranks import Ranks

#: Set by launchers for each process that they start: how many there are.
SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE", "SLURM_STEP_NUM_TASKS")
RANKS = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "MV2_COMM_WORLD_RANK", "SLURM_PROCID")  # and which number this one has


def launched(environment: Mapping[str, str] = os.environ) -> int:
    """How many processes a launcher (mpiexec, srun) says that it has started; 1 where none has."""
    return max(_numbers(SIZES, environment), default=1)


def left_over(environment: Mapping[str, str] = os.environ) -> str:
    """The variable that says that there are several processes."""
    return next((name for name in SIZES if _numbers([name], environment) > [1]), "")


def rank_of_launch(environment: Mapping[str, str] = os.environ) -> int:
    """This one's number, as the launcher says it."""
    return max(_numbers(RANKS, environment), default=0)


def _numbers(names: Sequence[str], environment: Mapping[str, str]) -> list[int]:
    return [int(environment[name]) for name in names if environment.get(name, "").isdigit()]


def find() -> MPIRanks | None:
    """The processes of this job; None where this is the only one. MPI is not touched then.

    Raises:
        RuntimeError: there are others, and they cannot be reached; one line that says why, and what helps.
    """
    size = launched()
    if size == 1:
        return None
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # the second: it finds no MPI library
        why = str(error).splitlines()[0]
        raise RuntimeError(
            f"{size} processes were started, and mpi4py is not there to join them ({why}); run: pip install mpi4py"
        ) from None
    if MPI.COMM_WORLD.Get_size() not in set(_numbers(SIZES, os.environ)) - {1}:
        library = MPI.Get_library_version().split(",")[0].splitlines()[0]
        raise RuntimeError(
            f"{size} processes were started, and mpi4py sees {MPI.COMM_WORLD.Get_size()}: it uses {library}, which is not the launcher's; "
            f"use that one's mpiexec (srun: --mpi=list says which it knows), or, if this is to be one process, unset {left_over()}"
        )
    return MPIRanks(MPI.COMM_WORLD)


class MPIRanks(Ranks):
    """The processes of ``world``, an mpi4py communicator. Sums are made in the order of the ranks: the same bits each time.

    Attributes: ``machine``, the lowest rank of those on this one's machine; ``local``, its number among them.
    """

    def __init__(self, world: Any):
        from mpi4py import MPI

        self._world, self._in_place, self._largest = world, MPI.IN_PLACE, MPI.MAX
        self.rank, self.size = world.Get_rank(), world.Get_size()
        self._number = np.zeros(1, np.int64)
        machine = world.Split_type(MPI.COMM_TYPE_SHARED)
        self.machine, self.local = machine.bcast(self.rank), machine.Get_rank()
        machine.Free()

    def gather(self, buffer: np.ndarray) -> None:
        with self.waits():
            self._world.Allgather(self._in_place, buffer)

    def total(self, arrays: Sequence[np.ndarray]) -> None:
        for array in arrays:
            if array.size:
                self._total(array.reshape(-1))

    def _total(self, flat: np.ndarray) -> None:
        """Each process adds up one piece of all arrays, and all gather the pieces."""
        piece = -(-flat.size // self.size)
        pieces = np.zeros((self.size, piece), flat.dtype)
        pieces.reshape(-1)[: flat.size] = flat
        received = np.empty_like(pieces)
        with self.waits():
            self._world.Alltoall(pieces, received)
        own = pieces[self.rank]
        own[:] = received[0]
        for other in received[1:]:
            own += other
        self.gather(pieces)
        flat[:] = pieces.reshape(-1)[: flat.size]

    def exchange(self, value: Any) -> list[Any]:
        with self.waits():
            return list(self._world.allgather(value))

    def largest(self, number: int) -> int:
        self._number[0] = number
        with self.waits():
            self._world.Allreduce(self._in_place, self._number, op=self._largest)
        return int(self._number[0])

    def abort(self, code: int) -> None:
        self._world.Abort(code)
