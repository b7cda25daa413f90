"""Below each figure: its numbers and the files behind it, copied to the site, and an address.

A figure brings its numbers in a link and the names of its files in ``data-sources``
(`sizewise.chapters.figures.style`); here they become figures/CHAPTER-N.csv and links.
"""

from __future__ import annotations

import html
import re
import shutil
from pathlib import Path
from urllib.parse import unquote

from sphinx.application import Sphinx

FIGURE = re.compile(
    r'<figure class="sw-figure"(?: data-sources="([^"]*)")?>(.*?)</figure>', re.DOTALL
)
NUMBERS = re.compile(
    r'<p class="sw-figure__data"><a href="data:text/csv[^,]*,([^"]*)"[^>]*>.*?</p>'
)


def finish(app: Sphinx, name: str, page: str) -> str:
    """The page with files in place of embedded numbers; ``name`` is its path without suffix."""
    site, home, stem = Path(app.outdir), Path(app.srcdir), Path(name).name
    number = 0

    def with_files(match: re.Match) -> str:
        nonlocal number
        number += 1
        names, body = (match[1] or "").split(), match[2]
        address = f"{stem}-{number}"
        links = [f'<a class="sw-figure__number" href="#fig-{address}">Figure {number}</a>']
        if csv := NUMBERS.search(body):
            (site / "figures").mkdir(exist_ok=True)
            text = unquote(html.unescape(csv[1]))
            (site / "figures" / f"{address}.csv").write_text(text, encoding="utf-8")
            links.append(f'<a href="../figures/{address}.csv" download>numbers (CSV)</a>')
            body = NUMBERS.sub("", body)
        for file in names:
            (site / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(home / file, site / file)
            role = " (draws it)" if file.endswith(".py") else ""
            links.append(f'<a href="../{file}" download>{file}</a>{role}')
        line = f'<p class="sw-figure__data">{" · ".join(links)}</p>'
        opening = f'<figure class="sw-figure" id="fig-{address}">'
        return f"{opening}{body.rstrip()}\n{line}\n</figure>"

    return FIGURE.sub(with_files, page)
