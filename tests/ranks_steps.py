"""A child of test_ranks.py, one of several processes: shared steps against the same steps on one process. Prints the worst errors."""

from __future__ import annotations

import dataclasses
import itertools
import json
import sys

import numpy as np

import kernels
from kernels.ranks.engine import RankedEngine
from kernels.ranks.mpi import find
from models.networks import network
from models.objective import Objective
from models.vaegan import VAEGAN

RATE = 3e-4
IMAGES = 5  # not to be divided by two or three processes
SPEC = dataclasses.replace(
    network("small32"), image_size=16, latent=7, encoder=(4, 6), decoder=(8, 6, 4), encoder_units=11, discriminator=(4, 6, 8),
    discriminator_units=9, metric=3,
)  # fmt: skip
LARGE = {"encoder_units": 90, "discriminator_units": 70}  # FC layers whose inputs and errors are fewer bytes than their gradients
GROUPS = ("joint", "split", "authors")
OTHER = (
    {}, {"generator_loss": "non-saturating", "fixed_statistics": True, "real_weight": 0.4}, {"negatives": "prior", "gate": False},
)  # fmt: skip


def cases():
    """(system, objective, conditional, large FC layers, optimizer, batches a step)."""
    for i, (groups, other, conditional) in enumerate(itertools.product(GROUPS, OTHER, (0, 3))):
        yield "vaegan", Objective(bn_groups=groups, **other), conditional, i % 2, ("rmsprop", "adam")[i % 2], 1
    for system, conditional in itertools.product(("vae", "vae-dis", "gan"), (0, 3)):
        yield system, Objective(metric_first=2.0 if conditional else 0.0), conditional, conditional > 0, "rmsprop", 1
    yield "gan", Objective(bn_groups="split"), 0, 1, "adam", 1
    yield "vaegan", Objective(bn_groups="authors"), 0, 1, "rmsprop", 2


def relative(a, b):
    return float(np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-300))


def worst(got, expected):
    assert set(got) == set(expected)
    return max(relative(np.asarray(got[name]), np.asarray(expected[name])) for name in expected)


def trained(engine, case, number, mine):
    """What a model of ``case`` makes of the images ``mine`` of each batch: gradients, losses, and the flags and the state of some steps."""
    system, objective, attributes, large, optimizer, batches = case
    spec = dataclasses.replace(SPEC, attributes=attributes, **(LARGE if large else {}))
    model = VAEGAN(engine, spec, system=system, seed=3, optimizer=optimizer, batches=batches)
    rng, found, flags = np.random.default_rng(number), {}, []

    def draw():
        x = rng.uniform(-1, 1, (IMAGES, 16, 16, 3))
        eps, z_p = rng.standard_normal((2, IMAGES, spec.latent))
        noise = 0.1 * rng.standard_normal((3, *x.shape))
        given = rng.choice([-1.0, 1.0], (IMAGES, attributes)) if attributes else None
        return *(a[mine] for a in (x, eps, z_p)), noise[:, mine].reshape(-1, *x.shape[1:]), None if given is None else given[mine]

    x, eps, z_p, _, given = draw()
    if batches == 1:
        found["gradients"], found["losses"] = model.gradients(x, eps, z_p, objective, given)
    # four steps make each use what the one before has left; gates close after some more, and several batches a step are the case for those
    for _ in range(4 if batches == 1 else 10):
        for batch in range(batches):
            x, eps, z_p, noise, given = draw()
            given = None if given is None else engine.asarray(given)
            model.train_step(*map(engine.asarray, (x, eps, z_p)), objective, RATE, given, noise=(engine.asarray(noise), 0.5), batch=batch)
            flags.append(np.array(model.flags))
    found["state"] = {k: np.array(v) for k, v in model.state_arrays().items() if v.dtype.kind == "f"}
    return {**found, "means": model.fetch_losses()}, flags


def main() -> None:
    ranks = find()
    own = kernels.engine("cpu", "float64", 1, implementation="numpy")
    shared = RankedEngine(own, ranks, IMAGES)
    first, n = shared.shard(IMAGES)
    chosen = list(enumerate(cases()))[:: int(sys.argv[1])]
    many = []
    for number, case in chosen:
        many.append(trained(shared, case, number, slice(first, first + n)))
        alike = ranks.exchange({k: v.tobytes() for k, v in many[-1][0]["state"].items() if k.startswith(("parameters", "optimizer"))})
        assert all(other == alike[0] for other in alike), f"{case}: the processes have different weights"
    lines = {}  # what one process does, none does twice
    for number, case in chosen[ranks.rank :: ranks.size]:
        (got, flags), (expected, alone) = many[chosen.index((number, case))], trained(own, case, number, slice(None))
        system, objective, *rest = case
        name = f"{system} {objective.bn_groups} {objective.generator_loss} {' '.join(map(str, rest))}"
        assert got.keys() == expected.keys() and np.array_equal(flags, alone), name
        lines[number] = {"case": name, **{kind: worst(got[kind], expected[kind]) for kind in expected}}
    lines = {number: line for each in ranks.exchange(lines) for number, line in each.items()}
    if ranks.rank == 0:
        print(*(json.dumps(lines[number]) for number, _ in chosen), sep="\n", flush=True)


if __name__ == "__main__":
    sys.exit(main())
