"""One linear layer in a weight format: how it is made, and what it holds by arithmetic.

Each maker takes a `torch.nn.Linear` and a device and returns the module that stands in its place.
Only one layer's weights are held twice, and only while it is made.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

from .bnb_cpu import bnb, linear_4bit

BLOCK = 64  # values that share a scale: bitsandbytes' default, and the group of HQQ here
SCALE_BLOCK = 256
OUTLIER = 6.0  # magnitude from which LLM.int8() keeps a column of activations in 16 bits
GROUP = 32  # of torchao's integers of four bits


@dataclass(frozen=True)
class Sizes:
    """Bytes of one layer by role, its bias apart."""

    codes: int
    scales: int
    codebooks: int = 0


@dataclass(frozen=True)
class Format:
    """A weight format: its maker, its arithmetic and what it needs.

    ``make(linear, device)`` returns a module; ``sizes(rows, columns, itemsize)`` the bytes, with
    ``itemsize`` that of the weights before. ``nominal`` is the name in
    `sizewise.costs.formats.WEIGHTS` of the same format as it is described, if it is there. A plain
    format has a ``cast`` instead of a maker.
    """

    name: str
    note: str
    package: str = ""
    nominal: str = ""
    cast: str = ""
    make: Callable | None = None
    sizes: Callable | None = None
    group: int = 1  # columns must be a multiple of it
    gpu: str = ""  # why it needs a GPU
    capability: tuple[int, int] = (0, 0)


# --- bitsandbytes


def int8(linear, device):
    """LLM.int8(): a scale a row, activations with outliers kept in fp16 (Dettmers et al. 2022)."""
    import torch

    bitsandbytes = bnb()
    made = _meta(bitsandbytes.nn.Linear8bitLt, linear, has_fp16_weights=False, threshold=OUTLIER)
    weight = linear.weight.data.to(device, torch.float16)  # (out, in)
    codes, scales, _ = bitsandbytes.functional.int8_vectorwise_quant(weight)
    made.weight = bitsandbytes.nn.Int8Params(
        codes, requires_grad=False, has_fp16_weights=False, CB=codes, SCB=scales
    )
    made.bias = _bias(linear, device)
    return made.requires_grad_(False).eval()


def four_bit(kind: str, double: bool) -> Callable:
    """NF4 or FP4 in blocks of 64 (QLoRA, Dettmers et al. 2023), scales in 8 bits if ``double``."""

    def make(linear, device):
        bitsandbytes = bnb()
        cls = bitsandbytes.nn.Linear4bit if str(device).startswith("cuda") else linear_4bit()
        made = _meta(cls, linear, quant_type=kind, compress_statistics=double)
        made.weight = bitsandbytes.nn.Params4bit(
            linear.weight.data.to(device),
            requires_grad=False,
            quant_type=kind,
            compress_statistics=double,
            blocksize=BLOCK,
            module=made,
        ).to(device)
        made.bias = _bias(linear, device)
        return made.requires_grad_(False).eval()

    return make


def _int8_sizes(rows, columns, itemsize):
    return Sizes(rows * columns, 4 * rows)


def _four_bit_sizes(double: bool) -> Callable:
    def sizes(rows, columns, itemsize):
        blocks = ceil(rows * columns / BLOCK)
        table = 16 * 4  # one for each layer
        if not double:
            return Sizes(ceil(rows * columns / 2), 4 * blocks, table)
        scales = blocks + 4 * ceil(blocks / SCALE_BLOCK) + 4  # codes, scales of scales, their mean
        return Sizes(ceil(rows * columns / 2), scales, table + 256 * 4)

    return sizes


# --- HQQ


def hqq(bits: int) -> Callable:
    """Half-Quadratic Quantization in groups of 64 along a row (Badri and Shaji 2023)."""

    def make(linear, device):
        from hqq.core.quantize import BaseQuantizeConfig, HQQLinear

        config = BaseQuantizeConfig(nbits=bits, group_size=BLOCK, axis=1)
        made = HQQLinear(
            linear, config, compute_dtype=linear.weight.dtype, device=str(device), del_orig=False
        )
        made.linear_layer = None
        return made.eval()

    return make


def _hqq_sizes(bits: int) -> Callable:
    def sizes(rows, columns, itemsize):
        groups = rows * columns // BLOCK
        # Three bits are packed ten to an int32, along the groups.
        codes = ceil(groups / 10) * BLOCK * 4 if bits == 3 else ceil(groups * bits / 8) * BLOCK
        return Sizes(codes, 2 * groups * itemsize)

    return sizes


# --- torchao


def torchao(config: str, **words) -> Callable:
    """A configuration of torchao's, applied to one layer."""

    def make(linear, device):
        import torch
        from torchao import quantization

        if "weight_dtype" in words:
            given = {
                "weight_dtype": getattr(torch, words["weight_dtype"]),
                "granularity": quantization.PerGroup(GROUP),
            }
        else:
            given = words
        holder = torch.nn.Sequential(linear.to(device))
        quantization.quantize_(holder, getattr(quantization, config)(**given))
        return holder[0].requires_grad_(False).eval()

    return make


def _ao_int8_sizes(rows, columns, itemsize):
    return Sizes(rows * columns, rows * (4 + 1))  # an fp32 scale and a zero point of a byte


def _ao_fp8_sizes(rows, columns, itemsize):
    return Sizes(rows * columns, rows * 4)


def _ao_int4_sizes(rows, columns, itemsize):
    return Sizes(rows * columns, rows * columns // GROUP * (itemsize + 1))  # a code is a whole byte


# --- what all share


def _meta(cls, linear, **words):
    """A layer of ``cls`` without weights."""
    bias = linear.bias is not None
    return cls(linear.in_features, linear.out_features, bias=bias, device="meta", **words)


def _bias(linear, device):
    import torch

    if linear.bias is None:
        return None
    return torch.nn.Parameter(linear.bias.data.to(device), requires_grad=False)


def _of_bnb(name, note, make, sizes):
    return Format(name, note, "bitsandbytes", name, make=make, sizes=sizes)


def _four(name, note):
    kind, double = name.removesuffix("-dq"), name.endswith("-dq")
    return _of_bnb(name, note, four_bit(kind, double), _four_bit_sizes(double))


_GPU_FP8 = "products in fp8 need a GPU of compute capability 8.9 or more"
TABLE = {
    one.name: one
    for one in (
        Format("fp32", "four bytes a weight", nominal="fp32", cast="float32"),
        Format("bf16", "bfloat16", nominal="bf16", cast="bfloat16"),
        Format("fp16", "IEEE half precision", nominal="fp16", cast="float16"),
        _of_bnb("int8", "LLM.int8() with outliers from 6.0", int8, _int8_sizes),
        _four("nf4", "NormalFloat in blocks of 64"),
        _four("nf4-dq", "nf4, scales in 8 bits"),
        _four("fp4", "four-bit float in blocks of 64"),
        _four("fp4-dq", "fp4, scales in 8 bits"),
        *(
            Format(
                f"hqq{bits}",
                f"HQQ, {bits} bits in groups of 64",
                "hqq",
                make=hqq(bits),
                sizes=_hqq_sizes(bits),
                group=BLOCK,
            )
            for bits in (8, 4, 3)
        ),
        Format(
            "ao-int8",
            "torchao, int8 weights, a scale a row",
            "torchao",
            make=torchao("Int8WeightOnlyConfig"),
            sizes=_ao_int8_sizes,
        ),
        Format(
            "ao-int8-dyn",
            "torchao, int8 weights and activations",
            "torchao",
            make=torchao("Int8DynamicActivationInt8WeightConfig"),
            sizes=_ao_int8_sizes,
        ),
        Format(
            "ao-fp8",
            "torchao, fp8 weights, a scale a row",
            "torchao",
            make=torchao("Float8WeightOnlyConfig"),
            sizes=_ao_fp8_sizes,
        ),
        Format(
            "ao-fp8-dyn",
            "torchao, fp8 weights and activations",
            "torchao",
            make=torchao("Float8DynamicActivationFloat8WeightConfig"),
            sizes=_ao_fp8_sizes,
            gpu=_GPU_FP8,
            capability=(8, 9),
        ),
        Format(
            "ao-intx4",
            "torchao, integers of four bits, each kept in a byte",
            "torchao",
            make=torchao("IntxWeightOnlyConfig", weight_dtype="int4"),
            sizes=_ao_int4_sizes,
            group=GROUP,
        ),
    )
}
