"""Figures of the chapter on training mixtures of experts."""

import numpy as np

from .style import COLOURS, INK

MARKS = "osD^vPX"
LINES = ("-", "--", "-.", ":")
LOSS = "validation loss (nats a token)"


def operations(n: float) -> str:
    """A budget as a label: 1e11 operations."""
    return f"{n:.0e}".replace("+", "").replace("e0", "e")


def arms(axes, table) -> None:
    """Losses at the best width of each arm over the budget: seeds as marks, means as lines.

    ``table`` has ``arm``, ``budget`` and ``val_loss``.
    """
    for k, (arm, rows) in enumerate(table.groupby("arm", sort=False)):
        means = rows.groupby("budget")["val_loss"].mean()
        shift = 1 + 0.04 * (k - 1)  # side by side, so that marks do not hide each other
        axes.semilogx(means.index * shift, means, LINES[k], color=COLOURS[k], linewidth=1.2)
        axes.plot(
            rows["budget"] * shift,
            rows["val_loss"],
            MARKS[k],
            color=COLOURS[k],
            markersize=5,
            label=arm,
            alpha=0.8,
        )
    budgets = sorted(table["budget"].unique())
    axes.set_xticks(budgets, [operations(n) for n in budgets])
    axes.minorticks_off()
    axes.set_xlabel("training operations")
    axes.set_ylabel(LOSS)
    axes.legend(fontsize=9.5)


def equivalents(axes, places) -> None:
    """Dense losses over dense size, and the sparse model's as a level line: a colour a budget.

    ``places`` yields (budget, sparse runs, dense runs), with ``total``, ``active`` and
    ``val_loss``. The level line goes from the active size to the total one.
    """
    ticks = set()
    for k, (budget, ours, dense) in enumerate(places):
        means = dense.groupby("total")["val_loss"].mean()
        axes.semilogx(means.index, means, "-", color=COLOURS[k], linewidth=1.2)
        axes.plot(
            dense["total"],
            dense["val_loss"],
            MARKS[k],
            color=COLOURS[k],
            markersize=5,
            label=f"{operations(budget)} operations",
        )
        ends = [ours["active"].iloc[0], ours["total"].iloc[0]]
        axes.plot(ends, [ours["val_loss"].mean()] * 2, "--", color=COLOURS[k])
        ticks |= set(ends)
    axes.plot([], [], "-", color=INK, linewidth=1.2, label="dense, mean")
    axes.plot([], [], "--", color=INK, label="sparse, from active to total")
    _sizes(axes, ticks)
    axes.set_xlabel("parameters outside embedding and head")
    axes.set_ylabel(LOSS)
    axes.figure.legend(loc="outside upper center", ncols=3, fontsize=9.5)


def experts(axes, table) -> None:
    """Difference of loss to the dense model over the number of experts, with intervals.

    ``table`` has ``experts``, ``to dense``, ``dense low`` and ``dense high``.
    """
    for row in table.itertuples(index=False):
        number, middle, low, high = row
        axes.plot([number, number], [low, high], color=COLOURS[0], linewidth=3, alpha=0.35)
        axes.plot(number, middle, "o", color=COLOURS[0], markersize=7)
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.annotate(
        "the dense model",
        (1, 0),
        xycoords=("axes fraction", "data"),
        fontsize=9,
        ha="right",
        va="bottom",
        xytext=(0, 2),
        textcoords="offset points",
    )
    axes.set_xscale("log", base=2)
    axes.set_xticks(table["experts"], [str(n) for n in table["experts"]])
    axes.minorticks_off()
    axes.set_xlabel("experts in a layer, of which a token uses two")
    axes.set_ylabel("loss less the dense model's (nats)")


def loads(axes, layers, names) -> None:
    """Load of each expert over an even one, busiest first: a row for each layer of each run kind.

    ``layers`` is (rows, experts), ``names`` the rows' labels.
    """
    drawn = axes.pcolormesh(
        np.log2(np.maximum(layers, 2.0**-4)),
        cmap=diverging(),
        vmin=-4,
        vmax=4,
        edgecolors="face",
        linewidth=0.3,
    )
    axes.set_yticks(np.arange(len(names)) + 0.5, names)
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.set_xlabel("experts, busiest first")
    bar = axes.figure.colorbar(
        drawn, ax=axes, location="bottom", aspect=40, label="load over an even one"
    )
    ticks = [-4, -2, 0, 2, 4]
    bar.set_ticks(ticks, labels=["1/16 or less", "1/4", "even", "4", "16"])


def diverging():
    """From blue through grey to orange: no shade as bright as a page or as dark as one."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("loads", [COLOURS[0], "#a3a3a3", COLOURS[1]])


def looks(axes, table, column: str, label: str, chance: str | None = None) -> None:
    """A column over the share of training, one line for each ``kind``: mean of runs and layers.

    ``table`` has ``kind``, ``look``, ``share`` and the column; ``chance`` names a column that is
    drawn dotted. The band is the range over runs and layers.
    """
    for k, (kind, rows) in enumerate(table.groupby("kind", sort=False)):
        one = rows.groupby("look")
        share, middle = one["share"].mean(), one[column].mean()
        axes.fill_between(
            share, one[column].min(), one[column].max(), color=COLOURS[k], alpha=0.15, linewidth=0
        )
        axes.plot(
            share, middle, LINES[k % 4], marker=MARKS[k], markersize=4, color=COLOURS[k], label=kind
        )
        if chance:
            axes.plot(share, one[chance].mean(), ":", color=COLOURS[k], linewidth=1.2)
    if chance:
        axes.plot([], [], ":", color=INK, linewidth=1.2, label="by chance")
    axes.xaxis.set_major_formatter("{x:.0%}")
    axes.set_ylim(0, 1.03)
    axes.set_xlabel("share of training")
    axes.set_ylabel(label)
    axes.figure.legend(loc="outside upper center", ncols=2, fontsize=9.5)


def explained(axes, table) -> None:
    """Share of the routes that each label explains, by layer: marks for runs, lines for means.

    ``table`` has ``label``, ``layer`` and ``share``.
    """
    for k, (label, rows) in enumerate(table.groupby("label", sort=False)):
        means = rows.groupby("layer")["share"].mean()
        axes.plot(
            rows["layer"] + 0.02 * (k - 1.5),
            rows["share"],
            MARKS[k],
            color=COLOURS[k],
            markersize=4,
            alpha=0.5,
        )
        axes.plot(means.index, means, LINES[k], marker=MARKS[k], color=COLOURS[k], label=label)
    axes.set_xticks(sorted(table["layer"].unique()))
    axes.set_ylim(bottom=min(0, axes.get_ylim()[0]))
    axes.set_xlabel("layer")
    axes.set_ylabel("share of the routes explained")
    axes.figure.legend(loc="outside upper center", ncols=4, fontsize=9.5)


def quarters(axes, table) -> None:
    """Share of choices that a capacity would drop in each quarter of the window, a line a kind.

    ``table`` has ``kind``, ``quarter`` and ``dropped``.
    """
    for k, (kind, rows) in enumerate(table.groupby("kind", sort=False)):
        one = rows.groupby("quarter")["dropped"]
        axes.fill_between(
            one.mean().index, one.min(), one.max(), color=COLOURS[k], alpha=0.15, linewidth=0
        )
        axes.plot(
            one.mean().index,
            one.mean(),
            LINES[k % 4],
            marker=MARKS[k],
            color=COLOURS[k],
            label=kind,
        )
    axes.set_xticks([1, 2, 3, 4], ["first", "second", "third", "last"])
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("quarter of the window")
    axes.set_ylabel("choices dropped")
    axes.figure.legend(loc="outside upper center", ncols=2, fontsize=9.5)


def _sizes(axes, sizes) -> None:
    """Ticks at these sizes, in thousands; close ones share a label."""
    kept: list[float] = []
    for one in sorted(sizes):
        if not kept or one > 1.25 * kept[-1]:
            kept.append(one)
    axes.set_xticks(kept, [f"{one / 1e3:.3g}K" for one in kept])
    axes.minorticks_off()
