"""Speed and memory on a GPU: ceilings, decode steps and prompts, by model and format.

    python scripts/gpu_weights.py
    python scripts/gpu_weights.py --minutes 9        # stop in time; the same command goes on
    python scripts/gpu_weights.py --small            # a few small shapes, for a machine without

The device's own ceilings come first; then real architectures with random weights, each step over
the floor that `sizewise.costs.roofline` puts below it. Formats are compared in equal modes: as
`transformers` launches a step by itself ("eager"), and in a CUDA graph ("graph"), which LLM.int8()
with its search for outliers does not fit into ("static" instead). Rows go to
data/gpu_weights.jsonl; what has a row is not measured again.
"""

import argparse
import importlib.util
import os
import sys
from functools import cache
from itertools import product
from pathlib import Path

from sizewise.benchmark import ceilings, recording, roofline_gap, rows
from sizewise.benchmark import model as built
from sizewise.data import records

MAIN, OTHERS = "llama-3.1-8b", ("llama-3.2-1b", "qwen3-32b")
FORMATS = (
    *("bf16", "nf4", "int4-mm", "fp8-mm", "int8", "int8-plain", "nf4-dq", "fp4"),
    "fp16",
)
FASTEST = {"int8": "static"}  # modes but "graph"
CONTEXT = 1024
BATCHES = (1, 8, 32, 64, 128)
SMALL = ("llama-tiny", "llama-little")
SMALL_FORMATS = ("fp32", "bf16", "nf4", "int8")
BNB = ("nf4", "nf4-dq", "fp4", "int8", "int8-plain")
SEED = 0
EXIT_LEFT = 3  # rows are left, and the same command goes on with them
LIMIT = 180.0  # seconds after which a row is given up; four times that on a CPU


def at(kind: str, model: str, format: str, batch: int, context: int, **more) -> dict:
    """The configuration of one row about a model."""
    row = {"kind": kind, "model": model, "format": format, **more}
    return row | {"batch": batch, "context": context, "seed": SEED}


def steps(model: str, format: str, batches, contexts=(CONTEXT,), modes=None) -> list[dict]:
    """Decode rows in the format's fastest mode, or in ``modes``."""
    modes = modes or (FASTEST.get(format, "graph"),)
    return [
        at("decode", model, format, batch, context, mode=mode)
        for mode, batch, context in product(modes, batches, contexts)
    ]


def limits(small: bool) -> list[dict]:
    """The device's ceilings, over sizes well above its caches."""
    memory, square = ((1 << 26,), (512,)) if small else ((1 << 32,), (8192, 16384))
    names = ceilings.ON_CPU if small else ceilings.CEILINGS
    sizes = {name: memory if name in ceilings.MEMORY else square for name in names}
    return [{"kind": "ceiling", "of": name, "size": size} for name in names for size in sizes[name]]


def large_grid() -> list[dict]:
    """The rows of a GPU, the most telling first; those of one model and format stand together."""
    grid = limits(small=False)
    for format in FORMATS:
        grid += steps(MAIN, format, BATCHES) + steps(MAIN, format, (1,), modes=("eager",))
        grid += [at("prefill", MAIN, format, 1, context) for context in (512, 2048)]
    grid += steps(MAIN, "bf16", (1,), (16384, 65536))
    for model, format in product(OTHERS, FORMATS[:5]):
        grid += [*steps(model, format, (1, 32)), at("prefill", model, format, 1, 2048)]
    return grid


def small_grid() -> list[dict]:
    """The rows of a machine without a GPU."""
    grid = limits(small=True)
    for model, format in product(SMALL, SMALL_FORMATS):
        grid += steps(model, format, (1, 4), (128,), modes=("static", "eager"))
        grid += [at("prefill", model, format, 1, 128)]
    return grid


def cost(config: dict, before: dict | None) -> float:
    """Seconds that a row takes on an H100 or H200, about, loading its model included."""
    start = 25.0 if before is None else 0.0  # torch, transformers and the device
    if config["kind"] == "ceiling":
        return start + 2.5
    names = ("model", "format")
    same = before and all(before.get(name) == config[name] for name in names)
    load = 0.0 if same else 1 + described(config["model"]).total / 17e9
    if config["kind"] == "decode":
        return start + load + 2.5
    tokens = config["batch"] * config["context"]
    return start + load + 2.5 + 6 * 2 * described(config["model"]).total * tokens / 3e14


def limit(config: dict) -> float:
    """Seconds after which a row is given up."""
    return 4 * LIMIT if config.get("device") == "CPU" else LIMIT


@cache
def described(model: str):
    """The architecture behind a name."""
    from sizewise.models import parameters

    return parameters.describe(built.spec(model))


def compare(row: dict, before: list[dict]) -> dict:
    """The floors below a step, with the ceilings recorded so far, and the step over them."""
    if row["kind"] not in ("decode", "prefill") or row["ended"] != "done":
        return {}
    measured = ceilings.as_device(before, row["device"])
    floors = roofline_gap.of(
        row["kind"],
        described(row["model"]),
        row["format"],
        row["batch"],
        row["context"],
        row["held_bytes"],
        sheet=ceilings.datasheet(row["device"]),
        measured=measured,
    )
    return roofline_gap.compared(row, floors, measured)


def wanted(grid: list[dict], args: argparse.Namespace) -> list[dict]:
    """The rows that the command line asks for."""
    requested = {"kind": args.kinds, "model": args.models, "format": args.formats}
    for name, values in requested.items():
        known = {row[name] for row in grid if name in row}
        if unknown := sorted(set(values or ()) - known):
            raise ValueError(f"no row of {name} {unknown[0]!r}; there are: {', '.join(known)}")
    return [
        row
        for row in grid
        if all(
            not values or row.get(name, values[0]) in values for name, values in requested.items()
        )
    ]


def ready(grid: list[dict]) -> None:
    """Raises ValueError if a package is missing that a row needs, which says nothing about the
    device, so that it may not become a row."""
    if importlib.util.find_spec("bitsandbytes") is None and any(
        row.get("format") in BNB for row in grid
    ):
        raise ValueError(
            f"{', '.join(BNB)} need bitsandbytes, which is not installed; "
            "--formats without these leaves them out"
        )


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0],
        epilog="Exit code 3: rows are left, and the same command goes on with them.",
    )
    add, names = parser.add_argument, (lambda text: text.split(","))
    add("--minutes", type=float, help="stop cleanly before this much time is over")
    add("--small", action="store_true", help="small shapes alone, on the CPU")
    add("--kinds", type=names, help=f"only rows of these kinds, a,b,c of {', '.join(rows.KINDS)}")
    add("--models", type=names, help="only these models, a,b,c; ceilings are kept")
    add("--formats", type=names, help="only these weight formats, a,b,c; ceilings are kept")
    add("--output", type=Path, help="another file than data/gpu_weights.jsonl")
    add("--list", action="store_true", help="show the rows in their order, and measure none")
    return parser.parse_args(words)


def main() -> None:
    args = arguments()
    file = args.output or records.path("gpu_weights")
    try:
        grid = wanted(small_grid() if args.small else large_grid(), args)
        if args.list:
            for row in grid:
                print("  ".join(f"{name} {value}" for name, value in row.items()))
            return
        ready(grid)
        environment = {"CUDA_VISIBLE_DEVICES": ""} if args.small else {}
        with recording.Recording(rows.measure, args.minutes, environment) as started:
            name = started.device["device"]
            if name == "CPU" and not args.small:
                raise ValueError("torch sees no GPU here; --small measures small shapes on the CPU")
            unmetered = started.device["unmetered"]
            print(f"{name}; energy: {f'not measured, {unmetered}' if unmetered else 'metered'}")
            grid = [{"device": name, **row} for row in grid]
            ended = started.run(grid, file, cost=cost, after=compare, limit=limit)
    except ValueError as error:
        sys.exit(f"gpu_weights: {error}")
    print(f"{ended.recorded} recorded, {ended.failed} failed, {ended.left} left of {len(grid)}")
    sys.exit(EXIT_LEFT if ended.left > ended.failed else int(bool(ended.failed)))


if __name__ == "__main__":
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    main()
