"""The figure of the catalogue page."""

from sizewise.units import si

from .style import COLOURS, beside, hover

LABELLED = {"GPT-3 175B": 6, "Llama 3.1 405B": 6, "Kimi K3": 6, "GPT-2": -6}  # points right


def cache_by_size(axes, table) -> str:
    """Bytes of KV cache a token over the total; dense models and mixtures apart.

    The models of `LABELLED` get their name.
    """
    cached = table[table["KV cache a token"].fillna(0) > 0]
    sparse = cached["active"].notna()
    kinds = ((~sparse, COLOURS[0], "dense"), (sparse, COLOURS[1], "with experts"))
    for place, (mask, colour, name) in enumerate(kinds):
        part = cached[mask]
        kilobytes = part["KV cache a token"] / 1e3
        points = axes.scatter(part["total"], kilobytes, s=22, color=colour, alpha=0.8)
        hover(
            points,
            [
                f"{row.model}: {si(row.total, 'params')} parameters, {size:,.0f} kB a token"
                for row, size in zip(part.itertuples(), kilobytes, strict=True)
            ],
        )
        axes.text(0.02, 0.93 - 0.09 * place, name, color=colour, transform=axes.transAxes)
    for row in cached[cached["model"].isin(LABELLED)].to_dict("records"):
        kilobytes = row["KV cache a token"] / 1e3
        beside(axes, row["model"], row["total"], kilobytes, dx=LABELLED[row["model"]])
    axes.set_xscale("log")
    axes.set_xlim(right=8 * cached["total"].max())  # for the name of the largest
    axes.set_yscale("log")
    axes.set_xlabel("parameters")
    axes.set_ylabel("KV cache a token (kB)")
    largest = cached.loc[cached["total"].idxmax()]
    return (
        f"{len(cached)} models by parameters and by bytes of KV cache a token, both on logarithmic "
        f"axes. {largest['model']}, the largest, has {si(largest['total'], 'params')} parameters "
        f"and takes {largest['KV cache a token'] / 1e3:.0f} kB a token."
    )
