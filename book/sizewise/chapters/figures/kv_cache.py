"""Figures of the chapters on the KV cache and on TurboQuant."""

from .style import COLOURS, INK

MARKS = "os^Dv<>P*X"


def shrinking(axes, table, steps) -> None:
    """Bytes of one cache, one row a model: a dot for each of ``steps``, joined.

    ``table`` has ``model``, ``step`` and ``bytes``.
    """
    models = list(dict.fromkeys(table["model"]))
    sizes = table.pivot(index="model", columns="step", values="bytes").loc[models]
    for place, model in enumerate(models):
        ends = [sizes.loc[model].min() / 1e9, sizes.loc[model].max() / 1e9]
        axes.plot(ends, [place, place], color=INK, linewidth=0.6)
    for colour, mark, step in zip(COLOURS, MARKS, steps, strict=False):
        axes.plot(
            sizes[step] / 1e9, range(len(models)), mark, color=colour, label=step, markersize=7
        )
    axes.set_xscale("log")
    axes.set_yticks(range(len(models)), models)
    axes.set_ylim(len(models) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("cache of one sequence (GB)")
    axes.figure.legend(loc="outside upper center", ncols=3, fontsize=9.5)


def hardware(axes, table, factor: float) -> None:
    """How many times less memory in all, over the context, one line a batch.

    ``table`` has ``context``, ``batch`` and ``factor``; the line on top is the cache's own.
    """
    for mark, (batch, rows) in zip(MARKS, table.groupby("batch"), strict=False):
        word = "sequence" if batch == 1 else "sequences"
        axes.semilogx(rows["context"], rows["factor"], f"{mark}-", base=2, label=f"{batch} {word}")
    axes.axhline(factor, color=INK, linestyle="--", linewidth=1, label="the cache alone")
    contexts = sorted(table["context"].unique())
    axes.set_xticks(contexts, [f"{n // 1024}k" for n in contexts])
    axes.minorticks_off()
    axes.set_ylim(bottom=1)
    axes.set_xlabel("context (tokens)")
    axes.set_ylabel("times less memory")
    axes.legend(fontsize=9.5)


def distortion(axes, codebook, sampled) -> None:
    """Error over bits: exact for some dimensions (lines), sampled (points), between the bounds.

    ``codebook`` has ``bits``, ``dim``, ``distortion``, ``lower`` and ``upper``; ``sampled`` has
    ``bits``, ``variant`` and ``inner``, the error of inner products times the dimension.
    """
    bounds = codebook.drop_duplicates("bits").sort_values("bits")
    axes.fill_between(
        bounds["bits"],
        bounds["lower"],
        bounds["upper"],
        color=INK,
        alpha=0.08,
        linewidth=0,
        label="between the bounds",
    )
    axes.semilogy(
        codebook["bits"], codebook["distortion"], "-", color=COLOURS[0], label="exact, vectors"
    )
    for colour, mark, (variant, rows) in zip(
        COLOURS, MARKS, sampled.groupby("variant", sort=False), strict=False
    ):
        means = rows.groupby("bits")["inner"].mean()
        axes.semilogy(means.index, means, mark, color=colour, label=f"{variant}, inner products")
    axes.set_xticks(sorted(codebook["bits"].unique()))
    axes.set_xlabel("bits a coordinate")
    axes.set_ylabel("squared error")
    axes.legend(fontsize=9.5)


def loss(axes, table) -> None:
    """Perplexity added over the bits held, one line a method; both sides stored alike.

    ``table`` has ``keys`` (the method), ``bits``, ``perplexity_change``, its ``_low`` and
    ``_high``.
    """
    for place, (method, rows) in enumerate(table.groupby("keys", sort=False)):
        rows = rows.sort_values("bits")
        colour, mark = COLOURS[place % len(COLOURS)], MARKS[place % len(MARKS)]
        axes.plot(
            rows["bits"], 100 * rows["perplexity_change"], f"{mark}-", color=colour, label=method
        )
        axes.vlines(
            rows["bits"],
            100 * rows["perplexity_change_low"],
            100 * rows["perplexity_change_high"],
            color=colour,
            linewidth=1.2,
        )
    axes.set_yscale("symlog", linthresh=1)
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set_xlabel("bits held for a number, metadata included")
    axes.set_ylabel("perplexity added (%)")
    axes.figure.legend(loc="outside upper center", ncols=4, fontsize=9.5)


def layers(axes, table, expected: dict) -> None:
    """Coding error by layer, one line a number of bits and side, with theory as dashes.

    ``table`` has ``layer``, ``side``, ``bits`` and ``error``; ``expected``: bits to error.
    """
    for colour, (bits, rows) in zip(COLOURS, table.groupby("bits", sort=False), strict=False):
        for mark, (side, some) in zip("ox", rows.groupby("side"), strict=False):
            axes.semilogy(
                some["layer"], some["error"], mark, color=colour, label=f"{side}, {bits} bits"
            )
        axes.axhline(expected[bits], color=colour, linestyle="--", linewidth=1.2)
    axes.set_xlabel("layer")
    axes.set_ylabel("squared error over squared norm")
    axes.figure.legend(loc="outside upper center", ncols=3, fontsize=9.5)


def recall(axes, table) -> None:
    """Share of facts found over the context, one line a way of storing.

    ``table`` has ``way``, ``context``, ``right``, its ``_low`` and ``_high``.
    """
    ways = list(dict.fromkeys(table["way"]))
    for place, way in enumerate(ways):
        rows = table[table["way"] == way].sort_values("context")
        colour = COLOURS[place % len(COLOURS)]
        across = rows["context"] * 2 ** (0.06 * (place - len(ways) / 2))
        axes.plot(across, rows["right"], f"{MARKS[place % len(MARKS)]}-", color=colour, label=way)
        axes.vlines(across, rows["right_low"], rows["right_high"], color=colour, linewidth=1.2)
    axes.set_xscale("log", base=2)
    contexts = sorted(table["context"].unique())
    axes.set_xticks(contexts, [f"{int(n):,}" for n in contexts])
    axes.minorticks_off()
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel("context (tokens)")
    axes.set_ylabel("share of facts found")
    axes.figure.legend(loc="outside upper center", ncols=4, fontsize=9.5)


def attention(axes, table) -> None:
    """Speed of attention over packed codes against bf16, by context, one line a method.

    ``table`` has ``method``, ``context`` and ``over_bf16``.
    """
    for mark, (method, rows) in zip(MARKS, table.groupby("method", sort=False), strict=False):
        best = rows.groupby("context")["over_bf16"].median()
        axes.semilogx(best.index, best, f"{mark}-", base=2, label=method)
    axes.axhline(1, color=INK, linewidth=0.8)
    contexts = sorted(table["context"].unique())
    axes.set_xticks(contexts, [f"{int(n) // 1024}k" for n in contexts])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_xlabel("context (tokens)")
    axes.set_ylabel("times as fast as bf16")
    axes.legend(fontsize=9.5)
