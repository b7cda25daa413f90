"""Kernels forked from a process that has imported already what chapters import.

Started by itself each kernel spends two to six seconds of CPU on imports. Here the fork server of
`multiprocessing` imports this module, and with it all that stands below, once; a chapter's worker
is a fork of it, and forks its kernel before it has opened a socket or begun a thread of its own.
A chapter has a process and a state to itself as before.
"""

# ruff: noqa: F401 - imported for the chapters
import atexit
import multiprocessing
import os
import sys
from typing import Any

import genai_prices
import matplotlib.pyplot
import myst_nb
import pandas
import papermill
import scipy.optimize
import scipy.stats
import transformers.models.llama.modeling_llama
from ipykernel.kernelapp import IPKernelApp
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning import LocalProvisioner

atexit.register(os._exit, 0)  # the fork server's end: to unload torch takes it seconds


class Forked:
    """A child of this process that waits for the kernel it becomes.

    It has what jupyter_client uses of a `subprocess.Popen`.
    """

    stdin = stdout = stderr = None

    def __init__(self):
        self.returncode: int | None = None
        self.pipe, theirs = multiprocessing.Pipe()
        self.pid = os.fork()
        if self.pid == 0:
            self.pipe.close()
            try:
                _become_kernel(*theirs.recv())
            finally:  # never back into the code of the parent
                os._exit(1)

    def poll(self) -> int | None:
        return self.wait(os.WNOHANG)

    def wait(self, options: int = 0) -> int | None:
        if self.returncode is None and os.waitpid(self.pid, options) != (0, 0):
            self.returncode = 1
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


def _become_kernel(command: list[str], environment: dict[str, str], folder: str) -> None:
    os.setsid()  # a Ctrl-C in the terminal is the runner's
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = command
    # The parent's id, by which a kernel notices that it was left alone, is read at import.
    parent = f"--IPKernelApp.parent_handle={os.getppid()}"
    IPKernelApp.launch_instance(argv=[parent, *command[command.index("-f") :]])


class Provisioner(LocalProvisioner):
    """Makes the waiting child a kernel where LocalProvisioner would start a process."""

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> dict[str, Any]:
        child = self.process = self.parent.child
        self.pid = self.pgid = child.pid
        child.pipe.send((cmd, kwargs["env"], kwargs.get("cwd", os.getcwd())))
        return self.connection_info


def manager_of(child: Forked) -> type[AsyncKernelManager]:
    """The kernel manager for `nbclient` whose kernel is the child."""

    class Manager(AsyncKernelManager):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.child = child
            self.provisioner = Provisioner(kernel_spec=self.kernel_spec, parent=self)

    return Manager
