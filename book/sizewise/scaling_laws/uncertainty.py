"""The joint uncertainty of a fitted law's coefficients, and the interval of a loss that follows.

L = E + A / N^alpha + B / D^beta is read about the middle (N0, D0) of its runs, where
S = A N^-alpha and T = B D^-beta are the terms of size and data. Its five coordinates are E, S and
T at the middle, alpha and beta. They are chosen so that the loss is all but linear in them: among
the runs E, A and B move against each other far more than the loss does, and in log A and log B
that cancels to first order only.

An interval is of the curve, not of one new run, and holds if the law's form does.
"""

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from .forms import Hoffmann

COORDINATES = ("E", "size", "data", "alpha", "beta")
PAIRS = [(a, b) for k, a in enumerate(COORDINATES) for b in COORDINATES[k:]]
REACH = round(NormalDist().inv_cdf(0.975), 2)  # standard deviations to each side, for 95 %


@dataclass(frozen=True)
class Direction:
    """A way for all coefficients to be off together, one standard deviation long.

    Each value is a share: of E, of the terms of size and of data at the middle of the runs, of
    alpha and of beta.
    """

    E: float
    size: float
    data: float
    alpha: float
    beta: float


@dataclass(frozen=True)
class Joint:
    """A law, the middle of its runs (parameters, tokens), and independent directions of error."""

    law: Hoffmann
    params: float
    tokens: float
    directions: tuple[Direction, ...]

    @classmethod
    def from_covariance(cls, law: Hoffmann, params: float, tokens: float, covariance) -> "Joint":
        """From the covariance [5, 5] of shares by which `COORDINATES` may be off.

        Of the exponents, of their logarithms.
        """
        sizes, axes = np.linalg.eigh(np.asarray(covariance, dtype=float))
        scaled = axes * np.sqrt(np.maximum(sizes, 0))  # [5, directions]; rounding may go below 0
        return cls(law, params, tokens, tuple(Direction(*map(float, axis)) for axis in scaled.T))

    @classmethod
    def from_row(cls, law: Hoffmann, row: dict) -> "Joint":
        """From the columns of a row of the kind ``joint`` of ``data/refit_published.jsonl``."""
        covariance = np.empty((5, 5))
        for a, b in PAIRS:
            k, m = COORDINATES.index(a), COORDINATES.index(b)
            covariance[k, m] = covariance[m, k] = row[f"cov_{a}_{b}"]
        return cls.from_covariance(law, row["middle_params"], row["middle_tokens"], covariance)

    def change(self, error: Direction, params, tokens):
        """Nats by which the loss moves, to first order, if the coefficients move that way."""
        size, data = self.law.size_term(params), self.law.data_term(tokens)
        steeper_size = self.law.alpha * np.log(params / self.params) * error.alpha
        steeper_data = self.law.beta * np.log(tokens / self.tokens) * error.beta
        by_size = size * (error.size - steeper_size)
        return self.law.E * error.E + by_size + data * (error.data - steeper_data)

    def moved(self, error: Direction) -> Hoffmann:
        """The law with all coefficients off by ``error``."""
        law = self.law
        alpha, beta = law.alpha * np.exp(error.alpha), law.beta * np.exp(error.beta)
        return Hoffmann(
            law.E * (1 + error.E),
            law.size_term(self.params) * (1 + error.size) * np.power(self.params, alpha),
            law.data_term(self.tokens) * (1 + error.data) * np.power(self.tokens, beta),
            alpha,
            beta,
        )

    def ratio_interval(self, quantity):
        """95 % interval of a positive quantity of the law, by the delta method on its logarithm.

        The derivative is a difference of one standard deviation along each direction.
        """
        value = quantity(self.law)
        changes = [np.log(quantity(self.moved(error)) / value) for error in self.directions]
        return log_ends(value, sum(change**2 for change in changes))

    def variance(self, params, tokens):
        """Variance of the loss, in nats squared: the squares of independent changes add up.

        The delta method: van der Vaart 1998, Asymptotic Statistics, theorem 3.1.
        """
        return sum(self.change(error, params, tokens) ** 2 for error in self.directions)

    def interval(self, params, tokens):
        """95 % interval of the loss at a point, nats a token."""
        return ends(self.law.loss(params, tokens), self.variance(params, tokens))


def ends(loss, variance):
    """95 % interval of a loss, taken of its logarithm: so was the fit, and no end is below 0."""
    return log_ends(loss, variance / loss**2)


def log_ends(value, variance):
    """95 % interval of a positive value from the variance of its logarithm."""
    share = REACH * np.sqrt(variance)
    return value * np.exp(-share), value * np.exp(share)
