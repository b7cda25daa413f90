"""Recorded answers (data/practical_test.jsonl) as the report on a comparison takes them.

The figures of a page are made by the same functions as those that the command prints.
"""

import hashlib
import json
from typing import Any

from .. import records, text
from . import made, report, run
from . import task as tasks
from .cost import Rates
from .endpoint import Asking
from .local import Local
from .models import Model

STEM = "practical_test"
TASKS = ("example", "made")
UNPRICED = Rates(None, None, "runs here")
Row = dict[str, Any]


def questions(task: str, number: int, seed: int) -> list[tasks.Item]:
    """The first ``number`` items of the example that is built in, or so many made by rule."""
    if task not in TASKS:
        raise text.unknown("task", task, TASKS)
    return tasks.read(tasks.EXAMPLE)[:number] if task == "example" else made.items(number, seed)


def digest(items: list[tasks.Item]) -> str:
    """A hash of what was asked: names and prompts."""
    asked = json.dumps([[item.name, item.prompt] for item in items])
    return hashlib.sha256(asked.encode()).hexdigest()[:16]


def ask(local: Local, config: Row, items: list[tasks.Item]) -> list[Row]:
    """What a loaded model says to ``items``: the rows that `run.ask_all` would write.

    ``config`` is that of a recorded row. One model then answers several tasks, loaded once.
    """
    settings = _settings(config)
    local.asking = settings.asking
    found = []
    for one in run.plan(Model(config["model"]), items, settings):
        reply = local.ask(one.item.prompt, run._seed(one, settings.seed))
        found.append(one.config | reply.as_dict())
    return found


def find(rows: list[Row], **wanted) -> Row | None:
    """The row with these values; None without one. Raises ValueError where several have them."""
    found = [row for row in rows if all(row[name] == value for name, value in wanted.items())]
    if len(found) > 1:
        raise ValueError(f"{len(found)} rows have {wanted}")
    return found[0] if found else None


class Recorded:
    """Answers by model, item and repeat, looked up as those of a file of answers."""

    def __init__(self, rows: list[Row]):
        self.rows = {
            (row["model"], name, repeat): {
                "model": row["model"], "item": name, "repeat": repeat, "failed": "",
                "text": row["texts"][at][repeat],
                "prompt_tokens": row["prompt_tokens"][at],
                "answer_tokens": row["answer_tokens"][at][repeat],
                "seconds": row["answer_seconds"][at][repeat],
            }
            for row in rows
            for at, name in enumerate(row["names"])
            for repeat in range(row["repeats"])
        }  # fmt: skip

    def of(self, config: dict[str, Any]) -> dict[str, Any]:
        """The row of what was asked."""
        return self.rows[config["model"], config["item"], config["repeat"]]


def compared(
    a: Row, b: Row, items: list[tasks.Item] | None = None, seed: int = 0
) -> dict[str, Any]:
    """`report.compare` of two rows on the same questions, or on some ``items`` of them.

    Raises ValueError for rows of different questions, and for questions that have changed since.
    """
    every = questions(a["task"], a["items"], a["seed"])
    if not a["asked"] == b["asked"] == digest(every):
        raise ValueError(f"{a['model']} and {b['model']}: not asked what {a['task']} asks now")
    items = every if items is None else items
    models = (Model(a["model"]), Model(b["model"]))
    plans = [run.plan(one, items, _settings(row)) for one, row in zip(models, (a, b), strict=True)]
    return report.compare(items, models, plans, Recorded([a, b]), [UNPRICED] * 2, seed)


def tokens(row: Row) -> list[tuple[int, int]]:
    """Tokens read and written of each request."""
    return [
        (read, one)
        for read, written in zip(row["prompt_tokens"], row["answer_tokens"], strict=True)
        for one in written
    ]


def load() -> list[Row]:
    """All recorded rows."""
    return records.read(STEM)


def _settings(row: Row) -> run.Settings:
    asking = Asking(most=row["most"], temperature=row["temperature"])
    return run.Settings(asking, row["repeats"], row["seed"])
