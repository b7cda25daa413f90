"""Absmax block-wise quantization in plain torch, as bitsandbytes stores it.

A tensor is read as one row of values in blocks; each block is divided by its largest magnitude,
and each value becomes the code of the nearest level of a table (QLoRA, Dettmers et al. 2023,
section 2). Double quantization then stores the scales themselves in 8 bits (section 3 there).
"""

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from sizewise import validation

if TYPE_CHECKING:
    from torch import Tensor

SCALE_BLOCK = 256  # scales that share a scale of their own
GRID = 65_535  # bitsandbytes on a CPU looks 8-bit codes up in a table of this many steps


@dataclass(frozen=True)
class Scales:
    """Scales stored in 8 bits: codes of what differs from their mean, uint8 (blocks,)."""

    codes: "Tensor"
    scales: "Tensor"  # fp32 (blocks / 256,)
    table: "Tensor"  # fp32 (256,)
    mean: "Tensor"  # fp32 ()


@dataclass(frozen=True)
class Quantized:
    """A tensor in blocks. Codes of a table of 16 are packed two a byte, the first one high."""

    codes: "Tensor"  # uint8 (ceil(n / 2),) if packed, else (n,)
    scales: "Tensor | Scales"  # fp32 (blocks,), or in 8 bits
    table: "Tensor"  # fp32 (levels,), in the order of the codes
    block: int
    shape: tuple[int, ...]
    dtype: Any  # of what was quantized

    @property
    def packed(self) -> bool:
        return self.table.numel() <= 16

    @property
    def nbytes(self) -> int:
        """Bytes of codes, scales and tables."""
        stored = [self.codes, self.table]
        s = self.scales
        stored += [s.codes, s.scales, s.table, s.mean] if isinstance(s, Scales) else [s]
        return sum(item.nbytes for item in stored)


def quantize(x: "Tensor", table, block: int = 64, double: bool = False) -> Quantized:
    """Quantize ``x`` of any shape to a ``table`` of at most 256 levels in [-1, 1], in any order.

    A value half-way between two levels takes the lower one, as in bitsandbytes. The last block
    may be short. ``double=True`` stores the scales in 8 bits.
    Raises ValueError for a block under 1, a table that is empty, too large or out of range, an
    empty tensor, and values that are not finite.
    """
    import torch

    block = validation.whole("block", block)
    levels = torch.as_tensor(np.asarray(table), dtype=torch.float32, device=x.device)
    if levels.ndim != 1 or not 2 <= levels.numel() <= 256 or not (levels.abs() <= 1).all():
        raise ValueError("a table has from 2 to 256 levels, all of them from -1 to 1")
    if not x.is_floating_point() or not x.numel() or not x.isfinite().all():
        raise ValueError("only a tensor of finite floating-point values can be quantized")
    scaled, scales = _scale(x.detach().reshape(-1).float(), block)
    order = torch.argsort(levels, stable=True)
    ascending = levels[order]
    codes = order[torch.bucketize(scaled, (ascending[:-1] + ascending[1:]) / 2)].to(torch.uint8)
    if levels.numel() <= 16:
        codes = _pack(codes, order, ascending)
    stored = _double(scales) if double else scales
    return Quantized(codes, stored, levels, block, tuple(x.shape), x.dtype)


def dequantize(q: Quantized, dtype=None) -> "Tensor":
    """The values that ``q`` stands for, in its shape; products are in fp32, then cast."""
    scales = scales_of(q).repeat_interleave(q.block)[: prod(q.shape)]  # (n,)
    return (q.table[codes_of(q).long()] * scales).reshape(q.shape).to(dtype or q.dtype)


def codes_of(q: Quantized) -> "Tensor":
    """One code a value, uint8 (n,), unpacked."""
    import torch

    if not q.packed:
        return q.codes
    return torch.stack([q.codes >> 4, q.codes & 15], -1).reshape(-1)[: prod(q.shape)]


def scales_of(q: Quantized) -> "Tensor":
    """The scales as they are used, fp32 (blocks,)."""
    s = q.scales
    if not isinstance(s, Scales):
        return s
    each = s.scales.repeat_interleave(SCALE_BLOCK)[: s.codes.numel()]
    return s.table[s.codes.long()] * each + s.mean


def dynamic_table() -> "Tensor":
    """The signed 8-bit dynamic code, fp32 (256,), ascending.

    Seven decades below one; the decade 10^(i-7) .. 10^(i-6) has 2^i levels a sign, in the middle
    of equal steps. With 0 and 1 that makes 256.
    Source: Dettmers, 8-Bit Approximations for Parallelism in Deep Learning (2015), section 2.
    """
    import torch

    levels = [0.0, 1.0]
    for decade in range(7):
        steps = torch.linspace(0.1, 1, 2**decade + 1)
        middles = (steps[:-1] + steps[1:]) / 2 * 10.0 ** (decade - 6)  # in fp32, as published
        levels += [*middles.tolist(), *(-middles).tolist()]
    return torch.tensor(sorted(levels))


def _scale(flat: "Tensor", block: int, divided: bool = True) -> "tuple[Tensor, Tensor]":
    """Values in [-1, 1], (n,), and the largest magnitude of each block, (blocks,).

    Whole blocks are multiplied by a reciprocal, and the short one at the end is divided (or not,
    if ``divided`` is false): the two may differ in the last bit, which decides between two codes,
    so both follow bitsandbytes.
    """
    import torch

    full = flat.numel() // block * block
    blocks, end = flat[:full].reshape(-1, block), flat[full:]
    scales = blocks.abs().amax(1) if full else flat.new_empty(0)
    scaled = blocks * (1 / scales.clamp(min=1e-38))[:, None]
    if end.numel():
        largest = end.abs().max()
        part = largest.clamp(min=1e-38)
        scales = torch.cat([scales, (part if divided else largest)[None]])
        scaled = torch.cat([scaled.reshape(-1), end / part if divided else end * (1 / part)])
    return scaled.reshape(-1).clamp(-1, 1), scales


def _pack(codes: "Tensor", order: "Tensor", ascending: "Tensor") -> "Tensor":
    """Two codes a byte; an odd end is filled with the code of zero."""
    import torch

    if codes.numel() % 2:
        zero = order[torch.bucketize(ascending.new_zeros(1), (ascending[:-1] + ascending[1:]) / 2)]
        codes = torch.cat([codes, zero.to(torch.uint8)])
    return codes[::2] << 4 | codes[1::2]


def _double(scales: "Tensor") -> Scales:
    """Scales in 8 bits, as bitsandbytes stores them on a CPU.

    A value is rounded to one of 65,536 steps from -1 to 1 before the nearest level is taken. The
    steps, 3e-5 wide, are coarser than the finest levels, so a code may be off by a few near zero.
    """
    import torch

    mean = scales.mean()
    table = dynamic_table().to(scales.device)
    scaled, largest = _scale(scales - mean, SCALE_BLOCK, divided=False)
    step = ((scaled + 1) * 0.5 * GRID + 0.5).floor()
    codes = torch.bucketize(step / GRID * 2 - 1, (table[:-1] + table[1:]) / 2)
    alike = (largest == 0).repeat_interleave(SCALE_BLOCK)[: codes.numel()]  # all at the mean
    return Scales(codes.masked_fill(alike, 0).to(torch.uint8), largest, table, mean)
