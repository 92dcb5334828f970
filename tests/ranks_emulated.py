"""A child of test_ranks_cuda.py, one of several processes: a step on emulated GPUs that share a batch, against that on one emulated GPU.
Prints the worst errors."""

from __future__ import annotations

import json
import os

os.environ["TRITON_INTERPRET"] = "1"  # before triton, which decides at import

import numpy as np
from test_cuda_step import TINY, batch, errors

from kernels.cuda.engine import emulated_engine
from kernels.ranks.engine import RankedEngine
from kernels.ranks.mpi import find
from kernels.ranks.nccl import of_device
from models.objective import Objective
from models.vaegan import VAEGAN

IMAGES = 7  # not to be divided by two


def worst(got, expected):
    assert set(got) == set(expected)
    return max(errors(got, expected).values())


def main() -> None:
    host = find()
    single, own = emulated_engine("float32"), emulated_engine("float32")
    shared = RankedEngine(own, of_device(host, own.device), IMAGES)
    own.device.collectives = collectives = []
    first, n = shared.shard(IMAGES)
    mine, goal = slice(first, first + n), Objective(gamma=0.1)
    one, many = VAEGAN(single, TINY, seed=3), VAEGAN(shared, TINY, seed=3)
    data = batch(TINY, n=IMAGES)
    one.train_step(*map(single.asarray, data), goal, 1e-4)
    many.train_step(*(own.asarray(array[mine]) for array in data), goal, 1e-4)
    assert np.array_equal(one.flags, many.flags)
    state, expected = ({k: np.array(v) for k, v in model.state_arrays().items() if v.dtype.kind == "f"} for model in (many, one))
    found = {"state": worst(state, expected), "means": worst(many.fetch_losses(), one.fetch_losses())}
    alike = host.exchange({k: v.tobytes() for k, v in state.items() if k.startswith(("parameters", "optimizer"))})
    assert all(other == alike[0] for other in alike), "the processes have different weights"
    assert all(other == collectives for other in host.exchange(collectives)), "the processes did different things together"
    if host.rank == 0:
        print(json.dumps({**found, "gathers": sum(c.kind == "gather" for c in collectives)}), flush=True)


if __name__ == "__main__":
    main()
