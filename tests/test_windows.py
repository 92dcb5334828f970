"""What would be different on Windows, checked on this system: nothing here was run there."""

from __future__ import annotations

import ast
import io
import os
import re
import runpy
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from app_case import one_line
from packaging.requirements import Requirement

from kernels import cache
from vaegan_kernels import evaluate, export, files, pack, regressor, sample, train
from vaegan_kernels.experiments import parallel
from vaegan_kernels.runs.run_folder import RunFolder
from vaegan_kernels.shell.cli import run_main
from vaegan_kernels.shell.interrupt import StopRequest

ROOT = Path(__file__).resolve().parent.parent
FLOORS = ("kernels", "models", "vaegan_kernels", "bench")
#: What Python for Windows lacks (its documentation says "Availability: Unix").
LACKING = {
    "os": {
        "getuid",
        "geteuid",
        "getgid",
        "getpgid",
        "killpg",
        "setsid",
        "fork",
        "sched_getaffinity",
        "statvfs",
        "uname",
        "mkfifo",
        "chown",
    },
    "signal": {"SIGKILL", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGQUIT", "SIGALRM", "pause", "setitimer", "alarm"},
}
MODULES = {"fcntl", "pwd", "grp", "resource", "termios", "tty", "pty", "readline", "syslog"}
#: Behind the refusal of Windows: the native engine's build.
NOT_THERE = {"kernels/cpu/native/commands.py"}


@pytest.fixture
def windows(monkeypatch, tmp_path):  # pytest itself asks for the number to make tmp_path
    """`sys.platform`, and no `os.getuid`."""
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.delattr(os, "getuid")
    return monkeypatch


def extras(system):
    """{extra: names of the packages that it has on a system}."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    given = {name: ast.literal_eval(lines) for name, lines in re.findall(r"^(cuda1\d) = (\[.*?^\])$", text, re.DOTALL | re.MULTILINE)}
    place = {"sys_platform": system}
    needs = {name: [Requirement(line) for line in lines] for name, lines in given.items()}
    return {name: {r.name: r.specifier for r in lines if r.marker is None or r.marker.evaluate(place)} for name, lines in needs.items()}


@pytest.mark.parametrize("extra", ["cuda12", "cuda13"])
def test_the_extras(extra):
    linux, windows, mac = (extras(system)[extra] for system in ("linux", "win32", "darwin"))
    rest = mac.keys()
    nccl = f"nvidia-nccl-cu{extra.removeprefix('cuda')}"  # which is for Linux alone
    assert not {"triton", nccl} & rest and linux.keys() == rest | {"triton", nccl} and windows.keys() == rest | {"triton-windows"}
    for version in ("3.6.0", "3.8.0", "3.9.0"):
        assert version in linux["triton"] and f"{version}.post29" in windows["triton-windows"]
    assert "3.10.0" not in windows["triton-windows"] and any(name.startswith("cupy-cuda") for name in windows)


def test_the_drivers_library(monkeypatch):
    path = ROOT / "kernels" / "cuda" / "device" / "driver.py"
    assert runpy.run_path(str(path))["LIBRARY"] == "libcuda.so.1"
    monkeypatch.setattr(sys, "platform", "win32")
    assert runpy.run_path(str(path))["LIBRARY"] == "nvcuda.dll"


def test_nothing_that_windows_lacks():
    """Names are asked for with hasattr or getattr, modules imported within try."""
    wrong = []
    for path in sorted(p for floor in FLOORS for p in (ROOT / floor).rglob("*.py")):
        name, text = path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
        tree = ast.parse(text)
        guarded = {id(inner) for node in ast.walk(tree) if isinstance(node, ast.Try) for inner in ast.walk(node)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.attr in LACKING.get(node.value.id, ()):
                asked = f'hasattr({node.value.id}, "{node.attr}")' in text
                wrong += [] if asked or name in NOT_THERE else [f"{name}:{node.lineno}: {node.value.id}.{node.attr}"]
            if isinstance(node, ast.Import | ast.ImportFrom) and id(node) not in guarded:
                names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
                wrong += [f"{name}:{node.lineno}: {module}" for module in names if module in MODULES]
    assert not wrong, wrong


# ---- files ----


def test_the_cache_folder(windows, tmp_path):
    """There is no user's number; a folder that cannot be made is replaced by one in the user's own temporary folder."""
    windows.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    windows.setattr(tempfile, "tempdir", str(tmp_path / "temp"))
    assert cache.cache_folder("nvrtc") == tmp_path / "cache" / "vaegan-kernels" / "nvrtc"
    (tmp_path / "file").write_text("in the way")
    windows.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert cache.cache_folder("nvrtc") == tmp_path / "temp" / "vaegan-kernels" / "nvrtc"


@pytest.mark.parametrize(("system", "refusals", "succeeds"), [("win32", 3, True), ("win32", 10**6, False), ("linux", 1, False)])
def test_a_file_that_someone_reads_is_replaced_a_little_later(system, refusals, succeeds, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(cache, "PATIENCE", 0.2)
    left, real = [refusals], os.replace

    def refused(source, target):
        left[0] -= 1
        if left[0] >= 0:
            raise PermissionError(13, "another process has it open")
        real(source, target)

    monkeypatch.setattr(os, "replace", refused)
    (tmp_path / "old").write_text("old")
    (tmp_path / "new").write_text("new")
    if succeeds:
        cache.replace(tmp_path / "new", tmp_path / "old")
    else:
        with pytest.raises(PermissionError):
            cache.replace(tmp_path / "new", tmp_path / "old")
    assert (tmp_path / "old").read_text() == ("new" if succeeds else "old")
    assert system == "win32" or left[0] == 0


@pytest.mark.parametrize("name, refused", [
    ("CON", True), ("runs\\nul\\one", True), ("com1.png", True), ("Aux .h5", True), ("run.", True), ("run ", True), ("ab:c.png", True),
    ("what?.png", True), ("C:\\runs\\one", False), ("..\\runs\\console", False), (".\\a.b.png", False), ("\\\\server\\share\\com10", False),
])  # fmt: skip
def test_names_that_windows_keeps(windows, tmp_path, name, refused):
    assert bool(files.refused_name(name)) == refused
    windows.setattr(sys, "platform", "linux")
    assert files.refused_name(name) == ""


def test_a_name_that_windows_keeps_is_refused_by_every_command(windows, tmp_path, capsys):
    windows.chdir(tmp_path)
    for main, words in (
        (train.main, "--out con --steps 1"), (pack.main, "faces aux.h5 --limit 20"), (sample.main, "faces --out prn.png"),
        (regressor.main, "--out con.h5"), (export.main, "faces --out nul"), (evaluate.main, "faces --out com1.json"),
    ):  # fmt: skip
        assert run_main(lambda main=main, words=words: main(words.split())) == 2
        assert "Windows keeps the name" in one_line(capsys.readouterr().err)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path, word", [
    ("C:\\runs\\one", "C:\\runs\\one"), ("C:\\my runs\\one", '"C:\\my runs\\one"'), ("a&b", '"a&b"'), ("\xf6l", "\xf6l"),
])  # fmt: skip
def test_paths_in_hints(windows, path, word):
    assert files.quoted(path) == word


def test_a_run_is_held_without_locks(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with RunFolder(tmp_path / "run").held():
        assert (tmp_path / "run").is_dir()


# ---- signals and processes ----


def test_ctrl_break_stops_a_run(monkeypatch):
    """The signal that a process group gets; its number here is another's."""
    monkeypatch.setattr(signal, "SIGBREAK", signal.SIGUSR1, raising=False)
    before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    with StopRequest(SimpleNamespace(note=lambda text: None)) as request:
        signal.raise_signal(signal.SIGUSR1)
        assert request.signal == signal.SIGUSR1
    assert signal.signal(signal.SIGUSR1, before) == signal.SIG_IGN


def test_jobs_are_groups_that_get_ctrl_break(monkeypatch, tmp_path):
    started, sent = [], []
    monkeypatch.setattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0x200, raising=False)
    monkeypatch.setattr(signal, "CTRL_BREAK_EVENT", 1, raising=False)
    monkeypatch.setattr(subprocess, "Popen", lambda *words, **how: started.append(how) or SimpleNamespace(send_signal=sent.append))
    monkeypatch.setattr(parallel, "run_arguments", lambda *_: [])
    monkeypatch.setattr(parallel, "run_state", lambda *_: None)
    pool = parallel.Pool.__new__(parallel.Pool)
    job = parallel.Job(tmp_path / "runs" / "one", "vaegan", 0, ())
    pool.running = {job: pool.launch(job)}
    pool.stop()
    assert started[0]["creationflags"] == 0x200 and sent == [1]


def test_letters_that_a_file_does_not_have(monkeypatch):
    """Output of a command into a file is in the system's old code page, which has no Greek."""
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="cp1252"))
    assert run_main(lambda: print("z = \N{GREEK SMALL LETTER MU}, caf\xe9")) == 0
    assert raw.getvalue().split() == [b"z", b"=", b"?,", "caf\xe9".encode("cp1252")]


# ---- a whole run ----

RUN = """
import sys
# The system's own, as they are:
import concurrent.futures.process, concurrent.futures.thread, ctypes, multiprocessing.connection, subprocess, tempfile
import h5py, matplotlib.pyplot, numpy, PIL.Image, rich.console, rich.progress, threadpoolctl
import os, signal

sys.platform = "win32"
for name in ("getuid", "killpg", "sched_getaffinity", "setsid"):
    delattr(os, name)
del signal.SIGKILL, signal.SIGUSR1
sys.modules["fcntl"] = sys.modules["resource"] = None
from vaegan_kernels import reconstruct, sample, train

if __name__ == "__main__":
    for main, words in ((train.main, sys.argv[1].split()), (train.main, sys.argv[2].split()), (sample.main, sys.argv[3].split())):
        assert main(words) == 0
"""


def test_a_run(tmp_path):
    """Begun, resumed and sampled from on the NumPy engine, where nothing of POSIX can be had."""
    (script := tmp_path / "run.py").write_text(RUN)
    words = (
        "--steps 3 --stop-after 2 --batch-size 4 --limit 40 --threads 1 --network small32 --out run",
        "--resume run --threads 1",
        "run --count 4 --out samples.png --threads 1",
    )
    clean = {name: value for name, value in os.environ.items() if name != "XDG_CACHE_HOME"}
    clean |= {"PYTHONPATH": str(ROOT), "HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, str(script), *words], cwd=tmp_path, env=clean, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    assert "there is no native engine for Windows" in done.stdout
    assert (tmp_path / "samples.png").is_file() and (tmp_path / "run" / "summary.json").is_file()
