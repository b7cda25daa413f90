"""The balance loss of a mixture of experts, and where its routers are.

A router left alone sends more and more tokens to the experts that learnt first. The usual remedy
adds to the loss, for each layer, ``experts * sum(share of the choices * mean probability)``, which
is 1 for even loads (Fedus et al. 2021, equations 4 to 6; for several experts a token their choices
count alike). Here its gradient alone enters, at the router: what a run reports as its loss stays
the loss of the next token, so that runs with and without it compare.
"""

from functools import partial

import torch


def routers(model) -> list:
    """The routers of a model in the order of its layers; none for a model without experts.

    Each is a module that returns (logits, weights, choices): (tokens, experts), (tokens, used)
    and (tokens, used).
    """
    return [module for name, module in model.named_modules() if name.endswith(".mlp.gate")]


def loss(logits, choices):
    """The balance loss of one layer, from ``logits`` (tokens, experts), ``choices`` (tokens, used).

    Its gradient goes through the probabilities; the choices are counted.
    """
    experts = logits.shape[-1]
    counts = torch.bincount(choices.flatten(), minlength=experts)  # (experts,)
    share = counts.to(logits.dtype) / choices.numel()
    return experts * (share * logits.float().softmax(-1).mean(0)).sum()


def attach(model, coefficient: float) -> None:
    """Let every router of ``model`` learn from its balance loss too."""
    for router in routers(model):
        router.register_forward_hook(partial(_add, coefficient))


def _add(coefficient: float, router, inputs, outputs):
    if not torch.is_grad_enabled():
        return None
    logits, weights, choices = outputs
    return logits, _Adding.apply(weights, coefficient * loss(logits, choices)), choices


class _Adding(torch.autograd.Function):
    """The first argument as it is; the second one's gradient is one."""

    @staticmethod
    def forward(ctx, value, extra):
        return value.view_as(value)

    @staticmethod
    def backward(ctx, grad):
        return grad, grad.new_ones(())
