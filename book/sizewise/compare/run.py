"""Asks what has no answer yet: each item, of each model, as often as it is to be repeated."""

import hashlib
import json
import os
import queue
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sizewise.data import records

from .endpoint import Asking, Client, Refused, Reply, hint
from .models import Model
from .task import Item

SAME = 3  # refusals of one kind, before any answer, after which all would be refused
SAME_PASSING = 20  # the same for failures that might have passed, and in a row after answers
TRIED = "after # tries"  # so ends the reason of a failure that might have passed
BLOCK = 20  # items between two looks at whether the question is decided
Plan = list["Question"]
START = b'{"id": "'  # of every row
NEEDED = {"item", "repeat", "text", "failed", "seconds", "prompt_tokens", "answer_tokens"}


class Answers:
    """A file of answers, one JSON object a line, so that a run goes on where the last one stopped.

    A context: one process at a time writes. A row's ``id`` is a hash of what was asked: the model
    and where it sits, the item's words, the settings, the number of the repeat. How an answer is
    marked is not part of it, so a task can be marked by another rule without asking again.
    """

    def __init__(self, file: Path):
        self.file = file
        self.out = -1
        self.rows: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> "Answers":
        self.out = records.open_locked(self.file, 0o600)
        try:
            for row in records.read(self.file):
                self._keep(row)
            records.end_last_line(self.out, self.file, START)
        except OSError as error:
            os.close(self.out)
            raise ValueError(f"{self.file}: cannot be read ({error.strerror})") from None
        except BaseException:
            os.close(self.out)
            raise
        return self

    def __exit__(self, *error) -> None:
        os.close(self.out)

    def add(self, config: dict[str, Any], reply: dict[str, Any]) -> dict[str, Any]:
        """Write one row, whole or not at all, and return it."""
        row = {"id": records.identity(config), **config, **reply}
        line = json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"
        records.write_line(self.out, self.file, line)
        self._keep(row)
        return row

    def has(self, config: dict[str, Any]) -> bool:
        """Whether this was asked and answered. What failed is asked again."""
        row = self.rows.get(records.identity(config))
        return row is not None and not row["failed"]

    def row(self, config: dict[str, Any]) -> dict[str, Any] | None:
        """The row of what was asked."""
        return self.rows.get(records.identity(config))

    def _keep(self, row: dict[str, Any]) -> None:
        if not isinstance(row.get("id"), str) or not row.keys() >= NEEDED:
            raise ValueError(f"{self.file}: holds rows that are no answers; name another --output")
        before = self.rows.get(row["id"])
        if before is None or before["failed"]:  # an answer stays, whatever fails later
            self.rows[row["id"]] = row


@dataclass(frozen=True)
class Settings:
    """What is the same for both models."""

    options: Asking = field(default_factory=Asking)
    repeats: int = 1
    seed: int = 0
    concurrency: int = 4  # questions at once, at an endpoint
    device: str = "cpu"  # of a local model
    dtype: str = "fp32"
    wordings: int = 1  # 0: as the file has them, without a form of answer


@dataclass(frozen=True)
class Question:
    """One request: an item, put to a model for the nth time. ``config`` is its identity."""

    item: Item
    repeat: int
    config: dict[str, Any]
    prompt: str
    wording: int = 0


@dataclass
class Watch:
    """What a caller wants to hear of while it is asked; the functions of this one do nothing."""

    started: Callable[[Plan], Any] = lambda todo: None
    replied: Callable[[Question, Reply], Any] = lambda question, reply: None
    # whether no more need be asked, given the plans so far and the answers
    enough: Callable[[list[Plan], Answers], bool] | None = None


def plan(model: Model, items: list[Item], settings: Settings) -> Plan:
    """All requests to a model, repeats last, so that a run cut short has most of the items."""
    options = settings.options
    fixed: dict[str, Any] = {
        "model": model.name,
        "endpoint": model.place,
        "most": options.max_tokens,
        "temperature": options.temperature,
    }
    if not model.url:
        from sizewise.models import load

        from .local import fingerprint

        state = fingerprint(load.find(model.name))
        fixed |= {"weights": state, "dtype": settings.dtype, "seed": settings.seed}
    questions = []
    for repeat in range(settings.repeats):
        for wording in range(max(1, settings.wordings)):
            for item in items:
                prompt = item.wording(wording) if settings.wordings else item.prompt
                requested = json.dumps([options.system, prompt])
                digest = hashlib.sha256(requested.encode("utf-8", "surrogatepass")).hexdigest()[:16]
                config = {"item": item.name, "repeat": repeat, **fixed, "asked": digest}
                questions.append(Question(item, repeat, config, prompt, wording))
    return questions


def ask_all(
    models: tuple[Model, ...],
    items: list[Item],
    settings: Settings,
    file: Path,
    watch: Watch | None = None,
) -> tuple[Answers, list[Plan]]:
    """Answers of the models to all items, those that ``file`` had and those asked now.

    Each answer is in ``file`` before the next is waited for. With ``watch.enough``, items are
    asked in blocks, of all models in turn, until it says so; the plans returned are of these.
    Raises ValueError for a file that is none of ours, a local model that cannot be loaded, and an
    endpoint that refuses all questions.
    """
    watch = watch or Watch()
    size = BLOCK if watch.enough else len(items)
    local: dict[Model, Any] = {}
    plans: list[Plan] = [[] for _ in models]
    with Answers(file) as answers:
        every = [plan(model, items, settings) for model in models]
        watch.started([q for entry in every for q in entry if not answers.has(q.config)])
        for start in range(0, len(items), size):
            names = {item.name for item in items[start : start + size]}
            for model, questions, done in zip(models, every, plans, strict=True):
                block = [question for question in questions if question.item.name in names]
                todo = [question for question in block if not answers.has(question.config)]
                hopeful = any(answers.has(question.config) for question in questions)
                for question, reply in _replies(model, todo, settings, hopeful, local):
                    answers.add(question.config, vars(reply))
                    watch.replied(question, reply)
                done += block
            if watch.enough and watch.enough(plans, answers):
                break
    return answers, plans


def _replies(model: Model, todo: Plan, settings: Settings, hopeful: bool, local: dict) -> Iterator:
    """Pairs of question and reply as they come. Raises Refused where many fail in one way."""
    if not todo:
        return
    if model.url:
        failures: Counter[str] = Counter()
        for question, reply in _from_endpoint(model, todo, settings):
            yield question, reply
            if not reply.failed:
                hopeful = True
                failures.clear()
                continue
            # without what differs from one request to the next: numbers, names of requests
            kind = re.sub(r"\S*\d\S*", "#", reply.failed)
            failures[kind] += 1
            limit = SAME_PASSING if hopeful or kind.endswith(TRIED) else SAME
            if failures[kind] >= limit:
                which = "last" if hopeful else "first"
                option = hint(reply.failed)
                raise Refused(
                    f"{model}: the {which} {failures[kind]} of {len(todo)} requests all failed: "
                    f"{reply.failed}" + (f"; try {option}" if option else "")
                )
        return
    if model not in local:
        from sizewise.models import load

        from .local import Local

        local[model] = Local(
            load.find(model.name), settings.options, settings.device, settings.dtype
        )
    for question in todo:
        yield question, local[model].ask(question.prompt, draw_seed(question, settings.seed))


def _from_endpoint(model: Model, todo: Plan, settings: Settings) -> Iterator:
    """Pairs of question and reply as they come.

    The threads are daemons: Ctrl-C does not wait for requests that are under way.
    """
    waiting = iter(todo)  # shared: a list's iterator gives each question to one thread
    # No longer than what is under way: workers must not run ahead of the look at failures.
    done: queue.Queue = queue.Queue(settings.concurrency)
    stop = threading.Event()

    def work() -> None:
        client = Client(model, settings.options, sleep=stop.wait)
        for question in waiting:
            try:
                done.put((question, client.ask(question.prompt)))
            except Exception as error:  # the run ends with it, in the thread that waits
                done.put((question, error))
                return
            if stop.is_set():
                return

    for _ in range(min(settings.concurrency, len(todo))):
        threading.Thread(target=work, daemon=True).start()
    try:
        for _ in todo:
            question, reply = done.get()
            if isinstance(reply, Exception):
                raise reply
            yield question, reply
    finally:
        stop.set()
        while not done.empty():  # a worker that waits to hand over sees the end
            done.get_nowait()


def draw_seed(question: Question, seed: int) -> int:
    """A seed of its own for each draw: a run that was stopped draws what it would have drawn."""
    text = f"{seed} {question.item.name} {question.repeat}"
    if question.wording:
        text += f" {question.wording}"
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:6], "big")
