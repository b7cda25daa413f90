"""Published scores of language models by size: read, with what is wrong in them set right.

The table is that of Ruan et al. (2024), "Observational scaling laws": 148 base models on eight
benchmarks. Everything that is left out or changed stands in ``data/facts/public_tables.yml``.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

from . import public_runs


@dataclass(frozen=True)
class Benchmark:
    """A column of scores: what it is taken to measure, and what guessing scores.

    ``claimed`` is the size at which one article has its gains level off.
    """

    name: str
    capability: str
    chance: float
    claimed: float | None = None


@cache
def benchmarks() -> dict[str, Benchmark]:
    """The benchmarks of `table`, by name."""
    return {row["name"]: Benchmark(**row) for row in _facts()["scores"]}


def _facts() -> dict[str, Any]:
    """What the columns are called here, and what is left out and set right."""
    return public_runs.entry("benchmarks")


def table(as_published: bool = False):
    """Scores by model: ``model``, ``family``, ``params``, ``tokens``, ``operations``, benchmarks.

    Sizes are in parameters, data in tokens, operations are 6 N D; unknown ones are missing. With
    ``as_published`` nothing is left out or changed.
    Raises ValueError if the table cannot be had.
    """
    import pandas

    facts = _facts()
    rows = pandas.read_csv(public_runs.fetch("benchmarks")).rename(columns=facts["columns"])
    rows[["params", "tokens", "operations"]] *= [1e9, 1e12, 1e21]
    if as_published:
        return rows
    left_out = [*facts["sparse"], *facts["tuned"]]
    rows = rows[~rows["model"].isin(left_out)].set_index("model")
    for model, right in facts["corrected"].items():
        rows.loc[model, list(right)] = list(right.values())
        rows.loc[model, "operations"] = 6 * rows.loc[model, "params"] * rows.loc[model, "tokens"]
    return rows.reset_index()


def emergent():
    """Tasks of which abilities that emerge were reported, with the sizes of `table`.

    Columns are named ``task_shots_metric``; ``bleu`` is in percent, the others are shares.
    """
    import pandas

    rows = pandas.read_csv(public_runs.fetch("emergent")).rename(columns=_facts()["columns"])
    sizes = table()[["model", "family", "params", "tokens", "operations"]]
    return sizes.merge(rows, on="model", how="inner")


def pythia():
    """Final scores of the Pythia suite, with ``params`` from the models' names.

    Columns ``model``, ``shots``, ``task``, ``metric``, ``value``, ``params``. The names are sizes
    that count embeddings. Source: Biderman et al. (2023), the evaluations in their repository.
    """
    rows = public_runs.fetch_rows("pythia")
    size = rows["model"].str.split("-").str[0]
    rows["params"] = size.map(lambda s: float(s[:-1]) * {"m": 1e6, "b": 1e9}[s[-1]])
    return rows


def speedrun():
    """Records of training to one loss on eight H100: ``record``, ``days``, ``minutes``, ``date``.

    Days count from the first record. A record that was timed again under new rules keeps its
    first time.
    """
    import pandas

    rows = public_runs.fetch_rows("speedrun")
    rows = rows.rename(columns={"minutes_8xH100": "minutes"})
    rows = rows.drop_duplicates("record").reset_index(drop=True)
    dates = pandas.to_datetime(rows["date"])
    rows["days"] = (dates - dates.iloc[0]).dt.days.astype(float)
    return rows
