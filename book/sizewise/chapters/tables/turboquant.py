"""Tables of the chapter on TurboQuant: what was printed, and which classes take the cache."""

from collections.abc import Iterable

from . import kv_cache


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
    mse, prod = (kv_cache.fact(f"turboquant-{name}")["by_bits"] for name in ("mse", "prod"))
    limit = exact[0]
    rows = [
        {
            "bits": bits,
            "printed": mse[bits],
            "limit of large d": limit[bits],
            f"exact, d = {dim}": exact.loc[bits, dim],
            "sampled": found.loc[bits, ("distortion", "mse")],
            "print off by": mse[bits] / limit[bits] - 1,
            "prod, printed": prod[bits],
            "prod, limit": math.pi / 2 * (limit[bits - 1] if bits > 1 else 1),
            "prod, sampled": found.loc[bits, ("inner", "prod")],
        }
        for bits in mse
    ]
    table = pandas.DataFrame(rows)
    return table.assign(**{"prod off by": table["prod, printed"] / table["prod, limit"] - 1})


def encode_rates(device):
    """Operations a second that the printed encoding times imply, against a device's dense peaks.

    Counted is the dense rotation alone: 2 d^2 operations a vector, 100,000 vectors.
    """
    import pandas

    printed, again = (
        kv_cache.fact(f"turboquant-encode-seconds{end}")["by_dimension"] for end in ("", "-again")
    )
    return pandas.DataFrame(
        [
            {
                "dimension": d,
                "printed": 2e5 * d**2 / printed[d] / 1e12,
                "run again": 2e5 * d**2 / again[d] / 1e12,
                "printed over bf16 peak": 2e5 * d**2 / printed[d] / device.flops["bf16"],
            }
            for d in printed
        ]
    )


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
        ids = torch.randint(
            0, config.vocab_size, (1, 24), generator=torch.Generator().manual_seed(1)
        )
        plain = greedy(model, ids, transformers.DynamicCache(config=config), 16)
        same = bool((greedy(model, ids, cache, 16) == plain).all())
        rows.append(
            {"class": name, "taken": True, "outcome": "same text" if same else "another text"}
        )
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
