"""What the device at hand can do at best: bytes a second, and operations a second by format.

Datasheets state peaks that no program reaches; a step is better compared with what a large copy
and a large product reach here. Inputs are random: on zeros a GPU draws less power and clocks
higher, so that zeros flatter it.
"""

import re
from collections.abc import Callable
from dataclasses import replace

from sizewise import units
from sizewise.data import catalog

from . import timing

MEMORY = ("copy", "read")
PRODUCTS = ("fp32", "tf32", "bf16", "fp16", "fp8", "int8")
FAST_SUMS = "fp8-fast"  # fp8 with the tensor cores' own sums, which are shorter than fp32
CEILINGS = (*MEMORY, *PRODUCTS, FAST_SUMS)
# Words of a driver's name that tell no card from another.
IDLE = re.compile(r"nvidia|geforce|tesla|gpu|sxm\d?|hbm\w+|\d+gb")
ON_CPU = (*MEMORY, "fp32", "bf16", "int8")


def measure(of: str, size: int, device: str, **options) -> dict[str, float]:
    """Rate of one of `CEILINGS`: median, lowest and highest over the blocks of `timing`.

    ``size``: bytes of the buffer for "copy" (bytes read and written are counted) and "read" (a
    sum over it); rows of the square matrices otherwise (2 size^3 operations). Every product runs
    in the library torch calls; fp8 with one scale a tensor and a bf16 result, "fp8-fast" the same
    with shorter sums, int8 with a 32-bit result. Raises ValueError for an unknown name or a result
    that is not finite.
    """
    if of not in CEILINGS:
        raise units.unknown("ceiling", of, CEILINGS)
    import torch

    with torch.inference_mode(), _precision("high" if of == "tf32" else "highest"):
        work, amount = (memory if of in MEMORY else _product)(of, size, device)
        took = timing.time_calls(work, device, **options)
        if not torch.isfinite(work().float()).all():
            raise ValueError(f"the result of {of} is not finite")
    return {
        "rate": amount / took.median,
        "rate_low": amount / took.high,
        "rate_high": amount / took.low,
    }


def as_device(rows: list[dict], name: str, memory_bytes: float = 0.0) -> catalog.Device | None:
    """Recorded ``rows`` of ceilings of the device called ``name``, in place of its datasheet.

    Of several sizes the best median counts, and the better of copying and reading is the
    bandwidth. None before any of both is recorded.
    """
    rates: dict[str, float] = {}
    for row in rows:
        if row.get("kind") == "ceiling" and row["device"] == name and row.get("rate"):
            rates[row["of"]] = max(row["rate"], rates.get(row["of"], 0.0))
    moved = [rates[item] for item in MEMORY if item in rates]
    if not moved:
        return None
    return catalog.Device(
        name=name,
        memory_bytes=memory_bytes,
        bandwidth=max(moved),
        flops={item: rates.get(item) for item in PRODUCTS},
        tdp_watts=None,
        source="measured",
        checked="measured",
    )


def datasheet(name: str) -> catalog.Device | None:
    """The catalogue's device behind what a driver calls ``name``; None where that is not certain.

    "NVIDIA H200", "NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-80GB": the longest name or alias
    whose words all occur, unless two devices tie or words are left that name another card (the
    H100 NVL is no H100). fp16 runs at the stated bf16 rate, as it does
    on every card of the catalogue that has both; a format without a stated rate has None.
    """
    words = set(_words(name))
    result: dict[int, set[str]] = {}
    for item in catalog.devices().values():
        for alias in (item.name, *item.aliases):
            known = set(_words(alias))
            if known <= words and all(IDLE.fullmatch(word) for word in words - known):
                result.setdefault(len(known), set()).add(item.name)
    best = result[max(result)] if result else set()
    if len(best) != 1:
        return None
    known = catalog.device(best.pop())
    flops = dict.fromkeys(PRODUCTS) | known.flops
    return replace(known, flops=flops | {"fp16": flops["fp16"] or flops["bf16"]})


def _words(name: str) -> list[str]:
    return name.lower().replace("-", " ").replace("_", " ").split()


class _precision:
    """Within it, fp32 products run as fp32 ("highest") or on tf32 units ("high")."""

    def __init__(self, precision: str):
        self.precision = precision

    def __enter__(self) -> None:
        import torch

        self.before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision(self.precision)

    def __exit__(self, *error) -> None:
        import torch

        torch.set_float32_matmul_precision(self.before)


def memory(of: str, size: int, device: str) -> tuple[Callable, float]:
    """A call that copies or reads ("copy", "read") ``size`` random bytes; the bytes it moves."""
    import torch

    source = torch.randn(size // 4, device=device)  # (size / 4,) of 4 bytes
    if of == "read":
        return (lambda: source.sum()), float(source.nbytes)
    target = torch.empty_like(source).fill_(float("nan"))  # what is not written will show
    return (lambda: target.copy_(source)), 2.0 * source.nbytes


def _product(of: str, size: int, device: str) -> tuple[Callable, float]:
    import torch

    operations = 2.0 * size**3
    if of == "int8":
        a, b = (
            torch.randint(-127, 128, (size, size), dtype=torch.int8, device=device)
            for _ in range(2)
        )
        return (lambda: torch._int_mm(a, b.t())), operations  # (size, size) int32
    a, b = (torch.randn(size, size, device=device) for _ in range(2))
    if of in ("fp8", FAST_SUMS):
        item = torch.ones((), device=device)
        a, b = a.to(torch.float8_e4m3fn), b.to(torch.float8_e4m3fn)
        how = {"out_dtype": torch.bfloat16, "use_fast_accum": of == FAST_SUMS}
        return (lambda: torch._scaled_mm(a, b.t(), scale_a=item, scale_b=item, **how)), operations
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(of, torch.float32)
    a, b = a.to(dtype), b.to(dtype)
    return (lambda: a @ b), operations
