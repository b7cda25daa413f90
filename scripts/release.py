"""Pack the built site for a release: one archive, the PDF if it was made, and SHA256SUMS.

    make release
    .venv/bin/python scripts/release.py --version 1.2.0
    .venv/bin/python scripts/release.py --verify _build/release

Writes _build/release/sizewise-site-VERSION.tar.gz; unpack it anywhere and open index.html, or let
a web server show the folder (it holds a .gz and a .br beside each text). The same site always
gives the same archive, bit for bit: names are sorted, times and owners fixed. Times come from
SOURCE_DATE_EPOCH where that is set. `--verify` reads SHA256SUMS as `sha256sum -c` does.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import os
import re
import shutil
import sys
import tarfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "_build" / "html"
PDF = ROOT / "_build" / "pdf" / "sizewise.pdf"
RELEASE = ROOT / "_build" / "release"
SUMS = "SHA256SUMS"
LONG_AGO = 315532800  # 1980-01-01 UTC, the earliest time that zip and tar programs all show
LEFT_OUT = {".buildinfo", ".DS_Store"}  # of the machine that built the site
VERSION = re.compile(r"[0-9A-Za-z][0-9A-Za-z.+-]*")


def main() -> int:
    options = arguments()
    try:
        if options.verify:
            return report(verify(options.verify))
        files = release(options.site, options.pdf, options.version, options.output)
    except (OSError, ValueError) as error:
        sys.exit(f"release: {error}")
    for path in files:
        print(f"release: {path} ({path.stat().st_size / 1e6:.2f} MB)")
    return 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", default=version(), help="default: that of pyproject.toml")
    parser.add_argument("--site", type=Path, default=SITE, help="the built pages")
    parser.add_argument("--pdf", type=Path, default=PDF, help="taken along where it exists")
    parser.add_argument("--output", type=Path, default=RELEASE, help="the folder to write")
    parser.add_argument(
        "--verify", type=Path, metavar="FOLDER", help="only check a folder against its SHA256SUMS"
    )
    return parser.parse_args()


def version() -> str:
    """The version in pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]


def release(site: Path, pdf: Path, version: str, output: Path) -> list[Path]:
    """Write archive, PDF and sums; files of an earlier release in the folder are removed.

    Raises ValueError if the site is not whole or the version is no version.
    """
    if not VERSION.fullmatch(version):
        raise ValueError(f"the version {version!r} cannot be part of a file's name")
    if not (site / "index.html").is_file():
        raise ValueError(f"{site} holds no index.html; build the site first: make site")
    output.mkdir(parents=True, exist_ok=True)
    for old in [*output.glob("sizewise-*"), output / SUMS]:
        old.unlink(missing_ok=True)
    files = [pack(site, output / f"sizewise-site-{version}.tar.gz", f"sizewise-site-{version}")]
    if pdf.is_file():
        files.append(Path(shutil.copyfile(pdf, output / f"sizewise-{version}.pdf")))
    sums = output / SUMS
    sums.write_text("".join(f"{digest(path)}  {path.name}\n" for path in sorted(files)), "utf-8")
    return [*files, sums]


def pack(site: Path, archive: Path, top: str) -> Path:
    """Write every file of the site into a .tar.gz below the folder `top`; the same every time."""
    when = int(os.environ.get("SOURCE_DATE_EPOCH") or LONG_AGO)
    files = sorted(
        (path.relative_to(site).as_posix(), path)
        for path in site.rglob("*")
        if path.is_file() and path.name not in LEFT_OUT
    )
    # gzip's own header would keep a name and a time as well.
    with (
        archive.open("wb") as raw,
        gzip.GzipFile("", "wb", 9, raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name, path in files:
            entry = tarfile.TarInfo(f"{top}/{name}")
            entry.size, entry.mtime, entry.mode = path.stat().st_size, when, 0o644
            with path.open("rb") as data:
                tar.addfile(entry, data)
    return archive


def digest(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


def verify(folder: Path) -> list[tuple[str, str]]:
    """(name, "OK", "FAILED" or "missing") for each line of the folder's SHA256SUMS.

    Raises ValueError if a line is not a sum and a name in this folder.
    """
    states = []
    for line in (folder / SUMS).read_text(encoding="utf-8").splitlines():
        match = re.fullmatch(r"([0-9a-f]{64}) [ *]([^/\\]+)", line)
        if not match:
            raise ValueError(f"{folder / SUMS} has a line that is no sum: {line[:80]!r}")
        path = folder / match[2]
        state = "missing" if not path.is_file() else "FAILED"
        states.append((match[2], "OK" if path.is_file() and digest(path) == match[1] else state))
    return states


def report(states: list[tuple[str, str]]) -> int:
    for name, state in states:
        print(f"{name}: {state}")
    return 0 if states and all(state == "OK" for _, state in states) else 1


if __name__ == "__main__":
    sys.exit(main())
