"""Tables of levels derived from their definitions, in units of a block's largest magnitude.

NormalFloat puts its levels at quantiles of the normal, so that each level is used about equally
often (QLoRA, Dettmers et al. 2023, section 3). Bitsandbytes' FP4 is a float of one sign, two
exponent and one mantissa bit.
"""

import numpy as np

from sizewise import validation


def normal_float(bits: int = 4, outermost: float | None = None) -> np.ndarray:
    """The 2^bits levels of k-bit NormalFloat, ascending, float64 (2^bits,).

    Zero is a level. The positive side has one level more than the negative: eight and seven for
    four bits, evenly spaced in probability from the outermost to 1/2. Unless it is said, that is
    the mean of 1 - 1/2^(k+1) and 1 - 1/(2^(k+1) - 2): for four bits 929/960 = 0.9677083..., the
    published constant; other widths follow the same rule.
    Raises ValueError unless bits is from 2 to 8 and ``outermost`` between 0.5 and 1.
    Source: QLoRA (2023), section 3; even spacing is what the table of its appendix E follows.
    """
    from scipy.stats import norm

    codes = 2 ** validation.whole("bits", bits, 8, 2)
    edge = 1 - (1 / (2 * codes) + 1 / (2 * codes - 2)) / 2 if outermost is None else outermost
    if not 0.5 < edge < 1:
        raise ValueError(f"the outermost probability must be between 0.5 and 1, got {outermost!r}")
    above = norm.ppf(np.linspace(0.5, edge, codes // 2 + 1))[1:]
    below = -norm.ppf(np.linspace(0.5, edge, codes // 2))[1:]
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


def fp4() -> np.ndarray:
    """Bitsandbytes' FP4 in the order of its codes, float64 (16,): bits s, e e, m.

    A larger exponent field is a smaller number: (1 + m/2) 2^(4 - e) for e of 1, 2, 3, so that 12
    is the largest. With e = 0 the value is m / 16 in the kernels; the library's own generator of
    float tables gives 1/4 there, and an IEEE-like E2M1 would have 1.
    """
    codes = np.arange(16)
    sign, exponent, mantissa = codes >> 3, codes >> 1 & 3, codes & 1
    size = np.where(exponent, (1 + mantissa / 2) * 2.0 ** (4 - exponent), mantissa / 16)
    return np.where(sign, -size, size) / 12
