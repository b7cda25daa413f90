"""What small models make of their context, by the rows of ``data/attention_variants.jsonl``.

Loss by position and the gain from a repetition, each beside what else could have caused it: the
text at a place is the same for all models, and whatever is said twice also stands later.
"""

import numpy as np
import pandas as pd

from sizewise.training import family_options

from . import attention_variants as results

FLOOR = 0.01  # share of repeated tokens that are foretold; less everywhere shows nothing


def positions(rows):
    """Loss by part of the context, a line for each run and part; ``upto`` is its last token."""
    lines = []
    for run in results.arms(rows).itertuples(index=False):
        step = run.context // run.bins
        lines += [
            {
                "family": run.family,
                "budget": run.budget,
                "width": run.width,
                "seed": run.seed,
                "upto": step * (k + 1),
                "loss": loss,
            }
            for k, loss in enumerate(run.nats_by_position)
        ]
    return pd.DataFrame(lines)


def by_position(rows):
    """Loss less the dense model's by part of the context, mean over places and seeds."""
    lines = []
    for upto, part in positions(rows).groupby("upto"):
        each = results.paired(part, "loss").groupby("family", sort=False)["difference"]
        lines.append(each.agg(["mean", "min", "max"]).reset_index().assign(upto=upto))
    return pd.concat(lines)


def far(rows):
    """The arms with ``far``: what the second half of the context is lower than its second part.

    The text at a position is the same for all, so only differences between families say
    something of them alone.
    """
    table = results.arms(rows).copy()
    nats = table["nats_by_position"].map(np.asarray)
    table["far"] = nats.map(lambda each: each[1] - each[len(each) // 2 :].mean())
    return table


def repeated(rows, kind: str):
    """What a repetition gains, in nats, a line for each run of ``rows`` and distance.

    ``kind`` is text or random; ``right`` is the share foretold the second time. ``position`` is
    what the same stretches of other text differ by without any repetition, since the second
    saying also stands later: of text only, and nan where a distance is no whole number of parts.
    """
    lines = []
    for run in rows.to_dict("records"):
        step, nats = run["context"] // run["bins"], np.asarray(run["nats_by_position"])
        for k, distance in enumerate(run["distances"]):
            parts = distance // step
            whole = parts and distance % step == 0
            alone = nats[:parts].mean() - nats[parts : 2 * parts].mean() if whole else np.nan
            gain = run[f"{kind}_first"][k] - run[f"{kind}_second"][k]
            lines.append(
                {
                    **{key: run[key] for key in ("family", *results.PLACE, "seed")},
                    "distance": distance,
                    "gain": gain,
                    "position": alone,
                    "beyond": gain - alone,
                    "right": run[f"{kind}_right"][k],
                }
            )
    return pd.DataFrame(lines)


def floor(table) -> bool:
    """Whether no run of `repeated` foretells a share of `FLOOR`, so that nothing is shown.

    A model that copies is right nearly always (`context.recall`), whatever it was trained on.
    """
    return bool(table["right"].max() < FLOOR)


def blind(rows, distance: int):
    """What a repetition of text gains where all is seen, less where it is out of reach, by seed.

    Of the windows' class: the reference of each difference has windows alone, whose layers
    together reach less far than ``distance``. Empty where there are none such. What is left is
    what looking back is worth, without all that a later place in a text gives any model.
    """
    table = results.windows(rows)
    alone = [_reach(run) < distance - 1 for run in table.itertuples(index=False)]
    names = table.loc[alone, "family"].unique()
    if not len(names):
        return pd.DataFrame(columns=["family", *results.PLACE, "seed", "difference"])
    gains = repeated(table, "text")
    found = results.paired(gains[gains["distance"] == distance], "gain", names[0])
    return found[found["family"] == results.FULL]


def _reach(run) -> float:
    """Tokens that a token is told of through all layers; infinite where one layer sees all."""
    given = family_options.Windows.of(run.family)
    return run.layers * (given.size(run.context) - 1) if given.every == 0 else np.inf
