"""Where the tokens of a mixture of experts are sent, over training and by what.

Routes are an array (layers, windows, context, used) of experts, found on fixed windows of the
validation text. Loads are shares of the choices, one row a layer. What is given and returned is
numpy, except for `routes` and `train`, which run a model.
"""

import math
from dataclasses import dataclass, field

import numpy as np

from sizewise import validation

from . import batches, capacity, load_balancing, loop, run_config

LOOKS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.7)  # shares of the steps; the end is looked at anyway
ROWS = 32  # windows at a time
SHUFFLES = 5  # of the labels, for the bias of a mutual information
DEAD = 0.1  # of an even load; an expert that gets less counts as dead


@dataclass(frozen=True)
class Watched:
    """A trained model and the routes of the watched windows at each look."""

    model: object = field(repr=False)
    measured: dict  # the measured columns of ``data/isoflop.md``
    steps: tuple[int, ...]  # taken before each look
    routes: tuple[np.ndarray, ...] = field(repr=False)


def routes(model, ids) -> np.ndarray:
    """The experts that ``ids`` (windows, context) are sent to: (layers, windows, context, used).

    Empty, with no layers, for a model without experts.
    """
    import torch

    found: list[list] = [[] for _ in load_balancing.routers(model)]

    def keep(place: int):
        return lambda router, given, out: found[place].append(out[2].cpu())

    hooks = [
        router.register_forward_hook(keep(place))
        for place, router in enumerate(load_balancing.routers(model))
    ]
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            for some in ids.split(ROWS) if hooks else ():
                model.base_model(input_ids=some.to(model.device), use_cache=False)
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    if not found:
        return np.zeros((0, *ids.shape, 1), np.int16)
    layers = [torch.cat(one).reshape(*ids.shape, -1) for one in found]
    return torch.stack(layers).numpy().astype(np.int16)


def train(run: run_config.Run, tokens, windows: int = 64, device=None) -> Watched:
    """Train as `loop.train` does, and look at the routes of ``windows`` windows on the way.

    The losses are those of `loop.train`, whatever is looked at. Raises what it raises.
    """
    import torch

    from . import flops, models, step

    if tokens.vocabulary != run.vocabulary:
        raise ValueError(
            f"the run wants {run.vocabulary} entries, {tokens.name} has {tokens.vocabulary}"
        )
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    model, adam = loop.start(run, device)
    ids, _ = batches.fixed(tokens.validation, run.context, windows)
    due = sorted({round(share * run.steps) for share in LOOKS} - {run.steps})
    steps, seen = [], []

    def look(done: int) -> None:
        if due and done >= due[0]:
            while due and done >= due[0]:  # on a GPU the loop tells of several steps at once
                due.pop(0)
            steps.append(done)
            seen.append(routes(model, ids))

    look(0)
    losses: list[float] = []
    rate = loop.steps(run, tokens, model, adam, losses, told=look)
    size = flops.size(models.spec(run.family, run.width, run.vocabulary, run.context))
    last = losses[-max(1, len(losses) // 10) :]
    measured = {
        "params": size.params,
        "params_active": size.params_active,
        "params_non_embedding": size.params_non_embedding,
        "operations": size.operations_per_token * len(losses) * run.batch * run.context,
        "train_loss": sum(last) / len(last) if step.finite(last) else None,
        "val_loss": None,
        "bits_per_byte": None,
        "steps": len(losses),
        "ended": "not finite",
    }
    if step.finite(losses):
        nats, per_byte = loop.validate(model, tokens, run, device)
        if math.isfinite(nats):
            measured |= {"val_loss": nats, "bits_per_byte": per_byte, "ended": "done"}
    if device.type == "cuda":
        measured["tokens_per_second"] = rate
    steps.append(len(losses))
    seen.append(routes(model, ids))
    return Watched(model, measured, tuple(steps), tuple(seen))


# --- loads


def load(sent: np.ndarray, experts: int) -> np.ndarray:
    """Share of the choices that each expert gets, by layer: (layers, experts), rows sum to 1."""
    flat = sent.reshape(len(sent), -1)
    return np.stack([np.bincount(one, minlength=experts) / one.size for one in flat])


def evenness(loads: np.ndarray) -> np.ndarray:
    """Entropy of each row over its most, from 0 (one expert gets all) to 1 (even): (layers,)."""
    experts = loads.shape[-1]
    if experts == 1:
        return np.ones(loads.shape[:-1])
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(loads > 0, loads * np.log(loads), 0)
    return -terms.sum(-1) / math.log(experts)


def peak(loads: np.ndarray) -> np.ndarray:
    """The largest load over the mean one: (layers,)."""
    return loads.max(-1) * loads.shape[-1]


def dead(loads: np.ndarray) -> np.ndarray:
    """Share of the experts that get under `DEAD` of an even load: (layers,)."""
    return (loads < DEAD / loads.shape[-1]).mean(-1)


def touched(sent: np.ndarray, experts: int, tokens: int, draws: int, seed: int = 0) -> np.ndarray:
    """Distinct experts that ``tokens`` tokens reach, each of another window, by layer: (layers,).

    The mean over ``draws`` draws of windows and of a position in each, as sequences at different
    places meet in a step of a server. Raises ValueError for more tokens than windows.
    """
    layers, windows, context, _ = sent.shape
    validation.whole("tokens of different windows", tokens, windows)
    rng = np.random.default_rng(seed)
    found = np.zeros(layers)
    for _ in range(validation.whole("draws", draws)):
        rows = rng.choice(windows, tokens, replace=False)
        some = sent[:, rows, rng.integers(0, context, tokens)]  # (layers, tokens, used)
        found += [len(np.unique(one)) for one in some]
    return found / draws


def dropped(sent: np.ndarray, experts: int, factor: float, group: int) -> np.ndarray:
    """Which choices would be dropped at a capacity: bool, of the shape of ``sent``.

    Tokens come in groups of ``group`` windows, in each of which `capacity.late` says which are too
    late. Windows that fill no group are left out of the count, as not dropped.
    """
    import torch

    layers, windows, context, used = sent.shape
    size = validation.whole("windows in a group", group, windows)
    found = np.zeros(sent.shape, bool)
    for layer in range(layers):
        for start in range(0, windows - size + 1, size):
            some = torch.from_numpy(sent[layer, start : start + size].astype(np.int64))
            full = capacity.late(some.reshape(-1, used), experts, factor, context)
            found[layer, start : start + size] = full.numpy().reshape(size, context, used)
    return found


# --- what decides a route


def information(labels: np.ndarray, sent: np.ndarray, experts: int, seed: int = 0) -> np.ndarray:
    """Share of the routing's entropy that ``labels`` (windows, context) explain: (layers,).

    Mutual information of label and expert, less its mean over shuffled labels, which is what a
    finite sample shows where there is nothing (the plug-in estimate is biased upwards: Miller
    1955), over the entropy of the loads. For labels that do explain much this takes off too much,
    so it errs low. Near 0: no more than chance. NaN where a layer uses one expert only.
    """
    rng = np.random.default_rng(seed)
    layers, *_, used = sent.shape
    _, label = np.unique(labels, return_inverse=True)
    label = label.reshape(-1)
    shuffled = [rng.permutation(label) for _ in range(SHUFFLES)]
    shares = np.full(layers, np.nan)
    for layer in range(layers):
        chosen = sent[layer].reshape(-1, used)
        entropy = _entropy(np.bincount(chosen.reshape(-1), minlength=experts))
        if entropy > 0:
            chance = np.mean([_mutual(one, chosen, experts) for one in shuffled])
            shares[layer] = (_mutual(label, chosen, experts) - chance) / entropy
    return shares


def _mutual(label: np.ndarray, chosen: np.ndarray, experts: int) -> float:
    """Mutual information in nats of label (tokens,) and each choice of chosen (tokens, used)."""
    cells = label[:, None] * experts + chosen  # (tokens, used)
    joint = np.bincount(cells.reshape(-1), minlength=(label.max() + 1) * experts)
    table = joint.reshape(-1, experts)
    return _entropy(table.sum(0)) + _entropy(table.sum(1)) - _entropy(joint)


def _entropy(counts: np.ndarray) -> float:
    """Entropy in nats of counts."""
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log(share)).sum())


def agreement(first: np.ndarray, second: np.ndarray, experts: int) -> tuple[np.ndarray, np.ndarray]:
    """(found, by chance): share of each token's experts that two sets of routes have in common.

    (layers,) each. By chance: what routes with the same loads would have, were each token's drawn
    anew, the sum over experts of the product of their shares of tokens, over ``used``.
    """
    used = first.shape[-1]
    both = (first[..., :, None] == second[..., None, :]).any(-1)  # (layers, windows, context, used)
    one, other = (load(sent, experts) * used for sent in (first, second))
    return both.mean((1, 2, 3)), (one * other).sum(-1) / used
