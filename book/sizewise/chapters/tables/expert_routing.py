"""What the rows of ``data/moe.jsonl`` say of routes, and how that meets what others reported.

Tables in, tables out. Long tables have a line for each run and layer.
"""

import numpy as np
import pandas as pd

LABELS = {
    "by_token": "the token itself",
    "by_previous": "the token before",
    "by_position": "its position",
    "by_source": "its source",
}
RUN = ("what", "budget", "width", "experts", "used", "balance", "seed")
EARLY = 0.2  # share of training at which routes that are learnt early are settled by half
MOST, LITTLE = 0.5, 0.05  # of the entropy of the routes: explains most of it, and next to nothing
NEARLY_ALL = 0.9  # of the runs: then a finding agrees; with fewer than the rest of them it does not


def routed(rows):
    """Finished runs whose tokens have a choice, without other rates and without a capacity."""
    rows = rows[(rows["ended"] == "done") & (rows["experts"] > rows["used"])]
    rows = rows[rows["what"] != "rates"]
    if "capacity" in rows:
        rows = rows[~(rows["capacity"] > 0)]
    return rows


def loads(rows):
    """Load of each expert over an even one, by layer: means over runs, experts in falling order.

    Runs differ in which expert is busy, so each layer of a run is sorted before the mean.
    (layers, experts).
    """
    sorted_loads = [np.sort(np.array(one), axis=-1)[:, ::-1] for one in rows["loads"]]
    return np.mean(sorted_loads, axis=0) * len(rows["loads"].iloc[0][0])


def looks(rows):
    """Evenness, peak and settledness at each look over training, by run and layer.

    ``settled`` is the share of a token's experts that are its last ones already, over and above
    chance, of what chance leaves: (agreement - chance) / (1 - chance).
    """
    lines = []
    for row in rows.to_dict("records"):
        found, chance = (np.array(row[f"look_{name}"]) for name in ("agreement", "chance"))
        even, peak = (np.array(row[f"look_{name}"]) for name in ("evenness", "peak"))
        for look, layer in np.ndindex(found.shape):
            share = row["look_steps"][look] / row["look_steps"][-1]
            left = 1 - chance[look, layer]
            lines.append(
                {name: row[name] for name in RUN}
                | {
                    "layer": layer + 1,
                    "look": look,
                    "share": share,
                    "evenness": even[look, layer],
                    "peak": peak[look, layer],
                    "agreement": found[look, layer],
                    "chance": chance[look, layer],
                    "settled": (found[look, layer] - chance[look, layer]) / left if left else 1.0,
                }
            )
    return pd.DataFrame(lines)


def explained(rows):
    """Share of the routes' entropy that each label explains, by run and layer."""
    return pd.DataFrame(
        {name: row[name] for name in RUN}
        | {"layer": layer + 1, "label": label, "share": np.nan if share is None else share}
        for row in rows.to_dict("records")
        for column, label in LABELS.items()
        for layer, share in enumerate(row[column] or ())
    )


def quarters(rows):
    """Share of the choices that a capacity of 1.25 would drop in each quarter of the window."""
    return pd.DataFrame(
        {name: row[name] for name in RUN} | {"quarter": quarter + 1, "dropped": share}
        for row in rows.to_dict("records")
        for quarter, share in enumerate(row["dropped_by_quarter"])
    )


# --- beside what was reported


def settled_at(row, share: float = EARLY) -> float:
    """Settledness (see `looks`) at the last look before ``share`` of the steps, over layers."""
    table = looks(pd.DataFrame([row]))
    early = table[table["share"] <= share + 0.01]
    return float(early[early["look"] == early["look"].max()]["settled"].mean())


def judged(row) -> dict[str, tuple[float, bool]]:
    """What one run shows of each finding that OpenMoE reports: (a number, whether it agrees)."""
    told = {
        label: float(np.mean([x for x in row[column] or () if x is not None] or [np.nan]))
        for column, label in LABELS.items()
    }
    token, *others = told.values()
    first, *_, last = row["dropped_by_quarter"]
    early = settled_at(row)
    return {
        "token": (token, token > MOST and token > np.nanmax(others)),
        "position": (told["its position"], told["its position"] < LITTLE),
        "source": (told["its source"], told["its source"] < LITTLE),
        "early": (early, early > 0.5),
        "late": (last - first, last > 2 * first),
    }


def findings(rows):
    """For each finding: mean and range over runs, in how many runs it holds, and the word for it.

    ``agrees`` is yes where it holds in at least `NEARLY_ALL` of the runs, no where it fails in as
    many, else in part; not measured where no run has the column.
    """
    judgements = [judged(row) for row in rows.to_dict("records")]
    lines = []
    for name in judgements[0]:
        some = [one[name] for one in judgements if np.isfinite(one[name][0])]
        values, held = [value for value, _ in some], sum(agrees for _, agrees in some)
        lines.append(
            {
                "finding": name,
                "mean": np.mean(values) if some else np.nan,
                "least": min(values, default=np.nan),
                "most": max(values, default=np.nan),
                "holds": held,
                "runs": len(some),
                "agrees": word(held, len(some)),
            }
        )
    return pd.DataFrame(lines)


def word(held: int, runs: int) -> str:
    """Yes, no, in part, or not measured: see `findings`."""
    if not runs:
        return "not measured"
    if held >= NEARLY_ALL * runs:
        return "yes"
    return "no" if held <= (1 - NEARLY_ALL) * runs else "in part"
