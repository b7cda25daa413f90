"""Layers that multiply in their own format on a GPU, by kernels that torch brings.

On a CPU both multiply by what their codes stand for, so that codes can be checked anywhere.
"""

import torch
from torch.nn.functional import linear as multiply

from sizewise.quantization.weights import codecs
from sizewise.quantization.weights.layers import Format

TILES = 8  # of the inner dimension in tinygemm's layout: columns in multiples of 16 times it


class Float8Linear(torch.nn.Module):
    """Weights and activations in e4m3, a scale a row of each, products by `torch._scaled_mm`."""

    def __init__(self, linear, device, moments=None):
        super().__init__()
        tensors = codecs.encode_fp8(linear.weight.data.to(device).float())
        self.codes, self.scales, self.bias = tensors["codes"], tensors["scales"].T, linear.bias

    def decoded(self):
        return self.codes.float() * self.scales.T

    def forward(self, x):  # (..., in)
        rows = codecs.encode_fp8(x.reshape(-1, x.shape[-1]).float())
        if not x.is_cuda:
            return multiply(codecs.decode_fp8(rows), self.decoded(), self.bias).view(
                *x.shape[:-1], -1
            )
        out = torch._scaled_mm(
            rows["codes"],
            self.codes.t(),
            scale_a=rows["scales"],
            scale_b=self.scales.contiguous(),
            out_dtype=torch.bfloat16,
        ).view(*x.shape[:-1], -1)
        return out if self.bias is None else out + self.bias


class Int4Linear(torch.nn.Module):
    """Even steps in groups of 64, bf16 activations, products by `torch._weight_int4pack_mm`."""

    def __init__(self, linear, device, moments=None):
        super().__init__()
        weight = linear.weight.data.to(device).float()
        step, offset = codecs.grid(weight, 4)
        codes = codecs.integers(weight, step, offset, 4)  # (out, in)
        # tinygemm's value of a code is (code - 8) step + zero.
        both = torch.stack([step.float(), offset.float() + 8 * step.float()], -1)
        self.scales = both.transpose(0, 1).contiguous().bfloat16()  # (groups, out, 2)
        self.bias, self.codes = linear.bias, codes[:, ::2] << 4 | codes[:, 1::2]
        if weight.is_cuda:
            self.codes = torch._convert_weight_to_int4pack(self.codes, TILES)

    def decoded(self):
        codes = torch.stack([self.codes >> 4, self.codes & 15], -1).flatten(1).float()
        step, zero = self.scales.float().transpose(0, 1).unbind(-1)  # (out, groups)
        groups = (codes.unflatten(1, (-1, codecs.GROUP)) - 8) * step.unsqueeze(2)
        return (groups + zero.unsqueeze(2)).flatten(1)

    def forward(self, x):  # (..., in)
        if not x.is_cuda:
            return multiply(x, self.decoded().to(x.dtype), self.bias)
        rows = x.reshape(-1, x.shape[-1])
        out = torch._weight_int4pack_mm(rows, self.codes, codecs.GROUP, self.scales)
        out = out.view(*x.shape[:-1], -1)
        return out if self.bias is None else out + self.bias


FORMATS = {
    form.name: form
    for form in (
        Format(
            "fp8-mm",
            "e4m3 weights and activations, a scale a row",
            8,
            make=Float8Linear,
            decode=Float8Linear.decoded,
            group=16,
        ),
        Format(
            "int4-mm",
            "even steps in groups of 64, tinygemm",
            4,
            make=Int4Linear,
            decode=Int4Linear.decoded,
            group=16 * TILES,
        ),
    )
}
CAPABILITY = {"fp8-mm": (8, 9), "int4-mm": (8, 0)}  # of a GPU, at least
