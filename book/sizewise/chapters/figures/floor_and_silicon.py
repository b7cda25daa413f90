"""Figures of the chapter on floors and silicon. Each returns its alternative text."""

from .style import COLOURS, INK, at_ends, beside, in_rows, listed


def floor_and_forecast(axes, table) -> str:
    """Floor and forecast over the measured time, a row a model: medians with the middle 80 %.

    ``table`` has ``model``, ``floor``, ``floor_low``, ``floor_high``, ``forecast``,
    ``forecast_low`` and ``forecast_high``.
    """
    for place, row in enumerate(table.itertuples()):
        for value, ends, colour, shift in (
            (row.floor, (row.floor_low, row.floor_high), COLOURS[0], -0.14),
            (row.forecast, (row.forecast_low, row.forecast_high), COLOURS[1], 0.14),
        ):
            axes.plot(ends, [place + shift] * 2, color=colour, linewidth=4, alpha=0.45)
            axes.plot([value], [place + shift], "o", color=colour, markersize=6)
    axes.axvline(1, color=INK, linewidth=1)
    axes.set_xscale("log")
    axes.set_xticks([0.1, 0.2, 0.5, 1, 2], ["0.1", "0.2", "0.5", "1", "2"])
    axes.set_xticks([], minor=True)
    in_rows(axes, table["model"], top=-1.1)
    first = table.iloc[0]
    beside(axes, "floor", first["floor"], -0.75, COLOURS[0], dx=0)
    beside(axes, "forecast", 1, -0.75, COLOURS[1], dx=-5)
    axes.set_xlabel("floor or forecast over the measured time")
    floors = f"{table['floor'].min():.2f} to {table['floor'].max():.2f}"
    forecasts = f"{table['forecast'].min():.2f} to {table['forecast'].max():.2f}"
    return (
        f"Two dots a model on a logarithmic axis. The floors lie at {floors} of the measured time, "
        f"the forecasts at {forecasts}, around the line at one."
    )


def share_by_load(axes, table) -> str:
    """Floor over measured time by requests in flight, a line a GPU. ``table``: gpu, load, share."""
    loads = list(dict.fromkeys(table["load"]))
    ends = []
    for colour, (gpu, rows) in zip(COLOURS, table.groupby("gpu"), strict=False):
        places = [loads.index(load) for load in rows["load"]]
        axes.plot(places, 100 * rows["share"], "o-", color=colour)
        ends.append((gpu, 100 * rows["share"].iloc[-1], colour))
    at_ends(axes, len(loads) - 1, ends, apart=3.2, dx=8)
    axes.set_xticks(range(len(loads)), loads)
    axes.set_xlim(-0.2, len(loads) - 0.4)
    axes.set_ylim(0, None)
    axes.set_xlabel("requests in flight")
    axes.set_ylabel("floor, % of the measured time")
    return listed(
        "Lines of the floor's share of the measured time by requests in flight",
        (
            f"{gpu} from {rows['share'].min():.0%} to {rows['share'].max():.0%}"
            for gpu, rows in table.groupby("gpu")
        ),
    )


def payoff(axes, table) -> str:
    """Speed-up of a format over bf16 by rows of the batch, a line a card.

    ``table`` has ``gpu``, ``batch`` and ``speedup`` (`tables.floor_and_silicon.payoff_lines`).
    """
    axes.axhline(1, color=INK, linewidth=1)
    ends, parts = [], []
    for colour, (gpu, rows) in zip(COLOURS, table.groupby("gpu", sort=False), strict=False):
        rows = rows[rows["batch"] <= 4096]
        axes.plot(rows["batch"], rows["speedup"], color=colour)
        first, least = rows["speedup"].iloc[0], rows["speedup"].min()
        ends.append((gpu, first, colour))
        parts.append(f"{gpu} {first:.2f} at one row, {least:.2f} at worst")
    at_ends(axes, 1, ends, apart=0.06 * table["speedup"].max(), dx=-6)
    axes.set_xscale("log", base=2)
    ticks = [1, 4, 16, 64, 256, 1024, 4096]
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.set_xlim(0.35, 5000)
    axes.set_xlabel("rows of the batch (tokens at once)")
    axes.set_ylabel("times as fast as bf16")
    return listed("Speed against bf16 by rows of the batch, a line a card", parts)


def caches(axes, table) -> str:
    """Speed-up of 8-bit keys and values by tokens read, a line a framework; newest version.

    ``table`` is `tables.floor_and_silicon.caches` of one GPU.
    """
    axes.axhline(1, color=INK, linewidth=1)
    ends = []
    places = ["to 8K", "8K to 64K", "64K to 512K", "over 512K"]
    for colour, (name, rows) in zip(COLOURS, table.groupby("framework"), strict=False):
        rows = rows[rows["version"] == rows["version"].max()].sort_values("from_tokens")
        axes.plot(range(len(rows)), rows["speedup"], "o-", color=colour)
        beside(axes, name, len(rows) - 1, rows["speedup"].iloc[-1], colour, dx=8)
        ends.append(f"{name} {rows['speedup'].iloc[0]:.2f} to {rows['speedup'].iloc[-1]:.2f}")
    axes.set_xticks(range(len(places)), places)
    axes.set_xlim(-0.2, len(places) + 0.3)
    axes.set_xlabel("tokens in all caches (batch times context)")
    axes.set_ylabel("times as fast as 16 bits")
    return listed("Speed of attention with 8-bit keys and values", ends)


def joules(axes, table) -> str:
    """Measured joules a token over the mean batch, a line a model, both logarithmic.

    ``table`` has ``model``, ``batch`` and ``joules``.
    """
    parts = []
    for colour, (model, rows) in zip(COLOURS, table.groupby("model", sort=False), strict=False):
        model, rows = model.replace("-", " "), rows.sort_values("batch")
        axes.loglog(rows["batch"], rows["joules"], "o-", color=colour)
        beside(axes, model, rows["batch"].iloc[0], rows["joules"].iloc[0], colour, dx=-7)
        parts.append(f"{model} from {rows['joules'].max():.2g} to {rows['joules'].min():.2g}")
    left, right = axes.get_xlim()
    axes.set(xlim=(left / 12, right), xlabel="mean batch", ylabel="joules a token")
    return listed("Falling lines of measured joules a token by mean batch", parts)
