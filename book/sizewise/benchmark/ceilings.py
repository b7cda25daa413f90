"""What the device at hand can do at best: bytes a second, and FLOPs a second by format.

Datasheets state peaks that no program reaches; a step is better compared with what a large copy
and a large product reach here. Inputs are random: on zeros a GPU draws less power and clocks
higher, so that zeros flatter it. Products also measure NVIDIA's published cells (`calibrate`).
"""

from collections.abc import Callable

import torch

from . import timing

MEMORY = ("copy", "read")
PRODUCTS = ("bf16", "fp8", "int8")


def measure(method: str, size: int, device: str) -> dict:
    """The rate of a method, from the fastest block.

    ``size``: bytes of the buffer for "copy" (bytes read and written are counted) and "read" (a sum
    over it); for `PRODUCTS` rows of the square matrices (2 size^3 FLOPs; int8 gives 32 bits).
    """
    if method in MEMORY:
        source = torch.randn(size // 4, device=device)  # (size / 4,) of 4 bytes
        target = torch.empty_like(source)
        work = source.sum if method == "read" else lambda: target.copy_(source)
        amount = source.nbytes * (1.0 if method == "read" else 2.0)
    else:
        work, amount = product(method, size, size, size, device), 2.0 * size**3
    took = timing.time_calls(work, device)
    return took.columns("us", 1e6) | {"rate": amount / took.seconds[0]}


def product(format: str, m: int, n: int, k: int, device: str) -> Callable:
    """A call that multiplies random (m, k) by (k, n), the second as a layer's weight lies.

    fp8 is e4m3 with one scale a matrix, a bf16 result and the shorter sums of the tensor cores,
    as it is served.
    """
    if format == "int8":
        a, b = (
            torch.randint(-127, 128, shape, dtype=torch.int8, device=device)
            for shape in ((m, k), (n, k))
        )
        return lambda: torch._int_mm(a, b.t())
    a, b = (torch.randn(shape, device=device, dtype=torch.bfloat16) for shape in ((m, k), (n, k)))
    if format == "bf16":
        return lambda: a @ b.t()
    a, b = a.to(torch.float8_e4m3fn), b.to(torch.float8_e4m3fn)
    unit = torch.ones((), device=device)
    return lambda: torch._scaled_mm(
        a, b.t(), scale_a=unit, scale_b=unit, out_dtype=torch.bfloat16, use_fast_accum=True
    )
