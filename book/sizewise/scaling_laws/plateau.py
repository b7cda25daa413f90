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
OFFSETS = np.linspace(-15, 15, 3001)  # logits among which an offset is sought
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
    def of(cls, table, benchmark) -> "Points":
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

    def score(self, x, offset):
        """Score at sizes ``x`` (log2 of parameters) for a family's offset."""
        eta = offset + _basis(self.name, np.asarray(x, float), self.at) @ self.slopes
        if self.name in STRAIGHT:
            return eta
        return self.chance + (self.ceiling - self.chance) * expit(eta)

    def offset(self, x, y) -> float:
        """The offset at which a curve of this shape lies nearest to some models of a family."""
        base = _basis(self.name, x, self.at) @ self.slopes
        if self.name in STRAIGHT:
            return float(np.mean(y - base))
        tried = OFFSETS - base.mean()
        scores = self.chance + (self.ceiling - self.chance) * expit(tried[:, None] + base)
        return float(tried[((scores - y) ** 2).sum(1).argmin()])


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


def bic(points: Points, curve: Curve) -> float:
    """Bayesian information criterion of a fit, lower is better; ten apart is strong evidence."""
    n, k = len(points.y), len(curve.offsets) + curve.shape + 1  # and the variance
    return n * np.log(curve.rss / n) + k * np.log(n)


def predict(points: Points, name: str, at: float | None = None):
    """Each model from its smaller siblings, by a curve whose shape other families gave.

    A family is left out, the shape fitted to all others; its own offset comes from the smaller
    members alone. Columns: ``family``, ``x``, ``observed``, ``predicted``.
    """
    import pandas

    rows, families = [], np.unique(points.family)
    for family in families:
        curve = fit(points.take(families[families != family]), name, at)
        family_points = points.take([family])
        for position in range(1, len(family_points.x)):
            smaller = family_points.x < family_points.x[position]
            if smaller.any():
                score = curve.score(
                    family_points.x[position : position + 1],
                    curve.offset(family_points.x[smaller], family_points.y[smaller]),
                )
                rows.append(
                    (family, family_points.x[position], family_points.y[position], float(score[0]))
                )
    return pandas.DataFrame(rows, columns=["family", "x", "observed", "predicted"])


def better(first, second, samples: int = 2000, seed: int = 0) -> float:
    """Share of resamples of families in which ``first`` has the smaller squared error.

    Both are tables of `predict` on the same points.
    """
    a, b = (
        ((table["observed"] - table["predicted"]) ** 2).groupby(table["family"]).sum().to_numpy()
        for table in (first, second)
    )
    drawn = np.random.default_rng(seed).integers(0, len(a), (samples, len(a)))
    return float((a[drawn].sum(1) < b[drawn].sum(1)).mean())


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


def power(points: Points, at: float, simulations: int = 200, seed: int = 0) -> dict:
    """How often this table, with these sizes and this scatter, would tell the truth.

    Scores are made from the fitted plateau at ``at``, and from the fitted smooth curve, with the
    scatter of the better fit. ``found`` is the share of the former where the plateau fits better,
    ``false`` that of the latter.
    """
    flat, smooth = fit(points, "plateau", at), fit(points, "smooth")
    freedom = len(points.y) - len(smooth.offsets) - 1
    scatter = np.sqrt(min(flat.rss, smooth.rss) / freedom)
    rng = np.random.default_rng(seed)
    shares = {}
    for name, truth in (("found", flat), ("false", smooth)):
        clean = truth.score(points.x, truth.offsets[points.family])
        taken = 0
        for _ in range(simulations):
            y = np.clip(clean + rng.normal(0, scatter, len(clean)), 0, 1)
            synthetic = Points(points.x, y, points.family, points.chance)
            taken += fit(synthetic, "plateau", at).rss < fit(synthetic, "smooth").rss
        shares[name] = taken / simulations
    return shares | {"scatter": float(scatter)}


def _basis(name: str, x, at: float) -> np.ndarray:
    """[models, slopes]: what the slopes multiply."""
    if name == "bent":
        return np.stack([np.minimum(x, at), np.maximum(x - at, 0)], axis=1)
    return (np.minimum(x, at) if name in BREAKING else x)[:, None]


def _fit(points: Points, name: str, at: float, more: int = 0) -> Curve:
    families = int(points.family.max()) + 1
    dummies = (points.family[:, None] == np.arange(families)).astype(float)  # [models, families]
    basis = _basis(name, points.x, at)  # [models, slopes]
    middle = basis.mean(0)
    linear = np.hstack([dummies, basis - middle])  # [models, families + slopes]
    shape = basis.shape[1] + (name == "capped") + more
    high = 1 - points.chance
    if name in STRAIGHT:
        theta, *_ = np.linalg.lstsq(linear, points.y, rcond=None)
        rss, ceiling = float(((points.y - linear @ theta) ** 2).sum()), 1.0
    else:
        aim = logit(np.clip((points.y - points.chance) / high, 0.01, 0.99))
        first, *_ = np.linalg.lstsq(linear, aim, rcond=None)
        theta, room, rss = _logistic(points, linear, first, families, name == "capped")
        ceiling = points.chance + high * room
    slopes = theta[families:]
    offsets = theta[:families] - middle @ slopes
    return Curve(name, slopes, at, offsets, points.chance, ceiling, rss, shape)


def _logistic(points: Points, linear, first, families: int, capped: bool):
    """Coefficients, share of the room above chance that the ceiling leaves, squared error."""
    from scipy.optimize import least_squares

    high, width = 1 - points.chance, linear.shape[1]
    tie = TIE * np.eye(families, width + capped)

    def errors(theta):
        room = expit(theta[-1]) if capped else 1.0
        scores = points.chance + high * room * expit(linear @ theta[:width])
        return np.append(scores - points.y, TIE * theta[:families])

    def gradient(theta):
        room = expit(theta[-1]) if capped else 1.0
        p = expit(linear @ theta[:width])
        inner = (high * room * p * (1 - p))[:, None] * linear
        if capped:
            inner = np.hstack([inner, (high * p * room * (1 - room))[:, None]])
        return np.vstack([inner, tie])

    start = np.append(first, 3.0) if capped else first
    solution = least_squares(errors, start, gradient, method="lm", xtol=1e-10, ftol=1e-10)
    room = float(expit(solution.x[-1])) if capped else 1.0
    return solution.x[:width], room, float((solution.fun[: len(points.y)] ** 2).sum())
