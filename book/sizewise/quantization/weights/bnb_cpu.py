"""Bitsandbytes' four-bit layers on a CPU, with the same numbers on every CPU."""

import logging
from functools import cache


def bnb():
    """The module bitsandbytes, without its remarks on casts and on optional kernels."""
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    import bitsandbytes

    return bitsandbytes


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
            weight = dequantized(self).to(x.dtype)  # (out, in)
            bias = None if self.bias is None else self.bias.to(x.dtype)
            return torch.nn.functional.linear(x, weight, bias)

    return Linear4bitOnCPU


def dequantized(layer):
    """The weights (out, in) that a `Linear4bit` stands for."""
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
