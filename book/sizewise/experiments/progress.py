"""What a sweep says while it runs: a line for each run that ends, with the time that is left."""

import sys
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

Config = dict[str, Any]
WORDS = 8  # values of a configuration in a line
LONG = 60  # characters of a value


class Progress:
    """Lines on stderr. ``cost`` weighs the runs in the time left; one is like another without."""

    def __init__(self, todo: list[Config], cost: Callable[[Config], float] | None = None):
        self.cost = cost or (lambda config: 1.0)
        self.number, self.all = len(todo), sum(map(self.cost, todo))
        self.names = _distinguishing(todo)
        self.ended, self.spent, self.bad = 0, 0.0, 0
        self.started = time.monotonic()

    def done(self, config: Config, row: Config) -> None:
        """A run has a row."""
        measured = {k: v for k, v in row.items() if k not in config and k not in ("id", "from")}
        self._ended(config, "  ".join(f"{k} {_short(v)}" for k, v in measured.items()))

    def failed(self, config: Config, error: Exception) -> None:
        """A run has none, and will have none."""
        self.bad += 1
        self._ended(config, f"failed: {error}")

    def seconds_left(self) -> float:
        """Time left at the pace so far, by cost."""
        return (time.monotonic() - self.started) / (self.spent or 1.0) * (self.all - self.spent)

    def _ended(self, config: Config, result: str) -> None:
        self.ended += 1
        self.spent += self.cost(config)
        left = timedelta(seconds=round(self.seconds_left()))
        bad = f", {self.bad} failed" if self.bad else ""
        run = "  ".join(f"{name} {_short(config.get(name))}" for name in self.names)
        line = f"[{self.ended} of {self.number}{bad}, {left} left] {run}: {result}"
        print(line, file=sys.stderr, flush=True)


def _distinguishing(todo: list[Config]) -> list[str]:
    """The fields that differ between runs; all where nothing does."""
    names = list(dict.fromkeys(name for config in todo for name in config))
    varying = [name for name in names if len({repr(config.get(name)) for config in todo}) > 1]
    return (varying or names)[:WORDS]


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = str(value)
    return text if len(text) <= LONG else f"{text[:LONG]}..."  # answers to fifty questions, say
