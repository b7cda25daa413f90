"""What the chapter on the ladder computes from its rows: scores of predictions, and exponents."""

import numpy as np
import pandas as pd

from sizewise import scaling_laws
from sizewise.data import records
from sizewise.scaling_laws import fitting

SAMPLES = 1000
COUNTS = {"params_non_embedding": "without embedding and head", "params": "all parameters"}


def ladder(most: float | None = None) -> pd.DataFrame:
    """The dense runs of data/isoflop.jsonl that ended, up to a budget of ``most`` FLOPs."""
    rows = records.table("isoflop")
    ended = (rows["what"] == "ladder") & (rows["family"] == "dense") & (rows["ended"] == "done")
    rows = rows[ended].sort_values(["budget", "width", "seed"], ignore_index=True)
    return rows if most is None else rows[rows["budget"] <= most]


def runs_of(rows: pd.DataFrame, count: str = "params_non_embedding") -> scaling_laws.Runs:
    """The rows as runs with the FLOPs that were spent; seeds of one run are a cluster."""
    cluster = rows["budget"].astype(str) + " " + rows["width"].astype(str)
    columns = (rows[name].to_numpy() for name in (count, "tokens", "val_loss"))
    return scaling_laws.Runs.from_arrays(*columns, flops=rows["operations"], cluster=cluster)


def predictions(rows: pd.DataFrame, top: float) -> dict[str, np.ndarray]:
    """Losses of the runs at budget ``top``, predicted from those below it, by three means.

    Each [samples, runs]: the law; a quadratic in the logarithms of size and tokens (six
    coefficients by least squares of the log loss); and the best loss of the budget before, which
    says that nothing changes. The first two carry a bootstrap and the residual of a run.
    """
    below, above = rows[rows["budget"] < top], rows[rows["budget"] == top]
    runs = runs_of(below)
    fit = scaling_laws.fit(runs, bootstrap=SAMPLES, seed=0)
    size, tokens = (above[c].to_numpy(float) for c in ("params_non_embedding", "tokens"))
    laws = scaling_laws.Hoffmann.from_theta(fit.samples[:, None])
    rng = np.random.default_rng(0)
    weights = fitting.resamples(runs, SAMPLES, 0)
    design, new = _quadratic(runs.params, runs.tokens), _quadratic(size, tokens)
    logs = np.log(runs.loss)
    drawn = [_least_squares(design, logs, w) for w in weights]
    residuals = logs - design @ _least_squares(design, logs, np.ones(len(runs)))
    scatter = {
        name: rng.choice(values * np.sqrt(len(runs) / (len(runs) - count)), (SAMPLES, len(above)))
        for name, values, count in (("law", fit.residuals, 5), ("quadratic", residuals, 6))
    }
    before = scaling_laws.parabolas(runs, below["budget"].to_numpy())["loss"].iloc[-1]
    return {
        "law": laws.loss(size, tokens) * np.exp(scatter["law"]),
        "quadratic": np.exp(np.array(drawn) @ new.T + scatter["quadratic"]),
        "no change": np.full((1, len(above)), before),
    }


def scores(samples: dict[str, np.ndarray], measured: np.ndarray, drop: float) -> pd.DataFrame:
    """How good predictions were: mean miss in nats, with its sign, over the drop, and CRPS.

    The continuous ranked probability score (Gneiting and Raftery 2007, equation 21) is in nats
    and rewards an interval that is narrow and right; of a point it is the miss. ``drop`` is the
    fall of the best loss that was to be predicted.
    """
    rows = []
    for name, values in samples.items():
        middle = np.median(values, axis=0)
        low, high = np.percentile(values, [2.5, 97.5], axis=0)
        rows.append(
            {
                "prediction": name,
                "miss": np.abs(measured - middle).mean(),
                "bias": (measured - middle).mean(),
                "miss over drop": np.abs(measured - middle).mean() / drop,
                "width": (high - low).mean(),
                "CRPS": crps(values, measured).mean(),
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


def exponents(rows: pd.DataFrame, noise: float) -> pd.DataFrame:
    """The exponent of the best size in three ways, for each way of counting parameters.

    By parabolas, with the interval of the noise between seeds alone; by the surface as if a token
    cost 6 N; by the surface with the FLOPs that were spent. The last two with the bootstrap.
    """
    table = []
    for count, name in COUNTS.items():
        runs, budgets = runs_of(rows, count), rows["budget"].to_numpy()
        optima = scaling_laws.parabolas(runs, budgets)
        value = scaling_laws.power_law(optima["flops"], optima["params"]).exponent
        spread = np.nanpercentile(scaling_laws.exponents(runs, budgets, noise), [2.5, 97.5])
        table.append((name, "parabolas", value, *spread))
        fit = scaling_laws.fit(runs, bootstrap=SAMPLES, seed=0)
        ways = {
            "surface, 6 N a token": lambda law: law.exponent,
            "surface, FLOPs spent": lambda law, runs=runs: scaling_laws.surface_exponent(law, runs),
        }
        table += [(name, way, a(fit.law), *fit.interval(a)) for way, a in ways.items()]
    return pd.DataFrame(table, columns=["counted", "way", "exponent", "low", "high"])


def _quadratic(params, tokens) -> np.ndarray:
    x, y = np.log(params) - 11, np.log(tokens) - 15  # about the middle of the ladder
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1)


def _least_squares(design, values, weights) -> np.ndarray:
    root = np.sqrt(weights)[:, None]
    return np.linalg.lstsq(design * root, values * root[:, 0], rcond=None)[0]
