"""What the answers show: scores with intervals, the paired difference, prices, times, failures.

An item's score is the mean over its repeats and wordings. Answers that failed, were cut at the
limit of tokens or were filtered are not wrong: they are left out of the score and counted. The
difference is over the items that both answered.
"""

from itertools import combinations
from typing import Any

import numpy as np
import pandas

from sizewise.stats import bootstrap, paired, sequential

from .cost import Rates
from .endpoint import outcome
from .models import Model, labels
from .run import Answers, Plan
from .scoring import mark
from .task import Item

LEVEL = 0.05
FEW = 20  # items under which a bootstrap interval comes out narrow
CUT_SHARE = 0.05  # of a model's answers; with more of them cut, the verdict says so
COLUMNS = {  # of `_rows`, with what they hold
    **dict.fromkeys(("item", "text", "thought", "failed", "came", "served"), object),
    **dict.fromkeys(("repeat", "wording"), int),
    **dict.fromkeys(("seconds", "prompt_tokens", "answer_tokens", "thought_tokens"), float),
    "score": float,
    "guessed": bool,
}


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
    rows = [_rows(plan, answers) for plan in plans]
    scores = [_item_scores(items, part) for part in rows]
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
        "verdict": verdict(difference, names) + _same_doubt(models, rows) + _cut_doubt(described),
        "answers": _lines(items, rows, scores),
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
    a, b = (_item_scores(items, _rows(plan, answers)) for plan in plans)
    differences = [a[name] - b[name] for name in a if name in b]
    return bool(differences) and bool(sequential.decided(differences, margin, LEVEL))


def _off_zero(low: float, high: float) -> bool:
    return low > 0 or high < 0


def _same_doubt(models: tuple[Model, Model], rows: list[pandas.DataFrame]) -> str:
    """A doubt where an endpoint says that one model answered for both names: some servers have
    one loaded and answer with it whatever the name."""
    a, b = (set(part["served"]) - {""} for part in rows)
    if len(a) != 1 or a != b or models[0].place is None or models[0].place != models[1].place:
        return ""
    return f"; but the endpoint says that {a.pop()} answered for both: is it one model?"


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


def _rows(plan: Plan, answers: Answers) -> pandas.DataFrame:
    """The requests that have a row, with what ``came`` of them, ``score`` and ``guessed``."""
    rows = []
    for question in plan:
        if row := answers.row(question.config):
            came = outcome(row)
            marked = mark(question.item, row["text"] if came == "answered" else "")
            more = {"wording": question.wording, "came": came, **vars(marked)}
            row = {"thought": "", "served": ""} | row | more
            rows.append({name: row.get(name) for name in COLUMNS})
    table = pandas.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
    return table.iloc[np.argsort(table["item"].factorize()[0], kind="stable")]  # items together


def _item_scores(
    items: list[Item], rows: pandas.DataFrame, which=("answered",)
) -> dict[str, float]:
    """The mean score of each item's answers, where it has any."""
    means = rows[rows["came"].isin(which)].groupby("item")["score"].mean()
    return {item.name: float(means[item.name]) for item in items if item.name in means}


def _model(
    model: Model, rows: pandas.DataFrame, scores: dict, rates: Rates, items: list[Item], seed: int
) -> dict[str, Any]:
    good = rows[rows["came"] == "answered"]
    seconds = good["seconds"].dropna()
    reasons = rows[["item", "repeat", "failed"]].rename(columns={"failed": "reason"})
    # what leaving answers out that were cut may hide: the score were they wrong
    with_cut = _item_scores(items, rows, ("answered", "cut"))
    return {
        "model": model.name,
        "endpoint": model.place,
        "answered": len(good),
        **{
            kind: reasons[rows["came"] == kind].to_dict("records")
            for kind in ("failed", "cut", "filtered")
        },
        "guessed": int(good["guessed"].sum()),
        "score": _score(list(scores.values()), seed),
        "score_if_cut_is_wrong": _mean(list(with_cut.values())),
        "by_wording": _by_wording(items, rows),
        "reliability": _reliability(rows),
        "tokens": {n: _mean(good[f"{n}_tokens"].dropna()) for n in ("prompt", "answer", "thought")},
        "dollars_per_thousand_requests": rates.thousand(rows[rows["came"] != "failed"]),
        "price": vars(rates),
        "seconds": {"median": float(seconds.median()), "p95": float(seconds.quantile(0.95))}
        if len(seconds)
        else None,
    }


def _by_wording(items: list[Item], rows: pandas.DataFrame) -> list[float | None] | None:
    """The mean score in each wording; None where there is one. Their spread is one of style."""
    parts = [part for _, part in rows.groupby("wording")]
    if len(parts) < 2:
        return None
    return [_mean(list(_item_scores(items, part).values())) for part in parts]


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


def _reliability(rows: pandas.DataFrame) -> float | None:
    """The share of pairs of repeats with the same answer, over the items; None with no pairs."""
    shares = []
    for _, part in rows[rows["came"] != "failed"].groupby("item", sort=False):
        texts = zip(part["wording"], part["text"].str.strip(), strict=True)
        pairs = [a == b for a, b in combinations(texts, 2) if a[0] == b[0]]
        if pairs:
            shares.append(sum(pairs) / len(pairs))
    return _mean(shares)


def _lines(items: list[Item], rows: list[pandas.DataFrame], scores: list[dict]) -> list[dict]:
    """Each item with the first answer of each model, also one that was cut and has no score."""
    first = [
        part[part["came"] != "failed"].drop_duplicates("item").set_index("item") for part in rows
    ]
    return [
        {
            "item": item.name,
            "prompt": item.prompt,
            "wanted": [*item.answers]
            or [getattr(part.expected, "pattern", part.expected) for part in item.parts],
            "answers": [part["text"].get(item.name) for part in first],
            "thoughts": [part["thought"].get(item.name) for part in first],
            "scores": [part.get(item.name) for part in scores],
        }
        for item in items
    ]


def _binary(values: list[float]) -> bool:
    return all(value in (0, 1) for value in values)


def _mean(values) -> float | None:
    return float(np.mean(values)) if len(values) else None


def _table(values: list[float]):
    return pandas.DataFrame({"item": range(len(values)), "score": values})
