"""What the rows of ``data/attention_variants.jsonl`` say: bytes kept, loss, windows.

Tables in, tables out; pandas alone. A difference is of two runs with one seed at one place, a
budget and a width. Its interval is Student's with the spread of all places pooled, which are taken
to be equally noisy: with two seeds a place there is one degree of freedom from each. It knows of
no noise but that between seeds. What the models make of their context is in `variant_context`.
"""

import numpy as np
import pandas as pd

from sizewise.costs import memory
from sizewise.data import records
from sizewise.models import config, from_config
from sizewise.training import family_options

DENSE, MIXERS = "dense", ("hybrid", "state-space")
PLACE = ["budget", "width"]
FULL = "windowed:every=1"  # the class of the windows, every layer of which sees all
ORDER = ("dense", "windowed", "hybrid", "state-space")  # in which tables name the families


# --- what a sequence keeps


def shapes() -> dict[str, config.Spec]:
    """The configurations in ``data/facts/variants.yml`` by name."""
    found = (one for one in records.facts("variants") if "config" in one)
    return {one["name"]: config.Spec(one["name"], one["config"], "facts") for one in found}


def figures(name: str) -> dict[str, float]:
    """The figures of a study in ``data/facts/variants.yml``: name to value."""
    study = next(one for one in records.facts("variants") if one["name"] == name)
    return {figure: amount["value"] for figure, amount in study["figures"].items()}


def kind(model) -> str:
    """What the layers of a `Model` keep: full, window, latent, compressed, state, or a mixture."""
    found = set()
    for layer in model.layers:
        attention = layer.attention
        if attention is not None:
            name = type(attention).__name__.lower()
            windowed = getattr(attention, "window", None) is not None
            grouped = "window" if windowed else "full"
            found.add(grouped if name == "grouped" else name)
        if layer.state is not None:
            found.add("state")
    order = ("full", "window", "latent", "compressed", "state")
    return " and ".join(one for one in order if one in found)


def growth(models, contexts):
    """Bytes kept for one sequence: ``model``, ``kind``, ``context`` and ``bytes``, a line each.

    ``models`` are names of the catalogue or of `shapes`, paths, or specifications.
    """
    own, lines = shapes(), []
    for one in models:
        spec = config.load(own.get(one, one) if isinstance(one, str) else one)
        model = from_config.from_config(config.build(spec), name=spec.name)
        lines += [
            {
                "model": spec.name,
                "kind": kind(model),
                "context": context,
                "bytes": memory.kv_cache_bytes(model, context),
            }
            for context in contexts
        ]
    return pd.DataFrame(lines)


# --- runs


def finished(rows):
    """The runs that ended with a loss."""
    return rows[rows["ended"] == "done"]


def arms(rows):
    """The finished runs of the families at each budget and width, in the order of reading."""
    found = finished(rows[rows["what"] == "arms"])
    place = found["family"].map({family: k for k, family in enumerate(ORDER)})
    return found.assign(order=place).sort_values([*PLACE, "order", "seed"])


# --- differences by seed


def paired(rows, value: str, reference: str = DENSE):
    """``value`` of each run less that of ``reference`` with its place and seed, a line a run.

    Runs whose partner is not there are left out, and the reference itself.
    """
    keys = [*PLACE, "seed"]
    theirs = rows.loc[rows["family"] == reference, [*keys, value]]
    both = rows[rows["family"] != reference].merge(theirs, on=keys, suffixes=("", " of it"))
    both["difference"] = both[value] - both[f"{value} of it"]
    return both[["family", *keys, "difference"]]


def spread(differences, by) -> tuple[float, int]:
    """Standard deviation inside the groups of ``by``, pooled, and its degrees of freedom."""
    groups = differences.groupby(by)["difference"]
    free = int((groups.size() - 1).sum())
    squares = ((differences["difference"] - groups.transform("mean")) ** 2).sum()
    return (float(np.sqrt(squares / free)) if free else np.nan), free


def intervals(differences, by, level: float = 0.95):
    """Mean and interval of each group of ``by``: ``difference``, ``low``, ``high``, ``seeds``."""
    noise, free = spread(differences, by)
    told = differences.groupby(by, sort=False)["difference"].agg(["mean", "size"]).reset_index()
    off = _t(level, free) * noise / np.sqrt(told["size"])
    told["low"], told["high"] = told["mean"] - off, told["mean"] + off
    return told.rename(columns={"mean": "difference", "size": "seeds"})


def overall(differences, level: float = 0.95):
    """Each family over its places, which weigh alike: mean, interval, and how many places are
    surely ``below`` the reference, surely ``above`` it, and ``neither``."""
    lines = []
    for family, ours in differences.groupby("family", sort=False):
        each = intervals(ours, PLACE, level)
        noise, free = spread(ours, PLACE)
        mean = each["difference"].mean()
        off = _t(level, free) * noise * np.sqrt((1 / each["seeds"]).sum()) / len(each)
        below, above = int((each["high"] < 0).sum()), int((each["low"] > 0).sum())
        lines.append(
            {
                "family": family,
                "difference": mean,
                "low": mean - off,
                "high": mean + off,
                "places": len(each),
                "below": below,
                "above": above,
                "neither": len(each) - below - above,
            }
        )
    return pd.DataFrame(lines)


def places(line) -> str:
    """The counts of a line of `overall` in words."""
    n = int(line["places"])
    return (
        f"lower at {int(line['below'])} of {n} places, higher at {int(line['above'])} and not "
        f"told apart at {int(line['neither'])}"
    )


def word(low: float, high: float) -> str:
    """What an interval of a difference says; nan ends say nothing."""
    return "lower" if high < 0 else "higher" if low > 0 else "not told apart"


# --- loss against bytes


def models(rows):
    """One line a family and place: mean loss, size, and bytes at each length that was counted."""
    lines = []
    for (family, budget, width), runs in arms(rows).groupby(["family", *PLACE], sort=False):
        one = runs.iloc[0]
        bytes_at = dict(
            zip(
                [one["context"], *one["cache_at"]],
                [one["cache_bytes"], *one["cache_bytes_at"]],
                strict=True,
            )
        )
        lines.append(
            {
                "family": family,
                "budget": budget,
                "width": width,
                "seeds": len(runs),
                "params": one["params_non_embedding"],
                "tokens": one["tokens"],
                "loss": runs["val_loss"].mean(),
                "bytes": bytes_at,
            }
        )
    return pd.DataFrame(lines)


def frontier(table, length: int):
    """The lines of `models` that no other of their budget beats in both loss and bytes."""
    held = table["bytes"].map(lambda by: by[length])
    kept = []
    for place, one in table.iterrows():
        rivals = (table["budget"] == one["budget"]) & (table.index != place)
        no_worse = rivals & (table["loss"] <= one["loss"]) & (held <= held[place])
        better = (table["loss"] < one["loss"]) | (held < held[place])
        if not (no_worse & better).any():
            kept.append(place)
    return table.loc[kept]


def equal_size(table, families=MIXERS):
    """Models of ``families`` beside a dense one of their size and budget: ``difference`` in loss.

    The dense loss is read off a straight line in the logarithm of the size between the dense
    models of the budget; what lies outside them is left out. Means of seeds are compared.
    """
    lines = []
    for budget, runs in table.groupby("budget"):
        dense = runs[runs["family"] == DENSE].sort_values("params")
        inside = runs["family"].isin(families) & runs["params"].between(
            dense["params"].min(), dense["params"].max()
        )
        for one in runs[inside].itertuples(index=False):
            at = np.interp(np.log(one.params), np.log(dense["params"]), dense["loss"])
            lines.append(
                {
                    "budget": budget,
                    "family": one.family,
                    "width": one.width,
                    "params": one.params,
                    "loss": one.loss,
                    "dense loss": at,
                    "difference": one.loss - at,
                }
            )
    return pd.DataFrame(
        lines, columns=["budget", "family", "width", "params", "loss", "dense loss", "difference"]
    )


def smaller(table, families=MIXERS):
    """For each budget and family: models ``tried`` with fewer parameters than the best dense one,
    and how many of them end no higher (``as good``)."""
    lines = []
    for budget, runs in table.groupby("budget"):
        dense = runs[runs["family"] == DENSE]
        best = dense.loc[dense["loss"].idxmin()]
        for family in families:
            ours = runs[(runs["family"] == family) & (runs["params"] < best["params"])]
            lines.append(
                {
                    "budget": budget,
                    "family": family,
                    "dense params": best["params"],
                    "tried": len(ours),
                    "as good": int((ours["loss"] <= best["loss"]).sum()),
                }
            )
    return pd.DataFrame(lines)


# --- windows


def windows(rows):
    """The runs of one class that differ in how far their layers see, with ``sees`` in words.

    Those of the experiment ``windows`` and the usual ones at the same place, widest sight first.
    """
    found = finished(rows[rows["what"] == "windows"])
    places = found[PLACE].drop_duplicates()
    usual = arms(rows)
    usual = usual[usual["family"] == family_options.Windows.kind].merge(places, on=PLACE)
    table = pd.concat([found, usual])
    if not len(table):
        return table.assign(sees=[], order=[])
    told = [sight(f, c) for f, c in zip(table["family"], table["context"], strict=True)]
    table = table.assign(sees=[one[0] for one in told], order=[one[1] for one in told])
    return table.sort_values(["order", "seed"])


def sight(family: str, context: int) -> tuple[str, int]:
    """How far the layers of a windowed family see, in words, and its place in the order."""
    given = family_options.Windows.of(family)
    if given.every == 1:
        return "every layer sees all", 0
    size = given.size(context)
    if given.every == 0:
        return f"windows of {size} alone", 4 * context - size
    return f"windows of {size} in turn with all", 2 * context - size


def _t(level: float, free: int) -> float:
    from scipy import stats

    return float(stats.t.ppf((1 + level) / 2, free)) if free else np.nan
