"""Tables of a GPU's speed and memory, from the rows of ``data/gpu_weights.jsonl``.

Each is an empty table where nothing was recorded on a GPU; rows that ended otherwise than "done"
(out of memory, not captured, refused) say so instead of a number. One device is told of: that of
the first row that is not a CPU's.
"""

from pathlib import Path

from sizewise.data import records
from sizewise.units import si

from .display import Table, table

COLUMNS = (
    "device",
    "kind",
    "model",
    "format",
    "mode",
    "step",
    "batch",
    "context",
    "ended",
    "step_ms",
    "floor_ms",
    "measured_over_floor",
    "tokens_per_second",
    "joules_per_token",
    "held_bytes",
    "peak_bytes",
    "params",
    "layers_ms",
    "layers_low_ms",
    "layers_high_ms",
    "outlier_share",
    "kernels",
    "span_ms",
    "gap_ms",
    "matmul_ms",
    "attention_ms",
    "dequantize_ms",
    "elementwise_ms",
    "copy_ms",
)
PARTS = {
    "gap_ms": "waiting",
    "matmul_ms": "products",
    "dequantize_ms": "codes and scales",
    "elementwise_ms": "small kernels",
    "attention_ms": "attention",
    "copy_ms": "copies",
}
FORMS = {
    "parameters": lambda v: si(v, "params"),
    "held": lambda v: si(v, "B"),
    "peak": lambda v: si(v, "B"),
    "ms": ".3g",
    "over floor": ".2f",
    "against bf16": ".2f",
    "J a token": ".3g",
    "eager over best": ".2f",
    "kernels": ",.0f",
    "int8 over bf16": ".2f",
    "plain over bf16": ".2f",
    "detour": ".0%",
    "bf16": ".3g",
    "int8-plain": ".3g",
    "int8": ".3g",
    "median (ms)": ".3g",
    "layer 4 over the median": ".3f",
    "low": ".3f",
    "high": ".3f",
    "least": ".3f",
    "most": ".3f",
    **dict.fromkeys(PARTS.values(), ".0%"),
}
SAME = ["model", "format", "batch", "context"]  # what a step is, whatever the mode
MAIN, CONTEXT = "llama-3.1-8b", 1024
FOURTH = 3  # layers count from 0


def recorded(stem: str | Path = "gpu_weights"):
    """The rows of one GPU, with `COLUMNS` at least."""
    import pandas

    found = pandas.json_normalize(records.read(stem), max_level=1)  # there may be none
    found = found.reindex(columns=list(dict.fromkeys((*COLUMNS, *found))))
    there = found[found["device"].notna() & (found["device"] != "CPU")]
    return there[there["device"] == there["device"].iloc[0]] if len(there) else there


def shown(frame, caption: str) -> Table:
    """One of the tables below as a page shows it; "not measured" if it is empty."""
    import pandas

    if not len(frame):
        return table(pandas.DataFrame({caption: ["not measured"]}))
    return table(frame, FORMS, caption=caption)


def of(rows, kind: str, **wanted):
    """The rows of a kind whose columns have the ``wanted`` values."""
    rows = rows[rows["kind"] == kind]
    for name, value in wanted.items():
        rows = rows[rows[name] == value]
    return rows


def fastest(rows):
    """Of each step the row of the fastest mode that ended well, and how many modes were tried."""
    done = rows[(rows["ended"] == "done") & rows["step_ms"].notna()]
    best = done.sort_values("step_ms", kind="stable").drop_duplicates(SAME)
    return best.sort_index()


def decoding(rows, model: str = MAIN, context: int = CONTEXT):
    """Decode steps of a model in their fastest mode, one row a format and batch.

    ``over floor`` is the step over the floor of its own bytes, ``against bf16`` the speed over
    that of bf16 at the same batch.
    """
    found = fastest(of(rows, "decode", model=model, context=context))
    return _named(found, _against(found, ["batch"])).sort_values(["format", "batch"])


def prompts(rows, model: str = MAIN):
    """Prompts read at once, one row a format, batch and length."""
    found = of(rows, "prefill", model=model)
    found = fastest(found)
    named = _named(found, _against(found, ["batch", "context"]))
    named.insert(2, "tokens", found["context"])
    return named.drop(columns="mode").sort_values(["format", "batch", "tokens"])


def modes(rows, model: str = MAIN, context: int = CONTEXT, batch: int = 1):
    """Milliseconds of one step by format and mode, as words; why there is none where there is none.

    ``eager over best``: how many times as long the step as it comes takes as the fastest.
    """
    import pandas

    some = of(rows, "decode", model=model, context=context, batch=batch)
    found = []
    for name, one in some.groupby("format", sort=False):
        times = one[one["ended"] == "done"].set_index("mode")["step_ms"]
        ratio = times["eager"] / times.min() if "eager" in times else None
        each = {row["mode"]: _words(row) for row in one.to_dict("records")}
        found.append({"format": name, **each, "eager over best": ratio})
    columns = ["format", *dict.fromkeys(some["mode"]), "eager over best"]
    return pandas.DataFrame(found, columns=columns)


def by_size(rows, context: int = CONTEXT, batch: int = 1):
    """Every model and format: the fastest step, its floor, memory and energy, small models first.

    ``mode`` says of models that never ended well why not.
    """
    some = of(rows, "decode", context=context, batch=batch)
    done = fastest(some)
    rest = some[~_keys(some).isin(_keys(done))].drop_duplicates(SAME)
    rest = rest.assign(mode=[ended.partition(":")[0] for ended in rest["ended"]])
    sizes = rows.groupby("model")["params"].max()  # rows that did not end do not state it
    import pandas

    found = pandas.concat([done, rest]) if len(rest) else done
    found = found.assign(parameters=found["model"].map(sizes)).sort_values(
        ["parameters", "step_ms"], kind="stable"
    )
    return found.rename(columns=NAMES)[
        ["model", "parameters", "format", "mode", "ms", "over floor", "held", "peak", "J a token"]
    ].reset_index(drop=True)


def detour(rows, model: str = MAIN, context: int = CONTEXT):
    """LLM.int8() beside the same without its detour for large activations, and beside bf16.

    Each line compares one mode with itself, prompts at the end. ``detour`` is the share of
    LLM.int8()'s time that goes when it does not look for large activations, where both were
    measured.
    """
    import pandas

    read = of(rows, "prefill", model=model, ended="done").assign(mode="prompt")
    done = pandas.concat([of(rows, "decode", model=model, context=context, ended="done"), read])
    names = ["bf16", "int8-plain", "int8"]
    keys = ["mode", "context", "batch"]
    wide = done.pivot_table(index=keys, columns="format", values="step_ms")
    wide = wide.reindex(columns=names).dropna(subset=["bf16", "int8"]).reset_index()
    wide = wide.rename(columns={"context": "tokens"}).rename_axis(columns=None)
    wide = wide.sort_values("mode", key=lambda mode: mode == "prompt", kind="stable")
    return wide.assign(
        **{
            "int8 over bf16": wide["int8"] / wide["bf16"],
            "plain over bf16": wide["int8-plain"] / wide["bf16"],
            "detour": 1 - wide["int8-plain"] / wide["int8"],
        }
    )


def reasons(rows, model: str = MAIN, context: int = CONTEXT):
    """Where the time of a step goes, as a profiler saw it: shares of its span.

    ``over floor`` is that of the same step without the profiler. ``mostly`` names the largest
    part that is no matrix product.
    """
    done = of(rows, "decode", model=model, context=context, ended="done")
    keys = ["format", "mode", "batch"]
    over = done.drop_duplicates(keys).set_index(keys)["measured_over_floor"].to_dict()
    found = of(rows, "kernels", model=model, context=context, ended="done")
    parts = found[list(PARTS)].rename(columns=PARTS).div(found["span_ms"], axis=0)
    others = parts.drop(columns="products")
    same = found[keys].itertuples(index=False, name=None)
    return found[[*keys, "kernels"]].assign(
        **{
            "over floor": [over.get(key) for key in same],
            **{name: parts[name] for name in parts},
            "mostly": others.idxmax(axis=1) if len(others) else [],
        }
    )


def fourth(rows):
    """Each recorded model and step: what layer 4 takes over its median layer, and the spread.

    ``low`` and ``high`` are layer 4's shortest and longest over the median layer, ``least`` and
    ``most`` the fastest and the slowest other layer's median over it.
    """
    import numpy as np
    import pandas

    found = []
    for row in of(rows, "layers", ended="done").to_dict("records"):
        times = np.array(row["layers_ms"], float)
        if len(times) <= FOURTH:
            continue
        median, others = np.median(times), np.delete(times, FOURTH)
        found.append(
            {
                "model": row["model"],
                "format": row["format"],
                "step": row["step"],
                "layers": len(times),
                "median (ms)": median,
                "layer 4 over the median": times[FOURTH] / median,
                "low": row["layers_low_ms"][FOURTH] / median,
                "high": row["layers_high_ms"][FOURTH] / median,
                "least": others.min() / median,
                "most": others.max() / median,
            }
        )
    return pandas.DataFrame(found)


NAMES = {
    "step_ms": "ms",
    "measured_over_floor": "over floor",
    "held_bytes": "held",
    "peak_bytes": "peak",
    "joules_per_token": "J a token",
}


def _against(found, by: list[str]):
    """The speed of each row over that of bf16 with the same values of ``by``."""
    plain = found[found["format"] == "bf16"].set_index(by)["step_ms"].to_dict()
    keys = found[by].itertuples(index=False, name=None)
    return [plain.get(key if len(by) > 1 else key[0]) for key in keys]


def _named(found, plain):
    import pandas

    named = found.rename(columns=NAMES)[
        ["format", "batch", "mode", "ms", "over floor", "held", "peak", "J a token"]
    ]
    return named.assign(
        **{"against bf16": pandas.Series(plain, named.index, dtype=float) / named["ms"]}
    )


def _keys(rows):
    return rows[SAME].astype(str).agg(" ".join, axis=1) if len(rows) else rows["model"]


def _words(row) -> str:
    return f"{row['step_ms']:.3g}" if row["ended"] == "done" else row["ended"].partition(":")[0]
