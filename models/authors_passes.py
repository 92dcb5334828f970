"""The authors' grouping of Algorithm 1 (their code of 2016-02): L_GAN and L_like each have a pass, and batch statistics, of their own.

The preset `quick`, and so the default run, trains by this step.
"""

from __future__ import annotations

from kernels import Array
from models.gan import adversarial, repeated, shown
from models.layer import Pass
from models.objective import LIKE, PRIOR, Objective
from models.system import System
from models.vae import train_encoder


def backpropagate(
    model: System, x: Array, eps: Array, z_p: Array, objective: Objective, attributes: Array = None, *, training: bool = True
) -> None:  # fmt: skip
    """Algorithm 1's losses, one generator pass for each: Dec([Z_p; Z]) or Dec(Z_p) and Dis([X; generated]) for L_GAN, then Dec(Z) and
    Dis([X̃; X]), as far as Dis_l, for L_like. Each pass has batch statistics of its own, so L_like's error never reaches X_p.

    Args: as `models.algorithm1.backpropagate`.
    """
    eng, pool, n = model.engine, model.pool, len(x)
    k = objective.generated(n)
    size = x.shape[1:]
    given = repeated(model, attributes, 3)

    def batch(rows: int) -> Pass:
        return Pass((rows,), update_running=training, attributes=given)

    enc = model.encoder.apply(x, batch(n))
    z = pool.take((2 * n, *z_p.shape[1:]))
    eng.copy(z[:n], z_p)
    eng.reparametrize_forward(z[n:], model.losses[PRIOR], enc.mu, enc.logvar, eps)

    # L_GAN first: the gate decides what the pass for L_like has to give.
    images = pool.take((n + k, *size))
    eng.copy(images[:n], x)
    dec = model.decoder.apply(z[:k], batch(k), out=images[n:])
    dis = shown(model, images, batch(n + k), batch(n + k))
    train_dec, e_gan, factor = adversarial(model, dis, n, objective, training, rows=slice(n, n + k))
    dis.release()
    from_gan = []
    if train_dec:
        if factor != 1.0:
            eng.scale(e_gan, e_gan, factor)
        dec.backward(e_gan, dx=False, dw=True)
        for p in model.decoder.parameters:
            from_gan.append(pool.take(p.shape, eng.wide))
            eng.copy(from_gan[-1], p.grad)
    dec.release()
    pool.give(images)

    images = pool.take((2 * n, *size))
    eng.copy(images[n:], x)
    dec = model.decoder.apply(z[n:], batch(n), out=images[:n])
    dis = model.discriminator.apply(images, batch(2 * n), None)
    e_like = pool.take(dis.features[:n].shape)
    eng.feature_likelihood(model.losses[LIKE], e_like, dis.features[:n], dis.features[n:])
    e_like = dis.backward_features(e_like, slice(0, n), rows=slice(0, n))
    dis.release()
    dz = dec.backward(e_like, dx=True, dw=train_dec)
    dec.release()
    pool.give(images)
    for p, other in zip(model.decoder.parameters, from_gan, strict=False):
        eng.add(p.grad, other, p.grad, beta=objective.gamma)
    pool.give(*from_gan)
    train_encoder(model, enc, dz, dz, z, eps)
    if given is not None:
        pool.give(given)
