"""Numbers that people give, held to what makes sense.

A traced value (`calculators.tracing`) stands for any number that makes sense: it passes as it is.
"""

import math
import operator

LARGEST = 10**12  # a context or a batch above this is a typing error


def whole(what: str, value, most: int = LARGEST, least: int = 1) -> int:
    """``value`` as an int. Raises ValueError unless it is a whole number from least to most."""
    try:
        if isinstance(value, bool):
            raise TypeError
        number = (
            int(value)
            if isinstance(value, float) and value.is_integer()
            else (operator.index(value))
        )
    except TypeError:
        if is_traced(value):
            return value
        raise ValueError(f"{what} must be a whole number, got {value!r}") from None
    if not least <= number <= most:
        upto = f"{most:.0e}" if most > 10**6 else most
        raise ValueError(f"{what} must be from {least} to {upto}, got {value!r}")
    return number


def positive(what: str, value) -> float:
    """``value`` as a finite float above zero, else ValueError."""
    good = isinstance(value, int | float) and not isinstance(value, bool)
    if not good or not 0 < value < math.inf:
        if is_traced(value):
            return value
        raise ValueError(f"{what} must be a number above 0, got {value!r}")
    return float(value)


def least(a, b):
    """The smaller of two numbers; of traced values, the expression for it."""
    return _apply("least", min, a, b)


def most(a, b):
    """The larger of two numbers; of traced values, the expression for it."""
    return _apply("most", max, a, b)


def real(value) -> float:
    """``value`` as a float; a traced value as it is."""
    return value if is_traced(value) else float(value)


def is_traced(value) -> bool:
    return hasattr(value, "expression")


def _apply(name: str, plain, a, b):
    if is_traced(a):
        return getattr(a, name)(b)
    return getattr(b, name)(a) if is_traced(b) else plain(a, b)
