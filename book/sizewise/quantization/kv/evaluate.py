"""What a language model predicts when all it attends to has gone through a cache of your making.

A text read in one pass need not touch the cache: attention may take the keys and values that were
just computed, and `transformers`' own quantized caches hand exactly these back. Here the text goes
through in chunks, and each chunk attends to what the cache gives back. `original` reads it once
with the plain cache; `measure` reads it with another and compares the two at every token.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sizewise.evaluation import likelihood
from sizewise.validation import whole

CHUNK = 64  # tokens that are read at once
UNTOLD = ("final_logit_softcapping", "logits_scaling", "logit_scale")  # between head and logits


@dataclass(frozen=True)
class Original:
    """What the plain cache led to: last hidden states, and how many numbers it held."""

    hidden: Any = field(repr=False)  # float (n, T - 1, width), on the CPU
    values: int  # keys and values of one window, each number counted once


@dataclass(frozen=True)
class Measured:
    """One row a window, as `likelihood.measure` makes them, and the bytes held for a window."""

    table: Any = field(repr=False)
    bytes: float


def original(model, windows: np.ndarray, *, chunk: int = CHUNK, batch: int = 8) -> Original:
    """The model's own reading of ``windows`` (n, T) with `transformers`' DynamicCache.

    Raises ValueError as `likelihood.measure` does, and for models that do more to their last
    hidden state than to multiply it with the output matrix.
    """
    import torch
    from transformers import DynamicCache

    windows = _checked(model, windows)
    hidden, values = [], 0
    for _, states, cache in _read(
        model, windows, lambda: DynamicCache(config=model.config), chunk, batch
    ):
        hidden.append(states.cpu())
        stored = [item for layer in cache.layers for item in (layer.keys, layer.values)]
        values += sum(item.numel() for item in stored)
    return Original(torch.cat(hidden), values // len(windows))


def measure(
    model,
    windows: np.ndarray,
    make: Callable[[], Any],
    reference: Original,
    *,
    bytes_of_targets: np.ndarray,
    document: np.ndarray,
    chunk: int = CHUNK,
    batch: int = 8,
) -> Measured:
    """Read ``windows`` (n, T) with caches that ``make`` returns, each for ``batch`` of them.

    The table has ``document``, ``nats``, ``tokens``, ``bytes``, and against the reference ``kl``
    (nats, summed; KL(reference || this)) and ``agree``: see `likelihood.measure`. ``bytes`` of the
    result are those of the tensors behind a `TurboQuantCache` without reserve, at the end.
    Raises ValueError as `original` does, and for a reference of other windows.
    """
    import pandas
    import torch

    from .cache import held_bytes

    windows = _checked(model, windows)
    if reference.hidden.shape[:2] != (len(windows), windows.shape[1] - 1):
        raise ValueError(
            f"the reference read {tuple(reference.hidden.shape[:2])} tokens, these windows have "
            f"{(len(windows), windows.shape[1] - 1)}"
        )
    rows, stored = [], 0
    for first, states, cache in _read(model, windows, make, chunk, batch):
        stored += held_bytes(cache.trim() if hasattr(cache, "trim") else cache)
        targets = torch.from_numpy(windows[first : first + len(states), 1:])
        for position, target in enumerate(targets.to(states.device)):
            before = reference.hidden[first + position].to(states.device)
            rows.append(_compared(model, states[position], before, target))
    table = pandas.DataFrame(rows)
    table.insert(2, "bytes", np.asarray(bytes_of_targets).sum(1))
    table.insert(0, "document", np.asarray(document))
    return Measured(table, stored / len(windows))


def keys_and_values(model, windows: np.ndarray, *, chunk: int = CHUNK) -> list[tuple[Any, Any]]:
    """For each layer its keys and values (n, heads, tokens, d) as the plain cache holds them.

    Keys are as attention uses them, after the rotary embedding. A windowed layer has its window.
    """
    from transformers import DynamicCache

    windows = _checked(model, windows)
    built = _read(model, windows, lambda: DynamicCache(config=model.config), chunk, len(windows))
    _, _, cache = next(built)
    return [(layer.keys, layer.values) for layer in cache.layers]


def _read(model, windows, make, chunk: int, batch: int):
    """(first window, last hidden states (b, T - 1, width), the filled cache) of each batch."""
    import torch

    chunk, batch = whole("the chunk", chunk), whole("the batch", batch)
    device = next(model.parameters()).device
    with torch.inference_mode(), likelihood.still(model):
        for first in range(0, len(windows), batch):
            ids = torch.from_numpy(windows[first : first + batch, :-1]).to(device)  # (b, T - 1)
            cache = make()
            states = [
                model.base_model(
                    input_ids=part, past_key_values=cache, use_cache=True
                ).last_hidden_state
                for part in ids.split(chunk, 1)
            ]
            yield first, torch.cat(states, 1), cache


def _compared(model, states, before, target) -> dict[str, float]:
    """Sums over one window: ``states`` and ``before`` (t, width), ``target`` (t,)."""
    head = model.get_output_embeddings()
    result = {"nats": 0.0, "tokens": len(target), "kl": 0.0, "agree": 0}
    step = max(1, likelihood.ROWS // head.weight.shape[0])
    for part in range(0, len(target), step):
        current = slice(part, part + step)
        log_p = head(states[current]).float().log_softmax(-1)  # (step, V)
        log_q = head(before[current]).float().log_softmax(-1)
        result["nats"] -= log_p.gather(-1, target[current, None]).double().sum().item()
        result["agree"] += (log_p.argmax(-1) == log_q.argmax(-1)).sum().item()
        result["kl"] += ((log_q - log_p) * log_q.exp()).double().sum().item()
    return result


def _checked(model, windows: np.ndarray) -> np.ndarray:
    config = model.config.get_text_config()
    for name in UNTOLD:
        if getattr(config, name, None) not in (None, 1, 1.0):
            raise ValueError(f"{config.model_type} has {name}: not measured with caches here")
    windows = likelihood._checked(windows, model, None)
    if (windows == likelihood.PADDING).any():
        raise ValueError("windows must be full: padding would go into the cache")
    return windows
