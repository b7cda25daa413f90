"""Tables of the chapter on floors and silicon: recorded scores and fits as frames to print."""

import pandas as pd

from sizewise.data import records

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
FORMATS = {
    "bf16": "bf16",
    "fp8": "FP8",
    "fp8-block": "FP8 in blocks",
    "nvfp4": "NVFP4",
    "int4": "int4",
    "int8-weight-only": "int8 weights",
    "w8a8": "W8A8",
}
FIRST = 1


def scores(what: str, grade: int = 2, attempt: int = FIRST) -> pd.DataFrame:
    """Recorded scores of one kind: "family", "gpu", "framework", "precision", "load", "group"."""
    rows = records.table("silicon_servings")
    mask = (rows["what"] == what) & (rows["attempt"] == attempt)
    if "grade" in rows and what not in ("rules", "splits"):
        mask &= rows["grade"] == grade
    return rows[mask].reset_index(drop=True)


def overall(grade: int = 2) -> dict:
    """The scores of all kept servings: error, band, share of the floor."""
    return scores("all", grade).iloc[0].to_dict()


def floor_and_forecast(grade: int = 1) -> pd.DataFrame:
    """Floor and forecast over the measured time, a line a family: medians and middle 80 %."""
    rows = scores("family", grade).sort_values("floor_share_median", ascending=False)
    return pd.DataFrame(
        {
            "model": rows["family"].map(FAMILIES),
            "floor": rows["floor_share_median"],
            "floor_low": rows["floor_share_low"],
            "floor_high": rows["floor_share_high"],
            "forecast": rows["ratio_median"],
            "forecast_low": 1 / rows["band_high"],
            "forecast_high": 1 / rows["band_low"],
        }
    ).reset_index(drop=True)


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
    from sizewise.experiments.servings import RULES

    row = scores("rules").iloc[0]
    left = row["rows"] + sum(row[f"dropped.{rule.name}"] for rule in RULES)
    lines = []
    for rule in RULES:
        count = int(row[f"dropped.{rule.name}"])
        left -= count
        lines.append({"dropped because": rule.reason, "servings": count, "left": int(left)})
    return pd.DataFrame(lines)


def errors() -> pd.DataFrame:
    """Errors by model, GPU, framework, precision and load in one table, both grades."""
    frames = []
    for what, label in (
        ("family", "model"),
        ("gpu", "GPU"),
        ("framework", "framework"),
        ("precision", "precision"),
        ("load", "requests in flight"),
    ):
        for grade in (1, 2):
            rows = scores(what, grade)
            rows["by"], rows["grade"] = label, grade
            rows["which"] = rows[what].map(FAMILIES | FRAMEWORKS).fillna(rows[what])
            frames.append(rows)
    rows = pd.concat(frames)
    columns = ["error_median", "error_p90", "ratio_median", "coverage"]
    wide = rows.pivot_table(
        index=["by", "which", "rows"], columns="grade", values=columns, sort=False
    )
    return pd.DataFrame(
        {
            "by": wide.index.get_level_values("by"),
            "which": wide.index.get_level_values("which"),
            "servings": wide.index.get_level_values("rows").astype(int),
            "one set: median %": wide[("error_median", 1)].to_numpy(),
            "90th %": wide[("error_p90", 1)].to_numpy(),
            "own numbers: median %": wide[("error_median", 2)].to_numpy(),
            "90th % ": wide[("error_p90", 2)].to_numpy(),
            "forecast over measured": wide[("ratio_median", 2)].to_numpy(),
            "inside the others' band": wide[("coverage", 1)].to_numpy(),
        }
    )


def worst(most: int = 6, least_rows: int = 20) -> pd.DataFrame:
    """The groups of at least ``least_rows`` servings that are forecast worst."""
    rows = scores("group")
    rows = rows[rows["rows"] >= least_rows].nlargest(most, "error_median")
    return pd.DataFrame(
        {
            "model": rows["family"].map(FAMILIES),
            "GPU": rows["gpu"],
            "framework": rows["framework"].map(FRAMEWORKS),
            "precision": rows["precision"],
            "servings": rows["rows"].astype(int),
            "median error %": rows["error_median"],
            "forecast over measured": rows["ratio_median"],
        }
    )


def kernels() -> pd.DataFrame:
    """Held-out errors of the kernel fits, a line a kernel: medians over tables, and the floor's."""
    rows = records.table("silicon")
    own = rows[(rows["gpu"] != "any") & rows["error_median"].notna()]
    common = rows[rows["gpu"] == "any"].groupby("kernel")["error_median"].first()
    lines = []
    for kernel, label in KERNELS.items():
        group = own[own["kernel"] == kernel]
        lines.append(
            {
                "kernel": label,
                "tables": len(group),
                "numbers": len(
                    rows.loc[group.index[0], rows.columns.str.startswith("numbers.")].dropna()
                ),
                "median error %": group["error_median"].median(),
                "90th %": group["error_p90"].median(),
                "one set for all %": common[kernel],
                "floor alone %": group["floor_error_median"].median(),
            }
        )
    return pd.DataFrame(lines)


def below_floor() -> pd.DataFrame:
    """Kernel times below the floor: how many, before and after the rules."""
    rows = records.table("silicon")
    rows = rows[rows["gpu"] != "any"]
    lines = []
    for kernel, label in KERNELS.items():
        group = rows[(rows["kernel"] == kernel) & rows["rows"].gt(0)]
        kept = group[group["numbers.launch"].notna()]
        lines.append(
            {
                "kernel": label,
                "rows": int((kept["rows"] + kept["rows_fitted"]).sum()),
                "below the floor": int(kept["below_floor"].sum()),
                "not from a cache": kept["below_floor_uncached"].sum(min_count=1),
            }
        )
    return pd.DataFrame(lines)


def kernel_drops() -> pd.DataFrame:
    """Rows of kernel tables that each rule drops, with its reason."""
    from sizewise.experiments.kernel_reduction import REASONS

    rows = records.table("silicon")
    counts = {name: rows.get(f"dropped.{name}", pd.Series(dtype=float)).sum() for name in REASONS}
    return pd.DataFrame(
        [(REASONS[name], int(count)) for name, count in counts.items() if count],
        columns=["dropped because", "rows"],
    ).sort_values("rows", ascending=False)


def floor_shares() -> pd.DataFrame:
    """Floor over measured seconds, medians over frameworks and formats: a line a GPU."""
    rows = records.table("silicon")
    rows = rows[(rows["gpu"] != "any") & rows["numbers.launch"].notna()]
    wide = rows.pivot_table(
        index="gpu", columns="kernel", values="floor_share_median", aggfunc="median"
    )
    wide = wide[[name for name in KERNELS if name != "all-reduce"]].rename(columns=KERNELS)
    return wide.reset_index().replace({"gpu": GPUS}).rename(columns={"gpu": "GPU"})


def product_shares() -> pd.DataFrame:
    """The same for matrix products, by format and framework: medians over GPUs."""
    rows = records.table("silicon")
    mask = (rows["kernel"] == "gemm") & (rows["gpu"] != "any") & rows["numbers.launch"].notna()
    wide = rows[mask].pivot_table(
        index="format", columns="framework", values="floor_share_median", aggfunc="median"
    )
    wide = wide.rename(columns=FRAMEWORKS).reset_index()
    return wide.assign(format=wide["format"].map(FORMATS))


def peers() -> pd.DataFrame:
    """NVIDIA's planner and our forecasts on the same servings: errors by framework and in all."""
    rows = records.table("silicon_peer")
    rows = rows[rows["what"].isin(["all", "framework", "gpu"])]
    rows["on"] = rows["which"].map(FRAMEWORKS).fillna(rows["which"]).fillna("all answered")
    wide = rows.pivot_table(
        index=["on", "rows"], columns="forecast", values=["error_median", "error_p90"], sort=False
    )
    return pd.DataFrame(
        {
            "servings": wide.index.get_level_values("on"),
            "rows": wide.index.get_level_values("rows").astype(int),
            "planner: median %": wide[("error_median", "peer")].to_numpy(),
            "90th %": wide[("error_p90", "peer")].to_numpy(),
            "one set: median %": wide[("error_median", "one set")].to_numpy(),
            "90th % ": wide[("error_p90", "one set")].to_numpy(),
            "own numbers: median %": wide[("error_median", "own")].to_numpy(),
            "90th %  ": wide[("error_p90", "own")].to_numpy(),
        }
    )


def payoff(format: str) -> pd.DataFrame:
    """One format against bf16, a line a card, stack and size: where it ends, best and worst."""
    rows = records.table("silicon_formats")
    rows = rows[(rows["what"] == "product") & (rows["format"] == format)]
    return pd.DataFrame(
        {
            "GPU": rows["gpu"].replace(GPUS),
            "stack": rows["framework"].map(FRAMEWORKS) + " " + rows["version"],
            "weights of the matrix": rows["size"],
            "advantage ends at (rows)": rows["ends_at"],
            "returns at": rows["returns_at"],
            "best": rows["best"],
            "best at": rows["best_at"],
            "worst": rows["worst"],
            "worst at": rows["worst_at"],
        }
    ).reset_index(drop=True)


def payoff_lines(format: str, size: str = "26M to 120M", cards=None) -> pd.DataFrame:
    """Speed-up over bf16 by rows of the batch: ``gpu``, ``batch``, ``speedup``, a line a point.

    One stack a card: the one whose best is largest.
    """
    rows = records.table("silicon_formats")
    rows = rows[(rows["what"] == "product") & (rows["format"] == format) & (rows["size"] == size)]
    if cards is not None:
        rows = rows[rows["gpu"].isin(cards)]
    rows = rows.sort_values("best", ascending=False).drop_duplicates("gpu")
    lines = [
        {"gpu": GPUS.get(row.gpu, row.gpu), "batch": batch, "speedup": speedup}
        for row in rows.itertuples()
        for batch, speedup in zip(row.batch, row.speedup, strict=True)
    ]
    return pd.DataFrame(lines)


def signs() -> pd.DataFrame:
    """How often the sign of a format's effect is right on a card whose numbers were held out."""
    rows = records.table("silicon_formats")
    rows = rows[rows["what"] == "sign"]
    return pd.DataFrame(
        {
            "GPU held out": rows["gpu"].replace(GPUS),
            "format": rows["format"].map(FORMATS),
            "shapes": rows["shapes"].astype(int),
            "sign right": rows["right"],
            "up to 64 rows": rows["right_few_rows"],
            "always faster": rows["always_wins"],
        }
    ).reset_index(drop=True)


def caches() -> pd.DataFrame:
    """Decode attention with 8-bit keys and values against 16 bits, by stack and tokens read."""
    rows = records.table("silicon_formats")
    rows = rows[rows["what"] == "cache"]
    return pd.DataFrame(
        {
            "gpu": rows["gpu"].replace(GPUS),
            "framework": rows["framework"].map(FRAMEWORKS),
            "version": rows["version"],
            "from_tokens": [least for least, _ in rows["tokens"]],
            "speedup": rows["speedup_median"],
            "low": rows["speedup_low"],
            "high": rows["speedup_high"],
        }
    ).reset_index(drop=True)


def servers() -> pd.DataFrame:
    """AccelMark: best throughput of a whole server in a format over its best in bf16."""
    rows = records.table("silicon_formats")
    rows = rows[rows["what"] == "server"]
    rows = rows.assign(version=rows["framework"] + " " + rows["framework_version"])
    wide = rows.pivot_table(index=["device", "version"], columns="format", values="over_bf16")
    return wide.reset_index()


def energy(what: str) -> pd.DataFrame:
    """Recorded rows of energy: "watts", "energy", "time" or "measured"."""
    rows = records.table("silicon_energy")
    return rows[rows["what"] == what].dropna(axis=1, how="all").reset_index(drop=True)


def predictions() -> pd.DataFrame:
    """The forecasts on record, a line a configuration."""
    rows = records.table("silicon_predictions")
    return pd.DataFrame(
        {
            "model": rows["model"],
            "on": rows["devices"].astype(str) + " x " + rows["gpu"].replace(GPUS),
            "weights": rows["weights"],
            "requests": rows["batch"],
            "prompt + answer": rows["input"].map("{:,}".format)
            + " + "
            + rows["output"].map("{:,}".format),
            "floor ms": 1e3 * rows["floor_seconds"],
            "forecast ms": 1e3 * rows["seconds"],
            "from": 1e3 * rows["low"],
            "to": 1e3 * rows["high"],
        }
    )
