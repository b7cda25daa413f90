"""Tables of the chapter on the KV cache: bytes, hardware and prices."""

from collections.abc import Iterable

from sizewise.costs import memory, roofline
from sizewise.costs.formats import cache_format
from sizewise.data import catalog, records
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
ANNOUNCED = 6  # times smaller


def bits_stored(format: str, dim: int = 128) -> float:
    """Bits of one number in a cache format for heads of ``dim``, scales and norms included."""
    form = cache_format(format)
    return form.bits + form.per_row / dim


def prior(dim: int = 128):
    """Published formats: bits a number with metadata, and how many times smaller than bf16."""
    import pandas

    rows = [
        {
            "year": year,
            "format": label,
            "bits a number": bits_stored(name, dim),
            "times smaller": 16 / bits_stored(name, dim),
        }
        for name, (year, label) in PRIOR.items()
    ]
    return pandas.DataFrame(rows)


def steps(names: Iterable[str], context: int):
    """Bytes of one sequence's cache, one row a model and step, each step on top of the last.

    From a key and a value for every query head, over shared heads or latents, and windows, to
    TurboQuant's bits. Models that do not take a step repeat the bytes of the last.
    """
    import pandas

    rows = []
    for name in names:
        model = parameters.describe(name)
        shared = memory.kv_cache_bytes(model, context, windows=False)
        sizes = (
            _every_head(model, context),
            shared,
            *(memory.kv_cache_bytes(model, context, format=f) for f in ("bf16", "tq3")),
        )
        for step, size in zip(STEPS, sizes, strict=True):
            rows.append({"model": name, "step": step, "bytes": size})
    return pandas.DataFrame(rows)


def factors(table):
    """Of `steps`: how many times smaller each step makes the cache, one row a model."""
    sizes = table.pivot(index="model", columns="step", values="bytes").loc[
        list(dict.fromkeys(table["model"])), list(STEPS)
    ]
    ratios = {
        "shared heads": sizes[STEPS[0]] / sizes[STEPS[1]],
        "windowed layers": sizes[STEPS[1]] / sizes[STEPS[2]],
        "three bits": sizes[STEPS[2]] / sizes[STEPS[3]],
    }
    return sizes.assign(**ratios)[list(ratios)].reset_index()


def _every_head(model: Model, context: int) -> int:
    """Bytes in bf16 if each query head of grouped or latent attention kept its own."""
    each = memory.kv_cache_by_layer(model, context, windows=False)
    wide = memory.kv_cache_by_layer(model, context, windows=False, absorbed=False)
    total = 0
    for layer, plain, expanded in zip(model.layers, each, wide, strict=True):
        if isinstance(layer.attention, Grouped):
            shared = 1 if layer.attention.shares_kv else layer.attention.kv_heads
            total += plain * layer.attention.query_heads // shared
        else:
            total += expanded if isinstance(layer.attention, Latent) else plain
    return total


def hardware(name: str, contexts: Iterable[int], batches: Iterable[int], factor: float):
    """How many times less memory a service needs if its cache alone is ``factor`` times smaller.

    One row a context and batch, with the bytes before; weights in bf16.
    """
    import pandas

    model, rows = parameters.describe(name), []
    for batch in batches:
        for context in contexts:
            total = memory.total_memory(model, context=context, batch=batch)
            left = total.total_bytes - total.kv_bytes * (1 - 1 / factor)
            rows.append(
                {
                    "context": context,
                    "batch": batch,
                    "bytes": total.total_bytes,
                    "cache": total.kv_bytes / total.total_bytes,
                    "factor": total.total_bytes / left,
                }
            )
    return pandas.DataFrame(rows)


def filled(name: str, device, context: int, kv: str, devices: int = 1, price: float = 1.0):
    """A device filled with sequences: how many fit, and the floor of the price of a token.

    ``price`` is dollars for a device and hour. Activations are left out. Raises ValueError if not
    one sequence fits.
    """
    model = parameters.describe(name)
    free = device.memory_bytes * devices - memory.weights_bytes(model)
    batch = int(free // memory.kv_cache_bytes(model, context, format=kv)) if free > 0 else 0
    if batch < 1:
        raise ValueError(f"{name} leaves no room for {context} tokens on {devices} {device.name}")
    floor = roofline.decode(model, device, context, batch, kv=kv, devices=devices, price=price)
    return {
        "sequences": batch,
        "dollars": floor.dollars_per_million_tokens.low,
        "bound": floor.bound,
    }


def cheaper(names: Iterable[str], device, contexts: Iterable[int], kv: str, devices: int = 1):
    """How many times cheaper a token can be with a packed cache: alone, and with devices filled.

    Both are ratios of floors: what bytes and operations allow.
    """
    import pandas

    rows = []
    for name in names:
        model = parameters.describe(name)
        for context in contexts:
            alone = [
                roofline.decode(model, device, context, kv=form, devices=devices).seconds
                for form in ("bf16", kv)
            ]
            large = [filled(name, device, context, form, devices) for form in ("bf16", kv)]
            rows.append(
                {
                    "model": name,
                    "context": context,
                    "alone": alone[0] / alone[1],
                    "sequences": large[0]["sequences"],
                    "sequences packed": large[1]["sequences"],
                    "filled": large[0]["dollars"] / large[1]["dollars"],
                    "bound packed": large[1]["bound"],
                }
            )
    return pandas.DataFrame(rows)


def everyone(context: int, batch: int, kv: str = "tq3", since: int = 2023):
    """The catalogue's models of a year and later: how many times less memory with a packed cache.

    Latent caches are counted as if they could be packed too. Encoder-decoders are left out.
    """
    import pandas

    rows = []
    for name, entry in catalog.models().items():
        if (entry.year or 0) < since or name.startswith("switch"):
            continue
        model = parameters.describe(name)
        before = memory.total_memory(model, context=context, batch=batch)
        after = memory.total_memory(model, kv=kv, context=context, batch=batch)
        rows.append(
            {
                "model": name,
                "cache": before.kv_bytes,
                "factor": before.total_bytes / after.total_bytes,
            }
        )
    return pandas.DataFrame(rows)


def measured_bytes(layers: int, heads: int, dim: int, tokens: int, bits: Iterable[int]):
    """Caches filled with random keys and values in bf16: bytes behind their tensors, and counted.

    One row a number of bits, 16 being `transformers`' own cache.
    """
    import pandas
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
    rows = []
    for width in bits:
        cache = DynamicCache(config=config) if width == 16 else TurboQuantCache(config, bits=width)
        for layer in range(layers):
            cache.update(x.clone(), x.clone(), layer)
        size = held_bytes(cache if width == 16 else cache.trim())
        counted = 2 * layers * heads * tokens * (dim * width / 8 + (2 if width < 16 else 0))
        rows.append(
            {
                "bits": width,
                "in memory": size,
                "counted": int(counted),
                "times smaller": 4 * layers * heads * tokens * dim / size,
            }
        )
    return pandas.DataFrame(rows)


def fact(name: str) -> dict:
    """An entry of ``data/facts/turboquant.yml``."""
    return next(entry for entry in records.facts("turboquant") if entry["name"] == name)
