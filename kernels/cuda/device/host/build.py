"""CUDA C files as host libraries: built by g++ with the emulation, cached by content."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kernels.cache import cache_folder
from kernels.cuda.device.source import kernels_of, source_of

HERE = Path(__file__).resolve().parent
FLAGS = (
    "-std=c++17", "-O1", "-fPIC", "-w", "-fno-strict-aliasing", "-ffp-contract=off", "-fno-exceptions",
    "-fsanitize=bounds,alignment",
    "-fdata-sections",
)  # fmt: skip
# Without -fsanitize: the header has the handlers, and no run-time library is needed. Symbolic: a kernel may have the name of
# a function that the process already has.
LINKING = ("-shared", "-Wl,-z,defs", "-Wl,-Bsymbolic")
# GCC before 14 forgets the section of a template's variables: the linker puts the kernels' uninitialised ones of functions, which are the
# shared ones, where the others are. Kernels have internal linkage, so that these variables have, also where a kernel's lambda is the
# template's argument.
SCRIPT = """SECTIONS { emulated_shared : {
    __start_emulated_shared = .; *(emulated_shared) *(.bss._ZZN12_GLOBAL__N_1*) __stop_emulated_shared = .;
} } INSERT AFTER .data;"""
DYNAMIC = re.compile(r"extern\s+__shared__\s+(?:(?:__align__|alignas)\s*\(\s*\d+\s*\)\s*)?([\w\s:]+?)\s+(\w+)\s*\[\s*\]\s*;")
KERNEL = re.compile(r'extern\s+"C"\s+__global__')
ACQUIRE = re.compile(r"\*\(const volatile u32\*\)(\w+)")  # how `acquire` of common.cuh reads, without a GPU


@functools.cache
def function(file: str, name: str, defines: tuple[str, ...]) -> tuple[Callable[..., bytes | None], list[str]]:
    """A kernel of ``file`` as a host function, and its parameters' types ("*f4", "i4").

    The function takes (void*[arguments], unsigned[6] grid and block, shared bytes, seed, uint64[n][2] address and bytes of the memory in
    which blocks meet, n, how many blocks run at a time at most) and returns an error text or None.

    Raises:
        RuntimeError: no compiler, a compile error, or no such kernel in the file.
    """
    library = _library(file, defines)
    try:
        run, describe = library[f"run_{name}"], library[f"describe_{name}"]
    except AttributeError:
        raise RuntimeError(f'{file}: has no extern "C" __global__ void {name}') from None
    run.restype = ctypes.c_char_p
    run.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint64, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint]
    described = ctypes.create_string_buffer(4096)
    describe(described)
    return run, described.value.decode().split(",")[:-1]


@functools.cache
def _library(file: str, defines: tuple[str, ...]) -> Any:
    text = source_of(file)
    glue = 'template <> struct emulation::Code<bf16> { static constexpr const char* text = "V2"; };\n' + "".join(
        f'extern "C" const char* run_{name}(void** values, const unsigned* extents, unsigned shared, uint64_t seed, '
        "const uint64_t* arrays, unsigned n, unsigned most) { "
        f"return emulation::launch([](void* v) {{ emulation::call({name}, (void**)v); }}, "
        "values, extents, shared, seed, arrays, n, most); }\n"
        f'extern "C" void describe_{name}(char* out) {{ emulation::describe_all({name}, out); }}\n'
        for name in kernels_of(text)
    )
    text = KERNEL.sub("static __global__", text)
    text = DYNAMIC.sub(r"\1* const \2 = (\1*)emulation::dynamic_shared;", text)
    text = ACQUIRE.sub(r"emulation::acquire(\1)", text)
    text = f'#include "emulation.h"\nnamespace {{\n{text}\n}}\n{glue}'
    headers = b"".join(path.read_bytes() for path in sorted(HERE.glob("*.h")))
    compiler = os.environ.get("CXX") or "g++"
    key = hashlib.sha256(repr((text, headers, defines, FLAGS, LINKING, SCRIPT, compiler)).encode()).hexdigest()[:24]
    path = cache_folder("host") / f"{Path(file).stem}-{key}.so"
    if not path.exists():
        _build(compiler, file, text, defines, path)
    return ctypes.CDLL(str(path))


def _build(compiler: str, file: str, text: str, defines: tuple[str, ...], path: Path) -> None:
    if shutil.which(compiler) is None:
        raise RuntimeError(f"{file}: the host device compiles CUDA C with {compiler}, which is not installed")
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        source, unit, built, script = (str(Path(folder) / name) for name in ("kernel.cpp", "kernel.o", "kernel.so", "shared.ld"))
        Path(script).write_text(SCRIPT, encoding="utf-8")
        Path(source).write_text(text, encoding="utf-8")
        for command in (
            [compiler, *FLAGS, *(f"-D{d}" for d in defines), f"-I{HERE}", "-c", source, "-o", unit],
            [compiler, *LINKING, f"-Wl,-T,{script}", unit, "-o", built],
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                lines = done.stderr.splitlines()
                errors = [line for line in lines if "error" in line or "undefined reference" in line] or lines
                raise RuntimeError(f"{file}: {compiler}: {'; '.join(errors[:5])}")
        os.replace(built, path)  # atomically: another process may build the same
