"""Quantize new keys or values and write them into the packed cache, in one kernel."""

import triton
import triton.language as tl

from .layout import Packed


@triton.jit
def _plane(code, D: tl.constexpr, ROWS: tl.constexpr, WIDTH: tl.constexpr, LOW: tl.constexpr):
    """Bytes (rows, d * WIDTH / 8) of one plane of fields of WIDTH bits, from bit LOW on."""
    F: tl.constexpr = 8 // WIDTH
    value = (code >> LOW) & ((1 << WIDTH) - 1)
    value = tl.reshape(value, [ROWS, F, D // F])
    shift = tl.arange(0, F) * WIDTH
    return tl.sum(value << shift[None, :, None], 1).to(tl.uint8)


@triton.jit
def append_kernel(
    X,
    ROT,
    BOUND,
    CODES,
    NORMS,
    POSITION,
    NEW,
    TOTAL,
    CAPACITY,
    HEADS: tl.constexpr,
    D: tl.constexpr,
    BITS: tl.constexpr,
    ROWS: tl.constexpr,
):
    """ROWS vectors: norm, rotation, nearest centroid by its boundaries, planes of bytes."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)  # of (batch, head, new)
    inside = row < TOTAL
    line, new = row // NEW, row % NEW
    column = tl.arange(0, D)
    square = tl.zeros([ROWS], tl.float32)
    total = tl.zeros([ROWS, D], tl.float32)
    for start in range(0, D, 32):
        inner = start + tl.arange(0, 32)
        x = tl.load(X + row[:, None] * D + inner[None, :], mask=inside[:, None], other=0.0)
        x = x.to(tl.float32)
        square += tl.sum(x * x, 1)
        rotation = tl.load(ROT + column[None, :] * D + inner[:, None])  # (32, d), transposed
        total += tl.dot(x, rotation, input_precision="ieee")
    norm = tl.sqrt(square)
    rotated = total / tl.maximum(norm, 1e-30)[:, None]
    code = tl.zeros([ROWS, D], tl.int32)
    for boundary in tl.static_range((1 << BITS) - 1):
        code += (rotated > tl.load(BOUND + boundary)).to(tl.int32)
    position = tl.load(POSITION + line // HEADS, mask=inside, other=0).to(tl.int64) + new
    at = line * CAPACITY + position
    c_at = CODES + at * (D * BITS // 8)
    LOW: tl.constexpr = 4 if BITS == 4 else 2  # of the fields of the first plane
    to = c_at[:, None] + tl.arange(0, D * LOW // 8)[None, :]
    tl.store(to, _plane(code, D, ROWS, LOW, 0), mask=inside[:, None])
    if BITS == 3:
        to = c_at[:, None] + D // 4 + tl.arange(0, D // 8)[None, :]
        tl.store(to, _plane(code, D, ROWS, 1, 2), mask=inside[:, None])
    stored = tl.minimum(norm, 65504.0).to(tl.float16)  # fp16 has no larger number
    tl.store(NORMS + at, stored, mask=inside)


def append(x, packed: Packed, positions) -> None:
    """See `kernels.append`."""
    batch, heads, new, d = x.shape
    total = batch * heads * new
    size = 16 if total <= 4096 else 32
    append_kernel[(triton.cdiv(total, size),)](
        x.contiguous(),
        packed.rotation,
        packed.boundaries,
        packed.codes,
        packed.norms,
        positions,
        new,
        total,
        packed.codes.shape[2],
        HEADS=heads,
        D=d,
        BITS=packed.bits,
        ROWS=size,
    )
