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
    axes.set_xlabel("tokens in the sequence")
    axes.set_ylabel("stored for one sequence")
    ends.sort(key=lambda end: -end[1])
    return listed(
        "Bytes stored for one sequence of about a million tokens",
        (f"{model} {si(size, 'B')}" for model, size, _ in ends),
    )


def differences(axes, table, names) -> str:
    """Loss minus that of the dense model, a row a family, with intervals over all settings.

    ``table`` has ``family``, ``difference``, ``low`` and ``high``; ``names`` maps families to
    labels.
    """
    marks = []
    for height, row in enumerate(reversed(list(table.itertuples()))):
        colour = COLOURS[1] if "convolution" in row.family else COLOURS[0]
        interval(axes, height, row.difference, row.low, row.high, colour)
        text = f"{names[row.family]} {row.difference:+.2f}".replace("-", "\u2212")
        beside(axes, text, row.difference, height, colour, dx=0, dy=13)
        marks.append(f"{names[row.family]} {row.difference:+.3f}")
    axes.axvline(0, color=INK, linewidth=0.8)
    beside(axes, "dense", 0, -0.4, dx=4, dy=4)
    axes.set_ylim(-0.5, len(table) - 0.3)
    axes.set_xlim(left=1.3 * table["low"].min(), right=max(0.08, 1.5 * table["high"].max()))
    axes.set_yticks([])
    axes.set_xlabel("loss minus that of a dense model (nats a token)")
    return f"Mean differences in loss to the dense model: {', '.join(marks)}."


def windows(axes, table) -> str:
    """What windows alone change against seeing all, without a short convolution and with one.

    ``table`` has ``convolution``, ``difference``, ``low`` and ``high``.
    """
    marks = []
    for height, row in enumerate(table.itertuples()):
        name = "with short convolutions in both" if row.convolution else "as the classes are"
        colour = COLOURS[1] if row.convolution else COLOURS[0]
        interval(axes, -height, row.difference, row.low, row.high, colour)
        beside(axes, name, row.difference, -height, colour, dx=0, dy=13)
        marks.append(f"{name} {row.difference:+.3f}")
    axes.axvline(0, color=INK, linewidth=0.8)
    width = table["low"].abs().max()
    axes.set_xlim(-1.4 * width, 0.5 * width)
    axes.set_ylim(-len(table) + 0.5, 0.6)
    axes.set_yticks([])
    axes.set_xlabel("loss of windows alone minus seeing all (nats a token)")
    return f"Windows alone minus full attention: {', '.join(marks)}."
