"""A verdict: a rule over evidence that could have come out otherwise.

How a chapter decides a claim. Give each measured or published number as `Evidence`: its value, what
it is in words, and the range of values that were plausible before anyone looked. A plain number
is fixed: what the claim itself states, or a limit that the text argues for. Never type evidence as
a literal, and let what cannot be known lead to "undecidable in part" by a rule::

    claims.decide(
        18,
        finding="Against dense models nine pairs in ten save so much, against sparse ones half.",
        rules={
            "supported": "dense >= least and sparse >= least",
            "partly": "dense >= least or sparse >= least",
        },
        otherwise="contradicted",
        dense=Evidence(0.90, "share of the pairs with a dense model that save 80%", 0, 1),
        sparse=Evidence(0.47, "share of the pairs with a sparse model that do", 0, 1),
        least=0.8,
    )

Labels and ranges may stand in ``data/claims.yml`` instead, under ``ranges`` and the numbers' names;
then the cell gives plain numbers. The first rule that holds names the verdict. The card prints
rule and evidence in words, and where the verdict flips when one piece of evidence moves and the
rest stays (`flips`). A test sweeps every stored rule over the ranges of its evidence (`reachable`)
and fails if a verdict that the rule names can't be reached, if no piece of evidence has a range, or
if a value lies outside its own.
"""

import ast
import bisect
import html
import math
import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from itertools import product
from numbers import Integral
from types import CodeType
from typing import Any

from sizewise import units

VERDICTS = {
    "supported": "the evidence agrees with it",
    "partly": "true in part, or only under conditions it leaves out",
    "misleading": "its figures may be right, its conclusion does not follow from them",
    "contradicted": "the evidence speaks against it",
    "undecidable in part": "what can be checked holds; for the rest there is no fact",
    "undecidable": "no arithmetic, published figure or measurement can decide it",
    "open": "a prediction whose time has not come",
    "not checked": "we searched and could not get the source",
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
SAMPLES = 20_000  # points of the sweep; enough for each verdict of a rule over six inputs


@dataclass(frozen=True)
class Evidence:
    """A number that a rule weighs.

    ``label`` says what it is, as a noun ("share of the pairs that save 80%"). ``low`` and ``high``
    bound the values that were plausible before anyone looked; two whole ends mean that only whole
    values are possible. ``unit`` follows the number ("%", "months"); "params" and "$" are written
    as the field writes them, "year" without a comma, and "yes/no" is for 1 and 0, whose label is
    then a statement.
    """

    value: float
    label: str
    low: float
    high: float
    unit: str = ""


@dataclass(frozen=True)
class Verdict:
    """What a cell decided: ``rules`` were tried in order on ``numbers``, the first true one won."""

    id: int
    verdict: str
    finding: str
    numbers: dict[str, float]
    rules: dict[str, str] = field(default_factory=dict)
    otherwise: str = ""
    evidence: dict[str, dict[str, Any]] = field(default_factory=dict)
    flips: list[dict[str, Any]] = field(default_factory=list)
    claim: str = ""  # its text and who makes it, for the card
    articles: tuple[str, ...] = ()

    def stored(self) -> dict[str, Any]:
        """What the notebook keeps: all but what the ledger says itself."""
        in_order = {  # notebooks are stored with sorted keys
            "rules": [list(rule) for rule in self.rules.items()],
            "evidence": [{"name": name} | about for name, about in self.evidence.items()],
        }
        content = asdict(self) | in_order
        return {name: content[name] for name in content if name not in ("claim", "articles")}

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, Any]:
        return {
            MIME: self.stored(),
            "text/html": card(self),
            "text/plain": f"claim {self.id}: {self.verdict}. {self.finding}",
        }


def weigh(
    number: int,
    claim: str,
    articles: tuple[str, ...],
    *,
    finding: str,
    rules: Mapping[str, str],
    otherwise: str,
    **numbers: float | Evidence,
) -> Verdict:
    """The verdict on claim ``number``: that of the first rule which ``numbers`` satisfy.

    A rule is a comparison in the names of ``numbers``, such as ``"0.9 <= ratio <= 1.1"``, with
    ``and``, ``or`` and ``not``.
    Raises ValueError for a verdict that is not one of `VERDICTS`, a number that is not finite, a
    range that does not hold its value, and a rule that names something not given.
    """
    for verdict in (*rules, otherwise):
        if verdict not in VERDICTS:
            raise units.unknown("verdict", verdict, VERDICTS)
    plain, evidence = {}, {}
    for name, number_or_evidence in numbers.items():
        weighed = number_or_evidence if isinstance(number_or_evidence, Evidence) else None
        value = weighed.value if weighed else number_or_evidence
        if not _is_finite(value):
            raise ValueError(f"claim {number}: {name} is {value!r}, not a finite number")
        plain[name] = _plain(value)
        if weighed:
            if not weighed.low <= value <= weighed.high:
                ends = f"{weighed.low:g} to {weighed.high:g}"
                raise ValueError(f"claim {number}: {name} is {value:g}, outside {ends}")
            evidence[name] = {
                "label": weighed.label,
                "low": _plain(weighed.low),
                "high": _plain(weighed.high),
                "unit": weighed.unit,
            }
    ordered = list(rules.items())
    return Verdict(
        number,
        outcome(ordered, otherwise, plain),
        finding,
        plain,
        dict(rules),
        otherwise,
        evidence,
        flips(ordered, otherwise, plain, evidence),
        claim,
        articles,
    )


Rules = list[tuple[str, str]]


def outcome(rules: Rules, otherwise: str, numbers: Mapping[str, float]) -> str:
    """The verdict of the first rule that ``numbers`` satisfy."""
    for verdict, rule in rules:
        try:
            names = {"__builtins__": {}} | FUNCTIONS | dict(numbers)
            if eval(_compiled(rule), names):  # noqa: S307 - nothing but GRAMMAR
                return verdict
        except Exception as error:
            raise ValueError(f"the rule {rule!r} cannot be applied: {error}") from error
    return otherwise


def flips(
    rules: Rules, otherwise: str, numbers: Mapping[str, float], evidence: Mapping[str, Mapping]
) -> list[dict[str, Any]]:
    """Where one piece of evidence alone would turn the verdict.

    A flip has the ``name`` of the evidence, the limit ``at``, its ``side`` and a ``verdict``.

    At most one for each piece of evidence, the nearest; those come first that are nearest in
    terms of their own range.
    """
    here = outcome(rules, otherwise, numbers)
    turns = []
    for name, about in evidence.items():

        def verdict_at(value, name=name):
            return outcome(rules, otherwise, {**numbers, name: value})

        points = _points(rules, numbers, about)
        place = bisect.bisect_left(points, numbers[name])
        for side, values in (("below", reversed(points[:place])), ("above", points[place:])):
            far = next((p for p in values if verdict_at(p) != here), None)
            if far is not None:
                at = _edge(verdict_at, numbers[name], far, here)
                beyond = verdict_at(at)  # a limit itself may still be on this side
                if abs(at) < 1e-9 * (about["high"] - about["low"]):
                    at = type(at)(0)  # the limit is nought: its neighbour is for computers
                distance = abs(at - numbers[name]) / (about["high"] - about["low"])
                flip = {"at": _plain(at), "side": side, "verdict": beyond}
                turns.append((distance, {"name": name} | flip))
    nearest: dict[str, dict] = {}
    for _, flip in sorted(turns, key=lambda turn: turn[0]):
        nearest.setdefault(flip["name"], flip)
    return list(nearest.values())


def reachable(
    rules: Rules, otherwise: str, numbers: Mapping[str, float], evidence: Mapping[str, Mapping]
) -> set[str]:
    """The verdicts that occur when the evidence takes its plausible values, the rest fixed."""
    names = list(evidence)
    points = [_points(rules, numbers, evidence[name]) for name in names]
    if math.prod(map(len, points)) <= SAMPLES:
        choices = product(*points)
    else:
        draw = random.Random(0)  # noqa: S311 - no secret; the same points on every machine
        choices = (tuple(map(draw.choice, points)) for _ in range(SAMPLES))
    return {
        outcome(rules, otherwise, {**numbers, **dict(zip(names, values, strict=True))})
        for values in choices
    }


def _points(rules: Rules, numbers: Mapping[str, float], about: Mapping) -> list[float]:
    """Values of one piece of evidence: a grid over its range, and both sides of each limit."""
    low, high = about["low"], about["high"]
    whole = isinstance(low, int) and isinstance(high, int)
    if whole and high - low <= 64:
        return list(range(low, high + 1))
    steps = 24
    values = {low + (high - low) * i / steps for i in range(steps + 1)}
    if low > 0 and high / low > 20:
        values |= {low * (high / low) ** (i / steps) for i in range(steps + 1)}
    limits = set(numbers.values())
    for _, rule in rules:
        limits |= {
            node.value for node in ast.walk(ast.parse(rule)) if isinstance(node, ast.Constant)
        }
    for limit in limits:
        values |= {limit, limit - (high - low) / 1000, limit + (high - low) / 1000}
    values = {min(max(value, low), high) for value in values}
    return sorted({round(value) for value in values} if whole else values)


def _edge(verdict_at, near: float, far: float, here: str) -> float:
    """The value between ``near`` and ``far`` at which the verdict is no longer ``here``."""
    whole = isinstance(near, int) and isinstance(far, int)
    for _ in range(60):
        middle = (near + far) / 2
        if whole:
            middle = round(middle)
            if middle in (near, far):
                break
        if verdict_at(middle) == here:
            near = middle
        else:
            far = middle
    return far


@cache
def _compiled(rule: str) -> CodeType:
    """A rule ready to be applied: arithmetic and comparisons as Python means them, no more."""
    tree = ast.parse(rule, mode="eval")
    for node in ast.walk(tree):
        if not isinstance(node, GRAMMAR):
            raise ValueError(f"a rule has no {type(node).__name__}")
    return compile(tree, "rule", "eval")


def _is_finite(value: Any) -> bool:
    try:
        return math.isfinite(value)
    except (TypeError, OverflowError):
        return False


def _plain(value: float) -> float | int:
    """A number that is written the same on every machine: 12 significant digits."""
    if isinstance(value, Integral):
        return int(value)
    return float(f"{float(value):.12g}")


# ------------------------------------------------------------------ in words


COMPARED = {
    ast.Lt: "is below",
    ast.LtE: "is at most",
    ast.Gt: "is above",
    ast.GtE: "is at least",
    ast.Eq: "is",
    ast.NotEq: "is not",
}
ARITHMETIC = {ast.Add: "+", ast.Sub: "−", ast.Mult: "×", ast.Div: "÷", ast.Pow: "to the power"}


def in_words(rule: str, numbers: Mapping[str, float], evidence: Mapping[str, Mapping]) -> str:
    """A rule as a sentence: evidence by its label, fixed numbers by their values."""

    def unit_of(*nodes) -> str:
        names = [node.id for node in nodes if isinstance(node, ast.Name)]
        return next((evidence[name]["unit"] for name in names if name in evidence), "")

    def render(node, unit: str = "") -> str:
        match node:
            case ast.Constant():
                return "always" if node.value is True else units.number(node.value, unit)
            case ast.Name() if node.id in evidence:
                return evidence[node.id]["label"]
            case ast.Name() if evidence and node.id in numbers:
                return units.number(numbers[node.id], unit)
            case ast.Name():
                return node.id.replace("_", " ")
            case ast.BoolOp():
                word = " and " if isinstance(node.op, ast.And) else ", or "
                return word.join(
                    f"({render(v)})" if isinstance(v, ast.BoolOp) else render(v)
                    for v in node.values
                )
            case ast.UnaryOp():
                inner = render(node.operand, unit)
                return f"not ({inner})" if isinstance(node.op, ast.Not) else f"−{inner}"
            case ast.BinOp():
                sides = (
                    f"({render(s)})" if isinstance(s, ast.BinOp) else render(s)
                    for s in (node.left, node.right)
                )
                return f" {ARITHMETIC[type(node.op)]} ".join(sides)
            case ast.Call():
                return f"{node.func.id} of ({', '.join(render(a, unit) for a in node.args)})"
            case ast.Compare(left, ops, (middle, right)) if len({type(op) for op in ops}) == 1:
                unit = unit_of(middle)
                falling = isinstance(ops[0], (ast.Gt, ast.GtE))
                low, high = (right, left) if falling else (left, right)
                ends = f"{render(low, unit)} and {render(high, unit)}"
                return f"{render(middle)} lies between {ends}"
            case ast.Compare(ast.Name() as name, (ast.Eq(),), (ast.Constant(value),)) if (
                unit_of(name) == "yes/no"
            ):
                return render(name) if value else f"it is not so that {render(name)}"
            case ast.Compare(left, ops, comparators):
                unit = unit_of(left, *comparators)
                text = render(left, unit)
                for op, right in zip(ops, comparators, strict=True):
                    text += f" {COMPARED[type(op)]} {render(right, unit)}"
                return text
        raise ValueError(f"a rule has no {type(node).__name__}")

    return render(ast.parse(rule, mode="eval").body)


def evidence_in_words(verdict: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The deciding numbers of a stored verdict as (label, number), in the cell's order.

    Numbers without a label are shown only if a rule names them.
    """
    numbers, evidence = verdict["numbers"], verdict.get("evidence", {})
    if evidence:
        return [
            (about["label"], units.number(numbers[n], about["unit"]))
            for n, about in evidence.items()
        ]
    named = {
        node.id
        for _, rule in verdict["rules"]
        for node in ast.walk(ast.parse(rule))
        if isinstance(node, ast.Name)
    }
    return [(n.replace("_", " "), units.number(v)) for n, v in numbers.items() if n in named]


def flips_in_words(verdict: Mapping[str, Any], most: int = 2) -> list[str]:
    """Where a stored verdict would turn, nearest first."""
    sentences = []
    for flip in verdict.get("flips", ())[:most]:
        about = verdict["evidence"][flip["name"]]
        limit = units.number(flip["at"], about["unit"])
        if about["unit"] == "yes/no":
            where = f"the answer to “{about['label']}” were {limit}"
        elif isinstance(flip["at"], int):
            where = f"{about['label']} {'rose' if flip['side'] == 'above' else 'fell'} to {limit}"
        else:
            where = f"{about['label']} went {flip['side']} {limit}"
        sentences.append(f"{flip['verdict']} if {where}")
    return sentences


def card(verdict: Verdict) -> str:
    """A verdict as a page shows it: claim, finding, evidence, rule, and where it flips."""
    stored = asdict(verdict) | {"rules": list(verdict.rules.items())}
    rules = "; ".join(
        f"<em>{name}</em> if {html.escape(in_words(rule, verdict.numbers, verdict.evidence))}"
        for name, rule in stored["rules"]
    )
    rules = f"{rules}; otherwise <em>{verdict.otherwise}</em>" if rules else verdict.otherwise
    weighed = "; ".join(
        f"{html.escape(label)}: <strong>{number}</strong>"
        for label, number in evidence_in_words(stored)
    )
    turns = "; ".join(map(html.escape, flips_in_words(stored)))
    lines = [
        ("claim", html.escape(verdict.claim)),
        ("finding", html.escape(verdict.finding)),
        ("rule", f"Evidence: {weighed}." if weighed else ""),
        ("rule", f"Rule: {rules}."),
        ("rule", f"It would be {turns}." if turns else ""),
    ]
    mark = verdict.verdict.replace(" ", "-")
    return (
        f'<div class="sw-verdict sw-verdict--{mark}" id="claim-{verdict.id}">\n'
        f'<p class="sw-verdict__head"><span class="sw-verdict__mark">{verdict.verdict}</span> '
        f"Claim {verdict.id} ({', '.join(verdict.articles)})</p>\n"
        + "\n".join(f'<p class="sw-verdict__{kind}">{text}</p>' for kind, text in lines if text)
        + "\n</div>"
    )
