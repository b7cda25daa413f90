"""What the rows of ``data/moe.jsonl`` say of mixtures in one place: one budget, one width.

Tables in, tables out. A mixture is compared with the plain sparse arm and with the dense one of its
active size; intervals are those of `mixture_results`.
"""

import numpy as np
import pandas as pd

from . import mixture_of_experts as results

MIXTURE = ("experts", "used", "shared", "balance", "capacity")


def place(rows) -> tuple[float, int]:
    """Budget and width of the experiments that are done in one place only.

    Raises ValueError if none of them was recorded.
    """
    there = rows[~rows["what"].isin(["arms", "tokens", "rates"])]
    if not len(there):
        raise ValueError("no row of an experiment in one place, such as `experts`")
    return float(there["budget"].iloc[0]), int(there["width"].iloc[0])


def variants(rows, *experiments: str, by: str):
    """The mixtures of some experiments and the plain sparse arm, in one place: one line each.

    Each line has sizes, the mean loss, and the difference to the plain sparse arm and to the dense
    one of its active size, with what the routes did (means over seeds and layers). Sorted by
    ``by``; empty where nothing was recorded.
    """
    runs = results.finished(rows[rows["what"].isin(experiments)])
    if not len(runs):
        return pd.DataFrame()
    dense, plain = (at_place(rows, arm) for arm in (results.SMALL, results.SPARSE))
    runs = pd.concat([runs, plain])
    return pd.DataFrame(
        [told(some, dense, plain) for _, some in runs.groupby(list(MIXTURE))]
    ).sort_values([by, "balance"], ignore_index=True)


def at_place(rows, arm: str):
    """The runs of an arm where the experiments of one place are."""
    budget, width = place(rows)
    here = results.arms(rows)
    return here[(here["budget"] == budget) & (here["width"] == width) & (here["arm"] == arm)]


def told(runs, dense, plain) -> dict:
    """One line of `variants`: runs of one mixture beside the dense and the plain sparse arm."""
    first = runs.iloc[0]
    against, beside = results.difference(runs, dense), results.difference(runs, plain)
    if set(runs["id"]) & set(plain["id"]):  # the plain one itself
        beside = results.Interval(np.nan, np.nan, np.nan, beside.n)
    return {
        "experts": int(first["experts"]),
        "used": int(first["used"]),
        "shared": int(first["shared"]),
        "balance": float(first["balance"]),
        "capacity": float(first["capacity"]),
        "total": int(first["total"]),
        "active": int(first["active"]),
        "loss": runs["val_loss"].mean(),
        "to dense": against.mean,
        "dense low": against.low,
        "dense high": against.high,
        "to plain": beside.mean,
        "plain low": beside.low,
        "plain high": beside.high,
        "seeds": against.n,
        "evenness": _mean(runs["evenness"]),
        "peak": _mean(runs["peak"]),
        "dead": _mean(runs["dead"]),
        "collapsed": int(sum(map(bool, runs["collapsed"]))),
        "dropped": runs["dropped_125"].mean(),
        "dropped at one": runs["dropped_100"].mean(),
    }


def by_doubling(rows) -> results.Interval:
    """What each doubling of the number of experts adds to the loss: a line through each seed."""
    runs = pd.concat(
        [results.finished(rows[rows["what"] == "experts"]), at_place(rows, results.SPARSE)]
    )
    slopes = [
        np.polyfit(np.log2(some["experts"]), some["val_loss"], 1)[0]
        for _, some in runs.groupby("seed")
        if some["experts"].nunique() > 1
    ]
    return results.interval(slopes)


def without_choice(rows):
    """The runs whose token uses all routed experts: nothing is routed, nothing more is held."""
    runs = results.finished(rows[rows["what"] == "experts"])
    return runs[runs["experts"] == runs["used"]]


def by_choice(rows):
    """Loss of each number of experts less that of the model without a choice: one line a number.

    What is left of the difference to the dense model when being cut into experts is taken off.
    Empty where no model without a choice was recorded.
    """
    none = without_choice(rows)
    runs = results.finished(rows[rows["what"] == "experts"])
    runs = pd.concat([runs, at_place(rows, results.SPARSE)]) if len(runs) else runs
    lines = []
    for number, some in runs[runs["experts"] > runs["used"]].groupby("experts"):
        found = results.difference(some, none)
        if found.n:
            lines.append(
                {
                    "experts": number,
                    "difference": found.mean,
                    "low": found.low,
                    "high": found.high,
                    "seeds": found.n,
                    "word": found.word,
                }
            )
    return pd.DataFrame(lines)


def by_cutting(rows) -> results.Interval:
    """Loss of the model without a choice less that of the dense one of its size."""
    return results.difference(without_choice(rows), at_place(rows, results.SMALL))


def by_sharing(rows) -> results.Interval | None:
    """Loss with a shared expert less that without, both with as many experts for a token."""
    runs = results.finished(rows[rows["what"].isin(["shared", "granularity"])])
    one = runs[runs["shared"] > 0]
    together = one["used"].max() + one["shared"].max()  # nan where there is none
    none = runs[(runs["shared"] == 0) & (runs["used"] == together)]
    if not set(one["seed"]) & set(none["seed"]):
        return None
    return results.difference(one, none)


def by_balance(rows, experts: int) -> results.Interval | None:
    """Loss without the balance loss less that with it, for so many experts, two a token."""
    runs = results.finished(rows[rows["what"].isin(["balance", "experts"])])
    runs = pd.concat([runs, at_place(rows, results.SPARSE)])
    runs = runs[runs["experts"] == experts]
    off, on = runs[runs["balance"] == 0], runs[runs["balance"] > 0]
    if not set(off["seed"]) & set(on["seed"]):
        return None
    return results.difference(off, on)


def _mean(lists) -> float:
    """Mean over runs and layers of a column that is by layer."""
    return float(np.mean([np.mean(one) for one in lists]))
