"""Algorithm 1 of the paper: one forward and one backward pass of the VAE/GAN, written out.

Batches are joined so that each network is applied once: Dec to [Z_p; Z], Dis to [X; X_p; X̃]. Its halves are in `models.vae` and
`models.gan`; the authors' grouping of the same losses, which the preset `quick` runs, is `models.authors_passes`.
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
    """Algorithm 1 up to its updates: losses to ``model.losses``, the gate to ``model.flags``, gradients to ``Parameter.grad``.

    Which loss trains which network (L_GAN = −ℓ_GAN, the loss that Dis minimises):

        Enc   L_prior + L_like      L_like's error comes through Dis and Dec; L_GAN's never arrives
        Dec   γ · L_like − L_GAN    γ here only: the error that reaches Enc is L_like's own
        Dis   L_GAN                 L_like's error passes through Dis and trains nothing there

    Dis's error from L_GAN is weighted by row at the logit; the weight is divided out again at the image, so that Dec does
    not see it (the authors' rule). With the minimax loss one backward pass so serves Dis's weights and, negated, Dec.

    Args:
        x: images [N, S, S, C]; eps, z_p: [N, latent], wide. Arrays of the engine.
        attributes: of x, wide [N, A], for a conditional model: X̃ and X_p are given the same.
        training: False leaves running statistics and gate alone and computes every gradient (`VAEGAN.gradients`).
    """
    eng, pool, n = model.engine, model.pool, len(x)
    real, generated, reconstructed = slice(0, n), slice(n, 3 * n), slice(2 * n, 3 * n)
    joint = objective.bn_groups == "joint"
    m = n + objective.generated(n)  # rows that reach Dis's logit: [X; X_p; X̃] or [X; X_p]

    # Forward: Z = μ + σ ε, [X_p; X̃] = Dec([Z_p; Z]), Dis([X; X_p; X̃]).
    given = repeated(model, attributes, 3)

    def batches(count: int) -> Pass:
        return Pass((count * n,) if joint else (n,) * count, update_running=training, attributes=given)

    enc = model.encoder.apply(x, batches(1))
    z = pool.take((2 * n, *z_p.shape[1:]))
    eng.copy(z[:n], z_p)
    eng.reparametrize_forward(z[n:], model.losses[PRIOR], enc.mu, enc.logvar, eps)
    images = pool.take((3 * n, *x.shape[1:]))
    eng.copy(images[real], x)
    dec = model.decoder.apply(z, batches(2), out=images[generated])
    dis = shown(model, images, batches(3), batches(m // n))

    # Losses and their errors, at Dis_l and at the logits.
    e_like = pool.take(dis.features[real].shape)
    eng.feature_likelihood(model.losses[LIKE], e_like, dis.features[reconstructed], dis.features[real])
    train_dec, e_gan, factor = adversarial(model, dis, n, objective, training, rows=generated)

    # Backward through Dis, to the 2N generated images.
    e_like = dis.backward_features(e_like, reconstructed, rows=generated)
    dis.release()

    # Backward through Dec: the combined error for its weights, L_like's own for Enc. Both reach all 2N through joint BN.
    if train_dec:
        eng.add(e_gan, e_like, e_gan, alpha=objective.gamma, beta=factor)
        dec.backward(e_gan, dx=False, dw=True)
    dz = dec.backward(e_like, dx=True, dw=False)
    dec.release()
    pool.give(images)  # only now: Dec's output lies in it, and tanh's gradient reads that
    train_encoder(model, enc, dz, dz[n:], z, eps)
    if given is not None:
        pool.give(given)
