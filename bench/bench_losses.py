"""Latent layer and losses at the sizes of a step: small, but they must not wait on anything."""

from __future__ import annotations

import numpy as np
import torch

from bench.harness import agree, compare, setup
from bench.shapes import BATCH, LATENT, LOGITS, METRIC


def test_feature_likelihood(benchmark):
    eng, rng = setup(), np.random.default_rng(0)
    pred, target = (eng.asarray(rng.standard_normal(METRIC)) for _ in range(2))
    loss, dpred = eng.empty((1,), np.float64), eng.empty(METRIC)
    t_pred, t_target = torch.from_numpy(pred).requires_grad_(), torch.from_numpy(target)

    def peer():
        (d,) = torch.autograd.grad(0.5 * torch.nn.functional.mse_loss(t_pred, t_target, reduction="sum"), t_pred)
        return d

    eng.feature_likelihood(loss, dpred, pred, target)
    agree(eng.to_numpy(dpred), peer())
    compare(benchmark, lambda: eng.feature_likelihood(loss, dpred, pred, target), peer, nbytes=3 * pred.nbytes)


def test_gan_loss(benchmark):
    eng, rng = setup(), np.random.default_rng(0)
    logits = eng.asarray(rng.standard_normal((LOGITS, 1)))
    losses, dlogits = eng.empty((2,), np.float64), eng.empty((LOGITS, 1))
    t_logits = torch.from_numpy(logits).requires_grad_()

    def peer():
        p = torch.sigmoid(t_logits)
        loss = -0.66 * torch.log(p[:BATCH] + 1e-3).sum() - 0.17 * torch.log(1 - p[BATCH:] + 1e-3).sum()
        return torch.autograd.grad(loss, t_logits)[0]

    def ours():
        eng.gan_loss(losses, dlogits, logits, BATCH, (0.66, 0.17), log_eps=1e-3)

    ours()
    agree(eng.to_numpy(dlogits), peer())
    compare(benchmark, ours, peer)


def test_reparametrize(benchmark):
    eng, rng = setup(), np.random.default_rng(0)
    mu, logvar, eps, dz = (eng.asarray(rng.standard_normal(LATENT)) for _ in range(4))
    z, kl, dmu, dlogvar = eng.empty(LATENT), eng.empty((1,), np.float64), eng.empty(LATENT), eng.empty(LATENT)
    t_mu, t_logvar = (torch.from_numpy(a).requires_grad_() for a in (mu, logvar))
    t_eps, t_dz = torch.from_numpy(eps), torch.from_numpy(dz)

    def peer():
        tz = t_mu + torch.exp(0.5 * t_logvar) * t_eps
        t_kl = 0.5 * torch.sum(t_mu**2 + t_logvar.exp() - 1 - t_logvar)
        return torch.autograd.grad([tz, t_kl], [t_mu, t_logvar], [t_dz, torch.ones(())])

    def ours():
        eng.reparametrize_forward(z, kl, mu, logvar, eps)
        eng.reparametrize_backward(dmu, dlogvar, dz, mu, logvar, eps)

    ours()
    agree(eng.to_numpy(dlogvar), peer()[1])
    compare(benchmark, ours, peer)
