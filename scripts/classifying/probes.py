"""What a few labels buy on top of vectors that cost nothing to learn.

An encoder that was trained on other people's text gives each excerpt a vector; a logistic
regression reads the label off it. The cheapest rivals need no encoder: the excerpt's words,
weighed by how rare they are, or counted (naive Bayes).
"""

import re
import time
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import numpy as np
from sizewise.evaluation import embedding

from . import classification

STRENGTHS = (0.3, 3.0, 30.0)  # of `embedding.probe`, for vectors of length 1
FOLDS = 4
WORD = r"[^\W_]+"
BATCHES = 64  # texts to warm an encoder with
BAGS = ("tfidf", "naive-bayes")
Row = dict[str, Any]


def chosen(vectors, labels) -> float:
    """The strength of `STRENGTHS` with most right answers in cross-validation of these labels.

    Among equals the smallest, which bends least to single texts. ``vectors`` (n, d) in the
    order of `classification.draw`, where each run of as many texts as there are labels has one of
    each: folds are made of such runs, so that they are balanced. With a single run there is
    nothing to validate on, and the smallest strength is taken.
    """
    labels = np.asarray(labels)
    run = np.arange(len(labels)) // len(np.unique(labels))
    folds = min(FOLDS, int(run.max()) + 1)
    if folds < 2:
        return STRENGTHS[0]
    right = dict.fromkeys(STRENGTHS, 0)
    for fold in range(folds):
        out = run % folds == fold
        train, test = _reduced(vectors[~out], vectors[out])
        for strength in STRENGTHS:
            result = embedding.probe(train, labels[~out], test, labels[out], strength=strength)
            right[strength] += int(result["right"].sum())
    return max(STRENGTHS, key=lambda strength: (right[strength], -strength))


def answers(train, labels, test) -> tuple[np.ndarray, float]:
    """Answers (m,) of a logistic regression on ``train`` (n, d) to ``test`` (m, d), and its
    strength, chosen inside the training labels alone."""
    strength = chosen(train, labels)
    near, far = _reduced(train, test)
    result = embedding.probe(near, labels, far, np.zeros(far.shape[0], int), strength=strength)
    return result["answer"].to_numpy(), strength


def _reduced(train, test) -> tuple[np.ndarray, np.ndarray]:
    """The same texts in at most n coordinates, where n is the number of training texts.

    Weights of a regression with squared decay lie in the span of its training vectors, so that
    this changes no answer, only the time (Kimeldorf and Wahba 1971, the representer theorem).
    ``train`` and ``test`` may be sparse.
    """
    if train.shape[1] <= train.shape[0]:
        return _dense(train), _dense(test)
    values, axes = np.linalg.eigh(_dense(train @ train.T).astype(float))  # (n,), (n, n)
    group = values > values.max() * 1e-10
    root = np.sqrt(values[group])
    return axes[:, group] * root, _dense(test @ train.T) @ axes[:, group] / root


def _dense(matrix) -> np.ndarray:
    return matrix.toarray() if hasattr(matrix, "toarray") else np.asarray(matrix, float)


def tfidf(train: Sequence[str], test: Sequence[str]):
    """Sparse unit vectors (n, V) and (m, V) over the words of ``train``.

    A word counts as often as it comes, times log((1 + n) / (1 + texts that have it)) + 1
    (Sparck Jones 1972, smoothed so that no word of the training texts weighs nothing). A text
    without a known word is all zeros.
    """
    from scipy.sparse import diags_array
    from scipy.sparse.linalg import norm

    near, far = counts(train, test)
    have = np.asarray((near > 0).sum(axis=0)).ravel()
    weights = diags_array(np.log((1 + len(train)) / (1 + have)) + 1)
    rows = []
    for matrix in (near, far):
        weighed = matrix @ weights
        rows.append((diags_array(1 / np.maximum(norm(weighed, axis=1), 1e-12)) @ weighed).tocsr())
    return tuple(rows)


def counts(train: Sequence[str], test: Sequence[str]):
    """How often each word of ``train`` comes: sparse (n, V) and (m, V). Words are runs of
    letters and digits, whatever their case. Raises ValueError if there is none."""
    from scipy.sparse import csr_array

    bags = [
        [Counter(re.findall(WORD, entry.casefold())) for entry in group] for group in (train, test)
    ]
    names = {word: column for column, word in enumerate(sorted(set().union(*bags[0])))}
    if not names:
        raise ValueError("the training texts hold no word")
    matrices = []
    for group in bags:
        entries = [
            (row, names[word], times)
            for row, bag in enumerate(group)
            for word, times in bag.items()
            if word in names
        ]
        rows, columns, values = np.array(entries, int).reshape(-1, 3).T
        shape = len(group), len(names)
        matrices.append(csr_array((values.astype(float), (rows, columns)), shape=shape))
    return tuple(matrices)


def naive_bayes(train, labels, test) -> np.ndarray:
    """Answers (m,) of multinomial naive Bayes to counts (m, V), trained on counts (n, V).

    One is added to each word's count with each label (Laplace). Manning, Raghavan and Schütze
    2008, section 13.2.
    """
    kinds, number = np.unique(np.asarray(labels), return_counts=True)
    seen = np.stack(
        [
            np.asarray(train[np.flatnonzero(labels == entry)].sum(axis=0)).ravel() + 1
            for entry in kinds
        ]
    )  # (classes, V)
    log_p = np.log(seen / seen.sum(1, keepdims=True))
    return kinds[(test @ log_p.T + np.log(number / number.sum())).argmax(1)]


def bagged(row: Row) -> Row:
    """A row of `bag`: words alone. Both its training and its answers are timed."""
    task = classification.task(row["set"], row["characters"])
    group = classification.draw(task.pool_labels, row["labels_used"], row["seed"])
    train, labels = [task.pool[index] for index in group], task.pool_labels[group]
    test = task.texts[: row["items"]]
    strength, wall, start = None, time.perf_counter(), time.process_time()
    if row["model"] == "tfidf":
        near, far = tfidf(train, test)
        result, strength = answers(near, labels, far)
    else:
        near, far = counts(train, test)
        result = naive_bayes(near, labels, far)
    spent = time.process_time() - start
    wide = near.shape[1] + (row["model"] == "tfidf")  # a bias a label, or a prior
    return classification.scored(task, result) | {
        "parameters": wide * len(task.names) + len(task.names),
        "strength": strength,
        "seconds": time.perf_counter() - wall,
        "training_cpu_seconds": spent,
        "cpu_seconds_per_1000": None,
    }


def probed(row: Row) -> Row:
    """A row of `probe`: a logistic regression on the vectors of an encoder.

    The encoder reads the test and the pool once for all rows of a set that follow one another,
    so that the cost of reading is the same in each of them.
    """
    task = classification.task(row["set"], row["characters"])
    group = classification.draw(task.pool_labels, row["labels_used"], row["seed"])
    read = _vectors(row["model"], row["dtype"], row["set"], row["characters"], row["items"])
    start = time.process_time()
    result, strength = answers(read.pool[group], task.pool_labels[group], read.test)
    fitted = time.process_time() - start
    wide = read.test.shape[1] + 1
    return classification.scored(task, result) | {
        "parameters": read.parameters + wide * len(task.names),
        "strength": strength,
        "seconds": read.seconds,
        "training_cpu_seconds": fitted + len(group) * read.cpu_seconds / len(task.pool),
        "cpu_seconds_per_1000": 1000 * read.test_cpu_seconds / row["items"],
    }


@lru_cache(maxsize=1)
def _vectors(name: str, dtype: str, task_name: str, characters: int, items: int) -> SimpleNamespace:
    """Vectors of the test (items, d) and the pool (pool, d), and what it took to read them."""
    import torch
    from sizewise.models import pretrained

    task = classification.task(task_name, characters)
    encoder = pretrained.encoder(name)
    stored = encoder.entry.stored or "fp32"
    if dtype != stored:
        if encoder.entry.stored or dtype not in pretrained.DTYPES:
            raise ValueError(f"{name} cannot be used in {dtype}, only in {stored}")
        encoder.model.to(getattr(torch, pretrained.DTYPES[dtype]))
    encoder.embed(task.pool[:BATCHES])  # the first call makes buffers that later ones find
    start, began = time.process_time(), time.perf_counter()
    test = encoder.embed(task.texts[:items])
    test_cpu_seconds, seconds = time.process_time() - start, time.perf_counter() - began
    start = time.process_time()
    pool = encoder.embed(task.pool)
    return SimpleNamespace(
        test=test,
        pool=pool,
        parameters=encoder.entry.parameters,
        seconds=seconds,
        test_cpu_seconds=test_cpu_seconds,
        cpu_seconds=time.process_time() - start,
    )
