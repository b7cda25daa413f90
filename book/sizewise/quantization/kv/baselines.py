"""What TurboQuant is compared with: the same door, ``encode``, ``decode``, ``nbytes``.

All take vectors (..., tokens, dim). Metadata are stored as 16-bit floats, of 32 bits where one is
past their range, and are counted: `Coded.nbytes` is the sum of what is stored. Sources: KIVI (Liu
et al. 2024) for keys by channel and values by token; e4m3 is the 8-bit float of Micikevicius et
al. 2022.
"""

from dataclasses import dataclass
from typing import Any

from sizewise.quantization import packing
from sizewise.validation import whole

E4M3_LARGEST = 448.0


@dataclass(frozen=True)
class Coded:
    """What is stored of vectors (..., tokens, dim)."""

    packed: Any  # uint8, or float8 for fp8
    scales: Any = None
    zeros: Any = None  # the value of code 0

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        parts = (self.packed, self.scales, self.zeros)
        return sum(part.numel() * part.element_size() for part in parts if part is not None)


class PerToken:
    """Evenly spaced codes between the least and the largest number of each token.

    KIVI's values. ``group`` channels share a range; all of them if it is not said.
    Raises ValueError for bits other than 1, 2, 3, 4, 8, dim that is not a multiple of 8, and a
    group that does not divide it.
    """

    def __init__(self, dim: int, bits: int, group: int | None = None):
        packing.width(bits, dim)
        self.dim, self.bits = dim, bits
        self.group = dim if group is None else whole("the group", group, dim)
        if dim % self.group:
            raise ValueError(f"a group must divide the dimension {dim}, got {group}")

    def nbytes(self, count: int) -> int:
        """Bytes for ``count`` tokens: codes, and a scale and a zero of two bytes for each group."""
        count = whole("the count", count, least=0)
        return count * (packing.width(self.bits, self.dim) + 4 * self.dim // self.group)

    def encode(self, x) -> Coded:
        """x (..., tokens, dim) to codes. Raises ValueError for what is not finite."""
        _expect(x, self.dim)
        grouped = x.float().unflatten(-1, (-1, self.group))  # (..., groups, group)
        codes, scales, zeros = _even(grouped, self.bits, -1)
        return Coded(packing._pack(codes.flatten(-2), self.bits), scales[..., 0], zeros[..., 0])

    def decode(self, coded: Coded, dtype=None):
        """Codes to (..., tokens, dim), of float32 if no dtype is said."""
        codes = packing.unpack(coded.packed, self.bits, self.dim).unflatten(-1, (-1, self.group))
        x = codes.float() * coded.scales[..., None].float() + coded.zeros[..., None].float()
        return _to(x.flatten(-2), dtype)


class PerChannel:
    """Evenly spaced codes between the least and the largest number of a channel over some tokens.

    KIVI's keys: a channel of keys is large at every token, so its range is shared along tokens,
    ``group`` at a time. The last group may be shorter, and has its own range all the same.
    Raises ValueError as `PerToken` does.
    """

    def __init__(self, dim: int, bits: int, group: int = 32):
        packing.width(bits, dim)
        self.dim, self.bits, self.group = dim, bits, whole("the group", group)

    def nbytes(self, count: int) -> int:
        """Bytes for one sequence of ``count`` tokens, metadata of its last group included."""
        count = whole("the count", count, least=0)
        return count * packing.width(self.bits, self.dim) + -(-count // self.group) * self.dim * 4

    def encode(self, x) -> Coded:
        """x (..., tokens, dim) to codes. Raises ValueError for what is not finite."""
        import torch

        _expect(x, self.dim, 2)
        if not x.shape[-2]:
            return Coded(packing._pack(x.byte(), self.bits), x.half(), x.half())
        parts = [_even(part.float(), self.bits, -2) for part in x.split(self.group, -2)]
        codes, scales, zeros = (torch.cat(subset, -2) for subset in zip(*parts, strict=True))
        return Coded(packing._pack(codes, self.bits), scales, zeros)  # scales (..., groups, dim)

    def decode(self, coded: Coded, dtype=None):
        """Codes to (..., tokens, dim), of float32 if no dtype is said."""
        codes = packing.unpack(coded.packed, self.bits, self.dim).float()
        tokens = codes.shape[-2]
        scales, zeros = (
            part.float().repeat_interleave(self.group, -2)[..., :tokens, :]
            for part in (coded.scales, coded.zeros)
        )
        return _to(codes * scales + zeros, dtype)


class Int8:
    """Whole numbers from -127 to 127, with one scale a token."""

    bits = 8

    def __init__(self, dim: int):
        self.dim = whole("the dimension", dim)

    def nbytes(self, count: int) -> int:
        """Bytes for ``count`` tokens: a byte a number, and a scale of two bytes."""
        return whole("the count", count, least=0) * (self.dim + 2)

    def encode(self, x) -> Coded:
        """x (..., dim) to codes. Raises ValueError for what is not finite."""
        import torch

        _expect(x, self.dim)
        x = x.float()
        scales = _stored(x.abs().amax(-1, keepdim=True) / 127)
        codes = (x / _above_zero(scales)).round_().clamp_(-127, 127)
        return Coded(codes.to(torch.int8).view(torch.uint8), scales[..., 0])

    def decode(self, coded: Coded, dtype=None):
        """Codes to (..., dim), of float32 if no dtype is said."""
        import torch

        return _to(coded.packed.view(torch.int8).float() * coded.scales[..., None].float(), dtype)


class Float8:
    """e4m3 numbers, with one scale a token: its largest number becomes 448.

    A scale for a whole tensor, as some servers have it, would have to know what comes later.
    """

    bits = 8

    def __init__(self, dim: int):
        self.dim = whole("the dimension", dim)

    def nbytes(self, count: int) -> int:
        """Bytes for ``count`` tokens: a byte a number, and a scale of two bytes."""
        return whole("the count", count, least=0) * (self.dim + 2)

    def encode(self, x) -> Coded:
        """x (..., dim) to codes. Raises ValueError for what is not finite."""
        import torch

        _expect(x, self.dim)
        x = x.float()
        scales = _stored(x.abs().amax(-1, keepdim=True) / E4M3_LARGEST)
        scaled = (x / _above_zero(scales)).clamp(-E4M3_LARGEST, E4M3_LARGEST)
        return Coded(scaled.to(torch.float8_e4m3fn), scales[..., 0])

    def decode(self, coded: Coded, dtype=None):
        """Codes to (..., dim), of float32 if no dtype is said."""
        return _to(coded.packed.float() * coded.scales[..., None].float(), dtype)


def _even(x, bits: int, along: int):
    """Codes, uint8, scales and zeros, float16, of x between its extremes along an axis.

    The scale and the zero are rounded before codes are chosen, so that codes fit what is stored.
    """
    import torch

    low, high = x.amin(along, keepdim=True), x.amax(along, keepdim=True)
    zeros = _stored(low)
    scales = _stored((high - zeros.float()) / ((1 << bits) - 1))
    codes = ((x - zeros.float()) / _above_zero(scales)).round_().clamp_(0, (1 << bits) - 1)
    return codes.to(torch.uint8), scales, zeros


def _stored(values):
    """Values in float16, or all of them as they are where one is past its range.

    Raises ValueError for a value that is not finite.
    """
    import torch

    if not bool(torch.isfinite(values).all()):
        raise ValueError("vectors hold what is not a finite number")
    half = values.half()
    return half if bool(torch.isfinite(half).all()) else values


def _above_zero(scales):
    """Scales in float32, and 1 where there is nothing to scale."""
    scales = scales.float()
    return scales.masked_fill(scales <= 0, 1.0)


def _expect(x, dim: int, least: int = 1) -> None:
    import torch

    if not isinstance(x, torch.Tensor) or not x.is_floating_point() or x.dim() < least:
        raise ValueError("vectors must be a tensor of floating-point numbers, (..., tokens, dim)")
    if x.shape[-1] != dim:
        raise ValueError(f"this code is for vectors of {dim}, got {x.shape[-1]}")


def _to(x, dtype):
    return x if dtype is None else x.to(dtype)
