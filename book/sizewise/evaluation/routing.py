"""Recorded answers of several models, aligned item by item, so that they can be routed.

Rows are those of ``data/small_vs_large.jsonl``; `read` alone knows their columns. A `Study` keeps
the items that all models answered, and cuts each task in two halves: what is chosen on the first
is judged on the second.
"""

from itertools import product
from typing import Any

import numpy as np
import pandas

from sizewise.stats import calibration, paired

from . import cascade

APART = 1.5  # a pair is two models of which one has at least so many times the parameters
ALL = "all"  # every task, pooled by items
MEASURES = ("probability", "margin")
NORMS = {"plain": None, "per_token": "tokens", "per_byte": "bytes"}  # the column to divide by
Row = dict[str, Any]


def with_choices(rows: list[Row]) -> list[Row]:
    """The rows with the likelihood of each choice and the right one."""
    return [row for row in rows if row.get("likelihoods", True) and "answers" in row]


def read(rows: list[Row]) -> dict[str, dict[str, pandas.DataFrame]]:
    """Recorded answers by model and task, the smallest model first: a row an item, by its name.

    Columns ``answer`` (number of the right choice), ``right`` (1 or 0), ``cost`` (FLOPs),
    ``seconds``, and for each choice, by its number, the `energy`. Tasks without choices are left
    out. A row tells the tokens that its questions took together, and all rows of a task its
    seconds; each item bears an equal part of them. Raises ValueError for rows of another kind.
    """
    result: dict[str, dict[str, list[pandas.DataFrame]]] = {}
    try:
        order = sorted(
            with_choices(rows), key=lambda row: (row["parameters"], row["model"], row["first"])
        )
        for row in order:
            divisor, number = NORMS[row["norm"]], len(row["items"])
            energies = calibration.energies(row["nats"], row[divisor] if divisor else None)
            part = pandas.DataFrame(energies, index=row["items"]).assign(
                answer=np.asarray(row["answers"], int),
                right=paired.answers("right", row["right"]),
                cost=2 * row["parameters"] * row["tokens_read"] / number,
                seconds=row["seconds"] / number,
            )
            result.setdefault(row["model"], {}).setdefault(row["task"], []).append(part)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"these are no likelihoods of choices: {error}") from None
    return {
        model: {
            task: _joined(parts).assign(seconds=lambda answers: answers["seconds"].mean())
            for task, parts in tasks.items()
        }
        for model, tasks in result.items()
    }


def _joined(parts: list[pandas.DataFrame]) -> pandas.DataFrame:
    return pandas.concat(parts).fillna(np.inf)  # the energy of a choice that some items lack


def energy(answers: pandas.DataFrame) -> np.ndarray:
    """The energies in a table of `read`: (items, choices)."""
    return answers[sorted(name for name in answers if isinstance(name, int))].to_numpy()


class Study:
    """All answers, aligned: every model on the same items of the tasks that all models have."""

    def __init__(self, rows: list[Row], seed: int = 0):
        """``seed`` is of the halves. Raises ValueError where there is nothing to compare."""
        by_model = read(rows)
        if len(by_model) < 2:
            raise ValueError(f"a cascade needs answers of two models, got {len(by_model)}")
        self.models = list(by_model)  # by parameters
        self.params = {row["model"]: row["parameters"] for row in with_choices(rows)}
        shared = [t for t in by_model[self.models[0]] if all(t in a for a in by_model.values())]
        if not shared:
            raise ValueError("no task was answered by every model")
        self.answers = {m: {t: by_model[m][t] for t in shared} for m in self.models}
        self.first: dict[str, np.ndarray] = {}  # the half on which choices are made
        for task in shared:
            self._align(task, seed)
        for by_task in self.answers.values():
            parts = [by_task[t].rename(index=f"{t}/{{}}".format) for t in shared]
            by_task[ALL] = _joined(parts)
        self.first[ALL] = np.concatenate([self.first[t] for t in shared])
        self.tasks = [*shared, ALL]

    def _align(self, task: str, seed: int) -> None:
        """Keep the items that all models have, in one order, and split them."""
        names = sorted(set.intersection(*(set(a[task].index) for a in self.answers.values())))
        if len(names) < 4:
            raise ValueError(f"the models share {len(names)} items of {task}; 4 are the least")
        for by_task in self.answers.values():
            by_task[task] = by_task[task].loc[names]
        answers = [by_task[task]["answer"] for by_task in self.answers.values()]
        if not all(answers[0].equals(other) for other in answers):
            raise ValueError(f"the models were asked different choices of {task}")
        self.first[task] = calibration.halves(names, seed)

    def pairs(self) -> list[tuple[str, str]]:
        """Small and large model, as far `APART` as is asked."""
        size = self.params
        return [(s, b) for s, b in product(self.models, repeat=2) if size[b] >= APART * size[s]]

    def cascade(self, small: str, large: str, task: str, by: str) -> cascade.Cascade:
        """One model before another on a task, unsure `by` one of `MEASURES`."""
        a, b = self.answers[small][task], self.answers[large][task]
        p = calibration.probabilities(energy(a))
        confidence = calibration.margin(p) if by == "margin" else p.max(1)
        columns = (a["right"], b["right"], confidence, a["cost"], b["cost"])
        return cascade.Cascade(*map(np.asarray, columns))

    def up_to(self, model: str) -> list[str]:
        """The models that are no larger than this one."""
        return [m for m in self.models if self.params[m] <= self.params[model]]
