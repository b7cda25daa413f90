"""Train dense and sparse models on the same tokens, and watch where sparse ones send theirs.

    python scripts/moe.py
    python scripts/moe.py --list
    python scripts/moe.py --only arms --budgets 1e12 --seeds 5 --per-gpu 8

Three experiments on one class of models, in which a dense model is one with a single expert:

arms     at each budget, on the tokens that it buys the small dense model: that model, one cut into
         two experts that are both used, one of eight experts of which two are used, and a dense
         one that stores as many parameters as the eight;
rates    the same at one budget with every rate by the model's width instead of a matrix's own
         inputs (`sizewise.training.optimizer`), as the ladder of dense models has them;
experts  at that budget more experts, with the balance loss and without.

Rows go to data/moe.jsonl; what has a row is not run again. With RAY_ADDRESS set the same command
runs on that cluster.
"""

import argparse
from dataclasses import replace
from typing import Any

from sizewise import units, validation
from sizewise.experiments import options
from sizewise.training import flops, models, run_config, tokenizer

BUDGETS = (3e10, 1e11, 3e11)  # training FLOPs of the small dense model
SEEDS = 4
BALANCE = 0.01  # coefficient of the balance loss: Fedus et al. 2021, section 2.2
WIDE = 4  # eight experts, of which a token uses two
MANY = (32, 64)  # experts, of which a token uses two
ONLY = ("arms", "rates", "experts")
WINDOWS = 512  # on which loads and what explains them are counted

DENSE = models.family("moe", experts=1, used=1)
ARMS = (
    DENSE,
    models.family("moe", experts=2, balance=BALANCE),
    models.family("moe", balance=BALANCE),
    models.family("moe", experts=1, used=1, wide=WIDE),
)


def measure(config: dict[str, Any]) -> dict[str, Any]:
    """Train one model; its loss and its routes."""
    from sizewise.training import loop, routing

    run = run_config.Run.from_row(config)
    tokens = tokenizer.prepare(run.text, run.vocabulary)
    model, measured = loop.fit(run, tokens)
    size = flops.size(models.spec(run.family, run.width, run.vocabulary, run.context))
    measured["params_active"] = size.params_active
    return measured | routing.columns(
        model, tokens, run.context, config["experts"], config["windows"]
    )


def runs(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Every row: the arms at all budgets, the others at the middle one."""
    validation.whole("--seeds", args.seeds)
    for what in args.only:
        if what not in ONLY:
            raise units.unknown("experiment", what, ONLY)
    middle = sorted(args.budgets)[len(args.budgets) // 2]
    more = [models.family("moe", experts=n, balance=b) for b in (BALANCE, 0.0) for n in MANY]
    grid = []
    if "arms" in args.only:
        grid += [("arms", budget, mixture, True) for budget in args.budgets for mixture in ARMS]
    if "rates" in args.only:
        grid += [("rates", middle, mixture, False) for mixture in ARMS]
    if "experts" in args.only:
        grid += [("experts", middle, mixture, True) for mixture in more]
    return [row(*cell, args, seed) for cell in grid for seed in range(args.seeds)]


def row(what: str, budget: float, mixture: str, per_input: bool, args, seed: int) -> dict[str, Any]:
    """The configuration of one row, on the tokens and batches of the small dense model."""
    shape = {"vocabulary": args.vocabulary, "context": args.context}
    width = args.width or run_config.around(budget, 1, DENSE, **shape)[0]
    dense = run_config.at_budget(
        budget,
        width,
        DENSE,
        seed=seed,
        text=args.text,
        lr=args.lr,
        per_input=per_input,
        **shape,
    )
    run = replace(dense, family=mixture)
    return {
        "what": what,
        "budget": budget,
        **models.options(mixture),
        **run.as_dict(),
        "windows": args.windows,
    }


def cost(config: dict[str, Any]) -> float:
    """FLOPs of training, of validation and of the routes, a third of training a token."""
    spec = models.spec(config["family"], config["width"], config["vocabulary"], config["context"])
    routed = config["windows"] * config["context"] * (config["experts"] > 1)
    tokens = config["tokens"] + (config["validation_tokens"] + routed) / 3
    return flops.size(spec).operations_per_token * tokens


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser, numbers = options.parser(__doc__), options.numbers
    add = parser.add_argument
    add("--only", type=numbers(str), default=list(ONLY), help=f"from {', '.join(ONLY)}")
    add("--budgets", type=numbers(float), default=list(BUDGETS), help="of the arms, FLOPs")
    add("--width", type=int, help="of all models; the best one for each budget if not said")
    add("--seeds", type=int, default=SEEDS, help="runs of each, with other weights and order")
    add("--lr", type=float, default=run_config.LR, help="peak rate at the base width")
    add("--windows", type=int, default=WINDOWS, help="on which the final routes are counted")
    options.common(parser, "moe")
    return parser.parse_args(words)


def main() -> None:
    options.record("moe", arguments(), runs, measure, cost)


if __name__ == "__main__":
    main()
