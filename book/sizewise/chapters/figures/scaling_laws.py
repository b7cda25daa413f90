"""Figures of the chapter on scaling laws."""

import numpy as np

from sizewise.units import si

from .style import COLOURS, INK, at_ends, band, beside, by_row, listed, span


def gains(axes, growth, lines) -> str:
    """Nats gained by ten times the parameters, over the size before, one line a table.

    ``growth`` has ``table``, ``name``, ``params``, ``gain``, ``gain_low`` and ``gain_high``;
    ``lines`` names the tables drawn with their interval as a band. Returns the alternative text.
    """
    ends, texts = [], []
    for colour, table in zip(COLOURS, lines, strict=False):
        rows = growth[(growth["table"] == table) & (growth["params"] < 1e13)].sort_values("params")
        band(axes, rows["params"], rows["gain_low"], rows["gain_high"], colour, 0.15)
        axes.loglog(rows["params"], rows["gain"], color=colour)
        name, last = rows["name"].iloc[0], rows.iloc[-1]
        ends.append((name.split(",")[0], last["gain"], colour))
        texts.append(f"{name} {rows['gain'].iloc[1]:.2f} and {last['gain']:.3f}")
    at_ends(axes, last["params"], ends, 1.45)
    axes.set_xlim(right=3e14)
    axes.set_xticks([1e8, 1e9, 1e10, 1e11, 1e12])
    axes.set_ylim(1e-3, 1)
    axes.set_xlabel("parameters before the growth")
    axes.set_ylabel("nats gained by ten times the size")
    return listed("Nats gained by growing tenfold from 1B and from 1T", texts)


def exponents(axes, fits) -> str:
    """The compute-optimal exponent with its interval, one table a row, with its largest model.

    ``fits`` has ``name``, ``exponent``, ``exponent_low``, ``exponent_high`` and ``most_params``.
    """
    for height, row in enumerate(fits.itertuples()):
        span(axes, height, row, "exponent")
    axes.axvline(0.5, color=INK, linewidth=0.9, linestyle="--")
    beside(axes, "size and data in step", 0.5, -0.9)
    labels = [f"{row.name} ({si(row.most_params, 'params')})" for row in fits.itertuples()]
    by_row(axes, labels, -1.5, (0, 1), "exponent a of the best size")
    form = "{name} {exponent:.2f} ({exponent_low:.2f} to {exponent_high:.2f})"
    return listed("Compute-optimal exponents with 95 % intervals", fits, form)


def predicted(axes, frame) -> str:
    """Accuracy predicted with its interval and accuracy measured, one task a row, two models.

    ``frame`` has ``name``, ``target``, ``predicted``, ``low``, ``high`` and ``measured``.
    """
    names = list(dict.fromkeys(frame["name"]))
    for k, (target, rows) in enumerate(frame.groupby("target", sort=False)):
        places = np.array([names.index(name) for name in rows["name"]]) + 0.3 * k - 0.15
        for height, low, high in zip(places, rows["low"], rows["high"], strict=True):
            axes.plot([low, high], [height, height], color=COLOURS[k], linewidth=4, alpha=0.4)
        axes.plot(rows["measured"], places, "x", color=COLOURS[k], markersize=7, markeredgewidth=2)
        farthest = (rows["measured"] - rows["high"]).argmax()
        beside(axes, target, rows["measured"].iloc[farthest], places[farthest], COLOURS[k], dx=7)
    by_row(axes, names, -0.5, (None, 97), "accuracy, %: bar predicted, cross measured")
    form = "{name} {target} {measured:.0f} ({low:.0f} to {high:.0f})"
    return listed("Measured against predicted accuracy", frame, form)


def returns(axes, rows) -> str:
    """Loss and accuracy gained a tenfold of compute, early and late, one line a table.

    ``rows`` has ``name``, ``early_nats``, ``late_nats``, ``early_points`` and ``late_points``.
    """
    axes.axhline(1, color=INK, linewidth=0.9, linestyle="--")
    for k, kind in enumerate(("nats", "points")):
        for row in rows.itertuples():
            ratio = getattr(row, f"late_{kind}") / getattr(row, f"early_{kind}")
            axes.plot([0, 1], [1, ratio], "o-", color=COLOURS[k])
        beside(axes, ("loss", "accuracy")[k], 1, ratio, COLOURS[k], dx=8)
    axes.set_xticks([0, 1], ["earlier\ntenfold", "later\ntenfold"])
    axes.set(xlim=(-0.15, 1.5), ylim=(0, 1.6), ylabel="gained, earlier tenfold = 1")
    return listed(
        "Gained by a later tenfold of compute over an earlier one",
        (
            f"{r.name} loss {r.late_nats / r.early_nats:.2f}, "
            f"accuracy {r.late_points / r.early_points:.2f}"
            for r in rows.itertuples()
        ),
    )


def serving(axes, frame, size: float) -> str:
    """The cheapest size as good as a training optimum of ``size``, by tokens served.

    ``frame`` has ``served``, ``best_params``, ``best_params_low`` and ``best_params_high``.
    """
    band(axes, frame["served"], frame["best_params_low"], frame["best_params_high"])
    axes.loglog(frame["served"], frame["best_params"], color=COLOURS[0])
    axes.axhline(size, color=INK, linewidth=0.9, linestyle="--")
    end = frame["served"].iloc[-1]
    beside(axes, "best for training alone", end, size, dx=0, dy=8, ha="right")
    last = frame["best_params"].iloc[-1]
    beside(axes, si(last, "params"), end, last, COLOURS[0])
    axes.set_xlim(right=8 * end)
    axes.set_xlabel("tokens served over the model's life")
    axes.set_ylabel("parameters")
    return listed(
        f"Cheapest size as good as {si(size, 'params')}",
        (
            f"{si(row.best_params, 'params')} for {si(row.served, 'params')} tokens served"
            for row in frame.iloc[:: max(1, len(frame) // 4)].itertuples()
        ),
    )
