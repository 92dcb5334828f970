"""From a recorded launch to GPU code, with no GPU needed: Triton functions and CUDA C files.

Triton has its own cache of compiled code (``TRITON_CACHE_DIR``); code of CUDA C files is cached in ours.
"""

from __future__ import annotations

import functools
import hashlib
import re
import struct
from pathlib import Path
from typing import Any, NamedTuple

from kernels.cache import cache_folder, write_atomically
from kernels.cuda.device.base import Launch
from kernels.cuda.device.chips import Chip
from kernels.cuda.device.source import kernels_of, source_of, waits_first
from kernels.engine import CompilationError

#: Bytes of a parameter by its type in a signature; pointers are 8.
SIZES = {"u1": 1, "i8": 1, "u8": 1, "i16": 2, "u16": 2, "i32": 4, "u32": 4, "i64": 8, "u64": 8, "fp32": 4, "fp64": 8}
DESCRIPTOR = re.compile(r"tensordesc<\w+\[([\d, ]+)\]")
PARAMETER = re.compile(r"\.param\s+(?:\.align\s+\d+\s+)?\.[a-z](\d+)[^,)\[]*(?:\[(\d+)\])?")


class Code(NamedTuple):
    """What a driver loads, and what a launch must know of it.

    ``image`` is a cubin, or PTX text where NVRTC is older than the chip. Of Triton functions also: ``warps`` and ``shared`` (bytes) that a
    launch must ask for, and for each descriptor argument what its tensor map is made from (Triton's metadata). ``waits``: its first
    statement waits for the launch before (`after_previous_launch`).
    """

    image: bytes
    name: str
    warps: int = 0
    shared: int = 0
    descriptors: tuple[dict[str, Any], ...] = ()
    waits: bool = False


def key_of(launch: Launch) -> tuple[Any, ...]:
    """What distinguishes the code of two launches; grid, arrays and costs do not."""
    if launch.kind == "cuda":
        return launch.kind, launch.source, launch.name, launch.defines
    constants = tuple((name, str(value)) for name, value in launch.constexprs.items())
    where = (launch.source.fn.__module__, launch.name)
    return launch.kind, *where, launch.warps, launch.stages, tuple(launch.signature.items()), constants, launch.aligned


class NotCached(Exception):
    """No cache has the code."""


def compile_launch(launch: Launch, chip: Chip, *, cached: bool = False) -> Code:
    """The code of a launch for ``chip``.

    Raises:
        CompilationError: it does not compile, or needs what the chip does not have; the message names the kernel.
        NotCached: with ``cached``, where it would have to be compiled.
    """
    try:
        if launch.kind == "triton":
            return compile_triton(launch, chip, cached=cached)
        return compile_cuda(launch.source, launch.name, launch.defines, chip, cached=cached)
    except RuntimeError as error:
        raise CompilationError(str(error)) from error


def compile_triton(launch: Launch, chip: Chip, *, cached: bool = False) -> Code:
    """The code of a Triton launch; arguments that ``launch.aligned`` names are promised to be multiples of 16."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    if type(launch.source).__name__ == "InterpretedFunction":
        raise RuntimeError(f"{launch.name}: Triton interprets in this process: unset TRITON_INTERPRET to compile")
    position = list(launch.source.arg_names).index
    plain = (name for name in launch.aligned if not launch.signature[name].startswith("tensordesc"))
    attributes = {(position(name),): [["tt.divisibility", 16]] for name in plain}
    constants = {(position(name),): value for name, value in launch.constexprs.items()}
    options = {"num_warps": launch.warps, "num_stages": launch.stages, "enable_fp_fusion": True}
    try:
        source = (_cached_source() if cached else ASTSource)(launch.source, launch.signature, constants, attributes)
        compiled = triton.compile(source, target=GPUTarget("cuda", chip.sm, 32), options=options)
    except NotCached:
        raise
    except Exception as error:
        raise RuntimeError(f"{launch.name} for {chip.name}: {type(error).__name__}: {error}") from error
    about = compiled.metadata
    found, expected = _sizes_in(str(compiled.asm["ptx"])), parameter_sizes(launch.signature)
    if found != expected:
        raise RuntimeError(f"{launch.name}: Triton's parameters have {found} bytes, expected {expected}; use Triton 3.6 to 3.9")
    if about.global_scratch_size or about.profile_scratch_size:
        raise RuntimeError(f"{launch.name}: needs scratch memory of Triton's own, which launches do not provide")
    if about.shared > chip.shared_bytes:
        raise RuntimeError(f"{launch.name}: needs {about.shared} bytes of shared memory, a block of {chip.name} has {chip.shared_bytes}")
    descriptors = tuple(dict(meta) for meta in getattr(about, "tensordesc_meta", None) or ())
    return Code(
        bytes(compiled.asm["cubin"]), about.name, about.num_warps, about.shared, descriptors, bool(launch.constexprs.get("DEPENDENT"))
    )


@functools.cache
def _cached_source() -> Any:
    """Triton asks a source for its IR where its cache has no code of it: this one has none to give."""
    from triton.compiler import ASTSource

    class CachedSource(ASTSource):
        def make_ir(self, *_: Any, **__: Any) -> Any:
            raise NotCached

    return CachedSource


def parameter_sizes(signature: dict[str, str]) -> list[int]:
    """Bytes of each parameter of a compiled Triton function, in order: a descriptor is a tensor map of 128 bytes, its shape (32-bit)
    and its strides (64-bit); two scratch pointers come last."""
    sizes: list[int] = []
    for kind in signature.values():
        if descriptor := DESCRIPTOR.match(kind):
            rank = descriptor[1].count(",") + 1
            sizes += [128] + [4] * rank + [8] * rank
        elif kind != "constexpr":
            sizes.append(8 if kind.startswith("*") else SIZES[kind])
    return [*sizes, 8, 8]


def _sizes_in(ptx: str) -> list[int]:
    start = ptx.index("(", ptx.index(".entry"))
    return [int(length or 1) * int(bits) // 8 for bits, length in PARAMETER.findall(ptx[start : ptx.index("\n)", start) + 1])]


def compile_cuda(file: str, function: str, defines: tuple[str, ...], chip: Chip, *, cached: bool = False) -> Code:
    """The code of a CUDA C file (all its functions) by NVRTC, which comes with CUDA or as ``nvidia-cuda-nvrtc``."""
    from cupy_backends.cuda.libs import nvrtc

    text = source_of(file)
    if function not in kernels_of(text):
        raise RuntimeError(f'{file}: has no extern "C" __global__ void {function}')
    try:
        version = nvrtc.getVersion()
        known = chip.sm in nvrtc.getSupportedArchs()
        newest = max((sm for sm in nvrtc.getSupportedArchs() if sm <= chip.sm), default=chip.sm)
    except Exception as error:
        raise RuntimeError(f"{file}: NVRTC cannot be used: {error}") from error
    flags = ("-std=c++17", "-fmad=true", f"-arch={'sm' if known else 'compute'}_{newest}", *(f"-D{define}" for define in defines))
    key = hashlib.sha256(repr((text, flags, version)).encode()).hexdigest()[:24]
    path = cache_folder("nvrtc") / f"{Path(file).stem}-{key}"
    if not path.exists():
        if cached:
            raise NotCached
        write_atomically(path, _nvrtc(nvrtc, text, file, flags, known))
    return Code(path.read_bytes(), function, waits=waits_first(text, function))


def _nvrtc(nvrtc: Any, text: str, file: str, flags: tuple[str, ...], binary: bool) -> bytes:
    program = nvrtc.createProgram(text, Path(file).name, (), ())
    try:
        try:
            nvrtc.compileProgram(program, flags)
        except Exception as error:
            lines = [line for line in nvrtc.getProgramLog(program).splitlines() if "error" in line]
            raise RuntimeError(f"{file}: NVRTC: {'; '.join(lines[:5]) or error}") from error
        image = nvrtc.getCUBIN(program) if binary else nvrtc.getPTX(program)
    finally:
        nvrtc.destroyProgram(program)
    return whole_elf(image) if binary else image if isinstance(image, bytes) else image.encode()


def whole_elf(image: bytes) -> bytes:
    """A cubin with all the bytes that its headers declare: CuPy 14.2 removes the last one, as it does from PTX, where it is a NUL."""
    programs, sections = struct.unpack_from("<QQ", image, 32)
    size, count, section_size, section_count = struct.unpack_from("<HHHH", image, 54)
    return image.ljust(max(programs + size * count, sections + section_size * section_count), b"\0")
