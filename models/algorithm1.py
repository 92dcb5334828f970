"""Algorithm 1 of the paper: one forward and one backward pass of the VAE/GAN, written out.

Batches are joined so that each network is applied once: Dec to [Z_p; Z], Dis to [X; X_p; X̃].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from models.layer import Pass

if TYPE_CHECKING:
    from models.vaegan import VAEGAN

#: The sums in `VAEGAN.losses`; "generator" is 0 with the minimax loss.
LOSSES = ("prior", "like", "gan_real", "gan_generated", "generator")
PRIOR, LIKE, GAN, GENERATOR = slice(0, 1), slice(1, 2), slice(2, 4), slice(4, 5)

CHOICES = {
    "negatives": ("both", "prior"),
    "bn_groups": ("joint", "split", "authors"),
    "generator_loss": ("minimax", "non-saturating"),
}


@dataclass(frozen=True)
class Objective:
    """What is minimised.

    Attributes:
        gamma: γ of Algorithm 1: Dec descends γ·L_like − L_GAN. The authors' w, with (1 − w)·L_GAN, is γ = w / (1 − w): for
            their w of 1e-5 and 1e-6 the same to five digits, and RMSProp does not see the common factor.
        real_weight: r: in Dis's gradient a real image weighs r, a generated one (1 − r)·N / N_generated.
        negatives: the generated images that Dis is trained on: "both" X̃ and X_p, or "prior", X_p alone; then X̃ goes
            through Dis only as far as Dis_l.
        bn_groups: which images share batch statistics: "joint", all of a joined batch; "split", each kind apart;
            "authors", their repeated passes.
        generator_loss: "minimax" (−L_GAN) or "non-saturating" (Σ −log Dis(generated)) for Dec.
        gan_eps: e in log(p + e).
        gate: the equilibrium gate, with its equilibrium and margin.

    Raises:
        ValueError: a value outside its range.
    """

    gamma: float = 1e-5
    real_weight: float = 0.66
    negatives: str = "both"
    bn_groups: str = "joint"
    generator_loss: str = "minimax"
    gan_eps: float = 1e-3
    gate: bool = True
    equilibrium: float = 0.68
    margin: float = 0.35

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name}: got {getattr(self, name)!r}, expected one of {', '.join(choices)}")
        if not 0.0 < self.real_weight < 1.0:
            raise ValueError(f"real_weight: got {self.real_weight}, expected a number between 0 and 1")
        if not 0.0 <= self.gamma < float("inf"):
            raise ValueError(f"gamma: got {self.gamma}, expected a finite number >= 0")
        if not 0.0 <= self.gan_eps < 1.0:
            raise ValueError(f"gan_eps: got {self.gan_eps}, expected a number in [0, 1)")

    def generated(self, n: int) -> int:
        """Generated rows in Dis's loss for a batch of n images."""
        return 2 * n if self.negatives == "both" else n

    def weights(self, n: int) -> tuple[float, float]:
        """The weight of a real and of a generated row in Dis's gradient."""
        return self.real_weight, (1.0 - self.real_weight) * n / self.generated(n)


def backpropagate(
    model: VAEGAN, x: Any, eps: Any, z_p: Any, objective: Objective, attributes: Any = None, *, training: bool = True
) -> None:  # fmt: skip
    """Algorithm 1 up to its updates: losses to ``model.losses``, the gate to ``model.flags``, gradients to ``Parameter.grad``.

    Which loss trains which network (L_GAN = −ℓ_GAN, the loss that Dis minimises):

        Enc   L_prior + L_like      L_like's error comes through Dis and Dec; L_GAN's never arrives
        Dec   γ · L_like − L_GAN    γ here only: the error that goes on to Enc is L_like's own
        Dis   L_GAN                 L_like's error passes through Dis and trains nothing there

    Dis's error from L_GAN is weighted by row at the logit; the weight is divided out again at the image, so that Dec does
    not see it (the authors' rule). With the minimax loss one backward pass so serves Dis's weights and, negated, Dec.

    Args:
        x: images [N, S, S, C]; eps, z_p: [N, latent], wide. Arrays of the engine.
        attributes: of x, wide [N, A], for a conditional model: X̃ and X_p are given the same.
        training: False leaves running statistics and gate alone and computes every gradient (`VAEGAN.gradients`).
    """
    if objective.bn_groups == "authors":
        return _repeated_passes(model, x, eps, z_p, objective, attributes, training)
    eng, pool, n = model.engine, model.pool, len(x)
    real, generated, reconstructed = slice(0, n), slice(n, 3 * n), slice(2 * n, 3 * n)
    one_lot = objective.bn_groups == "joint"
    m = n + objective.generated(n)  # rows that go on to Dis's logit: [X; X_p; X̃] or [X; X_p]

    # Forward: Z = μ + σ ε, [X_p; X̃] = Dec([Z_p; Z]), Dis([X; X_p; X̃]).
    given = repeated(model, attributes, 3)

    def batches(count: int) -> Pass:
        return Pass((count * n,) if one_lot else (n,) * count, update_running=training, attributes=given)

    enc = model.encoder.apply(x, batches(1))
    z = pool.take((2 * n, *z_p.shape[1:]))
    eng.copy(z[:n], z_p)
    eng.reparametrize_forward(z[n:], model.losses[PRIOR], enc.mu, enc.logvar, eps)
    images = pool.take((3 * n, *x.shape[1:]))
    eng.copy(images[real], x)
    dec = model.decoder.apply(z, batches(2), out=images[generated])
    dis = model.discriminator.apply(images, batches(3), batches(m // n))

    # Losses and their errors, at Dis_l and at the logits.
    e_like = pool.take(dis.features[real].shape)
    eng.feature_likelihood(model.losses[LIKE], e_like, dis.features[reconstructed], dis.features[real])
    train_dec, e_gan = adversarial(model, dis, n, objective, training, rows=generated)

    # Backward through Dis, to the 2N generated images.
    e_like = dis.backward_features(e_like, reconstructed, rows=generated)
    dis.release()

    # Backward through Dec: the combined error for its weights, L_like's own for Enc. Both reach all 2N through joint BN.
    if train_dec:
        eng.add(e_gan, e_like, e_gan, alpha=objective.gamma)
        dec.backward(e_gan, dx=False, dw=True)
    dz = dec.backward(e_like, dx=True, dw=False)
    dec.release()
    pool.give(images)  # only now: Dec's output lies in it, and tanh's gradient reads that
    train_encoder(model, enc, dz, dz[n:], z, eps)
    if given is not None:
        pool.give(given)


def repeated(model: VAEGAN, attributes: Any, times: int) -> Any:
    """``attributes`` [N, A] once for each part of a joined batch, [times · N, A], of the pool; None for None."""
    if attributes is None:
        return None
    n = len(attributes)
    rows = model.pool.take((times * n, attributes.shape[1]), model.engine.wide)
    for i in range(times):
        model.engine.copy(rows[i * n : (i + 1) * n], attributes)
    return rows


def adversarial(model: VAEGAN, dis: Any, n: int, objective: Objective, training: bool, *, rows: slice) -> tuple[bool, Any]:
    """L_GAN, the gate and Dis's gradients. Returns whether Dec is trained, and the error that it then descends at the generated
    images ``rows``: −L_GAN's, or the non-saturating loss's.

    A network that the gate holds back has its gradients left out, where the engine knows the flags in time.
    """
    eng, pool = model.engine, model.pool
    weights, log_eps = objective.weights(n), objective.gan_eps
    e_dis = pool.take(dis.logits.shape)
    eng.gan_loss(model.losses[GAN], e_dis, dis.logits, n, weights, log_eps=log_eps)
    train_dec = train_dis = True
    if training:
        eng.fill(model.flags, 1)
        if objective.gate:
            eng.equilibrium_gate(
                model.flags, model.losses[GAN], n, len(dis.logits) - n,
                equilibrium=objective.equilibrium, margin=objective.margin,
            )  # fmt: skip
            if eng.name == "cpu":
                train_dec, train_dis = bool(model.flags[0]), bool(model.flags[1])
    if objective.generator_loss == "minimax":
        eng.fill(model.losses[GENERATOR], 0)
        e_dec = dis.backward_logits(e_dis, dw=train_dis, rows=rows if train_dec else None)
        if train_dec:
            eng.scale(e_dec, e_dec, -1.0 / weights[1])  # Dec ascends L_GAN, and does not see Dis's weight
        return train_dec, e_dec
    e_dec = pool.take(dis.logits.shape)
    eng.generator_loss(model.losses[GENERATOR], e_dec, dis.logits, n, log_eps=log_eps)
    if train_dis:
        dis.backward_logits(e_dis, dw=True, rows=None)
    else:
        pool.give(e_dis)
    if train_dec:
        e_dec = dis.backward_logits(e_dec, dw=False, rows=rows)
    else:
        pool.give(e_dec)
    return train_dec, e_dec


def train_encoder(model: VAEGAN, enc: Any, dz: Any, dz_own: Any, z: Any, eps: Any) -> None:
    """L_prior + L_like through the latent layer and Enc. ``dz_own``: the rows of dz that belong to Z."""
    pool = model.pool
    dmu, dlogvar = pool.take(enc.mu.shape), pool.take(enc.mu.shape)
    model.engine.reparametrize_backward(dmu, dlogvar, dz_own, enc.mu, enc.logvar, eps)
    pool.give(dz, z)
    enc.backward(dmu, dlogvar)
    enc.release()


def _repeated_passes(model: VAEGAN, x: Any, eps: Any, z_p: Any, objective: Objective, attributes: Any, training: bool) -> None:
    """The authors' grouping: a pass for L_like, Dec(Z) and Dis([X̃; X]) as far as Dis_l, and one for L_GAN,
    Dec([Z_p; Z]) or Dec(Z_p) and Dis([X; generated]), each with batch statistics of its own."""
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
    dis = model.discriminator.apply(images, batch(n + k), batch(n + k))
    train_dec, e_gan = adversarial(model, dis, n, objective, training, rows=slice(n, n + k))
    dis.release()
    from_gan = []
    if train_dec:
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
