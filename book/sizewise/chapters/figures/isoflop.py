"""Figures of the chapter on training at equal operations."""

import numpy as np

from .style import COLOURS, INK


def curves(axes, runs, optima) -> None:
    """Loss over size, one colour a budget, with each budget's parabola and its lowest point.

    ``runs`` has ``budget``, ``size`` and ``loss``; ``optima`` is what `laws.parabolas` gives.
    """
    for colour, (budget, rows) in zip(COLOURS, runs.groupby("budget"), strict=False):
        axes.semilogx(rows["size"], rows["loss"], "o", color=colour, label=f"{budget:.0e}")
        near = optima[np.isclose(optima["operations"], budget, rtol=0.1)]
        for one in near.itertuples():
            sizes = np.geomspace(rows["size"].min(), rows["size"].max(), 60)
            away = np.log(sizes / one.params)
            axes.plot(sizes, one.loss + one.curvature * away**2, color=colour, linewidth=1.2)
            axes.plot(one.params, one.loss, "v", color=colour, markersize=9)
    axes.set_xlabel("parameters outside embedding and head")
    axes.set_ylabel("validation loss (nats a token)")
    axes.figure.legend(loc="outside right upper", title="operations", fontsize=9.5)


def growth(axes, table) -> None:
    """Best size over the budget, one line a way of counting, with the fitted power law.

    ``table`` has ``count``, ``operations``, ``params`` and ``fitted``.
    """
    for colour, (count, rows) in zip(COLOURS, table.groupby("count", sort=False), strict=False):
        axes.loglog(rows["operations"], rows["params"], "o", color=colour, label=count)
        axes.loglog(rows["operations"], rows["fitted"], color=colour, linewidth=1.2)
    axes.set_xlabel("training operations")
    axes.set_ylabel("best number of parameters")
    axes.legend(fontsize=9.5)


def prediction(axes, table) -> None:
    """Predicted and measured losses of the largest budget over size.

    ``table`` has ``size``, ``loss``, ``predicted``, ``run_low`` and ``run_high``.
    """
    table = table.sort_values("size")
    axes.fill_between(
        table["size"],
        table["run_low"],
        table["run_high"],
        color=COLOURS[0],
        alpha=0.2,
        linewidth=0,
        label="95 % interval of a run",
    )
    axes.semilogx(table["size"], table["predicted"], color=COLOURS[0], label="predicted")
    axes.semilogx(table["size"], table["loss"], "o", color=INK, label="measured")
    axes.set_xlabel("parameters outside embedding and head")
    axes.set_ylabel("validation loss (nats a token)")
    axes.legend(fontsize=9.5)
