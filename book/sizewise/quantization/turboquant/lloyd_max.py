"""The best scalar codebook for a coordinate of a random direction.

A coordinate t of a uniformly random unit vector in R^d has the density
k (1 - t^2)^((d - 3) / 2) on [-1, 1]; t sqrt(d) tends to N(0, 1). A Lloyd-Max codebook for it meets
two conditions: every boundary is midway between its centroids, and every centroid is the mean of
its cell (Lloyd 1982, Max 1960). From d = 3 the density is log-concave, and then one codebook
meets both (Fleischer 1964). Masses and means of cells have closed forms here, so the conditions
are solved by Newton's method and hold to rounding.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from sizewise.validation import whole

MOST_BITS = 8
STEPS = 100
LARGEST = 2**15  # beyond it rounding exceeds the tolerance; the limit is then as good
TOLERANCE = 1e-10  # of a centroid, in units of the standard deviation of a coordinate


@dataclass(frozen=True, eq=False)
class Codebook:
    """``2**bits`` centroids, the boundaries between them, and the error they leave.

    ``dim`` is d, and centroids are those of coordinates of unit vectors; for None they are those
    of N(0, 1). ``distortion`` is E |u - c(u)|^2 over unit vectors u, exact: d times the error of
    a coordinate. For N(0, 1) it is the error of a coordinate, which is the limit.
    """

    bits: int
    dim: int | None
    centroids: np.ndarray  # (2**bits,), rising, symmetric around 0
    boundaries: np.ndarray  # (2**bits - 1,), the middle one is 0
    distortion: float


@dataclass(frozen=True)
class _Density:
    """A symmetric density: its values, upper tail, and the integral of t f(t) above a point."""

    edge: float
    pdf: Callable[[np.ndarray], np.ndarray]
    tail: Callable[[np.ndarray], np.ndarray]
    first: Callable[[np.ndarray], np.ndarray]
    start: Callable[[np.ndarray], np.ndarray]  # quantiles of the density f^(1/3)
    scale: float  # standard deviation


@cache
def lloyd_max(bits: int, dim: int | None = None) -> Codebook:
    """The Lloyd-Max codebook for coordinates of unit vectors in R^dim, or for N(0, 1).

    Raises ValueError unless bits is from 1 to 8 and dim from 2 to 32,768 (or None), and where
    Newton's method does not converge.
    """
    bits = whole("the bits", bits, MOST_BITS)
    density = _normal() if dim is None else _sphere(whole("the dimension", dim, LARGEST, 2))
    upper = _solve(density, 2 ** (bits - 1))  # the density is symmetric: half is enough
    centroids = np.concatenate([-upper[::-1], upper])
    boundaries = (centroids[1:] + centroids[:-1]) / 2
    boundaries[len(upper) - 1] = 0.0
    mass, moment, _ = _cells(density, upper)
    # 1/2 of d E t^2 lies above 0; centroids that are means leave the second moment less theirs
    error = 1 + 2 * float(np.sum(mass * upper**2 - 2 * moment * upper)) / density.scale**2
    for part in (centroids, boundaries):
        part.setflags(write=False)
    return Codebook(bits, dim, centroids, boundaries, error)


def conditions(codebook: Codebook) -> tuple[float, float]:
    """How far both Lloyd conditions are from being met, in standard deviations of a coordinate.

    The largest distance of a boundary from the middle of its centroids, and of a centroid from
    the mean of its cell.
    """
    density = _normal() if codebook.dim is None else _sphere(codebook.dim)
    c, b = codebook.centroids, codebook.boundaries
    middle = np.abs(b - (c[1:] + c[:-1]) / 2).max()
    edges = np.concatenate([b[len(b) // 2 :], [density.edge]])
    mass = -np.diff(density.tail(edges))
    mean = -np.diff(density.first(edges)) / mass
    return float(middle / density.scale), float(
        np.abs(mean - c[len(c) // 2 :]).max() / density.scale
    )


def _solve(density: _Density, n: int) -> np.ndarray:
    """The n centroids above 0: Newton's method on centroid - mean of its cell = 0."""
    from scipy.linalg import solve_banded

    c = density.start(0.5 + (np.arange(n) + 0.5) / (2 * n))
    for _ in range(STEPS):
        mass, moment, edges = _cells(density, c)
        mean = moment / mass
        gap = c - mean
        if np.abs(gap).max() < TOLERANCE * density.scale:
            return mean
        inner = edges[1:-1]  # a centroid moves a boundary by half of what it moves
        f = density.pdf(inner) / 2
        below = np.concatenate([[0.0], f * (mean[1:] - inner) / mass[1:]])
        above = np.concatenate([f * (inner - mean[:-1]) / mass[:-1], [0.0]])
        bands = np.zeros((3, n))
        bands[0, 1:] = -above[:-1]
        bands[1] = 1 - above - below
        bands[2, :-1] = -below[1:]
        step = solve_banded((1, 1), bands, gap)
        new = c - step
        ordered = new[0] > 0 and np.all(np.diff(new) > 0) and new[-1] < density.edge
        c = new if ordered else mean  # one step of Lloyd's own iteration always keeps the order
    raise ValueError(f"no codebook of {2 * n} centroids after {STEPS} steps")


def _cells(density: _Density, upper: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mass and first moment of the cells above 0, and their edges."""
    edges = np.concatenate([[0.0], (upper[1:] + upper[:-1]) / 2, [density.edge]])
    return -np.diff(density.tail(edges)), -np.diff(density.first(edges)), edges


def _normal() -> _Density:
    from scipy.special import ndtr, ndtri

    def pdf(t):
        return np.exp(-t * t / 2) / np.sqrt(2 * np.pi)

    return _Density(np.inf, pdf, lambda t: ndtr(-t), pdf, lambda q: np.sqrt(3) * ndtri(q), 1.0)


def _sphere(d: int) -> _Density:
    from scipy.special import betaincc, betaincinv, betaln

    k = np.exp(-betaln(0.5, (d - 1) / 2))

    def pdf(t):
        return k * np.exp((d - 3) / 2 * np.log1p(-t * t))

    def tail(t):
        return betaincc(0.5, (d - 1) / 2, t * t) / 2  # t >= 0

    def first(t):
        with np.errstate(divide="ignore"):  # nothing lies above the edge
            return k / (d - 1) * np.exp((d - 1) / 2 * np.log1p(-t * t))

    def start(q):
        return 2 * betaincinv((d + 3) / 6, (d + 3) / 6, q) - 1

    return _Density(1.0, pdf, tail, first, start, d**-0.5)
