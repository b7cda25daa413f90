"""Time and energy of device work, between events of the device itself.

Work on a GPU is only queued by a call, so a clock around a call measures the queueing. Here blocks
of calls lie between two events of the device. Calls of a few microseconds come as the replay of a
CUDA graph over inputs that rotate, so that neither launching nor the last-level cache is timed. On
a CPU a processor's clock serves: there calls return when they are done.

Joules are the difference of the driver's counter of the whole card, idle draw included. It ticks
every few hundredths of a second, so a reading over less than `METERED` seconds is not given.
"""

import contextlib
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil

import torch

from .recording import Refused, Worn

REPEATS = 3  # blocks; the spread of a row is over these
STEP, KERNEL = 0.38, 0.1  # seconds a block on a GPU: three blocks of steps suffice for the meter
ON_CPU = 0.02  # seconds a block in a rehearsal
TRIAL = 0.04  # seconds of the calls that tell how many make a block
MOST = 20_000  # calls in a block
METERED = 0.75  # seconds
REPLAY = 2e-2  # seconds that the replay of a graph takes, about
LARGER = 1 << 29  # bytes that all copies of an input have together: an H200's cache has 60 MB


@dataclass(frozen=True)
class Timing:
    """Seconds a call, one figure a block, sorted; joules over all blocks where they are metered;
    the clock of the multiprocessors in MHz when the last block ended."""

    seconds: tuple[float, ...]
    calls: int  # in all blocks together
    joules: float | None = None
    clock_mhz: int | None = None

    def columns(self, unit: str, scale: float) -> dict:
        """Columns of a row: median, lowest and highest time, named by their unit."""
        times = [scale * seconds for seconds in self.seconds]
        return {
            unit: statistics.median(times),
            f"{unit}_low": times[0],
            f"{unit}_high": times[-1],
            "clock_mhz": self.clock_mhz,
        }


class Meter:
    """The energy counter and the clock of torch's current GPU, through NVML.

    A card without the counter, a machine without the package and a CPU read None.
    """

    def __init__(self, device: str):
        self.nvml = self.handle = None
        with contextlib.suppress(Exception):  # no package, no driver, no card: each in its own way
            import pynvml

            pynvml.nvmlInit()
            # Torch's numbers follow CUDA_VISIBLE_DEVICES, NVML's do not: the card's identity does.
            uuid = torch.cuda.get_device_properties(torch.cuda.current_device()).uuid
            self.handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
            self.nvml = pynvml if device == "cuda" else None

    def joules(self) -> float | None:
        with contextlib.suppress(Exception):  # the counter is in millijoules
            return self.nvml.nvmlDeviceGetTotalEnergyConsumption(self.handle) / 1e3

    def clock(self) -> int | None:
        with contextlib.suppress(Exception):
            return self.nvml.nvmlDeviceGetClockInfo(self.handle, 1)  # NVML_CLOCK_SM


def time_calls(work: Callable[[], object], device: str, target: float = STEP) -> Timing:
    """Seconds of one call of ``work``, over `REPEATS` blocks of about ``target`` seconds.

    Two calls warm up, some more tell how many make a block. The meter runs over the blocks alone.
    """
    work(), work()
    target = ON_CPU if device == "cpu" else target
    single = block(work, device, 1)
    if single < TRIAL:  # a single call also waits for the processor, and seems longer than it is
        number = int(min(TRIAL, target) / max(single, 1e-9))
        single = block(work, device, max(1, min(MOST, number)))
    number = max(1, min(MOST, ceil(target / max(single, 1e-9))))
    meter, started = Meter(device), time.monotonic()
    before = meter.joules()
    taken = sorted(block(work, device, number) for _ in range(REPEATS))
    after, clock = meter.joules(), meter.clock()
    metered = before is not None and after is not None and time.monotonic() - started >= METERED
    return Timing(tuple(taken), number * REPEATS, after - before if metered else None, clock)


def block(work: Callable[[], object], device: str, number: int) -> float:
    """Seconds of one call of ``work``, from ``number`` calls between two events of the device."""
    if device == "cpu":
        started = time.perf_counter()
        for _ in range(number):
            work()
        return (time.perf_counter() - started) / number
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(number):
        work()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3 / number  # the events count milliseconds


def time_rotating(calls: Sequence[Callable[[], object]], device: str) -> Timing:
    """Seconds of one call, from replays of one CUDA graph of all ``calls``, each over its inputs.

    Without a graph on a CPU. Raises `Refused` and `Worn` as `capture` does.
    """

    def everything():
        for call in calls:
            call()

    work, number = everything, len(calls)
    if device == "cuda":
        for _ in range(3):  # kernels are compiled before one is captured
            everything()
        rounds = max(1, min(20, int(REPLAY / block(everything, device, 1))))
        work = capture(lambda: [everything() for _ in range(rounds)]).replay
        number *= rounds
    took = time_calls(work, device, KERNEL)
    each = tuple(seconds / number for seconds in took.seconds)
    return replace(took, seconds=each, calls=took.calls * number)


def copies(size: float, device: str) -> int:
    """Copies of an input of ``size`` bytes, so that together they pass any cache; two on a CPU.

    As many as fit where fewer do. Raises `Refused` if not even one does.
    """
    if device == "cpu":
        return 2
    free = torch.cuda.mem_get_info()[0] * 0.85
    if size > free:
        raise Refused(f"{size / 1e9:.0f} GB do not fit")
    return int(min(-(-LARGER // int(size)), 64, free // size))


def capture(work: Callable[[], object]):
    """A CUDA graph of ``work``, which must have run before; what it allocates is the graph's own.

    A capture that breaks off leaves torch's allocator in pieces, so ``work`` first runs once while
    torch forbids waiting for the device, which is what breaks most. Raises `Refused` if it waits,
    `Worn` if the capture breaks off all the same. Memory that ``work`` reads must be held by
    someone as long as the graph is replayed.
    """
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        work()
    except RuntimeError as error:
        if "synchroniz" not in str(error):
            raise
        raise Refused("a step waits for the GPU in its middle, so no graph holds it") from None
    finally:
        torch.cuda.set_sync_debug_mode("default")
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            work()
    except RuntimeError as error:  # torch.OutOfMemoryError is one
        raise Worn(f"the capture broke off: {error}") from None
    return graph
