"""Decode attention that reads a cache as it is stored: rotated, split over the tokens, merged.

One new token attends to its whole cache, so nothing is read twice and time is bytes over bandwidth,
if the device is filled: a program takes one sequence, one kv head and one share of the tokens
(flash-decoding: Dao et al. 2023), all query heads of the group at once on the matrix units. Packed
keys stay rotated and meet a rotated query; packed values stay rotated and the merged result is
rotated back, once. Norms scale the scores (keys) and the probabilities (values), never the tiles.

Plain caches (fp32, bf16, fp16, fp8 in e4m3, int8 with an fp16 scale a vector) go through the same
kernel, for fair comparison: a library's attention may not split one query's tokens, and being
faster than that would prove little.
"""

import torch
import triton
import triton.language as tl

from .layout import Packed
from .lookup import fields, loaded, multiplied, stride, tiles, words_of

LOG2E = 1.4426950408889634
BLOCK, WARPS, STAGES = 128, 4, 3  # of a tile: no other takes fewer instructions a value
PLAIN_BLOCK = 64
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
    (batch, heads, d), query = query.shape, query.contiguous()
    group = heads // keys.codes.shape[1]
    q = torch.empty_like(query, dtype=torch.float16)
    size = torch.empty(batch, heads, dtype=torch.float32, device=query.device)
    constants = {"GROUP": group, "ROWS": rows(group), "D": d, "COLUMNS": COLUMNS}
    grid = (batch * heads // group, d // COLUMNS)
    rotate_kernel[grid](query, keys.rotation, q, size, factor, **constants)
    return q, size


def rows(group: int) -> int:
    """Rows of a tile for a group: a power of two, at least the matrix units' 16."""
    return max(16, triton.next_power_of_2(group))


# Splits vary with the shape: no new compilation for each number of them.
@triton.jit(do_not_specialize=["SPLITS"])
def split_kernel(
    Q,
    SIZE,
    K,
    KN,
    KT,
    V,
    VN,
    VT,
    LENGTH,
    PARTIAL,
    LSE,
    SPLITS,
    factor,
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
    """Attention of one group of query heads over one share of one sequence's tokens.

    KN and VN are norms or scales, None where there are none; so is SIZE, which stands for
    ``factor`` where queries have norms.
    """
    program, split = tl.program_id(0), tl.program_id(1)
    length = tl.load(LENGTH + program // HEADS)
    share = tl.cdiv(tl.cdiv(length, BLOCK), SPLITS) * BLOCK
    start = split * share
    end = tl.minimum(start + share, length)
    KF: tl.constexpr = fields(KBITS)
    VF: tl.constexpr = fields(VBITS)
    # 64-bit offsets: a cache of a million tokens passes 2**31 bytes
    first = program.to(tl.int64) * CAPACITY
    K += first * stride(KBITS, D)
    V += first * stride(VBITS, D)
    row = tl.arange(0, ROWS)
    inside = row < GROUP
    kcol, vcol = tl.arange(0, D // KF), tl.arange(0, D // VF)
    best = tl.full([ROWS], -float("inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    out = ()
    for _ in tl.static_range(VF):
        out += (tl.zeros([ROWS, D // VF], tl.float32),)
    kwords, vwords = words_of(KT, PERMUTE), words_of(VT, PERMUTE)
    if KN is not None:
        KN += first
        VN += first
        ahead = start + tl.arange(0, BLOCK)
        next_kn = tl.load(KN + ahead, mask=ahead < end, other=0.0)
        next_vn = tl.load(VN + ahead, mask=ahead < end, other=0.0)
    at = Q + program * GROUP * D + row[:, None] * D + kcol[None, :]
    q = loaded(at, inside[:, None], KF, D // KF)  # (rows, d / fields) each
    if (KBITS == 0) and (K.dtype.element_ty.primitive_bitwidth == 8):
        q = (q[0].to(tl.float16),)
    scale = factor  # of scores in bits: log2(e) is in it
    if SIZE is not None:
        scale = tl.load(SIZE + program * GROUP + row, mask=inside, other=0.0)[:, None]
    for begin in range(start, end, BLOCK):
        token = begin + tl.arange(0, BLOCK)
        stored = token < end
        if KN is not None:
            ahead = token + BLOCK
            kn, vn = next_kn.to(tl.float32), next_vn.to(tl.float32)
            next_kn = tl.load(KN + ahead, mask=ahead < end, other=0.0)  # in flight in this tile
            next_vn = tl.load(VN + ahead, mask=ahead < end, other=0.0)
        k = tiles(K, token, stored, KT, kwords, D, KBITS, False, PERMUTE)
        scores = multiplied(q, k, KF) * scale  # (rows, block)
        if KN is not None:
            scores *= kn[None, :]
        scores = tl.where(stored[None, :], scores, -float("inf"))
        newest = tl.maximum(best, tl.max(scores, 1))
        weight = tl.exp2(scores - newest[:, None])
        decay = tl.exp2(best - newest)
        best, total = newest, total * decay + tl.sum(weight, 1)
        if KN is not None:
            weight *= vn[None, :]
        p = weight.to(k[0].dtype)
        v = tiles(V, token, stored, VT, vwords, D, VBITS, True, PERMUTE)
        before, out = out, ()
        for field in tl.static_range(VF):
            out += (tl.dot(p, v[field], before[field] * decay[:, None]),)
    # A split beyond the sequence's end has read nothing and weighs nothing.
    read = total > 0
    safe = tl.where(read, total, 1.0)
    line = (program * GROUP + row) * SPLITS + split
    tl.store(LSE + line, tl.where(read, best + tl.log2(safe), -float("inf")), mask=inside)
    share_of = tl.where(read, 1.0 / safe, 0.0)[:, None]
    at = PARTIAL + line.to(tl.int64)[:, None] * D + vcol[None, :]
    for field in tl.static_range(VF):
        tl.store(at + field * (D // VF), out[field] * share_of, mask=inside[:, None])


def splits_for(programs: int, tokens: int, block: int) -> int:
    """Shares of each sequence, so that ``programs`` times as many fill the device at once.

    No share is shorter than a tile. A multiprocessor that holds several programs hides the loads of
    one behind the work of another.
    """
    return max(1, min(RESIDENT * UNITS // programs, triton.cdiv(tokens, block), MOST))


def attend(query, keys, values, lengths, *, block=0, splits=0, dtype=None):
    """`kernels.attend`, in three launches: rotate, attend by splits, merge and rotate back.

    Keys and values may also be plain, (numbers, scales): numbers (batch, kv heads, tokens, d),
    contiguous; scales fp16 (batch, kv heads, tokens) of int8, None of others. Two launches then.
    """
    (batch, heads, d), packed = query.shape, isinstance(keys, Packed)
    factor = LOG2E * d**-0.5
    if packed:
        # Centroids come times sqrt(d), so that they are near one in fp16.
        q, size = rotate(query, keys, factor * d**-0.5)
        rotation, bits = values.rotation, (keys.bits, values.bits)
        sides = [(side.codes, side.norms, side.looked_up) for side in (keys, values)]
    else:
        kind = keys[0].dtype
        if kind == torch.bfloat16 and query.device.type == "cpu":
            kind = torch.float32  # the interpreter multiplies bf16's bits as if they were integers
        q, size, rotation, bits = query.contiguous(), None, None, (0, 0)
        q = q if kind.itemsize == 1 else q.to(kind)
        sides = [(numbers.to(kind), scales, None) for numbers, scales in (keys, values)]
    kv_heads, tokens = sides[0][0].shape[1:3]
    block = block or (BLOCK if packed else PLAIN_BLOCK)
    splits = splits or splits_for(batch * kv_heads, tokens, block)
    partial = torch.empty(batch * heads, splits, d, dtype=torch.float32, device=query.device)
    lse = torch.empty(batch * heads, splits, dtype=torch.float32, device=query.device)
    split_kernel[(batch * kv_heads, splits)](
        q,
        size,
        *sides[0],
        *sides[1],
        lengths,
        partial,
        lse,
        splits,
        factor,
        tokens,
        HEADS=kv_heads,
        GROUP=heads // kv_heads,
        ROWS=rows(heads // kv_heads),
        D=d,
        KBITS=bits[0],
        VBITS=bits[1],
        BLOCK=block,
        PERMUTE=packed and keys.permute,
        num_warps=WARPS,
        num_stages=STAGES,
    )
    out = torch.empty(query.shape, dtype=dtype or query.dtype, device=query.device)
    return merge(partial, lse, out, rotation)


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
):
    """One query head: sum of partials weighed by 2**lse, then x = rotation^T y unless ROT is None,
    of which a program makes COLUMNS coordinates."""
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
        if ROT is not None:
            rotation = tl.load(ROT + inner[:, None] * D + column[None, :])  # (chunk, columns)
            out += tl.sum(merged[:, None] * rotation, 0)
        else:
            tl.store(OUT + program * D + inner, merged.to(OUT.dtype.element_ty))
    if ROT is not None:
        tl.store(OUT + program * D + column, out.to(OUT.dtype.element_ty))


def merge(partial, lse, out, rotation):
    """``out``, merged from the splits' results: fp32 (heads, splits, d) and their log2-sum-exp2
    (heads, splits); rotated back by ``rotation`` (d, d), if any.

    Few heads are rotated in the kernel, which saves a launch; many in one matrix product, which
    reads the rotation once.
    """
    heads, splits, d = partial.shape
    inside = rotation is not None and heads <= 256
    late = rotation is not None and not inside
    merged = torch.empty_like(out, dtype=torch.float32) if late else out
    padded, columns = triton.next_power_of_2(splits), 2 * COLUMNS
    merge_kernel[(heads, d // columns if inside else 1)](
        partial,
        lse,
        rotation if inside else None,
        merged,
        splits,
        1.0 if rotation is None else d**-0.5,
        PADDED=padded,
        D=d,
        CHUNK=min(d, max(16, 4096 // max(padded, columns))),
        COLUMNS=columns,
    )
    return (merged @ rotation).to(out.dtype) if late else out
