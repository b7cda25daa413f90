"""What the chapter on scaling laws reads from its rows: laws by table, and frames for figures."""

import pandas as pd

from sizewise import scaling_laws
from sizewise.data import records

from .display import written

NAMES = {
    "chinchilla-240": "Chinchilla, 240 runs",
    "chinchilla-245": "Chinchilla, all 245",
    "muennighoff-c4": "Muennighoff, C4",
    "gadre-c4": "Gadre, C4",
    "gadre-redpajama": "Gadre, RedPajama",
    "gadre-refinedweb": "Gadre, RefinedWeb",
    "olmo-ladder": "OLMo ladder",
    "gemstones": "Gemstones",
    "our-ladder": "ours, to 3M",
}
OURS = "our-ladder"  # three million parameters at most: shown, and decides no claim


def rows_by_kind() -> dict[str, pd.DataFrame]:
    """The rows of data/refit_published.jsonl by ``what``, each with its own columns alone."""
    rows = records.table("refit_published")
    rows["name"] = rows["table"].map(NAMES)
    order = {table: rank for rank, table in enumerate(NAMES)}
    rows = rows.sort_values("table", key=lambda tables: tables.map(order), kind="stable")
    return {kind: part.dropna(axis=1, how="all") for kind, part in rows.groupby("what")}


def law(fit) -> scaling_laws.Hoffmann:
    """The law of a row of fits."""
    return scaling_laws.Hoffmann(*(float(fit[name]) for name in scaling_laws.NAMES))


def spans(part: pd.DataFrame, column: str, digits: str) -> list[str]:
    """A column of a row kind as "value (low to high)"."""
    return [
        f"{value:{digits}} ({low:{digits}} to {high:{digits}})"
        for value, low, high in part[[column, f"{column}_low", f"{column}_high"]].to_numpy()
    ]


def predictions() -> pd.DataFrame:
    """The predictions for the two large OLMo models beside what was measured, one a row.

    ``name``, ``target``, ``predicted``, ``low``, ``high``, ``measured``; losses in nats, with the
    interval that adds the form's error, accuracies in percent.
    """
    measured = {row["name"]: row["figures"] for row in records.facts("olmo")}
    rows = []
    for row in records.read("olmo_prediction"):
        if row["what"] == "loss":
            values = row["loss"], row["wide_low"], row["wide_high"]
            name, figure, scale = "loss on C4", "c4_loss", 1.0
        else:
            values = row["accuracy"], row["accuracy_low"], row["accuracy_high"]
            name, figure, scale = written(row["task"]), f"{row['task']}_accuracy", 100.0
        real = measured[row["target"]][figure]["value"] * scale
        rows.append((name, row["target"], *(scale * v for v in values), real))
    columns = ["name", "target", "predicted", "low", "high", "measured"]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.assign(inside=frame["measured"].between(frame["low"], frame["high"]))
