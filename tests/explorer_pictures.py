"""The screenshots of docs/explorer.md: ``python -m tests.explorer_pictures docs/explorer``. It needs Chromium and selenium."""

from __future__ import annotations

import base64
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from browser_case import chromium, click, move, text_of, until
from explorer_case import served
from PIL import Image

from vaegan_kernels.data import load_dataset


def screenshot(driver, path, width, *, dark=False):
    """The page at so many pixels' width, up to 1,500 high, in 256 colours: half the bytes."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": ["light", "dark"][dark]}]})
    if dark:
        driver.execute_script("document.querySelector('#colour').dispatchEvent(new Event('change'))")  # the map's colours
    driver.execute_cdp_cmd("Emulation.setScrollbarsHidden", {"hidden": True})
    height = min(1500, driver.execute_script("return document.documentElement.scrollHeight"))
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {**size, "height": height})
    data = driver.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})["data"]
    path.write_bytes(base64.b64decode(data))
    with Image.open(path) as picture:
        picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    print(path, path.stat().st_size)


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary, served("faces") as site, chromium(Path(temporary)) as driver:
        driver.get(site.url)
        until(lambda: driver.find_elements("css selector", "#samples canvas"))
        click(driver, "#draw-map")
        for end, sample in (("a", 9), ("b", 18)):
            click(driver, f"#samples button[data-index='{sample}']")
            until(lambda sample=sample: text_of(driver, "#picture-name") == f"Sample {sample + 1} of seed 0")
            click(driver, f"#take-{end}")
        drawing = Path(temporary) / "a drawing.png"
        faces = load_dataset(None, image_size=64, channels=3, limit=300)
        Image.fromarray(faces.images[faces.split("test")[1]]).resize((512, 512), Image.Resampling.BICUBIC).save(drawing)
        driver.find_element("css selector", "#file").send_keys(str(drawing))
        until(lambda: text_of(driver, "#picture-name") == drawing.name)
        move(driver, "#slider-Smiling", 1.5)
        driver.execute_script("document.querySelector('#search').focus()")
        move(driver, "#slider-Wearing_Hat", 2)
        until(lambda: "1500 images" in text_of(driver, "#map-state"), 60)
        move(driver, "#colour", "Dark_Skin", "change")
        driver.execute_script("document.querySelector('#sliders').scrollTop = 1e6")
        screenshot(driver, folder / "wide.png", 1400)
        screenshot(driver, folder / "phone.png", 390, dark=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
