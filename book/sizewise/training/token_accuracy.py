"""How often a model's most likely tokens are right: one of them, or k in a row.

Exact match of k tokens needs no generation. A greedy continuation agrees with the text for k
tokens if and only if each of the k most likely tokens is right after the true tokens before it: as
long as none was wrong, what was generated is the true text. So one pass over a window tells the
exact matches of every length from every start in it.
"""

from dataclasses import dataclass

import numpy as np

from . import batches, context_use

LENGTHS = (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class Predictions:
    """Right or not, window by window, with what says how far the windows are independent."""

    right: np.ndarray  # (windows, context), bool: the most likely token is the true one
    nats: np.ndarray  # (windows, context): loss of the true one
    document: np.ndarray  # (windows,): the document in which a window starts


def predict(model, tokens, context: int, windows: int) -> Predictions:
    """Predictions on ``windows`` windows, evenly spaced over the validation side."""
    ids, targets = batches.fixed(tokens.validation, context, windows)  # (windows, context)
    nats, right = context_use.scores(model, ids, targets)
    ends = np.cumsum(np.asarray(tokens.validation) == 0)  # token 0 ends a document
    count = batches.windows(tokens.validation, context)
    starts = [number * count // len(ids) * context for number in range(len(ids))]
    document = np.array([ends[start - 1] if start else 0 for start in starts])
    return Predictions(right, nats, document)


def matches(right: np.ndarray, length: int, first: int, last: int) -> np.ndarray:
    """Whether ``length`` tokens in a row are right, from each start in [first, last).

    (windows, last - first), bool. Each window has room for the last of them.
    """
    spans = np.lib.stride_tricks.sliding_window_view(right, length, axis=1)
    return spans[:, first:last].all(-1)


def summary(predictions: Predictions, first: int) -> dict[str, float]:
    """Accuracy, exact matches and loss, each with its standard error, over the same starts.

    Starts have ``first`` tokens of context or more, and room for the longest match. Raises
    ValueError if a window has none.
    """
    context = predictions.right.shape[1]
    last = context - max(LENGTHS) + 1
    if not 0 <= first < last:
        raise ValueError(
            f"a match of {max(LENGTHS)} tokens after {first} does not fit a window of {context}"
        )
    measured: dict[str, float] = {}
    for length in LENGTHS:
        name = "accuracy" if length == 1 else f"exact_{length}"
        exact = matches(predictions.right, length, first, last)
        measured[name], measured[f"{name}_se"] = mean(exact, predictions.document)
    measured["loss"], measured["loss_se"] = mean(
        predictions.nats[:, first:last], predictions.document
    )
    return measured | {
        "positions": len(predictions.right) * (last - first),
        "documents": len(np.unique(predictions.document)),
    }


def mean(values: np.ndarray, document: np.ndarray) -> tuple[float, float]:
    """Mean of (windows, starts) and its standard error, documents being independent.

    Positions of a document are not: its sums are what varies (Cochran 1977, section 9A).
    """
    names, group = np.unique(document, return_inverse=True)
    sums = np.bincount(group, values.sum(1, dtype=np.float64))
    sizes = np.bincount(group) * values.shape[1]
    middle = sums.sum() / sizes.sum()
    off = sums - middle * sizes
    variance = len(names) / (len(names) - 1) * (off**2).sum() / sizes.sum() ** 2
    return float(middle), float(np.sqrt(variance))
