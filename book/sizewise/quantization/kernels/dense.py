"""Decode attention over a cache that is not packed: the same splits and merge, for fair comparison.

A library's attention may not split one query's tokens, and being faster than that would prove
little. This kernel reads fp32, bf16, fp16, fp8 (e4m3, scale 1) or int8 (an fp16 scale a vector) at
the width it is stored in. Scales act on scores and probabilities, never on tiles.
"""

import torch
import triton
import triton.language as tl

from .decode import (
    LOG2E,
    STAGES,
    WARPS,
    merge,
    partials,
    rows,
    softmax_end,
    softmax_step,
    splits_for,
)

BLOCK = 64  # tokens of a tile


# Splits vary with the shape: no new compilation for each number of them.
@triton.jit(do_not_specialize=["SPLITS"])
def dense_kernel(
    Q,
    K,
    KS,
    V,
    VS,
    LENGTH,
    PARTIAL,
    LSE,
    SPLITS,
    factor,
    TOKENS,
    HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    D: tl.constexpr,
    BLOCK: tl.constexpr,
    WIDEN: tl.constexpr,
    SCALED: tl.constexpr,
):
    """One group of query heads over one share of one sequence's tokens."""
    program, split = tl.program_id(0), tl.program_id(1)
    length = tl.load(LENGTH + program // HEADS)
    share = tl.cdiv(tl.cdiv(length, BLOCK), SPLITS) * BLOCK
    start = split * share
    end = tl.minimum(start + share, length)
    K += program.to(tl.int64) * TOKENS * D
    V += program.to(tl.int64) * TOKENS * D
    KS += program.to(tl.int64) * TOKENS
    VS += program.to(tl.int64) * TOKENS
    row, column = tl.arange(0, ROWS), tl.arange(0, D)
    inside = row < GROUP
    q_at = Q + program * GROUP * D + row[:, None] * D + column[None, :]
    q = tl.load(q_at, mask=inside[:, None], other=0.0)
    if WIDEN:
        q = q.to(tl.float16)
    best = tl.full([ROWS], -float("inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    out = tl.zeros([ROWS, D], tl.float32)
    for begin in range(start, end, BLOCK):
        token = begin + tl.arange(0, BLOCK)
        stored = token < end
        wide = token.to(tl.int64)
        k = tl.load(K + wide[None, :] * D + column[:, None], mask=stored[None, :], other=0.0)
        if WIDEN:
            k = k.to(tl.float16)
        scores = tl.dot(q, k) * factor
        if SCALED:
            scores *= tl.load(KS + token, mask=stored, other=0.0).to(tl.float32)[None, :]
        scores = tl.where(stored[None, :], scores, -float("inf"))
        weight, decay, best, total = softmax_step(scores, best, total)
        v = tl.load(V + wide[:, None] * D + column[None, :], mask=stored[:, None], other=0.0)
        if WIDEN:
            v = v.to(tl.float16)
        if SCALED:
            weight *= tl.load(VS + token, mask=stored, other=0.0).to(tl.float32)[None, :]
        out = tl.dot(weight.to(v.dtype), v, out * decay[:, None])
    lse, scale = softmax_end(best, total)
    line = (program * GROUP + row) * SPLITS + split
    tl.store(LSE + line, lse, mask=inside)
    at = PARTIAL + line.to(tl.int64)[:, None] * D + column[None, :]
    tl.store(at, out * scale[:, None], mask=inside[:, None])


def attend(query, keys, values, lengths, *, scales=(None, None), block=BLOCK, splits=0, dtype=None):
    """softmax(q k / sqrt(d)) v: query (batch, query heads, d), keys and values (batch, kv heads,
    tokens, d) and contiguous, lengths int32 (batch), ``scales`` those of keys and values in int8,
    fp16 (batch, kv heads, tokens). Returns query's shape, in ``dtype`` or the query's type."""
    if keys.dtype == torch.bfloat16 and query.device.type == "cpu":
        # Triton's interpreter multiplies the bits of bf16 as if they were integers.
        keys, values = keys.float(), values.float()
    batch, heads, d = query.shape
    kv_heads, tokens = keys.shape[1:3]
    scaled = scales[0] is not None
    widen = keys.dtype in (torch.float8_e4m3fn, torch.int8)
    q = query.contiguous() if widen else query.contiguous().to(keys.dtype)
    splits = splits or splits_for(batch * kv_heads, tokens, block)
    partial, lse = partials(batch * heads, splits, d, query.device)
    dense_kernel[(batch * kv_heads, splits)](
        q,
        keys,
        scales[0] if scaled else keys,
        values,
        scales[1] if scaled else values,
        lengths,
        partial,
        lse,
        splits,
        d**-0.5 * LOG2E,
        tokens,
        HEADS=kv_heads,
        GROUP=heads // kv_heads,
        ROWS=rows(heads // kv_heads),
        D=d,
        BLOCK=block,
        WIDEN=widen,
        SCALED=scaled,
        num_warps=WARPS,
        num_stages=STAGES,
    )
    return merge(partial, lse, query.shape, dtype or query.dtype)
