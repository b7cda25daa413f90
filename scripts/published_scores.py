"""Analyse published score tables and record our results; the tables stay where they are.

    python scripts/published_scores.py
    SIZEWISE_PUBLISHED=folder python scripts/published_scores.py     # without a web

Four tables come from public repositories at pinned commits and are checked by SHA-256: base models
on eight benchmarks and on tasks of which emergence was reported (Ruan et al. 2024), the Pythia
suite (Biderman et al. 2023), and the records of a training speedrun. Rows go to
data/published_scores.jsonl; what has a row is not computed again.
"""

import argparse
import sys
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from common import public_tables, returns
from sizewise.data import records
from sizewise.scaling_laws import plateau

SEED = 0
SAMPLES = 2000
REFITS = 400  # resamples of families that fit a curve anew
BENCHMARKS = public_tables.benchmarks()
NAMES = list(BENCHMARKS)
CLAIMED = {b.name: b.claimed for b in BENCHMARKS.values() if b.claimed}
EDGES = (0.0, 1e9, 6e9, 12e9, 34.5e9, 1e12)  # starting sizes; 34 billion is below the last
ALIKE = (6e9, 9e9)  # sizes between which models count as of one size
RELEASES = {  # one maker's sizes near 7 and near 70 billion, numbered by release
    "Llama": 1,
    "Llama-2": 2,
    "Llama-3": 3,
    "Llama-3.1": 4,
    "Qwen": 1,
    "Qwen1.5": 2,
    "Qwen2": 3,
}
REFERENCES = (
    "bigscience/bloom",
    "huggyllama/llama-65b",
    "meta-llama/Llama-2-70b-hf",
    "tiiuae/falcon-180B",
)
TASKS = (
    "parsinlu_qa_2_acc",
    "word_unscrambling_2_exact_match",
    "ipa_transliterate_2_exact_match",
    "ipa_transliterate_2_bleu",
    "arithmetic_3ds_2_acc",
    "arithmetic_3da_2_acc",
    "arithmetic_2dm_2_acc",
    "arithmetic_2da_2_acc",
)
CHANCE = {"parsinlu_qa_2_acc": 0.25}  # four answers to choose from
SUITE = (
    "lambada_openai",
    "sciq",
    "piqa",
    "arc_easy",
    "arc_challenge",
    "winogrande",
    "logiqa",
    "wsc",
    "mmlu_macro57",
)
DISPUTED = ("160m", "160m-deduped")  # its LAMBADA score could not be reproduced by a reader


def curves(name: str) -> list[dict]:
    claimed = CLAIMED[name]
    free = [{"curve": c} for c in ("smooth", "capped", "line")]
    at = [{"curve": c, "break": claimed} for c in ("plateau", "bent", "hinge")]
    return [*free, *at, {"curve": "plateau", "break": "free"}]


GRID = [
    *(
        {"what": "gain", "benchmark": b, "from_params": lo, "to_params": hi}
        for b in NAMES
        for lo, hi in pairwise(EDGES)
    ),
    *({"what": "overall", "benchmark": b} for b in NAMES),
    *(
        {"what": "beyond", "benchmark": b, "from_params": n, "without": w}
        for b, n in CLAIMED.items()
        for w in ("nothing", "8-bit")
    ),
    *({"what": "curve", "benchmark": b} | c for b in CLAIMED for c in curves(b)),
    *(
        {"what": "kept_slope", "benchmark": b, "break": n, "samples": REFITS}
        for b, n in CLAIMED.items()
    ),
    *({"what": "power", "benchmark": b, "break": n} for b, n in CLAIMED.items()),
    *(
        {"what": "rank", "benchmark": b, "by": by}
        for b in NAMES
        for by in ("params", "tokens", "operations")
    ),
    *(
        {"what": "smaller_wins", "benchmark": b, "times": k, "rows": r}
        for b in NAMES
        for k in (2, 8)
        for r in (("corrected", "as published") if b == "MMLU" else ("corrected",))
    ),
    *(
        {"what": "alike", "benchmark": b, "from_params": ALIKE[0], "to_params": ALIKE[1]}
        for b in NAMES
    ),
    *(
        {"what": "generation", "benchmark": b, "family": f, "release": k}
        for b in ("MMLU", "GSM8K", "HumanEval", "HellaSwag")
        for f, k in RELEASES.items()
    ),
    *(
        {"what": "overtaken", "benchmark": b, "model": m}
        for b in ("MMLU", "GSM8K", "HellaSwag")
        for m in REFERENCES
    ),
    *({"what": "climb", "task": t, "by": by} for t in TASKS for by in ("operations", "params")),
    *(
        {"what": "excess", "task": t, "by": by, "samples": REFITS}
        for t in TASKS
        for by in ("operations", "params")
    ),
    *(
        {"what": "suite", "task": t, "shots": s, "without": "nothing"}
        for t in SUITE
        for s in ("zero", "five")
    ),
    {"what": "suite", "task": "lambada_openai", "shots": "zero", "without": "160m"},
    {"what": "speedrun"},
]
TABLES = {
    "climb": "emergent",
    "excess": "emergent",
    "suite": "pythia",
    "speedrun": "speedrun",
}


@cache
def points(name: str) -> plateau.Points:
    return plateau.Points.from_table(public_tables.scores(), BENCHMARKS[name])


@cache
def predictions(name: str, curve: str, at: float | None):
    return returns.predict(points(name), curve, at)


def gain(config: dict) -> dict:
    """What a doubling brings, for pairs that start in a range of sizes."""
    rows = returns.pairs(public_tables.scores(), BENCHMARKS[config["benchmark"]])
    low, high = config.get("from_params", 0), config.get("to_params", np.inf)
    rows = rows[(rows["start"] >= low) & (rows["start"] < high)]
    if config.get("without") == "8-bit":
        rows = rows[rows["end"] != 405e9]
    result = {"pairs": len(rows), "families": rows["family"].nunique()}
    if not len(rows):
        return result
    result |= named(returns.average(rows, "gain", np.mean, SAMPLES, SEED), "gain")
    error = returns.average(rows, "error", np.median, SAMPLES, SEED)
    result |= named({k: v if v is None else 2**v for k, v in error.items()}, "error_ratio")
    return result | named(
        returns.average(rows, "elasticity", np.median, SAMPLES, SEED), "elasticity"
    )


def curve(config: dict) -> dict:
    """One curve fitted to a benchmark, and how well it predicts families it has not seen."""
    name, at = config["benchmark"], config.get("break")
    at = None if at == "free" else at
    fitted = plateau.fit(points(name), config["curve"], at)
    unseen, rival = predictions(name, config["curve"], at), predictions(name, "capped", None)
    wrong = 100 * (unseen["observed"] - unseen["predicted"])
    large = wrong[unseen["x"] > np.log2(CLAIMED[name])]
    return {
        "models": len(points(name).y),
        "families": len(fitted.offsets),
        "best_score": float(points(name).y.max()),
        "slope": float(fitted.slopes[0]),
        "ceiling": fitted.ceiling,
        "found_break": float(2**fitted.at) if np.isfinite(fitted.at) else None,
        "bic": float(returns.bic(points(name), fitted)),
        "held_out_error": float(np.sqrt((wrong**2).mean())),
        "foretold": len(unseen),
        "capped_better": returns.better(rival, unseen, SAMPLES, SEED),
        "foretold_beyond": len(large),
        "bias_beyond": float(large.mean()),
        "error_beyond": float(np.sqrt((large**2).mean())),
    }


def alike(config: dict) -> dict:
    """The spread of scores among models of nearly one size."""
    rows = public_tables.scores()
    rows = rows[rows["params"].between(config["from_params"], config["to_params"])]
    values = rows[config["benchmark"]].dropna()
    low, high = values.min(), values.max()
    return {"models": len(values), "least": float(low), "most": float(high)}


def generation(config: dict) -> dict:
    """A small and a large model of one release: how far apart, in points and in errors."""
    rows, name = public_tables.scores(), config["benchmark"]
    rows = rows[rows["family"] == config["family"]].dropna(subset=[name])
    small = rows.loc[(rows["params"] - 7e9).abs().idxmin()]
    large = rows.loc[(rows["params"] - 70e9).abs().idxmin()]
    return {
        "small_params": float(small["params"]),
        "large_params": float(large["params"]),
        "small_score": float(small[name]),
        "large_score": float(large[name]),
        "gap": 100 * float(large[name] - small[name]),
        "error_ratio": float((1 - large[name]) / (1 - small[name])),
    }


def overtaken(config: dict) -> dict:
    """The smallest model of the table that scores at least as high as a large one."""
    rows, name = public_tables.scores(), config["benchmark"]
    large = rows[rows["model"] == config["model"]].iloc[0]
    best = rows[rows[name] >= large[name]].sort_values("params").iloc[0]
    return {
        "large_params": float(large["params"]),
        "large_score": float(large[name]),
        "small_model": best["model"],
        "small_params": float(best["params"]),
        "small_score": float(best[name]),
    }


def climbing(task: str, by: str):
    rows = public_tables.emergent().dropna(subset=[task, by]).copy()
    if task.endswith("bleu"):
        rows[task] /= 100
    return rows


def climb(config: dict) -> dict:
    task, by = config["task"], config["by"]
    rows, chance = climbing(task, by), CHANCE.get(task, 0.0)
    curve = returns.climb(rows[by], rows[task], chance)
    return {
        "models": len(rows),
        "onset": returns.onset(curve),
        "decades": returns.decades(curve),
        "ceiling": curve.top,
        "most_params": float(rows["params"].max()),
    }


def excess(config: dict) -> dict:
    task, by = config["task"], config["by"]
    rows, chance = climbing(task, by), CHANCE.get(task, 0.0)
    result = returns.excess(rows, task, chance, by, REFITS, SEED)
    return named(result, "excess") | {k: result[k] for k in ("cut", "models", "foretold")}


def suite(config: dict) -> dict:
    """The Pythia suite: least-squares gain a doubling, of one recipe from 70 million up."""
    rows = public_tables.pythia()
    rows = rows[(rows["task"] == config["task"]) & (rows["shots"] == config["shots"])]
    if config["without"] == "160m":
        rows = rows[~rows["model"].isin(DISPUTED)]
    rows = rows[rows["metric"] == "acc"]
    x, y = np.log2(rows["params"].to_numpy()), 100 * rows["value"].to_numpy()
    slope, start = np.polyfit(x, y, 1)
    # The scatter about the line holds the two data sets (plain, deduplicated) and any bend.
    error = np.sqrt(
        ((y - slope * x - start) ** 2).sum() / (len(x) - 2) / ((x - x.mean()) ** 2).sum()
    )
    by_size = rows.groupby("params")["value"].mean()
    return {
        "models": len(rows),
        "gain": float(slope),
        "gain_low": float(slope - 1.96 * error),
        "gain_high": float(slope + 1.96 * error),
        "small_params": float(by_size.index[0]),
        "large_params": float(by_size.index[-1]),
        "small_score": float(by_size.iloc[0]),
        "large_score": float(by_size.iloc[-1]),
    }


def speedrun(config: dict) -> dict:
    rows = public_tables.speedrun()
    times = returns.doubling_times(rows["days"], rows["minutes"], SAMPLES, seed=SEED)
    ends = {
        "first_minutes": rows["minutes"].iloc[0],
        "last_minutes": rows["minutes"].iloc[-1],
        "last_day": rows["days"].iloc[-1],
    }
    return times | {"records": len(rows)} | {name: float(v) for name, v in ends.items()}


def measure(config: dict) -> dict:
    """The measurements of one row."""
    name, bench = config.get("benchmark"), BENCHMARKS.get(config.get("benchmark"))
    match config["what"]:
        case "gain" | "overall" | "beyond":
            return gain(config)
        case "curve":
            return curve(config)
        case "kept_slope":
            return named(plateau.kept_slope(points(name), config["break"], REFITS, SEED), "kept")
        case "power":
            return returns.power(points(name), config["break"], seed=SEED)
        case "rank":
            rows = public_tables.scores().dropna(
                subset=["operations"]
            )  # the same models for all three
            result = returns.rank(rows, bench.name, config["by"], SAMPLES, SEED)
            return named(result, "rank") | {"models": result["models"]}
        case "smaller_wins":
            rows = public_tables.scores(config["rows"] == "as published")
            result = returns.smaller_wins(rows, name, config["times"], SAMPLES, SEED)
            return named(result, "smaller_wins") | {"pairs": result["pairs"]}
    measures = {
        "alike": alike,
        "generation": generation,
        "overtaken": overtaken,
        "climb": climb,
        "excess": excess,
        "suite": suite,
        "speedrun": speedrun,
    }
    return measures[config["what"]](config)


def named(result: dict, name: str) -> dict:
    """value, low and high under a name; what is not known is left out."""
    ends = {"value": name, "low": f"{name}_low", "high": f"{name}_high"}
    return {ends[k]: v for k, v in result.items() if k in ends and v is not None}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", help="another file than data/published_scores.jsonl")
    parser.add_argument("--list", action="store_true", help="print what would be computed")
    args = parser.parse_args()
    file = Path(args.output) if args.output else records.path("published_scores")
    grid = [{"table": TABLES.get(config["what"], "benchmarks")} | config for config in GRID]
    todo = records.missing(file, grid)
    for place, config in enumerate(todo, 1):
        line = " ".join(f"{v:g}" if isinstance(v, float) else str(v) for v in config.values())
        if not args.list:
            try:
                measured = measure({k: v for k, v in config.items() if k != "table"})
            except ValueError as error:
                print(f"published_scores: {error}", file=sys.stderr)
                sys.exit(2)
            measured = {k: v for k, v in measured.items() if v is not None}
            records.append(file, config, measured, records.provenance(seed=SEED))
        print(f"[{place}/{len(todo)}] {line}", flush=True)


if __name__ == "__main__":
    main()
