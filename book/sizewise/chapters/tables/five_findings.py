"""Frames behind the five findings and the front page, each from rows or facts of other chapters."""

import pandas as pd

from sizewise.costs import memory
from sizewise.costs.formats import WEIGHTS
from sizewise.data import catalog, records

from . import small_versus_large

SIZES = (1e9, 1e10, 1e11, 1e12)  # parameters before a tenfold
TENFOLD = (8, 12)  # times the size, to be called ten times
OURS = "our-ladder"  # three million parameters at most: it says nothing about these sizes
MACHINES = {  # the memory of what people have, from the catalogue: name -> (device, how many)
    "one RTX 4090": ("RTX-4090", 1),
    "a laptop (M4 Max)": ("M4-Max", 1),
    "a server of 8 H200": ("H200", 8),
    "a rack of 72 GB300": ("GB300", 72),
}


def families() -> pd.DataFrame:
    """Scores on MMLU-Pro of makers' smaller and larger models, and the memory of their weights.

    ``family``, ``model``, ``gigabytes`` at 8 bits, and ``right``, the percentage of questions.
    """
    frame = small_versus_large.by_size()
    sizes = frame.groupby("family")["parameters"]
    # What is called a tenfold is near one: of dense families, Yi grows less than sixfold.
    frame = frame[(sizes.transform("max") / sizes.transform("min")).between(*TENFOLD)]
    # Llama 3 would cover 3.1, and an instructed model its base.
    frame = frame[frame["family"].isin(["Llama 2", "Llama 3.1", "Qwen1.5 Chat"])]
    return pd.DataFrame(
        {
            "family": frame["family"],
            "model": frame["model"],
            "gigabytes": frame["parameters"] / 1e9,
            "right": 100 * frame["right"],
        }
    )


def tenfold_gains() -> pd.Series:
    """Points on MMLU-Pro between models of a family, one about ten times as large as the other."""
    sizes = small_versus_large.by_size().set_index("model")["parameters"]
    pairs = small_versus_large.part("pair", kind="family")
    ratio = pairs["large_name"].map(sizes) / pairs["small_name"].map(sizes)
    return pairs.loc[ratio.between(*TENFOLD), "gain"]


def tenfold() -> pd.DataFrame:
    """What a tenfold in parameters buys on the same tokens, by the laws of eight run tables.

    One row a size: ``params``, the median ``gain`` in nats and its ``low`` and ``high`` over the
    tables, ``share`` of the tenfold before it with ``least_share`` and ``most_share``, whether a
    run of any table was ``measured`` at the larger size, and ``gigabytes`` of that size at 8 bits.
    """
    rows = records.table("refit_published")
    largest = rows["most_params"].max()
    rows = rows[(rows["what"] == "growth") & (rows["table"] != OURS)]
    gains = rows.groupby("params")["gain"].agg(["median", "min", "max"]).loc[list(SIZES)]
    gains.columns = ["gain", "low", "high"]
    shares = rows.pivot(index="table", columns="params", values="gain")
    shares = (shares[list(SIZES)] / shares[list(SIZES)].shift(axis=1)).agg(["median", "min", "max"])
    gains[["share", "least_share", "most_share"]] = shares.T.to_numpy()
    gains["measured"] = [10 * size <= largest for size in SIZES]
    gains["gigabytes"] = [10 * size / 1e9 for size in SIZES]
    return gains.reset_index()


def machines(sizes=(1e9, 1e10, 1e11, 1e12, 1e13)) -> pd.DataFrame:
    """Bytes of the weights by size at 16, 8 and 4 bits: ``params``, ``bits``, ``bytes``."""
    return pd.DataFrame(
        [
            {"params": size, "bits": bits, "bytes": size * bits / 8}
            for bits in (16, 8, 4)
            for size in sizes
        ]
    )


def memories() -> pd.DataFrame:
    """Memory of the machines that people have: ``machine``, ``bytes``, largest size in 4 bits."""
    rows = []
    for name, (device, count) in MACHINES.items():
        spec = catalog.device(device)
        total = count * (spec.memory_real_bytes or spec.memory_bytes)
        rows.append({"machine": name, "bytes": total, "params": total / (4 / 8)})
    return pd.DataFrame(rows)


def h100s(params: float, weights: str = "fp8") -> int:
    """H100 GPUs that the weights alone fill."""
    total = params * WEIGHTS[weights].bits / 8
    return memory.least_devices(int(total), catalog.device("H100").memory_bytes)


def floors() -> pd.DataFrame:
    """Measured time over its floor, by serving framework: ``times`` and the middle 80 percent."""
    rows = records.table("silicon_servings")
    # The floors were mended after the first score; the forecast's factor uses the same rows.
    rows = rows[(rows["attempt"] == rows["attempt"].max()) & (rows["grade"] == 1)]
    rows = rows[rows["what"].isin(["all", "framework"])]
    names = {"vllm": "vLLM", "sglang": "SGLang", "trtllm": "TensorRT-LLM"}
    frame = pd.DataFrame(
        {
            "framework": rows["framework"].map(names).fillna("all servings"),
            "servings": rows["rows"].astype(int),
            "times": 1 / rows["floor_share_median"],
            "low": 1 / rows["floor_share_high"],
            "high": 1 / rows["floor_share_low"],
        }
    )
    return frame.sort_values("times").reset_index(drop=True)


def bits() -> pd.DataFrame:
    """Divergence of Llama 3 8B from itself in 16 bits by file type: ``type``, ``bits``, ``kl``."""
    (board,) = (
        row for row in records.facts("quantization") if row["name"].startswith("llama-cpp-score")
    )
    params = catalog.model("llama-3.1-8b").published_total
    frame = pd.DataFrame(board["types"])
    frame["bits"] = frame["gib"] * 2**30 * 8 / params
    return frame[["type", "bits", "kl"]]


FAMILIES = {  # smaller and larger model of one maker and recipe, on MMLU-Pro
    ("Llama-2-13b-hf", "Llama-2-70b-hf"): "Llama 2, 13B to 70B",
    ("Yi-6B", "Yi-34B"): "Yi, 6B to 34B",
    ("Qwen1.5-7B-Chat", "Qwen1.5-72B-Chat"): "Qwen1.5, 7B to 72B",
    ("Meta-Llama-3-8B", "Meta-Llama-3-70B"): "Llama 3, 8B to 70B",
    ("Meta-Llama-3_1-8B", "Meta-Llama-3_1-70B"): "Llama 3.1, 8B to 70B",
}


def items() -> pd.DataFrame:
    """Shares of MMLU-Pro's questions that only one of two models gets right, in percent.

    ``pair``, ``only_small``, ``only_large``, their difference ``gain`` in points, and ``items``.
    """
    rows = records.table("mmlu_pro")
    rows = rows[(rows["what"] == "pair") & (rows["kind"] == "family")]
    names = [FAMILIES.get(pair) for pair in zip(rows["small"], rows["large"], strict=True)]
    frame = pd.DataFrame(
        {
            "pair": names,
            "only_small": 100 * rows["only_small"] / rows["items"],
            "only_large": 100 * rows["only_large"] / rows["items"],
            "gain": rows["gain"],
            "items": rows["items"],
        }
    )
    return frame.dropna().sort_values("gain").reset_index(drop=True)
