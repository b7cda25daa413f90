"""Chapters run headless, in place or into a folder, several at once.

A chapter is run by papermill in a kernel of its own. What changes from run to run (times,
paths, versions) is stripped, so a chapter whose results are the same is the same file. A
chapter whose notebook, library and data have not changed since its last run is left alone.
"""

import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sizewise import paths, units
from sizewise.experiments import workers

from . import notebook


@dataclass(frozen=True)
class Result:
    chapter: str
    output: Path
    seconds: float
    skipped: bool = False
    error: str | None = None


Report = Callable[[str, str, float], None]  # (chapter, what happened, share done)


def resolve(names: Iterable[str]) -> dict[str, Path]:
    """Chapters by name, in reading order; all of them for no names.

    Raises ValueError for a name that no chapter has, with the nearest one, and for a chapter
    without a file.
    """
    in_book = paths.chapters()
    stems = [Path(name).stem if name.endswith(".ipynb") else name for name in names]
    for name in stems:
        if name not in in_book:
            raise units.unknown("chapter", name, in_book)
    chapters = {name: file for name, file in in_book.items() if not stems or name in stems}
    for name, file in chapters.items():
        if not file.is_file():
            raise ValueError(f"{name}: in _toc.yml, but there is no {file}")
    return chapters


def run(
    chapters: Mapping[str, Path],
    *,
    output: Path | None = None,
    values: Mapping[str, Any] | None = None,
    jobs: int | None = None,
    force: bool = False,
    report: Report = lambda *_: None,
) -> list[Result]:
    """Run chapters, ``jobs`` at a time, and give their results in order.

    With ``output`` None they run in place and unchanged ones are skipped unless ``force``.
    Otherwise each is written to that folder. ``values`` are parameters. Chapters that read other
    chapters' outputs run after these. A failed chapter leaves its notebook as it was and does
    not stop the others.
    """
    if output is not None:
        try:
            output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(f"{output}: cannot be written to ({error.strerror})") from error
    state = notebook.State()
    first = {n: f for n, f in chapters.items() if not notebook.reads_chapters(f)}
    results = {}
    for wave in (first, {n: f for n, f in chapters.items() if n not in first}):
        todo = {}
        for name, file in wave.items():
            if output is None and not force and state.fresh(name, file):
                results[name] = Result(name, file, 0.0, skipped=True)
                report(name, "unchanged", 1.0)
            else:
                todo[name] = file
        for result in _run_wave(todo, output, dict(values or {}), jobs, report):
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


def _run_wave(
    chapters: Mapping[str, Path],
    output: Path | None,
    values: dict[str, Any],
    jobs: int | None,
    report: Report,
) -> list[Result]:
    if not chapters:
        return []
    quiet_kernels()
    todo = [{"name": name, "file": str(file)} for name, file in chapters.items()]
    # One chapter alone imports just what it needs. On macOS no process survives a fork for sure.
    forked = len(chapters) > 1 and sys.platform == "linux"
    if forked:
        multiprocessing.set_forkserver_preload([f"{__package__}.kernel"])
    run_one = partial(
        _run_chapter, output=output, values=values, forked=forked, environment=dict(os.environ)
    )
    finished = []
    for config, result in workers.in_processes(
        run_one,
        todo,
        jobs or workers.cores(),
        forked=forked,
        on_note=lambda config, share: report(config["name"], "running", share),
    ):
        if isinstance(result, Exception):  # its worker died
            name = config["name"]
            result = Result(name, chapters[name], 0.0, error=f"{name}: {result}")
        finished.append(result)
        report(result.chapter, "failed" if result.error else "done", 1.0)
    return finished


def _run_chapter(
    config: dict[str, str],
    output: Path | None,
    values: dict[str, Any],
    forked: bool,
    environment: dict[str, str],
) -> Result:
    """Run one chapter in a kernel of this process; called in a worker process."""
    os.environ.update(environment)  # a fork server has that of the moment when it started
    kernels = {}
    if forked:
        from . import kernel

        kernels = {"kernel_manager_class": kernel.manager_of(kernel.Forked())}

    import nbformat
    import papermill
    from papermill.exceptions import PapermillExecutionError

    _note_cells()
    name, file = config["name"], Path(config["file"])
    scratch = paths.root() / "_build" / "running" / f"{name}.{os.getpid()}.ipynb"
    scratch.parent.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    target = file if output is None else output / f"{name}.ipynb"
    error = None
    try:
        papermill.execute_notebook(
            str(file),
            str(scratch),
            parameters=values,
            engine_name="sizewise",
            kernel_name="python3",
            language="python",
            progress_bar=False,
            request_save_on_cell_execute=False,
            shutdown_kernel="immediate",
            **kernels,
            cwd=str(paths.root() / "chapters"),
        )
        target.parent.mkdir(parents=True, exist_ok=True)
        notebook.write(nbformat.read(scratch, as_version=4), target)
        scratch.unlink()
    except PapermillExecutionError as failed:
        error = notebook.describe(name, file, failed, bool(values))
    except Exception as failed:  # a kernel that died, a notebook that is none, a full disk
        error = f"{name}: {type(failed).__name__}: {' '.join(str(failed).split())}"
    if error and scratch.exists():
        target = paths.root() / "_build" / "failed" / f"{name}.ipynb"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(scratch, target)
    return Result(name, target, time.perf_counter() - started, error=error)


def _note_cells() -> None:
    """Have papermill say, after each cell, how far the chapter is."""
    from papermill.engines import NBClientEngine, papermill_engines

    class Engine(NBClientEngine):
        @classmethod
        def execute_managed_notebook(cls, nb_man, kernel_name, **kwargs):
            total, complete = max(1, len(nb_man.nb.cells)), nb_man.cell_complete

            def note(cell, cell_index=None, **more):
                complete(cell, cell_index=cell_index, **more)
                workers.note(((cell_index or 0) + 1) / total)

            nb_man.cell_complete = note
            workers.note(0.0)
            return super().execute_managed_notebook(nb_man, kernel_name, **kwargs)

    papermill_engines.register("sizewise", Engine)
