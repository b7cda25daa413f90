"""Recorded answers (data/practical_test.jsonl) as the report on a comparison takes them.

The figures of a page are made by the same functions as those that the command prints.
"""

import hashlib
import json
from typing import Any

import numpy as np
import pandas as pd

from sizewise.compare import report, run, scoring, synthetic_items
from sizewise.compare import task as tasks
from sizewise.compare.cost import Rates
from sizewise.compare.endpoint import Asking
from sizewise.compare.local import Local
from sizewise.compare.models import Model
from sizewise.data import records
from sizewise.stats import sequential

STEM = "practical_test"
TASKS = ("example", "made")
UNPRICED = Rates(None, None, "runs here")
Row = dict[str, Any]


def questions(task: str, number: int, seed: int) -> list[tasks.Item]:
    """The first ``number`` items of the example that is built in, or so many made by rule."""
    if task == "example":
        return tasks.read(tasks.EXAMPLE)[:number]
    return synthetic_items.items(number, seed)


def digest(items: list[tasks.Item], wordings: int = 1) -> str:
    """A hash of what was asked: names and prompts, and all wordings where any was used."""
    every = range(len(tasks.WORDINGS)) if wordings else ()
    prompts = [
        [item.name, item.prompt, *(item.asked(wording) for wording in every)] for item in items
    ]
    return hashlib.sha256(json.dumps(prompts).encode()).hexdigest()[:16]


def ask(local: Local, config: Row, items: list[tasks.Item]) -> list[Row]:
    """What a loaded model says to ``items``: the rows that `run.ask_all` would write.

    ``config`` is that of a recorded row. One model then answers several tasks, loaded once.
    """
    settings = _settings(config)
    local.options = settings.options
    rows = []
    for question in run.plan(Model(config["model"]), items, settings):
        reply = local.ask(question.prompt, run.draw_seed(question, settings.seed))
        rows.append(question.config | vars(reply))
    return rows


class Recorded:
    """Answers of recorded rows, looked up as those of a file of answers."""

    def __init__(self, rows: list[Row]):
        self.rows: dict[str, Row] = {}
        for row in rows:
            requests: dict[str, int] = dict.fromkeys(row["names"], 0)
            items = questions(row["task"], row["items"], row["seed"])
            for question in run.plan(Model(row["model"]), items, _settings(row)):
                name = question.item.name
                at, number = row["names"].index(name), requests[name]
                requests[name] += 1
                self.rows[records.identity(question.config)] = question.config | {
                    "failed": "",
                    "text": row["texts"][at][number],
                    "finish": row["finishes"][at][number],
                    "prompt_tokens": row["prompt_tokens"][at][number],
                    "answer_tokens": row["answer_tokens"][at][number],
                    "seconds": row["answer_seconds"][at][number],
                }

    def row(self, config: dict[str, Any]) -> dict[str, Any]:
        """The row of what was asked."""
        return self.rows[records.identity(config)]


def compared(a: Row, b: Row, items: list[tasks.Item] | None = None) -> dict[str, Any]:
    """`report.compare` of two rows on the same questions, or on some ``items`` of them.

    Raises ValueError for rows of different questions, and for questions that have changed since.
    """
    every = questions(a["task"], a["items"], a["seed"])
    if not a["asked"] == b["asked"] == digest(every, a["wordings"]):
        raise ValueError(f"{a['model']} and {b['model']}: not asked what {a['task']} asks now")
    items = every if items is None else items
    models = (Model(a["model"]), Model(b["model"]))
    plans = [
        run.plan(model, items, _settings(row)) for model, row in zip(models, (a, b), strict=True)
    ]
    return report.compare(items, models, plans, Recorded([a, b]), [UNPRICED] * 2)


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


def tokens(row: Row) -> list[tuple[int, int]]:
    """Tokens read and written of each request."""
    pairs = zip(row["prompt_tokens"], row["answer_tokens"], strict=True)
    return [pair for read, written in pairs for pair in zip(read, written, strict=True)]


def load() -> list[Row]:
    """All recorded rows, marked by the rules of now.

    Rows without ``wordings`` were asked in the file's own words; what they wrote up to the limit of
    tokens was cut.
    """
    return [_complete(row) for row in records.read(STEM)]


def greedy(rows: list[Row]) -> dict[tuple[str, str], Row]:
    """The greedy answers to compare, by model and task.

    Those that were asked for a form of answer, once every model that answered the task has them;
    till then those in the file's own words, so that all models are asked alike.
    """
    result: dict[tuple[str, str], Row] = {}
    for task in TASKS:
        there = [row for row in rows if row["temperature"] == 0 and row["task"] == task]
        formed, plain = (
            {(row["model"], task): row for row in there if (row["wordings"] > 0) == form}
            for form in (True, False)
        )
        result |= formed if formed.keys() >= plain.keys() else plain
    return result


def _complete(row: Row) -> Row:
    items = questions(row["task"], row["items"], row["seed"])
    scores = [
        [scoring.score(item, text) for text in texts]
        for item, texts in zip(items, row["texts"], strict=True)
    ]
    if "wordings" in row:
        return row | {"scores": scores}
    return row | {
        "scores": scores,
        "wordings": 0,
        "finishes": [
            ["length" if size >= row["most"] else "stop" for size in part]
            for part in row["answer_tokens"]
        ],
        "prompt_tokens": [[size] * row["repeats"] for size in row["prompt_tokens"]],
    }


def _settings(row: Row) -> run.Settings:
    options = Asking(max_tokens=row["most"], temperature=row["temperature"])
    return run.Settings(options, row["repeats"], row["seed"], wordings=row["wordings"])
