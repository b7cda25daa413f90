"""Number formats for a matrix of weights: what is stored of it, and what that stands for.

A codec turns a matrix (out, in) into named tensors and back. Codes, scales and whatever else a
reader of the format needs are among the tensors, so that their bytes are the format's bytes. A
group is a run of columns of one row that shares a scale.

==========  ======================================================================================
fp8         e4m3 with one scale a row (Micikevicius et al. 2022)
mxfp4       e2m1 in groups of 32 with a power of two each (OCP Microscaling v1.0, section 5)
nvfp4       e2m1 in groups of 16 with an e4m3 scale each and one fp32 scale for the matrix
q8_0, q4_0  integers in groups of 32 with an fp16 scale each, as llama.cpp's files hold them
nf3         the eight levels of 3-bit NormalFloat in blocks of 64, packed in three bits
int4, int3  even steps between the least and the largest of 64 weights, rounded to the nearest
hqq4, hqq3  the same bytes, offsets by half-quadratic splitting (Badri and Shaji 2023)
==========  ======================================================================================
"""

from collections.abc import Callable
from dataclasses import dataclass

from sizewise.quantization.packing import pack, unpack

E4M3_MAX, E2M1_MAX = 448.0, 6.0
E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
GROUP = 64  # weights that share a scale and an offset in the integer formats
Tensors = dict  # name -> tensor


@dataclass(frozen=True)
class Codec:
    """``encode(weight)`` (out, in) fp32 -> tensors; ``decode(tensors)`` -> fp32 (out, in).

    The columns of a weight must be a multiple of ``group``; ``bits`` is the width of a code.
    """

    name: str
    note: str
    bits: float
    encode: Callable
    decode: Callable
    group: int = 1


def nbytes(tensors: Tensors) -> int:
    """Bytes of all tensors of a coded matrix."""
    return sum(tensor.nbytes for tensor in tensors.values())


# --- floating-point codes


def encode_fp8(weight) -> Tensors:
    """Rows over their largest magnitude, rounded to e4m3 by torch's own cast."""
    import torch

    scales = _positive(weight.abs().amax(1, keepdim=True) / E4M3_MAX)  # (out, 1)
    scaled = (weight / scales).clamp(-E4M3_MAX, E4M3_MAX)  # past the range a cast gives NaN
    return {"codes": scaled.to(torch.float8_e4m3fn), "scales": scales}


def decode_fp8(tensors: Tensors):
    return tensors["codes"].float() * tensors["scales"]


def encode_mxfp4(weight) -> Tensors:
    """Groups over 2^(floor(log2 max) - 2): 2 is the exponent of e2m1's largest number, 6.

    Magnitudes over 6 of that scale become 6, as the specification allows (section 6.3).
    """
    import torch

    groups = weight.unflatten(1, (-1, 32))  # (out, groups, 32)
    largest = groups.abs().amax(2)
    exponent = (torch.frexp(largest).exponent - 3).clamp(-127, 127)  # frexp counts from [0.5, 1)
    exponent = exponent.masked_fill(largest == 0, -127)
    scale = torch.ldexp(torch.ones_like(largest), exponent)
    codes = e2m1_codes(groups / scale.unsqueeze(2)).flatten(1)
    return {"codes": pack(codes, 4), "scales": (exponent + 127).to(torch.uint8)}


def decode_mxfp4(tensors: Tensors):
    import torch

    exponent = tensors["scales"].int() - 127
    scale = torch.ldexp(torch.ones(exponent.shape, device=exponent.device), exponent)
    return _grouped(e2m1_values(_unpacked(tensors["codes"], 4)), 32, scale)


def encode_nvfp4(weight) -> Tensors:
    """Two levels of scales, so that a group's fits e4m3: the matrix's is max / (448 * 6)."""
    import torch

    groups = weight.unflatten(1, (-1, 16))
    largest = groups.abs().amax(2)  # (out, groups)
    full = _positive(largest.amax() / (E4M3_MAX * E2M1_MAX))
    scales = (largest / E2M1_MAX / full).clamp(max=E4M3_MAX).to(torch.float8_e4m3fn)
    step = _positive(scales.float() * full).unsqueeze(2)
    codes = e2m1_codes(groups / step).flatten(1)
    return {"codes": pack(codes, 4), "scales": scales, "scale": full}


def decode_nvfp4(tensors: Tensors):
    step = tensors["scales"].float() * tensors["scale"]
    return _grouped(e2m1_values(_unpacked(tensors["codes"], 4)), 16, step)


def e2m1_codes(x):
    """The nearest e2m1 number of each value, ties to the even code, magnitudes over 6 to 6.

    uint8: sign, two bits of exponent, one of mantissa.
    """
    import torch

    levels = torch.tensor(E2M1, device=x.device)
    middles = (levels[1:] + levels[:-1]) / 2
    # A tie goes down where the lower code is even; else the boundary moves below the tie.
    middles[1::2] = torch.nextafter(middles[1::2], torch.zeros((), device=x.device))
    size = torch.bucketize(x.abs(), middles).to(torch.uint8)
    return size | (torch.signbit(x).to(torch.uint8) << 3)


def e2m1_values(codes):
    import torch

    levels = torch.tensor([*E2M1, *(-level for level in E2M1)], device=codes.device)
    return levels[codes.long()]


# --- integer codes


def encode_q8_0(weight) -> Tensors:
    """Largest magnitude over 127; halves away from zero; the scale is cut to fp16 afterwards."""
    import torch

    groups = weight.unflatten(1, (-1, 32))
    scale = groups.abs().amax(2, keepdim=True) / 127
    scaled = groups * _reciprocal(scale)
    codes = (scaled.abs() + 0.5).floor().copysign(scaled)
    return {"codes": codes.flatten(1).to(torch.int8), "scales": scale.squeeze(2).half()}


def decode_q8_0(tensors: Tensors):
    return _grouped(tensors["codes"].float(), 32, tensors["scales"].float())


def encode_q4_0(weight) -> Tensors:
    """The value of largest magnitude becomes -8, whatever its sign; codes are 0 to 15, less 8."""
    groups = weight.unflatten(1, (-1, 32))
    farthest = groups.gather(2, groups.abs().argmax(2, keepdim=True))
    scale = farthest / -8
    codes = (groups * _reciprocal(scale) + 8.5).trunc().clamp(0, 15).flatten(1)
    return {"codes": pack(codes.byte(), 4), "scales": scale.squeeze(2).half()}


def decode_q4_0(tensors: Tensors):
    return _grouped(_unpacked(tensors["codes"], 4).float() - 8, 32, tensors["scales"].float())


def grid(weight, bits: int):
    """Step and offset, fp16 (out, groups), of even steps from the least to the largest weight."""
    groups = weight.unflatten(1, (-1, GROUP))
    low, high = groups.amin(2).half(), groups.amax(2)
    return ((high - low.float()) / (2**bits - 1)).half(), low


def half_quadratic(weight, bits: int, p: float = 0.7, rounds: int = 20):
    """Step and offset by HQQ: offsets move so that a few large errors are let be.

    Alternates a generalized soft threshold of the errors (which stands for the p-norm) with the
    best offset for what is left, the threshold growing tighter, until the p-norm stops falling.
    Source: Badri and Shaji (2023), equations 4 to 7, with their beta = 10 and kappa = 1.01.
    """
    step, offset = grid(weight, bits)
    groups, wide = weight.unflatten(1, (-1, GROUP)), _positive(step.float()).unsqueeze(2)
    zero, best, beta = -offset.float().unsqueeze(2) / wide, None, 10.0
    for _ in range(rounds):
        codes = (groups / wide + zero).round().clamp(0, 2**bits - 1)
        error = groups - (codes - zero) * wide
        loss = error.abs().pow(p).mean()
        if best is not None and loss >= best:
            break
        best, offset = loss, (-zero * wide).squeeze(2).half()
        size = error.abs()
        retained = (size - size.clamp(min=1e-8).pow(p - 1) / beta).clamp(min=0).copysign(error)
        zero = (codes - (groups - retained) / wide).mean(2, keepdim=True)
        beta *= 1.01
    return step, offset


def integers(weight, step, offset, bits: int):
    """The nearest code of each weight, uint8 (out, in), by the step and offset as stored."""
    groups = weight.unflatten(1, (-1, GROUP))
    scaled = (groups - offset.float().unsqueeze(2)) / _positive(step.float()).unsqueeze(2)
    return scaled.round().clamp(0, 2**bits - 1).flatten(1).byte()


def stored_integers(codes, step, offset, bits: int) -> Tensors:
    return {"codes": pack(codes, bits), "scales": step, "zeros": offset}


def _integer_codec(name: str, note: str, bits: int, fit: Callable) -> Codec:
    def encode(weight) -> Tensors:
        step, offset = fit(weight, bits)
        return stored_integers(integers(weight, step, offset, bits), step, offset, bits)

    return Codec(name, note, bits, encode, decode_integers(bits), GROUP)


def decode_integers(bits: int) -> Callable:
    """The decoder of `stored_integers`."""

    def decode(tensors: Tensors):
        codes = _unpacked(tensors["codes"], bits).float().unflatten(1, (-1, GROUP))
        values = codes * tensors["scales"].float().unsqueeze(2)
        return (values + tensors["zeros"].float().unsqueeze(2)).flatten(1)

    return decode


# --- a table of levels


def normal_float(bits: int):
    """The 2^bits levels of k-bit NormalFloat, ascending, float64 (2^bits,).

    Quantiles of the normal in units of the largest, so that each level is used about equally
    often. Zero is a level, and the positive side has one more than the negative: four and three
    for three bits, evenly spaced in probability from the outermost to 1/2. That is the mean of
    1 - 1/2^(k+1) and 1 - 1/(2^(k+1) - 2): for four bits 929/960 = 0.9677083..., as published;
    other widths follow the same rule.
    Source: QLoRA (Dettmers et al. 2023), section 3; the spacing is that of its appendix E.
    """
    import numpy as np
    from scipy.stats import norm

    codes = 2**bits
    edge = 1 - (1 / (2 * codes) + 1 / (2 * codes - 2)) / 2
    above = norm.ppf(np.linspace(0.5, edge, codes // 2 + 1))[1:]
    below = -norm.ppf(np.linspace(0.5, edge, codes // 2))[1:]
    return np.concatenate([below[::-1], [0.0], above]) / norm.ppf(edge)


def encode_nf3(weight) -> Tensors:
    """Blocks of 64, the rows one after another, over their largest magnitude."""
    import torch

    flat = torch.nn.functional.pad(weight.flatten(), (0, -weight.numel() % GROUP))
    blocks = flat.view(-1, GROUP)
    scales = blocks.abs().amax(1)
    scaled = (blocks * (1 / scales.clamp(min=1e-38)).unsqueeze(1)).clamp(-1, 1)
    levels = torch.tensor(normal_float(3), dtype=torch.float32, device=weight.device)
    codes = torch.bucketize(scaled, (levels[:-1] + levels[1:]) / 2).to(torch.uint8)
    codes = codes.flatten()[: weight.numel()].view(weight.shape)
    return {"codes": pack(codes, 3), "scales": scales, "table": levels}


def decode_nf3(tensors: Tensors):
    values = tensors["table"][_unpacked(tensors["codes"], 3).long()]  # (out, in)
    scales = tensors["scales"].repeat_interleave(GROUP)[: values.numel()]
    return values * scales.view(values.shape)


CODECS = {
    codec.name: codec
    for codec in (
        Codec("fp8", "e4m3, a scale a row", 8, encode_fp8, decode_fp8),
        Codec("mxfp4", "e2m1 in groups of 32, powers of two", 4, encode_mxfp4, decode_mxfp4, 32),
        Codec("nvfp4", "e2m1 in groups of 16, e4m3 scales", 4, encode_nvfp4, decode_nvfp4, 16),
        Codec("q8_0", "GGUF, 8 bits in groups of 32", 8, encode_q8_0, decode_q8_0, 32),
        Codec("q4_0", "GGUF, 4 bits in groups of 32", 4, encode_q4_0, decode_q4_0, 32),
        # whole bytes a row: 8 codes are 3 bytes
        Codec("nf3", "3-bit NormalFloat in blocks of 64", 3, encode_nf3, decode_nf3, 8),
        _integer_codec("int4", "even steps in groups of 64, nearest", 4, grid),
        _integer_codec("int3", "even steps in groups of 64, nearest", 3, grid),
        _integer_codec("hqq4", "even steps in groups of 64, HQQ", 4, half_quadratic),
        _integer_codec("hqq3", "even steps in groups of 64, HQQ", 3, half_quadratic),
    )
}


# --- what all share


def _grouped(values, group: int, scales):
    """values (out, in) times scales (out, in / group)."""
    return (values.unflatten(1, (-1, group)) * scales.unsqueeze(2)).flatten(1)


def _unpacked(codes, bits: int):
    return unpack(codes, bits, codes.shape[-1] * 8 // bits)


def _positive(scales):
    """The scales, 1 where there is nothing to scale."""
    return scales.masked_fill(scales == 0, 1.0)


def _reciprocal(scales):
    return (1 / scales).masked_fill(scales == 0, 0.0)
