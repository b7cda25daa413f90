"""Files beside the pages: the front door, redirects, the page for lost readers, robots, sitemap.

Addresses that have to be whole, and the folder that a lost reader's page starts from, come from
`html_baseurl`; redirects from `sizewise_redirects` in _config.yml, old page to new one.
"""

from __future__ import annotations

import html
import posixpath
import re
from pathlib import Path
from urllib.parse import urlsplit

from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)

LOST_STYLE = """:root { color-scheme: light dark; }
:root { --ground: #ffffff; --ink: #14181e; --link: #1259c3; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #14181e; --ink: #ced6dd; --link: #6ca6f5; }
}
body { max-width: 40rem; margin: 3rem auto; padding: 0 1rem; background: var(--ground);
  color: var(--ink); font: 1.1rem/1.6 system-ui, sans-serif; }
a { color: var(--link); }
li { margin: 0.2rem 0; }
form { display: flex; gap: 0.5rem; flex-wrap: wrap; }
input, button { font: inherit; padding: 0.3rem 0.6rem; }"""
# Where the book is not served from its published folder: a folder of its pages tells the root;
# on GitHub Pages a copy lies in the folder of its repository; else it is the server's root.
FIND_ROOT = """const base = document.querySelector("base"), asked = location.pathname;
if (!asked.startsWith(base.getAttribute("href"))) {
  const before = asked.match(/^(.*?\\/)(?:%s)\\//);
  const fork = location.hostname.endsWith(".github.io") && asked.match(/^\\/[^/]+\\//);
  base.href = before ? before[1] : fork ? fork[0] : "/";
}"""
# What a page says of itself in its head, which the page that leads to it says as well.
OWN_WORDS = re.compile(r'<meta (?:name="description"|property="og:[^"]*")[^>]*>')
OWN_TITLE = re.compile(r"<title>(.*?)</title>", re.DOTALL)


def write(app: Sphinx) -> None:
    """Write all of them into the finished site."""
    site, base = Path(app.outdir), app.config.html_baseurl
    pages = [f"{name}.html" for name in in_reading_order(app)]
    first, title = f"{app.config.master_doc}.html", app.config.html_title
    for old, new in app.config.sizewise_redirects.items():
        if not (site / f"{new}.html").is_file() or (site / f"{old}.html").is_file():
            logger.warning("redirect %s -> %s: the new page must exist, the old not", old, new)
            continue
        target = posixpath.relpath(f"{new}.html", posixpath.dirname(old) or ".")
        _write(site / f"{old}.html", redirect(target, site / f"{new}.html", whole(base, new)))
    named = [(page, app.env.titles[page.removesuffix(".html")].astext()) for page in pages]
    _write(site / "404.html", lost(named, urlsplit(base).path or "/", title))
    if base:
        _write(site / "sitemap.xml", sitemap([base + page for page in pages]))
        _write(site / "robots.txt", f"User-agent: *\nAllow: /\nSitemap: {base}sitemap.xml\n")
    door = redirect(first, site / first, whole(base, app.config.master_doc))
    _write(site / "index.html", door)  # last: with it the site is whole


def in_reading_order(app: Sphinx) -> list[str]:
    """The pages of the contents, without suffix, as a reader turns them."""
    found, ahead = [], [app.config.master_doc]
    while ahead:
        found.append(ahead.pop(0))
        ahead = app.env.toctree_includes.get(found[-1], []) + ahead
    return found


def whole(base: str, page: str) -> str:
    """The published address of a page, or an empty text where the book has no address."""
    return f"{base}{page}.html" if base else ""


def redirect(target: str, page: Path, address: str) -> str:
    """A page that leads to another one, with or without scripts, and keeps ?query and #place.

    ``target`` is the way there from the old page, ``page`` the file, whose title and description
    it repeats for those who read no further than the head, ``address`` where it is published.
    """
    head = page.read_text(encoding="utf-8").partition("</head>")[0]
    title, words = OWN_TITLE.search(head)[1].strip(), "\n".join(OWN_WORDS.findall(head))
    target, address = html.escape(target), html.escape(address or target)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{title}</title>\n<link rel="canonical" href="{address}">\n'
        f'<script>location.replace("{target}" + location.search + location.hash)</script>\n'
        f'<noscript><meta http-equiv="refresh" content="0; url={target}"></noscript>\n'
        f"{words}\n<style>{LOST_STYLE}</style></head>\n"
        f'<body><main><h1><a href="{target}">{title}</a></h1></main></body>\n</html>\n'
    )


def lost(pages: list[tuple[str, str]], base: str, title: str) -> str:
    """The page for an address that is not there: it may be shown in any folder, so it is whole.

    ``pages`` are addresses from the site's root with their titles, ``base`` is that root.
    """
    folders = "|".join(sorted({page.partition("/")[0] for page, _ in pages if "/" in page}))
    entries = "\n".join(
        f'<li><a href="{html.escape(page)}">{html.escape(name)}</a></li>' for page, name in pages
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="robots" content="noindex">\n'
        f"<title>No such page — {html.escape(title)}</title>\n"
        f'<base href="{html.escape(base)}">\n<script>{FIND_ROOT % folders}</script>\n'
        f'<link rel="icon" href="_static/favicon.svg">\n<style>{LOST_STYLE}</style></head>\n'
        "<body><main>\n<h1>There is no such page</h1>\n"
        "<p>It may have been renamed. Search for it, or start from the contents.</p>\n"
        '<form action="search.html" role="search"><label>Search for <input name="q" '
        'type="search" required></label> <button>Search</button></form>\n'
        f"<h2>Contents</h2>\n<ul>\n{entries}\n</ul>\n</main></body>\n</html>\n"
    )


def sitemap(addresses: list[str]) -> str:
    """The sitemap of these addresses, as sitemaps.org describes it."""
    entries = "\n".join(f"<url><loc>{html.escape(one)}</loc></url>" for one in addresses)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n{entries}\n</urlset>\n'
    )


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
