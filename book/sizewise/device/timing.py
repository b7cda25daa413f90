"""Time of device work: blocks of calls between two events, with the queue empty at both ends.

Work on a GPU is only queued by a call, so a clock around a call measures the queueing. Here a
block of calls is put between two events of the device itself; a processor's clock serves on the
CPU, where calls return when they are done.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from . import energy

REPEATS = 5  # blocks; the spread of a row is over these
LEAST = 0.3  # seconds a block takes at least
MOST = 20_000  # calls in a block
CLOCK = 2e9  # cycles a second, at most, of a GPU: makes a pause long enough


@dataclass(frozen=True)
class Timing:
    """Seconds a call, one figure a block, sorted; joules over all blocks where they are metered."""

    seconds: tuple[float, ...]
    calls: int  # in all blocks together
    joules: float | None

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def low(self) -> float:
        return self.seconds[0]

    @property
    def high(self) -> float:
        return self.seconds[-1]


def on(device: str) -> str:
    """ "cuda" or "cpu" for anything that names a device of either."""
    return "cuda" if str(device).startswith("cuda") else "cpu"


def wait(device: str) -> None:
    """Return when the device has done all that was queued."""
    if on(device) == "cuda":
        import torch

        torch.cuda.synchronize()


def hold(seconds: float) -> None:
    """Let the GPU idle for at least ``seconds``, while the processor queues what comes next."""
    import torch

    torch.cuda._sleep(int(seconds * CLOCK))


def time_calls(
    work: Callable[[], object], device: str, repeats: int = REPEATS, least: float = LEAST
) -> Timing:
    """Seconds of one call of ``work``, over ``repeats`` blocks of at least ``least`` seconds.

    Two calls warm up, two more tell how many make a block. The meter runs over the blocks alone.
    Raises ValueError for fewer than three repeats, which show no spread.
    """
    if repeats < 3:
        raise ValueError(f"a spread needs at least 3 repeats, got {repeats}")
    work(), work()
    wait(device)
    started = time.perf_counter()
    work(), work()
    wait(device)
    one = (time.perf_counter() - started) / 2
    number = max(1, min(MOST, round(least / max(one, 1e-9))))
    meter = energy.Meter(device)
    taken = sorted(block(work, device, number) for _ in range(repeats))
    return Timing(tuple(taken), number * repeats, meter.joules())


def block(work: Callable[[], object], device: str, number: int) -> float:
    """Seconds of one call of ``work``, from ``number`` calls between two events of the device."""
    if on(device) == "cpu":
        started = time.perf_counter()
        for _ in range(number):
            work()
        return (time.perf_counter() - started) / number
    import torch

    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(number):
        work()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3 / number  # the events count milliseconds
