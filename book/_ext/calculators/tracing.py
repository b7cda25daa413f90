"""Call a function of the library with traced values, and get its formula.

A `Traced` value is a number not known yet: arithmetic with it builds a SymPy
expression. Where the function compares, both answers are followed (King 1976, "Symbolic execution
and program testing"): a path that ends in a ValueError becomes a `Check` with the library's own
message, the others become the cases of one expression.
"""

import operator
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

MOST_PATHS = 64  # a formula with more cases is no formula

# Values that are whole numbers; every other is any number above 0.
WHOLE = frozenset(
    (
        "active",
        "activation_bytes",
        "batch",
        "context",
        "conv",
        "devices",
        "experts",
        "full_bytes",
        "full_layers",
        "head_dim",
        "hidden",
        "kv_bytes",
        "kv_heads",
        "limit",
        "lookup",
        "mlp_width",
        "operations",
        "parameters",
        "query_heads",
        "recurrent",
        "stride",
        "total_bytes",
        "used",
        "vectors",
        "vocab",
        "weights_bytes",
        "width",
        "window",
        "windowed_bytes",
        "windowed_layers",
    )
)

_paths: list["Path"] = []  # the path that is being followed, if any


class Traced:
    """A value with an ``expression``. It cannot be made a float: that would lose the formula."""

    __slots__ = ("expression",)

    def __init__(self, expression):
        self.expression = expression

    def __str__(self) -> str:
        """``{name}``: in the message of an error, a place for the value."""
        return f"{{{self.expression}}}"

    def __format__(self, _) -> str:
        return str(self)

    __repr__ = __str__

    def __neg__(self):
        return Traced(-self.expression)

    def __ceil__(self):
        import sympy

        return Traced(sympy.ceiling(self.expression))

    def least(self, other):
        import sympy

        return Traced(sympy.Min(self.expression, plain(other)))

    def most(self, other):
        import sympy

        return Traced(sympy.Max(self.expression, plain(other)))

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        """numpy's functions, as the library's laws use them."""
        import sympy

        functions = {
            "add": operator.add,
            "subtract": operator.sub,
            "multiply": operator.mul,
            "divide": operator.truediv,
            "power": operator.pow,
            "negative": operator.neg,
            "minimum": sympy.Min,
            "maximum": sympy.Max,
            "sqrt": sympy.sqrt,
            "exp": sympy.exp,
            "expm1": lambda x: sympy.exp(x) - 1,
            "log": sympy.log,
        }
        if method != "__call__" or ufunc.__name__ not in functions:
            return NotImplemented
        return Traced(functions[ufunc.__name__](*map(plain, inputs)))


def _arithmetic(name: str, reverse: bool):
    def method(self, other):
        mine, theirs = self.expression, plain(other)
        work = getattr(operator, name)
        return Traced(work(theirs, mine) if reverse else work(mine, theirs))

    return method


def _comparison(name: str):
    return lambda self, other: decide(getattr(operator, name)(self.expression, plain(other)))


for _name in ("add", "sub", "mul", "truediv", "floordiv", "pow"):
    setattr(Traced, f"__{_name}__", _arithmetic(_name, reverse=False))
    setattr(Traced, f"__r{_name}__", _arithmetic(_name, reverse=True))
for _name in ("lt", "le", "gt", "ge"):
    setattr(Traced, f"__{_name}__", _comparison(_name))


def plain(value):
    """The expression of a traced value or a number. 0.5 becomes 1/2: equations read better so."""
    import sympy

    if isinstance(value, Traced):
        return value.expression
    if isinstance(value, float) and abs(value) < 2**53:
        exact = Fraction(value)
        if exact.denominator <= 2**16:
            return sympy.Rational(exact.numerator, exact.denominator)
    return sympy.sympify(value)


class Symbols:
    """Traced values by attribute: ``s.context`` is the number called context, above 0."""

    def __getattr__(self, name: str) -> Traced:
        import sympy

        whole = {"integer": True} if name in WHOLE else {}
        return Traced(sympy.Symbol(name, positive=True, **whole))


# --- following every path


@dataclass
class Path:
    """The answers so far; those beyond ``planned`` are yes."""

    planned: list[bool]
    taken: list  # (relation, answer)


def decide(relation) -> bool:
    """The truth of a comparison: known, decided before on this path, or either."""
    import sympy

    if relation in (sympy.true, sympy.false):
        return bool(relation)
    if not _paths:
        raise ValueError(f"{relation} is not decided: trace the function with `trace`")
    path = _paths[-1]
    for decided, answer in path.taken:
        if relation in (decided, sympy.Not(decided)):
            return answer if relation == decided else not answer
    place = len(path.taken)
    answer = path.planned[place] if place < len(path.planned) else True
    path.taken.append((relation, answer))
    return answer


@dataclass(frozen=True)
class Check:
    """What the library refuses: if ``condition`` holds, ``message`` is shown, {names} filled in."""

    condition: Any  # a SymPy condition
    message: str


@dataclass(frozen=True)
class Formula:
    expression: Any  # a SymPy expression
    checks: tuple[Check, ...] = ()

    @property
    def needs(self) -> list[str]:
        """The names of its values, sorted."""
        return sorted(symbol.name for symbol in self.expression.free_symbols)


def trace(call: Callable[[Symbols], Any]) -> Formula:
    """The formula of ``call``, a function of `Symbols`.

    Raises ValueError if every path fails, or there are more than `MOST_PATHS`.
    """
    import sympy

    cases, checks, waiting = [], [], [[]]
    while waiting:
        path = Path(waiting.pop(), [])
        _paths.append(path)
        try:
            value, error = call(Symbols()), None
        except ValueError as refused:
            value, error = None, refused
        finally:
            _paths.pop()
        answers = [answer for _, answer in path.taken]
        waiting += [
            [*answers[:place], not answers[place]]
            for place in range(len(path.planned), len(answers))
        ]
        if len(waiting) + len(cases) + len(checks) > MOST_PATHS:
            raise ValueError("too many paths to be a formula")
        condition = sympy.And(*(truth if yes else sympy.Not(truth) for truth, yes in path.taken))
        if error is None:
            cases.append((plain(value), condition))
        elif not path.taken:
            raise error
        else:
            checks.append(Check(condition, str(error)))
    if not cases:
        raise ValueError(f"no path gives a value: {checks[0].message}")
    return Formula(_merged(cases, checks), tuple(checks))


def _merged(cases: list, checks: list[Check]):
    """One expression of all cases; what the checks exclude is left out."""
    import sympy

    if len({expression for expression, _ in cases}) == 1:
        return cases[0][0]
    refused = [sympy.Not(check.condition) for check in checks]
    pieces = []
    for expression, condition in cases:
        parts = [part for part in sympy.And.make_args(condition) if part not in refused]
        pieces.append((expression, sympy.And(*parts)))
    return sympy.Piecewise(*pieces[:-1], (pieces[-1][0], True))
