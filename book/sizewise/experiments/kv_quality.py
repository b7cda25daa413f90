"""The measurements behind ``data/kv_quality.jsonl``: one function for each kind of row.

Each takes a row's configuration and returns its measured columns. What the plain cache leads to is
kept from row to row, so rows of one model should follow one another.
"""

import re
from functools import lru_cache
from typing import Any

import numpy as np

from sizewise.evaluation import corpora
from sizewise.quantization import quality as losses
from sizewise.quantization.kv import evaluate, needle, store
from sizewise.quantization.kv.cache import TurboQuantCache
from sizewise.stats import bootstrap

from . import weight_quality

Row = dict[str, Any]
BITS = (4, 3, 2)  # of the errors of layers
ERRORS = ("turboquant", "hadamard", "uniform", "kivi")
WIDE = {"int8": 8, "fp8": 8, "plain": None}  # methods that have one width


def way(
    keys: str = "plain",
    keys_bits: int | None = None,
    values: str | None = None,
    values_bits: int | None = None,
    **more,
) -> Row:
    """The columns that say how keys and values are stored; values as keys where not said.

    ``more`` may have ``rotation``, ``residual``, ``seed``, and `TurboQuantCache`'s ``sink``,
    ``plain`` and ``center``.
    """
    values, values_bits = (keys, keys_bits) if values is None else (values, values_bits)
    return {
        "keys": keys,
        "keys_bits": WIDE.get(keys, keys_bits),
        "values": values,
        "values_bits": WIDE.get(values, values_bits),
        "rotation": "haar",
        "residual": 0,
        "seed": 0,
        **more,
    }


PLAIN = way()


def through_cache(row: Row) -> Row:
    """A row of `quality`: loss and divergence from the plain cache, with the bytes held."""
    chosen, (sample, reference, plain) = weight_quality.named(row["model"]), original(read(row))
    result = evaluate.measure(
        chosen.model,
        sample.windows,
        lambda: cache(chosen.model, row),
        reference,
        bytes_of_targets=sample.bytes,
        document=sample.document,
        chunk=row["chunk"],
    )
    messages = losses.compare(result.table, plain)
    change = bootstrap.paired(result.table, plain, "nats", "tokens").difference
    messages |= change.through(np.expm1).columns("perplexity_change")
    return {name: value for name, value in messages.items() if name != "documents"} | {
        "cache_bytes": result.bytes,
        "values_held": reference.values,
        "bits": 8 * result.bytes / reference.values,
        "weights_sha256": chosen.weights_sha256,
    }


def coding_errors(row: Row) -> Row:
    """A row of `layer`: norms and coding errors of one layer's keys or values."""
    x = states(read(row))[row["layer"]][row["side"] == "values"].float()  # (n, heads, t, d)
    norms = x.norm(dim=-1)
    channels = x.square().mean((0, 2)).sqrt()  # (heads, d)
    shared = x.mean((0, 2)).square().sum(-1) / channels.square().sum(-1)  # (heads,)
    result = {
        "dim": x.shape[-1],
        "vectors": norms.numel(),
        "norm": norms.mean().item(),
        "norm_5": norms.flatten().quantile(0.05).item(),
        "norm_95": norms.flatten().quantile(0.95).item(),
        "channel_spread": (channels.amax(-1) / channels.median(-1).values).mean().item(),
        "constant": shared.mean().item(),
    }
    for method in ERRORS:
        for bits in BITS:
            name, turn = ("turboquant", "hadamard") if method == "hadamard" else (method, "haar")
            side = "keys" if method == "kivi" else row["side"]  # by channel, whatever the side
            coder = store.codec(name, bits, x.shape[-1], side, turn, row["seed"])
            difference = (coder.decode(coder.encode(x)) - x).norm(dim=-1)
            result[f"error_{method}_{bits}"] = (difference / norms).square().mean().item()
    return result


def facts_found(row: Row) -> Row:
    """A row of `needle`: right answers after a long text, and how unlikely the right ones are."""
    table = answers(**{name: value for name, value in row.items() if name != "what"})
    plain = answers(**{name: value for name, value in (row | PLAIN).items() if name != "what"})
    messages = {"questions": len(table), "distance": float(table["distance"].mean())}
    for name, column in (("right", "right"), ("answer_nats", "nats")):
        messages |= bootstrap.ratio(table, column, by="question").columns(name)
        change = bootstrap.paired(table, plain, column, by="question").difference
        messages |= change.columns(f"{name}_change")
    return messages


def cache(model, row: Row) -> TurboQuantCache:
    """An empty cache that stores as the row says."""
    sides = {side: (row[side], row[f"{side}_bits"] or 16) for side in ("keys", "values")}
    options = {name: row[name] for name in ("sink", "plain", "center") if row.get(name)}
    return TurboQuantCache(
        model.config,
        residual=row["residual"],
        rotation=row["rotation"],
        seed=row["seed"],
        **options,
        **sides,
    )


def read(row: Row) -> tuple:
    """The model and the text of a row."""
    return tuple(row[name] for name in ("model", "text", "context", "documents"))


@lru_cache(maxsize=1)
def original(key: tuple):
    """The sample of a row, what the plain cache leads to on it, and the table of its losses."""
    name, text, context, documents = key
    chosen = weight_quality.named(name)
    sample = chosen.sample(context, documents, text)
    reference = evaluate.original(chosen.model, sample.windows)
    plain = evaluate.measure(
        chosen.model,
        sample.windows,
        lambda: plain_cache(chosen.model),
        reference,
        bytes_of_targets=sample.bytes,
        document=sample.document,
    )
    return sample, reference, plain.table


def plain_cache(model):
    """The cache that `transformers` makes itself."""
    from transformers import DynamicCache

    return DynamicCache(config=model.config)


@lru_cache(maxsize=1)
def states(key: tuple):
    """Keys and values of all layers on a text."""
    name, text, context, documents = key
    chosen = weight_quality.named(name)
    return evaluate.keys_and_values(
        chosen.model, chosen.sample(context, documents, text).windows, chunk=context
    )


@lru_cache(maxsize=8)
def answers(model, text, context, needles, documents, **stored):
    """All questions of some haystacks, put to a cache: one row each."""
    import pandas

    chosen, parts = weight_quality.named(model), []
    for number in range(documents):
        stack = needle.haystack(
            chosen.tokenizer, sentences(text), context, needles=needles, seed=number
        )
        parts.append(needle.ask(chosen.model, stack, lambda: cache(chosen.model, stored)))
    table = pandas.concat(parts, ignore_index=True)
    return table.assign(question=range(len(table)))


@lru_cache(maxsize=1)
def sentences(name: str) -> tuple[str, ...]:
    """Sentences of 6 to 30 words of the first texts."""
    result = (
        item
        for document in corpora.fixed(name, count=60)
        for item in re.split(r"(?<=[.!?])\s+", " ".join(document.split()))
    )
    return tuple(item for item in result if 6 <= len(item.split()) <= 30)
