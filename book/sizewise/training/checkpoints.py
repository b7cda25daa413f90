"""Models of the laboratory that are trained once and stored: weights and what was measured.

A chapter or an experiment that needs a small trained model asks here. The first to ask trains it,
which an interrupted run takes up again; the others load it, after its SHA-256.
"""

import hashlib
import json
import sys
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


def trained(run: run_config.Run) -> Checkpoint:
    """The model of a run: from ``models/`` in the user's cache, or trained now and put there.

    The folder's name is a hash of the run and of its tokens. A folder comes into place whole; of
    two processes that train the same run at once, the second one's work is thrown away.
    Raises ValueError if the run does not end with a finite loss, or if stored weights are not
    those that were written.
    """
    tokens = token_files.prepare(run.text, run.vocabulary)
    folder = place(run, tokens)
    if not (folder / MEASURED).exists():
        checkpoint = downloads.cache() / "checkpoints" / f"{folder.name}.pt"
        print(f"training {run.family}, width {run.width}, {run.steps} steps", file=sys.stderr)
        model, measured = loop.fit(run, tokens, checkpoint=checkpoint)
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

    with token_files.placed(folder, MEASURED) as new:
        state = {name: value.cpu().contiguous() for name, value in model.state_dict().items()}
        save_file(state, new / WEIGHTS)
        summary = {
            "run": run.as_dict(),
            "tokens_sha256": tokens.sha256,
            "sha256": _sha256(new / WEIGHTS),
            "measured": measured,
        }
        (new / MEASURED).write_text(json.dumps(summary, indent=1))


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
