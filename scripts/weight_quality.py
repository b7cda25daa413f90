"""Measure what number formats cost a model: bits stored, loss, divergence, neighbours kept.

    python scripts/weight_quality.py
    python scripts/weight_quality.py --what encoder --models minilm-l6 --formats nf4,int8

Models are the laboratory's own (dense-WIDTH), trained here once and kept, and those that
`sizewise.models.pretrained` knows, fetched once and checked by their SHA-256. A row compares one
model in one format with the same model in fp32; that of the last row is kept, so rows of one model
follow one another. Rows go to data/weight_quality.jsonl; what has a row is not measured again.
"""

import argparse
import copy
import math
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from sizewise import validation
from sizewise.data import records
from sizewise.evaluation import likelihood
from sizewise.experiments import engine
from sizewise.quantization import tensor_bytes
from sizewise.quantization.weights import calibrated, convert, layers
from sizewise.stats import bootstrap
from sizewise.units import unknown

Row = dict[str, Any]
SUBJECT, SUBJECT_TOKENS, CONTEXT, WINDOWS = "dense-192", 3_000_000, 512, 200
FEWER = 60  # windows of the second text, and of roundings whose groups begin elsewhere
LADDER, LADDER_CONTEXT = "dense-64", 128  # one size, trained on more and more
LADDER_TOKENS = (250_000, 750_000, 2_250_000, 6_750_000)
LADDER_FORMATS = ("fp32", "int8", "nf4", "fp4", "nf3")
GGUF = ("smollm2-135m", "gemma-3-270m", "qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b")
ENCODERS = ("minilm-l6", "mpnet-base")
FORMATS = (
    *("fp32", "bf16", "int8", "fp8", "q8_0", "nf4", "nf4-dq", "fp4", "mxfp4", "nvfp4", "q4_0"),
    *("int4", "hqq4", "awq4", "gptq4", "nf3", "int3", "hqq3", "awq3", "gptq3"),
)
GROUPED = ("nf4", "fp4", "mxfp4", "nvfp4", "q4_0", "int4", "gptq4", "nf3")
SHIFTS = (0, 11, 23, 41)  # columns by which the beginnings of groups are moved; of no common factor
SECOND = ("fp32", "bf16", "int8", "nf4", "fp4", "nf3", "mxfp4", "nvfp4", "q4_0", "gptq4")
SHARES = (0.25, 0.5)  # of the weights that pruning sets to zero
LAB = "dense-"
LAB_TEXTS = ("validation", "bbc")  # of what it was trained on, and news that it never saw
CALIBRATION = 32  # windows for GPTQ and AWQ, none of those measured
PROBED, TRAINED, TESTED = "rotten-tomatoes", 500, 500
NEIGHBOURS = 10
# Two see changes that the loss hides, since a model can be right for other reasons (Dutta et al.
# 2024, "Accuracy is Not All You Need"): the divergence from the original, and how often both would
# choose the same token.
MEASURES = {
    "nats_per_token": ("nats", "tokens", 1.0),
    "bits_per_byte": likelihood.BITS_PER_BYTE,
    "kl": ("kl", "tokens", 1.0),
    "agreement": ("agree", "tokens", 1.0),
}


# --- the rows


def quality_rows(formats) -> Iterator[Row]:
    """The laboratory's model in every format, on two texts; and with groups begun elsewhere."""
    common = {"model": SUBJECT, "trained_tokens": SUBJECT_TOKENS, "trained_context": CONTEXT}
    for text, windows in zip(LAB_TEXTS, (WINDOWS, FEWER), strict=True):
        for form in formats:
            yield common | _read(form, text, CONTEXT, windows)
    for form in (form for form in formats if form in ("fp32", *GROUPED)):
        for shift in SHIFTS if form in GROUPED else (0,):
            yield common | _read(form, LAB_TEXTS[0], CONTEXT, FEWER) | {"shift": shift}
    yield from _second_rounding(formats)


def _second_rounding(formats) -> Iterator[Row]:
    """SmolLM2, whose published file was rounded to four bits before."""
    for form in formats:
        if form in SECOND:
            yield {"model": GGUF[0], "rest": "fp32"} | _read(form, "sotu", 192, 32)


def pruning_rows(formats) -> Iterator[Row]:
    """The laboratory's model with half its weights gone: alone, and with four bits."""
    common = {"model": SUBJECT, "trained_tokens": SUBJECT_TOKENS, "trained_context": CONTEXT}
    for form in ("fp32", "nf4"):
        yield common | _read(form, LAB_TEXTS[0], CONTEXT, WINDOWS) | {"share": SHARES[-1]}


def training_rows(formats) -> Iterator[Row]:
    """One size of model, trained on more and more tokens."""
    for tokens in LADDER_TOKENS:
        common = {"model": LADDER, "trained_tokens": tokens, "trained_context": LADDER_CONTEXT}
        for form in LADDER_FORMATS:
            yield common | _read(form, LAB_TEXTS[0], LADDER_CONTEXT, 800)


def encoder_rows(formats) -> Iterator[Row]:
    """Sentence encoders, which were never rounded: how far vectors move, and what that does."""
    for model in ENCODERS:
        # The larger one shows whether the order of the formats holds, not every format again.
        for form in (form for form in formats if model == ENCODERS[0] or form in SECOND):
            yield {"model": model, "format": form, "texts": 1000, "seed": 0}
        for form in (form for form in ("fp32", "nf4") if form in formats):
            for share in SHARES:
                row = {"model": model, "format": form, "texts": 1000, "seed": 0}
                yield row | {"share": share}


def file_rows(formats) -> Iterator[Row]:
    """Published GGUF files by what is in them."""
    for model in GGUF:
        yield {"model": model}


def _read(form: str, text: str, context: int, documents: int) -> Row:
    return {"format": form, "text": text, "context": context, "documents": documents, "seed": 0}


# --- samples


@dataclass(frozen=True)
class Sample:
    """Windows of text: tokens (n, T), bytes of their targets (n, T - 1), whose document (n,)."""

    windows: np.ndarray
    bytes: np.ndarray
    document: np.ndarray


def of_texts(tokenizer, texts: Iterable[str], context: int, documents: int) -> Sample:
    """The first window of each of the first ``documents`` texts that fill one.

    One window a document: two of one document tell less than one each of two.
    Raises ValueError if fewer texts are long enough.
    """
    validation.whole("the documents", documents, 100_000, bootstrap.LEAST)
    result = []
    for text in texts:
        # No token is shorter than a byte; a text of a few times the window's tokens fills it.
        subset = text[: 16 * context]
        try:
            windows, sizes, _ = likelihood.documents(tokenizer, [subset], context)
        except ValueError:
            continue
        result.append((windows[0], sizes[0]))
        if len(result) == documents:
            break
    if len(result) < documents:
        raise ValueError(f"only {len(result)} texts have a window of {context} tokens")
    windows, sizes = (np.stack(part) for part in zip(*result, strict=True))
    return Sample(windows, sizes, np.arange(documents))


def of_tokens(tokens, context: int, number: int) -> Sample:
    """``number`` windows spread evenly over the validation side of a laboratory's text."""
    from sizewise.training import batches

    ids, targets = (part.numpy() for part in batches.fixed(tokens.validation, context, number))
    windows = np.concatenate([ids, targets[:, -1:]], 1)  # (n, context + 1)
    sizes = tokens.bytes_of[targets].astype(np.int64)  # (n, context)
    return Sample(windows, sizes, np.arange(len(windows)))


def scored(model, sample: Sample, reference=None):
    """One row a window: `likelihood.measure` on a sample."""
    columns = {"bytes_of_targets": sample.bytes, "document": sample.document}
    return likelihood.measure(model, sample.windows, **columns, reference=reference)


def compare(table, original, *, seed: int = 0) -> dict[str, Any]:
    """The measured columns of ``data/weight_quality.md`` from what `scored` gave for a model.

    ``table`` was measured against the model that ``original`` is the table of; where both are one
    table it is the model itself, whose divergence is 0. Raises ValueError for a model that gave
    a number that is not finite.
    """
    if table is original:
        table = table.assign(kl=0.0, agree=table["tokens"])
    result: dict[str, Any] = {
        "documents": int(table["document"].nunique()),
        "tokens_scored": int(table["tokens"].sum()),
        "bytes_scored": int(table["bytes"].sum()),
    }
    for name, columns in MEASURES.items():
        result |= bootstrap.ratio(table, *columns, seed=seed).columns(name)
    added = bootstrap.paired(table, original, *likelihood.BITS_PER_BYTE, seed=seed)
    return result | added.difference.columns("loss_change")


# --- models


@dataclass(frozen=True)
class Subject:
    """A causal language model in fp32, where its text comes from, and where its weights do."""

    name: str
    model: Any
    sample: Callable[[int, int, str], Sample]  # (context, documents, text)
    calibration: Callable[[int], np.ndarray]  # (context) -> windows
    weights_sha256: str
    tokenizer: Any = None


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

    def sample(context: int, documents: int, text: str) -> Sample:
        return of_texts(loaded.tokenizer, corpora.fixed(text), context, documents)

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

    trained = checkpoints.trained(lab_run(name, tokens, context))

    def sample(context: int, documents: int, text: str) -> Sample:
        if text == LAB_TEXTS[0]:
            return of_tokens(trained.tokens, context, documents)
        return _news(trained.tokens, context, documents, text)

    def calibration(context: int) -> np.ndarray:
        return batches.fixed(trained.tokens.train, context, CALIBRATION)[0].numpy()

    return Subject(name, trained.model.eval(), sample, calibration, trained.sha256)


def _news(tokens, context: int, documents: int, text: str) -> Sample:
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
    return Sample(windows, tokens.bytes_of[windows[:, 1:]].astype(np.int64), np.arange(documents))


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
    zeros, elements = prune(model, row["share"])
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
    elements, nbytes = round_matrices(changed, form.name, shift=shift, calibration=windows)
    return changed, {
        "parameters": parameters,
        "elements": elements,
        "bits": 8 * nbytes / elements,
        "stored_bytes": nbytes + 2 * (parameters - elements),
    }


def round_matrices(model, name: str, *, shift: int = 0, calibration=None) -> tuple[int, int]:
    """Round every linear layer but the output head to format ``name``, in place: how many weights
    were rounded, and the bytes of their codes, scales and tables.

    A model's answers depend on the values that its codes stand for, not on how they are multiplied
    (but for LLM.int8(), which rounds activations too and is converted for good). Where groups of
    weights begin is arbitrary, and another start is another rounding: ``shift`` moves the columns
    round by so many before encoding and back after it. Layers whose width the format's group does
    not divide stay as they are. Raises ValueError as
    `convert.convert` does, and for LLM.int8() with a shift, which has no groups.
    """
    import torch

    form = layers.FORMATS[name]
    if name == "int8":
        if shift:
            raise ValueError("LLM.int8() has a scale a row: shifting its columns changes nothing")
        done = convert.convert(model, name)
        return done.weights, done.stored.codes + done.stored.scales
    selected, _ = convert.select_layers(model, form)
    paths = sorted(selected & set(convert.linear_layers(model)))
    moments = calibrated.second_moments(model, calibration, paths) if form.calibrated else {}
    elements = nbytes = 0
    with torch.no_grad():
        for path in paths:
            weight = model.get_submodule(path).weight
            moved = None if path not in moments else moments[path].roll((shift, shift), (0, 1))
            value, size = round_matrix(weight.detach().float().roll(shift, 1), name, moved)
            weight.copy_(value.roll(-shift, 1))
            elements, nbytes = elements + weight.numel(), nbytes + size
    return elements, nbytes


def round_matrix(weight, name: str, moments=None):
    """The values that a format has for a weight (out, in), fp32, and the bytes that they take."""
    form = layers.FORMATS[name]
    layer = form.make(layers.linear_of(weight), weight.device, moments)
    return form.decode(layer).float(), tensor_bytes.measure_bytes(layer).total


def mask(weight, share: float):
    """True where a weight stays: all but the ``floor(share * n)`` of least magnitude.

    Unstructured (Han et al. 2015, "Learning both Weights and Connections", section 3.2, without the
    training afterwards): a zero may stand anywhere. weight (out, in) -> bool of the same shape.
    Equal magnitudes go in the order in which they lie.
    Raises ValueError unless ``share`` is a number from 0 to under 1.
    """
    import torch

    if not isinstance(share, int | float) or isinstance(share, bool) or not 0 <= share < 1:
        raise ValueError(f"the share to prune must be from 0 to under 1, got {share!r}")
    removed = math.floor(share * weight.numel())
    order = weight.detach().abs().flatten().argsort(stable=True)  # (out * in,)
    stays = torch.ones(weight.numel(), dtype=torch.bool, device=weight.device)
    stays[order[:removed]] = False
    return stays.view(weight.shape)


def prune(model, share: float) -> tuple[int, int]:
    """Set the smallest ``share`` of each linear layer's weights to zero, in place.

    Every matrix loses the same share; the output head stays whole. Returns how many
    are zero, of how many.
    Prune first, convert then: a converted layer is none to prune.
    Raises ValueError for a bad share and for a model without a linear layer in floating point.
    """
    import torch

    head = convert.head(model)
    paths = [path for path in convert.linear_layers(model) if path not in head]
    if not paths:
        raise ValueError("the model has no linear layer in floating point to prune")
    elements = zeros = 0
    with torch.no_grad():
        for path in paths:
            weight = model.get_submodule(path).weight
            weight.mul_(mask(weight, share))
            elements += weight.numel()
            zeros += int((weight == 0).sum())
    return zeros, elements


def compared(row: Row, model) -> Row:
    """What a model loses against its subject, on the row's text."""
    key = tuple(row.get(name) for name in READS)
    sample, before = _original(key)
    table = before
    if model is not subject(row).model:
        table = scored(model, sample, subject(row).model)
    measured = compare(table, before, seed=row["seed"])
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
    return sample, scored(chosen.model, sample)


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


# --- the command

KINDS = {  # what: (rows, measure)
    "quality": (quality_rows, in_format),
    "pruning": (pruning_rows, pruned),
    "encoder": (encoder_rows, embedded),
    "training": (training_rows, in_format),
    "file": (file_rows, stored),
}


def measure(config: Row) -> Row:
    """One row."""
    return KINDS[config["what"]][1](config)


def rows(args: argparse.Namespace) -> list[Row]:
    """The rows that the command line asks for, those of one model together."""
    return [
        {"what": kind} | row
        for kind in args.what
        for row in KINDS[kind][0](args.formats)
        if not args.models or row["model"] in args.models
    ]


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add, names = parser.add_argument, (lambda text: text.split(","))
    add("--what", type=names, default=list(KINDS), help=f"kinds of rows: {', '.join(KINDS)}")
    add("--models", type=names, default=[], help="only rows of these models")
    add("--formats", type=names, default=list(FORMATS), help=f"of {', '.join(FORMATS)}")
    add("--threads", type=int, default=2, help="of torch; losses differ in the last digits")
    add("--output", type=Path, default=records.path("weight_quality"), help="another file")
    add("--list", action="store_true", help="print the rows and measure none")
    args = parser.parse_args(argv)
    for kind in args.what:
        if kind not in KINDS:
            raise unknown("kind of row", kind, KINDS)
    for model in args.models:
        if not model.startswith(LAB) and model not in (*GGUF, *ENCODERS):
            raise unknown("model", model, (SUBJECT, LADDER, *GGUF, *ENCODERS))
    for form in args.formats:
        if reason := convert.refusal(form):
            raise ValueError(f"{form} cannot be used here: {reason}")
    return args


def main() -> None:
    try:
        args = arguments()
        if args.list:
            for row in rows(args):
                print("  ".join(f"{name} {value}" for name, value in row.items()))
            return
        import torch

        torch.set_num_threads(args.threads)
        # In this process, one after the other: models are large and kept between rows.
        engine.run_all(measure, rows(args), args.output, workers=1, backend="here")
    except (ValueError, RuntimeError) as error:
        sys.exit(f"weight_quality: {error}")


if __name__ == "__main__":
    main()
