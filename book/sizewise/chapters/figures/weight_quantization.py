"""Figures of the chapter on weight quantization."""

from .style import COLOURS, INK

MARKS = "os^Dv<>P*X"


def bits_held(axes, table) -> None:
    """Bits held for a parameter, stacked by what they are for, with the label as a line.

    ``table`` is indexed by format, has ``label`` (bits) and one column a role.
    """
    left = 0
    for colour, role in zip(COLOURS, [c for c in table if c != "label"], strict=False):
        axes.barh(table.index, table[role], left=left, label=role, color=colour)
        left = left + table[role].to_numpy()
    for place, label in enumerate(table["label"]):
        ends = ([label, label], [place - 0.4, place + 0.4])
        axes.plot(*ends, color=INK, label=None if place else "the label")
    axes.set_ylim(len(table) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("bits held for a parameter")
    axes.figure.legend(loc="outside upper center", ncols=3, fontsize=9.5)


def codebooks(axes, tables) -> None:
    """The values that four bits can stand for, one row a codebook. ``tables``: name to levels."""
    for place, (colour, levels) in enumerate(zip(COLOURS, tables.values(), strict=False)):
        axes.plot(levels, [place] * len(levels), "|", color=colour, markersize=22, mew=2)
    axes.set_yticks(range(len(tables)), list(tables))
    axes.set_ylim(len(tables) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("value, in units of the largest magnitude of the block")


def rounding(axes, table) -> None:
    """Relative squared error over block size: points measured, lines expected of normal weights.

    ``table`` has ``codebook``, ``block``, ``relative_error``, its ``_low`` and ``_high``, and
    ``theory``.
    """
    for colour, mark, (name, rows) in zip(
        COLOURS, MARKS, table.groupby("codebook", sort=False), strict=False
    ):
        rows = rows.sort_values("block")
        _points(axes, rows, "block", "relative_error", mark, colour, label=name)
        axes.plot(rows["block"], rows["theory"], color=colour, linewidth=1.2)
    axes.set_xscale("log", base=2)
    axes.set_ylim(bottom=0)
    blocks = sorted(table["block"].unique())
    axes.set_xticks(blocks, [f"{int(b)}" for b in blocks])
    axes.minorticks_off()
    axes.set_xlabel("weights that share a scale")
    axes.set_ylabel("squared error over squared weights")
    axes.legend(fontsize=9.5)


def intervals(axes, table, value: str, label: str, here=None, zero: bool = True) -> None:
    """One row a format: a dot with its interval, one colour a model.

    ``table`` has ``model``, ``format``, ``value`` and its ``_low`` and ``_high``. Crosses for what
    was measured ``here``, a table of the same columns; they name their model.
    """
    formats = list(dict.fromkeys(table["format"]))
    models = list(dict.fromkeys(table["model"]))
    for colour, mark, model in zip(COLOURS, MARKS, models, strict=False):
        rows = table[table["model"] == model]
        shift = 0.5 * (models.index(model) + 0.5) / len(models) - 0.25
        places = [formats.index(name) + shift for name in rows["format"]]
        axes.plot(rows[value], places, mark, color=colour, label=model)
        for place, row in zip(places, rows.to_dict("records"), strict=True):
            ends = [row[f"{value}_low"], row[f"{value}_high"]]
            axes.plot(ends, [place, place], color=colour, linewidth=1.4)
    if here is not None:
        shown = here[here["format"].isin(formats)]
        places = [formats.index(name) + 0.3 for name in shown["format"]]
        label_here = f"here, now: {here['model'].iloc[0]}"
        axes.plot(shown[value], places, "x", color=INK, label=label_here)
    if zero:
        axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_yticks(range(len(formats)), formats)
    axes.set_ylim(len(formats) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(label)
    if len(models) > 1 or here is not None:
        axes.figure.legend(loc="outside upper center", ncols=3, fontsize=9.5)


def by_size(axes, table) -> None:
    """Loss added by a format over the size of the model, one line a format.

    ``table`` has ``format``, ``parameters``, ``loss_change``, its ``_low`` and ``_high``.
    """
    for colour, mark, (name, rows) in zip(
        COLOURS, MARKS, table.groupby("format", sort=False), strict=False
    ):
        rows = rows.sort_values("parameters")
        _points(axes, rows, "parameters", "loss_change", f"{mark}-", colour, label=name)
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xlabel("parameters")
    axes.set_ylabel("bits a byte added")
    axes.figure.legend(loc="outside upper center", ncols=4, fontsize=9.5)


def frontier(axes, table, best=None) -> None:
    """Loss over the bytes held, one line a format; the ``best`` of all points are ringed.

    ``table`` has ``format``, ``held_bytes`` and ``bits_per_byte``; so has ``best``.
    """
    for colour, mark, (name, rows) in zip(
        COLOURS, MARKS, table.groupby("format", sort=False), strict=False
    ):
        rows = rows.sort_values("held_bytes")
        axes.plot(
            rows["held_bytes"] / 1e6,
            rows["bits_per_byte"],
            f"{mark}-",
            color=colour,
            label=name,
            linewidth=1.2,
        )
    if best is not None:
        axes.plot(
            best["held_bytes"] / 1e6,
            best["bits_per_byte"],
            "o",
            color=INK,
            markersize=12,
            fillstyle="none",
            label="surely less loss than all with fewer bytes",
        )
    axes.set_xscale("log")
    axes.set_xlabel("MB held")
    axes.set_ylabel("bits a byte")
    axes.figure.legend(loc="outside upper center", ncols=4, fontsize=9.5)


def layers(axes, tables) -> None:
    """What each group of weights adds to the loss when it alone is quantized, a panel a model.

    ``tables``: title to a table of ``group``, ``kl`` and its ``_low`` and ``_high``.
    """
    figure = axes.figure
    axes.remove()
    panels = figure.subplots(1, len(tables), squeeze=False)[0]
    for panel, colour, (title, table) in zip(panels, COLOURS, tables.items(), strict=False):
        places = range(len(table))
        panel.plot(table["kl"], places, "o", color=colour)
        panel.hlines(places, table["kl_low"], table["kl_high"], color=colour, linewidth=1.4)
        names = [name.removeprefix("model.") for name in table["group"]]
        panel.set_yticks(places, names, fontsize=8.5)
        panel.set_ylim(len(table) - 0.5, -0.5)
        panel.set_xlim(left=0)
        panel.grid(axis="y", visible=False)
        panel.set_title(title, fontsize=9.5)
    figure.supxlabel("KL divergence by this group alone (nats a token)", fontsize=11)


def outliers(axes, table, threshold: float) -> None:
    """Largest magnitude that enters each layer, one line a model; the threshold of LLM.int8().

    ``table`` has ``model``, ``layer`` and ``largest``.
    """
    for colour, mark, (model, rows) in zip(
        COLOURS, MARKS, table.groupby("model", sort=False), strict=False
    ):
        rows = rows.sort_values("layer")
        axes.semilogy(rows["layer"], rows["largest"], f"{mark}-", color=colour, label=model)
    axes.axhline(threshold, color=INK, linewidth=0.8, linestyle="--", label="threshold")
    axes.set_xlabel("layer")
    axes.set_ylabel("largest magnitude of an input")
    axes.legend(fontsize=9.5)


def speed(axes, table) -> None:
    """Time a token over the floor of its own bytes, by batch, one line a format.

    ``table`` has ``format``, ``batch`` and ``over_floor``.
    """
    for colour, mark, (name, rows) in zip(
        COLOURS, MARKS, table.groupby("format", sort=False), strict=False
    ):
        rows = rows.sort_values("batch")
        axes.loglog(rows["batch"], rows["over_floor"], f"{mark}-", base=2, color=colour, label=name)
    axes.axhline(1, color=INK, linewidth=0.8)
    batches = sorted(table["batch"].unique())
    axes.set_xticks(batches, [f"{int(b)}" for b in batches])
    axes.minorticks_off()
    axes.set_xlabel("sequences at once")
    axes.set_ylabel("time a token over its floor")
    axes.figure.legend(loc="outside upper center", ncols=4, fontsize=9.5)


def _points(axes, rows, across: str, value: str, style: str, colour: str, label: str) -> None:
    """Points of one colour with their intervals as thin bars."""
    axes.plot(rows[across], rows[value], style, color=colour, label=label)
    axes.vlines(
        rows[across], rows[f"{value}_low"], rows[f"{value}_high"], color=colour, linewidth=1.2
    )
