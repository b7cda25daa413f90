"""The command that fits a scaling law to a table of runs."""

import math
import sys
from typing import Annotated, Any

import typer

from .options import Json


def fit(
    runs: Annotated[
        str, typer.Argument(metavar="RUNS", help="A .csv or .jsonl file: params, tokens, loss.")
    ],
    budget: Annotated[float | None, typer.Option(help="Training FLOPs to allocate.")] = None,
    served: Annotated[
        float | None,
        typer.Option(help="Tokens served later: the cheapest model as good as the budget's best."),
    ] = None,
    serving_weight: Annotated[
        float, typer.Option(help="Cost of a served FLOP over that of a training FLOP.")
    ] = 1.0,
    bootstrap: Annotated[
        int, typer.Option(help="Resamples for the intervals; 0: from the profile instead.")
    ] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of the resamples.")] = 0,
    params: Annotated[str | None, typer.Option(help="Column of sizes, if not found.")] = None,
    tokens: Annotated[str | None, typer.Option(help="Column of training tokens.")] = None,
    loss: Annotated[str | None, typer.Option(help="Column of losses, nats a token.")] = None,
    flops: Annotated[
        str | None, typer.Option(help="Column of training FLOPs; without one, 6 N D.")
    ] = None,
    json: Json = False,
):
    """Fit a scaling law to your runs: L(N, D) = E + A / N^alpha + B / D^beta.

    Losses in nats a token. Columns are found by name: params or N, tokens or D, loss, L or
    val_loss, flops or C. Every interval is a 95 % one; what the fit says beyond the runs is only
    as good as the form.

    Example: sizewise fit runs.csv --budget 1e21 --served 2e12 --json
    """
    from sizewise import scaling_laws, validation

    from . import output

    validation.whole("seed", seed, least=0)
    if served is not None and budget is None:
        raise ValueError("--served needs --budget: it sets the quality to serve")
    for name, value in (("budget", budget), ("served", served), ("serving weight", serving_weight)):
        if value is not None:
            validation.positive(name, value)
    table = scaling_laws.Runs.read(runs, params=params, tokens=tokens, loss=loss, flops=flops)
    table, repeated = table.distinct()
    if len(table) < scaling_laws.runs.FEWEST:
        raise ValueError(f"too few rows: {len(table)} differ, {repeated} repeat another")
    warnings = table.warnings()
    if repeated:
        warnings.append(f"{repeated} rows repeat another exactly and are left out")
    with output.progress() as step, step("fitting") as progress:
        try:
            fitted = scaling_laws.fit(table, bootstrap=bootstrap, seed=seed, progress=progress)
        except ValueError as error:
            raise ValueError("; ".join([str(error), *warnings])) from None
    warnings += fitted.warnings()
    result = _finite(_as_dict(fitted, bootstrap, seed))
    if budget is not None:
        result |= _finite(_allocation(fitted, budget, served, serving_weight, warnings))
    result["warnings"] = warnings
    if json:
        output.as_json(result)
    else:
        _print(result)
    for line in warnings:
        print(f"sizewise: warning: {line}", file=sys.stderr)


def _as_dict(fitted, bootstrap: int, seed: int) -> dict[str, Any]:
    from sizewise import scaling_laws

    law, profiled = fitted.law, scaling_laws.profile(fitted)
    errors = scaling_laws.held_out(fitted.runs, scaling_laws.folds(fitted.runs))
    intervals = fitted.ci() if bootstrap else profiled
    if not fitted.determined:  # around a law that is none, they would promise what nothing shows
        intervals = profiled = dict.fromkeys(profiled, (math.nan, math.nan))
    return {
        "runs": len(fitted.runs),
        **{name: getattr(law, name) for name in scaling_laws.NAMES},
        "ci": intervals,
        "ci_from": "bootstrap" if bootstrap else "profile",
        "profile": profiled,
        "objective": fitted.objective,
        "exponent": law.exponent,
        "bootstrap": bootstrap,
        "converged": fitted.converged,
        "seed": seed,
        "starts": fitted.starts,
        "agreeing_starts": fitted.agreeing,
        "held_out_error": errors.median,
        "flops_from": "6 N D" if fitted.runs.spent is None else "column",
    }


def _allocation(fitted, budget: float, served, weight: float, warnings: list[str]) -> dict:
    """The best size and tokens for a budget, and for serving; nulls where there are none."""
    result: dict[str, Any] = {"budget": budget}
    ways = [("", lambda: fitted.allocate(budget))]
    if served is not None:
        result |= {"served": served, "serving_weight": weight}
        ways.append(("served_", lambda: fitted.serve(budget, served, weight)))
    for prefix, allocate in ways:
        try:
            best = allocate()
        except ValueError as error:
            warnings.append(str(error))
            result |= {f"{prefix}params": None, f"{prefix}tokens": None}
            continue
        for name in ("params", "tokens"):
            result[f"{prefix}{name}"] = getattr(best, name)
            result[f"{prefix}{name}_ci"] = best.ci.get(name)
        result[f"{prefix}over_largest_run"] = best.reach
    return result


def _finite(value):
    """A value for JSON, which has no infinity and no NaN: they are null."""
    if isinstance(value, dict):
        return {name: _finite(v) for name, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value


def _print(result: dict[str, Any]) -> None:
    from sizewise import units

    from . import output

    table = output.table(f"{result['runs']} runs", "", "fit>", "95 % from>", "to>")
    for name, pair in result["ci"].items():
        table.add_row(name, *(units.optional(v, ".5g", "open") for v in (result[name], *pair)))
    rows = {"": f"for C = {result.get('budget', 0):.3g}", "served_": "with serving"}
    for prefix, label in rows.items():
        if result.get(f"{prefix}params") is None:
            continue
        table.add_section()
        for name in ("params", "tokens"):
            pair = result[f"{prefix}{name}_ci"] or (None, None)
            ends = [units.si(end) if end else "" for end in pair]
            table.add_row(f"{name} {label}", units.si(result[f"{prefix}{name}"]), *ends)
    output.console().print(table)
    lines = [
        f"sum of Huber losses {result['objective']:.6g}, reached from "
        f"{result['agreeing_starts']} of {result['starts']} starts",
        "runs left out in turn are missed by "
        f"{units.optional(result['held_out_error'], '.2%')} (median)",
        f"intervals from the {result['ci_from']}",
    ]
    if far := result.get("over_largest_run"):
        lines.append(
            f"this budget is {far['flops']:.3g} times that of the largest run, this size "
            f"{far['params']:.3g} times the largest"
        )
    print("; ".join(lines))
