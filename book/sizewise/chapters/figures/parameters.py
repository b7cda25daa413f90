"""Figures of the chapter on parameter counts."""

from sizewise.units import si

from .style import COLOURS, INK, beside


def deviation(axes, table) -> str:
    """Counted over published size, in percent, one bar a model.

    ``table`` has ``model`` and ``difference`` (a share), from the lowest to the highest.
    """
    places = range(len(table))
    values = 100 * table["difference"].to_numpy()
    axes.barh(places, values, color=[COLOURS[1] if v < 0 else COLOURS[0] for v in values])
    axes.set_yticks(places, table["model"])
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("counted minus published (%)")
    first, last = table.iloc[0], table.iloc[-1]
    return (
        f"Bars of counted minus published size for {len(table)} models, from "
        f"{first['difference']:+.1%} for {first['model']} to {last['difference']:+.1%} for "
        f"{last['model']}."
    )


def shares(axes, table) -> str:
    """Where the parameters sit: stacked shares, one bar a model, each kind named once above.

    ``table`` is indexed by model and has one column a kind of module, of shares that sum to 1.
    """
    left = 0
    for number, kind in enumerate(table.columns):
        values = 100 * table[kind].to_numpy()
        colour = COLOURS[number % len(COLOURS)]
        axes.barh(table.index, values, left=left, label=kind, color=colour)
        left = left + values
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("share of all parameters (%)")
    axes.figure.legend(loc="outside upper center", ncols=3)
    kinds = ("embeddings and head", "routed experts")
    return ". ".join(
        f"{kind}: "
        + ", ".join(f"{model} {share:.0%}" for model, share in table[kind].items() if share > 0.01)
        for kind in kinds
    )


def total_and_active(axes, table) -> str:
    """Active over total parameters of sparse models, both axes logarithmic.

    ``table`` has ``model``, ``total``, ``active``, and ``side``: on which side of its point the
    name is written (left or right), empty for none.
    """
    axes.loglog(table["total"], table["active"], "o")
    ends = [table["total"].min() / 2, table["total"].max() * 6]
    for share, line in ((1, "-"), (0.1, "--"), (0.01, ":")):
        axes.plot(ends, [share * e for e in ends], line, color=INK, linewidth=0.8)
        beside(axes, f"{share:.0%} active", ends[1], share * ends[1], dx=3)
    axes.set_xlim(right=20 * ends[1])
    named = table[table["side"] != ""]
    for row in named.itertuples():
        up = 6 if row.side == "left" else -6
        va = "bottom" if row.side == "left" else "top"
        beside(axes, row.model, row.total, row.active, dx=-up, dy=up, va=va)
    axes.set(xlabel="total parameters", ylabel="active for one token")
    return "Active against total parameters of sparse models. " + ", ".join(
        f"{row.model} uses {row.active / row.total:.1%} of {si(row.total, 'params')}"
        for row in named.sort_values("total").itertuples()
    )


def relative_error(axes, table) -> str:
    """Error of two formulas against a published table, over model size.

    ``table`` has ``published`` and, for each other column, relative errors.
    """
    for mark, column in zip("ox^", [c for c in table if c != "published"], strict=False):
        axes.semilogx(table["published"], 100 * table[column], mark, label=column, alpha=0.85)
    axes.axhspan(-0.5, 0.5, color=INK, alpha=0.08, linewidth=0)
    axes.set(xlabel="published parameters", ylabel="formula minus published (%)")
    axes.legend()
    worst = ", ".join(f"{c} {table[c].abs().max():.2%}" for c in table if c != "published")
    return f"Relative error of two formulas over model size; worst: {worst}."
