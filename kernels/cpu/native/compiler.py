"""The C++ compiler of this machine, and what it is asked for on this processor."""

from __future__ import annotations

import functools
import importlib.util
import os
import platform
import re
import shlex
import shutil
import sys
from typing import NamedTuple

from kernels.cpu.native.commands import Unavailable, output

FLAGS = (
    "-std=c++17", "-O3", "-fPIC", "-pthread", "-fvisibility=hidden", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast",
)  # fmt: skip
#: What of x86's vectors may be used: all that this processor has, or no more than a name says. Elsewhere "avx…" cannot be had.
LEVELS = {
    "native": ("-march=native",),
    "avx512": ("-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mavx2", "-mfma"),
    "avx2": ("-mavx2", "-mfma"),
    "baseline": (),
}
NEEDS = {level: {flag.removeprefix("-m") for flag in LEVELS[level]} for level in ("avx512", "avx2")}
ZIG = {"native": "native", "avx512": "x86_64_v4", "avx2": "x86_64_v3", "baseline": "baseline"}  # its own names; it has no -mavx2
WIDE = "-mprefer-vector-width=512"  # compilers take 256 bits where they are not told


class Compiler(NamedTuple):
    """A compiler that answered: its command and all that it said of its version."""

    command: tuple[str, ...]
    version: str

    @property
    def zig(self) -> bool:
        return "ziglang" in self.command

    @property
    def name(self) -> str:
        """The command as a person would call it."""
        return "zig" if self.zig else os.path.basename(self.command[0])

    @property
    def title(self) -> str:
        """``"g++ (Debian 12.2.0-14) 12.2.0"``: GCC calls itself by the name that it was called by, c++ or another."""
        line = re.sub(r"^\S+(?= \()", "g++", self.version.splitlines()[0].strip())
        return f"zig, {line}" if self.zig else line


def find_compiler() -> Compiler:
    """``$CXX`` if it is set, else the first of c++, g++, clang++ and the ziglang package that answers. Raises `Unavailable`."""
    if chosen := os.environ.get("CXX"):
        found = _ask(words(chosen))
        if found is None:
            raise Unavailable(f"CXX={chosen} does not run; set it to a C++ compiler, or not at all")
        return found
    for name in ("c++", "g++", "clang++"):
        path = shutil.which(name)
        if path and not _stands_in(path) and (found := _ask((path,))):
            return found
    if importlib.util.find_spec("ziglang") and (found := _ask((sys.executable, "-m", "ziglang", "c++"))):
        return found
    install = "run xcode-select --install" if sys.platform == "darwin" else "install g++"
    raise Unavailable(f"no C++ compiler found; {install} for about 2x the speed")


def words(text: str) -> tuple[str, ...]:
    """The words of a variable as a shell would read them; one word where it would refuse."""
    try:
        return tuple(shlex.split(text))
    except ValueError:
        return (text,)


def _stands_in(path: str) -> bool:
    """macOS without its tools has programs that open a window which offers them."""
    return sys.platform == "darwin" and path.startswith("/usr/bin/") and output("xcode-select", "-p") is None


def _ask(command: tuple[str, ...]) -> Compiler | None:
    said = output(*command, "--version") if command else None
    return Compiler(command, said) if said else None


@functools.cache
def processor() -> tuple[str, frozenset[str]]:
    """(all that tells this processor's instructions from another's, the names of its extensions in small letters)."""
    text = platform.machine()
    if sys.platform == "darwin":
        for name in ("machdep.cpu.brand_string", "machdep.cpu.features", "machdep.cpu.leaf7_features"):
            text += f"\n{name}: {output('sysctl', '-n', name) or ''}"
    else:
        wanted = r"^(vendor_id|cpu family|model|model name|stepping|flags|Features|CPU \w+)\s*:.*$"
        try:
            with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
                first = file.read().split("\n\n")[0]
        except OSError:
            first = f"model: {platform.processor()}"
        text += "\n" + "\n".join(match[0] for match in re.finditer(wanted, first, re.MULTILINE))
    return text, frozenset(text.lower().split())


def flags_of(compiler: Compiler, level: str) -> list[tuple[str, ...]]:
    """The flags of ``level``, best first: a compiler that refuses some is asked for the next.

    Raises:
        Unavailable: this processor has not what the level names.
    """
    if missing := NEEDS.get(level, set()) - processor()[1]:
        raise Unavailable(f"VAEGAN_NATIVE_LEVEL={level}: this processor has no {', '.join(sorted(missing))}")
    if compiler.zig:
        flags: tuple[str, ...] = (f"-mcpu={ZIG[level]}",)
    elif level == "native" and platform.machine() not in ("x86_64", "AMD64"):
        flags = ("-mcpu=native",)
    else:
        flags = LEVELS[level]
    wide = (*flags, WIDE) if level in ("native", "avx512") and "avx512f" in processor()[1] and not compiler.zig else flags
    return list(dict.fromkeys((wide, flags, () if level == "native" else flags)))


def vectors(width: int) -> str:
    """The name of vectors of ``width`` floats here: "AVX-512", "AVX2", "SSE2", "NEON"."""
    if width == 16:
        return "AVX-512"
    if width == 8:
        return "AVX2" if "avx2" in processor()[1] else "AVX"
    return {"x86_64": "SSE2", "AMD64": "SSE2", "aarch64": "NEON", "arm64": "NEON"}.get(platform.machine(), f"{4 * width}-byte vectors")
