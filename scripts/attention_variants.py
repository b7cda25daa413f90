"""Train attention, windows, state spaces and their mixture at equal operations, on longer windows.

    python scripts/attention_variants.py
    python scripts/attention_variants.py --list
    python scripts/attention_variants.py --only arms --budgets 1e12 --seeds 5 --per-gpu 8

Two experiments:

arms     at each budget and width a dense model (Llama), one with windows (Gemma 3), a state-space
         model (Mamba-2) and a mixture of that with attention (Bamba);
windows  at one budget and width, models of one class (Gemma 3) that differ only in how far their
         layers see: all of them everything, every second one a window of some size, all a window.

Each row also tells the loss by position in the context, the bytes that one sequence keeps, and what
the model gains when a sequence comes a second time. Rows go to data/attention_variants.jsonl; what
has a row is not run again, and a run that was interrupted goes on from its checkpoint. With
RAY_ADDRESS set the same command runs on that cluster.
"""

import argparse
from dataclasses import fields
from typing import Any

from sizewise import units, validation
from sizewise.data import downloads, records
from sizewise.experiments import options
from sizewise.training import flops, models, run_config, tokenizer

BUDGETS = (3e11, 1e12)  # training operations
SIZES = 2  # widths at each budget
SEEDS = 2
CONTEXT = 256
FAMILIES = ("dense", "windowed", "hybrid", "state-space")
PARTS = (16, 8, 2)  # windows are so small parts of the context; a quarter is among the arms
BINS = 8  # of positions
DISTANCES = (16, 64, 128)  # tokens from one saying of a sequence to the next
SEQUENCES = 128  # of each distance
LENGTHS = (4096, 65_536)  # tokens of a sequence, beside the context, whose cache is counted
ONLY = ("arms", "windows")


def measure(config: dict[str, Any]) -> dict[str, Any]:
    """Train one model and tell of its loss and of what it makes of its context."""
    from sizewise.training import context_use, loop

    run = run_config.Run(**{field.name: config[field.name] for field in fields(run_config.Run)})
    found = tokenizer.prepare(run.text, run.vocabulary)
    checkpoint = downloads.cache() / "checkpoints" / f"{records.identity(config)}.pt"
    model, measured = loop.fit(run, found, checkpoint=checkpoint)
    if measured["ended"] != "done":  # a model of no numbers has nothing more to tell
        return measured
    return measured | context_use.columns(
        model,
        run,
        found,
        bins=config["bins"],
        distances=config["distances"],
        sequences=config["sequences"],
        lengths=config["cache_at"],
    )


def windows(words: argparse.Namespace) -> list[str]:
    """The families of the experiment `windows`, beside that with a quarter among the arms."""
    sizes = [
        words.context // validation.whole("--parts", part, words.context) for part in words.parts
    ]
    usual = models.Windows().size(words.context)
    ends = [models.Windows(every=1), models.Windows(every=0)]
    between = [models.Windows(window=size) for size in sizes if size != usual]
    return [one.name for one in (*ends, *between)]


def runs(words: argparse.Namespace) -> list[dict[str, Any]]:
    """Every row: the arms at all budgets and widths, the windows at one of each."""
    validation.whole("--seeds", words.seeds)
    for what in words.only:
        if what not in ONLY:
            raise units.unknown("experiment", what, ONLY)
    shape = {"vocabulary": words.vocabulary, "context": words.context}
    at = words.at or max(words.budgets)
    middle = words.width or run_config.around(at, 1, "dense", **shape)[0]
    wanted = []
    if "arms" in words.only:
        wanted = [
            ("arms", budget, width, family)
            for budget in words.budgets
            for width in words.widths or run_config.around(budget, words.sizes, "dense", **shape)
            for family in words.families
        ]
    if "windows" in words.only:
        wanted += [("windows", at, middle, family) for family in windows(words)]
        if (usual := ("arms", at, middle, models.Windows().name)) not in wanted:
            wanted.append(usual)  # with which the others compare
    return [row(*one, words, seed) for one in wanted for seed in range(words.seeds)]


def row(what: str, budget: float, width: int, family: str, words, seed: int) -> dict[str, Any]:
    """The configuration of one row."""
    run = run_config.at_budget(
        budget,
        width,
        family,
        seed=seed,
        text=words.text,
        vocabulary=words.vocabulary,
        context=words.context,
        lr=words.lr,
    )
    validation.whole("--sequences", words.sequences)
    validation.whole("--bins", words.bins, words.context)
    if words.context % words.bins:
        raise ValueError(f"a context of {words.context} does not divide into {words.bins} bins")
    looked = {
        "bins": words.bins,
        "distances": [
            validation.whole("--distances", one, words.context // 2, 2) for one in words.distances
        ],
        "sequences": words.sequences,
        "cache_at": [validation.whole("--lengths", one) for one in words.lengths],
    }
    return {"what": what, "budget": budget, **run.as_dict(), **looked}


def cost(config: dict[str, Any]) -> float:
    """Operations of training, two looks at the validation text, and repetitions of two kinds.

    A look costs a third of training a token. State-space models do fewer operations a second.
    """
    spec = models.spec(config["family"], config["width"], config["vocabulary"], config["context"])
    repeated = 2 * config["sequences"] * sum(2 * distance for distance in config["distances"])
    looked = 2 * config["validation_tokens"] + repeated
    return flops.size(spec).operations_per_token * (config["tokens"] + looked / 3)


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser, numbers = options.parser(__doc__), options.numbers
    add = parser.add_argument
    add("--only", type=numbers(str), default=list(ONLY), help=f"some of {', '.join(ONLY)}")
    add("--budgets", type=numbers(float), default=list(BUDGETS), help="of the arms, operations")
    add("--sizes", type=int, default=SIZES, help="widths at each budget, around the best")
    add("--widths", type=numbers(int), help="these widths of the arms instead, a,b,c")
    add("--families", type=numbers(str), default=list(FAMILIES), help="of the arms")
    add("--seeds", type=int, default=SEEDS, help="runs of each, with other weights and order")
    add("--at", type=float, help="budget of the windows; the largest if not said")
    add("--width", type=int, help="width of the windows; the best one if not said")
    add("--parts", type=numbers(int), default=list(PARTS), help="windows: context over these")
    add("--lr", type=float, default=run_config.LR, help="peak rate at the base width")
    add(
        "--bins", type=int, default=BINS, help="equal parts of the context for the loss by position"
    )
    add(
        "--distances",
        type=numbers(int),
        default=list(DISTANCES),
        help="tokens after which a sequence comes again",
    )
    add("--sequences", type=int, default=SEQUENCES, help="that come again, of each distance")
    add(
        "--lengths",
        type=numbers(int),
        default=list(LENGTHS),
        help="longer sequences whose cache is counted, tokens",
    )
    options.common(parser, "attention_variants", CONTEXT)
    return parser.parse_args(words)


def main() -> None:
    options.record("attention_variants", arguments(), runs, measure, cost)


if __name__ == "__main__":
    main()
