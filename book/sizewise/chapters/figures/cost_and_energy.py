"""Figures of the chapter on cost and energy."""

from .style import COLOURS, INK


def operations(axes, table) -> None:
    """Operations of training runs: a bar from the least to the most, logarithmic.

    ``table`` has ``run``, ``low``, ``high`` and ``kind``; the kinds get a colour each, in the
    order in which they come. A run known to a point gets a dot.
    """
    kinds = list(dict.fromkeys(table["kind"]))
    named = set()
    for place, row in enumerate(table.itertuples()):
        style = {"color": COLOURS[kinds.index(row.kind)]}
        if row.kind not in named:
            named.add(row.kind)
            style["label"] = row.kind
        if row.high > 1.01 * row.low:
            ends = ([row.low, row.high], [place, place])
            axes.plot(*ends, linewidth=9, solid_capstyle="butt", **style)
        else:
            axes.plot([row.low], [place], "o", markersize=8, **style)
    _names(axes, table["run"])
    axes.set_xlabel("operations to train (logarithmic)")
    axes.figure.legend(loc="outside upper center", ncols=2, fontsize=9.5)


def state_by_degree(axes, table, memory: float, device: str) -> None:
    """Bytes of training state on each device over the number of replicas, both logarithmic.

    ``table`` is indexed by the number of data-parallel replicas and has one column of bytes a
    ZeRO stage. A line marks the ``memory`` of one ``device``.
    """
    for mark, (stage, sizes) in zip("os^D", table.items(), strict=False):
        axes.loglog(table.index, sizes / 1e9, marker=mark, markevery=2, label=stage)
    axes.axhline(memory / 1e9, color=INK, linewidth=1, linestyle="--")
    axes.annotate(
        f"memory of one {device}",
        (table.index[0], memory / 1e9),
        fontsize=9,
        va="bottom",
        xytext=(0, 3),
        textcoords="offset points",
    )
    axes.set_xlabel("data-parallel replicas")
    axes.set_ylabel("GB on each device")
    axes.figure.legend(loc="outside upper center", ncols=2, fontsize=9.5)


def floor_and_price(axes, floors, listed) -> None:
    """The floor of a million answer tokens as a bar, listed prices as dots, logarithmic.

    ``floors`` has ``model``, ``low`` and ``high`` in dollars; ``listed`` has ``model`` (one of
    those) and ``output`` in dollars.
    """
    places = {model: place for place, model in enumerate(floors["model"])}
    for row in floors.itertuples():
        ends = ([row.low, row.high], [places[row.model]] * 2)
        label = "floor, at the assumed batches" if row.Index == floors.index[0] else None
        axes.plot(*ends, linewidth=9, solid_capstyle="butt", color=COLOURS[0], label=label)
    axes.plot(
        listed["output"],
        [places[m] for m in listed["model"]],
        "D",
        color=COLOURS[1],
        label="listed price",
    )
    _names(axes, floors["model"])
    axes.set_xlabel("dollars for a million answer tokens (logarithmic)")
    axes.figure.legend(loc="outside upper center", ncols=2, fontsize=9.5)


def _names(axes, names) -> None:
    axes.set_xscale("log")
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
