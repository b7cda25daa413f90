"""Figures of the chapter on scaling laws."""

from .style import COLOURS, INK

LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)), (0, (1, 2)))


def gains(axes, table, fitted) -> None:
    """What ten times the parameters win in nats, over the size from which they grow.

    ``table`` has ``law``, ``params`` and ``gain``; ``fitted`` is the smallest and the largest
    size behind most of the fits, which is shaded.
    """
    for line, (law, rows) in zip(LINES, table.groupby("law", sort=False), strict=False):
        axes.loglog(rows["params"], rows["gain"], linestyle=line, label=law)
    axes.axvspan(*fitted, color=INK, alpha=0.08, linewidth=0)
    axes.annotate(
        "sizes of the\nChinchilla runs",
        (fitted[0], 0.03),
        xycoords=("data", "axes fraction"),
        xytext=(4, 0),
        textcoords="offset points",
        fontsize=9,
        va="bottom",
    )
    axes.set_xlabel("parameters before the growth")
    axes.set_ylabel("nats won by ten times the size")
    axes.figure.legend(loc="outside upper center", ncols=3, fontsize=9.5)


def tokens_each(axes, table, band, largest: float) -> None:
    """Best tokens for each parameter over the budget, one line a law, with one law's interval.

    ``table`` has ``law``, ``budget`` and ``tokens_each``; ``band`` has ``budget``, ``low`` and
    ``high`` and belongs to the first law. ``largest`` is the most costly run that was fitted.
    """
    for line, (law, rows) in zip(LINES, table.groupby("law", sort=False), strict=False):
        axes.loglog(rows["budget"], rows["tokens_each"], linestyle=line, label=law)
    axes.fill_between(
        band["budget"], band["low"], band["high"], color=COLOURS[0], alpha=0.2, linewidth=0
    )
    axes.axvline(largest, color=INK, linewidth=0.8, linestyle=":")
    axes.annotate(
        "most costly run fitted",
        (largest, 0.02),
        xycoords=("data", "axes fraction"),
        xytext=(4, 0),
        textcoords="offset points",
        fontsize=9,
        va="bottom",
    )
    axes.set_xlabel("training operations")
    axes.set_ylabel("tokens for each parameter")
    axes.legend(fontsize=9.5)


def budgets(axes, table) -> None:
    """Operations at which a size is the best, one law a line, with an interval where there is one.

    ``table`` has ``law``, ``operations``, ``low`` and ``high`` (missing where not known).
    """
    places = range(len(table))
    axes.plot(table["operations"], places, "o", markersize=7)
    for place, row in zip(places, table.itertuples(), strict=True):
        if row.low == row.low:  # not missing
            axes.plot([row.low, row.high], [place, place], color=COLOURS[0], linewidth=3, alpha=0.4)
    axes.set_xscale("log")
    axes.set_yticks(places, table["law"])
    axes.set_ylim(len(table) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("training operations (logarithmic)")
