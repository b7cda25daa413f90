"""Score the forecasts and the floor on the servings that NVIDIA's sample holds.

    python scripts/silicon_servings.py

The sample (5,221 servings of ten models, in the package that scripts/silicon.py reads) documents
none of its traps: `parse` says what each column really holds, `RULES` drop rows for reasons outside
the forecast's error, and `SERVED` has facts about servers that no column has. Each kept row is
forecast twice: with one set of kernel numbers for every device, and with those of its GPU and
framework. The numbers come from data/silicon.jsonl, which was committed first; its hash is in every
row. Rows go to data/silicon_servings.jsonl. An attempt that has rows is never scored again: what
changes in the forecast raises ATTEMPT, and the first one's rows stay.
"""

import hashlib
import itertools
import json
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import silicon
from common import kernel_tables
from sizewise.costs import forecast
from sizewise.data import catalog, records
from sizewise.experiments import options
from sizewise.models import config, parameters
from sizewise.models.architecture import Model

ATTEMPT = 2
ATTEMPTS = {
    1: "as written before any serving was forecast, with the rules for rows known before",
    2: "weights counted tensor by tensor, with heads and embeddings in 16 bits; towers for images "
    "multiply no token of text",
}
FEWEST = 5  # rows of a group that is listed
HALF = 5  # families held out at a time
WITHIN = (10, 20, 30, 50)
SHARES = (10, 90)
CLASSES = (4, 16, 64)  # upper ends of classes of concurrency; above is the last class


# ------------------------------------------------------------------ which rows count

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


def served_models(file: Path) -> dict[str, Model]:
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
RULES = {  # name: mask of the rows that it keeps; `tables.floor_and_silicon` has the reasons
    "plain-checkpoint": lambda rows, models: rows["family"].notna(),
    "one-server": lambda rows, models: rows["gpus"] <= MOST_GPUS,
    "concurrency": lambda rows, models: rows["concurrency"].notna(),
    "attention-groups": lambda rows, models: rows["attention_dp_size"].fillna(1) > 0,
    "one-copy": _one_copy,
    "fits": _fits,
    "first-token": lambda rows, models: (
        rows["ttft"] <= 0.5 * (rows["ttft"] + rows["osl"] * rows["tpot"])
    ),
    "one-token-a-step": _plain,
    "one-time": _one_time,
}


def keep(rows, models) -> tuple:
    """(rows that every rule keeps, rows dropped by each rule in order)."""
    counts = {}
    for name, keeps in RULES.items():
        mask = np.asarray(keeps(rows, models), bool)
        counts[name] = int((~mask).sum())
        rows = rows[mask]
    return rows, counts


# ------------------------------------------------------------------ the scores


def forecasts(rows: pd.DataFrame, models: dict) -> pd.DataFrame:
    """The rows with floor, both forecasts, and the forecast without others' prompts."""
    table = []
    for row in rows.itertuples():
        model, device = models[row.family], catalog.device(row.gpu)
        plan, share = plan_of(row), DRAWN if row.drawn else 1.0
        entry = {"floor": forecast.floor_seconds(model, device, plan, share)}
        for grade, framework in ((1, None), (2, row.framework)):
            fitted = forecast.numbers(row.gpu, framework)
            seconds, parts = forecast.tpot_seconds(model, device, plan, fitted, share=share)
            entry[f"grade{grade}"] = seconds
            entry[f"decode{grade}"] = seconds - parts["load"]
            entry[f"prompt{grade}"] = forecast.prompt_seconds(model, device, plan, fitted, share)
        table.append(entry)
    return rows.reset_index(drop=True).join(pd.DataFrame(table))


def score(rows: pd.DataFrame, grade: int) -> dict:
    """Errors of one grade on some rows, with the floor's share of what was measured."""
    measured, predicted = rows["tpot"].to_numpy(), rows[f"grade{grade}"].to_numpy()
    off = 100 * np.abs(predicted / measured - 1)
    share = rows["floor"].to_numpy() / measured
    low, high = np.percentile(measured / predicted, SHARES)
    length = rows["osl"].to_numpy() * np.where(rows["drawn"], DRAWN, 1.0)
    request = rows["ttft"].to_numpy() + length * measured
    expected = rows[f"prompt{grade}"].to_numpy() + length * predicted
    return silicon.errors(predicted, measured) | {
        "within": {str(percent): float((off <= percent).mean()) for percent in WITHIN},
        "band_low": float(low),
        "band_high": float(high),
        "decode_error_median": silicon.errors(rows[f"decode{grade}"], measured)["error_median"],
        "request_error_median": silicon.errors(expected, request)["error_median"],
        "request_error_p90": silicon.errors(expected, request)["error_p90"],
        "floor_error_median": float(100 * np.median(np.abs(share - 1))),
        "floor_share_median": float(np.median(share)),
        "floor_share_low": float(np.percentile(share, SHARES[0])),
        "floor_share_high": float(np.percentile(share, SHARES[1])),
        "below_floor": int((share > 1).sum()),
        "tpot_median": float(np.median(measured)),
    }


def coverage(rows: pd.DataFrame, grade: int, family: str) -> dict:
    """How much of a family lies in the 80 % band of all others."""
    ratio = (rows["tpot"] / rows[f"grade{grade}"]).to_numpy()
    mask = (rows["family"] == family).to_numpy()
    low, high = np.percentile(ratio[~mask], SHARES)
    return {
        "coverage": float(((ratio[mask] >= low) & (ratio[mask] <= high)).mean()),
        "others_low": float(low),
        "others_high": float(high),
    }


def splits(rows: pd.DataFrame, column: str, *, scaled: bool) -> dict:
    """Median and range, over all halves of the families held out, of the error's quantiles.

    ``scaled``: times the one constant that suits the families not held out.
    """
    families = sorted(rows["family"].unique())
    ratio = (rows[column] / rows["tpot"]).to_numpy()
    medians, tails = [], []
    for out in itertools.combinations(families, HALF):
        mask = rows["family"].isin(out).to_numpy()
        constant = np.median(ratio[~mask]) if scaled else 1.0
        off = 100 * np.abs(ratio[mask] / constant - 1)
        medians.append(np.median(off))
        tails.append(np.percentile(off, 90))
    return {
        "splits": len(medians),
        "error_median": float(np.median(medians)),
        "error_median_range": [float(min(medians)), float(max(medians))],
        "error_p90": float(np.median(tails)),
        "error_p90_range": [float(min(tails)), float(max(tails))],
    }


def rows_of(rows_kept: pd.DataFrame, dropped: dict):
    """(configuration, measurements) of every row that is recorded."""
    names = ("family", "gpu", "framework", "precision")
    classes = pd.cut(rows_kept["concurrency"], [0, *CLASSES, np.inf], labels=False)
    rows_kept = rows_kept.assign(load=classes.map(dict(enumerate(("1-4", "5-16", "17-64", "65+")))))

    def entry(what, grade, rows, **where):
        blank = dict.fromkeys((*names, "load"))
        return {"what": what, "grade": grade, **(blank | where)}, score(rows, grade)

    yield {"what": "rules"}, {"dropped": dropped, "rows": len(rows_kept)}
    for grade in (1, 2):
        yield entry("all", grade, rows_kept)
        for name in (*names, "load"):
            for value, rows in rows_kept.groupby(name):
                config, measured = entry(name, grade, rows, **{name: value})
                if name == "family":
                    measured |= coverage(rows_kept, grade, value)
                yield config, measured
        for where, rows in rows_kept.groupby(list(names)):
            if len(rows) >= FEWEST:
                yield entry("group", grade, rows, **dict(zip(names, where, strict=True)))
        for where, rows in rows_kept.groupby(["gpu", "framework", "load"]):
            labels = dict(zip(("gpu", "framework", "load"), where, strict=True))
            yield entry("gpu-load", grade, rows, **labels)
    for column in ("floor", "grade1", "grade2"):
        for scaled in (False, True):
            yield (
                {"what": "splits", "column": column, "scaled": scaled},
                splits(rows_kept, column, scaled=scaled),
            )


def main() -> None:
    parser = options.parser(__doc__)
    parser.add_argument("--output", type=Path, default=records.path("silicon_servings"))
    args = parser.parse_args()
    try:
        file, source = kernel_tables.wheel("core"), records.provenance()
        frozen = hashlib.sha256(records.path("silicon").read_bytes()).hexdigest()
        models = served_models(file)
        rows_kept, dropped = keep(parse(kernel_tables.servings(file)), models)
        print(f"{len(rows_kept)} rows kept; dropped {dropped}", flush=True)
        scored = forecasts(rows_kept, models)
        for config, measured in rows_of(scored, dropped):
            config = {"attempt": ATTEMPT, "numbers_sha256": frozen, **config}
            if records.missing(args.output, [config]):
                row = records.append(args.output, config, measured, source)
                if row["what"] in ("all", "splits"):
                    print(
                        row["what"],
                        row.get("grade"),
                        f"{row['error_median']:.1f} %, "
                        f"{row['error_p90']:.0f} % at the 90th percentile",
                    )
    except (ValueError, ImportError) as error:
        sys.exit(f"silicon_servings: {error}")


if __name__ == "__main__":
    main()
