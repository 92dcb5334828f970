"""The explorer's page in a real browser, against the model itself."""

from __future__ import annotations

import io
import threading

import numpy as np
import pytest
from browser_case import asked, canvas, click, complaints, move, pixels, samples, shows, text_of, until
from explorer_case import PLACE, photo, png
from PIL import Image

from vaegan_kernels import load_model
from vaegan_kernels.data.images import read_square
from vaegan_kernels.interpolate import walk
from vaegan_kernels.measures import attribute_vectors
from vaegan_kernels.pictures.figures import to_uint8


@pytest.fixture(scope="module")
def models(run_folder):
    return [load_model(run_folder, **PLACE), load_model("faces", **PLACE)]


@pytest.fixture
def page(driver, site):
    """The page, just opened; at the end nothing may have been said on the console, nor asked of anybody else."""
    complaints(driver)
    asked(driver)
    driver.get(site.url)
    until(lambda: len(driver.find_elements("css selector", "#samples canvas")) == 48 and pixels(driver, canvas("edited", 1)).shape[1] == 32)
    yield driver
    assert not complaints(driver)
    own = site.url.rsplit("/", 2)[0]
    strangers = [url for url in asked(driver) if not url.startswith((own, "blob:", "data:", "about:"))]
    assert not strangers


def upload(driver, path):
    driver.find_element("css selector", "#file").send_keys(str(path))


def test_samples_are_those_of_the_seed(page, models):
    for seed in (0, 12345678901):
        move(page, "#seed", seed, "change")
        for run, model in enumerate(models):
            shows(page, samples(run), to_uint8(model.sample(24, seed=seed)))
    z = models[1].prior(24, 0)
    move(page, "#seed", 0, "change")
    click(page, "#samples button[data-index='5']")
    for run, model in enumerate(models):
        shows(page, canvas("edited", run), to_uint8(model.decode(z[5:6])))
    assert page.execute_script("return document.querySelectorAll('#samples button[aria-pressed=true]').length") == 2  # one in each run
    click(page, "#new-seed")
    until(lambda: page.execute_script("return document.querySelector('#seed').value") != "0")


def test_sliders_do_what_edit_does(page, models):
    z, vectors = models[1].prior(24, 0), attribute_vectors.load("faces")
    move(page, "#slider-Smiling", 2)
    move(page, "#slider-Wearing_Hat", -1.5)
    change = 2 * vectors["Smiling"] - 1.5 * vectors["Wearing_Hat"]
    shows(page, canvas("edited", 1), to_uint8(models[1].decode(z[:1] + change)))
    shows(page, canvas("plain", 1), to_uint8(models[1].decode(z[:1])))
    shows(page, canvas("edited", 0), to_uint8(models[0].decode(z[:1])))  # it has no vectors
    click(page, "#edit-all")
    shows(page, samples(1), to_uint8(models[1].decode(z + change)))
    assert text_of(page, "[data-name='Black_Hair'] small").startswith("faces only; moves along: Blond Hair −0.89")
    move(page, "#search", "hat")
    shown = page.execute_script("return Array.from(document.querySelectorAll('.slider')).filter(e => !e.hidden).map(e => e.dataset.name)")
    assert shown == ["Wearing_Hat"]
    click(page, "#reset")
    shows(page, samples(1), to_uint8(models[1].decode(z)))
    assert text_of(page, "[data-name='Smiling'] output") == "0"


def test_sliders_never_run_ahead(page, site, models):
    """Hundreds of movements are few requests, and the last one counts."""
    z, vectors = models[1].prior(1, 0), attribute_vectors.load("faces")
    count, lock, decode = [], threading.Lock(), site.routes._routes["POST", "decode"]

    def counted(**given):
        with lock:
            count.append(1)
        return decode[0](**given)

    site.routes._routes["POST", "decode"] = (counted, decode[1])
    try:
        page.execute_script(
            "const s = document.querySelector('#slider-Smiling');"
            "for (let i = 0; i <= 600; i++) { s.value = -3 + i / 100; s.dispatchEvent(new Event('input')); }"
        )
        shows(page, canvas("edited", 1), to_uint8(models[1].decode(z + 3 * vectors["Smiling"])))
    finally:
        site.routes._routes["POST", "decode"] = decode
    assert len(count) <= 8


@pytest.mark.parametrize("size", [(90, 60), (60, 90), (700, 500)])
def test_a_photo_is_rebuilt(page, models, tmp_path, size):
    path = tmp_path / "face.png"
    photo(*size).resize((9, 9)).resize(size, Image.Resampling.BICUBIC).save(path)
    upload(page, path)
    expected = read_square(io.BytesIO(path.read_bytes()), 32, 3)
    for run, model in enumerate(models):
        shows(page, canvas("original", run), expected[None], levels=0)
        shows(page, canvas("plain", run), to_uint8(model.reconstruct(expected[None], mean=True)))
    assert text_of(page, "#picture-name") == "face.png"
    move(page, "#zoom", 2)
    side = min(size) // 2
    corner = [(length - side) / 2 for length in size]
    crop = Image.open(path).crop((*map(round, corner), *(round(at) + side for at in corner)))
    shows(page, canvas("original", 1), read_square(io.BytesIO(png(crop)), 32, 3)[None], levels=0)
    move(page, "#across", 0)
    move(page, "#down", 1)
    crop = Image.open(path).crop((0, size[1] - side, side, size[1]))
    shows(page, canvas("original", 1), read_square(io.BytesIO(png(crop)), 32, 3)[None], levels=0)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("broken.png", png(photo())[:80], "not a readable image"),
        ("text.txt", b"a text", "not a readable image"),
        ("empty.jpg", b"", "not a readable image"),
        ("large.bmp", bytes((10 << 20) + 1), "large.bmp has 10.0 MB, at most 10 MB are taken."),
    ],
)
def test_a_broken_upload_gets_a_message(driver, site, tmp_path, name, content, expected):
    driver.get(site.url)
    until(lambda: text_of(driver, "#picture-name"))
    (tmp_path / name).write_bytes(content)
    upload(driver, tmp_path / name)
    until(lambda: expected in text_of(driver, "#status"))
    complaints(driver)  # the browser itself logs an answer of 415


def test_a_pasted_and_a_dropped_photo(page, models):
    data = np.asarray(photo(40, 40)).tolist()
    panel = "document.querySelector('#photo-panel')"
    ways = (("paste", "ClipboardEvent", "document", "clipboardData"), ("drop", "DragEvent", panel, "dataTransfer"))
    for event, kind, target, holder in ways:
        page.execute_async_script(
            f"""const [rows, done] = arguments, c = document.createElement('canvas'); c.width = c.height = 40;
            const x = c.getContext('2d'), p = x.createImageData(40, 40);
            rows.forEach((row, i) => row.forEach((rgb, j) => p.data.set([...rgb, 255], 4 * (40 * i + j)))); x.putImageData(p, 0, 0);
            c.toBlob(blob => {{
              const data = new DataTransfer(); data.items.add(new File([blob], '{event}.png', {{type: 'image/png'}}));
              {target}.dispatchEvent(new {kind}('{event}', {{{holder}: data, bubbles: true}}));
              done();
            }});""",
            data,
        )
        until(lambda event=event: text_of(page, "#picture-name") == f"{event}.png")
        shows(page, canvas("original", 1), read_square(io.BytesIO(png(photo(40, 40))), 32, 3)[None], levels=0)


def test_the_camera(page):
    click(page, "#camera")
    until(lambda: page.execute_script("return document.querySelector('#video').videoWidth > 0"))
    click(page, "#snap")
    until(lambda: text_of(page, "#picture-name") == "your photo")
    until(lambda: (taken := pixels(page, canvas("original", 1))).size and taken.std() > 10)
    assert page.execute_script("return document.querySelector('#video').hidden && document.querySelector('#snap').hidden")


def test_a_walk(page, models, downloads):
    model, vectors = models[1], attribute_vectors.load("faces")
    z = model.prior(24, 0)
    click(page, "#samples button[data-index='3']")
    move(page, "#slider-Smiling", 1)
    click(page, "#take-a")
    move(page, "#slider-Smiling", -1)
    click(page, "#samples button[data-index='8']")
    click(page, "#take-b")
    move(page, "#slider-Smiling", 3)
    move(page, "#scrubber", 0.25)
    a, b = z[3] + vectors["Smiling"], z[8] - vectors["Smiling"]
    along = walk(a, b, 5, "spherical")[[0, 1, 4]]
    for kind, row in zip(("a", "here", "b"), along, strict=True):
        shows(page, canvas(kind, 1), to_uint8(model.decode(row[None])))
    click(page, "#take-walk")
    click(page, "#reset")
    shows(page, canvas("edited", 1), to_uint8(model.decode(along[1:2])))
    click(page, "#save-gif")
    file = until(lambda: next(downloads.glob("walk-faces.gif"), None))
    until(lambda: file.stat().st_size > 1000)
    expected = to_uint8(model.decode(walk(a, b, 17, "spherical")))
    with Image.open(file) as animation:
        assert animation.n_frames == 32 and animation.size == (256, 256) and animation.info["loop"] == 0
        for frame in (0, 5, 16, 20):
            animation.seek(frame)
            seen = np.asarray(animation.convert("RGB"))[4::8, 4::8].astype(int)
            at = frame if frame < 17 else 32 - frame
            assert np.abs(seen - expected[at]).mean() < 4 and np.abs(seen - expected[at]).max() < 60  # 256 colours for all frames


def test_png(page, models, downloads):
    expected = to_uint8(models[1].sample(1, seed=0))[0]
    shows(page, canvas("edited", 1), expected[None])
    for times in (1, 8):
        click(page, f"#save-{times}")
        file = until(lambda times=times: next(downloads.glob(f"*-faces-x{times}.png"), None))
        until(lambda file=file: file.stat().st_size)
        with Image.open(file) as picture:
            assert picture.size == (32 * times, 32 * times)
            assert np.abs(np.asarray(picture.convert("RGB"))[::times, ::times].astype(int) - expected).max() <= 1


def test_numbers_and_links(page, site, models):
    z = np.linspace(-2, 2, 128)
    move(page, "#numbers", ", ".join(f"{x:.4f}" for x in z))
    click(page, "#apply-numbers")
    rounded = np.round(z, 4)[None]
    shows(page, canvas("edited", 1), to_uint8(models[1].decode(rounded)))
    move(page, "#slider-Smiling", 1.25)
    expected = to_uint8(models[1].decode(rounded + 1.25 * attribute_vectors.load("faces")["Smiling"]))
    shows(page, canvas("edited", 1), expected)
    link = page.execute_script("return linkOf()")
    page.get("about:blank")
    page.get(f"{site.url}#{link}")
    shows(page, canvas("edited", 1), expected)
    assert text_of(page, "[data-name='Smiling'] output") == "1.25"
    for text, message in (("1, 2, 3", "got 3 numbers, expected 128"), (", ".join(["nan"] * 128), "between -1000 and 1000")):
        page.execute_script("document.querySelector('details').open = true; document.querySelector('#numbers').focus()")
        move(page, "#numbers", text)
        click(page, "#apply-numbers")
        until(lambda message=message: message in text_of(page, "#status"))
    page.get("about:blank")
    page.get(f"{site.url}#z=AAAA&rows=.")
    until(lambda: "of other runs" in text_of(page, "#status"))


def test_the_map(page, models):
    click(page, "#draw-map")
    until(lambda: text_of(page, "#map-state") == "40 images of discs.", 30)
    page.execute_script("document.querySelector('#map').focus()")
    map_ = page.find_element("css selector", "#map")
    map_.send_keys("\ue014")  # arrow right: the leftmost image
    until(lambda: pixels(page, "#map-tip canvas").shape[1] == 32)
    image = pixels(page, "#map-tip canvas")
    map_.send_keys("\ue007")  # Enter
    shows(page, canvas("original", 0), image, levels=0)
    shows(page, canvas("plain", 0), to_uint8(models[0].reconstruct(image, mean=True)))
    assert text_of(page, "#picture-name").startswith("Image ")
    coloured = [option.text for option in page.find_elements("css selector", "#colour option")]
    assert coloured == ["Big", "Red"]
    page.execute_script(
        # where points lie is not known here: the pointer goes over the map until one answers
        """const m = document.querySelector('#map'), r = m.getBoundingClientRect();
        for (let y = 10; y < r.height; y += 9) for (let x = 10; x < r.width; x += 9) {
          if (!document.querySelector('#map-tip').hidden && x > 10) break;
          m.dispatchEvent(new PointerEvent('pointermove', {clientX: r.left + x, clientY: r.top + y}));
        }"""
    )
    until(lambda: not page.execute_script("return document.querySelector('#map-tip').hidden"))


def test_a_phone_and_a_keyboard(page):
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": True})
    try:
        wide = page.execute_script("return document.documentElement.scrollWidth")
        assert wide <= 390
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    unnamed = page.execute_script(
        """return Array.from(document.querySelectorAll('button, input, select, textarea, canvas[tabindex]')).filter(e => e.offsetParent)
        .filter(e => !(e.ariaLabel || e.textContent.trim() || (e.labels && e.labels.length))).map(e => e.id || e.outerHTML)"""
    )
    assert not unnamed
    page.execute_script("document.querySelector('#samples button[data-index=\"7\"]').focus()")
    page.switch_to.active_element.send_keys("\ue007")
    until(lambda: text_of(page, "#picture-name") == "Sample 8 of seed 0")
