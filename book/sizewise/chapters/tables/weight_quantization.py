"""Tables of the chapter on weight quantization: recorded rows, published speeds, a recipe."""

import math

import numpy as np
import pandas as pd

from sizewise.costs import memory
from sizewise.data import records
from sizewise.models import parameters

from . import display

NAMES = {
    "fp32": "fp32",
    "bf16": "bf16",
    "int8": "LLM.int8()",
    "fp8": "FP8",
    "q8_0": "Q8_0",
    "nf4": "NF4",
    "nf4-dq": "NF4, scales in 8 bits",
    "fp4": "FP4",
    "mxfp4": "MXFP4",
    "nvfp4": "NVFP4",
    "q4_0": "Q4_0",
    "int4": "int4, nearest",
    "hqq4": "int4, HQQ",
    "awq4": "int4, AWQ-style",
    "gptq4": "int4, GPTQ",
    "nf3": "NF3",
    "int3": "int3, nearest",
    "hqq3": "int3, HQQ",
    "awq3": "int3, AWQ-style",
    "gptq3": "int3, GPTQ",
}
MODELS = {name: display.written(name) for name in display.SMALL}
SUBJECT = "dense-192"  # never rounded
TEXTS = ("validation", "bbc")
ONE_START = ("fp32", "bf16", "int8", "fp8")  # no groups, or one a row: nothing to shift
ENDS = ("", "_low", "_high")
CARDS = (12, 16, 24)  # GB of memory that graphics cards for the home have


def language(rows, text: str = TEXTS[0]):
    """The laboratory's model by format: what each adds (bits a byte, and as a share of its loss).

    ``rows`` are of kind ``quality``. Intervals cover documents and where groups of weights begin:
    by the recorded starts of the format, or, for formats in groups with one start, by the spread
    over the others'.
    """
    roundings = starts(rows)
    spread, freedom = relative_spread(roundings)
    table = rows[(rows["model"] == SUBJECT) & (rows["text"] == text) & rows["shift"].isna()]
    table = table.set_index("format", drop=False)
    costs = {}
    for form, row in table.iterrows():
        costs[form] = [row[f"loss_change{end}"] for end in ENDS]
        if form in roundings and text == TEXTS[0]:
            costs[form] = with_roundings(*costs[form], roundings[form])
        elif form not in ONE_START:
            costs[form] = _widened(*costs[form], spread, freedom)
    names = [f"loss_change{end}" for end in ENDS]
    table[names] = pd.DataFrame(costs, index=names).T
    lost = (table[names] / table.loc["fp32", "bits_per_byte"]).set_axis(
        [f"lost{end}" for end in ENDS], axis="columns"
    )
    return _labelled(table.join(lost))


def with_roundings(value: float, low: float, high: float, starts) -> tuple[float, float, float]:
    """A cost and its 95 % interval over documents and over where groups of weights begin.

    ``value``, ``low`` and ``high`` are of one start on many documents; ``starts`` are costs of K
    starts on fewer ones, the first of them the same start. Their mean corrects the value (which
    is of one start alone), and its standard error, by Student's t with K - 1 degrees of freedom,
    joins the interval over documents in quadrature. Raises ValueError for fewer than 2 starts.
    """
    from scipy.stats import t

    starts = np.asarray(starts, float)
    if len(starts) < 2:
        raise ValueError(f"an interval over roundings needs 2 starts, got {len(starts)}")
    moved = value + starts.mean() - starts[0]
    error = t.ppf(0.975, len(starts) - 1) * starts.std(ddof=1) / len(starts) ** 0.5
    return moved, moved - np.hypot(value - low, error), moved + np.hypot(high - value, error)


def starts(rows) -> dict:
    """What a format adds from each recorded start of its groups, by format, no shift first."""
    shifted = rows[rows["shift"].notna()].sort_values("shift")
    groups = shifted.groupby("format")["loss_change"]
    return {form: costs.to_numpy() for form, costs in groups if len(costs) > 1}


def relative_spread(roundings: dict) -> tuple[float, int]:
    """Standard deviation of a cost over starts as a share of it, by all formats, and its freedom.

    ``roundings`` is what `starts` gives.
    """
    shares = [np.var(costs, ddof=1) / np.mean(costs) ** 2 for costs in roundings.values()]
    return float(np.mean(shares) ** 0.5), sum(len(costs) - 1 for costs in roundings.values())


def _widened(value, low, high, spread: float, freedom: int):
    from scipy.stats import t

    error = t.ppf(0.975, freedom) * spread * abs(value)
    return value, value - np.hypot(value - low, error), value + np.hypot(high - value, error)


def encoders(rows, model: str):
    """An encoder in each format, unpruned: share of neighbours lost, with intervals over texts."""
    table = rows[(rows["model"] == model) & rows["share"].isna()]
    table = table.set_index("format", drop=False)
    lost = {
        f"lost{end}": 1 - table[f"recall{other}"]
        for end, other in zip(ENDS, ("", "_high", "_low"), strict=True)
    }
    return _labelled(table.assign(**lost))


def by_width(model, encoder):
    """What formats of eight, four and three bits cost, least to most: loss and neighbours.

    ``model`` is of `language`, ``encoder`` of `encoders`, with the same formats.
    """
    rows = []
    for width in (8, 4, 3):
        forms = model.index[model["bits"].between(width, width + 0.6)]
        loss, lost = (table.loc[forms, "lost"] for table in (model, encoder))
        rows.append(
            {
                "bits": width,
                "formats": len(forms),
                "added to the loss": f"{loss.min():.2%} to {loss.max():.2%}"
                if loss.max() >= 1e-4
                else "under 0.01%",
                "neighbours misplaced": f"{lost.min():.0%} to {lost.max():.0%}",
            }
        )
    return pd.DataFrame(rows)


def _labelled(table):
    label = [f"{NAMES[r.format]}, {r.bits:.2f} bits" for r in table.itertuples()]
    return table.assign(label=label)


def order_agreement(first, second) -> float:
    """Rank correlation of what formats cost in two tables, over the formats of both but fp32."""
    both = first[["lost"]].join(second["lost"], rsuffix="_second", how="inner").drop("fp32")
    return float(both.corr(method="spearman").iloc[0, 1])


def ladder(rows):
    """One size of model over training tokens, by format: loss added (bits a byte) and KL.

    ``rows`` are of kind ``training``.
    """
    rows = rows[rows["format"] != "fp32"].sort_values(["format", "trained_tokens"])
    return rows.assign(per_parameter=rows["trained_tokens"] / rows["parameters"])


def exponents(table):
    """By format, the power of training tokens with which a cost grows, and its 95 % interval.

    A line through the logarithms, one point a trained model; the interval is Student's of the
    residuals, which hold whatever tells one training from another. Kumar et al. 2024 predict a
    power above 0. NaN where a cost is not above 0.
    """
    from scipy.stats import linregress, t

    rows = []
    for form, subset in table.groupby("format", sort=False):
        power, half, growth, cost = np.nan, np.nan, np.nan, subset["loss_change"]
        if (cost > 0).all():
            line = linregress(np.log(subset["trained_tokens"]), np.log(cost))
            power, half = line.slope, t.ppf(0.975, len(subset) - 2) * line.stderr
            growth = cost.iloc[-1] / cost.iloc[0]
        ends = {"power": power, "power_low": power - half, "power_high": power + half}
        rows.append({"format": form, **ends, "growth": growth})
    return pd.DataFrame(rows).set_index("format")


def equal_bytes(rows, full, column: str):
    """Half of the weights pruned and NF4 together, beside each alone and NF3 of as many bytes.

    ``rows`` hold the pruned model, ``full`` the dense formats by name; ``column`` is the cost.
    """
    pruned = rows[rows["share"] == 0.5].set_index("format")
    columns = ["bits", *(f"{column}{end}" for end in ENDS)]
    table = {
        "50% pruned, NF4": pruned.loc["nf4", columns],
        "NF3, dense": full.loc["nf3", columns],
        "NF4, dense": full.loc["nf4", columns],
        "50% pruned alone": pruned.loc["fp32", columns],
    }
    return pd.DataFrame(table).T.rename_axis("weights").reset_index()


def as_used(rows):
    """Bits a parameter with what the format leaves alone in bf16: codes, scales, tables and rest.

    Rows of an older kind have bytes by role, with the rest in fp32.
    """
    coded = rows[["codes_bytes", "scales_bytes", "codebooks_bytes"]].sum(axis=1)
    stored = coded + rows["high_precision_bytes"].where(
        coded == 0, rows["high_precision_bytes"] / 2
    )
    if "stored_bytes" in rows:
        stored = rows["stored_bytes"].fillna(stored)
    return 8 * stored / rows["parameters"]


def speeds():
    """Published speed over that of bf16, both sides: who measured, on what, in which format."""
    h100, ada = "bitsandbytes-h100-llama-3.1-8b", "bitsandbytes-rtx4090-llama-3.1-8b"
    vllm, compiled = "torchao-h100-llama-3.1-8b", "torchao-h100-compiled-llama-3.1-8b"
    rows = [
        ("NF4, bitsandbytes", "RTX 4090, 1 sequence", ada, "nf4_batch_1"),
        ("NF4, bitsandbytes", "RTX 4090, 8", ada, "nf4_batch_8"),
        ("LLM.int8(), outliers rounded too", "RTX 4090, 32", ada, "int8-plain_batch_32"),
        ("NF4, bitsandbytes", "H100, 1", h100, "nf4_batch_1"),
        ("LLM.int8()", "H100, 1", h100, "int8_batch_1"),
        ("int4, torchao, compiled", "H100, 1", compiled, "int4_batch_1"),
        ("int8, torchao, compiled", "H100, 1", compiled, "int8_batch_1"),
        ("int8 weights, vLLM", "H100, full load", vllm, "int8_decode"),
        ("FP8, vLLM", "H100, full load", vllm, "fp8_decode"),
    ]

    def speedup(source: str, name: str) -> float:
        figures = records.fact("quantization", source)["figures"]
        plain, coded = figures[f"bf16_{name.split('_', 1)[1]}"], figures[name]
        ratio = coded["value"] / plain["value"]
        return 1 / ratio if plain["unit"].startswith("s/") else ratio

    columns = ("format", "where", "speed over bf16")
    table = [(form, where, speedup(*entry)) for form, where, *entry in rows]
    return pd.DataFrame(table, columns=columns)


def published_losses() -> dict[str, float]:
    """What llama.cpp's types of file add to the perplexity of Llama 3 8B, as a share: published."""
    board = records.fact("quantization", "llama-cpp-scoreboard-llama-3-8b")
    base = board["base_perplexity"]
    return {entry["type"]: entry["perplexity_change"] / base for entry in board["types"]}


def files(models: dict[str, str], types=("q8_0", "q4_K_M", "q3_K_M"), context: int = 8192):
    """GGUF files of models: gigabytes with the cache of a context, the card that holds them, loss.

    ``models`` maps names of the catalogue to those on the page. The card is the smallest of
    `CARDS`, "barely" where more of it is taken than `memory.USABLE`, as much as the command takes
    to be free; the loss is that of Llama 3 8B (`published_losses`).
    """
    rows = []
    for kind in types:
        row = {"file": kind.upper()}
        for name, title in models.items():
            model = parameters.describe(name)
            total = memory.total_memory(model, weights=kind.lower(), context=context)
            size = total.total_bytes / 1e9
            card = next((card for card in CARDS if size <= card), math.inf)
            barely = ", barely" if size > memory.USABLE * card else ""
            where = f"{card} GB card{barely}" if card < math.inf else "none of them"
            row[title] = f"{size:.1f} GB: {where}"
        rows.append(row | {"perplexity": published_losses()[kind]})
    return pd.DataFrame(rows)


def divergences():
    """llama.cpp's KL divergence by type of file: Llama 2 7B, Llama 3 8B, and their ratio."""
    table = pd.DataFrame(records.fact("quantization", "llama-cpp-llama-2-against-3")["types"])
    return table.assign(ratio=table["llama_3_8b"] / table["llama_2_7b"])


def recipe(table, tolerances):
    """For each share given up, the format of fewest bits whose 95 % interval stays within it."""
    rows = []
    for tolerance in sorted(set(tolerances)):
        fits = table[(table["lost_high"] <= tolerance) | (table["format"] == "fp32")]
        best = fits.sort_values(["bits", "lost"]).iloc[0]
        row = {"given up": tolerance, "format": NAMES[best["format"]], "bits": best["bits"]}
        rows.append(row)
    return pd.DataFrame(rows)
