"""Building the book: our runner and builder against jupyter-book on the same chapters."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from sizewise import paths

PYTHON = sys.executable


def book(folder: Path):
    """The whole book: our runner and builder, or jupyter-book executing the same chapters."""
    ours, theirs = copy(folder / "ours"), copy(folder / "theirs")
    config = theirs / "_config.yml"
    words = config.read_text()
    if 'execute_notebooks: "off"' not in words:
        raise ValueError("_config.yml: expected execution to be off")
    config.write_text(words.replace('execute_notebooks: "off"', "execute_notebooks: force"))
    baseline = ["jupyter-book", "build", str(theirs), "--all", "--path-output", str(theirs)]
    run = [PYTHON, "-m", "sizewise", "run", "--in-place", "--force"]
    return [baseline], [run, [PYTHON, str(ours / "scripts" / "build_site.py")]]


def unchanged(folder: Path):
    """Running every chapter, or finding that none has changed since."""
    home = copy(folder / "ours")
    run = [PYTHON, "-m", "sizewise", "run", "--in-place"]
    seconds([run], home)
    return [[*run, "--force"]], [run]


def seconds(commands: list[list[str]], home: Path) -> float:
    """What the commands take one after the other, with ``home`` as the book."""
    environment = os.environ | {
        "SIZEWISE_HOME": str(home),
        "PATH": f"{Path(PYTHON).parent}{os.pathsep}{os.environ['PATH']}",
    }
    started = time.perf_counter()
    for command in commands:
        done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}\n{done.stderr}")
    return time.perf_counter() - started


def copy(folder: Path) -> Path:
    """The tracked files in a folder of their own, with the vendored parts of the site."""
    home = paths.root()
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=home, check=True, capture_output=True)
    for name in filter(None, listed.stdout.decode().split("\0")):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(home / name, target)
    for built in ("vendor", "npm"):
        if (home / "_build" / built).exists():
            shutil.copytree(home / "_build" / built, folder / "_build" / built, symlinks=True)
    return folder
