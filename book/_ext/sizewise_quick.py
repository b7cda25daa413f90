"""Mends of one finished page that make it quicker to show, and keep it from moving as it loads."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from urllib.parse import urlsplit

SOURCE = re.compile(r'\bsrc="([^"]+)"')

# Mends that make a page quicker to show; (what is found, what takes its place).
QUICKER = [
    (r'\s*<link rel="preload" as="script"[^>]*>', ""),  # of scripts that are now joined
    (r'(<meta name="viewport"[^>]*>.*?)\s*<meta name="viewport"[^>]*>', r"\1"),
    (r'(<meta name="viewport"[^>]*>.*?)\s*<meta name="viewport"[^>]*>', r"\1"),
    # The theme decides between light and dark when its script has come: the page would flash.
    (
        r'dataset\.theme = localStorage\.getItem\("theme"\) \|\| "auto";',
        'dataset.theme = {light: "light", dark: "dark"}[document.documentElement.dataset.mode]'
        ' || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");',
    ),
    # A sign from the private-use area means nothing when it is read aloud.
    (
        r'<(?:i|span) class="(?:[\w-]+ +)*fa[a-z]? [^"]*"(?![^>]*aria-hidden)'
        r'|<(?:i|span) class="(?:[\w-]+ +)*fa-[^"]*"(?![^>]*aria-hidden)',
        r'\g<0> aria-hidden="true"',
    ),
]
QUICKER = [(re.compile(pattern, re.DOTALL), put) for pattern, put in QUICKER]


def target(page: Path, address: str) -> Path | None:
    """The file that an address on a page names, or None if it is not a file of the site."""
    parts = urlsplit(address)
    if parts.scheme or parts.netloc or not parts.path:
        return None
    found = Path(posixpath.normpath(page.parent.joinpath(parts.path).as_posix()))
    return found if found.is_file() else None


def quicken(text: str) -> str:
    """The page with the mends of QUICKER, and its drawings without idle blanks."""
    for pattern, put in QUICKER:
        text = pattern.sub(put, text)
    return re.sub(r"<svg\b.*?</svg>", lambda found: squeeze(found[0]), text, flags=re.DOTALL)


def squeeze(drawing: str) -> str:
    """An SVG without line breaks between its marks, and without the fonts matplotlib lists.

    The book's style sets the letters of every figure in the font of the page.
    """
    drawing = re.sub(r"font-family: 'DejaVu Sans'[^;\"]*;? ?", "", drawing)
    drawing = re.sub(r">\s*\n\s*<", "><", drawing)
    return re.sub(r"\s*\n\s*", " ", drawing)


def size_images(page: Path, text: str) -> str:
    """The page with width and height on its pictures, those of the article loaded when near."""
    start = text.find("<article")

    def put(found: re.Match) -> str:
        tag, source = found[0], SOURCE.search(found[0])
        file = target(page, source[1]) if source else None
        extra = ""
        if file and not re.search(r"\b(?:width|height)=", tag) and (size := picture_size(file)):
            extra += f' width="{size[0]}" height="{size[1]}"'
        if start >= 0 and found.start() > start and "loading=" not in tag:
            extra += ' loading="lazy"'
        return tag.replace("<img", f"<img{extra}", 1)

    return re.sub(r"<img\b[^>]*>", put, text)


def picture_size(file: Path) -> tuple[int, int] | None:
    """Width and height of a picture in CSS pixels, or None if it does not say."""
    if file.suffix == ".svg":
        box = re.search(r'viewBox="[\d.-]+ [\d.-]+ ([\d.]+) ([\d.]+)"', file.read_text("utf-8"))
        return (round(float(box[1])), round(float(box[2]))) if box else None
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(file) as picture:
            return picture.size
    except UnidentifiedImageError:
        return None
