"""Figures of the chapter on windows, mixtures and state spaces."""

from .style import COLOURS, INK

MARKS = "osD^vPX*"
LINES = ("-", "--", "-.", ":")
ORDER = ("dense", "windowed", "hybrid", "state-space")  # one colour and mark each, everywhere


def growth(axes, table) -> None:
    """Bytes of one sequence over its length, a line a model; the kind chooses the dashes.

    ``table`` has ``model``, ``kind``, ``context`` and ``bytes``.
    """
    kinds = list(dict.fromkeys(table["kind"]))
    for k, (model, rows) in enumerate(table.groupby("model", sort=False)):
        kind = rows["kind"].iloc[0]
        axes.loglog(
            rows["context"],
            rows["bytes"] / 1e6,
            LINES[kinds.index(kind) % len(LINES)],
            marker=MARKS[k % len(MARKS)],
            markersize=4,
            color=COLOURS[k % len(COLOURS)],
            label=f"{model} ({kind})",
        )
    _contexts(axes, table["context"])
    axes.set_ylabel("kept for one sequence (MB)")
    axes.figure.legend(loc="outside upper center", ncols=2, fontsize=9.5)


def bargain(axes, table, lengths) -> None:
    """Loss over the bytes kept at two lengths, joined: a colour a family, a size a width.

    ``table`` has ``family``, ``width``, ``loss`` and ``bytes``, a mapping from length to bytes.
    """
    short, long = lengths
    widths = sorted(table["width"].unique())
    for one in table.itertuples(index=False):
        k = ORDER.index(one.family)
        held = [one.bytes[short], one.bytes[long]]
        size = 6 + 3 * widths.index(one.width)
        axes.semilogx(held, [one.loss] * 2, "-", color=COLOURS[k], linewidth=0.9, alpha=0.7)
        axes.plot(held[0], one.loss, MARKS[k], color=COLOURS[k], markersize=size)
        axes.plot(
            held[1], one.loss, MARKS[k], color=COLOURS[k], markersize=size, markerfacecolor="none"
        )
    for k, family in enumerate(ORDER):
        if family in set(table["family"]):
            axes.plot([], [], MARKS[k], color=COLOURS[k], label=family)
    axes.plot([], [], "o", color=INK, label=f"at {short:,} tokens")
    axes.plot([], [], "o", color=INK, markerfacecolor="none", label=f"at {long:,} tokens")
    axes.set_xlabel("bytes kept for one sequence")
    axes.set_ylabel("validation loss (nats a token)")
    axes.figure.legend(loc="outside upper center", ncols=3, fontsize=9.5)


def differences(axes, table) -> None:
    """Difference of loss to the dense model at each place, with intervals: a colour a family.

    ``table`` has ``family``, ``place``, ``difference``, ``low`` and ``high``.
    """
    places = list(dict.fromkeys(table["place"]))
    for family, rows in table.groupby("family", sort=False):
        k = ORDER.index(family)
        x = [places.index(place) + 0.16 * (k - 2) for place in rows["place"]]
        axes.vlines(x, rows["low"], rows["high"], color=COLOURS[k], linewidth=3, alpha=0.35)
        axes.plot(x, rows["difference"], MARKS[k], color=COLOURS[k], markersize=7, label=family)
    _nought(axes, "as dense")
    axes.set_xticks(range(len(places)), places)
    axes.grid(axis="x", visible=False)
    axes.set_ylabel("loss less the dense model's (nats)")
    axes.figure.legend(loc="outside upper center", ncols=3, fontsize=9.5)


def windows(axes, table) -> None:
    """Loss less that of the model that sees all, over kept bytes: one mark a window.

    ``table`` has ``sees``, ``bytes``, ``difference``, ``low`` and ``high``.
    """
    for k, one in enumerate(table.itertuples(index=False)):
        held = one.bytes / 1e3
        axes.vlines(held, one.low, one.high, color=COLOURS[k], linewidth=3, alpha=0.35)
        axes.plot(held, one.difference, MARKS[k], color=COLOURS[k], markersize=7, label=one.sees)
    _nought(axes, "every layer sees all")
    axes.set_xlim(left=0)
    axes.set_xlabel("kept for one sequence of the length of training (kB)")
    axes.set_ylabel("loss less that of seeing all (nats)")
    axes.figure.legend(loc="outside upper center", ncols=2, fontsize=9.5)


def positions(axes, table) -> None:
    """Loss less the dense model's by part of the context: mean lines, bands from least to most.

    ``table`` has ``family``, ``upto``, ``mean``, ``min`` and ``max``.
    """
    for family, rows in table.groupby("family", sort=False):
        k = ORDER.index(family)
        axes.fill_between(
            rows["upto"], rows["min"], rows["max"], color=COLOURS[k], alpha=0.12, linewidth=0
        )
        axes.plot(
            rows["upto"], rows["mean"], LINES[k], marker=MARKS[k], color=COLOURS[k], label=family
        )
    _nought(axes, "as dense")
    axes.set_xticks(sorted(table["upto"].unique()))
    axes.set_xlabel("part of the context, up to this token")
    axes.set_ylabel("loss less the dense model's (nats)")
    axes.figure.legend(loc="outside upper center", ncols=3, fontsize=9.5)


def repeats(axes, table) -> None:
    """What a second saying of a text gains over its distance: a line a family, dots for runs.

    ``table`` has ``family``, ``distance``, ``gain`` and ``position``.
    """
    for family, rows in table.groupby("family", sort=False):
        k = ORDER.index(family)
        means, aside = rows.groupby("distance")["gain"].mean(), 2 ** (0.05 * (k - 1.5))
        axes.plot(
            rows["distance"] * aside,
            rows["gain"],
            MARKS[k],
            color=COLOURS[k],
            markersize=3.5,
            alpha=0.4,
        )
        axes.plot(
            means.index * aside, means, LINES[k], marker=MARKS[k], color=COLOURS[k], label=family
        )
    alone = table.groupby("distance")["position"].mean().dropna()
    axes.plot(alone.index, alone, "x", color=INK, markersize=8, label="a later place alone")
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set_xscale("log", base=2)
    axes.set_xticks(
        sorted(table["distance"].unique()), [str(n) for n in sorted(table["distance"].unique())]
    )
    axes.minorticks_off()
    axes.set_xlabel("tokens from one saying to the next")
    axes.set_ylabel("loss saved the second time (nats)")
    axes.figure.legend(loc="outside upper center", ncols=3, fontsize=9.5)


def _nought(axes, words: str) -> None:
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.annotate(
        words,
        (1, 0),
        xycoords=("axes fraction", "data"),
        fontsize=9,
        ha="right",
        va="bottom",
        xytext=(0, 2),
        textcoords="offset points",
    )


def _contexts(axes, contexts) -> None:
    """Ticks at every fourth power of two from the shortest: 256, 4k, 64k, 1M."""
    shown = sorted(set(contexts))[::4]
    names = [
        f"{n >> 20}M" if n >= 1 << 20 else f"{n >> 10}k" if n >= 1024 else str(n) for n in shown
    ]
    axes.set_xticks(shown, names)
    axes.minorticks_off()
    axes.set_xlabel("tokens of the sequence")
