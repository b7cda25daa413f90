"""What the kernels read: packed codes with their norms, and the tables that codes stand for."""

from dataclasses import dataclass, field
from typing import Any

import torch

from sizewise.quantization.packing import width

BITS, DIMS = (2, 3, 4), (64, 128, 256)


@dataclass(frozen=True)
class Packed:
    """Keys or values of a layer: vector = rotation^T centroids[codes] * norm.

    ``codes`` uint8 (batch, kv heads, capacity, bytes), laid out by `packing`, contiguous; ``norms``
    fp16 (batch, kv heads, capacity); ``centroids`` fp32 (2**bits), ascending, of a unit vector's
    coordinates, mirrored at zero; ``rotation`` fp32 (d, d), orthogonal, y = rotation x. Capacity
    may exceed what is filled: lengths say how much is read. ``table`` is the centroids times
    sqrt(d) in fp16, near one, which the matrix units multiply; ``planes`` the bytes of it that
    permutes pick from, int32 (4), two words of high bytes and two of low ones (of 4-bit codes the
    positive half); ``boundaries`` midpoints, fp32 (2**bits - 1).
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

    def __post_init__(self):
        d, bits = self.rotation.shape[-1], self.bits
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
        fine = self.centroids.double()
        table = (fine * d**0.5).half()
        planes = torch.zeros(2, 8, dtype=torch.uint8, device=table.device)
        # Of each number the low byte comes first in memory, of the planes the high ones.
        planes[:, : min(8, len(table))] = table[-8:].view(torch.uint8).view(-1, 2).T.flip(0)
        for name, value in (
            ("centroids", self.centroids.float().contiguous()),
            ("rotation", self.rotation.float().contiguous()),
            ("table", table),
            ("planes", planes.view(torch.int32).flatten()),
            ("boundaries", ((fine[1:] + fine[:-1]) / 2).float()),
        ):
            object.__setattr__(self, name, value)

    @property
    def dim(self) -> int:
        return self.rotation.shape[-1]

    @property
    def permute(self) -> bool:
        """Whether a kernel looks centroids up by byte permutes: on a GPU, not in an interpreter."""
        return self.codes.is_cuda

    @property
    def looked_up(self):
        """The table that a kernel takes."""
        return self.planes if self.permute else self.table
