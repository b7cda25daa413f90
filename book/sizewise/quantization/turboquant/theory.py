"""What is proven about TurboQuant's error, and what follows exactly from its codebook.

Errors are those of unit vectors: E |u - decoded|^2 (``mse``), and d times the mean square error
of an inner product with a random unit vector (``inner``). For one that is independent of the
codes the two are the same number. Source of the bounds: Zandieh et al. 2025, theorems 1 to 3.
"""

import math

from sizewise import units
from sizewise.validation import whole

from .codec import VARIANTS
from .lloyd_max import lloyd_max

GAP = math.sqrt(3) * math.pi / 2  # between the bounds: 2.72


def upper(bits: int) -> float:
    """No larger is E |u - decoded|^2 of ``mse`` (theorem 1): sqrt(3) pi / 2 over 4^bits."""
    return GAP / 4.0 ** whole("the bits", bits, 64)


def lower(bits: int) -> float:
    """No code of that many bits a coordinate does better, as printed (theorem 3): 4^-bits.

    It is a bound for large d: a direction in R^d has d - 1 degrees of freedom, not d. At d = 2 it
    is broken (see `circle`), at d = 3 the Lloyd-Max codebook meets it exactly, the coordinate
    being uniform there, and from d = 4 that codebook stays above it.
    """
    return 4.0 ** -whole("the bits", bits, 64)


def circle(bits: int) -> float:
    """The least error of any code of directions in the plane with ``bits`` a coordinate.

    4^bits points, evenly spaced: 1 - (sin a / a)^2 with a = pi / 4^bits. One bit gives
    1 - 8 / pi^2 = 0.189, below the 0.25 of `lower`, and TurboQuant's codebook attains it.
    """
    a = math.pi / 4.0 ** whole("the bits", bits, 16)
    return 1 - (math.sin(a) / a) ** 2


def expected(variant: str, bits: int, dim: int) -> float:
    """The error of a variant over random rotations and sketches.

    ``mse``: exact. ``prod``: exact, the error of ``mse`` with one bit less times what the sketch
    adds. The scaled forms: their limit for large dim, where centroids' norms no longer vary.
    """
    if variant not in VARIANTS:
        raise units.unknown("variant", variant, VARIANTS)
    if variant.startswith("prod"):
        left = lloyd_max(bits - 1, dim).distortion if bits > 1 else 1.0
        if variant == "prod":  # d signs of independent Gaussian rows
            return left * (math.pi / 2 - 1 / dim)
        centroid = float(lloyd_max(1, dim).centroids[1])
        return left * (1 / (dim * centroid**2) - 1)
    error = lloyd_max(bits, dim).distortion
    if variant == "eden-unbiased":
        return error / (1 - error)
    if variant == "norm-corrected":  # <y, c> / |c| is sqrt(1 - error)
        return 2 - 2 * math.sqrt(1 - error)
    return error


def slope(variant: str, bits: int, dim: int) -> float:
    """The regression of decoded on true inner products: E <u, decoded>. 1 is unbiased."""
    if variant not in VARIANTS:
        raise units.unknown("variant", variant, VARIANTS)
    if variant.startswith("prod") or variant == "eden-unbiased":
        return 1.0
    retained = 1 - lloyd_max(bits, dim).distortion
    return math.sqrt(retained) if variant == "norm-corrected" else retained
