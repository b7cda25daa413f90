"""Reduce 12 million kernel times of ten accelerators to a few fitted numbers each.

    python scripts/silicon.py
    python scripts/silicon.py --kernels gemm,moe

The tables are in NVIDIA's package aiconfigurator-core, whose wheel is fetched by pip, checked by
SHA-256 and read as an archive in the cache (pip install pyarrow first). For every GPU, framework,
version and format the numbers of `sizewise.costs.kernel_fits` are fitted to one half of the shapes
and scored on the other; then one set for every device is fitted to all tables together. Rows go to
data/silicon.jsonl; what has a row is not fitted again. Under five minutes on two cores.
"""

import sys
from pathlib import Path

from sizewise.costs import kernel_fits as kf
from sizewise.data import catalog, kernel_tables, records
from sizewise.experiments import kernel_reduction as reduction
from sizewise.experiments import options

TABLES = {  # kernel -> table, column of the format
    "gemm": ("gemm", "gemm_dtype"),
    "attention-decode": ("generation_attention", "kv_cache_dtype"),
    "latent-decode": ("generation_mla", "kv_cache_dtype"),
    "prompt-attention": ("context_attention", "kv_cache_dtype"),
    "prompt-latent": ("context_mla", "kv_cache_dtype"),
    "moe": ("moe", "moe_dtype"),
    "all-reduce": ("custom_allreduce", "num_gpus"),
}
REDUCE = {
    "gemm": reduction.reduce_gemm,
    "attention-decode": reduction.reduce_attention,
    "latent-decode": reduction.reduce_latent,
    "prompt-attention": reduction.reduce_prompt,
    "prompt-latent": reduction.reduce_latent_prompt,
    "moe": reduction.reduce_moe,
    "all-reduce": reduction.reduce_collective,
}
SEED = 0


def configs(file: Path, kernel: str):
    """(configuration, rows of the table) for each format of each table of a kernel."""
    table, column = TABLES[kernel]
    for source in kernel_tables.tables(file, table):
        frame = kernel_tables.read(file, source.member)
        if kernel == "prompt-attention":  # queries in 8 bits are another kernel
            frame = frame[frame["attn_dtype"] == "bfloat16"]
        for value, rows in frame.groupby(column):
            name = kernel_tables.FORMATS.get(value, str(value))
            if kernel in ("gemm", "moe") and name not in kf.KINDS:
                continue
            config = {
                "kernel": kernel,
                "gpu": source.gpu,
                "framework": source.framework,
                "version": source.version,
                "format": name,
            }
            yield config, rows


def record(output: Path, config: dict, measured: dict, source: dict) -> None:
    """Append one row and say what it is."""
    empty = {"numbers": None, "error_median": None, "error_p90": None}
    columns = {name: value for name, value in measured.items() if name != reduction.PROBLEM}
    row = records.append(output, config, empty | columns, source)
    error = "dropped" if row["numbers"] is None else f"{row['error_median']:.1f} %"
    print(*config.values(), f"{measured['rows']} rows held out", error, flush=True)


def main() -> None:
    parser = options.parser(__doc__)
    parser.add_argument(
        "--kernels", type=options.numbers(str), default=list(TABLES), help="which ones, a,b,c"
    )
    parser.add_argument("--output", type=Path, default=records.path("silicon"))
    args = parser.parse_args()
    try:
        file, source = kernel_tables.wheel("core"), records.provenance(seed=SEED)
        pools: dict[str, list] = {}
        for kernel in args.kernels:
            for config, rows in configs(file, kernel):
                chip = reduction.chip(catalog.device(config["gpu"]))
                measured = REDUCE[kernel](rows, config["format"], chip)
                pools.setdefault(kernel, []).append((config, rows, chip, measured))
                if records.missing(args.output, [config]):
                    record(args.output, config, measured, source)
            for config, measured in reduction.everywhere(kernel, pools.pop(kernel), seed=SEED):
                if records.missing(args.output, [config]):
                    record(args.output, config, measured, source)
    except (ValueError, ImportError, KeyError) as error:
        sys.exit(f"silicon: {error}")


if __name__ == "__main__":
    main()
