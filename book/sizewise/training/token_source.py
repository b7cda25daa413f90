"""Which package each validation token comes from: for what routes have to do with the source."""

import json
import os
from collections.abc import Iterator

import numpy as np

from sizewise.data import downloads

from . import corpus, extract


def of(tokens) -> tuple[np.ndarray, list[str]]:
    """(source of each validation token, names of the sources).

    The text is read again, once, and what was found is kept in the cache. Raises ValueError for a
    text that is no set of packages, and if the documents are not those of ``tokens``.
    """
    ends = np.asarray(tokens.validation) == 0  # token 0 ends a document
    document = np.cumsum(ends) - ends  # of each token: the end belongs to its document
    file = downloads.cache() / "origins" / f"{tokens.sha256[:32]}.json"
    if file.exists():
        named = json.loads(file.read_text())
    else:
        named = list(_validating(tokens.name))
        file.parent.mkdir(parents=True, exist_ok=True)
        aside = file.with_suffix(f".{os.getpid()}")
        aside.write_text(json.dumps(named))
        os.replace(aside, file)
    if len(named) != ends.sum():
        raise ValueError(
            f"{tokens.name}: {len(named)} documents validate, but {ends.sum()} are in its tokens"
        )
    names = list(dict.fromkeys(named))
    places = np.array([names.index(name) for name in named])
    return places[document], names


def _validating(name: str) -> Iterator[str]:
    """The package of each document on the validation side, in the order of the tokens."""
    now = ""

    def documents() -> Iterator[str]:
        nonlocal now
        for package in downloads.named(name):
            for document in extract.WAYS[package.extract](downloads.fetch(package)):
                now = package.name
                yield corpus.clean(document)

    for document in corpus.once(documents()):  # takes one document, gives one: `now` is its own
        if corpus.validates(document):
            yield now
