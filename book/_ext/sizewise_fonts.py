"""Fonts cut to the characters that the pages show; an icon font is small enough then to move in."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import re
from pathlib import Path

from fontTools import subset
from fontTools.ttLib import TTFont

ICONS = "Awesome"  # in the family of a font whose signs lie in the private-use area
FACE = re.compile(r"@font-face\s*\{[^}]*\}")


def characters(texts) -> set[int]:
    """The code points that occur on the pages, and all of ASCII."""
    return set(range(0x20, 0x7F)).union(*(map(ord, set(html.unescape(text))) for text in texts))


def icons(style: str) -> set[int]:
    r"""The private-use code points that a style writes, as themselves or as \f062."""
    written = {int(code, 16) for code in re.findall(r"\\([ef][0-9a-f]{3})\b", style)}
    return written | {ord(sign) for sign in style if "\ue000" <= sign <= "\uf8ff"}


def cut_fonts(style: str, folder: Path, points: set[int]) -> str:
    """The style with its woff2 fonts cut to the characters shown; a small icon font moves in."""
    signs = icons(style)

    def cut(face: re.Match) -> str:
        source = re.search(r'url\("?([^")]+\.woff2)[^")]*"?\)', face[0])
        if not source or not (folder / source[1]).is_file():
            return face[0]
        font = subset_font(folder / source[1], signs if ICONS in face[0] else points)
        # The icons are few: inside the style none comes late. Letters are not all on every page.
        if ICONS in face[0]:
            address = f"data:font/woff2;base64,{base64.b64encode(font).decode()}"
        else:
            (folder / source[1]).write_bytes(font)
            address = f"{source[1]}?v={hashlib.sha256(font).hexdigest()[:8]}"
        return re.sub(r"src:[^;}]*", f'src:url("{address}") format("woff2")', face[0], count=1)

    return FACE.sub(cut, style)


def subset_font(file: Path, points: set[int]) -> bytes:
    """The font with no glyphs but those of these code points, as woff2."""
    options = subset.Options(flavor="woff2", notdef_outline=True, layout_features=["*"])
    font = TTFont(file, recalcTimestamp=False)
    work = subset.Subsetter(options)
    work.populate(unicodes=points)
    work.subset(font)
    font.flavor = "woff2"
    out = io.BytesIO()
    font.save(out)
    return out.getvalue()
