"""A reader's own test: questions with the answers that are right, one JSON object a line."""

import json
import random
import re
import string
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sizewise import paths
from sizewise.units import unknown
from sizewise.validation import whole

from .numbers import is_number

RULES = ("exact", "contains", "number", "rubric")
FIELDS = ("id", "prompt", "answer", "choices", "contains", "regex", "rubric", "score")
EXAMPLE = "example"  # the built-in task
LETTER = "the letter of your choice"
FORMS = {"number": "the number", "exact": "the answer in as few words as possible"}
WORDINGS = (  # ways to ask for the same thing; what a model gains by one is style
    ("{question}\n\nEnd with a line that reads 'Answer: ' and then {answer}.", "{0}. {1}"),
    ("Question: {question}\n\nGive {answer} on the last line, after 'Answer:'.", "({0}) {1}"),
    ("Answer the question below. Finish with 'Answer:' and {answer}.\n\n{question}", "{0}) {1}"),
)
FREE = ("{question}", "Question: {question}", "Answer the question below.\n\n{question}")
MOST_BYTES = 50_000_000


@dataclass(frozen=True)
class Part:
    """One requirement of a rubric: a string, or a compiled pattern, and what it is worth."""

    expected: str | re.Pattern
    points: float = 1.0


@dataclass(frozen=True)
class Item:
    """A question with its right ``answers``, or the ``parts`` of a rubric."""

    name: str
    question: str
    rule: str
    answers: tuple[str, ...] = ()
    choices: tuple[str, ...] = ()
    parts: tuple[Part, ...] = field(default=())

    @property
    def prompt(self) -> str:
        """The question as it stands in the file, with its choices."""
        return self._with_choices("{0}. {1}")

    def wording(self, number: int = 0) -> str:
        """The prompt that asks for a form of answer, in one of three wordings.

        Items with a rubric, or marked by what they contain, are answered as a model likes.
        """
        form, choice = WORDINGS[number]
        if self.rule not in FORMS:
            return FREE[number].format(question=self._with_choices(choice))
        answer = LETTER if self.choices else FORMS[self.rule]
        return form.format(question=self._with_choices(choice), answer=answer)

    def _with_choices(self, form: str) -> str:
        pairs = zip(letters(len(self.choices)), self.choices, strict=True)
        return "\n".join((self.question, *(form.format(*pair) for pair in pairs)))


def read(path: Path | str, rule: str | None = None) -> list[Item]:
    """The items of a file of JSON lines; ``example`` is a small built-in task.

    ``rule`` is for items that name no ``score`` of their own; without it, an item with a rubric,
    ``contains`` or ``regex`` is marked by them, and any other exactly. Raises ValueError, in one
    line with the line's number, for what is no task.
    """
    if rule is not None and rule not in RULES:
        raise unknown("score", rule, RULES)
    path = Path(__file__).with_name("example.jsonl") if str(path) == EXAMPLE else Path(path)
    items: dict[str, Item] = {}
    lines: dict[str, int] = {}
    prompts: dict[str, int] = {}  # a question counts once: copies would pass for evidence
    for number, line in enumerate(paths.read_text(path, MOST_BYTES).split("\n"), 1):
        if not line.strip():
            continue
        try:
            item = parse(_object(line), number, rule)
        except ValueError as error:
            raise ValueError(f"{path}, line {number}: {error}") from None
        if item.name in items:
            first = lines[item.name]
            raise ValueError(f"{path}, line {number}: id {item.name!r} is that of line {first}")
        if (first := prompts.setdefault(item.prompt, number)) != number:
            raise ValueError(f"{path}, line {number}: the same question as on line {first}")
        items[item.name], lines[item.name] = item, number
    if not items:
        raise ValueError(f"{path}: holds no items; a line is {{'prompt': ..., 'answer': ...}}")
    return list(items.values())


def sample(items: list[Item], number: int | None, seed: int = 0) -> list[Item]:
    """``number`` of the items, drawn without return, in the order of the file."""
    if number is None or whole("the sample", number) >= len(items):
        return items
    remaining = set(random.Random(seed).sample(range(len(items)), number))  # noqa: S311
    return [item for at, item in enumerate(items) if at in remaining]


def shuffled(items: list[Item], seed: int = 0) -> list[Item]:
    """The items in random order: what a run that may stop early takes for a sample of them all."""
    return random.Random(seed).sample(items, len(items))  # noqa: S311


def letters(number: int) -> str:
    """The letters of ``number`` choices."""
    return string.ascii_uppercase[:number]


def _object(line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
        json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:
        raise ValueError("holds half of a character (a lone surrogate)") from None
    except (ValueError, RecursionError):
        raise ValueError("not JSON") from None
    if not isinstance(value, dict):
        raise ValueError("not a JSON object")
    for name in value:
        if name not in FIELDS:
            raise unknown("field", name, FIELDS)
    return value


def parse(value: dict[str, Any], number: int, rule: str | None = None) -> Item:
    """The item that an object of a task file is, on line ``number``; ValueError if it is none."""
    prompt = value.get("prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        raise ValueError("no prompt")
    name = value.get("id", f"line {number}")
    if isinstance(name, bool) or not isinstance(name, str | int) or not str(name).strip():
        raise ValueError(f"id must be a word or a whole number, got {name!r}")
    choices, answers = _words(value, "choices"), _words(value, "answer")
    parts = _parts(value)
    rule = value.get("score") or rule or ("rubric" if parts else "exact")
    if rule not in RULES:
        raise unknown("score", str(rule), RULES)
    if rule == "contains" and not answers:
        answers = tuple(part.expected for part in parts if isinstance(part.expected, str))
    if rule == "rubric" and not parts:
        raise ValueError("a rubric needs the field rubric, contains or regex")
    if rule != "rubric" and not answers:
        raise ValueError("no answer")
    if rule == "number" and (bad := [text for text in answers if not is_number(text)]):
        raise ValueError(f"the answer must be a number, got {bad[0]!r}")
    if choices:
        answers = _among(answers, choices)
    return Item(str(name), prompt, rule, answers, choices, parts)


def _words(supplied: dict, name: str) -> tuple[str, ...]:
    """A field that is one value or a list of them, as strings."""
    value = supplied.get(name)
    values = value if isinstance(value, list) else [] if value is None else [value]
    for entry in values:
        if (
            isinstance(entry, bool)
            or not isinstance(entry, str | int | float)
            or not str(entry).strip()
        ):
            raise ValueError(f"{name} must be text or a number, or a list of them, got {entry!r}")
    return tuple(map(str, values))


def _parts(value: dict) -> tuple[Part, ...]:
    parts = [Part(entry) for entry in _words(value, "contains")]
    parts += [Part(_pattern(entry)) for entry in _words(value, "regex")]
    rubric = value.get("rubric", [])
    if not isinstance(rubric, list):
        raise ValueError("rubric must be a list of {'contains' or 'regex': ..., 'points': ...}")
    for entry in rubric:
        kinds = [
            name for name in ("contains", "regex") if isinstance(entry, dict) and name in entry
        ]
        if len(kinds) != 1 or not isinstance(entry[kinds[0]], str) or not entry[kinds[0]].strip():
            raise ValueError(f"a part of a rubric has either contains or regex, got {entry!r}")
        points = entry.get("points", 1)
        if isinstance(points, bool) or not isinstance(points, int | float) or not 0 < points < 1e9:
            raise ValueError(f"points must be a number above 0, got {points!r}")
        text = entry[kinds[0]]
        parts.append(Part(_pattern(text) if kinds == ["regex"] else text, float(points)))
    return tuple(parts)


def _pattern(text: str) -> re.Pattern:
    try:
        return re.compile(text, re.IGNORECASE)
    except re.error as error:
        raise ValueError(f"regex {text!r}: {error}") from None


def _among(answers: tuple[str, ...], choices: tuple[str, ...]) -> tuple[str, ...]:
    """The answers as texts of the choices, where they are given by letter."""
    if not 2 <= len(choices) <= len(string.ascii_uppercase):
        raise ValueError(f"choices must be 2 to {len(string.ascii_uppercase)}, got {len(choices)}")
    if len(set(choices)) < len(choices):
        raise ValueError("two of the choices are the same")
    named = dict(zip(letters(len(choices)), choices, strict=True))
    for entry in answers:
        if entry in choices and named.get(entry, entry) != entry:
            raise ValueError(f"answer {entry!r} is one choice and the letter of another")
    result = tuple(entry if entry in choices else named.get(entry, "") for entry in answers)
    if "" in result:
        raise ValueError(f"answer {answers[result.index('')]!r} is none of the choices")
    return result
