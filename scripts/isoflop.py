"""Train small models at equal compute and record how their loss depends on their size.

    python scripts/isoflop.py
    python scripts/isoflop.py --budgets 1e13,3e13 --sizes 8 --family moe

For each budget of training FLOPs about six widths around the expected optimum, each trained
on as many tokens as the budget leaves it; several seeds at one budget for the noise. `--tune`
records the learning rates beside the tuned one instead. Rows go to data/isoflop.jsonl; what has a
row is not run again, and an interrupted run goes on from its checkpoint. With RAY_ADDRESS set the
same command runs on that cluster.
"""

import argparse
from typing import Any

from sizewise.experiments import options
from sizewise.training import models, optimizer, run_config, tokenizer

BUDGETS = (1e11, 3e11, 1e12, 3e12, 1e13, 3e13)  # training FLOPs
SIZES = 6
SEEDS = 3
TUNED_AT = (1e11, 1e12)
TUNED_WIDTHS = (16, 64)
TUNED_FACTORS = (0.25, 0.5, 1.0, 2.0, 4.0)


def measure(config: dict[str, Any]) -> dict[str, Any]:
    """Train one row's run; it goes on from its checkpoint in the cache where there is one."""
    from sizewise.training import loop

    run = run_config.Run.from_row(config)
    text = tokenizer.prepare(run.text, run.vocabulary)
    return loop.train(run, text, checkpoint=options.checkpoint(config))


def ladder(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Every budget at about ``--sizes`` widths; more seeds at the one named by ``--noise-at``."""
    noisy = args.noise_at or sorted(args.budgets)[min(1, len(args.budgets) - 1)]
    rows = []
    for budget in args.budgets:
        widths = args.widths or run_config.around(budget, args.sizes, args.family, **shape(args))
        seeds = range(args.seeds if budget == noisy else 1)
        rows += [row("ladder", budget, width, args, seed) for width in widths for seed in seeds]
    return rows


def tuning(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Rates around ``--lr`` at two widths and two budgets: one rate should serve all four."""
    return [
        row("tuning", budget, width, args, lr=args.lr * factor)
        for budget in TUNED_AT
        for width in args.widths or TUNED_WIDTHS
        for factor in TUNED_FACTORS
    ]


def row(what: str, budget: float, width: int, args, seed: int = 0, lr=None) -> dict[str, Any]:
    """The configuration of one row."""
    run = run_config.at_budget(
        budget,
        width,
        args.family,
        seed=seed,
        text=args.text,
        lr=lr or args.lr,
        schedule=args.schedule,
        **shape(args),
    )
    return {"what": what, "budget": budget, **run.as_dict()}


def shape(args: argparse.Namespace) -> dict[str, int]:
    """What every size of a sweep shares."""
    return {"vocabulary": args.vocabulary, "context": args.context}


def cost(config: dict[str, Any]) -> float:
    """FLOPs of a run and of its validation, a third of training a token."""
    share = config["validation_tokens"] / config["tokens"] / 3
    return config["budget"] * (1 + share)


def arguments(line: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser, numbers = options.parser(__doc__), options.numbers
    add = parser.add_argument
    add("--budgets", type=numbers(float), default=list(BUDGETS), help="training FLOPs, a,b,c")
    add("--sizes", type=int, default=SIZES, help="widths at each budget")
    add("--widths", type=numbers(int), help="these widths instead, a,b,c")
    add("--seeds", type=int, default=SEEDS, help="seeds at the budget of --noise-at")
    add("--noise-at", type=float, help="a budget; the second smallest by default")
    add("--family", default="dense", help=", ".join(models.FAMILIES))
    add(
        "--lr", type=float, default=run_config.LR, help=f"peak rate at width {optimizer.BASE_WIDTH}"
    )
    add("--schedule", default="linear", help=", ".join(optimizer.SCHEDULES))
    add("--tune", action="store_true", help="record learning rates around --lr instead")
    options.common(parser, "isoflop")
    return parser.parse_args(line)


def main() -> None:
    args = arguments()
    columns = ("budget", "width", "layers", "seed", "lr", "batch", "tokens")
    runs = tuning if args.tune else ladder
    options.record(
        "isoflop",
        args,
        runs,
        measure,
        cost,
        columns=columns,
        longest_first=False,  # small budgets first: they predict the large ones
    )


if __name__ == "__main__":
    main()
