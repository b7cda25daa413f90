"""Predict the losses of training runs not made yet, and record the prediction.

    python scripts/foretell.py
    python scripts/foretell.py --budgets 3e16 --sizes 8

The law L = E + A / N^alpha + B / D^beta is fitted to all dense runs of data/isoflop.jsonl up to
--most FLOPs, and says what runs of larger budgets will end with: the runs that
scripts/isoflop.py would make. A second prediction lets tokens that are read again count for less,
as Muennighoff et al. (2023) found. Rows go to data/foretell.jsonl. What has a row is never
predicted again, however many runs are recorded later: what can still change predicts nothing.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from sizewise import scaling_laws
from sizewise.data import records
from sizewise.experiments import options
from sizewise.scaling_laws import isoflop
from sizewise.training import flops, models, run_config, tokenizer

BUDGETS = (1e14, 1e15, 1e16)  # training FLOPs
SIZES = 6
SAMPLES = 4000
SEED = 0
REPEATED = "muennighoff-c4"  # what a token is worth when it is read again
UNDISCOUNTED = 1e12  # excess parameters keep their worth


def fitted(most: float) -> tuple[scaling_laws.Fit, str]:
    """The law of the dense runs up to ``most`` FLOPs, and a hash that names those runs."""
    rows = isoflop.ladder(most)
    runs = scaling_laws.Runs.from_arrays(
        rows["params_non_embedding"], rows["tokens"], rows["val_loss"]
    )
    return scaling_laws.fit(runs, bootstrap=SAMPLES, seed=SEED), isoflop.names(rows)


def configuration(budget: float, width: int, most: float) -> dict[str, Any]:
    """What names a row: the run, and how large the runs were that the law was fitted to."""
    run = run_config.at_budget(budget, width)
    size = flops.size(models.spec(run.family, width, run.vocabulary, run.context))
    return {
        "budget": budget,
        "family": run.family,
        "width": width,
        "layers": run.layers,
        "params_non_embedding": size.params_non_embedding,
        "tokens": run.tokens,
        "text": run.text,
        "vocabulary": run.vocabulary,
        "context": run.context,
        "fitted_up_to": most,
        "samples": SAMPLES,
    }


def predicted(config: dict[str, Any], law: scaling_laws.Fit, named: str) -> dict[str, Any]:
    """The loss of a run with its intervals, and how far beyond the fitted runs it lies."""
    size, seen = config["params_non_embedding"], config["tokens"]
    unique = len(tokenizer.prepare(config["text"], config["vocabulary"]).train)
    # No discount on parameters: the paper's begins at a best size that is not that of these runs.
    fading = scaling_laws.DataConstrained(
        law.law, scaling_laws.published(REPEATED).tokens_worth, UNDISCOUNTED
    )
    reach = law.runs.reach(size, seen)
    return law.predict(size, seen, seed=SEED) | {
        "loss_repeated": float(fading.loss(size, seen, unique)),
        "runs": len(law.runs),
        "runs_sha256": named,
        "times_largest_size": reach["params"],
        "times_most_tokens": reach["tokens"],
        "times_largest_budget": config["budget"] / config["fitted_up_to"],
        "epochs": seen / unique,
    }


def arguments(line: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser, numbers = options.parser(__doc__), options.numbers
    add = parser.add_argument
    add("--budgets", type=numbers(float), default=list(BUDGETS), help="training FLOPs, a,b,c")
    add("--sizes", type=int, default=SIZES, help="widths at each budget")
    add("--most", type=float, default=3e13, help="largest budget of the runs to fit")
    add(
        "--output",
        type=Path,
        default=records.path("foretell"),
        help="another file than data/foretell.jsonl",
    )
    return parser.parse_args(line)


def main() -> None:
    args = arguments()
    try:
        if not np.all(np.array(args.budgets) > args.most):
            raise ValueError(f"a budget is not above --most {args.most:g}: nothing to predict")
        configs = [
            configuration(budget, width, args.most)
            for budget in args.budgets
            for width in run_config.around(budget, args.sizes)
        ]
        if not (todo := records.missing(args.output, configs)):
            print("every one of these has its prediction")
            return
        law, named = fitted(args.most)
        for config in todo:
            prediction = predicted(config, law, named)
            records.append(args.output, config, prediction, records.provenance(seed=SEED))
            low, high, loss = (prediction[name] for name in ("run_low", "run_high", "loss"))
            run = f"{config['budget']:.0e}, width {config['width']}"
            print(f"{run}: {loss:.3f} ({low:.3f} to {high:.3f})")
    except ValueError as error:
        print(f"foretell: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
