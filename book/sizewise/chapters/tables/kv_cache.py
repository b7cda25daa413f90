"""Tables of the chapter on the KV cache: bytes, hardware and prices."""

from collections.abc import Iterable

import pandas as pd

from sizewise.costs import memory, roofline
from sizewise.costs.formats import cache_format
from sizewise.data import catalog
from sizewise.models import parameters
from sizewise.models.architecture import Grouped, Latent, Model

STEPS = ("every head its own", "heads shared or compressed", "and windows", "and three bits")
PRIOR = {  # cache formats with the year in which they were published, and by whom
    "fp8": ("2022", "8-bit floats"),
    "int4": ("2023", "4 bits, a scale and a zero for 64"),
    "int2": ("2024", "KIVI, 2 bits"),
    "tq4": ("2025", "TurboQuant, 4 bits"),
    "tq3": ("2025", "TurboQuant, 3 bits"),
    "tq2": ("2025", "TurboQuant, 2 bits"),
}


def prior():
    """Published formats for heads of 128: bits a number with scales and norms, against bf16."""
    forms = {name: cache_format(name) for name in PRIOR}
    bits = pd.Series([form.bits + form.per_row / 128 for form in forms.values()])
    table = pd.DataFrame(PRIOR.values(), columns=["year", "format"])
    return table.assign(**{"bits a number": bits, "times smaller": 16 / bits})


def steps(names: Iterable[str], context: int):
    """Bytes of one sequence's cache, one row a model and step, each step on top of the last.

    From a key and a value for every query head, over shared heads or latents, and windows, to
    TurboQuant's bits. Models that do not take a step repeat the bytes of the last.
    """
    rows = []
    for name in names:
        model = parameters.describe(name)
        sizes = (
            _every_head(model, context),
            memory.kv_cache_bytes(model, context, windows=False),
            memory.kv_cache_bytes(model, context),
            memory.kv_cache_bytes(model, context, format="tq3"),
        )
        rows += [(name, step, size) for step, size in zip(STEPS, sizes, strict=True)]
    return pd.DataFrame(rows, columns=["model", "step", "bytes"])


def factors(table):
    """Of `steps`: how many times smaller each step makes the cache, one row a model."""
    sizes = table.pivot(index="model", columns="step", values="bytes")[list(STEPS)]
    ratios = sizes.shift(axis=1) / sizes
    ratios = ratios.iloc[:, 1:].set_axis(
        ["shared heads or latents", "windowed layers", "three bits"], axis=1
    )
    return ratios.loc[table["model"].unique()].reset_index()


def _every_head(model: Model, context: int) -> int:
    """Bytes in bf16 if each query head of grouped or latent attention kept its own."""
    plain = memory.kv_cache_by_layer(model, context, windows=False)
    expanded = memory.kv_cache_by_layer(model, context, windows=False, absorbed=False)
    total = 0
    for layer, size, wide in zip(model.layers, plain, expanded, strict=True):
        if isinstance(layer.attention, Grouped):
            shared = 1 if layer.attention.shares_kv else layer.attention.kv_heads
            total += size * layer.attention.query_heads // shared
        else:
            total += wide if isinstance(layer.attention, Latent) else size
    return total


def hardware(name: str, contexts: Iterable[int], batches: Iterable[int], factor: float):
    """How many times less memory a service needs if its cache alone is ``factor`` times smaller.

    One row a context and batch, with the cache's share of the bytes before; weights in bf16.
    """
    model, rows = parameters.describe(name), []
    for batch in batches:
        for context in contexts:
            total = memory.total_memory(model, context=context, batch=batch)
            left = total.total_bytes - total.kv_bytes * (1 - 1 / factor)
            share = total.kv_bytes / total.total_bytes
            rows.append((context, batch, share, total.total_bytes / left))
    return pd.DataFrame(rows, columns=["context", "batch", "cache", "factor"])


def filled(name: str, device, context: int, kv: str, devices: int = 1):
    """Devices filled with sequences: how many fit, the floor of a token's price, and its bound.

    At a dollar for a device and hour; activations are left out. Raises ValueError if not one
    sequence fits.
    """
    model = parameters.describe(name)
    free = device.memory_bytes * devices - memory.weights_bytes(model)
    batch = int(free // memory.kv_cache_bytes(model, context, format=kv)) if free > 0 else 0
    if batch < 1:
        raise ValueError(f"{name} leaves no room for {context} tokens on {devices} {device.name}")
    floor = roofline.decode(model, device, context, batch, kv=kv, devices=devices, price=1.0)
    return batch, floor.dollars_per_million_tokens.low, floor.bound


def cheaper(names: Iterable[str], device, contexts: Iterable[int], kv: str, devices: int = 1):
    """How many times cheaper a token can be with a packed cache: alone, and with devices filled.

    Both are ratios of floors: what bytes and FLOPs allow.
    """
    rows = []
    for name in names:
        model = parameters.describe(name)
        for context in contexts:
            before, after = (
                roofline.decode(model, device, context, kv=form, devices=devices).seconds
                for form in ("bf16", kv)
            )
            plain, packed = (filled(name, device, context, form, devices) for form in ("bf16", kv))
            rows.append(
                {
                    "model": name,
                    "context": context,
                    "alone": before / after,
                    "sequences": plain[0],
                    "sequences packed": packed[0],
                    "filled": plain[1] / packed[1],
                    "bound packed": packed[2],
                }
            )
    return pd.DataFrame(rows)


def everyone(context: int, batch: int, kv: str = "tq3", since: int = 2023):
    """The catalogue's models of a year and later: how many times less memory with a packed cache.

    Latent caches are counted as if they could be packed too. Encoder-decoders are left out.
    """
    rows = []
    for name, entry in catalog.models().items():
        if (entry.year or 0) < since or name.startswith("switch"):
            continue
        model = parameters.describe(name)
        before, after = (
            memory.total_memory(model, kv=form, context=context, batch=batch).total_bytes
            for form in ("bf16", kv)
        )
        rows.append((name, before / after))
    return pd.DataFrame(rows, columns=["model", "factor"])


def measured_bytes(layers: int, heads: int, dim: int, tokens: int, bits: Iterable[int]):
    """Caches filled with random keys and values in bf16: bytes behind their tensors, and counted.

    One row a number of bits, 16 being `transformers`' own cache.
    """
    import torch
    from transformers import DynamicCache, LlamaConfig

    from sizewise.quantization.kv.cache import TurboQuantCache, held_bytes

    config = LlamaConfig(
        num_hidden_layers=layers,
        num_key_value_heads=heads,
        head_dim=dim,
        num_attention_heads=heads,
        hidden_size=heads * dim,
    )
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(1, heads, tokens, dim, generator=draw).bfloat16()
    rows, vectors = [], 2 * layers * heads * tokens
    for width in bits:
        cache = DynamicCache(config=config) if width == 16 else TurboQuantCache(config, bits=width)
        for layer in range(layers):
            cache.update(x.clone(), x.clone(), layer)
        size = held_bytes(cache if width == 16 else cache.trim())
        norm = 2 if width < 16 else 0
        rows.append((width, size, vectors * (dim * width // 8 + norm), 2 * vectors * dim / size))
    return pd.DataFrame(rows, columns=["bits", "in memory", "counted", "times smaller"])
