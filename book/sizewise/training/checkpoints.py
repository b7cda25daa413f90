"""Models of the laboratory that are trained once and stored: weights and what was measured.

A chapter or an experiment that needs a small trained model asks here. The first to ask trains it,
which an interrupted run takes up again; the others load it, after its SHA-256.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sizewise.data import downloads, records

from . import loop, models, run_config
from . import tokenizer as token_files

WEIGHTS, MEASURED = "model.safetensors", "kept.json"


@dataclass(frozen=True)
class Checkpoint:
    """A trained model on the CPU in fp32, the tokens that it read, and what was measured."""

    model: Any = field(repr=False)
    tokens: token_files.Tokens
    measured: dict[str, Any]  # the measured columns of ``data/isoflop.md``
    sha256: str  # of the file of weights


def trained(run: run_config.Run, *, progress: bool = False) -> Checkpoint:
    """The model of a run: from ``models/`` in the user's cache, or trained now and put there.

    The folder's name is a hash of the run and of its tokens. A folder comes into place whole; of
    two processes that train the same run at once, the second one's work is thrown away.
    Raises ValueError if the run does not end with a finite loss, or if stored weights are not
    those that were written.
    """
    tokens = token_files.prepare(run.text, run.vocabulary, progress=progress)
    folder = place(run, tokens)
    if not (folder / MEASURED).exists():
        checkpoint = downloads.cache() / "checkpoints" / f"{folder.name}.pt"
        with _progress(run, progress) as on_step:
            model, measured = loop.fit(run, tokens, checkpoint=checkpoint, on_step=on_step)
        if measured["ended"] != "done":
            raise ValueError(
                f"the run ended after {measured['steps']} steps: its loss is not finite ({run})"
            )
        write(model, run, tokens, measured, folder)
        checkpoint.unlink(missing_ok=True)
    return load(folder, run, tokens)


def place(run: run_config.Run, tokens) -> Path:
    """The folder of a run on these tokens, there or not."""
    name = records.identity(run.as_dict() | {"tokens_sha256": tokens.sha256})
    return downloads.cache() / "models" / name


def write(model, run: run_config.Run, tokens, measured: dict[str, Any], folder: Path) -> None:
    """Put weights and measurements into a folder that appears as a whole."""
    from safetensors.torch import save_file

    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as aside:
        new = Path(aside) / "model"
        new.mkdir()
        state = {name: value.cpu().contiguous() for name, value in model.state_dict().items()}
        save_file(state, new / WEIGHTS)
        summary = {
            "run": run.as_dict(),
            "tokens_sha256": tokens.sha256,
            "sha256": _sha256(new / WEIGHTS),
            "measured": measured,
        }
        (new / MEASURED).write_text(json.dumps(summary, indent=1))
        try:
            os.rename(new, folder)
        except OSError:  # another process was first, or left a folder half removed
            if not (folder / MEASURED).exists():
                shutil.rmtree(folder)
                os.rename(new, folder)


def load(folder: Path, run: run_config.Run, tokens) -> Checkpoint:
    """The model in a folder that `write` made. Raises ValueError for any other weights."""
    from safetensors.torch import load_file

    summary = json.loads((folder / MEASURED).read_text())
    digest = _sha256(folder / WEIGHTS) if (folder / WEIGHTS).exists() else "that of no file"
    if digest != summary["sha256"]:
        raise ValueError(
            f"{folder / WEIGHTS}: SHA-256 is {digest}, but {summary['sha256']} was written; "
            "remove the folder to train it again"
        )
    model = models.build(models.spec(run.family, run.width, run.vocabulary, run.context), run.seed)
    model.load_state_dict(load_file(folder / WEIGHTS))
    model.eval()
    return Checkpoint(model, tokens, summary["measured"], digest)


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


@contextmanager
def _progress(run: run_config.Run, progress: bool) -> Iterator[Callable[[int], None] | None]:
    """What is called after each step, None where nobody looks."""
    if not progress:
        yield None
        return
    from rich.progress import Progress

    with Progress(transient=True) as bar:
        task = bar.add_task(f"training {run.family}, width {run.width}", total=run.steps)
        yield lambda done: bar.update(task, completed=done)
