"""Rows and facts: the only door to the files under ``data/``.

A recorded row is one JSON object a line: a run's configuration, its measurements, its ``id``
(a hash of the configuration, so that a sweep can go on where it stopped) and, under ``from``,
where it came from: commit, command, machine, versions, seed, time.
"""

import hashlib
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from sizewise import paths

PROVENANCE = ("commit", "dirty", "time", "command", "seed", "machine", "versions")
PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "bitsandbytes",
    "numpy",
    "scipy",
    "triton",
    "ray",
    "papermill",
    "jupyter-book",
    "gguf",
    "onnxruntime",
    "faiss-cpu",
    "hqq",
    "turboquant-torch",
    "lm_eval",
)


def path(stem: str) -> Path:
    """The file of recorded rows with this stem: ``data/STEM.jsonl``."""
    return paths.root() / "data" / f"{stem}.jsonl"


@cache
def facts(stem: str) -> Any:
    """The published facts in ``data/facts/STEM.yml``. Callers must not change what they get."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    with (paths.root() / "data" / "facts" / f"{stem}.yml").open(encoding="utf-8") as file:
        return yaml.load(file, Loader=loader)  # noqa: S506 - a safe loader, in C where it is built


def facts_csv(stem: str):
    """The published table ``data/facts/STEM.csv`` as a data frame."""
    import pandas

    return pandas.read_csv(paths.root() / "data" / "facts" / f"{stem}.csv")


def read(stem_or_path: str | Path) -> list[dict[str, Any]]:
    """All rows of a file, in order; no file, no rows.

    A last line cut short by a kill is left out, so that the sweep makes that row again. One that
    only lacks its newline is a row.
    Raises ValueError for any other line that is not a JSON object.
    """
    file = stem_or_path if isinstance(stem_or_path, Path) else path(stem_or_path)
    if not file.exists():
        return []
    lines = file.read_bytes().split(b"\n")
    rows = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (UnicodeDecodeError, json.JSONDecodeError):
            if number == len(lines):  # no newline after it: the writer was stopped here
                break
            raise ValueError(f"{file}:{number}: not JSON") from None
        if not isinstance(row, dict):
            raise ValueError(f"{file}:{number}: not an object")
        rows.append(row)
    return rows


def table(stem_or_path: str | Path):
    """The rows as a data frame; the columns of ``from`` become ``from.commit`` and so on."""
    import pandas

    return pandas.json_normalize(read(stem_or_path), max_level=1)


def identity(config: dict[str, Any]) -> str:
    """The identity of a run: the first 16 hex digits of SHA-256 over its configuration."""
    words = json.dumps(config, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(words.encode()).hexdigest()[:16]


def append(file: Path, config: dict[str, Any], measured: dict[str, Any], source: dict) -> dict:
    """Write one row, whole or not at all, and return it.

    Raises ValueError if ``measured`` repeats a name of ``config``, if either holds ``id``,
    ``from`` or a number that is not finite, or if the provenance ``source`` (see `provenance`)
    lacks a field.
    """
    if both := config.keys() & measured.keys():
        raise ValueError(f"measured twice: {', '.join(sorted(both))}")
    if kept := {"id", "from"} & (config.keys() | measured.keys()):
        raise ValueError(f"a row has its own {', '.join(sorted(kept))}")
    if missing := [name for name in PROVENANCE if name not in source]:
        raise ValueError(f"provenance lacks {', '.join(missing)}")
    row = {"id": identity(config), **config, **measured, "from": source}
    try:
        line = json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"
    except ValueError:
        raise ValueError(f"not finite, so no JSON: {measured}") from None
    file.parent.mkdir(parents=True, exist_ok=True)
    _end_last_line(file)
    with file.open("a", encoding="utf-8") as out:
        out.write(line)
        out.flush()
        os.fsync(out.fileno())
    return row


def missing(file: Path, configs: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The configurations that have no row in ``file`` yet, in their order."""
    done = {row["id"] for row in read(file)}
    return [config for config in configs if identity(config) not in done]


def provenance(seed: int | None = None) -> dict[str, Any]:
    """Where a row made now comes from. ``SIZEWISE_COMMIT`` stands in where there is no git."""
    commit, dirty = _commit()
    return {
        "commit": commit,
        "dirty": dirty,
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["python", *(_relative(word) for word in sys.argv)]),
        "seed": seed,
        "machine": _machine(),
        "versions": _versions(),
    }


def _relative(word: str) -> str:
    """A path inside the checkout without the checkout: rows do not tell where a person lives."""
    file = Path(word)
    home = paths.root()
    return str(file.relative_to(home)) if file.is_absolute() and home in file.parents else word


def _end_last_line(file: Path) -> None:
    """End a whole last line that lacks its newline, and cut one that a killed writer left torn."""
    if not file.exists():
        return
    with file.open("r+b") as out:  # never rewritten: a kill here must not cost other rows
        content = out.read()
        last = content[content.rfind(b"\n") + 1 :]
        try:
            whole = not last or bool(json.loads(last))
        except (UnicodeDecodeError, json.JSONDecodeError):
            whole = False
        if not whole:
            out.truncate(len(content) - len(last))
        elif last:
            out.write(b"\n")


def _commit() -> tuple[str, bool]:
    """The commit and whether code differs from it. Rows under data/ may have grown meanwhile."""
    given = os.environ.get("SIZEWISE_COMMIT", "")
    try:
        commit = _git("rev-parse", "HEAD")
        changed = _git("status", "--porcelain", "--", ":!data/*.jsonl", ":!chapters/*.ipynb")
    except (OSError, subprocess.CalledProcessError):
        if not given:
            raise ValueError("no git checkout here: say the commit in SIZEWISE_COMMIT") from None
        return given.removesuffix("-dirty"), given.endswith("-dirty")
    return commit, bool(changed)


def _git(*words: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(paths.root()), *words], check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@cache
def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


@cache
def _machine() -> dict[str, Any]:
    """What ran it: processor, cores, memory, and the GPU with its driver where torch sees one."""
    import psutil

    told: dict[str, Any] = {
        "system": platform.system(),
        "cpu": _processor(),
        "cores": len(psutil.Process().cpu_affinity())
        if hasattr(psutil.Process, "cpu_affinity")
        else psutil.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "gpu": None,
        "driver": None,
    }
    torch = sys.modules.get("torch")  # a row that never needed torch has no GPU to tell of
    if torch is not None and torch.cuda.is_available():
        told["gpu"] = torch.cuda.get_device_name()
        told["driver"] = _driver()
    return told


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _driver() -> str | None:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.splitlines()[0].strip()
