"""A list of independent runs: in this process, in worker processes, or on a Ray cluster.

A run is a configuration (a flat dict) that ``measure`` turns into measurements (another one).
What has a row is not run again; rows are written by this process alone, through `records`, so a
sweep killed at any moment goes on where it stopped and ends with the rows of an unbroken one.
"""

import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from sizewise import units, validation
from sizewise.data import records

from . import progress
from . import workers as processes

Config = dict[str, Any]
Measure = Callable[[Config], Config]
BACKENDS = ("here", "process", "ray")
ENVIRONMENT = ("PYTHONPATH", "SIZEWISE_CACHE", "SIZEWISE_HOME")  # that a Ray worker needs too


def run_all(
    measure: Measure,
    configs: list[Config],
    file: Path,
    *,
    workers: int | None = None,
    backend: str | None = None,
    per_gpu: int = 1,
    retries: int = 2,
    cost: Callable[[Config], float] | None = None,
    recorded: Callable[[Config], None] = lambda config: None,
) -> list[records.Row]:
    """Measure what has no row in ``file`` yet and append a row each; all rows of ``configs``.

    ``backend``: "here"; "process", that many ``workers`` on this machine; "ray", the cluster at
    RAY_ADDRESS or a local one. None takes "ray" where RAY_ADDRESS is set, "here" for one
    worker, else "process". ``workers`` None is one a GPU times ``per_gpu``, or one a core
    where there is no GPU ("process"), or as many as the cluster holds ("ray"). A worker that
    dies is replaced and its run tried again, ``retries`` times. ``cost`` weighs the runs in the
    time left. ``measure`` must be a function of a module or of the script itself. ``recorded``
    is called for each run whose row is on the disk: what was kept in case it was lost can go.

    The file is opened and locked before the first run. Raises ValueError for a bad option, two
    equal configurations, and a file that cannot be written or that another run writes to;
    RuntimeError, after all other runs, if a run raised or its workers kept dying. Those have no
    row, so that a restart tries them again.
    """
    if backend is not None and backend not in BACKENDS:
        raise units.unknown("backend", backend, BACKENDS)
    if workers is not None:
        validation.whole("the number of workers", workers, 4096)
    validation.whole("the runs a GPU", per_gpu, 64)
    validation.whole("the retries", retries, 100, 0)
    names = [records.identity(config) for config in configs]
    if len(set(names)) < len(names):
        twice = next(c for c, n in zip(configs, names, strict=True) if names.count(n) > 1)
        raise ValueError(f"the same run twice: {twice}")
    if backend is None:
        alone = "here" if workers == 1 else "process"
        backend = "ray" if os.environ.get("RAY_ADDRESS") else alone
    with records.writing(file) as rows:
        todo = rows.missing(configs)
        failures = []
        start = records.provenance()  # the code that is loaded is the code of now
        commit = f"{start['commit']}-dirty" if start["dirty"] else start["commit"]
        if todo and start["dirty"] and file == records.path(file.stem):
            line = (
                "files are changed or new: commit them first, or `sizewise verify` refuses the rows"
            )
            print(f"sizewise: warning: {line}", file=sys.stderr)
        display = progress.Progress(todo, cost)
        results = _results(measure, todo, backend, workers, per_gpu, retries, commit)
        for config, result in results:
            if isinstance(result, Exception):
                failures.append((config, result))
                display.failed(config, result)
                continue
            measured, place = result
            now = records.provenance(seed=config.get("seed"))
            same = {key: start[key] for key in ("commit", "dirty")}
            row = rows.append(config, measured, now | same | place)
            recorded(config)
            display.done(config, row)
    if failures:
        config, error = failures[0]
        raise RuntimeError(
            f"{len(failures)} of {len(todo)} runs failed; the first, {config}: {error}"
        )
    ids = set(names)
    return [row for row in records.read(file) if row["id"] in ids]


def _results(measure, todo, backend, number, per_gpu, retries, commit) -> Iterator[tuple]:
    """(configuration, (measured, place) or an exception) of each run, as they end."""
    if not todo:
        return
    if backend == "ray":
        yield from _on_ray(measure, todo, number, per_gpu, retries, commit)
    elif backend == "process":
        gpus = processes.visible_gpus()
        number = min(number or len(gpus) * per_gpu or processes.cores(), len(todo))
        threads = str(max(1, processes.cores() // number))  # torch's default: all cores, for each
        yield from processes.in_processes(
            partial(processes.answer, measure),
            todo,
            number,
            retries=retries,
            gpus=gpus,
            environment={
                "SIZEWISE_COMMIT": commit,
                "OMP_NUM_THREADS": threads,
                "MKL_NUM_THREADS": threads,
            },
        )
    else:
        for config in todo:
            yield config, processes.answer(measure, config)


def _on_ray(measure, todo, number, per_gpu, retries, commit) -> Iterator[tuple]:
    """One Ray task a run. Ray itself starts a task again whose worker or node died."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError:
        raise ValueError('Ray is not installed: pip install "sizewise[train]"') from None
    ours = not ray.is_initialized()
    if ours:
        _join(ray, number, commit)
    gpus = 1 / per_gpu if ray.cluster_resources().get("GPU") else 0
    task = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=retries)(processes.answer)
    pending: dict[Any, Config] = {}
    remaining = iter(todo)
    try:
        while True:
            while number is None or len(pending) < number:
                config = next(remaining, None)
                if config is None:
                    break
                pending[task.remote(measure, config)] = config
            if not pending:
                return
            ended, _ = ray.wait(list(pending), num_returns=1)
            for reference in ended:
                config = pending.pop(reference)
                try:
                    yield config, ray.get(reference)
                except ray.exceptions.RayError as error:
                    yield config, RuntimeError(" ".join(str(error).split())[:200])
    finally:
        for reference in pending:
            ray.cancel(reference, force=True)
        if ours:
            ray.shutdown()


def _join(ray, number, commit) -> None:
    """Connect to the cluster at RAY_ADDRESS, or start one here.

    Never a bare ``ray.init()``, which may find a stale one. Tokens are Ray's own affair
    (RAY_AUTH_MODE): a cluster that starts here asks for one unless told not to, since its ports
    are open to the network.
    """
    address = os.environ.get("RAY_ADDRESS") or "local"
    carried = {name: _absolute(os.environ[name]) for name in ENVIRONMENT if name in os.environ}
    options = {"num_cpus": number, "include_dashboard": False} if address == "local" else {}
    try:
        ray.init(
            address=address,
            runtime_env={"env_vars": carried | {"SIZEWISE_COMMIT": commit}},
            log_to_driver=False,
            logging_level="ERROR",
            **options,
        )
    except (OSError, RuntimeError) as error:  # Ray's own message runs over a page
        why = " ".join(str(error).split())[:200]
        raise ValueError(f"Ray at {address} cannot be reached: {why}") from error


def _absolute(folders: str) -> str:
    """A list of folders as a worker elsewhere on the file system reads it."""
    return os.pathsep.join(os.path.abspath(name) for name in folders.split(os.pathsep) if name)
