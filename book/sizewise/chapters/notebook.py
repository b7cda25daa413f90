"""A chapter as a file: its parameters, what in it is volatile, and whether it is up to date."""

import ast
import functools
import hashlib
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sizewise import paths

READS_CHAPTERS = "reads-chapters"  # notebook metadata: made from the other chapters' outputs
KEPT_METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def read(file: Path) -> dict[str, Any]:
    """The notebook as it is stored. Raises ValueError for a file that is none."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file}: no notebook ({error})") from error
    if not isinstance(content, dict) or not {"cells", "metadata"} <= content.keys():
        raise ValueError(f"{file}: no notebook (it has no cells or no metadata)")
    return content


def parameters(file: Path) -> dict[str, Any]:
    """The chapter's parameters with their defaults (None where they are no plain value)."""

    def plain(value: ast.expr) -> Any:
        try:
            return ast.literal_eval(value)
        except ValueError:
            return None

    tagged = (c for c in read(file)["cells"] if "parameters" in c["metadata"].get("tags", ()))
    lines = ast.parse("\n".join("".join(cell["source"]) for cell in tagged)).body
    assigned = (line for line in lines if isinstance(line, ast.Assign))
    return {ast.unparse(line.targets[0]): plain(line.value) for line in assigned}


def reads_chapters(file: Path) -> bool:
    """Whether the notebook says that it is made from the other chapters' outputs."""
    return bool(read(file)["metadata"].get("sizewise", {}).get(READS_CHAPTERS))


def strip(notebook) -> None:
    """Take out what differs from run to run, in place."""
    ours = {k: v for k, v in notebook.metadata.items() if k == "sizewise"}
    notebook.metadata.clear()
    notebook.metadata.update(json.loads(json.dumps(KEPT_METADATA)) | ours)
    for cell in notebook.cells:
        for volatile in ("execution", "papermill"):
            cell.metadata.pop(volatile, None)
        if not cell.metadata.get("tags", True):
            cell.metadata.pop("tags")
        if "outputs" in cell:
            cell.outputs = _whole_streams(cell.outputs)


def _whole_streams(outputs: list) -> list:
    """Join what was printed in pieces: where a kernel cuts it depends on the moment."""
    joined: list = []
    for output in outputs:
        last = joined[-1] if joined else {}
        if output.output_type == "stream" and last.get("name") == output.name:
            last.text += output.text
        else:
            joined.append(output)
    return joined


def write(notebook, file: Path) -> None:
    """Write a stripped notebook if it differs from the file; half a file is never seen."""
    import nbformat

    strip(notebook)
    content = nbformat.writes(notebook, version=4).rstrip("\n") + "\n"
    if file.exists() and file.read_text(encoding="utf-8") == content:
        return
    half = file.with_name(file.name + ".half")
    half.write_text(content, encoding="utf-8")
    os.replace(half, file)


class State:
    """Which chapter was last run from what, kept in ``_build/chapters.json``."""

    def __init__(self):
        self.file = paths.root() / "_build" / "chapters.json"
        try:
            self.fingerprints = dict(json.loads(self.file.read_text()))
        except (OSError, ValueError, TypeError):
            self.fingerprints = {}

    def fresh(self, name: str, file: Path) -> bool:
        return self.fingerprints.get(name) == self._fingerprint(file)

    def done(self, name: str, file: Path) -> None:
        self.fingerprints[name] = self._fingerprint(file)
        self.file.parent.mkdir(exist_ok=True)
        self.file.write_text(json.dumps(self.fingerprints, indent=1, sort_keys=True))

    def _fingerprint(self, file: Path) -> str:
        """A hash of all that a chapter's outputs follow from, and of the outputs themselves."""
        files = {file}
        if reads_chapters(file):
            files.update(other for other in paths.chapters().values() if other.exists())
        return self._shared + _hash(files)

    @functools.cached_property
    def _shared(self) -> str:
        """A hash of what every chapter follows from, as it was when the first was asked about."""
        home = paths.root()
        # The manifest follows from the chapters and the data: no chapter follows from it.
        data = (p for p in (home / "data").rglob("*") if p.is_file() and p.stem != "manifest")
        library = (home / "book" / "sizewise").rglob("*.py")
        return _hash({*library, *data, home / "requirements.txt", home / "_toc.yml"})


def _hash(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for file in sorted(files):
        digest.update(f"{file.relative_to(paths.root())}\0".encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def describe(name: str, file: Path, failed, injected: bool = False) -> str:
    """One line for a failed cell: chapter, cell, line of the cell, and what was raised.

    ``injected``: there were parameters, in a cell that ``file`` does not have.
    """
    tags = [cell["metadata"].get("tags", ()) for cell in read(file)["cells"]]
    before = next((i for i, names in enumerate(tags) if "parameters" in names), -1)
    trace = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(failed.traceback or ()))
    lines = re.findall(r"Cell In\[\d+\], line (\d+)", trace)
    number = failed.cell_index + 1 - (injected and failed.cell_index > before)
    where = f"cell {number}" + (f", line {lines[0]}" if lines else "")
    reason = " ".join(str(failed.evalue).split())
    return f"{name}: {where}: {failed.ename}: {reason}"
