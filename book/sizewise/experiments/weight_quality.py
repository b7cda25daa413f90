"""The measurements behind ``data/weight_quality.jsonl``: one function for each kind of row.

Each takes a row's configuration and returns its measured columns. Laboratory models are called
dense-WIDTH; every other name is one of `sizewise.models.pretrained`. The model of the last row
is kept, so rows of one model should follow one another.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sizewise.quantization import quality, tensor_bytes
from sizewise.quantization.weights import convert, pruning

LAB = "dense-"
SIDES = ("validation", "validation, other windows")  # texts of laboratory models
Row = dict[str, Any]


@dataclass(frozen=True)
class Subject:
    """A causal language model in fp32, where its text comes from, and where its weights do."""

    name: str
    model: Any
    sample: Callable[[int, int, str], quality.Sample]  # (context, documents, text)
    weights_sha256: str
    tokenizer: Any = None


def subject(row: Row) -> Subject:
    """The model of a row: trained or fetched once, then from the cache."""
    return named(row["model"], row.get("trained_tokens"))


@lru_cache(maxsize=1)
def named(name: str, trained_tokens: int | None = None) -> Subject:
    """The model of this name; a laboratory model also needs the tokens that it was trained on."""
    if name.startswith(LAB):
        return _of_laboratory(name, trained_tokens)
    from sizewise.evaluation import corpora
    from sizewise.models import pretrained

    found = pretrained.load(name, dtype="fp32")

    def sample(context: int, documents: int, text: str) -> quality.Sample:
        return quality.of_texts(found.tokenizer, corpora.fixed(text), context, documents)

    return Subject(name, found.model.eval(), sample, found.sha256, found.tokenizer)


def lab_run(name: str, tokens: float):
    """The training run behind dense-WIDTH: `plan.Run`, equal tokens whatever the width.

    Those of `scripts/emergence.py`, so that a model is trained once for both.
    """
    from sizewise.training import flops, models, run_config

    width = int(name.removeprefix(LAB))
    cost = flops.size(models.spec("dense", width)).operations_per_token
    return run_config.at_budget(tokens * cost, width)


def _of_laboratory(name: str, tokens: int) -> Subject:
    from sizewise.training import checkpoints

    found = checkpoints.trained(lab_run(name, tokens), progress=True)

    def sample(context: int, documents: int, text: str) -> quality.Sample:
        both = quality.of_tokens(found.tokens, context, 2 * documents)
        return both.every(2, SIDES.index(text))

    return Subject(name, found.model.eval(), sample, found.sha256)


def original(row: Row):
    """The sample of a row and the table of its subject's own losses in fp32."""
    return _original(*(row.get(name) for name in READS))


READS = ("model", "trained_tokens", "context", "documents", "text")


@lru_cache(maxsize=1)
def _original(name: str, trained: int | None, context: int, documents: int, text: str):
    chosen = named(name, trained)
    sample = chosen.sample(context, documents, text)
    return sample, quality.measure(chosen.model, sample)


def converted(model, row: Row, prune: float = 0.0):
    """A copy of ``model`` in the row's format, and what pruning did to it (or None).

    ``rest`` is the precision of what the format does not convert.
    """
    made = copy.deepcopy(model)
    pruned = pruning.prune(made, prune) if prune else None
    if row.get("rest", "fp32") != "fp32":
        convert.convert(made, row["rest"])
    if row["format"] != row.get("rest", "fp32"):
        made = convert.convert(made, row["format"]).model
    return made, pruned


def compared(row: Row, model) -> Row:
    """What a model loses against its subject, on the row's text."""
    sample, before = original(row)
    table = before
    if model is not subject(row).model:
        table = quality.measure(model, sample, subject(row).model)
    found = quality.compare(table, before, seed=row["seed"])
    return {name: value for name, value in found.items() if name != "documents"}


def bytes_held(model, row: Row) -> Row:
    """The bytes of a converted model by role, and the parameters of its subject."""
    sizes = tensor_bytes.measure_bytes(model).as_dict()
    named = {f"{role}_bytes": size for role, size in sizes.items() if role != "total"}
    parameters = sum(one.numel() for one in subject(row).model.parameters())
    return {"parameters": parameters, "held_bytes": sizes["total"], **named}


def in_format(row: Row) -> Row:
    """A row of `quality`: a language model in a format against itself in fp32."""
    chosen = subject(row)
    plain = row["format"] == row["rest"] == "fp32"
    model = chosen.model if plain else converted(chosen.model, row)[0]
    sizes = bytes_held(model, row)
    return compared(row, model) | sizes | {"weights_sha256": chosen.weights_sha256}


def beside(row: Row) -> Row:
    """A row of `sizes`: a model in fp32 less another one, on the same documents.

    Raises ValueError if the two models do not read the same tokens.
    """
    import numpy as np

    from sizewise.evaluation import likelihood
    from sizewise.stats import bootstrap

    sample, before = original(row | {"model": row["against"]})
    again, table = original(row)
    if not np.array_equal(sample.windows, again.windows):
        raise ValueError(f"{row['model']} and {row['against']} do not read the same tokens")
    found = bootstrap.paired(table, before, *likelihood.BITS_PER_BYTE, seed=row["seed"])
    return {
        "tokens_scored": sample.tokens,
        "bytes_scored": int(sample.bytes.sum()),
        **quality.interval("loss_change", found.difference),
    }


def pruned(row: Row) -> Row:
    """A row of `pruning`: the smallest weights zero, then perhaps a format."""
    model, done = converted(subject(row).model, row, row["share"])
    dense = matrix_bytes(model, done, row["format"])
    return compared(row, model) | {
        "elements": done.elements,
        "zeros": done.zeros,
        "held_bytes": tensor_bytes.measure_bytes(model).total,
        "dense_bytes": dense,
        "sparse_bytes": pruning.sparse_bytes(dense, done, row["format"]),
    }


def matrix_bytes(model, done: pruning.Pruned, form: str) -> int:
    """Bytes of the matrices that pruning went through, as the format holds them."""
    sizes = tensor_bytes.measure_bytes(model)
    if sizes.codes:
        return sizes.codes + sizes.scales + sizes.codebooks
    return done.elements * pruning.VALUE_BITS[form] // 8


def stored(row: Row) -> Row:
    """A row of `file`: a GGUF file by its tensor types, against its label."""
    from sizewise.models import gguf, pretrained

    found = pretrained.fetch(row["model"])
    file = gguf.read(found.folder / found.files[0].name)
    return {
        "label": found.stored,
        "file_bytes": file.file_bytes,
        "tensor_bytes": file.all.bytes,
        "parameters": found.parameters,
        "elements": file.all.elements,
        "types": ", ".join(
            f"{one.type} {one.elements / file.all.elements:.1%}" for one in file.types
        ),
    }
