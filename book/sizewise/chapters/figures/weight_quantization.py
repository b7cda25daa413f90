"""Figures of the chapter on weight quantization: labels stand beside the points."""

from .style import COLOURS, INK

SMALL = 9.5  # points of a label


def lost(axes, table) -> None:
    """Neighbours lost, one row a format, the most bits on top, one colour a width of code.

    ``table`` has ``label``, ``bits``, ``lost``, its ``_low`` and ``_high``.
    """
    rows = table.sort_values(["bits", "lost"], ascending=[False, True])
    widths = dict(zip((16, 8, 4, 3), COLOURS, strict=False))
    for position, row in enumerate(rows.to_dict("records")):
        colour = next(c for width, c in widths.items() if row["bits"] >= width or width == 3)
        axes.plot([100 * row["lost_low"], 100 * row["lost_high"]], [position] * 2, color=colour)
        axes.plot([100 * row["lost"]], [position], "o", color=colour)
        axes.annotate(
            f"{100 * row['lost']:.1f}%",
            (100 * row["lost_high"], position),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            color=colour,
            fontsize=SMALL,
        )
    axes.set_yticks(range(len(rows)), rows["label"], fontsize=SMALL)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(0, 125 * rows["lost_high"].max())
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("of ten nearest neighbours, lost (%)")


def bits_stored(axes, table) -> None:
    """Bits for a parameter as used, one row a format, with the label's number as a line.

    ``table`` has ``name``, ``label`` (bits) and ``bits``.
    """
    places = range(len(table))
    axes.barh(places, table["bits"], color=COLOURS[0], alpha=0.8)
    for position, row in zip(places, table.to_dict("records"), strict=True):
        axes.plot([row["label"]] * 2, [position - 0.4, position + 0.4], color=INK)
        axes.annotate(
            f"{row['bits']:.2f}",
            (max(row["bits"], row["label"]), position),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=SMALL,
        )
    axes.set_yticks(places, table["name"])
    axes.set_ylim(len(table) - 0.5, -0.5)
    axes.set_xlim(right=1.15 * table["bits"].max())
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("bits for each parameter (line: the label)")


def divergences(axes, table) -> None:
    """KL divergence of two models by type of file, joined; the ratio beside it.

    ``table`` has ``type``, ``llama_2_7b``, ``llama_3_8b`` and ``ratio``.
    """
    places = range(len(table))
    for position, row in zip(places, table.to_dict("records"), strict=True):
        ends = [row["llama_2_7b"], row["llama_3_8b"]]
        axes.semilogx(ends, [position, position], color=INK, linewidth=0.8)
        axes.annotate(
            f"{row['ratio']:.1f} times",
            (ends[1], position),
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            fontsize=SMALL,
        )
    names = (("llama_2_7b", "Llama 2 7B", "right"), ("llama_3_8b", "Llama 3 8B", "left"))
    for colour, (column, name, side) in zip(COLOURS, names, strict=False):
        axes.semilogx(table[column], places, "o", color=colour, markersize=7)
        axes.annotate(
            name,
            (table[column].iloc[-1], len(table) - 1),
            xytext=(0, 10),
            textcoords="offset points",
            ha=side,
            color=colour,
            fontsize=SMALL,
        )
    axes.set_yticks(places, table["type"])
    axes.set_ylim(-0.5, len(table) - 0.2)
    axes.set_xlim(right=4 * table["llama_3_8b"].max())
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("KL divergence from 16 bits (nats a token)")
