"""Run code that a model wrote, apart from everything that it could harm by accident.

The code runs in a new Python without site-packages, in an empty folder, with an empty
environment, under limits of time, memory and bytes of a file. On Linux with user namespaces it
also has its own processes, no network at all, and every file system read-only but its folder;
elsewhere Python is asked to refuse sockets and new processes. `missing` names what is not in
force here.

This holds off a careless program: an endless loop, a huge list, a wrong deletion. It is no wall
against an attacker. The code reads what the user can read, it shares the kernel, and whoever sets
out to forge the word that it came to its end can. Models from nowhere belong in a container or a
machine of their own.
"""

import contextlib
import functools
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from sizewise.validation import positive, whole

MOST_OUTPUT = 1 << 14  # bytes kept of each stream
BOOT = Path(__file__).with_name("sandbox_boot.py")
NAMESPACES = ("--map-root-user", "--net", "--ipc", "--pid", "--kill-child")
MOUNTS = ("--mount", "--mount-proc")  # what makes other folders read-only, other processes unseen
REFUSED = (  # audit events of Python that raise PermissionError
    "ctypes.dlopen",
    "os.exec",
    "os.fork",
    "os.forkpty",
    "os.kill",
    "os.killpg",
    "os.posix_spawn",
    "os.spawn",
    "os.startfile",
    "os.system",
    "pty.spawn",
    "subprocess.Popen",
    "socket.bind",
    "socket.connect",
    "socket.getaddrinfo",
    "socket.gethostbyname",
    "socket.sendmsg",
    "socket.sendto",
)


@dataclass(frozen=True)
class Outcome:
    """How code ended, the beginning of what it printed and the end of what it complained.

    ``ended`` is ``done`` (the last line was reached), ``failed`` (an exception, or no Python),
    ``exited`` (it left before its end, with whatever status), ``timeout`` (wall or CPU),
    ``memory`` (MemoryError) or ``killed`` (a signal, such as a crash of the interpreter).
    """

    ended: str
    stdout: str
    stderr: str
    seconds: float  # wall time, the start of Python in it


def run(
    code: str, *, seconds: float = 5.0, megabytes: int = 512, files: int = 0, processes: int = 1
) -> Outcome:
    """Run ``code`` in a new Python of this version and say how it ended.

    ``seconds`` bounds wall and CPU time, ``megabytes`` (of 2**20 bytes) the address space,
    ``files`` the bytes of any file it writes. It may start no process (and, as a user other than
    root, no thread) unless ``processes`` is above 1. Hashes of strings are the same in each run,
    so that sets have one order. Whatever the code started is killed with it where there are
    namespaces, else whatever stayed in its process group; it also ends when this process does.
    Raises ValueError for limits that make no sense.
    """
    seconds, word = positive("the seconds", seconds), secrets.token_hex(16)
    orders = {
        "code": code,
        "word": word,
        "limits": {
            "RLIMIT_CPU": int(seconds) + 1,
            "RLIMIT_AS": whole("the megabytes", megabytes, 1 << 20) << 20,
            "RLIMIT_FSIZE": whole("the bytes of a file", files, 1 << 40, 0),
            "RLIMIT_NPROC": whole("the processes", processes, 1 << 16),
            "RLIMIT_NOFILE": 32,
            "RLIMIT_CORE": 0,
        },
        "refused": REFUSED if processes == 1 else [e for e in REFUSED if e.startswith("socket")],
        "read_only": _namespaces()[-len(MOUNTS) :] == MOUNTS,
    }
    with tempfile.TemporaryDirectory(prefix="answer-", ignore_cleanup_errors=True) as folder:
        return _run(json.dumps(orders).encode() + b"\n", word, folder, seconds)


def missing() -> tuple[str, ...]:
    """Which protections are not in force on this machine, in words; none on a full Linux."""
    absent = []
    if sys.platform == "darwin":
        absent.append("memory")  # its kernel does not hold to the limit of the address space
    if not _namespaces():
        absent += ["network (Python's sockets are refused)", "processes that leave their group"]
    if _namespaces()[-len(MOUNTS) :] != MOUNTS:
        absent.append("files outside its folder (they can be deleted, not written beyond a limit)")
    if os.geteuid() == 0:
        absent.append("the number of processes (root has none; Python's own calls are refused)")
    return tuple(absent)


def _run(orders: bytes, word: str, folder: str, seconds: float) -> Outcome:
    begun = time.perf_counter()
    process = _start(folder)
    out, complaints = _Reader(process.stdout, head=True), _Reader(process.stderr, head=False)
    feeder = threading.Thread(target=_feed, args=(process.stdin, orders), daemon=True)
    feeder.start()
    try:
        late = False
        process.wait(max(0.0, seconds - (time.perf_counter() - begun)))
    except subprocess.TimeoutExpired:
        late = True
    finally:  # also when a person interrupts
        _kill(process)
    spent = time.perf_counter() - begun
    for thread in (feeder, out, complaints):
        thread.join(1.0)  # one that left its group may hold a stream open
    with contextlib.suppress(OSError):
        process.stdin.close()
    stdout, stderr = out.text(), complaints.text()
    stderr, mark, end = stderr.rpartition(f"\n{word} ")
    if not mark:
        stderr, end = end, _unsaid(process.returncode)
    return Outcome("timeout" if late else end, stdout, stderr, spent)


def _start(folder: str) -> subprocess.Popen:
    """The new Python, waiting for its orders on its standard input."""
    # -P -s with an empty environment is what -I does, and leaves PYTHONHASHSEED in force
    command = [*_namespaces(), sys.executable, "-P", "-s", "-S", "-X", "utf8", str(BOOT)]
    return subprocess.Popen(
        command,
        cwd=folder,
        env={"PYTHONHASHSEED": "0"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def _unsaid(status: int) -> str:
    """How a process ended that did not say it. unshare hands a signal on as 128 and its number."""
    if status in (-signal.SIGXCPU, 128 + signal.SIGXCPU):
        return "timeout"
    return "killed" if status < 0 or status > 128 else "exited"


def _kill(process: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)  # its session has its number
    if process.poll() is None:
        process.kill()
    process.wait()


@functools.cache
def _namespaces() -> tuple[str, ...]:
    """The words before a command that give it its own network, processes and mounts.

    Without mounts where the system allows only that, and none where it allows nothing.
    """
    unshare = shutil.which("unshare") if sys.platform == "linux" else None
    if unshare is None:
        return ()
    script = f"import runpy; runpy.run_path({str(BOOT)!r})['read_only']('/tmp')"
    for options, code in (((*NAMESPACES, *MOUNTS), script), (NAMESPACES, "pass")):
        try:
            tried = subprocess.run(
                [unshare, *options, sys.executable, "-S", "-c", code],
                capture_output=True,
                timeout=20,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return ()
        if tried.returncode == 0:
            return (unshare, *options)
    return ()


def _feed(stream, orders: bytes) -> None:
    """Write the orders. The stream stays open: its end would say that this process is gone."""
    with contextlib.suppress(OSError):  # it ended before it read them
        stream.write(orders)
        stream.flush()


class _Reader(threading.Thread):
    """Reads a stream to its end, so that the writer never waits, and keeps the head or tail."""

    def __init__(self, stream, *, head: bool):
        super().__init__(daemon=True)
        self.stream, self.head, self.kept = stream, head, b""
        self.start()

    def run(self) -> None:
        with self.stream:
            while piece := self.stream.read1(1 << 16):
                if self.head:
                    self.kept += piece[: MOST_OUTPUT - len(self.kept)]
                else:
                    self.kept = (self.kept + piece)[-MOST_OUTPUT:]

    def text(self) -> str:
        return self.kept.decode("utf-8", "replace")
