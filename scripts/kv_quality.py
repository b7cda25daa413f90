"""Measure what a packed KV cache costs a real model: loss, divergence, recall, text, errors.

    python scripts/kv_quality.py
    python scripts/kv_quality.py --what quality --models gemma-3-270m,qwen2.5-coder-0.5b

Everything in the cache is packed, the current token too, unless a row has a residual window. The
text goes through the model in chunks, so that attention sees what the cache gives back. A row
compares one way of storing keys and values with the plain cache of the same model on the same text,
and counts the bytes that the cache holds. The first model gets all rows, further ones a few.
Models are fetched once and checked by their SHA-256. Rows go to data/kv_quality.jsonl; what has a
row is not measured again. Nothing here is a time: scripts/gpu.py has those.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sizewise import units
from sizewise.data import records
from sizewise.experiments import engine, kv_quality
from sizewise.experiments.kv_quality import way
from sizewise.models import pretrained
from sizewise.quantization.kv import evaluate

Row = dict[str, Any]
BITS = (4, 3, 2)
SAME = (
    "turboquant",
    "uniform",
    "kivi",
    "eden-biased",
    "eden-unbiased",
    "norm-corrected",
    "prod",
)
MIXED = (  # keys, their bits, bits of the values
    ("int8", 8, 4),
    ("int8", 8, 3),
    ("int8", 8, 2),
    ("kivi", 4, 3),
    ("kivi", 4, 2),
    ("kivi", 3, 2),
)
SEEDS = (1, 2)  # of the control; all other rows have 0
RESIDUAL = 32  # newest tokens in full precision, in rows that have them
SINK = 4  # first ones, at which a model looks whatever they say
FINE = 8  # tokens at once where there is a residual window
LONG = 2049  # tokens of a window of the long texts, of which all but the first are predicted
LONG_DOCUMENTS = 8  # so many windows: 16,384 predicted tokens
LONG_RESIDUAL = 128  # newest tokens that stay plain, as in KIVI (Liu et al. 2024, section 4)
LONG_CHUNK = 32  # tokens at once: each sees 96 to 128 plain ones before it
CONTEXTS = (512, 1024, 2048)
NEEDLES = 8
ASKED = (
    way(),
    way("int8"),
    *(way("turboquant", bits) for bits in BITS),
    way("kivi", 3),
    way("kivi", 2),
    way("prod", 4),
)


def few() -> list[Row]:
    """Ways for any model."""
    return [
        way(),
        way("int8"),
        way("fp8", fp8_scale="token"),
        *(way(method, bits) for method in ("turboquant", "kivi") for bits in BITS),
        way("turboquant", 3, "plain"),
        way("plain", None, "turboquant", 3),
        *(way("turboquant", bits, center="rope") for bits in (4, 3)),
        way("turboquant", 4, center="mean"),
    ]


def many() -> list[Row]:
    """Ways for the first model: methods, sides apart, mixtures, seeds, residual windows."""
    result = few() + [way(method, bits) for method in SAME for bits in BITS]
    for bits in BITS:
        result += [
            way("turboquant", bits, rotation="hadamard"),
            way("turboquant", bits, "plain"),
            way("plain", None, "turboquant", bits),
            way("kivi", bits, "plain"),
            way("prod", bits, "turboquant", bits),
            *(way("turboquant", bits, seed=seed) for seed in SEEDS),
        ]
    result += [way(keys, wide, "turboquant", narrow) for keys, wide, narrow in MIXED]
    result += [
        way(method, bits, residual=RESIDUAL) for method in ("turboquant", "kivi") for bits in (3, 2)
    ]
    for bits in BITS:  # as each is meant to be used, plain tokens in bf16
        result.append(way("kivi", bits, residual=RESIDUAL, plain="bf16"))
        result.append(way("turboquant", bits, residual=RESIDUAL, sink=SINK, plain="bf16"))
    return list({records.identity(item): item for item in result}.values())


def long() -> list[Row]:
    """Ways for texts of 2,048 tokens, with methods of few bits each in its own mode.

    The plain tokens are in bf16. ``sink`` alone tells what leaving the first tokens plain is worth.
    """
    window = {"residual": LONG_RESIDUAL, "plain": "bf16"}
    result = [way(), way("int8"), way("fp8", fp8_scale="token")]
    result += [way("turboquant", 4), way("kivi", 4), way("turboquant", 4, center="rope")]
    for bits in (4, 2, 3):
        result.append(way("kivi", bits, **window))
        result.append(way("turboquant", bits, sink=SINK, **window))
        result.append(way("turboquant", bits, sink=SINK, center="rope", **window))
    return [*result, way("turboquant", 4, sink=SINK, plain="bf16"), way("turboquant", 2, **window)]


def rows(kind: str, args) -> Iterator[Row]:
    """The rows of a kind, model after model."""
    for model in args.models:
        first = model == args.models[0]
        common = {"what": "quality" if kind == "long" else kind, "model": model}
        if kind == "quality":
            texts = {"text": "sotu", "context": 257}
            documents = args.documents if first else args.documents // 2
            for item in many() if first else few():
                chunk = FINE if item["residual"] else evaluate.CHUNK
                yield common | item | texts | {"chunk": chunk, "documents": documents}
        elif kind == "long":
            texts = {"text": "sotu", "context": LONG, "documents": LONG_DOCUMENTS}
            for item in long():
                chunk = LONG_CHUNK if item["residual"] else evaluate.CHUNK
                yield common | item | texts | {"chunk": chunk}
        elif kind == "layer":
            texts = {"text": "brown", "context": 257, "documents": 4, "seed": 0}
            for layer in range(pretrained.entry(model).layers):
                for side in ("keys", "values"):
                    yield common | {"layer": layer, "side": side} | texts
        elif kind == "needle" and first:
            for context in args.contexts:
                texts = {"text": "brown", "context": context, "documents": args.haystacks}
                for item in ASKED:
                    yield common | item | texts | {"needles": NEEDLES}


KINDS = {
    "quality": kv_quality.through_cache,
    "long": kv_quality.through_cache,
    "layer": kv_quality.coding_errors,
    "needle": kv_quality.facts_found,
}


def measure(config: Row) -> Row:
    """One row."""
    return KINDS[config["what"]](config)


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add, names = parser.add_argument, (lambda text: text.split(","))
    add("--what", type=names, default=list(KINDS), help=f"kinds of rows: {', '.join(KINDS)}")
    models = "names of sizewise.models.pretrained; the first gets all rows, the others a few"
    add("--models", type=names, default=["smollm2-135m"], help=models)
    documents = "a window of each (quality); further models read half as many"
    add("--documents", type=int, default=16, help=documents)
    contexts = "tokens of the texts with facts (needle)"
    add(
        "--contexts",
        type=lambda text: [int(n) for n in text.split(",")],
        default=list(CONTEXTS),
        help=contexts,
    )
    add("--haystacks", type=int, default=4, help=f"texts with {NEEDLES} facts each (needle)")
    add("--threads", type=int, default=2, help="of torch; losses differ in the last digits")
    output = records.path("kv_quality")
    add("--output", type=Path, default=output, help="another file than data/kv_quality.jsonl")
    add("--having", help="only rows that say this of how they store: center, sink, plain")
    add("--list", action="store_true", help="print the rows and measure none")
    args = parser.parse_args(argv)
    for kind in args.what:
        if kind not in KINDS:
            raise units.unknown("kind of row", kind, KINDS)
    for model in args.models:
        if model not in (causal := pretrained.names("causal")):
            raise units.unknown("language model", model, causal)
    return args


def main() -> None:
    try:
        args = arguments()
        subset = [row for kind in args.what for row in rows(kind, args)]
        subset = [row for row in subset if not args.having or row.get(args.having)]
        # Model by model, in this process: models are large and kept between rows.
        subset.sort(key=lambda row: args.models.index(row["model"]))
        if args.list:
            for row in subset:
                print("  ".join(f"{name} {value}" for name, value in row.items()))
            return
        import torch

        torch.set_num_threads(args.threads)
        engine.run_all(measure, subset, args.output, workers=1, backend="here")
    except (ValueError, RuntimeError) as error:
        sys.exit(f"kv_quality: {error}")


if __name__ == "__main__":
    main()
