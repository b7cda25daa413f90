"""The kernels of a step, as a profiler sees them: how many, of what kind, and the gaps between.

What a step takes above its floor is in one of these: products that reach less than the ceiling,
work beside the products, or a device that waits. On a CPU operations of torch stand in for kernels,
so that the same columns come out of any machine.
"""

import re
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from . import decode, timing
from .model import Built

# By the first that fits. Attention first: its names also name the product's library; then codes,
# since the kernels around an int8 product bear the name of the product too.
GROUPS = {
    "attention": re.compile(r"attention|flash|fmha|sdpa", re.I),
    "dequantize": re.compile(r"quant|int8_mixed|int8_scaled", re.I),
    "matmul": re.compile(
        r"gemm|gemv|matmul|cutlass|nvjet|cublas|igemm|splitk|wgmma|xmma|dot_kernel|int8_linear"
        r"|::(_int_)?(b|add)?mm|::linear",
        re.I,
    ),
    "copy": re.compile(r"memcpy|memset", re.I),
}
REST = "elementwise"
STEPS = 3
TOP = 5
LONGEST = 100  # letters of a name


class Kernel(NamedTuple):
    """One run of a kernel, from ``start`` to ``end`` in microseconds."""

    name: str
    start: float
    end: float

    @property
    def busy(self) -> float:
        return self.end - self.start


def profiled(built: Built, mode: str, batch: int, context: int) -> dict[str, object]:
    """The columns of the step of median length among `STEPS`, all after two that warm up.

    Raises ValueError for an unknown mode, `decode.NotCaptured` as `decode.prepared` does, and
    RuntimeError if the profiler sees no kernel on the device.
    """
    _seen(lambda: None, built.device)  # graphs that are older than the profiler hide their kernels
    step, _ = decode.prepared(built, mode, batch, context)
    step(), step()
    runs = sorted((told(_seen(step, built.device)) for _ in range(STEPS)), key=_span)
    return runs[STEPS // 2]


def told(kernels: list[Kernel]) -> dict[str, object]:
    """The columns of one step. Kernels may overlap: then the device is busy once."""
    if not kernels:
        raise RuntimeError("the profiler saw no kernel: it may lack the right to look at the GPU")
    busy, until = 0.0, float("-inf")
    for one in sorted(kernels, key=lambda one: one.start):
        busy += max(0.0, one.end - max(one.start, until))
        until = max(until, one.end)
    span = until - min(one.start for one in kernels)
    found: dict[str, object] = {
        "kernels": len(kernels),
        "span_ms": span / 1e3,
        "busy_ms": busy / 1e3,
        "gap_ms": (span - busy) / 1e3,
    }
    for name in (*GROUPS, REST):
        some = [one for one in kernels if group(one.name) == name]
        found[f"{name}_ms"] = sum(one.busy for one in some) / 1e3
        found[f"{name}_kernels"] = len(some)
    return found | {"top_kernels": _top(kernels)}


def group(name: str) -> str:
    """The group of a kernel's or an operation's name."""
    return next((one for one, known in GROUPS.items() if known.search(name)), REST)


def _top(kernels: Iterable[Kernel]) -> list[dict]:
    """The names with the most time of their own."""
    spent, number = Counter(), Counter()
    for one in kernels:
        spent[one.name[:LONGEST]] += one.busy
        number[one.name[:LONGEST]] += 1
    return [
        {"name": name, "ms": time / 1e3, "kernels": number[name]}
        for name, time in spent.most_common(TOP)
    ]


def _span(row: dict) -> float:
    return row["span_ms"]


def _seen(step, device: str) -> list[Kernel]:
    """The kernels of one call, or on a CPU the operations that call no other one."""
    from torch.profiler import ProfilerActivity, profile

    on_gpu = timing.on(device) == "cuda"
    timing.wait(device)
    with profile(activities=[ProfilerActivity.CUDA if on_gpu else ProfilerActivity.CPU]) as seen:
        step()
        timing.wait(device)
    events = seen.events()
    if not on_gpu:
        tops = [one for one in events if one.cpu_parent is None]
        return [_kernel(one) for top in tops for one in _operations(top)]
    return [_kernel(one) for one in events if _of_device(one)]


def _kernel(event) -> Kernel:
    return Kernel(event.name, event.time_range.start, event.time_range.end)


def _of_device(event) -> bool:
    note = getattr(event, "is_user_annotation", False)
    return "CUDA" in str(event.device_type) and not note


def _operations(event) -> list:
    """What stands for kernels on a CPU: the innermost operations that belong to a group, each with
    all that it calls, and of the others those that call none.
    """
    inside = [one for child in event.cpu_children for one in _operations(child)]
    whole = group(event.name) == "attention" or {group(one.name) for one in inside} <= {REST}
    if group(event.name) != REST and whole:
        return [event]
    return inside or ([event] if "::" in event.name else [])
