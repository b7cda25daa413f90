"""A model of a real shape with random weights, made where it will run and in its format.

Weights are drawn on the device matrix by matrix, each converted to its format before the next is
drawn, so that a model never needs more than its own bytes and one matrix. Dense products take the
same time whatever the values; random weights say nothing about quality.

Two formats multiply by kernels that torch brings: ``fp8-mm`` (e4m3 weights and activations, a scale
a row, `torch._scaled_mm`) and ``int4-mm`` (even steps in groups of 64, bf16 activations, tinygemm:
`torch._weight_int4pack_mm`). Both also run on a CPU, by torch's kernels for it.
"""

from functools import cache

import torch

from sizewise.models import config as configs
from sizewise.models import random_weights
from sizewise.quantization.weights import codecs, convert, layers

from .recording import Refused

# Made-up shapes, for machines without a GPU.
TINY = {
    **{"model_type": "llama", "hidden_size": 128, "intermediate_size": 256, "vocab_size": 4096},
    **{"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2},
    "tie_word_embeddings": True,
}
DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
ERRORS = {"int8": 5e-2, "int8-plain": 5e-2, "fp8-mm": 5e-2}  # activations in eight bits
ERROR = 1e-2  # of the others: largest distance of a product from float64's that is timed
TILES = 8  # of the inner dimension in tinygemm's layout: columns in multiples of 16 times it


class Float8Linear(torch.nn.Module):
    """Weights and activations in e4m3, a scale a row of each, products by `torch._scaled_mm`."""

    def __init__(self, linear, device, moments=None):
        super().__init__()
        tensors = codecs.encode_fp8(linear.weight.data.to(device).float())
        self.codes, self.bias = tensors["codes"], linear.bias
        self.scales = tensors["scales"].T.contiguous()  # (1, out)

    def forward(self, x):  # (..., in)
        encode = _encode_in_one_kernel() if x.is_cuda else codecs.encode_fp8
        rows = encode(x.reshape(-1, x.shape[-1]).float())
        matrices = rows["codes"], self.codes.t()
        if x.is_cuda:
            out = torch._scaled_mm(
                *matrices,
                scale_a=rows["scales"],
                scale_b=self.scales,
                out_dtype=torch.bfloat16,
                use_fast_accum=True,
            )
        else:  # torch 2.11 knows one scale a matrix there
            unit = torch.ones(())
            out = torch._scaled_mm(*matrices, scale_a=unit, scale_b=unit, out_dtype=torch.float32)
            out = (out * rows["scales"] * self.scales).to(x.dtype)
        out = out.view(*x.shape[:-1], -1)
        return out if self.bias is None else out + self.bias


@cache
def _encode_in_one_kernel():
    """`codecs.encode_fp8` fused: six launches a product would be timed in place of the format.

    With ``fullgraph`` what cannot be compiled raises, and nothing falls back to eager.
    """
    return torch.compile(codecs.encode_fp8, fullgraph=True, dynamic=True)


def pairs(codes):
    """Codes (out, in) two a byte, the even column in the high four bits, as tinygemm takes them."""
    return codes[:, ::2] << 4 | codes[:, 1::2]


class Int4Linear(torch.nn.Module):
    """Even steps in groups of 64, products by `torch._weight_int4pack_mm`."""

    def __init__(self, linear, device, moments=None):
        super().__init__()
        weight = linear.weight.data.to(device).float()
        step, offset = codecs.grid(weight, 4)
        codes = codecs.integers(weight, step, offset, 4)  # (out, in) uint8
        # tinygemm's value of a code is (code - 8) step + zero.
        both = torch.stack([step.float(), offset.float() + 8 * step.float()], -1)
        self.scales = both.transpose(0, 1).contiguous().bfloat16()  # (groups, out, 2)
        self.bias = linear.bias
        if weight.is_cuda:
            self.codes = torch._convert_weight_to_int4pack(pairs(codes), TILES)
        else:
            self.codes = torch._convert_weight_to_int4pack_for_cpu(codes.int(), 1)

    def forward(self, x):  # (..., in)
        rows = x.reshape(-1, x.shape[-1]).bfloat16()
        multiply = torch._weight_int4pack_mm if x.is_cuda else torch._weight_int4pack_mm_for_cpu
        out = multiply(rows, self.codes, codecs.GROUP, self.scales).to(x.dtype)
        out = out.view(*x.shape[:-1], -1)
        return out if self.bias is None else out + self.bias


def int8_plain(linear, device, moments=None):
    """LLM.int8() without its detour for outlier features."""
    layer = layers.int8(linear, device)
    layer.state.threshold = 0.0
    return layer


FORMATS = layers.FORMATS | {
    name: layers.Format(name, note, bits, package, make=layer, group=group)
    for name, note, bits, package, layer, group in (
        ("fp8-mm", "e4m3 weights and activations, a scale a row", 8, "", Float8Linear, 16),
        ("int4-mm", "even steps in groups of 64, tinygemm", 4, "", Int4Linear, 16 * TILES),
        ("int8-plain", "LLM.int8() without outliers", 8, "bitsandbytes", int8_plain, 1),
    )
}
SAME = {"fp8-mm": "fp8", "int4-mm": "int4", "int8-plain": "int8"}  # formats of the same codes


def base(format: str) -> str:
    """The format of activations, cache, embeddings and head beside weights in ``format``.

    bitsandbytes multiplies its int8 weights with activations in fp16; the rest runs in bf16.
    """
    return format if format in DTYPES else "fp16" if format.startswith("int8") else "bf16"


def build(name: str, format: str, device: str, seed: int = 0):
    """The model ``name`` ("tiny", or of the catalogue) in ``format``; its head stays in `base`.

    Raises ValueError, in one line, for an unknown model; `Refused` for a format that cannot run
    here.
    """
    item = FORMATS[format]
    if reason := convert.refusal(item, device):
        raise Refused(f"{format} cannot run here: {reason}")
    spec = configs.Spec(name, TINY, "tiny") if name == "tiny" else configs.load(name)
    model = random_weights.empty(configs.build(spec), DTYPES[base(format)]).requires_grad_(False)
    convert.convert(model, item, device=device, fill=random_weights.at_random(seed))
    return model


def error(format: str, rows: int, columns: int, device: str, seed: int = 0) -> float:
    """|product - float64's| / |float64's| of one layer (columns, columns) on ``rows`` inputs.

    The truth takes the weight that the format's codes stand for, made on the CPU, and inputs as
    they are: one in a thousand of their columns is an outlier feature.
    """
    torch.manual_seed(seed)
    dtype = getattr(torch, DTYPES[base(format)])
    linear = torch.nn.Linear(columns, columns, bias=False, dtype=dtype)
    linear.requires_grad_(False).weight.normal_(0, columns**-0.5)
    x = torch.randn(rows, columns).to(dtype)
    if format != "int8-plain":
        x[:, list(random_weights.planted(columns))] *= random_weights.PLANTED_GAIN
    coded = layers.FORMATS[SAME.get(format, format)]
    if coded.cast:
        weight, layer = linear.weight.double(), linear.to(device)
    else:
        weight = coded.decode(coded.make(linear, "cpu")).double()
        layer = FORMATS[format].make(linear, device)
    with torch.inference_mode():
        result = layer(x.to(device)).cpu().double()
    truth = x.double() @ weight.T
    return float((result - truth).norm() / truth.norm())
