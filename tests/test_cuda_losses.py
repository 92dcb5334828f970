"""Latent layer, losses and gate in CUDA C on the emulated device against the NumPy engine in float64."""

from __future__ import annotations

import numpy as np
import pytest
from cuda_case import FLOAT32, PRECISIONS, ROUNDED, Operations, draw, float64, same_bits
from gradcheck import assert_close

from kernels.cpu import latent, losses
from kernels.ledger import cost


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (70, 257)])  # the last one in three blocks
def test_reparametrize(rng, precision, shape):
    ops = Operations(precision)
    mu, logvar, eps = (draw(rng, "float32", *shape, scale=s) for s in (1.0, 0.7, 1.0))
    dz = draw(rng, precision, *shape)
    z, kl, dmu, dlogvar = np.empty(shape), np.empty(1), np.empty(shape), np.empty(shape)
    latent.reparametrize_forward(z, kl, mu, logvar, eps)
    latent.reparametrize_backward(dmu, dlogvar, dz, mu, logvar, eps)
    wide = [ops.put(a, FLOAT32) for a in (mu, logvar, eps)]
    got_z, got_kl, got_dmu, got_dlogvar = ops.out(shape), ops.out((1,), np.float64), ops.out(shape), ops.out(shape)
    ops.reparametrize_forward(got_z, got_kl, *wide)
    ops.reparametrize_backward(got_dmu, got_dlogvar, ops.put(dz), *wide)
    for name, got, expected in (("z", got_z, z), ("dmu", got_dmu, dmu), ("dlogvar", got_dlogvar, dlogvar)):
        assert_close(float64(got), expected, ROUNDED[precision], name)
    assert_close(got_kl, kl, 1e-6, "kl")


def test_reparametrize_of_non_finite_values():
    for bad in (np.nan, np.inf):
        ops = Operations()
        mu, logvar = ops.put([[0.5, bad]]), ops.put([[0.1, 0.2]])
        z, kl = ops.out((1, 2)), ops.out((1,), np.float64)
        ops.reparametrize_forward(z, kl, mu, logvar, ops.put([[1.0, 1.0]]))
        assert np.isfinite(z[0, 0]) and not np.isfinite(z[0, 1]) and not np.isfinite(kl[0])


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("shift", [0, 1], ids=["aligned", "unaligned"])
@pytest.mark.parametrize("shape", [(1,), (3, 5, 7), (2, 2048), (3, 11, 11, 13)])
def test_feature_likelihood(rng, precision, shift, shape):
    ops = Operations(precision)
    pred, target = draw(rng, precision, *shape), draw(rng, precision, *shape)
    loss, dpred = np.empty(1), np.empty(shape)
    losses.feature_likelihood(loss, dpred, pred, target)
    got, got_d = ops.out((1,), np.float64), ops.out(shape, shift=shift)
    ops.feature_likelihood(got, got_d, ops.put(pred, shift=shift), ops.put(target))
    assert_close(got, loss, 1e-6, "loss")
    assert_close(float64(got_d), dpred, ROUNDED[precision], "dpred")


@pytest.mark.parametrize("shape", [(5, 73), (6, 40)])
def test_feature_likelihood_of_wide_arrays_in_a_bfloat16_engine(rng, shape):
    """A regressor's outputs are float32: nothing of them is rounded."""
    ops = Operations("bf16")
    pred, target = draw(rng, "float32", *shape), draw(rng, "float32", *shape)
    loss, dpred = np.empty(1), np.empty(shape)
    losses.feature_likelihood(loss, dpred, pred, target)
    got, got_d = ops.out((1,), np.float64), ops.out(shape, FLOAT32)
    ops.feature_likelihood(got, got_d, ops.put(pred, FLOAT32), ops.put(target, FLOAT32))
    assert_close(got, loss, 1e-6, "loss")
    assert_close(float64(got_d), dpred, 1e-6, "dpred")
    with pytest.raises(ValueError, match="got .*expected"):
        ops.feature_likelihood(got, ops.out(shape), ops.put(pred, FLOAT32), ops.put(target, FLOAT32))


def test_feature_likelihood_goes_round_the_grid(rng):
    """More elements than 1024 blocks take at once, seen from few blocks: the kernel by itself."""
    ops, n = Operations(), 5 * 2048 + 77
    pred, target = draw(rng, "float32", n), draw(rng, "float32", n)
    partial, dpred = ops.out((2,), np.float64), ops.out((n,))
    arrays = (partial, dpred, ops.put(pred), ops.put(target))
    ops.device.cuda("losses.cu", "feature_likelihood", 2, 256, *arrays, np.int64(n), cost=cost(0))
    assert_close(partial.sum(), ((pred - target) ** 2).sum(), 1e-6)
    assert_close(float64(dpred), pred - target, 1e-6)


LOGITS = [-800.0, -40.0, -3.0, -1e-4, 0.0, 2.0, 30.0, 500.0]


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("log_eps", [0.0, 1e-3])
@pytest.mark.parametrize(("rows", "n_real"), [(1, 0), (9, 9), (8, 3), (301, 100)])
def test_gan_and_generator_loss(rng, precision, log_eps, rows, n_real):
    ops = Operations(precision)
    logits = np.concatenate([LOGITS, draw(rng, "float32", rows, scale=4.0)])[:rows, None].astype(np.float32).astype(np.float64)
    logits = rng.permutation(logits)
    expected, slope, weights = np.empty(2), np.empty((rows, 1)), (0.66, 0.17)
    losses.gan_loss(expected, slope, logits, n_real, weights, log_eps=log_eps)
    device, got, got_slope = ops.put(logits, FLOAT32), ops.out((2,), np.float64), ops.out((rows, 1))
    ops.gan_loss(got, got_slope, device, n_real, weights, log_eps=log_eps)
    np.testing.assert_allclose(got, expected, rtol=1e-11, atol=1e-13)
    assert_close(float64(got_slope) + 1e-9, slope + 1e-9, ROUNDED[precision])
    alone = ops.out((2,), np.float64)
    ops.gan_loss(alone, None, device, n_real, weights, log_eps=log_eps)
    assert alone.tobytes() == got.tobytes()

    expected = np.empty(1)
    losses.generator_loss(expected, slope, logits, n_real, log_eps=log_eps)
    got, got_slope = ops.out((1,), np.float64), ops.out((rows, 1))
    ops.generator_loss(got, got_slope, device, n_real, log_eps=log_eps)
    np.testing.assert_allclose(got, expected, rtol=1e-11, atol=1e-13)
    assert_close(float64(got_slope) + 1e-9, slope + 1e-9, ROUNDED[precision])
    assert (got_slope[:n_real] == 0).all()


def test_losses_of_nan_logits_are_nan():
    ops = Operations()
    got, one = ops.out((2,), np.float64), ops.out((1,), np.float64)
    logits, slope = ops.put([np.nan, 1.0, 1.0, np.inf]), ops.out((4,))
    ops.gan_loss(got, slope, logits, 2, (1.0, 1.0))
    assert np.isnan(got[0]) and got[1] == np.inf and np.isnan(slope[0]) and np.isfinite(slope[1:]).all()
    ops.generator_loss(one, slope, logits, 3)
    assert one[0] == 0.0 and slope[:3].tolist() == [0.0, 0.0, 0.0], "real rows count for nothing here"
    ops.generator_loss(one, slope, ops.put([1.0, 1.0, np.nan, 1.0]), 2)
    assert np.isnan(one[0]) and np.isnan(slope[2]) and np.isfinite(slope[3])


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("rows", "classes"), [(1, 1), (5, 3), (64, 10), (301, 2), (7, 300)])
def test_softmax_cross_entropy(rng, precision, rows, classes):
    """Wide logits, errors of the engine's dtype; more rows than threads, and rows without a label."""
    ops = Operations(precision)
    logits = draw(rng, "float32", rows, classes, scale=5.0)
    logits[rows // 2] = np.float32(1e3 * logits[rows // 2])  # as the device has them
    labels = rng.integers(-1, classes, rows).astype(np.int32)
    loss, p, slope = np.empty(1), np.empty(logits.shape), np.empty(logits.shape)
    losses.softmax_cross_entropy_forward(loss, p, logits, labels)
    losses.softmax_cross_entropy_backward(slope, p, labels)
    device = ops.put(labels, np.int32)
    got, got_p, got_slope = ops.out((1,), np.float64), ops.out(logits.shape, FLOAT32), ops.out(logits.shape)
    ops.softmax_cross_entropy_forward(got, got_p, ops.put(logits, FLOAT32), device)
    ops.softmax_cross_entropy_backward(got_slope, got_p, device)
    np.testing.assert_allclose(got, loss, rtol=1e-11, atol=1e-13)
    assert_close(float64(got_p), p, 1e-6, "p")
    assert_close(float64(got_slope) + 1e-9, slope + 1e-9, ROUNDED[precision] + 1e-6, "dlogits")


@pytest.mark.parametrize("label", [-2, 3, 2**31 - 1])
def test_a_label_that_is_no_class_shows(label):
    """A device does not read labels before it computes: NaN, and no stray access."""
    ops = Operations()
    labels, loss, p, slope = ops.put([0, label], np.int32), ops.out((1,), np.float64), ops.out((2, 3)), ops.out((2, 3))
    ops.softmax_cross_entropy_forward(loss, p, ops.put(np.zeros((2, 3))), labels)
    ops.softmax_cross_entropy_backward(slope, p, labels)
    assert np.isnan(loss[0]) and np.isfinite(p).all() and np.isfinite(slope[0]).all() and np.isnan(slope[1]).all()


@pytest.mark.parametrize("a", [0.1, 0.5, 0.9, np.nan])
@pytest.mark.parametrize("b", [0.1, 0.5, 0.9])
def test_equilibrium_gate_and_its_count(a, b):
    ops = Operations()
    flags, expected = ops.out((2,), np.uint8), np.empty(2, np.uint8)
    arguments = {"equilibrium": 0.5, "margin": 0.2}
    losses.equilibrium_gate(expected, np.array([4 * a, 3 * b]), 4, 3, **arguments)
    ops.equilibrium_gate(flags, ops.put([4 * a, 3 * b], np.float64), 4, 3, **arguments)
    assert flags.tolist() == expected.tolist()
    counts = ops.put([5, 1, 2], np.float64)
    ops.count_gate(counts, flags)
    assert counts.tolist() == [6, 1 + expected[0], 2 + expected[1]]


def test_the_order_of_threads_changes_no_bit(rng):
    pred, target = draw(rng, "float32", 6000), draw(rng, "float32", 6000)
    logits, mu = draw(rng, "float32", 700), draw(rng, "float32", 70, 257)

    def run(seed):
        ops = Operations(seed=seed)
        out = [ops.out((1,), np.float64), ops.out((2,), np.float64), ops.out((1,), np.float64), ops.out((1,), np.float64)]
        ops.feature_likelihood(out[0], ops.out((6000,)), ops.put(pred), ops.put(target))
        ops.gan_loss(out[1], None, ops.put(logits), 300, (1.0, 1.0))
        ops.generator_loss(out[2], ops.out((700,)), ops.put(logits), 300)
        ops.reparametrize_forward(ops.out(mu.shape), out[3], *(ops.put(mu) for _ in range(3)))
        rows, labels = ops.put(logits.reshape(350, 2)), ops.put(np.arange(350) % 2, np.int32)
        out += [ops.out((1,), np.float64), ops.out((350, 2)), ops.out((350, 2))]
        ops.softmax_cross_entropy_forward(out[4], out[5], rows, labels)
        ops.softmax_cross_entropy_backward(out[6], out[5], labels)
        return out

    same_bits(run)


def test_what_is_refused():
    ops = Operations()
    good, bad = ops.out((2, 3)), ops.out((3, 2))
    loss, two, flags = ops.out((1,), np.float64), ops.out((2,), np.float64), ops.out((2,), np.uint8)
    for call in (
        lambda: ops.reparametrize_forward(good, good, good, good, good),
        lambda: ops.reparametrize_backward(good, good, bad, good, good, good),
        lambda: ops.feature_likelihood(loss, good, good, bad),
        lambda: ops.feature_likelihood(two, good, good, good),
        lambda: ops.gan_loss(two, None, good, 1, (1.0, 1.0)),
        lambda: ops.gan_loss(two, None, ops.out((2,)), 3, (1.0, 1.0)),
        lambda: ops.gan_loss(loss, None, ops.out((2,)), 1, (1.0, 1.0)),
        lambda: ops.generator_loss(loss, ops.out((3,)), ops.out((2,)), 1),
        lambda: ops.equilibrium_gate(two, two, 1, 1, equilibrium=0.0, margin=0.0),
        lambda: ops.count_gate(two, flags),
        lambda: ops.softmax_cross_entropy_forward(loss, good, good, ops.put([0, 1, 2], np.int32)),
        lambda: ops.softmax_cross_entropy_forward(loss, good, good, ops.put([0, 1], np.int64)),
        lambda: ops.softmax_cross_entropy_forward(two, good, good, ops.put([0, 1], np.int32)),
        lambda: ops.softmax_cross_entropy_forward(loss, bad, good, ops.put([0, 1], np.int32)),
        lambda: ops.softmax_cross_entropy_forward(loss, ops.out((2, 0)), ops.out((2, 0)), ops.put([0, 1], np.int32)),
        lambda: ops.softmax_cross_entropy_backward(bad, good, ops.put([0, 1], np.int32)),
        lambda: ops.softmax_cross_entropy_backward(good, good, ops.put([0], np.int32)),
    ):
        with pytest.raises(ValueError, match="got .*expected"):
            call()
