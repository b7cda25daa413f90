"""Intervals for ratios of sums: bits a byte, nats a token, the share of right answers.

Windows of one document resemble each other, so documents are drawn, not windows (a cluster
bootstrap: Davison and Hinkley 1997, section 3.8). Two models on the same documents share what
makes a document hard; the same draw for both takes that out of their difference. Percentile
intervals come out somewhat narrow for fewer than about twenty documents.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from sizewise.validation import whole

LEAST = 2  # documents


@dataclass(frozen=True)
class Interval:
    """A value and the ends of its interval, of 95 % by default.

    The ends are nan where they could not be had. ``samples``, (samples,), are the resamples that
    they come from; none where they come from a formula.
    """

    value: float
    low: float = math.nan
    high: float = math.nan
    samples: np.ndarray = field(default_factory=lambda: np.empty(0), repr=False, compare=False)

    def columns(self, name: str) -> dict[str, float]:
        """As three columns of a row: NAME, NAME_low and NAME_high."""
        return {name: self.value, f"{name}_low": self.low, f"{name}_high": self.high}

    def through(self, function: Callable) -> "Interval":
        """The interval of a function of this value, for example ``numpy.exp``."""
        return estimate(function(self.value), function(self.samples))


@dataclass(frozen=True)
class Paired:
    """Two models on the same documents: a - b and a / b, with 95 % intervals."""

    difference: Interval
    ratio: Interval


def ratio(
    table,
    top: str,
    bottom: str | None = None,
    scale: float = 1.0,
    *,
    by: str = "document",
    samples: int = 2000,
    seed: int = 0,
) -> Interval:
    """``scale`` times the sum of column ``top`` over the sum of ``bottom``, drawing ``by``.

    Without ``bottom``, the mean of ``top`` over the rows. Raises ValueError for a column that is
    not there, a sum that is not finite, a bottom that is not positive, and fewer than 2 documents.
    """
    ((value, resampled),) = _ratios([table], top, bottom, scale, by, samples, seed)
    return estimate(value, resampled)


def paired(
    a,
    b,
    top: str,
    bottom: str | None = None,
    scale: float = 1.0,
    *,
    by: str = "document",
    samples: int = 2000,
    seed: int = 0,
) -> Paired:
    """Compare the `ratio` of two tables of the same documents, drawn together.

    Raises ValueError as `ratio` does, and if the tables hold different documents.
    """
    (value, values), (other, others) = _ratios([a, b], top, bottom, scale, by, samples, seed)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = estimate(np.divide(value, other), np.divide(values, others))
    return Paired(estimate(value - other, values - others), ratio)


def _ratios(tables, top, bottom, scale, by, samples, seed):
    """(value, resampled values) of each table, all by the same draws of documents."""
    sums = [_sums(table, top, bottom, by) for table in tables]
    index, last = sums[0][0].index, sums[-1][0].index
    if not index.equals(last):
        alone = index.symmetric_difference(last)
        raise ValueError(f"the two tables differ in {len(alone)} of column {by!r}: {alone[0]!r}")
    weights = draws(len(index), samples, seed)
    return [
        (tops.sum() / bottoms.sum() * scale, (weights @ tops) / (weights @ bottoms) * scale)
        for tops, bottoms in sums
    ]


def _sums(table, top: str, bottom: str | None, by: str):
    """Sums of both columns by document, as two series with the documents as index."""
    for name in filter(None, (top, bottom, by)):
        if name not in table:
            raise ValueError(f"the table has no column {name!r}; it has {', '.join(table)}")
    grouped = table.groupby(by, sort=True)
    tops = grouped[top].sum().astype(float)
    bottoms = (grouped[bottom].sum() if bottom else grouped.size()).astype(float)
    if len(tops) < LEAST:
        raise ValueError(f"an interval needs {LEAST} of column {by!r}, got {len(tops)}")
    for column in filter(None, (top, bottom)):  # a sum would pass over what is missing
        if not np.isfinite(table[column].astype(float)).all():
            raise ValueError(f"column {column!r} holds a number that is not finite")
    if not (bottoms > 0).all():
        raise ValueError(f"column {bottom!r} must be above 0 in each {by}")
    return tops, bottoms


def draws(number: int, samples: int, seed: int) -> np.ndarray:
    """(samples, number): how often each document was drawn, with replacement."""
    samples = whole("the samples", samples, 10**6)
    return np.random.default_rng(seed).multinomial(number, np.full(number, 1 / number), samples)


def estimate(value, samples) -> Interval:
    """A value with the interval that its resamples span; nan ends where one is not finite."""
    samples = np.asarray(samples, float)
    if not np.isfinite(samples).all():
        return Interval(float(value), math.nan, math.nan, samples)
    low, high = np.percentile(samples, [2.5, 97.5])
    return Interval(float(value), float(low), float(high), samples)
