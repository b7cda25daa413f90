"""Figures of the chapters on the KV cache and on TurboQuant: labels stand on the lines."""

from .style import COLOURS, INK, at_ends, beside, in_rows


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
    in_rows(axes, models)
    axes.set_xlabel("cache of one sequence (GB)")
    axes.figure.legend(loc="outside upper center", ncols=2)


def hardware(axes, table, factor: float) -> None:
    """How many times less memory in all, over the context, one line a batch.

    ``table`` has ``context``, ``batch`` and ``factor``; the line on top is the cache's own.
    """
    for colour, (batch, rows) in zip(COLOURS, table.groupby("batch"), strict=False):
        axes.semilogx(rows["context"], rows["factor"], "o-", base=2, color=colour)
        last = rows.iloc[-1]
        beside(axes, f"{batch:,}", last["context"], last["factor"], colour, 6)
    axes.axhline(factor, color=INK, linestyle="--", linewidth=1)
    beside(axes, "the cache alone", table["context"].min(), factor, dx=0.1, dy=-9)
    contexts = sorted(table["context"].unique())[::2]
    axes.set_xticks(contexts, [f"{n // 1024}k" for n in contexts])
    axes.minorticks_off()
    axes.set_ylim(1, factor + 0.3)
    axes.set_xlim(right=1.5 * table["context"].max())
    axes.set_xlabel("context (tokens); a line a number of conversations")
    axes.set_ylabel("times less memory in all")


def promise(axes, table) -> None:
    """Loss over times smaller: what was announced, and what was measured, by mode and bits.

    ``table`` is `tables.turboquant.against_announcement`; a bar spans the models measured.
    """
    table = table.dropna(subset="smaller")
    for colour, (mode, rows) in zip(COLOURS, table.groupby("mode", sort=False), strict=False):
        middle = (rows["smaller"] + rows["smaller_most"]) / 2
        axes.vlines(middle, rows["lost"], rows["lost_most"], color=colour, linewidth=6, alpha=0.4)
        for name in ("lost", "lost_most"):
            axes.plot(middle, rows[name], "o", color=colour)
        for x, row in zip(middle, rows.itertuples(), strict=True):
            dx, dy = (7, 0) if len(rows) > 1 else (0, 11)  # above a point that stands alone
            beside(axes, f"{row.bits:.0f} bits", x, row.lost_most, colour, dx, dy)
        axes.plot([], [], "o", color=colour, label=mode)
    axes.set_yscale("symlog", linthresh=0.01)
    axes.set_ylim(-0.002, 2 * table["lost_most"].max())
    axes.set_yticks([0, 0.01, 0.1, 1], ["0", "1%", "10%", "100%"])
    axes.minorticks_off()
    axes.set_xlim(right=1.12 * table["smaller_most"].max())
    axes.set_xlabel("times smaller than bf16")
    axes.set_ylabel("perplexity added")
    axes.figure.legend(loc="outside upper left", ncols=1)


def distortion(axes, codebook, sampled) -> None:
    """Error over bits: exact (line), sampled inner products (points), between the bounds.

    ``codebook`` has ``bits``, ``distortion``, ``lower`` and ``upper``; ``sampled`` has ``bits``,
    ``variant`` and ``inner``, the error of inner products times the dimension.
    """
    rows = codebook.sort_values("bits")
    last = rows.iloc[-1]
    axes.fill_between(
        rows["bits"], rows["lower"], rows["upper"], color=INK, alpha=0.08, linewidth=0
    )
    axes.semilogy(rows["bits"], rows["distortion"], "-", color=COLOURS[0])
    ends = [("between bounds", last["lower"], INK)]
    for colour, mark, (variant, subset) in zip(
        COLOURS, "os^", sampled.groupby("variant", sort=False), strict=False
    ):
        means = subset.groupby("bits")["inner"].mean()
        axes.semilogy(means.index, means, mark, color=colour)
        ends.append((variant.replace("eden-unbiased", "EDEN"), means.iloc[-1], colour))
    at_ends(axes, last["bits"], ends, apart=1.5, dx=8)
    axes.set_xticks(sorted(codebook["bits"].unique()))
    axes.set_xlim(0.8, rows["bits"].max() + 1.1)
    axes.set_xlabel("bits a coordinate")
    axes.set_ylabel("squared error (points: times d)")


def loss(axes, table) -> None:
    """Perplexity added over the bits in memory, one line a method.

    ``table`` has ``method``, ``bits``, ``perplexity_change``, its ``_low`` and ``_high``.
    """
    corner = {"transform": axes.transAxes, "ha": "right"}
    methods = table.groupby("method", sort=False)
    for number, (colour, mark, (method, rows)) in enumerate(
        zip(COLOURS, "os^Dv", methods, strict=False)
    ):
        rows = rows.sort_values("bits")
        value, low, high = (100 * rows[f"perplexity_change{end}"] for end in ("", "_low", "_high"))
        axes.plot(rows["bits"], value, f"{mark}-", color=colour)
        axes.vlines(rows["bits"], low, high, color=colour, linewidth=1.2)
        # Names stand one below the other in a corner that falling lines leave free.
        axes.text(0.98, 0.95 - 0.08 * number, method, color=colour, **corner)
    axes.set_yscale("symlog", linthresh=1)
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set_xlabel("bits in memory for a number, scales and plain tokens included")
    axes.set_ylabel("perplexity added (%)")


def remedies(axes, table) -> None:
    """Perplexity added, one row a model and way of storing, on a scale that holds all.

    ``table`` has ``label``, ``perplexity_change``, its ``_low`` and ``_high``, and ``group``.
    """
    groups = list(dict.fromkeys(table["group"]))
    for position, row in enumerate(table.to_dict("records")):
        colour = COLOURS[groups.index(row["group"])]
        value, *ends = (100 * row[f"perplexity_change{end}"] for end in ("", "_low", "_high"))
        axes.plot(ends, [position, position], color=colour, linewidth=1.4)
        axes.plot([value], [position], "o", color=colour)
        beside(axes, f"{value:+.3g}%", ends[1], position, colour, 8)
    axes.set_xscale("symlog", linthresh=1)
    in_rows(axes, table["label"])
    axes.set_xlim(right=8 * 100 * table["perplexity_change_high"].max())
    axes.set_xlabel("perplexity added (%)")
