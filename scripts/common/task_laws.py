"""From the loss to a task: what a hundredth of a nat is worth, in points of accuracy.

A loss names no task. Two published laws lead from one to the other: Gadre et al. 2024, equation 5,
for the average error over many tasks, and the second step of Bhagia et al. 2024, section 3, from
the bits a byte of a task's right answers to its accuracy.
"""

from dataclasses import dataclass

import numpy as np
from scipy import optimize
from scipy.special import expit
from sizewise.scaling_laws.forms import ErrorLaw

FEWEST = 5
STEEP = (0.1, 20.0)  # of a sigmoid: one beyond is no flatter or steeper to the eye


@dataclass(frozen=True)
class Sigmoid:
    """Accuracy = chance + (top - chance) s(steepness (middle - loss)): Bhagia et al. 2024, step 2.

    Theirs has a free floor; here the floor is the chance level, so that nothing is fitted at an
    end that the runs do not reach.
    """

    steepness: float
    middle: float
    chance: float
    top: float = 1.0

    def accuracy(self, loss):
        climbed = expit(self.steepness * (self.middle - np.asarray(loss, float)))
        return self.chance + (self.top - self.chance) * climbed


def fit_error_law(loss, accuracy, weights=None) -> ErrorLaw:
    """Least squares of the accuracy over the loss, both of shape [models].

    Raises ValueError with fewer than five models.
    """
    x, y, w = _checked(loss, accuracy, weights)
    middle = x.mean()

    def errors(theta):  # the exponential is anchored amid the losses: k and gamma part there
        return w * (theta[0] + np.exp(theta[1] - np.exp(theta[2]) * (x - middle)) - y)

    starts = [(y.min(), np.log(np.ptp(y) / 2 + 1e-6), np.log(g)) for g in (0.3, 1.0, 3.0)]
    ceiling, log_k, log_gamma = _least_squares(errors, starts)
    gamma = np.exp(log_gamma)
    return ErrorLaw(float(1 - ceiling), float(np.exp(log_k + gamma * middle)), float(gamma))


def fit_sigmoid(loss, accuracy, chance: float, weights=None, top: float | None = 1.0) -> Sigmoid:
    """Least squares of the accuracy over the loss of a task's answers, both of shape [models].

    ``top`` None fits the ceiling too. Raises ValueError with fewer than five models.
    """
    x, y, w = _checked(loss, accuracy, weights)

    def law(theta) -> Sigmoid:
        high = chance + (1 - chance) * float(expit(theta[2])) if top is None else top
        return Sigmoid(float(np.exp(np.clip(theta[0], *np.log(STEEP)))), theta[1], chance, high)

    steep, places = (0.7, 2.0, 5.0), (-0.5, 0.0, 0.5)
    starts = [[np.log(s), np.median(x) + d] for s in steep for d in places]
    if top is None:
        starts = [[*start, 0.0] for start in starts]
    return law(_least_squares(lambda theta: w * (law(theta).accuracy(x) - y), starts))


def _least_squares(errors, starts) -> np.ndarray:
    """The best solution of Levenberg and Marquardt's method from several starts."""
    solutions = [optimize.least_squares(errors, x, method="lm", max_nfev=400) for x in starts]
    return min(solutions, key=lambda solution: solution.cost).x


def _checked(loss, accuracy, weights):
    x, y = np.asarray(loss, float), np.asarray(accuracy, float)
    w = np.ones(len(x)) if weights is None else np.sqrt(np.asarray(weights, float))
    if np.count_nonzero(w) < FEWEST:
        raise ValueError(f"{np.count_nonzero(w)} models do not show how a task follows the loss")
    return x, y, w
