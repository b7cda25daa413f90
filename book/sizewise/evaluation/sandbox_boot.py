"""What a sandboxed Python does before it runs the code: see `sandbox`, which starts it.

It reads its orders from the first line of the standard input, so that no other process sees them,
and says how the code ended in the last line of the standard error, with a word that the code does
not know, since a program may leave with 0 before its tests. The rest of the standard input is a
lifeline: when it ends, the parent is gone, and so is this process.

Only the standard library is here, and nothing of it stays that the code could use: this file is
run as a script, without site-packages.
"""

import io
import json
import os
import sys
import threading
import traceback
import types
from contextlib import suppress

MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000  # linux/mount.h
SYS_MOUNT_SETATTR, AT_RECURSIVE, RDONLY = 442, 0x8000, 1
PR_SET_NO_NEW_PRIVS, CAPABILITY_VERSION_3 = 38, 0x20080522
RELOADED = ("_ctypes", "_posixsubprocess")  # modules that would start what is refused


def read_only(folder: str) -> None:
    """Make every file system read-only but ``folder``, and give up the right to undo it.

    For a process in a mount namespace of its own. Raises OSError where the system refuses.
    """
    import ctypes
    import struct

    libc = ctypes.CDLL(None, use_errno=True)

    def check(result: int) -> None:
        if result:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    def attributes(path: str, add: int, remove: int, flags: int) -> None:
        request = struct.pack("QQQQ", add, remove, 0, 0)
        call = ctypes.c_long(SYS_MOUNT_SETATTR), -100, path.encode(), flags
        check(libc.syscall(*call, ctypes.create_string_buffer(request), ctypes.c_size_t(32)))

    check(libc.mount(None, b"/", None, ctypes.c_ulong(MS_REC | MS_PRIVATE), None))
    check(libc.mount(folder.encode(), folder.encode(), None, ctypes.c_ulong(MS_BIND), None))
    attributes("/", RDONLY, 0, AT_RECURSIVE)
    attributes(folder, 0, RDONLY, 0)
    os.chdir(folder)  # the old one lies below the new mount
    check(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
    header = ctypes.create_string_buffer(struct.pack("Ii", CAPABILITY_VERSION_3, 0))
    check(libc.capset(header, ctypes.create_string_buffer(24)))  # no capability at all
    for name in [name for name in sys.modules if name.split(".")[0] in ("ctypes", "_ctypes")]:
        del sys.modules[name]


def limit(limits: dict[str, int]) -> None:
    """Set the limits that this system knows."""
    import resource

    for name, value in limits.items():
        kind = getattr(resource, name, None)
        if kind is not None:
            try:
                resource.setrlimit(kind, (value, value))
            except (ValueError, OSError):
                continue


def refuse(events: frozenset[str]) -> None:
    """Have Python raise PermissionError for audit events, and for what raises no event.

    ``_posixsubprocess.fork_exec`` raises none: it is taken away, and cannot be loaded again.
    """

    def hook(event: str, arguments: tuple) -> None:
        if event in events or (event == "import" and arguments[0] in RELOADED):
            raise PermissionError(f"{event} is refused here")

    def fork_exec(*_):
        raise PermissionError("_posixsubprocess.fork_exec is refused here")

    if "os.fork" in events:
        stub = types.ModuleType("_posixsubprocess")
        stub.fork_exec = fork_exec
        sys.modules["_posixsubprocess"] = stub
    sys.addaudithook(hook)


def watch(lifeline: int) -> None:
    """End this process when the other end of its standard input is closed."""
    leave = os._exit

    def wait(read=os.read):
        while read(lifeline, 1):
            pass
        leave(1)

    threading.Thread(target=wait, daemon=True).start()


def boot() -> None:
    """Read the orders, put the protections in force, run the code, say how it ended."""
    lifeline = os.dup(0)
    line = b""
    while not line.endswith(b"\n"):
        if not (piece := os.read(lifeline, 1 << 16)):
            os._exit(1)
        line += piece
    orders = json.loads(line)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    watch(lifeline)
    if orders["read_only"]:
        read_only(os.getcwd())
    word, code, leave, write = orders["word"], orders["code"], os._exit, os.write
    module = types.ModuleType("__main__")
    sys.modules["__main__"], sys.argv = module, ["answer.py"]
    sys.stdin = io.StringIO()
    limit(orders["limits"])
    if orders["refused"]:
        refuse(frozenset(orders["refused"]))
    end = "done"
    try:
        exec(compile(code, "answer.py", "exec"), module.__dict__)  # noqa: S102 - what it is for
    except MemoryError:
        end = "memory"
    except SystemExit:
        end = "exited"
    except BaseException:
        end = "failed"
        with suppress(BaseException):  # the code may have closed it
            traceback.print_exc(file=sys.__stderr__)
    for stream in (sys.stdout, sys.__stdout__, sys.stderr, sys.__stderr__):
        with suppress(BaseException):
            stream.flush()
    write(2, f"\n{word} {end}".encode())
    leave(0)


if __name__ == "__main__":
    this = sys.modules["__main__"]  # held, or its globals would go when it is replaced
    boot()
