"""What TurboQuant is compared with: the same door, ``encode`` and ``decode``.

All take vectors (..., tokens, dim), raise ValueError for what is not finite or of another width,
and decode to float32 by default. Metadata are stored as 16-bit floats, of 32 bits where
one is past their range, and are counted: `Coded.nbytes` is the sum of what is stored. Sources:
KIVI (Liu et al. 2024) for keys by channel and values by token; e4m3 is the 8-bit float of
Micikevicius et al. 2022.
"""

import torch

from sizewise.quantization import packing
from sizewise.quantization.packing import Coded, checked, half
from sizewise.validation import whole


class PerToken:
    """Evenly spaced codes between the least and the largest number of each token: KIVI's values.

    Raises ValueError for bits other than 1, 2, 3, 4, 8, and dim that is not a multiple of 8.
    """

    group = 1

    def __init__(self, dim: int, bits: int):
        packing.width(bits, dim)
        self.dim, self.bits = dim, bits

    def encode(self, x) -> Coded:
        """Scales and zeros (..., tokens, 1)."""
        return self._coded(*_even(checked(x, self.dim).float(), self.bits, -1))

    def decode(self, coded: Coded, dtype=torch.float32):
        codes = packing.unpack(coded.packed, self.bits, self.dim).float()
        scales, zeros = (
            self._spread(part.float(), codes.shape[-2]) for part in (coded.scales, coded.zeros)
        )
        return (codes * scales + zeros).to(dtype)

    def _coded(self, codes, scales, zeros) -> Coded:
        return Coded(packing._pack(codes, self.bits), scales=scales, zeros=zeros)

    def _spread(self, part, tokens: int):
        return part


class PerChannel(PerToken):
    """Evenly spaced codes between the least and the largest number of a channel over some tokens.

    KIVI's keys: a channel of keys is large at every token, so its range is shared along tokens,
    ``group`` at a time. The last group may be shorter, and has its own range all the same.
    Raises ValueError as `PerToken` does.
    """

    def __init__(self, dim: int, bits: int, group: int = 32):
        super().__init__(dim, bits)
        self.group = whole("the group", group)

    def encode(self, x) -> Coded:
        """Scales and zeros (..., groups, dim)."""
        groups = checked(x, self.dim).float().split(self.group, -2)
        parts = [_even(part, self.bits, -2) for part in groups]
        return self._coded(*(torch.cat(subset, -2) for subset in zip(*parts, strict=True)))

    def _spread(self, part, tokens: int):
        return part.repeat_interleave(self.group, -2)[..., :tokens, :]


class EightBit:
    """Eight bits a number with one scale a token: ``int8`` from -127 to 127, or ``fp8``, e4m3.

    The largest number of a token becomes 127 or 448. A scale for a whole tensor, as some servers
    have it, would have to know what comes later.
    """

    bits, group = 8, 1

    def __init__(self, dim: int, kind: str):
        self.dim, self.kind = whole("the dimension", dim), kind
        self.largest = {"int8": 127.0, "fp8": 448.0}[kind]

    def encode(self, x) -> Coded:
        x = checked(x, self.dim).float()
        scales = half(x.abs().amax(-1, keepdim=True) / self.largest)
        scaled = x / _above_zero(scales)
        if self.kind == "int8":
            codes = scaled.round_().clamp_(-127, 127).to(torch.int8).view(torch.uint8)
        else:
            codes = scaled.clamp_(-448, 448).to(torch.float8_e4m3fn)
        return Coded(codes, scales=scales[..., 0])

    def decode(self, coded: Coded, dtype=torch.float32):
        codes = coded.packed.view(torch.int8) if self.kind == "int8" else coded.packed
        return (codes.float() * coded.scales[..., None].float()).to(dtype)


def _even(x, bits: int, along: int):
    """Codes, uint8, scales and zeros, float16, of x between its extremes along an axis.

    The scale and the zero are rounded before codes are chosen, so that codes fit what is stored.
    """
    low, high = x.amin(along, keepdim=True), x.amax(along, keepdim=True)
    zeros = half(low)
    scales = half((high - zeros.float()) / ((1 << bits) - 1))
    codes = ((x - zeros.float()) / _above_zero(scales)).round_().clamp_(0, (1 << bits) - 1)
    return codes.to(torch.uint8), scales, zeros


def _above_zero(scales):
    """Scales in float32, and 1 where there is nothing to scale."""
    scales = scales.float()
    return scales.masked_fill(scales <= 0, 1.0)
