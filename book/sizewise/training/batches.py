"""Which tokens a step sees: a function of the seed and the step, of nothing that came before."""

from functools import lru_cache

import numpy as np

from sizewise import validation


def batch(tokens, context: int, size: int, seed: int, step: int):
    """Inputs and targets of one step: two int64 tensors (size, context).

    The text is cut into windows of ``context`` tokens and one more; each pass over it sees every
    window once, in an order of its own. Raises ValueError if there is not one window.
    """
    count = windows(tokens, context)
    starts = []
    for number in range(step * size, (step + 1) * size):
        lap, within = divmod(number, count)
        starts.append(int(_order(count, seed, lap)[within]) * context)
    return _cut(tokens, starts, context)


def fixed(tokens, context: int, number: int):
    """``number`` windows evenly spaced over the text, the same for every run: (number, context)."""
    count = windows(tokens, context)
    number = min(number, count)
    return _cut(tokens, [i * count // number * context for i in range(number)], context)


def windows(tokens, context: int) -> int:
    """Windows of ``context`` tokens that have a token after them."""
    count = (len(tokens) - 1) // validation.whole("the context", context)
    if count < 1:
        raise ValueError(f"{len(tokens)} tokens hold no window of {context} and one more")
    return count


@lru_cache(maxsize=4)
def _order(count: int, seed: int, lap: int) -> np.ndarray:
    return np.random.default_rng([seed, lap]).permutation(count)


def _cut(tokens, starts: list[int], context: int):
    import torch

    windows = np.stack([tokens[start : start + context + 1] for start in starts])
    ids = torch.from_numpy(windows.astype(np.int64))  # (size, context + 1)
    return ids[:, :-1].contiguous(), ids[:, 1:].contiguous()
