"""The table of least squared error for absmax blocks of normal values.

NormalFloat uses its levels equally often; that is another aim than a small error (Yoshida 2023,
"NF4 Isn't Information Theoretically Optimal (and that's Good)", section 3). Lloyd's iteration
(1982) finds the levels that make the mean squared error least.
"""

from functools import cache

import numpy as np

from sizewise import validation

NODES = 200  # of the quadrature over a block's largest magnitude
CLOSE = 1e-7  # the step at which the iteration ends


@cache
def least_error(bits: int = 4, block: int = 64) -> tuple[float, ...]:
    """2^bits levels in units of the block's largest magnitude, ascending and symmetric.

    The error is that of `normal_float.expected_error`: given its largest magnitude m, a block's
    other values are normals cut off at m, and the largest itself is 1 or -1. A level moves to the
    mean of its cell, weighted by m^2, until none moves.
    Zero is no level. Raises ValueError for bits not from 2 to 8 and for a block under 2.
    """
    from scipy.stats import norm

    count = 2 ** validation.whole("bits", bits, 8, 2)
    block = validation.whole("block", block, 1 << 30, 2)
    low = norm.ppf((1 + 1e-16 ** (1 / block)) / 2)
    high = norm.isf(0.5e-16 / block)
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    m = low + (high - low) * (nodes + 1) / 2  # (nodes,)
    inside = 2 * norm.cdf(m) - 1
    each = weights * (high - low) / 2 * 2 * block * norm.pdf(m) * inside ** (block - 1)
    others = each * (block - 1) / block / inside  # (nodes,): weight of a value that is not the most
    most = (each * m**2).sum() / block / 2  # of one end
    levels = np.linspace(-1, 1, count + 1)[1:] - 1 / count  # symmetric
    for _ in range(20_000):
        edges = np.concatenate([[-1.0], (levels[:-1] + levels[1:]) / 2, [1.0]])
        x = edges[:, None] * m  # (levels + 1, nodes)
        first = (-np.diff(norm.pdf(x), axis=0) * others * m).sum(1)  # m^2 times u, over the cell
        mass = (np.diff(norm.cdf(x), axis=0) * others * m**2).sum(1)
        first[[0, -1]] += [-most, most]
        mass[[0, -1]] += most
        moved = first / mass
        moved = (moved - moved[::-1]) / 2  # the problem is symmetric; rounding need not be
        if np.abs(moved - levels).max() < CLOSE:
            break
        levels = moved
    return tuple(moved.tolist())
