"""What a compiled kernel takes, read off its cubin, against what launches give it: the half of the binary interface that needs a compiler.

The other half, that the launcher gives each launch of the cases just these parameters, needs none: tests/test_cuda_abi.py.
Attributes of a kernel lie in the ELF section ``.nv.info.NAME``; their numbers are those that ``cuobjdump -elf`` names.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from kernels.cuda.device.compile import DESCRIPTOR, parameter_sizes

# EIATTR_…
MAX_THREADS, REQUIRED_THREADS, PARAMETER, PARAMETER_V2 = 0x05, 0x10, 0x17, 0x45
CLUSTER = (0x3D, 0x3E, 0x3F, 0x40)
#: Bytes of the largest swizzle, and CUtensorMapSwizzle by bytes.
SWIZZLES = {128: 3, 64: 2, 32: 1}
#: Elements of a box at most, along any axis.
LONGEST = 256


def sizes_of(launch: Any) -> list[int]:
    """Bytes of each parameter of a launch, in order."""
    if launch.kind == "triton":
        return parameter_sizes(launch.signature)
    return [8 if kind == "null" or kind.startswith("*") else np.dtype(kind).itemsize for kind in launch.signature.values()]


def box_of(kind: str) -> dict[str, Any]:
    """Triton's metadata of a descriptor argument of type ``kind``, ``tensordesc<bf16[1, 8, 64]>``: a box is as long as the widest swizzle
    that its last axis fills, and loaded several times where the kernel's is longer."""
    size = 2 if "bf16" in kind else 4
    block = [int(n) for n in DESCRIPTOR.match(kind)[1].split(",")]
    swizzle = next(bytes_ for bytes_ in SWIZZLES if bytes_ <= block[-1] * size or bytes_ == 32)
    boxes = [min(n, LONGEST) for n in block[:-1]] + [min(block[-1], swizzle // size)]
    return {"block_size": boxes, "elem_size": size, "swizzle": SWIZZLES[swizzle]}


def wrong(launch: Any, name: str, code: Any) -> list[str]:
    """What of ``code``, that of the launch, does not fit it: a line each. ``name``: of the function in it. PTX text says nothing."""
    if code.image[:4] != b"\x7fELF":
        return []
    attributes = attributes_of(code.image, name)
    found = _parameters(attributes)
    lines = []
    if found != (expected := sizes_of(launch)):
        lines.append(f"takes parameters of {found} bytes, launches give {expected}")
    threads = launch.constexprs["block"] if launch.kind == "cuda" else (32 * code.warps, 1, 1)
    for number, value in attributes:
        if number == REQUIRED_THREADS and struct.unpack("<III", value) != threads:
            lines.append(f"requires blocks of {struct.unpack('<III', value)} threads, launches have {threads}")
        if number == MAX_THREADS and np.prod(struct.unpack("<III", value)) < np.prod(threads):
            lines.append(f"takes blocks of at most {struct.unpack('<III', value)} threads, launches have {threads}")
        if number in CLUSTER:
            lines.append("wants clusters of blocks, which launches do not ask for")
    boxes = [box_of(kind) for kind in launch.signature.values() if DESCRIPTOR.match(kind)] if launch.kind == "triton" else []
    given = [{key: meta[key] for key in ("block_size", "elem_size", "swizzle")} for meta in code.descriptors]
    if given != boxes:
        lines.append(f"has boxes {given}, expected {boxes}")
    return lines


def _parameters(attributes: list[tuple[int, bytes]]) -> list[int]:
    """Bytes of each parameter; where each lies is the driver's business."""
    found = {}
    for number, value in attributes:
        if number == PARAMETER_V2:
            raise RuntimeError("the cubin's table of parameters has a newer form, which bench.aot.abi cannot read")
        if number == PARAMETER:
            _, ordinal, _, word = struct.unpack("<IHHI", value)
            found[ordinal] = word >> 18
    return [found[ordinal] for ordinal in sorted(found)]


def attributes_of(image: bytes, name: str) -> list[tuple[int, bytes]]:
    """(number, value) of each attribute of function ``name`` in a cubin."""
    (table,) = struct.unpack_from("<Q", image, 40)
    size, count, names = struct.unpack_from("<HHH", image, 58)
    sections = [struct.unpack_from("<IIQQQQ", image, table + i * size) for i in range(count)]
    texts = sections[names][4]
    for text, _, _, _, offset, length in sections:
        start = texts + text
        if image[start : image.index(b"\0", start)].decode() == f".nv.info.{name}":
            return _attributes(image[offset : offset + length])
    raise RuntimeError(f"{name}: the cubin has no section .nv.info.{name}")


def _attributes(data: bytes) -> list[tuple[int, bytes]]:
    found, at = [], 0
    while at + 4 <= len(data):
        form, number, size = struct.unpack_from("<BBH", data, at)
        length = size if form == 4 else 0  # other forms have their value where this one has its length
        found.append((number, data[at + 4 : at + 4 + length]))
        at += 4 + length
    return found
