"""z = mu + sigma * eps with the KL divergence from N(0, I), against PyTorch autograd and the closed form."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gradcheck import assert_close, draw, leaf, numpy, poisoned, put, tolerance

SHAPES = [(1, 1), (1, 128), (5, 3), (64, 128)]


def torch_kl(mu, logvar):
    """KL(N(mu, diag exp(logvar)) || N(0, I)), summed over batch and units."""
    return 0.5 * torch.sum(torch.exp(logvar) + mu**2 - 1 - logvar)


@pytest.mark.parametrize("shape", SHAPES)
def test_reparametrize_matches_autograd(engine, rng, shape):
    mu, logvar = draw(engine, rng, *shape), draw(engine, rng, *shape, scale=0.8, shift=-0.5)
    eps, dz = draw(engine, rng, *shape), draw(engine, rng, *shape)
    t_mu, t_logvar = leaf(mu), leaf(logvar)
    tz = t_mu + torch.exp(0.5 * t_logvar) * torch.tensor(eps)
    t_kl = torch_kl(t_mu, t_logvar)
    e_mu, e_logvar = torch.autograd.grad((tz * torch.tensor(dz)).sum() + t_kl, (t_mu, t_logvar))

    device = [put(engine, a) for a in (mu, logvar, eps)]
    z, kl = poisoned(engine, *shape), poisoned(engine, 1, dtype=np.float64)
    engine.reparametrize_forward(z, kl, *device)
    limit = tolerance(engine.dtype, int(np.prod(shape)))
    assert_close(engine.to_numpy(z), tz, limit, "z")
    assert_close(engine.to_numpy(kl), numpy(t_kl)[None], limit, "kl")
    dmu, dlogvar = poisoned(engine, *shape), poisoned(engine, *shape)
    engine.reparametrize_backward(dmu, dlogvar, put(engine, dz), *device)
    assert_close(engine.to_numpy(dmu), e_mu, limit, "dmu")
    assert_close(engine.to_numpy(dlogvar), e_logvar, limit, "dlogvar")


def test_kl_agrees_with_torch_distributions(engine64, rng):
    mu, logvar = draw(engine64, rng, 4, 6), draw(engine64, rng, 4, 6)
    q = torch.distributions.Normal(torch.tensor(mu), torch.tensor(np.exp(0.5 * logvar)))
    expected = torch.distributions.kl_divergence(q, torch.distributions.Normal(0.0, 1.0)).sum()
    z, kl = poisoned(engine64, 4, 6), poisoned(engine64, 1, dtype=np.float64)
    engine64.reparametrize_forward(z, kl, *(put(engine64, a) for a in (mu, logvar, np.zeros((4, 6)))))
    assert_close(engine64.to_numpy(kl), numpy(expected)[None], 1e-12)


def test_prior_costs_nothing(engine):
    """KL of N(0, I) from itself is 0, and so are its gradients: only dz is left."""
    zeros = put(engine, np.zeros((3, 4)))
    eps, dz = put(engine, np.full((3, 4), 2.0)), put(engine, np.full((3, 4), 3.0))
    z, kl, dmu, dlogvar = poisoned(engine, 3, 4), poisoned(engine, 1, dtype=np.float64), *(poisoned(engine, 3, 4) for _ in range(2))
    engine.reparametrize_forward(z, kl, zeros, zeros, eps)
    engine.reparametrize_backward(dmu, dlogvar, dz, zeros, zeros, eps)
    assert float(engine.to_numpy(kl)[0]) == pytest.approx(0.0, abs=1e-12)
    assert np.allclose(engine.to_numpy(dmu), 3.0)
    assert np.allclose(engine.to_numpy(dlogvar), 3.0)  # dz * eps * sigma / 2
