"""The answer in a text: what is stated, apart from the talk around it.

A model that formats or explains has said the same as one that answers in a letter. The statement
that comes last counts, since models correct themselves. Where nothing is stated a guess is made
from what is in sight, and marked as one, so that a report can say how many there were.
"""

import json
import re
import unicodedata
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

MOST_BOXED = 300  # characters in a box
HEAD, TAIL = 2000, 6000  # characters of an answer that are searched
CLAUSE = 500  # characters on either side of a statement in which it is negated or made conditional


@dataclass(frozen=True)
class Extracted:
    """What was read out of a text, and whether it was ``stated`` or guessed; None for nothing."""

    value: str | None
    stated: bool = True


def _unspaced(alternatives: str) -> str:
    """The alternatives that are written without spaces around them: Thai, Chinese, Japanese."""
    script = r"[\u0e00-\u0e7f\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7af]"
    return "|".join(entry for entry in alternatives.split("|") if re.search(script, entry))


READ = yaml.safe_load(Path(__file__).with_name("answer_words.yml").read_text(encoding="utf-8"))
# the words around an answer, as alternatives of a pattern
W = {name: "|".join(words) for name, words in READ.items() if isinstance(words, list)}
MARKS = r"\s*_`\"'“”„«»‘’\\$(){}\[\]<>:：,，.。;=\-–—→➜⇒#|~!»›・、"
ANSWER = rf"(?:(?<![^\W_])(?:{W['answer']})(?![^\W\d_a-zα-я])|{_unspaced(W['answer'])})"
BETWEEN = r"(?:[^\W\d]+[\s:]+|是|就是|应该是|应为|应选|选|为|為|は|는|은|คือ)"  # cue and letter
NOT, INSTEAD, IF, THEN, UNSURE, WOULD = (
    re.compile(W[name], re.I) for name in ("not", "instead", "if", "then", "unsure", "would")
)
OUTER = " \"'`*_.,;:!?()[]“”‘’«»"  # around an answer
TICK = "✅✔☑✓"
SHORT = 60  # characters of a text in which a single letter is the answer: "Definitely B."
CIRCLED = {
    chr(start + at): f"({chr(65 + at)})" for start in (0x24B6, 0x24D0, 0x1F170) for at in range(26)
}


def shortened(text: str) -> str:
    """The head and tail of a long text, runs of one mark cut: patterns must end in time."""
    if len(text) > HEAD + TAIL:
        text = text[:HEAD] + "\n" + text[-TAIL:]
    text = re.sub(r"\n\s*\n", "\n\n", re.sub(r"[ \t]{2,}", " ", text))
    return re.sub(r"([^\w.=])\1{3,}", r"\1\1\1", text)


def plain(text: str) -> str:
    """``text`` without what only formats it: HTML, LaTeX, full-width and circled letters."""
    text = unicodedata.normalize("NFKC", "".join(CIRCLED.get(char, char) for char in text))
    text = re.sub(r"\\(?:text\w*|math(?:rm|bf|it|sf)|rm|bf|emph)\b\s*", "", text)
    text = re.sub(r"\\[()\[\]]|\$+|\\[,;!: ]", " ", text)
    tags = r"</?(?:b|strong|i|em|u|p|span|div|code|mark|sub|sup|h[1-6])\b[^>]*>|<br\s*/?>"
    return re.sub(tags, " ", text, flags=re.I)


def boxed(text: str) -> list[tuple[int, str]]:
    r"""(position, content) of each ``\boxed{...}``, braces matched."""
    results = []
    for match in re.finditer(r"\\(?:f?boxed|fbox)\s*\{", text):
        depth, at = 1, match.end()
        while at < min(len(text), match.end() + MOST_BOXED) and depth:
            depth += {"{": 1, "}": -1}.get(text[at], 0)
            at += 1
        results.append((match.start(), text[match.end() : at - (depth == 0)]))
    return results


def fields(text: str) -> list[tuple[int, str]]:
    """(position, value) of what JSON, YAML or XML calls the answer."""
    results = []
    for match in _field_patterns()[0].finditer(text):
        if match[5] and not re.match(r"[\"'“]", match[0]):
            continue  # a bare "Answer: 3" is a sentence
        value = next(group for group in match.groups()[1:] if group is not None)
        if match[2] is not None:
            try:
                value = json.loads(f'"{value}"')
            except ValueError:
                value = match[2]
        results.append((match.start(), value))
    return results + [(match.start(), match[2]) for match in _field_patterns()[1].finditer(text)]


@cache
def _field_patterns() -> tuple[re.Pattern, re.Pattern]:
    quoted = (
        rf"[\"'“]?\b({W['key']})[\"'”]?\s*:\s*(?:\"((?:[^\"\\]|\\.)*)\"|'([^']*)'"
        r"|\[\s*\"([^\"]*)\"\s*\]|(-?[\d.,/eE+]+)(?=\s*[,}\n]|\s*$))"
    )
    tag = r"<((?:final_?)?(?:answer|solution|result|choice|output|ans))\b[^>]*>(.*?)</\1>"
    return re.compile(quoted, re.I), re.compile(tag, re.I | re.S)


def statements(text: str) -> list[str]:
    """What a text may be taken to state, in words: all of it, or its last box, field or label."""
    text = text.strip()
    marked = [content for _, content in sorted([*boxed(text), *fields(text)])][-1:]
    label = rf"^[\s>#*_]*(?:the\s+|final\s+)*(?:{W['answer']})[*_\s]*[:：][*_\s]*(.+)$"
    return [text, *map(plain, marked), *re.findall(label, text, re.I | re.M)[-1:]]


def letter(text: str, choices: tuple[str, ...]) -> Extracted:
    """The letter of the choice (A, B, ...) that ``text`` states last, by letter or by words.

    A statement that is negated ("the answer is not A"), conditional ("if the answer is A") or
    found wrong ("A is incorrect") is none. Without any, a guess: the only choice whose words are
    in the text, or else the last letter that stands alone.
    """
    text = shortened(text)
    letters = "".join(chr(65 + at) for at in range(len(choices)))
    if complete := _whole(text, letters, choices):
        return Extracted(complete)
    stated = []
    for at, content in [*boxed(text), *fields(text)]:
        if name := _whole(content, letters, choices) or _leading(content, letters):
            stated.append((at, name))
    flat = plain(text)
    stated = stated or _ticked(flat, letters)
    stated = stated or _statements(flat, letters) + _statements_by_words(flat, letters, choices)
    if stated:
        return Extracted(max(stated)[1] or None)  # several letters at once are none
    lines = [line for line in flat.splitlines() if re.search(rf"[^{MARKS}]", line)]
    for line in (lines[-1], lines[0]) if lines else ():  # a line of nothing else
        if name := _whole(line, letters, choices) or _leading(line, letters):
            return Extracted(name)
    named = [name for name, choice in zip(letters, choices, strict=True) if contains(flat, choice)]
    if len(named) == 1:
        return Extracted(named[0], stated=False)
    alone = [
        match
        for match in re.finditer(rf"(?<![A-Za-z0-9'’.-])([{letters}])(?![A-Za-z0-9'’-])", flat)
        if not _is_word(flat, match) and _believed(flat, match, False)
    ]
    both = rf"(?<!\w)[{letters}]\s*(?:(?:{W['and']})\s*)+$"
    if not alone or re.search(both, flat[: alone[-1].start(1)]):  # "A or B"
        return Extracted(None, stated=False)
    single = len({match[1] for match in alone}) == 1 and flat[alone[-1].end() :][:1] != "?"
    return Extracted(alone[-1][1], stated=single and len(flat) <= SHORT)


def _ticked(text: str, letters: str) -> list[tuple[int, str]]:
    """The one choice of a list that is ticked, or has a yes: "A: no. B: yes."."""
    marks = (
        rf"\[[xX{TICK}]\]\W*([{letters}])(?!\w)",
        rf"^\W*[{TICK}][ \t*️]*([{letters}])(?!\w)",
        rf"(?<!\w)([{letters}])[)\].:*\s|-]*(?:[{TICK}]|(?:{W['affirmed']})\b)",
    )
    ticked = [
        (match.start(1), match[1])
        for pattern in marks
        for match in re.finditer(pattern, text, re.M)
    ]
    return ticked if len({name for _, name in ticked}) == 1 else []


def _whole(text: str, letters: str, choices: tuple[str, ...]) -> str | None:
    """The letter where the text is a letter, a choice's words, or both, and nothing else."""
    bare = re.sub(rf"^[{MARKS}✅✔️☑👉]+|[{MARKS}✅✔️☑👍✓]+$", "", plain(text))
    bare = re.sub(rf"^(?:{W['option']}|{W['answer']})\b[{MARKS}]*", "", bare, flags=re.I) or bare
    if reply := re.fullmatch(rf"\s*A\s*:\s*([{letters}])\W*", bare):  # "Q: ... A: B"
        return reply[1]
    if len(bare) == 1 and bare.upper() in letters:
        return bare.upper()
    bare = normal(bare)
    for name, choice in zip(letters.lower(), map(normal, choices), strict=True):
        choice = re.escape(choice)
        both = rf"(?:{name}[\s.):\]\-–—,*_(]+)?{choice}\)?|{choice}\W+{name}\)?"
        if re.fullmatch(both, bare):
            return name.upper()
    return None


def _leading(line: str, letters: str) -> str | None:
    """The letter at the head of a line: "B) because ...", "**B**: ...", "B - Paris"."""
    ends = r"(?:[)\].:：,，。]|[-–—](?=\s))"
    match = re.match(rf"[\s*_`>#\-•\"'“(\[]*([{letters}])[*_`\"'”]*\s*{ends}", line)
    if not match or re.match(rf"[^\n]{{0,60}}(?:{W['bad']})", line[match.end() :], re.I):
        return None
    return match[1]


@cache
def _patterns(letters: str) -> dict[str, re.Pattern]:
    """The sentences that state an answer; group 1 is the letter."""
    small, ends = letters.lower(), r"(?![A-Za-z0-9]|['’](?:s|m|d|ll|ve|re)\b)"
    single = (  # a letter that stands alone; a small one is in brackets or ends its line
        rf"(?<![A-Za-z0-9])[\"'“‘„«(\[*_`<{{]*((?-i:[{letters}]){ends}"
        rf"|(?-i:(?<=[(\[*_`\"'“‘{{])[{small}]){ends}"
        rf"|(?-i:[{small}])(?=[)\]*_`\"”}}]|[\s.!。]*(?:\n|\Z)))[\"'”’“»)\]*_`>}}]*"
    )
    gap = f"[{MARKS}]*"
    kind = rf"(?:{W['answer']}|{W['option']}|{W['good']})"
    possessive = r"(?:(?:the|my|final|selected|chosen|our)\s+)*"
    texts = {
        "cue": rf"{ANSWER}{gap}{BETWEEN}{{0,6}}?{gap}{single}",
        "pick": rf"(?:\b(?:{W['choose']}|{W['it_is']})\b|{_unspaced(W['choose'])}){gap}"
        rf"(?:(?:the|an?|la|le|die|l['’])?\s*{kind}\s*){{0,2}}{gap}{single}",
        # words up to the judgement, none of which is another letter
        "judged": rf"{single}{gap}(?:[^()\n]{{1,40}}\)\s*)?"
        rf"(?:(?!(?-i:[{letters}])\b)[^\W\d]+\s+){{0,4}}?(?:は|이|가|是|が)?\s*"
        rf"(?:{W['good']})(?![^\W_])",
        "so": rf"(?:\b(?:{W['so']})\b|{_unspaced(W['so'])}|∴|⇒|→){gap}(?:(?:the|an?)\s+)?"
        rf"(?:(?:{W['option']})\s*)?{gap}{single}(?=[\s{MARKS}]*(?:$|\n|[.!。]))",
        "line": rf"^[\s>#*_\-•]*{possessive}(?:{W['option']}|{W['good']})(?![^\W\d_]){gap}"
        rf"(?:{W['is']})?{gap}{single}{gap}$",
        "rightly": rf"\b(?:{W['good']})\b{gap}(?:\b(?:{W['option']}|{W['answer']}|one)\b)?{gap}"
        rf"(?:{W['is']}|[:：=]){gap}{BETWEEN}{{0,2}}?{gap}{single}",
    }
    return {name: re.compile(text, re.I | re.M) for name, text in texts.items()}


def _statements(text: str, letters: str) -> list[tuple[int, str]]:
    """(position, letter) of every sentence that states an answer; "" for one that states two."""
    other = rf"[\"'”’»)\]*_`>}}]*\s*(?:{W['and']})\s*[(*\"'`]*([{letters}])(?![\w'’])"
    results = []
    for name, pattern in _patterns(letters).items():
        for match in pattern.finditer(text):
            if not _believed(text, match, name == "judged") or _is_word(text, match):
                continue
            second = re.match(other, text[match.end(1) :]) if name != "judged" else None
            both = second and second[1] != match[1].upper()
            results.append((match.start(1), "" if both else match[1].upper()))
    for line in re.finditer(r"[^\n]+", text):  # "B) Paris - correct", below the other choices
        name = _leading(line[0], letters)
        if name and re.search(rf"[-–—:(✓✅]\W*(?:{W['good']})\W*$", line[0], re.I):
            results.append((line.start(), name))
    return results


def _believed(text: str, match: re.Match, judged: bool) -> bool:
    """Whether a statement is meant: not negated, not conditional, and not taken back at once.

    ``judged``: of the kind "B is correct", whose own words may say "incorrect".
    """
    farthest = max(0, match.start() - CLAUSE)
    begin = max(text.rfind(mark, farthest, match.start()) for mark in ".!?\n。！？;") + 1
    clause = text[max(begin, farthest) : match.start(1)]
    inside = text[match.start() : match.start(1)] or clause[-12:]
    after = re.match(r"[^.!?\n。！？;,，]*", text[match.end(1) : match.end(1) + CLAUSE])[0]
    if NOT.search(inside) and not INSTEAD.search(inside):
        return False
    if judged:
        if any(re.search(W[name], match[0], re.I) for name in ("not", "bad", "unsure")):
            return False
        if WOULD.search(match[0]) and IF.search(after):  # "B would be correct if ..."
            return False
    elif re.match(rf"[\s{MARKS}]*(?:[^\W\d]+\s+){{0,2}}?(?:{W['bad']})", after, re.I):
        return False
    conditions = list(IF.finditer(clause))
    if conditions and not THEN.search(clause, conditions[-1].end()):
        return False
    return not UNSURE.search(inside)


def _is_word(text: str, match: re.Match) -> bool:
    """Whether "A" or "I" is a word of the sentence: "a dog", "I think"."""
    at = match.start(1)
    after = text[at + 1 : at + 20]
    if text[at] in "Aa" and (word := re.match(r"\s([a-zà-ÿ]+)", after)):
        return not re.fullmatch(W["after_letter_a"], word[1])
    return text[at] == "I" and bool(re.match(rf"['’\s]\s*(?:{W['after_word_i']})\b", after))


def _statements_by_words(
    text: str, letters: str, choices: tuple[str, ...]
) -> list[tuple[int, str]]:
    """Statements by a choice's words: "the answer is Paris"."""
    longest: dict[int, str] = {}  # names come longest first: "New York" before "York"
    for choice, name in sorted(zip(choices, letters, strict=True), key=lambda pair: -len(pair[0])):
        choice_pattern = r"\s+".join(map(re.escape, plain(choice).split()))
        pattern = re.compile(
            rf"{ANSWER}[{MARKS}]*(?:{W['is']})?[{MARKS}]*"
            rf"(?:(?:the|der|die|das|le|la|el|il|o)\s+)?({choice_pattern})(?!\w)",
            re.I,
        )
        for match in pattern.finditer(text):
            if _believed(text, match, False):
                longest.setdefault(match.start(1), name)
    return list(longest.items())


def contains(text: str, words: str) -> bool:
    """Whether ``words`` stand in a text as words of their own: "cat" is not in "category"."""
    return re.search(rf"(?<!\w){re.escape(normal(words))}(?!\w)", normal(text)) is not None


def normal(text: str) -> str:
    """``text`` without what a comparison should not see."""
    text = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return text.strip(OUTER) or text  # an answer may be nothing but marks
