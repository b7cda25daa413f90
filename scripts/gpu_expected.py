"""Put on record what a GPU is held against before there is one: data/gpu_expected.jsonl.

    python scripts/gpu_expected.py

Twenty cells that NVIDIA measured on an H200 (from the package aiconfigurator-core, whose wheel is
fetched by pip, checked by SHA-256 and read as an archive; pip install pyarrow first); the
instructions a value of the packed decode kernels, count in the machine code that Triton makes for
sm_90; and the times of every attention row of scripts/gpu.py predicted from both. What has a row is
not made again: what can be changed afterwards is no prediction. Under two minutes on one core.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import gpu
import pandas as pd
from common import kernel_tables
from sizewise.benchmark import kv
from sizewise.data import catalog, records

GPU = "H200"
ROWS, BATCHES = (1, 16, 64, 1024, 4096), (8, 16, 32, 64, 128)
MATRIX = 9e7  # weights of a matrix at least, so that no cache holds it
CACHE = 1e9  # bytes of a cache at least
HEADS = {"num_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "window_size": 0}
# TensorRT-LLM's fp8 products have the rounding of their inputs in them, others' have not.
LEFT_OUT = {"fp8": "trtllm"}
# A packed cache is read by code that turns each code into a number, so that instructions, not
# bytes, set its ceiling.
ISSUE = 4 * 32  # threads whose instruction a multiprocessor issues a cycle
MULTIPLIES = 4096  # bf16 FLOPs a multiprocessor does a cycle: the datasheet's peak gives its clock
REACHED = (0.80, 0.95)  # of the issue slots, by a loop that also waits for memory
PLAIN = (0.95, 1.0)  # of the fastest published read of a cache, by kernels of plain numbers
LAUNCH = 2.5e-6  # seconds of a kernel in a graph, with the tail of the one before
LAUNCHES = {"packed": 3, "plain": 2}  # rotate, attend, merge; attend, merge


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


def instructions(bits: int) -> dict:
    """Instructions of the decode kernel's inner loop for one stored key or value number.

    Compiles `kernels.decode.split_kernel` for sm_90 (d 128, a group of 4) and counts what lies
    between the last backward branch of its largest loop and that branch's target.
    """
    import triton
    from sizewise.quantization.kernels import decode
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = decode.split_kernel.arg_names
    constants = {"HEADS": kv.HEADS, "GROUP": 4, "ROWS": 16, "D": kv.DIM, "PERMUTE": True}
    constants |= {"KBITS": bits, "VBITS": bits, "BLOCK": decode.BLOCK}
    pointers = {"u8": "K V", "i32": "KT VT LENGTH", "fp16": "Q KN VN", "fp32": "SIZE PARTIAL LSE"}
    types = {name: f"*{kind}" for kind, group in pointers.items() for name in group.split()}
    aligned = {key: [["tt.divisibility", 16]] for key in [*types, "CAPACITY"]}
    types |= {"SPLITS": "i32", "CAPACITY": "i32", "factor": "fp32"}
    source = ASTSource(
        fn=decode.split_kernel,
        signature={name: types.get(name, "constexpr") for name in names},
        constexprs={(names.index(name),): value for name, value in constants.items()},
        attrs={(names.index(name),): value for name, value in aligned.items()},
    )
    options = {"num_warps": decode.WARPS, "num_stages": decode.STAGES}
    compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options)
    tool = os.path.join(os.path.dirname(triton.__file__), "backends", "nvidia", "bin", "nvdisasm")
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        Path(file.name).write_bytes(compiled.asm["cubin"])
        done = subprocess.run([tool, "-c", file.name], check=True, capture_output=True, text=True)
    loop = longest_loop(done.stdout)
    return {"loop": loop, "per_value": loop * decode.WARPS * 32 / (2 * decode.BLOCK * kv.DIM)}


def longest_loop(listing: str) -> int:
    """Instructions of the largest loop in a listing of nvdisasm."""
    position, labels, loops = 0, {}, [0]
    for line in listing.splitlines():
        if label := re.match(r"(\.L_\w+):", line.strip()):
            labels[label[1]] = position
        elif instruction := re.match(r"/\*[0-9a-f]{4,}\*/\s+(.*?);", line.strip()):
            position += 1
            branch = re.search(r"\bBRA\b.*`\((\.L_\w+)\)", instruction[1])
            if branch and branch[1] in labels:
                loops.append(position - labels[branch[1]])
    return max(loops)


def predict(method: str, shape: dict, per_value: float | None, bandwidth: float) -> tuple:
    """(least, most) predicted seconds of one attention row on an H200.

    ``per_value`` instructions a number of a packed method, None for plain ones; ``bandwidth``
    bytes a second of the fastest published read of a cache.
    """
    card, size = catalog.device(GPU), kv.cache_bytes(shape | {"method": method})
    launches, rates = LAUNCHES["plain"], [bandwidth * share for share in PLAIN]
    if per_value is not None:
        # A cycle is what the datasheet's peak leaves of a second.
        issued = ISSUE * card.flops["bf16"] / MULTIPLIES  # instructions a second, of all threads
        values = issued / per_value / kv.DIM * kv.vector_bytes(method)  # bytes a second
        launches, rates = LAUNCHES["packed"], [min(bandwidth, values * share) for share in REACHED]
    return LAUNCH * launches + size / max(rates), LAUNCH * launches + size / min(rates)


def prediction(row: dict, counts: dict[int, float], bandwidth: float) -> dict:
    """Predicted microseconds of a row, and its speed over plain caches of the same shape.

    ``counts``: instructions a value by bits of a packed method.
    """
    per_value = counts[int(row["method"][2])] if row["method"] in kv.PACKED else None
    low, high = predict(row["method"], row, per_value, bandwidth)
    columns = {"us_low": 1e6 * low, "us_high": 1e6 * high}
    for other in ("bf16", "fp8"):
        fast, slow = predict(f"{other}-triton", row, None, bandwidth)
        columns |= {f"over_{other}_low": fast / high, f"over_{other}_high": slow / low}
    return columns


def bandwidth(recorded: pd.DataFrame) -> float:
    """Bytes a second of the fastest published read of a bf16 cache."""
    cells = recorded.query("kind == 'published' and method == 'attend' and format == 'bf16'")
    size = 2 * kv.HEADS * kv.vector_bytes("bf16")
    return float((1e6 * size * cells["batch"] * cells["context"] / cells["us"]).max())


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
                    rows.append(config, instructions(bits), source)
            recorded = pd.DataFrame(records.read(output))
            counts = recorded.groupby("bits")["per_value"].min()  # the fewest over tunings
            fastest = bandwidth(recorded)
            for row in gpu.attention():
                config = {"kind": "predicted", "gpu": GPU}
                config |= {key: row[key] for key in kv.SHAPE}
                if rows.missing([config]):
                    rows.append(config, prediction(row, counts, fastest), source)
    except (ValueError, ImportError) as error:
        sys.exit(f"gpu_expected: {error}")


if __name__ == "__main__":
    main()
