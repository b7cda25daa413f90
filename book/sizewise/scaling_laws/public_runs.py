"""Published tables that are no file of their repository: collected from several, then checked.

The check is a SHA-256 over the collected rows in a fixed order and notation, so that a folder
named by ``SIZEWISE_PUBLISHED`` and the repository itself pass by the same measure.
"""

import csv
import hashlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

DIGITS = ".10g"  # a mean of 57 subjects differs in the last digits with the order of summation
RECORD = re.compile(r"^(\d+) \| ([\d.]+) minutes \|.*?\| (\d\d)/(\d\d)/(\d\d) \|", re.M)
SIZES = ("70m", "160m", "410m", "1b", "1.4b", "2.8b", "6.9b", "12b")
STEP = 143000  # the last checkpoint
SUBJECT = "hendrycksTest-"  # MMLU, one task a subject
SUBJECTS = 57


@dataclass(frozen=True)
class Collected:
    """Rows taken from files of a public repository at a commit; ``digest`` is `digest` of them."""

    name: str
    repository: str
    commit: str
    columns: tuple[str, ...]
    paths: tuple[str, ...]
    rows_of: Callable[[str, str], list[tuple]]  # path, text of the file -> rows
    digest: str

    def url(self, path: str) -> str:
        return f"https://raw.githubusercontent.com/{self.repository}/{self.commit}/{path}"


def digest(rows) -> str:
    """SHA-256 over the rows, sorted, numbers with ten significant digits."""
    lines = sorted(",".join(_plain(value) for value in row) for row in rows)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def fetch(table: Collected):
    """The table as a data frame, from ``SIZEWISE_PUBLISHED`` or else from the repository.

    Raises ValueError if it is not there, cannot be fetched, or holds other rows than were pinned.
    """
    import pandas

    folder = os.environ.get("SIZEWISE_PUBLISHED", "")
    rows = _from_folder(table, Path(folder)) if folder else _from_repository(table)
    if digest(rows) != table.digest:
        raise ValueError(f"{table.name} holds other rows than {table.repository} had when pinned")
    frame = pandas.DataFrame(rows, columns=list(table.columns))
    for column in ("record", "minutes", "value"):
        if column in frame:
            frame[column] = frame[column].astype(float)
    return frame


def speedrun(path: str, text: str) -> list[tuple]:
    """(record, minutes, date) of the first track in the README of modded-nanogpt."""
    track = text.split("\n## Speedrun track 2")[0]  # another loss, other times
    return [(n, t, f"20{y}-{m}-{d}") for n, t, m, d, y in RECORD.findall(track)]


def pythia(path: str, text: str) -> list[tuple]:
    """(model, shots, step, task, metric, value) of one evaluation; MMLU as a mean of subjects."""
    model = path.split("/")[2].removeprefix("pythia-")
    shots = path.split("/")[3].removesuffix("-shot")
    rows, subjects = [], []
    for task, metrics in json.loads(text)["results"].items():
        if task.startswith(SUBJECT):
            subjects.append(metrics["acc"])
            continue
        rows += [
            (model, shots, STEP, task, metric, value)
            for metric, value in metrics.items()
            if not metric.endswith("_stderr")
        ]
    if len(subjects) == SUBJECTS:
        rows.append((model, shots, STEP, "mmlu_macro57", "acc", sum(subjects) / SUBJECTS))
    return rows


def _pythia_paths() -> tuple[str, ...]:
    models = [f"{size}{kind}" for size in SIZES for kind in ("", "-deduped")]
    models[models.index("1b")] = "1b-bf16"
    paths = []
    for model in models:
        five = model.removesuffix("-bf16")  # so named in the repository
        paths += [
            f"{model}/zero-shot/{model}_step{STEP}.json",
            f"{model}/five-shot/{five}-5shot_step{STEP}.json",
        ]
    return tuple(f"evals/pythia-v1/pythia-{path}" for path in paths)


def _from_folder(table: Collected, folder: Path) -> list[tuple]:
    file = folder / table.name
    if not file.is_file():
        raise ValueError(f"SIZEWISE_PUBLISHED: no {table.name} in {folder}")
    with file.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.reader(lines))[1:]
    return [tuple(row[: len(table.columns)]) for row in rows]


def _from_repository(table: Collected) -> list[tuple]:
    import pooch

    rows = []
    for path in table.paths:
        try:  # what arrives is only parsed as text, and checked when it is complete
            file = pooch.retrieve(table.url(path), None, path=pooch.os_cache("sizewise"))
        except (OSError, ValueError) as error:
            said = str(error).split("\n")[0][:120]
            raise ValueError(
                f"cannot fetch {table.url(path)} ({said}); a folder that holds {table.name} can "
                "stand in, named by SIZEWISE_PUBLISHED"
            ) from None
        rows += table.rows_of(path, Path(file).read_text(encoding="utf-8"))
    return rows


def _plain(value) -> str:
    try:
        return format(float(value), DIGITS)
    except ValueError:
        return str(value)


SPEEDRUN = Collected(
    name="speedrun_records.csv",
    repository="KellerJordan/modded-nanogpt",
    commit="f411b3d346aa52d3504324ca93c230fd84c6c07f",
    columns=("record", "minutes", "date"),
    paths=("README.md",),
    rows_of=speedrun,
    digest="edf6e10a100bc536b4dad56357fa75574c2cfdf45cced7da148f6c40d9bae701",
)
PYTHIA = Collected(
    name="pythia_final_scores.csv",
    repository="EleutherAI/pythia",
    commit="a19eecb807ec2c79a39ebf18108816e6ffffc1d5",
    columns=("model", "shots", "step", "task", "metric", "value"),
    paths=_pythia_paths(),
    rows_of=pythia,
    digest="811b2b4ef2c6b9e8c31f4e7b458eaf5397789f6c544dc01eab144874fc96649f",
)
