"""Small words for people: the nearest name, a number that can be read."""

import difflib
import re
from collections.abc import Iterable

RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def unknown(kind: str, name: str, names: Iterable[str]) -> ValueError:
    """The error for a name that is not there, with the nearest one that is."""
    names, name = list(names), shortened(str(name))
    lower = {k.lower(): k for k in names}
    near = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.4)
    hint = f"did you mean {lower[near[0]]!r}?" if near else f"known: {', '.join(names[:12])}"
    if not near and len(names) > 12:
        hint += ", ..."
    return ValueError(f"unknown {kind} {name!r}; {hint}")


def printable(text: str) -> str:
    """Text with its control characters written as escapes: a name may hold a terminal's orders."""
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text
    )


def shortened(text: str, most: int = 80) -> str:
    """``text`` on at most ``most`` characters, for the error that quotes it."""
    return text if len(text) <= most else text[: most - 3] + "..."


TOKENS = {"": 1, "k": 2**10, "ki": 2**10, "m": 2**20, "mi": 2**20}


def tokens(text: "str | int") -> int:
    """A number of tokens as people write it, in powers of two: 8192, 32k, 128Ki, 1M.

    Raises ValueError for anything else.
    """
    match = re.fullmatch(r"(-?\d[\d_,]*(?:\.\d+)?)([a-z]*)", str(text).strip().lower())
    if not match or match[2] not in TOKENS or len(match[1]) > 30:
        raise ValueError(f"context takes 8192, 32k, 128Ki or 1M, not {shortened(str(text))!r}")
    number = float(match[1].replace(",", "").replace("_", "")) * TOKENS[match[2]]
    if not number.is_integer():
        raise ValueError(f"context must be a whole number of tokens, got {shortened(str(text))!r}")
    return int(number)


def amount(text: str, unit: str) -> float | None:
    """A number with a decimal or binary prefix and a unit (a regular expression); None if none.

    None, too, for a rate in bits: 400Gb/s are 50GB/s.
    """
    if "/s" in unit and re.search(r"[A-Z]i?b(/s)?$", text.strip()):
        return None
    match = re.fullmatch(rf"(\d+(?:\.\d+)?)\s*([kmgtp]?)(i?){unit}", text.strip().lower())
    if not match or not 0 < float(match[1]) < 1e9:
        return None
    return float(match[1]) * (1024 if match[3] else 1000) ** " kmgtp".index(match[2] or " ")


def bandwidth(text: str) -> float:
    """Bytes a second of ``50GB/s`` or ``32 GiB/s``. Raises ValueError for anything else."""
    if (link := amount(text, "b(/s)?")) is None:
        raise ValueError(f"a link is written 50GB/s, in bytes, not {shortened(text)!r}")
    return link


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


def power_of_ten(exponent: int) -> str:
    """A power of ten as print has it: 10²¹."""
    return "10" + str(exponent).translate(RAISED)


def number(value: float, unit: str = "") -> str:
    """A number as every page writes it: three digits, and all those before the point.

    ``params``, ``yes/no``, ``year``, ``$``, ``%`` and large ``bytes`` are written as people do.
    """
    if unit == "params":
        return si(value, "params")
    if unit == "$" and abs(value) >= 1e6:
        return f"${si(value, 'params')}"
    if unit == "bytes" and abs(value) >= 1e4:
        return si(value, "B")
    if unit == "yes/no":
        return "yes" if value else "no"
    if unit == "year":
        return str(value)
    is_whole = isinstance(value, int) or 100 <= abs(value) < 1e15
    text = (f"{value:,.0f}" if is_whole else f"{value:.3g}").replace("-", "−")
    if unit == "$":
        return f"${text}"
    return f"{text}{unit}" if unit == "%" else f"{text} {unit}".strip()


def optional(value: float | None, form: str = ",", absent: str = "not known") -> str:
    """``value`` in a format, or ``absent`` where there is none."""
    return absent if value is None else format(value, form)
