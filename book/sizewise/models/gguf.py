"""What a GGUF file really stores: bytes and bits a weight by tensor type.

A file is named after its most frequent type. Embedding, head and some projections are usually
wider, and each type brings its scales, so the mean is what counts.
"""

from dataclasses import dataclass
from pathlib import Path

from . import checkpoint


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
        """All tensors together; ``type`` names the types there are."""
        sums = (sum(getattr(row, name) for row in self.types) for name in _COUNTS)
        return Stored(" + ".join(row.type for row in self.types), *sums)


_COUNTS = ("tensors", "elements", "bytes")


def read(path: str | Path) -> File:
    """Read the header of a GGUF file; the tensors stay on disk.

    Raises ValueError if there is no such file or it is no GGUF file that can be read.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise ValueError(f"no such file: {path}")
    try:
        stored = checkpoint.read_gguf(path)
    except ValueError as error:
        raise ValueError(f"{path}: not a GGUF file that can be read ({error})") from error
    types = tuple(Stored(kind, *numbers) for kind, numbers in stored.by_type().items())
    architecture = str(stored.metadata.get("general.architecture", ""))
    return File(path, architecture, types, stored.file_bytes)
