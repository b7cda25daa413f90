"""Time attention over a packed KV cache on this GPU, beside the best that reads plain caches.

    python scripts/gpu_kv.py --minutes 9           # then again, until no row is left
    python scripts/gpu_kv.py --small --output /tmp/rows.jsonl      # a few small shapes on a CPU

Correctness against float64 comes first and decides what is timed; then the memory's own speed;
then attention of one new token by context, batch and group, each method its own row; scores alone,
as in the announcement; appending; and how many tokens fit. Caches rotate so that each is read from
memory, not from the last-level cache. Rows go to data/gpu_kv.jsonl; what has a row of this device
is not measured again.
"""

import argparse
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

from sizewise import units
from sizewise.benchmark import kv, recording
from sizewise.benchmark.kv import PACKED
from sizewise.data import records
from sizewise.experiments import workers

SHAPES = [  # context, batch, group; the headline's shapes first
    (131072, 1, 4),
    (32768, 16, 4),
    (32768, 1, 4),
    (8192, 32, 4),
    (8192, 1, 4),
    (131072, 1, 8),
    (32768, 16, 1),
]
SMALL = [(512, 1, 4), (512, 2, 1)]
PLAIN = ("bf16-triton", "bf16-flash", "bf16-cudnn", "fp8-triton")
LOGITS = ("fp32-product", "bf16-product", *PACKED)
MODEL = "llama-3.1-8b"
CHECKED = 70_001  # tokens of a check
# Seconds of a row on a recent GPU, those of drawing its caches apart: guesses, until recorded.
SECONDS = {"check": 4.0, "check-append": 3.0, "capacity": 2.0}
USUAL, START = 3.0, 20.0  # of other rows; until a new worker has torch and the device


def shape(context: int, batch: int, group: int) -> dict[str, int]:
    return {"context": context, "batch": batch, "group": group}


def grid(small: bool) -> list[dict[str, Any]]:
    """The rows, most wanted first: what is timed is checked before, plain before packed."""
    shapes, long = (SMALL, 300) if small else (SHAPES, CHECKED)
    rows = [
        {"what": "check", "method": method} | shape(long, 3, group)
        for method in (*PACKED, *PLAIN)
        for group in ((4, 8) if method in PACKED else (4,))
        if not small or method in PACKED
    ]
    rows += [{"what": "check-append", "method": m} | shape(long // 16, 3, 1) for m in PACKED]
    rows += [{"what": "ceiling", "method": name} for name in ("copy", "read")]
    rows += [
        {"what": "attend", "method": method} | shape(*sizes)
        for sizes in shapes
        for method in ((*PLAIN, *PACKED) if not small else PACKED)
    ]
    rows += [
        {"what": "logits", "method": m} | shape(*sizes) for sizes in shapes[:3] for m in LOGITS
    ]
    rows += [
        {"what": "append", "method": method} | shape(new, batch, 1)
        for method in PACKED
        for new, batch in ((1, 1), (1, 64), (512 if small else 4096, 1))
    ]
    if not small:
        methods = ("bf16", *PACKED)
        rows += [{"what": "capacity", "method": m, "model": MODEL} for m in methods]
    return rows


def cost(config: dict[str, Any], before: dict | None) -> float:
    """Seconds that a row may take, those of drawing its caches included."""
    draw = config.get("context", 0) * config.get("batch", 1) / 1e6  # a second for 1M tokens
    return (0.0 if before else START) + SECONDS.get(config["what"], USUAL) + draw


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--kinds", type=lambda text: text.split(","), help="only rows of these kinds, a,b,c")
    add("--minutes", type=float, help="stop cleanly before this; the same command goes on")
    add("--small", action="store_true", help="a few small shapes, for a machine with no GPU")
    add("--output", type=Path, help="another file than data/gpu_kv.jsonl")
    add("--list", action="store_true", help="print the rows and measure nothing")
    args = parser.parse_args(words)
    if unknown := sorted(set(args.kinds or ()) - kv.WHAT.keys()):
        raise units.unknown("kind of row", unknown[0], kv.WHAT)
    return args


def main() -> None:
    device = "cuda" if workers.visible_gpus() else "cpu"
    try:
        args = arguments()
        rows = [row for row in grid(args.small) if not args.kinds or row["what"] in args.kinds]
        file = args.output or records.path("gpu_kv")
        if args.list:
            for row in rows:
                print("  ".join(f"{name} {value}" for name, value in row.items()))
            return
        if device == "cpu" and not args.small:
            raise ValueError("no GPU here; --small runs a few small shapes on the CPU")
        measure = partial(kv.measure, device=device, file=file.absolute())
        with recording.Recording(measure, args.minutes) as started:
            name = started.device["device"]
            if device == "cuda" and name == "CPU":
                raise ValueError("torch sees no GPU here; CUDA_VISIBLE_DEVICES= keeps to the CPU")
            rows = [{"device": name, **row} for row in rows]
            ended = started.run(rows, file, cost=cost, after=kv.against_best, seed=kv.SEED)
    except ValueError as error:
        sys.exit(f"gpu_kv: {error}")
    print(f"{ended.recorded} recorded, {ended.failed} failed, {ended.left} left of {len(rows)}")
    if ended.left:
        print("rows are left: run the same command again")


if __name__ == "__main__":
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    main()
