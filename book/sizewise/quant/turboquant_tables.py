"""Tables of the chapter on TurboQuant: what was printed, measured and recorded."""

from collections.abc import Iterable

from .. import records
from . import cache_tables


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
    some = theory["sampled"][theory["sampled"]["dim"] == dim]
    found = some.pivot_table(index="bits", columns="variant", values=["distortion", "inner"])
    mse, prod = (cache_tables.fact(f"turboquant-{name}")["by_bits"] for name in ("mse", "prod"))
    limit = exact[0]
    rows = [{
        "bits": bits, "printed": mse[bits], "limit of large d": limit[bits],
        f"exact, d = {dim}": exact.loc[bits, dim],
        "sampled": found.loc[bits, ("distortion", "mse")],
        "print off by": mse[bits] / limit[bits] - 1,
        "prod, printed": prod[bits],
        "prod, limit": math.pi / 2 * (limit[bits - 1] if bits > 1 else 1),
        "prod, sampled": found.loc[bits, ("inner", "prod")],
    } for bits in mse]  # fmt: skip
    table = pandas.DataFrame(rows)
    return table.assign(**{"prod off by": table["prod, printed"] / table["prod, limit"] - 1})


def encode_rates(device):
    """Operations a second that the printed encoding times imply, against a device's dense peaks.

    Counted is the dense rotation alone: 2 d^2 operations a vector, 100,000 vectors.
    """
    import pandas

    printed, again = (cache_tables.fact(f"turboquant-encode-seconds{end}")["by_dimension"]
                      for end in ("", "-again"))  # fmt: skip
    return pandas.DataFrame([
        {"dimension": d, "printed": 2e5 * d**2 / printed[d] / 1e12,
         "run again": 2e5 * d**2 / again[d] / 1e12,
         "printed over bf16 peak": 2e5 * d**2 / printed[d] / device.flops["bf16"]}
        for d in printed
    ])  # fmt: skip


def errors(rows, dim: int):
    """Layer rows in long form: ``model``, ``layer``, ``side``, ``method``, ``bits``, ``error``,
    with ``theory``, the exact error of TurboQuant for vectors of ``dim``."""
    from .codebooks import lloyd_max

    names = [name for name in rows if name.startswith("error_")]
    long = rows[rows["dim"] == dim].melt(
        ["model", "layer", "side"], names, value_name="error", var_name="name"
    )
    parts = long["name"].str.extract(r"error_(\w+)_(\d)")
    long = long.assign(method=parts[0], bits=parts[1].astype(int))
    exact = {bits: lloyd_max(bits, dim).distortion for bits in sorted(long["bits"].unique())}
    return long.assign(theory=long["bits"].map(exact)).drop(columns="name")


def percent(rows, *names: str):
    """Rows with ``perplexity_change`` and its interval as words: ``+8.4% (7.9 to 8.8)``."""
    words = [
        f"{100 * one:+.2f}% ({100 * low:+.2f} to {100 * high:+.2f})"
        for one, low, high in zip(rows["perplexity_change"], rows["perplexity_change_low"],
                                  rows["perplexity_change_high"], strict=True)
    ]  # fmt: skip
    shown = rows[[*names, "bits"]].assign(**{"perplexity added": words})
    return shown.assign(**{"KL": rows["kl"], "same token": rows["agreement"]})


def label(row) -> str:
    """How a row of ``data/kv_quality.jsonl`` stores keys and values, in a few words."""

    def side(name):
        bits = row[f"{name}_bits"]
        plain = row[name] in ("plain", "int8", "fp8") or bits != bits or bits is None
        return row[name] if plain else f"{row[name]} {int(bits)}"

    keys, values = side("keys"), side("values")
    words = keys if keys == values else f"K {keys}, V {values}"
    if row["rotation"] == "hadamard":
        words += ", Hadamard"
    if row["residual"] > 0:
        words += f", newest {int(row['residual'])} plain"
    return words if not row["seed"] else f"{words}, seed {int(row['seed'])}"


def quality(model: str | None = None):
    """The rows on loss of ``data/kv_quality.jsonl``, with a ``way`` in words and a ``kind``.

    Kinds: ``plain``; ``both`` sides alike; ``keys`` or ``values`` alone; ``mixed``; ``residual``;
    ``seed``, other rotations of the same method.
    """
    rows = records.table("kv_quality")
    rows = rows[rows["what"] == "quality"]
    rows = rows[rows["model"] == model] if model else rows
    return rows.assign(way=rows.apply(label, axis=1), kind=rows.apply(_kind, axis=1)).reset_index(
        drop=True
    )


def _kind(row) -> str:
    if row["keys"] == row["values"] == "plain":
        return "plain"
    if row["residual"]:
        return "residual"
    if row["seed"]:
        return "seed"
    if "plain" in (row["keys"], row["values"]):
        return "values" if row["keys"] == "plain" else "keys"
    same = row["keys"] == row["values"] and row["keys_bits"] == row["values_bits"]
    return "both" if same else "mixed"


def gpu():
    """Attention timed on a GPU: packed rows of ``data/gpu_kv.jsonl``; none if there are none.

    Columns ``gpu``, ``method``, ``context``, ``batch``, ``group``, ``us``, ``over_bf16``,
    ``over_fp32``, ``over_fp8``, ``share_of_copy``.
    """
    import pandas

    columns = ["gpu", "what", "method", "context", "batch", "group", "us", "over_bf16",
               "over_fp32", "over_fp8", "share_of_copy"]  # fmt: skip
    found = [row | {"gpu": row["from"]["machine"]["gpu"]} for row in records.read("gpu_kv")
             if row["what"] in ("attend", "logits") and row["method"].startswith("tq")
             and not row.get("refused") and row["from"]["machine"]["gpu"]]  # fmt: skip
    return pandas.DataFrame(found, columns=columns)


def takes(
    names: Iterable[str] = ("Gemma3Text", "Mistral", "Llama", "Qwen3", "DeepseekV3", "Mamba"),
):
    """Tiny models with random weights of `transformers` classes: what the packed cache does.

    ``works`` is whether 16 greedy tokens from 8-bit codes equal those of the plain cache, or why
    the class is refused.
    """
    import pandas
    import torch
    import transformers

    from ..evals.cached import greedy
    from .cache import TurboQuantCache

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
        ids = torch.randint(
            0, config.vocab_size, (1, 24), generator=torch.Generator().manual_seed(1)
        )
        plain = greedy(model, ids, transformers.DynamicCache(config=config), 16)
        same = bool((greedy(model, ids, cache, 16) == plain).all())
        rows.append({"class": name, "taken": True,
                     "outcome": "same text" if same else "another text"})  # fmt: skip
    return pandas.DataFrame(rows)


def _tiny(name: str) -> dict:
    if name == "Mamba":
        return {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2}
    small = {"vocab_size": 64, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
             "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16}  # fmt: skip
    if name == "Gemma3Text":
        small |= {"sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"]}
    if name == "DeepseekV3":
        small.pop("head_dim")
    return small
