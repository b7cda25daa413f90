"""Score the forecasts and the floor on the servings that NVIDIA's sample holds.

    python scripts/silicon_servings.py

The sample (5,221 servings of ten models, in the package that scripts/silicon.py reads) is parsed,
its rows are kept or dropped by the rules of `sizewise.experiments.servings`, and each kept one is
forecast twice: with one set of kernel numbers for every device, and with those of its GPU and
framework. The numbers come from data/silicon.jsonl, which was committed first; its hash is in
every row. Rows go to data/silicon_servings.jsonl. An attempt that has rows is never scored again:
what changes in the forecast raises ATTEMPT, and the first one's rows stay.
"""

import hashlib
import itertools
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from sizewise.costs import forecast, kernel_fits
from sizewise.data import catalog, kernel_tables, records
from sizewise.experiments import options, servings

ATTEMPT = 2
ATTEMPTS = {
    1: "as written before any serving was forecast, with the rules for rows known before",
    2: "weights counted tensor by tensor, with heads and embeddings in 16 bits; towers for images "
    "multiply no token of text",
}
FEWEST = 5  # rows of a group that is listed
HALF = 5  # families held out at a time
WITHIN = (10, 20, 30, 50)
SHARES = (10, 90)
CLASSES = (4, 16, 64)  # upper ends of classes of concurrency; above is the last class


def forecasts(rows: pd.DataFrame, models: dict) -> pd.DataFrame:
    """The rows with floor, both forecasts, and the forecast without others' prompts."""
    table = []
    for row in rows.itertuples():
        model, device = models[row.family], catalog.device(row.gpu)
        plan, share = servings.plan_of(row), servings.DRAWN if row.drawn else 1.0
        entry = {"floor": forecast.floor_seconds(model, device, plan, share)}
        for grade, framework in ((1, None), (2, row.framework)):
            fitted = forecast.numbers(row.gpu, framework)
            seconds, parts = forecast.tpot_seconds(model, device, plan, fitted, share=share)
            entry[f"grade{grade}"] = seconds
            entry[f"decode{grade}"] = seconds - parts["load"]
            entry[f"prompt{grade}"] = forecast.prompt_seconds(model, device, plan, fitted, share)
        table.append(entry)
    return rows.reset_index(drop=True).join(pd.DataFrame(table))


def score(rows: pd.DataFrame, grade: int) -> dict:
    """Errors of one grade on some rows, with the floor's share of what was measured."""
    measured, predicted = rows["tpot"].to_numpy(), rows[f"grade{grade}"].to_numpy()
    off = 100 * np.abs(predicted / measured - 1)
    share = rows["floor"].to_numpy() / measured
    low, high = np.percentile(measured / predicted, SHARES)
    length = rows["osl"].to_numpy() * np.where(rows["drawn"], servings.DRAWN, 1.0)
    request = rows["ttft"].to_numpy() + length * measured
    expected = rows[f"prompt{grade}"].to_numpy() + length * predicted
    return kernel_fits.errors(predicted, measured) | {
        "within": {str(percent): float((off <= percent).mean()) for percent in WITHIN},
        "band_low": float(low),
        "band_high": float(high),
        "decode_error_median": kernel_fits.errors(rows[f"decode{grade}"], measured)["error_median"],
        "request_error_median": kernel_fits.errors(expected, request)["error_median"],
        "request_error_p90": kernel_fits.errors(expected, request)["error_p90"],
        "floor_error_median": float(100 * np.median(np.abs(share - 1))),
        "floor_share_median": float(np.median(share)),
        "floor_share_low": float(np.percentile(share, SHARES[0])),
        "floor_share_high": float(np.percentile(share, SHARES[1])),
        "below_floor": int((share > 1).sum()),
        "tpot_median": float(np.median(measured)),
    }


def coverage(rows: pd.DataFrame, grade: int, family: str) -> dict:
    """How much of a family lies in the 80 % band of all others."""
    ratio = (rows["tpot"] / rows[f"grade{grade}"]).to_numpy()
    own = (rows["family"] == family).to_numpy()
    low, high = np.percentile(ratio[~own], SHARES)
    return {
        "coverage": float(((ratio[own] >= low) & (ratio[own] <= high)).mean()),
        "others_low": float(low),
        "others_high": float(high),
    }


def splits(rows: pd.DataFrame, column: str, *, scaled: bool) -> dict:
    """Median and range, over all halves of the families held out, of the error's quantiles.

    ``scaled``: times the one constant that suits the families not out out.
    """
    families = sorted(rows["family"].unique())
    ratio = (rows[column] / rows["tpot"]).to_numpy()
    medians, tails = [], []
    for out in itertools.combinations(families, HALF):
        mask = rows["family"].isin(out).to_numpy()
        constant = np.median(ratio[~mask]) if scaled else 1.0
        off = 100 * np.abs(ratio[mask] / constant - 1)
        medians.append(np.median(off))
        tails.append(np.percentile(off, 90))
    return {
        "splits": len(medians),
        "error_median": float(np.median(medians)),
        "error_median_range": [float(min(medians)), float(max(medians))],
        "error_p90": float(np.median(tails)),
        "error_p90_range": [float(min(tails)), float(max(tails))],
    }


def rows_of(rows_kept: pd.DataFrame, dropped: dict):
    """(configuration, measurements) of every row that is recorded."""
    names = ("family", "gpu", "framework", "precision")
    classes = pd.cut(rows_kept["concurrency"], [0, *CLASSES, np.inf], labels=False)
    rows_kept = rows_kept.assign(load=classes.map(dict(enumerate(("1-4", "5-16", "17-64", "65+")))))

    def entry(what, grade, rows, **where):
        blank = dict.fromkeys((*names, "load"))
        return {"what": what, "grade": grade, **(blank | where)}, score(rows, grade)

    yield {"what": "rules"}, {"dropped": dropped, "rows": len(rows_kept)}
    for grade in (1, 2):
        yield entry("all", grade, rows_kept)
        for name in (*names, "load"):
            for value, rows in rows_kept.groupby(name):
                config, measured = entry(name, grade, rows, **{name: value})
                if name == "family":
                    measured |= coverage(rows_kept, grade, value)
                yield config, measured
        for where, rows in rows_kept.groupby(list(names)):
            if len(rows) >= FEWEST:
                yield entry("group", grade, rows, **dict(zip(names, where, strict=True)))
        for where, rows in rows_kept.groupby(["gpu", "framework", "load"]):
            labels = dict(zip(("gpu", "framework", "load"), where, strict=True))
            yield entry("gpu-load", grade, rows, **labels)
    for column in ("floor", "grade1", "grade2"):
        for scaled in (False, True):
            yield (
                {"what": "splits", "column": column, "scaled": scaled},
                splits(rows_kept, column, scaled=scaled),
            )


def main() -> None:
    parser = options.parser(__doc__)
    parser.add_argument("--output", type=Path, default=records.path("silicon_servings"))
    args = parser.parse_args()
    try:
        file, source = kernel_tables.wheel("core"), records.provenance()
        frozen = hashlib.sha256(records.path("silicon").read_bytes()).hexdigest()
        models = servings.models(file)
        rows_kept, dropped = servings.keep(servings.parse(kernel_tables.servings(file)), models)
        print(f"{len(rows_kept)} rows kept; dropped {dropped}", flush=True)
        scored = forecasts(rows_kept, models)
        for config, measured in rows_of(scored, dropped):
            config = {"attempt": ATTEMPT, "numbers_sha256": frozen, **config}
            if records.missing(args.output, [config]):
                row = records.append(args.output, config, measured, source)
                if row["what"] in ("all", "splits"):
                    print(
                        row["what"],
                        row.get("grade"),
                        f"{row['error_median']:.1f} %, "
                        f"{row['error_p90']:.0f} % at the 90th percentile",
                    )
    except (ValueError, ImportError) as error:
        sys.exit(f"silicon_servings: {error}")


if __name__ == "__main__":
    main()
