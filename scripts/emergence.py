"""Does an ability appear at once? Accuracy of small models by strict and by lenient metrics.

    python scripts/emergence.py
    python scripts/emergence.py --list

A family of dense models of growing width reads the same tokens. For each: its loss, how often its
most likely token is right, and how often 2, 4, 8 and 16 of them in a row are. The models are kept
in the cache (`sizewise.training.checkpoints`), so that a row costs its training once. Rows go to
data/emergence.jsonl; what has a row is not run again.
"""

import argparse
from dataclasses import dataclass
from typing import Any

import numpy as np
from sizewise.experiments import options
from sizewise.training import batches, flops, models, run_config

WIDTHS = (8, 16, 24, 32, 48, 64, 80, 96, 128, 160, 192)
TOKENS = 3_000_000
WINDOWS = 2048
FIRST = 64  # tokens of context before a match
LENGTHS = (1, 2, 4, 8, 16)  # of matches


def measure(config: dict[str, Any]) -> dict[str, Any]:
    """Train one model, or load it, and count its right tokens."""
    from sizewise.training import checkpoints

    run = run_config.Run.from_row(config)
    trained = checkpoints.trained(run)
    right = predict(trained.model, trained.tokens, run.context, config["windows"])
    measured = {
        name: value for name, value in trained.measured.items() if name != "tokens_per_second"
    }
    return measured | summary(right, config["first"])


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


# --- right tokens. Exact match of k tokens needs no generation: a greedy continuation agrees with
# the text for k tokens if and only if each of the k most likely tokens is right after the true
# tokens before it. So one pass over a window tells the matches of every length from every start.


@dataclass(frozen=True)
class Predictions:
    """Right or not, window by window, with what says how far the windows are independent."""

    right: np.ndarray  # (windows, context), bool: the most likely token is the true one
    nats: np.ndarray  # (windows, context): loss of the true one
    document: np.ndarray  # (windows,): the document in which a window starts


def predict(model, tokens, context: int, windows: int) -> Predictions:
    """Predictions on ``windows`` windows, evenly spaced over the validation side."""
    from sizewise.training import loss

    ids, targets = batches.fixed(tokens.validation, context, windows)  # (windows, context)
    nats, right = loss.per_token(model, ids, targets)
    ends = np.cumsum(np.asarray(tokens.validation) == 0)  # token 0 ends a document
    count = batches.windows(tokens.validation, context)
    starts = [number * count // len(ids) * context for number in range(len(ids))]
    document = np.array([ends[start - 1] if start else 0 for start in starts])
    return Predictions(right, nats, document)


def matches(right: np.ndarray, length: int, first: int, last: int) -> np.ndarray:
    """Whether ``length`` tokens in a row are right, from each start in [first, last).

    (windows, last - first), bool. Each window has room for the last of them.
    """
    spans = np.lib.stride_tricks.sliding_window_view(right, length, axis=1)
    return spans[:, first:last].all(-1)


def summary(predictions: Predictions, first: int) -> dict[str, float]:
    """Accuracy, exact matches and loss, each with its standard error, over the same starts.

    Starts have ``first`` tokens of context or more, and room for the longest match. Raises
    ValueError if a window has none.
    """
    context = predictions.right.shape[1]
    last = context - max(LENGTHS) + 1
    if not 0 <= first < last:
        raise ValueError(
            f"a match of {max(LENGTHS)} tokens after {first} does not fit a window of {context}"
        )
    measured: dict[str, float] = {}
    for length in LENGTHS:
        name = "accuracy" if length == 1 else f"exact_{length}"
        exact = matches(predictions.right, length, first, last)
        measured[name], measured[f"{name}_se"] = mean(exact, predictions.document)
    measured["loss"], measured["loss_se"] = mean(
        predictions.nats[:, first:last], predictions.document
    )
    return measured | {
        "positions": len(predictions.right) * (last - first),
        "documents": len(np.unique(predictions.document)),
    }


def mean(values: np.ndarray, document: np.ndarray) -> tuple[float, float]:
    """Mean of (windows, starts) and its standard error, documents being independent.

    Positions of a document are not: its sums are what varies (Cochran 1977, section 9A).
    """
    names, group = np.unique(document, return_inverse=True)
    sums = np.bincount(group, values.sum(1, dtype=np.float64))
    sizes = np.bincount(group) * values.shape[1]
    middle = sums.sum() / sizes.sum()
    off = sums - middle * sizes
    variance = len(names) / (len(names) - 1) * (off**2).sum() / sizes.sum() ** 2
    return float(middle), float(np.sqrt(variance))


if __name__ == "__main__":
    main()
