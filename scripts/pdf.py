"""Print the built pages into one PDF with bookmarks: _build/pdf/sizewise.pdf.

    make pdf
    .venv/bin/python scripts/pdf.py --output book.pdf

Every page of the table of contents is printed by the installed Chromium, in the order of the
contents, and the prints are joined; links between pages lead to their place in the PDF. Build the
pages first (`make site`). Without a Chromium nothing is made, a line says so, and the exit
status is 0.
"""

from __future__ import annotations

import argparse
import functools
import http.server
import io
import os
import re
import shutil
import sys
import threading
from pathlib import Path
from urllib.parse import urlsplit

import yaml

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "_build" / "html"
PDF = ROOT / "_build" / "pdf" / "sizewise.pdf"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MARGIN = {"top": "18mm", "bottom": "20mm", "left": "16mm", "right": "16mm"}
FOOTER = (
    '<div style="width:100%;font:8px sans-serif;color:#57606a;padding:0 16mm;text-align:right">'
    '<span class="title"></span> &middot; <span class="pageNumber"></span></div>'
)


def main() -> int:
    options = arguments()
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        print("pdf: skipped, no Chromium here: apt-get install chromium")
        return 0
    contents = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    parts = [
        (caption, [page for page in pages if (options.site / f"{page}.html").is_file()])
        for caption, pages in parts_of(contents)
    ]
    if not any(pages for _, pages in parts):
        sys.exit(f"pdf: there are no pages in {options.site}; run `make site` first")
    prints = print_pages(browser, options.site, [page for _, pages in parts for page in pages])
    options.output.parent.mkdir(parents=True, exist_ok=True)
    count = join(parts, prints, options.base, options.output)
    print(f"pdf: {options.output} ({count} pages, {options.output.stat().st_size / 1e6:.1f} MB)")
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--site", type=Path, default=SITE, help="the built pages")
    parser.add_argument("--output", type=Path, default=PDF, help="the PDF to write")
    parser.add_argument(
        "--base",
        default=base_url(),
        help="address that links to files outside the PDF start with; "
        "the default is `baseurl` of _config.yml",
    )
    return parser.parse_args()


def base_url() -> str:
    """The published address of the book, or an empty text if _config.yml names none."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    return (config.get("html") or {}).get("baseurl") or ""


def parts_of(contents: dict) -> list[tuple[str | None, list[str]]]:
    """(caption, pages without suffix) of each part of _toc.yml; the first page stands alone."""
    parts = [(None, [bare(contents["root"])])]
    for part in contents.get("parts", [contents]):
        pages = [bare(entry["file"]) for entry in part.get("chapters", []) if "file" in entry]
        parts.append((part.get("caption"), pages))
    return parts


def bare(file: str) -> str:
    return file.removesuffix(".md").removesuffix(".ipynb")


def print_pages(browser: str, site: Path, pages: list[str]) -> dict[str, tuple[str, bytes]]:
    """Each page's title and its print: {page: (title, PDF)}. Addresses start with `site:`."""
    from playwright.sync_api import sync_playwright

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=str(site))
    prints = {}
    with (
        http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server,
        sync_playwright() as driver,
    ):
        threading.Thread(target=server.serve_forever, daemon=True).start()
        flags = ["--no-sandbox", "--disable-gpu"] if os.geteuid() == 0 else ["--disable-gpu"]
        chromium = driver.chromium.launch(executable_path=browser, args=flags)
        tab = chromium.new_context(color_scheme="light").new_page()
        for page in pages:
            tab.goto(f"http://127.0.0.1:{server.server_port}/{page}.html")
            tab.evaluate("document.fonts.ready.then(() => true)")
            title = tab.locator("article h1").first.evaluate("it => it.firstChild.textContent")
            prints[page] = (
                title.strip(),
                tab.pdf(
                    format="A4",
                    margin=MARGIN,
                    tagged=True,
                    print_background=True,
                    display_header_footer=True,
                    header_template="<span></span>",
                    footer_template=FOOTER,
                ),
            )
        chromium.close()
        server.shutdown()
    return prints


def join(
    parts: list[tuple[str | None, list[str]]],
    prints: dict[str, tuple[str, bytes]],
    base: str,
    output: Path,
) -> int:
    """Write the prints as one PDF with a bookmark for each part and page; how many pages it has."""
    from pypdf import PdfReader, PdfWriter

    writer = PdfWriter()
    starts = {}
    for caption, pages in parts:
        above = None
        for page in pages:
            title, data = prints[page]
            starts[page] = len(writer.pages)
            writer.append(PdfReader(io.BytesIO(data)), import_outline=False)
            if caption and above is None:
                above = writer.add_outline_item(title=caption, page_number=starts[page])
            writer.add_outline_item(title=title, page_number=starts[page], parent=above)
    lead_inside(writer, starts, base)
    writer.add_metadata({"/Title": "Sizewise", "/Author": "The Sizewise authors"})
    writer.write(output)
    return len(writer.pages)


def lead_inside(writer, starts: dict[str, int], base: str) -> None:
    """Turn links to the server that printed the pages into links within the PDF.

    A link to a file that is not in the PDF leads to the published book, or nowhere without one.
    """
    from pypdf.generic import ArrayObject, DictionaryObject, NameObject, TextStringObject

    for sheet in writer.pages:
        for note in sheet.get("/Annots") or []:
            action = note.get_object().get("/A")
            address = str(action.get("/URI", "")) if action else ""
            parts = urlsplit(address)
            if parts.hostname != "127.0.0.1":
                continue
            page = re.sub(r"\.html$", "", parts.path.lstrip("/"))
            if page in starts:
                goal = writer.pages[starts[page]].indirect_reference
                to = {"/S": NameObject("/GoTo")}
                to["/D"] = ArrayObject([goal, NameObject("/Fit")])
            elif base:
                to = {"/S": NameObject("/URI")}
                to["/URI"] = TextStringObject(base + parts.path.lstrip("/"))
            else:
                del note.get_object()["/A"]
                continue
            action = DictionaryObject({NameObject(key): value for key, value in to.items()})
            note.get_object()[NameObject("/A")] = action


if __name__ == "__main__":
    sys.exit(main())
