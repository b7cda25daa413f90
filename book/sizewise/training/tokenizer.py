"""Token files: a byte-level BPE trained once on the text, and 16-bit numbers mapped from disk."""

import contextlib
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import islice
from pathlib import Path

import numpy as np

from sizewise import validation as limits
from sizewise.data import downloads

from . import corpus as texts

END = "<|end|>"  # entry 0, after each document; no bytes of text
LEARN_FROM = 24_000_000  # characters of training text that the tokenizer is trained on
FORMAT = 1  # of the folder; another number, another folder


@dataclass(frozen=True)
class Tokens:
    """Text as numbers. ``train`` and ``validation`` are 1-D arrays of uint16."""

    name: str
    vocabulary: int
    train: np.ndarray = field(repr=False)
    validation: np.ndarray = field(repr=False)
    bytes_of: np.ndarray = field(repr=False)  # (vocabulary,): bytes of text in each entry
    sha256: str = ""  # of both token files


def prepare(name: str, vocabulary: int = 1024) -> Tokens:
    """The tokens of a text, from the cache or made now (a minute or two for the packages).

    Two processes that prepare the same text at once both work, and the second one's folder is
    thrown away. Raises ValueError for whatever `text.documents` refuses, and for a vocabulary
    under 512 or over 65,536 entries.
    """
    vocabulary = limits.whole("the vocabulary", vocabulary, 65_536, 512)
    folder = _folder(name, vocabulary)
    if (folder / "meta.json").exists():
        try:
            return load(folder)
        except ValueError as error:
            print(f"{error}; the folder is removed and made again", file=sys.stderr)
            shutil.rmtree(folder)
    documents = list(texts.documents(name))
    print(f"making tokens of {name}: {len(documents):,} documents", file=sys.stderr)
    write(documents, folder, name, vocabulary)
    return load(folder)


def reader(tokens: Tokens):
    """The tokenizer (of the package tokenizers) that made ``tokens``, for other texts."""
    from tokenizers import Tokenizer

    folder = _folder(tokens.name, tokens.vocabulary)
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def _folder(name: str, vocabulary: int) -> Path:
    plain = "".join(c if c.isalnum() or c in "-_." else "-" for c in name)
    return downloads.cache() / "tokens" / f"{plain}-{vocabulary}-v{FORMAT}"


def load(folder: Path) -> Tokens:
    """The tokens in a folder that `write` made, mapped rather than read.

    Raises ValueError if they are not those that were written.
    """
    meta = json.loads((folder / "meta.json").read_text())
    files = [folder / f"{side}.bin" for side in ("train", "validation")]
    if not all(file.exists() for file in (*files, folder / "bytes_of.bin")):
        raise ValueError(f"{folder}: tokens are missing")
    digest = _files_digest(tuple((str(file), file.stat().st_mtime_ns) for file in files))
    if digest != meta["sha256"]:
        raise ValueError(f"{folder}: SHA-256 of the tokens is {digest}, not {meta['sha256']}")
    return Tokens(
        name=meta["name"],
        vocabulary=meta["vocabulary"],
        train=np.memmap(folder / "train.bin", np.uint16, "r"),
        validation=np.memmap(folder / "validation.bin", np.uint16, "r"),
        bytes_of=np.fromfile(folder / "bytes_of.bin", np.uint16),
        sha256=meta["sha256"],
    )


@cache
def _files_digest(files: tuple[tuple[str, int], ...]) -> str:
    """SHA-256 of files one after another, each given with its time, once a process."""
    digest = hashlib.sha256()
    for file, _ in files:
        with open(file, "rb") as content:
            while piece := content.read(1 << 22):
                digest.update(piece)
    return digest.hexdigest()


def write(documents: list[str], folder: Path, name: str, vocabulary: int) -> None:
    """Train the tokenizer, encode both sides, and put the folder in place as a whole.

    Raises ValueError if either side of the split is empty.
    """
    sides: dict[str, list[str]] = {"train": [], "validation": []}
    for document in documents:
        sides["validation" if texts.validates(document) else "train"].append(document)
    for side, part in sides.items():
        if not part:
            raise ValueError(f"{name}: {len(documents)} documents leave none to {side}")
    with placed(folder, "meta.json") as new:
        tokenizer = train_bpe(sides["train"], vocabulary)
        tokenizer.save(str(new / "tokenizer.json"))
        digest = hashlib.sha256()
        for side, part in sides.items():
            with (new / f"{side}.bin").open("wb") as out:
                for ids in _encoded(tokenizer, part):
                    out.write(ids.tobytes())
                    digest.update(ids.tobytes())
        _bytes_of(tokenizer, vocabulary).tofile(new / "bytes_of.bin")
        meta = {
            "name": name,
            "vocabulary": vocabulary,
            "sha256": digest.hexdigest(),
            "documents": {side: len(part) for side, part in sides.items()},
        }
        (new / "meta.json").write_text(json.dumps(meta))


@contextlib.contextmanager
def placed(folder: Path, last: str) -> Iterator[Path]:
    """A new folder to fill, the file ``last`` too, which then comes to its place as a whole."""
    with downloads.scratch(folder.parent) as aside:
        new = aside / "new"
        new.mkdir()
        yield new
        try:
            os.rename(new, folder)
        except OSError:  # another process was first, or left a folder half removed
            if not (folder / last).exists():
                shutil.rmtree(folder)
                os.rename(new, folder)


def train_bpe(documents: Iterable[str], vocabulary: int):
    """A byte-level BPE tokenizer of at most ``vocabulary`` entries (fewer for tiny texts)."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_sample(documents, LEARN_FROM), trainer)
    return tokenizer


def _sample(documents: Iterable[str], characters: int) -> Iterator[str]:
    """A fixed sample across all documents: those of lowest hash, up to so many characters."""
    taken = 0
    for document in sorted(documents, key=_digest):
        if taken and taken + len(document) > characters:
            return
        taken += len(document)
        yield document


def _digest(document: str) -> bytes:
    return hashlib.sha256(document.encode()).digest()


def _encoded(tokenizer, documents: list[str]) -> Iterator[np.ndarray]:
    remaining = iter(documents)
    end = np.zeros(1, np.uint16)
    while batch := list(islice(remaining, 64)):
        for encoded in tokenizer.encode_batch(batch):
            yield np.concatenate([np.asarray(encoded.ids, np.uint16), end])


def _bytes_of(tokenizer, vocabulary: int) -> np.ndarray:
    """Bytes of each entry: byte-level BPE writes every byte as one character."""
    lengths = np.zeros(vocabulary, np.uint16)
    for entry, number in tokenizer.get_vocab().items():
        lengths[number] = 0 if entry == END else len(entry)
    return lengths
