"""Decode attention that reads packed codes: split over the tokens, then merged.

One new token attends to its whole cache, so nothing is read twice and time is bytes over bandwidth,
if the device is filled: a program takes one sequence, one kv head and one share of the tokens
(flash-decoding: Dao et al. 2023), all query heads of the group at once on the matrix units. Keys
stay rotated and meet a rotated query; values stay rotated and the merged result is rotated back,
once. Norms scale the scores (keys) and the probabilities (values), never the tiles.
"""

import triton
import triton.language as tl

from . import occupancy
from .layout import Packed, Tuning
from .lookup import chosen, gathered, permuted2, permuted3, permuted4, planes
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
    LOOKUP: tl.constexpr,
    OVERLAP: tl.constexpr,
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
    if LOOKUP == "prmt":
        kh0, kh1 = tl.load(KT), tl.load(KT + 1)
        kl0, kl1 = tl.load(KT + 2), tl.load(KT + 3)
        vh0, vh1 = tl.load(VT), tl.load(VT + 1)
        vl0, vl1 = tl.load(VT + 2), tl.load(VT + 3)
    ahead = start + tl.arange(0, BLOCK)
    next_kn = tl.load(KN + ahead, mask=ahead < end, other=0.0)
    next_vn = tl.load(VN + ahead, mask=ahead < end, other=0.0)
    if OVERLAP:  # what is above does not depend on the query, which another kernel rotates
        tl.extra.cuda.gdc_wait()
        tl.extra.cuda.gdc_launch_dependents()
    q_at = Q + program * GROUP * D + row[:, None] * D + kcol[None, :]
    q0 = tl.load(q_at, mask=inside_group[:, None], other=0.0)  # (rows, d / parts)
    q1 = tl.load(q_at + KW, mask=inside_group[:, None], other=0.0)
    if KPARTS == 4:
        q2 = tl.load(q_at + 2 * KW, mask=inside_group[:, None], other=0.0)
        q3 = tl.load(q_at + 3 * KW, mask=inside_group[:, None], other=0.0)
    size = tl.load(SIZE + program * GROUP + row, mask=inside_group, other=0.0)
    for begin in range(start, end, BLOCK):
        token = begin + tl.arange(0, BLOCK)
        held = token < end
        ahead = token + BLOCK
        kn, vn = next_kn.to(tl.float32), next_vn.to(tl.float32)
        next_kn = tl.load(KN + ahead, mask=ahead < end, other=0.0)  # in flight during this tile
        next_vn = tl.load(VN + ahead, mask=ahead < end, other=0.0)
        wide = token.to(tl.int64)
        low = _tile(KC, wide, held, kcol, kc_token, 0)  # (d / parts, block)
        high = low
        if KBITS == 3:
            high = _tile(KC + D // 4, wide, held, kcol % (D // 8), kc_token, 0)
        if LOOKUP == "prmt" and KBITS == 4:
            k0, k1 = permuted4(low, kh0, kh1, kl0, kl1)
        elif LOOKUP == "prmt" and KBITS == 3:
            k0, k1, k2, k3 = permuted3(low, high, kshift[:, None], kh0, kh1, kl0, kl1)
        elif LOOKUP == "prmt":
            k0, k1, k2, k3 = permuted2(low, kh0, kl0)
        else:
            k0 = gathered(low, high, kshift[:, None], KT, 0, KBITS)
            k1 = gathered(low, high, kshift[:, None], KT, 1, KBITS)
            if KPARTS == 4:
                k2 = gathered(low, high, kshift[:, None], KT, 2, KBITS)
                k3 = gathered(low, high, kshift[:, None], KT, 3, KBITS)
        scores = tl.dot(q1, k1, tl.dot(q0, k0))  # (rows, block)
        if KPARTS == 4:
            scores = tl.dot(q3, k3, tl.dot(q2, k2, scores))
        scores = scores * size[:, None] * kn[None, :]  # in bits: log2(e) is in the size
        scores = tl.where(held[None, :], scores, -float("inf"))
        newest = tl.maximum(best, tl.max(scores, 1))
        weight = tl.exp2(scores - newest[:, None])
        decay = tl.exp2(best - newest)
        total = total * decay + tl.sum(weight, 1)
        best = newest
        p = (weight * vn[None, :]).to(tl.float16)
        low = _tile(VC, wide, held, vcol, vc_token, 1)  # (block, d / parts)
        high = low
        if VBITS == 3:
            high = _tile(VC + D // 4, wide, held, vcol % (D // 8), vc_token, 1)
        if LOOKUP == "prmt" and VBITS == 4:
            v0, v1 = permuted4(low, vh0, vh1, vl0, vl1)
        elif LOOKUP == "prmt" and VBITS == 3:
            v0, v1, v2, v3 = permuted3(low, high, vshift[None, :], vh0, vh1, vl0, vl1)
        elif LOOKUP == "prmt":
            v0, v1, v2, v3 = permuted2(low, vh0, vl0)
        else:
            v0 = gathered(low, high, vshift[None, :], VT, 0, VBITS)
            v1 = gathered(low, high, vshift[None, :], VT, 1, VBITS)
            if VPARTS == 4:
                v2 = gathered(low, high, vshift[None, :], VT, 2, VBITS)
                v3 = gathered(low, high, vshift[None, :], VT, 3, VBITS)
        o0 = tl.dot(p, v0, o0 * decay[:, None])
        o1 = tl.dot(p, v1, o1 * decay[:, None])
        if VPARTS == 4:
            o2 = tl.dot(p, v2, o2 * decay[:, None])
            o3 = tl.dot(p, v3, o3 * decay[:, None])
    some = total > 0  # a split beyond the sequence's end weighs nothing
    scale = tl.where(some, 1.0 / tl.where(some, total, 1.0), 0.0)[:, None]
    line = (program * GROUP + row) * SPLITS + split
    lse = tl.where(some, best + tl.log2(tl.where(some, total, 1.0)), -float("inf"))
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
    first, second, third = steps(query, keys, values, lengths, scale, tuning, dtype)
    return third(*second(*first()))


def steps(query, keys: Packed, values: Packed, lengths, scale: float, tuning: Tuning, dtype=None):
    """The three launches as functions, each of what the one before returned."""
    d, kv_heads = query.shape[-1], keys.codes.shape[1]

    def first():
        factor = scale * LOG2E * d**-0.5  # centroids come times sqrt(d)
        return rotate(query.contiguous(), keys, kv_heads, factor, tuning.overlap)

    def second(q, size):
        return split(q, size, keys, values, lengths, tuning)

    def third(partial, lse):
        return merge(
            partial,
            lse,
            query.shape,
            dtype or query.dtype,
            factor=d**-0.5,
            rotation=values.rotation,
            overlap=tuning.overlap,
        )

    return first, second, third


def split(q, size, keys: Packed, values: Packed, lengths, tuning: Tuning):
    """Attention by splits of a rotated query: partial results and what they weigh (`merge`)."""
    batch, heads, d = q.shape
    kv_heads = keys.codes.shape[1]
    before, after, fixed = _arguments(q, size, keys, values, lengths, tuning)
    splits = _planned(before, after, fixed, keys, tuning).splits
    partial, lse = partials(batch * heads, splits, d, q.device)
    launch = {"launch_pdl": True} if tuning.overlap else {}
    split_kernel[(batch * kv_heads, splits)](
        *before, partial, lse, splits, *after, **fixed, **launch
    )
    return partial, lse


def plan(q, size, keys: Packed, values: Packed, lengths, tuning: Tuning) -> occupancy.Plan:
    """How `split` divides the work on this device."""
    return _planned(*_arguments(q, size, keys, values, lengths, tuning), keys, tuning)


def _planned(before, after, fixed: dict, keys: Packed, tuning: Tuning) -> occupancy.Plan:
    import torch

    kind, device = torch.float32, keys.codes.device
    kernel = occupancy.loaded(split_kernel, device, *before, kind, kind, 1, *after, **fixed)
    batch, kv_heads, capacity = keys.codes.shape[:3]
    return occupancy.plan(batch * kv_heads, capacity, tuning, device, kernel)


def _arguments(q, size, keys: Packed, values: Packed, lengths, tuning: Tuning):
    """The kernel's arguments before and after the splits' own, and its constants."""
    heads, d = q.shape[1:]
    kv_heads = keys.codes.shape[1]
    group, lookup = heads // kv_heads, chosen(tuning.lookup, q.device, keys, values)
    tables = [planes(p) if lookup == "prmt" else p.table() for p in (keys, values)]
    before = (
        q,
        size,
        keys.codes,
        keys.norms,
        tables[0],
        values.codes,
        values.norms,
        tables[1],
        lengths,
    )
    after = (
        *keys.codes.stride()[:3],
        *keys.norms.stride()[:2],
        *values.codes.stride()[:3],
        *values.norms.stride()[:2],
    )
    fixed = {
        "HEADS": kv_heads,
        "GROUP": group,
        "ROWS": rows(group),
        "D": d,
        "KBITS": keys.bits,
        "VBITS": values.bits,
        "BLOCK": tuning.block,
        "LOOKUP": lookup,
        "OVERLAP": tuning.overlap,
        "num_warps": tuning.warps,
        "num_stages": tuning.stages,
    }
    return before, after, fixed
