"""Tables of the chapter on TurboQuant: what was printed, what KV caches cost real models."""

import numpy as np
import pandas as pd

from sizewise.chapters import claims
from sizewise.data import records

from .weight_quantization import ENDS, MODELS

METHODS = {"turboquant": "TurboQuant", "kivi": "KIVI", "prod": "TurboQuant prod"}
CENTERS = {"mean": "mean key taken out", "rope": "mean taken out before RoPE"}
SHORT, LONG = 257, 2049  # tokens of a window, the first of which is not predicted
IDENTITY = (  # what tells rows of quality apart, but for how many documents were read
    *("model", "keys", "keys_bits", "values", "values_bits", "rotation", "residual", "sink"),
    *("plain", "center", "fp8_scale", "seed", "text", "context"),
)
CHANGE = "perplexity_change"


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
    """Models with four bits of TurboQuant and of KIVI, each in its own mode; other widths vary."""
    both = {"TurboQuant", "KIVI"}
    return [
        model
        for model in rows["model"].unique()
        if both <= set(lines(rows, model).query("keys_bits == 4")["method"])
    ]


def equal_bytes(rows):
    """TurboQuant against KIVI at TurboQuant's bytes, each in its own mode, by model and width.

    Between two of KIVI's widths the logarithm of the perplexity added is interpolated, and so are
    the ends of its interval; below its least width stands that one, though it stores more.
    ``better`` is the method whose interval lies wholly below the other's, if there is one.
    """
    tables = []
    for model in rows["model"].unique():
        both = lines(rows, model).sort_values("bits")
        kivi = both[both["method"] == "KIVI"]
        ours = both[both["method"].isin(["TurboQuant", "TurboQuant, mean out"])]
        if len(kivi) < 2:
            continue
        logs = {end: np.log(kivi[f"{CHANGE}{end}"].clip(lower=1e-4)) for end in ENDS}
        other = {
            end: np.exp(np.interp(ours["bits"], kivi["bits"], log)) for end, log in logs.items()
        }
        apart = [ours[f"{CHANGE}_high"] < other["_low"], ours[f"{CHANGE}_low"] > other["_high"]]
        columns = {
            "width": ours["keys_bits"].astype(int),
            "KIVI's bits": ours["bits"].clip(lower=kivi["bits"].min()),
            "added": ours[CHANGE],
            "KIVI": other[""],
            "better": np.select(apart, ["TurboQuant", "KIVI"], "neither"),
        }
        tables.append(ours.assign(**columns))
    names = ["model", "method", "width", "bits", "KIVI's bits", "added", "KIVI", "better"]
    return pd.concat(tables, ignore_index=True)[names]


def side_by_side(equal):
    """Of `equal_bytes` a row a model and width: what TurboQuant adds, so too centred, and KIVI."""
    plain, out = (
        equal[equal["method"] == name].set_index(["model", "width"])
        for name in ("TurboQuant", "TurboQuant, mean out")
    )
    table = plain.rename(columns={"added": "TurboQuant"})
    table["with its mean key taken out"] = out["added"]
    columns = ["bits", "TurboQuant", "with its mean key taken out", "KIVI", "KIVI's bits"]
    return table[columns].reset_index()


def wins(equal, method: str) -> str:
    """In how many comparisons of `equal_bytes` a method is better, model by model, in words."""
    counts = [
        f"{(rows['better'] == method).sum()} of {len(rows)} on {MODELS[model]}"
        for model, rows in equal.groupby("model", sort=False)
    ]
    return " and ".join(counts)


def advice(rows, tolerances):
    """For each loss that is accepted, the way of fewest bits that stays within it in every model.

    Within it at the upper end of its 95 % interval; only ways that all models of ``rows`` have.
    ``bits`` are the most that a model needs, compared to a tenth; of ways alike in them the one
    of least loss comes first. If all lose more, the cache stays in bf16.
    """
    ways = rows.groupby("way").agg(
        models=("model", "nunique"), most=(f"{CHANGE}_high", "max"), bits=("bits", "max")
    )
    ways = ways[ways["models"] == rows["model"].nunique()].drop("plain", errors="ignore")
    ways.loc["bf16"] = {"models": rows["model"].nunique(), "most": 0.0, "bits": 16.0}
    ways = ways.assign(tenths=ways["bits"].round(1)).sort_values(["tenths", "most"])
    picks = [ways[ways["most"] <= tolerance].iloc[0] for tolerance in tolerances]
    table = pd.DataFrame(picks).drop(columns="tenths").rename_axis("way").reset_index()
    return table.assign(tolerance=list(tolerances))


def remedies(rows):
    """Four bits where keys have a common part: all packed, with either remedy, and by KIVI."""
    names = {
        "TurboQuant 4": "all packed",
        f"TurboQuant 4, {CENTERS['mean']}": "mean out after RoPE",
        f"TurboQuant 4, {CENTERS['rope']}": "mean out before RoPE",
        "KIVI 4": "KIVI",
    }
    order = {"model": list(reversed(MODELS)), "way": list(names)}
    table = rows[rows["way"].isin(names)]
    table = table.sort_values(list(order), key=lambda column: column.map(order[column.name].index))
    group = table["model"].map(MODELS)
    return table.assign(group=group, label=group + ": " + table["way"].map(names))


def added(rows, way: str):
    """What a way of storing adds to the perplexity of each model, least first, by model."""
    return rows[rows["way"] == way].set_index("model")[CHANGE].sort_values()


def announced() -> dict[str, float]:
    """What the announcement of TurboQuant promised, by name."""
    figures = records.fact("turboquant", "turboquant-announced")["figures"]
    return {name: entry["value"] for name, entry in figures.items()}


def against_announcement(rows, mixed, mode: str) -> pd.DataFrame:
    """What was announced, measured here and published of vLLM: bits, times smaller, loss.

    ``rows`` have all tokens packed, ``mixed`` those of ``mode``, a way with its bits left open.
    ``smaller`` and ``lost`` end in the least and the most of ``models`` measured. vLLM's presets
    leave the first and last two layers plain.
    """
    claim = announced()
    capacity = claims.fact("turboquant/turboquant-vllm-study/capacity_4_bits")
    table = [("announced", claim["bits"], None, *[claim["times_smaller"]] * 2, 0.0, 0.0)]
    measured = [
        *(("all packed", rows, "TurboQuant {}", bits) for bits in (4, 3)),
        *(("first and newest tokens plain", mixed, mode, bits) for bits in (4, 3, 2)),
    ]
    for label, source, name, bits in measured:
        subset = source[source["way"] == name.format(bits)]
        ends = [f(values) for values in (16 / subset["bits"], subset[CHANGE]) for f in (min, max)]
        table.append((f"here, {label}", bits, len(subset), *ends))
    for bits, smaller in ((4, capacity), (3, np.nan)):
        lost = claims.fact(f"turboquant/turboquant-vllm-perplexity/{bits}_bits")
        table.append(("vLLM, four layers plain", bits, None, smaller, smaller, lost, lost))
    names = ["mode", "bits", "models", "smaller", "smaller_most", "lost", "lost_most"]
    return pd.DataFrame(table, columns=names)


def in_print(table) -> pd.DataFrame:
    """`against_announcement` as the page prints it: the least to the most of each."""

    def ends(name: str, text) -> list[str]:
        pairs = table[[name, f"{name}_most"]].to_numpy()
        return [" to ".join(dict.fromkeys(text(v) for v in pair if v == v)) for pair in pairs]

    result = table[["mode", "bits", "models"]]
    result = result.set_axis(["TurboQuant", "bits a code", "models"], axis=1)
    result["times smaller than bf16"] = ends("smaller", "{:.1f}".format)
    result["perplexity added"] = ends("lost", percent)
    return result


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
    printed = pd.Series(records.fact("turboquant", "turboquant-mse")["by_bits"], name="printed")
    columns = {
        "printed": printed,
        f"exact, d = {dim}": exact[dim],
        "sampled": sampled.groupby("bits")["distortion"].mean(),
        "print off by": printed / exact[0] - 1,
    }
    return pd.DataFrame(columns).rename_axis("bits").reset_index()


def encode_rate(dim: int, again: bool = False) -> float:
    """FLOPs a second that an encoding time implies: as printed, or by those who ran it ``again``.

    Counted is the dense rotation alone: 2 d^2 FLOPs a vector, 100,000 vectors.
    """
    entry = records.fact("turboquant", "turboquant-encode-seconds" + ("-again" if again else ""))
    return 2e5 * dim**2 / entry["by_dimension"][dim]


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
