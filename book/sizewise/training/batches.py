"""Which tokens a step sees: a function of the seed and the step, of nothing that came before."""

from functools import lru_cache

import numpy as np

from sizewise import validation


def batch(tokens, context: int, size: int, seed: int, step: int):
    """Inputs and targets of one step: two int64 tensors (size, context), where ``tokens`` are.

    The text is cut into windows of ``context`` tokens and one more; each pass over it sees every
    window once, in an order of its own. Raises ValueError if there is not one window.
    """
    count = windows(tokens, context)
    starts = []
    for place in range(step * size, (step + 1) * size):
        lap, within = divmod(place, count)
        starts.append(int(_order(count, seed, lap)[within]) * context)
    return _cut(tokens, starts, context)


def on(tokens, device):
    """The text as `batch` wants it for a device: a GPU holds all of it, two bytes a token.

    Batches are then cut on the GPU, and a step waits for no copy but that of its few places.
    """
    import torch

    if torch.device(device).type == "cpu":
        return tokens
    # torch indexes no uint16: the same bits as int16, taken back by `_cut`
    return torch.from_numpy(np.array(tokens, np.uint16).view(np.int16)).to(device)


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

    if isinstance(tokens, torch.Tensor):  # int16, of `on`
        places = torch.tensor(starts)
        if tokens.is_cuda:
            places = places.pin_memory().to(tokens.device, non_blocking=True)
        span = torch.arange(context + 1, device=tokens.device)
        whole = tokens[places[:, None] + span].long() & 0xFFFF  # (size, context + 1)
    else:
        cut = np.stack([tokens[start : start + context + 1] for start in starts])
        whole = torch.from_numpy(cut.astype(np.int64))  # (size, context + 1)
    return whole[:, :-1].contiguous(), whole[:, 1:].contiguous()
