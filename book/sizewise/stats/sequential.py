"""A difference that may be looked at after every question: intervals that hold at all times.

An interval for a fixed number of questions is wrong more often than it says if one looks again and
again and stops when it excludes nothing. A confidence sequence is right at all numbers of questions
together: the chance that it is *ever* wrong is at most the level.
"""

import math

import numpy as np

from .bootstrap import Interval

BETS = np.linspace(-0.95, 0.95, 39)  # shares of the capital that can be put on one side
MEANS = np.linspace(-1, 1, 401)  # differences that are tried, in steps of half a point
MARGIN = 1e-9


def confidence_sequence(differences, level: float = 0.05) -> Interval:
    """The mean of ``differences`` (items,), each from -1 to 1, and the ends of its interval.

    For each possible mean a gambler bets on it, from a capital of 1, with every stake of `BETS`
    at once. Were it the true mean, the capital would be a fair game, and by Ville's inequality it
    would reach 1 / ``level`` with a chance of at most ``level``, however long the game. What has
    not been ruled out so is the interval. (Waudby-Smith and Ramdas 2024, J. R. Stat. Soc. B 86,
    section 4; the mixture over stakes is Robbins's.) The order of the items does not matter,
    but they must be drawn at random. Raises ValueError for values outside -1 to 1.
    """
    values = np.asarray(differences, float)
    if values.ndim != 1 or not len(values) or not (np.abs(values) <= 1).all():
        raise ValueError("differences must be a list of numbers from -1 to 1")
    values, counts = np.unique(values, return_counts=True)  # the game does not see their order
    means = MEANS[1:-1, None]  # (means, 1)
    stakes = np.where(BETS > 0, BETS / (1 + means), BETS / (1 - means))  # (means, bets)
    won = np.zeros_like(stakes)
    for value, count in zip(values, counts, strict=True):
        won += count * np.log1p(stakes * (value - means))
    capital = np.logaddexp.reduce(won, axis=1) - math.log(len(BETS))  # (means,)
    possible = means[capital < math.log(1 / level), 0]
    middle = float((values * counts).sum() / counts.sum())
    if not len(possible):  # between two of the means that are tried
        return Interval(middle, middle, middle)
    step = MEANS[1] - MEANS[0]
    return Interval(
        middle, max(-1.0, float(possible[0] - step)), min(1.0, float(possible[-1] + step))
    )


def decided(differences, margin: float = 0.0, level: float = 0.05) -> str:
    """``a``, ``b`` or ``equal`` where a difference is settled, else an empty string.

    ``a`` and ``b``: the confidence sequence lies on one side of no difference. ``equal``: it lies
    within ``margin`` of it. The chance to be wrong once in a whole run is at most ``level``.
    """
    interval = confidence_sequence(differences, level)
    if interval.low > MARGIN:
        return "a"
    if interval.high < -MARGIN:
        return "b"
    return "equal" if margin and -margin <= interval.low and interval.high <= margin else ""
