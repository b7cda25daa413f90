"""Where fewer bits pay: measured products, caches and servers, format against bf16.

    SIZEWISE_PUBLISHED=folder python scripts/silicon_formats.py

Products and attention kernels come from two releases of NVIDIA's planner (scripts/silicon.py says
how they are read); whole servers from AccelMark, whose verified results are collected in the
published folder (data/silicon_formats.md). Each row is a median over shapes with its count. Rows
go to data/silicon_formats.jsonl; what has a row is not computed again. Under two minutes.
"""

import hashlib
import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import silicon
from common import kernel_tables
from sizewise.costs import kernel_fits as kf
from sizewise.data import catalog, records
from sizewise.experiments import options

LEAST = 2048  # n and k of the products compared
SIZES = ((0, 26e6, "to 26M"), (26e6, 120e6, "26M to 120M"), (120e6, 1e12, "over 120M"))
PAYS = 1.05  # a speed-up under it is a tie: two versions of one framework differ by 5 %
OLDER = {  # tables whose int4 and int8 rows the newer release lacks
    ("L40S", "trtllm", "1.0.0"),
    ("H100", "trtllm", "1.0.0rc3"),
    ("H200", "trtllm", "1.2.0rc5"),
}
TOKENS = ((0, 8192), (8192, 65_536), (65_536, 524_288), (524_288, 10**12))  # batch x context
EFFECT = 0.05  # smaller effects have no sign worth predicting
FEW_ROWS = 64
ACCELMARK = "accelmark_formats.csv"
ACCELMARK_SHA256 = "0a08acc9a2a91f88732fb4d1537abfad7f9c0d8f787a6789a92cc42ab58a0eb5"


def product_tables():
    """(source, release, frame) of each table of products, its formats by the library's names."""
    for release in ("core", "older"):
        file = kernel_tables.wheel(release)
        for source in kernel_tables.tables(file, "gemm"):
            if release == "older" and source[:3] not in OLDER:
                continue
            frame = kernel_tables.read(file, source.member)
            frame["format"] = frame["gemm_dtype"].map(kernel_tables.FORMATS)
            yield source, release, frame[frame["format"].notna()]


def speedups(frame: pd.DataFrame, format: str) -> pd.DataFrame:
    """Seconds in bf16 over seconds in ``format``, for each shape that both have."""
    times = frame.pivot_table(index=["m", "n", "k"], columns="format", values="seconds")
    if not {"bf16", format} <= set(times.columns):
        return pd.DataFrame(columns=["m", "n", "k", "speedup"])
    times = times[["bf16", format]].dropna()
    return (times["bf16"] / times[format]).rename("speedup").reset_index()


def payoff(ratios: pd.DataFrame) -> dict:
    """The median speed-up by rows of the batch, and where the advantage ends for good."""
    counts = ratios.groupby("m")["speedup"].agg(["median", "size"])
    counts = counts[counts["size"] >= 0.5 * counts["size"].max()]
    medians = counts["median"]
    pays = (medians >= PAYS).to_numpy()
    gone = [i for i in range(len(pays)) if not pays[i : i + 2].any()]
    back = [i for i in range(gone[0], len(pays)) if pays[i]] if gone else []
    return {
        "batch": [int(m) for m in medians.index],
        "speedup": [round(float(value), 4) for value in medians],
        "shapes": int(counts["size"].max()),
        "ends_at": int(medians.index[gone[0]]) if gone else None,
        "returns_at": int(medians.index[back[0]]) if back else None,
        "best": float(medians.max()),
        "best_at": int(medians.idxmax()),
        "worst": float(medians.min()),
        "worst_at": int(medians.idxmin()),
        "loses_between": _losses(medians),
    }


def _losses(medians) -> list[int] | None:
    losing = medians.index[medians <= 1 / PAYS]
    return [int(losing[0]), int(losing[-1])] if len(losing) else None


def product_rows(tables):
    """Rows of the phase diagram: format, GPU, stack and size of the matrix."""
    for source, release, frame in tables:
        large = frame[(frame["n"] >= LEAST) & (frame["k"] >= LEAST)]
        host = silicon.timed_from_host
        plain = large[large["format"] == "bf16"]
        for format in sorted(set(large["format"]) - {"bf16"}):
            timed = frame[frame["format"] == format]
            if host(timed) or host(frame[frame["format"] == "bf16"]) or not len(plain):
                continue
            ratios = speedups(large, format)
            for least, most, label in SIZES:
                size = ratios["n"] * ratios["k"]
                shapes = ratios[(size > least) & (size <= most)]
                if len(shapes) < 8:
                    continue
                yield (
                    {
                        "what": "product",
                        "gpu": source.gpu,
                        "framework": source.framework,
                        "version": source.version,
                        "release": release,
                        "format": format,
                        "size": label,
                    },
                    payoff(shapes),
                )


def _medians(fits: list[dict]) -> dict:
    return {key: float(np.median([numbers[key] for numbers in fits])) for key in silicon.GEMM}


def sign_rows(tables):
    """How often the sign of the effect is predicted on a card that the numbers have not seen."""
    fits, effects = {}, {}
    for source, _, frame in tables:
        chip = silicon.chip_of(catalog.device(source.gpu))
        for format, rows in frame.groupby("format"):
            result = silicon.reduce_gemm(rows, format, chip)
            if result.get("numbers"):
                fits.setdefault((source.gpu, format), []).append(result["numbers"])
        large = frame[(frame["n"] >= LEAST) & (frame["k"] >= LEAST)]
        for format in sorted(set(large["format"]) - {"bf16"}):
            if not silicon.timed_from_host(frame[frame["format"] == format]):
                effects.setdefault((source.gpu, format), []).append(speedups(large, format))
    for (gpu, format), listed in sorted(effects.items()):
        ratios = pd.concat(listed)
        ratios = ratios[np.abs(np.log(ratios["speedup"])) > np.log(1 + EFFECT)]
        others = {
            name: [
                numbers
                for (card, other), listed_fits in fits.items()
                if other == name and card != gpu
                for numbers in listed_fits
            ]
            for name in ("bf16", format)
        }
        device = catalog.device(gpu)
        kinds = [kf.KINDS[name] for name in ("bf16", format)]
        if len(ratios) < 50 or not all(others.values()):
            continue
        if any(device.flops.get(kind.compute) is None for kind in kinds):
            continue
        m, n, k, speedup = silicon.columns(ratios, "m", "n", "k", "speedup")
        plain, rounded = (
            kf.gemm_seconds(
                m,
                n,
                k,
                kind,
                device.bandwidth,
                device.flops[kind.compute],
                device.sms,
                _medians(others[name]),
            )
            for name, kind in zip(("bf16", format), kinds, strict=True)
        )
        right = (plain / rounded > 1) == (speedup > 1)
        few = m <= FEW_ROWS
        yield (
            {"what": "sign", "gpu": gpu, "format": format},
            {
                "shapes": len(ratios),
                "right": float(right.mean()),
                "right_few_rows": float(right[few].mean()) if few.any() else None,
                "always_wins": float((speedup > 1).mean()),
                "cards": len({card for card, name in fits if name == format and card != gpu}),
                "error_median": silicon.errors(plain / rounded, speedup)["error_median"],
            },
        )


def cache_rows():
    """Decode attention with 8-bit keys and values against 16 bits, and windows against none."""
    file = kernel_tables.wheel("core")
    for source in kernel_tables.tables(file, "generation_attention"):
        frame = kernel_tables.read(file, source.member)
        frame["tokens"] = frame["batch_size"] * (frame["step"] + frame["isl"])
        where = {"gpu": source.gpu, "framework": source.framework, "version": source.version}
        full = frame[frame["window_size"] == 0] if "window_size" in frame else frame
        ratio = full["num_heads"] / full["num_key_value_heads"]
        full = full[(ratio >= 2) & (ratio <= 16) & (full["head_dim"] == 128)]
        key = ["num_heads", "num_key_value_heads", "batch_size", "step", "tokens"]
        times = full.pivot_table(index=key, columns="kv_cache_dtype", values="seconds")
        if {"bfloat16", "fp8"} <= set(times.columns):
            speedup = (times["bfloat16"] / times["fp8"]).dropna().rename("speedup").reset_index()
            for least, most in TOKENS:
                rows = speedup[(speedup["tokens"] > least) & (speedup["tokens"] <= most)]
                if len(rows) >= 10:
                    yield (
                        {"what": "cache", **where, "tokens": [least, most]},
                        {
                            "shapes": len(rows),
                            "speedup_median": float(rows["speedup"].median()),
                            "speedup_low": float(rows["speedup"].quantile(0.1)),
                            "speedup_high": float(rows["speedup"].quantile(0.9)),
                        },
                    )
        if "window_size" in frame:
            yield from _windows(frame, where)


def _windows(frame, where):
    """A window of 128 against the whole context of 65,536, 64 heads over 8, eight requests."""
    rows = frame[
        (frame["num_heads"] == 64)
        & (frame["num_key_value_heads"] == 8)
        & (frame["batch_size"] == 8)
        & (frame["step"] == 65_535)
        & (frame["kv_cache_dtype"] == "bfloat16")
    ]
    times = rows.groupby("window_size")["seconds"].median()
    if {0, 128} <= set(times.index):
        yield (
            {"what": "window", **where},
            {
                "seconds_full": float(times[0]),
                "seconds_window": float(times[128]),
            },
        )


def server_rows():
    """AccelMark: the best throughput of a server in each format over its best in bf16."""
    folder = os.environ.get("SIZEWISE_PUBLISHED")
    if not folder:
        print("SIZEWISE_PUBLISHED names no folder: AccelMark's rows are left out")
        return
    file = Path(folder) / ACCELMARK
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    if digest != ACCELMARK_SHA256:
        raise ValueError(f"{file}: SHA-256 is {digest}, not the pinned {ACCELMARK_SHA256}")
    table = pd.read_csv(file)
    key = ["device", "devices", "framework", "framework_version"]
    for where, rows in table.groupby(key):
        best = rows.groupby("format").agg(
            tokens=("output_tokens_per_second", "max"), accuracy=("accuracy_subset", "median")
        )
        if "BF16" not in best.index:
            continue
        for format in best.index:
            yield (
                {"what": "server", **dict(zip(key, where, strict=True)), "format": format},
                {
                    "tokens_per_second": float(best["tokens"][format]),
                    "over_bf16": float(best["tokens"][format] / best["tokens"]["BF16"]),
                    "accuracy": None
                    if np.isnan(best["accuracy"][format])
                    else float(best["accuracy"][format]),
                },
            )


def main() -> None:
    parser = options.parser(__doc__)
    parser.add_argument("--output", type=Path, default=records.path("silicon_formats"))
    args = parser.parse_args()
    try:
        source = records.provenance(seed=0)
        tables = list(product_tables())
        for rows in (product_rows(tables), sign_rows(tables), cache_rows(), server_rows()):
            for config, measured in rows:
                if records.missing(args.output, [config]):
                    records.append(args.output, config, measured, source)
                    print(*(value for value in config.values()), flush=True)
    except (ValueError, ImportError, OSError) as error:
        sys.exit(f"silicon_formats: {error}")


if __name__ == "__main__":
    main()
