"""Sizes of the networks, their start values, and encode, decode, discriminate against PyTorch modules."""

from __future__ import annotations

import inspect
import math

import numpy as np
import pytest
import torch
from gradcheck import assert_close
from vaegan_case import batch, make_model, objective, part

from bench.peers.networks import Networks
from kernels.cpu.engine import CPUEngine
from models import presets
from models.memory import Pool
from models.networks import network
from models.objective import Objective
from models.vaegan import VAEGAN, step_of


def test_parameter_counts_of_table_1():
    """Enc 35.1 M (33.5 M of them the FC), Dec 4.7 M, Dis 11.0 M."""
    counts = {name: n / 1e6 for name, n in network("paper64").parameter_counts().items()}
    assert counts == pytest.approx({"encoder": 35.1, "decoder": 4.7, "discriminator": 11.0}, abs=0.05)


@pytest.mark.parametrize("name", ["paper32", "small32"])
@pytest.mark.parametrize("channels", [1, 3])
def test_parameter_counts_are_what_is_there(engine32, name, channels):
    spec = network(name, channels=channels)
    model = VAEGAN(engine32, spec, seed=0)
    counted = dict.fromkeys(("encoder", "decoder", "discriminator"), 0)
    for key, array in part(model, "parameters").items():
        counted[key.split("/")[0]] += array.size
    assert counted == spec.parameter_counts()


def test_shapes_of_the_authors_32_pixel_networks(engine32):
    p = part(VAEGAN(engine32, network("paper32"), seed=0), "parameters")
    shapes = {
        "encoder/conv1/weight": (5, 5, 3, 64), "encoder/conv3/weight": (5, 5, 128, 256),
        "encoder/fc/weight": (4 * 4 * 256, 1024), "encoder/mu/weight": (1024, 128), "decoder/fc/weight": (128, 4096),
        "decoder/up1/weight": (5, 5, 192, 256), "decoder/up2/weight": (5, 5, 128, 192),
        "decoder/up3/weight": (5, 5, 32, 128), "decoder/image/weight": (5, 5, 32, 3),
        "discriminator/conv1/weight": (5, 5, 3, 32), "discriminator/conv2/weight": (5, 5, 32, 128),
        "discriminator/conv3/weight": (5, 5, 128, 192), "discriminator/conv4/weight": (5, 5, 192, 256),
        "discriminator/fc/weight": (4096, 512), "discriminator/output/weight": (512, 1),
    }  # fmt: skip
    assert {name: p[name].shape for name in shapes} == shapes
    biases = {name for name in p if name.endswith("/bias")}
    layers = ("encoder/mu", "encoder/logvar", "decoder/image", "discriminator/conv1", "discriminator/output")
    assert biases == {f"{layer}/bias" for layer in layers}


def test_start_values(engine32):
    """U(±1/sqrt(3 fan_in)); an upconv's fan-in is C_out * 25; biases 0, gamma 1, beta 0; another seed differs."""
    one, two = (part(VAEGAN(engine32, network("paper32"), seed=s), "parameters") for s in (0, 1))
    for name, array in one.items():
        kind = name.rsplit("/", 1)[-1]
        if kind != "weight":
            assert (array == (1.0 if kind == "gamma" else 0.0)).all(), name
            continue
        fan_in = array.shape[0] if array.ndim == 2 else 25 * array.shape[2]  # [in, out]; [5, 5, Ci, Co]; [5, 5, Co, Ci]
        bound = 1 / math.sqrt(3 * fan_in)
        assert np.abs(array).max() <= bound * (1 + 1e-6), name
        assert np.abs(array).max() > 0.95 * bound, name
        assert abs(array.std() / (bound / math.sqrt(3)) - 1) < 0.1, name
        assert not np.array_equal(array, two[name]), name


@pytest.mark.parametrize("name", ["unknown", "paper"])
def test_unknown_network(name):
    with pytest.raises(ValueError, match="got .*expected"):
        network(name)


@pytest.mark.parametrize("bad", [{"channels": 2}, {"encoder_units": 0}])
def test_network_refuses(bad):
    with pytest.raises(ValueError, match="got .*expected"):
        network("small32", **bad)


def torch_twin(model):
    twin = Networks(part(model, "parameters"), dtype=torch.float64)
    twin.load(part(model, "parameters"), part(model, "statistics"))
    return twin.eval()


@pytest.mark.parametrize(("name", "channels"), [("small32", 3), ("small32", 1), ("paper32", 3), ("paper64", 3)])
def test_weights_in_a_pytorch_module_give_the_same_model(engine64, name, channels):
    """encode, decode and discriminate (running statistics) are torch.nn modules in eval mode, within 1e-9."""
    model = make_model(engine64, name, channels=channels)
    x, _, z = batch(engine64, model, 3)
    twin = torch_twin(model)
    with torch.no_grad():
        images = torch.tensor(x).permute(0, 3, 1, 2)
        expected_mu, expected_logvar = twin.encoder(images)
        expected_decoded = twin.decoder(torch.tensor(z)).permute(0, 2, 3, 1)
        expected_p = torch.sigmoid(twin.discriminator(images)[1]).reshape(-1)
    mu, logvar = model.encode(x)
    decoded, p = model.decode(z), model.discriminate(x)
    assert_close(mu, expected_mu, 1e-9, "mu")
    assert_close(logvar, expected_logvar, 1e-9, "logvar")
    assert_close(decoded, expected_decoded, 1e-9, "decode")
    assert_close(p, expected_p, 1e-9, "discriminate")


def test_inference_does_not_depend_on_the_batch(engine64):
    """Running statistics: an image gives the same alone and in company, in whatever pieces the model works; 0 works too."""
    model = make_model(engine64)
    x, _, z = batch(engine64, model, 70)
    before = {name: np.array(a) for name, a in model.state_arrays().items()}
    mu, decoded, p = model.encode(x)[0], model.decode(z), model.discriminate(x)
    for i in (0, 33, 69):
        assert_close(model.encode(x[i : i + 1])[0], mu[i : i + 1], 1e-10)
        assert_close(model.decode(z[i : i + 1]), decoded[i : i + 1], 1e-10)
        assert_close(model.discriminate(x[i : i + 1]), p[i : i + 1], 1e-10)
    assert decoded.shape == x.shape
    assert np.abs(decoded).max() <= 1
    assert ((p > 0) & (p < 1)).all()
    for name, array in model.state_arrays().items():
        assert np.array_equal(array, before[name]), f"inference changed {name}"


def test_inference_after_training_uses_running_statistics(engine64):
    """The module twin follows after steps that move weights and statistics."""
    model = make_model(engine64)
    for i in range(3):
        model.train_step(*batch(engine64, model, 6, seed=i), objective(), 1e-3)
    x, _, z = batch(engine64, model, 3, seed=5)
    with torch.no_grad():
        assert_close(model.decode(z), torch_twin(model).decoder(torch.tensor(z)).permute(0, 2, 3, 1), 1e-9)
        assert_close(model.encode(x)[0], torch_twin(model).encoder(torch.tensor(x).permute(0, 3, 1, 2))[0], 1e-9)


def test_pool_keeps_types_apart_and_refuses_what_is_not_its_own(engine64):
    pool = Pool(engine64)
    one = pool.take((3, 5))
    other = pool.take((3, 5), np.dtype(np.float32))
    assert one.dtype == engine64.dtype and other.dtype == np.float32
    pool.give(one, other)
    assert pool.take((2, 7), np.dtype(np.float32)).base is other.base, "a buffer that is free and large enough is taken"
    placed = pool.bytes
    assert placed == 15 * 8 + 15 * 4
    again = pool.take((2, 7))
    assert pool.bytes == placed
    for wrong in (other, again[:1]):
        with pytest.raises(ValueError, match="did not hand out"):
            pool.give(wrong)
    pool.give(again)
    with pytest.raises(ValueError, match="given back before"):
        pool.give(again)


def test_pool_takes_the_smallest_that_holds_an_array_and_settles(engine64):
    pool = Pool(engine64)

    def step():
        large, small = pool.take((100,)), pool.take((7, 3))
        pool.give(large)
        middle, least = pool.take((40,)), pool.take((5,))
        pool.give(small)
        last = pool.take((20,))
        pool.give(middle, least, last)
        return [array.base.size for array in (large, small, middle, least, last)]

    assert step() == [100, 21, 100, 5, 21], "the large one serves the middle one; nothing free holds the least"
    placed = pool.bytes
    assert placed == 8 * (100 + 21 + 5)
    assert step() == step() == [100, 21, 100, 5, 21] and pool.bytes == placed


def test_pool_settles_on_what_a_step_needs(engine64):
    pool = Pool(engine64)

    def step():
        early = pool.take((60,))
        pool.give(early)
        first, second = pool.take((80,)), pool.take((80,), np.dtype(np.float32))
        third = pool.take((90,))
        pool.give(first, second, third)
        return early.base.size

    pool.watch()
    assert step() == 60 and pool.bytes == 8 * (60 + 80 + 90) + 4 * 80
    kept = pool.take((1,))
    pool.settle()
    assert pool.bytes == 8 * (60 + 80 + 90) + 4 * 80, "not while something is handed out"
    pool.give(kept)
    pool.settle()
    assert pool.bytes == 8 * (80 + 90) + 4 * 80
    assert step() == 80 and pool.bytes == 8 * (80 + 90) + 4 * 80
    pool.take((1000,))
    assert pool.bytes == 8 * (80 + 90 + 1000) + 4 * 80, "anything else still gets its array"


class Capturing(CPUEngine):
    """An engine that captures a graph as long as it is told to."""

    capturing = False


def test_pool_keeps_what_a_graph_uses():
    """A first step that could not settle, since something was handed out, and a second one that is captured."""
    engine = Capturing("float64")
    pool = Pool(engine)

    def step():
        pool.watch()
        pool.give(pool.take((60,)))
        pool.give(pool.take((80,)))
        pool.settle()

    kept = pool.take((1,))
    step()
    pool.give(kept)
    engine.capturing = True
    placed = pool.bytes
    step()
    engine.capturing = False
    step()
    assert pool.bytes == placed, "neither while the graph is captured nor later: it is replayed"


def test_pool_notes_nothing_outside_a_first_step(engine64):
    """A model that only decodes lives long: what is noted would grow with every call."""
    pool = Pool(engine64)
    pool.give(pool.take((3,)))
    assert pool._history is None
    pool.watch()
    pool.give(pool.take((3,)))
    pool.settle()
    pool.watch()
    pool.give(pool.take((3,)))
    assert pool._history is None


@pytest.mark.parametrize("preset", presets.PRESETS)
def test_the_step_of_a_preset_is_named_where_it_is_defined(preset):
    """In models/presets.py, in the comment above each; README sends readers to the same files."""
    lines = inspect.getsource(presets).splitlines()
    last = next(i for i, line in enumerate(lines) if line.strip().startswith(f'"{preset}":'))
    first = max(i for i, line in enumerate(lines[:last]) if "# Step: " in line)
    assert all(line.strip().startswith("#") for line in lines[first:last])
    goal = Objective(bn_groups=presets.PRESETS[preset]["bn_groups"])
    assert f"# Step: {step_of('vaegan', goal).__module__.replace('.', '/')}.py." in lines[first]
