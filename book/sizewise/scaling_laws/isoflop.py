"""Approach 2 of Hoffmann et al. 2022: the best size for a budget, without a surface.

It finds optima at several budgets and puts a line through them in logarithms. The tokens of an
optimum are its budget over the FLOPs that the runs themselves spent on a token of that size, not
C / 6 N: where N leaves out the embedding and the head, 6 N D is far from what was spent.
"""

import hashlib

import numpy as np

from sizewise.data import records

from .forms import Allocator
from .runs import Runs

FEWEST_SIZES = 4  # a parabola has three coefficients


def ladder(largest: float | None = None):
    """The dense runs of data/isoflop.jsonl that ended, up to a budget of ``largest`` FLOPs."""
    rows = records.table("isoflop")
    ended = (rows["what"] == "ladder") & (rows["family"] == "dense") & (rows["ended"] == "done")
    rows = rows[ended].sort_values(["budget", "width", "seed"], ignore_index=True)
    return rows if largest is None else rows[rows["budget"] <= largest]


def ladder_runs(rows, count: str = "params_non_embedding") -> Runs:
    """Rows of `ladder` as runs with the FLOPs that were spent; seeds of one run are a cluster."""
    cluster = rows["budget"].astype(str) + " " + rows["width"].astype(str)
    columns = (rows[name].to_numpy() for name in (count, "tokens", "val_loss"))
    return Runs.from_arrays(*columns, flops=rows["operations"], cluster=cluster)


def names(rows) -> str:
    """What names a set of runs: the SHA-256 of their sorted ids with a space between."""
    return hashlib.sha256(" ".join(sorted(rows["id"])).encode()).hexdigest()


def on_record():
    """The runs of `ladder` from which data/foretell.jsonl predicted, whatever was recorded since.

    Raises ValueError if they are not the runs that it names.
    """
    prediction = records.read("foretell")[0]
    rows = ladder(prediction["fitted_up_to"])
    rows = rows[rows["from.time"] < prediction["from"]["time"]]
    if names(rows) != prediction["runs_sha256"]:
        raise ValueError("data/foretell.jsonl was predicted from other runs than are recorded here")
    return rows


def power_law(budgets, params) -> Allocator:
    """N_opt = scale C^exponent by least squares in logarithms.

    Raises ValueError for fewer than two budgets.
    """
    x, y = np.log(np.asarray(budgets, float)), np.log(np.asarray(params, float))
    if len(np.unique(x)) < 2:
        raise ValueError("an exponent needs optima at two budgets at least")
    exponent, scale = np.polyfit(x, y, 1)
    return Allocator(float(np.exp(scale)), float(exponent))


def parabolas(runs: Runs, budgets):
    """Approach 2: for each budget a parabola of the loss over log N, and its lowest point.

    ``budgets`` [runs] says which runs belong together. A data frame, one row a budget: ``flops``,
    ``params`` and ``tokens`` of the optimum (tokens by the FLOPs that runs of about that size
    spent on one), ``loss`` there, ``curvature``, ``runs``, and ``inside``: whether the optimum
    lies between the smallest and the largest size. A budget with fewer than four sizes, or whose
    parabola opens downwards, has no optimum and is left out.
    """
    import pandas

    budgets, rows = np.asarray(budgets, float), []
    for budget in np.unique(budgets):
        x, y = np.log(runs.params[budgets == budget]), runs.loss[budgets == budget]
        if len(np.unique(x)) < FEWEST_SIZES:
            continue
        middle = x.mean()  # or the squares would cost digits
        curve = np.polynomial.polynomial.polyfit(x - middle, y, 2)
        if curve[2] <= 0:
            continue
        lowest = -curve[1] / (2 * curve[2])
        size, inside = np.exp(lowest + middle), x.min() <= lowest + middle <= x.max()
        tokens, loss = budget / float(runs.token_flops(size)), curve[0] - curve[2] * lowest**2
        rows.append((budget, size, tokens, loss, curve[2], len(x), inside))
    columns = ["flops", "params", "tokens", "loss", "curvature", "runs", "inside"]
    return pandas.DataFrame(rows, columns=columns).astype({"inside": bool})


def exponents(runs, budgets, noise: float, *, samples: int = 400, seed: int = 0) -> np.ndarray:
    """The exponent of `power_law` again and again, with noise added to every loss.

    ``noise`` is the standard deviation of a loss from seed to seed, in nats. Shape [samples]; NaN
    where fewer than two budgets keep an optimum among their sizes.
    """
    rng = np.random.default_rng(seed)
    again = np.full(samples, np.nan)
    for sample in range(samples):
        loss = runs.loss + rng.normal(0, noise, len(runs))
        optima = parabolas(Runs(runs.params, runs.tokens, loss, runs.spent), budgets)
        optima = optima[optima["inside"]]
        if len(optima) > 1:
            again[sample] = power_law(optima["flops"], optima["params"]).exponent
    return again


def surface_exponent(law, runs):
    """a of N_opt ~ C^a by a fitted surface, with the FLOPs that the runs spent on a token.

    With F(N) ~ N^p FLOPs a token, D = C / F(N), and the loss is least where N grows as
    C^(beta / (alpha + p beta)). p is 1 for 6 N and less where N leaves out the embedding and the
    head: Pearce and Song 2024, section 3, who count by N alone.
    """
    sizes = np.unique(runs.params)
    slope = np.polyfit(np.log(sizes), np.log(runs.token_flops(sizes)), 1)[0]
    return law.beta / (law.alpha + slope * law.beta)
