"""Answers of 29 models to the 12,032 questions of MMLU-Pro, as its authors archived them.

The archives are not ours to ship: they are fetched from a public repository at a pinned commit and
checked by SHA-256, or read from the folder that ``SIZEWISE_PUBLISHED`` names. Such a folder may
hold, instead of the archives, the one table of right and wrong that was collected from them.
"""

import json
import os
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from sizewise.data import downloads, records

GROUPS: dict[str, tuple[str, ...]] = {
    "knowledge": (
        *("biology", "economics", "health", "history"),
        *("law", "other", "philosophy", "psychology"),
    ),
    "reasoning": ("business", "chemistry", "engineering", "math", "physics"),
    "code": ("computer science",),
}
STATED = re.compile(r"answer is \(?([A-J])\)?")
LABELLED = re.compile(r"[aA]nswer:\s*\(?([A-J])")
ALONE = re.compile(r"\b[A-J]\b")


@dataclass(frozen=True)
class Answers:
    """Models on the same questions. ``right`` holds 1, 0, or NaN where a model was not asked.

    The others need the archives: ``letters`` as extracted by the authors ("" for none),
    ``again`` by one rule for all models, ``characters`` that a model wrote, ``chance`` of a guess.
    """

    models: list[str]
    questions: np.ndarray  # (questions,) ids, in order
    subjects: np.ndarray  # (questions,)
    right: np.ndarray  # (models, questions)
    letters: np.ndarray = field(repr=False, default=None)  # (models, questions)
    again: np.ndarray = field(repr=False, default=None)  # (models, questions)
    key: np.ndarray = field(repr=False, default=None)  # (questions,) the right letters
    characters: np.ndarray = field(repr=False, default=None)  # (models, questions)
    chance: np.ndarray = field(repr=False, default=None)  # (questions,)

    def right_of(self, model: str) -> np.ndarray:
        """Right and wrong of a model: (questions,), NaN where it was not asked."""
        return self.right[self.models.index(model)]

    @property
    def complete(self) -> bool:
        """Whether the answers themselves are known, and not only which were right."""
        return self.letters is not None


@cache
def facts() -> dict[str, Any]:
    """The archives and their models (``data/facts/mmlu_pro.yml``)."""
    return records.facts("mmlu_pro")


@cache
def models() -> dict[str, dict[str, Any]]:
    """What is known of each model, by the id of its archive."""
    return {model["id"]: model for model in facts()["models"]}


def name(model: str) -> str:
    """What its maker calls a model."""
    return models()[model]["name"]


@cache
def load() -> Answers:
    """All answers. From the archives, or from the table where the folder has no archives.

    Raises ValueError for a file that cannot be had, or is not the one that was pinned.
    """
    table = facts()["table"]
    folders = os.environ.get("SIZEWISE_PUBLISHED", "").split(":")
    names = [f"model_outputs_{model}_5shots.zip" for model in models()]
    if any(folders) and not any((Path(folder) / names[0]).is_file() for folder in folders):
        return _from_table(downloads.published(table["name"], facts(), "", table["sha256"]))
    pinned = zip(names, models().values(), strict=True)
    return _from_archives(
        [
            downloads.published(name, facts(), f"{facts()['folder']}/{name}", model["sha256"])
            for name, model in pinned
        ]
    )


def _from_table(file: Path) -> Answers:
    import pandas

    table = pandas.read_csv(file).sort_values("question_id")
    names = list(models())
    return Answers(
        names,
        table["question_id"].to_numpy(),
        table["category"].to_numpy(str),
        table[names].to_numpy(float).T,
    )


def _from_archives(files: list[Path]) -> Answers:
    archives = [{int(row["question_id"]): row for row in _read(file)} for file in files]
    every = {question: row for rows in archives for question, row in rows.items()}
    questions = sorted(every)
    shape = len(files), len(questions)
    right, characters = np.full(shape, np.nan), np.full(shape, np.nan)
    letters, again = np.full(shape, "", "U1"), np.full(shape, "", "U1")
    for at, rows in enumerate(archives):
        for number, question in enumerate(questions):
            row = rows.get(question)
            if row is None:
                continue
            right[at, number] = row["pred"] == row["answer"]
            letters[at, number] = row["pred"] or ""
            again[at, number] = extract(row["text"])
            characters[at, number] = len(row["text"])
    return Answers(
        list(models()),
        np.array(questions),
        np.array([every[question]["category"] for question in questions]),
        right,
        letters,
        again,
        np.array([every[question]["answer"] for question in questions]),
        characters,
        np.array([1 / len(every[question]["options"]) for question in questions]),
    )


def _read(file: Path) -> list[dict[str, Any]]:
    """The rows of an archive, which holds one JSON list; some end in sums that are no rows."""
    ((_, content),) = downloads.members(file, r".*\.json")
    rows = [row for row in json.loads(content) if isinstance(row, dict)]
    for row in rows:
        text = row.get("generated_text") or row.get("model_outputs") or ""
        row["text"] = text[0] if isinstance(text, list) else text
    return rows


def extract(text: str) -> str:
    """The letter that a text states, by the three rules of the benchmark's present code: "answer
    is (X)", "Answer: X", the last letter that stands alone; empty without one.

    Older archives were made with the first two alone, and in some a missing letter was drawn at
    random, so that scores of different archives are not quite scores by one rule.
    """
    if match := STATED.search(text):
        return match[1]
    if matches := LABELLED.findall(text):
        return matches[-1]
    return (ALONE.findall(text) or [""])[-1]
