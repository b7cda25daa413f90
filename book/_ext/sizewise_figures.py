"""Below each figure: its number and address, how to cite it, its numbers and the files behind it.

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
TITLE = re.compile(r'<p class="sw-figure__title">(.*?)</p>')
KINDS = {".jsonl": "rows", ".py": "code"}  # of the files behind a figure; the rest are facts


def finish(app: Sphinx, name: str, page: str) -> str:
    """The page with files in place of embedded numbers; ``name`` is its path without suffix."""
    site, home, stem = Path(app.outdir), Path(app.srcdir), Path(name).name
    chapter = ".".join(map(str, app.env.toc_secnumbers.get(name, {}).get("", ())))
    count = 0

    def with_files(match: re.Match) -> str:
        nonlocal count
        count += 1
        body, address = match[2], f"{stem}-{count}"
        number = f"Figure {chapter}.{count}" if chapter else f"Figure {count}"
        links = [f'<a class="sw-figure__number" href="#fig-{address}">{number}</a>']
        if csv := NUMBERS.search(body):
            (site / "figures").mkdir(exist_ok=True)
            text = unquote(html.unescape(csv[1]))
            (site / "figures" / f"{address}.csv").write_text(text, encoding="utf-8")
            links.append(f'<a href="../figures/{address}.csv" download>CSV</a>')
            body = NUMBERS.sub("", body)
        for file in (match[1] or "").split():
            (site / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(home / file, site / file)
            kind = KINDS.get(Path(file).suffix, "facts")
            links.append(f'<a href="../{file}" title="{file}" download>{kind}</a>')
        title = TITLE.search(body)
        year = re.search(r"\d{4}", app.config.copyright)[0]
        link = f"{app.config.html_baseurl}{name}.html#fig-{address}"
        links.append(
            f"<details><summary>Cite</summary>{app.config.author} ({year}). "
            f"“{title[1] if title else stem}.” {number} of <i>{app.config.html_title}</i>. "
            f'<span class="sw-figure__address">{link}</span></details>'
        )
        line = f'<div class="sw-figure__data">{"".join(links)}</div>'
        return f'<figure class="sw-figure" id="fig-{address}">{body.rstrip()}\n{line}\n</figure>'

    return FIGURE.sub(with_files, page)
