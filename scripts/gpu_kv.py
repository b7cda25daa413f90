"""Time attention over a packed KV cache on this GPU, beside the best that reads plain caches.

    python scripts/gpu_kv.py --tune            # once: which launch suits this GPU
    python scripts/gpu_kv.py --minutes 9       # then the rows; go on with the same command
    python scripts/gpu_kv.py --small --output /tmp/rows.jsonl      # a few small shapes on a CPU

Correctness against float64 comes first, then the memory's own speed, then attention of one new
token by context, batch and group, each method its own row; scores alone; appending; a whole model;
and how many tokens fit. Caches rotate so that each is read from memory, not from the last-level
cache. Rows go to data/gpu_kv.jsonl; what has a row is not measured again.
"""

import argparse
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

from sizewise import records, workers
from sizewise.device import kv_attention, kv_rows, recording
from sizewise.device.kv_inputs import DIM, HEADS, PACKED

SHAPES = [  # context, batch, group; the headline's shapes first
    (131072, 1, 4), (32768, 16, 4), (32768, 1, 4), (131072, 16, 4), (4096, 64, 4), (131072, 1, 8),
    (131072, 1, 1), (1048576, 1, 4), (32768, 64, 4), (4096, 16, 4), (4096, 1, 4), (32768, 16, 8),
    (32768, 16, 1), (8192, 16, 4), (524288, 4, 4),
]  # fmt: skip
SMALL = [(512, 1, 4), (512, 2, 1)]
PLAIN = (
    "bf16-triton", "bf16-flash-folded", "bf16-cudnn-folded", "bf16-flash", "bf16-cudnn",
    "bf16-efficient-folded", "bf16-math", "bf16-flash-attn", "bf16-flex", "fp8-triton",
)  # fmt: skip
WIDE = ("fp32-triton", "fp32-efficient-folded", "fp32-math")
LOGITS = ("fp32-torch", "fp32-triton", "bf16-torch", "bf16-triton", *PACKED)
MODELS = ("plain-dynamic", "plain-triton", "tq4", "tq3")
TUNED = (131072, 1, 4)  # the shape that tuning runs
LARGE = "llama-3.1-8b"
START = 25.0  # seconds until a new worker has torch and the device


def grid(words: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows, most wanted first."""
    shapes = SMALL if words.small else SHAPES
    bits = [
        {"what": "check", "method": method} for method in (*PACKED, "bf16-triton", "fp8-triton")
    ]
    checks = [one | shape(300, 3, group) for one in bits for group in (1, 4)]
    checks += [{"what": "check-append", "method": m} | shape(300, 3, 1) for m in PACKED]
    rows = checks + [{"what": "ceiling", "method": name} for name in ("copy", "read")]
    if words.tune:
        return rows + [one | shape(*(shapes[0] if words.small else TUNED)) for one in launches()]
    attend = [
        {"what": "attend", "method": method} | shape(*one)
        for place, one in enumerate(shapes)
        for method in (*PLAIN, *(WIDE if place < 3 else ()), *PACKED)
    ]
    logits = [{"what": "logits", "method": m} | shape(*one) for one in shapes[:3] for m in LOGITS]
    append = [
        {"what": "append", "method": method} | shape(new, batch, 1)
        for method in PACKED
        for new, batch in ((1, 1), (1, 64), (4096, 1))
    ]
    first = len(PLAIN) + len(WIDE) + len(PACKED)
    whole = [
        {"what": "decode", "method": method, "model": name, "context": context, "batch": batch}
        for name, context, batch in (
            [("smollm2-135m", 64, 1)] if words.small
            else [(LARGE, 131072, 1), (LARGE, 32768, 8), (LARGE, 4096, 1)]
        )
        for method in MODELS
    ]  # fmt: skip
    room = [{"what": "capacity", "method": m, "model": LARGE} for m in ("bf16", *PACKED)]
    room = [] if words.small else room
    return rows + attend[: 3 * first] + logits + append + whole[:4] + room + whole[4:] + (
        attend[3 * first :]
    )  # fmt: skip


def launches() -> list[dict[str, Any]]:
    """Tiles, warps and stages for each kernel that can be tuned."""
    from sizewise.quant.kernels.layout import space

    few = space(blocks=(64, 128), warps=(4, 8), stages=(2, 3))
    return [
        {"what": "tune", "method": method, "block": t.block, "warps": t.warps, "stages": t.stages}
        for method, tried in (("tq4", space()), ("bf16-triton", few), ("tq3", few), ("tq2", few))
        for t in tried
    ]


def shape(context: int, batch: int, group: int) -> dict[str, int]:
    return {"context": context, "batch": batch, "group": group, "kv_heads": HEADS, "dim": DIM}


def cost(config: dict[str, Any], before: dict | None) -> float:
    """Seconds that a row may take on a recent GPU: a safe guess."""
    slow = config["what"] == "decode" or config["method"] == "bf16-flex"  # a model, a compiler
    return (START if before is None else 0.0) + (40.0 if slow else 8.0)


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--tune", action="store_true", help="record tiles, warps and stages of the kernels instead")
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
        if device == "cuda" and started.device["device"] == "CPU":
            raise ValueError("torch sees no GPU here; CUDA_VISIBLE_DEVICES= keeps to the CPU")
        return started.run(
            rows, file, cost=cost, after=kv_attention.against_best, seed=kv_rows.SEED
        )


def main() -> None:
    words = arguments()
    rows, file = grid(words), words.output or records.path("gpu_kv")
    if words.list:
        for row in rows:
            print("  ".join(f"{name} {value}" for name, value in row.items()))
        return
    device = "cuda" if workers.visible_gpus() else "cpu"
    try:
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
