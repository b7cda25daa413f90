"""Figures of the chapter on training at equal compute."""

import numpy as np

from sizewise.units import si

from .style import COLOURS, INK, band, beside, by_row, listed, power, span


def curves(axes, runs, optima) -> str:
    """Loss over size, one colour a budget, with each budget's parabola and its lowest point.

    ``runs`` has ``budget``, ``size`` and ``loss``; ``optima`` is what `parabolas` gives.
    """
    for colour, (budget, rows) in zip(COLOURS, runs.groupby("budget"), strict=False):
        axes.semilogx(rows["size"], rows["loss"], "o", color=colour)
        end = rows.loc[rows["size"].idxmax(), ["size", "loss"]].tolist()
        for best in optima[np.isclose(optima["flops"], budget, rtol=0.1)].itertuples():
            sizes = np.geomspace(rows["size"].min(), rows["size"].max(), 60)
            curve = best.loss + best.curvature * np.log(sizes / best.params) ** 2
            axes.plot(sizes, curve, color=colour, linewidth=1.2)
            end = sizes[-1], curve[-1]
            if best.inside:
                axes.plot(best.params, best.loss, "v", color=colour, markersize=9)
        beside(axes, f"{power(budget, letters=False)} FLOPs", *end, colour, dx=6)
    axes.set_xlim(right=3e8)
    axes.set_xticks([1e4, 1e5, 1e6])
    axes.set_xlabel("parameters outside embedding and head")
    axes.set_ylabel("validation loss, nats a token")
    return listed(
        "Best size at each budget",
        (
            f"{si(row.params, 'params')} for {row.flops:.0e} FLOPs"
            for row in optima[optima["inside"]].itertuples()
        ),
    )


def exponents(axes, table) -> str:
    """The exponent of the best size with its interval, one way a row, grouped by what is counted.

    ``table`` has ``counted``, ``way``, ``exponent``, ``exponent_low`` and ``exponent_high``.
    """
    groups = list(dict.fromkeys(table["counted"]))
    for height, row in enumerate(table.itertuples()):
        colour = COLOURS[groups.index(row.counted)]
        span(axes, height, row, "exponent", colour)
        beside(axes, f"{row.exponent:.2f}", row.exponent, height, colour, dx=0, dy=10)
    for k, name in enumerate(groups):
        mask = table["counted"] == name
        right = table.loc[mask, "exponent"].mean() < 0.5  # away from the points
        x, dx = (0.98, -1) if right else (0.01, 1)
        above = mask.to_numpy().argmax() - 0.5
        beside(axes, name, x, above, COLOURS[k], dx, xycoords=("axes fraction", "data"))
    by_row(axes, table["way"], -0.9, (0.2, 0.8), "exponent a of the best size")
    form = "{counted}, {way} {exponent:.2f} ({exponent_low:.2f} to {exponent_high:.2f})"
    return listed("Exponents with 95 % intervals", table, form)


def prediction(axes, table) -> str:
    """Predicted and measured losses of the largest budget over size.

    ``table`` has ``size``, ``measured`` (nan where no run was made), ``law``, ``low``, ``high``,
    ``quadratic`` and ``no change``.
    """
    table = table.sort_values("size")
    band(axes, table["size"], table["low"], table["high"])
    names = {
        "law": ("law and its interval", 9),
        "quadratic": ("quadratic", -1),
        "no change": ("no change", -11),
    }
    for colour, (column, (name, up)) in zip(COLOURS, names.items(), strict=False):
        axes.semilogx(table["size"], table[column], color=colour)
        last = table.iloc[-1]
        beside(axes, name, last["size"], last[column], colour, dx=6, dy=up)
    measured = table.dropna(subset="measured")
    axes.semilogx(measured["size"], measured["measured"], "o", color=INK)
    lowest = measured.loc[measured["measured"].idxmin()]  # the ends of the lines have names beside
    beside(axes, "measured", lowest["size"], lowest["measured"], dx=7)
    axes.margins(y=0.1)
    axes.set_xlim(right=12 * table["size"].max())
    axes.set_xlabel("parameters outside embedding and head")
    axes.set_ylabel("validation loss, nats a token")
    return listed(
        "Measured and predicted losses",
        (
            f"{si(row.size, 'params')} {row.measured:.3f}, law {row.law:.3f}"
            for row in measured.itertuples()
        ),
    )
