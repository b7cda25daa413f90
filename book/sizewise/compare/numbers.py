"""The number that a text states: localized, with a unit, as a fraction or a power, in LaTeX."""

import math
import re
import unicodedata

from .extraction import ANSWER, READ, Extracted, W, boxed, fields, plain, shortened

SCALES = {word: float(factor) for factor, words in READ["scales"].items() for word in words}
INITIALS = {"M": 1e6, "B": 1e9, "T": 1e12}  # right behind a number: "1.5M"
INDIAN = r"\d{1,2}(?:,\d{2})+,\d{3}(?!\d)"  # 12,34,567
GROUPED = rf"{INDIAN}|\d{{1,3}}(?:[ ,.'’_]\d{{3}})+(?!\d)|\d+"
NUMBER = re.compile(
    r"(?P<sign>(?<![\w.)])[-–]\s?|\bminus\s+)?"
    r"(?:(?P<whole>\d+)\s+(?=\d+\s*/\s*\d))?"
    rf"(?P<value>(?:(?:{GROUPED})(?:[.,]\d+)?|[.,]\d+)(?:[eE][-+]?\d+)?)"
    r"(?:\s*/\s*(?P<over>\d+(?:\.\d+)?)"
    r"|\s*[x×*·]\s*10\s*(?:\^|\*\*)\s*\(?(?P<ten>[-+]?\d+)\)?"
    r"|\s*(?:\^|\*\*)\s*\(?(?P<power>[-+]?\d+)\)?)?"
    rf"(?:\s*(?P<scale>{'|'.join(sorted(SCALES, key=len, reverse=True))})(?![a-zа-я])"
    r"|(?P<initial>(?-i:[MBT]))(?![\w/]))?"
    r"\s*(?P<percent>%|percent\b|per\s+cent\b|prozent\b)?",
    re.I,
)
ASIDE = re.compile(  # what follows explains a number, and holds others
    r"\([^()]*\)|[,;:]?\s*(?:\b(?:i\.\s?e\.|e\.\s?g\.|that\s+is|which\s+is|since|because|as\s+in|not|"
    r"rather\s+than|instead\s+of|back\s+from|out\s+of)\b)[^\n.]*(?:\.\d[^\n.]*)*",
    re.I,
)
CUE = re.compile(
    rf"{ANSWER}(?![^\n.]{{0,30}}\b(?:not|nicht|pas)\b\s+[^\n.]{{0,10}}\d)"
    r"[^\d\n]{0,60}?(?=[-–.,]?\d|minus\s)"
    r"|(?:\b(?:so|thus|hence|therefore)\b|∴|⇒|→)[^\d\n]{0,40}?(?=[-–.,]?\d)",
    re.I,
)
FIRST = re.compile(  # "3 is the answer to question 12"
    rf"\W*{NUMBER.pattern}\s*(?:{W['is']})\b[^\d\n]{{0,20}}{ANSWER}", re.I
)
CONCLUSION = re.compile(  # a sentence after the last equation that sums up
    r"[.!?]\s[^\n]*\b(?:gives?|yields?|makes?|totals?|in\s+total|altogether|add(?:s|ing)?\s+up\s+to|"
    r"comes?\s+to)\b[^\d\n]{0,20}(?=[-–.,]?\d)",
    re.I,
)
MOST_POWER = 300  # beyond, a float overflows
NEAR = 1e-9  # numbers that differ by less, relatively, are one


def number_is(text: str, targets: tuple[str, ...]) -> Extracted:
    """Whether the number that ``text`` states is one of ``wanted``: its value, or None.

    Reads commas and dots of any country, fractions, powers, LaTeX, percent and units. Not
    ``stated`` where the number had to be looked for, or "1.500" is right only in the other of its
    two readings.
    """
    fragment, stated = _stated_number(shortened(text))
    for value in _readings(fragment)[:2] if fragment else ():
        for right in targets:
            values = _readings(_figures(right))
            if values and math.isclose(value, values[0], rel_tol=NEAR, abs_tol=NEAR**2):
                return Extracted(right, stated and value == _readings(fragment)[0])
    return Extracted(None, stated)


def is_number(text: str) -> bool:
    """Whether ``text`` holds a number at all."""
    return bool(_readings(_figures(text)))


def _figures(text: str) -> str:
    """``text`` in plain figures: fractions, powers and signs of Unicode and LaTeX written out."""
    text = re.sub(r"\\[dt]?frac\s*\{([^{}]+)\}\s*\{([^{}]+)\}", r" \1/\2 ", text)
    text = re.sub(r"\\[dt]?frac\s*(\d)\s*(\d)", r" \1/\2 ", text)
    text = (
        re.sub(r"\\(?:times|cdot)(?![a-z])", "×", text)
        .replace("{,}", ",")
        .replace("\\%", "%")
        .replace("\\$", "$")
    )
    text = re.sub(r"\^\{([^{}]*)\}", r"^\1", text)
    text = re.sub(r"[⁻⁰¹²³⁴-⁹]+", lambda m: "^" + unicodedata.normalize("NFKC", m[0]), text)
    text = re.sub(r"[¼½¾⅐-⅞]", lambda m: " " + unicodedata.normalize("NFKC", m[0]), text)
    text = plain(text).replace("⁄", "/").replace("\N{MINUS SIGN}", "-").replace("٫", ".")
    text = "".join(str(unicodedata.decimal(c)) if c.isdecimal() else c for c in text)
    return re.sub(r"(?<=\d)[\u00a0\u2009\u202f](?=\d{3})", " ", text)


def _stated_number(text: str) -> tuple[str, bool]:
    """The part of a text that begins with the number it states, and whether it is stated."""
    for _, content in sorted([*boxed(text), *fields(text)], reverse=True):
        if _readings(_figures(content)):
            return _after_equals(_figures(content)), True
    flat = re.sub(
        r"(?<![\d*_`])[*_`$€£¥]+(?=[\s\d.,-])|(?<=\d)[*_`]++(?!\s*[\d(])", " ", _figures(text)
    ).strip()
    if marked := re.findall(r"####\s*([^\n]+)", flat):
        return _after_equals(marked[-1]), True
    if FIRST.match(flat):
        return flat, True
    spaced = re.sub(rf"((?:{W['answer']})[\s:：*_]*)\n+\s*", r"\1 ", flat, flags=re.I)
    if cued := list(CUE.finditer(spaced)):
        return _after_equals(spaced[cued[-1].end() :].split("\n")[0]), True
    if re.match(
        rf"[\s\"'(\[=#>~≈:+]*(?:US)?[$€£¥]?\s*{NUMBER.pattern}\s*(?![\s]*[-+*/×x·=^]\s*[\d(])",
        flat,
        re.I,
    ):
        first = flat.split("\n")[0]
        if re.match(rf"\W*{NUMBER.pattern}\s*=[^=]*[-+*/×x]\s*\d[^=]*$", first, re.I):
            return first, True  # "12 = 3 x 4"
        return first if "=" not in first.lstrip("= ") else _after_equals(first), True
    lines = [line for line in flat.splitlines() if NUMBER.search(line)]
    if equal := [line for line in lines if re.search(r"=\s*[^\w\n]*[-–.,]?\d", line)]:
        end = list(CONCLUSION.finditer(equal[-1]))
        after = equal[-1][end[-1].end() :] if end else ""
        return (after if after and "=" not in after else _after_equals(equal[-1])), True
    short = ASIDE.sub(" ", flat)
    short = short if NUMBER.search(short) else flat
    sentences = [
        sentence
        for sentence in re.split(r"(?<=[^\d.])[.!?]\s+|(?<=\d)[.!?]\s+(?=\D)|[\n。]", short)
        if NUMBER.search(sentence)
    ]
    if not sentences:
        return "", False
    verbs = list(
        re.finditer(rf"\b(?:{W['verb']})\b[^\d]{{0,20}}?(?=[-–.,]?\d)", sentences[-1], re.I)
    )
    if verbs:
        return sentences[-1][verbs[-1].end() :], False
    last = list(NUMBER.finditer(sentences[-1]))[-1]
    hyphen = last["sign"] and sentences[-1][: last.start()][-1:].isalnum()  # "GPT-4", "10-12"
    return sentences[-1][last.start() + bool(hyphen) :], False


def _after_equals(text: str) -> str:
    """What stands behind the last equals sign with a number behind it, asides left out."""
    text = ASIDE.sub(" ", text) if re.search(r"\d", ASIDE.sub(" ", text)) else text
    parts = [
        part for part in re.split(r"[=≈]", text) if re.match(r"[^\w\n]*(?:[-–.,]?\d|minus\s)", part)
    ]
    return parts[-1] if parts else text


def _readings(fragment: str) -> list[float]:
    """The values that the first number of ``fragment`` may have, the likelier one first."""
    match = NUMBER.search(fragment)
    if not match:
        return []
    values = _values(match["value"])
    factor = SCALES[match["scale"].lower()] if match["scale"] else 1.0
    power = int(match["power"] or match["ten"] or 0)
    if abs(power) > MOST_POWER:
        return []
    if match["over"]:
        if not float(match["over"]):
            return []
        values = [float(match["whole"] or 0) + value / float(match["over"]) for value in values]
    try:
        if match["power"]:
            values = [value**power for value in values]
    except (OverflowError, ZeroDivisionError):
        return []
    values = [value * factor * (10.0**power if match["ten"] else 1) for value in values]
    values = [-value if match["sign"] else value for value in values]
    if match["initial"] and values:  # "7B" may be a name as well
        return [values[0] * INITIALS[match["initial"]], values[0]]
    return [*values[:1], values[0] / 100] if match["percent"] else values


def _values(digits: str) -> list[float]:
    """1,500 is 1500 and may be 1.5; 1.500 is 1.5 and may be 1500; 3,14 is 3.14."""
    digits = re.sub(r"[ '’_]", "", digits)
    comma, dot = digits.count(","), digits.count(".")
    if comma and dot:
        decimal = max(",.", key=digits.rfind)
        return [float(digits.replace(",."[decimal == ","], "").replace(decimal, "."))]
    if comma + dot == 0:
        return [float(digits)]
    mark = "," if comma else "."
    thousands = re.fullmatch(rf"[1-9]\d{{0,2}}(?:\{mark}\d{{3}})+|{INDIAN}", digits)
    if comma + dot > 1:
        return [float(digits.replace(mark, ""))] if thousands else []
    decimal, grouped = float(digits.replace(mark, ".")), float(digits.replace(mark, ""))
    if not thousands:
        return [decimal]
    return [grouped, decimal] if mark == "," else [decimal, grouped]
