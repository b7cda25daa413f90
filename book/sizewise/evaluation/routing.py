"""Recorded answers of several models, aligned item by item, so that they can be routed.

Rows are those of ``data/small_vs_large.jsonl``; `read` alone knows their columns. A `Study` keeps
the items that all models answered, and cuts each task in two halves: what is chosen on the first
is judged on the second.
"""

from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from sizewise import units
from sizewise.stats import calibration, paired

from . import cascade

APART = 1.5  # a pair is two models of which one has at least so many times the parameters
ALL = "all"  # every task, pooled by items
MEASURES = ("probability", "margin")
NORMS = {"plain": None, "per_token": "tokens", "per_byte": "bytes"}  # the column to divide by
ONE = ("model", "task", "first", "parameters", "norm", "tokens_read", "seconds")
EACH = ("items", "nats", "answers", "right")  # lists, one entry an item
Row = dict[str, Any]


@dataclass(frozen=True)
class Answers:
    """One model on the items of a task, or all: energies (items, choices), the rest (items,)."""

    params: float
    names: list[str]
    energy: np.ndarray
    answer: np.ndarray  # number of the right choice
    right: np.ndarray  # 1 or 0
    cost: np.ndarray  # operations
    seconds: float  # all items together

    def part(self, selected: np.ndarray) -> "Answers":
        """The items of a mask or of numbers, in their order."""
        names = np.array(self.names, object)[selected].tolist()
        return Answers(
            self.params,
            names,
            self.energy[selected],
            self.answer[selected],
            self.right[selected],
            self.cost[selected],
            self.seconds * len(names) / len(self.names),
        )


def with_choices(rows: list[Row]) -> list[Row]:
    """The rows with the likelihood of each choice and the right one."""
    return [row for row in rows if row.get("likelihoods", True) and "answers" in row]


def read(rows: list[Row]) -> dict[str, dict[str, Answers]]:
    """Recorded answers by model and task, the smallest model first.

    Tasks without choices are left out. A row tells the tokens that its questions took together;
    each item bears an equal part of them. Raises ValueError for rows of another kind.
    """
    result: dict[str, dict[str, list[Answers]]] = {}
    usable = with_choices(rows)
    for row in usable:
        _check(row)
    for row in sorted(usable, key=lambda row: (row["parameters"], row["model"], row["first"])):
        divisor = NORMS[row["norm"]]
        items, params = list(row["items"]), row["parameters"]
        entry = Answers(
            params,
            items,
            calibration.energies(row["nats"], row[divisor] if divisor else None),
            np.asarray(row["answers"], int),
            paired.answers("right", row["right"]),
            np.full(len(items), 2 * params * row["tokens_read"] / len(items)),
            row["seconds"],
        )
        result.setdefault(row["model"], {}).setdefault(row["task"], []).append(entry)
    return {m: {t: joined(parts) for t, parts in tasks.items()} for m, tasks in result.items()}


def _check(row: Row) -> None:
    """Raises ValueError unless a row has the columns that `read` takes."""
    name = f"a row of {row.get('model', 'no model')}"
    if lacking := [column for column in (*ONE, *EACH) if column not in row]:
        raise ValueError(f"{name} lacks {', '.join(lacking)}: these are no likelihoods of choices")
    if row["norm"] not in NORMS:
        raise units.unknown("norm", row["norm"], NORMS)
    lists = [*EACH, *filter(None, [NORMS[row["norm"]]])]
    sizes = {len(row[c]) if isinstance(row.get(c), list) else 0 for c in lists}
    if len(sizes) > 1 or 0 in sizes:
        raise ValueError(f"{name} needs lists of one length in {', '.join(lists)}")


def joined(parts: list[Answers], prefixes: list[str] | None = None) -> Answers:
    """Answers to several sets of items as one set."""
    before = prefixes or [""] * len(parts)
    width = max(entry.energy.shape[1] for entry in parts)
    wide = [((0, 0), (0, width - entry.energy.shape[1])) for entry in parts]
    return Answers(
        parts[0].params,
        [f"{b}{name}" for b, entry in zip(before, parts, strict=True) for name in entry.names],
        np.concatenate(
            [
                np.pad(entry.energy, w, constant_values=np.inf)
                for entry, w in zip(parts, wide, strict=True)
            ]
        ),
        np.concatenate([entry.answer for entry in parts]),
        np.concatenate([entry.right for entry in parts]),
        np.concatenate([entry.cost for entry in parts]),
        sum(entry.seconds for entry in parts),
    )


class Study:
    """All answers, aligned: every model on the same items of the tasks that all models have."""

    def __init__(self, rows: list[Row], seed: int = 0):
        """``seed`` is of the halves. Raises ValueError where there is nothing to compare."""
        by_model = read(rows)
        if len(by_model) < 2:
            raise ValueError(f"a cascade needs answers of two models, got {len(by_model)}")
        self.models = list(by_model)  # by parameters
        shared = [t for t in by_model[self.models[0]] if all(t in a for a in by_model.values())]
        if not shared:
            raise ValueError("no task was answered by every model")
        self.answers = {m: {t: by_model[m][t] for t in shared} for m in self.models}
        self.first: dict[str, np.ndarray] = {}  # the half on which choices are made
        for task in shared:
            self._align(task, seed)
        for by_task in self.answers.values():
            by_task[ALL] = joined([by_task[t] for t in shared], [f"{t}/" for t in shared])
        self.first[ALL] = np.concatenate([self.first[t] for t in shared])
        self.tasks = [*shared, ALL]

    def _align(self, task: str, seed: int) -> None:
        """Keep the items that all models have, in one order, and split them."""
        shared = set.intersection(*(set(by_task[task].names) for by_task in self.answers.values()))
        if len(shared) < 4:
            raise ValueError(f"the models share {len(shared)} items of {task}; 4 are the least")
        for by_task in self.answers.values():
            order = np.argsort(by_task[task].names)
            by_task[task] = by_task[task].part(
                order[[by_task[task].names[k] in shared for k in order]]
            )
        entry, *others = (by_task[task] for by_task in self.answers.values())
        for other in others:
            if (entry.answer != other.answer).any():
                raise ValueError(f"the models were asked different choices of {task}")
        self.first[task] = calibration.halves(entry.names, seed)

    def pairs(self) -> list[tuple[str, str]]:
        """Small and large model, as far `APART` as is asked."""
        size = {m: self.answers[m][ALL].params for m in self.models}
        return [(s, b) for s, b in product(self.models, repeat=2) if size[b] >= APART * size[s]]

    def cascade(self, small: str, large: str, task: str, by: str) -> cascade.Cascade:
        """One model before another on a task, unsure `by` one of `MEASURES`."""
        a, b = self.answers[small][task], self.answers[large][task]
        p = calibration.probabilities(a.energy)
        confidence = calibration.margin(p) if by == "margin" else p.max(1)
        return cascade.Cascade(a.right, b.right, confidence, a.cost, b.cost)

    def up_to(self, model: str) -> list[str]:
        """The models that are no larger than this one."""
        limit = self.answers[model][ALL].params
        return [m for m in self.models if self.answers[m][ALL].params <= limit]
