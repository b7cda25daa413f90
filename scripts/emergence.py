"""Does an ability appear at once? Accuracy of small models by strict and by lenient metrics.

    python scripts/emergence.py
    python scripts/emergence.py --list

A family of dense models of growing width reads the same tokens. For each: its loss, how often its
most likely token is right, and how often 2, 4, 8 and 16 of them in a row are. The models are kept
in the cache (`sizewise.lab.kept`), so that a row costs its training once. Rows go to
data/emergence.jsonl; what has a row is not run again.
"""

import argparse
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

from sizewise import engine, records
from sizewise.lab import flops, models, plan, tokens

WIDTHS = (8, 16, 24, 32, 48, 64, 80, 96, 128, 160, 192)
TOKENS = 3_000_000
WINDOWS = 2048
FIRST = 64  # tokens of context before a match


def measure(config: dict[str, Any]) -> dict[str, Any]:
    """Train one model, or load it, and count its right tokens."""
    from sizewise.lab import exact, kept

    run = plan.Run(**{field.name: config[field.name] for field in fields(plan.Run)})
    made = kept.trained(run)
    found = exact.found(made.model, made.tokens, run.context, config["windows"])
    told = {name: value for name, value in made.measured.items() if name != "tokens_per_second"}
    return told | exact.summary(found, config["first"])


def runs(words: argparse.Namespace) -> list[dict[str, Any]]:
    """One configuration a width and seed, all with the same tokens and batches."""
    return [row(width, seed, words) for width in words.widths for seed in range(words.seeds)]


def row(width: int, seed: int, words: argparse.Namespace) -> dict[str, Any]:
    """The configuration of one row."""
    shape = {"vocabulary": words.vocabulary, "context": words.context}
    each = flops.size(models.spec("dense", width, **shape)).operations_per_token
    run = plan.at_budget(words.tokens * each, width, seed=seed, text=words.text, **shape)
    return {**run.as_dict(), "windows": words.windows, "first": words.first}


def cost(config: dict[str, Any]) -> float:
    """Operations of training, validation and the count, a third of training a token."""
    spec = models.spec("dense", config["width"], config["vocabulary"], config["context"])
    looked = config["validation_tokens"] + config["windows"] * config["context"]
    return flops.size(spec).operations_per_token * (config["tokens"] + looked / 3)


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--widths", type=lambda text: [int(word) for word in text.split(",")],
        default=list(WIDTHS), help="of the models, a,b,c")  # fmt: skip
    add("--tokens", type=float, default=TOKENS, help="that each model reads, about")
    add("--seeds", type=int, default=1, help="models of each width")
    add("--windows", type=int, default=WINDOWS, help="of validation text to count on, at most")
    add("--first", type=int, default=FIRST, help="least tokens of context before a match")
    add("--text", default="packages", help="packages, packages-large, or hub:NAME")
    add("--vocabulary", type=int, default=1024, help="entries of the tokenizer")
    add("--context", type=int, default=128, help="tokens in a window")
    add("--workers", type=int, help="runs at once; one a GPU or a core if not said")
    add("--per-gpu", type=int, default=1, help="runs at once on one GPU")
    add("--backend", help=f"{', '.join(engine.BACKENDS)}; ray if RAY_ADDRESS is set, else process")
    add("--output", help="another file than data/emergence.jsonl")
    add("--list", action="store_true", help="print the runs with their cost and train nothing")
    return parser.parse_args(words)


def main() -> None:
    words = arguments()
    try:
        configs = sorted(runs(words), key=cost, reverse=True)  # the longest first, none at the end
        if words.list:
            for config in configs:
                names = ("width", "layers", "seed", "batch", "tokens")
                print("  ".join(f"{name} {config[name]:g}" for name in names), end="")
                print(f"  operations {cost(config):.3g}")
            total = sum(map(cost, configs))
            print(f"in all {total:.3g} operations: {total / 150e9 / 60:.0f} min at 150 GFLOP/s")
            return
        tokens.prepare(words.text, words.vocabulary, progress=True)  # once, before workers ask
        file = Path(words.output) if words.output else records.path("emergence")
        engine.run_all(
            measure, configs, file, workers=words.workers, per_gpu=words.per_gpu, cost=cost,
            backend=words.backend,
        )  # fmt: skip
    except (ValueError, RuntimeError) as error:
        sys.exit(f"emergence: {error}")


if __name__ == "__main__":
    main()
