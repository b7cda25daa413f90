"""What the chapter on the ladder computes from its rows: scores of predictions, and exponents."""

import numpy as np
import pandas as pd

from sizewise import scaling_laws
from sizewise.data import records
from sizewise.scaling_laws import fitting
from sizewise.scaling_laws.isoflop import ladder_runs, on_record

SAMPLES = 1000
COUNTS = {"params_non_embedding": "without embedding and head", "params": "all parameters"}
FACTORS = ["params_non_embedding", "tokens"]


def record(rows: pd.DataFrame) -> pd.DataFrame:
    """The predictions on record beside what ``rows`` ended with: ``measured``, nan if not made.

    ``inside``, yes or no, is about the law's 95 % interval of a run.
    """
    measured = rows.groupby(["budget", "width"])["val_loss"].mean().rename("measured")
    ahead = records.table("foretell").join(measured, on=["budget", "width"])
    within = ahead["measured"].between(ahead["run_low"], ahead["run_high"])
    inside = within.map({True: "yes", False: "no"}).where(ahead["measured"].notna())
    return ahead.assign(inside=inside)


def expected(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The runs at the largest budget of ``rows``, and the runs from which they are predicted.

    Where data/foretell.jsonl has that budget these are its runs, ``measured`` or still missing,
    and the runs that it names; else those that are there, and all of smaller budgets.
    """
    top = rows["budget"].max()
    ahead = record(rows).query("budget == @top")
    if len(ahead):
        return ahead, on_record()
    largest = rows[rows["budget"] == top].groupby("width")
    measured = largest["val_loss"].mean().rename("measured")
    return largest.first().join(measured).reset_index(), rows[rows["budget"] < top]


def predictions(below: pd.DataFrame, ahead: pd.DataFrame) -> dict[str, np.ndarray]:
    """What the runs ``ahead`` could end with, by the runs ``below``: samples [samples, runs].

    By the law; by a quadratic in the logarithms of size and tokens (six coefficients by least
    squares of the log loss); and by the best loss of the budget before, which says that nothing
    changes and is one sample.
    """
    size, tokens = (ahead[name].to_numpy(float) for name in FACTORS)
    columns = (below[name] for name in (*FACTORS, "val_loss"))
    runs = scaling_laws.Runs.from_arrays(*columns)  # as scripts/foretell.py fits them
    law = scaling_laws.fit(runs, bootstrap=4 * SAMPLES, seed=0)
    samples = {"law": law.outcomes(size, tokens)}
    design, new = _quadratic(runs.params, runs.tokens), _quadratic(size, tokens)
    logs, rng = np.log(runs.loss), np.random.default_rng(0)
    resampled = [_least_squares(design, logs, w) for w in fitting.resamples(runs, SAMPLES, 0)]
    residuals = logs - design @ _least_squares(design, logs, np.ones(len(runs)))
    residuals *= np.sqrt(len(runs) / (len(runs) - design.shape[1]))
    scatter = rng.choice(residuals, (SAMPLES, len(ahead)))
    samples["quadratic"] = np.exp(np.array(resampled) @ new.T + scatter)
    before = below[below["budget"] == below["budget"].max()]  # as measured, like the runs ahead
    best = before.groupby("width")["val_loss"].mean().min()
    return samples | {"no change": np.full((1, len(ahead)), best)}


def scores(samples: dict[str, np.ndarray], ahead: pd.DataFrame) -> pd.DataFrame:
    """How good predictions were: mean miss in nats, with its sign, over the drop, and CRPS.

    ``samples`` are those of `predictions` for the runs ``ahead`` (`expected`); the law's miss is
    that of the loss on record (``loss``), where there is one. The continuous ranked probability
    score (Gneiting and Raftery 2007, equation 21) is in nats and rewards an interval that is
    narrow and right; of a point it is the miss. The drop that was to be predicted is from what
    ``no change`` says to the lowest ``measured`` loss; runs that are not there yet are left out.
    """
    present = ahead["measured"].notna().to_numpy()
    measured = ahead["measured"].to_numpy()[present]
    drop = samples["no change"][0, 0] - measured.min()
    rows = []
    for name, values in samples.items():
        low, middle, high = np.percentile(values[:, present], [2.5, 50, 97.5], axis=0)
        if name == "law" and "loss" in ahead:
            middle = ahead["loss"].to_numpy()[present]
        miss = measured - middle
        rows.append(
            {
                "prediction": name,
                "miss": np.abs(miss).mean(),
                "bias": miss.mean(),
                "miss over drop": np.abs(miss).mean() / drop,
                "width": (high - low).mean(),
                "CRPS": crps(values[:, present], measured).mean(),
            }
        )
    return pd.DataFrame(rows)


def crps(samples: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """The score of each run: mean distance to the samples less half that between samples."""
    ordered = np.sort(samples, axis=0)
    count = len(ordered)
    rank = 2 * np.arange(1, count + 1) - count - 1
    between = 2 * (rank[:, None] * ordered).sum(0) / count**2
    return np.abs(samples - measured).mean(0) - between / 2


def seed_noise(rows: pd.DataFrame) -> pd.DataFrame:
    """The losses of one size from several seeds, a row each: ``seeds``, ``mean``, ``sd``, and
    ``astray``, how far the run that lies farthest from the median of its seeds ended above it."""
    groups = rows.groupby(["budget", "params_non_embedding"])["val_loss"]
    astray = (rows["val_loss"] - groups.transform("median")).rename("astray")
    worst = astray.groupby([rows["budget"], rows["params_non_embedding"]]).agg(
        lambda off: off.loc[off.abs().idxmax()]
    )
    noise = groups.agg(seeds="size", mean="mean", sd="std").join(worst)
    return noise[noise["seeds"] > 1].reset_index()


def exponents(rows: pd.DataFrame, noise: float) -> pd.DataFrame:
    """The exponent of the best size in three ways, for each way of counting parameters.

    By parabolas, with the interval of the noise between seeds alone; by the surface as if a token
    cost 6 N; by the surface with the FLOPs that were spent. The last two with the bootstrap.
    """
    table = []
    for count, name in COUNTS.items():
        runs, budgets = ladder_runs(rows, count), rows["budget"].to_numpy()
        optima = scaling_laws.parabolas(runs, budgets).query("inside")
        value = scaling_laws.power_law(optima["flops"], optima["params"]).exponent
        spread = np.nanpercentile(scaling_laws.exponents(runs, budgets, noise), [2.5, 97.5])
        table.append((name, "parabolas", value, *spread))
        fit = scaling_laws.fit(runs, bootstrap=SAMPLES, seed=0)
        ways = {
            "surface, 6 N a token": lambda law: law.exponent,
            "surface, FLOPs spent": lambda law, runs=runs: scaling_laws.surface_exponent(law, runs),
        }
        table += [(name, way, a(fit.law), *fit.interval(a)) for way, a in ways.items()]
    return pd.DataFrame(
        table, columns=["counted", "way", "exponent", "exponent_low", "exponent_high"]
    )


def _quadratic(params, tokens) -> np.ndarray:
    x, y = np.log(params) - 11, np.log(tokens) - 15  # about the middle of the ladder
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1)


def _least_squares(design, values, weights) -> np.ndarray:
    root = np.sqrt(weights)[:, None]
    return np.linalg.lstsq(design * root, values * root[:, 0], rcond=None)[0]
