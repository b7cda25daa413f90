"""Figures of the chapter on small models against large ones."""

import matplotlib.dates as dates
import numpy as np

from .style import COLOURS, INK

MARKS = "os^Dvph"
LANE = 0.18  # between the models of one task


def accuracy(axes, table) -> None:
    """Share right by task, one mark a model, Wilson intervals as bars, guessing as a stroke.

    ``table`` is that of `contest.scores`. Guessing is drawn for each model, since one that
    answered fewer questions may have met another share of the commonest answer.
    """
    tasks, models = (list(dict.fromkeys(table[c])) for c in ("task", "model"))
    for k, (model, mark) in enumerate(zip(models, MARKS, strict=False)):
        rows = table[table["model"] == model]
        y = np.array([tasks.index(t) for t in rows["task"]]) + (k - (len(models) - 1) / 2) * LANE
        for place, low, high in zip(y, rows["low"], rows["high"], strict=True):
            axes.plot([low, high], [place, place], color=COLOURS[k], linewidth=2, alpha=0.4)
        axes.plot(rows["accuracy"], y, mark, color=COLOURS[k], label=model)
        for place, chance in zip(y, rows["chance"], strict=True):
            axes.plot([chance, chance], [place - LANE / 2, place + LANE / 2], color=INK, lw=1)
    _rows(axes, tasks)
    axes.set_xlim(-0.02, 1)
    axes.set_xlabel("share right; the upright stroke is guessing")
    axes.figure.legend(loc="outside upper center", ncols=2, fontsize=9.5)


def differences(axes, table) -> None:
    """Accuracy won by the larger model of each pair, by task, with 95 % intervals.

    ``table`` is that of `contest.duels`; filled where it is found after correction.
    """
    tasks = list(dict.fromkeys(table["task"]))
    pairs = list(dict.fromkeys(zip(table["small"], table["large"], strict=True)))
    for k, (small, large) in enumerate(pairs):
        rows = table[(table["small"] == small) & (table["large"] == large)]
        lane = (k - (len(pairs) - 1) / 2) * 0.75 / len(pairs)
        y = np.array([tasks.index(t) for t in rows["task"]]) + lane
        for place, row in zip(y, rows.itertuples(), strict=True):
            axes.plot([row.low, row.high], [place, place], color=COLOURS[k], linewidth=2, alpha=0.4)
        sure = (rows["found"] != "no").to_numpy()
        axes.plot(rows["difference"], y, MARKS[k], color=COLOURS[k], markerfacecolor="none")
        axes.plot(
            rows["difference"][sure],
            y[sure],
            MARKS[k],
            color=COLOURS[k],
            label=f"{large} over {small}",
        )
    axes.axvline(0, color=INK, linewidth=0.9)
    _rows(axes, tasks)
    axes.set_xlabel("share right of the larger model less that of the smaller")
    axes.figure.legend(loc="outside upper center", ncols=1, fontsize=9)


def cost(axes, table) -> None:
    """Share right over processor seconds an item, one line a task, from small to large model.

    ``table`` is that of `contest.costs`.
    """
    for k, (task, rows) in enumerate(table.groupby("task", sort=False)):
        rows = rows.sort_values("parameters")
        axes.plot(
            rows["cpu_seconds"],
            rows["accuracy"],
            marker=MARKS[k % len(MARKS)],
            color=COLOURS[k % len(COLOURS)],
            linestyle="-" if k < len(COLOURS) else "--",
            linewidth=1.2,
            label=task,
        )
    axes.set_xscale("log")
    axes.set_ylim(-0.02, 1)
    axes.set_xlabel("processor seconds an item")
    axes.set_ylabel("share right")
    axes.figure.legend(loc="outside upper center", ncols=3, fontsize=9.5)


def printed(axes, table, large: str, small: str) -> None:
    """Two published scores of each benchmark, joined by a line.

    ``table`` is that of `printed.versus`, of which only rows in percent are drawn.
    """
    rows = table[table["unit"] == "%"].reset_index(drop=True)
    for place, row in rows.iterrows():
        axes.plot([row["small"], row["large"]], [place, place], color=INK, linewidth=1, alpha=0.5)
    axes.plot(rows["small"], rows.index, "o", color=COLOURS[1], label=small)
    axes.plot(rows["large"], rows.index, "s", color=COLOURS[0], label=large)
    _rows(axes, list(rows["benchmark"]))
    axes.set_xlim(0, 100)
    axes.set_xlabel("score, %")
    axes.figure.legend(loc="outside upper center", ncols=2, fontsize=9.5)


def distance(axes, table) -> None:
    """Rating points from the best model to the fifth, and to the fifth maker's best, over time.

    ``table`` is that of `printed.ratings`; bars are 95 % intervals where they were published.
    """
    days = dates.date2num(list(table["date"]))
    for k, (kind, label) in enumerate((("model", "fifth model"), ("maker", "fifth maker"))):
        axes.plot(
            days,
            table[kind],
            "-" if k == 0 else "--",
            marker=MARKS[k],
            color=COLOURS[k],
            label=label,
        )
        axes.errorbar(
            days,
            table[kind],
            table[f"{kind}_margin"].astype(float),
            fmt="none",
            ecolor=COLOURS[k],
            alpha=0.6,
        )
    axes.xaxis.set_major_locator(dates.YearLocator())
    axes.xaxis.set_major_formatter(dates.DateFormatter("%Y"))
    axes.set_xlim(*dates.datestr2num(["2023-01-01", "2026-12-31"]))
    axes.set_ylim(0)
    axes.set_ylabel("rating points behind the best")
    axes.legend(fontsize=9.5)


def _rows(axes, names) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
