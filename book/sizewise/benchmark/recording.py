"""Rows of one device, one after another in this process, until all are there or the time is up.

What a device cannot do becomes a row that says why. A row that leaves the process unusable, that
hangs, or in which the process dies costs itself alone: the same command, given again, goes on after
it. So the loop around the command is the shell's (data/gpu.md).
"""

import math
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

from sizewise.data import records
from sizewise.models.config import one_line

BUGS = (TypeError, AttributeError, NameError, LookupError, AssertionError, ImportError)


class Refused(ValueError):
    """What this device cannot do, or what may not be timed: a row that says so."""


class Worn(RuntimeError):
    """What this device cannot do, and after which the process is good for nothing more."""


def demand(rows: list[dict], limit: float, **check) -> None:
    """Raise `Refused` unless the rows of a ``check`` ran and none erred by more than ``limit``;
    LookupError, which leaves no row, where there are none yet."""
    checks = [row for row in rows if check.items() <= row.items()]
    if not checks:
        raise LookupError("its check is still to come")
    for row in checks:
        if row["refused"]:
            raise Refused(f"not timed: it does not run here ({row['refused']})")
        refuse_over(row["error"], limit)


def refuse_over(error: float, limit: float) -> None:
    """Raise `Refused` for an error above ``limit``, or none that is a number."""
    if not error <= limit:
        raise Refused(f"not timed: its error against float64 is {error:.2g}, over {limit:g}")


def record(
    configs: list[dict],
    file: Path,
    measure: Callable[[dict], dict],
    *,
    cost: Callable[[dict, dict | None], float],
    end: float = float("inf"),
    limit: int = 180,
) -> tuple[int, bool]:
    """Append the rows that ``file`` lacks, in order: (rows still missing, process unusable).

    ``cost(config, the one before)`` is the seconds that a row may take; one that would not be done
    by ``end`` (of `time.monotonic`) is not begun. After ``limit`` seconds a row ends the process.
    What `measure` raises is a row with the reason as ``refused``; but an error of `BUGS` says
    nothing about the device, so that it leaves no row and the next command tries again.
    """
    with records.writing(file) as rows:
        todo, before, worn = rows.missing(configs), None, False
        for number, config in enumerate(todo, 1):
            left, price = end - time.monotonic(), cost(config, before)
            if left < price:
                say(f"{left:.0f} s left, the next row may take {price:.0f} s")
                break
            started = time.monotonic()
            name = " ".join(str(value) for key, value in config.items() if key != "device")
            try:
                measured, worn = _attempt(config, file.with_suffix(".begun"), measure, limit)
            except BUGS as error:
                say(f"[{number}/{len(todo)}] {name}: {type(error).__name__}: {one_line(error)}")
                continue
            rows.append(config, measured, records.provenance(seed=config.get("seed", 0)))
            numbers = [f"{k} {v:.4g}" for k, v in measured.items() if isinstance(v, float)]
            result = measured["refused"] or "  ".join(numbers[:5])
            say(f"[{number}/{len(todo)}] {name} ({time.monotonic() - started:.1f} s): {result}")
            before = config
            if worn:
                say("this process can measure no more: the same command goes on")
                break
        return len(rows.missing(configs)), worn


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _attempt(config: dict, begun: Path, measure: Callable, limit: int) -> tuple[dict, bool]:
    """(measurements with ``refused``, whether the process is unusable).

    The row's name stands in ``begun`` while it is measured, so that the next process knows which
    row its forerunner died in.
    """
    name = records.identity(config)
    if begun.exists() and begun.read_text() == name:
        begun.unlink()
        return {"refused": f"its process died, or it was not done within {limit} s"}, False
    begun.write_text(name)
    signal.alarm(limit)  # its default is to end the process, even within a call of a library
    try:
        measured = measure(config)
        for key, value in measured.items():
            if isinstance(value, float) and not math.isfinite(value):
                return {"refused": f"{key} is {value}"}, False
        return {**measured, "refused": None}, False
    except BUGS:
        raise
    except Worn as error:
        return {"refused": one_line(error)}, True
    except Exception as error:  # compilers and libraries have no common base of their errors
        return {"refused": one_line(error)}, "CUDA error" in str(error)
    finally:
        signal.alarm(0)
        begun.unlink(missing_ok=True)
