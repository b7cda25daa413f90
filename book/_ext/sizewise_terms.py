"""Terms of the glossary, explained where they stand: the first of each on a page gets its words.

Only what an author marked as a {term} is explained. The definition is text of the page, which a
style sheet shows when the term is pointed at or focused, so it works without a script.
"""

from __future__ import annotations

import html
import re
from pathlib import Path

GLOSSARY = "book/glossary"
ENTRY = re.compile(r'<dt id="(term-[^"]+)">.*?</dt>\s*<dd>(.*?)</dd>', re.DOTALL)
LINK = re.compile(
    r'<a class="reference internal" href="[^"]*#(term-[^"]+)">'
    r'(<span class="xref std std-term">.*?</span>)</a>',
    re.DOTALL,
)


def definitions(site: Path) -> dict[str, str]:
    """What each term of the built glossary means, by the term's id, as plain text."""
    file = site / f"{GLOSSARY}.html"
    page = file.read_text(encoding="utf-8") if file.is_file() else ""
    return {
        name: html.unescape(" ".join(re.sub(r"<[^>]+>", "", text).split()))
        for name, text in ENTRY.findall(page)
    }


def explain(page: str, meanings: dict[str, str]) -> str:
    """The page with its definition beside the first link to each term."""
    seen = set()

    def with_words(match: re.Match) -> str:
        name = match[1]
        if name in seen or name not in meanings:
            return match[0]
        seen.add(name)
        link = match[0].replace("<a ", f'<a aria-describedby="tip-{name}" ', 1)
        text = html.escape(meanings[name])
        return (
            f'<span class="sw-term">{link}<span class="sw-tip" role="tooltip" id="tip-{name}">'
            f"{text}</span></span>"
        )

    return LINK.sub(with_words, page)
