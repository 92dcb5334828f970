"""Launches that do the work of several: the same bits as one after the other, and no stale copy of what has changed since."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

pytest.importorskip("triton", reason="Triton, which interprets the GPU kernels, is not installed (Linux only)")
if shutil.which("g++") is None:
    pytest.skip("no g++ to compile the CUDA C kernels for the host", allow_module_level=True)

from kernels.cuda.device.chips import CHIPS
from kernels.cuda.engine import emulated_engine

PRECISIONS = pytest.mark.parametrize("precision", ["float32", "bf16"])


def launched(engine, call):
    """The names of ``call``'s launches."""
    engine.device.launches = []
    call()
    engine.device.settle()
    names = [launch.name for launch in engine.device.launches]
    engine.device.launches = None
    return names


def drawn(eng, apart):
    one, other, third = (eng.empty((9, 7), eng.wide) for _ in range(3))
    counter = eng.asarray([5], np.int64)
    for out, stream, step in ((one, 1, counter), (other, 2, counter), (third, 3, 4)):
        eng.normal(out, seed=3, step=step, stream=stream)
        apart()
    return one, other, third


def reparametrized(eng, apart):
    rng = np.random.default_rng(0)
    mu, logvar, eps, z_p = (eng.asarray(rng.standard_normal((50, 33)), eng.wide) for _ in range(4))
    z, kl = eng.empty((100, 33)), eng.empty((1,), np.float64)
    eng.copy(z[:50], z_p)
    apart()
    eng.reparametrize_forward(z[50:], kl, mu, logvar, eps)
    assert np.array_equal(z[:50], z_p.astype(z.dtype))
    return z, kl


def gated(eng, apart):
    logits = eng.asarray(np.random.default_rng(0).standard_normal((9, 1)), eng.wide)
    losses, slope, flags = eng.empty((5,), np.float64)[2:4], eng.empty((9, 1)), eng.empty((2,), np.uint8)
    counts = eng.asarray([4.0, 2.0, 1.0], np.float64)
    eng.gan_loss(losses, slope, logits, 3, (0.7, 0.2), log_eps=1e-3)
    apart()
    eng.equilibrium_gate(flags, losses, 3, 6, equilibrium=0.68, margin=0.1, counts=counts)
    assert counts[0] == 5 and counts[1:].tolist() == (np.array([2.0, 1.0]) + flags).tolist()
    return losses, slope, flags, counts


def added(eng, apart):
    rng = np.random.default_rng(0)
    a, b, y = (eng.asarray(rng.uniform(-1, 1, 5000)) for _ in range(3))
    eng.add(b, a, b, alpha=0.3, beta=-2.7)
    apart()
    eng.tanh_backward(b, b, y)
    return (b,)


@PRECISIONS
@pytest.mark.parametrize(
    ("work", "together", "apart"),
    [
        (drawn, ["normal"] * 2, ["normal"] * 3),
        (reparametrized, ["reparametrize_forward"], ["copy", "reparametrize_forward"]),
        (gated, ["gan_loss"], ["gan_loss", "equilibrium_gate"]),
        (added, ["add_tanh_backward"], ["add", "tanh_backward"]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_two_launches_in_one(precision, work, together, apart):
    results = []
    for expected, joined in ((together, True), (apart, False)):
        eng = emulated_engine(precision)
        settle = (lambda: None) if joined else eng.device.settle
        names = launched(eng, lambda eng=eng, settle=settle: results.append(work(eng, settle)))
        assert [{"narrow": "copy", "copy_bytes": "copy"}.get(name, name) for name in names] == expected
    for one, other in zip(*results, strict=True):
        assert one.tobytes() == other.tobytes()


@PRECISIONS
def test_another_use_of_what_is_held_back_is_no_part_of_a_join(precision):
    """Numbers of another step, a gate of other losses, tanh's gradient of something else or elsewhere."""
    eng = emulated_engine(precision)
    a, b, out = eng.asarray(np.full(9, 0.5)), eng.asarray(np.ones(9)), eng.empty((9,))
    assert launched(eng, lambda: (eng.add(b, a, b), eng.tanh_backward(out, b, a))) == ["add", "tanh_backward"]
    assert launched(eng, lambda: (eng.add(b, a, b), eng.tanh_backward(a, a, b))) == ["add", "tanh_backward"]
    losses, others, flags = eng.empty((2,), np.float64), eng.asarray([1.0, 2.0], np.float64), eng.empty((2,), np.uint8)
    logits, gate = eng.asarray(np.zeros(4), eng.wide), {"equilibrium": 0.68, "margin": 0.35}
    calls = (lambda: eng.gan_loss(losses, None, logits, 2, (1.0, 1.0)), lambda: eng.equilibrium_gate(flags, others, 2, 2, **gate))
    assert launched(eng, lambda: [call() for call in calls]) == ["gan_loss", "equilibrium_gate"]


def test_gradients_summed_together(rng):
    """In one launch, dw and dbias; bits as before; a second time with other numbers."""
    eng = emulated_engine("float32", chip=CHIPS["sm_90"]._replace(multiprocessors=16))
    x, dy, w, b = (eng.asarray(rng.standard_normal(shape)) for shape in ((700, 16), (700, 24), (16, 24), (24,)))

    def work(eng):
        outputs = [eng.empty(shape, eng.wide) for shape in ((16, 24), (24,), (24, 16), (16,))]
        eng.linear_wgrad(outputs[0], x, dy, dbias=outputs[1])
        eng.linear_wgrad(outputs[2], dy, x, dbias=outputs[3])
        return outputs

    expected = work(eng)
    for factor in (1.0, 3.0):
        eng.put(x, factor * np.array(x) / abs(np.array(x)).max())
        expected = work(eng)

        def joined(expected=expected):
            with eng.together():
                outputs = work(eng)
                with eng.together():  # nothing of its own
                    pass
                assert all(np.isnan(out).all() for out in outputs), "was not left for later"
            for one, other in zip(outputs, expected, strict=True):
                assert one.tobytes() == other.tobytes()

        names = launched(eng, joined)
        assert names.count("split_reduce_list") == 1 and "split_reduce" not in names and len(names) == 5
    y, later = eng.empty((700, 24)), eng.empty((700, 24))
    eng.linear_forward(y, x, w, b)
    with eng.together():
        eng.linear_forward(later, x, w, b)
    assert y.tobytes() == later.tobytes()


def test_a_sum_of_linear_inputs_waits_for_the_others(rng):
    """μ and log σ²: inputs in splits, with their biases, in one launch."""
    eng = emulated_engine("float32", chip=CHIPS["sm_90"]._replace(multiprocessors=16))
    x, w, biases = eng.asarray(rng.standard_normal((6, 2000))), eng.asarray(rng.standard_normal((2000, 24))), rng.standard_normal((2, 24))
    expected, got = ([eng.empty((6, 24), eng.wide) for _ in range(2)] for _ in range(2))
    for y, bias in zip(expected, biases, strict=True):
        eng.linear_forward(y, x, w, eng.asarray(bias, eng.wide))

    def joined():
        with eng.together():
            for y, bias in zip(got, biases, strict=True):
                eng.linear_forward(y, x, w, eng.asarray(bias, eng.wide))

    assert launched(eng, joined) == ["convolve", "convolve", "split_reduce_list"]
    assert [y.tobytes() for y in got] == [y.tobytes() for y in expected]


@PRECISIONS
def test_weights_are_packed_once_a_step(rng, precision):
    """Two layers, each applied twice in a step; the weights change between steps, and what is packed with them."""
    eng = emulated_engine(precision)
    fixed = eng.fixed_weights()
    x, small, large = eng.asarray(rng.standard_normal((2, 8, 8, 3))), eng.empty((5, 5, 3, 16)), eng.empty((5, 5, 16, 3))

    def apply():
        y, z = eng.empty((2, 8, 8, 16)), eng.empty((2, 8, 8, 3))
        eng.conv2d_forward(y, x, small)
        eng.conv2d_forward(z, y, large)
        return z

    def step(results):
        with fixed:
            results += [apply(), apply()]

    for number in range(3):
        for w in (small, large):
            eng.put(w, rng.standard_normal(w.shape))
        results = []
        names = launched(eng, lambda results=results: step(results))
        assert names.count("pack_list") == (2 if number == 0 else 1) and "pack_weights" not in names
        expected = apply()
        assert all(z.tobytes() == expected.tobytes() for z in results)


def test_images_that_do_not_change_get_their_border_once(rng):
    """Forward and weight gradient; of a part of them too; anew when they have changed, and outside of a step."""
    eng = emulated_engine("float32")
    x, w, dy = eng.empty((4, 8, 8, 3)), eng.asarray(rng.standard_normal((5, 5, 3, 16))), eng.asarray(rng.standard_normal((4, 8, 8, 16)))

    def work(images, errors):
        y, dw = eng.empty((len(images), 8, 8, 16)), eng.empty((5, 5, 3, 16), eng.wide)
        eng.conv2d_forward(y, images, w)
        eng.conv2d_wgrad(dw, images, errors)
        return [y.tobytes(), dw.tobytes()]

    fixed = eng.fixed_weights()
    for _ in range(2):
        eng.put(x, rng.standard_normal(x.shape))
        expected = work(x, dy), work(x[2:], dy[2:])

        def step(expected=expected):
            with fixed, eng.unchanged(x):
                for _ in range(2):
                    assert (work(x, dy), work(x[2:], dy[2:])) == expected
            with fixed:
                assert work(x, dy) == expected[0]

        assert launched(eng, step).count("pad") == 2 + 2
        assert launched(eng, lambda: work(x, dy)).count("pad") == 2
        assert not fixed.images and eng.device.fixed is None
