"""Figures of the chapter on what counts in a mixture. Each returns its alternative text."""

import numpy as np

from .style import COLOURS, INK, beside, interval


def places(axes, laws, scores) -> str:
    """Where a sparse model's dense equal lies, from its active size (0) to its total (1).

    ``laws`` has ``law`` and ``weight``; ``scores`` maps a label to the weights of its benchmarks.
    """
    lines, marks = [], []
    for law, rows in laws.groupby("law", sort=False):
        low, high = rows["weight"].min(), rows["weight"].max()
        lines.append((law, COLOURS[0], [low, high], True))
        marks.append(f"{law} {low:.2f} to {high:.2f}")
    for label, weights in scores.items():
        lines.append((label, COLOURS[1], list(weights), False))
        marks.append(f"{label} {np.median(weights):.2f} in the median")
    for height, (label, colour, weights, is_law) in enumerate(reversed(lines)):
        if is_law:
            axes.plot(weights, [height] * 2, color=colour, linewidth=7, solid_capstyle="round")
        else:
            axes.plot(weights, [height] * len(weights), "o", color=colour, alpha=0.6)
            axes.plot(np.median(weights), height, "|", color=INK, markersize=18)
        beside(axes, label, -0.04, height, colour, dx=0, dy=13, ha="left")
    axes.axvline(0.5, color=INK, linewidth=0.8, linestyle=":")
    axes.set(xlim=(-0.05, 1.15), ylim=(-0.5, len(lines) - 0.2), yticks=[])
    axes.set_xticks([0, 0.5, 1], ["as good as its\nactive size", "geometric\nmean", "as its total"])
    return f"Places on a scale from active size (0) to total (1): {'; '.join(marks)}."


def equal_scores(axes, table) -> str:
    """Mean score of a maker's dense models by size, and the sparse model's level between its sizes.

    ``table`` has ``model``, ``total``, ``active`` and ``score``.
    """
    is_sparse = table["total"] > table["active"]
    dense, ours = table[~is_sparse].sort_values("total"), table[is_sparse].iloc[0]
    axes.semilogx(dense["total"] / 1e9, dense["score"], "o-", color=COLOURS[0])
    for row in dense.itertuples():
        size = row.model.partition("-")[2]
        beside(axes, size, row.total / 1e9, row.score, COLOURS[0], dx=0, dy=-12)
    ends = [ours["active"] / 1e9, ours["total"] / 1e9]
    axes.plot(ends, [ours["score"]] * 2, "--", color=COLOURS[1])
    for end, name, side in zip(ends, ("active", "stored"), ("left", "right"), strict=True):
        axes.plot(end, ours["score"], "s", color=COLOURS[1])
        above = 12 if side == "left" else -14
        beside(axes, f"{end:g}B {name}", end, ours["score"], COLOURS[1], 0, above, ha=side)
    ticks = [4, 8, 16, 32]
    axes.set_xticks(ticks, [f"{tick}B" for tick in ticks])
    axes.minorticks_off()
    axes.set_ylim(dense["score"].min() - 4, dense["score"].max() + 3)
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.set(xlabel="parameters", ylabel="mean score (%)")
    scores = ", ".join(f"{row.model} {row.score:.1f}" for row in dense.itertuples())
    return f"Mean scores of dense models: {scores}; of {ours['model']}: {ours['score']:.1f}."


def rules(axes, table) -> str:
    """Loss of each arm minus the dense one's under two rules of the learning rate, with intervals.

    ``table`` has ``arm``, ``per_input``, ``difference``, ``low`` and ``high``.
    """
    arms = list(dict.fromkeys(table["arm"]))
    marks = []
    for rule, shift, colour in ((False, 0.13, COLOURS[1]), (True, -0.13, COLOURS[0])):
        name = "each matrix by its inputs" if rule else "all matrices by the model's width"
        beside(axes, name, 0.01, 0.06 + 0.08 * (not rule), colour, 1, xycoords="axes fraction")
        for row in table[table["per_input"] == rule].itertuples():
            height = len(arms) - 1 - arms.index(row.arm) + shift
            interval(axes, height, row.difference, row.low, row.high, colour)
            marks.append(f"{row.arm}, {name}, {row.difference:+.3f}")
    for height, arm in enumerate(reversed(arms)):
        beside(axes, arm, 0.01, height + 0.33, dx=1, xycoords=("axes fraction", "data"))
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_ylim(-0.9, len(arms) - 0.4)
    axes.set_yticks([])
    axes.set_xlabel("loss minus that of the dense model (nats a token)")
    return f"Differences in loss to the dense model: {'; '.join(marks)}."
