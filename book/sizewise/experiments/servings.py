"""Measured servings of ten models: what a row of the sample means, and which rows count.

The sample (`data.kernel_tables.servings`) documents none of its traps: `parse` says what each
column really holds, `RULES` drop rows for reasons outside the forecast's error, in their order.
Facts about a row's server that no column has (the format of its cache) are in `SERVED`.
"""

import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sizewise.costs import forecast
from sizewise.data import catalog, kernel_tables
from sizewise.models import config, parameters
from sizewise.models.architecture import Model

CONFIGS = "aiconfigurator_core/model_configs/{}_config.json"
MOST_GPUS = 8  # one server
DRAWN = 0.9  # InferenceX draws both lengths evenly from 0.8 to 1 of the nominal one
FP8, FP4 = "fp8", "fp4"


@dataclass(frozen=True)
class Served:
    """A model of the sample: its family, its released configuration, and its formats.

    ``eight`` is what "fp8" means for it; ``four`` the experts' format where it says "fp4", with
    everything else in ``beside``.
    """

    family: str
    config: str
    eight: str = "fp8-block"
    four: str = "nvfp4"
    beside: str = "bf16"


SERVED = {
    "deepseek-ai/DeepSeek-R1": Served("deepseek", "deepseek-ai--DeepSeek-R1"),
    "deepseek-ai/DeepSeek-V3": Served("deepseek", "deepseek-ai--DeepSeek-R1"),
    "MiniMaxAI/MiniMax-M2.5": Served("minimax", "MiniMaxAI--MiniMax-M2.5"),
    "openai/gpt-oss-120b": Served("gpt-oss", "openai--gpt-oss-120b", four="mxfp4"),
    "meta-llama/Llama-3.1-70B": Served(
        "llama-3.1-70b", "meta-llama--Meta-Llama-3.1-70B", "fp8", beside="nvfp4"
    ),
    "Qwen/Qwen3-32B": Served("qwen3-32b", "Qwen--Qwen3-32B", "fp8", beside="nvfp4"),
    "Qwen/Qwen3.5-397B-A17B": Served("qwen3.5", "Qwen--Qwen3.5-397B-A17B"),
    "moonshotai/Kimi-K2.5": Served("kimi", "moonshotai--Kimi-K2.5"),
    "meta-llama/Llama-3.1-8B-Instruct": Served(
        "llama-3.1-8b", "meta-llama--Meta-Llama-3.1-8B", "fp8", beside="nvfp4"
    ),
    "nvidia/Llama-3.1-8B-Instruct-FP8": Served(
        "llama-3.1-8b", "meta-llama--Meta-Llama-3.1-8B", "fp8", beside="nvfp4"
    ),
    "Qwen/Qwen3-235B-A22B-FP8": Served("qwen3-235b", "Qwen--Qwen3-235B-A22B"),
    "zhipuai/GLM-5": Served("glm", "zai-org--GLM-5"),
}
EIGHT_BIT_CACHE = {"deepseek", "glm", "minimax", "qwen3.5", "kimi", "llama-3.1-70b"}


def models(file: Path) -> dict[str, Model]:
    """The served models by family, counted from their released configurations in the wheel."""
    with zipfile.ZipFile(file) as archive:
        fields = {
            served.family: json.loads(archive.read(CONFIGS.format(served.config)))
            for served in SERVED.values()
        }
    return {name: parameters.describe(config.Spec(name, form)) for name, form in fields.items()}


def _cache(family: str, precision: str, gpu: str, framework: str) -> str:
    """The cache's format, which no column has: from InferenceX's scripts and the checkpoints.

    Where a script leaves it automatic, 16 bits; NVIDIA's own runs of 8-bit checkpoints keep
    the cache in 8 bits under TensorRT-LLM.
    """
    if precision == "bf16":
        return "bf16"
    match family:
        case "gpt-oss":
            return "fp8" if framework == "trtllm" and gpu == "B200" else "bf16"
        case "kimi":
            return "fp8" if precision == FP4 else "bf16"
        case "deepseek" if (gpu, framework) == ("H200", "sglang"):
            return "bf16"
        case "llama-3.1-8b":
            return "fp8"
        case "qwen3-32b" | "qwen3-235b":
            return "fp8" if framework == "trtllm" else "bf16"
    return "fp8" if family in EIGHT_BIT_CACHE else "bf16"


def parse(frame):
    """The aggregated rows with columns that mean what they say.

    ``concurrency`` from the source column (``batch_size`` is that over ``attention_dp_size``);
    ``gpus`` from the id where it says so, else undone where ``tp_size`` holds their square;
    ``precision`` empty means bf16; ``drawn`` where lengths are drawn below the nominal ones.
    """
    import pandas

    rows = frame[frame["mode"] == "agg"].copy()
    source = rows["silicon_data_source"].fillna("")
    rows["concurrency"] = pandas.to_numeric(
        source.str.extract(r"silicon_concurrency=(\d+)", expand=False)
    )
    rows["day"] = source.str.extract(r"measured=(\d{4}-\d{2}-\d{2})", expand=False).fillna("")
    rows["drawn"] = source.str.match(r"db-dump/|source_file=\d{4}-\d{2}-\d{2}\.csv")
    rows["version"] = rows["backend_version"].fillna("")
    rows["image"] = source
    rows["precision"] = rows["precision"].fillna("bf16").astype(str)
    rows["gpu"] = rows["system"].map(kernel_tables.GPUS)
    rows["framework"] = rows["backend"]
    rows["family"] = rows["model_path"].map(
        {name: served.family for name, served in SERVED.items()}
    )
    rows["tpot"] = rows["silicon_tpot_ms"] / 1e3
    rows["ttft"] = rows["silicon_ttft_ms"] / 1e3
    rows["dp"] = rows["attention_dp_size"].fillna(1)
    named = pandas.to_numeric(rows["id"].str.extract(r"_tp(\d+)", expand=False))
    groups = rows["moe_tp_size"].where(
        (rows["moe_tp_size"] == rows["moe_ep_size"]) & (rows["moe_ep_size"] > 1)
    )
    rows["gpus"] = named.fillna(groups).fillna(rows[["tp_size", "dp"]].max(axis=1))
    parts = rows["moe_ep_size"].fillna(1).clip(lower=1)
    rows["expert"] = np.minimum(parts, rows["gpus"]).astype(int)
    return rows


def plan_of(row) -> forecast.Plan:
    """The `forecast.Plan` of a parsed row."""
    served = SERVED[row.model_path]
    cache = _cache(row.family, row.precision, row.gpu, row.framework)
    dense, experts = {
        "bf16": ("bf16", "bf16"),
        FP8: (served.eight, served.eight),
        FP4: (served.beside, served.four),
        "int4": ("bf16", "int4-g128"),
    }[row.precision]
    return forecast.Plan(
        devices=int(row.gpus),
        batch=int(row.concurrency),
        input=int(row.isl),
        output=int(row.osl),
        weights=dense,
        experts=experts,
        kv=cache,
        expert=int(row.expert) if row.gpus % row.expert == 0 else 1,
    )


# ------------------------------------------------------------------ rules


@dataclass(frozen=True)
class Rule:
    """A rule that keeps or drops rows: ``keeps(rows, models)`` is a mask; ``reason`` says why."""

    name: str
    reason: str
    keeps: Callable


def _one_copy(rows, models):
    """Dumps repeat one another, DeepSeek once as R1 and once as V3: same server, same times."""
    key = ["family", "system", "backend", "precision", "isl", "osl", "concurrency"]
    times = rows[["tpot", "ttft"]].round(9)
    return ~rows.assign(t=times["tpot"], f=times["ttft"]).duplicated([*key, "t", "f"])


def _fits(rows, models):
    """What does not fit in 0.9 of the memory queues."""
    return np.array(
        [
            forecast.fitting(models[row.family], catalog.device(row.gpu), plan_of(row))
            >= row.concurrency
            for row in rows.itertuples()
        ],
        bool,
    )


def _plain(rows, models):
    """No multi-token prediction: InferenceX's changes 392, 1488 and 1489 name the images."""
    deepseek = (rows["family"] == "deepseek") & (rows["framework"] == "trtllm")
    newer = rows["version"] == "1.2.0rc6.post3"
    first = (rows["version"] == "1.1.0rc2.post2") & (rows["day"] >= "2026-01")
    return ~(deepseek & (newer | first)) & ~rows["id"].str.contains("mtp", case=False)


def _one_time(rows, models):
    """Two times a token under one description: a flag differs that the table does not keep."""
    key = [
        "family",
        "system",
        "backend",
        "version",
        "precision",
        "isl",
        "osl",
        "concurrency",
        "gpus",
        "expert",
        "dp",
        "day",
    ]
    spread = rows.groupby(key, dropna=False)["tpot"].transform(lambda t: t.max() / t.min())
    return spread < SAME_TIME


SAME_TIME = 1.15  # repeats of one configuration differ by 11 % at their 90th percentile
RULES = (
    Rule(
        "plain-checkpoint",
        "a checkpoint whose shapes are not among those counted",
        lambda rows, models: rows["family"].notna(),
    ),
    Rule(
        "one-server",
        "more GPUs than one server has",
        lambda rows, models: rows["gpus"] <= MOST_GPUS,
    ),
    Rule(
        "concurrency", "no concurrency is stated", lambda rows, models: rows["concurrency"].notna()
    ),
    Rule(
        "attention-groups",
        "an attention_dp of 0: another number stands in the batch column",
        lambda rows, models: rows["attention_dp_size"].fillna(1) > 0,
    ),
    Rule("one-copy", "a copy of a measurement in another dump", _one_copy),
    Rule("fits", "weights and caches exceed 0.9 of the memory: requests queue", _fits),
    Rule(
        "first-token",
        "over half of a request's time passes before its first token: it queues",
        lambda rows, models: rows["ttft"] <= 0.5 * (rows["ttft"] + rows["osl"] * rows["tpot"]),
    ),
    Rule("one-token-a-step", "multi-token prediction by image and date", _plain),
    Rule("one-time", "two times under one description, version and day", _one_time),
)


def keep(rows, models) -> tuple:
    """(rows that every rule keeps, rows dropped by each rule in order)."""
    counts = {}
    for rule in RULES:
        mask = np.asarray(rule.keeps(rows, models), bool)
        counts[rule.name] = int((~mask).sum())
        rows = rows[mask]
    return rows, counts
