"""Train attention, windows, state spaces and their mixture at equal FLOPs, on longer sequences.

    python scripts/attention_variants.py
    python scripts/attention_variants.py --list
    python scripts/attention_variants.py --only arms --budgets 1e12 --seeds 5 --per-gpu 8

Three experiments:

arms      at each budget and width a dense model (Llama), one with sliding-window attention
          (Gemma 3), a state-space model (Mamba-2) and a mixture of that with attention (Bamba);
windows   at one budget and width, models of one class (Gemma 3) that differ only in how far their
          layers see: all of them everything, every second one a window of some size, all a window;
controls  what mixers have beside a state, given to attention: short convolutions, in the dense arm
          at all places and in the two ends of `windows`.

Each row also has the loss by position in the context, the bytes that one sequence stores, and what
the model gains when a sequence comes a second time. Rows go to data/attention_variants.jsonl; what
has a row is not run again, and a run that was interrupted goes on from its checkpoint. With
RAY_ADDRESS set the same command runs on that cluster.
"""

import argparse
from typing import Any

import numpy as np
from sizewise import units, validation
from sizewise.costs import memory
from sizewise.experiments import options
from sizewise.models import config as configs
from sizewise.models import from_config
from sizewise.training import batches, flops, models, run_config, tokenizer

BUDGETS = (3e11, 1e12)  # training FLOPs
SIZES = 2  # widths at each budget
SEEDS = 2
CONTEXT = 256
FAMILIES = ("dense", "windowed", "hybrid", "state-space")
PARTS = (16, 8, 2)  # windows are so small parts of the context; a quarter is among the arms
ENDS = (1, 0)  # windows nowhere, and windows alone
CONVOLUTION = 4  # tokens, as in the mixers
BINS = 8  # of positions
DISTANCES = (16, 64, 128)  # tokens from one occurrence of a sequence to the next
SEQUENCES = 128  # of each distance
LENGTHS = (4096, 65_536)  # tokens of a sequence, beside the context, whose cache is counted
ONLY = ("arms", "windows", "controls")


def measure(config: dict[str, Any]) -> dict[str, Any]:
    """Train one model; its loss and what it makes of its context."""
    from sizewise.training import loop

    run = run_config.Run.from_row(config)
    tokens = tokenizer.prepare(run.text, run.vocabulary)
    model, measured = loop.fit(run, tokens, checkpoint=options.checkpoint(config))
    if measured["ended"] != "done":  # nothing more can be read off weights that are no numbers
        return measured
    return measured | context_use(
        model,
        run,
        tokens,
        bins=config["bins"],
        distances=config["distances"],
        sequences=config["sequences"],
        lengths=config["cache_at"],
    )


def windows(args: argparse.Namespace) -> list[str]:
    """The families of the experiment `windows`, beside that with a quarter among the arms."""
    sizes = [args.context // validation.whole("--parts", p, args.context) for p in args.parts]
    usual = models.window_size(0, args.context)
    ends = [models.family("windowed", every=every) for every in ENDS]
    return ends + [models.family("windowed", window=size) for size in sizes if size != usual]


def runs(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Every row: arms and controls at all budgets and widths, the windows at one of each."""
    validation.whole("--seeds", args.seeds)
    for what in args.only:
        if what not in ONLY:
            raise units.unknown("experiment", what, ONLY)
    shape = {"vocabulary": args.vocabulary, "context": args.context}
    at = args.at or max(args.budgets)
    middle = args.width or run_config.around(at, 1, "dense", **shape)[0]
    places = [
        (budget, width)
        for budget in args.budgets
        for width in args.widths or run_config.around(budget, args.sizes, "dense", **shape)
    ]
    grid = []
    if "arms" in args.only:
        grid = [("arms", *place, family) for place in places for family in args.families]
    if "windows" in args.only:
        grid += [("windows", at, middle, family) for family in windows(args)]
        usual = ("arms", at, middle, "windowed")
        grid += [usual] if usual not in grid else []  # with which the others compare
    if "controls" in args.only:
        both = models.family("dense", convolution=CONVOLUTION)
        attention = models.family("dense", convolution=CONVOLUTION, sublayers=1)
        ends = [models.family("windowed", every=e, convolution=CONVOLUTION) for e in ENDS]
        grid += [("controls", *place, both) for place in places]
        grid += [("controls", at, middle, family) for family in (attention, *ends)]
    return [row(*cell, args, seed) for cell in grid for seed in range(args.seeds)]


def row(what: str, budget: float, width: int, family: str, args, seed: int) -> dict[str, Any]:
    """The configuration of one row."""
    run = run_config.at_budget(
        budget,
        width,
        family,
        seed=seed,
        text=args.text,
        vocabulary=args.vocabulary,
        context=args.context,
        lr=args.lr,
    )
    validation.whole("--sequences", args.sequences)
    validation.whole("--bins", args.bins, args.context)
    if args.context % args.bins:
        raise ValueError(f"a context of {args.context} does not divide into {args.bins} bins")
    distances = [
        validation.whole("--distances", distance, args.context // 2, 2)
        for distance in args.distances
    ]
    looked_at = {
        "bins": args.bins,
        "distances": distances,
        "sequences": args.sequences,
        "cache_at": [validation.whole("--lengths", length) for length in args.lengths],
    }
    return {"what": what, "budget": budget, **run.as_dict(), **looked_at}


def cost(config: dict[str, Any]) -> float:
    """FLOPs of training, two looks at the validation text, and repetitions of two kinds.

    A look costs a third of training a token. State-space models do fewer FLOPs a second.
    """
    spec = models.spec(config["family"], config["width"], config["vocabulary"], config["context"])
    repeated = 2 * config["sequences"] * sum(2 * distance for distance in config["distances"])
    tokens = config["tokens"] + (2 * config["validation_tokens"] + repeated) / 3
    return flops.size(spec).operations_per_token * tokens


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser, numbers = options.parser(__doc__), options.numbers
    add = parser.add_argument
    add("--only", type=numbers(str), default=list(ONLY), help=f"from {', '.join(ONLY)}")
    add("--budgets", type=numbers(float), default=list(BUDGETS), help="of the arms, FLOPs")
    add("--sizes", type=int, default=SIZES, help="widths at each budget, around the best")
    add("--widths", type=numbers(int), help="these widths of the arms instead, a,b,c")
    add("--families", type=numbers(str), default=list(FAMILIES), help="of the arms")
    add("--seeds", type=int, default=SEEDS, help="runs of each, with other weights and order")
    add("--at", type=float, help="budget of the windows; the largest by default")
    add("--width", type=int, help="width of the windows; the best one by default")
    add("--parts", type=numbers(int), default=list(PARTS), help="windows: context over these")
    add("--lr", type=float, default=run_config.LR, help="peak rate at the base width")
    add("--bins", type=int, default=BINS, help="parts of the context for the loss by position")
    distances = "tokens after which a sequence comes again"
    add("--distances", type=numbers(int), default=list(DISTANCES), help=distances)
    add("--sequences", type=int, default=SEQUENCES, help="that come again, of each distance")
    lengths = "longer sequences whose cache is counted, tokens"
    add("--lengths", type=numbers(int), default=list(LENGTHS), help=lengths)
    options.common(parser, "attention_variants", CONTEXT)
    return parser.parse_args(words)


def main() -> None:
    options.record("attention_variants", arguments(), runs, measure, cost)


# --- what a trained model makes of its context. One that uses what is far behind has a lower loss
# late in a window than early in it. One that can look up finds what stood behind a token the last
# time that it was there: the second half of a repeated sequence costs it nothing. A state of fixed
# size copies and recalls worse than attention does (Jelassi et al. 2024; Arora et al. 2023).


def by_position(nats_each: np.ndarray, bins: int) -> list[float]:
    """Mean of ``nats_each`` (windows, context) in ``bins`` equal parts of the context, in order."""
    return nats_each.reshape(len(nats_each), bins, -1).mean((0, 2)).tolist()


def repeated(first):
    """Inputs and targets of sequences that come twice: (sequences, 2 length) each.

    ``first`` (sequences, length) is an int64 tensor. The last target is the first token again.
    """
    import torch

    twice = torch.cat([first, first, first[:, :1]], 1)  # (sequences, 2 length + 1)
    return twice[:, :-1].contiguous(), twice[:, 1:].contiguous()


def random_tokens(vocabulary: int, length: int, number: int, seed: int = 0):
    """``number`` sequences of ``length`` tokens, none twice in one, the end of a document in none.

    What follows a token the second time is then beyond doubt, and no pair is more likely than
    another. int64, (number, length). Raises ValueError for more tokens than the vocabulary has.
    """
    import torch

    validation.whole("the length of a sequence", length, vocabulary - 1, 2)
    rng = np.random.default_rng(seed)
    permutations = [1 + rng.permutation(vocabulary - 1)[:length] for _ in range(number)]
    return torch.from_numpy(np.stack(permutations).astype(np.int64))


def recall(model, first) -> dict[str, float]:
    """Loss the ``first`` and the ``second`` time, nats a token; share ``right`` the second time.

    ``first`` (sequences, length) comes twice. All three are of the same targets, those that
    follow a token inside the sequence: that its beginning comes again could not be known. A model
    that looks at the last token only has the same loss twice.
    """
    from sizewise.training.loss import per_token

    length = first.shape[1]
    nats_each, right = per_token(model, *repeated(first))  # (sequences, 2 length)
    return {
        "first": float(nats_each[:, : length - 1].mean()),
        "second": float(nats_each[:, length:-1].mean()),
        "right": float(right[:, length:-1].mean()),
    }


def stored_bytes(spec, lengths: list[int]) -> list[int]:
    """Bytes that one sequence of each length stores for its next token, by `memory`.

    Keys and values in 16 bits, recurrent states in fp32. A window stays what it was in training,
    however long the sequence.
    """
    model = from_config.from_config(configs.build(spec), name=spec.name)
    return [memory.kv_cache_bytes(model, length) for length in lengths]


def context_use(model, run, tokens, *, bins, distances, sequences, lengths) -> dict[str, Any]:
    """The measured columns of ``data/attention_variants.md`` beside those of the loop.

    ``run`` is the `run_config.Run` that made ``model``; its context holds each repetition twice and
    divides into the ``bins``.
    """
    from sizewise.training.loss import per_token

    rows = max(1, run.validation_tokens // run.context)
    ids, targets = batches.fixed(tokens.validation, run.context, rows)
    nats_each, _ = per_token(model, ids, targets)
    measured = {"nats_by_position": by_position(nats_each, bins)}
    for distance in distances:
        for name, first in {
            "random": random_tokens(run.vocabulary, distance, sequences),
            "text": batches.fixed(tokens.validation, distance, sequences)[0],
        }.items():
            for side, value in recall(model, first).items():
                measured.setdefault(f"{name}_{side}", []).append(value)
    spec = models.spec(run.family, run.width, run.vocabulary, run.context)
    measured["cache_bytes"], *measured["cache_bytes_at"] = stored_bytes(
        spec, [run.context, *lengths]
    )
    return measured


if __name__ == "__main__":
    main()
