"""A few numbers for each kernel: what a fit adds to the floor, and how far it is off.

Every kernel is written as its floor (bytes over bandwidth, FLOPs over peak) with efficiencies,
plus what no floor knows: the launch, a latency along the reduced dimension, and waves of tiles
that do not fill the chip. The formulas are plain arithmetic, so that one definition serves arrays
(fits), floats (the forecast) and, in its global grade, the browser.

Numbers of a format's product (six): ``launch`` seconds, ``bandwidth`` and ``peak`` as shares of
the stated ones, ``sharpness`` of the maximum, ``reduction`` seconds an element of k, ``waves``
exponent of the tile quantization. Decode attention: launch and bandwidth. Prompt attention:
launch, bandwidth, peak. Experts: launch, bandwidth, peak, sharpness and ``token`` seconds.
All-reduce: launch and the share of the link.
"""

from dataclasses import dataclass

import numpy as np

TILE = 128  # rows and columns of one block's output: the usual tile of a tensor-core product
LEAST_SHAPE = 256  # n and k of products that are fitted: below it a model has none
CACHE_FACTOR = 1.5  # attention rows are kept above this many times the L2 cache
SMALL_CACHE = 5e5  # bytes of keys and values under which a decode attention is all launch
HOST_LAUNCH = 3e-5  # seconds: a smallest shape above this was timed with the host in it
GEMM = ("launch", "bandwidth", "peak", "sharpness", "reduction", "waves")
MOE = ("launch", "bandwidth", "peak", "sharpness", "token")


@dataclass(frozen=True)
class Kind:
    """How a weight format is multiplied: bits of weight and activation, and whose peak counts."""

    weight_bits: float
    activation_bits: float
    compute: str


KINDS = {
    "bf16": Kind(16, 16, "bf16"),
    "fp8": Kind(8, 8, "fp8"),
    "fp8-block": Kind(8 + 32 / 128**2, 8, "fp8"),
    "nvfp4": Kind(4.5, 4.5, "fp4"),
    "mxfp4-bf16": Kind(4.25, 16, "bf16"),
    "mxfp4-fp8": Kind(4.25, 8, "fp8"),
    "int4": Kind(4 + 16 / 128, 16, "bf16"),
    "int8-weight-only": Kind(8, 16, "bf16"),
    "w8a8": Kind(8, 8, "int8"),
}


def smooth_max(a, b, sharpness):
    """(a^p + b^p)^(1/p): the larger of two times where they differ, more where they are close."""
    return (a**sharpness + b**sharpness) ** (1 / sharpness)


def gemm_bytes(m, n, k, kind: Kind):
    """Bytes of (m, k) times (k, n): the weights once, activations in, 16-bit results out."""
    return n * k * kind.weight_bits / 8 + m * k * kind.activation_bits / 8 + m * n * 2


def unfilled(m, n, units):
    """How much longer whole waves of tiles take than the tiles would: ceil(tiles/units)/(...).

    ``units`` is the number of streaming multiprocessors; 1 at a full chip, ``units`` for one tile.
    """
    tiles = -(-m // TILE) * -(-n // TILE)
    return -(-tiles // units) * units / tiles


def gemm_seconds(m, n, k, kind: Kind, bandwidth, peak, units, fit):
    """Seconds of one product of ``m`` rows, by a fit with the six numbers of `GEMM`."""
    memory = gemm_bytes(m, n, k, kind) / (fit["bandwidth"] * bandwidth)
    waves = unfilled(m, n, units) ** fit["waves"] if units else 1
    compute = 2 * m * n * k * waves / (fit["peak"] * peak)
    return fit["launch"] + fit["reduction"] * k + smooth_max(memory, compute, fit["sharpness"])


def expected_experts(experts, used, tokens):
    """Distinct experts that ``tokens`` tokens reach under a uniform router: an upper bound."""
    return experts * (1 - (1 - used / experts) ** tokens)


def moe_parts(tokens, hidden, inner, used, experts, tensor, expert, kind: Kind):
    """(bytes, FLOPs) of one GPU's gated experts for ``tokens`` tokens of the whole batch.

    ``inner`` is the width of one expert; ``tensor`` GPUs share each expert's width and
    ``expert`` groups share the experts. Bytes are those of a uniform router.
    """
    width = inner / tensor
    reached = expected_experts(experts, used, tokens) / expert
    assigned = tokens * used / expert
    read = reached * 3 * hidden * width * kind.weight_bits / 8
    moved = assigned * (2 * hidden + 3 * width) * 2
    return read + moved, 6 * hidden * width * assigned


def moe_seconds(tokens, hidden, inner, used, experts, tensor, expert, kind, bandwidth, peak, fit):
    """Seconds of the routed experts of one layer, by a fit with the five numbers of `MOE`."""
    moved, flops = moe_parts(tokens, hidden, inner, used, experts, tensor, expert, kind)
    memory, compute = moved / (fit["bandwidth"] * bandwidth), flops / (fit["peak"] * peak)
    return fit["launch"] + fit["token"] * tokens + smooth_max(memory, compute, fit["sharpness"])


def attention_seconds(moved, bandwidth, fit):
    """Seconds of decode attention that reads ``moved`` bytes of keys and values."""
    return fit["launch"] + moved / (fit["bandwidth"] * bandwidth)


def latent_seconds(moved, flops, bandwidth, peak, fit):
    """Seconds of decode attention over latents: many heads share a vector, so FLOPs count too."""
    memory, compute = moved / (fit["bandwidth"] * bandwidth), flops / (fit["peak"] * peak)
    return fit["launch"] + smooth_max(memory, compute, fit["sharpness"])


def prompt_seconds(moved, flops, bandwidth, peak, fit):
    """Seconds of attention over a prompt: launch, bytes and causal FLOPs one after the other."""
    return fit["launch"] + moved / (fit["bandwidth"] * bandwidth) + flops / (fit["peak"] * peak)


def reduce_seconds(size, devices, link, fit):
    """Seconds to sum ``size`` bytes over ``devices``, each with ``link`` bytes/s one way."""
    return fit["launch"] + 2 * (devices - 1) / devices * size / (fit["link"] * link)


# ------------------------------------------------------------------ fitting

STARTS = {
    "launch": (5e-6, 5e-7, 5e-4),
    "bandwidth": (0.8, 0.1, 1.3),
    "peak": (0.7, 0.02, 1.3),
    "sharpness": (2.0, 1.0, 8.0),
    "reduction": (1e-10, 1e-13, 1e-8),
    "waves": (0.5, 0.01, 1.0),
    "token": (1e-8, 1e-12, 1e-5),
    "link": (0.7, 0.01, 1.3),
}
STARTS |= {f"peak-{name}": STARTS["peak"] for name in ("16", "8", "4", "weight-only")}


def fit(names, seconds_of, measured, *, limit: int = 3000, seed: int = 0) -> dict[str, float]:
    """The numbers ``names`` that bring ``seconds_of(rows, numbers)`` closest to ``measured``.

    ``seconds_of`` takes an index array and a dict of numbers. Residuals are logarithms under a
    soft absolute loss, so that a few rows timed wrongly do not steer; at most ``limit`` rows,
    drawn with ``seed``, are used. Raises ValueError for fewer rows than four times the numbers.
    """
    from scipy.optimize import least_squares

    measured = np.asarray(measured, float)
    if len(measured) < 4 * len(names):
        raise ValueError(f"{len(measured)} rows are too few to fit {len(names)} numbers")
    rows = np.arange(len(measured))
    if len(rows) > limit:
        rows = np.sort(np.random.default_rng(seed).choice(rows, limit, replace=False))
    start, lower, upper = (np.log([STARTS[name][i] for name in names]) for i in range(3))
    target = np.log(measured[rows])

    def residuals(logs):
        numbers = dict(zip(names, np.exp(logs), strict=True))
        return np.log(seconds_of(rows, numbers)) - target

    best = least_squares(
        residuals, start, bounds=(lower, upper), loss="soft_l1", f_scale=0.1, max_nfev=200
    )
    return {name: float(value) for name, value in zip(names, np.exp(best.x), strict=True)}


def errors(predicted, measured) -> dict[str, float]:
    """Median and 90th percentile of the absolute error, in percent, and the median ratio."""
    ratio = np.asarray(predicted, float) / np.asarray(measured, float)
    off = 100 * np.abs(ratio - 1)
    return {
        "rows": len(ratio),
        "error_median": float(np.median(off)),
        "error_p90": float(np.percentile(off, 90)),
        "ratio_median": float(np.median(ratio)),
    }


def half(*columns) -> np.ndarray:
    """True for half of the shapes, the same half on every machine: those that are fitted.

    A multiplicative hash (Knuth, TAOCP 3, section 6.4) of the columns, so that neighbouring sizes
    fall on both sides.
    """
    mixed = np.zeros(len(columns[0]), dtype=np.uint64)
    for column in columns:
        mixed = (mixed + np.asarray(column).astype(np.uint64) + 1) * np.uint64(2654435761)
        mixed ^= mixed >> np.uint64(15)
    return (mixed >> np.uint64(7)) % 2 == 0
