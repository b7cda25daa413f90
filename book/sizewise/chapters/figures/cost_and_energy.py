"""Figures of the chapter on cost and energy. Each returns its alternative text."""

from .style import COLOURS, INK, beside, in_rows, listed


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
    return listed(
        "Dollars and electricity of training runs",
        (
            f"{row.run} ${row.low:,.0f} to ${row.high:,.0f}, {row.energy}"
            for row in table.itertuples()
        ),
    )


def state_by_degree(axes, table, memory: float, device: str) -> str:
    """Bytes of training state on each device over the number of replicas, both logarithmic.

    ``table`` is indexed by the number of data-parallel replicas and has one column of bytes a
    ZeRO stage. A line marks the ``memory`` of one ``device``.
    """
    for colour, (stage, sizes) in zip(COLOURS, table.items(), strict=False):
        axes.loglog(table.index, sizes / 1e9, color=colour)
        beside(axes, stage, table.index[-1], sizes.iloc[-1] / 1e9, colour, dx=6)
    axes.axhline(memory / 1e9, color=INK, linewidth=1, linestyle="--")
    beside(axes, f"memory of one {device}", table.index[0], memory / 1e9, dx=1, dy=9)
    axes.set_xlim(table.index[0], table.index[-1] * 60)
    axes.set_xlabel("data-parallel replicas")
    axes.set_ylabel("GB on each device")
    last = table.iloc[-1]
    return listed(
        f"Training state on each device at {last.name:,} data-parallel replicas",
        (f"{stage} {size / 1e9:,.0f} GB" for stage, size in last.items()),
    )


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
    return listed(
        "Dollars for a million output tokens, logarithmic",
        (
            f"{row.model} floor {row.floor_dollars:.2g}, expected {row.low:.2g} to {row.high:.2g}"
            for row in table.itertuples()
        ),
    )


def _bar(axes, row, place: int, colour: str) -> None:
    ends = ([row.low, row.high], [place, place])
    axes.plot(*ends, linewidth=9, solid_capstyle="butt", color=colour)
