"""Marking an answer: a score from 0 to 1 by the rule of its item.

Exact is exact after normalising: case, outer quotes, emphasis, final punctuation and white space
do not count. A rule cannot see that an answer is right in other words; read the table of answers.
"""

import re
import unicodedata

from .task import Item, letters

NUMBER = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?|[-+]?\.\d+")
OUTER = " \t\n\r\"'`*_.,;:!?()[]“”‘’«»"
LETTER = r"^\W*([A-Z])\W*$|^\W*([A-Z])[.):]\s|(?i:answer(?: is)?:?)\s*\W?([A-Z])\b"
CLOSE = 1e-9  # numbers that differ by less, relatively, are one


def score(item: Item, answer: str) -> float:
    """What ``answer`` earns, from 0 to 1."""
    if item.rule == "rubric":
        earned = sum(part.points for part in item.parts if _meets(part.wanted, answer))
        return earned / sum(part.points for part in item.parts)
    if item.rule == "number":
        return float(any(_same(number(answer), number(one)) for one in item.answers))
    if item.rule == "contains":
        return float(any(_contains(one, answer) for one in item.answers))
    if item.choices:
        return float(_chosen(item, answer) in item.answers)
    return float(normal(answer) in {normal(one) for one in item.answers})


def normal(words: str) -> str:
    """``words`` without what a comparison should not see."""
    words = unicodedata.normalize("NFKC", words).casefold()
    bare = " ".join(words.split()).strip(OUTER)
    return bare or " ".join(words.split())  # an answer may be nothing but marks


def number(words: str) -> float | None:
    """The last number in a text, with commas between thousands allowed; None without one."""
    words = words.replace("\N{MINUS SIGN}", "-")
    found = list(NUMBER.finditer(words))
    if not found:
        return None
    last, before = found[-1].group(), words[: found[-1].start()]
    if last[0] in "+-" and before[-1:].isalnum():  # a hyphen: "GPT-4", "10-12"
        last = last[1:]
    return float(last.replace(",", ""))


def _same(a: float | None, b: float | None) -> bool:
    return a is not None and b is not None and abs(a - b) <= CLOSE * max(abs(a), abs(b), CLOSE)


def _contains(wanted: str, answer: str) -> bool:
    """Whether ``wanted`` stands in the answer as words of their own: "cat" is not in "category"."""
    words = re.escape(normal(wanted))
    return re.search(rf"(?<!\w){words}(?!\w)", normal(answer)) is not None


def _meets(wanted: str | re.Pattern, answer: str) -> bool:
    if isinstance(wanted, str):
        return _contains(wanted, answer)
    return wanted.search(answer) is not None


def _chosen(item: Item, answer: str) -> str | None:
    """The choice that an answer names, by its text, by its letter, or by both."""
    named = dict(zip(letters(len(item.choices)), item.choices, strict=True))
    given = normal(answer)
    if given.upper() in named:
        return named[given.upper()]
    for letter, choice in named.items():
        if given in (normal(choice), normal(f"{letter}. {choice}"), normal(f"{letter}) {choice}")):
            return choice
    if found := re.search(LETTER, answer.strip()):
        return named.get(next(filter(None, found.groups())))
    held = [choice for choice in item.choices if _contains(choice, answer)]
    return held[0] if len(held) == 1 else None
