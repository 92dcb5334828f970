"""A headless Chromium that the explorer's tests drive, with selenium. Where one is missing the tests skip, and say which."""

from __future__ import annotations

import base64
import io
import json
import shutil
import time
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--window-size=1400,1400",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic",
    "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
)  # fmt: skip
PATIENCE = 20.0  # seconds: the machine may be busy


@contextmanager
def chromium(downloads):
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
    driver.set_script_timeout(PATIENCE)
    driver.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(downloads)})
    try:
        yield driver
    finally:
        driver.quit()


def until(check, seconds=PATIENCE):
    """The first true result of ``check()``; fails when there is none in time."""
    end = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.03)
    return found


def wait(driver, expression, seconds=PATIENCE):
    """The value of a JavaScript expression as soon as it is true; fails, with what the page says, when it does not become so."""
    try:
        return until(lambda: driver.execute_script(f"return {expression}"), seconds)
    except AssertionError:
        raise AssertionError(f"{expression}\nthe page says: {said(driver)!r}") from None


def text_of(driver, selector):
    """The text of what a CSS selector finds first; "" where that is nothing."""
    return driver.execute_script("return document.querySelector(arguments[0])?.textContent ?? ''", selector)


def said(driver):
    """What stands in the page's line for messages."""
    return text_of(driver, "#status")


def canvas(kind, run=0):
    """The CSS selector of a canvas by its data-kind: "original", "plain", "edited", "a", "here", "b"."""
    return f'[data-run="{run}"] [data-kind="{kind}"]'


def samples(run=0):
    """The CSS selector of a run's samples."""
    return f'#samples [data-run="{run}"] canvas'


def pixels(driver, selector):
    """uint8 [N, S, S, 3] of the canvases that a CSS selector finds, in the page's order."""
    found = driver.execute_script(
        "return Array.from(document.querySelectorAll(arguments[0])).filter(c => !c.parentElement.hidden).map(c => c.toDataURL())", selector
    )
    images = [Image.open(io.BytesIO(base64.b64decode(text.split(",")[1]))).convert("RGB") for text in found]
    return np.stack([np.asarray(image) for image in images]) if images else np.empty((0, 0, 0, 3), np.uint8)


def difference(a, b):
    """The largest difference in grey levels; 256 for another shape."""
    return np.abs(a.astype(int) - b).max() if a.shape == b.shape else 256


def shows(driver, selector, wanted, levels=1, seconds=PATIENCE):
    """The canvases come to show ``wanted``, uint8 [N, S, S, 3] (one: [S, S, 3]), within so many grey levels."""
    wanted, last = wanted if wanted.ndim == 4 else wanted[None], []

    def check():
        last[:] = [difference(pixels(driver, selector), wanted)]
        return last[0] <= levels

    try:
        until(check, seconds)
    except AssertionError:
        raise AssertionError(
            f"{selector}: {last[0]} grey levels away, at most {levels} expected; the page says: {said(driver)!r}"
        ) from None


def move(driver, selector, value, event="input"):
    """Set a slider, box or list and tell the page."""
    script = (
        "const e = document.querySelector(arguments[0]); e.value = arguments[1]; e.dispatchEvent(new Event(arguments[2], {bubbles: true}))"
    )
    driver.execute_script(script, selector, value, event)


def click(driver, selector):
    """Press what a CSS selector finds first."""
    driver.execute_script("document.querySelector(arguments[0]).click()", selector)


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
