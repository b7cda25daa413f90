"""Rows of a device, one after another, until they are all there or the time is up.

Unlike `engine`, which spreads independent runs over workers, this keeps one worker on one device
in a fixed order, so that a model loaded for one row serves the next, and stops by the clock. The
worker is a process of its own: what kills it, or leaves its device unusable, costs one row.
"""

import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sizewise.data import records
from sizewise.experiments import workers
from sizewise.experiments.workers import Worker

TIME_UP = "stopped: the time is up"
LATE = "stopped: not done after"  # the beginning of what ends a row that reached its own limit
PATIENCE = 4  # failures in a row, each of which costs a new worker
WORN = "worn"  # measurements with this are the last that their worker is good for
HELLO = {"kind": "device"}  # the first thing a worker is asked: what it runs on


@dataclass
class Ended:
    """What a recording came to: rows written, failed configurations, and rows still wanted."""

    recorded: int = 0
    failed: int = 0
    left: int = 0


class Recording:
    """One worker, its device, and the clock. A context: the worker ends with it.

    ``measure`` is a function of a module or of the script itself, from a configuration to
    measurements; asked `HELLO`, it gives the device's name and sizes. ``minutes`` None: no limit.
    Raises ValueError if the worker cannot say what it runs on.
    """

    def __init__(
        self, measure: Callable, minutes: float | None = None, environment: dict | None = None
    ):
        self.measure = measure
        self.end = None if minutes is None else time.monotonic() + 60 * minutes
        self.start = records.provenance()  # the code that is loaded is the code of now
        dirty = "-dirty" if self.start["dirty"] else ""
        self.environment = {"SIZEWISE_COMMIT": self.start["commit"] + dirty, **(environment or {})}
        self.worker = Worker(partial(workers.answer, measure), self.environment)
        self.place: dict = {}

    def __enter__(self) -> "Recording":
        try:
            answer = self.ask(HELLO)
            if isinstance(answer, str):
                raise ValueError(f"no device to measure: {answer}")
        except BaseException:
            self.worker.stop()
            raise
        self.device = answer
        return self

    def __exit__(self, *error) -> None:
        self.worker.stop()

    def seconds_left(self) -> float | None:
        """None without a limit."""
        return None if self.end is None else self.end - time.monotonic()

    def ask(self, config: dict, limit: float | None = None):
        """Measurements of a configuration, or words for what went wrong; then a new worker.

        A row that takes longer than ``limit`` seconds is over: it ends as `LATE`, and has nothing
        else.
        """
        self.worker.give(config)
        times = [item for item in (self.seconds_left(), limit) if item is not None]
        if times and not self.worker.pipe.poll(max(min(times), 0)):
            self.worker.stop()
            self.worker = Worker(partial(workers.answer, self.measure), self.environment)
            late = min(times) == limit
            return {"ended": f"{LATE} {limit:.0f} s"} if late else TIME_UP
        message = self.worker.take()
        result = message and message[1]
        if message is None:
            words = f"failed: its process died (exit code {self.worker.process.exitcode})"
        elif isinstance(result, Exception):
            words = f"failed: {result}"
        else:
            measured, self.place = result
            if not measured.pop(WORN, False):
                return measured
            words = measured
        self.worker.stop()
        self.worker = Worker(partial(workers.answer, self.measure), self.environment)
        return words

    def run(
        self,
        configs: list[dict],
        file: Path,
        *,
        cost: Callable[[dict, dict | None], float],
        after: Callable[[dict, list[dict]], dict] = lambda row, rows: {},
        limit: Callable[[dict], float | None] = lambda config: None,
        seed: int | None = None,
        say: Callable[[str], None] = lambda words: print(words, file=sys.stderr, flush=True),
    ) -> Ended:
        """Append the rows that ``file`` lacks, in order, while the time lasts.

        ``cost(config, the one before)``: seconds that a row may take. A row that does not fit in
        what is left is not begun. ``after(config and measurements, rows so far)`` adds columns.
        ``limit(config)``: seconds after which a row is given up for good and recorded as such,
        since what hangs would hang again. ``seed`` is told of rows whose configuration has none.
        What fails has no row, so that the next command tries it again; after `PATIENCE` failures
        in a row nothing more is tried.
        """
        with records.writing(file) as rows:
            todo, ended, before, bad = rows.missing(configs), Ended(), None, 0
            for position, config in enumerate(todo, 1):
                left, wanted = self.seconds_left(), cost(config, before)
                if left is not None and left < wanted:
                    say(f"{left:.0f} s left, the next row may take {wanted:.0f} s")
                    break
                started = time.monotonic()
                measured = self.ask(config, limit(config))
                messages = " ".join(str(item) for name, item in config.items() if name != "device")
                label = f"[{position}/{len(todo)}] {messages} ({time.monotonic() - started:.1f} s)"
                before = config
                if isinstance(measured, str):
                    say(f"{label}: {measured}")
                    if measured == TIME_UP:
                        break
                    ended.failed, before, bad = ended.failed + 1, None, bad + 1
                    if bad == PATIENCE:
                        say(f"{PATIENCE} failures in a row: given up")
                        break
                    continue
                bad = 0
                if str(measured.get("ended", "")).startswith(LATE):
                    before = None  # what it had loaded is gone with its worker
                measured |= after(config | measured, records.read(file))
                source = records.provenance(seed=config.get("seed", seed))
                same = {name: self.start[name] for name in ("commit", "dirty")}
                same["command"] = _without_folder(source["command"], file)
                rows.append(config, measured, source | same | self.place)
                ended.recorded += 1
                say(f"{label}: {summary(measured)}")
            ended.left = len(rows.missing(configs))
        return ended


def _without_folder(command: str, file: Path) -> str:
    """A command in which an absolute path to ``file`` is its name alone: rows do not tell where a
    person keeps files.
    """
    words = [
        file.name
        if file.is_absolute() and word == str(file)
        else word.replace(f"={file}", f"={file.name}")
        if file.is_absolute()
        else word
        for word in shlex.split(command)
    ]
    return shlex.join(words)


def summary(measured: dict) -> str:
    """The plain numbers of a row in a line."""
    messages = []
    for name, value in measured.items():
        if isinstance(value, float):
            messages.append(f"{name} {value:.4g}")
        elif isinstance(value, int | str):
            messages.append(f"{name} {value}")
    return "  ".join(messages[:8])
