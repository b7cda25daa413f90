"""Asks what has no answer yet: each item, of each model, as often as it is to be repeated."""

import hashlib
import json
import queue
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .endpoint import Asking, Client, Reply
from .models import Model
from .rows import Answers
from .task import Item

LOOK = 0.2  # seconds between looks for Ctrl-C


@dataclass(frozen=True)
class Settings:
    """What is the same for both models."""

    asking: Asking = field(default_factory=Asking)
    repeats: int = 1
    seed: int = 0
    concurrency: int = 4  # questions at once, at an endpoint
    device: str = "cpu"  # of a local model
    dtype: str = "fp32"


@dataclass(frozen=True)
class Question:
    """One request: an item, put to a model for the nth time. ``config`` is its identity."""

    item: Item
    repeat: int
    config: dict[str, Any]


def plan(model: Model, items: list[Item], settings: Settings) -> list[Question]:
    """All requests to a model, repeats last, so that a run cut short has most of the items."""
    asking = settings.asking
    fixed: dict[str, Any] = {
        "model": model.name,
        "endpoint": model.place,
        "most": asking.most,
        "temperature": asking.temperature,
    }
    if not model.url:
        from sizewise.models import load

        from .local import fingerprint

        state = fingerprint(load.find(model.name))
        fixed |= {"weights": state, "dtype": settings.dtype, "seed": settings.seed}
    found = []
    for repeat in range(settings.repeats):
        for item in items:
            asked = json.dumps([asking.system, item.prompt])
            digest = hashlib.sha256(asked.encode("utf-8", "surrogatepass")).hexdigest()[:16]
            config = {"item": item.name, "repeat": repeat, **fixed, "asked": digest}
            found.append(Question(item, repeat, config))
    return found


def ask_all(
    models: tuple[Model, Model],
    items: list[Item],
    settings: Settings,
    file: Path,
    told: Callable[[Question, Reply], None] | None = None,
    started: Callable[[list[Question]], None] | None = None,
) -> tuple[Answers, list[list[Question]]]:
    """Answers of both models to all items, those that ``file`` had and those asked now.

    Each answer is in ``file`` before the next is waited for. ``started`` is given what will be
    asked, ``told`` each answer. Raises ValueError for a file that is none of ours, a local model
    that cannot be loaded, and an endpoint that refuses all questions.
    """
    plans = [plan(model, items, settings) for model in models]
    with Answers(file) as answers:
        todo = [[one for one in some if not answers.has(one.config)] for some in plans]
        if started:
            started([one for some in todo for one in some])
        for model, some in zip(models, todo, strict=True):
            for question, reply in _asked(model, some, settings):
                answers.add(question.config, reply.as_dict())
                if told:
                    told(question, reply)
    return answers, plans


def _asked(model: Model, todo: list[Question], settings: Settings) -> Iterator:
    if not todo:
        return
    if model.url:
        yield from _from_endpoint(model, todo, settings)
    else:
        from sizewise.models import load

        from .local import Local

        local = Local(load.find(model.name), settings.asking, settings.device, settings.dtype)
        for one in todo:
            yield one, local.ask(one.item.prompt, draw_seed(one, settings.seed))


def _from_endpoint(model: Model, todo: list[Question], settings: Settings) -> Iterator:
    """Pairs of question and reply as they come.

    The threads are daemons: Ctrl-C does not wait for requests that are under way.
    """
    waiting: queue.Queue = queue.Queue()
    for one in todo:
        waiting.put(one)
    done: queue.Queue = queue.Queue()
    stop = threading.Event()

    def work() -> None:
        client = Client(model, settings.asking, sleep=stop.wait)
        while not stop.is_set():
            try:
                one = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                done.put((one, client.ask(one.item.prompt)))
            except Exception as error:  # the run ends with it, in the thread that waits
                done.put((one, error))
                return

    for _ in range(min(settings.concurrency, len(todo))):
        threading.Thread(target=work, daemon=True).start()
    try:
        for _ in todo:
            one, reply = _next(done)
            if isinstance(reply, Exception):
                raise reply
            yield one, reply
    finally:
        stop.set()


def _next(done: queue.Queue):
    while True:
        try:
            return done.get(timeout=LOOK)
        except queue.Empty:
            continue


def draw_seed(one: Question, seed: int) -> int:
    """A seed of its own for each draw: a run that was stopped draws what it would have drawn."""
    words = f"{seed} {one.item.name} {one.repeat}".encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.sha256(words).digest()[:6], "big")
