"""How sure a model is of its choice: probabilities from the likelihoods of the choices, by softmax.

Divided by tokens or bytes these lie close together, so that the probabilities are modest. One
temperature for all items mends the scale and never changes the choice. With two choices it also
leaves the items in their order, from unsure to sure; with more, two items may change places.
"""

import hashlib

import numpy as np
from scipy.special import softmax


def energies(nats, over=None) -> np.ndarray:
    """Nats of the choices, a list of items of a list of choices, divided by ``over`` of the same
    shape (tokens, bytes): (items, most choices), infinite where an item has no such choice.

    Raises ValueError for unlike shapes and numbers not finite.
    """
    lengths = [len(entry) for entry in nats]
    result = np.full((len(lengths), max(lengths)), np.inf)
    there = np.arange(max(lengths)) < np.array(lengths)[:, None]
    values = np.concatenate([np.asarray(entry, float) for entry in nats])
    if over is not None:
        if [len(entry) for entry in over] != lengths:
            raise ValueError("the nats and what divides them differ in their choices")
        values = values / np.concatenate([np.asarray(entry, float) for entry in over])
    if not np.isfinite(values).all():
        raise ValueError("nats hold a number that is not finite")
    result[there] = values
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
