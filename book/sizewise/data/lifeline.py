"""Run a command that ends when the process which started this script does.

    python lifeline.py COMMAND...

The standard input is the lifeline: whoever holds its other end keeps the command running. A
client such as pip would otherwise go on for minutes after its parent was killed. Only the
standard library is imported, so that it starts in milliseconds.
"""

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress


def main(command: list[str]) -> int:
    """The command's exit code."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)

    def watch() -> None:
        while os.read(0, 1):
            pass
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL) if hasattr(os, "killpg") else child.kill()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
    return child.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
