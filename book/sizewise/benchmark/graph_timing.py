"""Time of calls of a few microseconds: many of them in one CUDA graph, over inputs that rotate.

A call this short is over before the processor has queued the next one, and an input that is read
again and again stays in the last-level cache. So copies of the input, together far larger than
that cache, each get a call of their own, and rounds of all calls are captured and replayed.
"""

import statistics
from collections.abc import Callable, Sequence

from . import cuda_graphs, timing

SAMPLE = 2e-2  # seconds that a replay takes, about
REPEATS = 15
FEWER = 7  # where a replay takes longer than 50 ms
LARGER = 1 << 29  # bytes that all copies have together: an H200's cache has 60 MB
AHEAD = 2e-3  # seconds the device is held while the processor launches a graph


def timed(calls: Sequence[Callable[[], object]], device: str) -> dict[str, float | None]:
    """Microseconds a call: ``us``, median, ``us_low`` and ``us_high`` over replays of a graph of
    all ``calls``, and ``us_launched``, the median when Python launches them one by one.

    On a CPU the clock's times, and no ``us_launched``. Raises `graphs.NotCaptured`.
    """
    if timing.on(device) == "cpu":
        return _spread([_each(calls, device) for _ in range(3)]) | {"us_launched": None}
    for _ in range(3):
        _run(calls)
    cuda_graphs.without_waiting(lambda: _run(calls))
    once = _each(calls, device) / 1e6
    rounds = max(1, min(20, int(SAMPLE / (once * len(calls)))))
    repeats = REPEATS if once * len(calls) * rounds < 5e-2 else FEWER
    everything = list(calls) * rounds
    launched = statistics.median(_each(everything, device) for _ in range(5))
    graph = cuda_graphs.captured(lambda: _run(everything))
    for _ in range(2):
        graph.replay()
    taken = [_replayed(graph, device) / len(everything) for _ in range(repeats)]
    return _spread(taken) | {"us_launched": launched}


def copies(one: float, device: str) -> int:
    """Copies of an input of ``one`` bytes, so that together they pass any cache; two on a CPU.

    As many as fit where fewer do. Raises RuntimeError if not even one does.
    """
    if timing.on(device) == "cpu":
        return 2
    import torch

    wanted = max(2, -(-LARGER // int(one)))
    free = torch.cuda.mem_get_info()[0] * 0.85
    if one > free:
        raise RuntimeError(f"{one / 1e9:.0f} GB do not fit")
    return int(min(wanted, free // one))


def _run(calls) -> None:
    for call in calls:
        call()


def _each(calls, device: str) -> float:
    """Microseconds a call, all of them run once."""
    timing.wait(device)
    return 1e6 * timing.block(lambda: _run(calls), device, 1) / len(calls)


def _replayed(graph, device: str) -> float:
    """Microseconds of a replay that the device finds queued when it begins."""
    timing.wait(device)
    timing.hold(AHEAD)
    return 1e6 * timing.block(graph.replay, device, 1)


def _spread(taken: list[float]) -> dict[str, float]:
    return {"us": statistics.median(taken), "us_low": min(taken), "us_high": max(taken)}
