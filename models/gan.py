"""The GAN that the VAE/GAN is compared with (section 4; Goodfellow et al. 2014): Dec and Dis of Algorithm 1, without Enc and L_like."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from models.algorithm1 import Objective, adversarial, repeated
from models.layer import Pass

if TYPE_CHECKING:
    from models.vaegan import VAEGAN


def backpropagate(
    model: VAEGAN, x: Any, eps: Any, z_p: Any, objective: Objective, attributes: Any = None, *, training: bool = True
) -> None:  # fmt: skip
    """X_p = Dec(Z_p), Dis([X; X_p]). Dis descends L_GAN, Dec −L_GAN or the non-saturating loss; weights, their rule and the gate as in
    Algorithm 1. Statistics are joint over Dis's batch, or apart for X and X_p ("split"); "authors" is the same as "joint" here.

    Args: as `models.algorithm1.backpropagate`; eps is not read.
    """
    eng, pool, n = model.engine, model.pool, len(x)
    objective = replace(objective, negatives="prior")
    given = repeated(model, attributes, 2)
    both = Pass((n, n) if objective.bn_groups == "split" else (2 * n,), update_running=training, attributes=given)
    z = pool.take(z_p.shape)
    eng.copy(z, z_p)
    images = pool.take((2 * n, *x.shape[1:]))
    eng.copy(images[:n], x)
    dec = model.decoder.apply(z, both._replace(groups=(n,)), out=images[n:])
    dis = model.discriminator.apply(images, both, both)
    train_dec, error = adversarial(model, dis, n, objective, training, rows=slice(n, 2 * n))
    dis.release()
    if train_dec:
        dec.backward(error, dx=False, dw=True)
    dec.release()
    pool.give(images, z)
    if given is not None:
        pool.give(given)
