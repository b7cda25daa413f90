"""Tables of the chapter on weight quantization, from the rows of ``data/weight_quality.jsonl``."""

import numpy as np

from .. import catalog, counting, records, roofline

LABEL_BITS = {
    "fp32": 32, "bf16": 16, "fp16": 16, "int8": 8, "nf4": 4, "nf4-dq": 4, "fp4": 4, "fp4-dq": 4,
    "hqq4": 4, "hqq8": 8,
}  # fmt: skip
LOSSY = ("int8", "nf4", "fp4", "hqq4")  # one of each kind, to draw
PLAIN = ("fp32", "bf16")  # formats without a rest
DRAWN = ("fp32", "bf16", *LOSSY)
SAMPLES = 4000
BETWEEN = 2 * 1.959964  # standard deviations between the ends of a 95 % interval


def kinds(stem: str = "weight_quality") -> dict:
    """The rows by their kind; a kind without rows is an empty table of all columns."""
    from collections import defaultdict

    table = records.table(stem)
    found = defaultdict(lambda: table.head(0))
    return found | {what: only(some) for what, some in table.groupby("what", sort=False)}


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


def front(rows, cost: str, loss: str):
    """The rows that no other row beats in both columns, from the cheapest on."""
    ordered = rows.sort_values([cost, loss])
    return ordered[ordered[loss] < ordered[loss].cummin().shift(fill_value=np.inf)]


def equal_bytes(rows, few: str, many: str):
    """Each model in format ``few`` against format ``many`` at the same bytes.

    The loss of ``many`` is interpolated between its sizes in the logarithm of the bytes; models
    outside the range of its sizes are left out. ``gain`` is what ``few`` is better by.
    """
    a = rows[rows["format"] == few].sort_values("held_bytes")
    b = rows[rows["format"] == many].sort_values("held_bytes")
    a = a[a["held_bytes"].between(b["held_bytes"].min(), b["held_bytes"].max())]
    at = np.interp(np.log(a["held_bytes"]), np.log(b["held_bytes"]), b["bits_per_byte"])
    table = a[["model", "held_bytes", "bits_per_byte"]].rename(
        columns={"held_bytes": "held", "bits_per_byte": few}
    )
    return table.assign(**{many: at, "gain": at - table[few]})


def both(quality, pruned, form: str):
    """Pruning, quantizing, and both: shares of the fp32 bytes of the matrices, and losses added.

    Bytes are those of the converted matrices alone, with a bit map where that is less than
    storing the zeros; what stays in high precision is the same in all columns and left out.
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
        added = [row["loss_change"] for row in (alone, plain, combined)]
        found.append({
            "model": model, "share": share, "bytes alone": min(one, 1), "bytes quantized": two,
            "bytes both": min(combined["sparse_bytes"] / whole, two), "product": one * two,
            "loss pruned": added[0], "loss quantized": added[1], "loss both": added[2],
            "both over sum": added[2] / (added[0] + added[1]),
        })  # fmt: skip
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
        found.append({
            "loss given up": tolerance, "format": best["format"], "held": best["held_bytes"],
            "of fp32": best["held_bytes"] / original["held_bytes"],
        })  # fmt: skip
    return pandas.DataFrame(found)


def published(batches: tuple[int, ...] = (1, 8, 32), context: int = 128):
    """The published times a step of `data/facts/quantization.yml`, each over its floor."""
    import pandas

    entry = _facts("bitsandbytes-h100-llama-3.1-8b")
    model, device = counting.describe(entry["model"]), catalog.device(entry["device"])
    found = []
    for batch in batches:
        plain = entry["figures"][f"bf16_batch_{batch}"]["value"]
        for form in ("bf16", "nf4", "nf4-dq", "int8"):
            seconds = entry["figures"][f"{form}_batch_{batch}"]["value"]
            floor = roofline.decode(model, device, context, batch, weights=form).seconds
            found.append({
                "batch": batch, "format": form, "ms a token": 1e3 * seconds,
                "floor (ms)": 1e3 * floor, "over the floor": seconds / floor,
                "against bf16": plain / seconds,
            })  # fmt: skip
    return pandas.DataFrame(found)


def compiled() -> dict[str, float]:
    """Published speed with a compiled step over that of bf16, by format, and int4's byte ratio."""
    rates = _facts("torchao-a100-llama-3-8b")["figures"]
    plain = rates["bf16_batch_1"]["value"]
    return {form: rates[f"{form}_batch_1"]["value"] / plain for form in ("int8", "int4")}


def _facts(name: str) -> dict:
    return next(entry for entry in records.facts("quantization") if entry["name"] == name)


def gpu(model: str = "llama-3.1-8b", mode: str = "graph", context: int = 1024):
    """Decode steps measured on a GPU, one row a format and batch; no rows if there are none.

    ``over_floor`` is the step over the floor of its own bytes, ``against bf16`` the speed over
    that of bf16 at the same batch. The device is that of the first row.
    """
    import pandas

    columns = ["device", "format", "batch", "step_ms", "floor_ms", "over_floor", "against bf16"]
    rows = records.table("gpu_weights")
    if not len(rows) or "mode" not in rows:
        return pandas.DataFrame(columns=columns)
    wanted = {"kind": "decode", "model": model, "mode": mode, "context": context, "ended": "done"}
    for name, value in wanted.items():
        rows = rows[rows[name] == value]
    rows = rows[rows["device"] != "CPU"]
    rows = rows[rows["device"] == rows["device"].iloc[0]] if len(rows) else rows
    plain = rows[rows["format"] == "bf16"].set_index("batch")["step_ms"]
    rows = rows.assign(**{
        "over_floor": rows["measured_over_floor"],
        "against bf16": rows["batch"].map(plain) / rows["step_ms"],
    })  # fmt: skip
    return rows[columns].sort_values(["format", "batch"]).reset_index(drop=True)
