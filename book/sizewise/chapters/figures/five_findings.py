"""Figures of the five findings; the first is the front page's."""

from .style import COLOURS, INK

AT_POINTS = {"textcoords": "offset points", "fontsize": 11.5}
LABELLED = ("q8_0", "q6_K", "q4_K_M", "q3_K_M", "q2_K", "iq1_S")


def tenfold(axes, table) -> str:
    """Bars of what each tenfold in parameters buys; `tables.five_findings.tenfold`."""
    places = range(len(table))
    axes.bar(places, table["gain"], width=0.62, color=COLOURS[0])
    errors = [table["gain"] - table["low"], table["high"] - table["gain"]]
    axes.errorbar(places, table["gain"], yerr=errors, fmt="none", ecolor=INK, elinewidth=1)
    for place, row in zip(places, table.itertuples(), strict=True):
        axes.annotate(f"{row.gain:.2g}", (place, row.high), (0, 3), ha="center", **AT_POINTS)
    names = [
        f"{billions(row.params)} to\n{billions(10 * row.params)}\n{amount(row.gigabytes)}"
        for row in table.itertuples()
    ]
    axes.set_xticks(list(places), names)
    axes.set_ylabel("lower loss (nats a token)")
    axes.set_xlabel("from, to, and the memory of the larger at 8 bits")
    axes.grid(visible=False, axis="x")
    first, last = table.iloc[0], table.iloc[-1]
    return (
        f"Bars that shrink: growing from {billions(first.params)} to {billions(10 * first.params)} "
        f"parameters lowers the loss by {first.gain:.2g} nats a token, growing from "
        f"{billions(last.params)} to {billions(10 * last.params)} by {last.gain:.2g}, by the "
        "median of eight fits to public tables of runs; the lines span all eight."
    )


def machines(axes, table, memories) -> str:
    """Bytes of weights over size at three widths, and what machines hold."""
    for (bits, rows), colour in zip(table.groupby("bits", sort=False), COLOURS, strict=False):
        axes.loglog(rows["params"], rows["bytes"] / 1e9, color=colour)
        end = rows.iloc[-1]
        axes.annotate(
            f"{bits} bits",
            (end["params"], end["bytes"] / 1e9),
            (4, 0),
            color=colour,
            va="center",
            **AT_POINTS,
        )
    for row in memories.itertuples():
        axes.axhline(row.bytes / 1e9, color=INK, linewidth=0.8, linestyle=":")
        axes.annotate(row.machine, (table["params"].min(), row.bytes / 1e9), (0, 2), **AT_POINTS)
    axes.set_xlim(right=6 * table["params"].max())
    axes.set_ylim(top=4 * memories["bytes"].max() / 1e9)
    axes.set_xlabel("parameters")
    axes.set_ylabel("weights (GB)")
    ends = memories.iloc[[0, -1]]
    return (
        "Bytes of the weights grow in step with the parameters, in 16, 8 and 4 bits. In 4 bits "
        f"{ends.iloc[0]['machine']} holds {billions(ends.iloc[0]['params'])} parameters, "
        f"{ends.iloc[1]['machine']} {billions(ends.iloc[1]['params'])}."
    )


def floors(axes, table) -> str:
    """Measured time over the floor, by serving framework, with the middle 80 percent."""
    places = range(len(table))
    errors = [table["times"] - table["low"], table["high"] - table["times"]]
    axes.errorbar(table["times"], places, xerr=errors, fmt="o", color=COLOURS[0], elinewidth=2)
    for place, row in zip(places, table.itertuples(), strict=True):
        axes.annotate(f"{row.times:.1f}", (row.times, place), (0, 6), ha="center", **AT_POINTS)
    axes.axvline(1, color=INK, linewidth=1)
    axes.annotate("the floor", (1, len(table) - 0.5), (4, 0), va="center", **AT_POINTS)
    axes.set_yticks(list(places), table["framework"])
    axes.set_ylim(-0.6, len(table) - 0.2)
    axes.set_xlim(0, 1.05 * table["high"].max())
    axes.set_xlabel("times the floor, median and middle 80 percent")
    axes.grid(visible=False, axis="y")
    row = table[table["framework"] == "all servings"].iloc[0]
    return (
        f"Time for a token over its floor: {row.times:.1f} in the median of all servings, "
        f"{row.low:.1f} to {row.high:.1f} in the middle 80 percent; alike for three frameworks."
    )


def bits(axes, table) -> str:
    """Divergence over the bits that are stored for a parameter."""
    axes.semilogy(table["bits"], table["kl"], "o-", color=COLOURS[0])
    for row in table.itertuples():
        if row.type in LABELLED:
            axes.annotate(row.type, (row.bits, row.kl), (6, 4), **AT_POINTS)
    axes.set_xlabel("bits stored for each parameter")
    axes.set_ylabel("divergence (nats a token)")
    axes.set_xlim(right=table["bits"].max() + 1.5)
    most, least = table.loc[table["bits"].idxmax()], table.loc[table["bits"].idxmin()]
    return (
        f"Divergence from the model in 16 bits, on a logarithmic axis: {most.kl:.2g} nats at "
        f"{most.bits:.1f} bits, {least.kl:.2g} at {least.bits:.1f}; the curve bends up below four."
    )


def items(axes, table) -> str:
    """Shares of questions that one model of a pair gets right alone, to the left and right."""
    places = range(len(table))
    axes.barh(places, table["only_large"], color=COLOURS[0], height=0.6)
    axes.barh(places, -table["only_small"], color=COLOURS[1], height=0.6)
    for place, row in zip(places, table.itertuples(), strict=True):
        axes.annotate(f"{row.only_large:.0f}", (row.only_large, place), (3, -4), **AT_POINTS)
        axes.annotate(
            f"{row.only_small:.0f}", (-row.only_small, place), (-3, -4), ha="right", **AT_POINTS
        )
    axes.axvline(0, color=INK, linewidth=1)
    top = len(table) - 0.45
    axes.annotate(
        "only the small one", (0, top), (-6, 0), ha="right", color=COLOURS[1], **AT_POINTS
    )
    axes.annotate("only the large one", (0, top), (6, 0), color=COLOURS[0], **AT_POINTS)
    axes.set_yticks(list(places), [name.replace(", ", "\n") for name in table["pair"]])
    axes.set_ylim(-0.6, len(table))
    widest = table[["only_small", "only_large"]].to_numpy().max()
    axes.set_xlim(-0.75 * widest, 1.15 * widest)
    axes.set_xticks([])
    axes.grid(visible=False)
    axes.set_xlabel("right alone, percent of the questions")
    row = table.iloc[-1]
    return (
        "Bars to both sides for each pair of models: questions that only the small one gets right "
        f"and, longer, those that only the large one does; for {row['pair']} "
        f"{row['only_small']:.0f} and {row['only_large']:.0f} percent."
    )


def billions(params: float) -> str:
    """Parameters as people say them: 10B, 1T."""
    return f"{params / 1e12:.3g}T" if params >= 1e12 else f"{params / 1e9:.3g}B"


def amount(gigabytes: float) -> str:
    return f"{gigabytes / 1e3:.3g} TB" if gigabytes >= 1e3 else f"{gigabytes:.3g} GB"
