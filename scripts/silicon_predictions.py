"""Put forecasts on record for servings that are in no table of ours, before anybody measures them.

    python scripts/silicon_predictions.py

Twenty configurations: cards without kernel tables, models that the sample does not hold, or both.
Each is forecast with one set of kernel numbers, and with its GPU's where there are any. Rows go to
data/silicon_predictions.jsonl and are never renewed: what can be changed afterwards is no
prediction.
"""

import hashlib
import sys
from pathlib import Path

from sizewise.costs import forecast
from sizewise.data import catalog, records
from sizewise.experiments import options
from sizewise.models import parameters

CASES = (  # model, device, devices, weights, kv, batch, input, output, framework
    ("llama-3.1-8b", "RTX-4090", 1, "fp8", "fp8", 8, 1024, 256, None),
    ("llama-3.1-8b", "RTX-5090", 1, "bf16", "bf16", 4, 2048, 512, None),
    ("qwen3-8b", "L4", 1, "fp8", "fp8", 4, 512, 256, None),
    ("qwen3-8b", "L40S", 1, "bf16", "bf16", 16, 1024, 512, "vllm"),
    ("qwen3-14b", "A6000", 1, "bf16", "bf16", 4, 1024, 512, None),
    ("qwen3-30b-a3b", "L40S", 2, "bf16", "bf16", 8, 1024, 512, "sglang"),
    ("qwen3-30b-a3b", "RTX-PRO-6000", 1, "bf16", "bf16", 32, 1024, 1024, "vllm"),
    ("gemma-3-27b", "A100-80GB", 1, "bf16", "bf16", 16, 1024, 512, "vllm"),
    ("gemma-3-27b", "RTX-PRO-6000", 1, "fp8", "fp8", 16, 4096, 512, "trtllm"),
    ("llama-3.1-70b", "A100-80GB", 4, "bf16", "bf16", 16, 1024, 512, "sglang"),
    ("llama-3.1-70b", "H20", 2, "fp8", "fp8", 32, 2048, 1024, None),
    ("llama-3.1-70b", "MI300X", 2, "bf16", "bf16", 32, 1024, 1024, None),
    ("llama-3.1-70b", "L40S", 8, "fp8", "fp8", 16, 1024, 512, "vllm"),
    ("llama-3.1-405b", "H200", 8, "fp8", "fp8", 64, 1024, 1024, "trtllm"),
    ("llama-3.1-405b", "B200", 8, "nvfp4", "fp8", 64, 1024, 1024, "trtllm"),
    ("llama-4-scout", "H100", 8, "bf16", "bf16", 64, 1024, 1024, "vllm"),
    ("qwen3-next-80b-a3b", "H200", 4, "bf16", "bf16", 32, 4096, 1024, "vllm"),
    ("deepseek-v3", "MI355X", 8, "fp8-block", "fp8", 64, 1024, 1024, None),
    ("deepseek-v3", "GB300", 4, "nvfp4", "fp8", 128, 1024, 1024, "trtllm"),
    ("kimi-k2", "B300", 8, "fp8-block", "fp8", 64, 8192, 1024, "sglang"),
)
KEYS = ("model", "gpu", "devices", "weights", "kv", "batch", "input", "output", "framework")
SPARSE_FOUR = "nvfp4"  # of sparse models the experts alone, the rest in 16 bits


def predict(case: dict) -> dict:
    """Floor, forecast, band and parts of one configuration."""
    model = parameters.describe(known_model(case["model"]))
    dense = case["weights"]
    if model.experts and dense == SPARSE_FOUR:
        dense = "bf16"
    plan = forecast.Plan(
        devices=case["devices"],
        batch=case["batch"],
        input=case["input"],
        output=case["output"],
        weights=dense,
        experts=case["weights"],
        kv=case["kv"],
    )
    device = catalog.device(case["gpu"])
    common = forecast.forecast(model, device, plan)
    result = forecast.forecast(model, device, plan, framework=case["framework"])
    if result.queues:
        raise ValueError(f"{case['model']} on {case['gpu']}: the batch does not fit")
    return {
        "seconds": result.seconds,
        "low": result.low,
        "high": result.high,
        "grade": result.grade,
        "seconds_common": common.seconds,
        "floor_seconds": result.floor_seconds,
        "parts": result.parts,
        "numbers_sha256": hashlib.sha256(records.path("silicon").read_bytes()).hexdigest(),
    }


def known_model(name: str):
    """A name of the catalogue, or Qwen3 14B, which ML.ENERGY measured elsewhere."""
    from silicon_energy import QWEN3_14B
    from sizewise.models import config

    return config.Spec("qwen3-14b", QWEN3_14B) if name == "qwen3-14b" else name


def main() -> None:
    parser = options.parser(__doc__)
    parser.add_argument("--output", type=Path, default=records.path("silicon_predictions"))
    args = parser.parse_args()
    try:
        source = records.provenance()
        cases = [dict(zip(KEYS, case, strict=True)) for case in CASES]
        for case in records.missing(args.output, cases):
            row = records.append(args.output, case, predict(case), source)
            print(
                *case.values(),
                f"{1e3 * row['seconds']:.2f} ms, floor {1e3 * row['floor_seconds']:.2f}",
                flush=True,
            )
    except ValueError as error:
        sys.exit(f"silicon_predictions: {error}")


if __name__ == "__main__":
    main()
