"""Fit published run tables again and record our results; the tables themselves stay where they are.

    python scripts/refit_published.py
    SIZEWISE_PUBLISHED=folder python scripts/refit_published.py     # without a web

The runs behind figure 4 of Hoffmann et al. (2022), as Epoch read them off the drawing, come from
their public repository at a pinned commit and are checked by SHA-256. Rows go to
data/refit_published.jsonl; what has a row is not fitted again.
"""

import argparse
from functools import cache
from pathlib import Path

import numpy as np
from sizewise import scaling_laws
from sizewise.data import records
from sizewise.scaling_laws import solver, uncertainty, upstream

SEED = 0
SAMPLES = 4000
TABLE = "chinchilla-figure-4"
ALL = 245  # with the five runs of the highest losses
POINTS = (ALL - upstream.OUTLIERS, ALL)
PUBLISHED = ("hoffmann-3", "hoffmann-3-tex", "besiroglu")
SIZES = [float(f"1e{k}") for k in range(8, 14)]  # each grown tenfold
EACH = (2, 20, 200)  # tokens for each parameter
BUDGETS = [5.76e23, *(float(f"1e{k}") for k in range(18, 31))]  # the first is Chinchilla's own
GRID = [
    *({"what": "fit", "points": n, "samples": SAMPLES} for n in POINTS),
    *(
        {"what": "held_out", "points": n, "hidden": how}
        for n in POINTS
        for how in ("in turn", "largest")
    ),
    *({"what": "objective", "points": POINTS[0], "law": name} for name in PUBLISHED),
    *({"what": "growth", "points": POINTS[0], "samples": SAMPLES, "params": n} for n in SIZES),
    *(
        {"what": "optimal_size", "points": POINTS[0], "samples": SAMPLES, "params": n}
        for n in (1e12, 1e13)
    ),
    *(
        {"what": "allocation", "points": POINTS[0], "samples": SAMPLES, "budget": c}
        for c in BUDGETS
    ),
    *({"what": "joint", "points": n, "samples": SAMPLES} for n in POINTS),
    *(
        {"what": "loss", "points": n, "samples": SAMPLES, "params": size, "tokens": each * size}
        for n in POINTS
        for size in (1e8, 3e8, 1e9, 3e9, *SIZES[2:])
        for each in EACH
    ),
]


@cache
def fitted(points: int) -> scaling_laws.Fit:
    return scaling_laws.fit(
        upstream.chinchilla(outliers=points == ALL), bootstrap=SAMPLES, seed=SEED
    )


def measure(what: str, points: int, **config) -> dict:
    """The measurements of one row."""
    one = fitted(points)
    match what:
        case "fit":
            return fit(one)
        case "held_out":
            masks = scaling_laws.folds if config["hidden"] == "in turn" else scaling_laws.largest
            errors = scaling_laws.held_out(one.runs, masks(one.runs))
            return {"median_error": errors.median, "bias": errors.bias, "runs": len(errors.errors)}
        case "objective":
            return {"objective": objective(one.runs, scaling_laws.published(config["law"]))}
        case "growth":
            n = config["params"]
            return with_interval(one, "gain", lambda law: law.gain(n, 10 * n)) | with_interval(
                one, "left", lambda law: law.size_term(n)
            )
        case "optimal_size":
            size = config["params"]
            return with_interval(
                one, "operations", lambda law: law.budget(size)[0]
            ) | with_interval(one, "tokens", lambda law: law.budget(size)[1])
        case "allocation":
            return allocation(one, config["budget"])
        case "joint":
            return uncertainty.columns(one)
        case "loss":
            return loss(one, config["params"], config["tokens"])
    raise ValueError(f"nothing to measure: {what}")


def fit(one: scaling_laws.Fit) -> dict:
    """Coefficients with bootstrap and profile intervals, and how far the runs reach."""
    runs, profiled, errors = one.runs, scaling_laws.profile(one), one.standard_errors()
    found = {
        "objective": one.objective,
        "starts": one.starts,
        "agreeing": one.agreeing,
        "converged": one.converged,
        "median_residual": float(np.median(np.abs(one.residuals))),
        "most_params": float(runs.params.max()),
        "least_params": float(runs.params.min()),
        "most_tokens": float(runs.tokens.max()),
        "least_tokens_each": float((runs.tokens / runs.params).min()),
        "most_operations": float(runs.operations.max()),
    }
    for name in (*scaling_laws.NAMES, "exponent", "loss_exponent"):
        found |= with_interval(one, name, lambda law, name=name: getattr(law, name))
    found |= {f"{name}_se": errors[name] for name in (*scaling_laws.NAMES, "exponent")}
    for name, (low, high) in profiled.items():
        found |= {f"{name}_profile_low": low, f"{name}_profile_high": high}
    return found


def objective(runs: scaling_laws.Runs, law) -> float:
    """The sum of Huber losses of a law as it stands."""
    table = solver.Table.of(runs.params, runs.tokens, runs.loss)
    return float(solver.objective(law.theta[None], np.ones((1, len(runs))), table)[0])


def allocation(one: scaling_laws.Fit, budget: float) -> dict:
    """The best size and tokens for a budget, and tokens for each parameter."""
    found = {}
    for place, name in enumerate(("best_params", "best_tokens")):
        found |= with_interval(one, name, lambda law, k=place: law.optimum(budget)[k])
    return found | with_interval(
        one, "tokens_each", lambda law: law.optimum(budget)[1] / law.optimum(budget)[0]
    )


def loss(one: scaling_laws.Fit, params: float, tokens: float) -> dict:
    """The loss at a point, and whether the point lies among the runs: in their convex hull."""
    from scipy.spatial import Delaunay

    hull = Delaunay(np.log(np.stack([one.runs.params, one.runs.tokens], axis=1)))
    inside = bool(hull.find_simplex(np.log([params, tokens])) >= 0)
    return with_interval(one, "loss", lambda law: law.loss(params, tokens)) | {"inside": inside}


def with_interval(one: scaling_laws.Fit, name: str, of) -> dict[str, float]:
    """A quantity of the law with its 95 % interval."""
    low, high = one.interval(of)
    return {name: float(of(one.law)), f"{name}_low": low, f"{name}_high": high}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", help="another file than data/refit_published.jsonl")
    words = parser.parse_args()
    file = Path(words.output) if words.output else records.path("refit_published")
    todo = records.missing(file, [{"table": TABLE} | config for config in GRID])
    for place, config in enumerate(todo, 1):
        measured = measure(**{k: v for k, v in config.items() if k not in ("table", "samples")})
        records.append(file, config, measured, records.provenance(seed=SEED))
        told = " ".join(
            f"{value:g}" if isinstance(value, float) else str(value) for value in config.values()
        )
        print(f"[{place}/{len(todo)}] {told}", flush=True)


if __name__ == "__main__":
    main()
