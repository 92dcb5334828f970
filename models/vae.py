"""The variational autoencoders that the VAE/GAN is compared with (section 4): a Gaussian on pixels, or on a frozen Dis's features."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

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

    That Dis is a fixed function: running statistics, which no batch changes, and no update. Of ``objective`` a vae-dis alone uses
    metric_weight w and metric_first v, L_like = ½ w ‖Dis_l(X) − Dis_l(X̃)‖² + ½ v ‖Dis_1(X) − Dis_1(X̃)‖², with Dis_1 the first
    convolution after its ReLU: docs/vae-dis.md says why. γ and the choices about L_GAN have no part here, and each network sees one
    kind of image, so there is one way to group them.

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
        error = _through_frozen(model, x, dec.output, objective)
    dz = dec.backward(error, dx=True, dw=True)
    dec.release()
    train_encoder(model, enc, dz, dz, z, eps)


def _through_frozen(model: System, x: Array, reconstructed: Array, objective: Objective) -> Array:
    """L_like in Dis and its error at the reconstructions. Apart for X, whose features are a constant: no backward pass for it."""
    eng, pool, frozen = model.engine, model.pool, Pass((len(x),), train=False)
    target = model.discriminator.apply(x, frozen, None)
    dis = model.discriminator.apply(reconstructed, frozen, None)
    layers = [(dis.features, target.features, objective.metric_weight), (dis.first, target.first, objective.metric_first)]
    layers = [layer for layer in layers if layer[2] > 0]
    # The layers' features side by side, times the roots of their weights: one sum of squares is the weighted sum.
    ends = np.cumsum([math.prod(a.shape) for a, _, _ in layers]).tolist()
    cuts = [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]
    joined, constant, difference = (pool.take((ends[-1],)) for _ in range(3))
    for cut, (a, b, weight) in zip(cuts, layers, strict=True):
        eng.scale(joined[cut], a.reshape(-1), math.sqrt(weight))
        eng.scale(constant[cut], b.reshape(-1), math.sqrt(weight))
    target.release()
    eng.feature_likelihood(model.losses[LIKE], difference, joined, constant)
    errors = []
    for cut, (a, _, weight) in zip(cuts, layers, strict=True):
        errors.append(pool.take(a.shape))
        eng.scale(errors[-1].reshape(-1), difference[cut], math.sqrt(weight))
    pool.give(joined, constant, difference)
    everything = slice(0, len(x))
    error = dis.backward_features(errors[0], everything, rows=everything, dfirst=errors[1] if len(errors) > 1 else None)
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
