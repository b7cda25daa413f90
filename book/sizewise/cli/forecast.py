"""The forecast beside the floor of `sizewise roofline`: seconds a token, band, what resembles."""

from typing import Annotated

import typer

Framework = Annotated[
    str, typer.Option(help="vllm, sglang or trtllm: numbers of its kernels on this GPU.")
]
Concurrency = Annotated[
    int, typer.Option(help="Requests in flight; 0: as many as the batch. More of them queue.")
]
Input = Annotated[int, typer.Option(help="Prompt tokens of a request; 0: so that context holds.")]
Output = Annotated[int, typer.Option(help="Answer tokens of a request; 0: 512 or half of context.")]
Host = Annotated[
    str, typer.Option(help="Time of the host in a step: none, or synchronous for such a server.")
]
ONLY_EXPERTS = ("mxfp4",)  # formats that released sparse models have in their experts alone


def question(
    described,
    device,
    *,
    devices: int,
    weights: str | None,
    kv: str,
    context: int,
    batch: int,
    framework: str = "",
    concurrency: int = 0,
    input: int = 0,
    output: int = 0,
    host: str = "none",
) -> dict:
    """What `--json` says of the forecast; with ``forecast_unknown`` where there can be none.

    The mean context of a request is the floor's: input + output / 2, unless lengths are given.
    Raises ValueError for an unknown framework or host, and for sizes that are no whole numbers.
    """
    from dataclasses import replace

    from sizewise import units
    from sizewise.costs import energy, forecast
    from sizewise.validation import whole

    output = whole("output", output) if output else max(min(512, context // 2), 1)
    input = whole("input", input) if input else max(context - output // 2, 1)
    concurrency = whole("concurrency", concurrency) if concurrency else batch
    if framework and framework not in forecast.FRAMEWORKS:
        raise units.unknown("framework", framework, forecast.FRAMEWORKS)
    if host not in forecast.HOSTS:
        raise units.unknown("host", host, forecast.HOSTS)
    format = weights or "bf16"
    plan = forecast.Plan(
        devices=devices,
        batch=batch,
        concurrency=concurrency,
        input=input,
        output=output,
        weights="bf16" if described.experts and format in ONLY_EXPERTS else format,
        experts=format,
        kv=kv,
        host=host,
    )
    try:
        result = forecast.forecast(described, device, plan, framework=framework or None)
    except ValueError as error:
        blank = dict.fromkeys(("forecast_seconds", "forecast_low", "forecast_high"))
        return blank | {"resembles": [], "forecast_unknown": str(error)}
    joules = None
    if device.tdp_watts:
        memory, flops = forecast.floor_parts(described, device, replace(plan, batch=result.batch))
        joules = 1e6 * energy.joules_per_token(
            device, devices, result.seconds, memory, flops, result.batch
        )
    same = ("seconds", "low", "high", "nominal", "grade", "batch", "floor_seconds", "parts")
    return {
        "forecast_joules_per_million_tokens": joules,
        **{f"forecast_{name}": getattr(result, name) for name in same},
        "first_token_floor_seconds": result.first_token_floor,
        "queues": result.queues,
        "input": input,
        "output": output,
        "concurrency": concurrency,
        "resembles": list(result.resembles),
        "forecast_notes": list(result.notes),
        "forecast_unknown": None,
    }


def show(plain: dict) -> None:
    """The forecast in a few lines after the floors."""
    if plain["forecast_unknown"]:
        print(f"forecast: none, {plain['forecast_unknown']}")
        return
    seconds, low, high = (plain[f"forecast_{name}"] * 1e3 for name in ("seconds", "low", "high"))
    times = plain["forecast_seconds"] / plain["forecast_floor_seconds"]
    print(
        f"forecast: {seconds:.3g} ms a token of one request, {low:.3g} to {high:.3g} in a nominal "
        f"{plain['forecast_nominal']:.0%} of such servings; {times:.1f} times the floor"
    )
    print(
        f"  first token: {plain['first_token_floor_seconds'] * 1e3:.3g} ms at best, for a prompt "
        f"of {plain['input']:,} tokens"
    )
    if plain["forecast_joules_per_million_tokens"]:
        print(
            f"  energy: {plain['forecast_joules_per_million_tokens']:,.3g} J a million tokens at "
            "the watts that such GPUs were measured to draw"
        )
    for row in plain["resembles"]:
        print(
            f"  measured: {row['family']} on {row['gpu']} with {row['framework']} in "
            f"{row['precision']}, {row['rows']} servings: forecast off by "
            f"{row['error_median']:.0f} % (median), {row['error_p90']:.0f} % (90th percentile)"
        )
    if plain["queues"]:
        print("  warning: more requests are in flight than a step takes; the others queue")
    for note in plain["forecast_notes"]:
        print(f"  assumed: {note}")
