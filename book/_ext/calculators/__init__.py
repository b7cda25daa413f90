"""Calculators that run on the page: one source for the equation, the JavaScript and the number.

A calculator is a description in Python: fields, steps, results. A step calls a function of the
library with traced values (`tracing`), which gives an expression; from it come the equation
(`equations`), the JavaScript (`script`) and the value at build time (`worked`). The page's own
script (``book/_static/calculators.js``) reads fields, adds up rows and formats: it knows no
formula.
"""

import functools


@functools.cache
def all_of_them() -> dict:
    """Every calculator by id, in the page's order: `parts.Calculator`s."""
    from . import cache, experts, fit, sample, train

    modules = (fit, train, experts, cache, sample)
    return {module.CALCULATOR.id: module.CALCULATOR for module in modules}
