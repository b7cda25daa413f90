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
RENEW = 4  # steps after which the damping's Hessian is made anew: it only has to point downhill
LARGEST_STEP = 20.0  # in logarithms and exponents: a longer step only overflows


@dataclass(frozen=True)
class Table:
    """Logarithms of the runs. Those of the law's three terms are linear in theta."""

    size: np.ndarray  # [runs]: -log N
    data: np.ndarray  # [runs]: -log D
    loss: np.ndarray  # [runs]
    squares: np.ndarray  # [3 runs, 25]: g g' of each term, g the derivatives of its logarithm

    @classmethod
    def from_runs(cls, params, tokens, loss) -> "Table":
        x, y, z = (np.log(np.asarray(v, dtype=float)) for v in (params, tokens, loss))
        g = np.zeros((3, len(z), 5))
        g[0, :, 0] = g[1, :, 1] = g[2, :, 2] = 1
        g[0, :, 3], g[1, :, 4] = -x, -y
        return cls(-x, -y, z, (g[..., None] * g[..., None, :]).reshape(-1, 25))


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
        free_here = None if free is None else free[i]
        step = _step(gradient[i], newton[i], safe[i], damping[i], free_here)
        gain = -np.einsum("ij,ij->i", gradient[i], step)
        there = theta[i] + step
        with np.errstate(over="ignore", invalid="ignore"):
            new = _derivatives(there, weights[which[i]], table, renew)
        better = (gain > 0) & (new[0] < value[i])
        small = np.abs(gain) < 1e-12 * value[i] + floor[i]
        # A small gain that damping alone made small says nothing.
        done[i] = (small & (damping[i] < 100)) | (damping[i] > 1e12)
        damping[i] = np.maximum(damping[i] * np.where(better, 0.2, 10.0), 1e-8)
        taken = i[better]
        theta[taken] = there[better]
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


def _derivatives(theta, weights, table: Table, safe: bool = True):
    """Objective, gradient, Hessian, and the Hessian of reweighted least squares if wanted."""
    terms = np.empty((3, len(theta), len(table.loss)))
    terms[0] = np.exp(theta[:, :1] + theta[:, 3:4] * table.size)
    terms[1] = np.exp(theta[:, 1:2] + theta[:, 4:] * table.data)
    terms[2] = np.exp(theta[:, 2:3])
    total = terms.sum(0)
    residual = np.log(total) - table.loss
    away = np.abs(residual)
    near = np.minimum(away, DELTA)
    value = np.einsum("ij,ij->i", weights, near * (away - 0.5 * near))
    shares = terms / total
    jacobian = np.stack([*shares, shares[0] * table.size, shares[1] * table.data], axis=1)
    transposed = jacobian.swapaxes(1, 2)  # [problems, runs, 5]
    pull = weights * np.clip(residual, -DELTA, DELTA)  # derivative of the Huber loss
    gradient = (jacobian @ pull[..., None])[..., 0]
    # The second derivative of log L is the sum of shares g g', less that of the first with itself.
    square = weights * (away < DELTA) - pull
    bent = (pull[:, None] * shares.swapaxes(0, 1)).reshape(len(theta), -1) @ table.squares
    newton = (jacobian * square[:, None]) @ transposed + bent.reshape(-1, 5, 5)
    if not safe:
        return value, gradient, newton
    eased = weights * (DELTA / np.maximum(away, DELTA))  # weights of reweighted least squares
    return value, gradient, newton, (jacobian * eased[:, None]) @ transposed
