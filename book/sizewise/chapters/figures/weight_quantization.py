"""Figures of the chapter on weight quantization: labels stand beside the points."""

from .style import COLOURS, INK, beside, in_rows

WIDTHS = dict(zip((16, 8, 4, 3), COLOURS, strict=False))  # of a code: its colour


def lost(axes, table, measure: str, second=None) -> None:
    """What each format costs, one row a format, the most bits on top, one colour a width of code.

    ``table`` has ``label``, ``bits``, ``lost``, its ``_low`` and ``_high``; ``measure`` names the
    axis. ``second``: the same on another text, as hollow points. Costs run over three powers of
    ten, so the scale is logarithmic from a twentieth of a percent on.
    """
    if second is not None:
        axes.text(0.98, 0.97, "hollow: news", transform=axes.transAxes, ha="right", va="top")
    rows = table.sort_values(["bits", "lost"], ascending=[False, True])
    for position, (form, row) in enumerate(rows.iterrows()):
        colour = next(c for width, c in WIDTHS.items() if row["bits"] >= width or width == 3)
        ends = [100 * row["lost_low"], 100 * row["lost_high"]]
        axes.plot(ends, [position] * 2, color=colour)
        axes.plot([100 * row["lost"]], [position], "o", color=colour)
        right = ends[1]
        if second is not None and form in second.index:
            other = 100 * second.loc[form, "lost"]
            right = max(right, other)
            axes.plot([other], [position], "o", color=colour, markerfacecolor="none")
        percent = 100 * row["lost"]
        text = f"{percent:.2g}%" if abs(percent) >= 0.01 else "under 0.01%"
        beside(axes, text, right, position, colour, 6)
    in_rows(axes, rows["label"])
    axes.set_xscale("symlog", linthresh=0.05)
    axes.set_xlim(min(0, 100 * rows["lost_low"].min()), 300 * rows["lost_high"].max())
    axes.set_xticks([0, 0.05, 0.2, 1], ["0", "0.05", "0.2", "1"])
    axes.minorticks_off()
    axes.set_xlabel(measure)


def bits_stored(axes, table) -> None:
    """Bits for a parameter as used, one row a format, with the label's number as a line.

    ``table`` has ``name``, ``label`` (bits) and ``bits``.
    """
    axes.barh(range(len(table)), table["bits"], color=COLOURS[0], alpha=0.8)
    for position, row in enumerate(table.to_dict("records")):
        axes.plot([row["label"]] * 2, [position - 0.4, position + 0.4], color=INK)
        beside(axes, f"{row['bits']:.2f}", max(row["bits"], row["label"]), position, dx=6)
    in_rows(axes, table["name"])
    axes.set(xlim=(None, 1.15 * table["bits"].max()), xlabel="bits a parameter (line: the label)")


def divergences(axes, table) -> None:
    """KL divergence of two models by type of file, joined; the ratio beside it.

    ``table`` has ``type``, ``llama_2_7b``, ``llama_3_8b`` and ``ratio``.
    """
    for position, row in enumerate(table.to_dict("records")):
        ends = [row["llama_2_7b"], row["llama_3_8b"]]
        axes.semilogx(ends, [position, position], color=INK, linewidth=0.8)
        beside(axes, f"{row['ratio']:.1f} times", ends[1], position, dx=6)
    in_rows(axes, table["type"].str.upper())
    names = (("llama_2_7b", "Llama 2 7B", "right"), ("llama_3_8b", "Llama 3 8B", "left"))
    for colour, (column, name, side) in zip(COLOURS, names, strict=False):
        axes.semilogx(table[column], range(len(table)), "o", color=colour, markersize=7)
        beside(axes, name, table[column].iloc[0], 0, colour, 0, 12, ha=side)
    axes.set_ylim(top=-0.8)
    axes.set_xlim(table["llama_2_7b"].min() / 12, 4 * table["llama_3_8b"].max())
    axes.set_xlabel("KL divergence from 16 bits (nats a token)")


def ladder(axes, table, names) -> None:
    """Loss added over training tokens a parameter, one line a format, its name at the end.

    ``table`` has ``format``, ``per_parameter``, ``loss_change``, its ``_low`` and ``_high``.
    """
    for colour, (form, rows) in zip(COLOURS, table.groupby("format", sort=False), strict=False):
        x, y = rows["per_parameter"], rows["loss_change"]
        axes.plot(x, y, "o-", color=colour)
        axes.vlines(x, rows["loss_change_low"], rows["loss_change_high"], color=colour)
        beside(axes, names[form], x.iloc[-1], y.iloc[-1], colour, 8)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(right=2.2 * table["per_parameter"].max())
    axes.set_xlabel("training tokens for each parameter")
    axes.set_ylabel("loss added (bits a byte)")
