"""Figures of the chapter on cost and energy. Each returns its alternative text."""

from .style import COLOURS, beside, in_rows, listed


def ladder(axes, table) -> str:
    """Dollars of training runs, a bar from the least to the most, with their electricity beside it.

    ``table`` has ``run``, ``low`` and ``high`` (dollars), ``energy`` (text) and ``kind``.
    """
    kinds = list(dict.fromkeys(table["kind"]))
    for place, row in enumerate(table.itertuples()):
        colour = COLOURS[kinds.index(row.kind)]
        _bar(axes, row, place, colour)
        beside(axes, row.energy, row.high, place, colour, dx=6)
    axes.set_xscale("log")
    in_rows(axes, table["run"], top=-1.2)
    beside(axes, "electricity", table["high"].iloc[0], -0.8, dx=6)
    axes.set_xlim(table["low"].min() / 2, table["high"].max() * 1e5)
    axes.set_xticks([1e6, 1e8, 1e10], ["$1 M", "$100 M", "$10 B"])
    axes.set_xlabel("rent of the final run on H100")
    form = "{run} ${low:,.0f} to ${high:,.0f}, {energy}"
    return listed("Dollars and electricity of training runs", table, form)


def floor_and_price(axes, table, listings) -> str:
    """Dollars for a million output tokens: floor, expected range and what hosts take in.

    ``table`` has ``model``, ``floor_dollars``, ``low`` and ``high``; ``listings`` has ``model``
    (some of those) and ``taken in``.
    """
    places = {model: place for place, model in enumerate(table["model"])}
    for row in table.itertuples():
        _bar(axes, row, places[row.model], COLOURS[1])
        axes.plot([row.floor_dollars], [places[row.model]], "o", markersize=8, color=COLOURS[0])
    hosts = [places[model] for model in listings["model"]]
    axes.plot(listings["taken in"], hosts, "D", color=COLOURS[2], markersize=6)
    names = ("floor", "expected", "listed, with prompts")
    for at, name, colour in zip((0.02, 0.2, 0.45), names, COLOURS, strict=False):
        axes.annotate(name, (at, 1.02), xycoords="axes fraction", color=colour, va="bottom")
    axes.set_xscale("log")
    in_rows(axes, table["model"])
    axes.set_xlabel("dollars for a million output tokens")
    form = "{model} floor {floor_dollars:.2g}, expected {low:.2g} to {high:.2g}"
    return listed("Dollars for a million output tokens, logarithmic", table, form)


def _bar(axes, row, place: int, colour: str) -> None:
    ends = ([row.low, row.high], [place, place])
    axes.plot(*ends, linewidth=9, solid_capstyle="butt", color=colour)
