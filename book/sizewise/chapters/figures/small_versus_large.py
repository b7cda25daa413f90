"""Figures of the chapter on small models against large ones."""

import numpy as np

from sizewise.chapters.tables.display import written

from .style import COLOURS, INK, band, beside, by_row, interval, listed, span

MARKS = "os^Dvph"
FAMILIES = {  # drawn: label, and how far it is lifted so that none lies on another
    "Llama 3.1 Instruct": 0.0,
    "Llama 3.1": 1.6,
    "Qwen1.5 Chat": -0.6,
    "Yi": 1.0,
    "Mistral": -1.2,
    "Llama 2": -3.0,
}


def families(axes, table, base: str, level: float) -> str:
    """Score over size, a line a family, and the level of an older large model.

    ``table`` is that of `small_versus_large.by_size`, ``level`` the share right of ``base``.
    """
    for colour, (family, lift) in zip(COLOURS, FAMILIES.items(), strict=False):
        rows = table[table["family"] == family]
        axes.plot(rows["parameters"], 100 * rows["right"], "o-", color=colour)
        end = rows.iloc[-1]
        beside(axes, family, end["parameters"], 100 * end["right"] + lift, colour, dx=6)
    axes.axhline(100 * level, color=INK, linewidth=0.8, linestyle=":")
    beside(axes, f"level of {base}", 3.3e11, 100 * level, dx=0, dy=7, ha="right")
    axes.set(xscale="log", xlim=(5.4e9, 3.4e11))
    axes.set_xticks([7e9, 13e9, 34e9, 70e9], ["7B", "13B", "34B", "70B"])
    axes.minorticks_off()
    axes.set(ylim=(10, 70), xlabel="parameters", ylabel="MMLU-Pro, % right")
    return "Share right on MMLU-Pro by size: " + "; ".join(
        f"{row.model} {100 * row.right:.1f} %" for row in table.itertuples()
    )


def bands(axes, table, small: str, large: str) -> str:
    """Share right in five bands of difficulty: two models, and the gap between them.

    ``table`` holds the rows ``band`` of a pair.
    """
    x = np.arange(len(table))
    low, high = 100 * table["small_right"], 100 * table["large_right"]
    band(axes, x, low, high, alpha=0.15)
    axes.plot(x, high, "s-", color=COLOURS[0])
    axes.plot(x, low, "o-", color=COLOURS[1])
    for place, (right, gain) in enumerate(zip(high, table["gain"], strict=True)):
        beside(axes, f"+{gain:.0f}", place, right, dx=0, dy=12)
    beside(axes, large, 1.2, high[1] + 4, COLOURS[0])
    beside(axes, small, 0.9, low[1] - 7, COLOURS[1], dx=-1)
    axes.set_xticks(x, ["easiest\nfifth", "2", "3", "4", "hardest\nfifth"])
    axes.set(ylim=(0, 110), ylabel="% right")
    return f"Share right of {small} and {large} by fifths of difficulty: " + "; ".join(
        f"{100 * row.small_right:.0f} and {100 * row.large_right:.0f} %"
        for row in table.itertuples()
    )


def subjects(axes, table) -> str:
    """Points gained by the larger model, a subject a row, with 95 % intervals.

    ``table`` has ``subject``, ``gain``, ``gain_low`` and ``gain_high``.
    """
    for height, row in enumerate(table.itertuples()):
        span(axes, height, row, "gain")
    by_row(axes, table["subject"], -0.6, (0, None), "points that the larger model gains")
    return listed("Points gained", table, "{subject} {gain:.0f}")


def cascade(axes, table) -> str:
    """Share right over dollars: cascades by agreement, the best of each number of small models.

    ``table`` is that of `small_versus_large.cascades`.
    """
    ends = table[table["models"].isin((0, 1))].sort_values("dollars")
    between = table[table["models"] > 1]
    axes.plot(ends["dollars"], 100 * ends["right"], "s", color=COLOURS[0])
    axes.plot(between["dollars"], 100 * between["right"], "o", color=COLOURS[1])
    for row, dx, dy in zip(ends.itertuples(), (8, -8), (0, 4), strict=True):
        beside(axes, f"{row.names} alone", row.dollars, 100 * row.right, COLOURS[0], dx, dy)
    best = between.sort_values("right").groupby("models").tail(1)
    for row in best.itertuples():
        beside(axes, f"{row.models} agree", row.dollars, 100 * row.right, COLOURS[1], dx=0, dy=-21)
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
        lane = (k - (len(pairs) - 1) / 2) * 0.75 / len(pairs)
        for row in table[(table["small"] == small) & (table["large"] == large)].itertuples():
            place, clear = tasks.index(row.task) + lane, row.ahead != "no"
            interval(axes, place, row.difference, row.low, row.high, COLOURS[k], MARKS[k], clear)
        axes.plot(
            [], [], MARKS[k], color=COLOURS[k], label=f"{written(large)} over {written(small)}"
        )
    axes.axvline(0, color=INK, linewidth=0.9)
    below = "share right of the larger model minus that of the smaller"
    by_row(axes, [*map(written, tasks)], -0.5, (None, None), below)
    axes.figure.legend(loc="outside upper center", ncols=1, fontsize=9)
    return "Accuracy of the larger model minus the smaller; significant are: " + "; ".join(
        f"{written(row.task)}, {written(row.large)} over {written(row.small)} {row.difference:+.2f}"
        for row in table[table["ahead"] != "no"].itertuples()
    )
