"""Time decode steps of a small model on this processor, and the processor's own ceilings.

    python scripts/cpu_decode.py

The ceilings come first, then one decode step of SmolLM2-135M's shape by context and batch, each
over the floor that `sizewise.costs.roofline` puts below it with these ceilings. Rows go to
data/cpu_decode.jsonl; what has a row is not measured again.
"""

import argparse
import os
from itertools import product
from pathlib import Path

from sizewise.costs import cpu
from sizewise.data import records

MODEL = "smollm2-135m"
GRID = [{"what": "ceiling", "of": name} for name in cpu.CEILINGS] + [
    {"what": "decode", "of": MODEL, "context": context, "batch": batch}
    for context, batch in product((128, 1024, 4096), (1, 4, 16))
]


def measure(config: dict, rows: list[dict]) -> dict[str, float]:
    """One ceiling, or one step over the floor that the ceilings already recorded give."""
    if config["what"] == "ceiling":
        return {"rate": cpu.ceiling(config["of"])}
    rates = {row["of"]: row["rate"] for row in rows if row["what"] == "ceiling"}
    device = cpu.as_device(rates)
    return cpu.decode_step(config["of"], config["context"], config["batch"], device)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, help="another file than data/cpu_decode.jsonl")
    file = parser.parse_args().output or records.path("cpu_decode")
    import torch

    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    torch.set_num_threads(threads)
    todo = records.missing(file, GRID)
    for position, config in enumerate(todo, 1):
        measured = measure(config, records.read(file))
        row = records.append(file, config, measured, records.provenance(seed=0))
        words = " ".join(str(value) for value in config.values())
        print(f"[{position}/{len(todo)}] {words}: {row.get('over_floor', row.get('rate')):.3g}")


if __name__ == "__main__":
    main()
