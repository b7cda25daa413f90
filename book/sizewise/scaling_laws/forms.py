"""The forms of scaling laws, and the coefficients that others published.

Losses are in nats a token, C = 6 N D operations. What N counts (with embeddings or without) is
part of a law: see ``counts`` of its entry in ``data/facts/laws.yml``.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from sizewise import units
from sizewise.data import records

NAMES = ("E", "A", "B", "alpha", "beta")
OPERATIONS = 6  # for each parameter and token of training


@dataclass(frozen=True)
class Hoffmann:
    """L(N, D) = E + A / N^alpha + B / D^beta: Hoffmann et al. 2022, equation 2."""

    E: float
    A: float
    B: float
    alpha: float
    beta: float

    @classmethod
    def of(cls, theta) -> "Hoffmann":
        """From log A, log B, log E, alpha, beta; arrays [..., 5] give arrays of coefficients."""
        theta = np.moveaxis(np.asarray(theta, dtype=float), -1, 0)
        with np.errstate(over="ignore"):  # a resample may say infinity
            a, b, e = np.exp(theta[:3])
        found = (e, a, b, theta[3], theta[4])
        return cls(*map(float, found)) if theta.ndim == 1 else cls(*found)

    @property
    def theta(self) -> np.ndarray:
        """The coordinates of the fit: log A, log B, log E, alpha, beta."""
        return np.stack([*np.log([self.A, self.B, self.E]), self.alpha, self.beta], axis=-1)

    def loss(self, params, tokens):
        return self.E + self.size_term(params) + self.data_term(tokens)

    def size_term(self, params):
        """What a finite size costs, A / N^alpha: all that growth beyond N can still win."""
        return self.A * np.power(params, -self.alpha)

    def data_term(self, tokens):
        """What finite data cost, B / D^beta."""
        return self.B * np.power(tokens, -self.beta)

    def gain(self, params, larger):
        """Nats won by growing from one size to a larger one on the same tokens."""
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
        """Parameters and tokens of least loss for ``budget`` operations, C = 6 N D.

        Hoffmann et al. 2022, equation 4.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            ratio = self.alpha * self.A / (self.beta * self.B)
            g = np.power(ratio, 1 / (self.alpha + self.beta))
            params = g * np.power(np.divide(budget, OPERATIONS), self.exponent)
            return params, np.divide(budget, OPERATIONS) / params

    def budget(self, params):
        """Operations for which ``params`` is the optimum, and the tokens that go with them."""
        tokens = np.power(
            self.beta * self.B / (self.alpha * self.A) * np.power(params, self.alpha), 1 / self.beta
        )
        return OPERATIONS * params * tokens, tokens


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
        return params, np.divide(budget, OPERATIONS) / params

    def budget(self, params):
        """Operations for which ``params`` is the optimum, and the tokens that go with them."""
        operations = np.power(np.divide(params, self.scale), 1 / self.exponent)
        return operations, operations / (OPERATIONS * params)


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
        """``tokens`` seen in training, of which ``unique`` differ (all, unless said)."""
        unique = tokens if unique is None else np.minimum(unique, tokens)
        deserved = np.minimum(self.deserved(unique), params)
        return self.law.loss(
            _worth(params, deserved, self.params_worth), _worth(tokens, unique, self.tokens_worth)
        )

    def deserved(self, unique):
        """The parameters that are compute-optimal for so many unique tokens."""
        law = self.law
        ratio = law.alpha * law.A / (law.beta * law.B) * np.power(unique, law.beta)
        return np.power(ratio, 1 / law.alpha)


def _worth(used, first, limit):
    """``used`` in units of fresh ones: excess decays exponentially towards ``limit`` times."""
    return first * (1 + limit * -np.expm1(-(used / first - 1) / limit))


@cache
def entries() -> dict[str, dict]:
    """Every entry of ``data/facts/laws.yml`` by name, in the file's order."""
    return {row["name"]: row for row in records.facts("laws")}


def published(name: str):
    """A published law by name. Raises ValueError with the nearest name, or if it has no form."""
    if name not in entries():
        raise units.unknown("law", name, entries())
    entry = entries()[name]
    c = {key: float(value) for key, value in entry["coefficients"].items()}
    match entry["form"]:
        case "hoffmann":
            return Hoffmann(**c)
        case "hoffmann-logs":
            return Hoffmann.of([c["a"], c["b"], c["e"], c["alpha"], c["beta"]])
        case "gadre":  # A N^b + B 6^(b/2) D^b + E, as their code writes it
            b = c["b"]
            return Hoffmann(c["E"], c["A"], c["B"] * OPERATIONS ** (b / 2), -b, -b)
        case "kaplan":
            return Kaplan(**c)
        case "kaplan-surface":
            return KaplanSurface(**c)
        case "data-constrained":
            law = Hoffmann.of([c["a"], c["b"], c["e"], c["alpha"], c["beta"]])
            return DataConstrained(law, c["tokens_worth"], c["params_worth"])
        case "routed" | "fine-grained" | "joint-experts" | "sparsity":
            from . import sparse

            return sparse.of(entry)
    raise ValueError(f"{name} states exponents only: no law can be evaluated")
