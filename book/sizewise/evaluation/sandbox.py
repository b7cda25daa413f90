"""Run code that a model wrote, apart from everything that it could harm by accident.

The code runs in a new Python without site-packages, in an empty folder, with an empty
environment, under limits of time, memory and bytes of a file. On Linux with user namespaces it
also has its own processes and no network at all; elsewhere Python is asked to refuse sockets and
new processes. `missing` names what is not in force here.

This holds off a careless program: an endless loop, a huge list, a wrong deletion in its own
folder. It is no wall against an attacker. The code reads and deletes what the user can read and
delete (files cannot be written beyond their limit), it shares the kernel, and whoever sets out
to forge the word that it came to its end can. Models from nowhere belong in a container or a
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

from sizewise.validation import positive, whole

MOST_OUTPUT = 1 << 14  # bytes kept of each stream
ENDS = ("done", "failed", "exited", "timeout", "memory", "killed")
NAMESPACES = ("--map-root-user", "--net", "--ipc", "--pid", "--kill-child")
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

# What the new Python does first. It reads its orders from the standard input, so that no other
# process sees them; it says how the code ended in the last line of the standard error, with a
# word that the code does not know, since a program may leave with 0 before its tests.
BOOT = """
import sys
def boot():
    import io, json, os, traceback, types
    orders = json.loads(sys.stdin.buffer.read())
    word, refused = orders["word"], frozenset(orders["refused"])
    said = {end: f"\\n{word} {end}".encode() for end in orders["ends"]}
    code = orders["code"]
    module = types.ModuleType("__main__")
    sys.modules["__main__"], sys.argv = module, ["answer.py"]
    sys.stdin = io.StringIO()
    try:
        import resource
    except ImportError:
        resource = None
    for name, value in orders["limits"].items() if resource else ():
        kind = getattr(resource, name, None)
        if kind is not None:
            try:
                resource.setrlimit(kind, (value, value))
            except (ValueError, OSError):
                pass
    def hook(event, _):
        if event in refused:
            raise PermissionError(f"{event} is refused here")
    if refused:
        sys.addaudithook(hook)
    end = "done"
    try:
        exec(compile(code, "answer.py", "exec"), module.__dict__)
    except MemoryError:
        end = "memory"
    except SystemExit:
        end = "exited"
    except BaseException:
        end = "failed"
        try:
            traceback.print_exc(file=sys.__stderr__)
        except BaseException:
            pass
    for stream in (sys.stdout, sys.__stdout__, sys.stderr, sys.__stderr__):
        try:
            stream.flush()
        except BaseException:
            pass
    os.write(2, said[end])
    os._exit(0)
keep = sys.modules["__main__"]
boot()
"""


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
    namespaces, else whatever stayed in its process group. Raises ValueError for limits that make
    no sense.
    """
    seconds, word = positive("the seconds", seconds), secrets.token_hex(16)
    orders = {
        "code": code,
        "word": word,
        "ends": ENDS,
        "limits": {
            "RLIMIT_CPU": int(seconds) + 1,
            "RLIMIT_AS": whole("the megabytes", megabytes, 1 << 20) << 20,
            "RLIMIT_FSIZE": whole("the bytes of a file", files, 1 << 40, 0),
            "RLIMIT_NPROC": whole("the processes", processes, 1 << 16),
            "RLIMIT_NOFILE": 32,
            "RLIMIT_CORE": 0,
        },
        "refused": REFUSED if processes == 1 else [e for e in REFUSED if e.startswith("socket")],
    }
    with tempfile.TemporaryDirectory(prefix="answer-", ignore_cleanup_errors=True) as folder:
        return _run(json.dumps(orders).encode(), word, folder, seconds)


def missing() -> tuple[str, ...]:
    """Which protections are not in force on this machine, in words; none on a full Linux."""
    found = []
    if os.name != "posix":
        return ("memory", "bytes of a file", "processes", "network (Python's sockets are refused)")
    if sys.platform == "darwin":
        found.append("memory")  # its kernel does not hold to the limit of the address space
    if not _namespaces():
        found += ["network (Python's sockets are refused)", "processes that leave their group"]
    if os.geteuid() == 0:
        found.append("the number of processes (root has none; Python's own calls are refused)")
    return tuple(found)


def _run(orders: bytes, word: str, folder: str, seconds: float) -> Outcome:
    begun = time.perf_counter()
    # -P -s with an empty environment is what -I does, and leaves PYTHONHASHSEED in force
    command = [*_namespaces(), sys.executable, "-P", "-s", "-S", "-X", "utf8", "-c", BOOT]
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
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
    stdout, stderr = out.text(), complaints.text()
    stderr, mark, end = stderr.rpartition(f"\n{word} ")
    if not mark:
        stderr, end = end, _unsaid(process.returncode)
    return Outcome("timeout" if late else end, stdout, stderr, spent)


def _unsaid(status: int) -> str:
    """How a process ended that did not say it. unshare hands a signal on as 128 and its number."""
    if status in (-getattr(signal, "SIGXCPU", 24), 128 + getattr(signal, "SIGXCPU", 24)):
        return "timeout"
    return "killed" if status < 0 or status > 128 else "exited"


def _kill(process: subprocess.Popen) -> None:
    if os.name == "posix":
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # its session has its number
    if process.poll() is None:
        process.kill()
    process.wait()


def _environment() -> dict[str, str]:
    kept = ("SYSTEMROOT",) if os.name == "nt" else ()
    return {"PYTHONHASHSEED": "0"} | {name: os.environ[name] for name in kept if name in os.environ}


@functools.cache
def _namespaces() -> tuple[str, ...]:
    """The words before a command that give it its own network and processes; none where not."""
    unshare = shutil.which("unshare") if sys.platform == "linux" else None
    if unshare is None:
        return ()
    words = (unshare, *NAMESPACES)
    try:
        tried = subprocess.run(
            [*words, sys.executable, "-S", "-c", "pass"],
            capture_output=True,
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return words if tried.returncode == 0 else ()


def _feed(stream, orders: bytes) -> None:
    with contextlib.suppress(OSError):  # it ended before it read them
        stream.write(orders)
        stream.close()


class _Reader(threading.Thread):
    """Reads a stream to its end, so that the writer never waits, and keeps the head or tail."""

    def __init__(self, stream, *, head: bool):
        super().__init__(daemon=True)
        self.stream, self.head, self.kept = stream, head, b""
        self.start()

    def run(self) -> None:
        with self.stream:
            while some := self.stream.read1(1 << 16):
                if self.head:
                    self.kept += some[: MOST_OUTPUT - len(self.kept)]
                else:
                    self.kept = (self.kept + some)[-MOST_OUTPUT:]

    def text(self) -> str:
        return self.kept.decode("utf-8", "replace")
