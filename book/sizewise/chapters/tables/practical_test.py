"""Recorded answers (data/practical_test.jsonl) as the report on a comparison takes them.

The figures of a page are made by the same functions as those that the command prints.
"""

import hashlib
import json
from collections import Counter
from typing import Any

import numpy as np
import pandas as pd

from sizewise.compare import report, run, synthetic_items
from sizewise.compare import task as tasks
from sizewise.compare.cost import Rates
from sizewise.compare.endpoint import Asking
from sizewise.compare.models import Model
from sizewise.data import records
from sizewise.stats import sequential

from .display import written
from .small_versus_large import least

STEM = "practical_test"
TASKS = ("example", "made")
UNPRICED = Rates(None, None, "runs here")
LISTS = {  # columns of a reply, and of a row the lists with one for each request
    "text": "texts",
    "finish": "finishes",
    "prompt_tokens": "prompt_tokens",
    "answer_tokens": "answer_tokens",
    "seconds": "answer_seconds",
}
Row = dict[str, Any]


def questions(task: str, number: int, seed: int) -> list[tasks.Item]:
    """The first ``number`` items of the example that is built in, or so many made by rule."""
    if task == "example":
        return tasks.read(tasks.EXAMPLE)[:number]
    return synthetic_items.items(number, seed)


def digest(items: list[tasks.Item]) -> str:
    """A hash of what was asked: names, prompts, and prompts in every wording."""
    wordings = range(len(tasks.WORDINGS))
    prompts = [
        [item.name, item.prompt, *(item.wording(wording) for wording in wordings)] for item in items
    ]
    return hashlib.sha256(json.dumps(prompts).encode()).hexdigest()[:16]


class Recorded:
    """Answers of recorded rows, looked up as those of a file of answers."""

    def __init__(self, rows: list[Row]):
        self.rows: dict[str, Row] = {}
        for row in rows:
            requests: Counter = Counter()
            for question in plan(row):
                at = row["names"].index(question.item.name)
                reply = {name: row[lists][at][requests[at]] for name, lists in LISTS.items()}
                requests[at] += 1
                config = question.config
                self.rows[records.identity(config)] = config | {"failed": ""} | reply

    def row(self, config: dict[str, Any]) -> dict[str, Any]:
        """The row of what was asked."""
        return self.rows[records.identity(config)]


def compared(a: Row, b: Row, items: list[tasks.Item] | None = None) -> dict[str, Any]:
    """`report.compare` of two rows on the same questions, or on some ``items`` of them.

    Raises ValueError for rows of different questions, and for questions that have changed since.
    """
    every = questions(a["task"], a["items"], a["seed"])
    if not a["asked"] == b["asked"] == digest(every):
        raise ValueError(f"{a['model']} and {b['model']}: not asked what {a['task']} asks now")
    items = every if items is None else items
    models, plans = (
        [Model(written(row["model"])) for row in (a, b)],
        [plan(a, items), plan(b, items)],
    )
    return report.compare(items, models, plans, Recorded([a, b]), [UNPRICED] * 2)


def plan(row: Row, items: list[tasks.Item] | None = None) -> run.Plan:
    """What the model of a row is asked, of all its items or of some."""
    items = questions(row["task"], row["items"], row["seed"]) if items is None else items
    options = Asking(max_tokens=row["most"], temperature=row["temperature"])
    settings = run.Settings(options, row["repeats"], row["seed"], wordings=row["wordings"])
    return run.plan(Model(row["model"]), items, settings)


def differences(reports: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """A row for each of the ``reports``, by its label: first model minus second, in points.

    Columns label, items, difference, low, high, only_first, only_second, p (McNemar's mid-p; both
    empty where scores lie between 0 and 1), shown, detectable (points).
    """
    names = {"items": "items", "value": "difference", "low": "low", "high": "high"}
    names |= {"only_a": "only_first", "only_b": "only_second", "p_mid": "p"}
    names |= {"shown": "shown", "detectable": "detectable"}
    frame = pd.DataFrame([study["difference"] for study in reports.values()])
    frame = frame[list(names)].rename(columns=names)
    frame[["difference", "low", "high", "detectable"]] *= 100
    return frame.assign(label=list(reports))[["label", *frame.columns]]


def reach(sizes) -> pd.DataFrame:
    """The least difference, in points, that so many items show four times in five.

    Columns items, and one for each discordant share; empty where even a difference as large as
    that share would not be found.
    """
    table = pd.DataFrame({"items": list(sizes)}, dtype=float)
    for share in (0.1, 0.2, 0.4):
        table[f"{share:.0%} differ"] = [100 * least(share, n, level=0.05) for n in sizes]
    return table


def false_alarms(share: float, items: int, step: int, runs: int) -> pd.DataFrame:
    """How often equal models that differ on ``share`` of the items are called different.

    They are looked at after every ``step`` of ``items`` items. Columns ``test`` and ``wrong``
    (share of the runs): by a test for a fixed number of items at the end alone, by the same at any
    look, and by the sequential one at any look.
    """
    rng = np.random.default_rng(0)
    wrong = np.zeros(3)
    for _ in range(runs):
        draws = rng.choice([1, -1, 0], items, p=[share / 2, share / 2, 1 - share])
        looks = [draws[:number] for number in range(step, items + 1, step)]
        fixed = [report.significant(int((d > 0).sum()), int((d < 0).sum()), len(d)) for d in looks]
        always = any(sequential.decided(d) for d in looks)
        wrong += fixed[-1], any(fixed), always
    names = "fixed, once at the end", "fixed, at every look", "sequential, at every look"
    return pd.DataFrame({"test": names, "wrong": wrong / runs})


def sequential_need(share: float, difference: float, items: int, step: int, runs: int) -> int:
    """Items by which the sequential test, looked at every ``step``, is decided in 4 of 5 ``runs``.

    Two models of which one alone is right on ``share`` of the items differ by ``difference``. A run
    that is not decided within ``items`` counts as these.
    """
    rng = np.random.default_rng(0)
    odds = [(share + difference) / 2, (share - difference) / 2, 1 - share]
    stops = []
    for _ in range(runs):
        draws = rng.choice([1, -1, 0], items, p=odds)
        looks = range(step, items + 1, step)
        stops.append(next((n for n in looks if sequential.decided(draws[:n])), items))
    return int(np.quantile(stops, 0.8, method="higher"))


def tokens(row: Row) -> list[tuple[int, int]]:
    """Tokens read and written of each request."""
    pairs = zip(row["prompt_tokens"], row["answer_tokens"], strict=True)
    return [pair for read, written in pairs for pair in zip(read, written, strict=True)]


def load() -> list[Row]:
    """The recorded rows whose models were asked for a form of answer.

    The file's first rows, without ``wordings``, were asked in the task's own words.
    """
    return [row for row in records.read(STEM) if "wordings" in row]
