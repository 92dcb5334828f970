"""Networks of 32, 64 and 128 pixels: the rule that they grow by, their gradients, and the size that a run takes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from app_case import TINY, call, one_line, write_tiny
from PIL import Image
from test_vaegan import check_gradients
from vaegan_case import make_model, objective, part

import vaegan_kernels
from models.networks import NETWORKS, grown, network
from models.vaegan import VAEGAN
from vaegan_kernels import sample, train
from vaegan_kernels.settings import checks


def test_all_families_have_the_sizes_that_they_should():
    sizes = {family: sorted(s.image_size for n, s in NETWORKS.items() if n.startswith(family)) for family in ("small", "paper")}
    assert sizes == {"small": [32, 64, 128], "paper": [32, 64, 128]}
    assert all(name.endswith(str(spec.image_size)) and spec.name == name for name, spec in NETWORKS.items())


@pytest.mark.parametrize("name", ["paper128", "small64", "small128"])
def test_the_rule(name):
    spec = network(name)
    smaller = network(f"{name.rstrip('0123456789')}{spec.image_size // 2}")
    assert grown(smaller, name) == spec
    assert spec.grid == smaller.grid and spec.encoder[:-1] == smaller.encoder and spec.decoder[1:] == smaller.decoder
    assert spec.image_size >> (spec.metric - 1) == 8, "Dis_l is a map of 8 x 8"
    assert spec.metric_size == 64 * spec.discriminator[spec.metric - 1]
    more = {name: count - smaller.parameter_counts()[name] for name, count in spec.parameter_counts().items()}
    wide = (spec.encoder[-1], spec.decoder[0], spec.discriminator[-1])
    assert list(more.values()) == [25 * c * c + 2 * c for c in wide], "one 5x5 layer with batch norm each"


@pytest.mark.parametrize("name", list(NETWORKS))
def test_dis_l_is_where_the_paper_has_it(name):
    spec = network(name)
    assert spec.image_size >> (spec.metric - 1) == 8


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["small64", "small128", "paper128"])
def test_parameter_counts_are_what_is_there(engine32, name, channels):
    spec = network(name, channels=channels)
    counted = dict.fromkeys(("encoder", "decoder", "discriminator"), 0)
    for key, array in part(VAEGAN(engine32, spec, seed=0), "parameters").items():
        counted[key.split("/")[0]] += array.size
    assert counted == spec.parameter_counts()


@pytest.mark.parametrize(("name", "channels", "n"), [("small64", 3, 3), ("small64", 1, 2), ("small128", 3, 2), ("small128", 1, 2)])
def test_gradients(engine64, name, channels, n):
    """Of the whole step, against PyTorch."""
    check_gradients(engine64, make_model(engine64, name, channels=channels), objective(gamma=0.02), n)


@pytest.mark.parametrize(
    ("flags", "size", "wanted"),
    [
        ({}, None, {}),
        ({}, 32, {}),
        ({}, 64, {"network": "small64"}),
        ({"preset": "paper"}, 128, {"network": "paper128"}),
        ({"network": "paper64"}, 64, {}),
    ],
)
def test_an_image_size_chooses_the_network_of_the_family(flags, size, wanted):
    assert checks.sized(flags, {}, size) == wanted
    assert checks.configuration({**flags, "image_size": size}).network_spec().image_size == (size or 32)


def test_stored_settings_keep_their_family():
    assert checks.sized({}, {"network": "paper32", "preset": "quick"}, 128) == {"network": "paper128"}


@pytest.mark.parametrize(
    ("flags", "wrong"),
    [
        (["--image-size", "48"], "--image-size: got 48, expected one of 32, 64, 128"),
        (["--image-size", "64", "--network", "paper32"], "--image-size 64 and --network paper32: give one of them, or --network paper64"),
        (["--image-size", "big"], "--image-size: got 'big', expected a whole number"),
    ],
)
def test_bad_sizes(flags, wrong, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert call(train.main, *flags) == 2
    assert wrong in one_line(capsys.readouterr().err)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("size", "channels", "network_name"), [(64, 3, "small64"), (32, 1, "small32")])
def test_a_packed_file_says_its_size_and_channels(tmp_path, monkeypatch, capsys, size, channels, network_name):
    monkeypatch.chdir(tmp_path)
    packed = write_tiny("tiny.h5", size=size, channels=channels)
    assert call(train.main, "--data", packed, "--steps", 2, "--out", "run", "--batch-size", 4, "--device", "cpu") == 0, (
        capsys.readouterr().err
    )
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["network"], config["image_channels"]) == (network_name, channels)
    assert f"network: {network_name}" in capsys.readouterr().out
    assert call(train.main, "--config", "run/config.json", "--image-channels", 4 - channels, "--out", "other") == 2, "a flag is a flag"
    assert "channel" in one_line(capsys.readouterr().err)
    assert call(train.main, "--resume", "run", "--image-size", 128) == 2
    assert one_line(capsys.readouterr().err).startswith("error: --image-size: got 128, but the run in run has")


@pytest.mark.parametrize("channels", [1, 3])
def test_a_run_at_128_pixels_from_a_folder(tmp_path, monkeypatch, capsys, channels):
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for i in range(24):
        mode = "L" if i % 2 else "RGB"
        picture = Image.fromarray(random.integers(0, 256, (6, 6, 3), np.uint8)).convert(mode).resize((150, 131))
        picture.save(tmp_path / "photos" / f"{i}.png")
    flags = (*TINY[2:], "--image-size", 128, "--image-channels", channels, "--steps", 2)
    assert call(train.main, "--data", "photos", "--out", "run", *flags) == 0, capsys.readouterr().err
    assert call(sample.main, "run", "--count", 2, "--out", "samples.png") == 0, capsys.readouterr().err
    model = vaegan_kernels.load_model("run")
    assert model.image_shape == (128, 128, channels)
    assert model.spec.name == "small128"
    pictures = model.sample(2)
    assert pictures.shape == (2, 128, 128, channels) and np.isfinite(pictures).all()
    assert model.discriminate(pictures).shape == (2,)
