"""Tables of the chapter on mixtures of experts: laws, published pairs, and the laboratory's runs.

A sparse model's effective size is that of the dense model as good. Its ``weight`` says where it
lies, in logarithms, from what a token uses (0) to what is stored (1). Frames in, frames out.
"""

import numpy as np
import pandas as pd
from scipy import stats

from sizewise.data import records
from sizewise.scaling_laws.mixture_laws import weight
from sizewise.scaling_laws.published import published

ARMS = {  # (experts, used, wide) of the laboratory's models
    (1, 1, 1): "dense",
    (2, 2, 1): "two experts, both used",
    (8, 2, 1): "eight experts, two used",
    (1, 1, 4): "dense, four times as wide",
}
DENSE, CUT, SPARSE, WIDE = ARMS.values()
TIMES = 8  # experts, of which a token uses one, at which laws are compared


# --- what others measured


def by_laws():
    """Effective sizes by three fitted laws, one expert used of ``TIMES``, inside their range.

    ``active`` and ``total`` are parameters, ``tokens`` those trained on (nan where a law has
    none), ``weight`` the place between active and total.
    """
    lines = []
    for active in (1e8, 1e9):
        # Every second layer's MLP is replicated, and MLPs are two thirds of a layer.
        total = active * (1 + (TIMES - 1) / 3)
        size = published("clark-s-base").effective(active, TIMES)
        lines.append(("Clark 2022", active, total, np.nan, size))
    joint = published("ludziejewski-joint")
    for active, tokens in ((3.2e8, 3.2e9), (3.2e8, 1.6e10), (1.1e9, 1.6e10), (1.1e9, 8e10)):
        size = joint.effective(active, tokens, TIMES)
        lines.append(("Ludziejewski 2025", active, joint.total(active, TIMES), tokens, size))
    abnar = published("abnar-sparsity")
    for total in (1e9, 1e10):
        # Attention is a third of a dense layer, and every MLP is one of `TIMES` experts.
        active = total * 1.5 / (0.5 + TIMES)
        size = abnar.effective(total, 1e11, 1 - 1 / TIMES)
        lines.append(("Abnar 2025", active, total, 1e11, size))
    table = pd.DataFrame(lines, columns=["law", "active", "total", "tokens", "size"])
    return table.assign(weight=weight(table["active"], table["total"], table["size"]))


def by_scores(family: str):
    """Effective size of a family's sparse model by each benchmark, read off its dense models.

    Through the scores of the dense models goes a straight line in the logarithm of their size.
    """
    table = records.facts_csv("matched_pairs")
    table = table[table["family"] == family]
    lines = []
    for benchmark, rows in table.groupby("benchmark", sort=False):
        is_sparse = rows["total"] > rows["active"]
        dense, ours = rows[~is_sparse], rows[is_sparse].iloc[0]
        slope, at_one = np.polyfit(np.log(dense["total"]), dense["score"], 1)
        size = float(np.exp((ours["score"] - at_one) / slope))
        place = float(weight(ours["active"], ours["total"], size))
        lines.append((benchmark, ours["score"], size, place))
    return pd.DataFrame(lines, columns=["benchmark", "score", "size", "weight"])


# --- the laboratory


def runs(rows):
    """The finished runs with their ``arm`` and ``total`` (parameters without embeddings).

    ``per_input`` is whether each matrix's learning rate followed its own inputs.
    """
    done = rows[rows["ended"] == "done"].copy()
    done["total"] = done["params_non_embedding"]
    done["per_input"] = done["what"] != "rates"
    kinds = zip(done["experts"], done["used"], done["wide"], strict=True)
    done["arm"] = [ARMS.get(kind, f"{kind[0]} experts, two used") for kind in kinds]
    return done


def differences(table):
    """Loss of each arm minus that of `DENSE`, paired by seed, with Student's interval of 95 %.

    By ``budget``, ``per_input``, ``arm`` and whether there was a balance loss. The interval of one
    seed alone is nan.
    """
    setting = ["budget", "per_input"]
    keys = [*setting, "seed"]
    dense = table[table["arm"] == DENSE].set_index(keys)["val_loss"].rename("dense")
    pairs = table[table["arm"] != DENSE].join(dense, on=keys, how="inner")
    pairs["difference"] = pairs["val_loss"] - pairs["dense"]
    pairs["balanced"] = (pairs["balance"] > 0) | (pairs["experts"] == 1)
    groups = pairs.groupby([*setting, "arm", "balanced"], sort=False)
    lines = groups.agg(total=("total", "first"), loss=("val_loss", "mean"))
    mean, error, seeds = (groups["difference"].agg(how) for how in ("mean", "sem", "size"))
    off = stats.t.ppf(0.975, seeds - 1) * error
    lines = lines.assign(difference=mean, low=mean - off, high=mean + off, seeds=seeds)
    order = {arm: rank for rank, arm in enumerate(ARMS.values())}
    return lines.reset_index().sort_values(
        "arm", key=lambda arms: arms.map(order).fillna(len(order)), kind="stable", ignore_index=True
    )


def routing(table):
    """What routers do, by number of experts, with the balance loss and without: means of layers.

    ``evenness`` of the loads (1: even), ``dead`` share of the experts, ``by_token`` the share of
    the routes that the token itself explains, in so many ``runs``.
    """
    routed = table[table["experts"] > table["used"]]
    means = {
        name: (name, lambda runs: float(np.mean([np.mean(layers) for layers in runs])))
        for name in ("evenness", "dead", "by_token")
    }
    groups = routed.groupby(["experts", "balance"])
    return groups.agg(**means, runs=("seed", "size")).reset_index()
