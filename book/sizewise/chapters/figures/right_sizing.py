"""Figures of the chapter on choosing a size."""

import numpy as np

from .style import COLOURS, INK

MARKS = "os^DvPX*ph"


def scores(axes, table) -> None:
    """Share right by set, one mark a classifier, with 95 % intervals; ``table`` of `sizing.scores`.

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


def curves(axes, table, against) -> None:
    """Share right over labels, a panel a set: learners as lines, the rival as a level stroke.

    ``table`` is that of `sizing.curves`, ``against`` that of `sizing.rivals`. Bands are 95 %.
    """
    sets = list(dict.fromkeys(table["set"]))
    figure = axes.figure
    axes.remove()
    panels = figure.subplots(-(-len(sets) // 2), min(len(sets), 2), squeeze=False, sharex=True)
    names = _names(table)
    for panel, name in zip(panels.flat, sets, strict=False):
        for (what, model), rows in table[table["set"] == name].groupby(["what", "model"]):
            k = names.index((what, model))
            rows = rows.sort_values("labels_used")
            colour = COLOURS[k % len(COLOURS)]
            panel.plot(
                rows["labels_used"],
                rows["accuracy"],
                marker=MARKS[k % len(MARKS)],
                color=colour,
                linewidth=1.4,
                markersize=4,
                label=f"{what}: {model}",
            )
            panel.fill_between(
                rows["labels_used"],
                rows["accuracy_low"].astype(float),
                rows["accuracy_high"].astype(float),
                color=colour,
                alpha=0.1,
                linewidth=0,
            )
        if name in against:
            panel.axhline(
                against[name]["accuracy"],
                color=INK,
                linewidth=1.2,
                linestyle="--",
                label="best prompted language model",
            )
        panel.set_xscale("log", base=2)
        steps = sorted(table["labels_used"].unique())[::2]
        panel.set_xticks(steps, [f"{int(step):,}" for step in steps])
        panel.minorticks_off()
        panel.set_title(name, fontsize=11)
    for panel in panels.flat[len(sets) :]:
        panel.set_visible(False)
    figure.supxlabel("labels learnt from", fontsize=11)
    figure.supylabel("share right", fontsize=11)
    known = {}
    for panel in panels.flat:
        known |= dict(zip(*panel.get_legend_handles_labels()[::-1], strict=True))
    figure.legend(known.values(), known.keys(), loc="outside upper center", ncols=2, fontsize=9)


def duels(axes, table) -> None:
    """Small less large by set, F1 and recall apart, with 95 % intervals; filled where sure.

    ``table`` is that of `sizing.duels`.
    """
    sets = list(dict.fromkeys(table["set"]))
    for k, (measure, rows) in enumerate(table.groupby("measure", sort=False)):
        y = np.array([sets.index(name) for name in rows["set"]]) + (k - 0.5) * 0.3
        for place, row in zip(y, rows.itertuples(), strict=True):
            axes.plot([row.low, row.high], [place, place], color=COLOURS[k], linewidth=2, alpha=0.4)
        sure = (rows["found"] != "no").to_numpy()
        axes.plot(
            rows["difference"],
            y,
            MARKS[k],
            color=COLOURS[k],
            markerfacecolor="none",
            label=measure.replace("macro_", "mean ").replace("f1", "F1"),
        )
        axes.plot(rows["difference"][sure], y[sure], MARKS[k], color=COLOURS[k])
    axes.axvline(0, color=INK, linewidth=0.9)
    axes.set_yticks(range(len(sets)), sets)
    axes.set_ylim(len(sets) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("small less large")
    axes.figure.legend(loc="outside upper center", ncols=2, fontsize=9.5)


def cascade(axes, row) -> None:
    """Share right over cost: the cascade, random routing, an oracle, and each model alone.

    ``row`` is a row of ``data/cascade.jsonl`` of the kind ``cascade``. Random routing and the
    oracle are drawn at the mean cost of what they hand on.
    """
    shares = np.array(row["shares"])
    mean = row["small_cost_ratio"] + shares
    axes.plot(mean, row["oracle_at"], "--", color=COLOURS[2], label="oracle")
    axes.plot(row["cost_at"], row["right_at"], "-o", color=COLOURS[0], label="least sure first")
    axes.plot(mean, row["random_at"], ":", color=COLOURS[7], label="at random")
    axes.plot([row["small_cost_ratio"]], [row["small_right"]], "s", color=INK, label=row["small"])
    axes.plot([1], [row["large_right"]], "D", color=COLOURS[1], label=row["large"])
    axes.set_xlim(left=0)
    axes.set_xlabel("operations, of those of the large model alone")
    axes.set_ylabel("share right")
    axes.figure.legend(loc="outside upper center", ncols=3, fontsize=9.5)


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
