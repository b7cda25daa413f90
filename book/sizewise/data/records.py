"""Rows and facts: the only door to the files under ``data/``.

A recorded row is one JSON object a line: its ``id`` (a hash of the configuration, so that a sweep
can go on where it stopped), the run's configuration, its measurements, under ``from`` where it
came from (commit, command, machine, versions, seed, time), and a ``seal``: how many columns are
the configuration, and the SHA-256 of all of it. A seal shows that a row was changed after it was
recorded; it is no signature, and whoever changes a row can also make a new seal.
"""

import contextlib
import hashlib
import json
import os
import platform
import shlex
import stat
import subprocess
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from sizewise import paths

Row = dict[str, Any]

PROVENANCE = ("commit", "dirty", "time", "command", "seed", "machine", "versions")
NO_COLUMN = ("id", "from", "seal")  # a row's own fields, beside configuration and measurements
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
    "pyarrow",
)


def path(stem: str) -> Path:
    """The file of recorded rows with this stem: ``data/STEM.jsonl``."""
    return paths.root() / "data" / f"{stem}.jsonl"


@cache
def facts(stem: str) -> Any:
    """The published facts in ``data/facts/STEM.yml``. Callers must not change what they get."""
    return read_yaml(paths.root() / "data" / "facts" / f"{stem}.yml")


def read_yaml(file: Path) -> Any:
    """What a file of YAML holds."""
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    with file.open(encoding="utf-8") as source:
        return yaml.load(source, Loader=loader)  # noqa: S506 - safe, in C where it is built


def fact(stem: str, name: str) -> dict[str, Any]:
    """The entry of this name in ``data/facts/STEM.yml``."""
    return next(entry for entry in facts(stem) if entry["name"] == name)


@cache
def facts_json(stem: str) -> Any:
    """The facts in ``data/facts/STEM.json``; None where there is no such file."""
    file = paths.root() / "data" / "facts" / f"{stem}.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def facts_csv(stem: str):
    """The published table ``data/facts/STEM.csv`` as a data frame."""
    import pandas

    return pandas.read_csv(paths.root() / "data" / "facts" / f"{stem}.csv")


# ---------------------------------------------------------------- reading


def read(stem_or_path: str | Path) -> list[Row]:
    """All rows of a file, in order and without their seals; no file, no rows.

    A last line cut short by a kill is left out, so that the sweep makes that row again. One that
    only lacks its newline is a row.
    Raises ValueError for any other line that is not a JSON object, and for a row that its seal
    does not fit. A row without a seal, in a file of the reader's own, is taken as it is.
    """
    file = stem_or_path if isinstance(stem_or_path, Path) else path(stem_or_path)
    rows = []
    for number, row in numbered(file):
        if "seal" in row:
            if fault := seal_fault(row):
                raise ValueError(f"{file}:{number}: {fault}")
            del row["seal"]
        rows.append(row)
    return rows


def numbered(file: Path) -> Iterator[tuple[int, Row]]:
    """(number of its line, row as it is stored) of each row. Errors are those of `read`."""
    if not file.exists():
        return
    lines = file.read_bytes().split(b"\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, parse_constant=_no_constant)
        except (ValueError, RecursionError):  # no text, no JSON, a number of 5,000 digits
            if number == len(lines):  # no newline after it: the writer was stopped here
                return
            raise ValueError(f"{file}:{number}: not JSON") from None
        if not isinstance(row, dict):
            raise ValueError(f"{file}:{number}: not an object")
        yield number, row


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def table(stem_or_path: str | Path):
    """The rows as a data frame; the columns of ``from`` become ``from.commit`` and so on.

    Raises ValueError if there are no rows, with the script that records them.
    """
    import pandas

    rows = read(stem_or_path)
    if not rows:
        stem = Path(stem_or_path).stem
        raise ValueError(f"{stem}: no rows; record them with python scripts/{stem}.py")
    return pandas.json_normalize(rows, max_level=1)


def kinds(stem: str) -> dict:
    """The rows of `table` by their column ``what``, each without the columns of other kinds."""
    groups = table(stem).groupby("what", sort=False)
    return {kind: rows.dropna(axis="columns", how="all") for kind, rows in groups}


# ---------------------------------------------------------------- ids and seals


def identity(config: Row) -> str:
    """The identity of a run: the first 16 hex digits of SHA-256 over its configuration."""
    return _sha256(config)[:16]


def seal(config: Row, measured: Row, source: Row | None) -> dict[str, Any]:
    """What shows that a row is as it was recorded.

    ``config`` says how many of the columns are the configuration, from which the id can be made
    again; ``sha256`` is over configuration, measurements and provenance, each apart, so that no
    column can pass from one to the other.
    """
    return {"config": len(config), "sha256": _sha256([config, measured, source])}


def parts(row: Row) -> tuple[Row, Row]:
    """(configuration, measurements) of a sealed row."""
    columns = [(name, value) for name, value in row.items() if name not in NO_COLUMN]
    count = row["seal"]["config"]
    return dict(columns[:count]), dict(columns[count:])


def seal_fault(row: Row) -> str | None:
    """What is wrong with a sealed row's id or seal, None if nothing is."""
    stored = row["seal"]
    if not isinstance(stored, dict) or type(stored.get("config")) is not int:
        return "its seal is none"
    config, measured = parts(row)
    try:
        if row.get("id") != identity(config):
            return f"its id is {row.get('id')}, but its configuration has {identity(config)}"
        if stored != seal(config, measured, row.get("from")):
            return "its seal does not fit: it was changed after it was recorded"
    except (ValueError, RecursionError):
        return "it holds a number that is not finite"
    return None


def _sha256(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


# ---------------------------------------------------------------- writing


class Writer:
    """The one process that adds rows to a file; see `writing`."""

    def __init__(self, file: Path, handle: int):
        self.file, self.handle = file, handle
        self.ids = {row["id"] for row in read(file)}

    def missing(self, configs: Iterable[Row]) -> list[Row]:
        """The configurations that have no row yet, in their order."""
        return [config for config in configs if identity(config) not in self.ids]

    def append(self, config: Row, measured: Row, source: Row) -> Row:
        """Write one row, sealed, whole or not at all, and return it as `read` does.

        Raises ValueError if ``measured`` repeats a name of ``config``, if either holds ``id``,
        ``from``, ``seal`` or a number that is not finite, if the provenance ``source`` (see
        `provenance`) lacks a field, if the run has a row already, and if it cannot be written.
        """
        if both := config.keys() & measured.keys():
            raise ValueError(f"measured twice: {', '.join(sorted(both))}")
        if reserved := set(NO_COLUMN) & (config.keys() | measured.keys()):
            raise ValueError(f"a row has its own {', '.join(sorted(reserved))}")
        if missing := [name for name in PROVENANCE if name not in source]:
            raise ValueError(f"provenance lacks {', '.join(missing)}")
        row = {"id": identity(config), **config, **measured, "from": source}
        if row["id"] in self.ids:
            raise ValueError(f"{self.file}: this run has a row already: {config}")
        try:
            sealed = row | {"seal": seal(config, measured, source)}
            line = json.dumps(sealed, ensure_ascii=False, allow_nan=False) + "\n"
        except ValueError:
            raise ValueError(f"not finite, so no JSON: {measured}") from None
        write_line(self.handle, self.file, line)
        self.ids.add(row["id"])
        return row


@contextlib.contextmanager
def writing(file: Path) -> Iterator[Writer]:
    """Open a file of rows, before the work for the first one begins.

    One process at a time: raises ValueError if another one writes to it, or if it cannot be
    written to. A last line that a killed writer left torn is cut. A file that gets no row is
    not left behind.
    """
    handle = open_locked(file)
    try:
        end_last_line(handle, file)
        yield Writer(file, handle)
    finally:
        if os.fstat(handle).st_size == 0:
            file.unlink(missing_ok=True)
        os.close(handle)


def append(file: Path, config: Row, measured: Row, source: Row) -> Row:
    """Write one row; see `Writer.append`. Who writes several opens the file once: `writing`."""
    with writing(file) as writer:
        return writer.append(config, measured, source)


def missing(file: Path, configs: Iterable[Row]) -> list[Row]:
    """The configurations that have no row in ``file`` yet, in their order."""
    done = {row["id"] for row in read(file)}
    return [config for config in configs if identity(config) not in done]


def open_locked(file: Path, mode: int = 0o644) -> int:
    """A handle to read and append, of a file that no other process holds in this way.

    Raises ValueError if one does, if it cannot be opened, or if it is no regular file.
    """
    while True:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND, mode)
        except OSError as error:
            raise ValueError(f"{file}: cannot be written ({error.strerror})") from None
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):  # a pipe would not end when read
                raise ValueError(f"{file}: is no file that rows can be kept in")
            _lock(handle, file)
            # Who held it before may have removed it or put another in its place meanwhile.
            if file.exists() and os.path.samestat(os.fstat(handle), file.stat()):
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)


def write_line(handle: int, file: Path, line: str) -> None:
    """Add a line, whole or not at all: what a full disk took of it is cut again.

    Raises ValueError if it cannot be written.
    """
    content = line.encode("utf-8", "backslashreplace")  # JSON may hold a lone surrogate
    size = os.fstat(handle).st_size
    try:
        if os.write(handle, content) < len(content):
            raise OSError(0, "the disk is full")
        os.fsync(handle)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.ftruncate(handle, size)
        raise ValueError(f"{file}: cannot be written ({error.strerror})") from None


def end_last_line(handle: int, file: Path, start: bytes = b"") -> None:
    """End a whole last line that lacks its newline, and cut one that a killed writer left torn.

    Raises ValueError for a torn line that does not begin with ``start``: it is somebody else's.
    """
    content = os.pread(handle, os.fstat(handle).st_size, 0)
    last = content[content.rfind(b"\n") + 1 :]
    if not last:
        return
    try:
        complete = bool(json.loads(last))
    except (UnicodeDecodeError, json.JSONDecodeError):
        complete = False
    if complete:
        os.write(handle, b"\n")
    elif not last.startswith(start[: len(last)]):
        raise ValueError(f"{file}: its last line is none of ours")
    else:  # never rewritten: a kill here must not cost other rows
        os.ftruncate(handle, len(content) - len(last))


def _lock(handle: int, file: Path) -> None:
    try:
        import fcntl
    except ImportError:  # no such locks on this system
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise ValueError(f"{file}: another run is writing to it") from None


# ---------------------------------------------------------------- where a row comes from


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


def _relative(argument: str) -> str:
    """A path without what is before the checkout, or its name alone if it is elsewhere.

    Rows do not tell where a person keeps files.
    """
    file, home = Path(argument), paths.root()
    if not file.is_absolute():
        return argument
    return str(file.relative_to(home)) if home in file.parents else file.name


def _commit() -> tuple[str, bool]:
    """The commit and whether code differs from it. Rows under data/ may have grown meanwhile."""
    stated = os.environ.get("SIZEWISE_COMMIT", "")
    try:
        commit = _git("rev-parse", "HEAD")
        changed = _git("status", "--porcelain", "--", ":!data/*.jsonl", ":!chapters/*.ipynb")
    except (OSError, subprocess.CalledProcessError):
        if not stated:
            raise ValueError("no git checkout here: say the commit in SIZEWISE_COMMIT") from None
        return stated.removesuffix("-dirty"), stated.endswith("-dirty")
    return commit, bool(changed)


def _git(*arguments: str) -> str:
    # Without optional locks: a status that is killed would leave one, and git refuse to commit.
    command = ["git", "--no-optional-locks", "-C", str(paths.root()), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@cache
def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


@cache
def _machine() -> dict[str, Any]:
    """What ran it: processor, cores, memory, and the GPU with its driver where torch sees one."""
    import psutil

    machine: dict[str, Any] = {
        "system": platform.system(),
        "cpu": _processor(),
        "cores": len(psutil.Process().cpu_affinity())
        if hasattr(psutil.Process, "cpu_affinity")
        else psutil.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "gpu": None,
        "driver": None,
    }
    torch = sys.modules.get("torch")  # a row that never needed torch has no GPU to name
    if torch is not None and torch.cuda.is_available():
        machine["gpu"] = torch.cuda.get_device_name()
        machine["driver"] = next(iter(gpus("driver_version")), None)
    return machine


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def gpus(query: str) -> list[str]:
    """What the driver's own tool says of each GPU; nothing where there is no such tool."""
    command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in done.stdout.splitlines() if line.strip()]
