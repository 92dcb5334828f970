"""Triton functions of tests/test_cuda_device.py: in a file of their own, which a compiling process can import."""

import triton
import triton.language as tl


@triton.jit
def scale_rows(y, x, bias, rows, factor, COLUMNS: tl.constexpr, INTERPRETED: tl.constexpr = False):
    """y[i, j] = factor·x[i, j] + bias[j]; one program a row; bias may be None."""
    row = tl.program_id(0)
    column = tl.arange(0, COLUMNS)
    inside = row + 0 * column < rows  # the interpreter takes no scalar mask
    value = factor * tl.load(x + row * COLUMNS + column, mask=inside, other=0.0).to(tl.float32)
    if bias is not None:
        value += tl.load(bias + column).to(tl.float32)
    tl.store(y + row * COLUMNS + column, value.to(y.dtype.element_ty), mask=inside)


@triton.jit
def product(out, a, b, depth, M: tl.constexpr, N: tl.constexpr, K: tl.constexpr, INTERPRETED: tl.constexpr):
    """out = a·b, both read by descriptor in steps of K; one program a row block."""
    block = tl.program_id(0)
    total = tl.zeros((M, N), dtype=tl.float32)
    for k in range(0, depth, K):
        left = a.load([block * M, k])
        right = b.load([k, 0])
        if INTERPRETED:
            left, right = left.to(tl.float32), right.to(tl.float32)
        total = tl.dot(left, right, total, input_precision="ieee")
    rows = block * M + tl.arange(0, M)
    tl.store(out + rows[:, None] * N + tl.arange(0, N)[None, :], total.to(out.dtype.element_ty))
