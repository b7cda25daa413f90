"""What a page says of itself where it is linked: a description and a picture for social cards.

The description is the page's short answer, or else its first paragraph; the picture shows the
title and the description. Addresses must be whole there, so `html_baseurl` should be set; Sphinx
writes the canonical link from it. Without it the picture's address starts at the page.
"""

from __future__ import annotations

import html
import posixpath
import re
import textwrap
from pathlib import Path

from sphinx.application import Sphinx

LONGEST = 200  # characters of a description; search engines show about 160
SIZE = (1200, 630)  # pixels, the shape that the large cards of all services are cut to
FOLDER = "_static/cards"
SHORT_ANSWER = re.compile(
    r'<p class="admonition-title">Short answers?\b[^<]*</p>(.*?)</div>', re.DOTALL
)
PARAGRAPH = re.compile(r"<p>(.*?)</p>", re.DOTALL)
META = re.compile(r'<meta (?:name|property)="([^"]+)" content="([^"]*)"')


def setup(app: Sphinx) -> dict:
    """Connect both halves: the words in the page's head, the pictures when all are written."""
    app.connect("html-page-context", describe, priority=700)
    app.connect("build-finished", draw_cards, priority=800)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def describe(app: Sphinx, pagename, templatename, context, doctree) -> None:
    """Put the description and the card's words into the head of a page of the book."""
    if doctree is None:
        return
    title = plain(context.get("title", ""))
    told = description(context.get("body", ""), title) or title
    kind = "website" if pagename == app.config.master_doc else "article"
    context["metatags"] = context.get("metatags", "") + tags(
        pagename, title, told, app.config.html_title, app.config.html_baseurl or "", kind
    )


def description(body: str, title: str = "") -> str:
    """The short answer of a page, or its first paragraph, as plain words of a card's length.

    The front page lists the short answers of others; its own is the paragraph before them, but
    not one that says the ``title`` again.
    """
    answer = SHORT_ANSWER.search(body)
    own = answer and not answer[0].startswith('<p class="admonition-title">Short answers')
    paragraphs = PARAGRAPH.findall(answer[1] if own else body)
    told = next((text for text in map(plain, paragraphs) if len(text) > 40 and text != title), "")
    return textwrap.shorten(told, LONGEST, placeholder=" …")


def plain(markup: str) -> str:
    """HTML as words; a formula is told by its TeX, which KaTeX keeps beside what it draws."""
    markup = re.sub(r'<span class="katex-html".*?(?=</span></span></span>|$)', "", markup)
    tex = r'<span class="katex">.*?<annotation[^>]*>(.*?)</annotation></semantics></math></span>'
    markup = re.sub(tex, r"\1", markup, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]+>", "", markup)).split())


def card_of(page: str) -> str:
    """The address of a page's picture, from the site's root."""
    return f"{FOLDER}/{page.replace('/', '-')}.png"


def tags(page: str, title: str, told: str, book: str, base: str, kind: str = "article") -> str:
    """The meta tags of a page: for search engines, Open Graph, and the card's shape."""
    card = card_of(page)
    picture = base + card if base else posixpath.relpath(card, posixpath.dirname(page) or ".")
    properties = {
        "og:type": kind,
        "og:site_name": book,
        "og:title": title,
        "og:description": told,
        "og:image": picture,
        "og:image:width": str(SIZE[0]),
        "og:image:height": str(SIZE[1]),
        "og:image:alt": f"{book}: {title}",
    }
    if base:
        properties["og:url"] = f"{base}{page}.html"
    names = {"description": told, "twitter:card": "summary_large_image"}
    return "".join(
        f'<meta {kind}="{key}" content="{html.escape(value)}">\n'
        for kind, entries in (("name", names), ("property", properties))
        for key, value in entries.items()
    )


def draw_cards(app: Sphinx, exception: Exception | None) -> None:
    """Draw the picture of each page that names one, from the words in its head."""
    if exception is not None or app.builder.name != "html":
        return
    site = Path(app.outdir)
    for path in sorted(site.rglob("*.html")):
        found = dict(META.findall(path.read_text(encoding="utf-8").split("</head>", 1)[0]))
        card = card_of(path.relative_to(site).with_suffix("").as_posix())
        # A page that leads to another one names that one's picture.
        if found.get("og:image", "").endswith(card):
            said = {key: html.unescape(value) for key, value in found.items()}
            (site / card).parent.mkdir(parents=True, exist_ok=True)
            draw(site / card, said["og:site_name"], said["og:title"], said["og:description"])


def draw(file: Path, book: str, title: str, told: str) -> None:
    """Draw one card; the same words give the same bytes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(SIZE[0] / 100, SIZE[1] / 100), dpi=100, facecolor="#14181e")
    FigureCanvasAgg(figure)
    lines = textwrap.wrap(title, 34)[:3]
    words = {"va": "top", "ha": "left", "parse_math": False}
    figure.text(0.06, 0.91, book, color="#6ca6f5", fontsize=24, weight="bold", **words)
    figure.text(
        0.06,
        0.79,
        "\n".join(lines),
        color="#ffffff",
        fontsize=34,
        weight="bold",
        linespacing=1.2,
        **words,
    )
    room = 5 - max(0, len(lines) - 2)
    figure.text(
        0.06,
        0.71 - 0.095 * len(lines),
        "\n".join(textwrap.wrap(told, 62)[:room]),
        color="#ced6dd",
        fontsize=20,
        linespacing=1.4,
        **words,
    )
    figure.savefig(file, metadata={"Software": None})
