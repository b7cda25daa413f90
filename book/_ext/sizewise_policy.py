"""A Content-Security-Policy in every page: scripts of the site and of the page itself, no others.

A page of this book asks nothing of another site. The policy makes that a rule for the browser, so
that a script which gets into a page by a mistake of ours, an output of a chapter or a package runs
nothing and sends nothing. It stands in the page because a static host sets no headers; a meta
element cannot forbid framing, which a header could.

Inline scripts and handlers are allowed by their SHA-256, page by page. Inline styles are allowed:
figures and formulas have thousands.
"""

import base64
import hashlib
import html
import re
from pathlib import Path

from sphinx.application import Sphinx

INLINE = re.compile(r"<script\b(?![^>]*\bsrc=)([^>]*)>(.*?)</script>", re.DOTALL)
NO_SCRIPT = re.compile(r'\btype="(?!(?:text/javascript|module)")')  # data in a script's clothes
HANDLER = re.compile(r'\son[a-z]+="([^"]*)"')
HEAD = re.compile(r"<head\b[^>]*>")


def setup(app: Sphinx) -> dict:
    # The last: what other extensions put into a page is part of it.
    app.connect("build-finished", add_policies, priority=990)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


def add_policies(app: Sphinx, exception: Exception | None) -> None:
    """Put each page's own policy into it."""
    if exception or app.builder.format != "html":
        return
    texts = {page: page.read_text(encoding="utf-8") for page in Path(app.outdir).rglob("*.html")}
    # The page of results reads the others for its excerpts, handlers and all.
    handlers = {html.unescape(code) for text in texts.values() for code in HANDLER.findall(text)}
    for page, text in texts.items():
        if HEAD.search(text):
            others = handlers if page.name == "search.html" else set()
            rule = policy(text, others)
            element = f'<meta http-equiv="Content-Security-Policy" content="{rule}">'
            placed = HEAD.sub(lambda head, line=element: f"{head[0]}\n{line}", text, count=1)
            page.write_text(placed, encoding="utf-8")


def policy(text: str, others: set[str] = frozenset()) -> str:
    """The policy of a page: nothing from elsewhere, and of its own scripts those that it has.

    ``others`` are handlers of other pages that it reads.
    """
    scripts = [code for kind, code in INLINE.findall(text) if not NO_SCRIPT.search(kind)]
    handlers = [html.unescape(code) for code in HANDLER.findall(text)] + sorted(others)
    allowed = sorted({_source(code) for code in (*scripts, *handlers)})
    if handlers:
        allowed.insert(0, "'unsafe-hashes'")
    parts = {
        "default-src": "'self'",
        # Python in the page is WebAssembly, in a worker of the site's own.
        "script-src": " ".join(("'self'", "'wasm-unsafe-eval'", *allowed)),
        "style-src": "'self' 'unsafe-inline'",
        "img-src": "'self' data:",
        "font-src": "'self' data:",
        "object-src": "'none'",
        "frame-src": "'none'",
        "base-uri": "'self'",
        "form-action": "'self'",
    }
    return "; ".join(f"{name} {sources}" for name, sources in parts.items())


def _source(code: str) -> str:
    digest = hashlib.sha256(code.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
