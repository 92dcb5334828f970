"""A child of test_ranks_cuda.py, one of several processes: a step on emulated GPUs that share a batch. The first one writes what it leaves
into the file of the command line."""

from __future__ import annotations

import os
import sys

os.environ["TRITON_INTERPRET"] = "1"  # before triton, which decides at import

import numpy as np
from test_cuda_step import TINY, batch

from kernels.cuda.engine import emulated_engine
from kernels.ranks.engine import RankedEngine
from kernels.ranks.mpi import find
from kernels.ranks.nccl import of_device
from models.objective import Objective
from models.vaegan import VAEGAN

IMAGES = 7  # not to be divided by two


def stepped(engine, mine):
    """The model's flags, losses and state after a step of the images ``mine``: names to arrays."""
    model = VAEGAN(engine, TINY, seed=3)
    model.train_step(*(engine.asarray(array[mine]) for array in batch(TINY, n=IMAGES)), Objective(gamma=0.1), 1e-4)
    state = {name: np.array(array) for name, array in model.state_arrays().items() if array.dtype.kind == "f"}
    return {"flags": np.array(model.flags), **{f"means/{name}": mean for name, mean in model.fetch_losses().items()}, **state}


def main() -> None:
    host, own = find(), emulated_engine("float32")
    shared = RankedEngine(own, of_device(host, own.device), IMAGES)
    own.device.collectives = collectives = []
    first, n = shared.shard(IMAGES)
    found = stepped(shared, slice(first, first + n))
    alike = host.exchange({k: v.tobytes() for k, v in found.items() if k.startswith(("parameters", "optimizer", "flags"))})
    assert all(other == alike[0] for other in alike), "the processes have different weights"
    assert all(other == collectives for other in host.exchange(collectives)), "the processes did different things together"
    if host.rank == 0:
        np.savez(sys.argv[1], gathers=sum(c.kind == "gather" for c in collectives), **found)


if __name__ == "__main__":
    main()
