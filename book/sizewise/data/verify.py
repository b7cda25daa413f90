"""Whether what is recorded is what was recorded: rows, facts and chapters against their seals.

`faults` reads everything under ``data/`` and says what is wrong, one line a fault. It catches an
accident, a slip and a careless change. It is no proof against somebody who makes a new seal and a
new manifest: then git's history is what is left.
"""

import hashlib
import os
import re
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from sizewise import paths, units

from . import records

BEGAN = datetime(2026, 11, 1, tzinfo=UTC)  # no row of this book is older
# A GPU machine's clock need not agree with that of the machine that committed the code.
CLOCKS = timedelta(hours=1)
MACHINE = {"system", "cpu", "cores", "memory_gb", "gpu", "driver"}
# A folder that tells whose machine it was; a scratch folder does not.
PRIVATE = re.compile(r"[/~](?!tmp/)")
NO_UNIT = "-"  # the unit of what is no amount
LISTED = {".jsonl", ".yml", ".csv", ".json", ".md"}  # in the manifest; units stand in the .md
Commits = dict[str, datetime] | None


def faults(home: Path | None = None) -> list[str]:
    """What is wrong with the rows, the facts and the manifest of a checkout, a line each."""
    home = home or paths.root()
    commits = _commits(home)
    problems = []
    for file in sorted((home / "data").glob("*.jsonl")):
        problems += [f"data/{file.name}{fault}" for fault in _faults_of_rows(home, file, commits)]
    problems += _faults_of_manifest(home)
    return [units.printable(problem).replace("\n", "\\n") for problem in problems]


def unchecked(home: Path | None = None) -> str | None:
    """What `faults` cannot check here, None if it checks everything."""
    if _commits(home or paths.root()) is None:
        return "the history is not here (an archive or a shallow clone): commits are not checked"
    return None


# ---------------------------------------------------------------- rows


def _units(file: Path) -> dict[str, str]:
    """Column -> unit, of the table in the description ``data/STEM.md``."""
    stated = {}
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if line.startswith("| `") and len(cells) == 3:
            stated[cells[0].strip("`")] = cells[1] if cells[2] else ""
    return stated


def _faults_of_rows(home: Path, file: Path, commits: Commits) -> Iterator[str]:
    for needed in (f"data/{file.stem}.md", f"scripts/{file.stem}.py"):
        if not (home / needed).is_file():
            yield f": there is no {needed}"
            return
    stated = _units(file.with_suffix(".md"))
    yield from (f": column {column} has no unit" for column, unit in stated.items() if not unit)
    if not file.read_bytes().endswith(b"\n"):
        yield ": its last line is torn"
    seen: dict[str, int] = {}
    try:
        for number, row in records.numbered(file):
            for fault in _faults_of_row(row, file.stem, stated, commits):
                yield f":{number}: {fault}"
            if (first := seen.setdefault(str(row.get("id")), number)) != number:
                yield f":{number}: the run of line {first} again"
    except ValueError as error:
        yield str(error).removeprefix(str(file))
    if not seen:
        yield ": no rows"


def _faults_of_row(
    row: records.Row, stem: str, stated: dict[str, str], commits: Commits
) -> Iterator[str]:
    if "seal" not in row:
        yield "no seal"
        return
    if fault := records.seal_fault(row):
        yield fault
    for column, value in row.items():
        if column == "seal":
            continue
        if column not in stated:
            yield f"column {column} is not in data/{stem}.md"
        elif (
            stated[column] != NO_UNIT and not _is_number(value) and str(value) not in stated[column]
        ):
            yield f"{column} is {value!r:.40}, which has no unit {stated[column]}"
    source = row.get("from")
    kinds = {"machine": dict, "versions": dict, "command": str, "time": str, "commit": str}
    if (
        not isinstance(source, dict)
        or source.keys() != set(records.PROVENANCE)
        or not all(isinstance(source[name], kind) for name, kind in kinds.items())
    ):
        yield "its provenance is not complete"
        return
    if source["dirty"] is not False:
        yield "made by uncommitted code"
    if source["seed"] is not None and source["seed"] != row.get("seed", source["seed"]):
        yield f"its seed is {row['seed']}, but its provenance says {source['seed']}"
    arguments = source["command"].split()
    if f"scripts/{stem}.py" not in arguments or any(map(PRIVATE.match, arguments)):
        yield f"its command is no call of scripts/{stem}.py: {source['command']}"
    machine = source["machine"]
    if not machine.keys() >= MACHINE or (machine["gpu"] and not machine["driver"]):
        yield "its machine is not described"
    if "python" not in source["versions"]:
        yield "its versions are not given"
    if fault := _fault_of_commit(source["commit"], source["time"], commits):
        yield fault


def _is_number(value: Any) -> bool:
    """Whether a value can have a unit: a number, none, or a collection of such."""
    if isinstance(value, str):  # one number a group with blanks between them, or a range
        return bool(re.fullmatch(r"[\d.]+(( [\d.]+)+|-[\d.]+|\+)", value))
    if isinstance(value, list | dict):
        return all(map(_is_number, value.values() if isinstance(value, dict) else value))
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _fault_of_commit(commit: str, stated: str, commits: Commits) -> str | None:
    """A commit that is not in this history, or a time that cannot be."""
    try:
        time = datetime.fromisoformat(stated)
    except ValueError:
        return f"its time is none: {stated}"
    if time.tzinfo is None:
        return f"its time {stated} has no zone"
    if not re.fullmatch("[0-9a-f]{40}", commit):
        return f"its commit is none: {commit}"
    if time < BEGAN or time > datetime.now(UTC) + CLOCKS:
        return f"its time {stated} cannot be"
    if commits is not None and commit not in commits:
        return f"its commit {commit[:12]} is not in this history"
    if commits is not None and time < commits[commit] - CLOCKS:
        return f"its time {stated} is before its commit {commit[:12]}"
    return None


def _commits(home: Path) -> Commits:
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
        pairs = map(str.split, git("log", "--format=%H %ct", "HEAD").splitlines())
        return {commit: datetime.fromtimestamp(int(seconds), UTC) for commit, seconds in pairs}
    except (OSError, subprocess.CalledProcessError):
        return None


# ---------------------------------------------------------------- the manifest


def _manifest(home: Path) -> dict[str, dict[str, Any]]:
    """File -> its SHA-256, and the number of rows where it has rows, as the files are now."""
    files = [*(home / "data").iterdir(), *(home / "data" / "facts").iterdir()]
    files = [file for file in files if file.suffix in LISTED and file.stem != "manifest"]
    files += (home / "chapters").glob("*.ipynb")
    listed = {}
    for file in sorted(f for f in files if f.is_file()):
        content = file.read_bytes()
        entry: dict[str, Any] = {"sha256": hashlib.sha256(content).hexdigest()}
        if file.suffix == ".jsonl":
            entry = {"rows": content.count(b"\n"), **entry}
        listed[file.relative_to(home).as_posix()] = entry
    return listed


def _stored(home: Path) -> dict[str, Any]:
    """The manifest as it was written; empty where there is none that can be read."""
    try:
        content = (home / "data" / "manifest.yml").read_text(encoding="utf-8", errors="replace")
        stored = yaml.safe_load(content)
    except (OSError, yaml.YAMLError):
        return {}
    return stored if isinstance(stored, dict) else {}


def renew(home: Path | None = None) -> list[str]:
    """Write the manifest anew; what changed, a line each."""
    home = home or paths.root()
    before, after = _stored(home), _manifest(home)
    if before != after:
        flow = yaml.safe_dump(after, default_flow_style=None, width=1000, sort_keys=False)
        content = f"# Written by `make manifest`; see manifest.md.\n{flow}"
        file = home / "data" / "manifest.yml"
        aside = file.with_suffix(".half")  # a full disk leaves the old one whole
        aside.write_text(content, encoding="utf-8")
        os.replace(aside, file)
    changed = []
    for name in sorted({*before, *after}, key=str):
        if before.get(name) != after.get(name):
            state = "gone" if name not in after else "new" if name not in before else "changed"
            changed.append(f"{name}: {state}")
    return changed


def _faults_of_manifest(home: Path) -> Iterator[str]:
    stored, now = _stored(home), _manifest(home)
    for name in sorted({*stored, *now}, key=str):
        was, entry = stored.get(name), now.get(name)
        if entry is None:
            yield f"{name}: in the manifest, but there is no such file"
        elif name not in stored:
            yield f"{name}: not in the manifest"
        elif isinstance(was, dict) and was.get("rows") != entry.get("rows"):
            yield f"{name}: {entry.get('rows')} rows, but the manifest says {was.get('rows')}"
        elif was != entry:
            yield f"{name}: not as the manifest says (make manifest, if it was meant)"


def summary(home: Path | None = None) -> str:
    """How much there is, in a line."""
    listed = _manifest(home or paths.root())
    rows = sum(entry.get("rows", 0) for entry in listed.values())
    chapters = sum(name.startswith("chapters/") for name in listed)
    facts = sum(name.endswith((".yml", ".csv", ".json")) for name in listed)
    return f"rows: {rows:,}; files of facts and claims: {facts}; chapters: {chapters}"
