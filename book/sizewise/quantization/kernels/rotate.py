"""The first step over a packed cache: the query rotated, once for all tokens."""

import torch
import triton
import triton.language as tl

from .layout import Packed

COLUMNS = 16  # of a program: batch 1 has few queries, so a rotation is spread over many programs


@triton.jit
def rotate_kernel(
    X,
    ROT,
    Y,
    SIZE,
    factor,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    D: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Some coordinates of the rotated queries of one group; fp16 out, of norm 1.

    A rotation keeps the norm, so that each program knows the scale without seeing the others'
    coordinates; the norm (times ``factor``) is stored beside them.
    """
    program, part = tl.program_id(0), tl.program_id(1)
    row, inner = tl.arange(0, ROWS), tl.arange(0, D)
    column = part * COLUMNS + tl.arange(0, COLUMNS)
    inside = row[:, None] < GROUP
    at = program * GROUP * D + row[:, None] * D
    x = tl.load(X + at + inner[None, :], mask=inside, other=0.0).to(tl.float32)  # (rows, d)
    rotation = tl.load(ROT + column[None, :] * D + inner[:, None])  # (d, columns), transposed
    norm = tl.maximum(tl.sqrt(tl.sum(x * x, 1)), 1e-30)
    y = tl.dot(x / norm[:, None], rotation, input_precision="ieee")  # (rows, columns)
    tl.store(Y + at + column[None, :], y.to(tl.float16), mask=inside)
    if part == 0:
        tl.store(SIZE + program * GROUP + row, norm * factor, mask=row < GROUP)


def rotate(query, keys: Packed, kv_heads: int, factor: float):
    """The query (batch, query heads, d) rotated, fp16 of norm 1; its norm times ``factor``, fp32
    (batch x query heads).
    """
    batch, heads, d = query.shape
    group = heads // kv_heads
    q = torch.empty_like(query, dtype=torch.float16)
    size = torch.empty(batch * heads, dtype=torch.float32, device=query.device)
    rotate_kernel[(batch * kv_heads, d // COLUMNS)](
        query,
        keys.rotation,
        q,
        size,
        factor,
        GROUP=group,
        ROWS=rows(group),
        D=d,
        COLUMNS=COLUMNS,
        num_warps=4,
    )
    return q, size


def rows(group: int) -> int:
    """Rows of a tile for a group: a power of two, at least the matrix units' 16."""
    return max(16, triton.next_power_of_2(group))
