"""Does a score level off at some size? Curves that do and curves that don't, compared.

Every curve has an offset for each family, so that only growth inside families counts. With x the
log2 of the size, c the chance level, s the logistic function and x0 the size of the break:

``smooth``    c + (1 - c) s(a_family + b x): gains shrink near the ceiling, and only there
``capped``    the same with a ceiling that is fitted: c + (t - c) s(a_family + b x)
``plateau``   ``smooth`` of min(x, x0): the same curve, flat from the break on
``bent``      ``smooth`` with another slope beyond the break: 0 there is a plateau
``line``      a_family + b x
``hinge``     a_family + b min(x, x0)

The break is what is claimed, or free: then the size that fits best, at the price of a parameter.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

from sizewise import units

FEWEST = 4  # families, which are what an interval draws; three tell little of the next one
CURVES = ("smooth", "capped", "plateau", "bent", "line", "hinge")
BREAKING = ("plateau", "bent", "hinge")
STRAIGHT = ("line", "hinge")
STEPS = 24  # sizes tried for a free break
TIE = 1e-3  # a family at the chance level has no offset of its own; this keeps it finite


@dataclass(frozen=True)
class Points:
    """Scores of models: x (log2 of parameters), y in [0, 1], and the family of each, [models]."""

    x: np.ndarray
    y: np.ndarray
    family: np.ndarray  # codes from 0
    chance: float

    @classmethod
    def from_table(cls, table, benchmark) -> "Points":
        """The rows of ``table`` that have a score and whose family has two sizes or more.

        Raises ValueError if fewer than four families remain.
        """
        rows = table.dropna(subset=[benchmark.name])
        several = rows.groupby("family")["params"].transform("nunique") > 1
        rows = rows[several].sort_values(["family", "params"])
        codes, names = rows["family"].factorize()
        if len(names) < FEWEST:
            raise ValueError(f"{benchmark.name}: {len(names)} families cannot tell a plateau")
        scores = rows[benchmark.name].to_numpy(float)
        return cls(np.log2(rows["params"].to_numpy(float)), scores, codes, benchmark.chance)

    def take(self, families) -> "Points":
        """The models of these families, each as a family of its own, even if named twice."""
        at = [np.flatnonzero(self.family == k) for k in families]
        codes = np.repeat(np.arange(len(at)), [len(rows) for rows in at])
        rows = np.concatenate(at)
        return Points(self.x[rows], self.y[rows], codes, self.chance)


@dataclass(frozen=True)
class Curve:
    """A fitted curve. ``slopes`` are a doubling, before and (``bent``) after the break ``at``."""

    name: str
    slopes: np.ndarray
    at: float  # log2 of parameters; inf without a break
    offsets: np.ndarray  # [families]
    chance: float
    ceiling: float
    rss: float
    shape: int  # parameters besides the offsets


def fit(points: Points, name: str, at: float | None = None) -> Curve:
    """Least squares of the scores. ``at`` is the break in parameters; None seeks the best.

    Raises ValueError for an unknown curve.
    """
    if name not in CURVES:
        raise units.unknown("curve", name, CURVES)
    if name not in BREAKING:
        return _fit(points, name, np.inf)
    if at is not None:
        return _fit(points, name, np.log2(at))
    first, last = np.sort(points.x)[[len(points.x) // 4, -4]]  # three models at least lie beyond
    tried = [_fit(points, name, position, 1) for position in np.linspace(first, last, STEPS)]
    return min(tried, key=lambda curve: curve.rss)


def kept_slope(points: Points, size: float, samples: int = 400, seed: int = 0) -> dict:
    """Slope beyond a size over the slope before it: 1 is no break, 0 a plateau, below 0 a fall.

    In logits of the score, by ``bent``, with a 95 % interval over families; resamples without a
    model on either side are drawn again by leaving them out.
    """
    families = np.unique(points.family)

    def ratio(at) -> float | None:
        sample = points.take(families[at])
        if not (sample.x > np.log2(size)).any():
            return None
        before, after = fit(sample, "bent", size).slopes
        return after / before

    before, after = fit(points, "bent", size).slopes
    return {"value": float(after / before)} | ends(len(families), ratio, samples, seed)


def ends(groups: int, statistic, samples: int, seed: int) -> dict[str, float]:
    """The 95 % interval of a statistic of drawn groups: low, high.

    ``statistic`` takes the numbers of the groups drawn; where it is None the draw is left out.
    """
    draws = np.random.default_rng(seed).integers(0, groups, (samples, groups))
    values = [value for at in draws if (value := statistic(at)) is not None]
    low, high = np.percentile(values, [2.5, 97.5])
    return {"low": float(low), "high": float(high)}


def basis(name: str, x, at: float) -> np.ndarray:
    """[models, slopes]: what the slopes multiply."""
    if name == "bent":
        return np.stack([np.minimum(x, at), np.maximum(x - at, 0)], axis=1)
    return (np.minimum(x, at) if name in BREAKING else x)[:, None]


def _fit(points: Points, name: str, at: float, more: int = 0) -> Curve:
    families = int(points.family.max()) + 1
    dummies = (points.family[:, None] == np.arange(families)).astype(float)  # [models, families]
    terms = basis(name, points.x, at)  # [models, slopes]
    middle = terms.mean(0)
    linear = np.hstack([dummies, terms - middle])  # [models, families + slopes]
    shape = terms.shape[1] + (name == "capped") + more
    if name in STRAIGHT:
        theta, *_ = np.linalg.lstsq(linear, points.y, rcond=None)
        errors, ceiling = linear @ theta - points.y, 1.0
    else:
        theta, ceiling, errors = _logistic(points, linear, families, name == "capped")
    slopes = theta[families:]
    offsets = theta[:families] - middle @ slopes
    return Curve(name, slopes, at, offsets, points.chance, ceiling, float(errors @ errors), shape)


def _logistic(points: Points, linear, families: int, capped: bool):
    """Coefficients, ceiling and errors [models] of the sigmoid of least squares."""
    from scipy.optimize import least_squares

    high, width = 1 - points.chance, linear.shape[1]

    def ceiling(theta):
        return points.chance + high * (expit(theta[width]) if capped else 1.0)

    def errors(theta):
        climbed = (ceiling(theta) - points.chance) * expit(linear @ theta[:width])
        return np.append(points.chance + climbed - points.y, TIE * theta[:families])

    aim = logit(np.clip((points.y - points.chance) / high, 0.01, 0.99))
    start, *_ = np.linalg.lstsq(linear, aim, rcond=None)
    start = np.append(start, 3.0) if capped else start
    solution = least_squares(errors, start, method="lm", xtol=1e-10, ftol=1e-10)
    return solution.x[:width], float(ceiling(solution.x)), solution.fun[: len(points.y)]
