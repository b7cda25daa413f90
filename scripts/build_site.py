"""Build the book's pages into _build/html, every page anew, with warnings as errors.

    .venv/bin/python scripts/build_site.py

Chapters are taken as they are, with their stored outputs; `sizewise run` is what executes them.
Writes nothing to the tree outside _build/. The first build fetches KaTeX, uPlot, PurgeCSS and
axe-core from the npm registry; later ones need no network until package-lock.json changes.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "_build"
VENDOR = BUILD / "vendor"
LOCK = ROOT / "package-lock.json"
LOG = BUILD / "site.log"
PROBLEM = re.compile(r"\b(WARNING|ERROR|CRITICAL|SEVERE)\b|error:|Error:")


def main() -> int:
    argparse.ArgumentParser(description=__doc__).parse_args()
    BUILD.mkdir(exist_ok=True)
    LOG.write_text("", encoding="utf-8")
    try:
        stage("tools: KaTeX's style and fonts, uPlot, PurgeCSS", vendor)
        stage("reference: one page a room of the library", reference)
        if (BUILD / "live").is_dir():
            stage("live: the library and the chapters as they are now", refresh_live)
        stage("pages: Sphinx, warnings as errors", build_pages)
    except subprocess.CalledProcessError as error:
        print(f"site: {Path(error.cmd[0]).name} failed; the whole log is {LOG.relative_to(ROOT)}")
        print("\n".join(problems(LOG.read_text(encoding="utf-8"))))
        if error.cmd[0] == script("npm"):
            print("site: a first build needs the npm registry; later ones do without")
        (BUILD / "html" / "index.html").unlink(missing_ok=True)  # no front door to a bad build
        return 1
    except FileNotFoundError as error:
        print(f"site: {error.filename} is missing; install requirements.txt into this environment")
        return 1
    print(f"site: open {BUILD / 'html' / 'index.html'}")
    return 0


def stage(title: str, work) -> None:
    """Run `work` and print one line: what was done, and in how many seconds."""
    start = time.perf_counter()
    note = work()
    print(f"site: {title} ({note}, {time.perf_counter() - start:.1f} s)", flush=True)


def vendor() -> str:
    """Bring _build/vendor to package-lock.json: html/katex/, html/uplot/, axe.min.js and tools/.

    The folder keeps a copy of the lock it was made from, written last: a folder cut short
    or made from another lock is made again. npm checks each package against the lock's hash.
    """
    stamp = VENDOR / LOCK.name
    if stamp.is_file() and stamp.read_bytes() == LOCK.read_bytes():
        return "already there"
    work = BUILD / "npm"
    work.mkdir(exist_ok=True)
    for name in ("package.json", LOCK.name, ".npmrc"):
        shutil.copyfile(ROOT / name, work / name)
    run([script("npm"), "ci", "--no-progress"], cwd=work)

    shutil.rmtree(VENDOR, ignore_errors=True)
    katex, page_folder = work / "node_modules" / "katex" / "dist", VENDOR / "html" / "katex"
    (page_folder / "fonts").mkdir(parents=True)
    shutil.copyfile(katex.parent / "LICENSE", page_folder / "LICENSE.txt")
    style = (katex / "katex.min.css").read_text(encoding="utf-8")
    # Every browser since 2016 reads woff2; the older formats would only be dead weight.
    style = re.sub(r',url\([^)]*\.(?:woff|ttf)\) format\("\w+"\)', "", style)
    (page_folder / "katex.min.css").write_text(style, encoding="utf-8")
    for font in sorted((katex / "fonts").glob("*.woff2")):
        shutil.copyfile(font, page_folder / "fonts" / font.name)
    (VENDOR / "html" / "uplot").mkdir()
    for name in ("LICENSE", "dist/uPlot.iife.min.js", "dist/uPlot.min.css"):
        source = work / "node_modules" / "uplot" / name
        shutil.copyfile(source, VENDOR / "html" / "uplot" / source.name)
    shutil.copyfile(work / "node_modules" / "axe-core" / "axe.min.js", VENDOR / "axe.min.js")
    for_pages = shutil.ignore_patterns("katex", "uplot", "axe-core", ".*")
    shutil.copytree(work / "node_modules", VENDOR / "tools" / "node_modules", ignore=for_pages)
    shutil.copyfile(LOCK, stamp)
    return "fetched"


def reference() -> str:
    """Write book/api: a page for each public package, filled from its docstrings by autodoc."""
    library, out = ROOT / "book" / "sizewise", ROOT / "book" / "api"
    hidden = [library / name for name in ("cli", "chapters", "benchmark", "experiments")]
    shutil.rmtree(out, ignore_errors=True)
    if not library.is_dir():  # a book of pages alone
        return "no library"
    options = ["--force", "--module-first", "--no-toc", "-q", "--output-dir", str(out)]
    environment = os.environ | {"SPHINX_APIDOC_OPTIONS": "members"}
    command = [script("sphinx-apidoc"), *options, str(library), *map(str, hidden)]
    subprocess.run([*command, str(library / "__main__.py")], check=True, env=environment)
    (out / "sizewise.rst").unlink()
    for page in out.glob("*.rst"):  # a name is described where it is defined, not exported
        text = page.read_text(encoding="utf-8")
        page.write_text(text.replace("   :members:\n", "", 1), encoding="utf-8")
    return f"{len(list(out.glob('*.rst')))} pages"


def refresh_live() -> str:
    """Renew what `make live` gathered of this tree: a page and its notebook must not differ."""
    run([sys.executable, str(ROOT / "scripts" / "live.py"), "--refresh"], cwd=ROOT)
    return "_build/live"


def build_pages() -> str:
    """Run jupyter-book on the whole tree, from nothing: no page of an earlier build stays."""
    for leftover in ("html", ".doctrees", "jupyter_execute"):
        shutil.rmtree(BUILD / leftover, ignore_errors=True)
    run([script("jupyter-book"), "build", str(ROOT), "--all", "-W", "--keep-going", "-n"], cwd=ROOT)
    return f"{len(list((BUILD / 'html').rglob('*.html')))} files"


def script(name: str) -> str:
    """The program `name` that was installed beside this Python."""
    return str(Path(sysconfig.get_path("scripts")) / name)


def run(command: list[str], cwd: Path) -> None:
    """Run a command quietly: its words go to the log, without the colours of a terminal.

    Raises subprocess.CalledProcessError if it fails.
    """
    environment = os.environ | {
        "PYTHONDONTWRITEBYTECODE": "1",  # no __pycache__ in book/_ext
        "SIZEWISE_JOBS": str(min(4, os.cpu_count() or 1)),
    }
    done = subprocess.run(
        command, cwd=cwd, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    output = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout.decode(errors="replace"))
    with LOG.open("a", encoding="utf-8") as log:
        log.write(output)
    done.check_returncode()


def problems(log: str) -> list[str]:
    """The lines of a log that say what went wrong, or its end if none does."""
    lines = log.splitlines()
    return [line for line in lines if PROBLEM.search(line)][:40] or lines[-20:]


if __name__ == "__main__":
    sys.exit(main())
