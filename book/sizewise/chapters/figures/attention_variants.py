"""Figures of the chapter on attention variants. Each returns its alternative text."""

from sizewise.units import si

from .style import COLOURS, INK, at_ends, beside, interval, listed


def growth(axes, table) -> str:
    """Bytes stored for one sequence over its length, a line a model, names at the right end.

    ``table`` has ``model``, ``context`` and ``bytes``.
    """
    ends = []
    for place, (model, rows) in enumerate(table.groupby("model", sort=False)):
        colour = COLOURS[place % len(COLOURS)]
        axes.loglog(rows["context"], rows["bytes"], color=colour)
        ends.append((model, rows["bytes"].iloc[-1], colour))
    at_ends(axes, table["context"].max(), ends, 2.1)
    ticks = [1 << 8, 1 << 12, 1 << 16, 1 << 20]
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks[:3]] + ["1M"])
    axes.minorticks_off()
    sizes = [10**power for power in range(5, 12)]
    low, high = table["bytes"].min() / 2, table["bytes"].max() * 10
    axes.set_ylim(low, high)
    axes.set_yticks(
        [s for s in sizes if low < s < high], [si(s, "B") for s in sizes if low < s < high]
    )
    axes.set(xlabel="tokens in the sequence", ylabel="stored for one sequence")
    ends.sort(key=lambda end: -end[1])
    return listed(
        "Bytes stored for one sequence of about a million tokens",
        (f"{model} {si(size, 'B')}" for model, size, _ in ends),
    )


def differences(axes, table, zero: str) -> str:
    """Loss minus that of a reference, a row each from the top down, with 95 % intervals.

    ``table`` has ``name``, ``difference``, ``low`` and ``high``; ``zero`` names the reference.
    """
    marks = []
    for height, row in enumerate(reversed(list(table.itertuples()))):
        colour = COLOURS[1] if "convolution" in row.name else COLOURS[0]
        interval(axes, height, row.difference, row.low, row.high, colour)
        text = f"{row.name} {row.difference:+.2f}".replace("-", "\u2212")
        if row.high < 0:
            beside(axes, text, row.difference, height, colour, dx=0, dy=13)
        else:  # the words would stand across the line at zero
            beside(axes, text, 0, height, colour, dx=-4, dy=13)
        marks.append(f"{row.name} {row.difference:+.3f}")
    axes.axvline(0, color=INK, linewidth=0.8)
    beside(axes, zero, 0, -0.4, dx=4, dy=4)
    axes.set_ylim(-0.5, len(table) - 0.3)
    axes.set_xlim(left=1.3 * table["low"].min(), right=max(0.08, 1.5 * table["high"].max()))
    axes.set_yticks([])
    axes.set_xlabel("difference in loss (nats a token)")
    return listed(f"Mean differences in loss, with {zero} at 0", marks)
