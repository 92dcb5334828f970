"""Losses and the equilibrium gate: PyTorch autograd, finite differences, extreme logits, and the gate's truth table."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gradcheck import assert_close, assert_zero, draw, leaf, numpy, poisoned, put, tolerance

LOG_EPS = pytest.mark.parametrize("log_eps", [0.0, 1e-3], ids=["exact", "authors' 1e-3"])
COUNTS = [(4, 8), (1, 1), (5, 5), (64, 128)]  # real, generated


def losses_array(engine, n):
    return poisoned(engine, n, dtype=np.float64)


def torch_gan(logits, n_real, log_eps):
    """Summed -log(p + eps) of the real rows and -log(1 - p + eps) of the generated ones."""
    p = torch.sigmoid(logits.reshape(-1))
    return -torch.log(p[:n_real] + log_eps).sum(), -torch.log(1 - p[n_real:] + log_eps).sum()


@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (2, 3, 5, 4), (4, 32, 32, 8)])
def test_feature_likelihood(engine, rng, shape):
    pred, target = draw(engine, rng, *shape), draw(engine, rng, *shape)
    t_pred = leaf(pred)
    expected = 0.5 * ((t_pred - torch.tensor(target)) ** 2).sum()
    (e_pred,) = torch.autograd.grad(expected, t_pred)
    loss, dpred = losses_array(engine, 1), poisoned(engine, *shape)
    engine.feature_likelihood(loss, dpred, put(engine, pred), put(engine, target))
    assert_close(engine.to_numpy(loss), numpy(expected)[None], tolerance(engine.dtype, int(np.prod(shape))), "loss")
    assert_close(engine.to_numpy(dpred), e_pred, tolerance(engine.dtype), "dpred")


@LOG_EPS
@pytest.mark.parametrize(("n_real", "n_generated"), COUNTS)
@pytest.mark.parametrize("column", [False, True], ids=["[M]", "[M, 1]"])
def test_gan_loss_matches_autograd(engine, rng, log_eps, n_real, n_generated, column):
    """Losses are not weighted; the gradient is."""
    m, weights = n_real + n_generated, (0.66, 0.17)
    logits = draw(engine, rng, m, *([1] if column else []), scale=2.0)
    t_logits = leaf(logits)
    real, generated = torch_gan(t_logits, n_real, log_eps)
    (expected,) = torch.autograd.grad(weights[0] * real + weights[1] * generated, t_logits)

    losses, dlogits = losses_array(engine, 2), poisoned(engine, *logits.shape)
    engine.gan_loss(losses, dlogits, put(engine, logits), n_real, weights, log_eps=log_eps)
    limit = 10 * tolerance(engine.dtype, m)
    assert_close(engine.to_numpy(losses), [float(real.detach()), float(generated.detach())], limit, "losses")
    assert_close(engine.to_numpy(dlogits), expected, limit, "dlogits")
    alone = losses_array(engine, 2)
    engine.gan_loss(alone, None, put(engine, logits), n_real, weights, log_eps=log_eps)
    assert np.array_equal(engine.to_numpy(alone), engine.to_numpy(losses)), "losses depend on dlogits being wanted"


@LOG_EPS
@pytest.mark.parametrize(("n_real", "n_generated"), COUNTS)
def test_generator_loss_matches_autograd(engine, rng, log_eps, n_real, n_generated):
    """The non-saturating loss: -log(p + eps) over generated rows; real rows get no error."""
    logits = draw(engine, rng, n_real + n_generated, scale=2.0)
    t_logits = leaf(logits)
    loss_t = -torch.log(torch.sigmoid(t_logits[n_real:]) + log_eps).sum()
    (expected,) = torch.autograd.grad(loss_t, t_logits)
    loss, dlogits = losses_array(engine, 1), poisoned(engine, n_real + n_generated)
    engine.generator_loss(loss, dlogits, put(engine, logits), n_real, log_eps=log_eps)
    limit = 10 * tolerance(engine.dtype, n_real + n_generated)
    assert_close(engine.to_numpy(loss), [float(loss_t.detach())], limit, "loss")
    assert_close(engine.to_numpy(dlogits), expected, limit, "dlogits")
    assert_zero(engine.to_numpy(dlogits)[:n_real], "dlogits of the real rows")


@LOG_EPS
def test_gan_gradients_by_finite_differences(engine64, rng, log_eps):
    """Central differences along every logit: no autograd on either side."""
    engine, n_real, weights, h = engine64, 3, (0.7, 0.2), 1e-6
    logits = draw(engine, rng, 7, scale=1.5)

    def value(at):
        losses, loss = losses_array(engine, 2), losses_array(engine, 1)
        engine.gan_loss(losses, None, put(engine, at), n_real, weights, log_eps=log_eps)
        engine.generator_loss(loss, poisoned(engine, 7), put(engine, at), n_real, log_eps=log_eps)
        return np.dot(engine.to_numpy(losses), weights), float(engine.to_numpy(loss)[0])

    difference = np.array([np.subtract(value(logits + step), value(logits - step)) / (2 * h) for step in h * np.eye(7)])
    d_gan, d_generator = poisoned(engine, 7), poisoned(engine, 7)
    engine.gan_loss(losses_array(engine, 2), d_gan, put(engine, logits), n_real, weights, log_eps=log_eps)
    engine.generator_loss(losses_array(engine, 1), d_generator, put(engine, logits), n_real, log_eps=log_eps)
    assert_close(d_gan, difference[:, 0], 1e-7, "gan_loss")
    assert_close(d_generator, difference[:, 1], 1e-7, "generator_loss")


def test_other_losses_by_finite_differences(engine64, rng):
    engine, h = engine64, 1e-6
    pred, target = draw(engine, rng, 2, 5), draw(engine, rng, 2, 5)
    mu, logvar, eps, dz = (draw(engine, rng, 2, 3) for _ in range(4))

    def like(at):
        loss = losses_array(engine, 1)
        engine.feature_likelihood(loss, poisoned(engine, 2, 5), put(engine, at), put(engine, target))
        return float(loss[0])

    def latent(mu, logvar):
        z, kl = poisoned(engine, 2, 3), losses_array(engine, 1)
        engine.reparametrize_forward(z, kl, put(engine, mu), put(engine, logvar), put(engine, eps))
        return float(kl[0]) + float((engine.to_numpy(z) * dz).sum())

    def differences(function, at):
        steps = h * np.eye(at.size).reshape(-1, *at.shape)
        return np.array([(function(at + s) - function(at - s)) / (2 * h) for s in steps]).reshape(at.shape)

    dpred, dmu, dlogvar = poisoned(engine, 2, 5), poisoned(engine, 2, 3), poisoned(engine, 2, 3)
    engine.feature_likelihood(losses_array(engine, 1), dpred, put(engine, pred), put(engine, target))
    engine.reparametrize_backward(dmu, dlogvar, *(put(engine, a) for a in (dz, mu, logvar, eps)))
    assert_close(dpred, differences(like, pred), 1e-7, "feature_likelihood")
    assert_close(dmu, differences(lambda a: latent(a, logvar), mu), 1e-7, "dmu")
    assert_close(dlogvar, differences(lambda a: latent(mu, a), logvar), 1e-7, "dlogvar")


@LOG_EPS
def test_losses_are_stable_at_extreme_logits(engine, log_eps):
    """±100: log(1 + e^100) is 100, not inf, and no gradient is NaN; overflow is an error."""
    logits = np.array([100.0, -100.0, 0.0, 100.0, -100.0, 0.0])  # three real, three generated
    losses, dlogits = losses_array(engine, 2), poisoned(engine, 6)
    loss, d_generator = losses_array(engine, 1), poisoned(engine, 6)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        engine.gan_loss(losses, dlogits, put(engine, logits), 3, (1.0, 1.0), log_eps=log_eps)
        engine.generator_loss(loss, d_generator, put(engine, logits), 3, log_eps=log_eps)
    wrong = 100.0 if log_eps == 0 else -np.log(log_eps)  # confidently wrong
    total = -np.log1p(log_eps) * (log_eps > 0) + wrong - np.log(0.5 + log_eps)
    assert_close(engine.to_numpy(losses), [total, total], 1e-6, "losses")
    assert_close(engine.to_numpy(loss), [total], 1e-6, "generator loss")
    half = 0.25 / (0.5 + log_eps)
    steep = 1.0 if log_eps == 0 else 0.0  # with log_eps the loss is flat where p is 0
    assert np.allclose(engine.to_numpy(dlogits), [0, -steep, -half, steep, 0, half], atol=1e-6)
    assert np.allclose(engine.to_numpy(d_generator), [0, 0, 0, 0, -steep, -half], atol=1e-6)


# Dec waits when a loss is above 1.03 (Dis is behind), Dis when one is below 0.33 (Dis is ahead), never both.
GATE = [
    (0.68, 0.68, (1, 1), "at equilibrium"),
    (0.34, 1.02, (1, 1), "just inside both margins"),
    (1.02, 0.34, (1, 1), "just inside both margins, the other way round"),
    (0.34, 0.34, (1, 1), "both just above the lower end"),
    (1.02, 1.02, (1, 1), "both just below the upper end"),
    (0.32, 0.68, (1, 0), "real loss low: Dis is ahead"),
    (0.68, 0.32, (1, 0), "generated loss low: Dis is ahead"),
    (0.10, 0.10, (1, 0), "both low"),
    (1.04, 0.68, (0, 1), "real loss high: Dis is behind"),
    (0.68, 1.04, (0, 1), "generated loss high: Dis is behind"),
    (2.00, 3.00, (0, 1), "both high"),
    (0.10, 2.00, (1, 1), "neither would be updated: both are"),
    (2.00, 0.10, (1, 1), "neither would be updated, the other way round"),
]


@pytest.mark.parametrize(("a", "b", "expected", "why"), GATE, ids=[row[3] for row in GATE])
@pytest.mark.parametrize(("n_real", "n_generated"), [(1, 1), (64, 128), (5, 5)])
def test_equilibrium_gate(engine, a, b, expected, why, n_real, n_generated):
    """The gate compares means: sums over different numbers of rows must not decide it."""
    losses = put(engine, [a * n_real, b * n_generated], np.float64)
    flags = put(engine, [7, 7], np.uint8)
    engine.equilibrium_gate(flags, losses, n_real, n_generated, equilibrium=0.68, margin=0.35)
    assert tuple(int(f) for f in engine.to_numpy(flags)) == expected


def test_equilibrium_and_margin_are_the_callers(engine):
    flags, losses = put(engine, [7, 7], np.uint8), put(engine, [0.5, 0.5], np.float64)
    engine.equilibrium_gate(flags, losses, 1, 1, equilibrium=1.0, margin=0.2)
    assert engine.to_numpy(flags).tolist() == [1, 0]
    engine.equilibrium_gate(flags, losses, 1, 1, equilibrium=0.2, margin=0.2)
    assert engine.to_numpy(flags).tolist() == [0, 1]


@pytest.mark.parametrize("n_real", [7, -1])
def test_real_rows_are_some_of_all(engine, rng, n_real):
    logits = put(engine, draw(engine, rng, 6), engine.wide)
    with pytest.raises(ValueError, match="n_real: got .*expected"):
        engine.gan_loss(losses_array(engine, 2), None, logits, n_real, (1.0, 1.0))
    with pytest.raises(ValueError, match="n_real: got .*expected"):
        engine.generator_loss(losses_array(engine, 1), poisoned(engine, 6), logits, n_real)


def test_logits_are_one_column(engine):
    with pytest.raises(ValueError, match="logits: got .*expected"):
        engine.gan_loss(losses_array(engine, 2), None, put(engine, np.zeros((3, 2))), 2, (1.0, 1.0))
