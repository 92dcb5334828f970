"""How the native engine gets its library: which compiler, the cache, and everything that can go wrong, each with a working engine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from app_case import environment
from native_build_case import FEW, GOOD, OUT, REAL, VERSION, cached, install, kind, opened

import kernels
from kernels.cpu.native import build, commands, compiler, library

pytestmark = pytest.mark.skipif(REAL is None, reason="no g++ to stand behind the tests' compilers")


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine of the test's own: no compiler but those that `install` puts there, an empty cache, nothing in the environment."""
    (tmp_path / "bin").mkdir()
    for name in ("CXX", "VAEGAN_NATIVE_LEVEL", "VAEGAN_NATIVE_FLAGS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(compiler.importlib.util, "find_spec", lambda name: None)  # the ziglang package, where it is installed
    monkeypatch.setattr(build, "_opened", {})
    # Two of the sources are enough, and a library of them is built in a second: here, and in the process that tries it.
    monkeypatch.setattr(library, "SOURCES", tuple(path for path in library.SOURCES if path.stem in FEW))
    narrow = f"library.SOURCES = tuple(path for path in library.SOURCES if path.stem in {FEW})\nloaded ="
    monkeypatch.setattr(build, "TRY", build.TRY.replace("loaded =", narrow))
    return tmp_path


def test_compiled_once_and_kept(machine):
    install(machine, VERSION + f'echo "$*" >> {machine}/log\n' + GOOD)
    engine, lines = opened()
    about = engine.describe()
    assert kind(engine) == "native" and about["compiler"] == "g++ (Test) 1.0" and engine.notice == ""
    best = [name for flag, name in (("avx512f", "AVX-512"), ("avx2", "AVX2"), ("asimd", "NEON")) if flag in compiler.processor()[1]]
    assert about["vectors"] == best[0] if best else about["vectors"], "all that the processor has"
    assert lines == ["compiling the CPU kernels for this machine (once, about 5 s)"]
    log = (machine / "log").read_text()
    assert "-std=c++17 -O3" in log and log.count("-shared") == 1
    files = cached(machine)
    assert len(files) == 1 and files[0].suffix == ".so", "nothing but the library is left"
    again, lines = opened()
    assert kind(again) == "native" and lines == [] and (machine / "log").read_text() == log and cached(machine) == files


@pytest.mark.parametrize("change", ["flags", "level", "compiler", "processor", "sources"])
def test_the_key(machine, monkeypatch, change, tmp_path):
    """Whatever the library depends on makes another one; that of another machine is not even opened."""
    install(machine, VERSION + GOOD)
    opened()
    first = set(cached(machine))
    if change == "flags":
        monkeypatch.setenv("VAEGAN_NATIVE_FLAGS", "-DNOTHING=1 -g0")
    elif change == "level":
        monkeypatch.setenv("VAEGAN_NATIVE_LEVEL", "baseline")
    elif change == "compiler":
        install(machine, VERSION.replace("1.0", "2.0") + GOOD)
    elif change == "processor":
        text, flags = compiler.processor()
        monkeypatch.setattr(build, "processor", lambda: (text.replace("\n", " other\n"), flags))
    else:
        shutil.copy(build.library.HEADERS[0], tmp_path / "changed.h")
        (tmp_path / "changed.h").write_text("// changed")
        monkeypatch.setattr(build.library, "HEADERS", (*build.library.HEADERS, tmp_path / "changed.h"))
    engine, lines = opened()
    assert kind(engine) == "native" and len(lines) == 1 and len(set(cached(machine)) - first) == 1
    if change == "level":
        assert engine.describe()["vectors"] in ("SSE2", "NEON")


@pytest.mark.parametrize("damage", ["truncated", "a bit", "empty"])
def test_a_damaged_file_is_replaced(machine, damage):
    """Loading a truncated library can end the process."""
    install(machine, VERSION + GOOD)
    opened()
    (path,) = cached(machine)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()  # this process has the old one mapped
    path.write_bytes({"truncated": content[:5000], "a bit": content, "empty": b""}[damage])
    engine, lines = opened()
    assert kind(engine) == "native" and len(lines) == 1 and len(cached(machine)) == 1


def test_a_file_that_is_whole_and_cannot_be_loaded_is_replaced(machine):
    """As by a system with an older C library that shares the home folder."""
    install(machine, VERSION + GOOD)
    opened()
    (path,) = cached(machine)
    path.unlink()
    content = b"\x7fELF for another system"
    path.with_name(f"{path.stem.split('-')[0]}-{build._digest(content)}.so").write_bytes(content)
    engine, lines = opened()
    assert kind(engine) == "native" and len(lines) == 1 and len(cached(machine)) == 1


def ended(machine):
    """The processes whose numbers a fake compiler wrote down are gone."""
    for number in (machine / "pids").read_text().split():
        stat = Path(f"/proc/{number}/stat")
        for _ in range(100):
            if not stat.exists() or stat.read_text(encoding="utf-8").split()[2] == "Z":
                break
            time.sleep(0.02)
        else:
            return False
    return True


BROKEN = {
    "none": (None, "no C++ compiler found; install g++ for about 2x the speed"),
    "fails": ("echo In file; echo 'a.h:3:1: error: no such word' >&2; echo more; exit 1\n", "c++ failed: a.h:3:1: error: no such word"),
    "is silent": ("exit 3\n", "c++ failed: exit code 3"),
    "is killed": ("kill -9 $$\n", "c++ failed: ended by signal 9"),
    "writes nothing": ("exit 0\n", "c++ failed: it wrote no library"),
    "writes rubbish": (OUT + 'echo rubbish > "$out"\n', "what c++ built does not run here: OSError: "),
    "cannot link": ('case "$*" in *-shared*) echo "ld: error: no room"; exit 1;; esac\n' + GOOD, "c++ failed: ld: error: no room"),
    "other instructions": ('case "$*" in *-shared*) set -- "$@" TRAP;; esac\n' + GOOD, "what c++ built does not run here: ended by signal"),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_compiler_that_does_not_do(machine, how):
    """NumPy, and one line that says why; --engine native is an error in one line."""
    script, reason = BROKEN[how]
    if script is not None:
        (machine / "trap.cpp").write_text("__attribute__((constructor)) static void f() { __builtin_trap(); }")
        install(machine, VERSION + script.replace("TRAP", str(machine / "trap.cpp")))
    engine, _ = opened()
    assert kind(engine) == "numpy" and engine.notice.startswith(reason) and "\n" not in engine.notice
    with pytest.raises(RuntimeError) as caught:
        opened(implementation="native")
    assert str(caught.value).startswith(f"engine native: {reason}") and "\n" not in str(caught.value)
    assert cached(machine) == [] or script is None
    assert kernels.engine("cpu", "float64").notice == "", "nobody wanted it there"


@pytest.mark.parametrize("when", ["it says its version", "it compiles"])
def test_a_compiler_that_hangs(machine, monkeypatch, when):
    hang = f"echo $$ >> {machine}/pids; sleep 50 & echo $! >> {machine}/pids; wait\n"
    install(machine, hang if "version" in when else VERSION + hang)
    monkeypatch.setattr(commands, "PATIENCE", 0.5)
    monkeypatch.setattr(build, "TIMEOUT", 0.5)
    start = time.monotonic()
    engine, _ = opened()
    assert time.monotonic() - start < 10
    assert engine.notice.startswith("no C++ compiler found" if "version" in when else "c++ did not finish in 0.5 s")
    assert ended(machine)


def test_it_is_asked_once_a_process(machine):
    install(machine, VERSION + f"echo x >> {machine}/log; exit 1\n")
    opened()
    count = len((machine / "log").read_text())
    assert kernels.engine("cpu").notice.startswith("c++ failed") and len((machine / "log").read_text()) == count


def test_ctrl_c_ends_the_compiler(machine, monkeypatch):
    install(machine, VERSION + f"echo $$ >> {machine}/pids; exec sleep 50\n")

    def interrupted(seconds):
        if (machine / "pids").exists():
            raise KeyboardInterrupt

    monkeypatch.setattr(commands.time, "sleep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        opened()
    monkeypatch.undo()
    assert ended(machine) and cached(machine) == []


def test_which_compiler(machine, monkeypatch):
    install(machine, "exit 1\n")  # as macOS's c++ without its tools
    install(machine, VERSION.replace("Test", "Second") + GOOD, "g++")
    assert "Second" in opened()[0].describe()["compiler"]
    install(machine, VERSION.replace("c++ (Test)", "Some clang version") + GOOD, "other")
    monkeypatch.setenv("CXX", f"{machine}/bin/other -DOF_CXX")
    assert opened()[0].describe()["compiler"] == "Some clang version 1.0"
    for wrong in ("no-such-compiler", f"{machine}/bin/c++", "'"):
        monkeypatch.setenv("CXX", wrong)
        assert opened()[0].notice.startswith(f"CXX={wrong} does not run"), "what was asked for, or nothing"


def test_ziglang_where_there_is_no_compiler(machine, monkeypatch):
    """The package's own command, and its names for processors."""
    monkeypatch.setattr(compiler.importlib.util, "find_spec", lambda name: name == "ziglang" or None)
    (machine / "ziglang").mkdir()
    code = "import subprocess, sys\nw = sys.argv[2:]\nif '--version' in w: print('clang version 22'); sys.exit()\n"
    code += f"print(*w, file=open({str(machine / 'log')!r}, 'a'))\n"
    code += (
        f"sys.exit(subprocess.call([{REAL!r}, *(x for x in w if not x.startswith('-mcpu'))], env={{'PATH': {os.path.dirname(REAL)!r}}}))"
    )
    (machine / "ziglang" / "__main__.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(machine))
    engine, lines = opened()
    assert kind(engine) == "native" and engine.describe()["compiler"] == "zig, clang version 22" and "zig" in lines[0]
    assert "-mcpu=native" in (machine / "log").read_text() and "-march" not in (machine / "log").read_text()


def test_a_flag_that_the_compiler_refuses_is_left_out(machine):
    refuse = 'case "$*" in *=native*) echo "error: unknown value native" >&2; exit 1;; esac\n'
    install(machine, VERSION + refuse + GOOD)
    engine, _ = opened()
    assert kind(engine) == "native" and engine.describe()["vectors"] in ("SSE2", "NEON")


def test_levels(machine, monkeypatch):
    install(machine, VERSION + GOOD)
    for level, name in (("avx512", "AVX-512"), ("avx2", "AVX2")):
        has = compiler.NEEDS[level] <= compiler.processor()[1]
        monkeypatch.setenv("VAEGAN_NATIVE_LEVEL", level)
        engine, _ = opened()
        assert engine.describe().get("vectors") == (name if has else None)
        with monkeypatch.context() as patch:
            patch.setattr(compiler, "processor", lambda: ("old", frozenset()))
            assert f"VAEGAN_NATIVE_LEVEL={level}: this processor has no" in opened()[0].notice
    monkeypatch.setenv("VAEGAN_NATIVE_LEVEL", "avx3")
    with pytest.raises(ValueError, match="VAEGAN_NATIVE_LEVEL: got 'avx3', expected one of native, avx512, avx2, baseline"):
        opened()


def test_a_cache_that_cannot_be_written(machine, monkeypatch):
    install(machine, VERSION + GOOD)
    (machine / "cache").write_text("a file")
    monkeypatch.setattr(tempfile, "tempdir", str(machine))
    assert kind(opened()[0]) == "native" and list(machine.glob("vaegan-kernels-*/native/*.so"))
    assert opened()[1] == [], "it is found there again"
    for path in machine.glob("vaegan-kernels-*"):
        shutil.rmtree(path)
        path.write_text("a file, too")
    assert "no folder can be written" in opened()[0].notice


def test_a_full_disk(machine, monkeypatch):
    install(machine, VERSION + GOOD)

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(build.os, "replace", full)
    assert "No space left on device" in opened()[0].notice and cached(machine) == []


def test_two_processes_at_once(machine):
    install(machine, VERSION + GOOD)
    narrow = f"from kernels.cpu.native import build, library; library.SOURCES = {library.SOURCES}; build.TRY = {build.TRY!r}; "
    program = f"from pathlib import PosixPath; {narrow}import kernels; print(kernels.engine('cpu').describe()['engine'])"
    started = [subprocess.Popen([sys.executable, "-c", program], env=environment(), stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [process.communicate(timeout=60)[0] for process in started] == ["native\n"] * 3
    assert len(cached(machine)) == 1 and opened()[1] == []


def test_windows_never_tries(machine, monkeypatch):
    install(machine, f"touch {machine}/asked\n")
    monkeypatch.setattr(sys, "platform", "win32")
    engine, lines = opened()
    assert engine.notice == "there is no native engine for Windows" and lines == [] and not (machine / "asked").exists()


def test_a_library_that_computes_wrong_values_is_not_trusted():
    wrong = SimpleNamespace(relu_forward=lambda y, x, n: np.copyto(y, np.where(np.isnan(x), 0, np.maximum(x, 0))))
    with pytest.raises(commands.Unavailable, match="wrong values"):
        build.self_check(wrong)
