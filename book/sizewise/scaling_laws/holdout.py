"""How far a fit may be trusted: profile intervals, and runs that it was fitted without."""

import math
from dataclasses import dataclass

import numpy as np

from . import solver
from .fitting import Fit, best_starts
from .forms import NAMES, Hoffmann
from .runs import Runs

STARTS = 8  # for each fit without the hidden runs
FEWEST_LEFT = 6  # one more than the law has coefficients
OPEN = 40.0  # a coordinate that may go so far from the optimum has no end on that side
PLACES = {"A": 0, "B": 1, "E": 2, "alpha": 3, "beta": 4}  # in the solver's coordinates
CHI_SQUARE = 3.841458820694124  # 95 % point with one degree of freedom


def profile(fitted: Fit) -> dict[str, tuple[float, float]]:
    """95 % intervals: where fixing one coefficient raises the least objective too far.

    Too far is half the 95 % point of chi square, times the ratio E[psi^2] / E[psi'] that makes a
    difference of Huber losses behave like one of likelihoods (Huber and Ronchetti 2009, section
    13.6). A side that never gets there is open: it ends at 0 or at infinity. Rows count as
    independent, so with several points of one run the intervals are too narrow.
    """
    allowed = fitted.objective + 0.5 * CHI_SQUARE * _spread(fitted.residuals)
    runs = fitted.runs
    table = solver.Table.from_runs(runs.params, runs.tokens, runs.loss)
    best = fitted.law.theta
    coordinate = np.repeat(np.arange(5), 2)  # ten problems: each one, downwards and upwards
    side = np.tile([-1.0, 1.0], 5)
    ones, fixed = np.ones((10, len(runs))), np.arange(5) == coordinate[:, None]
    near, far = np.zeros(10), np.full(10, np.inf)  # the last place allowed, the first beyond
    reach, warm, rows = np.full(10, 1e-3), np.tile(best, (10, 1)), np.arange(10)
    for _ in range(80):
        trial = warm.copy()
        trial[rows, coordinate] = best[coordinate] + side * reach
        solution = solver.solve(trial, ones, table, fixed=fixed)
        out = solution.objective > allowed
        far[out], near[~out] = reach[out], reach[~out]
        warm[~out] = solution.theta[~out]
        reach = np.where(np.isinf(far), 2 * near, (near + np.where(np.isinf(far), 0, far)) / 2)
        if np.all((far - near < 1e-6 * far) | (near > OPEN)):
            break
    ends = best[coordinate] + side * np.where(near > OPEN, math.inf, near)
    ends[coordinate < 3] = np.exp(ends[coordinate < 3])
    pairs = ends.reshape(5, 2).tolist()
    return {name: tuple(pairs[PLACES[name]]) for name in NAMES}


def _spread(residuals: np.ndarray) -> float:
    """E[psi^2] / E[psi'] of the Huber loss. The density of the residuals near 0 is smoothed."""
    from scipy.stats import norm

    count, delta = len(residuals), solver.DELTA
    lower, upper = np.percentile(residuals, [25, 75])
    width = 1.06 * max((upper - lower) / 1.349, 1e-12) * count**-0.2
    inside = norm.cdf((delta - residuals) / width) - norm.cdf((-delta - residuals) / width)
    squares = np.mean(np.clip(residuals, -delta, delta) ** 2) * count / (count - len(NAMES))
    return float(squares / inside.mean())


@dataclass(frozen=True)
class HeldOut:
    """Runs predicted by a law fitted without them: ``errors`` are observed / predicted - 1."""

    errors: np.ndarray
    laws: Hoffmann  # one a set of hidden runs

    @property
    def median(self) -> float:
        """Median absolute relative error."""
        return float(np.median(np.abs(self.errors)))

    @property
    def bias(self) -> float:
        """Median relative error: above 0, runs did worse than was predicted."""
        return float(np.median(self.errors))


def held_out(runs: Runs, hidden) -> HeldOut:
    """Predict ``hidden`` runs from the others; each row of the mask [sets, runs] is one fit.

    `folds` and `largest` make masks. Raises ValueError if a set leaves fewer than six runs.
    """
    hidden = np.atleast_2d(np.asarray(hidden, bool))
    if (fewest := int((~hidden).sum(1).min())) < FEWEST_LEFT:
        raise ValueError(f"{fewest} runs are left to fit five coefficients")
    weights = (~hidden).astype(float)
    first = best_starts(runs, weights, STARTS)
    solution = solver.solve(
        first.reshape(-1, 5),
        weights,
        solver.Table.from_runs(runs.params, runs.tokens, runs.loss),
        which=np.repeat(np.arange(len(weights)), STARTS),
    )
    best = solution.objective.reshape(first.shape[:2]).argmin(1)
    theta = solution.theta.reshape(first.shape)[np.arange(len(hidden)), best]
    errors = [
        runs.loss[mask] / Hoffmann.from_theta(t).loss(runs.params[mask], runs.tokens[mask]) - 1
        for mask, t in zip(hidden, theta, strict=True)
    ]
    return HeldOut(np.concatenate(errors), Hoffmann.from_theta(theta))


def folds(runs: Runs, count: int = 10, seed: int = 0) -> np.ndarray:
    """Masks [count, runs] that hide every cluster of runs once; fewer where there are fewer."""
    clusters = runs.clusters.max() + 1
    order = np.random.default_rng(seed).permutation(clusters) % min(count, clusters)
    return order[runs.clusters] == np.arange(min(count, clusters))[:, None]


def largest(runs: Runs, share: float = 0.2) -> np.ndarray:
    """A mask [1, runs] that hides the ``share`` of the runs with the most FLOPs."""
    count = max(1, round(share * len(runs)))
    mask = np.zeros((1, len(runs)), bool)
    mask[0, np.argsort(runs.flops, kind="stable")[-count:]] = True
    return mask


def largest_size(runs: Runs) -> np.ndarray:
    """A mask [1, runs] that hides all runs of the largest size."""
    return (runs.params == runs.params.max())[None]
