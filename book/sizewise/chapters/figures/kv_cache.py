"""Figures of the chapters on the KV cache and on TurboQuant: labels stand on the lines."""

from .style import COLOURS, INK

SMALL = 9.5  # points of a label


def _label(axes, x, y, text: str, colour, **offset) -> None:
    position = {"xytext": (6, 0), "va": "center", "ha": "left"} | offset
    axes.annotate(
        text, (x, y), textcoords="offset points", color=colour, fontsize=SMALL, **position
    )


def shrinking(axes, table) -> None:
    """Bytes of one cache, one row a model: where it starts and what each step leaves.

    ``table`` has ``model``, ``step`` (the same for all models) and ``bytes``.
    """
    models, steps = (list(dict.fromkeys(table[name])) for name in ("model", "step"))
    sizes = table.pivot(index="model", columns="step", values="bytes").loc[models] / 1e9
    for position, model in enumerate(models):
        axes.plot(sizes.loc[model, steps], [position] * len(steps), color=INK, linewidth=0.6)
    for colour, mark, step in zip(COLOURS, "os^D", steps, strict=False):
        axes.plot(sizes[step], range(len(models)), mark, color=colour, markersize=7, label=step)
    axes.set_xscale("log")
    axes.set_yticks(range(len(models)), models)
    axes.set_ylim(len(models) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("cache of one sequence (GB)")
    axes.figure.legend(loc="outside upper center", ncols=2, fontsize=SMALL)


def hardware(axes, table, factor: float) -> None:
    """How many times less memory in all, over the context, one line a batch.

    ``table`` has ``context``, ``batch`` and ``factor``; the line on top is the cache's own.
    """
    for colour, (batch, rows) in zip(COLOURS, table.groupby("batch"), strict=False):
        axes.semilogx(rows["context"], rows["factor"], "o-", base=2, color=colour)
        last = rows.iloc[-1]
        _label(axes, last["context"], last["factor"], f"{batch:,}", colour)
    axes.axhline(factor, color=INK, linestyle="--", linewidth=1)
    first = table["context"].min()
    _label(axes, first, factor, "the cache alone", INK, xytext=(0, -9))
    contexts = sorted(table["context"].unique())[::2]
    axes.set_xticks(contexts, [f"{n // 1024}k" for n in contexts])
    axes.minorticks_off()
    axes.set_ylim(1, factor + 0.3)
    axes.set_xlim(right=1.5 * table["context"].max())
    axes.set_xlabel("context (tokens); a line a number of conversations")
    axes.set_ylabel("times less memory in all")


def promise(axes, table) -> None:
    """Promised against measured, one row a part; bars in units of what was promised.

    ``table`` has ``part``, ``promised``, ``measured`` (both as text) and ``share``, 0 to 1.
    """
    places = range(len(table))
    axes.barh(places, [1] * len(table), color=INK, alpha=0.08)
    axes.barh(places, table["share"], color=COLOURS[0])
    for position, row in zip(places, table.to_dict("records"), strict=True):
        text = f"{row['measured']}; {row['promised']}"
        _label(axes, 1, position, text, INK, xytext=(6, 0))
    axes.set_yticks(places, table["part"])
    axes.set_ylim(len(table) - 0.5, -0.5)
    axes.set_xlim(0, 3.8)
    axes.set_xticks([])
    axes.grid(visible=False)
    for side in ("bottom", "left"):
        axes.spines[side].set_visible(False)


def distortion(axes, codebook, sampled) -> None:
    """Error over bits: exact (line), sampled inner products (points), between the bounds.

    ``codebook`` has ``bits``, ``distortion``, ``lower`` and ``upper``; ``sampled`` has ``bits``,
    ``variant`` and ``inner``, the error of inner products times the dimension.
    """
    rows = codebook.sort_values("bits")
    axes.fill_between(
        rows["bits"], rows["lower"], rows["upper"], color=INK, alpha=0.08, linewidth=0
    )
    axes.semilogy(rows["bits"], rows["distortion"], "-", color=COLOURS[0])
    for colour, mark, (variant, subset) in zip(
        COLOURS, "os^", sampled.groupby("variant", sort=False), strict=False
    ):
        means = subset.groupby("bits")["inner"].mean()
        axes.semilogy(means.index, means, mark, color=colour)
        below = {"xytext": (8, -10)} if variant == "mse" else {}
        _label(axes, means.index[-1], means.iloc[-1], variant, colour, **below)
    last = rows.iloc[-1]
    _label(axes, last["bits"], last["lower"], "between bounds", INK, xytext=(8, 0))
    axes.set_xticks(sorted(codebook["bits"].unique()))
    axes.set_xlim(0.8, rows["bits"].max() + 1.1)
    axes.set_xlabel("bits a coordinate")
    axes.set_ylabel("squared error")


def loss(axes, table) -> None:
    """Perplexity added over the bits in memory, one line a method, its name at the fewest bits.

    ``table`` has ``method``, ``bits``, ``perplexity_change``, its ``_low`` and ``_high``.
    """
    methods = table.groupby("method", sort=False)
    for number, (colour, mark, (method, rows)) in enumerate(
        zip(COLOURS, "os^Dv", methods, strict=False)
    ):
        rows = rows.sort_values("bits")
        value, low, high = (100 * rows[f"perplexity_change{end}"] for end in ("", "_low", "_high"))
        axes.plot(rows["bits"], value, f"{mark}-", color=colour)
        axes.vlines(rows["bits"], low, high, color=colour, linewidth=1.2)
        # Names stand one below the other in a corner that falling lines leave free.
        axes.text(
            0.98,
            0.95 - 0.08 * number,
            method,
            color=colour,
            transform=axes.transAxes,
            ha="right",
            fontsize=SMALL,
        )
    axes.set_yscale("symlog", linthresh=1)
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set_xlabel("bits in memory for a number, scales and plain tokens included")
    axes.set_ylabel("perplexity added (%)")


def remedies(axes, table) -> None:
    """Perplexity added, one row a model and way of storing, on a scale that holds all.

    ``table`` has ``label``, ``perplexity_change``, its ``_low`` and ``_high``, and ``group``.
    """
    groups = list(dict.fromkeys(table["group"]))
    places = range(len(table))
    for position, row in zip(places, table.to_dict("records"), strict=True):
        colour = COLOURS[groups.index(row["group"])]
        value, *ends = (100 * row[f"perplexity_change{end}"] for end in ("", "_low", "_high"))
        axes.plot(ends, [position, position], color=colour, linewidth=1.4)
        axes.plot([value], [position], "o", color=colour)
        _label(axes, ends[1], position, f"{value:+.3g}%", colour, xytext=(8, 0))
    axes.set_xscale("symlog", linthresh=1)
    axes.set_yticks(places, table["label"])
    axes.set_ylim(len(table) - 0.5, -0.5)
    axes.set_xlim(right=8 * 100 * table["perplexity_change_high"].max())
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("perplexity added (%)")
