"""Whether one learning rate for all kinds decides which of them wins: the experiment ``rates``.

Tables in, tables out. The rate at which `arms` were trained stands beside the others as factor 1.
"""

import pandas as pd

from . import mixture_of_experts as results


def runs(rows):
    """Finished runs of the arms at every rate tried where other rates were, with ``factor``.

    ``factor`` is the rate over that of the arms. Empty where no other rate was recorded.
    """
    other = rows[rows["what"] == "rates"]
    arms = results.arms(rows)
    others = results.arms(other.assign(what="arms"))
    places = others[["budget", "width"]].drop_duplicates()
    base = arms.merge(places, on=["budget", "width"])
    if not len(base):
        return others.assign(factor=[])
    usual = base.groupby(["budget", "width"])["lr"].first().rename("usual").reset_index()
    both = pd.concat([base, others], ignore_index=True).merge(usual, on=["budget", "width"])
    return both.assign(factor=both["lr"] / both["usual"]).drop(columns="usual")


def table(rows):
    """Mean loss by budget, arm (rows) and factor (columns), and the best factor of each."""
    found = runs(rows)
    if not len(found):
        return pd.DataFrame()
    means = found.pivot_table(index=["budget", "arm"], columns="factor", values="val_loss")
    order = [(b, arm) for b in sorted(found["budget"].unique()) for arm in results.ARMS]
    means = means.reindex([place for place in order if place in means.index])
    return means.assign(best=means.idxmin(axis=1))


def at_best(rows):
    """The runs of each arm at the rate whose mean loss is lowest, by budget."""
    found = runs(rows)
    if not len(found):
        return found
    means = found.groupby(["budget", "arm", "factor"])["val_loss"].mean()
    chosen = means.groupby(["budget", "arm"]).idxmin().tolist()
    keys = list(zip(found["budget"], found["arm"], found["factor"], strict=True))
    return found[[key in set(chosen) for key in keys]]
