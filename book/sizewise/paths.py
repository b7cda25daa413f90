"""Where the book's files are: the checkout that holds data/, chapters/ and _toc.yml."""

import os
from pathlib import Path


def root() -> Path:
    """The checkout. ``SIZEWISE_HOME`` names another one.

    Raises ValueError if the folder holds no ``data/facts``: a library installed away from its
    checkout has no facts of its own.
    """
    home = Path(os.environ.get("SIZEWISE_HOME") or Path(__file__).resolve().parents[2])
    if not (home / "data" / "facts").is_dir():
        raise ValueError(
            f"{home} holds no data/facts: set SIZEWISE_HOME to a checkout of the Sizewise book"
        )
    return home


def chapters() -> dict[str, Path]:
    """Every chapter by name, in the reading order of ``_toc.yml``."""
    import yaml

    home = root()
    toc = yaml.safe_load((home / "_toc.yml").read_text())
    files = [
        entry["file"]
        for part in toc.get("parts", [toc])
        for entry in part.get("chapters", [])
        if entry.get("file", "").startswith("chapters/")
    ]
    names = [file.removesuffix(".ipynb").removesuffix(".md") for file in files]
    return {Path(name).name: home / f"{name}.ipynb" for name in names}


def read_text(path: Path, most: int) -> str:
    """The text of a file that a person named. Raises ValueError, in one line, for one over
    ``most`` bytes, one that is no UTF-8, and one that cannot be read."""
    try:
        if path.stat().st_size > most:
            raise ValueError(f"{path}: over {most:,} bytes; a part of it is enough")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: no UTF-8 text") from None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from None
