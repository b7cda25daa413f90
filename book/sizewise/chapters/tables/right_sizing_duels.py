"""A classifier that learns against a language model that is asked: when it catches up, who wins.

Both answered the same items, so what makes an item hard is shared. Intervals draw items and draws
of labels together; rows are those of `right_sizing`, rivals those of `right_sizing.rivals`.
"""

from collections.abc import Mapping

import numpy as np

from sizewise.evaluation import classification
from sizewise.stats import bootstrap, paired

from .right_sizing import (
    LEARNERS,
    MEASURES,
    SAMPLES,
    at,
    counts,
    measures,
    of_draws,
    over_draws,
)

LEVEL = 0.05  # chance of a false finding among all p-values of one table


def crossing(labels, gap) -> float:
    """From how many labels on the ``gap`` (k,) to the rival is never below 0, ``labels`` rising.

    Between the last number of labels at which it is below and the next, along a straight line
    over the logarithm of the labels. The first number where it is never below, inf where it is
    below at the last.
    """
    labels, gap = np.asarray(labels, float), np.asarray(gap, float)
    below = np.flatnonzero(gap < -1e-9)  # a sum of shares is not exactly 0
    if not len(below):
        return float(labels[0])
    last = below[-1]
    if last == len(labels) - 1:
        return float("inf")
    part = gap[last] / (gap[last] - gap[last + 1])
    return float(labels[last] * (labels[last + 1] / labels[last]) ** part)


def crossings(table, against: Mapping, samples: int = SAMPLES // 2, seed: int = 0):
    """How many labels a learner takes to have as many right answers as the set's rival.

    ``against`` is that of `rivals`. Columns ``set``, ``what``, ``model``, ``large``, ``times``
    (the rival's parameters over the learner's), ``items`` (those that both answered), ``labels``
    (`crossing`), ``low`` and ``high`` (95 %), ``first`` and ``last`` (the numbers of labels that
    were tried), ``small_right`` (at the last) and ``large_right``, ``outcome``: ``met`` where the
    whole interval lies within what was tried, ``not met`` where all of it lies beyond, ``open``.
    """
    import pandas

    rows = []
    subset = table[table["what"].isin(LEARNERS) & table["set"].isin(list(against))]
    for (name, label, model), part in subset.groupby(["set", "what", "model"], sort=False):
        rival, steps = against[name], sorted(part["labels_used"].unique())
        groups = [part[part["labels_used"] == step] for step in steps]
        _, large, truth, _ = _together(part, rival)
        weights = bootstrap.draws(len(truth), samples, seed).astype(float)
        right = large == truth
        gaps, point = [], []
        for group in groups:  # the same draw of items for all, and of seeds where there are as many
            small = of_draws(group, len(truth))  # (draws of labels, n)
            gap = (small == truth).astype(float) - right
            gaps.append(over_draws(weights @ gap.T / len(truth)))
            point.append(gap.mean())
        crossed = [crossing(steps, gap) for gap in np.stack(gaps, 1)]
        low, high = np.quantile(crossed, [0.025, 0.975], method="inverted_cdf")
        outcome = "met" if high <= steps[-1] else "not met" if low > steps[-1] else "open"
        rows.append(
            {
                "set": name,
                "what": label,
                "model": model,
                "large": rival["model"],
                "times": rival["parameters"] / groups[-1]["parameters"].mean(),
                "items": len(truth),
                "labels": crossing(steps, point),
                "low": low,
                "high": high,
                "first": steps[0],
                "last": steps[-1],
                "small_right": right.mean() + point[-1],
                "large_right": right.mean(),
                "outcome": outcome,
            }
        )
    return pandas.DataFrame(rows)


def in_text(value: float, first: float, last: float) -> str:
    """A `crossing` in text, by what was tried."""
    if value == float("inf"):
        return f"over {last:,.0f}"
    return f"{first:,.0f} or fewer" if value <= first else f"{value:,.0f}"


def duels(
    table,
    against: Mapping,
    what: str,
    model: str,
    labels: int,
    level: float = LEVEL,
    samples: int = SAMPLES,
    seed: int = 0,
):
    """One learner `at` so many labels less the rival of each set, by F1 and by recall.

    Columns ``set``, ``measure``, ``large``, ``labels_used``, ``items``, ``small_value``,
    ``large_value``, ``difference`` with ``low`` and ``high`` (95 %, single), ``p`` (the answers
    of the two change hands item by item at random), ``p_holm`` over all rows, ``ahead``:
    ``small``, ``large``, or ``no`` where chance may have made the difference. The p-value takes
    the draws of labels as given, the interval does not: a row that is clear has both on its side.
    """
    import pandas

    records_made, group = [], at(table, labels)
    group = group[(group["what"] == what) & (group["model"] == model)]
    for name, part in group.groupby("set", sort=False):
        if name not in against:
            continue
        both = _together(part, against[name])
        records_made += [
            {
                "set": name,
                "measure": measure,
                "large": against[name]["model"],
                "labels_used": part["labels_used"].iloc[0],
                "items": len(both[2]),
                **_duel(*both, measure, samples, seed),
            }
            for measure in MEASURES[1:]
        ]
    rows = pandas.DataFrame(records_made)
    rows["p_holm"] = paired.holm(rows["p"])
    clear = (rows["p_holm"] < level) & ((rows["low"] > 0) | (rows["high"] < 0))
    rows["ahead"] = np.where(clear, np.where(rows["difference"] > 0, "small", "large"), "no")
    return rows


def guessing(against: Mapping, samples: int = SAMPLES, seed: int = 0):
    """Each rival's share right less that of always answering the label that is most frequent.

    Columns ``set``, ``large``, ``items``, ``large_right``, ``commonest`` (its share),
    ``difference``, ``low`` and ``high`` (95 %, drawing items).
    """
    import pandas

    rows = []
    for name, rival in against.items():
        truth = classification.digits(rival["labels"])
        right = classification.digits(rival["answers"]) == truth
        always = truth == np.bincount(truth).argmax()
        over = paired.compare(right, always, samples=samples, seed=seed).drawn
        rows.append(
            {
                "set": name,
                "large": rival["model"],
                "items": len(truth),
                "large_right": right.mean(),
                "commonest": always.mean(),
                "difference": over.value,
                "low": over.low,
                "high": over.high,
            }
        )
    return pandas.DataFrame(rows)


def _duel(small, large, truth, number: int, measure: str, samples: int, seed: int) -> dict:
    """One measure of a learner (draws, n) less that of the rival (n,), interval and p-value."""

    def of(answers, weights):
        return measures(counts(answers, truth, number, weights))[measure]

    weights = bootstrap.draws(len(truth), samples, seed).astype(float)
    once = np.ones((1, len(truth)))
    flip = np.random.default_rng(seed + 1).integers(0, 2, weights.shape).astype(float)
    value, own = np.mean([of(entry, once)[0] for entry in small]), of(large, once)[0]
    drawn = over_draws(np.stack([of(entry, weights) for entry in small], 1)) - of(large, weights)
    chance = np.mean([_swapped(entry, large, truth, number, flip, measure) for entry in small], 0)
    as_far = np.abs(chance) >= abs(value - own) - 1e-12
    low, high = np.percentile(drawn, [2.5, 97.5])
    return {
        "small_value": float(value),
        "large_value": float(own),
        "difference": float(value - own),
        "low": low,
        "high": high,
        "p": float((1 + as_far.sum()) / (1 + samples)),
    }


def _swapped(small, large, truth, number: int, flip: np.ndarray, measure: str) -> np.ndarray:
    """The difference where the two exchange the answers of the items in ``flip`` (draws, n)."""
    ways = [(small, 1 - flip, large, flip), (small, flip, large, 1 - flip)]
    a, b = (
        measures(counts(x, truth, number, w) + counts(y, truth, number, v))[measure]
        for x, w, y, v in ways
    )
    return a - b


def _together(part, rival):
    """The learner's (draws, n) and the rival's (n,) answers to their common items, the labels."""
    shared = min(len(part["labels"].iloc[0]), len(rival["labels"]))
    if any(entry[:shared] != rival["labels"][:shared] for entry in part["labels"]):
        raise ValueError(f"{part['model'].iloc[0]} and {rival['model']} answered different items")
    truth = classification.digits(rival["labels"][:shared])
    large = classification.digits(rival["answers"][:shared])
    return of_draws(part, shared), large, truth, len(rival["label_names"].split())
