"""The ledger: what is claimed, who answers for it, and the verdict that a cell computed.

``data/claims.yml`` holds the claims and no verdicts. A chapter calls `decide`, which applies
rules to numbers; its output is stored in the chapter's notebook, and `verdicts` collects those.
"""

import ast
import html
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from numbers import Integral
from pathlib import Path
from typing import Any

from sizewise import paths, units

from . import notebook

VERDICTS = {
    "supported": "the evidence agrees with it",
    "partly": "true in part, or only under conditions it leaves out",
    "misleading": "its figures may be right, its conclusion does not follow from them",
    "contradicted": "the evidence speaks against it",
    "undecidable": "no arithmetic, published figure or measurement can decide it",
}
MIME = "application/vnd.sizewise.verdict+json"
FUNCTIONS = {"abs": abs, "min": min, "max": max}  # what a rule may call
GRAMMAR = (
    ast.Expression,
    ast.Compare,
    ast.cmpop,
    ast.BoolOp,
    ast.boolop,
    ast.UnaryOp,
    ast.unaryop,
    ast.BinOp,
    ast.operator,
    ast.Call,
    ast.Name,
    ast.Load,
    ast.Constant,
)


@dataclass(frozen=True)
class Claim:
    """One claim of the articles, in our words. It has a chapter or a reason, never both."""

    id: int
    articles: tuple[str, ...]
    kind: str
    claim: str
    chapter: str | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Verdict:
    """What a cell decided: ``rules`` were tried in order on ``numbers``, the first true one won."""

    id: int
    verdict: str
    finding: str
    numbers: dict[str, float]
    rules: dict[str, str] = field(default_factory=dict)
    otherwise: str = ""

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, Any]:
        in_order = [list(rule) for rule in self.rules.items()]  # notebooks are stored sorted
        return {
            MIME: asdict(self) | {"rules": in_order},
            "text/html": _card(self),
            "text/plain": f"claim {self.id}: {self.verdict}. {self.finding}",
        }


@cache
def _file() -> dict[str, Any]:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    source = (paths.root() / "data" / "claims.yml").read_text(encoding="utf-8")
    return yaml.load(source, Loader=loader)  # noqa: S506 - a safe loader


def articles() -> dict[str, dict[str, str]]:
    """The articles by key (S0 and so on), each with its title and what it argues."""
    return _file()["articles"]


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
    **numbers: float,
) -> Verdict:
    """Decide claim ``number``: the first rule that ``numbers`` satisfy names the verdict.

    A rule is a comparison in the names of ``numbers``, such as ``"0.9 <= ratio <= 1.1"``, with
    ``and``, ``or`` and ``not``. The page shows rules and numbers, so a reader sees what would
    have led elsewhere.
    Raises ValueError for a claim that is not in the ledger, a verdict that is not one of
    `VERDICTS`, a number that is not finite, and a rule that names something not given.
    """
    if number not in ledger():
        raise ValueError(f"no claim {number} in data/claims.yml")
    for verdict in (*rules, otherwise):
        if verdict not in VERDICTS:
            raise units.unknown("verdict", verdict, VERDICTS)
    for name, value in numbers.items():
        if not _is_finite(value):
            raise ValueError(f"claim {number}: {name} is {value!r}, not a finite number")
    won = next((v for v, rule in rules.items() if _holds(rule, numbers)), otherwise)
    plain = {name: _plain(value) for name, value in numbers.items()}
    return Verdict(number, won, finding, plain, dict(rules), otherwise)


def verdicts(chapter: str | None = None) -> dict[int, dict[str, Any]]:
    """The verdicts stored in the chapters' outputs, by claim, each with its ``chapter``.

    Raises ValueError if two cells decide one claim, or a chapter decides one it does not own.
    """
    found: dict[int, dict[str, Any]] = {}
    for name, file in paths.chapters().items():
        if chapter not in (None, name) or not file.exists():
            continue
        for one in _stored(file):
            if one["id"] not in ledger():
                raise ValueError(f"{name} decides claim {one['id']}, not in data/claims.yml")
            owner = ledger()[one["id"]].chapter
            if owner != name:
                raise ValueError(f"{name} decides claim {one['id']}, which {owner} owns")
            if one["id"] in found:
                raise ValueError(f"claim {one['id']} is decided twice in {name}")
            found[one["id"]] = {**one, "chapter": name}
    return found


def table() -> list[dict[str, Any]]:
    """The whole ledger, one row a claim: its verdict, or the reason why it has none.

    ``numbers`` are those that the rules of the deciding cell compare, in the cell's order.
    """
    decided = verdicts()
    rows = []
    for claim in ledger().values():
        one = decided.get(claim.id, {})
        reason = claim.reason
        if claim.chapter and not one:
            reason = f"open: the chapter {claim.chapter} has not decided it yet"
        rows.append(
            {
                "id": claim.id,
                "article": ", ".join(claim.articles),
                "kind": claim.kind,
                "claim": claim.claim,
                "chapter": claim.chapter,
                "verdict": one.get("verdict") or ("undecidable" if claim.reason else None),
                "finding": one.get("finding"),
                "reason": reason,
                "numbers": _compared(one),
            }
        )
    return rows


def _compared(one: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a stored verdict that its rules name; all of them if it has no rule."""
    numbers, rules = one.get("numbers", {}), [rule for _, rule in one.get("rules", ())]
    named = {
        node.id for r in rules for node in ast.walk(ast.parse(r)) if isinstance(node, ast.Name)
    }
    return {name: value for name, value in numbers.items() if not rules or name in named}


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except (TypeError, OverflowError):
        return False


def _holds(rule: str, numbers: Mapping[str, float]) -> bool:
    """Whether a rule holds: arithmetic and comparisons with Python's meaning, nothing else."""
    try:
        tree = ast.parse(rule, mode="eval")
        for node in ast.walk(tree):
            if not isinstance(node, GRAMMAR):
                raise ValueError(f"a rule has no {type(node).__name__}")
        names = {"__builtins__": {}} | FUNCTIONS | dict(numbers)
        return bool(eval(compile(tree, "rule", "eval"), names))  # noqa: S307 - GRAMMAR only
    except Exception as error:
        raise ValueError(f"the rule {rule!r} cannot be applied: {error}") from error


def _plain(value: float) -> float | int:
    """A number that is written the same on every machine: 12 significant digits."""
    if isinstance(value, Integral):
        return int(value)
    return float(f"{float(value):.12g}")


def _stored(file: Path):
    for cell in notebook.read(file)["cells"]:
        for output in cell.get("outputs", ()):
            if MIME in output.get("data", {}):
                yield output["data"][MIME]


def _card(one: Verdict) -> str:
    claim = ledger()[one.id]
    rules = "; ".join(
        f"{verdict} if <code>{html.escape(r)}</code>" for verdict, r in one.rules.items()
    )
    rules = f"{rules}; otherwise {one.otherwise}" if rules else one.otherwise
    given = ", ".join(
        f"<code>{name}</code> = {shown(value)}" for name, value in one.numbers.items()
    )
    return (
        f'<div class="sw-verdict sw-verdict--{one.verdict}" id="claim-{one.id}">\n'
        f'<p class="sw-verdict__head"><span class="sw-verdict__mark">{one.verdict}</span> '
        f"Claim {one.id} ({', '.join(claim.articles)})</p>\n"
        f'<p class="sw-verdict__claim">{html.escape(claim.claim)}</p>\n'
        f'<p class="sw-verdict__finding">{html.escape(one.finding)}</p>\n'
        f'<p class="sw-verdict__rule">{given}. Rule: {rules}.</p>\n'
        "</div>"
    )


def shown(value: float) -> str:
    """A deciding number as pages show it: whole, or with four digits."""
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"
