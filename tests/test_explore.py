"""``explore``: the command, and what its server answers. No browser here."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
import time

import numpy as np
import pytest
from app_case import call, one_line
from explorer_case import PLACE, ask, photo, png, shown
from PIL import Image

from vaegan_kernels import explore, load_model
from vaegan_kernels.data.images import read_square
from vaegan_kernels.explorer import server as serving
from vaegan_kernels.explorer.about import names_of
from vaegan_kernels.explorer.shown import principal
from vaegan_kernels.explorer.training import Training
from vaegan_kernels.pictures.figures import to_uint8
from vaegan_kernels.shell.errors import UserError


def split(body):
    return np.frombuffer(body[: 32 * 32 * 3], np.uint8).reshape(32, 32, 3), np.frombuffer(body[32 * 32 * 3 :], "<f4")


def test_the_page_is_one_file_that_loads_nothing(site):
    status, headers, body = ask(site)
    text = body.decode()
    assert status == 200 and headers["Content-Type"] == "text/html; charset=utf-8"
    assert "https:" not in text and text.count("http:") == text.count("http://www.w3.org/2000/svg") > 0
    assert "src=" not in text.replace('img src="', "") and text.count("<script") == 1 and "@import" not in text and "url(" not in text
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-") and "unsafe" not in policy and "*" not in policy
    assert headers["Referrer-Policy"] == "no-referrer" and headers["X-Content-Type-Options"] == "nosniff"
    assert "Access-Control-Allow-Origin" not in headers and site.token not in text


def test_models(site, run_folder):
    first, second = json.loads(ask(site, "models")[2])
    assert (first["name"], first["step"], first["size"], first["training"]) == ("run", 6, 32, True)
    assert (second["name"], second["training"], len(second["vectors"])) == ("faces", False, 24)
    assert np.frombuffer(base64.b64decode(second["directions"]), "<f4").shape == (24 * second["latent"],)
    assert str(run_folder) not in ask(site, "models")[2].decode()  # nothing tells where on the disk


@pytest.mark.parametrize("run", [0, 1])
@pytest.mark.parametrize("count", [1, 3])
def test_decode_is_the_models(site, run_folder, run, count):
    model = load_model([run_folder, "faces"][run], **PLACE)
    z = np.random.default_rng(count).standard_normal((count, model.latent)).astype(np.float32)
    status, _, body = ask(site, f"decode?run={run}", z.tobytes())
    assert status == 200
    np.testing.assert_array_equal(np.frombuffer(body, np.uint8).reshape(count, 32, 32, 3), to_uint8(model.decode(z)))


@pytest.mark.parametrize("size", [(90, 60), (60, 90), (500, 400), (20, 20)])
def test_a_photo_in_the_middle_is_what_training_would_read(site, size):
    data, shorter = png(photo(*size)), min(size)
    left, top = ((length - shorter) // 2 / shorter for length in size)
    image, mu = split(ask(site, f"encode?run=1&left={left:.5f}&top={top:.5f}&side=1", data)[2])
    expected = read_square(io.BytesIO(data), 32, 3)
    np.testing.assert_array_equal(image, expected)
    np.testing.assert_array_equal(mu, load_model("faces", **PLACE).encode(expected[None])[0][0])


def test_a_square_of_a_photo(site):
    picture = photo(200, 100)
    image, _ = split(ask(site, "encode?run=1&left=0.5&top=0.2&side=0.4", png(picture))[2])
    np.testing.assert_array_equal(image, read_square(io.BytesIO(png(picture.crop((50, 20, 90, 60)))), 32, 3))
    beyond, _ = split(ask(site, "encode?run=1&left=9&top=-9&side=0.4", png(picture))[2])
    np.testing.assert_array_equal(beyond, read_square(io.BytesIO(png(picture.crop((160, 0, 200, 40)))), 32, 3))


def test_preview(site):
    status, headers, body = ask(site, "preview", png(photo(1500, 900)))
    assert status == 200 and headers["Content-Type"] == "image/png"
    assert Image.open(io.BytesIO(body)).size == (640, 384)


def test_the_map_is_of_mu_and_its_points_are_the_images(site, run_folder):
    until = time.monotonic() + 30
    while "x" not in (found := json.loads(ask(site, "map?run=0")[2])):
        assert "error" not in found and time.monotonic() < until, found
        time.sleep(0.05)
    assert len(found["x"]) == 40 and set(found["attributes"]) == {"Big", "Red"} and found["data"] == "discs"
    image, mu = split(ask(site, "point?run=0&index=7")[2])
    model = load_model(run_folder, **PLACE)
    np.testing.assert_allclose(mu, model.encode(image[None])[0][0], rtol=1e-4, atol=1e-5)
    assert ask(site, "point?run=0&index=40")[0] == 400
    spread = np.var(found["x"]), np.var(found["y"])
    assert spread[0] >= spread[1] > 0


def test_principal_components():
    random = np.random.default_rng(0)
    mu = random.standard_normal((50, 6)) * [1, 9, 1, 4, 1, 1]
    found = principal(mu)
    assert abs(np.corrcoef(found[:, 0], mu[:, 1])[0, 1]) > 0.98 and abs(np.corrcoef(found[:, 1], mu[:, 3])[0, 1]) > 0.9
    assert principal(mu[:1]).shape == (1, 2) and principal(mu[:, :1]).shape == (50, 2)


def test_a_training_is_followed(site, run_folder):
    found = json.loads(ask(site, "training?run=0")[2])
    assert found["steps"][-1] == 6 and found["grids"]["samples"] == [3, 6] == found["grids"]["reconstructions"]
    curves = {curve["title"]: curve for curve in found["curves"]}
    assert len(curves["Feature likelihood"]["series"]["like"]) == len(found["steps"])
    status, headers, body = ask(site, "grid?run=0&kind=samples&step=3")
    assert (status, headers["Content-Type"]) == (200, "image/png")
    assert body == (run_folder / "samples" / "step_000003.png").read_bytes()
    with open(run_folder / "metrics.jsonl", "a") as file:
        file.write('{"step": 7, "like": NaN}\n{"step": 8, "li')
    assert json.loads(ask(site, "training?run=0")[2])["steps"][-1] == 7  # the line that is being written is not read yet


@pytest.mark.parametrize(
    ("text", "last"),
    [('{"step": 2, "prior": "abc", "like": [1], "gan_real": {"a": 1}}\n', 2), ("[" * 100_000 + "\n", 1), ('{"step": NaN}\n', 1),
     ('{"step": "2"}\n', 1), ("\x00\xff\n", 1), ('{"step": 3, "like": Infinity}\n', 3)],
    ids=["words", "deep", "nan", "text", "noise", "infinite"],
)  # fmt: skip
def test_metrics_of_strangers(tmp_path, text, last):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "like": 3.5, "prior": 1}\n' + text, encoding="latin-1")
    found = Training(tmp_path).about()
    assert found["steps"][-1] == last
    numbers = [x for curve in found["curves"] for series in curve["series"].values() for x in series]
    assert all(x is None or isinstance(x, int | float) for x in numbers) and json.dumps(found, allow_nan=False)


def test_what_is_no_file_is_not_waited_for(tmp_path):
    metrics = tmp_path / "metrics.jsonl"
    metrics.mkdir()
    assert Training(tmp_path).about()["steps"] == []
    metrics.rmdir()
    os.mkfifo(metrics)
    assert Training(tmp_path).about()["steps"] == []


def test_grids_that_are_elsewhere_are_not_listed(tmp_path):
    (tmp_path / "secret").mkdir()
    photo().save(tmp_path / "secret" / "step_000007.png")
    run = tmp_path / "run"
    run.mkdir()
    (run / "samples").symlink_to(tmp_path / "secret")
    (run / "reconstructions").mkdir()
    for name in ("step_" + "9" * 200, "step_٣", "step_000005"):
        photo().save(run / "reconstructions" / f"{name}.png")
    training = Training(run)
    assert training.about()["grids"] == {"samples": [], "reconstructions": [5]} and training.grid("samples", 7) is None


def test_a_folder_of_weights_has_no_training(tmp_path, run_folder):
    (tmp_path / "weights").mkdir()
    shutil.copy(run_folder / "checkpoint.h5", tmp_path / "weights")
    assert shown(tmp_path / "weights").runs[0].training is None


def test_a_run_that_has_not_saved_yet(tmp_path):
    run = tmp_path / "run"
    (run / "samples").mkdir(parents=True)
    (run / "metrics.jsonl").write_text('{"step": 1, "like": 3.5}\n')
    routes = shown(run)
    about = json.loads(routes.answer("GET", "models", {}, b"").body)[0]
    assert "size" not in about and about["problem"] == "no checkpoint yet"
    assert json.loads(routes.answer("GET", "training", {"run": "0"}, b"").body)["steps"] == [1]
    with pytest.raises(UserError, match="no checkpoint yet"):
        routes.answer("POST", "decode", {"run": "0"}, bytes(4))


def test_a_checkpoint_that_is_refused_at_the_start_is_told(tmp_path, run_folder):
    shutil.copytree(run_folder, tmp_path / "run")
    (tmp_path / "run" / "checkpoint.h5").write_bytes(b"not HDF5")
    run = shown(tmp_path / "run").runs[0]
    for _ in range(2):
        assert run.model is None and "checkpoint.h5" in run.problem
        run.follow()


def test_a_new_checkpoint_is_read(tmp_path, run_folder):
    copy = tmp_path / "checkpoint.h5"
    copy.write_bytes((run_folder / "checkpoint.h5").read_bytes())
    run = shown(copy).runs[0]
    assert run.version == 1
    run.follow()
    assert run.version == 1
    copy.write_bytes(b"not HDF5")
    for _ in range(2):  # what was said once is not forgotten at the next look
        run.follow()
        assert run.version == 1 and run.model is not None and "checkpoint.h5" in run.problem  # the old one goes on being shown
    copy.write_bytes((run_folder / "checkpoint.h5").read_bytes())
    run.follow()
    assert run.version == 2 and not run.problem


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("faces", "--data", "nowhere"), "error: nowhere: no such file or folder"),
        (("faces", "--host", "http://localhost"), "error: --host: got 'http://localhost', expected the one name"),
        (("faces", "--host", "localhost:9000"), "error: --host: got 'localhost:9000', expected the one name"),
        (("nowhere",), "error: no such checkpoint: nowhere"),
        (("faces", "--port", "70000"), "error: --port: got 70000, expected 1 to 65535, or 0 for any that is free"),
        (("faces", "--port", "x"), "error: --port: got 'x', expected a whole number"),
        (("faces", "--host", "0.0.0.0"), "error: --host: got '0.0.0.0', expected the one name or address"),
        (("faces", "--host", "192.0.2.1", "--port", "0"), "error: --host 192.0.2.1: cannot listen there"),
        (("faces", "--host", "no.such.name.invalid", "--port", "0"), "error: --host no.such.name.invalid: cannot listen there"),
        (("faces",) * 7, "error: got 7 runs, expected at most 6"),
        ((), "error: missing argument: RUN"),
    ],
)
def test_bad_arguments(arguments, expected, capsys):
    assert call(explore.main, *arguments, "--no-browser", "--engine", "numpy") == 2
    assert one_line(capsys.readouterr().err).startswith(expected)


def test_names_tell_runs_apart(tmp_path):
    for name in ("a/run", "b/run"):
        (tmp_path / name).mkdir(parents=True)
    assert names_of(["faces", str(tmp_path / "a/run")]) == ["faces", "run"]
    assert names_of([str(tmp_path / "a/run"), str(tmp_path / "b/run")]) == ["a/run", "b/run"]
    assert names_of(["faces", "faces"]) == ["faces (1)", "faces (2)"]


@pytest.mark.parametrize("host", ["LOCALHOST", "127.1", "127.0.0.2", "0:0:0:0:0:0:0:1"])
def test_hosts_as_browsers_write_them(site, host):
    with serving.Server(site.routes, host, 0) as server:
        address, port = server.server_address[:2]
        written = {"LOCALHOST": "localhost", "127.1": "127.0.0.1", "0:0:0:0:0:0:0:1": "[::1]"}.get(host, host)
        assert f"{written}:{port}" in server.hosts and server.local and f"http://{written}" in server.url.replace("127.1", "127.0.0.1")


def test_a_port_in_use(capsys, site, monkeypatch):
    used = site.server_address[1]
    assert call(explore.main, "faces", "--no-browser", "--engine", "numpy", "--port", used) == 2
    assert one_line(capsys.readouterr().err) == f"error: --port {used}: cannot listen there (Address already in use); choose another"
    monkeypatch.setattr(explore, "PORT", used)
    with explore.listening(site.routes, "127.0.0.1", None) as other:
        assert other.server_address[1] not in (used, 0)


def test_the_command_says_where_and_ends_with_ctrl_c(capsys, monkeypatch):
    def interrupted(server, *arguments):
        raise KeyboardInterrupt

    opened = []
    monkeypatch.setattr(serving.Server, "serve_forever", interrupted)
    monkeypatch.setattr(explore.webbrowser, "open", opened.append)
    monkeypatch.setattr(explore, "has_display", lambda: True)
    assert call(explore.main, "faces", "--port", "0", "--engine", "numpy") == 130
    out, err = capsys.readouterr()
    assert (
        out.startswith("faces: http://127.0.0.1:")
        and out.endswith("(Ctrl-C ends it)\n")
        and err == "interrupted\n"
        and opened == [out.split()[1]]
    )
    assert call(explore.main, "faces", "--port", "0", "--engine", "numpy", "--no-browser", "--host", "localhost") == 130
    assert len(opened) == 1


def test_another_host_warns(capsys, monkeypatch):
    monkeypatch.setattr(serving.Server, "serve_forever", lambda server: None)
    monkeypatch.setattr(serving.Server, "server_bind", lambda server: setattr(server, "server_address", ("192.0.2.7", 80)))
    monkeypatch.setattr(serving.Server, "server_activate", lambda server: None)
    assert call(explore.main, "faces", "--port", "80", "--engine", "numpy", "--host", "192.0.2.7", "--no-browser") == 0
    assert "warning: --host 192.0.2.7: whoever learns the address below" in capsys.readouterr().err


def test_no_terminal_is_taken_for_a_browser(monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(explore.sys, "platform", "linux")
    assert not explore.has_display()
    monkeypatch.setitem(os.environ, "DISPLAY", ":0")
    assert explore.has_display()
