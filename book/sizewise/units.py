"""Small words for people: the nearest name, a number that can be read."""

import difflib
from collections.abc import Iterable


def unknown(kind: str, name: str, known: Iterable[str]) -> ValueError:
    """The error for a name that is not there, with the nearest one that is."""
    known, name = list(known), str(name)
    name = name if len(name) <= 80 else name[:77] + "..."
    lower = {k.lower(): k for k in known}
    near = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.4)
    hint = f"did you mean {lower[near[0]]!r}?" if near else f"known: {', '.join(known[:12])}"
    if not near and len(known) > 12:
        hint += ", ..."
    return ValueError(f"unknown {kind} {name!r}; {hint}")


def printable(text: str) -> str:
    """Text with its control characters written as escapes: a name may hold a terminal's orders."""
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text
    )


def si(value: float, unit: str = "", digits: int = 3) -> str:
    """A number with a decimal prefix in the literature's letters: 8.03B, 10T, 512 GB.

    ``unit="params"`` uses K, M, B, T; any other unit uses k, M, G, T, P.
    """
    letters = ["", "K", "M", "B", "T"] if unit == "params" else ["", "k", "M", "G", "T", "P", "E"]
    size, step = float(value), 0
    while abs(size) >= 999.5 and step < len(letters) - 1:
        size, step = size / 1000, step + 1
    number = f"{size:.{digits}g}" if abs(size) < 999.5 else f"{size:,.0f}"
    if unit in ("params", ""):
        return f"{number}{letters[step]}"
    return f"{number} {letters[step]}{unit}"
