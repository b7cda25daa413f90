"""The forecast of a served token on the page: the library's numbers, and its answer in Python.

The arithmetic itself stands in ``book/_static/calculators-forecast.js``, which the tests hold
against `sizewise.costs.forecast` on random questions.
"""

from sizewise.costs import energy, forecast, kernel_fits, roofline

CONSTANTS = (
    "SMALL",
    "SMALL_DENSE",
    "SMALL_EXPERTS",
    "SMALL_LATENT",
    "SMALL_STATE",
    "SMALL_PASSES",
    "SMALL_END",
    "STATE_SHARE",
    "STATE_CHUNK",
    "CHUNK",
    "USABLE",
    "LINK",
    "LEAST_WIDTH",
)
KERNELS = {  # as the script calls them -> the library's kernel
    "decode": "attention-decode",
    "latent": "latent-decode",
    "prompt": "prompt-attention",
    "promptLatent": "prompt-latent",
    "experts": "moe",
    "sum": "all-reduce",
}


def exported() -> dict:
    """The one set of numbers, the kinds of products, the band and the rule for watts."""
    numbers = forecast.numbers()
    kinds = {
        name: {
            "weight": kind.weight_bits,
            "activation": kind.activation_bits,
            "compute": kind.compute,
            "fit": numbers.fit("gemm", name),
        }
        for name, kind in kernel_fits.KINDS.items()
    }
    return {
        **{name: getattr(forecast, name) for name in CONSTANTS},
        **{name: numbers.fit(kernel, "any") for name, kernel in KERNELS.items()},
        "TILE": kernel_fits.TILE,
        "kinds": kinds,
        "band": forecast.bands(1),
        "watts": energy.numbers(),
    }


def answer(model, device, weights, kv, case: dict, price=None) -> dict:
    """What the forecast adds to a case: `forecast.question` in the calculator's names.

    Nothing where there is no forecast: no room for one request, no stated peak.
    """
    result = forecast.question(
        model,
        device,
        devices=case["devices"],
        weights=weights,
        kv=kv,
        context=case["context"],
        batch=case["batch"],
        input=case.get("input") or 0,
        output=case.get("output") or 0,
        framework="",
        host="none",
    )
    if result["forecast_unknown"]:
        return {}
    seconds, batch = result["forecast_seconds"], result["forecast_batch"]
    hours = roofline.hours_per_million(case["devices"], seconds, batch)
    return {
        "forecast_batch": batch,
        "forecast_seconds": seconds,
        "forecast_low": result["forecast_low"],
        "forecast_high": result["forecast_high"],
        "prompt_seconds": result["first_token_floor_seconds"],
        "forecast_joules": result["forecast_joules_per_million_tokens"],
        "forecast_dollars_low": price and hours * price[0],
        "forecast_dollars_high": price and hours * price[1],
    }


def scored() -> str:
    """What the forecast was scored on, in two sentences under the results."""
    (row,) = forecast.scores("all", 1)
    families = [entry["coverage"] for entry in forecast.scores("family", 1)]
    band = forecast.bands(1)
    return (
        "The expected time is a forecast by one set of numbers for every device, fitted on kernel "
        f"times alone. On {row['rows']:,} measured servings of {len(families)} models it was off "
        f"by {row['error_median']:.0f} % in the median and {row['error_p90']:.0f} % at the 90th "
        f"percentile; {band['nominal']:.0%} of them took {band['low']:.2f} to {band['high']:.2f} "
        f"times what it says, of a single model's {min(families):.0%} to {max(families):.0%}."
    )
