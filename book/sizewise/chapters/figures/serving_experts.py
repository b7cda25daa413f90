"""Figures of the chapter on serving mixtures of experts."""

from .style import COLOURS, INK

LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2)))
BATCH = "sequences at once"


def touched(axes, table, drawn) -> None:
    """Share of a layer's experts that a step touches over the batch, one line a shape.

    ``table`` has ``shape``, ``batch``, ``share``, and ``uneven``, the share under unequal loads;
    ``drawn`` has ``shape``, ``batch`` and ``share`` of simulated batches.
    """
    for colour, (shape, rows) in zip(COLOURS, table.groupby("shape", sort=False), strict=False):
        axes.semilogx(rows["batch"], rows["share"], color=colour, base=2, label=shape)
        axes.plot(rows["batch"], rows["uneven"], ":", color=colour, linewidth=1.2)
        some = drawn[drawn["shape"] == shape]
        axes.plot(some["batch"], some["share"], "o", color=colour, markersize=4)
    axes.plot([], [], "o", color=INK, markersize=4, label="drawn at random")
    axes.plot([], [], ":", color=INK, linewidth=1.2, label="with unequal loads")
    axes.set_ylim(0, 1.02)
    axes.set_xlabel(BATCH)
    axes.set_ylabel("share of the experts touched")
    axes.figure.legend(loc="outside right upper", fontsize=9.5)


def read(axes, table) -> None:
    """Gigabytes of weights read for a token over the batch, one line a model.

    ``table`` has ``model``, ``batch`` and ``bytes``; the first model gets the strongest line.
    """
    for place, (model, rows) in enumerate(table.groupby("model", sort=False)):
        axes.loglog(
            rows["batch"],
            rows["bytes"] / 1e9,
            linestyle=LINES[place],
            label=model,
            linewidth=1.5 if place else 2.6,
            color=COLOURS[place],
        )
    axes.set_xscale("log", base=2)
    axes.set_xlabel(BATCH)
    axes.set_ylabel("GB of weights read for a token")
    axes.legend(fontsize=9.5)


def ratio(axes, table) -> None:
    """Floor of a sparse model's token over a dense one's, over the batch, one line a dense size.

    ``table`` has ``against``, ``batch`` and ``ratio``.
    """
    for place, (against, rows) in enumerate(table.groupby("against", sort=False)):
        axes.loglog(
            rows["batch"],
            rows["ratio"],
            linestyle=LINES[place],
            color=COLOURS[place],
            label=against,
        )
    axes.axhline(1, color=INK, linewidth=0.8)
    axes.set_xscale("log", base=2)
    axes.set_xlabel(BATCH)
    axes.set_ylabel("time of the sparse over the dense")
    axes.legend(fontsize=9.5, title="dense model as large as")


def memory_by_degree(axes, table, memory: float, device: str) -> None:
    """Bytes of weights on each device over the devices that share the experts, a line a model.

    ``table`` has ``model``, ``degree`` and ``bytes``. A line marks the ``memory`` of a ``device``.
    """
    for place, (model, rows) in enumerate(table.groupby("model", sort=False)):
        axes.loglog(
            rows["degree"],
            rows["bytes"] / 1e9,
            marker="os^Dv<"[place],
            markersize=4,
            linestyle=LINES[place],
            color=COLOURS[place],
            label=model,
        )
    axes.axhline(memory / 1e9, color=INK, linewidth=1, linestyle="--")
    axes.annotate(
        f"memory of one {device}",
        (table["degree"].max(), memory / 1e9),
        fontsize=9,
        ha="right",
        va="bottom",
        xytext=(0, 3),
        textcoords="offset points",
    )
    axes.set_xscale("log", base=2)
    axes.set_xlabel("devices that share the experts")
    axes.set_ylabel("GB of weights on each")
    axes.figure.legend(loc="outside upper center", ncols=2, fontsize=9.5)


def dollars(axes, table, listed: float, name: str) -> None:
    """Floor of a million answer tokens over the batch, a band a model, and a listed price.

    ``table`` has ``model``, ``batch``, ``low`` and ``high`` in dollars.
    """
    for place, (model, rows) in enumerate(table.groupby("model", sort=False)):
        axes.fill_between(
            rows["batch"], rows["low"], rows["high"], color=COLOURS[place], alpha=0.2, linewidth=0
        )
        axes.loglog(
            rows["batch"], rows["high"], linestyle=LINES[place], color=COLOURS[place], label=model
        )
    axes.axhline(listed, color=INK, linewidth=1, linestyle="--")
    axes.annotate(
        f"listed price of {name}",
        (table["batch"].max(), listed),
        fontsize=9,
        ha="right",
        va="bottom",
        xytext=(0, 3),
        textcoords="offset points",
    )
    axes.set_xscale("log", base=2)
    axes.set_xlabel(BATCH)
    axes.set_ylabel("dollars for a million answer tokens")
    axes.figure.legend(loc="outside upper center", ncols=2, fontsize=9.5)
