"""Magnitude pruning: the smallest weights of each matrix set to zero.

Unstructured (Han et al. 2015, "Learning both Weights and Connections", section 3.2, without the
training afterwards): a zero may stand anywhere. torch stores and multiplies a zero like any other
number, so nothing shrinks and nothing gets faster. A format for sparse matrices would store one
bit an element that says whether it is there, then the values that are.
"""

import math

from . import convert


def mask(weight, share: float):
    """True where a weight stays: all but the ``floor(share * n)`` of least magnitude.

    weight (out, in) -> bool of the same shape. Equal magnitudes go in the order in which they lie.
    Raises ValueError unless ``share`` is a number from 0 to under 1.
    """
    import torch

    if not isinstance(share, int | float) or isinstance(share, bool) or not 0 <= share < 1:
        raise ValueError(f"the share to prune must be from 0 to under 1, got {share!r}")
    removed = math.floor(share * weight.numel())
    order = weight.detach().abs().flatten().argsort(stable=True)  # (out * in,)
    stays = torch.ones(weight.numel(), dtype=torch.bool, device=weight.device)
    stays[order[:removed]] = False
    return stays.view(weight.shape)


def prune(model, share: float) -> tuple[int, int]:
    """Set the smallest ``share`` of each linear layer's weights to zero, in place.

    Every matrix loses the same share; the output head stays whole. Returns how many
    are zero, of how many.
    Prune first, convert then: a converted layer is none to prune.
    Raises ValueError for a bad share and for a model without a linear layer in floating point.
    """
    import torch

    head = convert.head(model)
    paths = [path for path in convert.linear_layers(model) if path not in head]
    if not paths:
        raise ValueError("the model has no linear layer in floating point to prune")
    elements = zeros = 0
    with torch.no_grad():
        for path in paths:
            weight = model.get_submodule(path).weight
            weight.mul_(mask(weight, share))
            elements += weight.numel()
            zeros += int((weight == 0).sum())
    return zeros, elements
