"""A small book in a temporary folder, for tests of what works on a whole book."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")  # as the command line does
os.environ["HF_HUB_OFFLINE"] = "1"  # no test asks the network

from sizewise.chapters import claims
from sizewise.cli import main
from sizewise.data import catalog, records

# Fixtures that need more than `make` brings; `make test` deselects by the markers.
NEEDS = {"published_tables": "published", "interpreted": "triton", "two_nodes": "ray"}


@pytest.hookimpl(tryfirst=True)  # before -m is weighed
def pytest_collection_modifyitems(items):
    for item in items:
        for fixture, marker in NEEDS.items():
            if fixture in getattr(item, "fixturenames", ()):
                item.add_marker(marker)


def pytest_runtest_setup(item):
    """Skip a selected test whose needs are missing, and name them."""
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a GPU")
    packages = [name for marker in item.iter_markers("peer") for name in marker.args]
    packages += [name for name in ("ray", "triton") if item.get_closest_marker(name)]
    for name in packages:
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    for name in (name for marker in item.iter_markers("cached") for name in marker.args):
        if not _is_cached(name):
            pytest.skip(f"{name} is not in the cache")


def _is_cached(name: str) -> bool:
    """Whether the files of a pretrained model, or a package of texts, were downloaded."""
    from sizewise.data import downloads, hub_files
    from sizewise.evaluation import corpora

    if name in hub_files.names():
        return hub_files.entry(name).cached
    return (downloads.cache() / "packages" / corpora.pinned(name).file).exists()


@pytest.fixture(scope="session")
def published_tables() -> Path:
    """The folder of published run tables that may not be in the repository."""
    if not (folder := os.environ.get("SIZEWISE_PUBLISHED")):
        pytest.skip("SIZEWISE_PUBLISHED names no folder")
    return Path(folder)


CACHES = (
    records.facts,
    records._machine,
    records._versions,
    catalog.models,
    catalog.devices,
    claims._file,
    claims.ledger,
)
CLAIMS = """
articles:
  S0: {title: The first article, about: size, dated: unknown, references: none}
  S1: {title: The second article, about: cost, dated: unknown, references: none}
topics: {size: How large, cost: What it costs}
claims:
  - {id: 1, articles: [S0], kind: arithmetic, topic: size, claim: One is one., chapter: first}
  - {id: 2, articles: [S0, S1], kind: arithmetic, topic: size, claim: Two is <b>one</b>.,
     understood: One as a number., chapter: first}
  - {id: 3, articles: [S1], kind: opinion, topic: cost, claim: Three is best., status: undecidable,
     reason: A matter of taste., needs: Agreement.}
  - {id: 4, articles: [S1], kind: published, topic: cost, claim: Four is odd., chapter: second}
"""


class Book:
    """A checkout with claims, empty facts and the chapters that a test writes."""

    def __init__(self, root: Path):
        self.root = root
        for folder in ("data/facts", "chapters", "book/sizewise"):
            (root / folder).mkdir(parents=True)
        (root / "data" / "claims.yml").write_text(CLAIMS)
        (root / "book" / "sizewise" / "module.py").write_text("x = 1\n")
        (root / "requirements.txt").write_text("numpy==2.4.6\n")
        self.names: list[str] = []
        self._contents()

    def chapter(self, name: str, *cells, reads_chapters: bool = False) -> Path:
        """Write a chapter. A cell is its code, or (code, tag), or (code, outputs)."""
        metadata = {"sizewise": {"reads-chapters": True}} if reads_chapters else {}
        file = self.root / "chapters" / f"{name}.ipynb"
        notebook = {
            "cells": [self._cell(number, cell) for number, cell in enumerate(cells)],
            "metadata": {"kernelspec": {"name": "python3", "display_name": "old"}, **metadata},
            "nbformat": 4,
            "nbformat_minor": 5,
        }
        file.write_text(json.dumps(notebook))
        self.names.append(name)
        self._contents()
        return file

    @staticmethod
    def _cell(number: int, cell) -> dict:
        code, extra = cell if isinstance(cell, tuple) else (cell, None)
        return {
            "cell_type": "code",
            "id": f"cell-{number}",
            "metadata": {"tags": [extra]} if isinstance(extra, str) else {},
            "source": code,
            "outputs": extra if isinstance(extra, list) else [],
            "execution_count": None,
        }

    def _contents(self) -> None:
        listed = "".join(f"  - file: chapters/{name}\n" for name in dict.fromkeys(self.names))
        contents = "format: jb-book\nroot: book/index\n"
        (self.root / "_toc.yml").write_text(contents + (f"chapters:\n{listed}" if listed else ""))


def forget() -> None:
    """Let the library read its files again."""
    for cached in CACHES:
        cached.cache_clear()


@pytest.fixture
def book(tmp_path, monkeypatch):
    """An empty `Book`, which the library takes for its checkout during the test."""
    book = Book(tmp_path / "a book")  # a space in the path is nothing special
    monkeypatch.setenv("SIZEWISE_HOME", str(book.root))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))  # the runner sets it
    forget()
    yield book
    forget()


def run_python(*args, **environment) -> subprocess.CompletedProcess:
    """Run Python in a separate process, with more variables in its environment."""
    command, env = [sys.executable, *map(str, args)], os.environ | environment
    return subprocess.run(command, env=env, capture_output=True, text=True)


class Output(NamedTuple):
    """The exit code and the output of a call of the command line."""

    code: int
    out: str
    err: str


@pytest.fixture
def sizewise(monkeypatch, capsys):
    """The command line in this process: a function of its arguments that gives an `Output`."""

    def call(*args) -> Output:
        monkeypatch.setattr(sys, "argv", ["sizewise", *map(str, args)])
        with pytest.raises(SystemExit) as stopped:
            main.main()
        output = capsys.readouterr()
        return Output(stopped.value.code, output.out, output.err)

    return call
