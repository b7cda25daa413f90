"""What the tests of the built pages share: the pages, a browser, and the checks of both.

The pages are built first where they are missing or older than their sources. What needs a browser
is skipped, with a message, where no Chromium is installed.
"""

from __future__ import annotations

import fcntl
import functools
import http.server
import os
import posixpath
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "_build"
HTML = BUILD / "html"
FRONT = HTML / "index.html"  # written last, so its age is the age of the whole build
SOURCES = [
    "_*.yml",
    "package*.json",
    ".npmrc",
    "scripts/build_site.py",
    "chapters/*.ipynb",
    "index.md",
    "book/*.*",
    "book/_*/*.*",
    "book/sizewise/*.py",  # the calculators' formulas are traced from these
    "book/sizewise/costs/*.py",
    "book/_ext/calculators/*.py",
    "book/sizewise/scaling_laws/forms.py",
    "book/sizewise/scaling_laws/uncertainty.py",
    "data/facts/*.yml",
    "data/*.jsonl",  # copied to the site, for those who want the numbers
]


def page_names(contents: dict) -> list[str]:
    """The pages that a table of contents names, without suffix, in its order."""
    pages = [contents[key] for key in ("root", "file") if key in contents]
    for key in ("parts", "chapters", "sections"):
        for entry in contents.get(key, []):
            pages += page_names(entry)
    return [page.removesuffix(".md").removesuffix(".ipynb") for page in pages]


BOOK_PAGES = page_names(yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8")))
REFERENCE = [page for page in BOOK_PAGES if page.startswith("book/api/")]
# The reference's pages are of one kind: the browser looks at one of them.
CONTENTS = [page for page in BOOK_PAGES if page not in REFERENCE[1:]]
PAGES = [*CONTENTS, "search"]
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
REDIRECTS = {  # old page: new page, from the site's root
    old: posixpath.normpath(posixpath.join(posixpath.dirname(old), new)).removesuffix(".html")
    for old, new in CONFIG["sphinx"]["config"]["redirects"].items()
}

in_a_browser = pytest.mark.browser


@pytest.fixture(name="site", scope="session")
def the_site() -> Path:
    """The folder of built pages, built once a session and only where a source is newer."""
    BUILD.mkdir(exist_ok=True)
    with (BUILD / "site.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # test workers must not build over one another
        newest = max(path.stat().st_mtime for name in SOURCES for path in ROOT.glob(name))
        if not FRONT.is_file() or FRONT.stat().st_mtime < newest:
            command = [sys.executable, str(ROOT / "scripts" / "build_site.py")]
            result = subprocess.run(command, capture_output=True, text=True)
            if result.returncode:
                pytest.fail(f"the pages cannot be built:\n{result.stdout}{result.stderr}", False)
    return HTML


NO_CHROMIUM = "needs Chromium: apt-get install chromium (or: playwright install chromium)"
ABORTED = "net::ERR_ABORTED"  # the page's own choice, as when it leads on before it is all there
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
]
GRAVE = {"serious", "critical"}
# Every violation with its first places, and text in the very colour of its ground, of which
# axe only says that it cannot be sure.
AUDIT = """async () => {
  const {violations, incomplete} = await axe.run(document, {
    resultTypes: ["violations", "incomplete"],
    rules: {"target-size": {enabled: true}},  // of WCAG 2.2, which axe leaves off
  });
  const report = (rule, impact, nodes) => (
    {rule, impact, places: nodes.slice(0, 3).map(node => node.html.slice(0, 200))});
  const unseen = incomplete.filter(rule => rule.id === "color-contrast")
    .flatMap(rule => rule.nodes)
    .filter(node => node.any.some(check => check.data?.messageKey === "equalRatio"));
  return [...violations.map(rule => report(rule.id, rule.impact, rule.nodes)),
          ...(unseen.length ? [report("unseen-text", "critical", unseen)] : [])];
}"""


@pytest.fixture(name="browser", scope="module")
def the_browser():
    """A headless Chromium. Not of the session: its event loop would disturb other modules."""
    playwright = pytest.importorskip("playwright.sync_api", reason=NO_CHROMIUM)
    with playwright.sync_playwright() as driver:
        names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
        program = next(filter(None, map(shutil.which, names)), driver.chromium.executable_path)
        if not os.path.exists(program):
            pytest.skip(NO_CHROMIUM)
        chromium = driver.chromium.launch(executable_path=program, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture(name="origin", scope="module")
def the_origin(site):
    """The address at which the built pages are served while this module runs."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(name="tab")
def the_tab(browser, origin):
    """Open a page as a new reader would: tab(address, theme, width) -> (tab, what went wrong)."""
    contexts = []

    def open_page(address: str, theme: str = "light", width: int = 1280):
        screen = {"width": width, "height": 900}
        context = browser.new_context(color_scheme=theme, viewport=screen, base_url=origin)
        contexts.append(context)
        page, troubles = context.new_page(), []
        page.on("request", lambda request: note_foreign(request.url))
        page.on("requestfailed", lambda request: note_failed(request.failure, request.url))
        page.on("pageerror", lambda error: troubles.append(f"error: {error}"))
        page.on(
            "console",
            lambda log: troubles.append(f"console: {log.text}") if log.type == "error" else None,
        )

        def note_failed(why: str | None, url: str) -> None:
            if why != ABORTED:
                troubles.append(f"failed: {url} ({why})")

        def note_foreign(url: str) -> None:
            if not url.startswith((origin, "data:", "blob:")):
                troubles.append(f"foreign: {url}")

        answer = page.goto(f"/{address}")
        assert answer.ok, f"{address}: {answer.status}"
        return page, troubles

    yield open_page
    for context in contexts:
        context.close()
