"""What the rows of ``data/moe.jsonl`` say of losses: sparse against dense, by seed.

Tables in, tables out; pandas alone. A difference is of runs with one seed, which read the text in
one order; its interval is Student's over seeds and knows of no other noise. Sizes leave out
embedding and head.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from sizewise.scaling_laws import sparse

SMALL, SPARSE, LARGE = "dense, as much used", "sparse", "dense, as much held"
ARMS = (SMALL, SPARSE, LARGE)
NEAR = 1 / 3  # a weight below it is near the active size, one above the rest of it near the total
CLOSE = 0.02  # tokens of two runs that count as equal differ by a share of this at most


@dataclass(frozen=True)
class Interval:
    """A mean over ``n`` seeds with the ends of its 95 % interval; nan ends for one seed."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def word(self) -> str:
        """Lower or higher if the whole interval is, else that it is not told from none."""
        return "lower" if self.high < 0 else "higher" if self.low > 0 else "not told from none"


def interval(values, level: float = 0.95) -> Interval:
    """Student's interval of a mean. Raises ValueError for no values."""
    from scipy import stats

    values = np.asarray(values, float)
    if not len(values):
        raise ValueError("an interval needs one value at least")
    mean, n = float(values.mean()), len(values)
    if n == 1:
        return Interval(mean, np.nan, np.nan, 1)
    off = float(stats.t.ppf((1 + level) / 2, n - 1) * values.std(ddof=1) / np.sqrt(n))
    return Interval(mean, mean - off, mean + off, n)


def difference(ours, theirs) -> Interval:
    """Loss of ``ours`` less that of ``theirs`` (frames of runs), over the seeds that both have.

    All nan where there is none.
    """
    one, other = (runs.groupby("seed")["val_loss"].mean() for runs in (ours, theirs))
    if not len(both := (one - other).dropna()):
        return Interval(np.nan, np.nan, np.nan, 0)
    return interval(both)


def finished(rows):
    """The runs that ended with a loss, with ``total`` and ``active``, both without embeddings."""
    rows = rows[rows["ended"] == "done"].copy()
    rows["total"] = rows["params_non_embedding"]
    rows["active"] = rows["params_non_embedding"] - (rows["params"] - rows["params_active"])
    if "capacity" not in rows:
        rows["capacity"] = 0.0
    rows["capacity"] = rows["capacity"].fillna(0.0)
    return rows


# --- sparse against dense at equal operations


def arms(rows):
    """The finished runs of the experiment ``arms``, with a column ``arm`` of `ARMS`."""
    table = finished(rows[rows["what"] == "arms"])
    dense = table["experts"] == 1
    table["arm"] = np.where(dense, np.where(table["wide"] == 1, SMALL, LARGE), SPARSE)
    return table


def best(table):
    """The runs of ``arms`` at the width at which the mean loss of their arm is lowest, by budget.

    ``edge`` says that no smaller, or no larger, width was tried, so that a better one may exist.
    """
    kept = []
    for _, runs in table.groupby(["budget", "arm"], sort=False):
        means = runs.groupby("width")["val_loss"].mean()
        width = means.idxmin()
        at = runs[runs["width"] == width]
        kept.append(at.assign(edge=width in (means.index.min(), means.index.max())))
    return pd.concat(kept)


def compared(table, other: str, by=("budget",)):
    """Sparse less the arm ``other`` in each cell of ``by``: loss, interval and number of seeds."""
    lines = []
    for cell, runs in table.groupby(list(by)):
        ours, theirs = (runs[runs["arm"] == arm] for arm in (SPARSE, other))
        if set(ours["seed"]) & set(theirs["seed"]):
            found = difference(ours, theirs)
            lines.append(
                dict(zip(by, cell, strict=True))
                | {
                    "against": other,
                    "width": ours["width"].iloc[0],
                    "its width": theirs["width"].iloc[0],
                    "sparse": ours["val_loss"].mean(),
                    "dense": theirs["val_loss"].mean(),
                    "difference": found.mean,
                    "low": found.low,
                    "high": found.high,
                    "seeds": found.n,
                }
            )
    return pd.DataFrame(lines)


# --- the dense size that is as good


def readings(rows):
    """Dense runs beside the sparse ones on the same tokens: one frame for each place.

    Yields (budget, sparse runs, dense runs) for each budget and width of the experiment ``tokens``.
    """
    dense = finished(rows[rows["what"] == "tokens"])
    ours = arms(rows)
    ours = ours[ours["arm"] == SPARSE]
    for (budget, width), runs in ours.groupby(["budget", "width"]):
        near = (dense["tokens"] / runs["tokens"].iloc[0] - 1).abs() < CLOSE
        same = dense[(dense["width"] == width) & near]
        if len(same):
            yield budget, runs, same


def equivalents(rows):
    """The dense size as good as the sparse model, by budget, and its ``weight``.

    The weight is where it lies from active (0) to total (1) in logarithms. ``read`` says
    whether it lies between sizes that were trained or beyond them, ``why`` why there is none where
    the dense losses do not fall with size.
    """
    lines = []
    for budget, ours, dense in readings(rows):
        active, total = float(ours["active"].iloc[0]), float(ours["total"].iloc[0])
        line = {
            "budget": budget,
            "width": ours["width"].iloc[0],
            "tokens": ours["tokens"].iloc[0],
            "seeds": len(ours),
            "active": active,
            "total": total,
            "rule": float(sparse.geometric_mean(active, total)),
        }
        try:
            found = sparse.dense_equivalent(dense["total"], dense["val_loss"], ours["val_loss"])
        except ValueError as error:
            lines.append(line | {"why": str(error)})
            continue
        ends = {"size": found.value, "low": found.low, "high": found.high}
        weights = [float(sparse.weight(active, total, end)) for end in ends.values()]
        named = dict(zip(("weight", "weight_low", "weight_high"), weights, strict=True))
        between = dense["total"].min() <= found.value <= dense["total"].max()
        read = {"read": "between" if between else "beyond", "why": ""}
        lines.append(line | ends | named | read)
    return pd.DataFrame(lines)


def same_tokens(rows):
    """Sparse less dense on the same tokens, by budget: dense of the active and of the total size.

    ``times`` is the operations of the dense runs over those of the sparse ones.
    """
    lines = []
    for budget, ours, dense in readings(rows):
        sizes = {SMALL: dense["wide"].min(), LARGE: dense["wide"].max()}
        for arm, wide in sizes.items():
            theirs = dense[dense["wide"] == wide]
            found = difference(ours, theirs)
            lines.append(
                {
                    "budget": budget,
                    "tokens": ours["tokens"].iloc[0],
                    "against": arm,
                    "times": theirs["operations"].mean() / ours["operations"].mean(),
                    "sparse": ours["val_loss"].mean(),
                    "dense": theirs["val_loss"].mean(),
                    "difference": found.mean,
                    "low": found.low,
                    "high": found.high,
                    "seeds": found.n,
                }
            )
    return pd.DataFrame(lines)


def guide(weights) -> str:
    """Which count the dense size that is as good is nearer to, from the mean of the weights."""
    weights = [one for one in weights if np.isfinite(one)]
    if not weights:
        return "could not be told"
    mean = np.mean(weights)
    if mean < NEAR:
        return "nearer to what a token uses"
    return "nearer to what is held" if mean > 1 - NEAR else "between the two"


def counted(table) -> tuple[int, int, int]:
    """How many differences are surely below nought, surely above, and neither."""
    below, above = int((table["high"] < 0).sum()), int((table["low"] > 0).sum())
    return below, above, len(table) - below - above


def bargain(below: int, above: int, neither: int) -> str:
    """Whether sparse is better: yes if surely at all places, no if surely worse at some and better
    at none; in part, or that it cannot be told, otherwise."""
    if below and not above + neither:
        return "yes"
    if below:
        return "in part"
    return "no" if above else "cannot be told"
