"""The judge of the built-in faces, and whether reconstructions show what their originals have."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
from app_case import call, write_tiny

from vaegan_kernels import evaluate, train
from vaegan_kernels.data import load_dataset
from vaegan_kernels.data.dataset import Dataset
from vaegan_kernels.data.drawn.face_traits import ATTRIBUTE_NAMES
from vaegan_kernels.data.drawn.faces import COUNT, draw_chunk, face_splits, plan_faces
from vaegan_kernels.measures.agreement import JUDGE, NAMES, QUESTIONS, agreement, answers, judge, reduced, truth_of


def drawn(count, size=32):
    """The first ``count`` test images of the built-in faces, and what is true of them."""
    chosen = np.flatnonzero(face_splits(COUNT) == 2)[:count]
    plan, columns = plan_faces(image_size=size, channels=3), [ATTRIBUTE_NAMES.index(name) for name in NAMES]
    return np.stack(draw_chunk([(0, int(i), size, 3) for i in chosen])), plan.attributes(chosen)[:, columns]


@pytest.fixture(scope="module")
def faces():
    return drawn(300)


def of(*names):
    return [1 if name in names else -1 for name in NAMES]


def test_answers_by_hand():
    true = np.array([of("Bald"), of("Eyeglasses", "Gray_Hair", "Pale_Skin"), of("Red_Hair", "Dark_Skin", "Wearing_Hat")])
    found = answers(true)
    assert found.keys() == QUESTIONS.keys()
    assert [list(found[question]) for question in QUESTIONS] == [[0, 1, 0], [0, 4, 5], [0, 2, 1], [0, 0, 1]]
    seen = np.full((1, len(NAMES)), -0.9)
    seen[0, NAMES.index("Brown_Hair")], seen[0, NAMES.index("Pale_Skin")], seen[0, NAMES.index("Dark_Skin")] = -0.2, 0.1, 0.3
    assert {question: int(found[0]) for question, found in answers(seen).items()} == {"glasses": 0, "hair": 3, "skin": 1, "hat": 0}


def test_every_face_has_one_colour_of_hair_or_none(faces):
    hair = faces[1][:, [NAMES.index(name) for name in QUESTIONS["hair"]]]
    assert ((hair > 0).sum(axis=1) == 1).all()


@pytest.mark.parametrize("size, count", [(32, 300), (64, 100), (128, 40)])
def test_the_judge_reads_the_drawings(size, count):
    """It was not trained on these; larger ones are reduced first."""
    found = agreement(*drawn(count, size))
    for question in QUESTIONS:
        assert found[f"{question}_agreement"] >= 0.97, found
    assert found["attribute_agreement"] == pytest.approx(np.mean([found[f"{question}_agreement"] for question in QUESTIONS]))


def test_other_peoples_faces_agree_by_chance(faces, rng):
    """Of two faces drawn at random the answers are the same with probability Σ p²; always the most frequent: max p."""
    images, truth = faces
    shares = [np.bincount(found) / len(truth) for found in answers(truth).values()]
    chance = float(np.mean([(p**2).sum() for p in shares]))
    assert agreement(images[rng.permutation(len(images))], truth)["attribute_agreement"] == pytest.approx(chance, abs=0.05)
    same = agreement(np.broadcast_to(images.mean(axis=0) / 127.5 - 1, images.shape), truth)  # the mean face, for everybody
    assert same["constant_agreement"] == pytest.approx(np.mean([p.max() for p in shares]))
    assert same["attribute_agreement"] <= same["constant_agreement"] < 0.75


def test_agreement_falls_with_what_is_lost(faces, rng):
    images, truth = faces
    wrong = images.copy()
    wrong[:150] = images[rng.permutation(150)]
    half, whole = agreement(wrong, truth)["attribute_agreement"], agreement(images, truth)["attribute_agreement"]
    assert 0.6 < half < 0.9 < whole


def test_larger_images_are_reduced_by_a_mean(rng):
    x = rng.uniform(-1, 1, (2, 96, 96, 3))
    assert reduced(x)[1, 4, 31] == pytest.approx(x[1, 12:15, 93:96].mean(axis=(0, 1)))
    assert reduced(3 * x).max() <= 1  # as pictures are shown
    assert reduced(x[:, :32, :32]) == pytest.approx(x[:, :32, :32])


def test_only_built_in_faces_in_colour_are_judged(tmp_path):
    options = {"limit": 20, "cache_dir": False}
    colour = load_dataset(None, image_size=32, channels=3, **options)
    chosen = np.array([3, 0])
    assert truth_of(colour, chosen).tolist() == colour.attributes_of(NAMES)[chosen].tolist()
    assert truth_of(load_dataset(None, image_size=32, channels=1, **options), chosen) is None
    assert truth_of(load_dataset(write_tiny(tmp_path / "a.h5"), image_size=32, channels=3), chosen) is None
    cut = Dataset("cut", colour.images[:, :24, :24], colour.splits, colour.attributes, colour.attribute_names, colour.preprocessing)
    assert truth_of(cut, chosen) is None


def test_the_file_is_small_and_of_weights_alone():
    assert JUDGE.stat().st_size < 2**20
    with h5py.File(JUDGE) as h5:
        assert set(h5) == {"parameters", "statistics"}
    assert judge() is judge() and judge().attribute_names == NAMES


def test_a_run_on_built_in_faces_ends_with_it_and_evaluate_finds_the_same(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("VAEGAN_KERNELS_CACHE", str(tmp_path / "cache"))
    out, written = tmp_path / "run", tmp_path / "m.json"
    words = ("--limit", 60, "--steps", 2, "--batch-size", 4, "--device", "cpu", "--engine", "numpy", "--threads", 1, "--quiet")
    assert call(train.main, *words, "--no-curves", "--no-animation", "--out", out) == 0
    text, summary = capsys.readouterr().out, json.loads((out / "summary.json").read_text())
    keys = {"attribute_agreement", "constant_agreement", "sharpness_ratio", "colour_noise_ratio"} | {f"{q}_agreement" for q in QUESTIONS}
    assert keys <= summary.keys() and all(np.isfinite(summary[key]) for key in keys)
    for words in ("attribute agreement", "sample colour noise", "sample sharpness"):
        assert words in text
    assert call(evaluate.main, out, "--out", written, "--engine", "numpy", "--threads", 1) == 0
    found = json.loads(written.read_text())
    assert {key: found[key] for key in keys} == {key: pytest.approx(summary[key], rel=1e-6) for key in keys}
