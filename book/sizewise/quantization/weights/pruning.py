"""Magnitude pruning: the smallest weights of each matrix set to zero, and what that can save.

Unstructured (Han et al. 2015, "Learning both Weights and Connections", section 3.2, without the
training afterwards): a zero may stand anywhere. torch holds and multiplies a zero like any other
number, so nothing shrinks and nothing gets faster. What a format for sparse matrices would take
is counted instead: one bit an element that says whether it is there, then the values that are.
"""

import math
from dataclasses import dataclass
from typing import Any

from sizewise import validation

VALUE_BITS = {
    "fp32": 32,
    "bf16": 16,
    "fp16": 16,
    "int8": 8,
    "nf4": 4,
    "nf4-dq": 4,
    "fp4": 4,
    "fp4-dq": 4,
}


@dataclass(frozen=True)
class Pruned:
    """What `prune` did: ``elements`` of the matrices it went through, ``zeros`` among them."""

    model: Any
    share: float
    elements: int
    zeros: int


def share_of(value) -> float:
    """``value`` as a share to prune. Raises ValueError unless it is at least 0 and under 1."""
    good = isinstance(value, int | float) and not isinstance(value, bool)
    if not good or not 0 <= value < 1:
        raise ValueError(f"the share to prune must be from 0 to under 1, got {value!r}")
    return float(value)


def kept(weight, share: float):
    """True where a weight stays: all but the ``floor(share * n)`` of least magnitude.

    weight (out, in) -> bool of the same shape. Equal magnitudes go in the order in which they lie.
    """
    import torch

    removed = math.floor(share_of(share) * weight.numel())
    order = weight.detach().abs().flatten().argsort(stable=True)  # (out * in,)
    mask = torch.ones(weight.numel(), dtype=torch.bool, device=weight.device)
    mask[order[:removed]] = False
    return mask.view(weight.shape)


def prune(model, share: float, skip: tuple[str, ...] | None = None) -> Pruned:
    """Set the smallest ``share`` of each linear layer's weights to zero, in place.

    Every matrix loses the same share. ``skip`` holds names of layers that stay whole, by default
    the output head, which `weights.convert` leaves in high precision too. Prune first, convert
    then: a converted layer is none to prune.
    Raises ValueError for a bad share and for a model without a linear layer in floating point.
    """
    import torch

    from . import convert

    share = share_of(share)
    skip = convert.head(model) if skip is None else tuple(skip)
    chosen = [path for path in convert.linear_layers(model) if path not in skip]
    if not chosen:
        raise ValueError("the model has no linear layer in floating point to prune")
    elements = zeros = 0
    with torch.no_grad():
        for path in chosen:
            weight = model.get_submodule(path).weight
            weight.mul_(kept(weight, share))
            elements += weight.numel()
            zeros += int((weight == 0).sum())
    return Pruned(model, share, elements, zeros)


def bitmap_bytes(elements: int, there: int, bits: int) -> int:
    """Bytes of ``elements`` of which ``there`` are kept in ``bits`` each, with a bit map.

    Scales of a block are not in it: they are the same with and without zeros.
    """
    elements = validation.whole("elements", elements, 1 << 50)
    there = validation.whole("the elements kept", there, elements, 0)
    bits = validation.whole("bits a value", bits, 64)
    return -(-elements // 8) + -(-there * bits // 8)


def sparse_bytes(held: int, pruned: Pruned, format: str) -> int:
    """Bytes of a model that is held in ``held``, were its pruned matrices stored with a bit map.

    Raises ValueError for a format whose values are not of one known width.
    """
    if format not in VALUE_BITS:
        raise ValueError(f"no width of a value is known for {format}")
    bits = VALUE_BITS[format]
    dense = -(-pruned.elements * bits // 8)
    return held - dense + bitmap_bytes(pruned.elements, pruned.elements - pruned.zeros, bits)


def place_bits(share: float) -> float:
    """The least bits an element that say where the zeros are, by any code: the mask's entropy.

    Zeros of magnitude pruning lie without a pattern to speak of, so that no code for their places
    takes less than -s log2 s - (1-s) log2 (1-s). A bit map takes 1.
    """
    share = share_of(share)
    if share == 0:
        return 0.0
    return -share * math.log2(share) - (1 - share) * math.log2(1 - share)


def break_even(bits: float) -> float:
    """The share from which a bit map saves anything, for values of ``bits``: 1 / bits."""
    return 1 / validation.positive("bits a value", bits)
