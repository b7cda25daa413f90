"""What the answers show: scores with intervals, the paired difference, prices, times, failures.

An item's score is the mean over its repeats and wordings. Answers that failed, were cut at the
limit of tokens or were filtered are not wrong: they are left out of the score and counted. The
difference is over the items that both answered.
"""

from itertools import combinations
from typing import Any

import numpy as np

from sizewise.stats import bootstrap, paired, sequential

from .cost import Rates
from .endpoint import outcome
from .models import Model, labels
from .rows import Answers
from .run import Plan
from .scoring import mark
from .task import Item

LEVEL = 0.05
FEW = 20  # items under which a bootstrap interval comes out narrow
CUT_SHARE = 0.05  # of a model's answers; with more of them cut, the verdict says so
Row = dict[str, Any]


def compare(
    items: list[Item],
    models: tuple[Model, Model],
    plans: list[Plan],
    answers: Answers,
    rates: list[Rates],
    seed: int = 0,
    margin: float | None = None,
) -> dict[str, Any]:
    """All figures of a comparison. Shares are from 0 to 1, prices in dollars, times in seconds.

    ``margin`` is that of a run that was stopped when it was decided: the difference then has an
    interval that holds at every number of items. Items that were not asked are not in the report.
    """
    requested = {question.item.name for plan in plans for question in plan}
    items = [item for item in items if item.name in requested]
    rows = [_by_item(plan, answers) for plan in plans]
    scores = [item_scores(items, by_item) for by_item in rows]
    difference = _difference(*scores, seed, margin)
    names = labels(models)
    described = [
        {"name": name, **_model(*parts, items, seed)}
        for name, *parts in zip(names, models, rows, scores, rates, strict=True)
    ]
    return {
        "items": len(items),
        "requests": sum(map(len, plans)),
        "models": described,
        "difference": difference,
        "verdict": verdict(difference, names) + _cut_doubt(described),
        "answers": [_line(item, rows, scores) for item in items],
    }


def verdict(difference: dict[str, Any] | None, names: list[str]) -> str:
    """The difference in words, with what the sample could have shown where it shows none."""
    if difference is None:
        return "undecidable: fewer than two items were answered by both models"
    points = abs(difference["value"]) * 100
    low, high = difference["low"], difference["high"]
    if difference["shown"]:
        better, worse = names if difference["value"] > 0 else reversed(names)
        few = difference["interval"] == "bootstrap" and difference["items"] < FEW
        doubt = f"; {difference['items']} items are few for such an interval" if few else ""
        sign = 100 if difference["value"] > 0 else -100
        ends = sorted(sign * end for end in (low, high))
        return (
            f"{better} scores {points:.1f} points above {worse} "
            f"(95 % interval {ends[0]:.1f} to {ends[1]:.1f}){doubt}"
        )
    interval = f"{low * 100:.1f} to {high * 100:.1f} points"
    if difference["interval"] == "at any time":
        if difference["equal"]:
            return f"no difference that matters: {names[0]} over {names[1]} is {interval}"
        return f"not decided yet: {names[0]} over {names[1]} is {interval}"
    if (p := difference["p_mid"]) is not None and (p < LEVEL) != _off_zero(low, high):
        return (
            f"no difference shown: McNemar's test (p = {p:.3g}) and the interval of {names[0]} "
            f"over {names[1]} ({interval}) disagree, so ask more items"
        )
    detectable = difference["detectable"]
    if detectable is None and p is None:
        return "no difference shown: both score the same on each item"
    if detectable is None:
        return f"no difference shown; {difference['items']} items could not have shown any"
    return (
        f"no difference shown; this sample could have shown one of {detectable * 100:.1f} points "
        "or more (4 times in 5)"
    )


def significant(only_a: int, only_b: int, items: int) -> bool:
    """Whether right and wrong answers show a difference: McNemar's mid-p is below `LEVEL`, and
    the interval that is printed beside it holds no 0. With few items one can be without the other.
    """
    interval = paired.difference_interval(only_a, only_b, items, LEVEL)
    return paired.mcnemar(only_a, only_b)[1] < LEVEL and _off_zero(interval.low, interval.high)


def settled(items: list[Item], plans: list[Plan], answers: Answers, margin: float) -> bool:
    """Whether the answers so far decide which model is better, or that none is by ``margin``."""
    scores = [item_scores(items, _by_item(plan, answers)) for plan in plans]
    differences = [scores[0][name] - scores[1][name] for name in scores[0] if name in scores[1]]
    return bool(differences) and bool(sequential.decided(differences, margin, LEVEL))


def item_scores(items: list[Item], rows: dict[str, list[Row]]) -> dict[str, float]:
    """The mean score of each item's answers, where it has any."""
    scores = {}
    for item in items:
        values = [mark(item, row["text"]).score for row in answered(rows.get(item.name, []))]
        if values:
            scores[item.name] = sum(values) / len(values)
    return scores


def answered(rows: list[Row]) -> list[Row]:
    """The rows whose answers count."""
    return [row for row in rows if outcome(row) == "answered"]


def _off_zero(low: float, high: float) -> bool:
    return low > 0 or high < 0


def _cut_doubt(described: list[dict[str, Any]]) -> str:
    parts = []
    for model in described:
        total = model["answered"] + sum(len(model[name]) for name in ("failed", "cut", "filtered"))
        if len(model["cut"]) > CUT_SHARE * total:
            parts.append(
                f"; {len(model['cut'])} of {total} answers of {model['name']} were cut "
                "and are left out: raise --most"
            )
    return "".join(parts)


def _by_item(plan: Plan, answers: Answers) -> dict[str, list[Row]]:
    """The rows of each item, by repeat."""
    rows: dict[str, list[Row]] = {}
    for question in plan:
        row = answers.row(question.config)
        if row is not None:
            rows.setdefault(question.item.name, []).append(row | {"wording": question.wording})
    return rows


def _model(
    model: Model, rows: dict, scores: dict, rates: Rates, items: list[Item], seed: int
) -> dict[str, Any]:
    every = [row for part in rows.values() for row in part]
    good = answered(every)
    written = [row for row in every if outcome(row) != "failed"]
    seconds = [row["seconds"] for row in good if row["seconds"] is not None]
    kinds = {
        kind: [
            {"item": row["item"], "repeat": row["repeat"], "reason": row["failed"]}
            for row in every
            if outcome(row) == kind
        ]
        for kind in ("failed", "cut", "filtered")
    }
    named = {item.name: item for item in items}
    tokens = {
        name: _average([row.get(f"{name}_tokens") for row in good])
        for name in ("prompt", "answer", "thought")
    }
    return {
        "model": model.name,
        "endpoint": model.place,
        "answered": len(good),
        **kinds,
        "guessed": sum(mark(named[row["item"]], row["text"]).guessed for row in good),
        "score": _score(list(scores.values()), seed),
        "score_if_cut_is_wrong": _with_cut(items, rows),
        "by_wording": _by_wording(items, rows),
        "reliability": _reliability(rows),
        "tokens": tokens,
        "dollars_per_thousand_requests": rates.thousand(written),
        "price": vars(rates),
        "seconds": {
            "median": float(np.median(seconds)),
            "p95": float(np.percentile(seconds, 95)),
        }
        if seconds
        else None,
    }


def _with_cut(items: list[Item], rows: dict[str, list[Row]]) -> float | None:
    """The mean score were every answer that was cut wrong: what leaving them out may hide."""
    completed = {
        name: [row | ({"finish": "", "text": ""} if outcome(row) == "cut" else {}) for row in part]
        for name, part in rows.items()
    }
    scores = item_scores(items, completed)
    return sum(scores.values()) / len(scores) if scores else None


def _by_wording(items: list[Item], rows: dict[str, list[Row]]) -> list[float] | None:
    """The mean score in each wording; None where there is one. Their spread is one of style."""
    wordings = sorted({row["wording"] for part in rows.values() for row in part})
    if len(wordings) < 2:
        return None
    means = []
    for wording in wordings:
        part = {name: [r for r in group if r["wording"] == wording] for name, group in rows.items()}
        scores = item_scores(items, part)
        means.append(sum(scores.values()) / len(scores) if scores else None)
    return means


def _score(values: list[float], seed: int) -> dict[str, Any] | None:
    """The mean with its interval: Wilson's for right and wrong, bootstrap for anything between."""
    if not values:
        return None
    if _binary(values):
        return {**_ends(paired.accuracy(values)), "items": len(values), "interval": "Wilson"}
    if len(values) < bootstrap.LEAST:
        return {"value": values[0], "low": None, "high": None, "items": 1, "interval": "none"}
    mean = bootstrap.ratio(_table(values), "score", by="item", seed=seed)
    return {**_ends(mean), "items": len(values), "interval": "bootstrap"}


def _ends(interval: bootstrap.Interval) -> dict[str, float]:
    return {"value": interval.value, "low": interval.low, "high": interval.high}


def _difference(
    a: dict[str, float], b: dict[str, float], seed: int, margin: float | None = None
) -> dict[str, Any] | None:
    """Score of a minus that of b on the items that both answered, which share their difficulty."""
    both = [name for name in a if name in b]
    if len(both) < bootstrap.LEAST:
        return None
    values = [[scores[name] for name in both] for scores in (a, b)]
    resampled = bootstrap.paired(*map(_table, values), "score", by="item", seed=seed).difference
    result = {
        **_ends(resampled),
        "items": len(both),
        "interval": "bootstrap",
        **dict.fromkeys(("only_a", "only_b", "p_exact", "p_mid", "detectable")),
    }
    if _binary(values[0] + values[1]):
        test = paired.compare(*values, seed=seed)
        result |= {
            "low": test.analytic.low,
            "high": test.analytic.high,
            "drawn_low": resampled.low,
            "drawn_high": resampled.high,
            "interval": "Wald, adjusted",
            "only_a": test.only_a,
            "only_b": test.only_b,
            "p_exact": test.exact,
            "p_mid": test.mid,
            "shown": significant(test.only_a, test.only_b, len(both)),
            "detectable": _detectable(test.only_a + test.only_b, len(both)),
        }
    else:
        spread = float(np.std(np.subtract(*values), ddof=1)) / len(both) ** 0.5
        result["detectable"] = sum(paired.quantiles(level=LEVEL)) * spread if spread else None
        result["shown"] = bool(_off_zero(resampled.low, resampled.high))
    if margin is not None:  # looked at again and again: neither test nor interval above holds
        always = sequential.confidence_sequence(np.subtract(*values), LEVEL)
        result |= {
            "low": always.low,
            "high": always.high,
            "interval": "at any time",
            "p_exact": None,
            "p_mid": None,
            "shown": _off_zero(always.low, always.high),
            "equal": -margin <= always.low and always.high <= margin,
        }
    return result


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
        if paired.required_sample_size(one_sided / items, one_sided / items) <= items:
            return one_sided / items
    return None


def _reliability(rows: dict[str, list[Row]]) -> float | None:
    """The share of pairs of repeats with the same answer, over the items; None with no pairs."""
    shares = []
    for part in rows.values():
        texts = [(r.get("wording"), r["text"].strip()) for r in part if outcome(r) != "failed"]
        pairs = [a == b for a, b in combinations(texts, 2) if a[0] == b[0]]
        if pairs:
            shares.append(sum(pairs) / len(pairs))
    return sum(shares) / len(shares) if shares else None


def _line(item: Item, rows: list[dict], scores: list[dict]) -> dict[str, Any]:
    """An item with the first answer of each model, also one that was cut and has no score."""
    first = [
        next((row for row in part.get(item.name, []) if outcome(row) != "failed"), None)
        for part in rows
    ]
    return {
        "item": item.name,
        "prompt": item.prompt,
        "wanted": [*item.answers]
        or [getattr(part.wanted, "pattern", part.wanted) for part in item.parts],
        "answers": [row and row["text"] for row in first],
        "thoughts": [row.get("thought", "") if row else None for row in first],
        "scores": [part.get(item.name) for part in scores],
    }


def _binary(values: list[float]) -> bool:
    return all(value in (0, 1) for value in values)


def _average(values: list[int | None]) -> float | None:
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present else None


def _table(values: list[float]):
    import pandas

    return pandas.DataFrame({"item": range(len(values)), "score": values})
