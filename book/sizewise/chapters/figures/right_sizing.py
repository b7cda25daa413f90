"""Figures of the chapter on choosing a size."""

import numpy as np

from .style import COLOURS, FAINT, INK, band, beside

SETS = {
    "rotten-tomatoes": "Film reviews",
    "spam": "Spam",
    "bbc": "News topics",
    "sarcasm": "Sarcasm",
}


def curves(axes, table, against, bold: str) -> str:
    """Share right over labels, a panel a set: one learner drawn bold, the others faint, the rival
    as a level stroke.

    ``table`` is that of `right_sizing.curves`, ``against`` that of `right_sizing.rivals`, ``bold``
    the model of the bold line. Bands are 95 %. Dotted: always the commonest label.
    """
    sets = list(dict.fromkeys(table["set"]))
    figure = axes.figure
    axes.remove()
    panels = figure.subplots(2, 2, squeeze=False, sharex=True, sharey=True)
    for panel, name in zip(panels.flat, sets, strict=False):
        for (what, model), rows in table[table["set"] == name].groupby(["what", "model"]):
            rows = rows.sort_values("labels_used")
            if (what, model) != ("probe", bold):
                panel.plot(rows["labels_used"], 100 * rows["accuracy"], color=FAINT, linewidth=1)
                continue
            panel.plot(rows["labels_used"], 100 * rows["accuracy"], "o-", color=COLOURS[0])
            low, high = (100 * rows[f"accuracy_{end}"].astype(float) for end in ("low", "high"))
            band(panel, rows["labels_used"], low, high, alpha=0.15)
        panel.axhline(100 * against[name]["accuracy"], color=COLOURS[1], linestyle="--")
        labels = against[name]["labels"]
        commonest = max(map(labels.count, set(labels))) / len(labels)
        panel.axhline(100 * commonest, color=INK, linewidth=0.8, linestyle=":")
        panel.set_xscale("log", base=2)
        panel.set_xticks([8, 64, 512], ["8", "64", "512"])
        panel.minorticks_off()
        panel.set_title(SETS.get(name, name))
    first = panels.flat[0]
    level = 100 * against[sets[0]]["accuracy"]
    beside(first, "best prompted model", 9, level, COLOURS[1], dx=0, dy=8, ha="left")
    beside(first, "small classifier", 40, 44, COLOURS[0], dx=1)
    figure.supxlabel("labels learned from")
    figure.supylabel("% right")
    return "Share right over labels; the best prompted language model stands at: " + "; ".join(
        f"{SETS.get(name, name)} {100 * row['accuracy']:.0f} %" for name, row in against.items()
    )


def cascade(axes, row) -> str:
    """Share right over cost: the cascade, random routing, an oracle, and each model alone.

    ``row`` is a row of ``data/cascade.jsonl`` of the kind ``cascade``. Random routing and the
    oracle are drawn at the mean cost of what they hand on.
    """
    mean = row["small_cost_ratio"] + np.array(row["shares"])
    lines = (
        (mean, "oracle_at", "--", COLOURS[2], "oracle", 1, 10),
        (row["cost_at"], "right_at", "-", COLOURS[0], "least sure first", 8, -8),
        (mean, "random_at", ":", COLOURS[7], "at random", 10, -20),
    )
    for cost, column, style, colour, name, dx, dy in lines:
        share = 100 * np.array(row[column])
        axes.plot(cost, share, style, color=colour)
        beside(axes, name, cost[5], share[5], colour, dx, dy)
    axes.plot([row["small_cost_ratio"]], [100 * row["small_right"]], "s", color=INK)
    beside(
        axes,
        f"{row['small']} alone",
        row["small_cost_ratio"],
        100 * row["small_right"],
        dx=8,
        dy=-9,
    )
    axes.plot([1], [100 * row["large_right"]], "D", color=COLOURS[1])
    beside(axes, f"{row['large']} alone", 1, 100 * row["large_right"], COLOURS[1], dx=-8, dy=12)
    axes.set(xlim=(0, None), ylim=(100 * row["small_right"] - 3, None))
    axes.set(xlabel="FLOPs, as a share of the large model's", ylabel="% right")
    return (
        f"Share right over cost for {row['small']} and {row['large']}, from "
        f"{row['small_right']:.2f} to {row['large_right']:.2f}"
    )
