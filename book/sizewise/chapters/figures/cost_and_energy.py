"""Figures of the chapter on cost and energy. Each returns its alternative text."""

from .style import COLOURS, INK


def training_flops(axes, table) -> str:
    """FLOPs of training runs: a bar from the least to the most, logarithmic.

    ``table`` has ``run``, ``low``, ``high`` and ``kind``; a kind's name stands beside its first
    run. A run known to a point gets a dot.
    """
    kinds = list(dict.fromkeys(table["kind"]))
    middle = (table["low"].min() * table["high"].max()) ** 0.5
    for place, row in enumerate(table.itertuples()):
        colour = COLOURS[kinds.index(row.kind)]
        if row.high > 1.01 * row.low:
            ends = ([row.low, row.high], [place, place])
            axes.plot(*ends, linewidth=9, solid_capstyle="butt", color=colour)
        else:
            axes.plot([row.low], [place], "o", markersize=8, color=colour)
        if row.Index == table.index[table["kind"] == row.kind][0]:
            right = row.high < middle * 3
            axes.annotate(
                row.kind,
                (row.high if right else row.low, place),
                xytext=(9 if right else -9, 0),
                textcoords="offset points",
                color=colour,
                ha="left" if right else "right",
                va="center",
            )
    _names(axes, table["run"])
    axes.set_xlabel("FLOPs to train")
    return "FLOPs of training runs on a logarithmic axis: " + "; ".join(
        f"{row.run} {row.low:.1e} to {row.high:.1e}" for row in table.itertuples()
    )


def ladder(axes, table) -> str:
    """Dollars of training runs, a bar from the least to the most, with their electricity beside it.

    ``table`` has ``run``, ``low`` and ``high`` (dollars), ``energy`` (text) and ``kind``.
    """
    kinds = list(dict.fromkeys(table["kind"]))
    for place, row in enumerate(table.itertuples()):
        colour = COLOURS[kinds.index(row.kind)]
        axes.plot(
            [row.low, row.high], [place, place], linewidth=9, solid_capstyle="butt", color=colour
        )
        axes.annotate(
            row.energy,
            (row.high, place),
            xytext=(6, 0),
            textcoords="offset points",
            color=colour,
            va="center",
        )
    _names(axes, table["run"])
    axes.set_xlim(table["low"].min() / 2, table["high"].max() * 1e4)
    axes.set_xticks([1e6, 1e8, 1e10], ["$1 M", "$100 M", "$10 B"])
    axes.set_xlabel("rent of the final run on H100")
    return "Dollars and electricity of training runs: " + "; ".join(
        f"{row.run} ${row.low:,.0f} to ${row.high:,.0f}, {row.energy}" for row in table.itertuples()
    )


def state_by_degree(axes, table, memory: float, device: str) -> str:
    """Bytes of training state on each device over the number of replicas, both logarithmic.

    ``table`` is indexed by the number of data-parallel replicas and has one column of bytes a
    ZeRO stage. A line marks the ``memory`` of one ``device``.
    """
    for colour, (stage, sizes) in zip(COLOURS, table.items(), strict=False):
        axes.loglog(table.index, sizes / 1e9, color=colour)
        axes.annotate(
            stage,
            (table.index[-1], sizes.iloc[-1] / 1e9),
            xytext=(5, 0),
            textcoords="offset points",
            color=colour,
            va="center",
        )
    axes.axhline(memory / 1e9, color=INK, linewidth=1, linestyle="--")
    axes.annotate(
        f"memory of one {device}",
        (table.index[0], memory / 1e9),
        va="bottom",
        xytext=(0, 3),
        textcoords="offset points",
    )
    axes.set_xlim(table.index[0], table.index[-1] * 60)
    axes.set_xlabel("data-parallel replicas")
    axes.set_ylabel("GB on each device")
    last = table.iloc[-1]
    return (
        "Training state on each device by data-parallel replicas, both axes logarithmic. At "
        f"{last.name:,} replicas: "
        + ", ".join(f"{stage} {size / 1e9:,.0f} GB" for stage, size in last.items())
        + f". Only stage 3 falls below the memory of one {device}."
    )


def floor_and_price(axes, table, listed) -> str:
    """Dollars for a million output tokens: floor, expected range and listed prices.

    ``table`` has ``model``, ``floor_dollars``, ``low`` and ``high``; ``listed`` has ``model``
    (some of those) and ``output``.
    """
    places = {model: place for place, model in enumerate(table["model"])}
    for row in table.itertuples():
        place = places[row.model]
        axes.plot(
            [row.low, row.high], [place] * 2, linewidth=9, solid_capstyle="butt", color=COLOURS[1]
        )
        axes.plot([row.floor_dollars], [place], "o", markersize=8, color=COLOURS[0])
    axes.plot(
        listed["output"], [places[m] for m in listed["model"]], "D", color=COLOURS[2], markersize=6
    )
    for at, (name, colour) in zip(
        (0.02, 0.2, 0.5),
        (("floor", COLOURS[0]), ("expected", COLOURS[1]), ("listed prices", COLOURS[2])),
        strict=True,
    ):
        axes.annotate(name, (at, 1.02), xycoords="axes fraction", color=colour, va="bottom")
    _names(axes, table["model"])
    axes.set_xlabel("dollars for a million output tokens")
    return "Dollars for a million output tokens, logarithmic: " + "; ".join(
        f"{row.model} floor {row.floor_dollars:.2g}, expected {row.low:.2g} to {row.high:.2g}"
        for row in table.itertuples()
    )


def _names(axes, names) -> None:
    axes.set_xscale("log")
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
