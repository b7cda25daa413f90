"""What a GGUF file really stores: bytes and bits a weight by tensor type.

A file is named after its most frequent type. Embedding, head and some projections are usually
wider, and each type brings its scales, so the mean is what counts.
"""

import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .config import one_line


@dataclass(frozen=True)
class Stored:
    """Tensors of one type, their elements and their bytes."""

    type: str
    tensors: int
    elements: int
    bytes: int

    @property
    def bits(self) -> float:
        """Bits a weight, scales included."""
        return 8 * self.bytes / self.elements


@dataclass(frozen=True)
class File:
    """A GGUF file: its tensors by type, most bytes first, and the bytes of the whole file."""

    path: Path
    architecture: str
    types: tuple[Stored, ...]
    file_bytes: int

    @property
    def all(self) -> Stored:
        """All tensors together; ``type`` names the ones there are."""
        sums = (sum(getattr(one, name) for one in self.types) for name in _COUNTS)
        return Stored(" + ".join(one.type for one in self.types), *sums)


_COUNTS = ("tensors", "elements", "bytes")


def read(path: str | Path) -> File:
    """Read the header of a GGUF file; the tensors stay on disk.

    Raises ValueError if there is no such file, it is no GGUF file, or the package gguf is not
    installed.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise ValueError(f"no such file: {path}")
    if importlib.util.find_spec("gguf") is None:
        raise ValueError(f"{path}: reading GGUF needs the package gguf, which is not installed")
    from gguf import GGUFReader

    try:
        reader = GGUFReader(str(path))
        field = reader.get_field("general.architecture")
        architecture = str(field.contents()) if field else ""
        listed = [(t.tensor_type.name, int(t.n_elements), int(t.n_bytes)) for t in reader.tensors]
    except Exception as error:  # each kind of damage is refused in a way of its own
        raise ValueError(f"{path}: not a GGUF file that can be read ({one_line(error)})") from error
    if not listed:
        raise ValueError(f"{path}: holds no tensors")
    return File(path, architecture, _by_type(listed), path.stat().st_size)


def _by_type(listed: Iterable[tuple[str, int, int]]) -> tuple[Stored, ...]:
    sums: dict[str, list[int]] = {}
    for kind, elements, size in listed:
        one = sums.setdefault(kind, [0, 0, 0])
        for at, more in enumerate((1, elements, size)):
            one[at] += more
    stored = (Stored(kind, *numbers) for kind, numbers in sums.items())
    return tuple(sorted(stored, key=lambda one: (-one.bytes, one.type)))
