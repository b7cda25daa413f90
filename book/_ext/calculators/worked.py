"""The value of a calculator in Python: what the page shows before its script has run."""

import math
import re
from decimal import ROUND_HALF_UP, Decimal
from functools import cache

from sizewise.costs import deployment

from .parts import OWN, Calculator
from .tables import Cell
from .tracing import Formula

LETTERS = {"": 1, "k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9, "t": 1e12, "p": 1e15}
PREFIXES = (
    ("T", 1e12),
    ("G", 1e9),
    ("M", 1e6),
    ("k", 1e3),
    ("", 1),
    ("m", 1e-3),
    ("µ", 1e-6),
    ("n", 1e-9),
)
TIMES = (("years", 365.25 * 86400), ("days", 86400), ("hours", 3600), ("minutes", 60))


def number(words: str) -> float:
    """``70B``, ``32k``, ``128Ki``, ``1e13``, ``90%`` as a number. Raises ValueError else."""
    match = re.fullmatch(
        r"([\d.]+(?:e[+-]?\d+)?)\s*(?:([kmbgtp]?)(i?)|(%))", words.strip().replace(",", ""), re.I
    )
    if not match:
        raise ValueError(f"{words!r} is no number such as 70B, 32k or 1e13")
    digits, letter, binary, percent = match.groups()
    factor = LETTERS[(letter or "").lower()]
    if binary:
        factor = 1024 ** (round(math.log10(factor)) // 3)
    return float(digits) * (0.01 if percent else factor)


def defaults(calculator: Calculator) -> dict:
    """Every field's default: the name of a choice, a number, or None where nothing is typed."""
    values = {}
    for field in calculator.fields:
        if field.kind == "choice":
            values[field.name] = field.default
        else:
            typed = number(field.default) if field.default else None
            values[field.name] = int(typed) if typed and field.kind == "whole" else typed
    return values


def evaluate(calculator: Calculator, inputs: dict) -> dict:
    """Every value for ``inputs`` (other fields are at their defaults), and rows under theirs.

    Raises ValueError with the library's message for what it refuses.
    """
    case = defaults(calculator) | inputs
    scope = _steps(calculator, case)
    for limit in calculator.limits:
        scope[limit.name] = _largest(calculator, case, limit, scope)
    if calculator.forecast:
        scope |= calculator.forecast(case, scope)
    return scope


def beside(calculator: Calculator, inputs: dict) -> dict[str, dict]:
    """The values of a case with each entry of the choice that is shown side by side."""
    entries = calculator.tables[_field(calculator, calculator.beside).table]()
    return {
        name: evaluate(calculator, inputs | {calculator.beside: name})
        for name in entries
        if name != OWN
    }


def curve(calculator: Calculator, inputs: dict) -> dict[str, dict]:
    """The values of a case at each point of its curve; none where the library refuses it."""
    cases = {}
    for point in calculator.curve.points:
        try:
            cases[point] = evaluate(calculator, inputs | {calculator.curve.field: _typed(point)})
        except ValueError:
            cases[point] = {}
    return cases


def _typed(point: str) -> float:
    value = number(point)
    return int(value) if value == int(value) else value


def _field(calculator: Calculator, name: str):
    return next(field for field in calculator.fields if field.name == name)


def _largest(calculator: Calculator, case: dict, limit, scope: dict) -> int | None:
    """The largest value of a field with which the case still needs no more than its devices."""

    def holds(value: int) -> bool:
        scope_of_value = _steps(calculator, case | {limit.field: value}, until="needed")
        return scope_of_value["needed"] <= scope["devices"]

    size = deployment.last_holding(holds, limit.most)
    bound = scope.get(limit.bound)
    return min(size, bound) if size and bound else size


def _steps(calculator: Calculator, case: dict, until: str = "") -> dict:
    """The steps' values for every field's value, those after ``until`` left out."""
    scope = {calculator.rows: calculator.tables[calculator.rows]()} if calculator.rows else {}
    for field in calculator.fields:
        if field.kind == "choice":
            scope |= calculator.tables[field.table]()[case[field.name]]
        elif not field.when or case[field.when] == OWN:
            value = case[field.name]
            names = field.sets or (field.name,)
            if value is None and field.otherwise:
                value = case[field.otherwise]
            if value is not None:
                values = value if isinstance(value, tuple | list) else (value,) * len(names)
                scope |= dict(zip(names, values, strict=True))
    if calculator.crossed:
        table, (row, column), names = calculator.crossed
        scope |= zip(names, table().get(case[row], {}).get(case[column], ()), strict=False)
    scope = _opened(scope, {})
    for step in calculator.steps:
        _apply(step, scope, step.over.split(".") if step.over else [])
        if step.name == until:
            break
    return scope


def _opened(scope: dict, outer: dict) -> dict:
    """A scope with cells computed and rows opened; ``outer`` values are seen from inside."""
    seen = outer | scope
    values = {}
    for name, value in scope.items():
        if isinstance(value, Cell):
            values[name] = value_of(value.formula, seen)
        elif isinstance(value, list):
            values[name] = [_opened(row, seen) for row in value]
        elif isinstance(value, dict):
            values[name] = [_opened(row | {"name": key}, seen) for key, row in value.items()]
        else:
            values[name] = value
    return values


def _apply(step, scope: dict, path: list[str], outer: dict | None = None) -> None:
    outer = outer or {}
    if step.given and scope.get(step.name) is not None:
        return
    if not path:
        formula = step.formulas.get(scope.get("form", ""), None) or step.formulas.get("")
        scope[step.name] = value_of(formula, outer | scope) if formula else None
        return
    rows = scope[path[0]]
    if rows is None:  # not known, so neither is their sum
        scope[step.name] = None
        return
    for row in rows:
        _apply(step, row, path[1:], outer | scope)
    if step.total and len(path) == 1:
        scope[step.name] = sum(row.get("count", 1) * row[step.name] for row in rows)


def value_of(formula: Formula, scope: dict):
    """A formula's value; None if a value that it needs is not known."""
    for check in formula.checks:
        names = sorted(symbol.name for symbol in check.condition.free_symbols)
        if all(scope.get(name) is not None for name in names) and _function(
            check.condition, tuple(names)
        )(*(scope[name] for name in names)):
            raise ValueError(check.message.format(**scope))
    values = [scope.get(name) for name in formula.needs]
    if None in values:
        return None
    return _function(formula.expression, tuple(formula.needs))(*values)


@cache
def _function(expression, names: tuple[str, ...]):
    import sympy

    symbols = {symbol.name: symbol for symbol in expression.free_symbols}
    return sympy.lambdify([symbols[name] for name in names], expression, modules="math")


# --- as the page writes it; calculators.js writes alike


def answered(calculator: Calculator, inputs: dict, scope: dict) -> str:
    """The calculator's sentence for the chosen ``inputs`` and their values; empty without one."""
    answer = calculator.answer
    words = answer and answer.words.get(scope.get(answer.value))
    if not words:
        return ""
    inputs = defaults(calculator) | inputs

    def fill(match: re.Match) -> str:
        name = match[1]
        chosen = inputs.get(name)
        if not isinstance(chosen, str):
            return digits(scope[name])
        return answer.own[name] if chosen == OWN else chosen.replace("-", " ")  # RTX-4090

    return re.sub(r"\{(\w+)\}", fill, words)


def written(values: list, unit: str, missing: str) -> str:
    """One value, or a range of two, with its unit."""
    if any(value is None for value in values):
        return missing
    if unit == "of":
        return f"{digits(values[0])} of {digits(values[1])}"
    texts = list(dict.fromkeys(_format(value, unit) for value in values))
    return " to ".join(texts)


def _format(value, unit: str) -> str:
    match unit:
        case "word":
            return value
        case "count":
            return f"{value:,.0f}"
        case "B" | "s" | "J":
            return _prefixed(value, unit)
        case "Wh":
            return _prefixed(value / 3600, unit)
        case "energy":
            return f"{_prefixed(value, 'J')} ({_prefixed(value / 3600, 'Wh')})"
        case "$":
            return f"${_short(value)}" if value >= 1000 else f"${digits(value)}"
        case "h":
            return f"{_short(value)} hours"
        case "time":
            name, size = next((pair for pair in TIMES if value >= pair[1]), ("seconds", 1))
            return f"{digits(value / size)} {name}"
        case "FLOP":
            return f"{value:.2e}".replace("e+0", "e").replace("e+", "e") + " FLOPs"
        case "nats":
            return f"{value:.3f}"
        case "%":
            return f"{digits(100 * value)} %"
        case "times":
            return f"{digits(value)} times as much"
    return _short(value)


def digits(value: float) -> str:
    """Three digits, and no zeros after them."""
    if value == 0:
        return "0"
    if abs(value) >= 999.5:
        return f"{value:,.0f}" if abs(value) < 1e15 else f"{value:.2e}".replace("e+", "e")
    if abs(value) < 1e-3:
        return f"{value:.2e}".replace("e-0", "e-")
    exact = Decimal(value)  # 3.125 is 3.13, as toPrecision has it on the page
    rounded = exact.quantize(Decimal(1).scaleb(exact.adjusted() - 2), ROUND_HALF_UP)
    return f"{float(rounded):.10f}".rstrip("0").rstrip(".")


def _prefixed(value: float, unit: str) -> str:
    letter, size = next((pair for pair in PREFIXES if abs(value) >= 0.9995 * pair[1]), PREFIXES[4])
    return f"{digits(value / size)} {letter}{unit}"


def _short(value: float) -> str:
    for letter, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if abs(value) >= 0.9995 * size:
            return f"{digits(value / size)}{letter}"
    return digits(value)
