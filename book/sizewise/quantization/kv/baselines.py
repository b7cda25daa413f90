"""What TurboQuant is compared with: the same door, ``encode`` and ``decode``.

All take vectors (..., tokens, dim), raise ValueError for what is not finite or of another width,
and decode to float32 if no dtype is said. Metadata are stored as 16-bit floats, of 32 bits where
one is past their range, and are counted: `Coded.nbytes` is the sum of what is stored. Sources:
KIVI (Liu et al. 2024) for keys by channel and values by token; e4m3 is the 8-bit float of
Micikevicius et al. 2022.
"""

from sizewise.quantization import packing
from sizewise.quantization.packing import Coded
from sizewise.validation import whole


class PerToken:
    """Evenly spaced codes between the least and the largest number of each token: KIVI's values.

    Raises ValueError for bits other than 1, 2, 3, 4, 8, and dim that is not a multiple of 8.
    """

    def __init__(self, dim: int, bits: int):
        packing.width(bits, dim)
        self.dim, self.bits = dim, bits

    def encode(self, x) -> Coded:
        codes, scales, zeros = _even(_checked(x, self.dim), self.bits, -1)
        return Coded(
            packing._pack(codes, self.bits), scales=scales, zeros=zeros
        )  # scales (..., tokens, 1)

    def decode(self, coded: Coded, dtype=None):
        codes = packing.unpack(coded.packed, self.bits, self.dim).float()
        return _to(codes * coded.scales.float() + coded.zeros.float(), dtype)


class PerChannel:
    """Evenly spaced codes between the least and the largest number of a channel over some tokens.

    KIVI's keys: a channel of keys is large at every token, so its range is shared along tokens,
    ``group`` at a time. The last group may be shorter, and has its own range all the same.
    Raises ValueError as `PerToken` does.
    """

    def __init__(self, dim: int, bits: int, group: int = 32):
        packing.width(bits, dim)
        self.dim, self.bits, self.group = dim, bits, whole("the group", group)

    def encode(self, x) -> Coded:
        import torch

        x = _checked(x, self.dim)
        if not x.shape[-2]:
            return Coded(packing._pack(x.byte(), self.bits), scales=x.half(), zeros=x.half())
        parts = [_even(part, self.bits, -2) for part in x.split(self.group, -2)]
        codes, scales, zeros = (torch.cat(subset, -2) for subset in zip(*parts, strict=True))
        return Coded(
            packing._pack(codes, self.bits), scales=scales, zeros=zeros
        )  # scales (..., groups, dim)

    def decode(self, coded: Coded, dtype=None):
        codes = packing.unpack(coded.packed, self.bits, self.dim).float()
        scales, zeros = (
            part.float().repeat_interleave(self.group, -2)[..., : codes.shape[-2], :]
            for part in (coded.scales, coded.zeros)
        )
        return _to(codes * scales + zeros, dtype)


class EightBit:
    """Eight bits a number with one scale a token: ``int8`` from -127 to 127, or ``fp8``, e4m3.

    The largest number of a token becomes 127 or 448. A scale for a whole tensor, as some servers
    have it, would have to know what comes later.
    """

    bits = 8

    def __init__(self, dim: int, kind: str):
        self.dim, self.kind = whole("the dimension", dim), kind
        self.largest = {"int8": 127.0, "fp8": 448.0}[kind]

    def encode(self, x) -> Coded:
        import torch

        x = _checked(x, self.dim)
        scales = _stored(x.abs().amax(-1, keepdim=True) / self.largest)
        scaled = x / _above_zero(scales)
        if self.kind == "int8":
            codes = scaled.round_().clamp_(-127, 127).to(torch.int8).view(torch.uint8)
        else:
            codes = scaled.clamp_(-448, 448).to(torch.float8_e4m3fn)
        return Coded(codes, scales=scales[..., 0])

    def decode(self, coded: Coded, dtype=None):
        import torch

        codes = coded.packed.view(torch.int8) if self.kind == "int8" else coded.packed
        return _to(codes.float() * coded.scales[..., None].float(), dtype)


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
    """Values in float16, or all of them as they are where one is past its range."""
    import torch

    if not bool(torch.isfinite(values).all()):
        raise ValueError("vectors hold what is not a finite number")
    half = values.half()
    return half if bool(torch.isfinite(half).all()) else values


def _above_zero(scales):
    """Scales in float32, and 1 where there is nothing to scale."""
    scales = scales.float()
    return scales.masked_fill(scales <= 0, 1.0)


def _checked(x, dim: int):
    """Vectors in float32."""
    import torch

    if not isinstance(x, torch.Tensor) or not x.is_floating_point() or x.dim() < 2:
        raise ValueError("vectors must be a tensor of floating-point numbers, (..., tokens, dim)")
    if x.shape[-1] != dim:
        raise ValueError(f"this code is for vectors of {dim}, got {x.shape[-1]}")
    return x.float()


def _to(x, dtype):
    return x if dtype is None else x.to(dtype)
