"""Ask the small model first, the large one where the small one is unsure.

A cascade pays the small model for every item and the large one for those it hands on. What it is
worth shows against handing on as many items at random, against an oracle that knows where the
large model helps, and against the large model alone. A threshold is chosen on one half of the
items and judged on the other. FrugalGPT (Chen, Zaharia and Zou 2023, section 3) has the idea.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from sizewise.stats import bootstrap, paired

SHARES = tuple(tenth / 10 for tenth in range(11))
WAYS = ("majority", "mean")
BLOCK = 100  # draws at a time


@dataclass(frozen=True)
class Cascade:
    """Two models on the same items: all arrays (items,), right as 1 and wrong as 0.

    ``confidence`` is the small model's, of any scale; costs are what each model takes for the
    item, in one unit for both. Raises ValueError for numbers that are not finite.
    """

    small: np.ndarray
    large: np.ndarray
    confidence: np.ndarray
    small_cost: np.ndarray
    large_cost: np.ndarray

    def __post_init__(self):
        for name in ("small", "large"):
            object.__setattr__(self, name, paired.answers(name, getattr(self, name)))
        for name in ("confidence", "small_cost", "large_cost"):
            values = np.asarray(getattr(self, name), float)
            values = np.broadcast_to(values, (len(self.small),)) if not values.ndim else values
            if not np.isfinite(values).all():
                raise ValueError(f"the {name.replace('_', ' ')} holds a number that is not finite")
            object.__setattr__(self, name, values)

    def __len__(self) -> int:
        return len(self.small)

    def part(self, selected) -> "Cascade":
        """The items of a mask or of numbers."""
        return Cascade(*(getattr(self, name)[selected] for name in self.__dataclass_fields__))

    @cached_property
    def gain(self) -> np.ndarray:
        """1 where only the large model is right, -1 where only the small one: (items,)."""
        return self.large - self.small

    @cached_property
    def either(self) -> float:
        """The share that one of the two gets right: no routing between them does better."""
        return float(np.maximum(self.small, self.large).mean())

    def curve(self, shares=SHARES):
        """Quality and cost where a ``share`` of the items, the least sure ones, is handed on.

        Columns ``share``, ``right``, ``cost`` (mean an item), ``random`` (the same share drawn
        at random, its expectation) and ``oracle`` (the same share, those that gain most).
        Among items of one confidence the draw is by lot, its expectation is given.
        """
        import pandas

        shares = np.asarray(shares, float)
        base, added = self.small.mean(), self.gain.mean()
        return pandas.DataFrame(
            {
                "share": shares,
                "right": base + np.interp(shares, *_climb(self.confidence, self.gain)),
                "cost": self.small_cost.mean()
                + np.interp(shares, *_climb(self.confidence, self.large_cost)),
                "random": base + shares * added,
                "oracle": base + np.interp(shares, *_climb(-self.gain, self.gain)),
            }
        )

    def area(self, *, samples: int = 2000, seed: int = 0) -> bootstrap.Interval:
        """Area between the curve and random routing, over shares 0 to 1, drawing items.

        0 is a confidence that tells nothing, below it one that misleads.
        """
        sequence = np.argsort(self.confidence, kind="stable")
        starts = np.unique(self.confidence[sequence], return_index=True)[1]
        gain = self.gain[sequence]

        def areas(weights):  # (draws, items) -> (draws,); items of one confidence go together
            widths = np.add.reduceat(weights, starts, axis=1) / len(gain)  # (draws, groups): shares
            rises = np.add.reduceat(weights * gain, starts, axis=1) / len(gain)
            tops = rises.cumsum(1)
            return (widths * (tops - rises / 2)).sum(1) - tops[:, -1] / 2

        draws = _draws(len(gain), samples, seed)
        drawn_areas = [
            areas(draws[at : at + BLOCK, sequence]) for at in range(0, len(draws), BLOCK)
        ]
        return bootstrap.estimate(areas(np.ones((1, len(gain))))[0], np.concatenate(drawn_areas))

    @cached_property
    def oracle_area(self) -> float:
        """The largest `area` that a confidence could have."""
        shares, gained = _climb(-self.gain, self.gain)
        return float(np.trapezoid(gained, shares) - gained[-1] / 2)

    def choose(self, keep: float = 1.0) -> float:
        """The lowest threshold at which the cascade has ``keep`` of what the large model gains.

        Items with a confidence below it are handed on; -inf hands on none, inf all. Where the
        large model gains nothing on these items, none is handed on. Choose on one half, `judge`
        on the other.
        """
        at, group = np.unique(self.confidence, return_inverse=True)
        gained = np.r_[0, np.cumsum(np.bincount(group, self.gain))]  # below each threshold
        thresholds = np.r_[-np.inf, at[1:], np.inf]
        target = keep * max(gained[-1], 0)
        return float(thresholds[np.argmax(gained >= target - 1e-9)])

    def judge(self, threshold: float, *, samples: int = 2000, seed: int = 0) -> dict:
        """What a given threshold brings on these items, each an `Interval`.

        ``share`` handed on, ``right``, ``cost_ratio`` (cost over that of the large model alone),
        ``over_large`` (share right less the large model's), ``over_random`` (less that of as
        many items handed on at random), ``kept`` (part of the large model's gain; without an
        interval where a draw has no gain).
        """
        routed = (self.confidence < threshold).astype(float)
        columns = {
            "share": routed,
            "small": self.small,
            "large": self.large,
            "right": self.small + routed * self.gain,
            "cost": self.small_cost + routed * self.large_cost,
            "large_cost": self.large_cost,
        }
        means = _draws(len(self), samples, seed) @ np.stack(list(columns.values()), 1) / len(self)
        resampled = dict(zip(columns, means.T, strict=True))
        point = {name: values.mean() for name, values in columns.items()}
        answer = {
            "share": lambda m: m["share"],
            "right": lambda m: m["right"],
            "cost_ratio": lambda m: m["cost"] / m["large_cost"],
            "over_large": lambda m: m["right"] - m["large"],
            "over_random": lambda m: (
                m["right"] - m["small"] - m["share"] * (m["large"] - m["small"])
            ),
            "kept": lambda m: (m["right"] - m["small"]) / (m["large"] - m["small"]),
        }
        with np.errstate(divide="ignore", invalid="ignore"):
            return {k: bootstrap.estimate(ask(point), ask(resampled)) for k, ask in answer.items()}


def vote(predictions, how: str = "majority") -> np.ndarray:
    """The choice of several models: probabilities (models, items, choices) to numbers (items,).

    ``majority`` takes the choice most models prefer, among equals the one of the larger mean
    probability; ``mean`` that of the largest mean probability.
    """
    p = np.asarray(predictions, float)
    mean = p.mean(0)  # (items, choices)
    if how == "mean":
        return mean.argmax(1)
    votes = (p.argmax(2)[..., None] == np.arange(p.shape[2])).sum(0)  # (items, choices)
    return (votes + mean / 2).argmax(1)  # a mean is at most 1: half of it only breaks ties


def _climb(order, values) -> tuple[np.ndarray, np.ndarray]:
    """Share handed on, and the mean of ``values`` over it, after each distinct ``order``."""
    _, group, sizes = np.unique(order, return_inverse=True, return_counts=True)
    sums = np.bincount(group, values)
    return np.r_[0, np.cumsum(sizes)] / len(values), np.r_[0, np.cumsum(sums)] / len(values)


@lru_cache(maxsize=2)
def _draws(items: int, samples: int, seed: int) -> np.ndarray:
    """(samples, items): how often each item was drawn. The same for every pair of models."""
    return bootstrap.draws(items, samples, seed).astype(float)
