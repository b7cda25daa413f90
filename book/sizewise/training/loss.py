"""Next-token loss with the output head and its gradient in one pass.

Logits are the largest tensor of a small model: 2,048 tokens of 4,096 entries are 32 MiB, written
and read several times by a plain head, softmax and their backward. Here a few dozen tokens are
worked through at a time, and the gradient is made while their logits are still in the cache. The
FLOPs are those of a plain head. The idea is that of Liger's fused linear cross entropy
(Hsu et al. 2024).
"""

import torch
from torch.nn import functional

ROWS = 64  # tokens at a time
SEQUENCES = 32  # at a time, where no gradient is made


def next_token(model, ids, targets):
    """Mean cross entropy in nats of ``targets`` (batch, context) after ``ids`` (batch, context)."""
    hidden = model.base_model(input_ids=ids, use_cache=False)[0].flatten(0, 1)  # (tokens, width)
    weight = model.get_output_embeddings().weight  # (vocabulary, width)
    targets = targets.flatten()
    if hidden.is_cuda:  # autocast chooses the format, which products made by hand would not see
        return functional.cross_entropy(functional.linear(hidden, weight).float(), targets)
    if not torch.is_grad_enabled():
        return _without_gradient(hidden, weight, targets)
    return _Head.apply(hidden, weight, targets)


def per_token(model, ids, targets):
    """(cross entropy in nats, whether the most likely token is it) of each target after ``ids``.

    Arrays of the shape of ``ids`` and ``targets``, (sequences, length); float64 and bool.
    """
    weight = model.get_output_embeddings().weight  # (vocabulary, width)
    nats, right, training = [], [], model.training
    model.eval()
    try:
        with torch.no_grad():
            for inputs, true in zip(ids.split(SEQUENCES), targets.split(SEQUENCES), strict=True):
                hidden = model.base_model(input_ids=inputs.to(weight.device), use_cache=False)[0]
                logits = (hidden @ weight.T).transpose(1, 2)  # (sequences, vocabulary, length)
                true = true.to(weight.device)
                nats.append(functional.cross_entropy(logits, true, reduction="none").cpu())
                right.append((logits.argmax(1) == true).cpu())
    finally:
        model.train(training)
    return torch.cat(nats).double().numpy(), torch.cat(right).numpy()


def _without_gradient(hidden, weight, targets):
    total = hidden.new_zeros(())
    for rows, right in zip(hidden.split(ROWS), targets.split(ROWS), strict=True):
        total += functional.cross_entropy(rows @ weight.T, right, reduction="sum")
    return total / len(targets)


class _Head(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, weight, targets):
        tokens = len(targets)
        to_hidden, to_weight = torch.empty_like(hidden), torch.zeros_like(weight)
        total = hidden.new_zeros(())
        for start in range(0, tokens, ROWS):
            rows = hidden[start : start + ROWS]  # (rows, width)
            right = targets[start : start + ROWS].unsqueeze(1)  # (rows, 1)
            logits = rows @ weight.T  # (rows, vocabulary)
            logits.sub_(logits.amax(1, keepdim=True))
            of_right = logits.gather(1, right)
            odds = logits.exp_()
            norm = odds.sum(1, keepdim=True)
            total += (norm.log() - of_right).sum()
            # d loss / d logits = (softmax - one-hot) / tokens
            slope = odds.mul_((norm * tokens).reciprocal_())
            slope.scatter_add_(1, right, torch.full_like(norm, -1 / tokens))
            to_hidden[start : start + ROWS] = slope @ weight
            to_weight.addmm_(slope.T, rows)
        ctx.save_for_backward(to_hidden, to_weight)
        return total / tokens

    @staticmethod
    def backward(ctx, grad):
        to_hidden, to_weight = ctx.saved_tensors
        return to_hidden * grad, to_weight * grad, None
