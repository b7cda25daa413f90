"""What a doubling of size buys: gains inside families, ranks between them, and doubling times.

Also how sharply a score climbs with compute, and whether small models predict the large ones.
Models of one family share data and recipe as far as published models do, so pairs inside a
family come nearest to an experiment on size. Families, not models, are what a bootstrap draws:
the members of one are not independent. An interval is missing where fewer than `FEWEST` families
stand behind a number; three families tell next to nothing about the next one.
"""

import numpy as np
import pandas as pd
from scipy.special import expit
from sizewise.scaling_laws import plateau
from sizewise.scaling_laws.plateau import FEWEST, ends

from common import task_laws

MARGIN = 0.02  # above the chance level, so that a score holds more than luck
SAMPLES = 2000
FEWEST_MODELS = 6  # that a curve is put through
OFFSETS = np.linspace(-15, 15, 3001)  # logits among which an offset is sought
ONSET = np.log(9)  # logits from the middle of a climb to a tenth of it


def pairs(table, benchmark):
    """Neighbouring sizes inside each family: what a doubling between them changed.

    ``table`` has ``family``, ``params`` and the benchmark's scores in [0, 1]; models of one size
    are averaged. A pair counts if its smaller model is above the chance level by `MARGIN`.
    Columns: ``family``, ``start``, ``end`` (parameters), ``doublings``, ``gain`` (points of
    accuracy a doubling), ``error`` (log2 of the error ratio a doubling), ``elasticity`` (log2 of
    the ratio of scores above chance a doubling: 1 if score grows in proportion to size).
    """
    scores = table.groupby(["family", "params"], as_index=False)[benchmark.name].mean().dropna()
    scores = scores.rename(columns={"params": "start", benchmark.name: "low"})
    scores[["end", "high"]] = scores.groupby("family")[["start", "low"]].shift(-1)
    rows = scores.dropna().query("low >= @benchmark.chance + @MARGIN").reset_index(drop=True)
    doublings, chance = np.log2(rows["end"] / rows["start"]), benchmark.chance
    above = np.maximum(rows["high"] - chance, MARGIN / 2) / (rows["low"] - chance)
    return rows[["family", "start", "end"]].assign(
        doublings=doublings,
        gain=100 * (rows["high"] - rows["low"]) / doublings,
        error=np.log2((1 - rows["high"]) / (1 - rows["low"])) / doublings,
        elasticity=np.log2(above) / doublings,
    )


def average(rows, column: str, statistic=np.mean, samples: int = SAMPLES, seed: int = 0) -> dict:
    """A statistic of a column with its 95 % interval over families: value, low, high."""
    values, groups = rows[column].to_numpy(float), members(rows["family"])
    result = {"value": float(statistic(values)) if len(values) else None, "low": None, "high": None}
    if len(groups) < FEWEST:
        return result
    return result | ends(len(groups), lambda at: statistic(values[take(groups, at)]), samples, seed)


def rank(table, score: str, by: str, samples: int = SAMPLES, seed: int = 0) -> dict:
    """Spearman's rank correlation of a score with a column, with its interval over families."""
    from scipy.stats import spearmanr

    rows = table.dropna(subset=[score, by]).sort_values("family", kind="stable")
    x, y, groups = rows[by].to_numpy(float), rows[score].to_numpy(float), members(rows["family"])

    def correlation(at):
        where = take(groups, at)
        return float(spearmanr(x[where], y[where]).statistic)

    value = correlation(range(len(groups)))
    return {"value": value, "models": len(rows)} | ends(len(groups), correlation, samples, seed)


def smaller_wins(table, score: str, times: float, samples: int = SAMPLES, seed: int = 0) -> dict:
    """Share of pairs, over all families, where the model ``times`` larger scores lower.

    The interval draws families and weighs a pair by how often both of its families were drawn.
    """
    rows = table.dropna(subset=[score]).reset_index(drop=True)
    size, value = rows["params"].to_numpy(float), rows[score].to_numpy(float)
    small, large = np.nonzero(size[None, :] >= times * size[:, None])  # [pairs]
    lost = value[large] < value[small]
    codes, names = rows["family"].factorize()

    def share(at):
        weight = np.bincount(at, minlength=len(names))[codes]
        both = weight[small] * weight[large]
        # with few families a draw may hold no pair
        return np.average(lost, weights=both) if both.any() else None

    result = {"value": float(lost.mean()), "pairs": len(lost)}
    return result | ends(len(names), share, samples, seed)


def doubling_times(days, minutes, samples: int = SAMPLES, block: int = 8, seed: int = 0) -> dict:
    """Months in which a record time halves: end to end, by one line, by two that meet at a break.

    Lines are least squares of log2(minutes); the break is the day that fits best. A record bears
    on those before it, so the intervals resample residuals in blocks of neighbours.
    """
    days, y = np.asarray(days, float), np.log2(np.asarray(minutes, float))
    month = 365.25 / 12
    flat, bent = _line(days, y), _broken(days, y)

    def numbers(flat, bent) -> dict:
        slopes = {"line": flat["slope"], "before": bent["before"], "after": bent["after"]}
        months = {name: -1 / slope / month for name, slope in slopes.items()}
        return months | {"break_day": bent["break"]}

    rng, spread = np.random.default_rng(seed), []
    for _ in range(samples):
        starts = rng.integers(0, len(y) - block + 1, -(-len(y) // block))
        at = (starts[:, None] + np.arange(block)).ravel()[: len(y)]
        again = (fit["fitted"] + (y - fit["fitted"])[at] for fit in (flat, bent))
        spread.append(numbers(_line(days, next(again)), _broken(days, next(again))))
    result = {"ends": float((days[-1] - days[0]) / month / (y[0] - y[-1]))}
    for name, value in numbers(flat, bent).items():
        low, high = np.percentile([sample[name] for sample in spread], [2.5, 97.5])
        result |= {name: float(value), f"{name}_low": float(low), f"{name}_high": float(high)}
    gain = np.log(flat["rss"] / bent["rss"])
    return result | {"bic_gain": float(len(y) * gain - 2 * np.log(len(y)))}


def _line(x, y) -> dict:
    slope, start = np.polyfit(x, y, 1)
    fitted = slope * x + start
    return {"slope": slope, "fitted": fitted, "rss": float(((y - fitted) ** 2).sum())}


def _broken(x, y) -> dict:
    """Two lines that meet, where it fits best with at least five points on either side."""
    fits = []
    for at in np.linspace(x[5], x[-6], 2 * len(x)):
        matrix = np.stack([np.ones_like(x), x, np.maximum(x - at, 0)], axis=1)  # [points, 3]
        (_, before, bend), *_ = result = np.linalg.lstsq(matrix, y, rcond=None)
        fitted = matrix @ result[0]
        slopes = {"break": at, "before": before, "after": before + bend}
        fits.append(slopes | {"fitted": fitted, "rss": float(((y - fitted) ** 2).sum())})
    return min(fits, key=lambda fit: fit["rss"])


def climb(x, y, chance: float = 0.0, top: float | None = None) -> task_laws.Sigmoid:
    """The least-squares sigmoid of scores ``y`` [models] over -log10 ``x``; None fits the top too.

    A score that asks for k right tokens in a row is about the k-th power of that of one token, so
    it stays near nothing and then climbs, where that of one rises evenly (Schaeffer et al. 2023).
    """
    return task_laws.fit_sigmoid(-np.log10(np.asarray(x, float)), y, chance, top=top)


def onset(curve: task_laws.Sigmoid) -> float:
    """Where a tenth of a `climb` is done, in the units of x."""
    return float(10 ** (-curve.middle - ONSET / curve.steepness))


def decades(curve: task_laws.Sigmoid) -> float:
    """Powers of ten from a tenth of a `climb` to nine tenths."""
    return float(2 * ONSET / curve.steepness)


def excess(table, score: str, chance: float, by: str, samples: int, seed: int = 0) -> dict:
    """By how many points the models beyond a curve through smaller ones exceed it, on average.

    ``table`` has ``family``, ``by`` and the score. The curve goes to 1 and is fitted to the three
    quarters of the models of least ``by``; the others are predicted. The 95 % interval draws
    families, and fits anew. A capability that exceeds what smaller models predict is above 0.
    """
    rows = table.dropna(subset=[score, by]).reset_index(drop=True)
    cut = float(rows[by].quantile(0.75))
    x, y, groups = rows[by].to_numpy(float), rows[score].to_numpy(float), members(rows["family"])

    def mean_excess(at) -> float | None:
        where = take(groups, at)
        small, large = where[x[where] <= cut], where[x[where] > cut]
        if len(small) < FEWEST_MODELS or not len(large):
            return None
        curve = climb(x[small], y[small], chance, top=1.0)
        return 100 * float((y[large] - curve.accuracy(-np.log10(x[large]))).mean())

    value = mean_excess(range(len(groups)))
    counts = {"cut": cut, "models": len(x), "foretold": int((x > cut).sum())}
    return {"value": value, **ends(len(groups), mean_excess, samples, seed), **counts}


def members(family) -> list[np.ndarray]:
    """The places of each family's rows, families in the order in which they come."""
    codes, names = family.factorize()
    return [np.flatnonzero(codes == k) for k in range(len(names))]


def take(groups: list[np.ndarray], at) -> np.ndarray:
    """The places of all rows of the groups ``at``, again where a group is drawn again."""
    return np.concatenate([groups[k] for k in at])


# --- curves that level off and curves that don't (`plateau`), compared


def score(curve: plateau.Curve, x, offset):
    """Score at sizes ``x`` (log2 of parameters) for a family's offset."""
    eta = offset + plateau.basis(curve.name, np.asarray(x, float), curve.at) @ curve.slopes
    if curve.name in plateau.STRAIGHT:
        return eta
    return curve.chance + (curve.ceiling - curve.chance) * expit(eta)


def nearest_offset(curve: plateau.Curve, x, y) -> float:
    """The offset at which a curve of this shape lies nearest to some models of a family."""
    if curve.name in plateau.STRAIGHT:
        return float(np.mean(y - score(curve, x, 0)))
    base = plateau.basis(curve.name, x, curve.at) @ curve.slopes
    tried = OFFSETS - base.mean()
    return float(tried[((score(curve, x, tried[:, None]) - y) ** 2).sum(1).argmin()])


def bic(points: plateau.Points, curve: plateau.Curve) -> float:
    """Bayesian information criterion of a fit, lower is better; ten apart is strong evidence."""
    n, k = len(points.y), len(curve.offsets) + curve.shape + 1  # and the variance
    return n * np.log(curve.rss / n) + k * np.log(n)


def predict(points: plateau.Points, name: str, at: float | None = None):
    """Each model from its smaller siblings, by a curve whose shape other families gave.

    A family is left out, the shape fitted to all others; its own offset comes from the smaller
    members alone. Columns: ``family``, ``x``, ``observed``, ``predicted``.
    """
    rows, families = [], np.unique(points.family)
    for family in families:
        curve = plateau.fit(points.take(families[families != family]), name, at)
        family_points = points.take([family])
        for position in range(1, len(family_points.x)):
            smaller = family_points.x < family_points.x[position]
            if smaller.any():
                offset = nearest_offset(curve, family_points.x[smaller], family_points.y[smaller])
                size, observed = family_points.x[position], family_points.y[position]
                rows.append((family, size, observed, float(score(curve, [size], offset)[0])))
    return pd.DataFrame(rows, columns=["family", "x", "observed", "predicted"])


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


def power(points: plateau.Points, at: float, simulations: int = 200, seed: int = 0) -> dict:
    """How often this table, with these sizes and this scatter, would tell the truth.

    Scores are made from the fitted plateau at ``at``, and from the fitted smooth curve, with the
    scatter of the better fit. ``found`` is the share of the former where the plateau fits better,
    ``false`` that of the latter.
    """
    flat, smooth = plateau.fit(points, "plateau", at), plateau.fit(points, "smooth")
    freedom = len(points.y) - len(smooth.offsets) - 1
    scatter = np.sqrt(min(flat.rss, smooth.rss) / freedom)
    rng = np.random.default_rng(seed)
    shares = {}
    for name, truth in (("found", flat), ("false", smooth)):
        clean = score(truth, points.x, truth.offsets[points.family])
        taken = 0
        for _ in range(simulations):
            y = np.clip(clean + rng.normal(0, scatter, len(clean)), 0, 1)
            synthetic = plateau.Points(points.x, y, points.family, points.chance)
            taken += (
                plateau.fit(synthetic, "plateau", at).rss < plateau.fit(synthetic, "smooth").rss
            )
        shares[name] = taken / simulations
    return shares | {"scatter": float(scatter)}
