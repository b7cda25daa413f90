"""Speed and memory on a GPU: ceilings, decode steps, prompts and layers, by model and format.

    python scripts/gpu_weights.py
    python scripts/gpu_weights.py --minutes 9        # stop in time; the same command goes on
    python scripts/gpu_weights.py --small            # a few small shapes, for a machine without

The device's own ceilings come first; then real architectures with random weights, from about
0.1 to 70 billion parameters, each step over the floor that `sizewise.roofline` puts below it.
Rows go to data/gpu_weights.jsonl; what has a row is not measured again.
"""

import argparse
import os
import sys
from functools import cache
from itertools import product
from pathlib import Path

from sizewise import records
from sizewise.device import built, ceilings, floors, recording, rows

MAIN, LARGEST = "llama-3.1-8b", "llama-3.1-70b"
LADDER = ("llama-3.2-1b", "qwen3-32b", "smollm2-135m", "llama-3.2-3b", "qwen3-0.6b")
FORMATS = ("bf16", "nf4", "int8", "int8-plain", "nf4-dq", "fp4", "fp16", "fp32")
# LLM.int8() looks for large activations in the middle of a step, which no graph can hold.
FASTEST = {"int8": "static"}
CONTEXT = 1024
BATCHES = (2, 4, 8, 16, 32, 64, 128)
SMALL = ("llama-tiny", "llama-little", "smollm2-135m")
SMALL_FORMATS = ("fp32", "bf16", "int8", "nf4")
SEED = 0
EXIT_LEFT = 3  # rows are left, and the same command goes on with them


def at(kind: str, model: str, format: str, batch: int = 1, context: int = CONTEXT, **more) -> dict:
    """The configuration of one row about a model."""
    return {
        "kind": kind, "model": model, "format": format, **more,
        "batch": batch, "context": context, "seed": SEED,
    }  # fmt: skip


def decodes(model: str, format: str, modes, batches=(1,), contexts=(CONTEXT,)) -> list[dict]:
    """Decode rows, the first mode at all batches, then the next."""
    shapes = product(modes, batches, contexts)
    return [at("decode", model, format, b, c, mode=mode) for mode, b, c in shapes]


def prefills(model: str, format: str, batches=(1,), contexts=(512, 2048)) -> list[dict]:
    return [at("prefill", model, format, b, c) for b, c in product(batches, contexts)]


def by_layer(model: str, format: str = "bf16") -> list[dict]:
    shapes = (("decode", CONTEXT), ("prefill", 2048))
    return [at("layers", model, format, 1, context, step=step) for step, context in shapes]


def limits(small: bool) -> list[dict]:
    """The device's ceilings, over sizes well above its caches."""
    memory = (1 << 26, 1 << 28) if small else (1 << 30, 1 << 32)
    square = (512, 1024) if small else (4096, 8192, 16384)
    names = ceilings.ON_CPU if small else ceilings.CEILINGS
    sizes = {name: memory if name in ceilings.MEMORY else square for name in names}
    return [{"kind": "ceiling", "of": name, "size": size} for name in names for size in sizes[name]]


def large_grid() -> list[dict]:
    """The rows of a GPU, the most telling first; those that share a model stand together."""
    grid = limits(small=False)
    for format in FORMATS:
        grid += decodes(MAIN, format, ("graph", "static", "eager"))
        grid += by_layer(MAIN) if format == "bf16" else []
    for format in FORMATS[:3]:
        grid += decodes(MAIN, format, (FASTEST.get(format, "graph"),), BATCHES)
        grid += decodes(MAIN, format, ("eager",), (8, 32, 128))
        grid += prefills(MAIN, format, (1, 8))
        if format == "bf16":
            grid += decodes(MAIN, format, ("graph",), (1, 8), (4096, 16384, 65536))
    for format in FORMATS[3:]:
        grid += decodes(MAIN, format, ("graph",), (8, 32, 128)) + prefills(MAIN, format)
    for format in ("nf4", "bf16", "int8", "int8-plain", "nf4-dq"):
        grid += decodes(LARGEST, format, ("graph", "static", "eager"))
        grid += decodes(LARGEST, format, (FASTEST.get(format, "graph"),), (8, 32))
        grid += prefills(LARGEST, format)
    for model, format in product(LADDER, FORMATS[:3]):
        grid += decodes(model, format, ("graph", "static", "eager"))
        grid += decodes(model, format, (FASTEST.get(format, "graph"),), (8, 32, 128))
        grid += prefills(model, format, contexts=(2048,))
        grid += by_layer(model) if format == "bf16" and model == LADDER[0] else []
    return grid + decodes(MAIN, "bf16", ("compiled",), (1, 32))


def small_grid() -> list[dict]:
    """The rows of a machine without a GPU."""
    grid = limits(small=True)
    for model, format in product(SMALL, SMALL_FORMATS):
        grid += decodes(model, format, ("static", "eager"), (1, 4), (128,))
        grid += prefills(model, format, contexts=(128,))
    return grid + [
        at("layers", SMALL[-1], "fp32", 1, context, step=step)
        for step, context in (("decode", 128), ("prefill", 128))
    ]


def cost(config: dict, before: dict | None) -> float:
    """Seconds that a row may take on a recent GPU, loading its model included: a safe guess."""
    start = 25.0 if before is None else 0.0  # torch, transformers and the device
    if config["kind"] == "ceiling":
        return start + 6
    same = before and [before.get(name) for name in ("model", "format")] == [
        config["model"], config["format"],
    ]  # fmt: skip
    size = described(config["model"]).total / 1e9
    load = 0.0 if same else 3 + 0.4 * size
    return start + load + {"compiled": 150.0, "eager": 10.0}.get(config.get("mode"), 7.0)


@cache
def described(model: str):
    """The architecture behind a name."""
    from sizewise import counting

    return counting.describe(built.spec(model))


def compare(row: dict, before: list[dict]) -> dict:
    """The floors below a step, with the ceilings recorded so far, and the step over them."""
    if row["kind"] not in ("decode", "prefill") or row["ended"] != "done":
        return {}
    measured = ceilings.as_device(before, row["device"])
    found = floors.of(
        row["kind"], described(row["model"]), row["format"], row["batch"], row["context"],
        row["held_bytes"], sheet=ceilings.datasheet(row["device"]), measured=measured,
    )  # fmt: skip
    return floors.compared(row, found, measured)


def chosen(grid: list[dict], words: argparse.Namespace) -> list[dict]:
    """The rows that the command line asks for."""
    wanted = {"kind": words.kinds, "model": words.models, "format": words.formats}
    for name, values in wanted.items():
        known = {row[name] for row in grid if name in row}
        if unknown := sorted(set(values or ()) - known):
            raise ValueError(f"no row of {name} {unknown[0]!r}; there are: {', '.join(known)}")
    return [
        row for row in grid
        if all(not values or row.get(name, values[0]) in values for name, values in wanted.items())
    ]  # fmt: skip


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0],
        epilog="Exit code 3: rows are left, and the same command goes on with them.",
    )
    add, names = parser.add_argument, (lambda words: words.split(","))
    add("--minutes", type=float, help="stop cleanly before this much time is over")
    add("--small", action="store_true", help="small shapes alone, on the CPU")
    add("--kinds", type=names, help=f"only rows of these kinds, a,b,c of {', '.join(rows.KINDS)}")
    add("--models", type=names, help="only these models, a,b,c; ceilings are kept")
    add("--formats", type=names, help="only these weight formats, a,b,c; ceilings are kept")
    add("--output", type=Path, help="another file than data/gpu_weights.jsonl")
    add("--list", action="store_true", help="show the rows in their order, and measure none")
    return parser.parse_args(words)


def main() -> None:
    words = arguments()
    file = words.output or records.path("gpu_weights")
    try:
        grid = chosen(small_grid() if words.small else large_grid(), words)
        if words.list:
            for row in grid:
                print("  ".join(f"{name} {value}" for name, value in row.items()))
            return
        # The compiler's own workers would be children of a worker, which may have none.
        there = {"TORCHINDUCTOR_COMPILE_THREADS": "1"}
        there |= {"CUDA_VISIBLE_DEVICES": ""} if words.small else {}
        with recording.Recording(rows.measure, words.minutes, there) as started:
            name = started.device["device"]
            if name == "CPU" and not words.small:
                raise ValueError("torch sees no GPU here; --small measures small shapes on the CPU")
            grid = [{"device": name, **row} for row in grid]
            ended = started.run(grid, file, cost=cost, after=compare)
    except ValueError as error:
        sys.exit(f"gpu_weights: {error}")
    print(f"{ended.recorded} recorded, {ended.failed} failed, {ended.left} left of {len(grid)}")
    sys.exit(EXIT_LEFT if ended.left > ended.failed else int(bool(ended.failed)))


if __name__ == "__main__":
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    main()
