"""Scores and ratings that others published (``data/facts/scores.yml``), set side by side.

A printed score has no items behind it here, so nothing can be paired: two scores of one benchmark
are comparable as far as their sources say that they were measured alike.
"""

import datetime

from sizewise import units
from sizewise.data import records

LOWER_IS_BETTER = ("distance",)  # units
SCALE = 400  # rating points that multiply the odds by ten (Elo 1978, section 1)
ARENA = "arena-"


def entry(name: str) -> dict:
    """One entry of the facts. Raises ValueError for an unknown name, with the nearest one."""
    names = {item["name"]: item for item in records.facts("scores")}
    if name not in names:
        raise units.unknown("published entry", name, names)
    return names[name]


def value(name: str, figure: str) -> float:
    """One printed figure. Raises ValueError for unknown names, with the nearest one."""
    figures = entry(name)["figures"]
    if figure not in figures:
        raise units.unknown(f"figure of {name}", figure, figures)
    return figures[figure]["value"]


def versus(small: str, large: str):
    """Two entries on the benchmarks that both print, one row each, in the order of ``small``.

    Columns: ``benchmark``, ``unit``, ``small``, ``large`` as printed; ``lead``, by how much the
    small one is ahead in that unit, whichever way is better; ``small_wins``; ``errors``, the share
    of the small one's errors that the large one leaves, missing for other units than percent.
    """
    import pandas

    a, b = (entry(name)["figures"] for name in (small, large))
    rows = []
    for name in (name for name in a if name in b):
        if a[name]["unit"] != b[name]["unit"]:
            raise ValueError(f"{small} and {large} print {name} in unlike units")
        rows.append((name, a[name]["unit"], a[name]["value"], b[name]["value"]))
    table = pandas.DataFrame(rows, columns=["benchmark", "unit", "small", "large"])
    better = table["unit"].isin(LOWER_IS_BETTER).map({True: -1, False: 1})
    lead = (better * (table["small"] - table["large"])).round(6)
    left = (100 - table["large"]) / (100 - table["small"])
    return table.assign(lead=lead, small_wins=lead > 0, errors=left.where(table["unit"] == "%"))


def preferred(gap: float) -> float:
    """The share of votes that a model ``gap`` rating points ahead is expected to win, ties halved.

    Bradley and Terry 1952 in Elo's scale: half at 0, ten to one at 400.
    """
    return 1 / (1 + 10 ** (-gap / SCALE))


def ratings():
    """The snapshots of the Arena by date: how far the fifth stood behind the best.

    Columns ``date``; ``best``; ``model`` and ``maker``, the gap to the fifth model and to the best
    model of the fifth maker, in rating points, with ``_margin``, half of its 95 % interval as if
    both ratings were independent, missing where no intervals were printed; ``model_wins`` and
    ``maker_wins``, the share of votes by which the best is expected to beat them.
    """
    import pandas

    rows = []
    for item in records.facts("scores"):
        if not item["name"].startswith(ARENA):
            continue
        figures = item["figures"]
        row = {"date": item["published"], "best": figures["best"]["value"]}
        for kind, figure in (("model", "fifth"), ("maker", "fifth_maker")):
            gap = figures["best"]["value"] - figures[figure]["value"]
            row |= {
                kind: gap,
                f"{kind}_margin": _margin(figures["best"], figures[figure]),
                f"{kind}_wins": preferred(gap),
            }
        rows.append(row)
    return pandas.DataFrame(rows).sort_values("date", ignore_index=True)


def apart(snapshots, years: float = 2.0, slack: float = 0.25):
    """All pairs of snapshots about ``years`` apart: the gaps before and after.

    ``slack`` is how many years a pair may be off. Columns ``before``, ``after`` (dates), and
    ``model_before``, ``model_after``, ``maker_before``, ``maker_after`` in rating points.
    """
    pairs = snapshots.merge(snapshots, how="cross", suffixes=("_before", "_after"))
    before, after = (pairs[f"date_{end}"].map(_day) for end in ("before", "after"))
    passed = (after - before).map(lambda span: span.days / 365.25)
    pairs = pairs[(passed - years).abs() <= slack].reset_index(drop=True)
    pairs = pairs.rename(columns={"date_before": "before", "date_after": "after"})
    gaps = [f"{kind}_{end}" for kind in ("model", "maker") for end in ("before", "after")]
    return pairs[["before", "after", *gaps]]


def _margin(a: dict, b: dict) -> float | None:
    if "low" not in a or "low" not in b:
        return None
    return sum(((item["high"] - item["low"]) / 2) ** 2 for item in (a, b)) ** 0.5


def _day(date) -> datetime.date:
    return date if isinstance(date, datetime.date) else datetime.date.fromisoformat(str(date))
