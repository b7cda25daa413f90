"""Reduce 12 million kernel times of ten accelerators to a few fitted numbers each.

    python scripts/silicon.py
    python scripts/silicon.py --kernels gemm,moe

The tables are in NVIDIA's package aiconfigurator-core, whose wheel is fetched by pip, checked by
SHA-256 and read as an archive in the cache (pip install pyarrow first). For every GPU, framework,
version and format the numbers of `sizewise.costs.kernel_fits` are fitted to one half of the shapes
and scored on the other; then one set for every device is fitted to all tables together. A rule that
drops rows may look at the row and at the device, never at the error of a fit; data/silicon.md has
their reasons. Rows go to data/silicon.jsonl; what has a row is not fitted again. Under five minutes
on two cores.
"""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from common import kernel_tables
from sizewise.costs import kernel_fits as kf
from sizewise.data import catalog, records
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
ODD_WIDTHS = (1856, 2688, 5120)  # Nemotron's experts have two matrices
LARGE_EXPERTS = 5e8  # bytes of expert weights no cache can hold
IMPOSSIBLE = 0.95  # of the floor: below it no timer is that far off
SHARE_BELOW = 0.05  # of a group's large balanced rows below the floor: then the group is dropped
KERNEL_BELOW = 0.25  # of a kernel's groups dropped: then the kernel is
LONGEST_MESSAGE = 256e6
LEAST_SHAPE = 256  # n and k of products that are fitted: below it a model has none
CACHE_FACTOR = 1.5  # attention rows are kept above this many times the L2 cache
SMALL_CACHE = 5e5  # bytes of keys and values under which a decode attention is all launch
HOST_LAUNCH = 3e-5  # seconds: a smallest shape above this was timed with the host in it
GEMM = ("launch", "bandwidth", "peak", "sharpness", "reduction", "waves")
MOE = ("launch", "bandwidth", "peak", "sharpness", "token")
ATTENTION = ("launch", "bandwidth")
PROBLEM = "problem"  # the key under which a result carries what was fitted
# Where a fit starts, and the least and most that it may find.
STARTS = {
    "launch": (5e-6, 5e-7, 5e-4),
    "bandwidth": (0.8, 0.1, 1.3),
    "peak": (0.7, 0.02, 1.3),
    "sharpness": (2.0, 1.0, 8.0),
    "reduction": (1e-10, 1e-13, 1e-8),
    "waves": (0.5, 0.01, 1.0),
    "token": (1e-8, 1e-12, 1e-5),
    "link": (0.7, 0.01, 1.3),
}
STARTS |= {f"peak-{name}": STARTS["peak"] for name in ("16", "8", "4", "weight-only")}


def fit(names, seconds_of, measured, *, limit: int = 3000, seed: int = 0) -> dict[str, float]:
    """The numbers ``names`` that bring ``seconds_of(rows, numbers)`` closest to ``measured``.

    ``seconds_of`` takes an index array and a dict of numbers. Residuals are logarithms under a
    soft absolute loss, so that a few rows timed wrongly do not steer; at most ``limit`` rows,
    drawn with ``seed``, are used. Raises ValueError for fewer rows than four times the numbers.
    """
    from scipy.optimize import least_squares

    measured = np.asarray(measured, float)
    if len(measured) < 4 * len(names):
        raise ValueError(f"{len(measured)} rows are too few to fit {len(names)} numbers")
    rows = np.arange(len(measured))
    if len(rows) > limit:
        rows = np.sort(np.random.default_rng(seed).choice(rows, limit, replace=False))
    start, lower, upper = (np.log([STARTS[name][i] for name in names]) for i in range(3))
    target = np.log(measured[rows])

    def residuals(logs):
        numbers = dict(zip(names, np.exp(logs), strict=True))
        return np.log(seconds_of(rows, numbers)) - target

    best = least_squares(
        residuals, start, bounds=(lower, upper), loss="soft_l1", f_scale=0.1, max_nfev=200
    )
    return {name: float(value) for name, value in zip(names, np.exp(best.x), strict=True)}


def errors(predicted, measured) -> dict[str, float]:
    """Median and 90th percentile of the absolute error, in percent, and the median ratio."""
    ratio = np.asarray(predicted, float) / np.asarray(measured, float)
    off = 100 * np.abs(ratio - 1)
    return {
        "rows": len(ratio),
        "error_median": float(np.median(off)),
        "error_p90": float(np.percentile(off, 90)),
        "ratio_median": float(np.median(ratio)),
    }


def half(*columns) -> np.ndarray:
    """True for half of the shapes, the same half on every machine: those that are fitted.

    A multiplicative hash (Knuth, TAOCP 3, section 6.4) of the columns, so that neighbouring sizes
    fall on both sides.
    """
    mixed = np.zeros(len(columns[0]), dtype=np.uint64)
    for column in columns:
        mixed = (mixed + np.asarray(column).astype(np.uint64) + 1) * np.uint64(2654435761)
        mixed ^= mixed >> np.uint64(15)
    return (mixed >> np.uint64(7)) % 2 == 0


class Chip(NamedTuple):
    """What a fit needs of a device."""

    bandwidth: float
    peaks: dict
    units: int | None
    cache: float
    link: float


def chip_of(device) -> Chip:
    """The `Chip` of a catalogue device. Raises ValueError where it states no L2 cache or link."""
    if device.l2_bytes is None or device.link_bandwidth is None:
        raise ValueError(f"{device.name} states no L2 cache or no link")
    return Chip(device.bandwidth, device.flops, device.sms, device.l2_bytes, device.link_bandwidth)


class Problem(NamedTuple):
    """What is fitted: the formula over row indices, times, the floor, and which half is fitted."""

    names: tuple[str, ...]
    seconds_of: Callable
    seconds: np.ndarray
    floor: np.ndarray
    fitted: np.ndarray


def _result(numbers, problem: Problem, dropped: dict, **more) -> dict:
    """One row's measurements: the fit, its error on the held-out half, and the floor beside it.

    A table of which over `SHARE_BELOW` is faster than its floor keeps no numbers.
    """
    tested = ~problem.fitted if not problem.fitted.all() else problem.fitted
    share = problem.floor / problem.seconds
    below = int((share > 1 / IMPOSSIBLE).sum())
    impossible = problem.names == ATTENTION and below > SHARE_BELOW * len(share)
    if impossible:
        dropped = dropped | {"below-floor": len(share)}
    return {
        "numbers": None if impossible else numbers,
        **errors(problem.seconds_of(np.flatnonzero(tested), numbers), problem.seconds[tested]),
        "rows_fitted": int(problem.fitted.sum()),
        "dropped": dropped,
        "floor_error_median": float(100 * np.median(np.abs(share[tested] - 1))),
        "floor_share_median": float(np.median(share)),
        "floor_share_p90": float(np.percentile(share, 90)),
        "below_floor": int((share > 1).sum()),
        PROBLEM: problem,
        **more,
    }


def _fitted(problem: Problem, dropped: dict, **more) -> dict:
    rows = np.flatnonzero(problem.fitted)
    numbers = fit(problem.names, lambda i, x: problem.seconds_of(rows[i], x), problem.seconds[rows])
    return _result(numbers, problem, dropped, **more)


def _keep(frame, dropped: dict, reason: str, mask):
    """The rows where ``mask`` is false, with the others counted under ``reason``."""
    count = int(mask.sum())
    if count:
        dropped[reason] = dropped.get(reason, 0) + count
    return frame[~mask]


def columns(frame, *names) -> list[np.ndarray]:
    """Columns as float arrays."""
    return [frame[name].to_numpy(float) for name in names]


def timed_from_host(frame) -> bool:
    """Whether the smallest product took over `HOST_LAUNCH` seconds."""
    size = frame["n"] * frame["k"] * frame["m"]
    return bool(frame["seconds"][size == size.min()].min() > HOST_LAUNCH)


def reduce_gemm(frame, format: str, chip: Chip) -> dict:
    """Six numbers for the products of one table in one weight format.

    A table whose smallest shape takes over `HOST_LAUNCH` seconds, and a format that
    the device does not multiply, come back with ``dropped`` alone.
    """
    kind, dropped = kf.KINDS[format], {}
    peak = chip.peaks.get(kind.compute)
    if peak is None:
        return {"dropped": {"no-peak": len(frame)}, "rows": 0}
    small = (frame["n"] < LEAST_SHAPE) | (frame["k"] < LEAST_SHAPE)
    frame = _keep(frame, dropped, "small", small)
    if not len(frame):
        return {"dropped": dropped, "rows": 0}
    if timed_from_host(frame):
        return {"dropped": dropped | {"host": len(frame)}, "rows": 0}
    m, n, k, seconds = columns(frame, "m", "n", "k", "seconds")

    def seconds_of(i, numbers):
        return kf.gemm_seconds(m[i], n[i], k[i], kind, chip.bandwidth, peak, chip.units, numbers)

    floor = np.maximum(kf.gemm_bytes(m, n, k, kind) / chip.bandwidth, 2 * m * n * k / peak)
    cached = n * k * kind.weight_bits / 8 < CACHE_FACTOR * chip.cache
    below = {"below_floor_uncached": int(((floor > seconds) & ~cached).sum())}
    return _fitted(Problem(GEMM, seconds_of, seconds, floor, half(n, k)), dropped, **below)


def reduce_attention(frame, cache: str, chip: Chip) -> dict:
    """Two numbers for decode attention with keys and values in ``cache``.

    Only rows that read more than 1.5 times the L2 cache are kept; the launch is the median of
    those that read next to nothing, and the efficiency that of the fitted half.
    """
    dropped = {}
    ratio = frame["num_heads"] / frame["num_key_value_heads"]
    if "window_size" in frame:
        windowed = frame["window_size"] != 0
        frame, ratio = _keep(frame, dropped, "window", windowed), ratio[~windowed]
    odd = (ratio < 2) | (ratio > 16)
    frame = _keep(frame, dropped, "heads", odd)
    moved = (
        frame["batch_size"]
        * (frame["step"] + frame["isl"]).astype(float)
        * frame["num_key_value_heads"]
        * frame["head_dim"]
        * 2
        * CACHE_BYTES[cache]
    )
    launch = float(frame["seconds"][moved < SMALL_CACHE].median())
    warm = moved <= CACHE_FACTOR * chip.cache
    below_all = int((frame["seconds"] < moved / chip.bandwidth).sum())
    considered = len(frame)
    frame, moved = _keep(frame, dropped, "warm-cache", warm), moved[~warm].to_numpy()
    if len(frame) < 20 or not launch > 0:
        return {"dropped": dropped | {"warm-cache": considered}, "rows": 0}
    (seconds,) = columns(frame, "seconds")
    fitted = half(*columns(frame, "num_heads", "num_key_value_heads", "head_dim"))
    inside = np.maximum(seconds - launch, 0.05 * seconds)[fitted]
    numbers = {
        "launch": launch,
        "bandwidth": float(np.median(moved[fitted] / (chip.bandwidth * inside))),
    }
    problem = Problem(
        ATTENTION,
        lambda i, x: kf.attention_seconds(moved[i], chip.bandwidth, x),
        seconds,
        moved / chip.bandwidth,
        fitted,
    )
    return _result(
        numbers, problem, dropped, rows_considered=considered, below_floor_considered=below_all
    )


CACHE_BYTES = {"bf16": 2, "fp8": 1}
LATENT, ROTARY, KEY, VALUE = 512, 64, 128, 128  # DeepSeek-V3's, the only ones in the tables
LEAST_CONTEXT, LEAST_PROMPT = 512, 256


def reduce_latent(frame, cache: str, chip: Chip) -> dict:
    """Four numbers for decode attention over DeepSeek's latents: all heads read one vector."""
    dropped = {}
    frame = _keep(frame, dropped, "short", frame["step"] + frame["isl"] < LEAST_CONTEXT)
    batch, step, isl, heads, seconds = columns(
        frame, "batch_size", "step", "isl", "num_heads", "seconds"
    )
    tokens = batch * (step + isl)
    moved = tokens * (LATENT + ROTARY) * CACHE_BYTES[cache]
    flops = tokens * heads * 2 * (2 * LATENT + ROTARY)
    peak = chip.peaks["bf16"]
    problem = Problem(
        ("launch", "bandwidth", "peak", "sharpness"),
        lambda i, x: kf.latent_seconds(moved[i], flops[i], chip.bandwidth, peak, x),
        seconds,
        moved / chip.bandwidth,
        half(heads, batch),
    )
    return _fitted(problem, dropped)


def reduce_prompt(frame, cache: str, chip: Chip, *, latent: bool = False) -> dict:
    """Three numbers for causal attention over whole prompts, in 16-bit arithmetic."""
    dropped = {}
    frame = _keep(frame, dropped, "short", (frame["isl"] < LEAST_PROMPT) | (frame["step"] != 0))
    if "window_size" in frame:
        frame = _keep(frame, dropped, "window", frame["window_size"] != 0)
    batch, length, heads, seconds = columns(frame, "batch_size", "isl", "num_heads", "seconds")
    if latent:
        key_heads, key, value = heads, KEY + ROTARY, VALUE
    else:
        key_heads, key = columns(frame, "num_key_value_heads", "head_dim")
        value = key
    flops = batch * heads * length**2 * (key + value)  # half of the square
    moved = batch * length * (heads * (key + value) * 2 + key_heads * (key + value) * 2)
    peak = chip.peaks["bf16"]
    fitted = half(heads, batch) if latent else half(heads, key_heads, key)
    problem = Problem(
        ("launch", "bandwidth", "peak"),
        lambda i, x: kf.prompt_seconds(moved[i], flops[i], chip.bandwidth, peak, x),
        seconds,
        np.maximum(moved / chip.bandwidth, flops / peak),
        fitted,
    )
    return _fitted(problem, dropped)


def reduce_latent_prompt(frame, cache: str, chip: Chip) -> dict:
    """`reduce_prompt` for DeepSeek's latents, expanded for every head."""
    return reduce_prompt(frame, cache, chip, latent=True)


def expert_parts(frame, kind) -> list[np.ndarray]:
    """The arguments of `kernel_fits.moe_parts` from a table's columns."""
    names = (
        "num_tokens",
        "hidden_size",
        "inter_size",
        "topk",
        "num_experts",
        "moe_tp_size",
        "moe_ep_size",
    )
    return columns(frame, *names)


def impossible_groups(frame, kind, chip: Chip) -> tuple[list[str], int, int]:
    """(groups that break the floor as a whole, large balanced rows below it, such rows).

    A group is one kernel at one shape of experts. Under balanced routing all experts are read;
    rows of over `LARGE_EXPERTS` bytes cannot come from a cache. Where more than `SHARE_BELOW` of
    a group's are faster than the memory, the group is named; where that holds for more than
    `KERNEL_BELOW` of a kernel's groups, so is the kernel ("NAME/").
    """
    parts = expert_parts(frame, kind)
    moved, flops = kf.moe_parts(*parts, kind)
    floor = np.maximum(moved / chip.bandwidth, flops / chip.peaks[kind.compute])
    _, hidden, inter, _, experts, tensor, expert = parts
    stored = experts / expert * 3 * hidden * inter / tensor * kind.weight_bits / 8
    large = (frame["distribution"] == "balanced").to_numpy() & (stored > LARGE_EXPERTS)
    below = (frame["seconds"].to_numpy() < IMPOSSIBLE * floor)[large]
    groups = group_names(frame)[large]
    shares = {name: below[groups == name].mean() for name in set(groups)}
    dropped = sorted(name for name, share in shares.items() if share > SHARE_BELOW)
    kernels = {name.split("/")[0] for name in shares}
    for kernel in sorted(kernels):
        names = [name for name in shares if name.startswith(kernel + "/")]
        if sum(name in dropped for name in names) > KERNEL_BELOW * len(names):
            dropped.append(kernel + "/")
    return dropped, int(below.sum()), int(large.sum())


SHAPE = ["hidden_size", "inter_size", "topk", "num_experts"]


def group_names(frame) -> np.ndarray:
    """One name for each row: kernel, hidden size, width, experts used and experts."""
    codes = frame.groupby(["kernel_source", *SHAPE], sort=True).ngroup().to_numpy()
    first = frame.assign(code=codes).drop_duplicates("code").sort_values("code")
    names = [
        f"{row['kernel_source']}/" + "-".join(str(int(row[name])) for name in SHAPE)
        for row in first.to_dict("records")
    ]
    return np.array(names)[codes]


def reduce_moe(frame, format: str, chip: Chip) -> dict:
    """Five numbers for the routed experts of one table in one weight format, uneven routing."""
    kind, dropped = kf.KINDS[format], {}
    peak = chip.peaks.get(kind.compute)
    if peak is None:
        return {"dropped": {"no-peak": len(frame)}, "rows": 0}
    plain = frame["kernel_source"].str.contains("nongated") | frame["inter_size"].isin(ODD_WIDTHS)
    frame = _keep(frame, dropped, "not-gated", plain)
    wide = (frame["moe_tp_size"] > 8) | (frame["moe_ep_size"] > 8)
    frame = _keep(frame, dropped, "wide-parallel", wide)
    if not len(frame):
        return {"dropped": dropped, "rows": 0}
    bad, below, large = impossible_groups(frame, kind, chip)
    kernels = (frame["kernel_source"] + "/").to_numpy(str)
    mask = np.isin(group_names(frame), bad) | np.isin(kernels, bad)
    frame = _keep(frame, dropped, "below-floor", mask)
    skewed = frame[frame["distribution"].str.startswith("power_law")]
    if len(skewed) < 60:
        return {"dropped": dropped | {"short": len(skewed)}, "rows": 0}
    parts = expert_parts(skewed, kind)
    (seconds,) = columns(skewed, "seconds")
    moved, flops = kf.moe_parts(*parts, kind)
    problem = Problem(
        MOE,
        lambda i, x: kf.moe_seconds(*[part[i] for part in parts], kind, chip.bandwidth, peak, x),
        seconds,
        np.maximum(moved / chip.bandwidth, flops / peak),
        half(*parts[1:]),
    )
    return _fitted(
        problem, dropped, dropped_groups=bad, balanced_large=large, balanced_large_below=below
    )


def reduce_collective(frame, devices: str, chip: Chip) -> dict:
    """Two numbers for the sum over ``devices`` GPUs, launched from a graph; error in sample.

    Message sizes in the tables count 16-bit elements: read as bytes, the largest would use half
    of NVLink's rate.
    """
    dropped, gpus = {}, int(devices)
    frame = _keep(frame, dropped, "eager", frame["kernel_source"].str.contains("eager"))
    frame = _keep(frame, dropped, "large-message", 2 * frame["message_size"] > LONGEST_MESSAGE)
    if len(frame) < 10:
        return {"dropped": dropped | {"short": len(frame)}, "rows": 0}
    size, seconds = columns(frame, "message_size", "seconds")
    size *= 2
    problem = Problem(
        ("launch", "link"),
        lambda i, x: kf.reduce_seconds(size[i], gpus, chip.link, x),
        seconds,
        2 * (gpus - 1) / gpus * size / chip.link,
        np.ones(len(size), bool),
    )
    return _fitted(problem, dropped)


# ------------------------------------------------------------------ one set for every device

CLASSES = {  # weight formats whose products share a share of the peak
    "bf16": "peak-16",
    "fp8": "peak-8",
    "fp8-block": "peak-8",
    "w8a8": "peak-8",
    "nvfp4": "peak-4",
    "int4": "peak-weight-only",
    "int8-weight-only": "peak-weight-only",
    "mxfp4-bf16": "peak-weight-only",
    "mxfp4-fp8": "peak-8",
}
SAMPLE = 200  # rows of each table in the common fit, so that no GPU outweighs another


def everywhere(kernel: str, pool: list) -> Iterator[tuple[dict, dict]]:
    """(configuration, measurements) of the numbers that hold for every GPU and framework.

    ``pool`` has (configuration, rows, chip, measurements) of each table; those without numbers
    are left out. Products share all but the peak, which goes by class of format.
    """
    pool = [entry for entry in pool if entry[3].get("numbers")]
    if not pool:
        return
    names = pool[0][3][PROBLEM].names
    rng = np.random.default_rng(SEED)
    if kernel == "gemm":
        names = tuple(name for name in names if name != "peak") + tuple(
            sorted({CLASSES[config["format"]] for config, *_ in pool})
        )
    problems, formats, fitted, tested = [], [], [], []
    for config, _, _, measured in pool:
        problem = measured[PROBLEM]
        problems.append(problem)
        formats.append(config["format"])
        for rows, half in ((fitted, problem.fitted), (tested, ~problem.fitted)):
            indices = np.flatnonzero(half if half.any() else ~half)
            rows.append(np.sort(rng.choice(indices, min(SAMPLE, len(indices)), replace=False)))

    def numbers_for(format: str, numbers: dict) -> dict:
        if kernel != "gemm":
            return numbers
        return {name: numbers[name] for name in GEMM if name != "peak"} | {
            "peak": numbers[CLASSES[format]]
        }

    def predicted(rows, numbers):
        return np.concatenate(
            [
                problem.seconds_of(index, numbers_for(format, numbers))
                for problem, format, index in zip(problems, formats, rows, strict=True)
            ]
        )

    def measured_of(rows):
        return np.concatenate(
            [problem.seconds[index] for problem, index in zip(problems, rows, strict=True)]
        )

    numbers = fit(
        names, lambda _, x: predicted(fitted, x), measured_of(fitted), limit=10**9, seed=SEED
    )
    scored = errors(predicted(tested, numbers), measured_of(tested))
    listed = sorted(set(formats)) if kernel == "gemm" else ["any"]
    if kernel == "gemm":
        listed = [name for name in CLASSES if CLASSES[name] in names]
    for format in listed:
        config = {
            "kernel": kernel,
            "gpu": "any",
            "framework": "any",
            "version": "any",
            "format": format,
        }
        yield (
            config,
            {
                "numbers": numbers_for(format, numbers),
                **scored,
                "rows_fitted": sum(map(len, fitted)),
                "tables": len(pool),
                "dropped": {},
            },
        )


# ------------------------------------------------------------------ the recording

REDUCE = {
    "gemm": reduce_gemm,
    "attention-decode": reduce_attention,
    "latent-decode": reduce_latent,
    "prompt-attention": reduce_prompt,
    "prompt-latent": reduce_latent_prompt,
    "moe": reduce_moe,
    "all-reduce": reduce_collective,
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
    shown = {name: value for name, value in measured.items() if name != PROBLEM}
    row = records.append(output, config, empty | shown, source)
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
                chip = chip_of(catalog.device(config["gpu"]))
                measured = REDUCE[kernel](rows, config["format"], chip)
                pools.setdefault(kernel, []).append((config, rows, chip, measured))
                if records.missing(args.output, [config]):
                    record(args.output, config, measured, source)
            for config, measured in everywhere(kernel, pools.pop(kernel)):
                if records.missing(args.output, [config]):
                    record(args.output, config, measured, source)
    except (ValueError, ImportError, KeyError) as error:
        sys.exit(f"silicon: {error}")


if __name__ == "__main__":
    main()
