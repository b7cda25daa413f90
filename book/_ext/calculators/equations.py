"""The equations of a calculator as LaTeX, and what their letters mean."""

from .parts import Calculator, Step
from .tracing import Symbols


def equations(calculator: Calculator) -> list[tuple[str, str]]:
    """(what it is, LaTeX) for every step, one a form."""
    return [
        (f"{step.meaning}, {form}" if form else step.meaning, _equation(calculator, step, formula))
        for step in calculator.steps
        for form, formula in step.formulas.items()
        if step.shown
    ]


def letters(calculator: Calculator) -> list[tuple[str, str]]:
    """(LaTeX, meaning) of every value that an equation uses and no equation explains."""
    needed = {
        name for step in calculator.steps for part in step.formulas.values() for name in part.needs
    } - {step.name for step in calculator.steps}
    symbols, meanings = calculator.symbol_names(), calculator.meanings()
    used = [name for name in meanings if name in needed]
    missing = needed - set(used)
    if missing:
        raise ValueError(f"{calculator.id}: no meaning of {', '.join(sorted(missing))}")
    return [(symbols[name], meanings[name]) for name in used]


def _equation(calculator: Calculator, step: Step, formula) -> str:
    import sympy

    names = calculator.symbol_names()
    symbols = {getattr(Symbols(), name).expression: letter for name, letter in names.items()}
    right = sympy.latex(formula.expression, symbol_names=symbols, mul_symbol=r"\,")
    if step.total:
        count = r"\text{count}\," if step.over == "layers" else ""
        right = rf"\sum_{{{calculator.groups[step.over]}}} {count}\left({right}\right)"
    return rf"{step.symbol} = {right}"
