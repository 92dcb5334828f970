"""Config: order of the sources, ranges, JSON there and back, what follows from the data."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.objective import Objective
from models.presets import PRESETS
from vaegan_kernels.settings.config import FIELDS, Config, round_down
from vaegan_kernels.settings.options import make_parser
from vaegan_kernels.settings.resolve import read_config, resolve
from vaegan_kernels.shell.errors import UserError


def test_fields_of_the_floor_below():
    for values in PRESETS.values():
        assert values.keys() <= FIELDS.keys()
    assert {field.name for field in dataclasses.fields(Objective)} <= FIELDS.keys()
    assert Config().objective() == Objective() == resolve({"preset": "paper"}).objective()


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_valid_and_reach_the_objective(preset):
    config = resolve({"preset": preset})
    objective = config.objective()
    for name, value in PRESETS[preset].items():
        assert getattr(config, name) == value
        if hasattr(objective, name):
            assert getattr(objective, name) == value


def test_later_sources_win():
    stored = resolve({"preset": "paper", "gamma": 0.5, "batch_size": 8}).to_dict()
    assert resolve({}, stored).gamma == 0.5
    assert resolve({"gamma": 0.25}, stored).gamma == 0.25
    changed = resolve({"preset": "released"}, stored)
    assert changed.gamma == PRESETS["released"]["gamma"] and changed.batch_size == 64


def test_epochs_and_steps_replace_each_other():
    assert resolve({"epochs": 3}).with_data(100).steps == 3 * (100 // resolve({}).batch_size)
    stored = resolve({"epochs": 3, "batch_size": 10}).with_data(95).to_dict()
    assert stored["steps"] == 27
    assert resolve({"steps": 5}, stored).with_data(95).steps == 5
    assert resolve({}, stored).with_data(40).steps == 12, "epochs are the origin, for other data too"
    with pytest.raises(UserError, match="both given"):
        resolve({"steps": 5, "epochs": 1})


def test_a_width_of_the_preset_stays_with_its_network():
    assert resolve({"preset": "released"}).encoder_units == 1024
    assert resolve({"preset": "released", "network": "small32"}).encoder_units is None


def test_gamma_follows_the_size_of_dis_l():
    """quick with paper32: a Dis_l four times as large, a quarter of γ. A γ that was chosen stays, also one of a file."""
    own = PRESETS["quick"]["gamma"]
    assert resolve({"network": "paper32"}).gamma == pytest.approx(own / 4)
    assert resolve({}).gamma == own and resolve({"network": "small64"}).gamma == pytest.approx(own * 48 / 64)
    assert resolve({"preset": "paper", "network": "small32"}).gamma == pytest.approx(1e-5 * 16384 / 3072)
    assert resolve({"network": "paper32", "gamma": 0.5}).gamma == 0.5
    assert resolve({"network": "paper32"}, resolve({}).to_dict()).gamma == pytest.approx(own / 4)
    assert resolve({"network": "paper32"}, resolve({"gamma": 0.5}).to_dict()).gamma == 0.5
    assert resolve({}, resolve({"network": "paper32"}).to_dict()).gamma == pytest.approx(own / 4)


def test_json_there_and_back(tmp_path):
    config = resolve({"preset": "released", "seed": 7, "data": "x", "limit": 5})
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    assert Config.from_dict(read_config(tmp_path)) == config


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"batch_sise": 4}, "did you mean batch_size"),
        ({"batch_size": 4.5}, "--batch-size: got 4.5"),
        ({"batch_size": True}, "--batch-size: got True"),
        ({"batch_size": None}, "--batch-size: got None"),
        ({"gate": 1}, "--gate: got 1"),
        ({"gamma": float("inf")}, "--gamma: got inf"),
        ({"network": "x"}, "--network: got 'x', expected one of"),
        ({"image_channels": 2}, "expected one of 1, 3"),
        ({"margin": 2.0}, "--margin"),
        ([1], "JSON object"),
    ],
)
def test_what_from_dict_refuses(values, message):
    with pytest.raises(UserError, match=message):
        Config.from_dict(values)


VALUES_OF_ANY_KIND = st.one_of(st.none(), st.integers(), st.floats(), st.sampled_from(["", "cpu", "paper64"]), st.booleans())


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(st.sampled_from(sorted(FIELDS)), VALUES_OF_ANY_KIND, max_size=6))
def test_any_values_give_a_valid_config_or_a_user_error(values):
    try:
        config = Config.from_dict(values)
    except UserError as error:
        assert "--" in str(error) and "\n" not in str(error)
        return
    config.validate()


def test_with_data():
    config = resolve({"batch_size": 8, "steps": 100}).with_data(8)
    assert (config.steps, config.draw_every, config.save_every) == (100, 5, 5)
    with pytest.raises(UserError, match="only 7 images"):
        resolve({"batch_size": 8}).with_data(7)


@pytest.mark.parametrize(("value", "expected"), [(1, 1), (4, 2), (9, 5), (37, 20), (100, 100), (3124, 2000)])
def test_round_down(value, expected):
    assert round_down(value) == expected


def test_every_field_has_a_flag():
    text = make_parser().format_help()
    for name in FIELDS:
        assert "--" + name.replace("_", "-") in text
    for group in ("Data", "Run folder", "Network", "Objective", "Optimisation", "Logging", "Device", "examples"):
        assert f"\n{group}:" in text
