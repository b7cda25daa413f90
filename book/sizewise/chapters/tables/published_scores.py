"""Scores and ratings that others published (``data/facts/scores.yml``), set side by side.

A printed score has no items behind it here, so nothing can be paired: two scores of one benchmark
are comparable as far as their sources say that they were measured alike.
"""

import pandas as pd

from sizewise.data import records

LOWER_IS_BETTER = ("distance",)  # units
SCALE = 400  # rating points that multiply the odds by ten (Elo 1978, section 1)
ARENA = "arena-"


def versus(small: str, large: str):
    """Two entries on the benchmarks that both print, one row each, in the order of ``small``.

    Columns: ``benchmark``, ``unit``, ``small``, ``large`` as printed; ``lead``, by how much the
    small one is ahead in that unit, whichever way is better; ``small_wins``.
    """
    a, b = (records.fact("scores", name)["figures"] for name in (small, large))
    rows = []
    for name in (name for name in a if name in b):
        if a[name]["unit"] != b[name]["unit"]:
            raise ValueError(f"{small} and {large} print {name} in unlike units")
        rows.append((name, a[name]["unit"], a[name]["value"], b[name]["value"]))
    table = pd.DataFrame(rows, columns=["benchmark", "unit", "small", "large"])
    better = table["unit"].isin(LOWER_IS_BETTER).map({True: -1, False: 1})
    lead = (better * (table["small"] - table["large"])).round(6)
    return table.assign(lead=lead, small_wins=lead > 0)


def preferred(gap: float) -> float:
    """The share of votes that a model ``gap`` rating points ahead is expected to win, ties halved.

    Bradley and Terry 1952 in Elo's scale: half at 0, ten to one at 400.
    """
    return 1 / (1 + 10 ** (-gap / SCALE))


def ratings() -> pd.DataFrame:
    """The snapshots of the Arena by date: how far the fifth stood behind the best.

    Columns ``date``; ``model`` and ``maker``, the gap to the fifth model and to the best model of
    the fifth maker, in rating points; ``model_margin``, half of the first one's 95 % interval as if
    both ratings were independent, missing where no intervals were printed.
    """
    rows = []
    for item in records.facts("scores"):
        if item["name"].startswith(ARENA):
            best, *fifths = (item["figures"][name] for name in ("best", "fifth", "fifth_maker"))
            gaps = (best["value"] - fifth["value"] for fifth in fifths)
            rows.append((item["published"], *gaps, _margin(best, fifths[0])))
    table = pd.DataFrame(rows, columns=["date", "model", "maker", "model_margin"])
    return table.sort_values("date", ignore_index=True)


def apart(snapshots, years: float = 2.0, slack: float = 0.25):
    """All pairs of snapshots about ``years`` apart: the gaps before and after.

    ``slack`` is how many years a pair may be off. Columns ``before``, ``after`` (dates), and
    ``model_before``, ``model_after``, ``maker_before``, ``maker_after`` in rating points.
    """
    pairs = snapshots.merge(snapshots, how="cross", suffixes=("_before", "_after"))
    passed = (pairs["date_after"] - pairs["date_before"]).map(lambda span: span.days / 365.25)
    pairs = pairs[(passed - years).abs() <= slack].reset_index(drop=True)
    pairs = pairs.rename(columns={"date_before": "before", "date_after": "after"})
    gaps = [f"{kind}_{end}" for kind in ("model", "maker") for end in ("before", "after")]
    return pairs[["before", "after", *gaps]]


def _margin(a: dict, b: dict) -> float | None:
    if "low" not in a or "low" not in b:
        return None
    return sum(((item["high"] - item["low"]) / 2) ** 2 for item in (a, b)) ** 0.5
