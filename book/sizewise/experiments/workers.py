"""Worker processes of one machine: each takes a run, answers, and is replaced if it dies.

The pools of the standard library give up as a whole when one worker is killed, as happens when
memory runs out; here the run goes to a fresh worker and the others go on.
"""

import contextlib
import multiprocessing
import os
import threading
import traceback
from collections import deque
from collections.abc import Iterator
from multiprocessing import connection
from typing import Any

from sizewise.data import records

HERE = ("machine", "versions")  # what a worker tells of itself; the rest is the parent's


def answer(measure, config: dict[str, Any]):
    """(measured, where) of one run, or the exception that it raised, as a RuntimeError.

    A run that raises would raise again, so it is told and not retried.
    """
    try:
        measured = measure(dict(config))
        source = records.provenance()
        return measured, {name: source[name] for name in HERE}
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{os.path.basename(last.filename)}:{last.lineno}"
        return RuntimeError(f"{type(error).__name__} at {where}: {' '.join(str(error).split())}")


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

    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [name for name in given.split(",") if name.strip() and name.strip() != "-1"]
    if shutil.which("nvidia-smi") is None:
        return []
    done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("GPU ")]
    return [str(number) for number in range(len(lines))] if done.returncode == 0 else []


class Worker:
    """One process, the pipe to it, and the run that it holds."""

    def __init__(self, measure, environment: dict[str, str]):
        context = multiprocessing.get_context("spawn")  # a fork would copy torch's threads
        self.environment = environment
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(measure, theirs), daemon=True)
        held = {name: os.environ.get(name) for name in environment}
        os.environ.update(environment)  # the child reads it before it imports anything
        try:
            self.process.start()
        finally:
            for name, value in held.items():
                os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)
        theirs.close()
        self.config: dict[str, Any] | None = None

    def give(self, config: dict[str, Any]) -> None:
        """Start a run. A worker that died meanwhile is found out by `take`."""
        self.config = config
        with contextlib.suppress(OSError):
            self.pipe.send(config)

    def take(self):
        """The answer of the run, or None if the worker died."""
        try:
            return self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            return None

    def stop(self) -> None:
        """End the process, in the middle of a run if need be."""
        self.pipe.close()
        self.process.kill()
        self.process.join()


def in_processes(
    measure, todo: list[dict], number: int, gpus: list[str], retries: int, commit: str
) -> Iterator[tuple]:
    """(configuration, answer) of each run, as they end, by ``number`` worker processes."""
    threads = str(max(1, cores() // number))  # torch's default would put all cores under each
    common = {"SIZEWISE_COMMIT": commit, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    waiting, died = deque(todo), {}
    team = []
    try:
        for place in range(number):
            here = {"CUDA_VISIBLE_DEVICES": gpus[place % len(gpus)]} if gpus else {}
            team.append(Worker(measure, common | here))
            team[-1].give(waiting.popleft())
        while busy := [worker for worker in team if worker.config is not None]:
            for pipe in connection.wait([worker.pipe for worker in busy]):
                worker = next(one for one in busy if one.pipe is pipe)
                config, found = worker.config, worker.take()
                worker.config = None
                if found is None:
                    code = worker.process.exitcode
                    name = records.identity(config)
                    died[name] = died.get(name, 0) + 1
                    team[team.index(worker)] = worker = Worker(measure, worker.environment)
                    if died[name] <= retries:
                        worker.give(config)
                        continue
                    found = RuntimeError(f"its worker died {died[name]} times (exit code {code})")
                if waiting:
                    worker.give(waiting.popleft())
                yield config, found
    finally:
        for worker in team:
            worker.stop()


def _serve(measure, pipe) -> None:
    """What a worker process does: answer runs until the parent closes the pipe or is gone."""
    parent = multiprocessing.parent_process()
    threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()
    try:
        while True:
            pipe.send(answer(measure, pipe.recv()))
    except (EOFError, OSError, KeyboardInterrupt):
        return


def _end_with(sentinel) -> None:
    """A parent that was killed can stop nobody, so its workers watch it."""
    connection.wait([sentinel])
    os._exit(1)
