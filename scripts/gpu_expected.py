"""Put on record what a GPU is held against before there is one: data/gpu_expected.jsonl.

    python scripts/gpu_expected.py

Twenty cells that NVIDIA measured on an H200 (from the package aiconfigurator-core, whose wheel is
fetched by pip, checked by SHA-256 and read as an archive; pip install pyarrow first); the
instructions a value of the packed decode kernels, count in the machine code that Triton makes for
sm_90; and the times of every attention row of scripts/gpu.py predicted from both. What has a row is
not made again: what can be changed afterwards is no prediction. Under two minutes on one core.
"""

import argparse
import sys
from pathlib import Path

import gpu
import pandas as pd
from sizewise.benchmark import expected, kv
from sizewise.data import kernel_tables, records

GPU = "H200"
ROWS, BATCHES = (1, 16, 64, 1024, 4096), (8, 16, 32, 64, 128)
MATRIX = 9e7  # weights of a matrix at least, so that no cache holds it
CACHE = 1e9  # bytes of a cache at least
HEADS = {"num_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "window_size": 0}
# TensorRT-LLM's fp8 products have the rounding of their inputs in them, others' have not.
LEFT_OUT = {"fp8": "trtllm"}


def published(file: Path, table: str, keys: tuple[str, ...], dtype: str) -> pd.DataFrame:
    """Medians of a table's cells on the card, a column a framework, with their spread."""
    columns = {}
    for source in kernel_tables.tables(file, table):
        if source.gpu == GPU:
            frame = kernel_tables.read(file, source.member)
            frame["format"] = frame[dtype].replace({"bfloat16": "bf16"})
            frame = frame[frame["format"].isin(["bf16", "fp8"])]
            numbers = [*keys, *(HEADS if table != "gemm" else ())]
            frame[numbers] = frame[numbers].astype(int)
            if table != "gemm":
                frame = frame[(frame[list(HEADS)] == pd.Series(HEADS)).all(axis=1)]
            cells = frame.groupby(["format", *keys])["seconds"].median()
            columns[f"{source.framework} {source.version}"] = cells
    cells = pd.concat(columns, axis=1)
    for format, framework in LEFT_OUT.items() if table == "gemm" else ():
        names = [name for name in cells if name.startswith(framework)]
        cells.loc[cells.index.get_level_values("format") == format, names] = None
    cells["us"], cells["spread"] = 1e6 * cells.min(axis=1), cells.max(axis=1) / cells.min(axis=1)
    return cells.reset_index()


def cells(file: Path) -> list[tuple[dict, dict]]:
    """(configuration, measurements) of the twenty cells: for each format and each number of rows
    (products) or sequences (attention) the cell on which the frameworks agree best."""
    products = published(file, "gemm", ("m", "n", "k"), "gemm_dtype")
    products = products[(products["n"] * products["k"] > MATRIX) & products["m"].isin(ROWS)]
    attention = published(file, "generation_attention", ("batch_size", "step"), "kv_cache_dtype")
    attention = attention.assign(context=attention["step"] + 1, batch=attention["batch_size"])
    size = attention["batch"] * attention["context"] * 2 * kv.HEADS * kv.DIM
    size *= attention["format"].map({"bf16": 2, "fp8": 1})
    attention = attention[(size > CACHE) & attention["batch"].isin(BATCHES)]
    result = []
    for method, frame, keys in (
        ("product", products, ["m", "n", "k"]),
        ("attend", attention, ["batch", "context"]),
    ):
        best = frame.sort_values("spread").groupby(["format", keys[0]]).head(1)
        for row in best.sort_values(["format", keys[0]]).to_dict("records"):
            config = {"kind": "published", "gpu": GPU, "method": method, "format": row["format"]}
            config |= {key: int(row[key]) for key in keys}
            result.append((config, {"us": row["us"], "spread": row["spread"]}))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--output", type=Path, default=records.path("gpu_expected"))
    output = parser.parse_args().output
    try:
        from sizewise.quantization.kernels import decode  # needs Triton, as this command does

        source = records.provenance(seed=0)
        entry = next(row for row in records.facts("kernel_tables") if row["name"] == "core")
        origin = {key: entry[key] for key in ("package", "version", "sha256")}
        with records.writing(output) as rows:
            if not any(row["kind"] == "published" for row in records.read(output)):
                for config, measured in cells(kernel_tables.wheel("core")):
                    rows.append(config, measured | origin, source)
            for bits in (4, 3, 2):
                config = {"kind": "instructions", "bits": bits}
                config |= {"block": decode.BLOCK, "warps": decode.WARPS}
                if rows.missing([config]):
                    rows.append(config, expected.instructions(bits), source)
            recorded = records.read(output)
            counts = expected.packed_counts(recorded)
            bandwidth = expected.bandwidth(recorded)
            for row in gpu.attention():
                config = {"kind": "predicted", "gpu": GPU}
                config |= {key: row[key] for key in kv.SHAPE}
                if rows.missing([config]):
                    predicted = expected.predict(row["method"], row, counts, bandwidth)
                    rows.append(config, predicted, source)
    except (ValueError, ImportError) as error:
        sys.exit(f"gpu_expected: {error}")


if __name__ == "__main__":
    main()
