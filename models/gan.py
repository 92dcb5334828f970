"""The GAN that the VAE/GAN is compared with (section 4; Goodfellow et al. 2014): Dec and Dis of Algorithm 1, without Enc and L_like."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from kernels import Array
from models.layer import Pass
from models.objective import GAN, GENERATOR, Objective
from models.system import System


def backpropagate(
    model: System, x: Array, eps: Array, z_p: Array, objective: Objective, attributes: Array = None, *, training: bool = True
) -> None:  # fmt: skip
    """X_p = Dec(Z_p), Dis([X; X_p]). Dis minimises L_GAN, Dec −L_GAN or the non-saturating loss; weights, their rule and the gate as in
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
    dis = shown(model, images, both, both)
    train_dec, error, factor = adversarial(model, dis, n, objective, training, rows=slice(n, 2 * n))
    dis.release()
    if train_dec:
        if factor != 1.0:
            eng.scale(error, error, factor)
        dec.backward(error, dx=False, dw=True)
    dec.release()
    pool.give(images, z)
    if given is not None:
        pool.give(given)


def repeated(model: System, attributes: Array, times: int) -> Array:
    """``attributes`` [N, A] once for each part of a joined batch, [times · N, A], of the pool; None for None."""
    if attributes is None:
        return None
    n = len(attributes)
    rows = model.pool.take((times * n, attributes.shape[1]), model.engine.wide)
    for i in range(times):
        model.engine.copy(rows[i * n : (i + 1) * n], attributes)
    return rows


def shown(model: System, images: Array, body: Pass, head: Pass) -> Any:
    """Dis's application to ``images`` in L_GAN's pass; to images + σ n where the step has noise (`VAEGAN.train_step`).

    Instance noise (Sønderby et al. 2017): real and generated images overlap, so that Dis cannot tell them apart by traces. The error
    at what Dis is shown is that at the images.
    """
    if model.noise is None:
        return model.discriminator.apply(images, body, head)
    seen = model.pool.take(images.shape)
    draws, deviation = model.noise
    model.engine.add(seen, draws[: len(images)], images, alpha=deviation)
    return model.discriminator.apply(seen, body, head, own=True)


def decide(model: System, objective: Objective, losses: Array, n_real: int, n_generated: int) -> None:
    """The equilibrium gate, from the sums in ``losses``: which of Dec and Dis the step updates, to ``model.flags``, counted. Where that
    is the array that L_GAN was written to just before, a GPU does both in one launch."""
    eng = model.engine
    if not objective.gate:
        eng.fill(model.flags, 1)
        eng.count_gate(model.gate_counts, model.flags)
    else:
        eng.equilibrium_gate(
            model.flags, losses, n_real, n_generated,
            equilibrium=objective.equilibrium, margin=objective.margin, counts=model.gate_counts,
        )  # fmt: skip


def adversarial(model: System, dis: Any, n: int, objective: Objective, training: bool, *, rows: slice) -> tuple[bool, Array, float]:
    """L_GAN, the gate and Dis's gradients. Returns whether Dec is trained, and an error at the generated images ``rows`` with a factor:
    times that, it is that of Dec's loss, −L_GAN or the non-saturating one.

    A network that the gate holds back has its gradients left out, where the engine knows the flags in time.
    """
    eng, pool = model.engine, model.pool
    weights, log_eps = objective.weights(n), objective.gan_eps
    e_dis, losses = pool.take(dis.logits.shape), model.losses[GAN]
    eng.gan_loss(losses, e_dis, dis.logits, n, weights, log_eps=log_eps)
    train_dec = train_dis = True
    if training and model.batches == 1:  # else it is not known before the last batch
        decide(model, objective, losses, n, len(dis.logits) - n)
        if eng.host_memory:
            train_dec, train_dis = bool(model.flags[0]), bool(model.flags[1])
    minimax, fixed = objective.generator_loss == "minimax", objective.fixed_statistics
    if minimax and not fixed:
        e_dec = dis.backward_logits(e_dis, dw=train_dis, rows=rows if train_dec else None)
        return train_dec, e_dec, -1.0 / weights[1]  # Dec ascends L_GAN, and does not see Dis's weight
    e_dec = pool.take(dis.logits.shape)
    if minimax:
        eng.scale(e_dec, e_dis, -1.0 / weights[1])
    else:
        eng.generator_loss(model.losses[GENERATOR], e_dec, dis.logits, n, log_eps=log_eps)
    if train_dis:
        dis.backward_logits(e_dis, dw=True, rows=None)
    else:
        pool.give(e_dis)
    if train_dec:
        e_dec = dis.backward_logits(e_dec, dw=False, rows=rows, fixed=fixed)
    else:
        pool.give(e_dec)
    return train_dec, e_dec, 1.0
