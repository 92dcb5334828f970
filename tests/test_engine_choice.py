"""--engine: what is said of it, what is refused, what device.json keeps, and runs that go on with another engine."""

from __future__ import annotations

import json
import shutil

import pytest
from app_case import TINY, assert_same_run, call, one_line, write_tiny
from native_build_case import GOOD, REAL, VERSION, install

import kernels
from kernels.cpu.native import build
from vaegan_kernels import load_model, sample, train
from vaegan_kernels.settings import options
from vaegan_kernels.settings.config import Config
from vaegan_kernels.shell import cli
from vaegan_kernels.shell.errors import UserError

QUICK = ("--no-animation", "--no-curves", "--draw-every", 100)
NATIVE = kernels.engine("cpu")
needs_native = pytest.mark.skipif(NATIVE.describe()["engine"] != "native", reason=f"no native engine here: {NATIVE.notice}")
WIDTH = NATIVE.describe().get("vectors")


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    return write_tiny(tmp_path_factory.mktemp("data") / "tiny.h5")


@pytest.fixture(scope="module")
def stopped(packed, tmp_path_factory):
    """{engine: a run of four steps, stopped after two}."""
    runs = {}
    for name in ("native", "numpy"):
        runs[name] = tmp_path_factory.mktemp("stopped") / name
        flags = ("--data", packed, "--out", runs[name], "--steps", 4, "--stop-after", 2, "--quiet", *QUICK, *TINY)
        assert call(train.main, *flags, "--engine", name) == 0
    return runs


@pytest.fixture
def no_compiler(monkeypatch, tmp_path):
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setattr(build, "_opened", {})


def about(run):
    return json.loads((run / "device.json").read_text())


def without(run, folder, *names):
    """A copy of a run as an earlier version would have left it, without these entries."""
    shutil.copytree(run, folder)
    (folder / "device.json").write_text(json.dumps({name: value for name, value in about(folder).items() if name not in names}))
    return folder


@needs_native
@pytest.mark.parametrize(
    ("config", "line"),
    [
        (Config(device="cpu", threads=2), f"device: cpu (native, {WIDTH}, 2 threads), float32"),
        (Config(device="cpu", threads=1, engine="native"), f"device: cpu (native, {WIDTH}, 1 thread), float32"),
        (Config(device="cpu", threads=2, engine="numpy"), "device: cpu (NumPy, 2 threads), float32"),
        (Config(device="cpu", threads=2, precision="float64"), "device: cpu (NumPy, 2 threads), float64"),
        (Config(threads=2, engine="native"), f"device: cpu (native, {WIDTH}, 2 threads), float32 (--engine native is the CPU's)"),
    ],
)
def test_the_engine_is_said(config, line):
    assert options.open_engine(config)[1] == line


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (Config(device="cuda", engine="native"), "--engine native is the CPU's and the device is cuda; use --engine auto"),
        (Config(device="cuda", engine="numpy"), "--engine numpy is the CPU's and the device is cuda"),
        (Config(device="cpu", engine="native", precision="float64"), "--engine native: float64 is the NumPy engine's; use --engine numpy"),
    ],
)
def test_what_does_not_go_together(config, words):
    with pytest.raises(UserError) as refused:
        options.open_engine(config)
    assert str(refused.value).startswith(words) and "\n" not in str(refused.value)
    with pytest.raises(ValueError, match="implementation: got '(native|numpy)', "):
        kernels.engine(config.device, config.precision, implementation=config.engine)
    with pytest.raises(ValueError, match="implementation: got 'fast', expected one of auto, native, numpy"):
        kernels.engine("cpu", implementation="fast")


def test_where_there_is_no_compiler(no_compiler, stopped, tmp_path, capfd):
    """``auto`` says why it is NumPy; ``native`` is refused in one line, and nothing is written."""
    line = options.open_engine(Config(device="cpu", threads=2))[1]
    assert line == "device: cpu (NumPy: CXX=no-such-compiler does not run; set it to a C++ compiler, or not at all), 2 threads, float32"
    assert call(train.main, *TINY, "--engine", "native", "--out", tmp_path / "run") == 2
    assert "error: --engine native: CXX=no-such-compiler does not run" in one_line(capfd.readouterr().err)
    assert call(sample.main, stopped["numpy"], "--engine", "native", "--out", tmp_path / "a.png") == 2
    assert "error: --engine native: CXX=no-such-compiler" in one_line(capfd.readouterr().err)
    assert call(sample.main, stopped["numpy"], "--engine", "nativ", "--out", tmp_path / "a.png") == 2
    assert "--engine: got 'nativ', expected one of auto, native, numpy; did you mean native?" in one_line(capfd.readouterr().err)
    assert not list(tmp_path.iterdir())
    assert load_model(stopped["native"], threads=1).engine.describe()["engine"] == "numpy"


@needs_native
def test_a_build_is_announced_where_a_person_looks(stopped, tmp_path, monkeypatch, capfd):
    """train: among its lines; others: on stderr, for stdout has their result. With --quiet nowhere; with the NumPy engine no build."""
    if REAL is None:
        monkeypatch.setenv("VAEGAN_NATIVE_FLAGS", "-O0")
    else:  # compiles each source once, whichever the cache
        (tmp_path / "bin").mkdir()
        install(tmp_path, VERSION + GOOD)
        monkeypatch.setenv("CXX", str(tmp_path / "bin" / "c++"))

    def afresh(name):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / name))
        capfd.readouterr()

    line = "compiling the CPU kernels for this machine (once, about 5 s)\n"
    flags = ("--steps", 2, "--limit", 40, *TINY)
    for engine, more, expected in (("auto", ("--dry-run",), line), ("numpy", ("--dry-run",), ""), ("auto", ("--quiet", *QUICK), "")):
        afresh(f"train-{engine}{len(more)}")
        assert call(train.main, *flags, "--engine", engine, *more, "--out", tmp_path / "run") == 0
        printed, errors = capfd.readouterr()
        assert printed.startswith(expected or "device" * ("--quiet" not in more)) and "compiling" not in errors
        assert ("compiling" in printed) == bool(expected)
    afresh("sample")
    assert call(sample.main, stopped["native"], "--count", 1, "--out", tmp_path / "a.png") == 0
    printed, errors = capfd.readouterr()
    assert errors == line and "compiling" not in printed


def test_every_command_with_a_device_has_an_engine():
    from vaegan_kernels.shell import commands

    for name in commands.names():
        words = commands.parser_of(name)._option_string_actions
        assert ("--device" in words) == ("--engine" in words) or name == "tune", name


@needs_native
def test_device_json(stopped):
    native, numpy = about(stopped["native"]), about(stopped["numpy"])
    assert native["engine"] == "native" and native["vectors"] == WIDTH and native["compiler"] and native["threads"] >= 1
    assert numpy["engine"] == "numpy" and "vectors" not in numpy
    assert json.loads((stopped["numpy"] / "config.json").read_text())["engine"] == "numpy"


@needs_native
@pytest.mark.parametrize("engine", ["native", "numpy"])
def test_the_same_engine_resumes_without_a_word(engine, stopped, packed, tmp_path, capfd):
    shutil.copytree(stopped[engine], tmp_path / "run")
    assert call(train.main, "--resume", tmp_path / "run") == 0
    assert "until now" not in capfd.readouterr().out
    assert call(train.main, "--data", packed, "--steps", 4, *QUICK, *TINY, "--engine", engine, "--out", tmp_path / "whole") == 0
    assert_same_run(tmp_path / "run", tmp_path / "whole")


@needs_native
def test_another_engine_is_said_on_resume(stopped, tmp_path, monkeypatch, capfd):
    old = without(stopped["numpy"], tmp_path / "old", "engine")
    wider = without(stopped["native"], tmp_path / "wider")
    (wider / "device.json").write_text(json.dumps({**about(wider), "vectors": "AVX-1024"}))
    unsaid = without(stopped["numpy"], tmp_path / "unsaid")
    (unsaid / "device.json").write_text("{")
    native = f"cpu (native, {WIDTH}, {NATIVE.describe()['compiler']})"
    for run, engine, before in (
        (without(stopped["native"], tmp_path / "a"), "numpy", f"on {native}"),
        (without(stopped["numpy"], tmp_path / "b"), "native", "on cpu (NumPy)"),
        (old, "auto", "on cpu (NumPy)"),
        (wider, "auto", f"on {native.replace(WIDTH, 'AVX-1024')}"),
        (unsaid, "native", None),
    ):
        assert call(train.main, "--resume", run, "--engine", engine, "--stop-after", 3) == 0
        first = capfd.readouterr().out.splitlines()[0]
        assert first.endswith(f"; until now the run was {before}: its numbers continue, not its bits") if before else "until" not in first
        assert about(run)["engine"] == ("numpy" if engine == "numpy" else "native")
        assert call(train.main, "--resume", run) == 0, "and not again"
        assert "until now" not in capfd.readouterr().out


@needs_native
def test_a_run_is_repeated_by_its_own_engine(stopped, packed, tmp_path, capfd):
    """--config: NumPy for a run of NumPy's, also for one from before --engine was there."""
    old = without(stopped["numpy"], tmp_path / "old", "engine")
    config = json.loads((old / "config.json").read_text())
    del config["engine"]
    (old / "config.json").write_text(json.dumps(config))
    for run, engine in ((old, "numpy"), (stopped["native"], "native")):
        assert call(train.main, "--config", run, "--out", tmp_path / engine, "--stop-after", 2) == 0
        assert about(tmp_path / engine)["engine"] == engine
        assert_same_run(run, tmp_path / engine)


def test_place_of():
    """An experiment's flags that are not given are train's defaults."""
    parser = cli.Parser("x")
    cli.add_place(parser, None, said="auto")
    parser.add_argument("--quiet", action="store_true")
    given = cli.place_of(parser.parse_args([]))
    assert given == {"device": "auto", "engine": "auto", "threads": None, "say": cli.tell}
    assert cli.place_of(parser.parse_args(["--quiet", "--engine", "numpy"])) == {**given, "engine": "numpy", "say": None}
