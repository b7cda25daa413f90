"""The measurements behind ``data/weight_quality.jsonl``: one function for each kind of row.

Each takes a row's configuration and returns its measured columns. Laboratory models are called
dense-WIDTH; every other name is one of `sizewise.models.pretrained`. The model of the last row is
kept, so rows of one model should follow one another.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from sizewise.quantization import quality
from sizewise.quantization.weights import convert, layers, pruning, rounding
from sizewise.stats import bootstrap

LAB = "dense-"
LAB_TEXTS = ("validation", "bbc")  # of what it was trained on, and news that it never saw
CALIBRATION = 32  # windows for GPTQ and AWQ, none of those measured
PROBED, TRAINED, TESTED = "rotten-tomatoes", 500, 500
NEIGHBOURS = 10
Row = dict[str, Any]


@dataclass(frozen=True)
class Subject:
    """A causal language model in fp32, where its text comes from, and where its weights do."""

    name: str
    model: Any
    sample: Callable[[int, int, str], quality.Sample]  # (context, documents, text)
    calibration: Callable[[int], np.ndarray]  # (context) -> windows
    weights_sha256: str
    tokenizer: Any = None


# --- models


def subject(row: Row) -> Subject:
    """The model of a row: trained or fetched once, then from the cache."""
    trained = (row.get("trained_tokens"), row.get("trained_context", row["context"]))
    return named(row["model"], *(trained if row["model"].startswith(LAB) else (None, None)))


@lru_cache(maxsize=1)
def named(name: str, tokens: int | None = None, context: int | None = None) -> Subject:
    """The model of this name; a laboratory model also needs what it was trained on."""
    if name.startswith(LAB):
        return _laboratory(name, tokens, context)
    from sizewise.evaluation import corpora
    from sizewise.models import pretrained

    loaded = pretrained.load(name, dtype="fp32")

    def sample(context: int, documents: int, text: str) -> quality.Sample:
        return quality.of_texts(loaded.tokenizer, corpora.fixed(text), context, documents)

    def calibration(context: int) -> np.ndarray:
        return sample(context, CALIBRATION, "brown").windows

    return Subject(name, loaded.model.eval(), sample, calibration, loaded.sha256, loaded.tokenizer)


def lab_run(name: str, tokens: float, context: int):
    """The training run behind dense-WIDTH: equal tokens whatever the width."""
    from sizewise.training import flops, models, run_config

    width = int(name.removeprefix(LAB))
    cost = flops.size(models.spec("dense", width, 1024, context)).operations_per_token
    return run_config.at_budget(tokens * cost, width, context=context)


def _laboratory(name: str, tokens: int, context: int) -> Subject:
    from sizewise.training import batches, checkpoints

    trained = checkpoints.trained(lab_run(name, tokens, context), progress=True)

    def sample(context: int, documents: int, text: str) -> quality.Sample:
        if text == LAB_TEXTS[0]:
            return quality.of_tokens(trained.tokens, context, documents)
        return _news(trained.tokens, context, documents, text)

    def calibration(context: int) -> np.ndarray:
        return batches.fixed(trained.tokens.train, context, CALIBRATION)[0].numpy()

    return Subject(name, trained.model.eval(), sample, calibration, trained.sha256)


def _news(tokens, context: int, documents: int, text: str) -> quality.Sample:
    """The first window of each of some labelled texts, by the laboratory's own tokenizer."""
    from sizewise.evaluation import corpora
    from sizewise.training import tokenizer

    encoder, windows = tokenizer.reader(tokens), []
    for article in corpora.labelled(text).texts:
        ids = encoder.encode(article[: 16 * context]).ids
        if len(ids) > context:
            windows.append(ids[: context + 1])
        if len(windows) == documents:
            break
    else:
        raise ValueError(f"only {len(windows)} texts of {text} have {context + 1} tokens")
    windows = np.array(windows, np.int64)
    return quality.Sample(
        windows, tokens.bytes_of[windows[:, 1:]].astype(np.int64), np.arange(documents)
    )


# --- language models


def in_format(row: Row) -> Row:
    """A row of `quality`: a language model in a format against itself in fp32."""
    chosen = subject(row)
    model, stored = rounded(chosen.model, row, lambda: chosen.calibration(row["context"]))
    return compared(row, model) | stored | {"weights_sha256": chosen.weights_sha256}


def pruned(row: Row) -> Row:
    """A row of `pruning`: the smallest weights zero, then perhaps a format.

    ``bits`` are those of a weight with a bit map of what is left, if that is less than storing
    the zeros.
    """
    model, sizes = _pruned_then_rounded(copy.deepcopy(subject(row).model), row)
    return compared(row, model) | sizes


def _pruned_then_rounded(model, row: Row) -> tuple[Any, Row]:
    """A model, changed in place, and its sizes with a bit map where that is smaller."""
    zeros, elements = pruning.prune(model, row["share"])
    model, sizes = rounded(model, row, None, in_place=True)
    width = layers.FORMATS[row["format"]].bits
    sparse = sizes["bits"] - width + 1 + (1 - zeros / elements) * width
    return model, sizes | {"zeros": zeros, "bits": min(sizes["bits"], sparse)}


def rounded(
    model, row: Row, calibration: Callable | None, in_place: bool = False
) -> tuple[Any, Row]:
    """A model in the row's format, and what its matrices and the whole then take.

    ``stored_bytes`` is the model as it would be used: what the format leaves alone in bf16.
    """
    form, parameters = layers.FORMATS[row["format"]], sum(p.numel() for p in model.parameters())
    changed = model if in_place or form.name == "fp32" else copy.deepcopy(model)
    if form.cast:
        convert.convert(changed, form.name)
        return changed, {
            "parameters": parameters,
            "elements": parameters,
            "bits": float(form.bits),
            "stored_bytes": parameters * form.bits // 8,
        }
    windows = calibration() if form.calibrated else None
    shift = row.get("shift", 0)
    done = rounding.round_matrices(changed, form.name, shift=shift, calibration=windows)
    return changed, {
        "parameters": parameters,
        "elements": done.elements,
        "bits": 8 * done.nbytes / done.elements,
        "stored_bytes": done.nbytes + 2 * (parameters - done.elements),
    }


def compared(row: Row, model) -> Row:
    """What a model loses against its subject, on the row's text."""
    key = tuple(row.get(name) for name in READS)
    sample, before = _original(key)
    table = before
    if model is not subject(row).model:
        table = quality.measure(model, sample, subject(row).model)
    measured = quality.compare(table, before, seed=row["seed"])
    return {name: value for name, value in measured.items() if name != "documents"}


READS = ("model", "trained_tokens", "trained_context", "context", "documents", "text")


@lru_cache(maxsize=2)
def _original(key: tuple):
    """The sample of a row and the table of its subject's own losses in fp32."""
    row = dict(zip(READS, key, strict=True))
    if row["trained_context"] is None:
        row.pop("trained_context")
    chosen = subject(row)
    sample = chosen.sample(row["context"], row["documents"], row["text"])
    return sample, quality.measure(chosen.model, sample)


def stored(row: Row) -> Row:
    """A row of `file`: a GGUF file by its tensor types, against its label."""
    from sizewise.models import checkpoint, pretrained

    fetched = pretrained.fetch(row["model"])
    file = checkpoint.read(fetched.folder / fetched.files[0].name)
    shares = (f"{kind.type} {kind.parameters / file.parameters:.1%}" for kind in file.by_type())
    return {
        "label": fetched.stored,
        "file_bytes": file.file_bytes,
        "tensor_bytes": file.tensor_bytes,
        "parameters": fetched.parameters,
        "elements": file.parameters,
        "types": ", ".join(shares),
    }


# --- sentence encoders


def embedded(row: Row) -> Row:
    """A row of `encoder`: angles to the fp32 vectors, neighbours kept, a probe's right answers.

    With a ``share``, the smallest weights are set to zero before rounding; see `pruned`.

    The probe is trained on vectors of the same format. Intervals draw the tested texts.
    """
    from sizewise.models import pretrained

    (texts, labels), before = _vectors(row["model"])
    encoder = pretrained.encoder(row["model"])
    if row.get("share"):
        _, sizes = _pruned_then_rounded(encoder.model, row)
    else:
        windows = _windows(encoder.tokenizer)
        _, sizes = rounded(encoder.model, row, lambda: windows, in_place=True)
    plain = row["format"] == "fp32" and not row.get("share")
    after = before if plain else encoder.embed(list(texts))
    return _apart(after, before, labels, row["seed"]) | sizes


def _windows(tokenizer, context: int = 64) -> np.ndarray:
    """Windows of running text for calibration: reviews that the probe does not use."""
    from sizewise.evaluation import corpora

    reviews = corpora.labelled(PROBED).texts[TRAINED + TESTED :]
    ids = tokenizer(" ".join(reviews[:400]), add_special_tokens=False)["input_ids"]
    return np.array(ids[: CALIBRATION * context]).reshape(CALIBRATION, context)


@lru_cache(maxsize=1)
def _vectors(name: str):
    """The texts and labels, trained on first, and their vectors in fp32."""
    from sizewise.evaluation import corpora
    from sizewise.models import pretrained

    first, last = corpora.labelled(PROBED).split(TRAINED, TESTED)
    texts = (*first.texts, *last.texts)
    return (texts, [*first.labels, *last.labels]), pretrained.encoder(name).embed(list(texts))


def _apart(after, before, labels, seed: int) -> Row:
    import pandas

    from sizewise.evaluation import embedding

    def probe(vectors):
        return embedding.probe(
            vectors[:TRAINED], labels[:TRAINED], vectors[TRAINED:], labels[TRAINED:]
        )

    table = pandas.DataFrame(
        {
            "item": range(len(after)),
            "error": (1 - embedding.cosine(after, before)).clip(0),  # rounding gives -1e-8
            "kept": embedding.recall(after, before, NEIGHBOURS),
        }
    )
    right, original = probe(after), probe(before)
    by = {"by": "item", "seed": seed}
    change = bootstrap.paired(right, original, "right", **by).difference
    return {
        **bootstrap.ratio(table, "error", **by).columns("cosine_error"),
        **bootstrap.ratio(table, "kept", **by).columns("recall"),
        **bootstrap.ratio(right, "right", **by).columns("probe_accuracy"),
        **change.columns("probe_change"),
    }
