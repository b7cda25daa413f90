"""Codes of 1, 2, 3, 4 or 8 bits in bytes, laid out so that a kernel reads whole runs.

A plane of w-bit fields has f = 8 / w of them in a byte. Byte j, bits k w to k w + w - 1, holds
coordinate j + k d / f of a vector of d: the same field of neighbouring bytes holds neighbouring
coordinates, so that one shift and one mask turn a run of bytes into a run of coordinates, and
nothing has to be interleaved. Three bits are two planes: the low two bits in d / 4 bytes, then
the high bit in d / 8.
"""

from dataclasses import dataclass, fields
from typing import Any

from sizewise.validation import whole

PLANES = {1: (1,), 2: (2,), 3: (2, 1), 4: (4,), 8: (8,)}  # width of each plane, low bits first


@dataclass(frozen=True)
class Coded:
    """What a code stores of vectors (...): tensors by name, None for those that it has not."""

    packed: Any  # uint8 (..., bytes), or the numbers themselves
    norms: Any = None  # (...): the norm times the code's scale
    signs: Any = None  # uint8 (..., dim / 8), of a sketch
    residuals: Any = None  # (...): norm of what the centroids leave
    scales: Any = None
    zeros: Any = None  # the value of code 0

    def tensors(self) -> dict[str, Any]:
        """Those that are there."""
        every = {item.name: getattr(self, item.name) for item in fields(self)}
        return {name: tensor for name, tensor in every.items() if tensor is not None}

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.nbytes for tensor in self.tensors().values())


def width(bits: int, d: int) -> int:
    """Bytes that hold d codes. Raises ValueError for other bits, or d not a multiple of 8."""
    _check(bits, d)
    return d * bits // 8


def pack(codes, bits: int):
    """Codes, uint8 (..., d), to bytes, uint8 (..., d * bits / 8).

    Raises ValueError for codes that are no uint8 tensor or not below 2**bits, for bits other than
    1, 2, 3, 4, 8, and for d that is not a multiple of 8.
    """
    _check_bytes("codes", codes)
    _check(bits, codes.shape[-1])
    if bits < 8 and codes.numel() and (largest := int(codes.max())) >> bits:
        raise ValueError(f"a code of {bits} bits is below {1 << bits}, got {largest}")
    return _pack(codes, bits)


def unpack(packed, bits: int, d: int):
    """The inverse of `pack`: bytes, uint8 (..., d * bits / 8), to codes, uint8 (..., d).

    Raises ValueError as `pack` does, and where the bytes are not those of d codes.
    """
    import torch

    _check_bytes("packed codes", packed)
    if packed.shape[-1] != width(bits, d):
        raise ValueError(
            f"{d} codes of {bits} bits are {width(bits, d)} bytes, got {packed.shape[-1]}"
        )
    codes, start, low = None, 0, 0
    for w in PLANES[bits]:
        n = d * w // 8
        plane = packed[..., None, start : start + n]  # (..., 1, d / f)
        shifts = torch.arange(0, 8, w, dtype=torch.uint8, device=packed.device)[:, None]
        fields = ((plane >> shifts) & ((1 << w) - 1)).flatten(-2)  # (..., f, d / f) to (..., d)
        codes = fields if codes is None else codes | (fields << low)
        start, low = start + n, low + w
    return codes


def _pack(codes, bits: int):
    """`pack` for codes that are known to be good."""
    import torch

    d = codes.shape[-1]
    packed = torch.empty(
        (*codes.shape[:-1], width(bits, d)), dtype=torch.uint8, device=codes.device
    )
    start = low = 0
    for w in PLANES[bits]:
        f, n = 8 // w, d * w // 8
        plane = codes >> low if low else codes
        if low + w < bits:
            plane = plane & ((1 << w) - 1)
        fields = plane.unflatten(-1, (f, n))  # (..., f, d / f)
        bytes_ = fields[..., f - 1, :]
        for k in reversed(range(f - 1)):
            bytes_ = (bytes_ << w) | fields[..., k, :]
        packed[..., start : start + n] = bytes_
        start, low = start + n, low + w
    return packed


def checked(x, dim: int):
    """``x``, if it holds vectors (..., dim). Raises ValueError for anything else."""
    import torch

    if not isinstance(x, torch.Tensor) or not x.is_floating_point() or not x.dim():
        raise ValueError("vectors must be a tensor of floating-point numbers")
    if x.shape[-1] != dim:
        raise ValueError(f"this code is for vectors of {dim}, got {x.shape[-1]}")
    return x


def half(values):
    """Norms or scales in float16, or all as they are where one is past its range.

    Raises ValueError for what is not finite.
    """
    narrow = values.half()
    if bool(narrow.isfinite().all()):
        return narrow
    if not bool(values.isfinite().all()):
        raise ValueError("a vector holds what is not a finite number")
    return values


def _check(bits: int, d: int) -> None:
    if bits not in PLANES:
        raise ValueError(f"codes have {', '.join(map(str, PLANES))} bits, got {bits!r}")
    if whole("the dimension", d) % 8:
        raise ValueError(f"the dimension must be a multiple of 8, got {d}")


def _check_bytes(name: str, values) -> None:
    import torch

    if not isinstance(values, torch.Tensor) or values.dtype != torch.uint8 or not values.dim():
        raise ValueError(f"{name} must be a uint8 tensor with a last dimension")
