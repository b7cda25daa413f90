"""How sure a model is of its choice, and whether it is right that often.

A model's probabilities of the choices come from their likelihoods by softmax. Divided by tokens or
bytes these lie close together, so that the probabilities are modest. One temperature for all
items, fitted on one half of them and judged on the other, mends the scale and never changes the
choice. With two choices it also leaves the items in their order, from unsure to sure; with more
than two, two items may change places.
"""

import hashlib

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from sizewise.stats import paired
from sizewise.validation import whole

BINS = 10
COLDEST, WARMEST = 1e-3, 1e3  # temperatures between which the best is looked for


def energies(nats, over=None) -> np.ndarray:
    """Nats of the choices, a list of items of a list of choices, divided by ``over`` of the same
    shape (tokens, bytes): (items, most choices), infinite where an item has no such choice.

    Raises ValueError for unlike shapes and numbers not finite.
    """
    lengths = [len(entry) for entry in nats]
    result = np.full((len(lengths), max(lengths)), np.inf)
    present = np.arange(max(lengths)) < np.array(lengths)[:, None]
    values = np.concatenate([np.asarray(entry, float) for entry in nats])
    if over is not None:
        if [len(entry) for entry in over] != lengths:
            raise ValueError("the nats and what divides them differ in their choices")
        values = values / np.concatenate([np.asarray(entry, float) for entry in over])
    if not np.isfinite(values).all():
        raise ValueError("nats hold a number that is not finite")
    result[present] = values
    return result


def probabilities(energy: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Softmax of -energy / temperature over the choices: (items, choices)."""
    return softmax(-energy / temperature, axis=1)


def margin(p: np.ndarray) -> np.ndarray:
    """The largest probability less the second: (items,). One choice alone has margin 1."""
    if p.shape[1] < 2:
        return np.ones(len(p))
    ordered = np.sort(p, axis=1)
    return ordered[:, -1] - ordered[:, -2]


def halves(names, seed: int = 0) -> np.ndarray:
    """Which items belong to the first half: (items,), the same on every machine and in any order.

    By the hash of the items' names, which must be different ones.
    """
    names = [str(name) for name in names]
    hashes = [hashlib.sha256(f"{seed}:{name}".encode()).digest() for name in names]
    order = sorted(range(len(names)), key=hashes.__getitem__)
    first = np.zeros(len(names), bool)
    first[order[: len(names) // 2]] = True
    return first


def reliability(confidence, right, bins: int = BINS):
    """A data frame with one row a bin of equally many items, from unsure to sure.

    Columns ``items``, ``confidence`` (mean), ``right`` (share), ``low`` and ``high`` (Wilson).
    Raises ValueError for more bins than items.
    """
    confidence, right = np.asarray(confidence, float), paired.answers("right", right)
    order = np.argsort(confidence, kind="stable")
    parts = np.array_split(order, whole("the bins", bins, len(order)))
    shares = [paired.accuracy(right[part]) for part in parts]
    return pd.DataFrame(
        {
            "items": [len(part) for part in parts],
            "confidence": [confidence[part].mean() for part in parts],
            "right": [share.value for share in shares],
            "low": [share.low for share in shares],
            "high": [share.high for share in shares],
        }
    )


def calibration_error(confidence, right, bins: int = BINS) -> float:
    """Expected calibration error: the mean gap between confidence and share of right answers.

    In bins of equally many items (Guo et al. 2017, section 2, has equal widths). Never 0 by
    chance alone: hold it against `calibration_floor`.
    """
    table = reliability(confidence, right, bins)
    return float(np.average((table.confidence - table.right).abs(), weights=table["items"]))


def calibration_floor(confidence, bins: int = BINS, *, samples: int = 200, seed: int = 0) -> float:
    """What `calibration_error` would be on average, were the model right as often as it says."""
    confidence = np.sort(np.asarray(confidence, float))  # (items,)
    bins = whole("the bins", bins, len(confidence))
    shape = (whole("the samples", samples, 10**5), len(confidence))
    gaps = (np.random.default_rng(seed).random(shape) < confidence) - confidence
    parts = np.array_split(gaps, bins, axis=1)
    return float(sum(np.abs(part.sum(1)) for part in parts).mean() / len(confidence))


def brier(p: np.ndarray, answers) -> float:
    """Mean squared distance between probabilities and the answer, over choices summed: 0 to 2.

    Brier 1950. Rewards order and scale together; a model sure of the right answer has 0.
    """
    right = np.arange(p.shape[1]) == np.asarray(answers)[:, None]
    return float(((p - right) ** 2).sum(1).mean())


def surprise(energy: np.ndarray, answers, temperature: float = 1.0) -> float:
    """Mean nats of the right choice among the choices."""
    log_p = log_softmax(-energy / temperature, axis=1)  # (items, choices)
    return float(-log_p[np.arange(len(answers)), answers].mean())


def temperature(energy: np.ndarray, answers) -> float:
    """The temperature at which the right choices are least surprising (Guo et al. 2017, 4.2).

    The surprise is convex in 1 / temperature, so that there is one best. A model no better than
    chance has it at the warmest that is tried, one that is always right at the coldest.
    """
    result = minimize_scalar(
        lambda log: surprise(energy, answers, np.exp(log)),
        bounds=(np.log(COLDEST), np.log(WARMEST)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(np.exp(result.x))
