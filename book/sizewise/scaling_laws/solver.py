"""Many fits of one law to one table, solved together.

A problem is a start and a weight for each run: ones for the table itself, the counts of a
resample for a bootstrap, zeros for runs that are held out. All problems share the table, so the
sums in gradients and Hessians are a few matrix products for all of them at once.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

DELTA = 1e-3  # where the Huber loss turns from square to absolute: Hoffmann et al. 2022, eq. 3
BLOCK = 1 << 15  # weights worked on at a time: few calls, and arrays that stay in the cache
LOWER = np.tril_indices(5, -1)
RENEW = 4  # steps after which the damping's Hessian is made anew: it only has to point downhill
LARGEST_STEP = 20.0  # in logarithms and exponents: a longer step only overflows


@dataclass(frozen=True)
class Table:
    """Logarithms of sizes, tokens and losses (each of shape [runs]) and their products."""

    size: np.ndarray  # [runs, 2]: 1 and -log N, the derivatives of log A - alpha log N
    data: np.ndarray  # [runs, 2]: 1 and -log D
    size_size: np.ndarray  # [runs, 3]
    data_data: np.ndarray  # [runs, 3]
    size_data: np.ndarray  # [runs, 4]
    loss: np.ndarray  # [runs]

    @classmethod
    def from_runs(cls, params, tokens, loss) -> "Table":
        x, y, z = (np.log(np.asarray(v, dtype=float)) for v in (params, tokens, loss))
        ones = np.ones_like(x)
        size, data, both = (ones, -x), (ones, -y), (ones, -y, -x, x * y)
        squares = (ones, -x, x * x), (ones, -y, y * y)
        parts = [np.stack(c, axis=1) for c in (size, data, *squares, both)]
        return cls(parts[0], parts[1], parts[2], parts[3], parts[4], z)


@dataclass
class Solution:
    """Where each problem ended. ``theta`` holds log A, log B, log E, alpha, beta."""

    theta: np.ndarray  # [problems, 5]
    objective: np.ndarray  # [problems]: the sum of Huber losses
    converged: np.ndarray  # [problems], bool
    steps: int


def solve(
    starts,
    weights,
    table: Table,
    *,
    which=None,
    fixed=None,
    most: int = 400,
    progress: Callable[[int, int], None] | None = None,
) -> Solution:
    """Minimize every problem's objective from its start.

    ``starts`` [problems, 5]; ``weights`` [problems, runs], or fewer rows of which ``which``
    [problems] gives each problem one; where ``fixed`` [problems, 5] is true a coordinate stays
    at its start. Newton's method on the exact second derivatives (the Huber
    loss has them almost everywhere), damped by those of iteratively reweighted least squares,
    which always point downhill: a step is taken only if it lowers the objective. A problem has
    converged when the next step would lower it by less than a part in 10^12; ``most`` 0 tells the
    objective at the starts. ``progress`` is called with the number of problems done and of all.
    """
    theta, weights = np.array(starts, dtype=float), np.asarray(weights, dtype=float)
    count = len(theta)
    which = np.arange(count) if which is None else np.asarray(which)
    free = None if fixed is None else ~np.asarray(fixed, bool)
    value, gradient = np.empty(count), np.empty((count, 5))
    newton, safe = np.empty((count, 5, 5)), np.empty((count, 5, 5))
    damping, done, steps = np.ones(count), np.zeros(count, bool), 0
    for block in _blocks(count, table):
        value[block], gradient[block], newton[block], safe[block] = _derivatives(
            theta[block], weights[which[block]], table
        )
    floor = 1e-22 * weights.sum(1)[which]

    def advance(i, renew: bool) -> None:
        """One step of the problems ``i``."""
        free_rows = None if free is None else free[i]
        step = _step(gradient[i], newton[i], safe[i], damping[i], free_rows)
        gain = -np.einsum("ij,ij->i", gradient[i], step)
        trial = theta[i] + step
        with np.errstate(over="ignore", invalid="ignore"):
            new = _derivatives(trial, weights[which[i]], table, renew)
        better = (gain > 0) & (new[0] < value[i])
        small = np.abs(gain) < 1e-12 * value[i] + floor[i]
        # A small gain that damping alone made small says nothing.
        done[i] = (small & (damping[i] < 100)) | (damping[i] > 1e12)
        damping[i] = np.maximum(damping[i] * np.where(better, 0.2, 10.0), 1e-8)
        taken = i[better]
        theta[taken] = trial[better]
        for current, fresh in zip((value, gradient, newton, safe), new, strict=False):
            current[taken] = fresh[better]

    while steps < most and not done.all():
        steps += 1
        active = np.flatnonzero(~done)
        for block in _blocks(len(active), table):
            advance(active[block], renew=steps % RENEW == 0)
        if progress:
            progress(int(done.sum()), count)
    return Solution(theta, value, done, steps)


def _blocks(count: int, table: Table) -> list[slice]:
    rows = max(1, BLOCK // len(table.loss))
    return [slice(at, min(at + rows, count)) for at in range(0, count, rows)]


def _step(gradient, newton, safe, damping, free):
    """The damped Newton step, zero in coordinates that are not free."""
    matrix = newton + damping[:, None, None] * safe
    diagonal = np.einsum("kii->ki", matrix)  # a view
    size = np.einsum("kii->ki", safe)
    diagonal += 1e-9 * damping[:, None] * (size + size.sum(1, keepdims=True)) + 1e-300
    if free is not None:
        matrix *= free[:, :, None] & free[:, None, :]
        diagonal += ~free
        gradient = np.where(free, gradient, 0.0)
    try:
        step = np.linalg.solve(matrix, -gradient[..., None])[..., 0]
    except np.linalg.LinAlgError:  # one of them is exactly singular
        step = (np.linalg.pinv(matrix) @ -gradient[..., None])[..., 0]
    step[~np.isfinite(step).all(1)] = 0.0  # gains nothing: the damping will rise
    return np.clip(step, -LARGEST_STEP, LARGEST_STEP)


def _terms(theta, weights, table: Table):
    """Objective [problems], and by run: the three terms and the residual [problems, runs]."""
    size = np.exp(theta[:, [0, 3]] @ table.size.T)
    data = np.exp(theta[:, [1, 4]] @ table.data.T)
    floor_term = np.exp(theta[:, 2:3])
    total = size + data
    total += floor_term
    residual = np.log(total)
    residual -= table.loss
    away = np.abs(residual)
    near = np.minimum(away, DELTA)
    huber = near * (away - 0.5 * near)
    return np.einsum("ij,ij->i", weights, huber), size, data, floor_term, total, residual, away


def _derivatives(theta, weights, table: Table, safe: bool = True):
    """Objective, gradient, Hessian, and, if ``safe``, the Hessian of reweighted least squares."""
    value, size, data, floor_term, total, residual, away = _terms(theta, weights, table)
    size /= total  # from here on shares of the loss, which sum to 1
    data /= total
    pull = weights * np.clip(residual, -DELTA, DELTA)  # derivative of the Huber loss
    square = weights * (away < DELTA)  # its second derivative
    pull_size, pull_data = pull * size, pull * data
    gradient = np.empty((len(theta), 5))
    gradient[:, [0, 3]] = pull_size @ table.size
    gradient[:, [1, 4]] = pull_data @ table.data
    gradient[:, 2] = np.einsum("ij,ij->i", pull, floor_term / total)
    newton = _products(square, square - pull, (pull_size, pull_data), size, data, table)
    if not safe:
        return value, gradient, newton
    eased = weights * (DELTA / np.maximum(away, DELTA))  # weights of reweighted least squares
    return value, gradient, newton, _products(eased, eased, None, size, data, table)


def _products(square, both, pulls, size, data, table: Table):
    """Sums over runs of square * J J' + pull * J'', J the derivatives of log L: [problems, 5, 5].

    J'' is diag(shares) - shares shares', so ``both`` is square - pull and ``pulls`` are pull by
    share. Scaling A, B and E alike leaves the shares as they are: that gives the entries of E.
    """
    by_size, by_data = both * size, both * data
    size_data = (by_size * data) @ table.size_data
    by_size *= size
    by_data *= data
    if pulls is not None:
        by_size += pulls[0]
        by_data += pulls[1]
    size_size, data_data = by_size @ table.size_size, by_data @ table.data_data
    size_all, data_all = (square * size) @ table.size, (square * data) @ table.data
    out = np.empty((len(size), 5, 5))
    out[:, 0, 0], out[:, 0, 3], out[:, 3, 3] = size_size.T
    out[:, 1, 1], out[:, 1, 4], out[:, 4, 4] = data_data.T
    out[:, 0, 1], out[:, 0, 4], out[:, 1, 3], out[:, 3, 4] = size_data.T
    out[:, 0, 2] = size_all[:, 0] - size_size[:, 0] - size_data[:, 0]
    out[:, 1, 2] = data_all[:, 0] - data_data[:, 0] - size_data[:, 0]
    out[:, 2, 3] = size_all[:, 1] - size_size[:, 1] - size_data[:, 2]
    out[:, 2, 4] = data_all[:, 1] - data_data[:, 1] - size_data[:, 1]
    rest_all = square.sum(1) - size_all[:, 0] - data_all[:, 0]
    out[:, 2, 2] = rest_all - out[:, 0, 2] - out[:, 1, 2]
    out[:, LOWER[0], LOWER[1]] = out[:, LOWER[1], LOWER[0]]
    return out
