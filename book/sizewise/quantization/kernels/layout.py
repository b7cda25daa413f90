"""What the kernels read: packed codes with their norms, and the tables that codes stand for."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from sizewise.quantization.packing import width

BITS, DIMS = (2, 3, 4), (64, 128, 256)


@dataclass(frozen=True)
class Packed:
    """Keys or values of a layer: vector = rotation^T centroids[codes] * norm.

    ``codes`` uint8 (batch, kv heads, capacity, bytes), laid out by `packing`, contiguous; ``norms``
    fp16 (batch, kv heads, capacity); ``centroids`` fp32 (2**bits), ascending, of a unit vector's
    coordinates, mirrored at zero; ``rotation`` fp32 (d, d), orthogonal, contiguous, y = rotation x.
    Capacity may exceed what is filled: lengths say how much is read.
    Raises ValueError where shapes or types do not fit one another.
    """

    codes: Any
    norms: Any
    bits: int
    centroids: Any
    rotation: Any

    def __post_init__(self):
        d, bits = self.dim, self.bits
        if bits not in BITS or d not in DIMS or self.centroids.shape != (1 << bits,):
            raise ValueError(
                "kernels read codes of 2, 3 or 4 bits with as many centroids, of heads of 64, 128 "
                f"or 256 values; got {bits!r} bits, {len(self.centroids)} centroids, {d} values"
            )
        shape = (*self.norms.shape, width(bits, d))
        kinds = self.codes.dtype, self.norms.dtype
        if tuple(self.codes.shape) != shape or kinds != (torch.uint8, torch.float16):
            raise ValueError(
                f"codes of {bits} bits for {d} values and these norms must be uint8 {shape}, "
                f"norms fp16; got {tuple(self.codes.shape)}"
            )

    @property
    def dim(self) -> int:
        return self.rotation.shape[-1]

    @cached_property
    def boundaries(self):
        """Midpoints of the centroids, fp32 (2**bits - 1)."""
        fine = self.centroids.double()
        return ((fine[1:] + fine[:-1]) / 2).float()

    @cached_property
    def table(self):
        """Centroids times sqrt(d), near one, which the matrix units multiply: fp16 (2**bits)."""
        return (self.centroids.double() * self.dim**0.5).half()

    @cached_property
    def planes(self):
        """The bytes of the table that permutes pick from, int32 (4): two words of high bytes and
        two of low ones (of 4-bit codes the positive half)."""
        planes = torch.zeros(2, 8, dtype=torch.uint8, device=self.table.device)
        # Of each number the low byte comes first in memory, of the planes the high ones.
        bytes_of = self.table[-8:].view(torch.uint8).view(-1, 2)
        planes[:, : len(bytes_of)] = bytes_of.T.flip(0)
        return planes.view(torch.int32).flatten()

    @property
    def permute(self) -> bool:
        """Whether a kernel looks centroids up by byte permutes: on a GPU, not in an interpreter."""
        return self.codes.is_cuda

    @property
    def looked_up(self):
        """The table that a kernel takes."""
        return self.planes if self.permute else self.table
