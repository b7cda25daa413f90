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
        dense=Evidence(0.90, "share of the pairs with a dense model that save 80%", 0.0, 1.0),
        sparse=Evidence(0.47, "share of the pairs with a sparse model that do", 0.0, 1.0),
        least=0.8,
    )

Labels and ranges may stand in ``data/claims.yml`` instead, under ``ranges`` and the numbers' names;
then the cell gives plain numbers. The first rule that holds names the verdict. The card prints
rule and evidence in words, and where the verdict flips when one piece of evidence moves and the
rest stays (`flips`). A test sweeps every stored rule over the ranges of its evidence and fails if a
verdict that the rule names can't be reached, or if no piece of evidence has a range.
"""

import ast
import bisect
import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
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
FUNCTIONS = {"__builtins__": {}, "abs": abs, "min": min, "max": max}  # what a rule may call


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
    rules: list[tuple[str, str]]
    otherwise: str
    evidence: dict[str, dict[str, Any]]
    flips: list[dict[str, Any]]
    claim: str  # its text and who makes it, for the card
    articles: tuple[str, ...]

    def stored(self) -> dict[str, Any]:
        """What the notebook keeps, whose keys are sorted: all but what the ledger says itself."""
        content = asdict(self)
        del content["claim"], content["articles"]
        lists = {
            "rules": list(map(list, self.rules)),
            "evidence": [{"name": name} | about for name, about in self.evidence.items()],
        }
        return content | lists

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, Any]:
        return {
            MIME: self.stored(),
            "text/html": card(self),
            "text/plain": f"claim {self.id}: {self.verdict}. {self.finding}",
        }


Rules = list[tuple[str, str]]


def outcome(rules: Rules, otherwise: str, numbers: Mapping[str, float]) -> str:
    """The verdict of the first rule that ``numbers`` satisfy."""
    for verdict, rule in rules:
        try:
            if eval(compiled(rule), FUNCTIONS | dict(numbers)):  # noqa: S307 - our own rules
                return verdict
        except Exception as error:
            raise ValueError(f"the rule {rule!r} cannot be applied: {error}") from error
    return otherwise


def flips(
    rules: Rules, otherwise: str, numbers: Mapping[str, float], evidence: Mapping[str, Mapping]
) -> list[dict[str, Any]]:
    """Where one piece of evidence alone would turn the verdict.

    A flip has the ``name`` of the evidence, the limit ``at``, its ``side`` and a ``verdict``. At
    most one for each piece of evidence, the nearest; first those nearest in terms of their range.
    """
    current = outcome(rules, otherwise, numbers)
    turns = []
    for name, about in evidence.items():

        def verdict_at(value, name=name):
            return outcome(rules, otherwise, {**numbers, name: value})

        width, grid = about["high"] - about["low"], points(rules, numbers, about)
        index = bisect.bisect_left(grid, numbers[name])
        for side, values in (("below", reversed(grid[:index])), ("above", grid[index:])):
            far = next((value for value in values if verdict_at(value) != current), None)
            if far is None:
                continue
            at = edge(verdict_at, numbers[name], far, current)
            verdict = verdict_at(at)  # a limit itself may still be on this side
            if abs(at) < 1e-9 * width:
                at = type(at)(0)  # the limit is nought: its neighbour is for computers
            flip = {"name": name, "at": plain(at), "side": side, "verdict": verdict}
            turns.append((abs(at - numbers[name]) / width, flip))
    nearest: dict[str, dict] = {}
    for _, flip in sorted(turns, key=lambda turn: turn[0]):
        nearest.setdefault(flip["name"], flip)
    return list(nearest.values())


def points(rules: Rules, numbers: Mapping[str, float], about: Mapping) -> list[float]:
    """Values of one piece of evidence: a grid over its range, and both sides of each limit."""
    low, high = about["low"], about["high"]
    integers = isinstance(low, int) and isinstance(high, int)
    if integers and high - low <= 64:
        return list(range(low, high + 1))
    import numpy as np  # here, since listing claims must not wait for it

    values = np.linspace(low, high, 25).tolist()
    if low > 0 and high / low > 20:
        values += np.geomspace(low, high, 25).tolist()
    nodes = [node for _, rule in rules for node in ast.walk(ast.parse(rule))]
    limits = [node.value for node in nodes if isinstance(node, ast.Constant)]
    for limit in (*numbers.values(), *limits):
        values += [limit, limit - (high - low) / 1000, limit + (high - low) / 1000]
    values = [min(max(value, low), high) for value in values]
    return sorted({(round if integers else float)(value) for value in values})


def edge(verdict_at, near: float, far: float, verdict: str) -> float:
    """The value between ``near`` and ``far`` at which the outcome is no longer ``verdict``."""
    integers = isinstance(near, int) and isinstance(far, int)
    for _ in range(60):
        middle = (near + far) / 2
        if integers:
            middle = round(middle)
            if middle in (near, far):
                break
        if verdict_at(middle) == verdict:
            near = middle
        else:
            far = middle
    return far


@cache
def compiled(rule: str) -> CodeType:
    """A rule ready to be applied: arithmetic and comparisons as Python means them."""
    return compile(rule, "rule", "eval")


def is_finite(value: Any) -> bool:
    """Whether a value is a number, of any library, and a finite one."""
    try:
        return math.isfinite(value)
    except (TypeError, OverflowError):
        return False


def plain(value: float) -> float | int:
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
ARITHMETIC = {ast.Add: "+", ast.Sub: "−", ast.Mult: "×", ast.Div: "÷"}


def in_words(rule: str, numbers: Mapping[str, float], evidence: Mapping[str, Mapping]) -> str:
    """A rule as a sentence: evidence by its label, fixed numbers by their values."""

    def unit_of(*nodes) -> str:
        names = [node.id for node in nodes if isinstance(node, ast.Name)]
        return next((evidence[name]["unit"] for name in names if name in evidence), "")

    def within(node, kind: type) -> str:
        return f"({render(node)})" if isinstance(node, kind) else render(node)

    def render(node, unit: str = "") -> str:
        match node:
            case ast.Constant():
                return "always" if node.value is True else units.number(node.value, unit)
            case ast.Name() if node.id in evidence:
                return evidence[node.id]["label"]
            case ast.Name():
                return units.number(numbers[node.id], unit)
            case ast.BoolOp():
                word = " and " if isinstance(node.op, ast.And) else ", or "
                return word.join(within(value, ast.BoolOp) for value in node.values)
            case ast.UnaryOp(ast.Not()):
                return f"not ({render(node.operand, unit)})"
            case ast.BinOp():
                sides = (within(side, ast.BinOp) for side in (node.left, node.right))
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


def evidence_in_words(
    numbers: Mapping[str, float], evidence: Mapping[str, Mapping]
) -> list[tuple[str, str]]:
    """The deciding numbers as (label, number), in the cell's order."""
    return [
        (about["label"], units.number(numbers[name], about["unit"]))
        for name, about in evidence.items()
    ]


def flips_in_words(
    flips: Sequence[Mapping], evidence: Mapping[str, Mapping], count: int = 2
) -> list[str]:
    """Where a verdict would turn, nearest first."""
    sentences = []
    for flip in flips[:count]:
        about = evidence[flip["name"]]
        label, unit = about["label"], about["unit"]
        limit, above = units.number(flip["at"], unit), flip["side"] == "above"
        if unit == "yes/no":
            where = f"the answer to “{label}” were {limit}"
        elif flip["at"] in (about.get("low"), about.get("high")):  # nothing lies beyond
            where = f"{label} were {limit}"
        elif isinstance(flip["at"], int):
            where = f"{label} {'rose' if above else 'fell'} to {limit}"
        else:
            where = f"{label} went {flip['side']} {limit}"
        sentences.append(f"{flip['verdict']} if {where}")
    return sentences


def card(verdict: Verdict) -> str:
    """A verdict as a page shows it: claim, finding, evidence, rule, and where it flips."""
    numbers, evidence = verdict.numbers, verdict.evidence
    rules = [
        f"<em>{name}</em> if {html.escape(in_words(rule, numbers, evidence))}"
        for name, rule in verdict.rules
    ]
    rules.append(f"otherwise <em>{verdict.otherwise}</em>")
    weighed = "; ".join(
        f"{html.escape(label)}: <strong>{number}</strong>"
        for label, number in evidence_in_words(numbers, evidence)
    )
    turns = "; ".join(map(html.escape, flips_in_words(verdict.flips, evidence)))
    lines = [
        ("claim", html.escape(verdict.claim)),
        ("finding", html.escape(verdict.finding)),
        ("rule", f"Evidence: {weighed}."),
        ("rule", f"Rule: {'; '.join(rules)}."),
        ("rule", f"It would be {turns}." if turns else ""),
    ]
    return (
        f'<div class="sw-verdict sw-verdict--{verdict.verdict.replace(" ", "-")}" '
        f'id="claim-{verdict.id}">\n'
        f'<p class="sw-verdict__head"><span class="sw-verdict__mark">{verdict.verdict}</span> '
        f"Claim {verdict.id} ({', '.join(verdict.articles)})</p>\n"
        + "\n".join(f'<p class="sw-verdict__{kind}">{text}</p>' for kind, text in lines if text)
        + "\n</div>"
    )
