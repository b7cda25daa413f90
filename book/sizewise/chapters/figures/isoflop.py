"""Figures of the chapter on training at equal compute."""

import numpy as np

from sizewise.units import si

from .style import COLOURS, INK, power


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
        axes.annotate(
            f"{power(budget, letters=False)} FLOPs",
            end,
            xytext=(6, 0),
            textcoords="offset points",
            color=colour,
            va="center",
        )
    axes.set_xlim(right=3e8)
    axes.set_xticks([1e4, 1e5, 1e6])
    axes.set_xlabel("parameters outside embedding and head")
    axes.set_ylabel("validation loss, nats a token")
    return "Best size at each budget: " + "; ".join(
        f"{si(row.params, 'params')} for {row.flops:.0e} FLOPs"
        for row in optima[optima["inside"]].itertuples()
    )


def exponents(axes, table) -> str:
    """The exponent of the best size with its interval, one way a row, grouped by what is counted.

    ``table`` has ``counted``, ``way``, ``exponent``, ``low`` and ``high``.
    """
    counted = list(dict.fromkeys(table["counted"]))
    for place, row in enumerate(table.itertuples()):
        colour = COLOURS[counted.index(row.counted)]
        axes.plot([row.low, row.high], [place, place], color=colour, linewidth=3, alpha=0.4)
        axes.plot(row.exponent, place, "o", color=colour, markersize=7)
        axes.annotate(
            f"{row.exponent:.2f}",
            (row.exponent, place),
            xytext=(0, 6),
            textcoords="offset points",
            ha="center",
            color=colour,
        )
    for k, name in enumerate(counted):
        group = table[table["counted"] == name]
        place = (table["counted"] == name).to_numpy().nonzero()[0][0] - 0.5
        right = group["exponent"].mean() < 0.5  # away from the points
        axes.annotate(
            name,
            (0.98 if right else 0.01, place),
            xycoords=("axes fraction", "data"),
            color=COLOURS[k],
            va="center",
            ha="right" if right else "left",
        )
    axes.set_yticks(range(len(table)), table["way"])
    axes.set_ylim(len(table) - 0.4, -0.9)
    axes.set_xlim(0.2, 0.8)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("exponent a of the best size")
    return "Exponents with 95 % intervals: " + "; ".join(
        f"{row.counted}, {row.way} {row.exponent:.2f} ({row.low:.2f} to {row.high:.2f})"
        for row in table.itertuples()
    )


def prediction(axes, table) -> str:
    """Predicted and measured losses of the largest budget over size.

    ``table`` has ``size``, ``measured`` (nan where no run was made), ``law``, ``low``, ``high``,
    ``quadratic`` and ``no change``.
    """
    table = table.sort_values("size")
    axes.fill_between(
        table["size"], table["low"], table["high"], color=COLOURS[0], alpha=0.2, linewidth=0
    )
    names = {
        "law": ("law and its interval", 9),
        "quadratic": ("quadratic", -1),
        "no change": ("no change", -11),
    }
    for colour, (column, (name, up)) in zip(COLOURS, names.items(), strict=False):
        axes.semilogx(table["size"], table[column], color=colour)
        last = table.iloc[-1]
        axes.annotate(
            name,
            (last["size"], last[column]),
            xytext=(6, up),
            color=colour,
            textcoords="offset points",
            va="center",
        )
    made = table.dropna(subset="measured")
    axes.semilogx(made["size"], made["measured"], "o", color=INK)
    axes.annotate(
        "measured",
        made[["size", "measured"]].iloc[-1],
        xytext=(6, -8),
        textcoords="offset points",
        va="center",
    )
    axes.set_xlim(right=50 * table["size"].max())
    axes.set_xlabel("parameters outside embedding and head")
    axes.set_ylabel("validation loss, nats a token")
    return "Measured and predicted losses: " + "; ".join(
        f"{si(row.size, 'params')} {row.measured:.3f}, law {row.law:.3f}"
        for row in made.itertuples()
    )
