"""The time of quantizing new keys and values into a cache."""

from sizewise.benchmark import graph_timing, timing

from . import checks, inputs
from .inputs import DIM, HEADS, PACKED, Bench, vector_bytes

BEFORE, ROOM = 1000, 24  # tokens that the cache holds, and room beside the new ones
MOST = 64  # caches in turn: for one new token no number of them would pass the last-level cache


def append(config: dict, bench: Bench) -> dict:
    """Quantize new keys and values (both) into caches in turn; ``context`` is new tokens here."""
    import torch

    from sizewise.quantization import kernels

    method, batch, new = config["method"], config["batch"], config["context"]
    if method not in PACKED:
        raise ValueError(f"{method} quantizes nothing")
    checks.demand_append(method, bench)
    moved = 2 * batch * HEADS * new * (2 * DIM + vector_bytes(method))
    start = torch.full((batch,), BEFORE, dtype=torch.int32, device=bench.device)

    def call():
        sides = [inputs.packed(batch, BEFORE + new + ROOM, method, bench) for _ in range(2)]
        x = torch.randn(batch, HEADS, new, DIM, device=bench.device, dtype=torch.bfloat16)
        return lambda: [kernels.append(x, side, start) for side in sides]

    number = (
        1 if timing.on(bench.device) == "cpu" else min(MOST, graph_timing.copies(moved, "cuda"))
    )
    told = graph_timing.timed([call() for _ in range(number)], bench.device)
    return told | {"bytes": moved}
