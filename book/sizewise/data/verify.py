"""Whether what is recorded is what was recorded: rows, facts and chapters against their seals.

`faults` reads everything under ``data/`` and says what is wrong, one line a fault. It catches an
accident, a slip and a careless change. It is no proof against somebody who makes a new seal and a
new manifest: then git's history is what is left.
"""

import hashlib
import re
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from sizewise import paths

from . import records

BEGAN = datetime(2026, 11, 1, tzinfo=UTC)  # no row of this book is older
# A GPU machine's clock need not agree with that of the machine that committed the code.
CLOCKS = timedelta(hours=1)
MACHINE = {"system", "cpu", "cores", "memory_gb", "gpu", "driver"}
# A folder that tells whose machine it was; a scratch folder does not.
PRIVATE = re.compile(r"[/~](?!tmp/)")
NO_UNIT = "-"  # the unit of what is no amount


def faults(home: Path | None = None) -> list[str]:
    """What is wrong with the rows, the facts and the manifest of a checkout, a line each."""
    home = home or paths.root()
    commits = _commits(home)
    problems = []
    for file in sorted((home / "data").glob("*.jsonl")):
        problems += _faults_of_rows(home, file, commits)
    return problems + _faults_of_manifest(home)


def unchecked(home: Path | None = None) -> str | None:
    """What `faults` cannot check here, None if it checks everything."""
    if _commits(home or paths.root()) is None:
        return "the history is not here (an archive or a shallow clone): commits are not checked"
    return None


# ---------------------------------------------------------------- rows


def described(file: Path) -> dict[str, str]:
    """Column -> unit, of the table in the description ``data/STEM.md``."""
    units = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("| `") and len(cells) == 3:
            units[cells[0].strip("`")] = cells[1] if cells[2] else ""
    return units


def _faults_of_rows(home: Path, file: Path, commits: dict[str, datetime] | None) -> list[str]:
    name = file.relative_to(home)
    description, script = file.with_suffix(".md"), home / "scripts" / f"{file.stem}.py"
    missing = [f.relative_to(home) for f in (description, script) if not f.is_file()]
    if missing:
        return [f"{name}: there is no {other}" for other in missing]
    units = described(description)
    problems = [
        f"{name}: column {column} has no unit" for column, unit in units.items() if not unit
    ]
    if not file.read_bytes().endswith(b"\n"):
        problems.append(f"{name}: its last line is torn")
    seen: dict[str, int] = {}
    try:
        for number, row in records.numbered(file):
            problems += [
                f"{name}:{number}: {fault}" for fault in _faults_of_row(row, file.stem, units)
            ]
            if fault := _fault_of_commit(row, commits):
                problems.append(f"{name}:{number}: {fault}")
            if (first := seen.setdefault(str(row.get("id")), number)) != number:
                problems.append(f"{name}:{number}: the run of line {first} again")
    except ValueError as error:
        problems.append(str(error).replace(str(file), str(name)))
    if not seen:
        problems.append(f"{name}: no rows")
    return problems


def _faults_of_row(row: records.Row, stem: str, units: dict[str, str]) -> list[str]:
    if "seal" not in row:
        return ["no seal (sizewise verify --renew seals rows of before there were seals)"]
    problems = [fault] if (fault := records.seal_fault(row)) else []
    for column, value in row.items():
        if column == "seal":
            continue
        if column not in units:
            problems.append(f"column {column} is not in data/{stem}.md")
        elif units[column] != NO_UNIT and not _is_number(value) and str(value) not in units[column]:
            problems.append(f"{column} is {value!r:.40}, which has no unit {units[column]}")
    source = row.get("from")
    if not isinstance(source, dict) or source.keys() != set(records.PROVENANCE):
        return [*problems, "its provenance is not complete"]
    if source["dirty"] is not False:
        problems.append("made by uncommitted code")
    if source["seed"] is not None and source["seed"] != row.get("seed", source["seed"]):
        problems.append(f"its seed is {row['seed']}, but its provenance says {source['seed']}")
    arguments = str(source["command"]).split()
    if f"scripts/{stem}.py" not in arguments or any(map(PRIVATE.match, arguments)):
        problems.append(f"its command is no call of scripts/{stem}.py: {source['command']}")
    machine = source["machine"]
    if not machine.keys() >= MACHINE or (machine["gpu"] and not machine["driver"]):
        problems.append("its machine is not described")
    if "python" not in source["versions"]:
        problems.append("its versions are not given")
    return problems


def _is_number(value: Any) -> bool:
    """Whether a value can have a unit: a number, none, or a collection of such."""
    if isinstance(value, str):  # one number a group with blanks between them, or a range
        return bool(re.fullmatch(r"[\d.]+(( [\d.]+)+|-[\d.]+|\+)", value))
    if isinstance(value, list):
        return all(_is_number(item) for item in value)
    if isinstance(value, dict):
        return all(_is_number(item) for item in value.values())
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _fault_of_commit(row: records.Row, commits: dict[str, datetime] | None) -> str | None:
    """A commit that is not in this history, or a time that cannot be."""
    source = row.get("from") or {}
    commit = str(source.get("commit"))
    try:
        time = datetime.fromisoformat(source["time"])
        if time.tzinfo is None:
            return f"its time {source['time']} has no zone"
    except (KeyError, TypeError, ValueError):
        return f"its time is none: {source.get('time')}"
    if not re.fullmatch("[0-9a-f]{40}", commit):
        return f"its commit is none: {commit}"
    if time < BEGAN or time > datetime.now(UTC) + CLOCKS:
        return f"its time {source['time']} cannot be"
    if commits is None:
        return None
    if commit not in commits:
        return f"its commit {commit[:12]} is not in this history"
    if time < commits[commit] - CLOCKS:
        return f"its time {source['time']} is before its commit {commit[:12]}"
    return None


def _commits(home: Path) -> dict[str, datetime] | None:
    """Commit -> its time, of all that led to this checkout; None where the history is not here."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(home), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    try:
        # A checkout inside somebody else's repository has no history of its own.
        if Path(git("rev-parse", "--show-toplevel").strip()).resolve() != home.resolve():
            return None
        if git("rev-parse", "--is-shallow-repository").strip() == "true":
            return None
        lines = git("log", "--format=%H %ct", "HEAD").splitlines()
    except (OSError, subprocess.CalledProcessError):
        return None
    pairs = (line.split() for line in lines)
    return {commit: datetime.fromtimestamp(int(seconds), UTC) for commit, seconds in pairs}


# ---------------------------------------------------------------- the manifest


def manifest_file(home: Path | None = None) -> Path:
    """Where rows, facts and chapters are listed with their SHA-256."""
    return (home or paths.root()) / "data" / "manifest.yml"


def manifest(home: Path | None = None) -> dict[str, dict[str, Any]]:
    """File -> its SHA-256, and the number of rows where it has rows, as the files are now."""
    home = home or paths.root()
    files = [*(home / "data").glob("*.jsonl"), home / "data" / "claims.yml"]
    files += [f for f in (home / "data" / "facts").iterdir() if f.suffix in (".yml", ".csv")]
    files += (home / "chapters").glob("*.ipynb")
    listed = {}
    for file in sorted(f for f in files if f.is_file()):
        content = file.read_bytes()
        entry: dict[str, Any] = {"sha256": hashlib.sha256(content).hexdigest()}
        if file.suffix == ".jsonl":
            entry["rows"] = content.count(b"\n")
        listed[file.relative_to(home).as_posix()] = entry
    return listed


def renew(home: Path | None = None) -> list[str]:
    """Seal rows that have no seal and write the manifest anew; what changed, a line each."""
    home = home or paths.root()
    changed = []
    for file in sorted((home / "data").glob("*.jsonl")):
        if count := records.seal_file(file):
            changed.append(f"{file.relative_to(home)}: {count} rows sealed")
    before, after = _stored(home), manifest(home)
    if before != after:
        lines = [f"{name}: {_entry(entry)}\n" for name, entry in after.items()]
        head = "# Written by `make manifest`; see manifest.md.\n"
        manifest_file(home).write_text(head + "".join(lines), encoding="utf-8")
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            state = "gone" if name not in after else "new" if name not in before else "changed"
            changed.append(f"{name}: {state}")
    return changed


def _entry(entry: dict[str, Any]) -> str:
    rows = f"rows: {entry['rows']}, " if "rows" in entry else ""
    return f"{{{rows}sha256: {entry['sha256']}}}"


def _stored(home: Path) -> dict[str, dict[str, Any]]:
    try:
        stored = yaml.safe_load(manifest_file(home).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError):
        return {}
    return stored if isinstance(stored, dict) else {}


def _faults_of_manifest(home: Path) -> list[str]:
    stored, now = _stored(home), manifest(home)
    problems = []
    for name in sorted({*stored, *now}):
        if name not in now:
            problems.append(f"{name}: in the manifest, but there is no such file")
        elif name not in stored:
            problems.append(f"{name}: not in the manifest")
        elif stored[name].get("rows") != now[name].get("rows"):
            problems.append(
                f"{name}: {now[name]['rows']} rows, but the manifest says {stored[name]['rows']}"
            )
        elif stored[name] != now[name]:
            problems.append(f"{name}: not as the manifest says (make manifest, if it was meant)")
    return problems


def summary(home: Path | None = None) -> str:
    """How much there is, in a line."""
    listed = manifest(home)
    rows = sum(entry.get("rows", 0) for entry in listed.values())
    chapters = sum(name.startswith("chapters/") for name in listed)
    facts = sum("rows" not in entry for entry in listed.values()) - chapters

    def many(number: int, noun: str) -> str:
        return f"{number} {noun}" if number == 1 else f"{number} {noun}s"

    return f"{many(rows, 'row')}, {many(facts, 'file')} of facts and claims, " + many(
        chapters, "chapter"
    )
