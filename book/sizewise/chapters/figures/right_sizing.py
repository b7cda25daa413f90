"""Figures of the chapter on choosing a size."""

import numpy as np

from .style import COLOURS, FAINT, INK

MARKS = "os^DvPX*ph"


def scores(axes, table) -> None:
    """Share right by set, one mark a classifier, with 95 % intervals.

    ``table`` is that of `right_sizing.scores`.

    Learners are filled, language models open.
    """
    sets, models = list(dict.fromkeys(table["set"])), _names(table)
    for k, ((what, model), rows) in enumerate(table.groupby(["what", "model"], sort=False)):
        lane = (k - (len(models) - 1) / 2) * 0.8 / len(models)
        y = np.array([sets.index(name) for name in rows["set"]]) + lane
        colour = COLOURS[k % len(COLOURS)]
        for place, low, high in zip(y, rows["accuracy_low"], rows["accuracy_high"], strict=True):
            axes.plot([low, high], [place, place], color=colour, linewidth=1.6, alpha=0.45)
        fill = "none" if what == "prompted" else colour
        axes.plot(
            rows["accuracy"],
            y,
            MARKS[k % len(MARKS)],
            color=colour,
            markerfacecolor=fill,
            label=f"{what}: {model}",
        )
    axes.set_yticks(range(len(sets)), sets)
    axes.set_ylim(len(sets) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("share right")
    axes.figure.legend(loc="outside upper center", ncols=2, fontsize=9)


SETS = {
    "rotten-tomatoes": "Film reviews",
    "spam": "Spam",
    "bbc": "News topics",
    "sarcasm": "Sarcasm",
}


def curves(axes, table, against, own: str) -> str:
    """Share right over labels, a panel a set: one learner drawn bold, the others faint, the rival
    as a level stroke.

    ``table`` is that of `right_sizing.curves`, ``against`` that of `right_sizing.rivals`, ``own``
    the model of the bold line. Bands are 95 %.
    """
    sets = list(dict.fromkeys(table["set"]))
    figure = axes.figure
    axes.remove()
    panels = figure.subplots(2, 2, squeeze=False, sharex=True, sharey=True)
    for panel, name in zip(panels.flat, sets, strict=False):
        for (what, model), rows in table[table["set"] == name].groupby(["what", "model"]):
            rows = rows.sort_values("labels_used")
            if (what, model) != ("probe", own):
                panel.plot(rows["labels_used"], 100 * rows["accuracy"], color=FAINT, linewidth=1)
                continue
            panel.plot(rows["labels_used"], 100 * rows["accuracy"], "o-", color=COLOURS[0])
            low, high = (100 * rows[f"accuracy_{end}"].astype(float) for end in ("low", "high"))
            panel.fill_between(
                rows["labels_used"], low, high, color=COLOURS[0], alpha=0.15, linewidth=0
            )
        panel.axhline(100 * against[name]["accuracy"], color=COLOURS[1], linestyle="--")
        panel.set_xscale("log", base=2)
        panel.set_xticks([8, 64, 512], ["8", "64", "512"])
        panel.minorticks_off()
        panel.set_title(SETS.get(name, name))
    first = panels.flat[0]
    first.annotate(
        "best language model",
        (9, 100 * against[sets[0]]["accuracy"]),
        xytext=(0, 4),
        textcoords="offset points",
        color=COLOURS[1],
        fontsize=9.5,
    )
    first.annotate("small classifier", (40, 42), color=COLOURS[0], fontsize=9.5)
    figure.supxlabel("labels learned from")
    figure.supylabel("% right")
    return "Share right over labels; the best prompted language model stands at: " + "; ".join(
        f"{SETS.get(name, name)} {100 * row['accuracy']:.0f} %" for name, row in against.items()
    )


def duels(axes, table) -> str:
    """Small minus large by set, F1 and recall apart, with 95 % intervals; filled where clear.

    ``table`` is that of `right_sizing_duels.duels`.
    """
    sets = list(dict.fromkeys(table["set"]))
    for k, (measure, rows) in enumerate(table.groupby("measure", sort=False)):
        y = np.array([sets.index(name) for name in rows["set"]]) + (k - 0.5) * 0.3
        for place, row in zip(y, rows.itertuples(), strict=True):
            axes.plot([row.low, row.high], [place, place], color=COLOURS[k], linewidth=2, alpha=0.4)
        clear = (rows["ahead"] != "no").to_numpy()
        axes.plot(
            rows["difference"],
            y,
            MARKS[k],
            color=COLOURS[k],
            markerfacecolor="none",
            label=measure.replace("macro_", "mean ").replace("f1", "F1"),
        )
        axes.plot(rows["difference"][clear], y[clear], MARKS[k], color=COLOURS[k])
    axes.axvline(0, color=INK, linewidth=0.9)
    axes.set_yticks(range(len(sets)), [SETS.get(name, name) for name in sets])
    axes.set_ylim(len(sets) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("small classifier minus language model")
    axes.figure.legend(loc="outside upper center", ncols=2, fontsize=9.5)
    return "Small classifier minus language model: " + "; ".join(
        f"{row.set} {row.measure} {row.difference:+.2f}" for row in table.itertuples()
    )


def cascade(axes, row) -> str:
    """Share right over cost: the cascade, random routing, an oracle, and each model alone.

    ``row`` is a row of ``data/cascade.jsonl`` of the kind ``cascade``. Random routing and the
    oracle are drawn at the mean cost of what they hand on.
    """
    mean = row["small_cost_ratio"] + np.array(row["shares"])
    lines = (
        (mean, "oracle_at", "--", COLOURS[2], "oracle", 5, (0, 6)),
        (row["cost_at"], "right_at", "-", COLOURS[0], "least sure first", 5, (8, -12)),
        (mean, "random_at", ":", COLOURS[7], "at random", 5, (10, -24)),
    )
    for cost, column, style, colour, label, at, offset in lines:
        share = 100 * np.array(row[column])
        axes.plot(cost, share, style, color=colour)
        axes.annotate(
            label, (cost[at], share[at]), xytext=offset, textcoords="offset points", color=colour
        )
    axes.plot([row["small_cost_ratio"]], [100 * row["small_right"]], "s", color=INK)
    axes.annotate(
        f"{row['small']} alone",
        (row["small_cost_ratio"], 100 * row["small_right"]),
        xytext=(10, -3),
        textcoords="offset points",
    )
    axes.plot([1], [100 * row["large_right"]], "D", color=COLOURS[1])
    axes.annotate(
        f"{row['large']} alone",
        (1, 100 * row["large_right"]),
        xytext=(-8, 8),
        ha="right",
        textcoords="offset points",
        color=COLOURS[1],
    )
    axes.set_xlim(left=0)
    axes.set_xlabel("FLOPs, as a share of the large model's")
    axes.set_ylabel("% right")
    return (
        f"Share right over cost for {row['small']} and {row['large']}, from "
        f"{row['small_right']:.2f} to {row['large_right']:.2f}"
    )


def reliability(axes, table) -> None:
    """Share right over confidence, before (open) and after (filled) one temperature, by model.

    ``table`` has rows of ``data/cascade.jsonl`` of the kind ``calibration``.
    """
    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, alpha=0.6)
    for k, row in enumerate(table.itertuples()):
        mark, colour = MARKS[k % len(MARKS)], COLOURS[k % len(COLOURS)]
        axes.plot(
            row.confidence_at,
            row.right_in_bin,
            ":",
            marker=mark,
            color=colour,
            markerfacecolor="none",
            linewidth=1,
            label=f"{row.model}, as it is",
        )
        axes.plot(
            row.confidence_at_fitted,
            row.right_in_bin_fitted,
            "-",
            marker=mark,
            color=colour,
            linewidth=1.2,
            label=f"{row.model}, fitted",
        )
    axes.set_xlabel("probability of the choice taken")
    axes.set_ylabel("share right")
    axes.figure.legend(loc="outside upper center", ncols=2, fontsize=9.5)


def _names(table) -> list[tuple[str, str]]:
    return list(dict.fromkeys(zip(table["what"], table["model"], strict=True)))
