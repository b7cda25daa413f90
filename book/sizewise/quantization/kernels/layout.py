"""What the kernels read: packed codes with their norms, and how a launch is tuned."""

from copy import copy
from dataclasses import dataclass, field
from typing import Any

import torch

from sizewise.quantization.packing import width
from sizewise.validation import whole

BITS = (2, 3, 4)
MOST = 512  # splits of one sequence: `merge` reads them in one tile
WAVES = 4  # programs a multiprocessor
UNITS = 132  # multiprocessors of an H100 or H200, where there is no GPU to ask


@dataclass(frozen=True)
class Packed:
    """Keys or values of a layer: vector = rotation^T centroids[codes] * norm.

    ``codes`` uint8 (batch, kv heads, capacity, bytes), laid out by `packing`; ``norms`` fp16
    (batch, kv heads, capacity); ``centroids`` fp32 (2**bits), ascending, of a unit vector's
    coordinates; ``rotation`` fp32 (d, d), orthogonal, y = rotation x. Capacity may exceed what is
    filled: lengths say how much is read. ``table`` is the centroids times sqrt(d) in fp16, near
    one, which the matrix units multiply; ``planes`` the bytes of it that permutes pick from, int32
    (4), two words of high bytes and two of low ones (of 4-bit codes the positive half, which the
    other half mirrors if ``mirrored``); ``boundaries`` midpoints, fp32 (2**bits - 1).
    Raises ValueError where shapes or types do not fit one another.
    """

    codes: Any
    norms: Any
    bits: int
    centroids: Any
    rotation: Any
    table: Any = field(init=False, repr=False)
    boundaries: Any = field(init=False, repr=False)
    planes: Any = field(init=False, repr=False)
    mirrored: bool = field(init=False, repr=False)
    pitch: int = field(init=False, repr=False)  # vectors from one head's first to the next one's

    def __post_init__(self):
        self._check()
        d, fine = self.dim, self.centroids.double()
        table = (fine * d**0.5).half()
        planes = torch.zeros(2, 8, dtype=torch.uint8, device=table.device)
        # Of each number the low byte comes first in memory, of the planes the high ones.
        planes[:, : min(8, len(table))] = table[-8:].view(torch.uint8).view(-1, 2).T.flip(0)
        for name, value in (
            ("centroids", self.centroids.float().contiguous()),
            ("rotation", self.rotation.float().contiguous()),
            ("table", table),
            ("planes", planes.view(torch.int32).flatten()),
            ("mirrored", self.bits < 4 or torch.equal(table, -table.flip(0))),
            ("boundaries", ((fine[1:] + fine[:-1]) / 2).float()),
        ):
            object.__setattr__(self, name, value)

    def _check(self) -> None:
        d = self.rotation.shape[-1]
        if self.bits not in BITS or d not in (64, 128, 256):
            raise ValueError(
                "kernels read codes of 2, 3 or 4 bits, of heads of 64, 128 or 256 values; "
                f"got {self.bits!r} bits and {d} values"
            )
        if self.centroids.shape != (1 << self.bits,):
            raise ValueError(f"{self.bits} bits have {1 << self.bits} centroids")
        shape = (*self.norms.shape, width(self.bits, d))
        if len(shape) != 4 or tuple(self.codes.shape) != shape:
            raise ValueError(
                f"codes of {self.bits} bits for {d} values and these norms must be {shape}, "
                f"got {tuple(self.codes.shape)}"
            )
        if (self.codes.dtype, self.norms.dtype) != (torch.uint8, torch.float16):
            raise ValueError("codes must be uint8 and norms fp16")
        # Kernels walk heads of one pitch, of which a view may show the last tokens alone.
        batch, heads, tokens, nbytes = shape
        pitch = self.norms.stride(1 if heads > 1 else 0) if batch * heads > 1 else tokens
        rows = (heads * pitch, pitch, 1)
        strides = (*(row * nbytes for row in rows), 1)
        if not (_lies_in(self.norms, rows) and _lies_in(self.codes, strides)):
            raise ValueError("codes and norms must be contiguous, or the last tokens of what is")
        object.__setattr__(self, "pitch", pitch)

    @property
    def dim(self) -> int:
        return self.rotation.shape[-1]

    def over(self, codes, norms) -> "Packed":
        """The same codebook and rotation over other storage."""
        other = copy(self)
        object.__setattr__(other, "codes", codes)
        object.__setattr__(other, "norms", norms)
        other._check()
        return other


def _lies_in(tensor, strides: tuple) -> bool:
    """Whether a tensor has these strides wherever it has more than one entry."""
    axes = zip(tensor.shape, tensor.stride(), strides, strict=True)
    return all(size == 1 or stride == expected for size, stride, expected in axes)


@dataclass(frozen=True)
class Tuning:
    """How decode attention is launched: ``block`` tokens a tile, ``splits`` of each sequence (0:
    as many as fill the device), ``warps`` and ``stages`` of the kernel.

    Raises ValueError for values outside what the kernels take.
    """

    block: int = 64
    splits: int = 0
    warps: int = 4
    stages: int = 3

    def __post_init__(self):
        if self.block not in (16, 32, 64, 128, 256) or self.warps not in (1, 2, 4, 8):
            raise ValueError(f"tiles have 16 to 256 tokens and 1 to 8 warps, powers of two: {self}")
        whole("splits", self.splits, MOST, 0)
        whole("stages", self.stages, 8)

    def splits_for(self, programs: int, tokens: int, device) -> int:
        """Shares of each sequence, so that ``programs`` times as many fill the device.

        No share is shorter than a tile. A multiprocessor that holds several programs at once hides
        the loads of one behind the work of another.
        """
        if self.splits:
            return self.splits
        units = UNITS
        if device.type == "cuda":
            units = torch.cuda.get_device_properties(device).multi_processor_count
        return max(1, min(WAVES * units // programs, -(-tokens // self.block), MOST))
