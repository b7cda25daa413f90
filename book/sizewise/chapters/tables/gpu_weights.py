"""What a layer takes in time on a GPU, from rows of ``data/gpu_weights.jsonl`` if there are any.

One device is shown: that of the first row that is not a CPU's.
"""

from pathlib import Path

from sizewise.data import records

from .display import Table, table

COLUMNS = ("device", "kind", "model", "format", "step", "ended")
FORMS = {"median (ms)": ".3g"} | dict.fromkeys(
    ("layer 4 over the median", "low", "high", "least", "most"), ".3f"
)
FOURTH = 3  # layers count from 0


def recorded(stem: str | Path = "gpu_weights"):
    """The rows of one GPU, with `COLUMNS` at least."""
    import pandas

    result = pandas.json_normalize(records.read(stem), max_level=1)  # there may be none
    result = result.reindex(columns=list(dict.fromkeys((*COLUMNS, *result))))
    present = result[result["device"].notna() & (result["device"] != "CPU")]
    return present[present["device"] == present["device"].iloc[0]] if len(present) else present


def shown(frame, caption: str) -> Table:
    """One of the tables below as a page shows it; "not measured" if it is empty."""
    import pandas

    if not len(frame):
        return table(pandas.DataFrame({caption: ["not measured"]}))
    return table(frame, FORMS, caption=caption)


def of(rows, kind: str, **wanted):
    """The rows of a kind whose columns have the ``wanted`` values."""
    rows = rows[rows["kind"] == kind]
    for name, value in wanted.items():
        rows = rows[rows[name] == value]
    return rows


def fourth(rows):
    """Each recorded model and step: what layer 4 takes over its median layer, and the spread.

    ``low`` and ``high`` are layer 4's shortest and longest over the median layer, ``least`` and
    ``most`` the fastest and the slowest other layer's median over it.
    """
    import numpy as np
    import pandas

    result = []
    for row in of(rows, "layers", ended="done").to_dict("records"):
        times = np.array(row["layers_ms"], float)
        if len(times) <= FOURTH:
            continue
        median, others = np.median(times), np.delete(times, FOURTH)
        result.append(
            {
                "model": row["model"],
                "format": row["format"],
                "step": row["step"],
                "layers": len(times),
                "median (ms)": median,
                "layer 4 over the median": times[FOURTH] / median,
                "low": row["layers_low_ms"][FOURTH] / median,
                "high": row["layers_high_ms"][FOURTH] / median,
                "least": others.min() / median,
                "most": others.max() / median,
            }
        )
    return pandas.DataFrame(result)
