"""The variational autoencoders that the VAE/GAN is compared with (section 4): a Gaussian on pixels, or on a frozen Dis's features."""

from __future__ import annotations

from typing import Any

from kernels import Array
from models.layer import Pass
from models.objective import LIKE, PRIOR, Objective
from models.system import System


def backpropagate(
    model: System, x: Array, eps: Array, z_p: Array, objective: Objective, attributes: Array = None, *, training: bool = True
) -> None:  # fmt: skip
    """Z = μ + σ ε, X̃ = Dec(Z). Enc minimises L_prior + L_like, Dec L_like: one error, sent back once.

        vae      L_like = ½ ‖X − X̃‖²                    over pixels: unit-variance Gaussian (equation 2)
        vae-dis  L_like = ½ ‖Dis_l(X) − Dis_l(X̃)‖²      with a Dis that was trained in a GAN (equations 7 and 8)

    That Dis is a fixed function: running statistics, which no batch changes, and no update. Of ``objective`` nothing is used: γ and
    the choices about L_GAN have no part here, and each network sees one kind of image, so there is one way to group them.

    Args: as `models.algorithm1.backpropagate`; z_p is not read.
    """
    eng, pool, n = model.engine, model.pool, len(x)
    batch = Pass((n,), update_running=training, attributes=attributes)
    enc = model.encoder.apply(x, batch)
    z = pool.take(z_p.shape)
    eng.reparametrize_forward(z, model.losses[PRIOR], enc.mu, enc.logvar, eps)
    dec = model.decoder.apply(z, batch)
    if model.system == "vae":
        error = pool.take(x.shape)
        eng.feature_likelihood(model.losses[LIKE], error, dec.output, x)
    else:
        error = _through_frozen(model, x, dec.output)
    dz = dec.backward(error, dx=True, dw=True)
    dec.release()
    train_encoder(model, enc, dz, dz, z, eps)


def _through_frozen(model: System, x: Array, reconstructed: Array) -> Array:
    """L_like at Dis_l and its error at the reconstructions. Apart for X, whose features are a constant: no backward pass for it."""
    frozen = Pass((len(x),), train=False)
    target = model.discriminator.apply(x, frozen, None)
    dis = model.discriminator.apply(reconstructed, frozen, None)
    error = model.pool.take(dis.features.shape)
    model.engine.feature_likelihood(model.losses[LIKE], error, dis.features, target.features)
    target.release()
    everything = slice(0, len(x))
    error = dis.backward_features(error, everything, rows=everything)
    dis.release()
    return error


def train_encoder(model: System, enc: Any, dz: Array, dz_own: Array, z: Array, eps: Array) -> None:
    """L_prior + L_like through the latent layer and Enc. ``dz_own``: the rows of dz that belong to Z."""
    pool = model.pool
    dmu, dlogvar = pool.take(enc.mu.shape), pool.take(enc.mu.shape)
    model.engine.reparametrize_backward(dmu, dlogvar, dz_own, enc.mu, enc.logvar, eps)
    pool.give(dz, z)
    enc.backward(dmu, dlogvar)
    enc.release()
