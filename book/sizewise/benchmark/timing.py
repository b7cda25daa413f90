"""Time of device work: blocks of calls between two events, with the queue empty at both ends.

Work on a GPU is only queued by a call, so a clock around a call measures the queueing. Here a
block of calls is put between two events of the device itself; a processor's clock serves on the
CPU, where calls return when they are done.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

from . import energy

REPEATS = 3  # blocks; the spread of a row is over these
LEAST = 0.38  # seconds a block takes, about: all of them together are long enough for the meter
TRIAL = 0.04  # seconds of the calls that tell how many make a block
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
    """Seconds of one call of ``work``, over ``repeats`` blocks of about ``least`` seconds.

    Two calls warm up, some more tell how many make a block. The meter runs over the blocks alone.
    Raises ValueError for fewer than three repeats, which show no spread.
    """
    if repeats < 3:
        raise ValueError(f"a spread needs at least 3 repeats, got {repeats}")
    work(), work()
    wait(device)
    item = block(work, device, 1)
    if item < TRIAL:  # a single call also waits for the processor, and seems longer than it is
        item = block(work, device, max(1, min(MOST, int(min(TRIAL, least) / max(item, 1e-9)))))
    number = max(1, min(MOST, ceil(least / max(item, 1e-9))))
    meter = energy.Meter(device)
    taken = sorted(block(work, device, number) for _ in range(repeats))
    return Timing(tuple(taken), number * repeats, meter.joules())


def reset_peak(device: str) -> None:
    """Let `peak` count from here."""
    if on(device) == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()


def peak(device: str) -> int | None:
    """Most bytes that torch's allocator held at once; None on a CPU: not measured."""
    if on(device) == "cpu":
        return None
    import torch

    return torch.cuda.max_memory_allocated()


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
