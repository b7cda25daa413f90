"""Tables of the chapter on TurboQuant: what was printed, what KV caches cost real models."""

import math

import numpy as np
import pandas as pd

from sizewise.data import records

from . import kv_cache

MODELS = {
    "smollm2-135m": "SmolLM2 135M",
    "gemma-3-270m": "Gemma 3 270M",
    "qwen2.5-coder-0.5b": "Qwen2.5 0.5B",
}
METHODS = {"turboquant": "TurboQuant", "kivi": "KIVI", "prod": "TurboQuant prod"}
CENTERS = {"mean": "mean key taken out", "rope": "mean taken out before RoPE"}
SHORT, LONG = 257, 2049  # tokens of a window, the first of which is not predicted
IDENTITY = (  # what tells rows of quality apart, but for how many documents were read
    *("model", "keys", "keys_bits", "values", "values_bits", "rotation", "residual", "sink"),
    *("plain", "center", "fp8_scale", "seed", "text", "context"),
)
CHANGE = "perplexity_change"
ENDS = ("", "_low", "_high")


def quality(context: int = SHORT):
    """The rows on loss in windows of ``context``, each with its ``way`` in words.

    Of rows alike the one with most documents stays. What stays plain counts as sixteen bits.
    """
    rows = _recorded("quality").query("context == @context")
    rows = rows.sort_values("documents", kind="stable")
    rows = rows.drop_duplicates(list(IDENTITY), keep="last").sort_index().reset_index(drop=True)
    # Models run in fp32: plain tokens and plain sides were measured in 32 bits.
    saved = 16 * rows["residual"] / rows["context"]
    saved += sum(8.0 * rows[side].eq("plain") for side in ("keys", "values"))
    rows["bits"] -= saved.where(rows["plain"].isna(), 0)
    return rows.assign(way=[way(row) for row in rows.to_dict("records")])


def needles():
    """The rows on facts found again in a long text, each with its ``way`` in words."""
    rows = _recorded("needle")
    return rows.assign(way=[way(row) for row in rows.to_dict("records")])


def _recorded(kind: str):
    """Rows of a kind with every column that tells ways apart, also where it was never set."""
    rows = records.table("kv_quality").query("what == @kind")
    return rows.reindex(columns=list(dict.fromkeys([*rows, *IDENTITY])))


def way(row) -> str:
    """How a row stores keys and values, in a few words."""

    def method(side: str) -> str:
        if row[side] in ("plain", "int8", "fp8"):
            return row[side]
        return f"{METHODS.get(row[side], row[side])} {int(row[f'{side}_bits'])}"

    keys, values = method("keys"), method("values")
    parts = [keys if keys == values else f"K {keys}, V {values}"]
    if row["rotation"] == "hadamard":
        parts.append("Hadamard")
    if row["sink"] > 0:
        parts.append(f"first {int(row['sink'])} plain")
    if row["residual"] > 0:
        parts.append(f"newest {int(row['residual'])} plain")
    if row["center"] in CENTERS:
        parts.append(CENTERS[row["center"]])
    if row["fp8_scale"] == "token":
        parts.append("a scale a token")
    if row["seed"]:
        parts.append(f"seed {int(row['seed'])}")
    return ", ".join(parts)


def lines(rows, model: str):
    """Loss over bits of one model, keys and values alike: all packed, and in each method's mode."""
    rows = rows[(rows["model"] == model) & (rows["rotation"] == "haar") & (rows["seed"] == 0)]
    rows = rows[(rows["keys"] == rows["values"]) & rows["keys"].isin(("turboquant", "kivi"))]
    mode = (rows["residual"] > 0) & (rows["plain"] == "bf16")
    sink = rows["sink"].fillna(0) > 0
    forms = {
        "TurboQuant, mean out": mode & sink & (rows["center"] == "rope"),
        "TurboQuant": mode & sink & rows["center"].isna(),
        "KIVI": mode & (rows["keys"] == "kivi"),
        "TurboQuant, all packed": (rows["residual"] == 0)
        & ~sink
        & rows["center"].isna()
        & (rows["keys"] == "turboquant"),
    }
    return pd.concat([rows[chosen].assign(method=name) for name, chosen in forms.items()])


def complete(rows) -> list[str]:
    """Models with TurboQuant in its own mode at four, three and two bits, and KIVI in its own."""
    return [
        model
        for model in rows["model"].unique()
        if {(name, width) for name in ("TurboQuant", "KIVI") for width in (4, 2)}
        | {("TurboQuant", 3)}
        <= set(lines(rows, model)[["method", "keys_bits"]].itertuples(index=False, name=None))
    ]


def equal_bytes(rows):
    """TurboQuant against KIVI at TurboQuant's bytes, each in its own mode, by model and width.

    Between two of KIVI's widths the logarithm of the perplexity added is interpolated, and so are
    the ends of its interval; below its least width stands that one, though it stores more.
    ``better`` is the method whose interval lies wholly below the other's, if there is one.
    """
    table = []
    for model in rows["model"].unique():
        both = lines(rows, model).sort_values("bits")
        kivi = both[both["method"] == "KIVI"]
        if len(kivi) < 2:
            continue
        ours = both[both["method"].isin(["TurboQuant", "TurboQuant, mean out"])]
        for row in ours.to_dict("records"):
            other = {
                end: math.exp(
                    np.interp(
                        row["bits"], kivi["bits"], np.log(kivi[f"{CHANGE}{end}"].clip(lower=1e-4))
                    )
                )
                for end in ENDS
            }
            below = row[f"{CHANGE}_high"] < other["_low"]
            above = row[f"{CHANGE}_low"] > other["_high"]
            table.append(
                {
                    "model": model,
                    "method": row["method"],
                    "width": int(row["keys_bits"]),
                    "bits": row["bits"],
                    "KIVI's bits": max(row["bits"], kivi["bits"].min()),
                    "added": row[CHANGE],
                    "KIVI": other[""],
                    "better": "TurboQuant" if below else "KIVI" if above else "neither",
                }
            )
    return pd.DataFrame(table)


def sinks(rows):
    """Rows that leave the first tokens plain beside those that do so in nothing else.

    One row a model and way: the perplexity added ``without`` and ``with_first`` plain tokens, and
    whether the intervals lie apart (``differs``).
    """
    others = [name for name in IDENTITY if name not in ("sink", "plain")]
    plain = rows[rows["sink"].fillna(0) == 0].assign(**{name: rows[name] for name in others})
    pairs = rows[rows["sink"] > 0].merge(plain, on=others, suffixes=("_with", "_without"))
    return pd.DataFrame(
        {
            "model": pairs["model"],
            "way": pairs["way_without"],
            "without": pairs[f"{CHANGE}_without"],
            "with_first": pairs[f"{CHANGE}_with"],
            "differs": pairs[f"{CHANGE}_high_with"] < pairs[f"{CHANGE}_low_without"],
        }
    )


def advice(rows, tolerances):
    """For each loss that is accepted, the way of fewest bits that stays within it in every model.

    Within it at the upper end of its 95 % interval; only ways that all models of ``rows`` have.
    ``bits`` are the most that a model needs. If all lose more, the cache stays in bf16.
    """
    ways = rows.groupby("way").agg(
        models=("model", "nunique"), most=(f"{CHANGE}_high", "max"), bits=("bits", "max")
    )
    ways = ways[ways["models"] == rows["model"].nunique()].drop("plain", errors="ignore")
    ways.loc["bf16"] = {"models": rows["model"].nunique(), "most": 0.0, "bits": 16.0}
    ways = ways.sort_values("bits")
    picks = [ways[ways["most"] <= tolerance].iloc[0] for tolerance in tolerances]
    table = pd.DataFrame(picks).rename_axis("way").reset_index()
    return table.assign(tolerance=list(tolerances))


def remedies(rows, bits: int = 4):
    """Keys with a common part: the method as announced, both remedies, and KIVI's ranges."""
    names = {
        f"TurboQuant {bits}": "as announced",
        f"TurboQuant {bits}, {CENTERS['mean']}": "mean out",
        f"TurboQuant {bits}, {CENTERS['rope']}": "mean out before RoPE",
        f"KIVI {bits}": "KIVI",
    }
    models = list(reversed(MODELS))
    table = rows[rows["way"].isin(names)]
    table = table.assign(
        group=table["model"].map(MODELS),
        label=table["model"].map(MODELS) + ": " + table["way"].map(names),
        rank=table["model"].map(models.index) * len(names) + table["way"].map(list(names).index),
    )
    return table.sort_values("rank")


def added(rows, way: str):
    """What a way of storing adds to the perplexity of each model, least first, by model."""
    return rows[rows["way"] == way].set_index("model")[CHANGE].sort_values()


def announced() -> dict[str, float]:
    """What the announcement of TurboQuant promised, by name."""
    figures = kv_cache.fact("turboquant-announced")["figures"]
    return {name: entry["value"] for name, entry in figures.items()}


def promises(smaller: dict[int, float], added_at_three) -> pd.DataFrame:
    """Promised against measured, a line a part.

    ``smaller`` is bf16 over the bytes of a code, by bits; ``added_at_three`` the share that three
    bits add to each model's perplexity.
    """
    promised, free = announced(), int((added_at_three <= 0.01).sum())
    models = len(added_at_three)
    lines = [
        ("times smaller than bf16", promised["times_smaller"], smaller[3], ""),
        ("times faster than bf16, at best", promised["times_faster"], smaller[4], " at four bits"),
    ]
    table = pd.DataFrame(
        {
            "part": part,
            "promised": f"promised {stated:g}",
            "measured": f"{value:.2f}{note}",
            "share": value / stated,
        }
        for part, stated, value, note in lines
    )
    table.loc[len(table)] = [
        "models that lose nothing",
        "promised all",
        f"{free} of {models}",
        free / models,
    ]
    return table


def percent(value: float) -> str:
    """A change as a percentage with its sign: +4.7%; from a doubling on whole: +5,319%."""
    return f"{100 * value:+,.{1 if abs(value) < 1 else 0}f}%"


# --- theory


def against_print(theory, dim: int):
    """Errors of ``mse`` by bits: as printed, exact and sampled; how far the print is off its limit.

    ``theory`` has the rows of ``data/turboquant_theory.jsonl`` by ``what``.
    """
    exact = theory["codebook"].assign(dim=theory["codebook"]["dim"].fillna(0))
    exact = exact.pivot(index="bits", columns="dim", values="distortion")
    sampled = theory["sampled"].query("dim == @dim and variant == 'mse'")
    printed = pd.Series(kv_cache.fact("turboquant-mse")["by_bits"], name="printed")
    columns = {
        "printed": printed,
        f"exact, d = {dim}": exact[dim],
        "sampled": sampled.groupby("bits")["distortion"].mean(),
        "print off by": printed / exact[0] - 1,
    }
    return pd.DataFrame(columns).rename_axis("bits").reset_index()


def encode_rates(dim: int) -> dict[str, float]:
    """FLOPs a second that encoding times imply: ``printed``, and by those who ran it again.

    Counted is the dense rotation alone: 2 d^2 FLOPs a vector, 100,000 vectors.
    """
    ends = {"printed": "", "run again": "-again"}
    seconds = {
        name: kv_cache.fact(f"turboquant-encode-seconds{end}")["by_dimension"][dim]
        for name, end in ends.items()
    }
    return {name: 2e5 * dim**2 / time for name, time in seconds.items()}


# --- classes


def runs(name: str) -> bool:
    """Whether a tiny model of a `transformers` class writes over the packed cache.

    False where the cache refuses the class; its weights are random.
    """
    import torch
    import transformers

    from sizewise.quantization.kv.cache import TurboQuantCache

    fields = {"vocab_size": 64, "hidden_size": 64, "num_hidden_layers": 2}
    if name != "Mamba":
        fields |= {"num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 128}
    if name in ("Gemma3Text", "Mistral"):
        fields |= {"head_dim": 16, "sliding_window": 16}
    config = getattr(transformers, f"{name}Config")(**fields)
    try:
        cache = TurboQuantCache(config, bits=4)
    except ValueError:
        return False
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    ids = torch.arange(24)[None]
    options = {"max_new_tokens": 16, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    return model.generate(ids, past_key_values=cache, **options).shape == (1, 40)
