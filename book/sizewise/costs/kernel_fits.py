"""A few numbers for each kernel: what is added to its floor. `scripts/silicon.py` fits them.

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

TILE = 128  # rows and columns of one block's output: the usual tile of a tensor-core product


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


def roof(moved, flops, bandwidth, peak, fit):
    """Seconds for bytes and FLOPs: (a^p + b^p)^(1/p) of the two times, p the ``sharpness``.

    The larger of the two where they differ, more where they are close.
    """
    memory, compute = moved / (fit["bandwidth"] * bandwidth), flops / (fit["peak"] * peak)
    return (memory ** fit["sharpness"] + compute ** fit["sharpness"]) ** (1 / fit["sharpness"])


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
    """Seconds of one product of ``m`` rows, by a fit with its six numbers."""
    waves = unfilled(m, n, units) ** fit["waves"] if units else 1
    products = roof(gemm_bytes(m, n, k, kind), 2 * m * n * k * waves, bandwidth, peak, fit)
    return fit["launch"] + fit["reduction"] * k + products


def moe_parts(tokens, hidden, inner, used, experts, tensor, expert, kind: Kind):
    """(bytes, FLOPs) of one GPU's gated experts for ``tokens`` tokens of the whole batch.

    ``inner`` is the width of one expert; ``tensor`` GPUs share each expert's width and
    ``expert`` groups share the experts. Bytes are those of a uniform router.
    """
    width = inner / tensor
    reached = experts * (1 - (1 - used / experts) ** tokens) / expert
    assigned = tokens * used / expert
    read = reached * 3 * hidden * width * kind.weight_bits / 8
    moved = assigned * (2 * hidden + 3 * width) * 2
    return read + moved, 6 * hidden * width * assigned


def moe_seconds(tokens, hidden, inner, used, experts, tensor, expert, kind, bandwidth, peak, fit):
    """Seconds of the routed experts of one layer, by a fit with its five numbers."""
    moved, flops = moe_parts(tokens, hidden, inner, used, experts, tensor, expert, kind)
    return fit["launch"] + fit["token"] * tokens + roof(moved, flops, bandwidth, peak, fit)


def attention_seconds(moved, bandwidth, fit):
    """Seconds of decode attention that reads ``moved`` bytes of keys and values."""
    return fit["launch"] + moved / (fit["bandwidth"] * bandwidth)


def latent_seconds(moved, flops, bandwidth, peak, fit):
    """Seconds of decode attention over latents: many heads share a vector, so FLOPs count too."""
    return fit["launch"] + roof(moved, flops, bandwidth, peak, fit)


def prompt_seconds(moved, flops, bandwidth, peak, fit):
    """Seconds of attention over a prompt: launch, bytes and causal FLOPs one after the other."""
    return fit["launch"] + moved / (fit["bandwidth"] * bandwidth) + flops / (fit["peak"] * peak)


def reduce_seconds(size, devices, link, fit):
    """Seconds to sum ``size`` bytes over ``devices``, each with ``link`` bytes/s one way."""
    return fit["launch"] + 2 * (devices - 1) / devices * size / (fit["link"] * link)
