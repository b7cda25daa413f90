"""What is told of a mixture's routes: the routing columns of ``data/moe.md``."""

import math

import numpy as np

from . import batches, routing, token_source

GROUP = 16  # windows that share an expert's capacity
CAPACITIES = {"dropped_100": 1.0, "dropped_125": 1.25, "dropped_200": 2.0}
TOUCHED = {"touched_4": 4, "touched_16": 16, "touched_64": 64}  # tokens of different windows
DRAWS = 400
COLUMNS = (
    "loads",
    "evenness",
    "peak",
    "dead",
    "collapsed",
    *CAPACITIES,
    "dropped_by_quarter",
    *TOUCHED,
    "by_token",
    "by_previous",
    "by_position",
    "by_source",
    "look_steps",
    "look_evenness",
    "look_peak",
    "look_agreement",
    "look_chance",
)


def columns(watched: routing.Watched, tokens, context: int, experts: int, windows: int) -> dict:
    """The routing columns of a run whose layers have ``experts`` experts, all None with one.

    Loads, drops and what explains the routes are taken on ``windows`` windows of the validation
    text, the looks over training on those that were watched.
    """
    if experts == 1:
        return dict.fromkeys(COLUMNS)
    ids, _ = batches.fixed(tokens.validation, context, windows)  # (windows, context)
    sent = routing.routes(watched.model, ids)
    loads = routing.load(sent, experts)
    dead = routing.dead(loads)
    told = {
        "loads": loads,
        "evenness": routing.evenness(loads),
        "peak": routing.peak(loads),
        "dead": dead,
        "collapsed": bool(dead.max() > 0.5),
    }
    group = min(GROUP, len(ids))
    for name, factor in CAPACITIES.items():
        told[name] = routing.dropped(sent, experts, factor, group).mean()
    late = routing.dropped(sent, experts, CAPACITIES["dropped_125"], group).mean((0, 1, 3))
    told["dropped_by_quarter"] = [part.mean() for part in np.array_split(late, 4)]
    for name, number in TOUCHED.items():
        told[name] = routing.touched(sent, experts, min(number, len(ids)), DRAWS)
    told |= _explained(tokens, ids.numpy(), sent, experts)
    return _plain(told | _looks(watched, experts))


def _explained(tokens, ids: np.ndarray, sent: np.ndarray, experts: int) -> dict:
    """What of the routes is explained by four labels of a token, each by itself."""
    windows, context = ids.shape
    labels = {
        "by_token": ids,
        "by_previous": np.concatenate([np.full((windows, 1), -1), ids[:, :-1]], 1),
        "by_position": np.broadcast_to(np.arange(context), ids.shape),
    }
    told = {name: routing.information(one, sent, experts) for name, one in labels.items()}
    told["by_source"] = None
    if not tokens.name.startswith("hub:"):
        source, _ = token_source.of(tokens)
        count = batches.windows(tokens.validation, context)
        starts = np.array([place * count // windows * context for place in range(windows)])
        label = source[starts[:, None] + np.arange(context)]
        told["by_source"] = routing.information(label, sent, experts)
    return told


def _looks(watched: routing.Watched, experts: int) -> dict:
    loads = [routing.load(sent, experts) for sent in watched.routes]
    last = watched.routes[-1]
    shared = [routing.agreement(sent, last, experts) for sent in watched.routes]
    return {
        "look_steps": list(watched.steps),
        "look_evenness": [routing.evenness(one) for one in loads],
        "look_peak": [routing.peak(one) for one in loads],
        "look_agreement": [found for found, _ in shared],
        "look_chance": [chance for _, chance in shared],
    }


def _plain(value):
    """Numbers and lists as JSON has them, to six digits; None for what is not a number."""
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, np.ndarray | list):
        return [_plain(one) for one in value]
    if isinstance(value, float | np.floating):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
