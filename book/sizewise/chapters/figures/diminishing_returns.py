"""Figures of the chapter on diminishing returns."""

import numpy as np

from .style import COLOURS, INK

MARKS = "os^Dvph"


def gains(axes, table) -> None:
    """What a doubling brings by starting size: one line a benchmark, 95 % intervals as bars.

    ``table`` has ``benchmark``, ``start`` (a label), ``gain``, and ``gain_low`` and ``gain_high``,
    missing where too few families stand behind a point; such points are hollow.
    """
    labels = list(dict.fromkeys(table["start"]))
    names = list(dict.fromkeys(table["benchmark"]))
    for k, (name, mark) in enumerate(zip(names, MARKS, strict=False)):
        rows = table[table["benchmark"] == name]
        x = np.array([labels.index(s) for s in rows["start"]]) + (k - len(names) / 2) * 0.09
        colour, y = COLOURS[k], rows["gain"].to_numpy(float)
        known = rows["gain_low"].notna().to_numpy()
        axes.plot(x, y, color=colour, linewidth=1, alpha=0.6)
        axes.plot(x[known], y[known], mark, color=colour, label=name)
        axes.plot(x[~known], y[~known], mark, color=colour, markerfacecolor="none")
        bars = rows[["gain_low", "gain_high"]].to_numpy(float)[known]
        for place, (low, high) in zip(x[known], bars, strict=True):
            axes.plot([place, place], [low, high], color=colour, linewidth=1.5, alpha=0.5)
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set_xticks(range(len(labels)), labels)
    axes.set_xlabel("parameters before the doubling")
    axes.set_ylabel("points won by a doubling")
    axes.figure.legend(loc="outside upper center", ncols=4, fontsize=9.5)


def kept(axes, table) -> None:
    """Slope beyond the claimed size over the slope before it, with intervals, one row a benchmark.

    ``table`` has ``label``, ``kept``, ``kept_low`` and ``kept_high``; ends outside the axes get
    an arrow. Lines mark no break (1) and a plateau (0).
    """
    least, most = -1.0, 2.0
    for place, row in enumerate(table.itertuples()):
        ends = np.clip([row.kept_low, row.kept_high], least, most)
        axes.plot(ends, [place, place], color=COLOURS[0], linewidth=3, alpha=0.4)
        if row.kept_low < least:
            axes.plot(least + 0.02, place, "<", color=COLOURS[0], markersize=7)
        axes.plot(row.kept, place, "o", color=COLOURS[0], markersize=7)
    for at, words in ((0, "plateau"), (1, "no break")):
        axes.axvline(at, color=INK, linewidth=0.9, linestyle="--")
        axes.annotate(
            words,
            (at, 1),
            xycoords=("data", "axes fraction"),
            xytext=(4, 2),
            textcoords="offset points",
            fontsize=9,
            va="bottom",
        )
    axes.set_yticks(range(len(table)), table["label"])
    axes.set_ylim(len(table) - 0.5, -0.5)
    axes.set_xlim(least, most)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("slope beyond the claimed size over slope before")


def ranks(axes, table) -> None:
    """Rank correlations with a score: one row a benchmark, one mark each for size, data, computing.

    ``table`` has ``benchmark``, ``by``, ``rank``, ``rank_low`` and ``rank_high``.
    """
    names = list(dict.fromkeys(table["benchmark"]))
    for k, (by, rows) in enumerate(table.groupby("by", sort=False)):
        y = np.array([names.index(n) for n in rows["benchmark"]]) + (k - 1) * 0.22
        for place, row in zip(y, rows.itertuples(), strict=True):
            axes.plot(
                [row.rank_low, row.rank_high],
                [place, place],
                color=COLOURS[k],
                linewidth=2.5,
                alpha=0.35,
            )
        axes.plot(rows["rank"], y, MARKS[k], color=COLOURS[k], label=by)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("rank correlation with the score")
    axes.figure.legend(loc="outside upper center", ncols=3, fontsize=9.5)


def generations(axes, table) -> None:
    """Errors left by the large model over those of the small one, from release to release.

    ``table`` has ``benchmark``, ``maker``, ``family``, ``release`` and ``error_ratio``.
    """
    names = list(dict.fromkeys(table["benchmark"]))
    for (name, maker), rows in table.groupby(["benchmark", "maker"], sort=False):
        k = names.index(name)
        line, label = ("-", name) if maker == "Llama" else ("--", None)
        axes.plot(
            rows["release"],
            rows["error_ratio"],
            line,
            marker=MARKS[k],
            color=COLOURS[k],
            label=label,
        )
    axes.axhline(1, color=INK, linewidth=0.8)
    axes.annotate(
        "no difference",
        (0.02, 1),
        xycoords=("axes fraction", "data"),
        fontsize=9,
        xytext=(0, -4),
        textcoords="offset points",
        va="top",
    )
    axes.set_xticks(range(1, 5))
    axes.set_ylim(0, 1.05)
    axes.set_xlabel("release of the family (solid: Llama, dashed: Qwen)")
    axes.set_ylabel("errors of about 70B over 7B")
    axes.figure.legend(loc="outside upper center", ncols=4, fontsize=9.5)


def powers(axes, chances, lengths=(1, 2, 4, 8, 16)) -> None:
    """The chance of k right tokens in a row, over the logarithm of size, if one rises evenly.

    ``chances`` are those of one token, evenly spaced.
    """
    x = np.arange(len(chances))
    for k, length in enumerate(lengths):
        name = "1 token" if length == 1 else f"{length} in a row"
        axes.plot(x, np.asarray(chances) ** length, color=COLOURS[k], label=name)
    axes.set_xlabel("doublings of the model")
    axes.set_ylabel("share right")
    axes.legend(fontsize=9.5)


def strictness(axes, table) -> None:
    """Our models: share right over size, one line a length, dots measured, lines p to the k.

    ``table`` has ``params``, ``length``, ``exact``, ``se`` and ``predicted``.
    """
    for k, (length, rows) in enumerate(table.groupby("length", sort=True)):
        rows = rows.sort_values("params")
        name = "1 token" if length == 1 else f"{length} in a row"
        axes.errorbar(
            rows["params"],
            rows["exact"],
            1.96 * rows["se"],
            fmt=MARKS[k],
            color=COLOURS[k],
            label=name,
        )
        axes.plot(rows["params"], rows["predicted"], "--", color=COLOURS[k], linewidth=1)
    axes.set_xscale("log")
    axes.set_xlabel("parameters outside embedding and head")
    axes.set_ylabel("share right")
    axes.legend(fontsize=9.5)
