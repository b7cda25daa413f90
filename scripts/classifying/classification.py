"""Labelled sets as classifiers meet them: short excerpts, a fixed test, nested balanced draws.

Every classifier reads the same excerpts, the encoder no more of an article than the language
model. The first texts in the order of their hashes are the test, with the labels' own
proportions; the pool that training labels are drawn from follows them and has as many of each.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from sizewise.evaluation.corpora import Labelled, labelled
from sizewise.validation import whole

CHARACTERS = 240  # of an excerpt: a headline, a sentence, the title and lead of an article
RESERVED = 300  # texts for tests, whether a test reads all of them or the first few
POOL = 1024  # texts that labels are drawn from, at most


@dataclass(frozen=True)
class Task:
    """Test and training pool of one set; no excerpt is in both, and none comes twice."""

    name: str
    names: tuple[str, ...]  # of the labels
    texts: tuple[str, ...] = field(repr=False)  # of the test
    labels: np.ndarray = field(repr=False)  # (test,) int64
    pool: tuple[str, ...] = field(repr=False)
    pool_labels: np.ndarray = field(repr=False)  # (pool,) int64

    def sha256(self, items: int) -> str:
        """The first 16 hex digits of SHA-256 over the first ``items`` test excerpts."""
        return hashlib.sha256("\n".join(self.texts[:items]).encode()).hexdigest()[:16]


@lru_cache(maxsize=4)
def task(name: str, characters: int = CHARACTERS) -> Task:
    """The test and the pool of a set of `corpora.labelled`. Raises ValueError as that does."""
    return divided(labelled(name), characters)


def divided(
    result: Labelled, characters: int = CHARACTERS, reserved: int = RESERVED, pool: int = POOL
) -> Task:
    """Cut, deduplicate and divide a set; ``pool`` is rounded down to as many of each label.

    Excerpts count as the same if their letters and digits are, whatever the case; those that
    come with two labels are left out. Where a label has too few texts, so have the others.
    Raises ValueError if nothing is left for the pool.
    """
    characters = whole("the characters of an excerpt", characters, least=20)
    reserved = whole("the texts for tests", reserved)
    remaining: dict[str, tuple[str, int]] = {}
    torn = set()
    for text, label in zip(result.texts, result.labels.tolist(), strict=True):
        short = excerpt(text, characters)
        key = re.sub(r"[\W_]+", " ", short.casefold()).strip()
        if remaining.setdefault(key, (short, label))[1] != label:
            torn.add(key)
    pairs = [pair for key, pair in remaining.items() if key and key not in torn]
    test, remainder = pairs[:reserved], pairs[reserved:]
    groups = [
        [text for text, label in remainder if label == entry] for entry in range(len(result.names))
    ]
    per_label = min(pool // len(groups), *map(len, groups))
    if not per_label:
        raise ValueError(f"{result.name} leaves no text of some label after {reserved} for tests")
    selected = [(text, entry) for entry, group in enumerate(groups) for text in group[:per_label]]
    (texts, labels), (subset, theirs) = zip(*test, strict=True), zip(*selected, strict=True)
    return Task(
        result.name,
        result.names,
        texts,
        np.array(labels, np.int64),
        subset,
        np.array(theirs, np.int64),
    )


def excerpt(text: str, characters: int) -> str:
    """The beginning of a text on one line, at most so long, cut between words where it can be."""
    line = " ".join(text.split())
    if len(line) <= characters:
        return line
    cut = line[: characters + 1].rpartition(" ")[0]
    return cut if cut else line[:characters]


def draw(labels: Sequence[int], count: int, seed: int) -> np.ndarray:
    """Places (count,) of a random draw with as many of each label, or one more of some.

    Nested: a larger draw of the same seed begins with the smaller one, so that a learning curve
    adds labels and never exchanges them. Raises ValueError for more than there are.
    """
    labels = np.asarray(labels)
    chance = np.random.default_rng(seed)
    kinds = chance.permutation(np.unique(labels))
    columns = [chance.permutation(np.flatnonzero(labels == kind)) for kind in kinds]
    available = min(map(len, columns)) * len(columns)
    count = whole("the labels of a draw", count, available)
    rows = np.stack([column[: available // len(columns)] for column in columns], axis=1)
    return rows.reshape(-1)[:count]  # one of each label, then the next of each


def macro_f1(labels: Sequence[int], answers: Sequence[int]) -> float:
    """The mean over labels of F1 = 2 hits / (2 hits + misses + false alarms), each label alike.

    Over the labels that are given or answered at all, whatever their number; one that is never
    answered right has 0.
    """
    kinds = np.union1d(labels, answers)[:, None]
    actual, answered = np.asarray(labels) == kinds, np.asarray(answers) == kinds  # (kinds, n) each
    return float(np.mean(2 * (actual & answered).sum(1) / (actual.sum(1) + answered.sum(1))))


def scored(task: Task, answers: Sequence[int]) -> dict:
    """The columns of a row about its answers to the first ``len(answers)`` test items.

    ``answers`` and ``labels`` have a digit an item, the place of the label among the names.
    """
    labels = task.labels[: len(answers)]
    return {
        "test_sha256": task.sha256(len(answers)),
        "label_names": " ".join(task.names),
        "accuracy": float(np.mean(labels == np.asarray(answers))),
        "macro_f1": macro_f1(labels, answers),
        "answers": "".join(str(int(entry)) for entry in answers),
        "labels": "".join(str(int(entry)) for entry in labels),
    }
