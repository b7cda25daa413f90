"""Figures of the chapter on the memory wall."""

from .style import INK


def speed_by_size(axes, table) -> None:
    """Best decode speed of one sequence over bytes of weights, one line a device.

    ``table`` has ``weights`` (bytes), ``device`` and ``tokens_per_second``.
    """
    for device, rows in table.groupby("device", sort=False):
        axes.loglog(rows["weights"] / 1e9, rows["tokens_per_second"], "o-", label=device)
    axes.axhline(1, color=INK, linewidth=0.8, linestyle=":")
    axes.annotate(
        "weights as large as one second of bandwidth",
        (table["weights"].min() / 1e9, 1),
        xytext=(0, 4),
        fontsize=9,
        textcoords="offset points",
    )
    axes.set_xlabel("bytes of weights read for a token (GB)")
    axes.set_ylabel("tokens a second, at best")
    axes.legend(fontsize=9.5)


def cache_growth(axes, table) -> None:
    """Bytes of cache over context, one line a model.

    ``table`` has ``model``, ``context`` (tokens) and ``bytes``.
    """
    styles = ("-", "--", "-.", ":")
    for place, (model, rows) in enumerate(table.groupby("model", sort=False)):
        axes.loglog(
            rows["context"], rows["bytes"] / 1e9, styles[place // 4 % len(styles)], label=model
        )
    axes.set_xlabel("context (tokens)")
    axes.set_ylabel("cache of one sequence in bf16 (GB)")
    axes.figure.legend(loc="outside right upper", fontsize=9.5)


def over_floor(axes, table, here=None) -> None:
    """Measured over floor by batch, one line a context; crosses for what was measured ``here``.

    Both tables have ``context``, ``batch``, ``over_floor`` and ``best_over_floor``.
    """
    for context, rows in table.groupby("context"):
        rows = rows.sort_values("batch")
        (line,) = axes.semilogx(
            rows["batch"], rows["over_floor"], "o-", base=2, label=f"{context:,} tokens"
        )
        axes.fill_between(
            rows["batch"],
            rows["best_over_floor"],
            rows["over_floor"],
            color=line.get_color(),
            alpha=0.2,
            linewidth=0,
        )
    if here is not None:
        axes.plot(here["batch"], here["over_floor"], "x", color=INK, label="here, now")
    axes.axhline(1, color=INK, linewidth=0.8)
    axes.set_xticks(sorted(table["batch"].unique()), sorted(table["batch"].unique()))
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_xlabel("sequences at once")
    axes.set_ylabel("measured time over floor")
    axes.legend(fontsize=9.5)
