"""Below each figure: the numbers that it draws, the files they come from, and what draws it.

A figure carries its numbers in its link (`sizewise.chapters.figures.data`); they become
figures/CHAPTER-N.csv. The recorded rows and published facts behind it, and the drawing function's
file (`sizewise_sources`), are copied to the site.
"""

from __future__ import annotations

import ast
import html
import json
import re
import shutil
from pathlib import Path
from urllib.parse import unquote

from sizewise_sources import behind, drawn_by
from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)

FIGURE = re.compile(r'<figure class="sw-figure">.*?</figure>', re.DOTALL)
NUMBERS = re.compile(
    r'<p class="sw-figure__data"><a href="data:text/csv[^,]*,([^"]*)"[^>]*>.*?</p>'
)


def finish(app: Sphinx, name: str, page: str) -> str:
    """The page with files in place of embedded numbers; ``name`` is its path without suffix."""
    notebook = Path(app.srcdir) / f"{name}.ipynb"
    found = FIGURE.findall(page)
    if not found or not notebook.is_file():
        return page
    chapter, home = json.loads(notebook.read_text(encoding="utf-8")), Path(app.srcdir)
    origins, drawers = sources(chapter, home), scripts(chapter, home)
    if len(origins) != len(found):
        logger.warning("%d figures on the page, %d in the notebook", len(found), len(origins))
        return page
    numbered = iter(enumerate(zip(origins, drawers, strict=True), 1))

    def with_files(match: re.Match) -> str:
        number, (files, drawer) = next(numbered)
        stem = f"{Path(name).name}-{number}"
        if drawer is None:
            logger.warning("figure %d is not drawn by a function of the library", number)
        return _with_files(match[0], Path(app.outdir), home, stem, files, drawer)

    return FIGURE.sub(with_files, page)


def _with_files(figure: str, site: Path, home: Path, stem: str, files: list, drawer) -> str:
    """One figure with its line of links. Every page with figures lies one folder deep."""
    links = []
    if given := NUMBERS.search(figure):
        file = site / "figures" / f"{stem}.csv"
        file.parent.mkdir(exist_ok=True)
        file.write_text(unquote(html.unescape(given[1])), encoding="utf-8")
        links.append(f'<a href="../figures/{stem}.csv" download>drawn numbers (CSV)</a>')
        figure = NUMBERS.sub("", figure)
    for name in dict.fromkeys([*files, *([drawer] if drawer else [])]):
        target = site / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(home / name, target)
        role = " (draws it)" if name == drawer else ""
        links.append(f'<a href="../{name}" download>{name}</a>{role}')
    if not links:
        return figure
    line = f'<p class="sw-figure__data">Files: {", ".join(links)}</p>\n</figure>'
    return figure.removesuffix("</figure>").rstrip() + "\n" + line


def sources(notebook: dict, home: Path) -> list[list[str]]:
    """For each figure of a notebook, in order: the files behind the statement that drew it."""
    return _each(notebook, lambda statements: behind(statements, home))


def scripts(notebook: dict, home: Path) -> list[str | None]:
    """For each figure of a notebook, in order: the library's file that draws it."""
    return _each(notebook, lambda statements: drawn_by(statements, home))


def _each(notebook: dict, ask) -> list:
    """For each figure of a notebook: what ``ask`` says of the statements up to the one it is of."""
    found, statements = [], []
    for cell in notebook["cells"]:
        if cell["cell_type"] != "code":
            continue
        statements += ast.parse("".join(cell["source"])).body
        for output in cell.get("outputs", ()):
            shown = "".join(output.get("data", {}).get("text/html", ""))
            found += [ask(statements) for _ in FIGURE.findall(shown)]
    return found
