"""Measure what number formats cost a model: bytes held, loss, divergence, right answers.

    python scripts/weight_quality.py
    python scripts/weight_quality.py --what quality,task --models smollm2-135m --formats nf4,int8

Models are the laboratory's own (dense-WIDTH), trained here once and kept, and those that
`sizewise.models.pretrained` knows, fetched once and checked by their SHA-256. A row compares one
model in one format with the same model in fp32. Rows go to data/weight_quality.jsonl; what has a
row is not measured again. `mixed` needs the rows of `layers`, from which it takes the bits of
each group.
"""

import argparse
import sys
from collections.abc import Iterator
from itertools import pairwise, product
from pathlib import Path
from typing import Any

from sizewise import units
from sizewise.data import records
from sizewise.experiments import engine, mixed_precision, weight_quality, weight_uses
from sizewise.quantization.weights import convert

Row = dict[str, Any]
LABORATORY = ("dense-32", "dense-64", "dense-96", "dense-128", "dense-192")
LANGUAGE = ("smollm2-135m",)
ENCODERS = ("minilm-l6", "mpnet-base")
FORMATS = ("fp32", "bf16", "fp16", "int8", "nf4", "nf4-dq", "fp4", "fp4-dq", "hqq4")
FEW = ("fp32", "bf16", "int8", "nf4", "fp4")
BLOCKS = (32, 64, 128, 256, 1024, 4096)
TOKENS = 3_000_000  # that laboratory models are trained on; those of scripts/emergence.py
SHARES = (0.25, 0.5)
BITS = 4  # in the mean of a mixture; its groups get one fewer, as many, or one more
SHUFFLES = 3
THRESHOLD = 6.0  # of LLM.int8()


def sample(model: str, words, few: bool = False) -> Row:
    """The text of a row, a fresh one for sensitivities (``few``)."""
    if model.startswith(weight_quality.LAB):
        read = {"text": weight_quality.SIDES[few], "context": 128, "documents": 64 if few else 512}
        return {"trained_tokens": words.tokens} | read
    read = {"text": "brown" if few else "sotu", "context": 128 if few else 192}
    return read | {"documents": min(8, words.documents) if few else words.documents}


def quality(words) -> Iterator[Row]:
    """Every language model in every format; laboratory models with the rest in bf16 too."""
    for model in words.models:
        for form, rest in product(words.formats, ("fp32", "bf16")):
            four = form in convert.FORMATS and form not in ("fp32", "bf16", "fp16")
            if rest == "fp32" or (four and model.startswith(weight_quality.LAB)):
                yield {
                    "what": "quality",
                    "model": model,
                    "format": form,
                    "rest": rest,
                    **sample(model, words),
                    "seed": 0,
                }


def sizes(words) -> Iterator[Row]:
    """Laboratory models against the next smaller one, on the same documents."""
    ladder = [model for model in words.models if model.startswith(weight_quality.LAB)]
    ladder.sort(key=lambda name: int(name.removeprefix(weight_quality.LAB)))
    for small, large in pairwise(ladder):
        yield {"what": "sizes", "model": large, "against": small, **sample(large, words), "seed": 0}


def pruning(words) -> Iterator[Row]:
    """Pruned alone, and pruned then quantized."""
    for model, share, form in product(words.models, SHARES, ("fp32", "nf4")):
        yield {
            "what": "pruning",
            "model": model,
            "format": form,
            "share": share,
            **sample(model, words),
            "seed": 0,
        }


def rounding(words) -> Iterator[Row]:
    """Squared errors of codebooks on weights that were never quantized."""
    for model in (*words.encoders, *_largest(words)):
        for table, block in product(weight_uses.CODEBOOKS, BLOCKS):
            trained = (
                {"trained_tokens": words.tokens} if model.startswith(weight_quality.LAB) else {}
            )
            yield {
                "what": "rounding",
                "model": model,
                **trained,
                "codebook": table,
                "block": block,
                "seed": 0,
            }


def file(words) -> Iterator[Row]:
    """Published GGUF files by what is in them."""
    for model in _pretrained(words):
        yield {"what": "file", "model": model}


def encoder(words) -> Iterator[Row]:
    """Sentence encoders: how far vectors move, and what that does to their uses."""
    for model in words.encoders:
        for form in words.formats:
            yield {"what": "encoder", "model": model, "format": form, "seed": 0}
    if ENCODERS[0] in words.encoders and weight_uses.has_onnx():
        yield {"what": "encoder", "model": ENCODERS[0], "format": weight_uses.SIBLING, "seed": 0}


def task(words) -> Iterator[Row]:
    """Language models on ARC-Easy."""
    for model, form in product(_pretrained(words), words.formats):
        if form in FEW:
            yield {
                "what": "task",
                "model": model,
                "format": form,
                "task": "arc-easy",
                "items": words.items,
                "seed": 0,
            }


def layers(words) -> Iterator[Row]:
    """One group of weights at a time in one bit fewer than a mixture has in the mean."""
    for model in (*_pretrained(words), *_largest(words)):
        for group in mixed_precision.names(model):
            yield {
                "what": "layers",
                "model": model,
                "group": group,
                "bits_of_group": BITS - 1,
                **sample(model, words, few=True),
                "seed": 0,
            }


def mixed(words) -> Iterator[Row]:
    """The same bytes evenly, where the rows of `layers` say they matter, and shuffled."""
    found = [row for row in records.read(words.output) if row["what"] == "layers"]
    for model in dict.fromkeys(row["model"] for row in found):
        names = mixed_precision.names(model) if model in words.models else ()
        rows = {row["group"]: row for row in found if row["model"] == model}
        some = [rows[group] for group in names if group in rows]
        if not names or len(some) < len(names):
            continue
        elements = [row["elements"] for row in some]
        best = mixed_precision.allocate(elements, [row["kl"] for row in some], BITS)
        each = {("uniform", 0): [BITS] * len(best), ("by sensitivity", 0): best}
        each |= {
            ("shuffled", seed): mixed_precision.shuffled(elements, best, seed)
            for seed in range(SHUFFLES)
        }
        for (name, seed), bits in each.items():
            told = " ".join(map(str, bits))
            yield {
                "what": "mixed",
                "model": model,
                "allocation": name,
                "bits_of_groups": told,
                **sample(model, words),
                "seed": seed,
            }


def outliers(words) -> Iterator[Row]:
    """Large inputs of linear layers, by depth."""
    for model in (*_pretrained(words), *words.encoders, *_largest(words)):
        for layer in range(weight_uses.depth(model)):
            yield {
                "what": "outliers",
                "model": model,
                "layer": layer,
                "threshold": THRESHOLD,
                **sample(model, words, few=True),
                "seed": 0,
            }


KINDS = {  # what: (rows, measure); `mixed` comes after the rows that it takes its bits from
    "quality": (quality, weight_quality.in_format),
    "sizes": (sizes, weight_quality.beside),
    "pruning": (pruning, weight_quality.pruned),
    "rounding": (rounding, weight_uses.rounded),
    "file": (file, weight_quality.stored),
    "encoder": (encoder, weight_uses.embedded),
    "task": (task, weight_uses.answers),
    "layers": (layers, mixed_precision.in_group),
    "outliers": (outliers, weight_uses.outlying),
    "mixed": (mixed, mixed_precision.mixed),
}


def measure(config: Row) -> Row:
    """One row."""
    return KINDS[config["what"]][1](config)


def rows(what: str, words) -> list[Row]:
    """The rows of a kind, those of one model together, since a model is kept from row to row."""
    found = list(KINDS[what][0](words))
    return sorted(found, key=lambda row: (words.models + words.encoders).index(row["model"]))


def _pretrained(words) -> list[str]:
    return [model for model in words.models if not model.startswith(weight_quality.LAB)]


def _largest(words) -> list[str]:
    """The widest laboratory model asked for, where one is enough."""
    return [model for model in words.models if model.startswith(weight_quality.LAB)][-1:]


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add, names = parser.add_argument, (lambda words: words.split(","))
    add("--what", type=names, default=list(KINDS), help=f"kinds of rows: {', '.join(KINDS)}")
    add(
        "--models",
        type=names,
        default=[*LABORATORY, *LANGUAGE],
        help="language models: dense-WIDTH, or names of sizewise.models.pretrained",
    )
    add("--encoders", type=names, default=list(ENCODERS), help="sentence encoders")
    add("--formats", type=names, default=usable(), help=f"of {', '.join(convert.FORMATS)}")
    add("--tokens", type=int, default=TOKENS, help="that each laboratory model is trained on")
    add("--documents", type=int, default=32, help="a window of each goes to pretrained models")
    add("--items", type=int, default=200, help="questions of a task")
    add("--threads", type=int, default=2, help="of torch; losses differ in the last digits")
    add(
        "--output",
        type=Path,
        default=records.path("weight_quality"),
        help="another file than data/weight_quality.jsonl",
    )
    add("--list", action="store_true", help="print the rows and measure none")
    given = parser.parse_args(words)
    for kind in given.what:
        if kind not in KINDS:
            raise units.unknown("kind of row", kind, KINDS)
    for form in given.formats:
        if reason := convert.refusal(form):
            raise ValueError(f"{form} cannot be used here: {reason}")
    return given


def usable() -> list[str]:
    """The formats that this machine can run."""
    return [form for form in FORMATS if convert.refusal(form) is None]


def main() -> None:
    try:
        words = arguments()
        import torch

        torch.set_num_threads(words.threads)
        for what in words.what:
            some = rows(what, words)
            if words.list:
                for row in some:
                    print("  ".join(f"{name} {value}" for name, value in row.items()))
                continue
            # In this process, one after the other: models are large and kept between rows.
            engine.run_all(measure, some, words.output, workers=1, backend="here")
    except (ValueError, RuntimeError) as error:
        sys.exit(f"weight_quality: {error}")


if __name__ == "__main__":
    main()
