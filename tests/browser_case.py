"""A headless Chromium for the explorer's tests: it must say nothing on its console and ask nothing of the network."""

from __future__ import annotations

import base64
import io
import json
import shutil
import time

import numpy as np
import pytest
from PIL import Image

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
    "--window-size=1400,1000",
)  # fmt: skip
PROGRAMS = ("chromium", "chromedriver")

#: CSS selectors of canvases of a run.
EDITED, PLAIN, ORIGINAL = (f"#pictures [data-run='{{run}}'] [data-kind='{kind}']" for kind in ("edited", "plain", "original"))
SAMPLES = "#samples [data-run='{run}'] canvas"


def start(downloads):
    """A webdriver whose downloads go to a folder. Skips, and says why, where there is no Chromium."""
    selenium = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: no test of the explorer in a browser")
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        pytest.skip(f"{' and '.join(missing)} not installed: no test of the explorer in a browser (Debian: chromium chromium-driver)")
    options = selenium.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = selenium.Chrome(options=options, service=selenium.ChromeService(shutil.which("chromedriver")))
    driver.set_script_timeout(20)
    driver.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(downloads)})
    return driver


def complaints(driver):
    """What the page has said on its console since this was asked last."""
    return [entry["message"] for entry in driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]


def asked(driver):
    """The addresses that were asked for since this was asked last."""
    events = (json.loads(entry["message"])["message"] for entry in driver.get_log("performance"))
    return [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]


def until(check, seconds=15.0):
    """The first true result of ``check()``."""
    end = time.monotonic() + seconds
    while not (found := check()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.03)
    return found


def pixels(driver, selector):
    """uint8 [N, S, S, 3] of the canvases that a CSS selector finds, in the page's order."""
    found = driver.execute_script(
        "return Array.from(document.querySelectorAll(arguments[0])).filter(c => !c.parentElement.hidden).map(c => c.toDataURL())", selector
    )
    images = [Image.open(io.BytesIO(base64.b64decode(text.split(",")[1]))).convert("RGB") for text in found]
    return np.stack([np.asarray(image) for image in images]) if images else np.empty((0, 0, 0, 3), np.uint8)


def shows(driver, selector, expected, levels=1):
    """Wait until the canvases show ``expected``, uint8 [N, S, S, 3], up to so many grey levels."""
    last = []

    def check():
        last[:] = [pixels(driver, selector)]
        return last[0].shape == expected.shape and np.abs(last[0].astype(int) - expected).max() <= levels

    try:
        until(check, 8)
    except AssertionError:
        difference = np.abs(last[0].astype(int) - expected).max() if last[0].shape == expected.shape else "shape"
        raise AssertionError(f"{selector}: {last[0].shape}, expected {expected.shape}; off by {difference}") from None


def move(driver, selector, value, event="input"):
    """Set a slider, box or list and tell the page."""
    script = (
        "const e = document.querySelector(arguments[0]); e.value = arguments[1]; e.dispatchEvent(new Event(arguments[2], {bubbles: true}))"
    )
    driver.execute_script(script, selector, value, event)


def click(driver, selector):
    """Press what a CSS selector finds first."""
    driver.execute_script("document.querySelector(arguments[0]).click()", selector)


def text_of(driver, selector):
    """The text of what a CSS selector finds first."""
    return driver.execute_script("return document.querySelector(arguments[0]).textContent", selector)
