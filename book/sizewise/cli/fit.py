"""The command that fits a scaling law to a table of runs."""

import math
import sys
from contextlib import contextmanager
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="Print the results as JSON.")]


def fit(
    runs: Annotated[
        str, typer.Argument(metavar="RUNS", help="A .csv or .jsonl file: params, tokens, loss.")
    ],
    budget: Annotated[
        float | None, typer.Option(help="Operations to allocate: C = 6 x params x tokens.")
    ] = None,
    bootstrap: Annotated[
        int, typer.Option(help="Resamples for the intervals; 0: from the profile instead.")
    ] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of the resamples.")] = 0,
    params: Annotated[
        str, typer.Option(help="Column of sizes, such as a count without embeddings.")
    ] = "params",
    json: Json = False,
):
    """Fit a scaling law to your runs: L(N, D) = E + A / N^alpha + B / D^beta.

    Losses in nats a token. Every interval is a 95 % one; what the fit says beyond the runs is
    only as good as the form.

    Example: sizewise fit runs.csv --budget 1e21 --bootstrap 4000 --json
    """
    from sizewise import scaling_laws, validation

    from . import output

    validation.whole("seed", seed, least=0)
    if budget is not None:
        validation.positive("budget", budget)
    table = scaling_laws.Runs.read(runs, params=params)
    with _progress() as told:
        fitted = scaling_laws.fit(table, bootstrap=bootstrap, seed=seed, told=told)
    found = _as_dict(fitted, budget, bootstrap, seed)
    if json:
        output.as_json(found)
    else:
        _print(found)


def _as_dict(fitted, budget: float | None, bootstrap: int, seed: int) -> dict[str, Any]:
    from sizewise import scaling_laws

    law, profiled = fitted.law, scaling_laws.profile(fitted)
    errors = scaling_laws.held_out(
        fitted.runs, scaling_laws.folds(fitted.runs, min(10, len(fitted.runs)))
    )
    found: dict[str, Any] = {
        "runs": len(fitted.runs),
        **{name: getattr(law, name) for name in ("E", "A", "B", "alpha", "beta")},
        "ci": _pairs(fitted.ci() if bootstrap else profiled),
        "ci_from": "bootstrap" if bootstrap else "profile",
        "profile": _pairs(profiled),
        "objective": fitted.objective,
        "exponent": law.exponent,
        "bootstrap": bootstrap,
        "converged": fitted.converged,
        "seed": seed,
        "starts": fitted.starts,
        "agreeing_starts": fitted.agreeing,
        "held_out_error": errors.median,
    }
    if budget is not None:
        best = fitted.allocate(budget)
        found |= {"budget": best.budget, "params": best.params, "tokens": best.tokens}
        found |= {f"{name}_ci": _pair(best.ci.get(name)) for name in ("params", "tokens")}
        found["over_largest_run"] = best.reach
    return found


def _pairs(intervals: dict) -> dict[str, list[float | None]]:
    return {name: _pair(pair) for name, pair in intervals.items()}


def _pair(pair) -> list[float | None] | None:
    """A pair for JSON, which has no infinity: an open end is null."""
    return pair and [float(end) if math.isfinite(end) else None for end in pair]


def _print(found: dict[str, Any]) -> None:
    from sizewise.units import si

    from . import output

    table = output.table(f"{found['runs']} runs", "", "fit>", "95 % from>", "to>")
    for name, pair in found["ci"].items():
        table.add_row(name, f"{found[name]:.5g}", *map(_end, pair))
    if "budget" in found:
        table.add_section()
        for name in ("params", "tokens"):
            ends = [si(end) if end else "" for end in found[f"{name}_ci"] or (None, None)]
            table.add_row(f"{name} for C = {found['budget']:.3g}", si(found[name]), *ends)
    output.console().print(table)
    words = [
        f"sum of Huber losses {found['objective']:.6g}, reached from {found['agreeing_starts']} "
        f"of {found['starts']} starts",
        f"runs left out in turn are missed by {found['held_out_error']:.2%} (median)",
        f"intervals from the {found['ci_from']}",
    ]
    if "budget" in found:
        far = found["over_largest_run"]
        words.append(
            f"this budget is {far['operations']:.3g} times that of the largest run, "
            f"this size {far['params']:.3g} times the largest"
        )
    print("; ".join(words))


def _end(value: float | None) -> str:
    return "open" if value is None else f"{value:.5g}"


@contextmanager
def _progress():
    """A function to tell how many problems are solved; a bar where someone watches."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("fitting", total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)
