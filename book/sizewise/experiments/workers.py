"""Worker processes of one machine: each takes a run, answers, and is replaced if it dies.

The pools of the standard library give up as a whole when one worker is killed, as happens when
memory runs out; here the run goes to a fresh worker and the others go on. A worker ends with its
parent however that ends, and takes with it whatever it started.
"""

import contextlib
import multiprocessing
import os
import threading
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator
from multiprocessing import connection
from typing import Any

from sizewise.data import records

Config = dict[str, Any]
Measure = Callable[[Config], Any]

SOURCE = ("machine", "versions")  # fields that a worker reports; the rest is the parent's
NOTE, ANSWER = "note", "answer"  # what a worker sends

_pipe = None  # to the parent, in a worker


def answer(measure: Measure, config: Config):
    """(measured, where) of one run, or the exception that it raised, as a RuntimeError.

    A run that raises would raise again, so it is reported and not retried.
    """
    try:
        measured = measure(dict(config))
        source = records.provenance()
        return measured, {name: source[name] for name in SOURCE}
    except Exception as error:
        return failure(error)


def failure(error: Exception) -> RuntimeError:
    """An exception in one line, with where it was raised."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{os.path.basename(last.filename)}:{last.lineno}"
    return RuntimeError(f"{type(error).__name__} at {where}: {' '.join(str(error).split())}")


def note(value: Any) -> None:
    """Send the parent word of a run that goes on; nothing where there is no parent."""
    if _pipe is not None:
        _pipe.send((NOTE, value))


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def visible_gpus() -> list[str]:
    """Names of the GPUs that CUDA_VISIBLE_DEVICES leaves, as a child of this process writes them.

    Asked of the driver's tool rather than of torch, whose import takes seconds.
    """
    import shutil
    import subprocess

    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [name for name in visible.split(",") if name.strip() and name.strip() != "-1"]
    if shutil.which("nvidia-smi") is None:
        return []
    done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("GPU ")]
    return [str(number) for number in range(len(lines))] if done.returncode == 0 else []


class Worker:
    """One process, the pipe to it, and the run that it has."""

    def __init__(self, answer_of: Measure, environment: dict[str, str], forked: bool = False):
        # A fork of this process would copy torch's threads; the fork server has none.
        context = multiprocessing.get_context("forkserver" if forked else "spawn")
        self.environment = environment
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(answer_of, theirs), daemon=not forked)
        before = {name: os.environ.get(name) for name in environment}
        os.environ.update(environment)  # the child reads it before it imports anything
        try:
            self.process.start()
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)
        theirs.close()
        self.config: Config | None = None

    def give(self, config: Config) -> None:
        """Start a run. A worker that died meanwhile is found out by `take`."""
        self.config = config
        with contextlib.suppress(OSError):
            self.pipe.send(config)

    def take(self) -> tuple[str, Any] | None:
        """(NOTE or ANSWER, what it is), or None if the worker died."""
        try:
            return self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            return None

    def stop(self) -> None:
        """End the process, in the middle of a run if need be, and what it started."""
        self.pipe.close()
        if self.config is not None and self.process.pid:
            kill_children(self.process.pid)
        self.process.kill()
        self.process.join()


def in_processes(
    answer_of: Measure,
    todo: list[Config],
    number: int,
    *,
    retries: int = 0,
    environment: dict[str, str] | None = None,
    gpus: list[str] | None = None,
    forked: bool = False,
    on_note: Callable[[Config, Any], None] = lambda *_: None,
) -> Iterator[tuple[Config, Any]]:
    """(configuration, answer) of each run, as they end, by ``number`` worker processes.

    ``answer_of`` is a function of a module; what it returns is the answer, and a RuntimeError
    is the answer of a run whose worker died more than ``retries`` times. ``environment`` is what
    the workers have beside this process's own, ``gpus`` are dealt to them in turn, ``on_note``
    gets what a run sends with `note`. With ``forked`` each run has a fresh worker, forked from a
    process that has imported what `multiprocessing.set_forkserver_preload` names; it has the
    environment of the moment when that process started.
    """
    waiting, deaths = deque(todo), Counter[str]()
    team: list[Worker] = []
    try:
        for index in range(min(number, len(todo))):
            devices = {"CUDA_VISIBLE_DEVICES": gpus[index % len(gpus)]} if gpus else {}
            team.append(Worker(answer_of, (environment or {}) | devices, forked))
            team[-1].give(waiting.popleft())
        while busy := {worker.pipe: worker for worker in team if worker.config is not None}:
            for pipe in connection.wait(list(busy)):
                worker = busy[pipe]
                config, message = worker.config, worker.take()
                if message and message[0] == NOTE:
                    on_note(config, message[1])
                    continue
                worker.config = None
                again = False
                if message is None:
                    deaths[records.identity(config)] += 1
                    died = deaths[records.identity(config)]
                    if again := died <= retries:
                        waiting.appendleft(config)
                    times = "once" if died == 1 else f"{died} times"
                    code = worker.process.exitcode
                    message = ANSWER, RuntimeError(f"its worker died {times} (exit code {code})")
                if waiting:
                    if forked or not worker.process.is_alive():
                        worker.stop()
                        fresh = Worker(answer_of, worker.environment, forked)
                        team[team.index(worker)] = worker = fresh
                    worker.give(waiting.popleft())
                if not again:
                    yield config, message[1]
    finally:
        for worker in team:
            worker.stop()


def kill_children(pid: int) -> None:
    """Kill whatever a process started, and what that started."""
    import psutil

    # Twice: a child may start another one between the look and the kill.
    for _ in range(2):
        with contextlib.suppress(psutil.Error):
            for child in psutil.Process(pid).children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    child.kill()


def end_with_parent() -> None:
    """End this worker process, with what it started, as soon as its parent is gone.

    A killed parent cannot stop its workers, so they watch it.
    """
    parent = multiprocessing.parent_process()

    def watch() -> None:
        connection.wait([parent.sentinel])
        kill_children(os.getpid())
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _serve(answer_of: Measure, pipe) -> None:
    """What a worker process does: answer runs until the parent closes the pipe or is gone."""
    global _pipe
    _pipe = pipe
    end_with_parent()
    try:
        while True:
            pipe.send((ANSWER, answer_of(pipe.recv())))
    except (EOFError, OSError, KeyboardInterrupt):
        return
