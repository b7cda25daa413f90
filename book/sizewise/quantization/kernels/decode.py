"""Decode attention that reads packed codes: split over the tokens, then merged.

One new token attends to its whole cache, so nothing is read twice and time is bytes over bandwidth,
if the device is filled: a program takes one sequence, one kv head and one share of the tokens
(flash-decoding: Dao et al. 2023), all query heads of the group at once on the matrix units. Keys
stay rotated and meet a rotated query; values stay rotated and the merged result is rotated back,
once. Norms scale the scores (keys) and the probabilities (values), never the tiles.
"""

import triton
import triton.language as tl

from .layout import Packed, Tuning
from .lookup import pair, permutes, quad, table_words, tables
from .merge import merge, partials
from .rotate import rotate, rows

LOG2E = 1.4426950408889634


@triton.jit
def _tile(codes, token, inside, coordinate, stride, ALONG: tl.constexpr):
    """A tile of bytes: (bytes, tokens) where ALONG is 0, (tokens, bytes) where it is 1."""
    if ALONG == 0:
        at = codes + token[None, :] * stride + coordinate[:, None]
        tile = tl.load(at, mask=inside[None, :], other=0)
    else:  # a second return would have to have the first one's shape
        at = codes + token[:, None] * stride + coordinate[None, :]
        tile = tl.load(at, mask=inside[:, None], other=0)
    return tile


# Splits vary with the shape: no new compilation for each number of them.
@triton.jit(do_not_specialize=["SPLITS"])
def split_kernel(
    Q,
    SIZE,
    KC,
    KN,
    KT,
    VC,
    VN,
    VT,
    LENGTH,
    PARTIAL,
    LSE,
    SPLITS,
    PITCH,
    HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    D: tl.constexpr,
    KBITS: tl.constexpr,
    VBITS: tl.constexpr,
    BLOCK: tl.constexpr,
    PERMUTE: tl.constexpr,
):
    """Attention of one group of query heads over one share of one sequence's tokens."""
    program, split = tl.program_id(0), tl.program_id(1)
    length = tl.load(LENGTH + program // HEADS)
    share = tl.cdiv(tl.cdiv(length, BLOCK), SPLITS) * BLOCK
    start = split * share
    end = tl.minimum(start + share, length)
    KPARTS: tl.constexpr = 2 if KBITS == 4 else 4
    VPARTS: tl.constexpr = 2 if VBITS == 4 else 4
    KW: tl.constexpr = D // KPARTS
    VW: tl.constexpr = D // VPARTS
    KBYTES: tl.constexpr = D * KBITS // 8  # of one vector
    VBYTES: tl.constexpr = D * VBITS // 8
    # 64-bit offsets: a cache of a million tokens passes 2**31 bytes
    first = program.to(tl.int64) * PITCH
    KC += first * KBYTES
    VC += first * VBYTES
    KN += first
    VN += first
    row = tl.arange(0, ROWS)
    inside_group = row < GROUP
    kcol, vcol = tl.arange(0, KW), tl.arange(0, VW)
    kshift, vshift = (kcol // (D // 8)).to(tl.uint8), (vcol // (D // 8)).to(tl.uint8)
    best = tl.full([ROWS], -float("inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    o0 = tl.zeros([ROWS, VW], tl.float32)
    o1 = tl.zeros([ROWS, VW], tl.float32)
    if VPARTS == 4:
        o2 = tl.zeros([ROWS, VW], tl.float32)
        o3 = tl.zeros([ROWS, VW], tl.float32)
    kh0, kh1, kl0, kl1 = table_words(KT, PERMUTE)
    vh0, vh1, vl0, vl1 = table_words(VT, PERMUTE)
    ahead = start + tl.arange(0, BLOCK)
    next_kn = tl.load(KN + ahead, mask=ahead < end, other=0.0)
    next_vn = tl.load(VN + ahead, mask=ahead < end, other=0.0)
    q_at = Q + program * GROUP * D + row[:, None] * D + kcol[None, :]
    q0 = tl.load(q_at, mask=inside_group[:, None], other=0.0)  # (rows, d / parts)
    q1 = tl.load(q_at + KW, mask=inside_group[:, None], other=0.0)
    if KPARTS == 4:
        q2 = tl.load(q_at + 2 * KW, mask=inside_group[:, None], other=0.0)
        q3 = tl.load(q_at + 3 * KW, mask=inside_group[:, None], other=0.0)
    size = tl.load(SIZE + program * GROUP + row, mask=inside_group, other=0.0)
    for begin in range(start, end, BLOCK):
        token = begin + tl.arange(0, BLOCK)
        stored = token < end
        ahead = token + BLOCK
        kn, vn = next_kn.to(tl.float32), next_vn.to(tl.float32)
        next_kn = tl.load(KN + ahead, mask=ahead < end, other=0.0)  # in flight during this tile
        next_vn = tl.load(VN + ahead, mask=ahead < end, other=0.0)
        wide = token.to(tl.int64)
        low = _tile(KC, wide, stored, kcol, KBYTES, 0)  # (d / parts, block)
        high = low
        if KBITS == 3:
            high = _tile(KC + D // 4, wide, stored, kcol % (D // 8), KBYTES, 0)
        if KBITS == 4:
            k0, k1 = pair(low, kh0, kh1, kl0, kl1, KT, PERMUTE)
        else:
            shift = kshift[:, None]
            k0, k1, k2, k3 = quad(low, high, shift, kh0, kh1, kl0, kl1, KT, KBITS, PERMUTE)
        scores = tl.dot(q1, k1, tl.dot(q0, k0))  # (rows, block)
        if KPARTS == 4:
            scores = tl.dot(q3, k3, tl.dot(q2, k2, scores))
        scores = scores * size[:, None] * kn[None, :]  # in bits: log2(e) is in the size
        scores = tl.where(stored[None, :], scores, -float("inf"))
        newest = tl.maximum(best, tl.max(scores, 1))
        weight = tl.exp2(scores - newest[:, None])
        decay = tl.exp2(best - newest)
        total = total * decay + tl.sum(weight, 1)
        best = newest
        p = (weight * vn[None, :]).to(tl.float16)
        low = _tile(VC, wide, stored, vcol, VBYTES, 1)  # (block, d / parts)
        high = low
        if VBITS == 3:
            high = _tile(VC + D // 4, wide, stored, vcol % (D // 8), VBYTES, 1)
        if VBITS == 4:
            v0, v1 = pair(low, vh0, vh1, vl0, vl1, VT, PERMUTE)
        else:
            shift = vshift[None, :]
            v0, v1, v2, v3 = quad(low, high, shift, vh0, vh1, vl0, vl1, VT, VBITS, PERMUTE)
        o0 = tl.dot(p, v0, o0 * decay[:, None])
        o1 = tl.dot(p, v1, o1 * decay[:, None])
        if VPARTS == 4:
            o2 = tl.dot(p, v2, o2 * decay[:, None])
            o3 = tl.dot(p, v3, o3 * decay[:, None])
    read = total > 0  # a split beyond the sequence's end weighs nothing
    scale = tl.where(read, 1.0 / tl.where(read, total, 1.0), 0.0)[:, None]
    line = (program * GROUP + row) * SPLITS + split
    lse = tl.where(read, best + tl.log2(tl.where(read, total, 1.0)), -float("inf"))
    tl.store(LSE + line, lse, mask=inside_group)
    out = PARTIAL + line.to(tl.int64)[:, None] * D + vcol[None, :]
    tl.store(out, o0 * scale, mask=inside_group[:, None])
    tl.store(out + VW, o1 * scale, mask=inside_group[:, None])
    if VPARTS == 4:
        tl.store(out + 2 * VW, o2 * scale, mask=inside_group[:, None])
        tl.store(out + 3 * VW, o3 * scale, mask=inside_group[:, None])


def attend(query, keys: Packed, values: Packed, lengths, scale: float, tuning: Tuning, dtype):
    """`kernels.attend` in three launches: rotate, attend by splits, merge and rotate back."""
    batch, heads, d = query.shape
    kv_heads, capacity = keys.codes.shape[1:3]
    group = heads // kv_heads
    # Centroids come times sqrt(d), so that they are near one in fp16.
    q, size = rotate(query.contiguous(), keys, kv_heads, scale * LOG2E * d**-0.5)
    splits = tuning.splits_for(batch * kv_heads, capacity, query.device)
    permute = permutes(query.device, keys, values)
    ktable, vtable = tables(permute, keys, values)
    partial, lse = partials(batch * heads, splits, d, query.device)
    split_kernel[(batch * kv_heads, splits)](
        q,
        size,
        keys.codes,
        keys.norms,
        ktable,
        values.codes,
        values.norms,
        vtable,
        lengths,
        partial,
        lse,
        splits,
        keys.pitch,
        HEADS=kv_heads,
        GROUP=group,
        ROWS=rows(group),
        D=d,
        KBITS=keys.bits,
        VBITS=values.bits,
        BLOCK=tuning.block,
        PERMUTE=permute,
        num_warps=tuning.warps,
        num_stages=tuning.stages,
    )
    return merge(partial, lse, query.shape, dtype, factor=d**-0.5, rotation=values.rotation)
