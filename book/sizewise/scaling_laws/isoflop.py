"""Approaches 1 and 2 of Hoffmann et al. 2022: the best size for a budget, without a surface.

Both find optima at several budgets and put a line through them in logarithms.
"""

import numpy as np

from .forms import OPERATIONS, Allocator

FEWEST_SIZES = 4  # a parabola has three coefficients


def power_law(budgets, params) -> Allocator:
    """N_opt = scale C^exponent by least squares in logarithms.

    Raises ValueError for fewer than two budgets.
    """
    x, y = np.log(np.asarray(budgets, float)), np.log(np.asarray(params, float))
    if len(np.unique(x)) < 2:
        raise ValueError("an exponent needs optima at two budgets at least")
    exponent, scale = np.polyfit(x, y, 1)
    return Allocator(float(np.exp(scale)), float(exponent))


def parabolas(runs, budgets=None, *, tolerance: float = 0.1):
    """Approach 2: for each budget a parabola of the loss over log N, and its lowest point.

    ``runs`` is a `Runs`; ``budgets`` groups it, by default into runs whose 6 N D agree within
    ``tolerance`` (a share). A data frame, one row a budget: ``operations``, ``params`` and
    ``tokens`` of the optimum, ``loss`` there, ``curvature``, ``runs``, and ``inside``: whether
    the optimum lies between the smallest and the largest size. A budget with fewer than four
    sizes, or whose parabola opens downwards, has no optimum and is left out.
    """
    import pandas

    spent = np.asarray(runs.operations if budgets is None else budgets, float)
    rows = []
    for group in _groups(spent, tolerance):
        x, y = np.log(runs.params[group]), runs.loss[group]
        if len(np.unique(x)) < FEWEST_SIZES:
            continue
        middle = x.mean()  # or the squares would cost digits
        curve = np.polynomial.polynomial.polyfit(x - middle, y, 2)
        if curve[2] <= 0:
            continue
        lowest = -curve[1] / (2 * curve[2])
        size, operations = np.exp(lowest + middle), np.exp(np.log(spent[group]).mean())
        rows.append(
            {
                "operations": operations,
                "params": size,
                "tokens": operations / (OPERATIONS * size),
                "loss": curve[0] - curve[2] * lowest**2,
                "curvature": curve[2],
                "runs": len(x),
                "inside": bool(x.min() <= lowest + middle <= x.max()),
            }
        )
    columns = ("operations", "params", "tokens", "loss", "curvature", "runs", "inside")
    return pandas.DataFrame(rows, columns=columns)


def envelope(runs, *, bins_a_decade: int = 4):
    """Approach 1: in each bin of operations the run of least loss, from points along curves.

    ``runs`` may hold several points of one training run. A data frame as of `parabolas`, with
    ``operations``, ``params``, ``tokens`` and ``loss`` of the least loss in each bin. A bin
    where one size alone was tried says nothing and is left out.
    """
    import pandas

    spent = runs.operations
    bins = np.floor(np.log10(spent) * bins_a_decade)
    rows = []
    for one in np.unique(bins):
        here = np.flatnonzero(bins == one)
        if len(np.unique(runs.params[here])) < 2:
            continue
        best = here[runs.loss[here].argmin()]
        rows.append((spent[best], runs.params[best], runs.tokens[best], runs.loss[best]))
    return pandas.DataFrame(rows, columns=["operations", "params", "tokens", "loss"])


def exponents(runs, budgets, noise: float, *, samples: int = 400, seed: int = 0) -> np.ndarray:
    """The exponent of `power_law` again and again, with noise added to every loss.

    ``noise`` is the standard deviation of a loss from seed to seed, in nats. Shape [samples]; NaN
    where fewer than two budgets keep an optimum.
    """
    rng = np.random.default_rng(seed)
    found = np.full(samples, np.nan)
    for sample in range(samples):
        shaken = type(runs)(runs.params, runs.tokens, runs.loss + rng.normal(0, noise, len(runs)))
        optima = parabolas(shaken, budgets)
        if len(optima) > 1:
            found[sample] = power_law(optima["operations"], optima["params"]).exponent
    return found


def _groups(spent: np.ndarray, tolerance: float) -> list[np.ndarray]:
    """Indices of runs whose budgets follow each other within the tolerance."""
    order = np.argsort(spent, kind="stable")
    cuts = np.flatnonzero(np.diff(np.log(spent[order])) > np.log1p(tolerance)) + 1
    return np.split(order, cuts)
