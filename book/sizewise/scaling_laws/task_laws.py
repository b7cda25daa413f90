"""From the loss to a task: what a hundredth of a nat is worth, in points of accuracy.

A loss names no task. Two published laws lead from one to the other: Gadre et al. 2024, equation 5,
for the average error over many tasks, and the second step of Bhagia et al. 2024, section 3, from
the bits a byte of a task's right answers to its accuracy.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

FEWEST = 5


@dataclass(frozen=True)
class ErrorLaw:
    """Err(L) = epsilon - k exp(-gamma L): Gadre et al. 2024, equation 5."""

    epsilon: float
    k: float
    gamma: float

    def accuracy(self, loss):
        return 1 - self.epsilon + self.k * np.exp(-self.gamma * np.asarray(loss, float))

    def slope(self, loss):
        """Accuracy gained for each nat that the loss falls."""
        return self.gamma * self.k * np.exp(-self.gamma * np.asarray(loss, float))


@dataclass(frozen=True)
class Sigmoid:
    """Accuracy = chance + (1 - chance) s(steepness (middle - loss)): Bhagia et al. 2024, step 2.

    Theirs has a free floor and ceiling; here the floor is the chance level and the ceiling one, so
    that nothing is fitted at an end that the runs do not reach.
    """

    steepness: float
    middle: float
    chance: float

    def accuracy(self, loss):
        x = self.steepness * (self.middle - np.asarray(loss, float))
        return self.chance + (1 - self.chance) * expit(x)

    def slope(self, loss):
        """Accuracy gained for each unit that the loss falls."""
        p = expit(self.steepness * (self.middle - np.asarray(loss, float)))
        return (1 - self.chance) * self.steepness * p * (1 - p)


def fit_error_law(loss, accuracy, weights=None) -> ErrorLaw:
    """Least squares of the accuracy over the loss, both of shape [models].

    Raises ValueError with fewer than five models.
    """
    from scipy.optimize import least_squares

    x, y, w = _checked(loss, accuracy, weights)
    middle = x.mean()

    def curve(theta):  # the exponential is anchored amid the losses: k and gamma part there
        return theta[0] + np.exp(theta[1] - np.exp(theta[2]) * (x - middle))

    starts = [(y.min(), np.log(np.ptp(y) / 2 + 1e-6), np.log(g)) for g in (0.3, 1.0, 3.0)]
    best = min(
        (least_squares(lambda t: w * (curve(t) - y), start, method="lm") for start in starts),
        key=lambda result: result.cost,
    )
    gamma = np.exp(best.x[2])
    return ErrorLaw(float(1 - best.x[0]), float(np.exp(best.x[1] + gamma * middle)), float(gamma))


def fit_sigmoid(loss, accuracy, chance: float, weights=None) -> Sigmoid:
    """Least squares of the accuracy over the loss of a task's answers, both of shape [models].

    Raises ValueError with fewer than five models.
    """
    from scipy.optimize import least_squares

    x, y, w = _checked(loss, accuracy, weights)

    def errors(theta):
        return w * (Sigmoid(np.exp(theta[0]), theta[1], chance).accuracy(x) - y)

    starts = [(np.log(s), np.median(x) + d) for s in (1.0, 4.0) for d in (-0.5, 0.0, 0.5)]
    best = min(
        (least_squares(errors, start, method="lm") for start in starts),
        key=lambda result: result.cost,
    )
    return Sigmoid(float(np.exp(best.x[0])), float(best.x[1]), chance)


def _checked(loss, accuracy, weights):
    x, y = np.asarray(loss, float), np.asarray(accuracy, float)
    w = np.ones(len(x)) if weights is None else np.sqrt(np.asarray(weights, float))
    if np.count_nonzero(w) < FEWEST:
        raise ValueError(f"{np.count_nonzero(w)} models do not show how a task follows the loss")
    return x, y, w
