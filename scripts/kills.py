"""Kill each kind of long work at random moments, again and again, and see what is lost.

    python scripts/kills.py                     # 20 kills each of four kinds
    python scripts/kills.py sweep --kills 5

Each kind is killed (SIGKILL, to the process that a person started) in the middle of its work,
started again, and killed again; then it runs to its end. Nothing may run on ten seconds after a
kill, and what is there at the end must be what an unbroken run leaves. Everything happens in a
folder of its own, with servers on loopback addresses. The exit code is 1 if anything was lost.
"""

import argparse
import hashlib
import http.server
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[1]
KILLS = 20
PATIENCE = 10.0  # seconds after which nothing may run on
MARK = "SIZEWISE_KILLS"  # in the environment of everything that a work starts
SWEEP = """
import sys, time
from pathlib import Path
from sizewise.experiments import engine

def measure(config):
    time.sleep(0.15)
    return {"square": config["n"] ** 2}

if __name__ == "__main__":
    configs = [{"n": n, "seed": 0} for n in range(60)]
    engine.run_all(measure, configs, Path(sys.argv[1]), workers=2, backend="process")
"""
CHAPTER_CELL = """import time
open("../_build/cells", "a").write("one more\\n")
time.sleep(0.5)
print(sum(range({})))"""
ITEMS = 60
WHEEL = 6_000_000  # bytes, which take some seconds at the pace of the server
PACE = 1_500_000  # bytes a second


@dataclass
class Work:
    """A command, when it is in the middle of its work, and what it leaves."""

    command: list[str]
    begun: Callable[[], object]  # changes while the work goes on
    result: Callable[[], object]  # what must be the same at the end
    environment: dict[str, str]
    spread: float  # seconds after the first change within which it is killed


@dataclass
class Tally:
    """What came of one kind."""

    kills: int = 0
    orphans: int = 0
    slowest: float = 0.0  # seconds until nothing ran any more
    same: bool = False


def marked(mark: str) -> list[psutil.Process]:
    """The processes whose environment has the mark."""
    running = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == mark and process.status() != psutil.STATUS_ZOMBIE:
                running.append(process)
        except psutil.Error:
            continue
    return running


def until_gone(mark: str) -> tuple[float, list[psutil.Process]]:
    """(seconds until nothing with the mark runs, what still runs after `PATIENCE`)."""
    start = time.monotonic()
    while running := marked(mark):
        if time.monotonic() - start > PATIENCE:
            return PATIENCE, running
        time.sleep(0.05)
    return time.monotonic() - start, []


def try_kind(work: Work, kills: int, chance: random.Random) -> Tally:
    """Kill a work ``kills`` times, then let it end."""
    tally = Tally()
    for number in range(20 * kills):
        if tally.kills == kills:
            break
        mark = f"{os.getpid()}-{id(work)}-{number}"
        process = start(work, mark)
        before = work.begun()
        while process.poll() is None and work.begun() == before:
            time.sleep(0.01)
        time.sleep(chance.uniform(0, work.spread))
        if process.poll() is not None:
            if process.returncode:
                raise SystemExit(f"kills: {work.command} ended with {process.returncode}")
            raise SystemExit(f"kills: the work was over after {tally.kills} kills: make it longer")
        process.send_signal(signal.SIGKILL)
        process.wait()
        tally.kills += 1
        seconds, orphans = until_gone(mark)
        tally.slowest = max(tally.slowest, seconds)
        tally.orphans += len(orphans)
        for orphan in orphans:
            print(f"  still runs: {' '.join(orphan.cmdline())[:160]}", file=sys.stderr)
            orphan.kill()
    process = start(work, "last")
    if process.wait(300):
        raise SystemExit(f"kills: {work.command} ended with {process.returncode}")
    tally.same = True
    return tally


def start(work: Work, mark: str) -> subprocess.Popen:
    return subprocess.Popen(
        work.command,
        env=os.environ | work.environment | {MARK: mark},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


# ---------------------------------------------------------------- the kinds


def sweep(folder: Path, name: str) -> Work:
    """Sixty runs in two workers."""
    script, file = folder / "sweep.py", folder / f"{name}.jsonl"
    script.write_text(SWEEP)
    return Work(
        [sys.executable, str(script), str(file)],
        begun=lambda: size(file),
        result=lambda: sorted(content_of(file), key=str),
        environment={},
        spread=0.2,
    )


def chapter(folder: Path, name: str) -> Work:
    """Two chapters run in place in a book of their own."""
    home = folder / name
    (home / "data" / "facts").mkdir(parents=True)
    (home / "book" / "sizewise").mkdir(parents=True)
    (home / "chapters").mkdir()
    (home / "requirements.txt").write_text("")
    names = ("first", "second")
    toc = "".join(f"  - file: chapters/{chapter}\\n" for chapter in names).replace("\\n", "\n")
    (home / "_toc.yml").write_text(f"format: jb-book\nroot: index\nchapters:\n{toc}")
    files = [home / "chapters" / f"{chapter}.ipynb" for chapter in names]
    for file in files:
        write_notebook(file)
    return Work(
        [sys.executable, "-m", "sizewise", "run", "--in-place", "--force"],
        begun=lambda: size(home / "_build" / "cells"),
        result=lambda: (
            [digest(file) for file in files] + sorted(f.name for f in (home / "chapters").iterdir())
        ),
        environment={"SIZEWISE_HOME": str(home), "IPYTHONDIR": str(folder / "ipython")},
        spread=1.5,
    )


def comparison(folder: Path, name: str) -> Work:
    """Two models of a slow server on sixty items."""
    task, file = folder / "task.jsonl", folder / f"{name}.jsonl"
    items = [{"prompt": f"What is {n} + {n}?", "answer": str(2 * n)} for n in range(ITEMS)]
    task.write_text("".join(json.dumps(item) + "\n" for item in items))
    server = serve(Chat)
    arguments = ["compare", "--task", str(task), "--output", str(file), "--key-env", "none"]
    arguments += ["--model", f"good@{server}/v1", "--model", f"bad@{server}/v1"]
    return Work(
        [sys.executable, "-m", "sizewise", *arguments],
        begun=lambda: size(file),
        result=lambda: sorted((r["model"], r["item"], r["text"]) for r in rows_of(file)),
        environment={"NO_PROXY": "*"},
        spread=0.1,
    )


def download(folder: Path, name: str) -> Work:
    """A package of six megabytes from a slow index; a cut file must never be taken for it."""
    wheel = folder / "slow_text-1.0-py3-none-any.whl"
    if not wheel.exists():
        with zipfile.ZipFile(wheel, "w") as archive:
            archive.writestr("slow_text/text.bin", random.Random(0).randbytes(WHEEL))  # noqa: S311
            metadata = "Metadata-Version: 2.1\nName: slow-text\nVersion: 1.0\n"
            archive.writestr("slow_text-1.0.dist-info/METADATA", metadata)
            archive.writestr("slow_text-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\n")
            archive.writestr("slow_text-1.0.dist-info/RECORD", "")
    Index.wheel = wheel
    index = serve(Index)
    cache = folder / name
    script = folder / "fetch.py"
    script.write_text(
        "from sizewise.data import downloads\n"
        f"downloads.fetch(downloads.Package('slow-text', '1.0', {wheel.name!r}, "
        f"{digest(wheel)!r}, {wheel.stat().st_size}))\n"
    )
    clean = dict.fromkeys(("PIP_FIND_LINKS", "PIP_EXTRA_INDEX_URL", "PIP_CONSTRAINT"), "")
    return Work(
        [sys.executable, str(script)],
        begun=lambda: Index.sent,
        result=lambda: [(f.name, digest(f)) for f in sorted((cache / "packages").iterdir())],
        environment={
            "SIZEWISE_CACHE": str(cache),
            "PIP_INDEX_URL": f"{index}/simple",
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_CACHE_DIR": "1",
            **clean,
        },
        spread=1.5,
    )


KINDS = {"sweep": sweep, "chapter": chapter, "comparison": comparison, "download": download}


# ---------------------------------------------------------------- files and servers


def size(file: Path) -> int:
    return file.stat().st_size if file.exists() else 0


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def rows_of(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def content_of(file: Path) -> list[dict]:
    """The rows without what differs from run to run."""
    return [{k: v for k, v in r.items() if k not in ("from", "seal")} for r in rows_of(file)]


def write_notebook(file: Path) -> None:
    cells = [
        {
            "cell_type": "code",
            "id": f"cell-{number}",
            "metadata": {},
            "source": CHAPTER_CELL.format(number),
            "outputs": [],
            "execution_count": None,
        }
        for number in range(5)
    ]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    book = {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    file.write_text(json.dumps(book))


class Quiet(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_) -> None:
        """Nothing."""

    def reply(self, content: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        try:
            for place in range(0, len(content), 65536):
                self.wfile.write(content[place : place + 65536])
                if len(content) > 65536:
                    time.sleep(65536 / PACE)
                    type(self).sent += 65536
        except OSError:  # who asked was killed
            self.close_connection = True

    sent = 0


class Chat(Quiet):
    """A model that adds, and one that does not."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        arguments = body["messages"][-1]["content"].split()
        number = int(arguments[2])
        time.sleep(0.1)
        text = str(2 * number if body["model"] == "good" else number)
        answer = {
            "choices": [{"message": {"content": text}, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 5, "completion_tokens": 1},
        }
        self.reply(json.dumps(answer).encode(), "application/json")


class Index(Quiet):
    """A package index of one package."""

    wheel: Path

    def do_GET(self) -> None:
        if self.path.endswith(".whl"):
            self.reply(self.wheel.read_bytes(), "application/octet-stream")
        else:
            page = f'<a href="/{self.wheel.name}">{self.wheel.name}</a>'
            self.reply(f"<html><body>{page}</body></html>".encode(), "text/html")


def serve(handler: type) -> str:
    """The address of a server that runs until this process ends."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_address[1]}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("kind", nargs="*", help=f"of {', '.join(KINDS)}; all by default")
    parser.add_argument("--kills", type=int, default=KILLS)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    arguments = parser.parse_args()
    if unknown := set(arguments.kind) - KINDS.keys():
        parser.error(f"no such kind: {', '.join(sorted(unknown))}")
    if os.name != "posix":
        parser.error("SIGKILL is a signal of POSIX systems")
    lost = 0
    print(f"{'kind':<12}{'kills':>6}{'orphans':>9}{'slowest end':>13}  result")
    with tempfile.TemporaryDirectory(prefix="kills-") as scratch:
        for name in arguments.kind or KINDS:
            chance = random.Random(arguments.seed)  # noqa: S311 - moments, no secrets
            folder = Path(scratch) / name
            folder.mkdir()
            unbroken, broken = (KINDS[name](folder, part) for part in ("unbroken", "broken"))
            if start(unbroken, "unbroken").wait(300):
                raise SystemExit(f"kills: {unbroken.command} does not run")
            tally = try_kind(broken, arguments.kills, chance)
            tally.same = broken.result() == unbroken.result()
            lost += tally.orphans + (not tally.same)
            result = "as unbroken" if tally.same else "DIFFERS"
            print(
                f"{name:<12}{tally.kills:>6}{tally.orphans:>9}{tally.slowest:>11.1f} s  {result}",
                flush=True,
            )
            shutil.rmtree(folder, ignore_errors=True)
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main())
