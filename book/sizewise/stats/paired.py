"""Two models on the same questions: how far apart, whether by chance, how many questions it takes.

Only questions that one model gets right and the other wrong tell the two apart. Their share, the
discordant share, sets what a benchmark can show, whatever its size in questions. Intervals and
tests are about other questions of the same kind, not about another training of the models.
"""

import math
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from sizewise.validation import whole

from . import bootstrap
from .bootstrap import Interval

MOST = 10**9  # items
_z = NormalDist().inv_cdf


@dataclass(frozen=True)
class Comparison:
    """Accuracy of a less that of b on the same items, as shares."""

    items: int
    only_a: int  # items that a alone gets right
    only_b: int
    drawn: Interval  # 95 %, drawing items
    analytic: Interval  # 95 %, see `difference_interval`
    exact: float  # p-values, see `mcnemar`
    mid: float

    @property
    def discordant_share(self) -> float:
        return (self.only_a + self.only_b) / self.items


def compare(a, b, *, samples: int = 2000, seed: int = 0) -> Comparison:
    """Two arrays (items,) of right and wrong, item by item the same.

    Raises ValueError for arrays of unlike length, values other than 0 and 1, under 2 items.
    """
    import pandas

    a, b = answers("a", a), answers("b", b)
    if len(a) != len(b):
        raise ValueError(f"the answers are not paired: {len(a)} of a, {len(b)} of b")
    table_a, table_b = (pandas.DataFrame({"item": np.arange(len(x)), "right": x}) for x in (a, b))
    resampled = bootstrap.paired(table_a, table_b, "right", by="item", samples=samples, seed=seed)
    only_a, only_b = int((a > b).sum()), int((b > a).sum())
    analytic = difference_interval(only_a, only_b, len(a))
    p_values = mcnemar(only_a, only_b)
    return Comparison(len(a), only_a, only_b, resampled.difference, analytic, *p_values)


def difference_interval(only_a: int, only_b: int, items: int, level: float = 0.05) -> Interval:
    """The difference of accuracies with its interval of 1 - ``level``, from counts alone.

    Wald's interval after one more item for each side of the disagreement, which keeps it from
    closing to nothing where few items differ (Bonett and Price 2012, J. Educ. Behav. Stat. 37).
    Raises ValueError for counts under 0 or over the items, and for a level outside 0 to 1.
    """
    items = whole("the items", items, MOST)
    only_a = whole("the items that only a gets right", only_a, items, 0)
    only_b = whole("the items that only b gets right", only_b, items - only_a, 0)
    p, q = (only_a + 1) / (items + 2), (only_b + 1) / (items + 2)
    half = _z(1 - _share("the level", level) / 2) * math.sqrt((p + q - (p - q) ** 2) / (items + 2))
    value = (only_a - only_b) / items
    return Interval(value, max(-1.0, p - q - half), min(1.0, p - q + half))


def mcnemar(only_a: int, only_b: int) -> tuple[float, float]:
    """Two-sided p-values that both models are equally good: exact conditional and mid-p.

    The exact one is too large for few items; mid-p counts half of the outcomes as likely as the
    observed one, and held the level in all cases of Fagerland, Lydersen and Laake (2013), BMC
    Med. Res. Methodol. 13:91. Without an item that differs both are 1.
    """
    from scipy.stats import binom, binomtest

    only_a = whole("the items that only a gets right", only_a, MOST, 0)
    only_b = whole("the items that only b gets right", only_b, MOST, 0)
    differ = only_a + only_b
    if not differ:
        return 1.0, 1.0
    exact = float(binomtest(only_a, differ).pvalue)
    as_likely = (1 if only_a == only_b else 2) * binom.pmf(only_a, differ, 0.5)
    return exact, float(exact - as_likely / 2)


def required_sample_size(
    discordant_share: float, difference: float, *, power: float = 0.8, level: float = 0.05
) -> int:
    """Items at which McNemar's test finds a ``difference`` of accuracies with this ``power``.

    Normal approximation without a correction for continuity (Connor 1987, Biometrics 43, after
    Miettinen 1968); exact tests need a few more. Shares, not percent. Raises ValueError for a
    difference above the discordant share, which no pair of models can have.
    """
    share = _share("the discordant share", discordant_share)
    return sample_size(share, abs(difference), *quantiles(power, level))


def sample_size(share, difference, z_level, z_power):
    """`required_sample_size` from the normal quantiles of ``level`` and ``power``.

    Arithmetic alone, so that the calculator of the page can be made of it.
    """
    if not 0 < difference <= share:
        raise ValueError(
            f"the difference must be above 0 and at most the discordant share {share:g}, "
            f"got {difference:g}"
        )
    root = z_level * share**0.5 + z_power * (share - difference**2) ** 0.5
    return math.ceil((root / difference) ** 2)


def detectable(
    discordant_share: float, items: int, *, power: float = 0.8, level: float = 0.05
) -> float:
    """The least difference of accuracies that ``items`` show with this ``power``.

    `required_sample_size` solved for the difference. Raises ValueError where even the largest
    difference possible, the discordant share itself, would not be found.
    """
    share, items = _share("the discordant share", discordant_share), whole("the items", items, MOST)
    z_level, z_power = quantiles(power, level)
    inside = items + z_power**2 - z_level**2  # from the quadratic in the difference
    root = z_level * math.sqrt(items) + z_power * math.sqrt(max(inside, 0.0))
    smallest = math.sqrt(share) * root / (items + z_power**2)
    if inside < 0 or smallest > share:
        raise ValueError(f"{items} items are too few to find any difference at a share {share:g}")
    return smallest


def holm(p_values) -> np.ndarray:
    """P-values adjusted for their number, in their order: below a level means found at it.

    Bounds the chance of any false finding (Holm 1979). Raises ValueError for numbers that are no
    p-values.
    """
    p = np.asarray(p_values, float)
    if p.ndim != 1 or not len(p) or not ((p >= 0) & (p <= 1)).all():
        raise ValueError("p-values must be a list of numbers from 0 to 1")
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    return np.minimum(adjusted, 1)


def accuracy(right, level: float = 0.05) -> Interval:
    """The share of right answers (items,) with Wilson's interval of 1 - ``level``."""
    right = answers("right", right)
    return wilson(float(right.mean()), len(right), level)


def wilson(share: float, items: int, level: float = 0.05) -> Interval:
    """A share of ``items`` with its interval of 1 - ``level`` (Wilson 1927).

    The share need not be a whole number of items, as a mean over several runs is none. Raises
    ValueError for a share or a level outside 0 to 1.
    """
    items, z2 = whole("the items", items, MOST), _z(1 - _share("the level", level) / 2) ** 2
    if not 0 <= share <= 1:
        raise ValueError(f"the share must be from 0 to 1, got {share!r}")
    middle = share + z2 / (2 * items)
    half = math.sqrt(z2 * (share * (1 - share) + z2 / (4 * items)) / items)
    low, high = ((middle + side * half) / (1 + z2 / items) for side in (-1, 1))
    # at the ends the formula is exact, its rounding is not
    return Interval(share, low if share > 0 else 0.0, high if share < 1 else 1.0)


def answers(name: str, right) -> np.ndarray:
    """Right and wrong as 1.0 and 0.0: (items,). Raises ValueError for anything else."""
    values = np.asarray(right, float)
    if values.ndim != 1 or not len(values) or not np.isin(values, (0, 1)).all():
        raise ValueError(f"{name} must be a list of right (1) and wrong (0), one an item")
    return values


def quantiles(power: float = 0.8, level: float = 0.05) -> tuple[float, float]:
    """Normal quantiles of a two-sided ``level`` and of a ``power``: their sum, in standard
    errors, is the least difference that is found with this power.

    Raises ValueError for a power outside 0.5 to 1 and a level outside 0 to 1.
    """
    if not 0.5 <= power < 1:
        raise ValueError(f"the power must be from 0.5 to below 1, got {power!r}")
    return _z(1 - _share("the level", level) / 2), _z(power)


def _share(name: str, value: float) -> float:
    if not 0 < value <= 1:
        raise ValueError(f"{name} must be above 0 and at most 1, got {value!r}")
    return float(value)
