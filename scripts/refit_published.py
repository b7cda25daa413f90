"""Fit every public table of training runs by one estimator, and record our results.

    python scripts/refit_published.py
    SIZEWISE_PUBLISHED=folder:folder python scripts/refit_published.py     # without a web
    python scripts/refit_published.py --list

The tables come from public repositories at pinned commits, are checked by SHA-256 and stay where
they are (`public_tables`). Rows go to data/refit_published.jsonl; what has a
row is not fitted again.
"""

import argparse
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
from common import public_tables, task_laws
from sizewise import scaling_laws
from sizewise.data import records
from sizewise.scaling_laws import fitting, isoflop, solver
from sizewise.scaling_laws.uncertainty import PAIRS

SEED = 0
SAMPLES = 4000
TRIALS, TRIAL_SAMPLES = 200, 300  # of the coverage of intervals
MORE_TRIALS = 600  # of our ladder, where one of the coverages left 90 to 99 % in 200
MANY = 500  # points
CHINCHILLA, WITH_OUTLIERS, OURS = "chinchilla-240", "chinchilla-245", "our-ladder"
PUBLISHED = ("hoffmann-3", "hoffmann-3-tex", "besiroglu")
SIZES = [float(f"1e{k}") for k in range(8, 14)]  # each grown tenfold
EACH = (2, 20, 200)  # tokens for each parameter
BUDGETS = [5.76e23, *(float(f"1e{k}") for k in range(18, 31))]  # the first is Chinchilla's own
TRILLION, TEN = 1e12, 1e13
SERVED = [m * 10.0**k for k in range(11, 15) for m in (1, 3)] + [1e15]  # tokens
GOAL = 70e9  # the size whose quality is served
# A served FLOP over a trained one: equal, and an H100 that decodes for sixteen requests, for one.
H100 = {"bandwidth": 3.35e12, "peak": 989.4e12, "utilization": 0.4}
WEIGHTS = [1.0, *(round(scaling_laws.serving_weight(batch=n, **H100), 1) for n in (16, 1))]
GPT2, GPT3 = 124_439_808, 174_604_259_328  # the smallest and the largest of the early years


def our_ladder() -> scaling_laws.Runs:
    """The runs from which data/foretell.jsonl predicted, all parameters counted."""
    return isoflop.ladder_runs(isoflop.on_record(), "params")


TABLES: dict[str, Callable[[], scaling_laws.Runs]] = {
    CHINCHILLA: public_tables.chinchilla,
    WITH_OUTLIERS: lambda: public_tables.chinchilla(outliers=True),
    **{f"gadre-{c}": lambda c=c: public_tables.gadre_runs(c) for c in public_tables.corpora()},
    "muennighoff-c4": public_tables.muennighoff,
    "olmo-ladder": public_tables.olmo_runs,
    "gemstones": public_tables.gemstones,
    OURS: our_ladder,
}
QUANTITIES: dict[str, Callable] = {  # of a law, each recorded with its interval
    **{name: lambda law, name=name: getattr(law, name) for name in scaling_laws.NAMES},
    "exponent": lambda law: law.exponent,
    "loss_exponent": lambda law: law.loss_exponent,
    "gain_early": lambda law: law.gain(1e9, 1e10),
    "gain_late": lambda law: law.gain(TRILLION, TEN),
    "early_over_late": lambda law: law.gain(1e9, 1e10) / law.gain(TRILLION, TEN),
    "doubling_early": lambda law: law.gain(GPT2, 2 * GPT2),
    "doubling_late": lambda law: law.gain(GPT3, 2 * GPT3),
    "left": lambda law: law.size_term(TEN),
    "next_factor": lambda law: next_factor(law.loss_exponent),
}
COVERED = ("E", "alpha", "beta", "exponent", "gain_early", "gain_late")


def grid() -> list[dict]:
    """The configurations of all rows."""
    rows = [{"what": "fit", "table": table, "samples": SAMPLES} for table in TABLES]
    rows += [
        {"what": "held_out", "table": table, "hidden": hidden}
        for table in TABLES
        for hidden in ("in turn", "largest", "largest size")
    ]
    rows += [
        {"what": "growth", "table": table, "samples": SAMPLES, "params": size}
        for table in TABLES
        for size in SIZES
    ]
    rows += [
        {"what": "optimal_size", "table": table, "samples": SAMPLES, "params": TEN}
        for table in TABLES
    ]
    rows += [{"what": "reproduced", "law": law} for law in ("besiroglu", "gadre-c4", "gemstones")]
    rows += [{"what": "objective", "table": CHINCHILLA, "law": name} for name in PUBLISHED]
    rows += [
        {"what": "allocation", "table": CHINCHILLA, "samples": SAMPLES, "budget": budget}
        for budget in BUDGETS
    ]
    for table in (CHINCHILLA, WITH_OUTLIERS):
        rows.append({"what": "joint", "table": table, "samples": SAMPLES})
        rows += [
            {"what": "loss", "table": table, "samples": SAMPLES, "params": n, "tokens": each * n}
            for n in (1e8, 3e8, 1e9, 3e9, *SIZES[2:])
            for each in EACH
        ]
    rows += [
        {"what": "error_law", "table": f"gadre-{corpus}", "samples": 1000}
        for corpus in public_tables.corpora()
    ]
    rows += [
        {
            "what": "serving",
            "table": CHINCHILLA,
            "samples": SAMPLES,
            "params": GOAL,
            "served": t,
            "weight": weight,
        }
        for weight in WEIGHTS
        for t in SERVED
    ]
    rows += [
        {"what": "returns", "table": table, "multiple": 1}
        for table in (*(f"gadre-{corpus}" for corpus in public_tables.corpora()), "olmo-ladder")
    ]
    rows += [
        {"what": "coverage", "table": table, "trials": trials, "samples": TRIAL_SAMPLES}
        for table, trials in (*((table, TRIALS) for table in TABLES), (OURS, MORE_TRIALS))
    ]
    return rows


@cache
def fitted(table: str, samples: int = SAMPLES) -> scaling_laws.Fit:
    return scaling_laws.fit(TABLES[table](), bootstrap=samples, seed=SEED)


def measure(config: dict) -> dict:
    """The measurements of one row."""
    table, params = config.get("table"), config.get("params")
    match config["what"]:
        case "fit":
            return fit_columns(fitted(table))
        case "held_out":
            return held_out(fitted(table).runs, config["hidden"])
        case "growth":
            return with_interval(
                fitted(table), "gain", lambda law: law.gain(params, 10 * params)
            ) | with_interval(fitted(table), "left", lambda law: law.size_term(params))
        case "optimal_size":
            return optimal_size(fitted(table), params)
        case "allocation":
            return allocation(fitted(table), config["budget"])
        case "joint":
            return joint(fitted(table))
        case "loss":
            return loss(fitted(table), params, config["tokens"])
        case "objective":
            return {"objective": objective(fitted(table).runs, config["law"])}
        case "coverage":
            return coverage(fitted(table), config["trials"], config["samples"])
        case "reproduced":
            return reproduced(config["law"])
        case "error_law":
            return error_law(table.removeprefix("gadre-"), config["samples"])
        case "serving":
            return serving(fitted(table), params, config["served"], config["weight"])
        case "returns":
            return returns(table, config["multiple"])
    raise ValueError(f"nothing to measure: {config['what']}")


def next_factor(exponent):
    """The factor of compute that gains what the last tenfold gained; infinite past the floor.

    The reducible loss falls as C^-exponent: of what a tenfold leaves, the next has to take as
    much as it took.
    """
    rest = 2 - np.power(10.0, exponent)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(rest > 0, np.power(np.maximum(rest, 0), -1 / exponent), np.inf)[()]


def fit_columns(fit: scaling_laws.Fit) -> dict:
    """Coefficients and what follows from them, with intervals; and how far the runs reach."""
    runs, resampled = fit.runs, fit.resampled
    errors = {n: float(np.std(getattr(resampled, n))) for n in (*scaling_laws.NAMES, "exponent")}
    columns = {
        "runs": len(runs),
        "clusters": int(runs.clusters.max()) + 1,
        "objective": fit.objective,
        "starts": fit.starts,
        "agreeing": fit.agreeing,
        "converged": fit.converged,
        "median_residual": float(np.median(np.abs(fit.residuals))),
        "most_params": float(runs.params.max()),
        "least_params": float(runs.params.min()),
        "most_tokens": float(runs.tokens.max()),
        "least_tokens_each": float((runs.tokens / runs.params).min()),
        "most_flops": float(runs.flops.max()),
        "least_loss": float(runs.loss.min()),
        "times_beyond": TEN / float(runs.params.max()),
        "spans_beyond": runs.reach(TEN)["spans"],
    }
    for name, quantity in QUANTITIES.items():
        columns |= with_interval(fit, name, quantity)
    columns |= {f"{name}_se": errors[name] for name in (*scaling_laws.NAMES, "exponent")}
    for name, (low, high) in scaling_laws.profile(fit).items():
        columns |= {f"{name}_profile_low": finite(low), f"{name}_profile_high": finite(high)}
    return columns


def held_out(runs: scaling_laws.Runs, hidden: str) -> dict:
    """Errors of runs that the fit was made without."""
    masks = {
        "in turn": scaling_laws.folds,
        "largest": scaling_laws.largest,
        "largest size": scaling_laws.largest_size,
    }
    errors = scaling_laws.held_out(runs, masks[hidden](runs))
    return {
        "median_error": errors.median,
        "rms_error": float(np.sqrt((errors.errors**2).mean())),
        "bias": errors.bias,
        "runs": len(errors.errors),
    }


def objective(runs: scaling_laws.Runs, law: str) -> float:
    """The sum of Huber losses of a published law as it stands."""
    table = solver.Table.from_runs(runs.params, runs.tokens, runs.loss)
    theta = scaling_laws.published(law).theta[None]
    return float(solver.solve(theta, np.ones((1, len(runs))), table, most=0).objective[0])


def optimal_size(fit: scaling_laws.Fit, params: float) -> dict:
    """FLOPs and tokens for which a size is the best one, and tokens for each parameter."""
    columns = with_interval(fit, "flops", lambda law: law.budget(params)[0])
    columns |= with_interval(fit, "tokens", lambda law: law.budget(params)[1])
    return columns | with_interval(fit, "tokens_each", lambda law: law.budget(params)[1] / params)


def allocation(fit: scaling_laws.Fit, budget: float) -> dict:
    """The best size and tokens for a budget, and tokens for each parameter."""
    columns = {}
    for place, name in enumerate(("best_params", "best_tokens")):
        columns |= with_interval(fit, name, lambda law, k=place: law.optimum(budget)[k])
    return columns | with_interval(
        fit, "tokens_each", lambda law: law.optimum(budget)[1] / law.optimum(budget)[0]
    )


def loss(fit: scaling_laws.Fit, params: float, tokens: float) -> dict:
    """The loss at a point, and whether the point lies among the runs: in their convex hull."""
    from scipy.spatial import Delaunay

    hull = Delaunay(np.log(np.stack([fit.runs.params, fit.runs.tokens], axis=1)))
    inside = bool(hull.find_simplex(np.log([params, tokens])) >= 0)
    return with_interval(fit, "loss", lambda law: law.loss(params, tokens)) | {"inside": inside}


def coverage(fit: scaling_laws.Fit, trials: int, samples: int) -> dict:
    """How often 95 % intervals hold the truth, on synthetic tables of this one's shape.

    The truth is the fitted law. Each cluster is off by a residual of the fit's cluster means with
    a random sign, and its points by residuals about those means. Of a table of many points every
    fifth is taken: neighbours along one run say nearly the same.
    """
    if len(fit.runs) > MANY:
        fit = scaling_laws.fit(fit.runs.subset(np.arange(len(fit.runs)) % 5 == 0))
    rng, true = np.random.default_rng(SEED), {n: QUANTITIES[n](fit.law) for n in COVERED}
    values, ends = {n: [] for n in COVERED}, {n: [] for n in COVERED}
    for trial in range(trials):
        synthetic = scaling_laws.fit(like(fit, rng), bootstrap=samples, seed=trial)
        for name in COVERED:
            values[name].append(float(QUANTITIES[name](synthetic.law)))
            ends[name].append(synthetic.interval(QUANTITIES[name]))
    columns = {}
    for name in COVERED:
        low, high = np.array(ends[name]).T
        columns[f"covered_{name}"] = float(np.mean((low <= true[name]) & (true[name] <= high)))
        spread = np.subtract(*np.percentile(values[name], [97.5, 2.5]))
        columns[f"wide_{name}"] = float(np.median(high - low) / spread)
    return columns


def like(fit: scaling_laws.Fit, rng) -> scaling_laws.Runs:
    """A table with the sizes, tokens, clusters and scatter of the fitted one, and a known law."""
    runs, cluster = fit.runs, fit.runs.clusters
    clusters = cluster.max() + 1
    means = np.bincount(cluster, fit.residuals) / np.bincount(cluster)
    within = fit.residuals - means[cluster]
    spread = np.sqrt(clusters / (clusters - len(scaling_laws.NAMES)))
    noise = spread * (rng.choice(means, clusters) * rng.choice((-1, 1), clusters))[cluster]
    if len(runs) > clusters:
        noise = noise + rng.choice(within, len(runs)) * rng.choice((-1, 1), len(runs))
    exact = fit.law.loss(runs.params, runs.tokens)
    return scaling_laws.Runs(
        runs.params, runs.tokens, exact * np.exp(noise), runs.spent, runs.cluster
    )


def reproduced(law: str) -> dict:
    """A published law made again as its authors made it: ours, theirs, and the sum they minimize.

    Gadre et al. take five runs, one exponent and least squares of the loss; the others are the
    estimator of this script.
    """
    if law == "gadre-c4":
        ours, runs = five_run_law(), public_tables.gadre_five()
        total = float(((ours.loss(runs.params, runs.tokens) - runs.loss) ** 2).sum())
        count = len(runs)
    else:
        fit = fitted({"besiroglu": CHINCHILLA, "gemstones": "gemstones"}[law])
        ours, total, count = fit.law, fit.objective, len(fit.runs)
    theirs = scaling_laws.published(law)
    columns = {"runs": count, "objective": total}
    for name in scaling_laws.NAMES:
        columns |= {name: float(getattr(ours, name)), f"{name}_published": getattr(theirs, name)}
    return columns


def five_run_law() -> scaling_laws.Hoffmann:
    """E + A N^-alpha + B D^-alpha through the five runs of Gadre et al., by least squares."""
    from scipy.optimize import least_squares

    runs = public_tables.gadre_five()

    def errors(theta):
        a, b, log_e, alpha = theta
        law = scaling_laws.Hoffmann.from_theta([a, b, log_e, alpha, alpha])
        return law.loss(runs.params, runs.tokens) - runs.loss

    starts = [(a, a, e, alpha) for a in (4, 6) for e in (0.0, 0.7) for alpha in (0.1, 0.3)]
    best = min(
        (least_squares(errors, s, x_scale="jac", xtol=1e-15, ftol=1e-15) for s in starts),
        key=lambda result: result.cost,
    )
    return scaling_laws.Hoffmann.from_theta([*best.x, best.x[3]])


def joint(fit: scaling_laws.Fit) -> dict[str, float]:
    """Covariance of a law's relative coordinates over the resamples: see `uncertainty.Joint`."""
    law, others = fit.law, fit.resampled
    params, tokens = (float(np.exp(np.log(v).mean())) for v in (fit.runs.params, fit.runs.tokens))
    shares = [
        others.E / law.E - 1,
        others.size_term(params) / law.size_term(params) - 1,
        others.data_term(tokens) / law.data_term(tokens) - 1,
        *np.log([others.alpha / law.alpha, others.beta / law.beta]),
    ]
    covariance = np.cov(shares)[np.triu_indices(5)]  # in the order of `uncertainty.PAIRS`
    columns = {f"cov_{a}_{b}": float(c) for (a, b), c in zip(PAIRS, covariance, strict=True)}
    return {"middle_params": params, "middle_tokens": tokens} | columns


def error_law(corpus: str, samples: int) -> dict:
    """Mean accuracy over 17 tasks as a function of the loss, and what a hundredth of a nat gains.

    At the lowest loss of the table, in points; the interval reweights models.
    """
    table = public_tables.gadre_table(corpus)
    loss, accuracy = table["loss"].to_numpy(float), table["accuracy"].to_numpy(float)
    law, lowest = task_laws.fit_error_law(loss, accuracy), float(loss.min())
    runs = public_tables.gadre_runs(corpus)
    slopes = [
        task_laws.fit_error_law(loss, accuracy, weights).slope(lowest)
        for weights in fitting.resamples(runs, samples, SEED)
    ]
    low, high = fitting.percentiles(slopes)
    return {
        "models": len(table),
        "epsilon": law.epsilon,
        "k": law.k,
        "gamma": law.gamma,
        "at_loss": lowest,
        "accuracy": float(law.accuracy(lowest)),
        "scatter": float(np.std(accuracy - law.accuracy(loss))),
        "points": float(law.slope(lowest)),
        "points_low": low,
        "points_high": high,
    }


def serving(fit: scaling_laws.Fit, params: float, served: float, weight: float) -> dict:
    """The cheapest model as good as the best one of a size, and the share of the cost it saves."""
    budget, tokens = fit.law.budget(params)
    best = fit.serve(budget, served, weight)
    cost, plain = (
        scaling_laws.lifetime_flops(n, d, weight * served)
        for n, d in ((best.params, best.tokens), (params, tokens))
    )
    columns = {"saved": float(1 - cost / plain)}
    for name in ("params", "tokens"):
        low, high = best.ci[name]
        columns |= {
            f"best_{name}": getattr(best, name),
            f"best_{name}_low": low,
            f"best_{name}_high": high,
        }
    return columns


def returns(table: str, multiple: float) -> dict:
    """What runs gained for each tenfold of compute, early and late, as measured.

    Between runs at ``multiple`` times 20 tokens a parameter: from the smallest size to the one
    nearest to the middle of the range of compute, and from there to the largest.
    """
    if table == "olmo-ladder":
        runs = public_tables.olmo_table()
        tasks = [f"acc_{task}" for task in public_tables.entry("olmo")["tasks"]]
        runs["accuracy"] = runs[tasks].mean(axis=1)
    else:
        runs = public_tables.gadre_table(table.removeprefix("gadre-"))
    runs = runs[runs["multiple"] == multiple]
    means = runs.groupby("params")[["tokens", "loss", "accuracy"]].mean()
    decades = np.log10(means.index * means["tokens"])
    middle = (decades - (decades.iloc[0] + decades.iloc[-1]) / 2).abs().idxmin()
    columns = {"middle_params": float(middle)}
    ends = {"early": (means.index[0], middle), "late": (middle, means.index[-1])}
    for name, (first, last) in ends.items():
        step = decades[last] - decades[first]
        columns[f"{name}_nats"] = float((means["loss"][first] - means["loss"][last]) / step)
        gained = means["accuracy"][last] - means["accuracy"][first]
        columns[f"{name}_points"] = float(100 * gained / step)
    return columns


def with_interval(fit: scaling_laws.Fit, name: str, quantity) -> dict[str, float | None]:
    """A quantity of the law with its 95 % interval; None where it is not finite."""
    low, high = fit.interval(quantity)
    return {name: finite(float(quantity(fit.law))), f"{name}_low": low, f"{name}_high": high}


def finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", help="another file than data/refit_published.jsonl")
    parser.add_argument("--table", choices=TABLES, help="rows of this table alone")
    parser.add_argument("--list", action="store_true", help="print what would be fitted")
    args = parser.parse_args()
    file = Path(args.output) if args.output else records.path("refit_published")
    configs = [row for row in grid() if args.table in (None, row.get("table"))]
    todo = records.missing(file, configs)
    for place, config in enumerate(todo, 1):
        values = (f"{v:g}" if isinstance(v, float) else str(v) for v in config.values())
        if not args.list:
            try:
                measured = measure(config)
            except ValueError as error:
                print(f"refit_published: {error}", file=sys.stderr)
                sys.exit(2)
            records.append(file, config, measured, records.provenance(seed=SEED))
        print(f"[{place}/{len(todo)}] {' '.join(values)}", flush=True)


if __name__ == "__main__":
    main()
