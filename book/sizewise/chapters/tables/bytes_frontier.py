"""Quality against bytes: which model in which format nothing beats, and whether one can tell.

Losses of a model in two formats, and of two sizes of model, were measured on the same documents,
each pair with its interval (`loss_change` of the rows `quality` and `sizes`). The difference of
any two points is a sum of such parts; their intervals are added end to end, as if every part were
at its worst at once, which makes them too wide rather than too narrow.
"""

from typing import NamedTuple

import numpy as np

CHANGE = ("loss_change", "loss_change_low", "loss_change_high")


class Gap(NamedTuple):
    """A difference in bits a byte with its 95 % interval."""

    value: float
    low: float
    high: float


def front(rows, cost: str, loss: str):
    """The rows that no other row beats in both columns, from the cheapest on."""
    ordered = rows.sort_values([cost, loss])
    return ordered[ordered[loss] < ordered[loss].cummin().shift(fill_value=np.inf)]


def surely(rows, sizes):
    """The rows of the front whose loss is below that of all with fewer bytes, intervals and all.

    ``rows`` have ``model``, ``held_bytes``, ``bits_per_byte`` and ``loss_change`` with their
    intervals; ``sizes`` are rows of that kind, or none. The cheapest row is always there.
    """
    best = front(rows, "held_bytes", "bits_per_byte")
    kept = []
    for row in best.to_dict("records"):
        cheaper = rows[rows["held_bytes"] < row["held_bytes"]].to_dict("records")
        kept.append(all(apart(row, other, sizes).high < 0 for other in cheaper))
    return best[kept]


def apart(one, other, sizes) -> Gap:
    """The bits a byte of ``one`` less those of ``other``.

    Where ``sizes`` do not connect their models, the intervals of both losses are taken as if
    they had nothing in common, which is wider still.
    """
    value = one["bits_per_byte"] - other["bits_per_byte"]
    steps = _steps(sizes, one["model"], other["model"])
    if steps is None:
        low = one["bits_per_byte_low"] - other["bits_per_byte_high"]
        return Gap(value, low, one["bits_per_byte_high"] - other["bits_per_byte_low"])
    parts = [_gap(one), _less(_gap(other)), *steps]
    down = sum(part.value - part.low for part in parts)
    up = sum(part.high - part.value for part in parts)
    return Gap(value, value - down, value + up)


def equal_bytes(rows, few: str, many: str, sizes):
    """Each model in format ``few`` against format ``many`` at the same bytes.

    The loss of ``many`` is interpolated between its sizes in the logarithm of the bytes; models
    outside the range of its sizes are left out. ``gain`` is what ``few`` is better by, with its
    interval.
    """
    import pandas

    others = rows[rows["format"] == many].sort_values("held_bytes").to_dict("records")
    at = np.log([one["held_bytes"] for one in others])
    found = []
    for row in rows[rows["format"] == few].sort_values("held_bytes").to_dict("records"):
        place = float(np.interp(np.log(row["held_bytes"]), at, range(len(at)), -1, -1))
        if place < 0:
            continue
        left = min(int(place), len(at) - 2)
        gaps = [apart(others[left + step], row, sizes) for step in (0, 1)]
        share = place - left
        gain = Gap(*((1 - share) * one + share * two for one, two in zip(*gaps, strict=True)))
        found.append(
            {
                "model": row["model"],
                "held": row["held_bytes"],
                few: row["bits_per_byte"],
                many: row["bits_per_byte"] + gain.value,
                "gain": gain.value,
                "gain_low": gain.low,
                "gain_high": gain.high,
            }
        )
    return pandas.DataFrame(found)


def _steps(sizes, one: str, other: str) -> list[Gap] | None:
    """The measured differences that lead from a model to another; None if none do."""
    if one == other:
        return []
    below = {row["model"]: row for row in sizes.to_dict("records")}
    for start, end, turn in ((one, other, _same), (other, one, _less)):
        found, now = [], start
        while now != end and now in below and len(found) < len(below):
            found.append(turn(_gap(below[now])))
            now = below[now]["against"]
        if now == end:
            return found
    return None


def _gap(row) -> Gap:
    return Gap(*(row[name] for name in CHANGE))


def _same(gap: Gap) -> Gap:
    return gap


def _less(gap: Gap) -> Gap:
    return Gap(-gap.value, -gap.high, -gap.low)
