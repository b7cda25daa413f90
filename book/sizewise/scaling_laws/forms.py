"""The forms of scaling laws for dense models.

Losses are in nats a token, compute in FLOPs, C = 6 N D. What N counts (with embeddings or without)
is part of a law: see ``counts`` of its entry in ``data/facts/laws.yml``.
"""

from dataclasses import dataclass

import numpy as np

NAMES = ("E", "A", "B", "alpha", "beta")
TRAIN_FLOPS = 6  # for each parameter and token: 2 forward, 4 backward
SERVE_FLOPS = 2


@dataclass(frozen=True)
class Hoffmann:
    """L(N, D) = E + A / N^alpha + B / D^beta: Hoffmann et al. 2022, equation 2.

    Coefficients may be arrays of shape [samples]: then so are all results.
    """

    E: float
    A: float
    B: float
    alpha: float
    beta: float

    @classmethod
    def from_theta(cls, theta) -> "Hoffmann":
        """From log A, log B, log E, alpha, beta; arrays [..., 5] give arrays of coefficients."""
        theta = np.moveaxis(np.asarray(theta, dtype=float), -1, 0)
        with np.errstate(over="ignore"):  # a resample may say infinity
            a, b, e = np.exp(theta[:3])
        coefficients = (e, a, b, theta[3], theta[4])
        return cls(*map(float, coefficients)) if theta.ndim == 1 else cls(*coefficients)

    @property
    def theta(self) -> np.ndarray:
        """The coordinates of the fit: log A, log B, log E, alpha, beta."""
        return np.stack([*np.log([self.A, self.B, self.E]), self.alpha, self.beta], axis=-1)

    def loss(self, params, tokens):
        return self.E + self.size_term(params) + self.data_term(tokens)

    def size_term(self, params):
        """A / N^alpha: all that growth beyond N could still gain on the same tokens, in nats."""
        return self.A * np.power(params, -self.alpha)

    def data_term(self, tokens):
        """B / D^beta: what finite data cost, in nats."""
        return self.B * np.power(tokens, -self.beta)

    def gain(self, params, larger):
        """Nats gained by growing from one size to a larger one on the same tokens."""
        return self.size_term(params) - self.size_term(larger)

    @property
    def exponent(self):
        """a of N_opt ~ C^a."""
        return self.beta / (self.alpha + self.beta)

    @property
    def loss_exponent(self):
        """The reducible loss at the optimum falls as C to the minus this."""
        return self.alpha * self.beta / (self.alpha + self.beta)

    def optimum(self, budget):
        """Parameters and tokens of least loss for ``budget`` FLOPs, C = 6 N D.

        Hoffmann et al. 2022, equation 4.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            ratio = self.alpha * self.A / (self.beta * self.B)
            scale = np.power(ratio, 1 / (self.alpha + self.beta))
            params = scale * np.power(np.divide(budget, TRAIN_FLOPS), self.exponent)
            return params, np.divide(budget, TRAIN_FLOPS) / params

    def budget(self, params):
        """FLOPs for which ``params`` is the optimum, and the tokens that go with them."""
        tokens = np.power(
            self.beta * self.B / (self.alpha * self.A) * np.power(params, self.alpha), 1 / self.beta
        )
        return TRAIN_FLOPS * params * tokens, tokens


@dataclass(frozen=True)
class Kaplan:
    """L(x) = (scale / x)^exponent, x parameters, tokens or PF-days: Kaplan et al. 2020, 1.1-1.3."""

    scale: float
    exponent: float

    def loss(self, x, tokens=None):
        """The other resource is taken as unlimited, so ``tokens`` has no effect."""
        return np.power(self.scale / x, self.exponent)

    def gain(self, x, larger):
        return self.loss(x) - self.loss(larger)


@dataclass(frozen=True)
class KaplanSurface:
    """L(N, D) = ((Nc / N)^(aN / aD) + Dc / D)^aD: Kaplan et al. 2020, equation 1.5."""

    Nc: float
    Dc: float
    aN: float
    aD: float

    def loss(self, params, tokens):
        size = np.power(self.Nc / params, self.aN / self.aD)
        return np.power(size + self.Dc / tokens, self.aD)


@dataclass(frozen=True)
class Allocator:
    """N_opt = scale C^exponent, as approaches 1 and 2 find it; the tokens are C / 6 N."""

    scale: float
    exponent: float

    def optimum(self, budget):
        params = self.scale * np.power(budget, self.exponent)
        return params, np.divide(budget, TRAIN_FLOPS) / params

    def budget(self, params):
        """FLOPs for which ``params`` is the optimum, and the tokens that go with them."""
        flops = np.power(np.divide(params, self.scale), 1 / self.exponent)
        return flops, flops / (TRAIN_FLOPS * params)


@dataclass(frozen=True)
class ErrorLaw:
    """Mean error over many tasks: epsilon - k exp(-gamma L), Gadre et al. 2024, equation 5."""

    epsilon: float
    k: float
    gamma: float

    def accuracy(self, loss):
        return 1 - self.epsilon + self.k * np.exp(-self.gamma * np.asarray(loss, float))

    def slope(self, loss):
        """Accuracy gained for each nat that the loss falls."""
        return self.gamma * self.k * np.exp(-self.gamma * np.asarray(loss, float))


@dataclass(frozen=True)
class DataConstrained:
    """A law for tokens that repeat: Muennighoff et al. 2023, section 3.

    Epochs after the first add ever less; so do parameters beyond those that the unique tokens
    deserve. ``tokens_worth`` and ``params_worth`` are the paper's R*_D and R*_N.
    """

    law: Hoffmann
    tokens_worth: float
    params_worth: float

    def loss(self, params, tokens, unique=None):
        """``tokens`` seen in training, of which ``unique`` differ (all by default)."""
        unique = tokens if unique is None else np.minimum(unique, tokens)
        deserved = np.minimum(self.deserved(unique), params)
        return self.law.loss(
            _effective(params, deserved, self.params_worth),
            _effective(tokens, unique, self.tokens_worth),
        )

    def deserved(self, unique):
        """The parameters that are compute-optimal for so many unique tokens."""
        law = self.law
        ratio = law.alpha * law.A / (law.beta * law.B) * np.power(unique, law.beta)
        return np.power(ratio, 1 / law.alpha)


def _effective(used, first, limit):
    """``used`` in units of fresh ones: excess decays exponentially towards ``limit`` times."""
    return first * (1 + limit * -np.expm1(-(used / first - 1) / limit))
