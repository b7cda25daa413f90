"""Figures of the front page and of the five findings."""

from sizewise.units import si

from .style import COLOURS, INK, beside, by_row, interval

CHANCE = 11  # percent of MMLU-Pro that a blind guess gets right
LABELLED = ("q8_0", "q6_K", "q4_K_M", "q3_K_M", "q2_K", "iq1_S")


def families(axes, table) -> str:
    """What size buys over what it costs: right answers by memory, a line a family."""
    largest, height = table["gigabytes"].max(), 0.0
    for index, (family, rows) in enumerate(
        table.sort_values("right").groupby("family", sort=False)
    ):
        axes.semilogx(rows["gigabytes"], rows["right"], "o-", color=COLOURS[index])
        end = rows.iloc[-1]
        # A line of text is about four points high; a line that ends early has its name above.
        inside = end["gigabytes"] < largest / 2
        height = height if inside else max(end["right"], height + 4)
        place, dx = (end["right"] + 2, -1) if inside else (height, 8)
        beside(axes, family, end["gigabytes"], place, COLOURS[index], dx)
    axes.axhline(CHANCE, color=INK, linewidth=0.8, linestyle=":")
    beside(axes, f"guessing, {CHANCE}%", table["gigabytes"].min(), CHANCE, dx=0, dy=7, ha="left")
    axes.set(xlim=(None, 3.2 * largest), ylim=(0, height + 4))
    ticks = [8, 16, 32, 70]
    axes.set_xticks(ticks, [f"{tick} GB" for tick in ticks])
    axes.minorticks_off()
    axes.set(xlabel="memory of the weights, a byte a parameter", ylabel="exam questions right (%)")
    return "Right answers on MMLU-Pro rise with the memory of the weights: " + "; ".join(
        f"{family} from {rows['right'].iloc[0]:.0f} to {rows['right'].iloc[-1]:.0f} percent "
        f"between {rows['gigabytes'].iloc[0]:.0f} and {rows['gigabytes'].iloc[-1]:.0f} GB"
        for family, rows in table.groupby("family", sort=False)
    )


def tenfold(axes, table) -> str:
    """Bars of what each tenfold in parameters buys; `tables.five_findings.tenfold`."""
    rows = list(table.itertuples())
    for place, row in enumerate(rows):
        # No run reaches the larger size of a pale bar: there the laws are stretched.
        shade = 1 if row.measured else 0.45
        axes.bar(place, row.gain, width=0.62, color=COLOURS[0], alpha=shade)
        axes.plot([place, place], [row.low, row.high], color=INK, linewidth=1)
        beside(axes, f"{row.gain:.2g}", place, row.high, dx=0, dy=7)
    steps = [f"{si(row.params, 'params')} to {si(10 * row.params, 'params')}" for row in rows]
    names = [step.replace(" to ", " to\n") for step in steps]
    memory = [si(1e9 * row.gigabytes, "B") for row in rows]
    axes.set_xticks(range(len(rows)), map("{}\n{}".format, names, memory))
    axes.set_ylabel("lower loss (nats a token)")
    axes.set_xlabel("from, to, and the memory of the larger at 8 bits")
    axes.grid(visible=False, axis="x")
    return (
        f"Bars that shrink: growing from {steps[0]} parameters lowers the loss by "
        f"{rows[0].gain:.2g} nats a token, growing from {steps[-1]} by {rows[-1].gain:.2g}, by the "
        "median of eight fits to public tables of runs; the lines span all eight, and pale bars "
        "lie beyond every run."
    )


def machines(axes, table, memories) -> str:
    """Bytes of weights over size at three widths, and what machines hold."""
    for index, (bits, rows) in enumerate(table.groupby("bits", sort=False)):
        colour = COLOURS[index]
        axes.loglog(rows["params"], rows["bytes"] / 1e9, color=colour)
        end = rows.iloc[-1]
        beside(
            axes, f"{bits} bits", end["params"], end["bytes"] / 1e9, colour, dx=4, dy=5 - 5 * index
        )
    for row in memories.itertuples():
        axes.axhline(row.bytes / 1e9, color=INK, linewidth=0.8, linestyle=":")
        beside(axes, row.machine, table["params"].min(), row.bytes / 1e9, dx=0, dy=6, ha="left")
    axes.set_xlim(right=6 * table["params"].max())
    axes.set_ylim(top=4 * memories["bytes"].max() / 1e9)
    axes.set_xlabel("parameters")
    axes.set_ylabel("weights (GB)")
    ends = memories.iloc[[0, -1]]
    return (
        "Bytes of the weights grow in step with the parameters, in 16, 8 and 4 bits. In 4 bits "
        f"{ends.iloc[0].machine} stores {si(ends.iloc[0].params, 'params')} parameters, "
        f"{ends.iloc[1].machine} {si(ends.iloc[1].params, 'params')}."
    )


def floors(axes, table) -> str:
    """Measured time over the floor, by serving framework, with the middle 80 percent."""
    for place, row in enumerate(table.itertuples()):
        interval(axes, place, row.times, row.low, row.high)
        beside(axes, f"{row.times:.1f}", row.times, place, dx=0, dy=11)
    axes.axvline(1, color=INK, linewidth=1)
    beside(axes, "the floor", 1, -0.7)
    below = "times the floor, median and middle 80 percent"
    by_row(axes, table["framework"], -1, (0, 1.05 * table["high"].max()), below)
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
            beside(axes, row.type.upper(), row.bits, row.kl, dx=6, dy=8)
    axes.set_xlabel("bits stored for each parameter")
    axes.set_ylabel("divergence (nats a token)")
    axes.set_xlim(right=table["bits"].max() + 1.5)
    largest, smallest = table.loc[table["bits"].idxmax()], table.loc[table["bits"].idxmin()]
    return (
        f"Divergence from the model in 16 bits, on a logarithmic axis: {largest.kl:.2g} nats at "
        f"{largest.bits:.1f} bits, {smallest.kl:.2g} at {smallest.bits:.1f}; the curve "
        "bends up below four."
    )


def items(axes, table) -> str:
    """Shares of questions that one model of a pair gets right alone, to the left and right."""
    places, top = range(len(table)), len(table) - 0.45
    kinds = ("only_small", -1, COLOURS[1], "small"), ("only_large", 1, COLOURS[0], "large")
    for column, side, colour, name in kinds:
        axes.barh(places, side * table[column], color=colour, height=0.6)
        for place, share in enumerate(table[column]):
            beside(axes, f"{share:.0f}", side * share, place, dx=3 * side)
        beside(axes, f"only the {name} one", 0, top, colour, dx=6 * side, dy=4)
    axes.axvline(0, color=INK, linewidth=1)
    axes.set_yticks(places, [name.replace(", ", "\n") for name in table["pair"]])
    axes.set_ylim(-0.6, len(table))
    widest = table[["only_small", "only_large"]].to_numpy().max()
    axes.set(xlim=(-0.75 * widest, 1.15 * widest), xticks=[])
    axes.grid(visible=False)
    axes.set_xlabel("right alone, percent of the questions")
    row = table.iloc[-1]
    return (
        "Bars to both sides for each pair of models: questions that only the small one gets right "
        f"and, longer, those that only the large one does; for {row['pair']} "
        f"{row['only_small']:.0f} and {row['only_large']:.0f} percent."
    )
