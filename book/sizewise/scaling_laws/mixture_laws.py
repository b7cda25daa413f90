"""Laws that join experts and size, and the dense size that each takes for as good.

All have the dense model as a special case, so that the size of equal loss needs no second law.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq

VOCABULARY = 50_257  # of the runs behind `JointExperts`
HEAD = 64  # width of a head, and layers for each: appendix A.3


def weight(active, total, size):
    """Where ``size`` lies from active (0) to total (1), in logarithms.

    The rule of thumb that a sparse model is worth their geometric mean is a weight of one half.
    """
    return np.log(np.divide(size, active)) / np.log(np.divide(total, active))


def saturated(experts, start: float, end: float):
    """X: ``start`` for one expert, ``end`` for infinitely many, about E between.

    Clark et al. 2022, equation 2.
    """
    bent = np.asarray(experts, float) - 1 + 1 / (1 / start - 1 / end)
    return 1 / (1 / bent + 1 / end)


@dataclass(frozen=True)
class RoutedLM:
    """log L(N, E) = a log N + b log X + c log N log X + d, logarithms to base ten.

    N is the size of the dense model whose MLPs are replicated, E the number of experts, and X is E
    with its ends bent. All runs read 130 billion tokens, so the law has no D. Clark et al. 2022,
    equation 1; coefficients in Table 3.
    """

    a: float
    b: float
    c: float
    d: float
    start: float
    end: float

    def loss(self, params, experts=1):
        """Nats a token."""
        size, routed = np.log10(params), np.log10(saturated(experts, self.start, self.end))
        return 10 ** (self.a * size + self.b * routed + self.c * size * routed + self.d)

    def effective(self, params, experts):
        """The dense size of equal loss, which the paper calls effective parameter count."""
        single, routed = np.log10(self.start), np.log10(saturated(experts, self.start, self.end))
        slope = self.a + self.c * routed
        log_size = slope * np.log10(params) + self.b * (routed - single)
        return 10 ** (log_size / (self.a + self.c * single))


@dataclass(frozen=True)
class JointExperts:
    """L = a X^delta N^(alpha + gamma ln X) + b X^omega D^(beta + zeta ln X) + c.

    N is the active parameters with embeddings, D tokens, and X the number of experts, of which a
    token uses one, with its ends bent. Ludziejewski et al. 2025, equations 4 and 6.
    """

    a: float
    alpha: float
    delta: float
    gamma: float
    b: float
    beta: float
    omega: float
    zeta: float
    start: float
    end: float
    c: float

    def loss(self, params, tokens, experts=1):
        """Nats a token."""
        routed = saturated(experts, self.start, self.end)
        by_size = self.a * routed**self.delta
        by_tokens = self.b * routed**self.omega
        logarithm = np.log(routed)
        return (
            by_size * np.power(params, self.alpha + self.gamma * logarithm)
            + by_tokens * np.power(tokens, self.beta + self.zeta * logarithm)
            + self.c
        )

    def effective(self, params: float, tokens: float, experts: float) -> float:
        """The dense size of equal loss on as many tokens."""
        return _dense_size(
            lambda size: self.loss(size, tokens), self.loss(params, tokens, experts), params
        )

    def total(self, params: float, experts: float) -> float:
        """All parameters of a model with so many active ones: equations 9 and 10.

        Layers and heads are width / 64 in number; a layer has 4 width^2 in attention and 9 width^2
        in each expert.
        """

        def active(width: float) -> float:
            return 2 * width * VOCABULARY + 13 * width**3 / HEAD

        width = brentq(lambda width: active(width) - params, 1, 1e6)
        return 2 * width * VOCABULARY + (4 + 9 * experts) * width**3 / HEAD


@dataclass(frozen=True)
class Sparsity:
    """L = a / N^alpha + b / D^beta + c / (1 - S)^lambda + d / ((1 - S)^delta N^gamma) + e.

    N is all parameters, D tokens, S the share of the experts that a token leaves out. Abnar et al.
    2025, equation 6; the authors' R^2 is 0.99 on the runs fitted and 0.68 at a sparsity held out.
    """

    a: float
    alpha: float
    b: float
    beta: float
    c: float
    lambda_: float
    d: float
    delta: float
    gamma: float
    e: float

    def loss(self, params, tokens, sparsity=0.0):
        """Nats a token."""
        used = 1 - np.asarray(sparsity, float)
        return (
            self.a * np.power(params, -self.alpha)
            + self.b * np.power(tokens, -self.beta)
            + self.c * used**-self.lambda_
            + self.d * used**-self.delta * np.power(params, -self.gamma)
            + self.e
        )

    def effective(self, params: float, tokens: float, sparsity: float) -> float:
        """The dense size of equal loss on as many tokens."""
        return _dense_size(
            lambda size: self.loss(size, tokens), self.loss(params, tokens, sparsity), params
        )


def _dense_size(loss_of, loss: float, near: float) -> float:
    """The size at which a falling ``loss_of`` size is ``loss``. Raises ValueError if none is."""
    ends = np.log(near) - 12, np.log(near) + 12
    return float(np.exp(brentq(lambda size: loss_of(np.exp(size)) - loss, *ends)))
