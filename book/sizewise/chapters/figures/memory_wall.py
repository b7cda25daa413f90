"""Figures of the chapter on the memory wall."""

from sizewise.chapters.tables.display import written
from sizewise.units import si

from .style import COLOURS, INK, at_ends, beside


def speed_by_size(axes, table) -> str:
    """Best decode speed of one request over bytes of weights, one line a device.

    Dotted beyond the memory of the device. ``table`` has ``weights`` and ``memory`` (bytes),
    ``device`` and ``tokens_per_second``.
    """
    ends = []
    left = table["weights"].min() / 1e9
    for colour, (device, rows) in zip(COLOURS, table.groupby("device", sort=False), strict=False):
        rows = rows.sort_values("weights")
        axes.loglog(rows["weights"] / 1e9, rows["tokens_per_second"], ":", color=colour)
        rows = rows[rows["weights"] <= rows["memory"]]
        axes.loglog(rows["weights"] / 1e9, rows["tokens_per_second"], "o-", color=colour)
        ends.append((written(device), rows.iloc[0]["tokens_per_second"], colour))
    at_ends(axes, left, ends, apart=4, dx=-5)
    axes.axhline(1, color=INK, linewidth=0.8, linestyle=":")
    beside(axes, "one token a second", left / 30, 1, dx=0, dy=4, va="baseline", ha="left")
    axes.set_xlim(left=left / 40)
    axes.set_ylim(top=30 * table["tokens_per_second"].max())
    axes.set_xlabel("weights read for a token (GB)")
    axes.set_ylabel("tokens a second, at best")
    return (
        "Falling straight lines on logarithmic axes, one a device ("
        + ", ".join(device for device, _, _ in ends)
        + "): best decode speed over bytes of weights, dotted beyond the device's memory. No line "
        "bends at one token a second."
    )


def cache_growth(axes, table) -> str:
    """Bytes of KV cache over context, one line a model, its name at the line's end.

    ``table`` has ``model`` (as people write it), ``context`` (tokens) and ``bytes``.
    """
    ends = []
    styles = ("-", "--", "-.", ":")
    for number, (model, rows) in enumerate(table.groupby("model", sort=False)):
        colour = COLOURS[number % len(COLOURS)]
        line = styles[number // len(COLOURS) % len(styles)]
        axes.loglog(rows["context"], rows["bytes"] / 1e9, line, color=colour)
        ends.append((model, rows.iloc[-1]["bytes"] / 1e9, colour))
    last = table["context"].max()
    at_ends(axes, last, ends, apart=1.9, dx=5)
    axes.set_xlim(right=last * 60)
    axes.set_xticks([2**10, 2**14, 2**18, 2**21], ["1k", "16k", "256k", "2M"])
    axes.minorticks_off()
    axes.set(xlabel="context (tokens)", ylabel="KV cache of one request, bf16 (GB)")
    return "KV cache against context on logarithmic axes. At two million tokens: " + ", ".join(
        f"{model} {si(size * 1e9, 'B')}" for model, size, _ in ends
    )


def over_floor(axes, table, here=None) -> str:
    """Measured over floor by batch, one line a context; crosses for what was measured ``here``.

    Both tables have ``context``, ``batch``, ``over_floor`` and ``best_over_floor``.
    """
    ends = []
    for colour, (context, rows) in zip(COLOURS, table.groupby("context"), strict=False):
        rows = rows.sort_values("batch")
        axes.semilogx(rows["batch"], rows["over_floor"], "o-", base=2, color=colour)
        axes.fill_between(
            rows["batch"],
            rows["best_over_floor"],
            rows["over_floor"],
            color=colour,
            alpha=0.2,
            linewidth=0,
        )
        ends.append((f"{context:,} tokens", rows.iloc[-1]["over_floor"], colour))
    at_ends(axes, table["batch"].max(), ends, apart=0.08 * table["over_floor"].max())
    if here is not None:
        axes.plot(here["batch"], here["over_floor"], "x", color=INK, label="here, now")
        axes.legend()
    axes.axhline(1, color=INK, linewidth=0.8)
    beside(axes, "the floor", table["batch"].max(), 1, dx=5, va="bottom")
    axes.set_xticks(sorted(table["batch"].unique()), sorted(table["batch"].unique()))
    axes.minorticks_off()
    axes.set_xlim(right=table["batch"].max() * 3)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("batch size")
    axes.set_ylabel("measured time over floor")
    least, most = table["over_floor"].min(), table["over_floor"].max()
    return (
        f"Measured step time over the floor by context and batch, {least:.1f} to {most:.1f} times."
    )
