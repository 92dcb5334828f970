"""The built-in faces: a pure function of (seed, index), attributes that can be seen, a cache that may be damaged or unwritable."""

from __future__ import annotations

import numpy as np
import pytest

from vaegan_kernels.data import load_dataset
from vaegan_kernels.data.drawn.face_drawing import draw_face
from vaegan_kernels.data.drawn.face_traits import ATTRIBUTE_NAMES, draw_traits
from vaegan_kernels.data.drawn.faces import COUNT, face_splits
from vaegan_kernels.data.source import check_source, describe_source
from vaegan_kernels.shell.errors import UserError


def faces(**options):
    return load_dataset(None, **{"image_size": 32, "channels": 3, "limit": 40, "cache_dir": False} | options)


@pytest.fixture(scope="module")
def many():
    return faces(limit=400, workers=1)


def test_same_bytes_for_any_number_of_workers():
    alone, together = faces(limit=260, workers=1), faces(limit=260, workers=2)
    assert alone.fingerprint == together.fingerprint
    assert np.array_equal(alone.images, together.images)


def test_an_image_depends_on_seed_and_index_only(many):
    assert len({image.tobytes() for image in many.images}) == 400, "two faces are the same picture"
    assert np.array_equal(many.images[0], draw_face(draw_traits(0, 0), 32, 3))
    assert faces(limit=20, seed=1).fingerprint != faces(limit=20).fingerprint


@pytest.mark.parametrize(("image_size", "channels"), [(32, 1), (64, 3), (64, 1), (8, 3), (33, 3)])
def test_shapes_and_range(image_size, channels):
    data = faces(image_size=image_size, channels=channels, limit=24)
    assert data.images.shape == (24, image_size, image_size, channels)
    assert data.images.dtype == np.uint8
    assert data.images.std() > 30
    assert data.attributes.shape == (24, len(ATTRIBUTE_NAMES))
    assert set(np.unique(data.attributes)) == {-1, 1}


def test_splits_and_attribute_frequencies():
    splits = face_splits()
    assert [int((splits == code).sum()) for code in range(3)] == [COUNT * 18 // 20, COUNT // 20, COUNT // 20]
    values = np.array([draw_traits(0, index).attributes() for index in range(2000)])
    often = (values > 0).mean(axis=0)
    assert len(ATTRIBUTE_NAMES) >= 10
    assert (often > 0.04).all(), dict(zip(ATTRIBUTE_NAMES, often, strict=True))
    assert (often < 0.6).all()


@pytest.mark.parametrize(
    ("name", "region", "darker"),
    [("Sunglasses", (14, 19, 8, 24), True), ("Black_Hair", (2, 7, 11, 21), True), ("Pale_Skin", (17, 25, 12, 20), False)],
)
def test_attributes_can_be_seen(many, name, region, darker):
    data = many
    top, bottom, left, right = region
    has = data.attributes[:, data.attribute_names.index(name)] > 0
    light = data.images[:, top:bottom, left:right].mean(axis=(1, 2, 3))
    difference = light[has].mean() - light[~has].mean()
    assert difference < -20 if darker else difference > 20


def test_cache_hit_damage_and_older_keys(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("vaegan_kernels.data.drawn.faces.COUNT", 50)
    monkeypatch.setattr("vaegan_kernels.data.drawn.faces.face_splits", lambda: face_splits(50))
    calls: list[int] = []
    options = {"limit": None, "cache_dir": tmp_path / "cache", "progress": lambda done, total: calls.append(done)}
    first = faces(**options)
    assert calls == [50]
    (file,) = (tmp_path / "cache").iterdir()
    assert faces(**options).fingerprint == first.fingerprint
    assert calls == [50], "drawn again although cached"
    file.write_bytes(file.read_bytes()[:3000])
    assert faces(**options).fingerprint == first.fingerprint
    assert calls == [50, 50]
    assert "made again" in caplog.text
    content = bytearray(file.read_bytes())
    content[content.find(first.images[7].tobytes()) + 5] ^= 1  # one bit of one pixel
    file.write_bytes(content)
    assert faces(**options).fingerprint == first.fingerprint
    assert len(calls) == 3


def test_cache_that_cannot_be_written_is_no_error(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("vaegan_kernels.data.drawn.faces.COUNT", 30)
    monkeypatch.setattr("vaegan_kernels.data.drawn.faces.face_splits", lambda: face_splits(30))
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("VAEGAN_KERNELS_CACHE", str(tmp_path / "file" / "cache"))
    assert len(faces(limit=None, cache_dir=None)) == 30
    (record,) = caplog.records
    assert "not kept" in record.getMessage()
    assert "\n" not in record.getMessage()


@pytest.mark.parametrize(("image_size", "channels", "limit"), [(4, 3, None), (32, 2, None), (32, 3, 0), (5000, 3, None)])
def test_impossible_numbers(image_size, channels, limit):
    with pytest.raises(UserError, match="expected"):
        load_dataset(None, image_size=image_size, channels=channels, limit=limit)


def test_description():
    assert describe_source(None, 32) == ("built-in faces", COUNT)
    check_source(None, image_size=32, channels=3)
