"""Scores alone, q k for every token, of packed keys: what "8x" was said about.

No softmax and no values: the comparison that a headline about "computing attention logits" makes.
The scores are written in fp32, 4 bytes for each token and query head beside the keys read.
"""

import torch
import triton
import triton.language as tl

from .decode import BLOCK, WARPS, rotate, rows
from .layout import Packed
from .lookup import centroids, words_of


@triton.jit
def scores_kernel(
    Q,
    SIZE,
    CODES,
    NORMS,
    TABLE,
    OUT,
    TOKENS,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    D: tl.constexpr,
    BITS: tl.constexpr,
    BLOCK: tl.constexpr,
    PERMUTE: tl.constexpr,
):
    """Scores of one tile of tokens for one group of query heads."""
    program = tl.program_id(0)
    CODES += program.to(tl.int64) * TOKENS * (D * BITS // 8)
    NORMS += program.to(tl.int64) * TOKENS
    W: tl.constexpr = D // (2 if BITS == 4 else 4)
    row, column = tl.arange(0, ROWS), tl.arange(0, W)
    inside = row < GROUP
    at = Q + program * GROUP * D + row[:, None] * D + column[None, :]
    token = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    stored, words = token < TOKENS, words_of(TABLE, PERMUTE)
    k0, k1, k2, k3 = centroids(CODES, token, stored, TABLE, words, D, BITS, False, PERMUTE)
    scores = tl.dot(tl.load(at, mask=inside[:, None], other=0.0), k0)
    scores = tl.dot(tl.load(at + W, mask=inside[:, None], other=0.0), k1, scores)
    if BITS < 4:
        scores = tl.dot(tl.load(at + 2 * W, mask=inside[:, None], other=0.0), k2, scores)
        scores = tl.dot(tl.load(at + 3 * W, mask=inside[:, None], other=0.0), k3, scores)
    size = tl.load(SIZE + program * GROUP + row, mask=inside, other=0.0)
    norm = tl.load(NORMS + token, mask=stored, other=0.0).to(tl.float32)
    out = OUT + (program * GROUP + row).to(tl.int64)[:, None] * TOKENS + token[None, :]
    tl.store(out, scores * size[:, None] * norm[None, :], mask=inside[:, None] & stored[None, :])


def packed(query, keys: Packed, scale: float, block: int = BLOCK):
    """fp32 (batch, query heads, capacity): scale q k for every place of the packed cache."""
    batch, heads, d = query.shape
    kv_heads, tokens = keys.codes.shape[1:3]
    q, size = rotate(query, keys, scale * d**-0.5)
    out = torch.empty(batch, heads, tokens, dtype=torch.float32, device=query.device)
    scores_kernel[(batch * kv_heads, triton.cdiv(tokens, block))](
        q,
        size,
        keys.codes,
        keys.norms,
        keys.looked_up,
        out,
        tokens,
        GROUP=heads // kv_heads,
        ROWS=rows(heads // kv_heads),
        D=d,
        BITS=keys.bits,
        BLOCK=block,
        PERMUTE=keys.permute,
        num_warps=WARPS,
    )
    return out
