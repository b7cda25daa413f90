"""What a sweep shows while it runs: the last rows, what is done, and the time that is left."""

import time
from collections import deque
from collections.abc import Callable
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

LAST = 8  # rows in sight
WORDS = 8  # values of a configuration in sight
LONG = 60  # characters of a value


class Progress:
    """A live table on a terminal; elsewhere one plain line a row, for logs."""

    def __init__(
        self,
        todo: list[dict[str, Any]],
        cost: Callable[[dict[str, Any]], float] | None = None,
        console: Console | None = None,
    ):
        self.cost = cost or (lambda config: 1.0)
        self.number, self.all = len(todo), sum(map(self.cost, todo))
        self.names = _distinguishing(todo)
        self.ended, self.spent, self.bad = 0, 0.0, 0
        self.last: deque[tuple[str, str]] = deque(maxlen=LAST)
        self.started = time.monotonic()
        self.console = console or Console(stderr=True)
        self.live = Live(console=self.console, get_renderable=self.table, refresh_per_second=2)

    def __enter__(self) -> "Progress":
        if self.console.is_terminal:
            self.live.start()
        return self

    def __exit__(self, *error) -> None:
        if self.console.is_terminal:
            self.live.stop()

    def done(self, config: dict[str, Any], row: dict[str, Any]) -> None:
        """A run has a row."""
        measured = {k: v for k, v in row.items() if k not in config and k not in ("id", "from")}
        self._ended(config, "  ".join(f"{k} {_short(v)}" for k, v in measured.items()))

    def failed(self, config: dict[str, Any], error: Exception) -> None:
        """A run has none, and will have none."""
        self.bad += 1
        self._ended(config, f"failed: {error}")

    def seconds_left(self) -> float | None:
        """Time left at the pace so far, by cost; None before the first run ends."""
        if not self.spent:
            return None
        return (time.monotonic() - self.started) / self.spent * (self.all - self.spent)

    def table(self) -> Group:
        """The last rows and a line of totals."""
        rows = Table("run", "measured", expand=True, box=None)
        for run, measured in self.last:
            rows.add_row(Text(run), Text(measured, overflow="ellipsis", no_wrap=True))
        return Group(rows, Text(self._totals()))

    def _ended(self, config: dict[str, Any], result: str) -> None:
        self.ended += 1
        self.spent += self.cost(config)
        run = "  ".join(f"{name} {_short(config.get(name))}" for name in self.names)
        self.last.append((run, result))
        if not self.console.is_terminal:
            self.console.print(Text(f"[{self._totals()}] {run}: {result}"), soft_wrap=True)

    def _totals(self) -> str:
        left = self.seconds_left()
        bad = f", {self.bad} failed" if self.bad else ""
        return f"{self.ended} of {self.number}{bad}, {_clock(left)} left"


def _distinguishing(todo: list[dict[str, Any]]) -> list[str]:
    """The fields that differ between runs; all where nothing does."""
    names = list(dict.fromkeys(name for config in todo for name in config))
    varying = [name for name in names if len({repr(config.get(name)) for config in todo}) > 1]
    return (varying or names)[:WORDS]


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    text = str(value)
    if isinstance(value, list | dict | str) and len(text) > LONG:
        return f"{text[:LONG]}..."  # an answer to each of fifty questions, say
    return text


def _clock(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    minutes, secs = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{secs:02}" if hours else f"{minutes}:{secs:02}"
