"""Decode attention that reads packed codes: split over the tokens, then merged.

One new token attends to its whole cache, so nothing is read twice and time is bytes over bandwidth,
if the device is filled: a program takes one sequence, one kv head and one share of the tokens
(flash-decoding: Dao et al. 2023), all query heads of the group at once on the matrix units. Keys
stay rotated and meet a rotated query; values stay rotated and the merged result is rotated back,
once. Norms scale the scores (keys) and the probabilities (values), never the tiles.
"""

import triton
import triton.language as tl

from .layout import Packed, Tuning, splits_for
from .merge import merge, partials
from .rotate import rotate, rows

LOG2E = 1.4426950408889634


@triton.jit
def centroids(low, high, shift, table, PART: tl.constexpr, BITS: tl.constexpr):
    """Field PART of a tile of bytes as fp16 centroids; ``high`` and ``shift`` at 3 bits.

    A tile of bytes holds, for its bytes j, the coordinates j, j + d/f, ... (`packing`): field k of
    the whole tile is a tile of coordinates by itself, so that a product over the head is the sum
    of f products and nothing is interleaved.
    """
    code = (low >> (4 * PART)) & 15 if BITS == 4 else (low >> (2 * PART)) & 3
    if BITS == 3:
        code = code | (((high >> (shift + 2 * PART)) & 1) << 2)
    return tl.load(table + code.to(tl.int32))


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
    kc_batch,
    kc_head,
    kc_token,
    kn_batch,
    kn_head,
    vc_batch,
    vc_head,
    vc_token,
    vn_batch,
    vn_head,
    HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    D: tl.constexpr,
    KBITS: tl.constexpr,
    VBITS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Attention of one group of query heads over one share of one sequence's tokens."""
    program, split = tl.program_id(0), tl.program_id(1)
    batch, head = program // HEADS, program % HEADS
    length = tl.load(LENGTH + batch)
    share = tl.cdiv(tl.cdiv(length, BLOCK), SPLITS) * BLOCK
    start = split * share
    end = tl.minimum(start + share, length)
    # 64-bit offsets: a cache of a million tokens passes 2**31 bytes
    KC += batch.to(tl.int64) * kc_batch + head.to(tl.int64) * kc_head
    VC += batch.to(tl.int64) * vc_batch + head.to(tl.int64) * vc_head
    KN += batch.to(tl.int64) * kn_batch + head.to(tl.int64) * kn_head
    VN += batch.to(tl.int64) * vn_batch + head.to(tl.int64) * vn_head
    KPARTS: tl.constexpr = 2 if KBITS == 4 else 4
    VPARTS: tl.constexpr = 2 if VBITS == 4 else 4
    KW: tl.constexpr = D // KPARTS
    VW: tl.constexpr = D // VPARTS
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
        low = _tile(KC, wide, stored, kcol, kc_token, 0)  # (d / parts, block)
        high = low
        if KBITS == 3:
            high = _tile(KC + D // 4, wide, stored, kcol % (D // 8), kc_token, 0)
        k0 = centroids(low, high, kshift[:, None], KT, 0, KBITS)
        k1 = centroids(low, high, kshift[:, None], KT, 1, KBITS)
        if KPARTS == 4:
            k2 = centroids(low, high, kshift[:, None], KT, 2, KBITS)
            k3 = centroids(low, high, kshift[:, None], KT, 3, KBITS)
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
        low = _tile(VC, wide, stored, vcol, vc_token, 1)  # (block, d / parts)
        high = low
        if VBITS == 3:
            high = _tile(VC + D // 4, wide, stored, vcol % (D // 8), vc_token, 1)
        v0 = centroids(low, high, vshift[None, :], VT, 0, VBITS)
        v1 = centroids(low, high, vshift[None, :], VT, 1, VBITS)
        if VPARTS == 4:
            v2 = centroids(low, high, vshift[None, :], VT, 2, VBITS)
            v3 = centroids(low, high, vshift[None, :], VT, 3, VBITS)
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


def attend(query, keys: Packed, values: Packed, lengths, scale: float, tuning: Tuning, dtype=None):
    """Three launches: rotate the query, attend by splits, merge and rotate back.

    See `kernels.attend` for the arguments and the result.
    """
    batch, heads, d = query.shape
    kv_heads, capacity = keys.codes.shape[1:3]
    group = heads // kv_heads
    # Centroids come times sqrt(d), so that they are near one in fp16.
    q, size = rotate(query.contiguous(), keys, kv_heads, scale * LOG2E * d**-0.5)
    splits = splits_for(batch * kv_heads, capacity, tuning, query.device)
    partial, lse = partials(batch * heads, splits, d, query.device)
    split_kernel[(batch * kv_heads, splits)](
        q,
        size,
        keys.codes,
        keys.norms,
        keys.table(),
        values.codes,
        values.norms,
        values.table(),
        lengths,
        partial,
        lse,
        splits,
        *keys.codes.stride()[:3],
        *keys.norms.stride()[:2],
        *values.codes.stride()[:3],
        *values.norms.stride()[:2],
        HEADS=kv_heads,
        GROUP=group,
        ROWS=rows(group),
        D=d,
        KBITS=keys.bits,
        VBITS=values.bits,
        BLOCK=tuning.block,
        num_warps=tuning.warps,
        num_stages=tuning.stages,
    )
    return merge(
        partial, lse, query.shape, dtype or query.dtype, factor=d**-0.5, rotation=values.rotation
    )
