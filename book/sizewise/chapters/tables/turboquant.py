"""Tables of the chapter on TurboQuant: what was printed, what caches cost real models."""

from collections.abc import Iterable

from sizewise.data import records

from . import kv_cache

MODELS = {
    "smollm2-135m": "SmolLM2 135M",
    "gemma-3-270m": "Gemma 3 270M",
    "qwen2.5-coder-0.5b": "Qwen2.5 0.5B",
}
METHODS = {"turboquant": "TurboQuant", "kivi": "KIVI", "plain": "plain", "prod": "TurboQuant prod"}
CENTERS = {"mean": "mean key taken out", "rope": "mean taken out before RoPE"}
IDENTITY = (  # what tells rows of quality apart, but for how many documents were read
    *("model", "keys", "keys_bits", "values", "values_bits", "rotation", "residual", "sink"),
    *("plain", "center", "fp8_scale", "seed", "text", "context"),
)


def quality():
    """The rows on loss, of rows alike the one with most documents, each with its ``way`` in words.

    The newest tokens that stay plain count as sixteen bits, also where they were in 32.
    Raises as `records.table` does where none is recorded.
    """
    rows = records.table("kv_quality").query("what == 'quality'")
    for name in IDENTITY:
        if name not in rows:
            rows = rows.assign(**{name: None})
    rows = rows.sort_values("documents", kind="stable")
    rows = rows.drop_duplicates(list(IDENTITY), keep="last").sort_index().reset_index(drop=True)
    saved = 16 * rows["residual"] / rows["context"]  # plain tokens that were measured in 32 bits
    rows["bits"] -= saved.where(rows["plain"].isna(), 0)
    return rows.assign(way=[way(row) for row in rows.to_dict("records")])


def way(row) -> str:
    """How a row stores keys and values, in a few words."""

    def side(name: str) -> str:
        method, bits = row[name], row[f"{name}_bits"]
        if method in ("plain", "int8", "fp8"):
            return method
        return f"{METHODS.get(method, method)} {int(bits)}"

    keys, values = side("keys"), side("values")
    words = [keys if keys == values else f"K {keys}, V {values}"]
    if row["rotation"] == "hadamard":
        words.append("Hadamard")
    if _given(row["sink"]):
        words.append(f"first {int(row['sink'])}")
    if row["residual"] > 0:
        words.append(f"newest {int(row['residual'])} plain")
    if _given(row["center"]):
        words.append(CENTERS[row["center"]])
    if _given(row["fp8_scale"]):
        words.append("a scale a token")
    if row["seed"]:
        words.append(f"seed {int(row['seed'])}")
    return ", ".join(words)


def lines(rows, model: str):
    """Loss over bits of one model: both methods with all packed, and each as it is meant to be."""
    import pandas

    rows = rows[(rows["model"] == model) & (rows["rotation"] == "haar") & (rows["seed"] == 0)]
    same = rows[(rows["keys"] == rows["values"]) & rows["center"].isna()]
    parts = []
    for method in ("turboquant", "kivi"):
        of_method = same[same["keys"] == method]
        packed = of_method[of_method["residual"] == 0]
        own = of_method[of_method["residual"] > 0]
        parts += [
            packed.assign(method=f"{METHODS[method]}, all packed"),
            own.assign(method=f"{METHODS[method]}, newest plain"),
        ]
    return pandas.concat(parts)


def remedies(rows, bits: int = 4):
    """Keys with a common part: the method as announced, both remedies, and KIVI's ranges."""
    import pandas

    names = [f"TurboQuant {bits}"]
    names += [f"TurboQuant {bits}, {CENTERS[center]}" for center in ("mean", "rope")]
    names += [f"KIVI {bits}"]
    result = rows[rows["way"].isin(names)]
    parts = [result[result["way"] == name].assign(rank=rank) for rank, name in enumerate(names)]
    table = pandas.concat(parts)
    order = {model: place for place, model in enumerate(reversed(MODELS))}
    table = table.assign(group=table["model"].map(MODELS), place=table["model"].map(order))
    table = table.sort_values(["place", "rank"])
    short = dict(
        zip(names, ("as announced", "mean out", "mean out before RoPE", "KIVI"), strict=True)
    )
    words = [short[name] for name in table["way"]]
    labels = [f"{group}: {word}" for group, word in zip(table["group"], words, strict=True)]
    return table.assign(label=labels)


def added(rows, way: str):
    """What a way of storing adds to the perplexity of each model, least first, by model."""
    return rows[rows["way"] == way].set_index("model")["perplexity_change"].sort_values()


def percent(value: float) -> str:
    """A change as a percentage with its sign: +4.7%; from a doubling on whole: +5,319%."""
    return f"{100 * value:+,.{1 if abs(value) < 1 else 0}f}%"


def _given(value) -> bool:
    return value is not None and value == value and bool(value)


# --- theory


def against_print(theory, dim: int):
    """Errors by bits as the paper prints them, exact, and sampled; and how far the print is off.

    ``theory`` has the rows of ``data/turboquant_theory.jsonl`` by ``what``. ``inner`` is d times
    the error of an inner product under ``prod``, whose limit is pi / 2 times the error at one bit
    less.
    """
    import math

    import pandas

    exact = theory["codebook"].assign(dim=theory["codebook"]["dim"].fillna(0))
    exact = exact.pivot(index="bits", columns="dim", values="distortion")
    sampled = theory["sampled"][theory["sampled"]["dim"] == dim]
    means = sampled.pivot_table(index="bits", columns="variant", values=["distortion", "inner"])
    mse, prod = (kv_cache.fact(f"turboquant-{name}")["by_bits"] for name in ("mse", "prod"))
    limit = exact[0]
    rows = [
        {
            "bits": bits,
            "printed": mse[bits],
            "limit of large d": limit[bits],
            f"exact, d = {dim}": exact.loc[bits, dim],
            "sampled": means.loc[bits, ("distortion", "mse")],
            "print off by": mse[bits] / limit[bits] - 1,
            "prod, printed": prod[bits],
            "prod, limit": math.pi / 2 * (limit[bits - 1] if bits > 1 else 1),
            "prod, sampled": means.loc[bits, ("inner", "prod")],
        }
        for bits in mse
    ]
    table = pandas.DataFrame(rows)
    return table.assign(**{"prod off by": table["prod, printed"] / table["prod, limit"] - 1})


def encode_rates(device):
    """FLOPs a second that the printed encoding times imply, against a device's dense peaks.

    Counted is the dense rotation alone: 2 d^2 FLOPs a vector, 100,000 vectors.
    """
    import pandas

    printed, repeated = (
        kv_cache.fact(f"turboquant-encode-seconds{end}")["by_dimension"] for end in ("", "-again")
    )
    rows = [
        {
            "dimension": d,
            "printed": 2e5 * d**2 / printed[d] / 1e12,
            "run again": 2e5 * d**2 / repeated[d] / 1e12,
            "printed over bf16 peak": 2e5 * d**2 / printed[d] / device.flops["bf16"],
        }
        for d in printed
    ]
    return pandas.DataFrame(rows)


# --- classes


def takes(
    names: Iterable[str] = ("Gemma3Text", "Mistral", "Llama", "Qwen3", "DeepseekV3", "Mamba"),
):
    """Tiny models with random weights of `transformers` classes: what the packed cache does.

    ``outcome`` is whether 16 greedy tokens from 8-bit codes equal those of the plain cache, or why
    the class is refused.
    """
    import pandas
    import torch
    import transformers

    from sizewise.quantization.kv.cache import TurboQuantCache
    from sizewise.quantization.kv.evaluate import greedy

    rows = []
    for name in names:
        config = getattr(transformers, f"{name}Config")(**_tiny(name))
        try:
            cache = TurboQuantCache(config, bits=8)
        except ValueError as error:
            rows.append({"class": name, "taken": False, "outcome": str(error)})
            continue
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config).eval()
        draw = torch.Generator().manual_seed(1)
        ids = torch.randint(0, config.vocab_size, (1, 24), generator=draw)
        plain = greedy(model, ids, transformers.DynamicCache(config=config), 16)
        same = bool((greedy(model, ids, cache, 16) == plain).all())
        outcome = "same text" if same else "another text"
        rows.append({"class": name, "taken": True, "outcome": outcome})
    return pandas.DataFrame(rows)


def _tiny(name: str) -> dict:
    if name == "Mamba":
        return {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2}
    small = {
        "vocab_size": 64,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
    }
    if name == "Gemma3Text":
        small |= {"sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"]}
    if name == "DeepseekV3":
        small.pop("head_dim")
    return small
