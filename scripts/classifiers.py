"""Small encoders with a few labels against larger language models with a prompt, on four sets.

    python scripts/classifiers.py --list
    python scripts/classifiers.py
    python scripts/classifiers.py --only probe --sets bbc --models minilm-l6 --labels 8,64,512

Each row is one classifier on one set: words alone (bag), a logistic regression on an encoder's
vectors (probe), an encoder trained as a whole (finetuned), or a language model that is only asked
(prompted). All read the same excerpts and answer the same test items, and each row keeps its
answers, so that any two can be compared item by item. Rows go to data/classifiers.jsonl; what has
a row is not measured again.
"""

import argparse
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

from classifying import classification, finetune, probes, prompting
from sizewise import units, validation
from sizewise.data import records
from sizewise.evaluation import corpora
from sizewise.experiments import engine
from sizewise.models import pretrained

Row = dict[str, Any]
LABELS = (8, 16, 32, 64, 128, 256, 512, 1024)
TUNED_LABELS = (32, 128, 512)
TUNED_SETS = ("rotten-tomatoes", "sarcasm")  # the two shortest, and the two hardest
EPOCHS = {32: 8, 128: 4, 512: 3}  # passes: few labels need more of them to move the weights
ENCODERS = ("minilm-l6", "minilm-l6-int8", "mpnet-base")
TUNED = ("minilm-l6",)
LANGUAGE = ("smollm2-135m", "gemma-3-270m", "qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b")
TEST_ITEMS = 200  # test items that a language model reads, which costs most
FEWER = {("qwen2.5-coder-1.5b", "rotten-tomatoes"): 150, ("qwen2.5-coder-1.5b", "sarcasm"): 150}
SHOTS = (0, 4)
WORDINGS = 3  # in which a language model without examples is asked
SEEDS, TUNED_SEEDS = 4, 2


def bag(args) -> Iterator[Row]:
    """Words alone."""
    for name, kind in product(args.sets, probes.BAGS):
        for labels, seed in draws(name, args):
            yield {
                "what": "bag",
                "model": kind,
                **common(name, args),
                "labels_used": labels,
                "seed": seed,
            }


def probe(args) -> Iterator[Row]:
    """Encoders whose vectors a logistic regression reads, an encoder's sets together."""
    for model, name in product(chosen(args, ENCODERS), args.sets):
        dtype = pretrained.entry(model).stored or args.dtype
        for labels, seed in draws(name, args):
            yield {
                "what": "probe",
                "model": model,
                "dtype": dtype,
                **common(name, args),
                "labels_used": labels,
                "seed": seed,
            }


def finetuned(args) -> Iterator[Row]:
    """Encoders of which every weight is trained."""
    for model, name in product(chosen(args, TUNED), args.sets):
        for labels, seed in product(TUNED_LABELS, range(min(args.seeds, TUNED_SEEDS))):
            if name in TUNED_SETS and labels <= most(name):
                yield {
                    "what": "finetuned",
                    "model": model,
                    "dtype": "fp32",
                    **common(name, args),
                    "labels_used": labels,
                    "epochs": EPOCHS[labels],
                    "seed": seed,
                }


def prompted(args) -> Iterator[Row]:
    """Language models, without and with calibration on the same passes.

    In other wordings they are asked without examples alone: examples show the form by themselves.
    """
    for model, name in product(chosen(args, LANGUAGE), args.sets):
        ways = [(0, n) for n in range(args.wordings)] + [(n, 0) for n in SHOTS if n]
        for (shots, wording), calibration in product(ways, prompting.CALIBRATIONS):
            yield {
                "what": "prompted",
                "model": model,
                "dtype": args.dtype,
                **common(name, args),
                "items": min(args.items, FEWER.get((model, name), TEST_ITEMS)),
                "labels_used": shots,
                "calibration": calibration,
                **({"wording": wording} if wording else {}),
                "seed": 0,
            }


KINDS = {  # what: (rows, measure)
    "bag": (bag, probes.bagged),
    "probe": (probe, probes.probed),
    "prompted": (prompted, prompting.prompted),
    "finetuned": (finetuned, finetune.finetuned),
}


def measure(config: Row) -> Row:
    """One row."""
    return KINDS[config["what"]][1](config)


def common(name: str, args) -> Row:
    """What rows of every kind say of the texts."""
    return {"set": name, "items": args.items, "characters": args.characters}


def draws(name: str, args) -> Iterator[tuple[int, int]]:
    """Numbers of labels that the set's pool holds, with their seeds.

    All of the pool is one draw, whatever the seed.
    """
    for labels in args.labels:
        if labels <= most(name):
            for seed in range(1 if labels == classification.POOL else args.seeds):
                yield labels, seed


def most(name: str) -> int:
    """Labels in the pool of a set, by the number of its kinds; nothing is read for it."""
    kinds = len(prompting.WORDS[name])
    return classification.POOL // kinds * kinds


def chosen(args, models: tuple[str, ...]) -> list[str]:
    """Of these models, those asked for."""
    return [model for model in models if model in args.models]


def names(args: str) -> list[str]:
    """A list on the command line, a,b,c."""
    return args.split(",")


def numbers(args: str) -> list[int]:
    """A list of whole numbers on the command line, a,b,c."""
    try:
        return [int(word) for word in args.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected whole numbers a,b,c, got {args!r}") from None


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line. Raises ValueError for a name that is not there."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--only", type=names, default=list(KINDS), help=f"kinds of rows: {', '.join(KINDS)}")
    add(
        "--sets",
        type=names,
        default=list(prompting.WORDINGS),
        help=f"labelled texts: {', '.join(corpora.LABELLED)}",
    )
    add(
        "--models",
        type=names,
        default=[*ENCODERS, *LANGUAGE],
        help="encoders and language models, names of sizewise.models.pretrained",
    )
    add(
        "--labels",
        type=numbers,
        default=list(LABELS),
        help="training labels of a learning curve, a,b,c",
    )
    add(
        "--items",
        type=int,
        default=classification.RESERVED,
        help=f"test items, the first ones, at most {classification.RESERVED}",
    )
    add("--characters", type=int, default=classification.CHARACTERS, help="of an excerpt, at most")
    add("--wordings", type=int, default=WORDINGS, help="of the question, without examples")
    add("--seeds", type=int, default=SEEDS, help="draws of labels")
    add(
        "--dtype",
        default="bf16",
        choices=pretrained.DTYPES,
        help="of torch models that only read; fp32 on processors without bf16",
    )
    add("--threads", type=int, default=1, help="of torch; processor times hold for one")
    add(
        "--output",
        type=Path,
        default=records.path("classifiers"),
        help="another file than data/classifiers.jsonl",
    )
    add("--list", action="store_true", help="print the rows and measure none")
    args = parser.parse_args(argv)
    validation.whole("the items", args.items, classification.RESERVED)
    validation.whole("the seeds", args.seeds, 100)
    validation.whole("the wordings", args.wordings, WORDINGS)
    for labels in args.labels:
        validation.whole("the labels", labels, classification.POOL, 8)
    for kind, group, available in (
        ("kind of row", args.only, KINDS),
        ("labelled text", args.sets, prompting.WORDINGS),
        ("model", args.models, (*ENCODERS, *LANGUAGE)),
    ):
        for name in group:
            if name not in available:
                raise units.unknown(kind, name, available)
    return args


def main() -> None:
    try:
        args = arguments()
        rows = [row for label in KINDS if label in args.only for row in KINDS[label][0](args)]
        if args.list:
            for row in rows:
                print("  ".join(f"{name} {value}" for name, value in row.items()))
            return
        import torch

        torch.set_num_threads(args.threads)
        # In this process, one after the other: models and vectors are kept between rows.
        engine.run_all(measure, rows, args.output, workers=1, backend="here")
    except (ValueError, RuntimeError, OSError) as error:
        sys.exit(f"classifiers: {error}")


if __name__ == "__main__":
    main()
