"""Where the time of attention over a cache goes: by launch, and what its kernel takes."""

from dataclasses import replace

from sizewise.benchmark import graph_timing, timing

from . import checks, inputs, methods
from .inputs import DIM, HEADS, PACKED, Bench, vector_bytes

MANY = 64  # calls of a short launch in a row


def profile(config: dict, bench: Bench) -> dict:
    """The whole as `kv_attention.attend` times it, its launches apart, and the grid of the splits.

    Apart, the launches run without overlap, so that they may add up to more than the whole. Raises
    RuntimeError where Triton does not run.
    """
    import torch

    from sizewise.quantization.kernels import decode, dense

    methods.needs_triton(bench)
    method, batch, tokens = config["method"], config["batch"], config["context"]
    launch, query = methods.tuning(config, bench), inputs.query(config, bench)
    checks.demand(method, launch, bench)
    packed = method in PACKED
    filled = inputs.packed if packed else inputs.plain
    lengths = torch.full((batch,), tokens, dtype=torch.int32, device=bench.device)
    one = batch * HEADS * tokens * 2 * vector_bytes(method)
    caches = [
        tuple(filled(batch, tokens, method, bench) for _ in range(2))
        for _ in range(graph_timing.copies(one, bench.device))
    ]
    differ = checks.like_default(query, *caches[0], lengths, method, launch, bench)
    whole = [
        lambda cache=cache: methods.attend(query, *cache, lengths, method, launch, bench)
        for cache in caches
    ]
    told = graph_timing.timed(whole, bench.device)
    apart, many = replace(launch, overlap=False), MANY if timing.on(bench.device) == "cuda" else 1
    of = decode if packed else dense
    stages = [of.steps(query, *cache, lengths, DIM**-0.5, apart) for cache in caches]
    *before, _, last = stages[0]
    rotated = before[0]() if packed else ()
    made = stages[0][-2](*rotated)

    def us(calls) -> float:
        return graph_timing.timed(calls, bench.device)["us"]

    told |= {
        "us_rotate": us([before[0]] * many) if packed else None,
        "us_split": us([lambda second=second: second(*rotated) for *_, second, _ in stages]),
        "us_merge": us([lambda: last(*made)] * many),
    }
    start = rotated if packed else (query,)
    found = of.plan(*start, *caches[0], lengths, launch)
    return (
        told
        | {"bytes": one, "launches_differ": differ}
        | columns(config, launch)
        | grid(found, bench)
    )


def columns(config: dict, launch) -> dict:
    """The launch as columns, but for what the configuration states itself."""
    return {name: getattr(launch, name) for name in methods.LAUNCH if name not in config}


def grid(found, bench: Bench) -> dict:
    """Programs over what the device holds, and the resources that decide it; see `occupancy`."""
    import torch

    from sizewise.quantization.kernels import occupancy

    told = {
        "splits": found.splits,
        "programs": found.programs,
        "slots": found.slots,
        "rounds": found.programs / found.slots,
    }
    if found.kernel is None:
        return told
    chip = occupancy.chip(torch.device(bench.device))
    held = occupancy.resident(chip, found.kernel) * found.kernel.warps
    return told | {
        "registers": found.kernel.registers,
        "spilled_bytes": found.kernel.spilled_bytes,
        "shared_bytes": found.kernel.shared_bytes,
        "occupancy": held / chip.warps,
    }
