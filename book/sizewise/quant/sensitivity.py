"""Which layers matter: quantize one group at a time, then spend bytes where they help most.

Everything here works on a table of (group, format, bytes, loss). What a loss is, and how a group
is quantized, is given: `measure` makes the table with `sizewise.quant.weights`, the allocations
are arithmetic. They take the losses of single groups to add up, which is an approximation;
`measured` says how good it was.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import text
from . import held, weights

KEPT = ""  # the format of a group that is left alone
GROUPINGS = {
    "layer": lambda path: re.match(r"(.*?\.\d+)?", path).group() or path,
    "module": lambda path: path,
    "kind": lambda path: path.rsplit(".", 1)[-1],
}


@dataclass(frozen=True)
class Allocation:
    """A format for each group (`KEPT` for none), its bytes and the loss that the table predicts."""

    formats: dict[str, str]
    bytes: int
    loss: float


def groups(model, by: str = "layer") -> dict[str, list[str]]:
    """The convertible layers of a model, without its head, by ``layer``, ``module`` or ``kind``.

    A kind is the last part of a name, such as ``down_proj``. Raises ValueError for another word.
    """
    if by not in GROUPINGS:
        raise text.unknown("grouping", by, GROUPINGS)
    found: dict[str, list[str]] = {}
    for path in weights.linear_layers(model):
        if path not in weights.head(model):
            found.setdefault(GROUPINGS[by](path), []).append(path)
    return found


def measure(
    make: Callable[[], Any],
    loss: Callable[[Any], float],
    formats: Iterable[str],
    by: str = "layer",
    progress: Callable[[int, int], None] | None = None,
):
    """A data frame: ``group``, ``format``, ``bytes`` of its layers, and the ``loss`` it adds.

    ``make()`` gives a fresh model each time, ``loss(model)`` a number that is better when lower.
    The rows of format `KEPT` state the bytes of a group that is left alone, at no loss.
    """
    import pandas

    formats = tuple(formats)
    model = make()
    parts, base, rows = groups(model, by), float(loss(model)), []
    whole = held.of(model).total
    for name, paths in parts.items():
        own = sum(model.get_submodule(path).weight.nbytes for path in paths)
        rows.append({"group": name, "format": KEPT, "bytes": own, "loss": 0.0})
        for format in formats:
            one = make()
            made = weights.convert(one, format, only=paths, skip=())
            added = float(loss(one)) - base
            size = own - (whole - made.held.total)
            rows.append({"group": name, "format": format, "bytes": size, "loss": added})
            if progress:
                progress(len(rows), len(parts) * (len(formats) + 1))
    return pandas.DataFrame(rows)


def greedy(table, budget: int) -> Allocation:
    """Little loss within ``budget`` bytes of groups, one step at a time.

    From every group as it is, the step that costs least loss for each byte it saves is taken
    until the bytes fit. Where the losses of each group are convex in its bytes, that is the
    optimum for the bytes it ends at. The last step may save more than it had to, so groups are
    then widened again, the one that gains most first, as long as the budget allows it.
    Raises ValueError if the smallest formats together are over the budget.
    """
    options = _options(table)
    chosen = _descend(options, budget)
    while True:
        slack = budget - _bytes(options, chosen)
        gains = [
            (options[name][now][1] - loss, name, format)
            for name, now in chosen.items()
            for format, (size, loss) in options[name].items()
            if size - options[name][now][0] <= slack and loss < options[name][now][1]
        ]
        if not gains:
            return _allocation(options, chosen)
        _, name, format = max(gains)
        chosen[name] = format


def _descend(options, budget: int) -> dict[str, str]:
    """Steps of least loss for a byte until the bytes fit."""
    chosen = dict.fromkeys(options, KEPT)
    while (size := _bytes(options, chosen)) > budget:
        steps = [
            ((loss - options[name][now][1]) / (options[name][now][0] - least), name, format)
            for name, now in chosen.items()
            for format, (least, loss) in options[name].items()
            if least < options[name][now][0]
        ]
        if not steps:
            raise ValueError(f"{size:,} bytes is the least these formats reach, not {budget:,}")
        _, name, format = min(steps)
        chosen[name] = format
    return chosen


def uniform(table, format: str) -> Allocation:
    """Every group in one format. Raises ValueError for a format that the table has not."""
    options = _options(table)
    known = list(dict.fromkeys(table.format))
    if format not in known:
        raise text.unknown("format of the table", format, known)
    return _allocation(options, dict.fromkeys(options, format))


def at_random(table, budget: int, seed: int = 0) -> Allocation:
    """Groups in a random order, each to a random smaller format, until the bytes fit."""
    options, draw = _options(table), np.random.default_rng(seed)
    chosen = dict.fromkeys(options, KEPT)
    while (size := _bytes(options, chosen)) > budget:
        steps = [
            (name, format)
            for name, now in chosen.items()
            for format, (least, _) in options[name].items()
            if least < options[name][now][0]
        ]
        if not steps:
            raise ValueError(f"{size:,} bytes is the least these formats reach, not {budget:,}")
        name, format = steps[draw.integers(len(steps))]
        chosen[name] = format
    return _allocation(options, chosen)


def apply(model, allocation: Allocation, by: str = "layer"):
    """Convert a model in place as an allocation says, and return it."""
    parts = groups(model, by)
    for name, format in allocation.formats.items():
        if name not in parts:
            raise text.unknown("group", name, parts)
        if format != KEPT:
            weights.convert(model, format, only=parts[name], skip=())
    return model


def measured(
    make: Callable[[], Any],
    loss: Callable[[Any], float],
    allocation: Allocation,
    by: str = "layer",
) -> float:
    """The loss that an allocation really adds, to hold against ``allocation.loss``."""
    base = float(loss(make()))
    return float(loss(apply(make(), allocation, by))) - base


def _options(table) -> dict[str, dict[str, tuple[int, float]]]:
    """{group: {format: (bytes, loss)}}; every group must have the row of `KEPT`."""
    found: dict[str, dict] = {}
    for row in table.itertuples():
        found.setdefault(row.group, {})[row.format] = (int(row.bytes), float(row.loss))
    for name, formats in found.items():
        if KEPT not in formats:
            raise ValueError(f"group {name!r} has no row for being left alone")
    return found


def _bytes(options, chosen) -> int:
    return sum(options[name][format][0] for name, format in chosen.items())


def _allocation(options, chosen) -> Allocation:
    loss = sum(options[name][format][1] for name, format in chosen.items())
    return Allocation(dict(chosen), _bytes(options, chosen), loss)
