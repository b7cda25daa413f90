"""Scaling laws: evaluate them, fit them to runs, and say how far a fit may be trusted.

`forms` holds the laws and their published coefficients, `runs` tables of runs, `fitting` the fit
with its bootstrap, `trust` profiles and held-out runs, `isoflop` the two approaches that fit no
surface, `joint` the interval of a loss, `upstream` the published tables. `solver` does the work.
"""

from .fitting import Allocation, Fit, fit
from .forms import (
    NAMES,
    Allocator,
    DataConstrained,
    Hoffmann,
    Kaplan,
    KaplanSurface,
    entries,
    published,
)
from .holdout import HeldOut, folds, held_out, largest, profile
from .isoflop import envelope, exponents, parabolas, power_law
from .runs import Runs
from .uncertainty import Joint

__all__ = [
    "NAMES",
    "Allocation",
    "Allocator",
    "DataConstrained",
    "Fit",
    "HeldOut",
    "Hoffmann",
    "Joint",
    "Kaplan",
    "KaplanSurface",
    "Runs",
    "entries",
    "envelope",
    "exponents",
    "fit",
    "folds",
    "held_out",
    "largest",
    "parabolas",
    "power_law",
    "profile",
    "published",
]
