"""Quantizing vectors: TurboQuant's codes here against those of the package turboquant-torch."""

import time

DIM = 128
COUNT = 50_000
BITS = (3, 4)
LARGEST_DIFFERENCE = 0.01  # of the two distortions, as a share


def quantize(number: int):
    """Encode 50,000 vectors of 128 numbers at 3 and at 4 bits, with a Hadamard rotation each.

    Both sides do all that their users wait for: norms, rotation and codes. Ours are packed, the
    other's are left as whole numbers of 64 bits. One thread each. The same vectors, other ones in
    each pair, and the same distortion: within 1 %, or there is nothing to compare.
    """
    import torch
    from sizewise.quantization.turboquant.codec import TurboQuant

    try:
        from turboquant.mse_quantizer import TurboQuantMSE
    except ImportError:
        raise SystemExit(
            "quantize: needs the other package: pip install --no-deps turboquant-torch==0.4.0"
        ) from None
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _timed(number, TurboQuant, TurboQuantMSE)
    finally:
        torch.set_num_threads(before)


def _timed(number: int, mine, other):
    import torch

    draw = torch.Generator().manual_seed(number)
    x = torch.randn(COUNT, DIM, generator=draw)
    seconds, differences = [0.0, 0.0], {}
    for bits in BITS:
        ours = mine(DIM, bits, rotation="hadamard", seed=number)
        theirs = other(DIM, bits, seed=number)
        result = []
        for side, encode in enumerate((theirs.quantize, ours.encode)):
            encode(x[:1024])
            started = time.perf_counter()
            codes = encode(x)
            seconds[side] += time.perf_counter() - started
            result.append(codes)
        errors = [
            _distortion(x, theirs.dequantize(result[0])),
            _distortion(x, ours.decode(result[1])),
        ]
        difference = abs(errors[1] / errors[0] - 1)
        if difference > LARGEST_DIFFERENCE:
            raise ValueError(f"at {bits} bits the distortions are {errors[0]} and {errors[1]}")
        differences[f"distortion_differs_{bits}_bits"] = round(difference, 5)
    return seconds[0], seconds[1], {"vectors": COUNT} | differences


def _distortion(x, decoded) -> float:
    """Mean of |x - decoded|^2 / |x|^2."""
    return float((((x - decoded) ** 2).sum(-1) / (x**2).sum(-1)).mean())
