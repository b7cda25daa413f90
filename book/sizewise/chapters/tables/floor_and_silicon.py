"""Tables of the chapter on floors and silicon: recorded scores and fits as frames to print."""

import pandas as pd

from sizewise.data import catalog, records

from .display import renamed, written

FAMILIES = {
    "deepseek": "DeepSeek-R1",
    "glm": "GLM-5",
    "gpt-oss": "gpt-oss-120b",
    "kimi": "Kimi K2.5",
    "llama-3.1-70b": "Llama 3.1 70B",
    "llama-3.1-8b": "Llama 3.1 8B",
    "minimax": "MiniMax-M2.5",
    "qwen3-235b": "Qwen3 235B",
    "qwen3-32b": "Qwen3 32B",
    "qwen3.5": "Qwen3.5 397B",
}
FRAMEWORKS = {"vllm": "vLLM", "sglang": "SGLang", "trtllm": "TensorRT-LLM"}
GPUS = {"A100-80GB": "A100", "RTX-PRO-6000": "RTX PRO 6000"}
KERNELS = {
    "gemm": "matrix products",
    "attention-decode": "attention, one new token",
    "latent-decode": "latent attention, one new token",
    "prompt-attention": "attention over a prompt",
    "prompt-latent": "latent attention over a prompt",
    "moe": "routed experts",
    "all-reduce": "sum over GPUs (in sample)",
}
BY = {
    "family": "model",
    "gpu": "GPU",
    "framework": "framework",
    "precision": "precision",
    "load": "requests in flight",
}
RULES = {  # why scripts/silicon_servings.py drops a serving, in this order
    "plain-checkpoint": "a checkpoint whose shapes are not among those counted",
    "one-server": "more GPUs than one server has",
    "concurrency": "no concurrency is stated",
    "attention-groups": "an attention_dp of 0: another number stands in the batch column",
    "one-copy": "a copy of a measurement in another dump",
    "fits": "weights and caches exceed 0.9 of the memory: requests queue",
    "first-token": "over half of a request's time passes before its first token: it queues",
    "one-token-a-step": "multi-token prediction by image and date",
    "one-time": "two times under one description, version and day",
}


def scores(what: str, grade: int = 2, attempt: int | None = None) -> pd.DataFrame:
    """Recorded scores of one kind: "family", "gpu", "framework", "precision", "load", "group".

    Of an attempt at scoring the servings, by default the latest, which the forecast uses.
    """
    rows = records.table("silicon_servings")
    attempt = attempt or rows["attempt"].max()
    mask = (rows["what"] == what) & (rows["attempt"] == attempt)
    if what not in ("rules", "splits"):
        mask &= rows["grade"] == grade
    return rows[mask].reset_index(drop=True)


def overall(grade: int = 2, attempt: int | None = None) -> dict:
    """The scores of all kept servings: error, band, share of the floor."""
    return scores("all", grade, attempt).iloc[0].to_dict()


def floor_and_forecast() -> pd.DataFrame:
    """Floor and forecast over the measured time, a line a family: medians and middle 80 %."""
    rows = scores("family", 1).sort_values("floor_share_median", ascending=False)
    rows = rows.assign(
        model=rows["family"].map(FAMILIES),
        forecast_low=1 / rows["band_high"],
        forecast_high=1 / rows["band_low"],
    )
    names = {"model": "model", "floor_share_median": "floor", "floor_share_low": "floor_low"}
    names |= {"floor_share_high": "floor_high", "ratio_median": "forecast"}
    return renamed(rows, names | {f"forecast_{end}": f"forecast_{end}" for end in ("low", "high")})


def share_by_load() -> pd.DataFrame:
    """Floor over measured time by GPU and class of load: medians over frameworks, by rows."""
    rows = scores("gpu-load")
    rows["weighted"] = rows["floor_share_median"] * rows["rows"]
    sums = rows.groupby(["gpu", "load"])[["weighted", "rows"]].sum().reset_index()
    sums["share"] = sums["weighted"] / sums["rows"]
    sums["order"] = sums["load"].str.extract(r"(\d+)", expand=False).astype(int)
    return sums.sort_values(["gpu", "order"])[["gpu", "load", "share"]].reset_index(drop=True)


def splits() -> pd.DataFrame:
    """Errors with five of ten families held out, a line a forecast."""
    names = {
        ("floor", False): "the floor",
        ("floor", True): "the floor times one constant",
        ("grade1", False): "forecast, one set of numbers",
        ("grade1", True): "the same times one constant",
        ("grade2", False): "forecast, numbers of the GPU and framework",
        ("grade2", True): "the same times one constant",
    }
    rows = scores("splits")
    rows["forecast"] = [names[key] for key in zip(rows["column"], rows["scaled"], strict=True)]
    rows["range"] = [f"{low:.0f} to {high:.0f}" for low, high in rows["error_median_range"]]
    return rows[["forecast", "error_median", "range", "error_p90"]]


def dropped() -> pd.DataFrame:
    """The rules in their order, with what each drops and what is left."""
    row = scores("rules").iloc[0]
    counts = pd.Series([int(row[f"dropped.{name}"]) for name in RULES])
    left = int(row["rows"]) + counts.sum() - counts.cumsum()
    return pd.DataFrame({"dropped because": RULES.values(), "servings": counts, "left": left})


def errors() -> pd.DataFrame:
    """Errors by model, GPU, framework, precision and load in one table, both grades."""
    frames = []
    for what, label in BY.items():
        common, special = (scores(what, grade).set_index(what) for grade in (1, 2))
        table = pd.DataFrame(
            {
                "servings": special["rows"].astype(int),
                "one set: median %": common["error_median"],
                "90th %": common["error_p90"],
                "own numbers: median %": special["error_median"],
                "90th % ": special["error_p90"],
                "forecast over measured": special["ratio_median"],
                "inside the others' band": common["coverage"],
            }
        )
        table = table.rename(index=FAMILIES | FRAMEWORKS).rename_axis("which").reset_index()
        frames.append(table.assign(by=label))
    table = pd.concat(frames, ignore_index=True)
    return table[["by", *table.columns.drop("by")]]


def worst() -> pd.DataFrame:
    """The six groups of at least twenty servings that are forecast worst."""
    rows = scores("group")
    rows = rows[rows["rows"] >= 20].nlargest(6, "error_median")
    rows = rows.replace({"family": FAMILIES, "framework": FRAMEWORKS})
    names = {"family": "model", "gpu": "GPU", "framework": "framework", "precision": "precision"}
    names |= {"rows": "servings", "error_median": "median error %"}
    return renamed(rows, names | {"ratio_median": "forecast over measured"})


def kernels() -> pd.DataFrame:
    """Held-out errors of the kernel fits, a line a kernel: medians over tables, and the floor's."""
    rows = records.table("silicon")
    fits = rows[(rows["gpu"] != "any") & rows["error_median"].notna()]
    groups = fits.groupby("kernel")
    table = {
        "tables": groups.size(),
        "numbers": groups.head(1).set_index("kernel").filter(like="numbers.").count(axis=1),
        "median error %": groups["error_median"].median(),
        "90th %": groups["error_p90"].median(),
        "one set for all %": rows[rows["gpu"] == "any"].groupby("kernel")["error_median"].first(),
        "floor alone %": groups["floor_error_median"].median(),
    }
    return _by_kernel(pd.DataFrame(table))


def _by_kernel(table: pd.DataFrame) -> pd.DataFrame:
    """A line a kernel of `KERNELS`, in its order and words."""
    return table.loc[list(KERNELS)].rename(index=KERNELS).rename_axis("kernel").reset_index()


def below_floor() -> pd.DataFrame:
    """Kernel times below the floor: how many, before and after the rules."""
    rows = records.table("silicon")
    kept = rows[(rows["gpu"] != "any") & rows["rows"].gt(0) & rows["numbers.launch"].notna()]
    kept = kept.assign(rows=kept["rows"] + kept["rows_fitted"])
    counts = kept.groupby("kernel")[["rows", "below_floor", "below_floor_uncached"]]
    table = counts.sum(min_count=1).astype({"rows": int, "below_floor": int})
    names = {"below_floor": "below the floor", "below_floor_uncached": "not from a cache"}
    return _by_kernel(table).rename(columns=names)


def floor_shares() -> pd.DataFrame:
    """Floor over measured seconds, medians over frameworks and formats: a line a GPU."""
    rows = records.table("silicon")
    rows = rows[(rows["gpu"] != "any") & rows["numbers.launch"].notna()]
    wide = rows.pivot_table(
        index="gpu", columns="kernel", values="floor_share_median", aggfunc="median"
    )
    wide = wide[[name for name in KERNELS if name != "all-reduce"]].rename(columns=KERNELS)
    return wide.reset_index().replace({"gpu": GPUS}).rename(columns={"gpu": "GPU"})


def peers() -> pd.DataFrame:
    """NVIDIA's planner and our one set on the same servings: errors by GPU, framework, in all."""
    rows = records.table("silicon_peer")
    rows = rows[rows["what"].isin(["all", "framework", "gpu"])]
    rows["servings"] = rows["which"].replace(FRAMEWORKS).fillna("all answered")
    names = {"error_median": "median %", "error_p90": "90th %"}
    frames = [
        rows[rows["forecast"] == forecast].set_index(["servings", "rows"])[list(names)]
        for forecast in ("peer", "one set")
    ]
    titles = [f"{who}: {name}" for who in ("planner", "one set") for name in names.values()]
    return pd.concat(frames, axis=1).set_axis(titles, axis=1).reset_index()


def _formats(what: str) -> pd.DataFrame:
    """Recorded rows of formats: "product", "cache" or "server"."""
    return records.kinds("silicon_formats")[what].replace({"gpu": GPUS})


def payoff(format: str) -> pd.DataFrame:
    """One format against bf16, a line a card, stack and size: its best, and where it ends."""
    rows = _formats("product").query("format == @format")
    names = {"gpu": "GPU", "size": "weights of the matrix", "ends_at": "advantage ends at (rows)"}
    return renamed(rows, names | {"best": "best"})


def payoff_lines(format: str) -> pd.DataFrame:
    """Speed-up over bf16 by rows of the batch: ``gpu``, ``batch``, ``speedup``, a line a point.

    For matrices of 26 to 120 million weights. One stack a card: the one whose best is largest.
    """
    rows = _formats("product").query("format == @format and size == '26M to 120M'")
    rows = rows.sort_values("best", ascending=False).drop_duplicates("gpu")
    lines = rows[["gpu", "batch", "speedup"]].explode(["batch", "speedup"], ignore_index=True)
    return lines.astype({"batch": int, "speedup": float})


def caches() -> pd.DataFrame:
    """Decode attention with 8-bit keys and values against 16 bits, by stack and tokens read."""
    rows = _formats("cache").replace({"framework": FRAMEWORKS})
    rows = rows.assign(from_tokens=[least for least, _ in rows["tokens"]])
    names = {"speedup_median": "speedup", "speedup_low": "low", "speedup_high": "high"}
    rows = rows[["gpu", "framework", "version", "from_tokens", *names]]
    return rows.rename(columns=names).reset_index(drop=True)


def servers() -> pd.DataFrame:
    """AccelMark: best throughput of a whole server in a format over its best in bf16."""
    rows = _formats("server")
    rows = rows.assign(version=rows["framework"] + " " + rows["framework_version"])
    wide = rows.pivot_table(index=["device", "version"], columns="format", values="over_bf16")
    return wide.reset_index()


def predictions() -> pd.DataFrame:
    """The forecasts on record, a line a configuration."""
    rows = records.table("silicon_predictions")
    milliseconds = {"floor_seconds": "floor ms", "seconds": "forecast ms", "low": "from"}
    milliseconds |= {"high": "to"}
    rows = rows.assign(
        on=rows["devices"].astype(str) + " x " + rows["gpu"].replace(GPUS).map(written),
        prompts=rows["input"].map("{:,}".format) + " + " + rows["output"].map("{:,}".format),
        model=rows["model"].map(catalog.title),
        **{name: 1e3 * rows[name] for name in milliseconds},
    )
    names = {"model": "model", "on": "on", "weights": "weights", "batch": "requests"}
    return renamed(rows, names | {"prompts": "prompt + answer"} | milliseconds)
