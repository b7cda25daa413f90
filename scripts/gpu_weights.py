"""Speed and memory on a GPU: ceilings, decode steps, prompts and layers, by model and format.

    python scripts/gpu_weights.py
    python scripts/gpu_weights.py --minutes 9        # stop in time; the same command goes on
    python scripts/gpu_weights.py --all              # afterwards: a wider grid, in the same file
    python scripts/gpu_weights.py --small            # a few small shapes, for a machine without

The device's own ceilings come first; then real architectures with random weights, from about
0.1 to 70 billion parameters, each step over the floor that `sizewise.costs.roofline` puts below it.
Rows go to data/gpu_weights.jsonl; what has a row is not measured again.
"""

import argparse
import importlib.util
import os
import sys
from functools import cache
from itertools import product
from pathlib import Path

from sizewise.benchmark import ceilings, compiled_step, decode, recording, roofline_gap, rows
from sizewise.benchmark import model as built
from sizewise.data import records
from sizewise.quantization.weights import layers

MAIN, LARGEST = "llama-3.1-8b", "llama-3.1-70b"
LADDER = ("llama-3.2-1b", "qwen3-32b", "smollm2-135m", "llama-3.2-3b")
FORMATS = ("bf16", "nf4", "int8", "int8-plain", "nf4-dq", "fp4", "fp16", "fp32")
# LLM.int8() looks for large activations in the middle of a step, which no graph can hold.
FASTEST = {"int8": "static"}
CONTEXT = 1024
BATCHES = (2, 8, 32, 128)
SMALL = ("llama-tiny", "llama-little", "smollm2-135m")
SMALL_FORMATS = ("fp32", "bf16", "int8", "nf4")
SEED = 0
EXIT_LEFT = 3  # rows are left, and the same command goes on with them
LIMIT = 180.0  # seconds after which a row is given up; four times that if compiled, or on a CPU
# The compiler's own workers would be children of a worker, which may have none. A profiler that is
# taken down and set up again does not get on with CUDA graphs.
ENVIRONMENT = {
    "TORCHINDUCTOR_COMPILE_THREADS": "1",
    "TEARDOWN_CUPTI": "0",
    "DISABLE_CUPTI_LAZY_REINIT": "1",
}


def at(kind: str, model: str, format: str, batch: int = 1, context: int = CONTEXT, **more) -> dict:
    """The configuration of one row about a model."""
    return {
        "kind": kind,
        "model": model,
        "format": format,
        **more,
        "batch": batch,
        "context": context,
        "seed": SEED,
    }


def decodes(model: str, format: str, modes, batches=(1,), contexts=(CONTEXT,)) -> list[dict]:
    """Decode rows, the first mode at all batches, then the next; None is the fastest for all."""
    shapes = product(modes, batches, contexts)
    return [
        at("decode", model, format, b, c, mode=mode or FASTEST.get(format, "graph"))
        for mode, b, c in shapes
    ]


def prefills(model: str, format: str, batches=(1,), contexts=(512, 2048)) -> list[dict]:
    return [at("prefill", model, format, b, c) for b, c in product(batches, contexts)]


def by_layer(model: str, format: str = "bf16", steps=("decode", "prefill")) -> list[dict]:
    contexts = {"decode": CONTEXT, "prefill": 2048}
    return [at("layers", model, format, 1, contexts[step], step=step) for step in steps]


def limits(small: bool, wide: bool = False) -> list[dict]:
    """The device's ceilings, over sizes well above its caches."""
    memory, square, one = (1 << 26, 1 << 28), (512, 1024), {}  # for names with sizes of their own
    if wide:
        memory, square = (1 << 30, 1 << 32), (4096, 8192, 16384)
    elif not small:
        memory, square = (1 << 32,), (8192, 16384)
        one = {"fp32": (8192,), "tf32": (8192,), ceilings.FAST_SUMS: (16384,)}
    names = ceilings.ON_CPU if small else ceilings.CEILINGS
    sizes = {name: memory if name in ceilings.MEMORY else one.get(name, square) for name in names}
    return [{"kind": "ceiling", "of": name, "size": size} for name in names for size in sizes[name]]


def main_model(format: str) -> list[dict]:
    """The rows of the 8B model in one format, the most telling first."""
    if format == "bf16":
        modes = ("compiled", "lean", "graph", "static", "eager")
        grid = decodes(MAIN, format, modes) + by_layer(MAIN)
        grid += decodes(MAIN, format, (None,), (1,), (4096, 16384, 65536))
        grid += decodes(MAIN, format, (None,), (8,), (16384,))
    elif format in ("nf4", "int8-plain"):
        grid = decodes(MAIN, format, ("lean", "graph", "eager"))
    else:
        grid = decodes(MAIN, format, ("graph", "static", "eager") if format == "int8" else (None,))
    if format in FORMATS[:3]:
        grid += decodes(MAIN, format, (None,), BATCHES) + decodes(MAIN, format, ("eager",), (32,))
        return grid + prefills(MAIN, format) + prefills(MAIN, format, (8,), (512,))
    return grid + decodes(MAIN, format, (None,), (32,)) + prefills(MAIN, format, contexts=(2048,))


def large_grid() -> list[dict]:
    """The rows of a GPU, the most telling first; those of one model and format stand together.

    But for those under a profiler, which come last: what it leaves behind may slow what follows.
    """
    grid = limits(small=False)
    for format in FORMATS:
        grid += main_model(format)
    for format in ("nf4", "bf16", "int8"):
        grid += decodes(LARGEST, format, (None,), (1, 8)) + decodes(LARGEST, format, ("eager",))
        grid += prefills(LARGEST, format, contexts=(2048,))
        if format != "int8":
            grid += decodes(LARGEST, format, ("lean",)) + by_layer(LARGEST, format, ("decode",))
    grid += decodes(LARGEST, "int8-plain", (None,))
    grid += prefills(LARGEST, "int8-plain", contexts=(2048,)) + decodes(LARGEST, "nf4-dq", (None,))
    for model, format in product(LADDER, FORMATS[:3]):
        grid += decodes(model, format, (None,), (1, 32)) + decodes(model, format, ("eager",))
        grid += prefills(model, format, contexts=(2048,))
        grid += by_layer(model) if format == "bf16" and model == LADDER[0] else []
    return grid + profiles()


def profiles() -> list[dict]:
    """The kernels of one step of the 8B model, as it is launched and as it is replayed."""
    modes = {"bf16": ("static", "graph", "lean"), "int8": ("static",)}
    return [
        at("kernels", MAIN, format, mode=mode)
        for format in FORMATS[:4]
        for mode in modes.get(format, ("static", "graph"))
    ]


def wide_grid() -> list[dict]:
    """`large_grid` and what it leaves out: more batches, prompts, contexts and modes."""
    more = limits(small=False, wide=True)
    for format in FORMATS:
        more += decodes(MAIN, format, ("graph", "static", "eager"))
        if format in FORMATS[:3]:
            more += decodes(MAIN, format, (None, "eager"), (2, 4, 8, 16, 32, 64, 128))
            more += prefills(MAIN, format, (1, 8))
        else:
            more += decodes(MAIN, format, (None,), (8, 32, 128)) + prefills(MAIN, format)
        if format == "bf16":
            more += decodes(MAIN, format, ("lean", "compiled"), (8, 32, 128))
            more += decodes(MAIN, format, (None,), (1, 8), (4096, 16384, 65536))
    for format in ("nf4", "bf16", "int8", "int8-plain", "nf4-dq"):
        more += decodes(LARGEST, format, ("graph", "static", "eager"))
        more += decodes(LARGEST, format, (None,), (8, 32)) + prefills(LARGEST, format)
    for model, format in product((*LADDER, "qwen3-0.6b"), FORMATS[:3]):
        more += decodes(model, format, ("graph", "static", "eager"))
        more += decodes(model, format, (None,), (8, 32, 128))
        more += decodes(model, format, ("lean", "compiled")) if format == "bf16" else []
        more += prefills(model, format, contexts=(2048,))
    first = large_grid()
    return first + [
        row for row in {records.identity(row): row for row in more}.values() if row not in first
    ]


def small_grid() -> list[dict]:
    """The rows of a machine without a GPU."""
    grid = limits(small=True)
    for model, format in product(SMALL, SMALL_FORMATS):
        grid += decodes(model, format, ("static", "eager"), (1, 4), (128,))
        grid += prefills(model, format, contexts=(128,))
    grid += [
        at("layers", SMALL[-1], "fp32", 1, context, step=step)
        for step, context in (("decode", 128), ("prefill", 128))
    ]
    return grid + [
        at("kernels", SMALL[1], format, 1, 128, mode="static")
        for format in ("bf16", "nf4", "int8", "int8-plain")
    ]


def cost(config: dict, before: dict | None) -> float:
    """Seconds that a row takes on an H100 or H200, about, loading its model included."""
    start = 25.0 if before is None else 0.0  # torch, transformers and the device
    if config["kind"] == "ceiling":
        return start + 2.5
    names = ("model", "format")
    same = before and all(before.get(name) == config[name] for name in names)
    load = 0.0 if same else 1 + described(config["model"]).total / 17e9
    return start + load + 2.5 + extra(config)


def extra(config: dict) -> float:
    """Seconds of a row above those of a short decode step."""
    if config["kind"] in ("layers", "kernels"):
        return 2.0
    if config["kind"] == "decode":
        return 40.0 if config["mode"] == "compiled" else 0.0
    calls = 6  # at least: two that warm up, one that is tried, three blocks
    rate = {"fp32": 4e13, "bf16": 5e14, "fp16": 5e14}.get(config["format"], 3e14)
    tokens = config["batch"] * config["context"]
    return calls * 2 * described(config["model"]).total * tokens / rate


def limit(config: dict) -> float:
    """Seconds after which a row is given up."""
    slow = config.get("mode") == "compiled" or config.get("device") == "CPU"
    return 4 * LIMIT if slow else LIMIT


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
    found = roofline_gap.of(
        row["kind"],
        described(row["model"]),
        row["format"],
        row["batch"],
        row["context"],
        row["held_bytes"],
        sheet=ceilings.datasheet(row["device"]),
        measured=measured,
    )
    return roofline_gap.compared(row, found, measured)


def chosen(grid: list[dict], words: argparse.Namespace) -> list[dict]:
    """The rows that the command line asks for."""
    wanted = {
        "kind": words.kinds,
        "model": words.models,
        "format": words.formats,
        "mode": words.modes,
    }
    for name, values in wanted.items():
        known = {row[name] for row in grid if name in row}
        if unknown := sorted(set(values or ()) - known):
            raise ValueError(f"no row of {name} {unknown[0]!r}; there are: {', '.join(known)}")
    return [
        row
        for row in grid
        if all(not values or row.get(name, values[0]) in values for name, values in wanted.items())
    ]


def ready(grid: list[dict], small: bool) -> None:
    """Raises ValueError if a package or a compiler is missing that a row of ``grid`` needs.

    Nothing of this says anything about the device, so that none of it may become a row.
    """
    lacking: dict[str, list[str]] = {}
    for format in dict.fromkeys(row["format"] for row in grid if "format" in row):
        package = layers.TABLE[built.nominal(format)].package
        if package and importlib.util.find_spec(package) is None:
            lacking.setdefault(package, []).append(format)
    if lacking:
        words = "; ".join(f"{', '.join(some)} need {name}" for name, some in lacking.items())
        raise ValueError(
            f"packages that are not installed: {words}; --formats without these leaves them out"
        )
    if (
        not small
        and any(row.get("mode") == "compiled" for row in grid)
        and (why := compiled_step.uncompiled())
    ):
        others = ",".join(mode for mode in decode.MODES if mode != "compiled")
        raise ValueError(f"{why}; --modes {others} leaves it out")


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0],
        epilog="Exit code 3: rows are left, and the same command goes on with them.",
    )
    add, names = parser.add_argument, (lambda words: words.split(","))
    add("--minutes", type=float, help="stop cleanly before this much time is over")
    add("--all", action="store_true", help="a wider grid too, after the rows of the usual one")
    add("--small", action="store_true", help="small shapes alone, on the CPU")
    add("--kinds", type=names, help=f"only rows of these kinds, a,b,c of {', '.join(rows.KINDS)}")
    add("--models", type=names, help="only these models, a,b,c; ceilings are kept")
    add("--formats", type=names, help="only these weight formats, a,b,c; ceilings are kept")
    add("--modes", type=names, help="only these modes, a,b,c; rows that have none are kept")
    add("--output", type=Path, help="another file than data/gpu_weights.jsonl")
    add("--list", action="store_true", help="show the rows in their order, and measure none")
    return parser.parse_args(words)


def main() -> None:
    words = arguments()
    file = words.output or records.path("gpu_weights")
    try:
        wanted = small_grid if words.small else wide_grid if words.all else large_grid
        grid = chosen(wanted(), words)
        if words.list:
            for row in grid:
                print("  ".join(f"{name} {value}" for name, value in row.items()))
            return
        ready(grid, words.small)
        there = ENVIRONMENT | ({"CUDA_VISIBLE_DEVICES": ""} if words.small else {})
        with recording.Recording(rows.measure, words.minutes, there) as started:
            name = started.device["device"]
            if name == "CPU" and not words.small:
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
