"""Tables of the chapter on attention variants: bytes stored, loss after equal FLOPs, controls.

Frames in, frames out. A difference is of two runs with one seed in one setting, a budget and a
width. Its interval is Student's with the spread of all settings pooled, which are taken to be
equally noisy: with two seeds a setting there is one degree of freedom from each. It holds no noise
but that between seeds.
"""

import numpy as np
import pandas as pd
from scipy import stats

from sizewise.costs import memory
from sizewise.data import records
from sizewise.models import config, from_config
from sizewise.training import models

SETTING = ["budget", "width"]
DENSE, CONVOLUTION = "dense", "dense:convolution=4"
ATTENTION_ONLY = "dense:convolution=4,sublayers=1"  # none before the MLP
NAMES = {
    "dense": "dense",
    "windowed": "Gemma's class, windows",
    "hybrid": "hybrid",
    "state-space": "state space",
    CONVOLUTION: "dense + convolutions",
}


def shapes() -> dict[str, config.Spec]:
    """The configurations in ``data/facts/variants.yml`` by name."""
    return {
        entry["name"]: config.Spec(entry["name"], entry["config"], "facts")
        for entry in records.facts("variants")
        if "config" in entry
    }


def growth(names: dict[str, str], contexts):
    """Bytes stored for one sequence, by ``model`` and ``context``.

    ``names`` maps a name of the catalogue or of `shapes`, or a path, to its label.
    """
    sources, lines = shapes(), []
    for name, label in names.items():
        spec = config.load(sources.get(name, name))
        model = from_config.from_config(config.build(spec), name=spec.name)
        lines += [
            {"model": label, "context": n, "bytes": memory.kv_cache_bytes(model, n)}
            for n in contexts
        ]
    return pd.DataFrame(lines)


def finished(rows):
    """The finished runs of the families of `NAMES`."""
    done = rows[rows["ended"] == "done"]
    control = (done["what"] == "controls") & (done["family"] == CONVOLUTION)
    return done[(done["what"] == "arms") | control]


def arms(rows):
    """The finished runs that are compared: of settings in which every family was trained."""
    runs = finished(rows)
    families = runs.groupby(SETTING)["family"].transform("nunique")
    return runs[families == len(NAMES)]


def losses(runs):
    """Mean loss, size and bytes of each family in each setting, a line each."""
    means = runs.groupby([*SETTING, "family"], sort=False).agg(
        params=("params_non_embedding", "first"),
        tokens=("tokens", "first"),
        seeds=("seed", "nunique"),
        loss=("val_loss", "mean"),
        bytes=("cache_bytes", "first"),
    )
    means = means.reset_index()
    means["family"] = pd.Categorical(means["family"].map(NAMES), list(NAMES.values()))
    return means.sort_values([*SETTING, "family"]).astype({"family": str})


def paired(rows, reference: str = DENSE):
    """Loss of each run minus that of ``reference`` with its setting and seed, a line a run.

    Runs whose partner is not there are left out, and the reference itself.
    """
    keys = [*SETTING, "seed"]
    theirs = rows.loc[rows["family"] == reference].set_index(keys)["val_loss"].rename("theirs")
    both = rows[rows["family"] != reference].join(theirs, on=keys, how="inner")
    both["difference"] = both["val_loss"] - both["theirs"]
    return both[["family", *keys, "difference"]]


def intervals(differences, by):
    """Mean and 95 % interval of each group of ``by``: ``difference``, ``low``, ``high``, ``seeds``.

    The spread inside the groups is pooled.
    """
    groups = differences.groupby(by, sort=False)["difference"]
    noise, free = _spread(differences, by)
    table = groups.agg(["mean", "size"]).reset_index()
    off = _t(free) * noise / np.sqrt(table["size"])
    table["low"], table["high"] = table["mean"] - off, table["mean"] + off
    return table.rename(columns={"mean": "difference", "size": "seeds"})


def overall(differences):
    """Each family over its settings, which weigh alike: ``difference``, ``low``, ``high``."""
    lines = []
    for family, runs in differences.groupby("family", sort=False):
        settings = runs.groupby(SETTING)["difference"].agg(["mean", "size"])
        noise, free = _spread(runs, SETTING)
        mean = settings["mean"].mean()
        off = _t(free) * noise * np.sqrt((1 / settings["size"]).sum()) / len(settings)
        lines.append((family, mean, mean - off, mean + off))
    return pd.DataFrame(lines, columns=["family", "difference", "low", "high"])


def windows(rows):
    """Runs of Gemma's class with windows alone minus those that see all, with and without a
    short convolution in both: ``convolution``, ``seed``, ``difference``."""
    done = rows[rows["ended"] == "done"]
    lines = []
    for convolution in (0, 4):
        full, alone = (
            models.family("windowed", every=every, convolution=convolution) for every in (1, 0)
        )
        pairs = paired(done[done["family"].isin([full, alone])], full)
        lines.append(pairs.assign(convolution=convolution))
    return pd.concat(lines, ignore_index=True)


def _spread(differences, by) -> tuple[float, int]:
    """Standard deviation inside the groups of ``by``, pooled, and its degrees of freedom."""
    groups = differences.groupby(by)["difference"]
    free = int((groups.size() - 1).sum())
    squares = ((differences["difference"] - groups.transform("mean")) ** 2).sum()
    return (float(np.sqrt(squares / free)) if free else np.nan), free


def _t(free: int) -> float:
    return float(stats.t.ppf(0.975, free)) if free else np.nan
