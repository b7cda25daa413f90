"""Outlier features, as LLM.int8() defines them, measured on any causal model.

A feature is one dimension of the hidden states. It is an outlier where its magnitude is at least
6 in at least 25 % of the layers and at 6 % of the positions (Dettmers et al. 2022, section 4.1).
Per linear layer, the columns that hold any such value in a batch are those that LLM.int8() keeps
in 16 bits. Observed are the inputs of linear layers, and of GPT-2's Conv1D.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from sizewise.validation import positive

MAGNITUDE, LAYERS, POSITIONS = 6.0, 0.25, 0.06


@dataclass(frozen=True)
class Outliers:
    """``layers``: a data frame, one row a linear layer; ``features``: one row a hidden dimension.

    Columns of ``layers``: ``module``, ``layer`` (its number, -1 for none), ``columns``,
    ``outlier_columns`` (with any value over the threshold), ``share_columns`` (the mean over
    batches, what LLM.int8() keeps in 16 bits), ``share_positions`` (with any such value) and
    ``largest``. Columns of ``features``: ``share_layers``, ``share_positions``, ``largest`` and
    ``outlier``.
    """

    layers: Any
    features: Any
    threshold: float
    positions: int


@dataclass
class _Seen:
    """Sums over the batches of one linear layer."""

    over: Any  # int64 (columns,): positions at which each column is over the threshold
    largest: Any  # float32 (columns,)
    rows: int = 0  # positions with any column over
    positions: int = 0
    share: float = 0.0  # of columns over, summed over batches
    batches: int = 0


def measure(
    model,
    windows,
    *,
    threshold: float = MAGNITUDE,
    batch: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Outliers:
    """Run ``windows`` (n, T) of tokens through a causal model, ``batch`` at once, and look.

    A hidden dimension counts in a layer if it is over the threshold at any position of any
    input that is as wide as the model; its share of positions is the mean over the layers in
    which it is. Raises ValueError for a threshold that is not positive, or a model in which no
    linear layer was reached.
    """
    import torch

    threshold = positive("the threshold", threshold)
    seen: dict[str, _Seen] = {}
    watched = [(path, one) for path, one in model.named_modules() if _is_linear(one)]
    hooks = [one.register_forward_pre_hook(_watch(path, seen, threshold)) for path, one in watched]
    was, ids = model.training, torch.as_tensor(np.asarray(windows))
    device = next(model.parameters()).device
    try:
        model.eval()
        with torch.no_grad():
            for first in range(0, len(ids), batch):
                model(input_ids=ids[first : first + batch].to(device))
                if progress:
                    progress(min(first + batch, len(ids)), len(ids))
    finally:
        for hook in hooks:
            hook.remove()
        model.train(was)
    if not seen:
        raise ValueError("the model has no linear layer that these tokens reach")
    width = getattr(model.config.get_text_config(), "hidden_size", None)
    return Outliers(_layers(seen), _features(seen, width), threshold, ids.numel())


def _is_linear(module) -> bool:
    import torch
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, torch.nn.Linear | Conv1D)


def _watch(path: str, seen: dict[str, _Seen], threshold: float) -> Callable:
    def hook(module, given) -> None:
        x = given[0].detach().abs().flatten(0, -2).float()  # (positions, columns)
        if not len(x):
            return
        over = x >= threshold
        if path not in seen:
            seen[path] = _Seen(over.sum(0), x.amax(0))
        else:
            seen[path].over += over.sum(0)
            seen[path].largest = seen[path].largest.maximum(x.amax(0))
        one = seen[path]
        one.rows += int(over.any(1).sum())
        one.positions += len(x)
        one.share += float(over.any(0).float().mean())
        one.batches += 1

    return hook


def _layers(seen: dict[str, _Seen]):
    import pandas

    return pandas.DataFrame(
        {
            "module": path,
            "layer": _number(path),
            "columns": one.over.numel(),
            "outlier_columns": int((one.over > 0).sum()),
            "share_columns": one.share / one.batches,
            "share_positions": one.rows / one.positions,
            "largest": float(one.largest.max()),
        }
        for path, one in seen.items()
    )


def _features(seen: dict[str, _Seen], width: int | None):
    import pandas

    by_layer: dict[int, list] = {}
    for path, one in seen.items():
        if _number(path) >= 0 and one.over.numel() == width:
            shares = (one.over.double() / one.positions).cpu().numpy()
            by_layer.setdefault(_number(path), []).append((shares, one.largest.cpu().numpy()))
    if not by_layer:
        raise ValueError("no layer of the model takes hidden states of the model's own width")
    # (layers, width): of a layer's inputs, the one where the feature stands out most.
    shares = np.stack([np.max([s for s, _ in of], 0) for of in by_layer.values()])
    largest = np.stack([np.max([m for _, m in of], 0) for of in by_layer.values()]).max(0)
    reached = (shares > 0).mean(0)
    where = shares.sum(0) / np.maximum((shares > 0).sum(0), 1)
    return pandas.DataFrame(
        {
            "share_layers": reached,
            "share_positions": where,
            "largest": largest,
            "outlier": (reached >= LAYERS) & (where >= POSITIONS),
        }
    )


def _number(path: str) -> int:
    """The number of the layer in a module's name: 3 in model.layers.3.mlp.up_proj."""
    found = re.search(r"(?:^|\.)(\d+)(?:\.|$)", path)
    return int(found.group(1)) if found else -1
