"""Predict the loss and the accuracy of two models from a public ladder of small ones.

    python scripts/olmo_prediction.py
    SIZEWISE_PUBLISHED=folder python scripts/olmo_prediction.py     # without a web

The ladder of Bhagia et al. (2024) has 30 runs from 190M to 3B parameters. The law is fitted to
them and asked for the loss on C4 of a model of 6.888 billion parameters on 3.9 trillion tokens and
of one of 13.20 billion on 5 trillion, and in two steps for their accuracy on eight tasks. The rows
of data/olmo_prediction.jsonl were committed before the measured values were looked up; those
stand in data/facts/olmo.yml. What has a row is never predicted again.
"""

import argparse
import sys
from functools import cache
from pathlib import Path

import numpy as np
from common import public_tables, task_laws
from sizewise import scaling_laws
from sizewise.data import records
from sizewise.scaling_laws import fitting

SEED = 0
SAMPLES = 4000
TASK_SAMPLES = 1000
TARGETS = {"7B": (6.888e9, 3.9e12), "13B": (1.320e10, 5e12)}  # parameters, tokens
CHANCE = {
    "mmlu": 1 / 4,
    "hellaswag": 1 / 4,
    "arc_challenge": 1 / 4,
    "arc_easy": 1 / 4,
    "piqa": 1 / 2,
    "csqa": 1 / 5,
    "socialiqa": 1 / 3,
    "openbookqa": 1 / 4,
}


def grid() -> list[dict]:
    """The configurations of all rows: for each model the loss, then the tasks."""
    rows = []
    for target, (params, tokens) in TARGETS.items():
        model = {"target": target, "params": params, "tokens": tokens}
        rows.append({"what": "loss", **model, "samples": SAMPLES})
        rows += [{"what": "accuracy", **model, "task": t, "samples": TASK_SAMPLES} for t in CHANCE]
    return rows


@cache
def ladder() -> scaling_laws.Runs:
    return public_tables.olmo_runs()


@cache
def law() -> scaling_laws.Fit:
    return scaling_laws.fit(ladder(), bootstrap=SAMPLES, seed=SEED)


@cache
def rung_error() -> float:
    """Root mean square error of the largest size's losses, predicted from the smaller sizes."""
    errors = scaling_laws.held_out(ladder(), scaling_laws.largest_size(ladder())).errors
    return float(np.sqrt((np.log1p(errors) ** 2).mean()))


def predicted_loss(params: float, tokens: float) -> dict:
    """The loss with three intervals of 95 %: of the curve, of a run, and with the form's error.

    The last one adds to each resample the error that this law made one rung further up, on the
    largest size of the ladder when it was fitted to the smaller ones.
    """
    prediction = law().predict(params, tokens, seed=SEED)
    rng = np.random.default_rng(SEED)
    curves = law().resampled.loss(params, tokens)
    scatter = rng.choice(law().residuals, len(curves)) + rng.normal(0, rung_error(), len(curves))
    low, high = fitting.percentiles(curves * np.exp(scatter))
    reach = ladder().reach(params, tokens)
    return prediction | {
        "rung_error": rung_error(),
        "wide_low": low,
        "wide_high": high,
        "runs": len(ladder()),
        "times_largest_size": reach["params"],
        "times_most_tokens": reach["tokens"],
        "times_largest_flops": reach["flops"],
    }


def predicted_accuracy(params: float, tokens: float, task: str, samples: int) -> dict:
    """A task's accuracy in two steps: bits a byte of its right answers, then accuracy.

    Each resample reweights the runs for both steps and adds a residual of the second.
    """
    table = public_tables.olmo_table()
    bits, accuracy = table[f"bpb_{task}"], table[f"acc_{task}"]
    runs = scaling_laws.Runs.from_arrays(
        ladder().params, ladder().tokens, bits, cluster=ladder().clusters
    )
    first = scaling_laws.fit(runs, bootstrap=samples, seed=SEED)
    second = task_laws.fit_sigmoid(bits, accuracy, CHANCE[task])
    at = first.resampled.loss(params, tokens)
    curves = [
        task_laws.fit_sigmoid(bits, accuracy, CHANCE[task], weights).accuracy(x)
        for x, weights in zip(at, fitting.resamples(runs, samples, SEED), strict=True)
    ]
    residuals = (accuracy - second.accuracy(bits)).to_numpy()
    scatter = np.random.default_rng(SEED).choice(residuals, samples)
    low, high = fitting.percentiles(np.array(curves) + scatter)
    bits_low, bits_high = fitting.percentiles(at)
    return {
        "bits": float(first.law.loss(params, tokens)),
        "bits_low": bits_low,
        "bits_high": bits_high,
        "accuracy": float(second.accuracy(first.law.loss(params, tokens))),
        "accuracy_low": low,
        "accuracy_high": high,
        "best_of_ladder": float(accuracy.max()),
    }


def measure(config: dict) -> dict:
    """The measurements of one row."""
    if config["what"] == "loss":
        return predicted_loss(config["params"], config["tokens"])
    names = ("params", "tokens", "task", "samples")
    return predicted_accuracy(*(config[name] for name in names))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", help="another file than data/olmo_prediction.jsonl")
    args = parser.parse_args()
    file = Path(args.output) if args.output else records.path("olmo_prediction")
    try:
        for config in records.missing(file, grid()):
            measured = measure(config)
            records.append(file, config, measured, records.provenance(seed=SEED))
            name = "loss" if config["what"] == "loss" else "accuracy"
            print(f"{config['target']} {config.get('task', 'C4 loss')}: {measured[name]:.3f}")
    except ValueError as error:
        print(f"olmo_prediction: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
