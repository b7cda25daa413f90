"""Tables of the chapter on weight quantization, from the rows of ``data/weight_quality.jsonl``."""

import numpy as np

from sizewise import units
from sizewise.costs import roofline
from sizewise.data import catalog, records
from sizewise.models import parameters
from sizewise.quantization.weights import convert

LABEL_BITS = {
    "fp32": 32,
    "bf16": 16,
    "fp16": 16,
    "int8": 8,
    "nf4": 4,
    "nf4-dq": 4,
    "fp4": 4,
    "fp4-dq": 4,
    "hqq4": 4,
    "hqq8": 8,
}
LOSSY = ("int8", "nf4", "fp4", "hqq4")  # one of each kind, to draw
PLAIN = ("fp32", "bf16")  # formats without a rest
DRAWN = ("fp32", "bf16", "int8", "nf4", "nf4-dq", "fp4", "hqq4")
SAMPLES = 4000
BETWEEN = 2 * 1.959964  # standard deviations between the ends of a 95 % interval


def kinds(stem: str = "weight_quality") -> dict:
    """The rows by their kind; a kind without rows is an empty table of all columns."""
    from collections import defaultdict

    table = records.table(stem)
    found = defaultdict(lambda: table.head(0))
    return found | {what: only(some) for what, some in table.groupby("what", sort=False)}


def chosen(quality, model: str, live: bool = False):
    """The rows of one language model, by format; of the first one if ``live`` has no rows of it.

    Raises ValueError for a model without rows that is not measured live either.
    """
    known = [name for name in dict.fromkeys(quality["model"]) if not name.startswith("dense-")]
    if model not in known and not live:
        raise ValueError(f"{units.unknown('recorded model', model, known)}; or set live = True")
    rows = quality[quality["model"] == (model if model in known else known[0])]
    return rows.set_index("format", drop=False)


def unrecorded(quality) -> str:
    """The formats of `weights` without a row, in words."""
    names = [name for name in convert.FORMATS if name not in set(quality["format"])]
    return ", ".join(names) or "none"


def converted(quality):
    """The share of the weights that could be converted and were, row by row; nan for plain formats.

    What could be is what the format that converts most of this model does. HQQ leaves matrices
    whole whose rows are no multiple of its group.
    """
    each = 8 * quality["codes_bytes"] / quality["format"].map(LABEL_BITS)
    return (each / each.groupby(quality["model"]).transform("max")).where(each > 0)


def whole(quality):
    """The rows of formats that convert every model of the table completely."""
    partly = quality.loc[converted(quality) < 1, "format"]
    return quality[~quality["format"].isin(partly)]


def library_table(kind: str = "nf4"):
    """The sixteen levels as bitsandbytes holds them, (16,) float32."""
    import logging

    # On a CPU it says at import that it looked for faster kernels and found none.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    from bitsandbytes import functional

    return functional.get_4bit_type(kind, device="cpu").numpy()


def only(rows):
    """The rows without the columns that belong to other kinds of rows."""
    return rows.dropna(axis="columns", how="all").reset_index(drop=True)


def with_intervals(rows, values: dict[str, str], by: tuple[str, ...] = ("format",)):
    """The columns ``by``, and each value with its interval as words: ``0.9123 (0.90 to 0.92)``."""
    import pandas

    if not len(rows):
        return pandas.DataFrame({"rows": ["not measured"]})
    shown = {name: rows[name] for name in by}
    for name, form in values.items():
        if name not in rows:
            continue
        shown[name.replace("_", " ")] = [
            f"{value:{form}} ({low:{form}} to {high:{form}})"
            for value, low, high in zip(
                rows[name], rows[f"{name}_low"], rows[f"{name}_high"], strict=True
            )
        ]
    return pandas.DataFrame(shown)


def ends(rows):
    """For each format the loss added to the smallest and the largest model, and the slope.

    The slope is that of log(loss added) over log(parameters): 0 if size does not matter, -1 if
    ten times the size leaves a tenth. Its interval takes the intervals of the sizes as normal and
    independent; they share their documents, which makes it too wide rather than too narrow.
    Formats that add nothing measurable to some size have no slope.
    """
    import pandas

    found = []
    for name, some in rows.groupby("format", sort=False):
        some = some.sort_values("parameters")
        added = some["loss_change"].to_numpy()
        row = {"format": name, "smallest": added[0], "largest": added[-1]}
        if len(some) > 1 and (some["loss_change_low"] > 0).all():
            size = np.log(some["parameters"].to_numpy(float))
            spread = (some["loss_change_high"] - some["loss_change_low"]).to_numpy() / BETWEEN
            draw = np.random.default_rng(0).normal(added, spread, (SAMPLES, len(some)))
            draw = draw[(draw > 0).all(1)]
            slopes = np.polyfit(size, np.log(draw).T, 1)[0]
            low, high = np.percentile(slopes, [2.5, 97.5])
            slope = np.polyfit(size, np.log(added), 1)[0]
            row |= {"slope": slope, "slope_low": low, "slope_high": high}
        found.append(row)
    return pandas.DataFrame(found)


def both(quality, pruned, form: str):
    """Pruning, quantizing, and both: shares of the fp32 bytes of the matrices, and losses added.

    Bytes are those of the converted matrices alone, with a bit map where that is less than
    storing the zeros; what stays in high precision is the same in all columns and left out.
    The interval of ``both over sum`` sets each loss at its worst end at once, which makes it too
    wide rather than too narrow.
    """
    import pandas

    found = []
    keyed = pruned.set_index(["model", "share", "format"])
    for model, share in dict.fromkeys(zip(pruned["model"], pruned["share"], strict=True)):
        if not {(model, share, "fp32"), (model, share, form)} <= set(keyed.index):
            continue  # a recording that is not finished
        alone, combined = keyed.loc[(model, share, "fp32")], keyed.loc[(model, share, form)]
        plain = quality[(quality["model"] == model) & (quality["format"] == form)].iloc[0]
        whole = alone["dense_bytes"]
        one, two = alone["sparse_bytes"] / whole, combined["dense_bytes"] / whole
        added, low, high = (
            [row[f"loss_change{end}"] for row in (alone, plain, combined)]
            for end in ("", "_low", "_high")
        )
        found.append(
            {
                "model": model,
                "share": share,
                "bytes alone": min(one, 1),
                "bytes quantized": two,
                "bytes both": min(combined["sparse_bytes"] / whole, two),
                "product": one * two,
                "loss pruned": added[0],
                "loss quantized": added[1],
                "loss both": added[2],
                "both over sum": added[2] / (added[0] + added[1]),
                "low": low[2] / (high[0] + high[1]),
                "high": high[2] / (low[0] + low[1]),
            }
        )
    return pandas.DataFrame(found)


def recipe(formats, tolerances):
    """For each share of the loss given up, the format of fewest bytes that surely stays within.

    Surely: at the upper end of its 95 % interval.
    """
    import pandas

    original = formats.loc["fp32"]
    worst = formats["loss_change_high"] / original["bits_per_byte"]
    found = []
    for tolerance in sorted(set(tolerances)):
        fits = formats[(worst <= tolerance) | (formats["format"] == "fp32")]
        best = fits.loc[fits["held_bytes"].idxmin()]
        found.append(
            {
                "loss given up": tolerance,
                "format": best["format"],
                "held": best["held_bytes"],
                "of fp32": best["held_bytes"] / original["held_bytes"],
            }
        )
    return pandas.DataFrame(found)


def published(batches: tuple[int, ...] = (1, 8, 32), context: int = 128):
    """The published times a step of `data/facts/quantization.yml`, each over its floor."""
    import pandas

    entry = _facts("bitsandbytes-h100-llama-3.1-8b")
    model, device = parameters.describe(entry["model"]), catalog.device(entry["device"])
    found = []
    for batch in batches:
        plain = entry["figures"][f"bf16_batch_{batch}"]["value"]
        for form in ("bf16", "nf4", "nf4-dq", "int8"):
            seconds = entry["figures"][f"{form}_batch_{batch}"]["value"]
            floor = roofline.decode(model, device, context, batch, weights=form).seconds
            found.append(
                {
                    "batch": batch,
                    "format": form,
                    "ms a token": 1e3 * seconds,
                    "floor (ms)": 1e3 * floor,
                    "over the floor": seconds / floor,
                    "against bf16": plain / seconds,
                }
            )
    return pandas.DataFrame(found)


def compiled() -> dict[str, float]:
    """Published speed with a compiled step over that of bf16, by format, and int4's byte ratio."""
    rates = _facts("torchao-a100-llama-3-8b")["figures"]
    plain = rates["bf16_batch_1"]["value"]
    return {form: rates[f"{form}_batch_1"]["value"] / plain for form in ("int8", "int4")}


def _facts(name: str) -> dict:
    return next(entry for entry in records.facts("quantization") if entry["name"] == name)


def sensitivities(layers, most: int = 16):
    """For each model its ``most`` groups that matter most, one bit width; a title for each."""
    found = {}
    for model, some in layers.groupby("model", sort=False):
        bits = ", ".join(f"{bits:.0f}" for bits in sorted(some["bits_of_group"].unique()))
        windows = ", ".join(f"{number:.0f}" for number in sorted(some["documents"].unique()))
        title = f"{model}, {bits} bits, {windows} windows"
        found[title] = some.sort_values("kl", ascending=False).head(most)
    return found


def mixtures(mixed):
    """Divergence of each allocation over that of even bits, for models with all of them.

    ``bits`` are those of a weight in the mixture and evenly; a shuffle is the mean of its draws.
    """
    import pandas

    found = []
    for model, some in mixed.groupby("model", sort=False):
        mean = some.groupby("allocation")[["kl", "bits"]].mean()
        if not {"uniform", "by sensitivity", "shuffled"} <= set(mean.index):
            continue  # a recording that is not finished
        even = mean.loc["uniform"]
        found.append(
            {
                "model": model,
                "bits": mean.loc["by sensitivity", "bits"],
                "even bits": even["bits"],
                **{
                    name: mean.loc[name, "kl"] / even["kl"]
                    for name in ("by sensitivity", "shuffled")
                },
            }
        )
    return pandas.DataFrame(
        found, columns=["model", "bits", "even bits", "by sensitivity", "shuffled"]
    )


def outlying(outliers) -> str:
    """What the rows of `outliers` say of each model, a sentence each."""
    said = []
    for name, some in outliers.groupby("model", sort=False):
        share = some["share_of_features"]
        reached = int((some["largest"] >= some["threshold"]).sum())
        said.append(
            f"In {name}, {reached} of {len(some)} layers have an input of that size, the largest "
            f"{some['largest'].max():,.0f}; LLM.int8() keeps {share.min():.1%} to {share.max():.1%}"
            " of a layer's features in sixteen bits. By its authors' definition, "
            f"{some['hidden_outliers'].iloc[0]:.0f} of the model's features "
            f"{'is an outlier' if some['hidden_outliers'].iloc[0] == 1 else 'are outliers'}."
        )
    return " ".join(said)
