"""Laws of sparse models: how large a dense model would be as good.

Two published forms, and what to do without one: `dense_equivalent` reads the size off dense runs
of one's own, and `weight` says where it lies between what a token uses and what is held. The rule
of thumb that it lies at their geometric mean is the hypothesis that the weight is one half.
"""

from dataclasses import dataclass

import numpy as np

from sizewise.stats.bootstrap import Interval

from .forms import Hoffmann

GEOMETRIC = 0.5  # the weight that the rule of thumb states


@dataclass(frozen=True)
class RoutedLM:
    """log L(N, E) = a log N + b log X + c log N log X + d, logarithms to base ten.

    N is the size of the dense model whose MLPs are replicated, E the number of experts, and X is E
    with its ends bent: `saturated`. All runs read 130 billion tokens, so the law has no D. Clark et
    al. 2022, equations 1 and 2; coefficients in Table 3.
    """

    a: float
    b: float
    c: float
    d: float
    start: float
    end: float

    def saturated(self, experts):
        """X: ``start`` for one expert, ``end`` for infinitely many, about E between."""
        bent = np.asarray(experts, float) - 1 + 1 / (1 / self.start - 1 / self.end)
        return 1 / (1 / bent + 1 / self.end)

    def loss(self, params, tokens=None, experts=1):
        """Nats a token. ``tokens`` has no effect: see above."""
        size, routed = np.log10(params), np.log10(self.saturated(experts))
        return 10 ** (self.a * size + self.b * routed + self.c * size * routed + self.d)

    def effective(self, params, experts):
        """The dense size of equal loss, which the paper calls effective parameter count."""
        single, routed = np.log10(self.start), np.log10(self.saturated(experts))
        slope = self.a + self.c * routed
        log_size = slope * np.log10(params) + self.b * (routed - single)
        return 10 ** (log_size / (self.a + self.c * single))

    @property
    def cutoff(self) -> float:
        """The size from which further experts no longer lower the loss, by this law."""
        return 10 ** (-self.b / self.c)


@dataclass(frozen=True)
class FineGrained:
    """L(N, D, G) = c + (g / G^gamma + a) / N^alpha + b / D^beta: Krajewski et al. 2024, section 5.

    N is all parameters without embeddings, of a model that holds 64 times the MLPs that a token
    uses; G is the granularity, how many experts one MLP is cut into.
    """

    a: float
    b: float
    c: float
    g: float
    alpha: float
    beta: float
    gamma: float

    def loss(self, params, tokens, granularity=1):
        size = self.g * np.power(np.asarray(granularity, float), -self.gamma) + self.a
        return (
            self.c
            + size * np.power(np.asarray(params, float), -self.alpha)
            + self.b * np.power(np.asarray(tokens, float), -self.beta)
        )

    def effective(self, params, tokens, granularity=1, *, dense: Hoffmann):
        """The size at which ``dense`` has this loss on as many tokens; infinite if none has."""
        left = (
            self.loss(params, tokens, granularity)
            - dense.E
            - dense.B * float(tokens) ** -dense.beta
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            size = np.power(dense.A / left, 1 / dense.alpha)
        return np.where(left > 0, size, np.inf)[()]


def geometric_mean(active, total):
    """The dense size that the rule of thumb gives a sparse model."""
    return np.sqrt(np.multiply(active, total, dtype=float))


def weight(active, total, size):
    """Where ``size`` lies from active (0) to total (1), in logarithms."""
    return np.log(np.divide(size, active)) / np.log(np.divide(total, active))


def dense_equivalent(
    sizes, losses, sparse, *, samples: int = 2000, seed: int = 0, level: float = 0.95
) -> Interval:
    """The dense size whose loss is that of the ``sparse`` runs, read off dense runs.

    ``sizes`` and ``losses`` are of dense runs, several a size; ``sparse`` are losses of one sparse
    model, one a seed. All have read the same tokens. The mean loss is taken as a straight line in
    log size between neighbouring sizes, and along the last piece beyond them. The interval is a
    bootstrap that draws runs anew inside each size: with few seeds a size it is too narrow.
    Raises ValueError for fewer than two sizes, for means that do not fall with size, which then say
    nothing of a size, and for no sparse run.
    """
    sizes, losses = np.asarray(sizes, float), np.asarray(losses, float)
    sparse = np.asarray(sparse, float)
    steps = np.unique(sizes)
    if len(steps) < 2:
        raise ValueError("a dense equivalent needs dense runs of two sizes at least")
    if not len(sparse):
        raise ValueError("a dense equivalent needs a sparse run")
    groups = [losses[sizes == size] for size in steps]
    means = np.array([group.mean() for group in groups])
    if not (np.diff(means) < 0).all():
        raise ValueError("the mean losses of the dense runs do not fall with their size")
    rng = np.random.default_rng(seed)
    drawn = np.full(samples, np.nan)
    for sample in range(samples):
        shaken = np.array([rng.choice(group, len(group)).mean() for group in groups])
        if (np.diff(shaken) < 0).all():  # else no size can be read off
            drawn[sample] = _size_at(steps, shaken, rng.choice(sparse, len(sparse)).mean())
    low, high = np.nanquantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(_size_at(steps, means, sparse.mean()), float(low), float(high))


def _size_at(sizes: np.ndarray, losses: np.ndarray, loss: float) -> float:
    """The size at which the line through falling ``losses`` is at ``loss``."""
    piece = int(np.clip(np.searchsorted(-losses, -loss) - 1, 0, len(sizes) - 2))
    x, y = np.log(sizes[piece : piece + 2]), losses[piece : piece + 2]
    with np.errstate(over="ignore"):  # far beyond the sizes: infinite
        return float(np.exp(x[0] + (loss - y[0]) * (x[1] - x[0]) / (y[1] - y[0])))
