"""Train dense and sparse models at equal operations, and watch where sparse ones send their tokens.

    python scripts/moe.py
    python scripts/moe.py --list
    python scripts/moe.py --only arms --budgets 1e12,3e12 --seeds 5 --per-gpu 8

Eight experiments on one class of models, in which a dense model is one with a single expert:

arms         at each budget and width a dense model, a sparse one that uses as many parameters for
             a token, and a dense one that holds as many in all;
tokens       dense models of sizes between those two, and of both, on the sparse one's tokens;
experts      from 2 to 64 experts, of which a token uses two;
granularity  the same experts cut into more and thinner ones;
shared       one of the experts that a token uses is always the same;
balance      the balance loss off;
capacity     an expert takes at most 1.25 or 1 times its even share of a batch, and drops the rest;
rates        the arms at learning rates beside the tuned one.

Rows go to data/moe.jsonl; what has a row is not run again, and a run that was interrupted starts
anew. With RAY_ADDRESS set the same command runs on that cluster.
"""

import argparse
from dataclasses import asdict, fields
from typing import Any

from sizewise import validation
from sizewise.experiments import options
from sizewise.training import flops, models, run_config, tokenizer

BUDGETS = (3e10, 1e11, 3e11)  # training operations
SIZES = 2  # widths at each budget
SEEDS = 3
BALANCE = 0.01  # coefficient of the balance loss: Fedus et al. 2021, section 2.2
EXPERTS = (2, 4, 16, 32, 64)  # of which a token uses two; 1 and 8 are among the arms
GRAINS = (1, 4, 8)  # experts that a token uses, of four times as many; 2 is among the arms
WIDER = (1, 2, 3, 4)  # times as wide: dense models from as many as a token uses to all
CAPACITIES = (1.0, 1.25)  # of an even share
FACTORS = (0.25, 0.5, 2.0)  # of the learning rate; 1 is among the arms
ONLY = ("arms", "tokens", "experts", "granularity", "shared", "balance", "capacity", "rates")
WINDOWS = 512  # on which loads and what explains them are counted
WATCHED = 64  # of which the routes are kept over training


def measure(config: dict[str, Any]) -> dict[str, Any]:
    """Train one model and tell of its loss and of its routes."""
    from sizewise.training import routing, routing_metrics

    run = run_config.Run(**{field.name: config[field.name] for field in fields(run_config.Run)})
    found = tokenizer.prepare(run.text, run.vocabulary)
    watched = routing.train(run, found, config["watched"])
    told = routing_metrics.columns(
        watched, found, run.context, config["experts"], config["windows"]
    )
    return watched.measured | told


def mixtures(words: argparse.Namespace) -> dict[str, list[models.Mixture]]:
    """What each experiment trains beside the arms."""
    mixed = {"balance": words.balance}
    one = models.Mixture(experts=1, used=1)
    wide = models.EXPERTS // models.EXPERTS_USED
    grains = [models.Mixture(experts=wide * used, used=used, **mixed) for used in words.grains]
    arms = [one, models.Mixture(**mixed), models.Mixture(experts=1, used=1, wide=wide)]
    return {
        "arms": arms,
        "rates": arms,
        "tokens": [models.Mixture(experts=1, used=1, wide=wider) for wider in WIDER],
        "experts": [models.Mixture(experts=number, **mixed) for number in words.experts],
        "granularity": grains,
        "shared": [models.Mixture(experts=4 * wide - 1, used=3, shared=1, **mixed)],
        "balance": [models.Mixture(experts=number) for number in (models.EXPERTS, 64)],
        "capacity": [models.Mixture(capacity=share, **mixed) for share in CAPACITIES]
        + [models.Mixture(capacity=CAPACITIES[0])],  # and without the balance loss
    }


def runs(words: argparse.Namespace) -> list[dict[str, Any]]:
    """Every row: the arms at all budgets and widths, the others at one of each."""
    validation.whole("--seeds", words.seeds)
    shape = {"vocabulary": words.vocabulary, "context": words.context}
    chosen = [what for what in ONLY if what in words.only]
    if wrong := set(words.only) - set(ONLY):
        raise ValueError(f"--only takes {', '.join(ONLY)}, got {', '.join(sorted(wrong))}")
    if words.balance <= 0:
        raise ValueError("--balance must be above 0; the experiment `balance` is without it")
    at = words.at or sorted(words.budgets)[len(words.budgets) // 2]
    middle = words.width or run_config.around(at, 1, "moe", **shape)[0]
    best = {budget: run_config.around(budget, 1, "moe", **shape) for budget in words.budgets}
    rows = []
    for what in chosen:
        places = list(best.items()) if what == "tokens" else [(at, [middle])]
        if what == "rates" and (most := max(words.budgets)) != at:
            places.append((most, best[most]))  # and farthest from where the rate was tuned
        if what == "arms":
            places = [
                (budget, words.widths or run_config.around(budget, words.sizes, "moe", **shape))
                for budget in words.budgets
            ]
            if (at, middle) not in [(b, w) for b, widths in places for w in widths]:
                places.append((at, [middle]))  # with which the other experiments compare
        rows += [
            row(what, budget, width, mixture, words, seed, factor)
            for budget, widths in places
            for width in widths
            for mixture in mixtures(words)[what]
            for factor in (FACTORS if what == "rates" else (1,))
            for seed in range(words.seeds)
        ]
    return rows


def row(
    what: str, budget: float, width: int, mixture, words, seed: int, factor: float = 1
) -> dict[str, Any]:
    """The configuration of one row; of `tokens`, with the budget that the tokens take."""
    shape = {"vocabulary": words.vocabulary, "context": words.context}
    if what == "tokens":
        families = (mixture.name, models.Mixture(balance=words.balance).name)
        ours, sparse = (flops.size(models.spec(one, width, **shape)) for one in families)
        budget *= ours.operations_per_token / sparse.operations_per_token
    run = run_config.at_budget(
        budget, width, mixture.name, seed=seed, text=words.text, lr=words.lr * factor, **shape
    )
    looked = {"windows": words.windows, "watched": words.watched}
    return {"what": what, "budget": budget, **asdict(mixture), **run.as_dict(), **looked}


def cost(config: dict[str, Any]) -> float:
    """Operations of training, of validation and of the looks, a third of training a token."""
    spec = models.spec(config["family"], config["width"], config["vocabulary"], config["context"])
    windows = config["windows"] + 8 * config["watched"]
    looked = config["validation_tokens"] + windows * config["context"] * (config["experts"] > 1)
    return flops.size(spec).operations_per_token * (config["tokens"] + looked / 3)


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser, numbers = options.parser(__doc__), options.numbers
    add = parser.add_argument
    add("--only", type=numbers(str), default=list(ONLY), help=f"some of {', '.join(ONLY)}")
    add("--budgets", type=numbers(float), default=list(BUDGETS), help="of the arms, operations")
    add("--sizes", type=int, default=SIZES, help="widths at each budget, around the best")
    add("--widths", type=numbers(int), help="these widths of the arms instead, a,b,c")
    add("--at", type=float, help="budget of the other experiments; the middle one if not said")
    add("--width", type=int, help="width of the other experiments; the best one if not said")
    add("--experts", type=numbers(int), default=list(EXPERTS), help="numbers of experts")
    add("--grains", type=numbers(int), default=list(GRAINS), help="experts that a token uses")
    add("--balance", type=float, default=BALANCE, help="coefficient of the balance loss")
    add("--seeds", type=int, default=SEEDS, help="runs of each, with other weights and order")
    add("--lr", type=float, default=run_config.LR, help="peak rate at the base width")
    add("--windows", type=int, default=WINDOWS, help="on which the final routes are counted")
    add("--watched", type=int, default=WATCHED, help="on which routes are watched in training")
    options.common(parser, "moe")
    return parser.parse_args(words)


def main() -> None:
    words = arguments()

    def traced(text) -> None:  # to its packages, for the specialisation by source
        from sizewise.training import token_source

        if not words.text.startswith("hub:"):
            token_source.of(text)

    options.record("moe", words, runs, measure, cost, first=traced)


if __name__ == "__main__":
    main()
