"""Fit Hoffmann's law to runs, and say how far the fit may be trusted."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import numpy as np

from sizewise.validation import positive, whole

from . import inference, solver
from .forms import NAMES, Hoffmann
from .runs import Runs

EXPONENTS = np.geomspace(0.05, 1.2, 6)  # where starts are tried; published ones are 0.2 to 0.5
CREDIBLE = (0.01, 1.5)  # exponents outside are no scaling law: the table did not determine them
NO_FLOOR = 0.01  # of the lowest loss
SEARCHED = (1e2, 1e16)  # sizes among which the best is sought where FLOPs were counted
LARGEST_BOOTSTRAP = 2**27  # weights: one gigabyte


@dataclass(frozen=True)
class Allocation:
    """The best parameters and tokens for a budget, with 95 % intervals where there are samples."""

    budget: float
    params: float
    tokens: float
    ci: dict[str, tuple[float, float]]
    reach: dict[str, float]  # over the largest run: see Runs.reach


@dataclass(frozen=True)
class Fit:
    """A fitted law, its objective (sum of Huber losses) and the law of every resample."""

    runs: Runs
    law: Hoffmann
    objective: float
    starts: int
    agreeing: int  # starts that ended within 1e-9 of the objective
    samples: np.ndarray = field(repr=False)  # [samples, 5]: log A, log B, log E, alpha, beta
    converged: float = 1.0  # share of starts and resamples

    @property
    def residuals(self) -> np.ndarray:
        """log of the observed over the fitted loss, one a run."""
        return np.log(self.runs.loss / self.law.loss(self.runs.params, self.runs.tokens))

    @property
    def resampled(self) -> Hoffmann:
        """The laws of all resamples: coefficients of shape [samples]."""
        return Hoffmann.from_theta(self.samples)

    def interval(self, quantity: Callable[[Hoffmann], np.ndarray]) -> tuple[float, float]:
        """95 % interval of a quantity of the law: percentiles over the resamples.

        Resamples for which the quantity is not finite (an exponent of no sign, say) are left out.
        """
        if not len(self.samples):
            raise ValueError("an interval needs bootstrap samples")
        with np.errstate(all="ignore"):
            return percentiles(quantity(self.resampled))

    def ci(self) -> dict[str, tuple[float, float]]:
        """95 % intervals of the five coefficients, from the bootstrap."""
        return {name: self.interval(attrgetter(name)) for name in NAMES}

    @property
    def determined(self) -> bool:
        """Whether both exponents are such as a scaling law has."""
        low, high = CREDIBLE
        return low <= self.law.alpha <= high and low <= self.law.beta <= high

    def warnings(self) -> list[str]:
        """Coefficients that no scaling law has: then the table did not determine the law."""
        low, high = CREDIBLE
        lines = [
            f"{name} is {getattr(self.law, name):.3g}, which no scaling law has "
            f"({low:g} to {high:g}): these runs don't determine it"
            for name in ("alpha", "beta")
            if not low <= getattr(self.law, name) <= high
        ]
        if NO_FLOOR * self.runs.loss.min() > self.law.E:
            lines.append(
                f"E is {self.law.E:.2g}: these runs show no floor, or do not reach near it"
            )
        return lines

    def allocate(self, budget: float) -> Allocation:
        """The best size and tokens for a budget of training FLOPs.

        A token costs what it cost in the runs (`Runs.token_flops`).
        Raises ValueError unless the budget is above 0 and the law has a best size.
        """
        budget = positive("budget", budget)
        return self._allocation(budget, lambda law: self._optimum(law, budget))

    def serve(self, budget: float, served: float, weight: float = 1.0) -> Allocation:
        """The cheapest size and tokens over a model's life, for the quality that a budget buys.

        The quality is that of the best model for ``budget`` training FLOPs; ``served`` tokens
        are processed later, each of 2 N FLOPs that cost ``weight`` times as much as one in
        training: see `inference.cheapest`.
        """
        positive("budget", budget), positive("served tokens", served)
        return self._allocation(budget, lambda law: inference.cheapest(law, budget, served, weight))

    def _allocation(self, budget, best) -> Allocation:
        with np.errstate(all="ignore"):
            params, tokens = (float(np.squeeze(v)) for v in best(self.law))
        if not (self.determined and math.isfinite(params) and math.isfinite(tokens)):
            raise ValueError("these runs determine no best size: see the exponents")
        ci = {}
        if len(self.samples):
            with np.errstate(all="ignore"):
                ends = map(percentiles, best(self.resampled))
            ci = dict(zip(("params", "tokens"), ends, strict=True))
        return Allocation(budget, params, tokens, ci, self.runs.reach(params, tokens))

    def _optimum(self, law: Hoffmann, budget: float):
        """Best size and tokens of one law, or of all resamples at once."""
        if self.runs.spent is None:
            return law.optimum(budget)
        columns: list[Any] = [np.atleast_1d(getattr(law, name))[:, None] for name in NAMES]
        laws, rows = Hoffmann(*columns), np.arange(len(columns[0]))
        sizes = np.geomspace(*SEARCHED, 1001)[None]
        for step in (sizes[0, 1] / sizes[0, 0], 1.0):  # once coarsely, then about the best
            tokens = budget / self.runs.token_flops(sizes)
            index = laws.loss(sizes, tokens).argmin(1)
            best = np.broadcast_to(sizes, (len(rows), sizes.shape[1]))[rows, index]
            sizes = best[:, None] * np.geomspace(1 / step, step, 401)
        return best, budget / self.runs.token_flops(best)

    def outcomes(self, params, tokens, *, seed: int = 0) -> np.ndarray:
        """Losses that new runs could end with: [samples, runs].

        A new run scatters about the curve as the fitted runs do: each resample's curve is given
        the residual of a run drawn at random.
        """
        rng = np.random.default_rng(seed)
        spread = math.sqrt(len(self.runs) / (len(self.runs) - len(NAMES)))
        scatter = rng.choice(self.residuals, len(self.samples)) * spread
        curves = Hoffmann.from_theta(self.samples[:, None])
        return curves.loss(params, tokens) * np.exp(scatter)[:, None]

    def predict(self, params: float, tokens: float, *, seed: int = 0) -> dict[str, float]:
        """The loss at a point: ``loss``, and 95 % intervals of the curve and of one new run."""
        low, high = self.interval(lambda law: law.loss(params, tokens))
        run_low, run_high = percentiles(self.outcomes(params, tokens, seed=seed))
        loss = float(self.law.loss(params, tokens))
        return {"loss": loss, "low": low, "high": high, "run_low": run_low, "run_high": run_high}


def fit(
    runs: Runs,
    *,
    bootstrap: int = 0,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Fit:
    """Fit L(N, D) = E + A / N^alpha + B / D^beta to runs.

    The sum of Huber losses (delta 1e-3) of the log loss is minimized, as in Hoffmann et al. 2022,
    section 3.3, from a grid of starts; ``bootstrap`` reweightings of the runs' clusters are
    fitted too, each from its best start: on the points of their figure 4 the second-best ends
    elsewhere in less than one case in a hundred. ``progress`` is for `solver.solve`.
    Raises ValueError where the fit does not converge, and for more resamples than memory holds.
    """
    bootstrap = whole("bootstrap", bootstrap, most=10**6, least=0)
    if bootstrap * len(runs) > LARGEST_BOOTSTRAP:
        raise ValueError(
            f"{bootstrap} resamples of {len(runs)} runs do not fit in memory; "
            f"take {LARGEST_BOOTSTRAP // len(runs)} at most"
        )
    weights = np.concatenate([np.ones((1, len(runs))), resamples(runs, bootstrap, seed)])
    every = starts(runs, weights[:1])[0][0]  # of the table itself; a resample from its best one
    grid = len(every)
    solution = solver.solve(
        np.concatenate([every, best_starts(runs, weights[1:], 1)[:, 0]]),
        weights,
        solver.Table.from_runs(runs.params, runs.tokens, runs.loss),
        which=np.concatenate([np.zeros(grid, int), np.arange(1, bootstrap + 1)]),
        progress=progress,
    )
    reached = solution.objective[:grid]
    best = int(reached.argmin())
    if not solution.converged[best]:
        raise ValueError("the fit did not converge: do the runs vary in both size and tokens?")
    return Fit(
        runs=runs,
        law=Hoffmann.from_theta(solution.theta[best]),
        objective=float(reached[best]),
        starts=grid,
        agreeing=int((reached <= reached[best] + 1e-9).sum()),
        samples=solution.theta[grid:],
        converged=float(solution.converged.mean()),
    )


def resamples(runs: Runs, count: int, seed: int) -> np.ndarray:
    """Bootstrap weights [count, runs]: a flat Dirichlet draw over the runs' clusters.

    The Bayesian bootstrap (Rubin 1981). Drawing runs with replacement gives the same intervals on
    hundreds of runs; on thirty it loses whole corners of a table, and its intervals cover a known
    truth in all of 100 trials, where these cover it in 90 to 99.
    """
    rng = np.random.default_rng(seed)
    clusters = runs.clusters.max() + 1
    return clusters * rng.dirichlet(np.ones(clusters), count)[:, runs.clusters]


def starts(runs: Runs, weights) -> tuple[np.ndarray, np.ndarray]:
    """Starts [problems, grid, 5] and their squared errors [problems, grid].

    With both exponents given, L is linear in E, A and B: for each pair on a grid these come from
    weighted least squares of the relative errors. Where one is negative it is set small, and the
    start counts as a bad one.
    """
    x, y = np.log(runs.params), np.log(runs.tokens)
    middle_x, middle_y = x.mean(), y.mean()
    alpha, beta = (v.reshape(-1, 1) for v in np.meshgrid(EXPONENTS, EXPONENTS, indexing="ij"))
    size, data = np.exp(-alpha * (x - middle_x)), np.exp(-beta * (y - middle_y))
    terms = np.stack([size, data, np.ones_like(size)], axis=1) / runs.loss  # [grid, 3, runs]
    squares = terms[:, :, None] * terms[:, None]  # [grid, 3, 3, runs]
    shape = len(weights), len(terms)
    right = (weights @ terms.reshape(-1, len(x)).T).reshape(*shape, 3)
    matrix = (weights @ squares.reshape(-1, len(x)).T).reshape(*shape, 3, 3)
    matrix += 1e-10 * len(x) * np.eye(3)
    linear = np.linalg.solve(matrix, right[..., None])[..., 0]  # [problems, grid, 3]
    errors = weights.sum(1)[:, None] - (linear * right).sum(-1)
    errors += len(x) * (linear <= 0).any(-1)
    logs = np.log(np.maximum(linear, 1e-3))
    exponents = np.hstack([alpha, beta])  # [grid, 2]
    logs[..., :2] += exponents * (middle_x, middle_y)
    return np.concatenate([logs, np.broadcast_to(exponents, (*shape, 2))], axis=2), errors


def best_starts(runs: Runs, weights, count: int) -> np.ndarray:
    """For each problem the ``count`` starts of least squared error: [problems, count, 5]."""
    best = np.empty((len(weights), count, 5))
    for at in range(0, len(weights), 512):  # the whole grid for all of them would fill memory
        theta, errors = starts(runs, weights[at : at + 512])
        order = np.argsort(errors, axis=1, kind="stable")[:, :count]
        best[at : at + 512] = np.take_along_axis(theta, order[..., None], axis=1)
    return best


def percentiles(values) -> tuple[float, float]:
    """The middle 95 % of the finite values."""
    values = np.asarray(values)
    low, high = np.percentile(values[np.isfinite(values)], [2.5, 97.5])
    return float(low), float(high)
