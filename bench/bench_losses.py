"""Latent layer and losses at the sizes of a step: small, but they must not wait on anything."""

from __future__ import annotations

import numpy as np
import torch

from bench.harness import agree, compare
from bench.shapes import BATCH, LATENT, LOGITS, METRIC
from bench.side import side


def feature_likelihood(seed):
    """(our call, PyTorch's call, our gradient). The error is relative to the reconstruction's features, which are activations."""
    eng, rng = side().engine, np.random.default_rng(seed)
    pred, target = (eng.asarray(rng.standard_normal(METRIC)) for _ in range(2))
    loss, dpred = eng.empty((1,), np.float64), eng.empty(METRIC)
    t_pred, t_target = side().tensor(pred).requires_grad_(), side().tensor(target)

    def peer():
        (d,) = torch.autograd.grad(0.5 * torch.nn.functional.mse_loss(t_pred, t_target, reduction="sum"), t_pred)
        return d

    return (lambda: eng.feature_likelihood(loss, dpred, pred, target)), peer, dpred


def test_feature_likelihood(benchmark):
    ours, peer, dpred = feature_likelihood(0)
    ours()
    agree(side(), dpred, peer())
    compare(benchmark, side(), lambda seed: feature_likelihood(seed)[:2], held=3 * dpred.nbytes, nbytes=3 * dpred.nbytes)


def gan_loss(seed):
    """(our call, PyTorch's call, our gradient)."""
    eng, rng = side().engine, np.random.default_rng(seed)
    logits = eng.asarray(rng.standard_normal((LOGITS, 1)), eng.wide)
    losses, dlogits = eng.empty((2,), np.float64), eng.empty((LOGITS, 1), eng.wide)
    t_logits = side().tensor(logits, wide=True).requires_grad_()

    def peer():
        p = torch.sigmoid(t_logits)
        loss = -0.66 * torch.log(p[:BATCH] + 1e-3).sum() - 0.17 * torch.log(1 - p[BATCH:] + 1e-3).sum()
        return torch.autograd.grad(loss, t_logits)[0]

    return (lambda: eng.gan_loss(losses, dlogits, logits, BATCH, (0.66, 0.17), log_eps=1e-3)), peer, dlogits


def test_gan_loss(benchmark):
    ours, peer, dlogits = gan_loss(0)
    ours()
    agree(side(), dlogits, peer())
    compare(benchmark, side(), lambda seed: gan_loss(seed)[:2], held=2 * dlogits.nbytes)


def reparametrize(seed):
    """(our call, PyTorch's call, our d log sigma^2)."""
    eng, rng = side().engine, np.random.default_rng(seed)
    mu, logvar, eps, dz = (eng.asarray(rng.standard_normal(LATENT), eng.wide) for _ in range(4))
    z, kl, dmu, dlogvar = eng.empty(LATENT), eng.empty((1,), np.float64), eng.empty(LATENT), eng.empty(LATENT)
    dz = eng.asarray(eng.to_numpy(dz))
    t_mu, t_logvar = (side().tensor(a, wide=True).requires_grad_() for a in (mu, logvar))
    t_eps, t_dz, one = side().tensor(eps, wide=True), side().tensor(dz, wide=True), torch.ones((), device=side().torch_device)

    def peer():
        tz = t_mu + torch.exp(0.5 * t_logvar) * t_eps
        t_kl = 0.5 * torch.sum(t_mu**2 + t_logvar.exp() - 1 - t_logvar)
        return torch.autograd.grad([tz, t_kl], [t_mu, t_logvar], [t_dz, one])

    def ours():
        eng.reparametrize_forward(z, kl, mu, logvar, eps)
        eng.reparametrize_backward(dmu, dlogvar, dz, mu, logvar, eps)

    return ours, peer, dlogvar


def test_reparametrize(benchmark):
    ours, peer, dlogvar = reparametrize(0)
    ours()
    agree(side(), dlogvar, peer()[1])
    compare(benchmark, side(), lambda seed: reparametrize(seed)[:2], held=8 * 4 * LATENT[0] * LATENT[1])
