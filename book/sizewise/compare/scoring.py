"""Marking an answer: a score from 0 to 1 by the rule of its item.

What is marked is the answer that a text states (`extraction`), whatever stands around it. A rule
cannot see that an answer is right in other words; read the table of answers.
"""

import re
from dataclasses import dataclass

from . import extraction, numbers
from .task import Item, letters


@dataclass(frozen=True)
class Mark:
    """A score, and whether the answer had to be guessed at, since the text states none."""

    score: float
    guessed: bool = False


def score(item: Item, answer: str) -> float:
    """What ``answer`` earns, from 0 to 1."""
    return mark(item, answer).score


def mark(item: Item, answer: str) -> Mark:
    """What ``answer`` earns by the rule of ``item``.

    ``exact`` compares the whole text, or what it states in the form that was asked for (a line
    "Answer: ...", a box, a field), after case, outer quotes, emphasis and final punctuation.
    """
    if item.rule == "rubric":
        earned = sum(part.points for part in item.parts if _meets(part.expected, answer))
        return Mark(earned / sum(part.points for part in item.parts))
    if item.rule == "number":
        number = numbers.number_is(answer, item.answers)
        return Mark(float(number.value is not None), bool(answer.strip()) and not number.stated)
    if item.rule == "contains":
        return Mark(float(any(extraction.contains(answer, right) for right in item.answers)))
    if item.choices:
        letter = extraction.letter(answer, item.choices)
        named = dict(zip(letters(len(item.choices)), item.choices, strict=True))
        right = named.get(letter.value) in item.answers
        return Mark(float(right), bool(answer.strip()) and not letter.stated)
    right, stated = map(extraction.normal, item.answers), extraction.statements(answer)
    return Mark(float(not set(right).isdisjoint(map(extraction.normal, stated))))


def _meets(requirement: str | re.Pattern, answer: str) -> bool:
    if isinstance(requirement, str):
        return extraction.contains(answer, requirement)
    return requirement.search(answer) is not None
