"""What the answers show: scores with intervals, the paired difference, prices, times, failures.

An item's score is the mean over its repeats. Items that a model failed to answer are not wrong:
they are left out of its score and named. The difference is over the items that both answered.
"""

from itertools import combinations
from typing import Any

import numpy as np

from sizewise.stats import bootstrap, paired

from .cost import Rates
from .models import Model, labels
from .rows import Answers
from .run import Question
from .scoring import score
from .task import Item

LEVEL = 0.05
FEW = 20  # items under which a bootstrap interval comes out narrow


def compare(
    items: list[Item],
    models: tuple[Model, Model],
    plans: list[list[Question]],
    answers: Answers,
    rates: list[Rates],
    seed: int = 0,
) -> dict[str, Any]:
    """All figures of a comparison. Shares are from 0 to 1, prices in dollars, times in seconds."""
    rows = [_by_item(items, some, answers) for some in plans]
    scores = [_scores(items, some) for some in rows]
    difference = _difference(*scores, seed)
    names = labels(models)
    return {
        "items": len(items),
        "requests": sum(map(len, plans)),
        "models": [
            {"name": name, **_model(*four, seed)}
            for name, *four in zip(names, models, rows, scores, rates, strict=True)
        ],
        "difference": difference,
        "verdict": verdict(difference, names),
        "answers": [_line(item, rows, scores) for item in items],
    }


def verdict(difference: dict[str, Any] | None, names: list[str]) -> str:
    """The difference in words, with what the sample could have shown where it shows none."""
    if difference is None:
        return "undecidable: fewer than two items were answered by both models"
    points = abs(difference["value"]) * 100
    if difference["shown"]:
        better, worse = names if difference["value"] > 0 else reversed(names)
        few = difference["p_mid"] is None and difference["items"] < FEW
        doubt = f"; {difference['items']} items are few for such an interval" if few else ""
        sign = 100 if difference["value"] > 0 else -100
        ends = sorted(sign * difference[end] for end in ("low", "high"))
        return (
            f"{better} scores {points:.1f} points above {worse} "
            f"(95 % interval {ends[0]:.1f} to {ends[1]:.1f}){doubt}"
        )
    low, high = difference["low"], difference["high"]
    if (p := difference["p_mid"]) is not None and (p < LEVEL) != _away(low, high):
        ends = f"{low * 100:.1f} to {high * 100:.1f} points"
        return (
            f"no difference shown: McNemar's test (p = {p:.3g}) and the interval of {names[0]} "
            f"over {names[1]} ({ends}) disagree, so ask more items"
        )
    least = difference["detectable"]
    if least is None and difference["p_mid"] is None:
        return "no difference shown: both score the same on each item"
    if least is None:
        return f"no difference shown; {difference['items']} items could not have shown any"
    words = f"{least * 100:.1f} points or more"
    return f"no difference shown; this sample could have shown one of {words} (4 times in 5)"


def shown(only_a: int, only_b: int, items: int) -> bool:
    """Whether right and wrong answers show a difference: McNemar's mid-p is below `LEVEL`, and
    the interval that is printed beside it holds no 0. With few items one can be without the other.
    """
    found = paired.difference_interval(only_a, only_b, items, LEVEL)
    return paired.mcnemar(only_a, only_b)[1] < LEVEL and _away(found.low, found.high)


def _away(low: float, high: float) -> bool:
    """Whether an interval holds no 0."""
    return low > 0 or high < 0


def _by_item(items: list[Item], plan: list[Question], answers: Answers) -> dict[str, list[dict]]:
    """The rows of each item, by repeat."""
    found: dict[str, list[dict]] = {item.name: [] for item in items}
    for one in plan:
        found[one.item.name].append(answers.of(one.config))
    return found


def _scores(items: list[Item], rows: dict[str, list[dict]]) -> dict[str, float]:
    """The mean score of each item's answers, where it has any."""
    found = {}
    for item in items:
        values = [score(item, row["text"]) for row in rows[item.name] if not row["failed"]]
        if values:
            found[item.name] = sum(values) / len(values)
    return found


def _model(model: Model, rows: dict, scores: dict, rates: Rates, seed: int) -> dict[str, Any]:
    every = [row for some in rows.values() for row in some]
    good = [row for row in every if not row["failed"]]
    seconds = [row["seconds"] for row in good if row["seconds"] is not None]
    tokens = {
        name: _average([row[f"{name}_tokens"] for row in good]) for name in ("prompt", "answer")
    }
    return {
        "model": model.name,
        "endpoint": model.place,
        "answered": len(good),
        "failed": [
            {"item": row["item"], "repeat": row["repeat"], "reason": row["failed"]}
            for row in every
            if row["failed"]
        ],
        "score": _score(list(scores.values()), seed),
        "reliability": _reliability(rows),
        "tokens": tokens,
        "dollars_per_thousand_requests": rates.thousand(good),
        "price": vars(rates),
        "seconds": {
            "median": float(np.median(seconds)),
            "p95": float(np.percentile(seconds, 95)),
        }
        if seconds
        else None,
    }


def _score(values: list[float], seed: int) -> dict[str, Any] | None:
    """The mean with its interval: Wilson's for right and wrong, bootstrap for anything between."""
    if not values:
        return None
    if _binary(values):
        found = paired.accuracy(values)
        return {**found._asdict(), "items": len(values), "interval": "Wilson"}
    if len(values) < bootstrap.LEAST:
        return {"value": values[0], "low": None, "high": None, "items": 1, "interval": "none"}
    found = bootstrap.ratio(_table(values), "score", by="item", seed=seed)
    ends = {"value": found.value, "low": found.low, "high": found.high}
    return {**ends, "items": len(values), "interval": "bootstrap"}


def _difference(a: dict[str, float], b: dict[str, float], seed: int) -> dict[str, Any] | None:
    """Score of a less that of b on the items that both answered, which share their difficulty."""
    both = [name for name in a if name in b]
    if len(both) < bootstrap.LEAST:
        return None
    values = [[some[name] for name in both] for some in (a, b)]
    drawn = bootstrap.paired(*map(_table, values), "score", by="item", seed=seed).difference
    found = {"value": drawn.value, "low": drawn.low, "high": drawn.high, "items": len(both)}
    if not _binary(values[0] + values[1]):
        spread = float(np.std(np.subtract(*values), ddof=1)) / len(both) ** 0.5
        least = sum(paired.quantiles(level=LEVEL)) * spread if spread else None
        nothing = {"only_a": None, "only_b": None, "p_exact": None, "p_mid": None}
        return found | nothing | {"shown": bool(_away(drawn.low, drawn.high)), "detectable": least}
    test = paired.compare(*values, seed=seed)
    return found | {
        "low": test.analytic.low,
        "high": test.analytic.high,
        "drawn_low": drawn.low,
        "drawn_high": drawn.high,
        "only_a": test.only_a,
        "only_b": test.only_b,
        "p_exact": test.exact,
        "p_mid": test.mid,
        "shown": shown(test.only_a, test.only_b, len(both)),
        "detectable": _detectable(test.only_a + test.only_b, len(both)),
    }


def _detectable(differ: int, items: int) -> float | None:
    """The least difference that so many items show 4 times in 5, at a discordance like this one.

    One more item for each side, so that it is not nothing where none differs. Where even all
    discordant items on one side would not be found, the least that would be. None if nothing is.
    """
    try:
        return paired.detectable(min(1.0, (differ + 2) / (items + 2)), items)
    except ValueError:
        pass
    for one_sided in range(1, items + 1):
        if paired.needed(one_sided / items, one_sided / items) <= items:
            return one_sided / items
    return None


def _reliability(rows: dict[str, list[dict]]) -> float | None:
    """The share of pairs of repeats with the same answer, over the items; None with no pairs."""
    shares = []
    for some in rows.values():
        texts = [row["text"].strip() for row in some if not row["failed"]]
        pairs = [a == b for a, b in combinations(texts, 2)]
        if pairs:
            shares.append(sum(pairs) / len(pairs))
    return sum(shares) / len(shares) if shares else None


def _line(item: Item, rows: list[dict], scores: list[dict]) -> dict[str, Any]:
    """An item with the first answer of each model."""
    first = [next((r["text"] for r in some[item.name] if not r["failed"]), None) for some in rows]
    return {
        "item": item.name,
        "prompt": item.prompt,
        "wanted": [*item.answers] or [getattr(p.wanted, "pattern", p.wanted) for p in item.parts],
        "answers": first,
        "scores": [some.get(item.name) for some in scores],
    }


def _binary(values: list[float]) -> bool:
    return all(value in (0, 1) for value in values)


def _average(values: list[int | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _table(values: list[float]):
    import pandas

    return pandas.DataFrame({"item": range(len(values)), "score": values})
