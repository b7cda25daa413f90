"""Weight formats by name: how a linear layer is made in each, and the weight it then stands for.

Each maker takes a `torch.nn.Linear` and a device and returns the module that stands in its place.
Only one layer's weights are in memory twice, and only while it is made.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from . import calibrated, codecs

BLOCK = 64  # values that share a scale: bitsandbytes' default
OUTLIER = 6.0  # magnitude from which LLM.int8() keeps a column of activations in 16 bits


@dataclass(frozen=True)
class Format:
    """A weight format.

    ``make(linear, device, moments)`` returns a module and ``decode(module)`` its weight (out, in);
    ``moments`` are the second moments of the layer's inputs where it is ``calibrated``, else None.
    A plain format has a ``cast`` instead of a maker. ``bits`` is the width of a code; columns must
    be a multiple of ``group``; ``package`` must be installed.
    """

    name: str
    note: str
    bits: int
    package: str = ""
    cast: str = ""
    make: Callable | None = None
    decode: Callable | None = None
    group: int = 1
    calibrated: bool = False


# --- bitsandbytes


def bnb():
    """The module bitsandbytes, without its remarks on casts and on optional kernels."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    import bitsandbytes

    return bitsandbytes


def int8(linear, device, moments=None):
    """LLM.int8(): a scale a row, activations with outliers kept in fp16 (Dettmers et al. 2022)."""
    import torch

    bitsandbytes = bnb()
    layer = _empty(linear_8bit(), linear, has_fp16_weights=False, threshold=OUTLIER)
    weight = linear.weight.data.to(device, torch.float16)  # (out, in)
    codes, scales, _ = bitsandbytes.functional.int8_vectorwise_quant(weight)
    layer.weight = bitsandbytes.nn.Int8Params(
        codes, requires_grad=False, has_fp16_weights=False, CB=codes, SCB=scales
    )
    layer.bias = _bias(linear, device)
    return layer.requires_grad_(False).eval()


@cache
def linear_8bit():
    """Bitsandbytes' `Linear8bitLt` for inputs of any number of axes.

    In 0.50.2 the fallback on CPUs takes two or three: the four of latent attention fail in it.
    """

    class Linear8bitLt(bnb().nn.Linear8bitLt):
        def forward(self, x):  # (..., in)
            return super().forward(x.reshape(-1, x.shape[-1])).view(*x.shape[:-1], -1)

    return Linear8bitLt


def decoded_int8(layer):
    return layer.weight.CB.float() * layer.weight.SCB[:, None].float() / 127


def four_bit(kind: str, double: bool) -> Callable:
    """NF4 or FP4 in blocks of 64 (QLoRA, Dettmers et al. 2023), scales in 8 bits if ``double``."""

    def make(linear, device, moments=None):
        bitsandbytes = bnb()
        cls = bitsandbytes.nn.Linear4bit if str(device).startswith("cuda") else linear_4bit()
        layer = _empty(cls, linear, quant_type=kind, compress_statistics=double)
        layer.weight = bitsandbytes.nn.Params4bit(
            linear.weight.data.to(device),
            requires_grad=False,
            quant_type=kind,
            compress_statistics=double,
            blocksize=BLOCK,
            module=layer,
        ).to(device)
        layer.bias = _bias(linear, device)
        return layer.requires_grad_(False).eval()

    return make


@cache
def linear_4bit():
    """Bitsandbytes' `Linear4bit` with a forward pass for CPUs that is the same on all of them.

    In 0.50.2, its own pass on a CPU with AVX512-BF16 rewrites the weights at the first call
    (scales in bf16, double quantization undone) and multiplies in bf16; and its AVX-512 kernel
    reads the wrong scales where a row is no multiple of the block. Here the weights are
    dequantized as one row, where that kernel agrees with the others, in the activations' type.
    """
    import torch

    class Linear4bitOnCPU(bnb().nn.Linear4bit):
        def forward(self, x):  # (..., in)
            weight = decoded_4bit(self).to(x.dtype)  # (out, in)
            bias = None if self.bias is None else self.bias.to(x.dtype)
            return torch.nn.functional.linear(x, weight, bias)

    return Linear4bitOnCPU


def decoded_4bit(layer):
    """The weight (out, in) that a `Linear4bit` stands for."""
    import torch
    from bitsandbytes import functional

    state = layer.weight.quant_state
    scales = state.absmax
    if state.nested:
        scales = functional.dequantize_blockwise(scales, state.state2) + state.offset
    flat = (1, state.shape.numel())  # one row; see `linear_4bit`
    weight = torch.ops.bitsandbytes.dequantize_4bit(
        layer.weight.data, scales, state.blocksize, state.quant_type, flat, state.dtype
    )
    return weight.reshape(state.shape)


def _empty(cls, linear, **options):
    """A layer of ``cls`` without weights."""
    bias = linear.bias is not None
    return cls(linear.in_features, linear.out_features, bias=bias, device="meta", **options)


def _bias(linear, device):
    import torch

    if linear.bias is None:
        return None
    return torch.nn.Parameter(linear.bias.data.to(device), requires_grad=False)


# --- formats by name


def from_codec(codec: codecs.Codec, needs_moments: bool = False) -> Format:
    """The format whose layers hold the tensors of one of this package's codecs."""

    def make(linear, device, moments=None):
        from .coded import CodedLinear  # torch is not imported before a layer is made

        weight = linear.weight.data.to(device).float()
        inputs = (weight, moments.to(device)) if needs_moments else (weight,)
        return CodedLinear(codec, codec.encode(*inputs), _bias(linear, device)).eval()

    options = {"group": codec.group, "calibrated": needs_moments}
    return Format(codec.name, codec.note, codec.bits, make=make, decode=_decoded, **options)


def _decoded(layer):
    return layer.decoded()


def _four(name: str, note: str) -> Format:
    make = four_bit(name.removesuffix("-dq"), name.endswith("-dq"))
    return Format(name, note, 4, "bitsandbytes", make=make, decode=decoded_4bit)


INT8 = "LLM.int8() with outliers from 6.0"
FORMATS: dict[str, Format] = {
    form.name: form
    for form in (
        Format("fp32", "four bytes a weight", 32, cast="float32"),
        Format("bf16", "bfloat16", 16, cast="bfloat16"),
        Format("fp16", "IEEE half precision", 16, cast="float16"),
        Format("int8", INT8, 8, "bitsandbytes", make=int8, decode=decoded_int8),
        _four("nf4", "NormalFloat in blocks of 64"),
        _four("nf4-dq", "nf4, scales in 8 bits"),
        _four("fp4", "four-bit float in blocks of 64"),
        _four("fp4-dq", "fp4, scales in 8 bits"),
        *(from_codec(codec) for codec in codecs.CODECS.values()),
        *(from_codec(codec, True) for codec in calibrated.CALIBRATED.values()),
    )
}


def linear_of(weight, bias: Any = None):
    """A `torch.nn.Linear` around a weight (out, in) that is there already."""
    import torch

    layer = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
    layer.weight = torch.nn.Parameter(weight, requires_grad=False)
    layer.bias = bias
    return layer
