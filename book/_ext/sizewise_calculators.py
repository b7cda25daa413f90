"""The calculators' forms, equations and scripts on the pages that ask for them.

A page says `{calculator}` with the calculator's id. The formulas' JavaScript is made of the
library as it stands, into a folder beside the pages that becomes one of Sphinx's static folders.
"""

from __future__ import annotations

import os
import re
import sys
from dataclasses import replace
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

logger = logging.getLogger(__name__)

BOOK = Path(__file__).resolve().parent.parent
# What a calculator is made of: a page that shows one is read again when one of these changes.
SOURCES = (
    "_ext/calculators/*.py",
    "sizewise/*.py",
    "sizewise/costs/*.py",
    "sizewise/models/*.py",
    "sizewise/cli/forecast.py",
    "sizewise/scaling_laws/forms.py",
    "sizewise/scaling_laws/uncertainty.py",
    "sizewise/stats/paired.py",
)
FACTS = (
    "data/facts/*.yml",
    "data/refit_published.jsonl",
    "data/silicon*.jsonl",
    "book/references.bib",
)
CITED = re.compile(r'href="cite:([^"]+)"')  # in a form: an entry of the bibliography
FORMULAS = "calculators-formulas.js"
SCRIPTS = (
    "calculators-forecast.js",
    "calculators-config.js",
    "calculators-curve.js",
    "calculators.js",
)


class Calculator(SphinxDirective):
    """``{calculator} fit``: the form, the results of its default case, and the equations.

    With ``:short:`` the style shows the first choices and the answer alone, without a curve.
    """

    required_arguments = 1
    option_spec = {"short": directives.flag}  # noqa: RUF012

    def run(self) -> list[nodes.Node]:
        library()
        from calculators import all_of_them, equations, form

        if self.arguments[0] not in all_of_them():
            raise self.error(f"no calculator {self.arguments[0]!r}: {', '.join(all_of_them())}")
        calculator = all_of_them()[self.arguments[0]]
        for pattern, folder in [(p, BOOK) for p in SOURCES] + [(p, BOOK.parent) for p in FACTS]:
            for path in folder.glob(pattern):
                self.env.note_dependency(str(path))
        self.env.metadata[self.env.docname]["calculators"] = True
        write_formulas(self.env.app)
        if "short" in self.options:
            bare = form.html(replace(calculator, curve=None))
            return [raw(f'<div class="sw-calc--short">{bare}</div>')]
        return [
            raw(form.html(calculator)),
            raw("<details class='sw-calc__equations'><summary>The equations</summary>\n"),
            raw("<p>Made from the library's functions: they are what the page computes.</p>"),
            *(
                node
                for words, formula in equations.equations(calculator)
                for node in (paragraph(f"{words[0].upper()}{words[1:]}:"), block(formula))
            ),
            letters(equations.letters(calculator)),
            raw("</details>\n"),
        ]


def raw(html: str) -> nodes.raw:
    return nodes.raw("", html, format="html")


def paragraph(words: str) -> nodes.paragraph:
    return nodes.paragraph("", "", nodes.Text(words))


def block(formula: str) -> nodes.math_block:
    return nodes.math_block(formula, formula, nowrap=False, number=None, label=None)


def letters(meanings: list[tuple[str, str]]) -> nodes.paragraph:
    """What the letters mean, in one paragraph."""
    parts: list[nodes.Node] = [nodes.Text("Here ")]
    for place, (letter, meaning) in enumerate(meanings):
        parts += [nodes.math(letter, letter), nodes.Text(f" is {meaning}")]
        parts.append(nodes.Text("; " if place < len(meanings) - 1 else "."))
    return nodes.paragraph("", "", *parts)


def link_citations(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Lead the citations inside raw HTML to their places in the bibliography."""
    if not app.env.metadata.get(docname, {}).get("calculators"):
        return
    places = {
        citation.key: app.builder.get_relative_uri(docname, citation.bibliography_key.docname)
        + f"#{citation.citation_id}"
        for citation in app.env.get_domain("cite").citations
    }

    def link(match: re.Match) -> str:
        if match[1] not in places:
            logger.warning("the bibliography has no %s", match[1], location=docname)
        return f'href="{places.get(match[1], "")}"'

    for node in doctree.findall(nodes.raw):
        if CITED.search(node.astext()):
            node[:] = [nodes.Text(CITED.sub(link, node.astext()))]


def library() -> None:
    """Let `import sizewise` find the library of this tree."""
    if str(BOOK) not in sys.path:
        sys.path.insert(0, str(BOOK))


def folder(app: Sphinx) -> Path:
    return Path(app.outdir).parent / "calculators"


def write_formulas(app: Sphinx) -> None:
    """Write the formulas' JavaScript, unless this build has it already."""
    if getattr(app, "sizewise_formulas", False):
        return
    from calculators import script

    folder(app).mkdir(parents=True, exist_ok=True)
    file = folder(app) / f"{FORMULAS}.{os.getpid()}"  # readers side by side may each make it
    file.write_text(script.generated(), encoding="utf-8")
    file.replace(folder(app) / FORMULAS)
    app.sizewise_formulas = True


def add_folder(app: Sphinx) -> None:
    """Copy the generated file to the site's static files."""
    folder(app).mkdir(parents=True, exist_ok=True)
    app.config.html_static_path = [*app.config.html_static_path, str(folder(app))]


def add_scripts(app: Sphinx, pagename, templatename, context, doctree) -> None:
    """Load the scripts, deferred, and the style on the pages with a calculator and no other."""
    if app.env.metadata.get(pagename, {}).get("calculators"):
        app.add_css_file("calculators.css")
        app.add_js_file(FORMULAS, loading_method="defer")
        for name in SCRIPTS:
            app.add_js_file(name, loading_method="defer", priority=600)


def setup(app: Sphinx) -> dict:
    """Connect the directive; Sphinx calls this once."""
    app.add_directive("calculator", Calculator)
    app.connect("builder-inited", add_folder)
    app.connect("doctree-resolved", link_citations)
    app.connect("html-page-context", add_scripts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
