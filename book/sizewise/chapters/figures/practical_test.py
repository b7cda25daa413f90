"""Figures of the chapter on testing a task of one's own."""

from .style import COLOURS, INK, beside, by_row, interval

DASHES = ("-", "--", "-.", ":")


def sizes(axes, table, marks=()) -> str:
    """Items against the least difference shown, a line for each discordant share.

    ``table`` is that of `tables.practical_test.reach`; at the items of ``marks`` a stroke stands.
    """
    for colour, style, name in zip(COLOURS, DASHES, list(table)[1:], strict=False):
        rows = table.dropna(subset=[name])
        axes.plot(rows["items"], rows[name], style, color=colour)
        beside(axes, name, rows["items"].iloc[-1], rows[name].iloc[-1], colour, dx=4)
    for items in marks:
        axes.axvline(items, color=INK, linewidth=0.9, linestyle=":")
        beside(axes, f"{items} items", items, 0.03, dx=4, dy=4, xycoords=("data", "axes fraction"))
    axes.set(xscale="log", yscale="log", xlim=(10, 14_000))
    for which, values in (("x", (10, 30, 100, 300, 1000, 3000)), ("y", (1, 2, 5, 10, 20, 40))):
        axis = getattr(axes, f"{which}axis")
        axis.set_ticks(values, [f"{value:,}" for value in values])
        axis.set_ticks([], minor=True)
    axes.set(xlabel="items in the test", ylabel="least difference shown, points")
    rows = table[table["items"].isin((20, 100, 1000))]
    return "Least difference in points that so many items show: " + "; ".join(
        f"{row.items:.0f} items "
        + ", ".join("none" if value != value else f"{value:.1f}" for value in row[2:])
        for row in rows.itertuples()
    )


def differences(axes, table) -> str:
    """Score of the larger model minus that of the smaller, with 95 % intervals, a row each.

    ``table`` has columns label, difference, low, high in points, and shown: filled where true.
    """
    for place, row in enumerate(table.itertuples()):
        interval(axes, place, row.difference, row.low, row.high, filled=row.shown)
    axes.axvline(0, color=INK, linewidth=0.9)
    by_row(axes, table["label"], -0.5, (None, None), "points of the larger model over the smaller")
    return "Points of the larger model over the smaller: " + "; ".join(
        f"{row.label} {row.difference:+.1f}, {row.low:.1f} to {row.high:.1f}"
        for row in table.itertuples()
    ).replace("\n", " ")
