"""The generated JavaScript: rows to look up, and a function for each formula."""

import json

from .parts import Calculator
from .tables import Cell
from .tracing import Formula

HEAD = "// Made from the library by calculators when the site was built. Do not edit.\n"


def generated() -> str:
    """The file that ``calculators.js`` reads: every calculator, its tables, the forecast's numbers.

    A table that several calculators look into stands there once.
    """
    from . import all_of_them, speed

    calculators = all_of_them()
    tables = {
        table.__name__: table()
        for calculator in calculators.values()
        for table in (*calculator.tables.values(), *calculator.crossed[:1])
    }
    data = {
        "tables": tables,
        "calculators": {name: described(calculator) for name, calculator in calculators.items()},
        "forecast": speed.exported(),
    }
    return f"{HEAD}globalThis.sizewiseCalculators = {literal(data)};\n"


def described(calculator: Calculator) -> dict:
    """A calculator as the page's script reads it."""
    fields = (
        "name",
        "label",
        "kind",
        "default",
        "unit",
        "least",
        "most",
        "table",
        "when",
        "optional",
        "sets",
        "otherwise",
    )
    results = ("label", "values", "unit", "each", "missing")
    return {
        "fields": [{key: getattr(field, key) for key in fields} for field in calculator.fields],
        "steps": [
            {
                "name": step.name,
                "over": step.over.split(".") if step.over else [],
                "total": step.total,
                "given": step.given,
                "formulas": step.formulas,
            }
            for step in calculator.steps
        ],
        "results": [
            {key: getattr(result, key) for key in results} | {"inRows": bool(result.each)}
            for result in calculator.results
        ],
        "rows": calculator.rows,
        "tables": {name: table.__name__ for name, table in calculator.tables.items()},
        "crossed": calculator.crossed and [calculator.crossed[0].__name__, *calculator.crossed[1:]],
        "forecast": calculator.forecast is not None,
        "limits": [vars(limit) for limit in calculator.limits],
        "curve": calculator.curve and _curve(calculator),
        "reads": calculator.reads,
        "answer": calculator.answer and vars(calculator.answer),
        "picture": calculator.picture,
        "against": calculator.against,
    }


def _curve(calculator: Calculator) -> dict:
    """The curve with its lines: what they are called, their values, their unit."""
    curve = calculator.curve
    lines = [line for line in calculator.results if line.each == curve.field][: curve.drawn]
    return vars(curve) | {"lines": [vars(line) for line in lines]}


def literal(value) -> str:
    """A JavaScript literal. JSON knows neither functions nor Infinity."""
    if isinstance(value, Cell):
        return literal(value.formula)
    if isinstance(value, Formula):
        checks = ", ".join(
            f"{{needs: {json.dumps(_names(check.condition))}, "
            f"holds: {function(check.condition)}, message: {json.dumps(check.message)}}}"
            for check in value.checks
        )
        needs = json.dumps(value.needs)
        return f"{{needs: {needs}, value: {function(value.expression)}, checks: [{checks}]}}"
    if isinstance(value, dict):
        lines = ",\n".join(f"{json.dumps(key)}: {literal(part)}" for key, part in value.items())
        return f"{{{lines}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(literal, value))}]"
    return json.dumps(value)


def function(expression) -> str:
    """``({a, b}) => ...`` of an expression, with what it holds twice computed once."""
    import sympy

    parts, (result,) = sympy.cse([expression])
    names = ", ".join(_names(expression))
    lines = [f"const {name} = {_code(part)};" for name, part in parts]
    return f"({{{names}}}) => {{ {' '.join(lines)} return {_code(result)}; }}"


def _code(expression) -> str:
    import sympy

    return " ".join(sympy.jscode(expression).split())


def _names(expression) -> list[str]:
    return sorted(symbol.name for symbol in expression.free_symbols)
