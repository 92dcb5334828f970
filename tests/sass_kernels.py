"""Little kernels whose machine code tests/test_sass.py reads. ``python -m tests.sass_kernels FOLDER`` compiles them into cubins.

A program of its own: in the tests' process Triton may be set to interpret, and then compiles nothing.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource


@triton.jit
def product(c, a, b, n, k, PRECISION: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    """c = a·b in tiles, through pointers."""
    rows, columns, depth = tl.program_id(0) * BM + tl.arange(0, BM), tl.program_id(1) * BN + tl.arange(0, BN), tl.arange(0, BK)
    sums = tl.zeros((BM, BN), tl.float32)
    for start in range(0, k, BK):
        x = tl.load(a + rows[:, None] * k + (start + depth)[None, :])
        y = tl.load(b + (start + depth)[:, None] * n + columns[None, :])
        sums = tl.dot(x, y, sums, input_precision=PRECISION)
    tl.store(c + rows[:, None] * n + columns[None, :], sums.to(c.dtype.element_ty))


@triton.jit
def boxes(c, a, b, n, k, PRECISION: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    """The same through tensor descriptors."""
    row, column = tl.program_id(0) * BM, tl.program_id(1) * BN
    sums = tl.zeros((BM, BN), tl.float32)
    for start in range(0, k, BK):
        sums = tl.dot(a.load([row, start]), b.load([start, column]), sums, input_precision=PRECISION)
    rows, columns = row + tl.arange(0, BM), column + tl.arange(0, BN)
    tl.store(c + rows[:, None] * n + columns[None, :], sums.to(c.dtype.element_ty))


@triton.jit
def doubled(c, a, b, n, k, PRECISION: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    """c = 2·a in pieces of BM values, a loop over k of them; b, n: not used."""
    for piece in range(k):
        where = (tl.program_id(0) * k + piece) * BM + tl.arange(0, BM)
        tl.store(c + where, tl.load(a + where) * 2.0)


#: Name → kernel, chip, type, precision, tile (BM, BN, BK).
KERNELS = {
    "sm80 bf16": (product, 80, "bf16", "tf32", (64, 64, 32)),
    "sm86 tf32": (product, 86, "fp32", "tf32", (64, 64, 32)),
    "sm90 bf16": (product, 90, "bf16", "tf32", (64, 64, 32)),
    "sm90 bf16 boxes": (boxes, 90, "bf16", "tf32", (64, 64, 32)),
    "sm100 bf16 boxes": (boxes, 100, "bf16", "tf32", (128, 64, 32)),
    "sm120 bf16": (product, 120, "bf16", "tf32", (64, 64, 32)),
    "sm80 float32": (product, 80, "fp32", "ieee", (32, 32, 16)),
    "sm90 spills": (boxes, 90, "fp32", "ieee", (64, 64, 32)),
    "sm80 doubled": (doubled, 80, "fp32", "ieee", (512, 1, 1)),
}


def compiled(name: str) -> bytes:
    """The cubin of one of KERNELS."""
    kernel, chip, kind, precision, tile = KERNELS[name]
    constants = dict(zip(("PRECISION", "BM", "BN", "BK"), (precision, *tile), strict=True))
    types = {"c": f"*{kind}", "a": f"*{kind}", "b": f"*{kind}", "n": "i32", "k": "i32", **dict.fromkeys(constants, "constexpr")}
    if kernel is boxes:
        types |= {"a": f"tensordesc<{kind}[{tile[0]}, {tile[2]}]>", "b": f"tensordesc<{kind}[{tile[2]}, {tile[1]}]>"}
    aligned = {(i,): [["tt.divisibility", 16]] for i, (_, t) in enumerate(types.items()) if t[0] == "*" or t == "i32"}
    source = ASTSource(kernel, types, {(list(types).index(key),): value for key, value in constants.items()}, aligned)
    result = triton.compile(source, target=GPUTarget("cuda", chip, 32), options={"num_warps": 4, "num_stages": 3})
    return bytes(result.asm["cubin"])


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    for name in KERNELS:
        (folder / f"{name}.cubin").write_bytes(compiled(name))
    print(json.dumps(sorted(KERNELS)))
