"""Figures of the chapter on serving mixtures of experts. Each returns its alternative text."""

from .style import COLOURS, INK, beside

TICKS = [1, 4, 16, 64, 256, 1024, 4096]
BATCH = "concurrent requests (batch size)"


def slowdown(axes, table) -> str:
    """Time of a token over that of a dense model of the active size, by batch: a line a model.

    ``table`` has ``model``, ``batch`` and ``ratio``. Names stand in the order of the lines, with
    the highest value of each.
    """
    tops = []
    order = table.groupby("model")["ratio"].max().sort_values(ascending=False).index
    for place, (colour, model) in enumerate(zip(COLOURS, order, strict=False)):
        rows = table[table["model"] == model]
        axes.plot(rows["batch"], rows["ratio"], color=colour)
        top = rows.loc[rows["ratio"].idxmax()]
        tops.append(f"{model} {top['ratio']:.1f} at {top['batch']:,.0f}")
        _in_the_margin(axes, f"{model} {top['ratio']:.1f}×", colour, 0.91 - 0.085 * place)
    axes.axhline(1, color=INK, linewidth=0.8)
    axes.set(ylim=(0.5, 1.12 * table["ratio"].max()), ylabel="times as long as the dense model")
    _batches(axes)
    return (
        "Time for a token over that of a dense model of the active size, by batch: lines that "
        f"start and end at one. The highest point of each: {', '.join(tops)} requests."
    )


def reached(axes, table) -> str:
    """Share of a layer's experts that a step reads, by batch: a line a shape.

    ``table`` has ``shape``, ``batch`` and ``share``.
    """
    shares = []
    for place, (shape, rows) in enumerate(table.groupby("shape", sort=False)):
        axes.plot(rows["batch"], 100 * rows["share"], color=COLOURS[place])
        _in_the_margin(axes, f"{shape} experts", COLOURS[place], 0.5 - 0.1 * place)
        at = rows.iloc[(rows["batch"] - 64).abs().argmin()]
        shares.append(f"{shape} {at['share']:.0%}")
    axes.set(ylim=(0, 102), ylabel="% of a layer's experts read")
    _batches(axes)
    return f"Rising curves of the share of experts read. At 64 requests: {', '.join(shares)}."


def dollars(axes, table, listed: float, name: str) -> str:
    """Floor of a million output tokens by batch, a band a model, under a listed price.

    ``table`` has ``model``, ``batch``, ``low`` and ``high`` in dollars, the cheapest model first.
    """
    ends = []
    for place, (model, rows) in enumerate(table.groupby("model", sort=False)):
        colour = COLOURS[place]
        axes.fill_between(
            rows["batch"], rows["low"], rows["high"], color=colour, alpha=0.25, linewidth=0
        )
        axes.loglog(rows["batch"], rows["high"], color=colour, linewidth=1.2)
        start, end = rows.iloc[0], rows.iloc[-1]
        if place:
            beside(axes, model, 1, start["high"], colour, dx=4, dy=5, va="bottom")
        else:  # the first one is the cheapest in the end
            beside(axes, model, 1, start["low"], colour, dx=4, dy=-14, va="top")
        ends.append(f"{model} from ${start['high']:,.0f} to ${end['high']:.2f}")
    axes.axhline(listed, color=INK, linewidth=1, linestyle="--")
    beside(axes, f"listed: {name}", 4096, listed, dx=0, dy=3, ha="right", va="bottom")
    axes.set_ylim(0.7 * table["low"].min(), 3 * table["high"].max())
    axes.set_ylabel("$ a million output tokens")
    _batches(axes)
    return f"Falling bands of dollars for a million output tokens: {'; '.join(ends)}."


def _in_the_margin(axes, text: str, colour: str, height: float) -> None:
    """A name at the right, at a share of the height: curves lie too close for names on them."""
    beside(axes, text, 0.99, height, colour, dx=0, ha="right", xycoords="axes fraction")


def _batches(axes) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(TICKS, [f"{tick:,}" for tick in TICKS])
    axes.minorticks_off()
    axes.set_xlabel(BATCH)
