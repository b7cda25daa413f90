"""The ledger: what is claimed, who answers for it, and the verdict that a cell computed.

``data/claims.yml`` holds the claims and no verdicts. A chapter calls `decide`, which applies rules
to numbers (`verdicts` says how to state them); its output is stored in the chapter's notebook, and
`stored` collects those. A claim that facts alone decide names them in the same file and belongs to
the chapter ``ledger``, which calls `decide_by_facts`.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import date
from functools import cache
from typing import Any

from sizewise import paths, units
from sizewise.data import records

from . import notebook, verdicts
from .verdicts import MIME, VERDICTS, Evidence, Verdict

COPIED = ("id", "kind", "topic", "claim", "understood", "chapter", "needs", "searched")
GREYS = ("undecidable", "open", "not checked")  # verdicts that no cell has to compute


@dataclass(frozen=True)
class Claim:
    """One claim of the articles, in our words.

    It has a ``chapter`` that decides it, or a ``status`` of `GREYS` with a ``reason``. Then
    ``needs`` says which fact would settle an undecidable claim, ``until`` the day on which an open
    one falls due, and ``searched`` where an unchecked one was looked for in vain. ``facts`` holds
    evidence and rules where published facts alone decide; ``ranges`` holds the labels and plausible
    ranges of numbers that a chapter computes. ``understood`` says how we read a word
    that the verdict hangs on.
    """

    id: int
    articles: tuple[str, ...]
    kind: str
    topic: str
    claim: str
    understood: str | None = None
    chapter: str | None = None
    status: str | None = None
    reason: str | None = None
    needs: str | None = None
    until: date | None = None
    searched: str | None = None
    facts: Mapping[str, Any] | None = None
    ranges: Mapping[str, Any] | None = None


@cache
def _file() -> dict[str, Any]:
    return records.read_yaml(paths.root() / "data" / "claims.yml")


def articles() -> dict[str, dict[str, Any]]:
    """The articles by key (S0 and so on): title, what it argues, and what is known of it."""
    return _file()["articles"]


def topics() -> dict[str, str]:
    """What the claims are about: the title of each topic by its key."""
    return _file()["topics"]


@cache
def ledger() -> dict[int, Claim]:
    """Every claim by number."""
    return {
        row["id"]: Claim(**{**row, "articles": tuple(row["articles"])}) for row in _file()["claims"]
    }


def decide(
    number: int,
    *,
    finding: str,
    rules: Mapping[str, str],
    otherwise: str,
    **numbers: float | Evidence,
) -> Verdict:
    """Decide claim ``number``: the first rule that ``numbers`` satisfy names the verdict.

    A rule is a comparison in the names of ``numbers``, such as ``"0.9 <= ratio <= 1.1"``, with
    ``and``, ``or`` and ``not``. A plain number for which the ledger states a range counts as
    `Evidence` with that range.
    Raises ValueError for a claim that is not in the ledger, a verdict that is not one of
    `VERDICTS`, a number that is not finite, a range that does not hold its value, or whose ends
    are whole and its value not, and a rule that names something not given.
    """
    if number not in ledger():
        raise ValueError(f"no claim {number} in data/claims.yml")
    for verdict in (*rules, otherwise):
        if verdict not in VERDICTS:
            raise units.unknown("verdict", verdict, VERDICTS)
    claim = ledger()[number]
    plain, evidence = {}, {}
    for name, value in numbers.items():
        if name in (claim.ranges or {}) and not isinstance(value, Evidence):
            value = Evidence(value, **claim.ranges[name])
        if isinstance(value, Evidence):
            about = asdict(value)
            value = about.pop("value")
            if verdicts.is_finite(value) and not about["low"] <= value <= about["high"]:
                ends = f"{about['low']:g} to {about['high']:g}"
                raise ValueError(f"claim {number}: {name} is {value:g}, outside {ends}")
            ends = {end: verdicts.plain(about[end]) for end in ("low", "high")}
            whole = all(isinstance(end, int) for end in ends.values())
            if whole and verdicts.is_finite(value) and value != int(value):
                raise ValueError(f"claim {number}: {name} is {value:g}, not a whole number")
            evidence[name] = about | ends
        if not verdicts.is_finite(value):
            raise ValueError(f"claim {number}: {name} is {value!r}, not a finite number")
        plain[name] = verdicts.plain(value)
    ordered = list(rules.items())
    return Verdict(
        number,
        verdicts.outcome(ordered, otherwise, plain),
        finding,
        plain,
        ordered,
        otherwise,
        evidence,
        verdicts.flips(ordered, otherwise, plain, evidence),
        claim.claim,
        claim.articles,
    )


def decide_by_facts(number: int, **computed: float) -> Verdict:
    """Decide a claim by the evidence and the rules that its entry in the ledger names.

    A number is a published fact (``reports/open-lag-2026/lag``), or ``computed`` here; without
    a label and a range it is fixed. The finding may name numbers in braces.
    Raises ValueError for a claim without ``facts``, for a fact that is not there, and for a
    computed number that the entry does not ask for.
    """
    claim = ledger()[number]
    if claim.facts is None:
        raise ValueError(f"claim {number} names no facts to decide it by")
    numbers: dict[str, float | Evidence] = dict(claim.facts.get("fixed", {}))
    for name, about in claim.facts["evidence"].items():
        about = dict(about)
        source = about.pop("fact", None)
        value = fact(source) if source else computed.pop(name)
        numbers[name] = Evidence(value, **about) if about else value
    if computed:
        raise ValueError(f"claim {number} has no evidence named {', '.join(computed)}")
    texts = {name: _in_text(value) for name, value in numbers.items()}
    finding = claim.facts["finding"].format(**texts).strip()
    rules, otherwise = claim.facts["rules"], claim.facts["otherwise"]
    return decide(number, finding=finding, rules=rules, otherwise=otherwise, **numbers)


def _in_text(number: float | Evidence) -> str:
    """A number for the sentence of a finding, which says its unit itself unless it is a sign."""
    if not isinstance(number, Evidence):
        return units.number(number)
    signs = ("%", "$", "params", "year")
    return units.number(number.value, number.unit if number.unit in signs else "")


def decide_all_by_facts() -> list[Verdict]:
    """The verdicts on all claims whose entries name a published fact for every number."""
    return [
        decide_by_facts(number)
        for number, claim in ledger().items()
        if claim.facts and all("fact" in about for about in claim.facts["evidence"].values())
    ]


def verdict_of(number: int) -> str | None:
    """The verdict that a chapter's stored output holds for a claim; None before it has one."""
    return stored(ledger()[number].chapter).get(number, {}).get("verdict")


def sources(claim: Claim) -> list[str]:
    """What was read to decide a claim by facts, as keys of ``book/references.bib``."""
    if claim.facts is None:
        return []
    keys = list(claim.facts.get("sources", ()))
    for about in claim.facts["evidence"].values():
        if "fact" in about:
            row, figure, _ = _figure(about["fact"])
            keys.append(figure.get("source", row["source"]))
    return list(dict.fromkeys(keys))


def fact(path: str) -> float:
    """A published number: ``FILE/ENTRY/FIGURE``, or ``FILE/ENTRY/FIGURE.low`` for an end.

    Raises ValueError, with the nearest name, for a place that is not there.
    """
    _, figure, end = _figure(path)
    return figure[end]


def _figure(path: str) -> tuple[dict[str, Any], dict[str, Any], str]:
    """The entry and the figure that a path of `fact` names, and which number of it."""
    file, entry, name = path.split("/")
    name, end = re.fullmatch(r"(.*?)(?:\.(low|high))?", name).groups(default="value")
    entries = {row["name"]: row for row in records.facts(file)}
    if entry not in entries:
        raise units.unknown(f"entry of {file}", entry, entries)
    figures = entries[entry]["figures"]
    if name not in figures:
        raise units.unknown(f"figure of {entry}", name, figures)
    return entries[entry], figures[name], end


def stored(chapter: str | None = None) -> dict[int, dict[str, Any]]:
    """The verdicts stored in the chapters' outputs, by claim, each with its ``chapter``.

    Raises ValueError if two cells decide one claim, or a chapter decides one it does not own.
    """
    decided: dict[int, dict[str, Any]] = {}
    for name, file in paths.chapters().items():
        if chapter not in (None, name) or not file.exists():
            continue
        outputs = (o for cell in notebook.read(file)["cells"] for o in cell.get("outputs", ()))
        for verdict in (o["data"][MIME] for o in outputs if MIME in o.get("data", {})):
            number = verdict["id"]
            if number not in ledger():
                raise ValueError(f"{name} decides claim {number}, not in data/claims.yml")
            owner = ledger()[number].chapter
            if owner != name:
                raise ValueError(f"{name} decides claim {number}, which {owner} owns")
            if number in decided:
                raise ValueError(f"claim {number} is decided twice in {name}")
            evidence = {about["name"]: about for about in verdict.get("evidence", ())}
            decided[number] = {**verdict, "evidence": evidence, "chapter": name}
    return decided


def table(fresh: Iterable[Verdict] = ()) -> list[dict[str, Any]]:
    """The whole ledger, one row a claim: its verdict, and what it rests on or why there is none.

    ``fresh`` are verdicts of the running chapter, whose stored outputs are of its last run.
    ``verdict`` is None where a chapter has still to decide.
    """
    decided = stored() | {
        verdict.id: asdict(verdict) | {"chapter": ledger()[verdict.id].chapter} for verdict in fresh
    }
    return [_row(claim, decided.get(claim.id)) for claim in ledger().values()]


def _row(claim: Claim, verdict: dict[str, Any] | None) -> dict[str, Any]:
    reason = claim.reason
    if claim.chapter and not verdict:
        reason = f"The chapter {claim.chapter} has not decided it yet."
    row = {name: getattr(claim, name) for name in COPIED} | {
        "article": ", ".join(claim.articles),
        "sources": sources(claim),
        "reason": reason,
        "until": claim.until.isoformat() if claim.until else None,
    }
    if not verdict:
        return row | {"verdict": claim.status, "finding": None, "evidence": [], "flips": []}
    numbers, flips, evidence = (verdict.get(key, {}) for key in ("numbers", "flips", "evidence"))
    return row | {
        "verdict": verdict["verdict"],
        "finding": verdict["finding"],
        "evidence": verdicts.evidence_in_words(numbers, evidence),
        "flips": verdicts.flips_in_words(list(flips), evidence),
    }
