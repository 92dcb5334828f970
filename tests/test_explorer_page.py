"""export --page: the file, opened in a browser from the disk, draws, edits, rebuilds and walks as the model does in Python."""

from __future__ import annotations

import importlib.util

import h5py
import numpy as np
import pytest
from app_case import TINY, call, one_line, write_tiny
from browser_case import asked, canvas, complaints, difference, downloaded, move, pixels, press, said, samples, shows, wait
from PIL import Image

from vaegan_kernels import export, load_model, train
from vaegan_kernels.data.images import read_crop
from vaegan_kernels.explorer import standalone
from vaegan_kernels.interpolate import walk
from vaegan_kernels.measures import attribute_vectors
from vaegan_kernels.pictures.figures import to_uint8
from vaegan_kernels.runs import checkpoint

LEVELS = 2  # of grey: another engine, another order of sums
KINDS = {"conditional": ("--conditional", "--image-channels", 1), "gan": ("--model", "gan")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("page")


@pytest.fixture(scope="module", params=["faces", *KINDS])
def opened(request, driver, folder):
    """(the driver with the page of a kind of model open, the model)."""
    kind = request.param
    run, page = kind if kind == "faces" else folder / kind, folder / f"{kind}.html"
    if kind != "faces":
        packed = write_tiny(folder / f"{kind}.h5", channels=1 if kind == "conditional" else 3)
        assert call(train.main, "--data", packed, "--steps", 3, "--out", run, "--threads", 1, "--quiet", *KINDS[kind], *TINY) == 0
        stir(run / "checkpoint.h5")
    assert call(export.main, run, "--page", page) == 0
    complaints(driver), asked(driver)
    driver.get(page.as_uri())
    wait(driver, "window.state === undefined && state.picture && document.querySelector('[data-kind=plain]').width === 32")
    first = asked(driver)
    assert first[0] == page.as_uri()
    yield driver, load_model(run)
    assert complaints(driver) == []
    found = first[1:] + asked(driver)
    assert found and all(url.startswith(("blob:", "data:")) for url in found), found


def stir(path):
    """Make the images differ and the attributes matter: after three steps all is almost grey."""
    with h5py.File(path, "r+") as file:
        del file.attrs["checksums"]
        for kind in ("parameters", "average/parameters"):
            networks = file[kind]
            networks["decoder/image/weight"][...] *= np.float32(40)
            for name in {"encoder", "decoder"} & networks.keys():
                rows = networks[f"{name}/fc/weight"]
                rows[-2:] = 20 * rows[-2:]  # of a conditional model those of the attributes


faces = pytest.mark.parametrize("opened", ["faces"], indirect=True)
conditional = pytest.mark.parametrize("opened", ["conditional"], indirect=True)


def latents(model, seed=0):
    """What the page draws samples from: (z, attributes or None)."""
    return model.prior(24, seed), model.examples(24, seed) if model.attribute_names else None


def assert_samples(driver, model, seed):
    shows(driver, samples(), to_uint8(model.decode(*latents(model, seed))), LEVELS)


def take(driver, index):
    press(driver, f"#samples button[data-index='{index}']")


def choose(driver, path):
    driver.find_element("id", "file").send_keys(str(path))


def picture(path, size=(190, 150), mode="RGB", **options):
    """A picture with much in it: colours that go over into each other, edges, fine noise."""
    random = np.random.default_rng(3)
    colours = Image.fromarray(random.integers(0, 256, (6, 5, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    array = np.clip(np.asarray(colours).astype(int) + random.integers(-9, 10, (*size[::-1], 3)), 0, 255).astype(np.uint8)
    array[20:60, 30:90] = 255 - array[20:60, 30:90]
    image = Image.fromarray(array).convert(mode)
    if mode == "RGBA":
        image.putalpha(Image.linear_gradient("L").resize(size))
    image.save(path, **options)
    return path


def test_samples_are_the_models(opened):
    driver, model = opened
    assert_samples(driver, model, 0)
    driver.execute_script("const s = document.getElementById('seed'); s.value = 7; s.onchange()")
    assert_samples(driver, model, 7)
    driver.execute_script("const s = document.getElementById('seed'); s.value = 0; s.onchange()")
    assert_samples(driver, model, 0)
    shown = driver.execute_script("return [...document.querySelectorAll('section')].filter(s => s.checkVisibility()).map(s => s.id)")
    assert shown == ["picture-panel", "photo-panel", "attributes-panel", "walk-panel", "samples-panel"]
    assert driver.execute_script("return document.getElementById('no-encoder').hidden") == model.has_encoder


@faces
def test_sliders_edit(opened):
    driver, model = opened
    vectors, z = attribute_vectors.load("faces"), model.prior(24)
    take(driver, 5)
    before = to_uint8(model.decode(z[5:6]))[0]
    move(driver, "#slider-Smiling", 2)
    move(driver, "#slider-Eyeglasses", -1.5)
    wanted = to_uint8(model.decode(z[5:6] + 2 * vectors["Smiling"] - np.float32(1.5) * vectors["Eyeglasses"]))[0]
    assert difference(wanted, before) > 20
    shows(driver, canvas("edited"), wanted, LEVELS)
    shows(driver, canvas("plain"), before, LEVELS)
    press(driver, "#reset")
    shows(driver, canvas("edited"), before, LEVELS)


@faces
@pytest.mark.parametrize("kind", ["png", "turned.jpg", "transparent.png", "large.jpg"])
def test_a_photo_is_rebuilt(opened, kind, tmp_path):
    driver, model = opened
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees
    options = {
        "turned.jpg": {"exif": exif, "quality": 98},
        "transparent.png": {"mode": "RGBA"},
        "large.jpg": {"size": (2300, 1700), "quality": 98},
    }
    path = picture(tmp_path / f"photo-{kind.rpartition('.')[0]}.{kind.rpartition('.')[2]}", **options.get(kind, {}))
    choose(driver, path)
    wait(driver, f"document.getElementById('picture-name').textContent === '{path.name}'")
    with open(path, "rb") as file:
        square = read_crop(file, driver.execute_script("const c = photo.crop; return [c.left, c.top, c.side]"), 32, 3)
    shows(driver, canvas("original"), square, 6 if kind == "large.jpg" else LEVELS)  # Pillow reduces that one in two steps
    assert_rebuilt(driver, model)
    move(driver, "#zoom", 2)
    move(driver, "#across", 1)
    with open(path, "rb") as file:
        square = read_crop(file, driver.execute_script("const c = photo.crop; return [c.left, c.top, c.side]"), 32, 3)
    shows(driver, canvas("original"), square, 6 if kind == "large.jpg" else LEVELS)
    assert_rebuilt(driver, model)


def assert_rebuilt(driver, model):
    """What the page shows of a photo is decoded from mu of the pixels that it shows as the original."""
    original = pixels(driver, canvas("original"))[0][None, ..., : model.image_shape[2]]
    mean = model.mean_attributes()[None] if model.attribute_names else None
    mu = model.encode(original, mean)[0]
    shows(driver, canvas("plain"), to_uint8(model.decode(mu, mean))[0], LEVELS)
    shown = driver.execute_script("return document.getElementById('numbers').value")
    np.testing.assert_allclose([float(x) for x in shown.split(",")], mu[0], atol=2e-3)


@faces
def test_a_broken_photo_gets_a_message(opened, tmp_path):
    driver, model = opened
    good = picture(tmp_path / "good.png")
    (tmp_path / "text.png").write_bytes(b"no picture at all")
    (tmp_path / "cut.png").write_bytes(good.read_bytes()[:90])
    for name in ("text.png", "cut.png"):
        choose(driver, tmp_path / name)
        wait(driver, "document.getElementById('status').textContent")
        assert said(driver) == f"{name} is no picture that this browser can read. PNG, JPEG, WebP and GIF are."
        choose(driver, good)
        wait(driver, "!document.getElementById('status').textContent")
    with open(tmp_path / "large.png", "wb") as file:
        file.truncate(65 << 20)
    choose(driver, tmp_path / "large.png")
    assert wait(driver, "document.getElementById('status').textContent") == "large.png has 65.0 MB, at most 64 MB are taken."


@faces
def test_walk_and_downloads(opened):
    driver, model = opened
    z = model.prior(24)
    take(driver, 1)
    press(driver, "#take-a")
    take(driver, 2)
    press(driver, "#take-b")
    way = to_uint8(model.decode(walk(z[1], z[2], 101, "spherical")))
    for at in (25, 60):
        move(driver, "#scrubber", at / 100)
        shows(driver, canvas("here"), way[at], LEVELS)
    shows(driver, canvas("a"), way[0], LEVELS)
    shows(driver, canvas("b"), way[100], LEVELS)

    press(driver, "#save-gif")
    wanted = to_uint8(model.decode(walk(z[1], z[2], 17, "spherical")))
    with Image.open(downloaded(driver, "walk.gif")) as gif:
        assert (gif.format, gif.size, gif.n_frames, gif.info["loop"]) == ("GIF", (256, 256), 32, 0)
        for frame in (0, 7, 16):  # 256 colours for all frames together
            gif.seek(frame)
            small = np.asarray(gif.convert("RGB"))[::8, ::8].astype(int)
            assert np.abs(small - wanted[frame]).mean() < 6

    take(driver, 2)
    shows(driver, canvas("edited"), way[100], LEVELS)
    for times in (1, 8):
        press(driver, f"#save-{times}")
        with Image.open(downloaded(driver, f"sample-3-of-seed-0-x{times}.png")) as image:
            assert (image.format, image.size) == ("PNG", (32 * times, 32 * times))
            assert difference(np.asarray(image.convert("RGB"))[::times, ::times], way[100]) <= LEVELS

    press(driver, "footer button")
    licence = downloaded(driver, "onnxruntime-web-licence.txt").read_text(encoding="utf-8")
    assert licence.startswith("MIT License") and "Microsoft Corporation" in licence and len(licence) > 300_000


@conditional
def test_a_conditional_model_in_grey(opened, tmp_path):
    driver, model = opened
    z, attributes = latents(model)
    take(driver, 3)
    before = to_uint8(model.decode(z[3:4], attributes[3:4]))[0]
    shows(driver, canvas("plain"), before, LEVELS)
    wanted = [to_uint8(model.decode(z[3:4], [[attributes[3, 0], value]]))[0] for value in (1, -1)]
    assert difference(*wanted) > 5 * LEVELS
    for image in wanted:  # the first click switches on, the second off
        press(driver, "[data-name=Red] input")
        shows(driver, canvas("edited"), image, LEVELS)
    press(driver, "#reset")

    path = picture(tmp_path / "colours.png")
    choose(driver, path)
    wait(driver, "document.getElementById('picture-name').textContent === 'colours.png'")
    with open(path, "rb") as file:
        square = to_uint8(read_crop(file, driver.execute_script("const c = photo.crop; return [c.left, c.top, c.side]"), 32, 1)[None])[0]
    shows(driver, canvas("original"), square, LEVELS)
    assert_rebuilt(driver, model)


@pytest.mark.parametrize("opened", ["gan"], indirect=True)
def test_nothing_can_go_out(opened):
    """The page's policy: no other script, no connection, no picture from elsewhere."""
    driver, _ = opened
    tried = driver.execute_async_script("""
        const done = arguments[0], found = [];
        document.addEventListener("securitypolicyviolation", event => found.push(event.effectiveDirective));
        const script = document.createElement("script");
        script.textContent = "window.ran = true";
        const image = Object.assign(new Image(), {src: "https://example.com/x.png"});
        document.body.append(script);
        fetch("https://example.com/").catch(() => "").then(() => setTimeout(() => done([window.ran === true, found.sort()]), 100));
    """)
    assert tried == [False, ["connect-src", "img-src", "script-src-elem"]]
    found = complaints(driver)
    assert len(found) >= 3 and all("Content Security Policy" in line for line in found), found
    asked(driver)  # what was refused is in the log too


def test_bad_input(tmp_path, monkeypatch, capfd):
    taken = tmp_path / "taken.html"
    taken.write_text("mine")
    for arguments, message in (
        (("--page", tmp_path / "page.htm"), "--page: got"),
        (("--page", taken), "exists already; choose another name or give --overwrite"),
        (("--page", tmp_path / "none" / "page.html"), "there is no folder"),
        (("--page", tmp_path / "page.html", "--weights", "raw"), "were made with --weights average; leave it out"),
        (("--page", tmp_path / "page.html", "--format", "onnz"), "did you mean onnx?"),
    ):
        assert call(export.main, "faces", *arguments) == 2
        assert message in one_line(capfd.readouterr().err)
    monkeypatch.setattr(standalone, "LARGEST", 8 << 20)
    for more in ((), ("--format", "onnx", "--out", tmp_path / "out")):
        assert call(export.main, "faces", "--page", tmp_path / "page.html", *more) == 2
        line = one_line(capfd.readouterr().err)
        assert "the page would have about 8.3 MB, at most 8.0 MB" in line and "vaegan explore faces, or take --format onnx" in line
    monkeypatch.undo()
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "onnx" else find(name, *more))
    assert call(export.main, "faces", "--page", tmp_path / "page.html") == 2
    assert one_line(capfd.readouterr().err) == "error: --page: needs the package onnx; pip install onnx"
    assert [path.name for path in tmp_path.iterdir()] == ["taken.html"] and taken.read_text() == "mine"


def test_page_and_formats(tmp_path, capfd):
    assert call(export.main, "faces", "--page", tmp_path / "a.html", "--format", "onnx", "--out", tmp_path / "out") == 0
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"vaegan.json", "encoder.onnx", "decoder.onnx", "discriminator.onnx"}
    assert "a.html  8.5 MB" in capfd.readouterr().out
    before = (tmp_path / "a.html").read_bytes()
    assert call(export.main, checkpoint.find("faces"), "--page", tmp_path / "a.html", "--overwrite") == 0
    after = (tmp_path / "a.html").read_bytes()
    assert before.replace(b'"name": "faces"', b'"name": "faces.h5"') == after  # the same bits for the same model
    assert len(list(tmp_path.iterdir())) == 2
