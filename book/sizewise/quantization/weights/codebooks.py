"""Four-bit tables derived from their definitions, and the error a table makes on normal weights.

NormalFloat puts its levels at quantiles of the normal, so that each level is used about equally
often (QLoRA, Dettmers et al. 2023, section 3). Bitsandbytes' FP4 is a float of one sign, two
exponent and one mantissa bit. Levels are in units of a block's largest magnitude: 1 is that one.
"""

import numpy as np

from sizewise import validation

NODES = 400  # of the quadrature over a block's largest magnitude


def offset(bits: int = 4) -> float:
    """The outermost probability: the mean of 1 - 1/2^(k+1) and 1 - 1/(2^(k+1) - 2).

    For four bits 929/960 = 0.9677083..., the constant that the published code carries to seven
    digits. It is published for four bits alone; other widths follow the same rule here.
    Raises ValueError unless bits is from 2 to 8.
    """
    codes = 2 ** validation.whole("bits", bits, 8, 2)
    return 1 - (1 / (2 * codes) + 1 / (2 * codes - 2)) / 2


def normal_float(bits: int = 4, outermost: float | None = None) -> np.ndarray:
    """The 2^bits levels of k-bit NormalFloat, ascending, float64 (2^bits,).

    Zero is a level. The positive side has one level more than the negative: eight and seven for
    four bits, evenly spaced in probability from `outermost` to 1/2.
    Source: QLoRA (2023), section 3; even spacing is what the table of its appendix E follows.
    """
    from scipy.stats import norm

    half = 2 ** (validation.whole("bits", bits, 8, 2) - 1)
    edge = offset(bits) if outermost is None else outermost
    if not 0.5 < edge < 1:
        raise ValueError(f"the outermost probability must be between 0.5 and 1, got {outermost!r}")
    above = norm.ppf(np.linspace(0.5, edge, half + 1))[1:]
    below = -norm.ppf(np.linspace(0.5, edge, half))[1:]
    return np.concatenate([below[::-1], [0.0], above]) / norm.ppf(edge)


def nf4() -> np.ndarray:
    """NF4 to the last bit of its published table, float32 (16,).

    That table was made in single precision from probabilities rounded to single precision and
    the offset cut to seven digits, so it is up to 1.9e-7 from the definition
    (`normal_float`). The difference decides about one code in a million.
    """
    from scipy.stats import norm

    edge = np.float32(0.9677083)
    sides = []
    for points in (9, 8):
        step = (np.float32(0.5) - edge) / np.float32(points - 1)
        places = np.arange(points, dtype=np.float32)
        # As torch.linspace counts: from the start up to the middle, from the end behind it.
        near, far = edge + step * places, np.float32(0.5) - step * places[::-1]
        line = np.where(places < points // 2, near, far)
        sides.append(norm.ppf(line[:-1].astype(np.float64)).astype(np.float32))
    above, below = sides
    return np.concatenate([-below, [np.float32(0)], above[::-1]]) / above[0]


def fp4(subnormal: float = 2.0**-4) -> np.ndarray:
    """Bitsandbytes' FP4 in the order of its codes, float64 (16,): bits s, e e, m.

    A larger exponent field is a smaller number: (1 + m/2) 2^(4 - e) for e of 1, 2, 3, so that 12
    is the largest. With e = 0 the value is m times `subnormal`. The kernels hold 1/16 there, the
    library's own generator of float tables gives 1/4, and an IEEE-like E2M1 would have 1.
    """
    codes = np.arange(16)
    sign, exponent, mantissa = codes >> 3, codes >> 1 & 3, codes & 1
    size = np.where(exponent, (1 + mantissa / 2) * 2.0 ** (4 - exponent), mantissa * subnormal)
    return np.where(sign, -size, size) / 12


def e2m1() -> np.ndarray:
    """FP4 as the Open Compute Project's Microscaling v1.0 defines it: 0, .5, 1, 1.5, 2, 3, 4, 6.

    Float64 (16,) in the order of the codes, divided by 6.
    """
    codes = np.arange(16)
    sign, exponent, mantissa = codes >> 3, codes >> 1 & 3, codes & 1
    size = np.where(exponent, (1 + mantissa / 2) * 2.0 ** (exponent - 1), mantissa / 2)
    return np.where(sign, -size, size) / 6


def uniform(bits: int = 4) -> np.ndarray:
    """Symmetric integers -(2^(k-1) - 1) .. 2^(k-1) - 1 over their largest, float64, ascending."""
    most = 2 ** (validation.whole("bits", bits, 8, 2) - 1) - 1
    return np.arange(-most, most + 1) / most


def expected_error(table: np.ndarray, block: int = 64) -> float:
    """Mean squared error of absmax blocks of independent normal values, as a share of variance.

    Given the largest magnitude m of a block, the others are independent normals cut off at m:
    the error of each cell of the table then has a closed form, and m is integrated over its
    density b (2 Phi(m) - 1)^(b-1) 2 phi(m) by Gauss-Legendre quadrature. The largest itself is
    the level 1 or -1. Scales are exact here. Real weights are not quite normal and not
    independent: for a layer, measure.
    Raises ValueError for a block under 2, or a table without finite levels.
    """
    from scipy.stats import norm

    block = validation.whole("block", block, 1 << 30, 2)
    levels = np.unique(np.asarray(table, float))
    if not levels.size or not np.isfinite(levels).all():
        raise ValueError("a table needs finite levels")
    # All but 1e-16 of the density of m lies between these.
    low = norm.ppf((1 + 1e-16 ** (1 / block)) / 2)
    high = norm.isf(0.5e-16 / block)
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    m = low + (high - low) * (nodes + 1) / 2  # (nodes,)
    weights = weights * (high - low) / 2
    inside = 2 * norm.cdf(m) - 1
    density = 2 * block * norm.pdf(m) * np.exp((block - 1) * np.log(inside))
    middles = (levels[:-1] + levels[1:]) / 2
    edges = np.clip(np.concatenate([[-1], middles, [1]]), -1, 1)  # in units of m
    x = edges[:, None] * m  # (levels + 1, nodes)
    p, first = norm.cdf(x), -norm.pdf(x)
    second = p - x * norm.pdf(x)
    target = levels[:, None] * m  # (levels, nodes)
    cells = np.diff(second, axis=0) - 2 * target * np.diff(first, axis=0)
    others = (cells + target**2 * np.diff(p, axis=0)).sum(0) / inside  # (nodes,)
    ends = np.mean([np.min((levels - end) ** 2) for end in (-1, 1)])
    each = ((block - 1) * others + ends * m**2) / block
    return float(weights @ (density * each))
