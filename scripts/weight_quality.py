"""Measure what number formats cost a model: bits stored, loss, divergence, neighbours kept.

    python scripts/weight_quality.py
    python scripts/weight_quality.py --what encoder --models minilm-l6 --formats nf4,int8

Models are the laboratory's own (dense-WIDTH), trained here once and kept, and those that
`sizewise.models.pretrained` knows, fetched once and checked by their SHA-256. A row compares one
model in one format with the same model in fp32. Rows go to data/weight_quality.jsonl; what has a
row is not measured again.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sizewise.data import records
from sizewise.experiments import engine, weight_quality
from sizewise.experiments.weight_quality import LAB, LAB_TEXTS
from sizewise.quantization.weights import convert
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


def quality(formats) -> Iterator[Row]:
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


def pruning(formats) -> Iterator[Row]:
    """The laboratory's model with half its weights gone: alone, and with four bits."""
    common = {"model": SUBJECT, "trained_tokens": SUBJECT_TOKENS, "trained_context": CONTEXT}
    for form in ("fp32", "nf4"):
        yield common | _read(form, LAB_TEXTS[0], CONTEXT, WINDOWS) | {"share": SHARES[-1]}


def training(formats) -> Iterator[Row]:
    """One size of model, trained on more and more tokens."""
    for tokens in LADDER_TOKENS:
        common = {"model": LADDER, "trained_tokens": tokens, "trained_context": LADDER_CONTEXT}
        for form in LADDER_FORMATS:
            yield common | _read(form, LAB_TEXTS[0], LADDER_CONTEXT, 800)


def encoder(formats) -> Iterator[Row]:
    """Sentence encoders, which were never rounded: how far vectors move, and what that does."""
    for model in ENCODERS:
        # The larger one shows whether the order of the formats holds, not every format again.
        for form in (form for form in formats if model == ENCODERS[0] or form in SECOND):
            yield {"model": model, "format": form, "texts": 1000, "seed": 0}
        for form in (form for form in ("fp32", "nf4") if form in formats):
            for share in SHARES:
                row = {"model": model, "format": form, "texts": 1000, "seed": 0}
                yield row | {"share": share}


def file(formats) -> Iterator[Row]:
    """Published GGUF files by what is in them."""
    for model in GGUF:
        yield {"model": model}


def _read(form: str, text: str, context: int, documents: int) -> Row:
    return {"format": form, "text": text, "context": context, "documents": documents, "seed": 0}


KINDS = {  # what: (rows, measure)
    "quality": (quality, weight_quality.in_format),
    "pruning": (pruning, weight_quality.pruned),
    "encoder": (encoder, weight_quality.embedded),
    "training": (training, weight_quality.in_format),
    "file": (file, weight_quality.stored),
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
