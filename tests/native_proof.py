"""Proofs of the native engine that Python's own tests cannot give: its pool of threads and every operation under sanitizers, at each
vector width, by another compiler, and on AArch64 (emulated).

    python tests/native_proof.py [--all] [WORD]

The cases of kernel_cases.py are run once and their calls recorded (native_record.py); tests/native/replay.cpp makes them again in each
build. One line each, 1 on a failure. With a WORD only proofs with that in their names. What needs a tool that is missing is left out and
named; with --all that is a failure.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from kernel_cases import cases
from kernel_shapes import ODD
from native_compile import compile_native, shared_library
from native_record import Recorder, replayed, write_declarations

from kernels.cpu.native import library
from kernels.cpu.native.engine import NativeEngine

NATIVE = Path(__file__).resolve().parent / "native"
SHAPES = ODD._replace(vectors=[*ODD.vectors, (3, 41, 401)])  # and one of several pieces
THREADS = "3"
ASAN = {"ASAN_OPTIONS": "detect_leaks=0:abort_on_error=0", "UBSAN_OPTIONS": "print_stacktrace=1"}
TSAN = {"TSAN_OPTIONS": "halt_on_error=1"}
PACKAGES = {"clang++": "clang", "aarch64-linux-gnu-g++": "g++-aarch64-linux-gnu", "qemu-aarch64": "qemu-user"}  # Debian's, by program


class Proof(NamedTuple):
    """A program built in one way and run."""

    name: str
    flags: tuple[str, ...]
    program: str = "replay"
    compiler: str = "g++"
    emulator: str = ""
    environment: dict[str, str] = {}
    arguments: tuple[str, ...] = ()
    needs: str = ""  # a flag of /proc/cpuinfo


BOTH = ("-O1", "-g", "-march=native", "-fno-omit-frame-pointer", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined")
PROOFS = (
    Proof("pool, forked", ("-O2", "-march=native"), "pool_stress", arguments=("10000", "20")),
    Proof("pool, ThreadSanitizer", ("-O1", "-g", "-fsanitize=thread"), "pool_stress", environment=TSAN, arguments=("5000", "0")),
    Proof("pool, AArch64", ("-O2", "-static"), "pool_stress", "aarch64-linux-gnu-g++", "qemu-aarch64", arguments=("300", "0")),
    Proof("operations, ThreadSanitizer", ("-O1", "-g", "-march=native", "-fsanitize=thread"), environment=TSAN),
    Proof("operations, AddressSanitizer and UBSan", BOTH, environment=ASAN),
    Proof("operations, width 4", ("-O3",)),
    Proof("operations, width 4, AddressSanitizer and UBSan", tuple(f for f in BOTH if f != "-march=native"), environment=ASAN),
    Proof("operations, width 8", ("-O3", "-march=haswell"), needs="avx2"),
    Proof("operations, width 16", ("-O3", "-march=skylake-avx512"), needs="avx512vl"),
    Proof("operations, clang", ("-O3", "-march=native"), compiler="clang++"),
    Proof("operations, AArch64", ("-O2", "-static"), compiler="aarch64-linux-gnu-g++", emulator="qemu-aarch64"),
)


def missing(proof: Proof) -> str:
    """What this machine lacks for a proof, and the package that has it; empty if nothing."""
    for program in filter(None, (proof.compiler, proof.emulator)):
        if not shutil.which(program):
            return f"no {program} (Debian: apt-get install {PACKAGES.get(program, program)})"
    return ""


def prove(proof: Proof, folder: Path) -> tuple[bool, str]:
    """Build and run: whether it is right, and a line (of a failure, all that was said)."""
    start = time.monotonic()
    program = folder / proof.name.replace(" ", "_").replace(",", "")
    parts = library.SOURCES if proof.program == "replay" else [library.HERE / "pool.cpp"]
    try:
        compile_native(program, [*parts, NATIVE / f"{proof.program}.cpp"], f"-I{folder}", *proof.flags, command=proof.compiler)
        built = time.monotonic()
        arguments = proof.arguments or (str(folder / "calls"), THREADS)
        command = [*filter(None, [proof.emulator]), str(program), *arguments]
        done = run(command, proof.environment)
        if "unexpected memory mapping" in done.stderr:  # ThreadSanitizer of g++ 12 where addresses are very random
            done = run(["setarch", "-R", *command], proof.environment)
    except (RuntimeError, OSError, subprocess.SubprocessError) as error:
        return False, str(error)
    if done.returncode or not done.stdout.strip():
        return False, f"exit status {done.returncode}\n{done.stdout}{done.stderr}"
    return True, f"{done.stdout.strip()} ({built - start:.0f} s to build, {time.monotonic() - built:.0f} s)"


def run(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, errors="replace", timeout=600, check=False, env={**os.environ, **environment}
    )


def record(folder: Path) -> tuple[bool, str]:
    """Write the calls of all cases, and the declarations, into ``folder``."""
    recorder = Recorder(library.load(shared_library(folder / "native.so")))
    engine = NativeEngine(recorder, 2)
    count = recorder.record(engine, cases(SHAPES))
    recorder.write(folder / "calls")
    write_declarations(folder / "exported.inc")
    unused = replayed() - recorder.names
    if unused:
        return False, f"no case calls {', '.join(sorted(unused))}"
    return True, f"{len(recorder.calls)} calls of {len(recorder.names)} functions in {count} cases"


def main() -> int:
    demanding = "--all" in sys.argv[1:]
    words = [word for word in sys.argv[1:] if word != "--all"]
    if sys.platform != "linux":
        print("tests/native_proof.py: runs on Linux only")
        return 1
    features = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    good = True

    def say(name: str, right: bool, text: str) -> None:
        nonlocal good
        good &= right
        print(f"{name}: {'' if right else 'FAILED: '}{text}", flush=True)

    with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor(os.cpu_count()) as threads:
        folder = Path(temporary)
        try:
            say("recorded", *record(folder))
        except RuntimeError as error:
            print(f"recorded: FAILED: {error}")
            return 1
        started = []
        for proof in PROOFS:
            if not all(word in proof.name for word in words):
                continue
            if lacking := missing(proof):
                say(proof.name, not demanding, f"{'' if demanding else 'left out: '}{lacking}")
            elif proof.needs and proof.needs not in features:
                say(proof.name, True, f"left out: this processor has no {proof.needs}")
            else:
                started.append((proof, threads.submit(prove, proof, folder)))
        for proof, future in started:
            say(proof.name, *future.result())
        if not started:
            say("nothing was run", False, f"no proof of that name: {' '.join(words)}" if words else "its tools are missing")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
