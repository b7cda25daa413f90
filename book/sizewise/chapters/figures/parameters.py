"""Figures of the chapter on parameter counts."""

from .style import COLOURS, INK


def deviation(axes, table) -> None:
    """Counted over published size, in percent, one bar a model.

    ``table`` has ``model`` and ``difference`` (a share), from the lowest to the highest.
    """
    places = range(len(table))
    values = 100 * table["difference"].to_numpy()
    axes.barh(places, values, color=[COLOURS[1] if v < 0 else COLOURS[0] for v in values])
    axes.set_yticks(places, table["model"])
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("counted minus published (% of the published figure)")


def shares(axes, table) -> None:
    """Where the parameters sit: stacked shares, one bar a model.

    ``table`` is indexed by model and has one column a kind of module, of shares that sum to 1.
    """
    left = 0
    for place, kind in enumerate(table.columns):
        values = 100 * table[kind].to_numpy()
        axes.barh(table.index, values, left=left, label=kind, color=COLOURS[place % len(COLOURS)])
        left = left + values
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("share of all parameters (%)")
    axes.figure.legend(loc="outside upper center", ncols=3, fontsize=9.5)


def total_and_active(axes, table) -> None:
    """Active over total parameters of sparse models, both axes logarithmic.

    ``table`` has ``model``, ``total``, ``active``, and ``label``: whether to write the name.
    """
    axes.loglog(table["total"], table["active"], "o")
    ends = [table["total"].min() / 2, table["total"].max() * 4]
    for share, line in ((1, "-"), (0.1, "--"), (0.01, ":")):
        axes.plot(ends, [share * e for e in ends], line, color=INK, linewidth=0.8)
        axes.annotate(
            f"{share:.0%} active",
            (ends[1], share * ends[1]),
            fontsize=9,
            ha="right",
            va="bottom",
            xytext=(-2, 3),
            textcoords="offset points",
        )
    named = table[table["label"]]
    for row in named.itertuples():
        ratios = named[["total", "active"]] / (row.total, row.active)
        crowded = (ratios["total"].between(1.01, 4) & ratios["active"].between(0.5, 2)).any()
        axes.annotate(
            row.model,
            (row.total, row.active),
            fontsize=9,
            xytext=(-6 if crowded else 6, -9),
            ha="right" if crowded else "left",
            va="top" if crowded else "baseline",
            textcoords="offset points",
        )
    axes.set_xlabel("total parameters")
    axes.set_ylabel("active for one token")


def relative_error(axes, table) -> None:
    """Error of two formulas against a published table, over model size.

    ``table`` has ``published`` and, for each other column, relative errors.
    """
    for mark, column in zip("ox^", [c for c in table if c != "published"], strict=False):
        axes.semilogx(table["published"], 100 * table[column], mark, label=column, alpha=0.85)
    axes.axhspan(-0.5, 0.5, color=INK, alpha=0.08, linewidth=0)
    axes.set_xlabel("published parameters")
    axes.set_ylabel("formula minus published (%)")
    axes.legend(fontsize=9.5)
