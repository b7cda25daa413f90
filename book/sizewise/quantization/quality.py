"""What a conversion costs: a converted language model against the one that it was made from.

Four numbers, each with a 95 % interval from drawing documents: bits a byte, the bits a byte that
were added (both models on the same drawn documents), the KL divergence from the original, and
how often both would choose the same token. The last two see changes that the loss hides, since
a model can be right for other reasons (Dutta et al. 2024, "Accuracy is Not All You Need").
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from sizewise import validation
from sizewise.evaluation import likelihood
from sizewise.stats import bootstrap

MEASURES = {
    "nats_per_token": ("nats", "tokens", 1.0),
    "bits_per_byte": likelihood.BITS_PER_BYTE,
    "kl": ("kl", "tokens", 1.0),
    "agreement": ("agree", "tokens", 1.0),
}


@dataclass(frozen=True)
class Sample:
    """Windows of text: tokens (n, T), bytes of their targets (n, T - 1), whose document (n,)."""

    windows: np.ndarray
    bytes: np.ndarray
    document: np.ndarray

    @property
    def tokens(self) -> int:
        """Tokens that are predicted."""
        return int(self.windows[:, 1:].size)


def of_texts(tokenizer, texts: Iterable[str], context: int, documents: int) -> Sample:
    """The first window of each of the first ``documents`` texts that fill one.

    One window a document: two of one document tell less than one each of two.
    Raises ValueError if fewer texts are long enough.
    """
    validation.whole("the documents", documents, 100_000, bootstrap.LEAST)
    result = []
    for text in texts:
        # No token is shorter than a byte; a text of a few times the window's tokens fills it.
        subset = text[: 16 * context]
        try:
            windows, sizes, _ = likelihood.documents(tokenizer, [subset], context)
        except ValueError:
            continue
        result.append((windows[0], sizes[0]))
        if len(result) == documents:
            break
    if len(result) < documents:
        raise ValueError(f"only {len(result)} texts have a window of {context} tokens")
    windows, sizes = (np.stack(part) for part in zip(*result, strict=True))
    return Sample(windows, sizes, np.arange(documents))


def of_tokens(tokens, context: int, number: int) -> Sample:
    """``number`` windows spread evenly over the validation side of a laboratory's text."""
    from sizewise.training import batches

    ids, targets = (part.numpy() for part in batches.fixed(tokens.validation, context, number))
    windows = np.concatenate([ids, targets[:, -1:]], 1)  # (n, context + 1)
    sizes = tokens.bytes_of[targets].astype(np.int64)  # (n, context)
    return Sample(windows, sizes, np.arange(len(windows)))


def measure(
    model,
    sample: Sample,
    reference=None,
    *,
    batch: int = 8,
    progress: Callable[[int, int], None] | None = None,
):
    """One row a window: `likelihood.measure` on a sample."""
    return likelihood.measure(
        model,
        sample.windows,
        bytes_of_targets=sample.bytes,
        document=sample.document,
        reference=reference,
        batch=batch,
        progress=progress,
    )


def compare(table, original, *, seed: int = 0) -> dict[str, Any]:
    """The measured columns of ``data/weight_quality.md`` from what `measure` gave for a model.

    ``table`` was measured against the model that ``original`` is the table of; where both are one
    table it is the model itself, whose divergence is 0. Raises ValueError for a model that gave
    a number that is not finite.
    """
    if table is original:
        table = table.assign(kl=0.0, agree=table["tokens"])
    result: dict[str, Any] = {
        "documents": int(table["document"].nunique()),
        "tokens_scored": int(table["tokens"].sum()),
        "bytes_scored": int(table["bytes"].sum()),
    }
    for name, columns in MEASURES.items():
        result |= bootstrap.ratio(table, *columns, seed=seed).columns(name)
    added = bootstrap.paired(table, original, *likelihood.BITS_PER_BYTE, seed=seed)
    return result | added.difference.columns("loss_change")


def with_roundings(value: float, low: float, high: float, starts) -> tuple[float, float, float]:
    """A cost and its 95 % interval over documents and over where groups of weights begin.

    ``value``, ``low`` and ``high`` are of one start on many documents; ``starts`` are costs of K
    starts on fewer ones, the first of them the same start. Their mean corrects the value (which
    is of one start alone), and its standard error, by Student's t with K - 1 degrees of freedom,
    joins the interval over documents in quadrature. Raises ValueError for fewer than 2 starts.
    """
    from scipy.stats import t

    starts = np.asarray(starts, float)
    if len(starts) < 2:
        raise ValueError(f"an interval over roundings needs 2 starts, got {len(starts)}")
    moved = value + starts.mean() - starts[0]
    error = t.ppf(0.975, len(starts) - 1) * starts.std(ddof=1) / len(starts) ** 0.5
    return moved, moved - np.hypot(value - low, error), moved + np.hypot(high - value, error)
