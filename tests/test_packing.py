"""Packing: several sources in one file, a kill at any moment, memory, errors on the way; the same file as without any of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import h5py
import numpy as np
import pytest
from app_case import call, environment, one_line
from packing_case import COUNT, Killed, flush_often, kill_at, packed, write_pictures
from PIL import Image

from vaegan_kernels import pack
from vaegan_kernels.data import Dataset, checked, load_dataset, packing, read_packed, write_packed
from vaegan_kernels.data.parallel import map_chunks
from vaegan_kernels.data.source import plan_of
from vaegan_kernels.shell.errors import UserError


@pytest.fixture
def pictures(tmp_path):
    return write_pictures(tmp_path / "pictures", broken=(0, 7, 8, 39))


@pytest.fixture
def often(monkeypatch):
    flush_often(monkeypatch)


def test_killed_at_any_moment_it_goes_on_to_the_same_bytes(pictures, tmp_path, often, monkeypatch, capsys):
    words = (pictures, tmp_path / "out.h5", "--image-size", "16")
    with monkeypatch.context() as patch:
        calls = kill_at(patch, 0)
        assert call(pack.main, *words) == 0
    whole = (tmp_path / "out.h5").read_bytes()
    assert len(calls) > 20
    again, write = [], packing.Packing._write
    for moment in (*range(1, len(calls) + 1), *range(-len(calls), 0)):
        (tmp_path / "out.h5").unlink()
        with monkeypatch.context() as patch, pytest.raises(Killed):
            kill_at(patch, moment)
            pack.main([str(word) for word in words])
        decoded = []
        with monkeypatch.context() as patch:
            patch.setattr(packing.Packing, "_write", lambda self, file, chunk, to=decoded: to.append(chunk) or write(self, file, chunk))
            assert call(pack.main, *words) == 0
        assert (tmp_path / "out.h5").read_bytes() == whole, moment
        assert sorted(path.name for path in tmp_path.iterdir()) == ["out.h5", "pictures"], moment
        again.append(len(decoded))
    assert "going on after" in capsys.readouterr().out
    assert min(again) == 0 and max(again) == 10 and len(set(again)) > 8, "what was done is not done again"


def test_sigkill(pictures, tmp_path):
    program = (
        "import sys\nfrom vaegan_kernels import pack\nfrom vaegan_kernels.data import packing, plan\nfrom vaegan_kernels.shell import cli\n"
        "plan.CHUNK, packing.FLUSH_SECONDS = 2, 0\nsys.exit(cli.run_main(pack.main))"
    )
    words = [sys.executable, "-c", program, str(pictures), str(tmp_path / "out.h5"), "--image-size", "64"]
    log, kills = tmp_path / ".out.h5.part.log", 0
    for _ in range(10):
        before = log.stat().st_size if log.exists() else 0
        process = subprocess.Popen(words, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while process.poll() is None and kills < 3 and (not log.exists() or log.stat().st_size <= before + 100):
            time.sleep(0.001)
        kills += kills < 3 and process.poll() is None
        process.kill()
        if process.wait() == 0:
            break
        assert process.returncode == -signal.SIGKILL
    call(pack.main, pictures, tmp_path / "whole.h5", "--image-size", "64")
    call(pack.main, pictures, tmp_path / "out.h5", "--image-size", "64")  # the last process may have been killed too
    assert kills and (tmp_path / "out.h5").read_bytes() == (tmp_path / "whole.h5").read_bytes()


def test_a_part_of_other_pictures_is_not_gone_on_with(pictures, tmp_path, often, monkeypatch, capsys):
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, 9)
        pack.main([str(pictures), str(tmp_path / "out.h5"), "--image-size", "16"])
    Image.new("RGB", (9, 9)).save(pictures / "new.png")
    assert call(pack.main, pictures, tmp_path / "out.h5", "--image-size", "16") == 0
    assert "going on" not in capsys.readouterr().out and len(read_packed(tmp_path / "out.h5")) == COUNT - 3


def test_an_older_file_is_not_taken_for_what_a_killed_call_made(pictures, tmp_path, often, monkeypatch, capsys):
    """Its part was deleted by hand, its log was not."""
    packed(tmp_path / "out.h5", ())
    words = (pictures, tmp_path / "out.h5", "--image-size", "16", "--overwrite")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(packing, "finish", lambda *a: (_ for _ in ()).throw(Killed))
        patch.setattr(packing.Packing, "_leave", lambda self, error: None)
        pack.main([str(word) for word in words])
    (tmp_path / ".out.h5.part").unlink()
    assert call(pack.main, *words[:-1]) == 2
    assert "exists already" in capsys.readouterr().err and len(read_packed(tmp_path / "out.h5")) == 5
    assert call(pack.main, *words) == 0 and len(read_packed(tmp_path / "out.h5")) == COUNT - 4


@pytest.mark.parametrize(
    "log",
    [
        b"",
        b"{",
        b"[]\n",
        b'{"key": 3}\n',
        b'{"done": 9, "lost": []}\n{"done": 9}\n',
        b"\xff\n\xff\n",
        b'{"key": 3}\n{"done": "x", "lost": [null]}\n',
    ],
)
def test_a_damaged_log_is_none(pictures, tmp_path, log):
    (tmp_path / ".out.h5.part.log").write_bytes(log)
    (tmp_path / ".out.h5.part").write_bytes(b"something" * 1000)
    assert call(pack.main, pictures, tmp_path / "out.h5", "--image-size", "16") == 0
    assert len(read_packed(tmp_path / "out.h5")) == COUNT - 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.h5", "pictures"]


def test_ctrl_c_keeps_what_is_done_and_says_so(pictures, tmp_path, often, monkeypatch, capsys):
    own = packing.Packing._flush
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored in the background of a shell
    with monkeypatch.context() as patch:
        patch.setattr(packing.Packing, "_flush", lambda self, file, **more: own(self, file, **more) or signal.raise_signal(signal.SIGINT))
        assert call(pack.main, pictures, tmp_path / "out.h5", "--image-size", "16") == 130
    signal.signal(signal.SIGINT, before)
    assert "the same command goes on there" in capsys.readouterr().err
    assert call(pack.main, pictures, tmp_path / "out.h5", "--image-size", "16") == 0
    assert "going on after 4 of 40" in capsys.readouterr().out


def test_a_full_disk_is_one_line_and_what_is_done_is_kept(pictures, tmp_path, often, monkeypatch, capsys):
    own, calls = packing.Packing._write, []

    def write(self, file, chunk):
        calls.append(chunk)
        if len(calls) == 4:
            raise OSError(28, "No space left on device")
        own(self, file, chunk)

    with monkeypatch.context() as patch:
        patch.setattr(packing.Packing, "_write", write)
        assert call(pack.main, pictures, tmp_path / "out.h5", "--image-size", "16") == 2
    line = one_line("\n".join(text for text in capsys.readouterr().err.splitlines() if not text.startswith("decoding")))
    assert "the disk is full; what is done is kept" in line
    assert call(pack.main, pictures, tmp_path / "out.h5", "--image-size", "16") == 0
    assert "going on after 12 of 40" in capsys.readouterr().out


@pytest.mark.skipif(sys.platform == "win32", reason="no locks")
def test_two_at_once(pictures, tmp_path, capsys):
    with open(tmp_path / ".out.h5.part", "wb") as file:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX)
        assert call(pack.main, pictures, tmp_path / "out.h5") == 2
    assert "another process is packing it" in capsys.readouterr().err
    assert (tmp_path / ".out.h5.part").exists()


def test_the_file_is_that_of_the_data_in_memory(pictures, tmp_path):
    """Also where places do not rise, as in archives, and for a limit."""
    for limit in (None, 11):
        whole = load_dataset(pictures, image_size=16, channels=3, limit=limit, cache_dir=False)
        write_packed(tmp_path / "memory.h5", whole)
        words = ["--limit", limit] if limit else []
        assert call(pack.main, pictures, tmp_path / "out.h5", "--image-size", "16", "--overwrite", *words) == 0
        assert (tmp_path / "out.h5").read_bytes() == (tmp_path / "memory.h5").read_bytes()


def test_verify_reads_what_is_trusted(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("VAEGAN_KERNELS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(checked, "SMALL", 0)
    path = tmp_path / "a.h5"
    packed(path, ())
    assert call(pack.main, "--verify", path) == 0
    assert "a.h5: whole, 5 images" in capsys.readouterr().out
    with h5py.File(path) as file:
        fingerprint, place = file.attrs["fingerprint"], file["images"].id.get_offset()
    with open(path, "rb+") as file:
        file.seek(place + 1000)
        file.write(b"other bytes")
    checked.remember(path, checked.facts(path, fingerprint))  # as where a disk has changed them: the note still fits
    read_packed(path)
    assert call(pack.main, "--verify", path) == 2
    assert "do not match its fingerprint" in capsys.readouterr().err


# ---- memory ----


def echo(numbers):
    time.sleep(0.2 if numbers[0] == 0 else 0)
    return list(numbers)


def test_processes_do_not_run_ahead_of_a_slow_one():
    """Nor of a slow reader of what they do: what waits for its turn would have no bound."""
    sent = []

    class Watched:
        def __len__(self):
            return 3000

        def __getitem__(self, cut):
            sent.append(cut.start)
            return list(range(*cut.indices(3000)))

    results, most = map_chunks(echo, Watched(), workers=2, chunk=10), 0
    for done, chunk in enumerate(results):
        assert chunk[0] == 10 * done
        most = max(most, max(sent) // 10 - done)
        if done == 50:
            time.sleep(0.3)
    assert done == 299 and most <= 4 * 2 + 3


LIMITED = """
import resource, sys
import numpy as np
resource.setrlimit(resource.RLIMIT_DATA, ({limit}, {limit}))
from vaegan_kernels import pack
from vaegan_kernels.shell import cli
sys.exit(cli.run_main(pack.main))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts a process's own memory alone")
def test_memory_has_a_bound(tmp_path, monkeypatch):
    """440 MB of images from a folder and a packed file are packed within 200 MB."""
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    folder, limit = tmp_path / "one", 200_000_000
    folder.mkdir()
    Image.new("RGB", (64, 64), (90, 60, 30)).save(folder / "0.png")
    for i in range(1, 70):
        os.link(folder / "0.png", folder / f"{i}.png")
    write_packed(tmp_path / "large.h5", Dataset("large", np.zeros((70, 1024, 1024, 3), np.uint8), np.zeros(70, np.uint8)))
    words = [folder, tmp_path / "large.h5", tmp_path / "out.h5", "--image-size", "1024", "--workers", "1"]
    command = [sys.executable, "-c", LIMITED.format(limit=limit), *map(str, words)]
    result = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "out.h5").stat().st_size > 2.1 * limit


def test_plans_refuse_other_sizes(tmp_path):
    packed(tmp_path / "a.h5", ())
    with pytest.raises(UserError, match="holds images of 16 pixels, 32 are needed"):
        plan_of(tmp_path / "a.h5", image_size=32, channels=3)
