"""Decode attention that reads packed codes: rotated, split over the tokens, merged, rotated back.

One new token attends to its whole cache, so nothing is read twice and time is bytes over bandwidth,
if the device is filled: a program takes one sequence, one kv head and one share of the tokens
(flash-decoding: Dao et al. 2023), all query heads of the group at once on the matrix units. Keys
stay rotated and meet a rotated query; values stay rotated and the merged result is rotated back,
once. Norms scale the scores (keys) and the probabilities (values), never the tiles.
"""

import torch
import triton
import triton.language as tl

from .layout import Packed
from .lookup import centroids, words_of

LOG2E = 1.4426950408889634
BLOCK, WARPS, STAGES = 128, 4, 3  # of a tile: no other takes fewer instructions a value
RESIDENT = 3  # programs that a multiprocessor's registers and shared memory hold, plain ones too
UNITS = 132  # multiprocessors of an H100 or H200
MOST = 512  # splits of one sequence: they are merged in one tile
COLUMNS = 16  # of a program that rotates: batch 1 has few queries, so many share a rotation


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


def rotate(query, keys: Packed, factor: float):
    """The query (batch, query heads, d) rotated, fp16 of norm 1; its norm times ``factor``, fp32
    (batch, query heads).
    """
    batch, heads, d = query.shape
    group = heads // keys.codes.shape[1]
    q = torch.empty_like(query, dtype=torch.float16)
    size = torch.empty(batch, heads, dtype=torch.float32, device=query.device)
    grid = (batch * heads // group, d // COLUMNS)
    constants = {"GROUP": group, "ROWS": rows(group), "D": d, "COLUMNS": COLUMNS}
    rotate_kernel[grid](query.contiguous(), keys.rotation, q, size, factor, **constants)
    return q, size


def rows(group: int) -> int:
    """Rows of a tile for a group: a power of two, at least the matrix units' 16."""
    return max(16, triton.next_power_of_2(group))


@triton.jit
def softmax_step(scores, best, total):
    """One tile's scores (rows, block), in bits, joined to a running softmax.

    Weights relative to the new maximum, what earlier sums decay by, that maximum, and the total.
    """
    newest = tl.maximum(best, tl.max(scores, 1))
    weight = tl.exp2(scores - newest[:, None])
    decay = tl.exp2(best - newest)
    return weight, decay, newest, total * decay + tl.sum(weight, 1)


@triton.jit
def softmax_end(best, total):
    """log2-sum-exp2 and one over the total; a split beyond the sequence's end weighs nothing."""
    read = total > 0
    safe = tl.where(read, total, 1.0)
    return tl.where(read, best + tl.log2(safe), -float("inf")), tl.where(read, 1.0 / safe, 0.0)


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
    CAPACITY,
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
    KW: tl.constexpr = D // (2 if KBITS == 4 else 4)
    VW: tl.constexpr = D // (2 if VBITS == 4 else 4)
    # 64-bit offsets: a cache of a million tokens passes 2**31 bytes
    first = program.to(tl.int64) * CAPACITY
    KC += first * (D * KBITS // 8)
    VC += first * (D * VBITS // 8)
    KN += first
    VN += first
    row = tl.arange(0, ROWS)
    inside_group = row < GROUP
    kcol, vcol = tl.arange(0, KW), tl.arange(0, VW)
    best = tl.full([ROWS], -float("inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    o0 = tl.zeros([ROWS, VW], tl.float32)
    o1 = tl.zeros([ROWS, VW], tl.float32)
    if VBITS < 4:
        o2 = tl.zeros([ROWS, VW], tl.float32)
        o3 = tl.zeros([ROWS, VW], tl.float32)
    kwords, vwords = words_of(KT, PERMUTE), words_of(VT, PERMUTE)
    ahead = start + tl.arange(0, BLOCK)
    next_kn = tl.load(KN + ahead, mask=ahead < end, other=0.0)
    next_vn = tl.load(VN + ahead, mask=ahead < end, other=0.0)
    q_at = Q + program * GROUP * D + row[:, None] * D + kcol[None, :]
    q0 = tl.load(q_at, mask=inside_group[:, None], other=0.0)  # (rows, d / parts)
    q1 = tl.load(q_at + KW, mask=inside_group[:, None], other=0.0)
    if KBITS < 4:
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
        k0, k1, k2, k3 = centroids(KC, token, stored, KT, kwords, D, KBITS, False, PERMUTE)
        scores = tl.dot(q1, k1, tl.dot(q0, k0))  # (rows, block)
        if KBITS < 4:
            scores = tl.dot(q3, k3, tl.dot(q2, k2, scores))
        scores = scores * size[:, None] * kn[None, :]  # in bits: log2(e) is in the size
        scores = tl.where(stored[None, :], scores, -float("inf"))
        weight, decay, best, total = softmax_step(scores, best, total)
        p = (weight * vn[None, :]).to(tl.float16)
        v0, v1, v2, v3 = centroids(VC, token, stored, VT, vwords, D, VBITS, True, PERMUTE)
        o0 = tl.dot(p, v0, o0 * decay[:, None])
        o1 = tl.dot(p, v1, o1 * decay[:, None])
        if VBITS < 4:
            o2 = tl.dot(p, v2, o2 * decay[:, None])
            o3 = tl.dot(p, v3, o3 * decay[:, None])
    lse, scale = softmax_end(best, total)
    line = (program * GROUP + row) * SPLITS + split
    tl.store(LSE + line, lse, mask=inside_group)
    out = PARTIAL + line.to(tl.int64)[:, None] * D + vcol[None, :]
    tl.store(out, o0 * scale[:, None], mask=inside_group[:, None])
    tl.store(out + VW, o1 * scale[:, None], mask=inside_group[:, None])
    if VBITS < 4:
        tl.store(out + 2 * VW, o2 * scale[:, None], mask=inside_group[:, None])
        tl.store(out + 3 * VW, o3 * scale[:, None], mask=inside_group[:, None])


def splits_for(programs: int, tokens: int, block: int) -> int:
    """Shares of each sequence, so that ``programs`` times as many fill the device at once.

    No share is shorter than a tile. A multiprocessor that holds several programs hides the loads of
    one behind the work of another.
    """
    return max(1, min(RESIDENT * UNITS // programs, triton.cdiv(tokens, block), MOST))


def attend(query, keys: Packed, values: Packed, lengths, scale: float, block, splits, dtype):
    """`kernels.attend` in three launches: rotate, attend by splits, merge and rotate back."""
    batch, heads, d = query.shape
    kv_heads, capacity = keys.codes.shape[1:3]
    # Centroids come times sqrt(d), so that they are near one in fp16.
    q, size = rotate(query, keys, scale * LOG2E * d**-0.5)
    splits = splits or splits_for(batch * kv_heads, capacity, block)
    partial, lse = partials(batch * heads, splits, d, query.device)
    split_kernel[(batch * kv_heads, splits)](
        q,
        size,
        keys.codes,
        keys.norms,
        keys.looked_up,
        values.codes,
        values.norms,
        values.looked_up,
        lengths,
        partial,
        lse,
        splits,
        capacity,
        HEADS=kv_heads,
        GROUP=heads // kv_heads,
        ROWS=rows(heads // kv_heads),
        D=d,
        KBITS=keys.bits,
        VBITS=values.bits,
        BLOCK=block,
        PERMUTE=keys.permute,
        num_warps=WARPS,
        num_stages=STAGES,
    )
    return merge(partial, lse, query.shape, dtype, factor=d**-0.5, rotation=values.rotation)


# Splits vary with the shape: no new compilation for each number of them.
@triton.jit(do_not_specialize=["SPLITS"])
def merge_kernel(
    PARTIAL,
    LSE,
    ROT,
    OUT,
    SPLITS,
    factor,
    PADDED: tl.constexpr,
    D: tl.constexpr,
    CHUNK: tl.constexpr,
    COLUMNS: tl.constexpr,
    ROTATED: tl.constexpr,
):
    """One query head: sum of partials weighed by 2**lse, then x = rotation^T y if ROTATED, of
    which a program makes COLUMNS coordinates."""
    program = tl.program_id(0)
    split = tl.arange(0, PADDED)
    inside = split < SPLITS
    lse = tl.load(LSE + program * SPLITS + split, mask=inside, other=-float("inf"))
    largest = tl.max(lse, 0)
    largest = tl.where(largest == -float("inf"), 0.0, largest)  # a sequence of no tokens
    weight = tl.exp2(lse - largest)
    total = tl.sum(weight, 0)
    weight = weight * factor / tl.where(total > 0, total, 1.0)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    out = tl.zeros([COLUMNS], tl.float32)
    base = PARTIAL + program.to(tl.int64) * SPLITS * D
    for begin in range(0, D, CHUNK):
        inner = begin + tl.arange(0, CHUNK)
        at = base + split[:, None] * D + inner[None, :]
        part = tl.load(at, mask=inside[:, None], other=0.0)
        merged = tl.sum(part * weight[:, None], 0)  # (chunk)
        if ROTATED:
            rotation = tl.load(ROT + inner[:, None] * D + column[None, :])  # (chunk, columns)
            out += tl.sum(merged[:, None] * rotation, 0)
        else:
            tl.store(OUT + program * D + inner, merged.to(OUT.dtype.element_ty))
    if ROTATED:
        tl.store(OUT + program * D + column, out.to(OUT.dtype.element_ty))


def partials(heads: int, splits: int, d: int, device):
    """Room for the splits' results: fp32 (heads, splits, d) and log2-sum-exp2 (heads, splits)."""
    partial = torch.empty(heads, splits, d, dtype=torch.float32, device=device)
    return partial, torch.empty(heads, splits, dtype=torch.float32, device=device)


def merge(partial, lse, shape, dtype, *, factor=1.0, rotation=None):
    """Merge to a tensor of ``shape`` and ``dtype``; rotated back by ``rotation`` (d, d), if any.

    Few heads are rotated in the kernel, which saves a launch; many in one matrix product, which
    reads the rotation once.
    """
    heads, splits, d = partial.shape
    inside = rotation is not None and heads <= 256
    late = rotation is not None and not inside
    out = torch.empty(shape, dtype=torch.float32 if late else dtype, device=partial.device)
    padded, columns = triton.next_power_of_2(splits), 2 * COLUMNS
    merge_kernel[(heads, d // columns if inside else 1)](
        partial,
        lse,
        rotation if inside else partial,
        out,
        splits,
        factor,
        PADDED=padded,
        D=d,
        CHUNK=min(d, max(16, 4096 // max(padded, columns))),
        COLUMNS=columns,
        ROTATED=inside,
    )
    return (out @ rotation).to(dtype) if late else out
