"""Scaling laws: evaluate them, fit them to runs, and say how far a fit may be trusted.

`forms` holds the laws, `published` the coefficients of others, `runs` tables of runs, `fitting` the
fit with its bootstrap, `holdout` profiles and held-out runs, `isoflop` the approach that fits no
surface, `uncertainty` the interval of a loss, `inference` the best size of a model that is served.
`solver` does the work.
"""

from .fitting import Allocation, Fit, fit
from .forms import NAMES, Allocator, DataConstrained, Hoffmann, Kaplan, KaplanSurface
from .holdout import HeldOut, folds, held_out, largest, largest_size, profile
from .inference import cheapest, lifetime_flops, serving_weight
from .isoflop import exponents, parabolas, power_law, surface_exponent
from .published import entries, published
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
    "cheapest",
    "entries",
    "exponents",
    "fit",
    "folds",
    "held_out",
    "largest",
    "largest_size",
    "lifetime_flops",
    "parabolas",
    "power_law",
    "profile",
    "published",
    "serving_weight",
    "surface_exponent",
]
