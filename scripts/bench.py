"""Time the speed claims of this book: each is a ratio of two sides, measured in one run.

    python scripts/bench.py                 # every comparison that has no row yet
    python scripts/bench.py book            # one of them

The two sides of a comparison run in turn, so that a slow minute of the machine hits both; the
ratio is taken pair by pair. The sides are in `comparisons`. Rows go to data/bench.jsonl;
to measure one again, remove its row.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from comparisons import book, evaluate, laws, quantize, training
from sizewise import paths, units
from sizewise.data import records


@dataclass(frozen=True)
class Comparison:
    """``baseline`` over ``contender`` in time: above 1, the contender is faster.

    Two commands that ``prepare`` makes, or two functions: then ``pair`` returns the seconds of
    both and what else belongs into the row. Of that the largest of all pairs is kept, or what
    ``keep`` chooses.
    """

    baseline: str
    contender: str
    prepare: Callable[[Path], tuple[list[list[str]], list[list[str]]]] | None = None
    pair: Callable[[int], tuple[float, float, dict[str, float]]] | None = None
    pairs: int = 3
    warm: Callable[[], object] | None = None  # before the first pair, where a pair takes minutes
    keep: tuple[tuple[str, Callable[[list[float]], float]], ...] = ()


SLOWEST = (("tokens_per_second", min), ("tokens_per_second_baseline", min))
COMPARISONS = {
    "book": Comparison("jupyter-book executes and builds", "sizewise runs, then builds", book.book),
    "unchanged": Comparison("every chapter runs", "no chapter has changed", book.unchanged),
    "fit": Comparison(
        "a scipy BFGS for each start and sample, timed on every 20th",
        "all starts and samples in one batch",
        pair=laws.fit,
        keep=(("same_optimum", min),),
    ),
    "training": Comparison(
        "a training loop by hand, vocabulary 4096, on the same batches",
        "the laboratory's loop on transformers' Llama",
        pair=partial(training.training, vocabulary=4096),
        pairs=5,
        keep=SLOWEST,
    ),
    "training-1024": Comparison(
        "a training loop by hand, vocabulary 1024, on the same batches",
        "the laboratory's loop on transformers' Llama",
        pair=partial(training.training, vocabulary=1024),
        pairs=5,
        keep=SLOWEST,
    ),
    "quantize": Comparison(
        "turboquant-torch 0.4.0, Hadamard rotations",
        "TurboQuant of this book, Hadamard rotations, codes packed",
        pair=quantize.quantize,
        pairs=5,
    ),
    "evaluate": Comparison(
        "lm-evaluation-harness 0.4.13, each choice with its question",
        "the choices of a question share it, the head where something is scored",
        pair=evaluate.evaluate,
        warm=evaluate.warm,
        pairs=1,
    ),
}


def config_of(name: str) -> dict:
    """What makes a row of this comparison the one it is."""
    comparison = COMPARISONS[name]
    return {
        "comparison": name,
        "baseline": comparison.baseline,
        "contender": comparison.contender,
        "pairs": comparison.pairs,
        "chapters": len(paths.chapters()),
    }


def measure(name: str) -> dict[str, float]:
    """The ratios of one comparison, pair by pair."""
    comparison = COMPARISONS[name]
    if comparison.pair:
        return _measure_pairs(name, comparison)
    ratios = []
    with tempfile.TemporaryDirectory() as scratch:
        baseline, contender = comparison.prepare(Path(scratch))
        home = Path(scratch) / "ours"
        for pair in range(comparison.pairs):
            ratios.append(book.seconds(baseline, home) / book.seconds(contender, home))
            print(f"{name}: pair {pair + 1} of {comparison.pairs}: {ratios[-1]:.2f}", flush=True)
    return _ratios(ratios)


def _measure_pairs(name: str, comparison: Comparison) -> dict[str, float]:
    """The same for two functions."""
    if comparison.warm:
        comparison.warm()
    else:
        comparison.pair(0)  # imports, and a warm processor
    ratios, extras = [], []
    for number in range(comparison.pairs):
        theirs, ours, more = comparison.pair(number)
        ratios.append(theirs / ours)
        extras.append(more)
        print(
            f"{name}: pair {number + 1} of {comparison.pairs}: {ratios[-1]:.2f} {more}", flush=True
        )
    keep = dict(comparison.keep)
    return _ratios(ratios) | {
        name: keep.get(name, max)([extra[name] for extra in extras]) for name in extras[0]
    }


def _ratios(ratios: list[float]) -> dict[str, float]:
    return {
        "ratio": round(statistics.median(ratios), 3),
        "ratio_low": round(min(ratios), 3),
        "ratio_high": round(max(ratios), 3),
    }


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("comparison", nargs="*", help=f"of {', '.join(COMPARISONS)}; all by default")
    add("--output", help="another file than data/bench.jsonl")
    add("--list", action="store_true", help="print the comparisons and measure nothing")
    return parser.parse_args(argv)


def main() -> None:
    args = arguments()
    for name in args.comparison:
        if name not in COMPARISONS:
            sys.exit(f"bench: {units.unknown('comparison', name, COMPARISONS)}")
    if args.list:
        for name, comparison in COMPARISONS.items():
            sides = f"{comparison.baseline} / {comparison.contender}"
            print(f"{name}: {sides}, {comparison.pairs} pairs")
        return
    configs = {name: config_of(name) for name in args.comparison or COMPARISONS}
    file = Path(args.output) if args.output else records.path("bench")
    try:
        with records.writing(file) as rows:
            for name, config in configs.items():
                if rows.missing([config]):
                    row = rows.append(config, measure(name), records.provenance())
                    print(f"{name}: {row['ratio']} ({row['ratio_low']} to {row['ratio_high']})")
    except ValueError as error:
        print(f"bench: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
