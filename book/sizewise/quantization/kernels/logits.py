"""Scores alone, q k for every token, of packed keys: what "8x" was said about.

No softmax and no values: the comparison that a headline about "computing attention logits" makes.
The scores are written in fp32, 4 bytes for each token and query head beside the keys read.
"""

import torch
import triton
import triton.language as tl

from .decode import _tile
from .layout import Packed, Tuning
from .lookup import pair, permutes, quad, table_words, tables
from .rotate import rotate, rows


@triton.jit
def packed_kernel(
    Q,
    SIZE,
    CODES,
    NORMS,
    TABLE,
    OUT,
    tokens,
    PITCH,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    D: tl.constexpr,
    BITS: tl.constexpr,
    BLOCK: tl.constexpr,
    PERMUTE: tl.constexpr,
):
    """Scores of one tile of tokens for one group of query heads."""
    program = tl.program_id(0)
    CODES += program.to(tl.int64) * PITCH * (D * BITS // 8)
    NORMS += program.to(tl.int64) * PITCH
    PARTS: tl.constexpr = 2 if BITS == 4 else 4
    W: tl.constexpr = D // PARTS
    row, column = tl.arange(0, ROWS), tl.arange(0, W)
    inside = row < GROUP
    at = Q + program * GROUP * D + row[:, None] * D + column[None, :]
    token = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    stored, wide = token < tokens, token.to(tl.int64)
    low = _tile(CODES, wide, stored, column, D * BITS // 8, 0)
    high, shift = low, (column // (D // 8)).to(tl.uint8)[:, None]
    if BITS == 3:
        high = _tile(CODES + D // 4, wide, stored, column % (D // 8), D * BITS // 8, 0)
    h0, h1, l0, l1 = table_words(TABLE, PERMUTE)
    if BITS == 4:
        k0, k1 = pair(low, h0, h1, l0, l1, TABLE, PERMUTE)
    else:
        k0, k1, k2, k3 = quad(low, high, shift, h0, h1, l0, l1, TABLE, BITS, PERMUTE)
    scores = tl.dot(tl.load(at, mask=inside[:, None], other=0.0), k0)
    scores = tl.dot(tl.load(at + W, mask=inside[:, None], other=0.0), k1, scores)
    if PARTS == 4:
        scores = tl.dot(tl.load(at + 2 * W, mask=inside[:, None], other=0.0), k2, scores)
        scores = tl.dot(tl.load(at + 3 * W, mask=inside[:, None], other=0.0), k3, scores)
    size = tl.load(SIZE + program * GROUP + row, mask=inside, other=0.0)
    norm = tl.load(NORMS + token, mask=stored, other=0.0).to(tl.float32)
    out = OUT + (program * GROUP + row).to(tl.int64)[:, None] * tokens + wide[None, :]
    tl.store(out, scores * size[:, None] * norm[None, :], mask=inside[:, None] & stored[None, :])


def packed(query, keys: Packed, scale: float, tuning: Tuning):
    """fp32 (batch, query heads, capacity): scale q k for every place of the packed cache."""
    batch, heads, d = query.shape
    kv_heads, tokens = keys.codes.shape[1:3]
    group = heads // kv_heads
    q, size = rotate(query.contiguous(), keys, kv_heads, scale * d**-0.5)
    permute = permutes(query.device, keys)
    (table,) = tables(permute, keys)
    out = torch.empty(batch, heads, tokens, dtype=torch.float32, device=query.device)
    packed_kernel[(batch * kv_heads, triton.cdiv(tokens, tuning.block))](
        q,
        size,
        keys.codes,
        keys.norms,
        table,
        out,
        tokens,
        keys.pitch,
        GROUP=group,
        ROWS=rows(group),
        D=d,
        BITS=keys.bits,
        BLOCK=tuning.block,
        PERMUTE=permute,
        num_warps=tuning.warps,
    )
    return out
