"""Scores alone, q k for every token, of packed keys: what "8x" was said about.

No softmax and no values: the comparison that a headline about "computing attention logits" makes.
The scores are written in fp32, 4 bytes for each token and query head beside the keys read.
"""

import triton
import triton.language as tl

from .decode import _tile, centroids
from .layout import Packed, Tuning
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
    c_batch,
    c_head,
    c_token,
    n_batch,
    n_head,
    HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    D: tl.constexpr,
    BITS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Scores of one tile of tokens for one group of query heads."""
    program = tl.program_id(0)
    batch, head = program // HEADS, program % HEADS
    CODES += batch.to(tl.int64) * c_batch + head.to(tl.int64) * c_head
    NORMS += batch.to(tl.int64) * n_batch + head.to(tl.int64) * n_head
    PARTS: tl.constexpr = 2 if BITS == 4 else 4
    W: tl.constexpr = D // PARTS
    row, column = tl.arange(0, ROWS), tl.arange(0, W)
    inside = row < GROUP
    at = Q + program * GROUP * D + row[:, None] * D + column[None, :]
    token = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    stored, wide = token < tokens, token.to(tl.int64)
    low = _tile(CODES, wide, stored, column, c_token, 0)
    high, shift = low, (column // (D // 8)).to(tl.uint8)[:, None]
    if BITS == 3:
        high = _tile(CODES + D // 4, wide, stored, column % (D // 8), c_token, 0)
    k0 = centroids(low, high, shift, TABLE, 0, BITS)
    k1 = centroids(low, high, shift, TABLE, 1, BITS)
    if PARTS == 4:
        k2 = centroids(low, high, shift, TABLE, 2, BITS)
        k3 = centroids(low, high, shift, TABLE, 3, BITS)
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
    import torch

    batch, heads, d = query.shape
    kv_heads, tokens = keys.codes.shape[1:3]
    group = heads // kv_heads
    q, size = rotate(query.contiguous(), keys, kv_heads, scale * d**-0.5)
    out = torch.empty(batch, heads, tokens, dtype=torch.float32, device=query.device)
    packed_kernel[(batch * kv_heads, triton.cdiv(tokens, tuning.block))](
        q,
        size,
        keys.codes,
        keys.norms,
        keys.table(),
        out,
        tokens,
        *keys.codes.stride()[:3],
        *keys.norms.stride()[:2],
        HEADS=kv_heads,
        GROUP=group,
        ROWS=rows(group),
        D=d,
        BITS=keys.bits,
        BLOCK=tuning.block,
        num_warps=tuning.warps,
    )
    return out
