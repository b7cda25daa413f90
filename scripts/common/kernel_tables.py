"""Kernel times and servings measured by NVIDIA on real accelerators, read from a package's wheel.

The wheel is a zip archive that is checked by its SHA-256 and read member by member: nothing of it
is installed or imported, and its tables stay in the cache. ``data/facts/kernel_tables.yml`` names
the two releases. Tables of the newer one are parquet (pyarrow, needed only where rows are
recorded), those of the older one plain CSV.
"""

import hashlib
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from sizewise.data import records
from sizewise.data.downloads import Package, fetch

GPUS = {
    "a100_sxm": "A100-80GB",
    "h100_sxm": "H100",
    "h200_sxm": "H200",
    "b200_sxm": "B200",
    "b300_sxm": "B300",
    "gb200": "GB200",
    "gb300": "GB300",
    "l40s": "L40S",
    "rtx_pro_6000_server": "RTX-PRO-6000",
}
FORMATS = {
    "bfloat16": "bf16",
    "float16": "bf16",
    "fp8": "fp8",
    "fp8_block": "fp8-block",
    "nvfp4": "nvfp4",
    "int4_wo": "int4",
    "int8_wo": "int8-weight-only",
    "sq": "w8a8",
    "w4a16_mxfp4": "mxfp4-bf16",
    "w4a8_mxfp4_mxfp8": "mxfp4-fp8",
}
FRAMEWORKS = ("trtllm", "vllm", "sglang")
SERVINGS = "aiconfigurator_core/systems/silicon_sample.csv"
SERVINGS_SHA256 = "4240bfaf555b6f8b2c62512074e5efbb7791cdbb0344b068408f397588499adb"


class Table(NamedTuple):
    """One table of kernel times: whose, on what, and its member in the archive."""

    gpu: str
    framework: str
    version: str
    member: str


def wheel(name: str = "core") -> Path:
    """The release of this name ("core" or "older"), from the cache or the package index."""
    entry = next(row for row in records.facts("kernel_tables") if row["name"] == name)
    pinned = (entry[name] for name in ("package", "version", "file", "sha256", "bytes"))
    return fetch(Package(*pinned))


def tables(file: Path, kernel: str) -> Iterator[Table]:
    """The tables of a kernel ("gemm", "moe", ...) in either release, on GPUs of the catalogue."""
    with zipfile.ZipFile(file) as archive:
        for member in archive.namelist():
            name = member.rsplit("/", 1)[-1]
            parts = member.partition("/systems/data/")[2].split("/")
            if name.rsplit(".", 1)[0] != f"{kernel}_perf" or parts[0] not in GPUS:
                continue
            framework, version = parts[-3:-1]
            if framework in (*FRAMEWORKS, "nccl"):
                yield Table(GPUS[parts[0]], framework, version, member)


def read(file: Path, member: str):
    """A member as a data frame; ``latency`` (milliseconds in the file) becomes ``seconds``."""
    with zipfile.ZipFile(file) as archive:
        content = io.BytesIO(archive.read(member))
    frame = pd.read_parquet(content) if member.endswith(".parquet") else pd.read_csv(content)
    frame["seconds"] = frame.pop("latency") / 1e3
    return frame[frame["seconds"] > 0].reset_index(drop=True)


def servings(file: Path):
    """The measured servings of the newer release as a data frame, checked by their own hash."""
    with zipfile.ZipFile(file) as archive:
        content = archive.read(SERVINGS)
    digest = hashlib.sha256(content).hexdigest()
    if digest != SERVINGS_SHA256:
        raise ValueError(f"{SERVINGS}: SHA-256 is {digest}, not the pinned {SERVINGS_SHA256}")
    return pd.read_csv(io.BytesIO(content), dtype={"precision": "string"})
