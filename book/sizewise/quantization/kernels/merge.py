"""The second stage of split attention: partial results weighed by what they summed over."""

import torch
import triton
import triton.language as tl

COLUMNS = 32  # of a program that rotates: batch 1 has few rows


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


def partials(rows: int, splits: int, d: int, device):
    """Room for the first stage: fp32 (rows, splits, d) and log2-sum-exp2 (rows, splits)."""
    partial = torch.empty(rows, splits, d, dtype=torch.float32, device=device)
    return partial, torch.empty(rows, splits, dtype=torch.float32, device=device)


def merge(partial, lse, shape, dtype, *, factor=1.0, rotation=None):
    """Merge to a tensor of ``shape`` and ``dtype``; rotated back by ``rotation`` (d, d), if any.

    Few rows are rotated in the kernel, which saves a launch; many in one matrix product, which
    reads the rotation once.
    """
    rows, splits, d = partial.shape
    inside = rotation is not None and rows <= 256
    late = rotation is not None and not inside
    out = torch.empty(shape, dtype=torch.float32 if late else dtype, device=partial.device)
    padded = triton.next_power_of_2(splits)
    merge_kernel[(rows, d // COLUMNS if inside else 1)](
        partial,
        lse,
        rotation if inside else partial,
        out,
        splits,
        factor,
        PADDED=padded,
        D=d,
        CHUNK=min(d, max(16, 4096 // max(padded, COLUMNS))),
        COLUMNS=COLUMNS,
        ROTATED=inside,
        num_warps=4,
    )
    return (out @ rotation).to(dtype) if late else out
