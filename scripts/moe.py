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
import math
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.stats import entropy
from sizewise import units, validation
from sizewise.experiments import options
from sizewise.training import batches, flops, models, run_config, tokenizer

BUDGETS = (3e10, 1e11, 3e11)  # training FLOPs of the small dense model
SEEDS = 4
BALANCE = 0.01  # coefficient of the balance loss: Fedus et al. 2021, section 2.2
WIDE = 4  # eight experts, of which a token uses two
MANY = (32, 64)  # experts, of which a token uses two
ONLY = ("arms", "rates", "experts")
WINDOWS = 512  # on which loads and what explains them are counted
ROWS = 32  # windows routed at a time
SHUFFLES = 5  # of the labels, for the bias of a mutual information
DEAD = 0.1  # of an even load; an expert that gets less counts as dead
TOUCHED = {"touched_4": 4, "touched_16": 16, "touched_64": 64}  # tokens of different windows
DRAWS = 400
ROUTING = ("loads", "evenness", "peak", "dead", "collapsed", *TOUCHED, "by_token")

DENSE = models.family("moe", experts=1, used=1)
ARMS = (
    DENSE,
    models.family("moe", experts=2, balance=BALANCE),
    models.family("moe", balance=BALANCE),
    models.family("moe", experts=1, used=1, wide=WIDE),
)


def measure(config: dict[str, Any]) -> dict[str, Any]:
    """Train one model; its loss and its routes."""
    from sizewise.training import loop

    run = run_config.Run.from_row(config)
    tokens = tokenizer.prepare(run.text, run.vocabulary)
    model, measured = loop.fit(run, tokens)
    size = flops.size(models.spec(run.family, run.width, run.vocabulary, run.context))
    measured["params_active"] = size.params_active
    return measured | routing(model, tokens, run.context, config["experts"], config["windows"])


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
    add("--width", type=int, help="of all models; the best one for each budget by default")
    add("--seeds", type=int, default=SEEDS, help="runs of each, with other weights and order")
    add("--lr", type=float, default=run_config.LR, help="peak rate at the base width")
    add("--windows", type=int, default=WINDOWS, help="on which the final routes are counted")
    options.common(parser, "moe")
    return parser.parse_args(words)


def main() -> None:
    options.record("moe", arguments(), runs, measure, cost)


# --- where a model sends its tokens: routes are arrays (layers, windows, context, used) of experts,
# loads shares of the choices, one row a layer


def routing(model, tokens, context: int, experts: int, windows: int) -> dict:
    """The routing columns of a trained model, on ``windows`` windows; all None with one expert."""
    if experts == 1:
        return dict.fromkeys(ROUTING)
    ids, _ = batches.fixed(tokens.validation, context, windows)  # (windows, context)
    sent = routes(model, ids)
    loads = load(sent, experts)
    measured = {
        "loads": loads,
        "evenness": evenness(loads),
        "peak": loads.max(-1) * experts,
        "dead": dead(loads),
        "collapsed": bool(dead(loads).max() > 0.5),
        "by_token": information(ids.numpy(), sent, experts),
    }
    for name, number in TOUCHED.items():
        measured[name] = touched(sent, min(number, len(ids)), DRAWS)
    return {name: _plain(value) for name, value in measured.items()}


def routes(model, ids) -> np.ndarray:
    """The experts that ``ids`` (windows, context) are sent to: (layers, windows, context, used).

    Empty, with no layers, for a model without experts.
    """
    import torch
    from sizewise.training.load_balancing import routers

    seen: list[list] = [[] for _ in routers(model)]

    def keep(layer: int):
        return lambda router, inputs, outputs: seen[layer].append(outputs[2].cpu())

    hooks = [
        router.register_forward_hook(keep(layer)) for layer, router in enumerate(routers(model))
    ]
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            for part in ids.split(ROWS) if hooks else ():
                model.base_model(input_ids=part.to(model.device), use_cache=False)
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    if not seen:
        return np.zeros((0, *ids.shape, 1), np.int16)
    layers = [torch.cat(layer).reshape(*ids.shape, -1) for layer in seen]
    return torch.stack(layers).numpy().astype(np.int16)


def load(sent: np.ndarray, experts: int) -> np.ndarray:
    """Share of the choices that each expert gets, by layer: (layers, experts), rows sum to 1."""
    flat = sent.reshape(len(sent), -1)
    return np.stack([np.bincount(layer, minlength=experts) / layer.size for layer in flat])


def evenness(loads: np.ndarray) -> np.ndarray:
    """Entropy of each row over its most, from 0 (one expert gets all) to 1 (even): (layers,)."""
    return entropy(loads, axis=-1) / math.log(loads.shape[-1])


def dead(loads: np.ndarray) -> np.ndarray:
    """Share of the experts that get under `DEAD` of an even load: (layers,)."""
    return (loads < DEAD / loads.shape[-1]).mean(-1)


def touched(sent: np.ndarray, tokens: int, draws: int, seed: int = 0) -> np.ndarray:
    """Distinct experts that ``tokens`` tokens reach, each of another window, by layer: (layers,).

    The mean over ``draws`` draws of windows and of a position in each, as sequences at different
    places meet in a step of a server.
    """
    layers, windows, context, _ = sent.shape
    rng = np.random.default_rng(seed)
    total = np.zeros(layers)
    for _ in range(draws):
        rows = rng.choice(windows, tokens, replace=False)
        chosen_routes = sent[:, rows, rng.integers(0, context, tokens)]  # (layers, tokens, used)
        total += [len(np.unique(layer)) for layer in chosen_routes]
    return total / draws


def information(labels: np.ndarray, sent: np.ndarray, experts: int, seed: int = 0) -> np.ndarray:
    """Share of the routing's entropy that ``labels`` (windows, context) explain: (layers,).

    Mutual information of label and expert, less its mean over shuffled labels, which is what a
    finite sample shows where there is nothing (the plug-in estimate is biased upwards: Miller
    1955), over the entropy of the loads. For labels that do explain much this takes off too much,
    so it errs low. NaN where a layer uses one expert only.
    """
    rng = np.random.default_rng(seed)
    layers, *_, used = sent.shape
    _, label = np.unique(labels, return_inverse=True)
    label = label.reshape(-1)
    shuffled = [rng.permutation(label) for _ in range(SHUFFLES)]
    shares = np.full(layers, np.nan)
    for layer in range(layers):
        choices = sent[layer].reshape(-1, used)
        spread = entropy(np.bincount(choices.reshape(-1), minlength=experts))
        if spread > 0:
            chance = np.mean([_mutual(labels_of, choices, experts) for labels_of in shuffled])
            shares[layer] = (_mutual(label, choices, experts) - chance) / spread
    return shares


def _mutual(label: np.ndarray, choices: np.ndarray, experts: int) -> float:
    """Mutual information in nats of label (tokens,) and each choice of choices (tokens, used)."""
    cells = label[:, None] * experts + choices  # (tokens, used)
    joint = np.bincount(cells.reshape(-1), minlength=(label.max() + 1) * experts)
    table = joint.reshape(-1, experts)
    return float(entropy(table.sum(0)) + entropy(table.sum(1)) - entropy(joint))


def _plain(value):
    """Numbers and lists as JSON has them, to six digits; None for what is not a number."""
    if isinstance(value, np.ndarray | list):
        return [_plain(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value


if __name__ == "__main__":
    main()
