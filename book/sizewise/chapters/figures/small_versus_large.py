"""Figures of the chapter on small models against large ones."""

import numpy as np

from .style import COLOURS, FAINT, INK

MARKS = "os^Dvph"
FAMILIES = {  # drawn: label, and how far it is lifted so that none lies on another
    "Llama 3.1 Instruct": 0.0,
    "Llama 3.1": 1.6,
    "Qwen1.5 Chat": -0.6,
    "Yi": 1.0,
    "Mistral": -1.2,
    "Llama 2": -1.0,
}


def families(axes, table, base: str, level: float) -> str:
    """Score over size, a line a family, and the level of an older large model.

    ``table`` is that of `small_versus_large.by_size`, ``level`` the share right of ``base``.
    """
    for colour, (family, lift) in zip(COLOURS, FAMILIES.items(), strict=False):
        rows = table[table["family"] == family]
        axes.plot(rows["parameters"], 100 * rows["right"], "o-", color=colour)
        end = rows.iloc[-1]
        axes.annotate(
            family,
            (end["parameters"], 100 * end["right"] + lift),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            color=colour,
        )
    axes.axhline(100 * level, color=INK, linewidth=0.8, linestyle=":")
    axes.annotate(
        f"level of {base}",
        (3.3e11, 100 * level),
        xytext=(0, 3),
        textcoords="offset points",
        ha="right",
        fontsize=9,
    )
    axes.set_xscale("log")
    axes.set_xlim(5.4e9, 3.4e11)
    axes.set_xticks([7e9, 13e9, 34e9, 70e9], ["7B", "13B", "34B", "70B"])
    axes.minorticks_off()
    axes.set_ylim(10, 70)
    axes.set_xlabel("parameters")
    axes.set_ylabel("MMLU-Pro, % right")
    return "Share right on MMLU-Pro by size: " + "; ".join(
        f"{row.model} {100 * row.right:.1f} %" for row in table.itertuples()
    )


def bands(axes, table, small: str, large: str) -> str:
    """Share right in five bands of difficulty: two models, and the gap between them.

    ``table`` holds the rows ``band`` of a pair.
    """
    x = np.arange(len(table))
    low, high = 100 * table["small_right"], 100 * table["large_right"]
    axes.fill_between(x, low, high, color=COLOURS[0], alpha=0.15, linewidth=0)
    axes.plot(x, high, "s-", color=COLOURS[0])
    axes.plot(x, low, "o-", color=COLOURS[1])
    for at, (a, b, gain) in enumerate(zip(low, high, table["gain"], strict=True)):
        axes.annotate(f"+{gain:.0f}", (at, (a + b) / 2), ha="center", va="center")
    axes.annotate(large, (1.1, high[1] + 4), color=COLOURS[0])
    axes.annotate(small, (0.9, low[1] - 4), color=COLOURS[1], ha="right", va="top")
    axes.set_xticks(x, ["easiest\nfifth", "2", "3", "4", "hardest\nfifth"])
    axes.set_ylim(0, 100)
    axes.set_ylabel("% right")
    return f"Share right of {small} and {large} by fifths of difficulty: " + "; ".join(
        f"{100 * row.small_right:.0f} and {100 * row.large_right:.0f} %"
        for row in table.itertuples()
    )


def cascade(axes, table) -> str:
    """Share right over dollars: cascades by agreement, the best of each number of small models.

    ``table`` is that of `small_versus_large.cascades`.
    """
    ends = table[table["models"].isin((0, 1))].sort_values("dollars")
    between = table[table["models"] > 1]
    axes.plot(ends["dollars"], 100 * ends["right"], "--", color=FAINT)
    axes.plot(ends["dollars"], 100 * ends["right"], "s", color=COLOURS[0])
    axes.plot(between["dollars"], 100 * between["right"], "o", color=COLOURS[1])
    places = ((8, -4), "left"), ((-8, 0), "right")
    for row, (offset, side) in zip(ends.itertuples(), places, strict=True):
        axes.annotate(
            f"{row.names} alone",
            (row.dollars, 100 * row.right),
            xytext=offset,
            textcoords="offset points",
            ha=side,
            color=COLOURS[0],
        )
    best = between.sort_values("right").groupby("models").tail(1)
    for row in best.itertuples():
        axes.annotate(
            f"{row.models} agree",
            (row.dollars, 100 * row.right),
            xytext=(0, -17),
            textcoords="offset points",
            ha="center",
            color=COLOURS[1],
            fontsize=9.5,
        )
    axes.set_xlim(0, 1.1 * table["dollars"].max())
    axes.set_ylim(40, 66)
    axes.set_xlabel("dollars for a thousand questions, at list prices")
    axes.set_ylabel("MMLU-Pro, % right")
    return "Share right over dollars for a thousand questions: " + "; ".join(
        f"{row.names} {100 * row.right:.1f} % for {row.dollars:.2f}" for row in table.itertuples()
    )


def differences(axes, table) -> str:
    """Accuracy gained by the larger model of each pair, by task, with 95 % intervals.

    ``table`` is that of `small_versus_large.duels`; filled where significant after correction.
    """
    tasks = list(dict.fromkeys(table["task"]))
    pairs = list(dict.fromkeys(zip(table["small"], table["large"], strict=True)))
    for k, (small, large) in enumerate(pairs):
        rows = table[(table["small"] == small) & (table["large"] == large)]
        lane = (k - (len(pairs) - 1) / 2) * 0.75 / len(pairs)
        y = np.array([tasks.index(t) for t in rows["task"]]) + lane
        for at, row in zip(y, rows.itertuples(), strict=True):
            axes.plot([row.low, row.high], [at, at], color=COLOURS[k], linewidth=2, alpha=0.4)
        clear = (rows["ahead"] != "no").to_numpy()
        axes.plot(rows["difference"], y, MARKS[k], color=COLOURS[k], markerfacecolor="none")
        axes.plot(
            rows["difference"][clear],
            y[clear],
            MARKS[k],
            color=COLOURS[k],
            label=f"{large} over {small}",
        )
    axes.axvline(0, color=INK, linewidth=0.9)
    axes.set_yticks(range(len(tasks)), tasks)
    axes.set_ylim(len(tasks) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("share right of the larger model minus that of the smaller")
    axes.figure.legend(loc="outside upper center", ncols=1, fontsize=9)
    return "Accuracy of the larger model minus the smaller; significant are: " + "; ".join(
        f"{row.task}, {row.large} over {row.small} {row.difference:+.2f}"
        for row in table[table["ahead"] != "no"].itertuples()
    )
