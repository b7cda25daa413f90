"""The book's own GPU, where one was recorded: tables that a chapter leaves out without rows.

Every ratio stands beside the share of the physical floor, every prediction beside its measurement.
"""

import pandas as pd

from sizewise.benchmark import kv
from sizewise.costs import roofline
from sizewise.data import catalog, records
from sizewise.models import parameters

from . import display

NOTHING = "No GPU of our own is measured yet; data/gpu.md in the repository says how to record one."
MAIN = "llama-3.1-8b"
STEPS = {"decode": "a token", "prefill": "a prompt"}
SHAPE = ["device", "context", "batch", "group"]


def section(topic: str) -> display.Table:
    """The table of a topic: "weights", "attention", "capacity" or "floor"; a line without rows."""
    recorded = records.read("gpu")
    if not recorded:
        return display.Table(f"<p>{NOTHING}</p>", NOTHING)
    machine = recorded[-1]["from"]["machine"]["gpu"]
    rows = pd.DataFrame([row for row in recorded if row["device"] == recorded[-1]["device"]])
    clock = f"{rows['clock_mhz'].median():,.0f} MHz" if "clock_mhz" in rows else "clock not read"
    frame = TOPICS[topic](rows)
    formats = {column: ".2f" for column in frame if column.startswith(("over", "share", "times"))}
    formats |= {"ms": ".2f", "floor, ms": ".2f", "J a token": ".3f", "microseconds": ",.1f"}
    return display.table(frame, formats, caption=f"Measured on one {machine}, {clock}")


def rates(rows: pd.DataFrame) -> dict[str, float]:
    """The measured ceilings: "bytes" a second, the better of copying and reading, and FLOPs a
    second by format."""
    measured = rows[(rows["kind"] == "ceiling") & rows["refused"].isna()]
    names = measured["method"].replace({"copy": "bytes", "read": "bytes"})
    return measured.groupby(names)["rate"].max().to_dict()


def steps(rows: pd.DataFrame) -> pd.DataFrame:
    """Decode steps and prompts that ran, with ``floor_ms`` from the measured ceilings."""
    measured, best = rows[rows["kind"].isin(STEPS) & rows["refused"].isna()], rates(rows)
    floors = [floor_ms(row, best) for row in measured.to_dict("records")]
    table = measured.astype({"batch": int, "context": int}).assign(floor_ms=floors)
    return table.replace({"kind": STEPS})


def floor_ms(row: dict, best: dict[str, float]) -> float:
    """The least milliseconds of a step on a device of these measured rates, ``best``.

    Read are all of the model's bytes but the rows of a separate input embedding that no token
    looks up, and the cache; FLOPs are the roofline's, in the format in which products run.
    """
    described = parameters.describe(row["model"])
    batch, context = int(row["batch"]), int(row["context"])
    step = roofline.decode if row["kind"] == "decode" else roofline.prefill
    tokens = batch * (1 if row["kind"] == "decode" else context)
    unread = max(0.0, 1 - tokens / described.vocab_size) * described.lookup * 2  # of 16 bits
    bytes_read = row["model_bytes"] - unread + row["cache_bytes"]
    flops = step(described, catalog.device("H200"), context, batch).operations
    compute = {"fp8-mm": "fp8", "int8": "int8", "int8-plain": "int8"}.get(row["format"], "bf16")
    return 1e3 * max(bytes_read / best["bytes"], flops / best.get(compute, float("inf")))


def weights(rows: pd.DataFrame) -> pd.DataFrame:
    """Formats of the main model against bf16 in the same mode, batch and context."""
    measured = steps(rows).query("model == @MAIN")
    same = ["kind", "mode", "batch", "context"]
    plain = measured[measured["format"] == "bf16"].set_index(same)["step_ms"].rename("bf16_ms")
    measured = measured.join(plain, on=same)
    measured["faster"] = measured["bf16_ms"] / measured["step_ms"]
    measured["share"] = measured["floor_ms"] / measured["step_ms"]
    names = {"format": "weights", "kind": "step", "mode": "launched", "step_ms": "ms"}
    names |= {"batch": "batch", "context": "context", "joules_per_token": "J a token"}
    names |= {"faster": "over bf16", "share": "share of the floor's speed"}
    return display.renamed(measured, names)


def attention(rows: pd.DataFrame) -> pd.DataFrame:
    """Attention over packed and plain caches against the fastest bf16 and fp8 kernel of the shape,
    beside what was predicted before, and the share of a copy's speed."""
    table = rows[(rows["kind"] == "attend") & rows["refused"].isna()].copy()
    shape = ["context", "batch", "group"]
    for kind in ("bf16", "fp8"):
        best = table[table["method"].str.startswith(kind)].groupby(shape)["us"].min()
        table = table.join(best.rename(kind), on=shape)
    predicted = pd.DataFrame(records.read("gpu_expected")).query("kind == 'predicted'")
    predicted = predicted.set_index(list(kv.SHAPE))
    table = table.join(predicted.filter(like="over_"), on=list(kv.SHAPE))
    columns = {"cache": table["method"]} | {name: table[name].astype(int) for name in shape}
    columns["microseconds"] = table["us"]
    for kind in ("bf16", "fp8"):
        columns[f"over {kind}"] = table[kind] / table["us"]
        low, high = (table[f"over_{kind}_{end}"] for end in ("low", "high"))
        columns[f"predicted over {kind}"] = (
            low.map("{:.2f}".format) + " to " + high.map("{:.2f}".format)
        )
    columns["share of a copy's speed"] = 1e6 * table["bytes"] / table["us"] / rates(rows)["bytes"]
    return pd.DataFrame(columns)


def times_faster(kind: str, plain: str, packed: str = "tq4") -> float | None:
    """Times that a packed cache is faster than the fastest plain one of a type ("bf16"), of the
    shapes of "attend" or "logits" the best; None before a GPU was recorded."""
    rows = pd.DataFrame(records.read("gpu"), columns=[*SHAPE, "kind", "method", "us", "refused"])
    rows = rows[(rows["kind"] == kind) & rows["refused"].isna()]
    fastest = rows[rows["method"].str.startswith(plain)].groupby(SHAPE)["us"].min()
    ratios = (fastest / rows[rows["method"] == packed].groupby(SHAPE)["us"].min()).dropna()
    return float(ratios.max()) if len(ratios) else None


def capacity(rows: pd.DataFrame) -> pd.DataFrame:
    """Tokens that fit beside the bf16 weights of the main model, by cache."""
    table = rows[(rows["kind"] == "capacity") & rows["refused"].isna()]
    plain = table.loc[table["method"] == "bf16", "tokens"].iloc[0]
    tokens = table["tokens"].astype(int)
    return pd.DataFrame({"cache": table["method"], "tokens": tokens, "times bf16": tokens / plain})


def floor(rows: pd.DataFrame) -> pd.DataFrame:
    """Decode steps in bf16 over their floor, by model, batch and context."""
    table = steps(rows).query("format == 'bf16' and kind == 'a token' and mode == 'graph'")
    table = table.assign(model=table["model"].map(catalog.title))
    table["over the floor"] = table["step_ms"] / table["floor_ms"]
    table = table.rename(columns={"step_ms": "ms", "floor_ms": "floor, ms"})
    return table[["model", "batch", "context", "ms", "floor, ms", "over the floor"]]


TOPICS = {"weights": weights, "attention": attention, "capacity": capacity, "floor": floor}
