"""The explorer's page of runs that are training, that have not saved yet, and of the other systems, in a real browser."""

from __future__ import annotations

import time

import pytest
from app_case import call, write_tiny
from browser_case import asked, canvas, click, complaints, move, samples, shows, text_of, until
from explorer_case import PLACE, served

from vaegan_kernels import attribute_vectors as make_vectors
from vaegan_kernels import load_model, train
from vaegan_kernels.pictures.figures import to_uint8


def test_a_training_is_followed(driver, tmp_path):
    live, data = tmp_path / "live", write_tiny(tmp_path / "discs.h5")
    flags = ("--network", "small32", "--batch-size", "4", "--steps", "9", "--draw-every", "3", "--log-every", "1", "--threads", "1")
    assert call(train.main, "--data", data, "--out", live, "--engine", "numpy", "--quiet", "--stop-after", "6", *flags) == 0
    with served(live) as site:
        driver.get(site.url)
        until(lambda: len(driver.find_elements("css selector", ".grids img")) == 2)
        assert len(driver.find_elements("css selector", ".charts svg")) == 4
        assert "Step 6" in text_of(driver, "#trainings .faint") and text_of(driver, "#trainings output") == "step 6"
        move(driver, "#trainings input[type=range]", 0)
        until(lambda: text_of(driver, "#trainings output") == "step 3")
        move(driver, "#trainings input[type=range]", 1)
        click(driver, "#draw-map")
        until(lambda: "40 images" in text_of(driver, "#map-state"))
        driver.execute_script("document.querySelector('#seed').focus()")
        assert call(train.main, "--resume", live, "--engine", "numpy", "--quiet") == 0
        until(lambda: "Step 9" in text_of(driver, "#trainings .faint") and text_of(driver, "#trainings output") == "step 9")
        until(lambda: "step 9," in text_of(driver, "#runs"))
        shows(driver, samples(0), to_uint8(load_model(live, **PLACE).sample(24)))
        assert "draw the map again" in text_of(driver, "#map-state") and not driver.find_element("css selector", "#map").is_displayed()
        assert driver.execute_script("return document.activeElement.id") == "seed"
        asked(driver)
        time.sleep(4.5)  # two more polls: nothing new, so nothing is read again
        paths = [url.rsplit("/", 1)[1].split("?")[0] for url in asked(driver)]
        assert paths and set(paths) == {"training"}
        attribute_vectors(live)
        until(lambda: len(driver.find_elements("css selector", ".slider")) == 2)  # another form of the run: the panels are made anew
        (live / "checkpoint.h5").unlink()
        until(lambda: "no checkpoint.h5" in text_of(driver, "#runs") and "no checkpoint.h5" in text_of(driver, "#trainings .faint"))
    assert not complaints(driver)


def test_a_run_without_a_checkpoint_is_followed(driver, tmp_path):
    run = tmp_path / "young"
    (run / "samples").mkdir(parents=True)
    (run / "metrics.jsonl").write_text('{"step": 1, "like": 3.5}\n{"step": 2, "like": 3.25}\n')
    with served(run) as site:
        driver.get(site.url)
        until(lambda: "Step 2" in (driver.find_elements("css selector", "#trainings .faint") or [driver])[0].get_attribute("textContent"))
        assert text_of(driver, "#runs") == "young: no checkpoint yet"
        assert not driver.find_element("css selector", "#picture-panel").is_displayed()
    assert not complaints(driver)


def attribute_vectors(run):
    assert call(make_vectors.main, run, "--engine", "numpy", "--quiet") == 0


@pytest.mark.parametrize("system", ["conditional", "gan"])
def test_other_systems(driver, tmp_path, system):
    data = write_tiny(tmp_path / "discs.h5")
    flags = ("--conditional",) if system == "conditional" else ("--model", "gan")
    small = ("--network", "small32", "--batch-size", "4", "--steps", "3", "--engine", "numpy", "--threads", "1", "--quiet")
    assert call(train.main, "--data", data, "--out", tmp_path / "run", *small, *flags) == 0
    model = load_model(tmp_path / "run", **PLACE)
    with served(tmp_path / "run") as site:
        driver.get(site.url)
        shows(driver, samples(0), to_uint8(model.sample(24)))
        if system == "gan":
            assert text_of(driver, "#no-encoder") and driver.find_element("css selector", "#no-encoder").is_displayed()
            assert not driver.find_element("css selector", "#map-panel").is_displayed()
        else:
            click(driver, "#switches [data-name='Big'] input")
            given = model.examples(24)[:1].copy()
            given[:, 0] = 1
            shows(driver, canvas("edited", 0), to_uint8(model.decode(model.prior(1), given)))
            click(driver, "#switches [data-name='Big'] input")
            given[:, 0] = -1
            shows(driver, canvas("edited", 0), to_uint8(model.decode(model.prior(1), given)))
            click(driver, "#reset")
            shows(driver, canvas("edited", 0), to_uint8(model.sample(24)[:1]))
    assert not complaints(driver)
