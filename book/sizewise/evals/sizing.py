"""Which size a task needs: classifiers with a few labels against language models that are asked.

Tables of the rows in ``data/classifiers.jsonl``. A learner comes in several draws of labels, so its
measures are means over draws, and intervals draw both items and draws of labels. What it is held
against, the rival, is the best of the prompted language models in the best way of asking; that is
chosen on the test itself and so flatters the rival, never the small one.
"""

from collections.abc import Mapping

import numpy as np

from .. import limits, records, text
from . import labelled, paired

STEM = "classifiers"
LEARNERS = ("bag", "probe", "finetuned")
MEASURES = ("accuracy", "macro_f1", "macro_recall")
SAMPLES = 2000
LEVEL = 0.05
COLUMNS = [
    "what", "model", "set", "labels_used", "seed", "accuracy", "macro_f1", "answers", "labels",
    "label_names", "parameters", "cpu_seconds_per_1000", "calibration",
]  # fmt: skip


def rows(stem=STEM):
    """The recorded rows; without rows an empty table with their columns."""
    import pandas

    table = records.table(stem)
    return table if len(table) else pandas.DataFrame(columns=COLUMNS)


def kinds(stem="cascade"):
    """The rows of a file by their column ``what``; a kind without rows is an empty table."""
    import pandas

    table = records.table(stem)
    names = ("cascade", "chosen", "calibration", "specialists", "vote")
    empty = pandas.DataFrame()
    if not len(table):
        return dict.fromkeys(names, empty)
    made = {what: part.dropna(axis=1, how="all") for what, part in table.groupby("what")}
    return dict.fromkeys(names, empty) | made


def counts(answers, labels, number: int, weights) -> np.ndarray:
    """Hits, answers and items of each of ``number`` labels: (3, draws, number).

    ``answers`` and ``labels`` (n,) are places of labels, ``weights`` (draws, n) says how often
    each item counts. Sums of such counts are counts again.
    """
    every = np.arange(number)
    said, real = (np.asarray(x)[:, None] == every for x in (answers, labels))  # (n, number)
    return np.stack([weights @ x.astype(float) for x in (said & real, said, real)])


def measures(counted: np.ndarray) -> dict[str, np.ndarray]:
    """`MEASURES` of `counts`, each (draws,). Recall and F1 are means over the labels, each alike.

    F1 is over labels that are given or answered (as in `labelled.macro_f1`), recall over those
    given. The mean recall of two labels is what is also called balanced accuracy.
    """
    hits, said, real = counted
    with np.errstate(invalid="ignore"):
        f1, recall = 2 * hits / (said + real), hits / real
    return {
        "accuracy": hits.sum(-1) / real.sum(-1),
        "macro_f1": np.nanmean(f1, -1),
        "macro_recall": np.nanmean(recall, -1),
    }


def rivals(table, model: str = "") -> dict:
    """By set the prompted row with the most right answers, in the best way of asking: a series.

    ``model`` keeps to one language model. Among equals the smaller model is taken. Raises
    ValueError for a model that was not asked, where any was.
    """
    asked = table[table["what"] == "prompted"]
    if model and len(asked):
        if model not in set(asked["model"]):
            raise text.unknown("language model", model, asked["model"].unique())
        asked = asked[asked["model"] == model]
    ordered = asked.sort_values(["accuracy", "parameters"], ascending=[False, True], kind="stable")
    return {name: part.iloc[0] for name, part in ordered.groupby("set", sort=False)}


def learners(table):
    """The rows that learn, in groups of one set, kind, model and number of labels: (key, rows)."""
    some = table[table["what"].isin(LEARNERS)]
    yield from some.groupby(["set", "what", "model", "labels_used"], sort=False)


def at(table, labels: int):
    """Of each learner the draws with the most labels that are not above ``labels``."""
    some = table[table["what"].isin(LEARNERS) & (table["labels_used"] <= labels)]
    most = some.groupby(["set", "what", "model"], sort=False)["labels_used"].transform("max")
    return some[some["labels_used"] == most]


def scores(table, labels: int, samples: int = SAMPLES):
    """Every classifier of every set with intervals of 95 %: learners `at` so many labels.

    Columns ``set``, ``what``, ``model``, ``parameters``, ``labels_used``, ``draws``, ``items``,
    and each of `MEASURES` with its ``_low`` and ``_high``. Of a language model one row, in its
    best way of asking.
    """
    groups = [*learners(at(table, labels))]
    for name in dict.fromkeys(table.loc[table["what"] == "prompted", "model"]):
        for kind, row in rivals(table, name).items():
            groups.append(((kind, "prompted", name, row["labels_used"]), row.to_frame().T))
    return _frame([_scored(key, part, samples) for key, part in groups],
                  ["set", "what", "model", "parameters", "labels_used", "draws", "items",
                   *(f"{m}{end}" for m in MEASURES for end in ("", "_low", "_high"))])  # fmt: skip


def curves(table, samples: int = SAMPLES // 4):
    """The columns of `scores` for every learner and number of labels, few draws of items."""
    found = [_scored(key, part, samples) for key, part in learners(table)]
    return _frame(found, ["set", "what", "model", "labels_used", "accuracy"])


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
    were tried), ``small_right`` (at the last) and ``large_right``.
    """
    made = []
    some = table[table["what"].isin(LEARNERS) & table["set"].isin(list(against))]
    for (name, what, model), part in some.groupby(["set", "what", "model"], sort=False):
        rival, steps = against[name], sorted(part["labels_used"].unique())
        groups = [part[part["labels_used"] == step] for step in steps]
        _, large, truth, _ = _together(part, rival)
        weights = _weights(len(truth), samples, seed)
        right = large == truth
        gaps, point = [], []
        for group in groups:  # the same draw of items for all, and of seeds where there are as many
            small = _answers(group, len(truth))  # (draws of labels, n)
            apart = (small == truth).astype(float) - right
            gaps.append(_mean(weights @ apart.T / len(truth)))
            point.append(apart.mean())
        drawn = [crossing(steps, gap) for gap in np.stack(gaps, 1)]
        low, high = np.quantile(drawn, [0.025, 0.975], method="inverted_cdf")
        made.append({
            "set": name, "what": what, "model": model, "large": rival["model"],
            "times": rival["parameters"] / groups[-1]["parameters"].mean(), "items": len(truth),
            "labels": crossing(steps, point), "low": low, "high": high, "first": steps[0],
            "last": steps[-1], "small_right": right.mean() + point[-1], "large_right": right.mean(),
        })  # fmt: skip
    return _frame(made, ["set", "what", "model", "large", "times", "items", "labels", "low", "high",
                         "first", "last", "small_right", "large_right"])  # fmt: skip


def duels(table, against: Mapping, what: str, model: str, labels: int, level: float = LEVEL,
          samples: int = SAMPLES, seed: int = 0):  # fmt: skip
    """One learner `at` so many labels less the rival of each set, by F1 and by recall.

    Columns ``set``, ``measure``, ``large``, ``labels_used``, ``items``, ``small_value``,
    ``large_value``, ``difference`` with ``low`` and ``high`` (95 %, single), ``p`` (the answers
    of the two change hands item by item at random), ``p_holm`` over all rows, ``found``:
    ``small``, ``large``, or ``no`` where chance may have made the difference.
    """
    made, some = [], at(table, labels)
    some = some[(some["what"] == what) & (some["model"] == model)]
    for name, part in some.groupby("set", sort=False):
        if name not in against:
            continue
        both = _together(part, against[name])
        made += [{"set": name, "measure": measure, "large": against[name]["model"],
                  "labels_used": part["labels_used"].iloc[0], "items": len(both[2]),
                  **_duel(*both, measure, samples, seed)} for measure in MEASURES[1:]]  # fmt: skip
    found = _frame(made, ["set", "measure", "large", "labels_used", "items", "small_value",
                          "large_value", "difference", "low", "high", "p"])  # fmt: skip
    found["p_holm"] = paired.corrected(found["p"]) if len(found) else []
    sure = found["p_holm"] < level
    found["found"] = np.where(sure, np.where(found["difference"] > 0, "small", "large"), "no")
    return found


def _duel(small, large, truth, number: int, measure: str, samples: int, seed: int) -> dict:
    """One measure of a learner (draws, n) less that of the rival (n,), interval and p-value."""

    def of(answers, weights):
        return measures(counts(answers, truth, number, weights))[measure]

    weights, once = _weights(len(truth), samples, seed), np.ones((1, len(truth)))
    flip = np.random.default_rng(seed + 1).integers(0, 2, weights.shape).astype(float)
    value, own = np.mean([of(one, once)[0] for one in small]), of(large, once)[0]
    drawn = _mean(np.stack([of(one, weights) for one in small], 1)) - of(large, weights)
    chance = np.mean([_swapped(one, large, truth, number, flip, measure) for one in small], 0)
    as_far = np.abs(chance) >= abs(value - own) - 1e-12
    low, high = np.percentile(drawn, [2.5, 97.5])
    return {
        "small_value": float(value), "large_value": float(own), "difference": float(value - own),
        "low": low, "high": high, "p": float((1 + as_far.sum()) / (1 + samples)),
    }  # fmt: skip


def by_label(table, against: Mapping, what: str, model: str, labels: int):
    """Recall and precision of each label by the learner and the rival, on the same items.

    Columns ``set``, ``label``, ``items`` (with this label), ``small_recall``, ``large_recall``,
    ``small_precision``, ``large_precision`` (missing for a label that was never answered).
    """
    made, some = [], at(table, labels)
    some = some[(some["what"] == what) & (some["model"] == model)]
    for name, part in some.groupby("set", sort=False):
        if name not in against:
            continue
        small, large, truth, number = _together(part, against[name])
        once = np.ones((1, len(truth)))
        each = np.stack([counts(one, truth, number, once)[:, 0] for one in small]).sum(0)
        other = counts(large, truth, number, once)[:, 0]  # (3, number)
        for k, label in enumerate(part["label_names"].iloc[0].split()):
            with np.errstate(invalid="ignore", divide="ignore"):
                made.append({
                    "set": name, "label": label, "items": int(other[2, k]),
                    "small_recall": each[0, k] / each[2, k],
                    "large_recall": other[0, k] / other[2, k],
                    "small_precision": each[0, k] / each[1, k],
                    "large_precision": other[0, k] / other[1, k],
                })  # fmt: skip
    return _frame(made, ["set", "label", "items", "small_recall", "large_recall",
                         "small_precision", "large_precision"])  # fmt: skip


def costs(table, against: Mapping, labels: int):
    """What reading takes, the rival over each learner `at` so many labels.

    Columns ``set``, ``what``, ``model``, ``large``, ``parameters``, ``seconds`` (of a processor,
    a thousand items), ``times_parameters``, ``times_seconds``. A bag of words has no seconds.
    """
    made = []
    for (name, what, model, _), part in learners(at(table, labels)):
        if name in against:
            rival, one = against[name], part[["parameters", "cpu_seconds_per_1000"]].mean()
            made.append({
                "set": name, "what": what, "model": model, "large": rival["model"],
                "parameters": one["parameters"], "seconds": one["cpu_seconds_per_1000"],
                "times_parameters": rival["parameters"] / one["parameters"],
                "times_seconds": rival["cpu_seconds_per_1000"] / one["cpu_seconds_per_1000"],
            })  # fmt: skip
    return _frame(made, ["set", "what", "model", "large", "parameters", "seconds",
                         "times_parameters", "times_seconds"])  # fmt: skip


def break_even(labels: int, label: float, dear: float, cheap: float = 0.0) -> float:
    """Requests after which ``labels`` at a price of ``label`` each have paid for themselves.

    ``dear`` and ``cheap`` are prices of one request, all in one currency. inf where the small
    model's request is not cheaper. Raises ValueError for a price below 0.
    """
    labels = limits.whole("the labels", labels, least=0)
    for name, value in (("a label", label), ("a request", dear), ("a small request", cheap)):
        if not value >= 0:
            raise ValueError(f"the price of {name} must be 0 or more, got {value!r}")
    return labels * label / (dear - cheap) if dear > cheap else float("inf")


def told(value: float, first: float, last: float) -> str:
    """A `crossing` in words, by what was tried."""
    if value == float("inf"):
        return f"over {last:,.0f}"
    return f"{first:,.0f} or fewer" if value <= first else f"{value:,.0f}"


def _scored(key, part, samples: int) -> dict:
    """One row of `scores`: the mean over draws of labels, intervals by drawing items and draws."""
    truth = labelled.digits(part["labels"].iloc[0])
    number = len(part["label_names"].iloc[0].split())
    weights = _weights(len(truth), samples, 0)
    made = dict(zip(("set", "what", "model", "labels_used"), key, strict=True))
    made |= {"parameters": part["parameters"].mean(), "draws": len(part), "items": len(truth)}
    all_of, once = _answers(part, len(truth)), np.ones((1, len(truth)))
    here = [measures(counts(one, truth, number, once)) for one in all_of]
    drawn = [measures(counts(one, truth, number, weights)) for one in all_of]
    for name in MEASURES:
        ends = np.percentile(_mean(np.stack([one[name] for one in drawn], 1)), [2.5, 97.5])
        made |= {name: float(np.mean([one[name][0] for one in here])),
                 f"{name}_low": ends[0], f"{name}_high": ends[1]}  # fmt: skip
    return made


def _together(part, rival):
    """The learner's (draws, n) and the rival's (n,) answers to their common items, the labels."""
    shared = min(len(part["labels"].iloc[0]), len(rival["labels"]))
    if any(one[:shared] != rival["labels"][:shared] for one in part["labels"]):
        raise ValueError(f"{part['model'].iloc[0]} and {rival['model']} answered different items")
    truth = labelled.digits(rival["labels"][:shared])
    large = labelled.digits(rival["answers"][:shared])
    return _answers(part, shared), large, truth, len(rival["label_names"].split())


def _answers(part, items: int) -> np.ndarray:
    return np.stack([labelled.digits(one[:items]) for one in part.sort_values("seed")["answers"]])


def _swapped(small, large, truth, number: int, flip: np.ndarray, measure: str) -> np.ndarray:
    """The difference where the two exchange the answers of the items in ``flip`` (draws, n)."""
    ways = [(small, 1 - flip, large, flip), (small, flip, large, 1 - flip)]
    a, b = (measures(counts(x, truth, number, w) + counts(y, truth, number, v))[measure]
            for x, w, y, v in ways)  # fmt: skip
    return a - b


def _weights(items: int, samples: int, seed: int) -> np.ndarray:
    """(samples, items): how often each item is drawn, with replacement."""
    even = np.full(items, 1 / items)
    return np.random.default_rng(seed).multinomial(items, even, samples).astype(float)


def _mean(values: np.ndarray) -> np.ndarray:
    """The mean over draws of labels (samples, draws), drawn with replacement: (samples,).

    The same draws wherever there are as many: those of one seed belong together along a curve.
    """
    samples, draws = values.shape
    return (values * _weights(draws, samples, SAMPLES) / draws).sum(1)


def _frame(made: list[dict], columns: list[str]):
    import pandas

    return pandas.DataFrame(made) if made else pandas.DataFrame(columns=columns)
