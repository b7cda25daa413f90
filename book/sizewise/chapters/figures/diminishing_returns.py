"""Figures of the chapter on diminishing returns."""

import numpy as np

from .style import COLOURS, INK, at_ends, beside, by_row, interval, listed, span

MARKS = "os^Dvph"


def gains(axes, table) -> str:
    """What a doubling brings by starting size: one line a benchmark, 95 % intervals as bars.

    ``table`` has ``benchmark``, ``start`` (a label), ``gain``, and ``gain_low`` and ``gain_high``,
    missing where too few families stand behind a point; such points are hollow.
    """
    starts, labels, texts = list(dict.fromkeys(table["start"])), [], []
    names = list(dict.fromkeys(table["benchmark"]))
    for k, name in enumerate(names):
        rows, colour = table[table["benchmark"] == name], COLOURS[k]
        x = np.array([starts.index(s) for s in rows["start"]]) + (k - len(names) / 2) * 0.09
        y, has_interval = rows["gain"].to_numpy(float), rows["gain_low"].notna().to_numpy()
        axes.plot(x, y, color=colour, linewidth=1, alpha=0.6)
        axes.plot(x[has_interval], y[has_interval], MARKS[k], color=colour)
        axes.plot(
            x[~has_interval], y[~has_interval], MARKS[k], color=colour, markerfacecolor="none"
        )
        bars = rows[["gain_low", "gain_high"]].to_numpy(float)[has_interval]
        axes.vlines(x[has_interval], *bars.T, color=colour, linewidth=1.5, alpha=0.5)
        labels.append((name, y[-1], colour))
        texts.append(f"{name} " + ", ".join(f"{v:.1f}" for v in y))
    axes.axhline(0, color=INK, linewidth=0.8)
    at_ends(axes, len(starts) - 0.75, labels, 1.5)
    axes.set_xticks(range(len(starts)), [start.replace(" ", "\n", 1) for start in starts])
    axes.set_xlim(-0.5, len(starts) + 0.3)
    axes.set_xlabel("parameters before the doubling")
    axes.set_ylabel("points gained by a doubling")
    return listed(f"Points gained by a doubling from {', '.join(starts)}", texts)


def kept(axes, table) -> str:
    """Slope beyond the claimed size over the slope before it, with intervals, one row a benchmark.

    ``table`` has ``label``, ``kept``, ``kept_low`` and ``kept_high``; ends outside the axes get
    an arrow. Lines mark no break (1) and a plateau (0).
    """
    lowest, highest = -1.0, 2.0
    for height, row in enumerate(table.itertuples()):
        span(axes, height, row, "kept", limits=(lowest, highest))
        if row.kept_low < lowest:
            axes.plot(lowest + 0.02, height, "<", color=COLOURS[0], markersize=7)
    for at, text in ((0, "gains stop"), (1, "go on as before")):
        axes.axvline(at, color=INK, linewidth=0.9, linestyle="--")
        beside(axes, text, at, -0.75, dx=4)
    below = "slope past the claimed size, before = 1"
    by_row(axes, table["label"], -1.2, (lowest, highest), below)
    form = "{label} {kept:.2f} ({kept_low:.2f} to {kept_high:.2f})"
    return listed("Slope past the claimed size over the slope before", table, form)


def ranks(axes, table) -> str:
    """Rank correlations with a score: one row a benchmark, one mark each for size and compute.

    ``table`` has ``benchmark``, ``by``, ``rank``, ``rank_low`` and ``rank_high``.
    """
    names, texts = list(dict.fromkeys(table["benchmark"])), []
    for k, (by, rows) in enumerate(table.groupby("by", sort=False)):
        for row in rows.itertuples():
            place, ends = names.index(row.benchmark) + 0.22 * (k - 1), (row.rank_low, row.rank_high)
            interval(axes, place, row.rank, *ends, COLOURS[k], MARKS[k])
        # Named in the last row, where there is room.
        beside(axes, by, row.rank_high, place, COLOURS[k], dx=6, dy=(5, -4)[k])
        texts.append(f"{by} {rows['rank'].median():.2f}")
    axes.axvline(0, color=INK, linewidth=0.8)
    by_row(axes, names, -1.0, (-0.3, 1.05), "rank correlation with the score")
    return listed("Median rank correlations with the score", texts)


def generations(axes, table) -> str:
    """Errors left by the large model over those of the small one, from release to release.

    ``table`` has ``benchmark``, ``release`` and ``error_ratio``, of one maker.
    """
    labels, texts = [], []
    for k, (name, rows) in enumerate(table.groupby("benchmark", sort=False)):
        axes.plot(rows["release"], rows["error_ratio"], marker=MARKS[k], color=COLOURS[k])
        last = rows.iloc[-1]
        labels.append((name, last["error_ratio"], COLOURS[k]))
        texts.append(f"{name} {rows['error_ratio'].iloc[0]:.2f} and {last['error_ratio']:.2f}")
    axes.axhline(1, color=INK, linewidth=0.8)
    axes.annotate("small as good as large", (1, 1.03))
    at_ends(axes, table["release"].max(), labels, 0.08)
    families = table.drop_duplicates("release").sort_values("release")
    axes.set_xticks(families["release"], families["family"].str.replace("-", " "))
    axes.set(xlim=(0.8, 5.2), ylim=(0, 1.15), ylabel="errors of about 70B over 7B")
    return listed("Errors of the large model over the small one's, first and last release", texts)


def strictness(axes, table) -> str:
    """Our models: share right over size, one line a length, dots measured, lines p to the k.

    ``table`` has ``params``, ``length``, ``exact``, ``se`` and ``predicted``.
    """
    labels, texts = [], []
    for k, (length, rows) in enumerate(table.groupby("length", sort=True)):
        rows = rows.sort_values("params")
        name = "1 token" if length == 1 else f"{length} in a row"
        axes.errorbar(
            rows["params"], rows["exact"], 1.96 * rows["se"], fmt=MARKS[k], color=COLOURS[k]
        )
        axes.plot(rows["params"], rows["predicted"], "--", color=COLOURS[k], linewidth=1)
        labels.append((name, rows["exact"].iloc[-1], COLOURS[k]))
        texts.append(f"{name} {rows['exact'].iloc[0]:.4f} to {rows['exact'].iloc[-1]:.4f}")
    axes.set_xscale("log")
    at_ends(axes, table["params"].max(), labels, 0.033, dx=9)
    axes.set_ylim(bottom=-0.06)
    axes.set_xlim(right=2e7)
    axes.set_xticks([1e4, 1e5, 1e6])
    axes.set_xlabel("parameters outside embedding and head")
    axes.set_ylabel("share right")
    return listed("Share right in our models, smallest to largest", texts)
