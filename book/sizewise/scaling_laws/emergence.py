"""Abilities that seem to appear at once: how sharp they are, and whether small models predict them.

A score that asks for k right tokens in a row is about the k-th power of the score of one token,
so it stays near nothing and then climbs, where the score of one token rises evenly (Schaeffer et
al. 2023). Two questions can be put to published scores: over how many powers of ten of compute
does a score climb, and does a smooth curve through the smaller models predict the larger ones?
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from .returns import ends, members, take
from .task_laws import least_squares

FEWEST_MODELS = 6
STEEP = (0.1, 20.0)  # steepness a power of ten, from forty decades to a fifth
ONSET = 0.1  # share of its own climb at which a score has begun


@dataclass(frozen=True)
class Climb:
    """Score = chance + (top - chance) s(steepness (log10 x - middle)), fitted to models."""

    steepness: float
    middle: float  # log10 of operations, or of whatever x is
    top: float
    chance: float

    def score(self, x):
        return self.at(np.log10(np.asarray(x, float)))

    def at(self, log_x):
        """The score where log10 x is this."""
        return self.chance + (self.top - self.chance) * expit(
            self.steepness * (log_x - self.middle)
        )

    @property
    def onset(self) -> float:
        """Where a tenth of the climb is done, in the units of x."""
        return float(10 ** (self.middle - np.log(1 / ONSET - 1) / self.steepness))

    @property
    def decades(self) -> float:
        """Powers of ten from a tenth of the climb to nine tenths."""
        return float(2 * np.log(1 / ONSET - 1) / self.steepness)


def climb(x, y, chance: float = 0.0, top: float | None = None) -> Climb:
    """The least-squares curve through scores ``y`` [models] at ``x``; ``top`` None fits it too.

    A steepness beyond `STEEP` is no steeper to the eye, and counts as its end.
    Raises ValueError with fewer than six models.
    """
    x, y = np.log10(np.asarray(x, float)), np.asarray(y, float)
    if len(x) < FEWEST_MODELS:
        raise ValueError(f"{len(x)} models do not show a climb")

    def curve(theta) -> Climb:
        high = top if top is not None else chance + (1 - chance) * float(expit(theta[2]))
        return Climb(_steep(theta[0]), float(theta[1]), high, chance)

    starts = [[np.log(steep), np.median(x)] for steep in (0.7, 2.0, 5.0)]
    if top is None:
        starts = [[*start, 0.0] for start in starts]
    return curve(least_squares(lambda theta: curve(theta).at(x) - y, starts, max_nfev=400))


def _steep(theta: float) -> float:
    return float(np.exp(np.clip(theta, *np.log(STEEP))))


def excess(
    table,
    score: str,
    chance: float,
    share: float = 0.75,
    samples: int = 400,
    seed: int = 0,
    by: str = "operations",
) -> dict:
    """By how many points the models beyond a curve through smaller ones exceed it, on average.

    ``table`` has ``family``, ``by`` and the score. The curve goes to 1 and is fitted to the
    ``share`` of models of least ``by``; the others are predicted. The 95 % interval draws
    families, and fits anew. A capability that exceeds what smaller models predict is above 0.
    """
    rows = table.dropna(subset=[score, by]).reset_index(drop=True)
    cut = float(rows[by].quantile(share))
    x, y, groups = rows[by].to_numpy(float), rows[score].to_numpy(float), members(rows["family"])

    def mean_excess(at) -> float | None:
        where = take(groups, at)
        small, large = where[x[where] <= cut], where[x[where] > cut]
        if len(small) < FEWEST_MODELS or not len(large):
            return None
        return 100 * float(
            (y[large] - climb(x[small], y[small], chance, top=1.0).score(x[large])).mean()
        )

    return {
        "value": mean_excess(range(len(groups))),
        **ends(len(groups), mean_excess, samples, seed),
        "cut": cut,
        "models": len(x),
        "foretold": int((x > cut).sum()),
    }
