"""Chapters run headless, in place or into a folder, several at once.

A chapter is run by papermill in a kernel of its own. What changes from run to run (times,
paths, versions) is stripped, so a chapter whose results are the same is the same file. A
chapter whose notebook, library and data have not changed since its last run is left alone.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from sizewise import paths, units

from . import notebook


@dataclass(frozen=True)
class Result:
    chapter: str
    output: Path
    seconds: float
    skipped: bool = False
    error: str | None = None


Told = Callable[[str, str, float], None]  # (chapter, what happened, share done)


def resolve(names: Iterable[str]) -> dict[str, Path]:
    """Chapters by name, in reading order; all of them for no names.

    Raises ValueError for a name that no chapter has, with the nearest one, and for a chapter
    without a file.
    """
    known = paths.chapters()
    wanted = [Path(name).stem if name.endswith(".ipynb") else name for name in names]
    for name in wanted:
        if name not in known:
            raise units.unknown("chapter", name, known)
    chosen = {name: file for name, file in known.items() if not wanted or name in wanted}
    for name, file in chosen.items():
        if not file.is_file():
            raise ValueError(f"{name}: in _toc.yml, but there is no {file}")
    return chosen


def check_parameters(chapters: Mapping[str, Path], given: Mapping[str, Any]) -> None:
    """Raises ValueError for a parameter that a chapter lacks, or a value of another type."""
    for name, file in chapters.items():
        known = notebook.parameters(file)
        for key, value in given.items():
            if key not in known:
                raise ValueError(f"{name}: {units.unknown('parameter', key, known or ['(none)'])}")
            default = known[key]
            if default is not None and not _same_kind(default, value):
                raise ValueError(
                    f"{name}: {key} is {type(default).__name__} ({default!r}), not {value!r}"
                )


def run(
    chapters: Mapping[str, Path],
    *,
    output: Path | None = None,
    given: Mapping[str, Any] | None = None,
    jobs: int | None = None,
    force: bool = False,
    told: Told = lambda *_: None,
) -> list[Result]:
    """Run chapters, ``jobs`` at a time, and give their results in order.

    With ``output`` None they run in place and unchanged ones are skipped unless ``force``.
    Otherwise each is written to that folder. Chapters that read other chapters' outputs run
    after these. A failed chapter leaves its notebook as it was and does not stop the others.
    """
    if output is not None:
        try:
            output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"{output}: cannot be written to ({error.strerror})") from error
    state = notebook.State.load()
    first = {n: f for n, f in chapters.items() if not notebook.reads_chapters(f)}
    results = {}
    for wave in (first, {n: f for n, f in chapters.items() if n not in first}):
        todo = {}
        for name, file in wave.items():
            if output is None and not force and state.fresh(name, file):
                results[name] = Result(name, file, 0.0, skipped=True)
                told(name, "unchanged", 1.0)
            else:
                todo[name] = file
        for result in _run_wave(todo, output, dict(given or {}), jobs, told):
            results[result.chapter] = result
            if output is None and not result.error:
                state.done(result.chapter, result.output)
    return [results[name] for name in chapters]


def quiet_kernels() -> None:
    """Give kernels a profile of their own: no history, no warning about the transport."""
    folder = paths.root() / "_build" / "ipython"
    profile = folder / "profile_default"
    profile.mkdir(parents=True, exist_ok=True)
    lines = "c.IPKernelApp.log_level = 40\nc.HistoryManager.enabled = False\n"
    (profile / "ipython_kernel_config.py").write_text(lines)
    os.environ["IPYTHONDIR"] = str(folder.resolve())
    os.environ["PYTHONWARNINGS"] = "ignore"  # a library's warning is no result of a chapter
    if "SIZEWISE_HOME" in os.environ:  # kernels run elsewhere, where a relative path fails
        os.environ["SIZEWISE_HOME"] = str(paths.root().resolve())


def _run_wave(todo, output, given, jobs, told) -> list[Result]:
    if not todo:
        return []
    quiet_kernels()
    jobs = max(1, min(jobs or os.cpu_count() or 1, len(todo)))
    context = get_context("spawn")
    with context.Manager() as manager, ProcessPoolExecutor(jobs, mp_context=context) as pool:
        queue = manager.Queue()
        waiting = {pool.submit(_run_one, n, f, output, given, queue) for n, f in todo.items()}
        finished = []
        while waiting:
            done, waiting = wait(waiting, timeout=0.1, return_when=FIRST_COMPLETED)
            while not queue.empty():
                told(*queue.get())
            for one in done:
                result = one.result()
                finished.append(result)
                told(result.chapter, "failed" if result.error else "done", 1.0)
    return finished


def _run_one(name: str, file: Path, output: Path | None, given: dict, queue) -> Result:
    """Run one chapter in this process's kernel; called in a worker process."""
    import nbformat
    import papermill
    from papermill.exceptions import PapermillExecutionError

    _tell_cells(name, queue)
    scratch = paths.root() / "_build" / "running" / f"{name}.ipynb"
    scratch.parent.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    error = None
    try:
        papermill.execute_notebook(
            str(file),
            str(scratch),
            parameters=given,
            engine_name="sizewise",
            kernel_name="python3",
            language="python",
            progress_bar=False,
            cwd=str(paths.root() / "chapters"),
        )
    except PapermillExecutionError as failed:
        error = notebook.describe(name, file, failed, bool(given))
    except Exception as failed:  # a kernel that died, a notebook that is none
        error = f"{name}: {type(failed).__name__}: {' '.join(str(failed).split())}"
    target = file if output is None else output / f"{name}.ipynb"
    if error is None:
        target.parent.mkdir(parents=True, exist_ok=True)
        notebook.write(nbformat.read(scratch, as_version=4), target)
        scratch.unlink()
    elif scratch.exists():
        target = paths.root() / "_build" / "failed" / f"{name}.ipynb"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(scratch, target)
    return Result(name, target, time.perf_counter() - started, error=error)


def _tell_cells(name: str, queue) -> None:
    """Have papermill say, after each cell, how far the chapter is."""
    from papermill.engines import NBClientEngine, papermill_engines

    class Engine(NBClientEngine):
        @classmethod
        def execute_managed_notebook(cls, nb_man, kernel_name, **kwargs):
            total, complete = max(1, len(nb_man.nb.cells)), nb_man.cell_complete

            def tell(cell, cell_index=None, **more):
                complete(cell, cell_index=cell_index, **more)
                queue.put((name, "running", ((cell_index or 0) + 1) / total))

            nb_man.cell_complete = tell
            queue.put((name, "running", 0.0))
            return super().execute_managed_notebook(nb_man, kernel_name, **kwargs)

    papermill_engines.register("sizewise", Engine)


def _same_kind(default: Any, value: Any) -> bool:
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    if isinstance(default, int | float) and isinstance(value, int | float):
        return isinstance(default, float) or isinstance(value, int)
    return isinstance(value, type(default))
