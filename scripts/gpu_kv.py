"""Time attention over a packed KV cache on this GPU, beside the best that reads plain caches.

    python scripts/gpu_kv.py --kinds check,check-append,ceiling --minutes 5    # right, before fast
    python scripts/gpu_kv.py --tune --minutes 9    # once: which launch suits this GPU
    python scripts/gpu_kv.py --minutes 9           # then the rows; go on with the same command
    python scripts/gpu_kv.py --small --output /tmp/rows.jsonl      # a few small shapes on a CPU

Correctness against float64 comes first and decides what is timed; then the memory's own speed;
then attention of one new token by context, batch and group, each method its own row; where the time
goes; scores alone; appending; a whole model; and how many tokens fit. Caches rotate so that each is
read from memory, not from the last-level cache. Rows go to data/gpu_kv.jsonl; what has a row of
this device is not measured again.
"""

import argparse
import os
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sizewise import units
from sizewise.benchmark import recording
from sizewise.benchmark.kv import attention
from sizewise.benchmark.kv import rows as kv_rows
from sizewise.benchmark.kv.inputs import DIM, HEADS, PACKED
from sizewise.data import records
from sizewise.experiments import workers

SHAPES = [  # context, batch, group; the headline's shapes first
    (131072, 1, 4),
    (32768, 16, 4),
    (32768, 1, 4),
    (131072, 16, 4),
    (4096, 64, 4),
    (131072, 1, 8),
    (131072, 1, 1),
    (1048576, 1, 4),
    (32768, 64, 4),
    (4096, 16, 4),
    (4096, 1, 4),
    (32768, 16, 8),
    (32768, 16, 1),
    (8192, 16, 4),
    (524288, 4, 4),
]
SMALL = [(512, 1, 4), (512, 2, 1)]
FIRST = 3  # of the shapes, at which every method is measured
PLAIN = (
    "bf16-triton",
    "bf16-flash-folded",
    "bf16-cudnn-folded",
    "bf16-efficient-folded",
    "bf16-flash-attn",
    "fp8-triton",
)
SLOWER = ("bf16-flash", "bf16-cudnn", "bf16-flex")  # the first shapes tell: a compiler, or as much
REPEATING = ("bf16-math", "fp32-math")  # copies keys and values for each query head: batch 1 alone
OTHERS = ("fp16-triton", "fp16-flash-folded", "fp32-triton", "fp32-efficient-folded")
TRITON = ("bf16-triton", "fp16-triton", "fp32-triton", "fp8-triton")
LOGITS = ("fp32-torch", "fp32-triton", "bf16-torch", "bf16-triton", *PACKED)
MODELS = ("plain-dynamic", "plain-triton", "tq4", "tq3")
TUNED = [(131072, 1, 4), (32768, 16, 4)]  # the shapes that tuning runs
LARGE = "llama-3.1-8b"
LONG, WIDE = 70001, 1 << 21  # tokens of a check; a capacity at which offsets pass 2**31
# Seconds of a row beside those below: guesses, until a recording has replaced them.
SECONDS = {
    "check": 4.0,
    "check-append": 3.0,
    "ceiling": 3.0,
    "tune": 3.0,
    "attend": 3.0,
    "profile": 4.0,
    "logits": 3.0,
    "append": 3.0,
    "decode": 20.0,
    "capacity": 2.0,
}
START, FLEX = 20.0, 35.0  # until a new worker has torch and the device; FlexAttention's compiler


def grid(words: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows, most wanted first."""
    shapes = SMALL if words.small else SHAPES
    rows = checks(words.small)
    rows += [{"what": "ceiling", "method": name} for name in ("copy", "read")]
    if words.tune:
        return rows + [row for one in (shapes[:1] if words.small else TUNED) for row in tunes(one)]
    logits = [{"what": "logits", "method": m} | shape(*one) for one in shapes[:3] for m in LOGITS]
    append = [
        {"what": "append", "method": method} | shape(new, batch, 1)
        for method in PACKED
        for new, batch in ((1, 1), (1, 64), (4096, 1))
    ]
    profile = [
        {"what": "profile", "method": method} | more | shape(*one)
        for one in shapes[:FIRST]
        for method, more in (
            *((method, {}) for method in (*PACKED, "bf16-triton", "fp8-triton")),
            ("tq4", {"lookup": "gather"}),  # the other design
        )
    ]
    whole = [
        {"what": "decode", "method": method, "model": name, "context": context, "batch": batch}
        for name, context, batch in (
            [("smollm2-135m", 64, 1)]
            if words.small
            else [(LARGE, 131072, 1), (LARGE, 32768, 8), (LARGE, 4096, 1)]
        )
        for method in MODELS
    ]
    room = [{"what": "capacity", "method": m, "model": LARGE} for m in ("bf16", *PACKED)]
    room = [] if words.small else room
    first, rest = attends(shapes[:FIRST], True), attends(shapes[FIRST:], False)
    rows += first + profile + logits + append + whole[:4] + room + whole[4:] + rest
    return [row for row in rows if not words.kinds or row["what"] in words.kinds]


def attends(shapes: list[tuple[int, int, int]], every: bool) -> list[dict[str, Any]]:
    """Attention by each method; the packed ones last, when their rivals are known."""
    return [
        {"what": "attend", "method": method} | shape(*one)
        for one in shapes
        for method in (methods(one[1]) if every else (*PLAIN, *PACKED))
    ]


def methods(batch: int) -> list[str]:
    """All methods of a first shape."""
    repeating = REPEATING if batch == 1 else ()
    return [*PLAIN, *SLOWER, *repeating, *OTHERS, *PACKED]


def checks(small: bool) -> list[dict[str, Any]]:
    """Each method that is timed against float64, with what could break it; then appending."""
    long = 300 if small else LONG
    own = (*PACKED, *TRITON)
    found = [
        ({"method": m}, shape(long, 3, group, dim))
        for m in own
        for group, dim in ((8, 128), (16, 64))
    ]
    found += [({"method": m}, shape(long // 16, 3, 1)) for m in PACKED]
    mixed = (("tq4", "tq2"), ("tq3", "tq4"), ("tq2", "tq3"))
    found += [({"method": keys, "values": values}, shape(long, 3, 4)) for keys, values in mixed]
    found += [({"method": m, "overlap": True}, shape(long, 3, 4)) for m in own]
    found += [({"method": m, "lookup": "gather"}, shape(long, 3, 4)) for m in PACKED]
    if not small:
        found += [
            ({"method": m, "capacity": WIDE}, shape(long, 3, 4)) for m in ("tq4", "bf16-triton")
        ]
    libraries = [name for name in methods(1) if name not in own]
    found += [({"method": m}, shape(long if small else 2048, 2, 4)) for m in libraries]
    rows = [{"what": "check", **what, **where} for what, where in found]
    return rows + [{"what": "check-append", "method": m} | shape(long // 16, 3, 1) for m in PACKED]


def tunes(one: tuple[int, int, int]) -> list[dict[str, Any]]:
    """Launches of one shape: tiles first; then, with the fastest of them, all else in turn."""
    from sizewise.quantization.kernels.layout import space

    few = space(stages=(3,))
    tiles = [
        (method, {"block": t.block, "warps": t.warps, "stages": t.stages})
        for method, tried in (
            ("tq4", [*space(), *space((32,), (4,), (3, 4))]),
            ("bf16-triton", space()),
            ("fp8-triton", few),
            ("tq3", few),
            ("tq2", few),
        )
        for t in tried
    ]
    others = [
        (method, more)
        for more in ({"waves": 2}, {"waves": 4}, {"overlap": True})
        for method in ("tq4", "bf16-triton", "fp8-triton", "tq3", "tq2")
    ]
    others += [(method, {"lookup": "gather"}) for method in PACKED]
    return [{"what": "tune", "method": m} | more | shape(*one) for m, more in tiles + others]


def shape(context: int, batch: int, group: int, dim: int = DIM) -> dict[str, int]:
    return {"context": context, "batch": batch, "group": group, "kv_heads": HEADS, "dim": dim}


def cost(config: dict[str, Any], before: dict | None) -> float:
    """Seconds that a row may take on a recent GPU, those of drawing its caches included."""
    start = 0.0 if before else START
    if config["method"] == "bf16-flash-attn" and find_spec("flash_attn") is None:
        return start + 0.5
    draw = config.get("context", 0) * config.get("batch", 1) / 1e6  # a second for 1M tokens
    return start + SECONDS[config["what"]] + draw + FLEX * (config["method"] == "bf16-flex")


def estimate(rows: list[dict[str, Any]]) -> float:
    """Minutes that these rows may take, one command's start included."""
    return sum(cost(row, row if place else None) for place, row in enumerate(rows)) / 60


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--tune", action="store_true", help="record which launches suit the kernels instead")
    add("--kinds", type=lambda given: given.split(","), help="only rows of these kinds, a,b,c")
    add("--minutes", type=float, help="stop cleanly before this; the same command goes on")
    add("--small", action="store_true", help="a few small shapes, for a machine with no GPU")
    add("--output", type=Path, help="another file than data/gpu_kv.jsonl")
    add("--list", action="store_true", help="print the rows and measure nothing")
    return parser.parse_args(words)


def record(rows: list[dict[str, Any]], file: Path, device: str, minutes: float | None):
    """Measure what ``file`` lacks; see `recording.Ended`. ValueError if the device is not there."""
    measure = partial(kv_rows.measure, device=device, file=file.absolute())
    # The compiler's own workers would be children of a worker, which may have none.
    with recording.Recording(measure, minutes, {"TORCHINDUCTOR_COMPILE_THREADS": "1"}) as started:
        name = started.device["device"]
        if device == "cuda" and name == "CPU":
            raise ValueError("torch sees no GPU here; CUDA_VISIBLE_DEVICES= keeps to the CPU")
        rows = [{"device": name, **row} for row in rows]
        left = records.missing(file, rows)
        print(f"{name}: {len(left)} rows to record, about {estimate(left):.0f} minutes on a GPU")
        return started.run(rows, file, cost=cost, after=attention.against_best, seed=kv_rows.SEED)


def main() -> None:
    words = arguments()
    rows, file = grid(words), words.output or records.path("gpu_kv")
    device = "cuda" if workers.visible_gpus() else "cpu"
    try:
        if unknown := sorted(set(words.kinds or ()) - kv_rows.WHAT.keys()):
            raise units.unknown("kind of row", unknown[0], kv_rows.WHAT)
        if words.list:
            for row in rows:
                print("  ".join(f"{name} {value}" for name, value in row.items()))
            print(f"{len(rows)} rows, about {estimate(rows):.0f} minutes on a GPU")
            return
        if device == "cpu" and not words.small:
            raise ValueError("no GPU here; --small runs a few small shapes on the CPU")
        ended = record(rows, file, device, words.minutes)
    except ValueError as error:
        sys.exit(f"gpu_kv: {error}")
    print(f"{ended.recorded} recorded, {ended.failed} failed, {ended.left} left of {len(rows)}")
    if ended.left:
        print("rows are left: run the same command again")


if __name__ == "__main__":
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    main()
