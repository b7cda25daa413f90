"""Record one GPU in three commands: weight formats, caches, and the rest.

    python scripts/gpu.py 1 --minutes 9      # ceilings, calibration, gates, weight formats
    python scripts/gpu.py 2 --minutes 9      # attention over caches: gates and times
    python scripts/gpu.py 3 --minutes 9      # other models, scores, capacity, appending
    python scripts/gpu.py 1 --rehearse --output /tmp/rows.jsonl      # tiny shapes on a CPU

First the card is calibrated: unless it measures the cells that NVIDIA published for it (an H200)
within 10 %, at the median, nothing else is recorded. What is timed was checked against float64 on
the same card. What has a row is not measured again; data/gpu.md says how to run it all on a
machine without git and network.
"""

import argparse
import gc
import math
import os
import statistics
import sys
import time
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

from sizewise.data import records

MAIN, OTHERS = "llama-3.1-8b", ("llama-3.2-1b", "qwen3-32b")
FORMATS = ("bf16", "nf4", "int4-mm", "fp8-mm", "int8", "int8-plain", "nf4-dq", "fp4")
# No graph holds LLM.int8()'s search for outliers, so that bf16 is measured in its mode too.
MODES = {"int8": ("static",), "bf16": ("graph", "static")}
BATCHES, CONTEXT = (1, 8, 32, 64, 128), 1024
SHAPES = (*product((131072, 32768, 8192), (1, 8, 32), (4,)), (131072, 1, 8), (32768, 8, 1))
TINY_SHAPES = ((32, 1, 4), (48, 2, 1))
PACKED = ("tq4", "tq3", "tq2")
DENSE = (
    *("bf16-triton", "bf16-flash", "bf16-cudnn"),
    *("fp8-triton", "fp8-flashinfer", "int8-triton"),
)
CHECKED = 70_000  # tokens of a check: whole pages, but no whole tiles
SEED = 0
AGREEMENT = 0.10  # median distance from NVIDIA's times above which nothing is recorded
DONE, LEFT, AGAIN = 0, 1, 3  # exit codes; 3: this process is worn, the same command goes on
START = 25.0  # seconds until torch, transformers and the device are there
COMPILING = 60.0  # seconds that nvcc takes for FlashInfer's kernel, about
# Seconds of a row on an H100 or H200, loading and drawing apart.
SECONDS = {
    **{"ceiling": 2.5, "calibrate": 2.0, "gate": 4.0, "check": 4.0, "check-append": 3.0},
    **{"attend": 3.0, "logits": 3.0, "append": 2.5, "capacity": 2.0},
    **{"decode": 2.5, "prefill": 2.5},
}


def step(kind: str, model: str, format: str, batch: int, context: int, mode="graph") -> dict:
    row = {"kind": kind, "model": model, "format": format, "mode": mode}
    return row | {"batch": batch, "context": context, "seed": SEED}


def shape(context: int, batch: int, group: int) -> dict[str, int]:
    return {"context": context, "batch": batch, "group": group}


def ceilings(tiny: bool) -> list[dict]:
    memory, square = (1 << 20, 64) if tiny else (1 << 32, 8192)
    sizes = {"copy": memory, "read": memory, "bf16": square, "fp8": square, "int8": square}
    return [{"kind": "ceiling", "method": m, "size": size} for m, size in sizes.items()]


def published() -> list[dict]:
    return [row for row in records.read("gpu_expected") if row["kind"] == "published"]


def calibration(tiny: bool) -> list[dict]:
    """The cells that NVIDIA published, in the order of data/gpu_expected.jsonl."""
    names = ("method", "format", "m", "n", "k", "batch", "context")
    cells = [
        {"kind": "calibrate"} | {name: row[name] for name in names if name in row}
        for row in published()
    ]
    if tiny:  # one of each kind, in a small shape
        small = {"m": 2, "n": 64, "k": 64, "batch": 1, "context": 64}
        cells = [cell | {name: small[name] for name in small if name in cell} for cell in cells]
    return list({records.identity(cell): cell for cell in cells}.values())


def weights(tiny: bool) -> list[dict]:
    """Gates and steps of every format of the main model."""
    columns, model = (128, "tiny") if tiny else (4096, MAIN)
    rows = [
        {"kind": "gate", "format": format, "rows": n, "columns": columns}
        for format in FORMATS
        for n in (1, 33)
    ]
    for format in FORMATS:
        modes = ("static",) if tiny else MODES.get(format, ("graph",))
        for mode, batch in product(modes, (1, 2) if tiny else BATCHES):
            rows.append(step("decode", model, format, batch, 16 if tiny else CONTEXT, mode))
        for context in (16,) if tiny else (512, 2048):
            rows.append(step("prefill", model, format, 1, context, "static"))
    return rows


def attention(tiny: bool = False) -> list[dict]:
    """Attention rows, plain before packed."""
    shapes = TINY_SHAPES if tiny else SHAPES
    return [
        {"kind": "attend", "method": method} | shape(*sizes)
        for sizes in shapes
        for method in (*DENSE, *PACKED)
    ]


def caches(tiny: bool) -> list[dict]:
    """Gates and attention of every kind of cache."""
    rows = [
        {"kind": "check", "method": method} | shape(80 if tiny else CHECKED, 3, group)
        for method in (*DENSE, *PACKED)
        for group in ((4, 8) if method in PACKED else (4,))
    ]
    return rows + attention(tiny)


def remainder(tiny: bool) -> list[dict]:
    """The least important plans, which a short lease leaves out."""
    long, new = (TINY_SHAPES[0], 8) if tiny else (SHAPES[0], 4096)
    rows = [
        {"kind": "logits", "method": method} | shape(*long)
        for method in ("fp32-product", "bf16-product", *PACKED)
    ]
    rows += [{"kind": "capacity", "method": m, "model": MAIN} for m in ("bf16", "fp8", *PACKED)]
    rows += [{"kind": "check-append", "method": m} | shape(new, 3, 1) for m in PACKED]
    rows += [
        {"kind": "append", "method": method} | shape(tokens, batch, 1)
        for method in PACKED
        for tokens, batch in ((1, 1), (1, 64), (new, 1))
    ]
    if not tiny:
        for model, format in product(OTHERS, ("bf16", "nf4", "int4-mm", "fp8-mm")):
            rows += [step("decode", model, format, batch, CONTEXT) for batch in (1, 32)]
        rows += [step("decode", MAIN, "bf16", 1, context) for context in (16384, 65536)]
    return rows


PARTS = {1: weights, 2: caches, 3: remainder}


def cost(config: dict, before: dict | None) -> float:
    """Seconds that a row takes on an H100 or H200, about, loading and drawing included."""
    seconds = SECONDS[config["kind"]] + (0.0 if before else START)
    if config["kind"] == "check" and config["method"].endswith("flashinfer"):
        seconds += COMPILING
    if config["kind"] in ("decode", "prefill"):
        size = parameters_of(config["model"])
        same = before and all(before.get(name) == config[name] for name in ("model", "format"))
        seconds += 0.0 if same else 1 + size / 17e9
        if config["kind"] == "prefill":
            seconds += 6 * 2 * size * config["batch"] * config["context"] / 3e14
    elif "context" in config:
        seconds += config["context"] * config["batch"] / 2e6  # drawing two million tokens a second
    return seconds


@cache
def parameters_of(model: str) -> float:
    from sizewise.models import parameters

    return 1e6 if model == "tiny" else parameters.describe(model).total


_model: dict[tuple, Any] = {}  # the model of the row before, which the next one often shares


def measure(config: dict, file: Path) -> dict:
    """The measurements of one row, on the device of this process."""
    import torch
    from sizewise.benchmark import ceilings, kv, recording, steps, weights

    device = "cpu" if config["device"] == "CPU" else "cuda"
    rows = [row for row in records.read(file) if row["device"] == config["device"]]
    torch.manual_seed(SEED)
    key = tuple(config.get(name) for name in ("model", "format"))
    if config["kind"] not in ("decode", "prefill") or key not in _model:
        _model.clear()
        gc.collect()
        if device == "cuda":
            torch.cuda.empty_cache()
    if config["kind"] == "ceiling":
        return ceilings.measure(config["method"], config["size"], device)
    if config["kind"] == "calibrate":
        return calibrate(config, device)
    if config["kind"] == "gate":
        error = weights.error(config["format"], config["rows"], config["columns"], device)
        return {"error": error}
    if config["kind"] in kv.ROWS:
        return kv.ROWS[config["kind"]](config, device, rows)
    limit = weights.ERRORS.get(config["format"], weights.ERROR)
    recording.demand(rows, limit, kind="gate", format=config["format"])
    if key not in _model:
        _model[key] = weights.build(config["model"], config["format"], device, SEED)
    names = ("kind", "mode", "batch", "context")
    return steps.measure(_model[key], *(config[name] for name in names))


def calibrate(config: dict, device: str) -> dict:
    """A cell that NVIDIA published, measured here; attention by the fastest plain kernel."""
    from sizewise.benchmark import ceilings, kv, timing

    if config["method"] == "product":
        shape = [config[name] for name in ("m", "n", "k")]
        number = timing.copies(
            shape[1] * shape[2] * (2 if config["format"] == "bf16" else 1), device
        )
        calls = [ceilings.product(config["format"], *shape, device) for _ in range(number)]
        timed = timing.time_rotating(calls, device)
    else:
        methods = [method for method in DENSE if method.startswith(config["format"])]
        timed = kv.fastest(methods, config | {"group": 4}, device)
    same = {name: config[name] for name in config if name not in ("kind", "device")}.items()
    cells = [row["us"] for row in published() if same <= row.items()]  # none in a rehearsal
    return timed.columns("us", 1e6) | {"published_us": cells[0] if cells else None}


def distance(rows: list[dict]) -> float:
    """Median distance of "calibrate" rows from the published times, as a share.

    Infinite while any published cell lacks a row; a cell that did not run counts as far off.
    """
    rows = [row for row in rows if row["kind"] == "calibrate"]
    ratios = [1.0 if row["refused"] else abs(row["us"] / row["published_us"] - 1) for row in rows]
    return statistics.median(ratios) if len(rows) >= len(published()) else math.inf


def device_name(rehearse: bool) -> str:
    """The GPU as its driver names it. Raises ValueError if there is none to measure."""
    if rehearse:
        return "CPU"
    import torch

    if not torch.cuda.is_available():
        raise ValueError("torch sees no GPU here; --rehearse runs tiny shapes on the CPU")
    return torch.cuda.get_device_name()


def arguments(options: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("part", type=int, choices=list(PARTS))
    add("--minutes", type=float, default=9.0, help="stop cleanly before this much time is over")
    add("--rehearse", action="store_true", help="tiny shapes on the CPU; needs --output")
    add("--uncalibrated", action="store_true", help="go on though the card disagrees with NVIDIA")
    add("--output", type=Path, help="another file than data/gpu.jsonl")
    args = parser.parse_args(options)
    if args.rehearse and not args.output:
        parser.error("--rehearse needs --output: its rows are none of the book's")
    return args


def main() -> int:
    args = arguments()
    file = args.output or records.path("gpu")
    end = time.monotonic() + 60 * args.minutes
    first = [*ceilings(args.rehearse), *calibration(args.rehearse)]
    others = PARTS[args.part](args.rehearse)
    from sizewise.benchmark import recording

    name = device_name(args.rehearse)

    def record(rows: list[dict]) -> tuple[int, bool]:
        configs = [{"device": name, **row} for row in rows]
        return recording.record(configs, file, lambda c: measure(c, file), cost=cost, end=end)

    left, worn = record(first)
    if worn:
        return AGAIN
    if not args.rehearse and not args.uncalibrated:
        apart = distance([row for row in records.read(file) if row["device"] == name])
        if not apart <= AGREEMENT:
            raise ValueError(
                f"distance from NVIDIA's published times: {apart:.1%} at the median; nothing timed"
            )
    left, worn = record(others)
    print(f"{name}: {left} rows of part {args.part} are left")
    return AGAIN if worn else LEFT if left else DONE


if __name__ == "__main__":
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    try:
        sys.exit(main())
    except ValueError as error:
        sys.exit(f"gpu: {error}")
