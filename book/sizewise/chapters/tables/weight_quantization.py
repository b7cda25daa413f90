"""Tables of the chapter on weight quantization: recorded rows, published speeds, a recipe."""

from sizewise import units
from sizewise.data import records

NAMES = {
    "fp32": "fp32",
    "bf16": "bf16",
    "fp16": "fp16",
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
MODELS = {
    "smollm2-135m": "SmolLM2 135M",
    "gemma-3-270m": "Gemma 3 270M",
    "qwen2.5-coder-0.5b": "Qwen2.5-Coder 0.5B",
    "qwen2.5-coder-1.5b": "Qwen2.5-Coder 1.5B",
    "minilm-l6": "MiniLM L6",
    "mpnet-base": "MPNet base",
}


def kinds(stem: str = "weight_quality") -> dict:
    """The rows by their kind, without the columns of other kinds."""
    groups = records.table(stem).groupby("what", sort=False)
    return {
        what: rows.dropna(axis="columns", how="all").reset_index(drop=True) for what, rows in groups
    }


def of_model(rows, model: str):
    """The rows of one model by format. Raises ValueError for a model without any."""
    known = list(dict.fromkeys(rows["model"]))
    if model not in known:
        raise units.unknown("recorded model", model, known)
    return rows[rows["model"] == model].set_index("format", drop=False)


def encoders(rows):
    """Encoders in each format, dense ones: neighbours lost, with the interval, and a label."""
    dense = rows[rows["share"].isna()] if "share" in rows else rows
    lost = {f"lost{end}": 1 - dense[f"recall{other}"]
            for end, other in (("", ""), ("_low", "_high"), ("_high", "_low"))}  # fmt: skip
    label = [f"{NAMES[form]}, {bits:.2f} bits"
             for form, bits in zip(dense["format"], dense["bits"], strict=True)]  # fmt: skip
    return dense.assign(**lost, label=label)


def equal_bytes(rows, share: float = 0.5, form: str = "nf4", dense: str = "nf3"):
    """Pruning and four bits together, beside each alone and a dense code of as many bytes."""
    import pandas

    table = []
    for model, subset in rows.groupby("model", sort=False):
        full = subset[subset["share"].isna()].set_index("format")
        removed = subset[subset["share"] == share].set_index("format")
        for name, row in (
            (f"{share:.0%} pruned, {NAMES[form]}", removed.loc[form]),
            (f"{NAMES[dense]}, dense", full.loc[dense]),
            (f"{NAMES[form]}, dense", full.loc[form]),
            (f"{share:.0%} pruned alone", removed.loc["fp32"]),
        ):
            columns = ("bits", "cosine_error", "cosine_error_low", "cosine_error_high", "recall")
            table.append({"model": MODELS[model], "weights": name} | row[list(columns)].to_dict())
    return pandas.DataFrame(table)


def as_used(rows):
    """Bits a parameter with what the format leaves alone in bf16: codes, scales, tables and rest.

    For rows of language models, whose rest was measured in fp32.
    """
    coded = rows[["codes_bytes", "scales_bytes", "codebooks_bytes"]].sum(axis=1)
    rest = rows["high_precision_bytes"].where(coded == 0, rows["high_precision_bytes"] / 2)
    return 8 * (coded + rest) / rows["parameters"]


def facts(name: str) -> dict:
    """An entry of ``data/facts/quantization.yml``."""
    return next(entry for entry in records.facts("quantization") if entry["name"] == name)


def speeds():
    """Published speed over that of bf16, both sides: who measured, on what, in which format."""
    import pandas

    def over(name: str, form: str, kind: str, inverse: bool) -> float:
        figures = facts(name)["figures"]
        plain, other = (figures[f"{part}_{kind}"]["value"] for part in ("bf16", form))
        return plain / other if inverse else other / plain

    h100, ada = "bitsandbytes-h100-llama-3.1-8b", "bitsandbytes-rtx4090-llama-3.1-8b"
    vllm, compiled = "torchao-h100-llama-3.1-8b", "torchao-a100-llama-3-8b"
    rows = [
        ("NF4, bitsandbytes", "RTX 4090, 1 sequence", over(ada, "nf4", "batch_1", True)),
        ("NF4, bitsandbytes", "RTX 4090, 8", over(ada, "nf4", "batch_8", True)),
        ("NF4, bitsandbytes", "H100, 1", over(h100, "nf4", "batch_1", True)),
        ("LLM.int8()", "H100, 1", over(h100, "int8", "batch_1", True)),
        ("int8 without outliers", "RTX 4090, 32", over(ada, "int8-plain", "batch_32", True)),
        ("int4, torchao, compiled", "A100, 1", over(compiled, "int4", "batch_1", False)),
        ("int8 weights, vLLM", "H100, full load", over(vllm, "int8", "decode", False)),
        ("FP8, vLLM", "H100, full load", over(vllm, "fp8", "decode", False)),
    ]
    return pandas.DataFrame(rows, columns=["format", "where", "speed over bf16"])


def divergences():
    """llama.cpp's KL divergence by type of file: Llama 2 7B, Llama 3 8B, and their ratio."""
    import pandas

    table = pandas.DataFrame(facts("llama-cpp-llama-2-against-3")["types"])
    return table.assign(ratio=table["llama_3_8b"] / table["llama_2_7b"])


def recipe(table, tolerances):
    """For each share of neighbours given up, the format of fewest bits that stays within it.

    Within it at the upper end of its 95 % interval.
    """
    import pandas

    rows = []
    for tolerance in sorted(set(tolerances)):
        fits = table[(table["lost_high"] <= tolerance) | (table["format"] == "fp32")]
        best = fits.sort_values(["bits", "lost"]).iloc[0]
        rows.append(
            {
                "neighbours given up": tolerance,
                "format": NAMES[best["format"]],
                "bits": best["bits"],
            }
        )
    return pandas.DataFrame(rows)
