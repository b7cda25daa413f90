"""Scores alone, q k for every token, of packed keys: what "8x" was claimed for.

No softmax and no values: the comparison that a headline about "computing attention logits" makes.
The scores are written in fp32, 4 bytes for each token and query head beside the keys read.
"""

import torch
import triton
import triton.language as tl

from .decode import BLOCK, WARPS, rotate, rows
from .layout import Packed
from .lookup import fields, loaded, multiplied, stride, tiles, words_of


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
    CODES += program.to(tl.int64) * TOKENS * stride(BITS, D)
    NORMS += program.to(tl.int64) * TOKENS
    F: tl.constexpr = fields(BITS)
    row, column = tl.arange(0, ROWS), tl.arange(0, D // F)
    inside = row < GROUP
    at = Q + program * GROUP * D + row[:, None] * D + column[None, :]
    token = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    stored, words = token < TOKENS, words_of(TABLE, PERMUTE)
    k = tiles(CODES, token, stored, TABLE, words, D, BITS, False, PERMUTE)
    scores = multiplied(loaded(at, inside[:, None], F, D // F), k, F)
    size = tl.load(SIZE + program * GROUP + row, mask=inside, other=0.0)
    norm = tl.load(NORMS + token, mask=stored, other=0.0).to(tl.float32)
    out = OUT + (program * GROUP + row).to(tl.int64)[:, None] * TOKENS + token[None, :]
    tl.store(out, scores * size[:, None] * norm[None, :], mask=inside[:, None] & stored[None, :])


def packed(query, keys: Packed, block: int = BLOCK):
    """fp32 (batch, query heads, capacity): q k / sqrt(d) for every place of the packed cache."""
    batch, heads, d = query.shape
    kv_heads, tokens = keys.codes.shape[1:3]
    # Once of 1 / sqrt(d), and once more since centroids come times sqrt(d).
    q, size = rotate(query, keys, 1 / d)
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
