"""Published scores of language models by size: read, with what is wrong in them set right.

The table is that of Ruan et al. (2024), "Observational scaling laws": 148 base models on eight
benchmarks. Everything that is left out or changed stands in this file.
"""

from dataclasses import dataclass

from . import public_runs


@dataclass(frozen=True)
class Benchmark:
    """A column of scores: what it is taken to measure, and what guessing scores.

    ``claimed`` is the size at which one article has its gains level off.
    """

    name: str
    capability: str
    chance: float
    claimed: float | None = None


BENCHMARKS = {
    benchmark.name: benchmark
    for benchmark in (
        Benchmark("MMLU", "knowledge", 0.25, 30e9),
        Benchmark("GSM8K", "reasoning", 0.0, 70e9),
        Benchmark("ARC-C", "reasoning", 0.25, 70e9),
        Benchmark("HumanEval", "code", 0.0, 34e9),
        Benchmark("HellaSwag", "language", 0.25, 13e9),
        Benchmark("Winograd", "language", 0.5, 13e9),
        Benchmark("XWinograd", "language", 0.5, 13e9),
        Benchmark("TruthfulQA", "truthfulness", 0.0),  # by probability mass: no plain chance level
    )
}
COLUMNS = {
    "Model": "model",
    "Model Family": "family",
    "Model Size (B)": "params",
    "Pretraining Data Size (T)": "tokens",
    "FLOPs (1E21)": "operations",
}
# Sparse models have two sizes, and the table mixes them: it has 45 and 39 billion for the two
# Mixtrals, whose totals are 46.7 and 140.6 and whose active sizes are 12.9 and 39.2.
SPARSE = (
    "mistralai/Mixtral-8x7B-v0.1",
    "mistralai/Mixtral-8x22B-v0.1",
    "Qwen/Qwen2-57B-A14B",
    "deepseek-ai/DeepSeek-V2",
    "deepseek-ai/DeepSeek-Coder-V2-Base",
    "deepseek-ai/deepseek-moe-16b-base",
    "ai21labs/Jamba-v0.1",
)
TUNED = ("RWKV/rwkv-raven-14b",)  # fine-tuned on instructions, the others are base models
EIGHT_BIT = "meta-llama/Meta-Llama-3.1-405B-FP8"  # the only row of quantized weights
# Wrong by their own names and cards: 13 for a model of 7 billion, 627 trillion tokens for billion.
CORRECTED = {
    "openlm-research/open_llama_7b_v2": {"params": 7e9},
    "cerebras/btlm-3b-8k-base": {"tokens": 0.627e12},
}


def table(as_published: bool = False):
    """Scores by model: ``model``, ``family``, ``params``, ``tokens``, ``operations``, benchmarks.

    Sizes are in parameters, data in tokens, operations are 6 N D; unknown ones are missing. With
    ``as_published`` nothing is left out or changed.
    Raises ValueError if the table cannot be had.
    """
    import pandas

    rows = pandas.read_csv(public_runs.fetch("benchmarks")).rename(columns=COLUMNS)
    rows["params"] *= 1e9
    rows["tokens"] *= 1e12
    rows["operations"] *= 1e21
    if as_published:
        return rows
    rows = rows[~rows["model"].isin([*SPARSE, *TUNED])].reset_index(drop=True)
    for model, right in CORRECTED.items():
        here = rows["model"] == model
        for column, value in right.items():
            rows.loc[here, column] = value
        rows.loc[here, "operations"] = 6 * rows.loc[here, "params"] * rows.loc[here, "tokens"]
    return rows


def emergent():
    """Tasks of which abilities that emerge were reported, with the sizes of `table`.

    Columns are named ``task_shots_metric``; ``bleu`` is in percent, the others are shares.
    """
    import pandas

    rows = pandas.read_csv(public_runs.fetch("emergent")).rename(columns=COLUMNS)
    sizes = table()[["model", "family", "params", "tokens", "operations"]]
    return sizes.merge(rows, on="model", how="inner")


def pythia():
    """Final scores of the Pythia suite, with ``params`` from the models' names.

    Columns ``model``, ``shots``, ``task``, ``metric``, ``value``, ``params``. The names are sizes
    that count embeddings. Source: Biderman et al. (2023), the evaluations in their repository.
    """
    rows = public_runs.fetch_rows("pythia")
    size = rows["model"].str.split("-").str[0]
    rows["params"] = size.map(lambda s: float(s[:-1]) * {"m": 1e6, "b": 1e9}[s[-1]])
    return rows


def speedrun():
    """Records of training to one loss on eight H100: ``record``, ``days``, ``minutes``, ``date``.

    Days count from the first record. A record that was timed again under new rules keeps its
    first time.
    """
    import pandas

    rows = public_runs.fetch_rows("speedrun")
    rows = rows.rename(columns={"minutes_8xH100": "minutes"})
    rows = rows.drop_duplicates("record").reset_index(drop=True)
    dates = pandas.to_datetime(rows["date"])
    rows["days"] = (dates - dates.iloc[0]).dt.days.astype(float)
    return rows
