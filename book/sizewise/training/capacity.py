"""Experts that take no more than their share: choices beyond it are dropped.

Machines that give every expert a fixed room, so that all steps cost the same, drop what does not
fit; the token then passes that expert by, on the residual stream alone (Fedus et al. 2021, section
2.2). Here the weight of a late choice is set to nought, which is the same for every output and
every gradient, though the expert still computes it.
"""

import math
from functools import partial

from sizewise import validation

from . import load_balancing


def late(chosen, experts: int, factor: float, context: int):
    """Which choices come too late: bool, of the shape of ``chosen`` (tokens, used).

    All tokens given are one group, in windows of ``context``. Each expert takes its first
    ``ceil(factor * choices / experts)``. Tokens come position by position, those of all windows
    side by side, so that early positions go first. Raises ValueError for a factor that is not
    above 0, and for tokens that do not fill their windows.
    """
    import torch

    validation.positive("the capacity factor", factor)
    tokens, used = chosen.shape
    if tokens % context:
        raise ValueError(f"{tokens} tokens do not fill windows of {context}")
    most = math.ceil(factor * chosen.numel() / experts)
    queue = chosen.reshape(-1, context, used).transpose(0, 1).reshape(-1)  # position first
    order = queue.argsort(stable=True)
    counts = torch.bincount(queue, minlength=experts)
    before = (counts.cumsum(0) - counts).repeat_interleave(counts)
    place = torch.empty_like(queue)  # of each choice in the queue of its expert
    place[order] = torch.arange(queue.numel(), device=queue.device) - before
    full = (place >= most).reshape(context, -1, used)
    return full.transpose(0, 1).reshape(tokens, used)


def attach(model, factor: float, context: int) -> None:
    """Let every expert of ``model`` take ``factor`` times an even share of each batch.

    In training and afterwards. What the routers choose stays as it is, so the balance loss and
    the routes that are watched count the dropped choices too.
    """
    for router in load_balancing.routers(model):
        router.register_forward_hook(partial(_drop, factor, context))


def _drop(factor: float, context: int, router, given, found):
    logits, weights, chosen = found
    return logits, weights.masked_fill(late(chosen, logits.shape[-1], factor, context), 0), chosen
