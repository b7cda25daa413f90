"""Does an ability appear at once? Accuracy of small models by strict and by lenient metrics.

    python scripts/emergence.py
    python scripts/emergence.py --list

A family of dense models of growing width reads the same tokens. For each: its loss, how often its
most likely token is right, and how often 2, 4, 8 and 16 of them in a row are. The models are kept
in the cache (`sizewise.training.checkpoints`), so that a row costs its training once. Rows go to
data/emergence.jsonl; what has a row is not run again.
"""

import argparse
from typing import Any

from sizewise.experiments import options
from sizewise.training import flops, models, run_config

WIDTHS = (8, 16, 24, 32, 48, 64, 80, 96, 128, 160, 192)
TOKENS = 3_000_000
WINDOWS = 2048
FIRST = 64  # tokens of context before a match


def measure(config: dict[str, Any]) -> dict[str, Any]:
    """Train one model, or load it, and count its right tokens."""
    from sizewise.training import checkpoints, token_accuracy

    run = run_config.Run.from_row(config)
    trained = checkpoints.trained(run)
    right = token_accuracy.predict(trained.model, trained.tokens, run.context, config["windows"])
    measured = {
        name: value for name, value in trained.measured.items() if name != "tokens_per_second"
    }
    return measured | token_accuracy.summary(right, config["first"])


def runs(args: argparse.Namespace) -> list[dict[str, Any]]:
    """One configuration a width and seed, all with the same tokens and batches."""
    return [row(width, seed, args) for width in args.widths for seed in range(args.seeds)]


def row(width: int, seed: int, args: argparse.Namespace) -> dict[str, Any]:
    """The configuration of one row."""
    shape = {"vocabulary": args.vocabulary, "context": args.context}
    each = flops.size(models.spec("dense", width, **shape)).operations_per_token
    run = run_config.at_budget(args.tokens * each, width, seed=seed, text=args.text, **shape)
    return {**run.as_dict(), "windows": args.windows, "first": args.first}


def cost(config: dict[str, Any]) -> float:
    """Operations of training, validation and the count, a third of training a token."""
    spec = models.spec("dense", config["width"], config["vocabulary"], config["context"])
    looked = config["validation_tokens"] + config["windows"] * config["context"]
    return flops.size(spec).operations_per_token * (config["tokens"] + looked / 3)


def arguments(line: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser, numbers = options.parser(__doc__), options.numbers
    add = parser.add_argument
    add("--widths", type=numbers(int), default=list(WIDTHS), help="of the models, a,b,c")
    add("--tokens", type=float, default=TOKENS, help="that each model reads, about")
    add("--seeds", type=int, default=1, help="models of each width")
    add("--windows", type=int, default=WINDOWS, help="of validation text to count on, at most")
    add("--first", type=int, default=FIRST, help="least tokens of context before a match")
    options.common(parser, "emergence")
    return parser.parse_args(line)


def main() -> None:
    columns = ("width", "layers", "seed", "batch", "tokens")
    options.record("emergence", arguments(), runs, measure, cost, columns=columns)


if __name__ == "__main__":
    main()
