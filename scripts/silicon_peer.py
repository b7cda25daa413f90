"""NVIDIA's own planner and our forecasts on the same servings, side by side.

    python3 -m venv /path/of/its/own && /path/of/its/own/bin/pip install aiconfigurator==0.12.0
    python scripts/silicon_peer.py --peer /path/of/its/own/bin/python

The planner (aiconfigurator 0.12.0, which interpolates in the kernel tables that we reduce) is asked
for the time a token of a seeded sample of the kept servings, with the formats, lengths and
parallelism that we assume for them; it runs in its own environment, offline. Where it answers,
its error and ours are scored on the same rows. Rows go to data/silicon_peer.jsonl.
"""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import silicon
import silicon_servings as servings
from common import kernel_tables
from sizewise.data import records
from sizewise.experiments import options

EACH = 4  # servings of a group at most: an estimate takes the planner seconds
SEED = 0
PLANNER = "aiconfigurator 0.12.0"
MODES = {
    "bf16": "bfloat16",
    "fp8": "fp8",
    "fp8-block": "fp8_block",
    "nvfp4": "nvfp4",
    "int4-g128": "int4_wo",
}
NAMES = {"zhipuai/GLM-5": "zai-org/GLM-5"}
WORKER = """
import json, logging, sys, warnings
warnings.simplefilter("ignore"); logging.disable(logging.CRITICAL)
from aiconfigurator.cli.api import cli_estimate
for line in sys.stdin:
    case = json.loads(line)
    try:
        result = cli_estimate(**case["options"])
        answer = {"tpot": result.tpot / 1e3, "ttft": result.ttft / 1e3}
    except Exception as error:
        answer = {"error": f"{type(error).__name__}: {error}"[:200]}
    print("ANSWER", json.dumps({"row": case["row"]} | answer), flush=True)
"""


def case_of(row) -> dict:
    """The planner's options for a parsed serving."""
    plan, share = servings.plan_of(row), servings.DRAWN if row.drawn else 1.0
    experts = plan.experts or plan.weights
    blackwell = row.gpu.startswith(("B", "GB"))
    mixed = "w4a8_mxfp4_mxfp8" if blackwell else "w4a16_mxfp4"
    options = {
        "model_path": NAMES.get(row.model_path, row.model_path),
        "system_name": row.system,
        "backend_name": row.framework,
        "isl": int(row.isl * share),
        "osl": int(row.osl * share),
        "batch_size": max(int(row.concurrency // max(row.dp, 1)), 1),
        "tp_size": int(row.gpus // max(row.dp, 1)),
        "attention_dp_size": int(max(row.dp, 1)),
        "gemm_quant_mode": MODES[plan.weights],
        "kvcache_quant_mode": MODES[plan.kv],
    }
    if row.family not in ("llama-3.1-8b", "llama-3.1-70b", "qwen3-32b"):
        options |= {
            "moe_tp_size": plan.devices // plan.expert,
            "moe_ep_size": plan.expert,
            "moe_quant_mode": MODES.get(experts, mixed),
        }
    return options


def ask(python: Path, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with the planner's seconds a token, or its error."""
    cases = [
        json.dumps({"row": index, "options": case_of(row)})
        for index, row in zip(rows.index, rows.itertuples(), strict=True)
    ]
    done = subprocess.run(
        [str(python), "-c", WORKER],
        input="\n".join(cases),
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line[7:] for line in done.stdout.splitlines() if line.startswith("ANSWER ")]
    if not lines:
        raise ValueError(f"{python} gave no answer: {done.stderr.strip()[-200:]}")
    answers = pd.DataFrame([json.loads(line) for line in lines]).set_index("row")
    return rows.join(
        answers[[name for name in ("tpot", "error") if name in answers]].rename(
            columns={"tpot": "peer"}
        )
    )


def rows_of(rows: pd.DataFrame):
    """(configuration, measurements): all rows, and by family, GPU and framework."""
    answered = rows[rows["peer"].notna()]
    for what in ("all", "family", "gpu", "framework"):
        groups = [(None, answered)] if what == "all" else answered.groupby(what)
        for value, group in groups:
            if len(group) < servings.FEWEST:
                continue
            for name, column in (("peer", "peer"), ("one set", "grade1"), ("own", "grade2")):
                config = {"planner": PLANNER, "what": what, "which": value, "forecast": name}
                yield (
                    config,
                    silicon.errors(group[column], group["tpot"])
                    | {
                        "sampled": len(rows) if what == "all" else None,
                    },
                )


def main() -> None:
    parser = options.parser(__doc__)
    parser.add_argument("--peer", type=Path, required=True, help="Python with the planner")
    parser.add_argument("--output", type=Path, default=records.path("silicon_peer"))
    args = parser.parse_args()
    try:
        file, source = kernel_tables.wheel("core"), records.provenance(seed=SEED)
        models = servings.served_models(file)
        rows, _ = servings.keep(servings.parse(kernel_tables.servings(file)), models)
        groups = rows.groupby(["family", "gpu", "framework", "precision"], group_keys=False)
        sample = groups.apply(lambda group: group.sample(min(len(group), EACH), random_state=SEED))
        sample = sample if "family" in sample else rows.loc[sample.index]
        scored = ask(args.peer, servings.forecasts(sample, models))
        if "error" in scored:
            print(scored["error"].dropna().str.split(":").str[0].value_counts().to_string())
        for config, measured in rows_of(scored):
            if records.missing(args.output, [config]):
                row = records.append(args.output, config, measured, source)
                print(
                    *config.values(), f"{row['rows']} rows {row['error_median']:.1f} %", flush=True
                )
    except (ValueError, OSError) as error:
        sys.exit(f"silicon_peer: {error}")


if __name__ == "__main__":
    main()
