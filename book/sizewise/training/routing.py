"""Where a trained mixture of experts sends its tokens: the routing columns of ``data/moe.md``.

Routes are an array (layers, windows, context, used) of experts, read off fixed windows of the
validation text. Loads are shares of the choices, one row a layer. All is numpy except for
`routes`, which runs a model.
"""

import math

import numpy as np
from scipy.stats import entropy

from . import batches

ROWS = 32  # windows at a time
SHUFFLES = 5  # of the labels, for the bias of a mutual information
DEAD = 0.1  # of an even load; an expert that gets less counts as dead
TOUCHED = {"touched_4": 4, "touched_16": 16, "touched_64": 64}  # tokens of different windows
DRAWS = 400
COLUMNS = ("loads", "evenness", "peak", "dead", "collapsed", *TOUCHED, "by_token")


def columns(model, tokens, context: int, experts: int, windows: int) -> dict:
    """The routing columns of a trained model, on ``windows`` windows; all None with one expert."""
    if experts == 1:
        return dict.fromkeys(COLUMNS)
    ids, _ = batches.fixed(tokens.validation, context, windows)  # (windows, context)
    sent = routes(model, ids)
    loads = load(sent, experts)
    measured = {
        "loads": loads,
        "evenness": evenness(loads),
        "peak": loads.max(-1) * experts,
        "dead": dead(loads),
        "collapsed": bool(dead(loads).max() > 0.5),
        "by_token": information(ids.numpy(), sent, experts),
    }
    for name, number in TOUCHED.items():
        measured[name] = touched(sent, min(number, len(ids)), DRAWS)
    return {name: _plain(value) for name, value in measured.items()}


def routes(model, ids) -> np.ndarray:
    """The experts that ``ids`` (windows, context) are sent to: (layers, windows, context, used).

    Empty, with no layers, for a model without experts.
    """
    import torch

    from .load_balancing import routers

    seen: list[list] = [[] for _ in routers(model)]

    def keep(layer: int):
        return lambda router, inputs, outputs: seen[layer].append(outputs[2].cpu())

    hooks = [
        router.register_forward_hook(keep(layer)) for layer, router in enumerate(routers(model))
    ]
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            for part in ids.split(ROWS) if hooks else ():
                model.base_model(input_ids=part.to(model.device), use_cache=False)
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    if not seen:
        return np.zeros((0, *ids.shape, 1), np.int16)
    layers = [torch.cat(layer).reshape(*ids.shape, -1) for layer in seen]
    return torch.stack(layers).numpy().astype(np.int16)


def load(sent: np.ndarray, experts: int) -> np.ndarray:
    """Share of the choices that each expert gets, by layer: (layers, experts), rows sum to 1."""
    flat = sent.reshape(len(sent), -1)
    return np.stack([np.bincount(layer, minlength=experts) / layer.size for layer in flat])


def evenness(loads: np.ndarray) -> np.ndarray:
    """Entropy of each row over its most, from 0 (one expert gets all) to 1 (even): (layers,)."""
    return entropy(loads, axis=-1) / math.log(loads.shape[-1])


def dead(loads: np.ndarray) -> np.ndarray:
    """Share of the experts that get under `DEAD` of an even load: (layers,)."""
    return (loads < DEAD / loads.shape[-1]).mean(-1)


def touched(sent: np.ndarray, tokens: int, draws: int, seed: int = 0) -> np.ndarray:
    """Distinct experts that ``tokens`` tokens reach, each of another window, by layer: (layers,).

    The mean over ``draws`` draws of windows and of a position in each, as sequences at different
    places meet in a step of a server.
    """
    layers, windows, context, _ = sent.shape
    rng = np.random.default_rng(seed)
    total = np.zeros(layers)
    for _ in range(draws):
        rows = rng.choice(windows, tokens, replace=False)
        chosen_routes = sent[:, rows, rng.integers(0, context, tokens)]  # (layers, tokens, used)
        total += [len(np.unique(layer)) for layer in chosen_routes]
    return total / draws


def information(labels: np.ndarray, sent: np.ndarray, experts: int, seed: int = 0) -> np.ndarray:
    """Share of the routing's entropy that ``labels`` (windows, context) explain: (layers,).

    Mutual information of label and expert, less its mean over shuffled labels, which is what a
    finite sample shows where there is nothing (the plug-in estimate is biased upwards: Miller
    1955), over the entropy of the loads. For labels that do explain much this takes off too much,
    so it errs low. NaN where a layer uses one expert only.
    """
    rng = np.random.default_rng(seed)
    layers, *_, used = sent.shape
    _, label = np.unique(labels, return_inverse=True)
    label = label.reshape(-1)
    shuffled = [rng.permutation(label) for _ in range(SHUFFLES)]
    shares = np.full(layers, np.nan)
    for layer in range(layers):
        choices = sent[layer].reshape(-1, used)
        spread = entropy(np.bincount(choices.reshape(-1), minlength=experts))
        if spread > 0:
            chance = np.mean([_mutual(labels_of, choices, experts) for labels_of in shuffled])
            shares[layer] = (_mutual(label, choices, experts) - chance) / spread
    return shares


def _mutual(label: np.ndarray, choices: np.ndarray, experts: int) -> float:
    """Mutual information in nats of label (tokens,) and each choice of choices (tokens, used)."""
    cells = label[:, None] * experts + choices  # (tokens, used)
    joint = np.bincount(cells.reshape(-1), minlength=(label.max() + 1) * experts)
    table = joint.reshape(-1, experts)
    return float(entropy(table.sum(0)) + entropy(table.sum(1)) - entropy(joint))


def _plain(value):
    """Numbers and lists as JSON has them, to six digits; None for what is not a number."""
    if isinstance(value, np.ndarray | list):
        return [_plain(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
