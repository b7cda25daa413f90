"""Which size a task needs: classifiers with a few labels against language models that are prompted.

Tables of the rows in ``data/classifiers.jsonl``. A learner comes in several draws of labels, so its
accuracy is a mean over draws, and intervals draw both items and draws of labels. What it is held
against, the rival, is the best of the prompted language models in the best way of asking; that is
chosen on the test itself and so flatters the rival, never the small one. Both answered the same
items (`common`), so what makes an item hard is shared.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from sizewise import units
from sizewise.stats import bootstrap, paired

LEARNERS = ("bag", "probe", "finetuned")
LEARNER = ["set", "what", "model"]  # one learner's rows differ in their labels and draws
SAMPLES = 2000
SEED_OF_DRAWS = 2000  # another one than that of items


def common(table: pd.DataFrame) -> pd.DataFrame:
    """The rows, each cut to the items that all classifiers of its set answered, the first ones.

    ``answers``, ``labels`` and ``accuracy`` are of them. Raises ValueError where two rows of a set
    were asked different items.
    """
    shortest = table["labels"].str.len().groupby(table["set"]).transform("min")
    table = table.assign(
        **{
            column: [text[:n] for text, n in zip(table[column], shortest, strict=True)]
            for column in ("answers", "labels")
        }
    )
    for name, part in table.groupby("set", sort=False):
        if part["labels"].nunique() > 1:
            raise ValueError(f"classifiers of {name} answered different items")
    pairs = zip(table["labels"], table["answers"], strict=True)
    return table.assign(accuracy=[(digits(a) == digits(b)).mean() for a, b in pairs])


def learned(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of classifiers that learn from labels."""
    return table[table["what"].isin(LEARNERS)]


def rivals(table: pd.DataFrame, model: str = "") -> dict[str, pd.Series]:
    """By set the prompted row with the most right answers, in the best way of asking.

    The row is that of `common`, and so are the items that count. ``model`` keeps to one language
    model. Among equals the smaller model is taken. Raises ValueError for a model that was not
    prompted.
    """
    prompted = common(table).query("what == 'prompted'")
    if model:
        if model not in set(prompted["model"]):
            raise units.unknown("language model", model, prompted["model"].unique())
        prompted = prompted[prompted["model"] == model]
    ordered = prompted.sort_values(
        ["accuracy", "parameters"], ascending=[False, True], kind="stable"
    )
    return {name: part.iloc[0] for name, part in ordered.groupby("set", sort=False)}


def wording_spread(table: pd.DataFrame) -> pd.Series:
    """Points between a language model's best wording and its worst, by model and set.

    Without examples and calibration, of those that were asked in several.
    """
    plain = table[(table["what"] == "prompted") & (table["labels_used"] == 0)]
    right = plain[plain["calibration"] == "none"].groupby(["model", "set"])["accuracy"]
    return 100 * (right.max() - right.min())[right.size() > 1]


def over_commonest(against: Mapping) -> dict[str, bootstrap.Interval]:
    """By set the rival's share right less that of always giving the commonest label (95 %)."""
    result = {}
    for name, rival in against.items():
        truth = digits(rival["labels"])
        always = truth == np.bincount(truth).argmax()
        right = digits(rival["answers"]) == truth
        result[name] = paired.compare(right, always, samples=SAMPLES).drawn
    return result


def curves(table: pd.DataFrame, samples: int = SAMPLES // 4) -> pd.DataFrame:
    """Every learner's share right at every number of labels, the mean over draws of labels.

    Columns ``set``, ``what``, ``model``, ``labels_used``, ``draws``, and ``accuracy`` with
    ``_low`` and ``_high`` (95 %).
    """
    keys, lines = [*LEARNER, "labels_used"], []
    for key, part in learned(common(table)).groupby(keys, sort=False):
        truth = digits(part["labels"].iloc[0])
        right = _answers(part) == truth
        weights = bootstrap.draws(len(truth), samples, 0)
        ends = np.percentile(_over_draws(weights @ right.T / len(truth)), [2.5, 97.5])
        lines.append((*key, len(part), right.mean(), *ends))
    columns = [*keys, "draws", "accuracy", "accuracy_low", "accuracy_high"]
    return pd.DataFrame(lines, columns=columns)


# ------------------------------------------------------------------ when a learner catches up


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


def crossings(table: pd.DataFrame, against: Mapping, samples: int = SAMPLES // 2) -> pd.DataFrame:
    """How many labels a learner takes to have as many right answers as the set's rival.

    ``against`` is that of `rivals`. Columns ``set``, ``what``, ``model``, ``times`` (the rival's
    parameters over the learner's), ``labels`` (`crossing`), ``low`` and ``high`` (95 %), ``first``
    and ``last`` (the numbers of labels that were tried), ``large_right``, ``outcome``: ``met``
    where the whole interval lies within what was tried, ``not met`` where all of it lies beyond,
    ``open``.
    """
    lines, table = [], learned(common(table))
    for key, part in table[table["set"].isin(list(against))].groupby(LEARNER, sort=False):
        rival = against[key[0]]
        large, truth = (digits(rival[column]) for column in ("answers", "labels"))
        weights = bootstrap.draws(len(truth), samples, 0)
        steps, gaps, point = [], [], []
        # The same draw of items for all, and of seeds where there are as many.
        for step, group in part.groupby("labels_used"):
            right = (_answers(group) == truth).astype(float)
            gap = right - (large == truth)
            gaps.append(_over_draws(weights @ gap.T / len(truth)))
            point.append(gap.mean())
            steps.append(step)
        crossed = [crossing(steps, gap) for gap in np.stack(gaps, 1)]
        low, high = np.quantile(crossed, [0.025, 0.975], method="inverted_cdf")
        outcome = "met" if high <= steps[-1] else "not met" if low > steps[-1] else "open"
        times = rival["parameters"] / group["parameters"].mean()
        ends = crossing(steps, point), low, high, steps[0], steps[-1]
        lines.append((*key, times, *ends, (large == truth).mean(), outcome))
    columns = "times", "labels", "low", "high", "first", "last", "large_right", "outcome"
    return pd.DataFrame(lines, columns=[*LEARNER, *columns])


def in_text(value: float, first: float, last: float) -> str:
    """A `crossing` in text, by what was tried."""
    if value == float("inf"):
        return f"over {last:,.0f}"
    return f"{first:,.0f} or fewer" if value <= first else f"{value:,.0f}"


# ------------------------------------------------------------------ what a request costs


def seconds(table: pd.DataFrame, against: Mapping, model: str, labels: int) -> pd.DataFrame:
    """Processor ``seconds`` of a probe for a thousand items, and the rival's over them, ``times``.

    By set, of the draws with the most labels that are not above ``labels``.
    """
    group = table[(table["what"] == "probe") & (table["model"] == model)]
    group = group[group["labels_used"] <= labels]
    group = group[group["labels_used"] == group.groupby("set")["labels_used"].transform("max")]
    probe = group.groupby("set")["cpu_seconds_per_1000"].mean()
    rival = {name: row["cpu_seconds_per_1000"] for name, row in against.items()}
    return pd.DataFrame({"seconds": probe, "times": pd.Series(rival) / probe})


def break_even(labels: int, label: float, dear: float, cheap: float = 0.0) -> float:
    """Requests after which ``labels`` at a price of ``label`` each have paid for themselves.

    ``dear`` and ``cheap`` are prices of one request, all in one currency. inf where the small
    model's request is not cheaper.
    """
    return labels * label / (dear - cheap) if dear > cheap else float("inf")


def _answers(part: pd.DataFrame) -> np.ndarray:
    """The answers of the draws of one learner: (draws, items), by seed."""
    return np.stack([digits(answers) for answers in part.sort_values("seed")["answers"]])


def _over_draws(values: np.ndarray) -> np.ndarray:
    """The mean over draws of labels (samples, draws), drawn with replacement: (samples,).

    The same draws wherever there are as many: those of one seed belong together along a curve.
    """
    samples, draws = values.shape
    return (values * bootstrap.draws(draws, samples, SEED_OF_DRAWS) / draws).sum(1)


def digits(word: str) -> np.ndarray:
    """The labels (n,) that a row's ``answers`` or ``labels`` hold, a digit each."""
    return np.array([int(entry) for entry in word], np.int64)
