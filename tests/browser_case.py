"""A browser that tests drive: headless Chromium with selenium. Where one is missing the tests skip, and say which."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--window-size=1400,1400",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic",
    "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
)  # fmt: skip
PATIENCE = 20.0  # seconds: the machine may be busy


@contextmanager
def chromium(downloads: Path) -> Iterator:
    """A driver that logs the console and the network; what a page saves goes to ``downloads``, also in ``driver.downloads``."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium, which drives the browser, is not installed")
    found = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    for name, path in found.items():
        if path is None:
            pytest.skip(f"no {name}: pages are not opened in a browser (Debian: apt-get install chromium chromium-driver)")
    downloads.mkdir(exist_ok=True)
    options = webdriver.ChromeOptions()
    options.binary_location = found["chromium"]
    for flag in FLAGS:
        options.add_argument(flag)
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads), "download.prompt_for_download": False})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(found["chromedriver"]))
    driver.downloads = downloads
    try:
        yield driver
    finally:
        driver.quit()


@pytest.fixture
def browser(tmp_path):
    """`chromium`, saving to tmp_path/downloads."""
    with chromium(tmp_path / "downloads") as driver:
        yield driver


def wait(driver, expression, seconds=PATIENCE):
    """The value of a JavaScript expression as soon as it is true; fails, with what the page says, when it does not become so."""
    end = time.monotonic() + seconds
    while not (value := driver.execute_script(f"return {expression}")):
        assert time.monotonic() < end, f"{expression}\nthe page says: {said(driver)!r}"
        time.sleep(0.05)
    return value


def said(driver):
    """What stands in the page's line for messages."""
    return driver.execute_script("return document.getElementById('status')?.textContent")


def canvas(driver, kind, run=0):
    """A canvas by its data-kind: "original", "plain", "edited", "a", "here", "b"."""
    return driver.execute_script(f'return document.querySelector(\'[data-run="{run}"] [data-kind="{kind}"]\')')


def pixels(driver, element):
    """What a canvas shows, uint8 [S, S, 3]."""
    script = """
        const {width, height} = arguments[0], copy = Object.assign(document.createElement("canvas"), {width, height});
        const context = copy.getContext("2d", {willReadFrequently: true});
        context.drawImage(arguments[0], 0, 0);
        return [width, height, Array.from(context.getImageData(0, 0, width, height).data)];
    """  # a copy: of a canvas that is read often Chromium complains
    width, height, values = driver.execute_script(script, element)
    return np.array(values, np.uint8).reshape(height, width, 4)[..., :3]


def difference(a, b):
    """The largest difference in grey levels; 256 for another shape."""
    return np.abs(a.astype(int) - b).max() if a.shape == b.shape else 256


def assert_shows(driver, element, wanted, levels, seconds=PATIENCE):
    """The canvas comes to show ``wanted``, uint8 [S, S, 3], within so many grey levels."""
    end = time.monotonic() + seconds
    while (found := difference(pixels(driver, element), wanted)) > levels:
        assert time.monotonic() < end, f"{found} grey levels away, at most {levels} expected; the page says: {said(driver)!r}"
        time.sleep(0.05)


def slide(driver, element_id, value):
    """Move a slider, or fill a field, as a person does."""
    script = "const e = document.getElementById(arguments[0]); e.value = arguments[1]; e.dispatchEvent(new Event('input', {bubbles: true}))"
    driver.execute_script(script, element_id, value)


def press(driver, selector):
    """Click what a CSS selector finds, with the mouse: a page that a script clicks in may save but one file."""
    element = driver.find_element("css selector", selector)
    driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
    element.click()


def downloaded(driver, name, seconds=PATIENCE):
    """The file that the page saved as ``name``."""
    path, end = driver.downloads / name, time.monotonic() + seconds
    while not path.exists() or path.stat().st_size == 0:  # it is renamed when it is whole
        there = sorted(p.name for p in driver.downloads.iterdir())
        assert time.monotonic() < end, f"{name} was not saved, but {there}; the page says: {said(driver)!r}"
        time.sleep(0.05)
    return path


def complaints(driver):
    """The console's warnings and errors since the last call."""
    return [entry["message"] for entry in driver.get_log("browser") if entry["level"] in ("WARNING", "SEVERE")]


def asked(driver):
    """The addresses that the page asked for since the last call."""
    events = (json.loads(entry["message"])["message"] for entry in driver.get_log("performance"))
    return [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
