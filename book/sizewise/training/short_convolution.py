"""A short causal convolution before attention and MLP: each channel mixes with its last few tokens.

Mixers of state-space models have one (Gu and Dao 2023, Mamba, section 3.4), attention has none. As
an addition to a class that lacks it, this is the control that tells the convolution from the
state. It starts as nothing: filters of zeros, added to what passes by.
"""

import torch
from torch import nn

SUBLAYERS = (".self_attn", ".mlp")


class ShortConvolution(nn.Module):
    """x + a depthwise causal convolution of x, (batch, context, width) to the same."""

    def __init__(self, width: int, length: int):
        super().__init__()
        self.filter = nn.Parameter(torch.zeros(width, 1, length))

    def forward(self, hidden):
        width, _, length = self.filter.shape
        channels = nn.functional.pad(hidden.transpose(1, 2), (length - 1, 0))
        mixed = nn.functional.conv1d(channels, self.filter, groups=width)
        return hidden + mixed.transpose(1, 2)


def attach(model, length: int, sublayers: int) -> None:
    """Put one before the first ``sublayers`` of every layer, as a part of each."""
    for name, sublayer in list(model.named_modules()):
        if name.endswith(SUBLAYERS[:sublayers]):
            sublayer.convolution = ShortConvolution(model.config.hidden_size, length)
            sublayer.register_forward_pre_hook(_mix, with_kwargs=True)


def _mix(sublayer, arguments, options):
    if arguments:  # an MLP takes its input by position, attention by name
        hidden, *others = arguments
        return (sublayer.convolution(hidden), *others), options
    return (), options | {"hidden_states": sublayer.convolution(options["hidden_states"])}
