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


def main() -> None:
    ranks = find()
    rng = np.random.default_rng(0)
    own = kernels.engine("cpu", "float64", 1, implementation="numpy")
    shared = RankedEngine(own, ranks, IMAGES)
    first, n = shared.shard(IMAGES)
    mine = slice(first, first + n)
    for system, objective, attributes, large, optimizer, batches in list(cases())[:: int(sys.argv[1])]:
        spec = dataclasses.replace(SPEC, attributes=attributes, **(LARGE if large else {}))
        options = {"system": system, "seed": 3, "optimizer": optimizer, "batches": batches}
        one, many = VAEGAN(own, spec, **options), VAEGAN(shared, spec, **options)

        def draw(spec=spec, attributes=attributes):
            x = rng.uniform(-1, 1, (IMAGES, 16, 16, 3))
            eps, z_p = rng.standard_normal((2, IMAGES, spec.latent))
            noise = rng.standard_normal((3, *x.shape))
            return x, eps, z_p, noise, rng.choice([-1.0, 1.0], (IMAGES, attributes)) if attributes else None

        x, eps, z_p, noise, given = draw()
        name = f"{system} {objective.bn_groups} {objective.generator_loss} {attributes} {large} {optimizer} {batches}"
        found = {"case": name}
        if batches == 1:
            expected, expected_losses = one.gradients(x, eps, z_p, objective, given)
            got, losses = many.gradients(x[mine], eps[mine], z_p[mine], objective, None if given is None else given[mine])
            found |= {"gradients": worst(got, expected), "losses": worst(losses, expected_losses)}
        for step in range(10):
            for batch in range(batches):
                x, eps, z_p, noise, given = draw()
                apart = (0.1 * noise[:, mine]).reshape(-1, *x.shape[1:])
                one.train_step(
                    *map(own.asarray, (x, eps, z_p)), objective, RATE, given, noise=((0.1 * noise).reshape(-1, *x.shape[1:]), 0.5),
                    batch=batch,
                )  # fmt: skip
                many.train_step(
                    *(own.asarray(a[mine]) for a in (x, eps, z_p)), objective, RATE, None if given is None else own.asarray(given[mine]),
                    noise=(apart, 0.5), batch=batch,
                )  # fmt: skip
            assert np.array_equal(one.flags, many.flags), (name, step)
        state, expected = ({k: np.array(v) for k, v in model.state_arrays().items() if v.dtype.kind == "f"} for model in (many, one))
        found |= {"state": worst(state, expected), "means": worst(many.fetch_losses(), one.fetch_losses())}
        alike = ranks.exchange({k: v.tobytes() for k, v in state.items() if k.startswith(("parameters", "optimizer"))})
        assert all(other == alike[0] for other in alike), f"{name}: the processes have different weights"
        if ranks.rank == 0:
            print(json.dumps(found), flush=True)


if __name__ == "__main__":
    sys.exit(main())
