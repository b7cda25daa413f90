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
    frame = frame.assign(gigabytes=frame["parameters"] / 1e9, right=100 * frame["right"])
    return frame[["family", "model", "gigabytes", "right"]]


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
    gains = rows.pivot(index="table", columns="params", values="gain")[list(SIZES)]
    shares = gains / gains.shift(axis=1)
    names = ["gain", "low", "high", "share", "least_share", "most_share"]
    parts = [values.agg(["median", "min", "max"]) for values in (gains, shares)]
    frame = pd.concat(parts).set_axis(names).T.reset_index()
    larger = 10 * frame["params"]
    return frame.assign(measured=larger <= largest, gigabytes=larger / 1e9)


def machines() -> pd.DataFrame:
    """Bytes of the weights by size at 16, 8 and 4 bits: ``params``, ``bits``, ``bytes``."""
    sizes = (*SIZES, 1e13)
    lines = [(size, bits, size * bits / 8) for bits in (16, 8, 4) for size in sizes]
    return pd.DataFrame(lines, columns=["params", "bits", "bytes"])


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
    rows["framework"] = rows["framework"].map(names).fillna("all servings")
    shares = ["floor_share_median", "floor_share_high", "floor_share_low"]
    frame = (1 / rows.set_index("framework")[shares]).set_axis(["times", "low", "high"], axis=1)
    frame.insert(0, "servings", rows["rows"].astype(int).to_numpy())
    return frame.sort_values("times").reset_index()


def bits() -> pd.DataFrame:
    """Divergence of Llama 3 8B from itself in 16 bits by file type: ``type``, ``bits``, ``kl``."""
    board = records.fact("quantization", "llama-cpp-scoreboard-llama-3-8b")
    frame = pd.DataFrame(board["types"])
    params = catalog.model("llama-3.1-8b").published_total
    return frame.assign(bits=frame["gib"] * 2**30 * 8 / params)[["type", "bits", "kl"]]


FAMILIES = {  # larger base or chat model of one maker and recipe, on MMLU-Pro
    "Llama 2 13B to Llama 2 70B": "Llama 2, 13B to 70B",
    "Yi 6B to Yi 34B": "Yi, 6B to 34B",
    "Qwen1.5 7B Chat to Qwen1.5 72B Chat": "Qwen1.5, 7B to 72B",
    "Llama 3 8B to Llama 3 70B": "Llama 3, 8B to 70B",
    "Llama 3.1 8B to Llama 3.1 70B": "Llama 3.1, 8B to 70B",
}


def items() -> pd.DataFrame:
    """Shares of MMLU-Pro's questions that only one of two models gets right, in percent.

    ``pair``, ``only_small``, ``only_large``, their difference ``gain`` in points, and ``items``.
    """
    rows = small_versus_large.part("pair", kind="family").sort_values("gain")
    rows["pair"] = (rows["small_name"] + " to " + rows["large_name"]).map(FAMILIES)
    for name in ("only_small", "only_large"):
        rows[name] = 100 * rows[name] / rows["items"]
    columns = ["pair", "only_small", "only_large", "gain", "items"]
    return rows[columns].dropna().reset_index(drop=True)
