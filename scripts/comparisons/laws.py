"""Fitting a scaling law: all problems in one batch against one minimizer call each."""

import time


def fit(number: int):
    """A fit from all starts with 4,000 resamples, by one batch or by a scipy BFGS for each problem.

    The runs are made from a known law. scipy would take minutes, so every 20th problem is given
    to it (others in each pair) and its time multiplied: the problems are independent. It has an
    objective in plain numpy and, as it comes, finite differences; we are charged for drawing the
    resamples and for finding the starts, it is not.
    """
    import numpy as np
    from scipy.optimize import minimize
    from sizewise import scaling_laws
    from sizewise.scaling_laws import fitting, solver

    rng = np.random.default_rng(number)
    params, tokens = np.exp(rng.uniform(np.log([5e7, 1e9]), np.log([1.6e10, 1e12]), (240, 2))).T
    law = scaling_laws.Hoffmann(E=1.8, A=480, B=2100, alpha=0.35, beta=0.37)
    runs = scaling_laws.Runs.from_arrays(
        params, tokens, law.loss(params, tokens) * np.exp(rng.normal(0, 5e-3, 240))
    )
    started = time.perf_counter()
    weights = np.concatenate([np.ones((1, 240)), fitting.resamples(runs, 4000, number)])
    grid, best = fitting.starts(runs, weights[:1])[0][0], fitting.best_starts(runs, weights[1:], 1)
    starts = np.concatenate([grid, best[:, 0]])
    which = np.concatenate([np.zeros(len(grid), int), np.arange(1, 4001)])
    table = solver.Table.from_runs(runs.params, runs.tokens, runs.loss)
    result = solver.solve(starts, weights, table, which=which)
    ours = time.perf_counter() - started
    x, y, z = np.log(params), np.log(tokens), np.log(runs.loss)

    def objective(t, weights):
        away = np.log(np.exp(t[0] - t[3] * x) + np.exp(t[1] - t[4] * y) + np.exp(t[2])) - z
        size = np.abs(away)
        return weights @ np.where(size < 1e-3, away**2 / 2, 1e-3 * (size - 5e-4))

    sample = np.arange(number, len(starts), 20)
    started = time.perf_counter()
    theirs = [minimize(objective, starts[i], (weights[which[i]],), "BFGS").fun for i in sample]
    seconds = (time.perf_counter() - started) * len(starts) / len(sample)
    worse = float((result.objective[sample] - theirs).max())
    same = float(np.mean(np.abs(result.objective[sample] - theirs) < 1e-9))
    return (
        seconds,
        ours,
        {
            "problems": len(starts),
            "timed": len(sample),
            "worse_by": worse,
            "same_optimum": same,
        },
    )
