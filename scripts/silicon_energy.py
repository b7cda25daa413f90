"""Joules a token as measured: what stated power and floors get wrong, and a rule for watts.

    SIZEWISE_PUBLISHED=folder python scripts/silicon_energy.py

ML.ENERGY measured 328 configurations of served models (vLLM, chat) on H100 and B200 with the mean
batch, the power of all GPUs and the time a token. The figures are read from the published folder,
checked by SHA-256, and stay there; rows are medians by model, GPU, format and class of batch, and
the fits. Rows go to data/silicon_energy.jsonl. Under a minute.
"""

import hashlib
import itertools
import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import silicon
from sizewise.costs import energy, forecast
from sizewise.data import catalog, records
from sizewise.experiments import options
from sizewise.models import config, parameters

FILE = "mlenergy_chat.csv"
SHA256 = "98a239507ac654aeb22f68106a9ea23507d546badd0a2a9715435f201167a006"
QWEN3_14B = {
    "model_type": "qwen3",
    "hidden_size": 5120,
    "num_hidden_layers": 40,
    "num_attention_heads": 40,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "intermediate_size": 17408,
    "vocab_size": 151936,
    "tie_word_embeddings": False,
}
MODELS = {  # what ML.ENERGY calls it -> catalogue; Nemotron's mixtures and Maverick are not in it
    "Qwen/Qwen3-8B": "qwen3-8b",
    "Qwen/Qwen3-14B": config.Spec("qwen3-14b", QWEN3_14B),
    "Qwen/Qwen3-32B": "qwen3-32b",
    "Qwen/Qwen3-30B-A3B-Instruct-2507": "qwen3-30b-a3b",
    "Qwen/Qwen3-235B-A22B-Instruct-2507": "qwen3-235b-a22b",
    "Qwen/Qwen3-235B-A22B-Instruct-2507-FP8": "qwen3-235b-a22b",
    "deepseek-ai/DeepSeek-V3.1": "deepseek-v3",
    "google/gemma-3-27b-it": "gemma-3-27b",
    "meta-llama/Llama-3.1-8B-Instruct": "llama-3.1-8b",
    "meta-llama/Llama-3.1-70B-Instruct": "llama-3.1-70b",
    "meta-llama/Llama-3.3-70B-Instruct": "llama-3.1-70b",
    "meta-llama/Llama-3.1-405B-Instruct": "llama-3.1-405b",
    "meta-llama/Llama-3.1-405B-Instruct-FP8": "llama-3.1-405b",
    "meta-llama/Llama-4-Scout-17B-16E-Instruct": "llama-4-scout",
}
EIGHT_BITS = {"Llama-3.1-405B-Instruct-FP8": "fp8"}  # others' 8 bits are in blocks
PROMPT = 300  # tokens: the mean of such chats; the table does not say
CLASSES = (16, 128)  # upper ends of classes of the mean batch
HOST = ("base", "each")


def prepared(table: pd.DataFrame) -> pd.DataFrame:
    """The configurations of counted models with floor, forecast and shares of the peaks."""
    described = {name: parameters.describe(model) for name, model in MODELS.items()}
    rows = []
    for row in table[table["model_id"].isin(MODELS)].itertuples():
        model, device = described[row.model_id], catalog.device(row.gpu_model)
        format = "bf16"
        if row.weight_precision == "fp8":
            format = EIGHT_BITS.get(row.model_id.split("/")[1], "fp8-block")
        batch = max(round(row.avg_batch_size), 1)
        plan = forecast.Plan(
            devices=row.num_gpus,
            batch=batch,
            input=PROMPT,
            output=round(row.avg_output_len),
            weights=format,
            experts=format,
            expert=row.expert_parallel,
        )
        memory, flops = forecast.floor_parts(model, device, plan)
        entry = {
            "family": model.name,
            "name": row.model_id.split("/")[1],
            "gpu": device.name,
            "devices": row.num_gpus,
            "precision": row.weight_precision,
            "batch": row.avg_batch_size,
            "step": row.avg_batch_size / row.output_throughput_tokens_per_sec,
            "latency": row.median_itl_ms / 1e3,
            "tdp": device.tdp_watts,
            "watts": row.avg_power_watts / row.num_gpus,
            "joules": row.energy_per_token_joules,
            "memory": memory,
            "flops": flops,
            "floor": max(memory, flops),
        }
        for grade, framework in ((1, None), (2, "vllm")):
            fitted = forecast.numbers(device.name, framework)
            seconds, _ = forecast.tpot_seconds(model, device, plan, fitted)
            entry[f"grade{grade}"] = seconds
        rows.append(entry)
    return pd.DataFrame(rows)


def fit_watts(rows: pd.DataFrame, column: str = "step") -> dict[str, float]:
    """The three numbers of `energy.watts_share`, by least squares of the relative error."""
    shares = rows["memory"] / rows[column], np.sqrt(rows["flops"] / rows[column])
    design = np.column_stack([np.ones(len(rows)), *shares])
    target = (rows["watts"] / rows["tdp"]).to_numpy()
    solved, *_ = np.linalg.lstsq(design / target[:, None], np.ones(len(rows)), rcond=None)
    return dict(zip(energy.NAMES, map(float, solved), strict=True))


def predicted_watts(rows: pd.DataFrame, numbers: dict, column: str = "step"):
    return rows["tdp"] * energy.watts_share(
        rows["memory"] / rows[column], rows["flops"] / rows[column], numbers
    )


def fit_host(rows: pd.DataFrame, column: str) -> dict[str, float]:
    """Seconds of the host a step: a base and more for each sequence, by relative least squares."""
    target = rows["step"].to_numpy()
    design = np.column_stack([np.ones(len(rows)), rows["batch"]]) / target[:, None]
    left = (target - rows[column].to_numpy()) / target
    solved, *_ = np.linalg.lstsq(design, left, rcond=None)
    return dict(zip(HOST, map(float, solved), strict=True))


def held_out(rows: pd.DataFrame, predict) -> dict:
    """Error over all ways to hold about half of the families out: median and range.

    ``predict(fitted, out)`` gives predicted and measured values of the held-out rows.
    """
    families = sorted(rows["family"].unique())
    medians, tails = [], []
    for out in itertools.combinations(families, len(families) // 2):
        mask = rows["family"].isin(out)
        score = silicon.errors(*predict(rows[~mask], rows[mask]))
        medians.append(score["error_median"])
        tails.append(score["error_p90"])
    return {
        "splits": len(medians),
        "held_error_median": float(np.median(medians)),
        "held_error_range": [float(min(medians)), float(max(medians))],
        "held_error_p90": float(np.median(tails)),
    }


def comparisons(rows: pd.DataFrame):
    """(name, predicted joules) of the ways to reckon energy that are compared."""
    each = rows["devices"] / rows["batch"]
    stated = rows["tdp"] * each
    yield "stated power x floor", stated * rows["floor"]
    yield "stated power x measured time", stated * rows["step"]
    yield "stated power x forecast", stated * rows["grade2"]
    numbers = fit_watts(rows)
    yield "watts rule x measured time", predicted_watts(rows, numbers) * each * rows["step"]
    host = fit_host(rows, "grade2")
    timed = rows.assign(full=rows["grade2"] + host["base"] + host["each"] * rows["batch"])
    yield (
        "watts rule x forecast and host",
        predicted_watts(timed, numbers, "full") * each * timed["full"],
    )


def rows_of(rows: pd.DataFrame):
    """(configuration, measurements) of every row that is recorded."""
    everything = {"rows": len(rows)}
    numbers = fit_watts(rows)
    yield (
        {"what": "watts"},
        {
            "numbers": numbers,
            **silicon.errors(predicted_watts(rows, numbers), rows["watts"]),
            **held_out(
                rows, lambda fitted, out: (predicted_watts(out, fit_watts(fitted)), out["watts"])
            ),
            "watts_share_median": {
                gpu: float((g["watts"] / g["tdp"]).median()) for gpu, g in rows.groupby("gpu")
            },
            "watts_share_range": [
                float((rows["watts"] / rows["tdp"]).min()),
                float((rows["watts"] / rows["tdp"]).max()),
            ],
        },
    )
    for name, joules in comparisons(rows):
        yield (
            {"what": "energy", "name": name},
            silicon.errors(joules, rows["joules"])
            | {
                "ratio_low": float((joules / rows["joules"]).quantile(0.1)),
                "ratio_high": float((joules / rows["joules"]).quantile(0.9)),
            },
        )
    for column in ("floor", "grade1", "grade2"):
        yield (
            {"what": "time", "column": column, "host": False},
            silicon.errors(rows[column], rows["step"])
            | {"below_floor": int((rows["floor"] > rows["step"]).sum())},
        )
        if column == "floor":
            continue
        host = fit_host(rows, column)

        def with_host(fitted, out, column=column):
            fit = fit_host(fitted, column)
            return out[column] + fit["base"] + fit["each"] * out["batch"], out["step"]

        yield (
            {"what": "time", "column": column, "host": True},
            {
                "numbers": host,
                **silicon.errors(with_host(rows, rows)[0], rows["step"]),
                **held_out(rows, with_host),
            },
        )
    classes = pd.cut(rows["batch"], [0, *CLASSES, np.inf], labels=["1-16", "17-128", "129+"])
    rows = rows.assign(load=classes.astype(str))
    for where, group in rows.groupby(["name", "gpu", "devices", "precision", "load"]):
        labels = ("model", "gpu", "devices", "precision", "load")
        stated = group["tdp"] * group["devices"] / group["batch"]
        yield (
            {"what": "measured", **dict(zip(labels, where, strict=True))},
            everything
            | {
                "rows": len(group),
                "batch_median": float(group["batch"].median()),
                "joules_median": float(group["joules"].median()),
                "joules_least": float(group["joules"].min()),
                "joules_most": float(group["joules"].max()),
                "watts_share": float((group["watts"] / group["tdp"]).median()),
                "step_median": float(group["step"].median()),
                "floor_share": float((group["floor"] / group["step"]).median()),
                "over_stated_floor": float((group["joules"] / (stated * group["floor"])).median()),
            },
        )


def main() -> None:
    parser = options.parser(__doc__)
    parser.add_argument("--output", type=Path, default=records.path("silicon_energy"))
    args = parser.parse_args()
    try:
        folder = os.environ.get("SIZEWISE_PUBLISHED")
        if not folder:
            raise ValueError(f"SIZEWISE_PUBLISHED names no folder with {FILE}")
        content = (Path(folder) / FILE).read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        if digest != SHA256:
            raise ValueError(f"{FILE}: SHA-256 is {digest}, not the pinned {SHA256}")
        source = records.provenance()
        for what, measured in rows_of(prepared(pd.read_csv(Path(folder) / FILE))):
            if records.missing(args.output, [what]):
                row = records.append(args.output, what, measured, source)
                if "error_median" in row:
                    print(*what.values(), f"{row['error_median']:.1f} %", flush=True)
    except (ValueError, OSError) as error:
        sys.exit(f"silicon_energy: {error}")


if __name__ == "__main__":
    main()
