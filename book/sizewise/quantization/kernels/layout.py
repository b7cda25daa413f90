"""What the kernels read: packed codes with their norms, and how a launch is tuned."""

from dataclasses import dataclass, field, replace
from itertools import product

from sizewise.quantization.packing import width
from sizewise.units import unknown
from sizewise.validation import whole

BITS = (2, 3, 4)
LOOKUPS = ("auto", "gather", "prmt")


@dataclass(frozen=True)
class Packed:
    """Keys or values of a layer: vector = rotation^T centroids[codes] * norm.

    ``codes`` uint8 (batch, kv heads, capacity, bytes), laid out by `quant.packing`; ``norms`` fp16
    (batch, kv heads, capacity); ``centroids`` fp32 (2**bits), ascending, of a unit vector's
    coordinates; ``rotation`` fp32 (d, d), orthogonal, y = rotation x. Capacity may exceed what is
    filled: lengths say how much is read.
    Raises ValueError where shapes, types or devices do not fit one another.
    """

    codes: object
    norms: object
    bits: int
    centroids: object
    rotation: object
    _kept: dict = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self):
        import torch

        if self.bits not in BITS:
            raise ValueError(f"kernels read codes of 2, 3 or 4 bits, got {self.bits!r}")
        for name, dtype in (("codes", torch.uint8), ("norms", torch.float16)):
            if getattr(self, name).dtype != dtype:
                raise ValueError(f"{name} must be {dtype}, got {getattr(self, name).dtype}")
        for name in ("centroids", "rotation"):  # kernels walk them as they lie in memory
            object.__setattr__(self, name, getattr(self, name).float().contiguous())
        d = self.dim
        if d not in (64, 128, 256):
            raise ValueError(f"kernels take heads of 64, 128 or 256 values, got {d}")
        if self.codes.dim() != 4 or self.codes.shape[-1] != width(self.bits, d):
            raise ValueError(
                f"codes of {self.bits} bits for {d} values must be (batch, kv heads, capacity, "
                f"{width(self.bits, d)}), got {tuple(self.codes.shape)}"
            )
        if self.norms.shape != self.codes.shape[:3]:
            raise ValueError(
                f"norms must be {tuple(self.codes.shape[:3])}, got {tuple(self.norms.shape)}"
            )
        if self.codes.stride(-1) != 1 or self.norms.stride(-1) != 1:
            raise ValueError("codes and norms must be contiguous in their last dimension")
        if self.centroids.shape != (1 << self.bits,):
            raise ValueError(
                f"{self.bits} bits have {1 << self.bits} centroids, "
                f"got {tuple(self.centroids.shape)}"
            )

    @property
    def dim(self) -> int:
        return self.rotation.shape[-1]

    @property
    def symmetric(self) -> bool:
        """Whether the centroids are mirrored at zero, as those of a symmetric density are."""
        if "symmetric" not in self._kept:  # asked once: the answer waits for the device
            error = (self.centroids + self.centroids.flip(0)).abs().max()
            self._kept["symmetric"] = bool(error < 1e-6)
        return self._kept["symmetric"]

    @property
    def bytes_per_vector(self) -> int:
        return self.codes.shape[-1] + 2

    def table(self):
        """The centroids times sqrt(d) in fp16, which the matrix units multiply; near one."""
        import torch

        if "table" not in self._kept:
            scaled = (self.centroids.double() * self.dim**0.5).to(torch.float16)
            self._kept["table"] = scaled.contiguous()
        return self._kept["table"]

    def boundaries(self):
        """Midpoints of neighbouring centroids, fp32 (2**bits - 1)."""
        if "boundaries" not in self._kept:
            c = self.centroids.double()
            self._kept["boundaries"] = ((c[1:] + c[:-1]) / 2).float().contiguous()
        return self._kept["boundaries"]

    def over(self, codes, norms) -> "Packed":
        """The same codebook and rotation over other storage."""
        return replace(self, codes=codes, norms=norms)


@dataclass(frozen=True)
class Tuning:
    """How decode attention is launched.

    ``block`` tokens a tile; ``splits`` of each sequence, 0 for as many as make ``waves`` whole
    rounds of what the device holds at once, and ``waves`` 0 for the fewest that fill it
    (`occupancy`); ``warps`` and ``stages`` of the kernel. ``lookup``, how a code becomes a
    centroid: "gather" loads it from a table that the first-level cache holds; "prmt" (NVIDIA only)
    looks four up at a time with byte permutes; "auto" takes the second where it runs. ``overlap``:
    each launch may begin before the one before has ended (programmatic dependent launch: NVIDIA,
    Hopper or later).
    Raises ValueError for values outside what the kernels take.
    """

    block: int = 64
    splits: int = 0
    warps: int = 4
    stages: int = 3
    lookup: str = "auto"
    waves: int = 0
    overlap: bool = False

    def __post_init__(self):
        if self.block not in (16, 32, 64, 128, 256):
            raise ValueError(f"a tile has 16, 32, 64, 128 or 256 tokens, got {self.block!r}")
        whole("splits", self.splits, 512, 0)
        if self.warps not in (1, 2, 4, 8):
            raise ValueError(f"warps must be 1, 2, 4 or 8, got {self.warps!r}")
        whole("stages", self.stages, 8)
        whole("waves", self.waves, 16, 0)
        if self.lookup not in LOOKUPS:
            raise unknown("lookup", self.lookup, LOOKUPS)


def space(blocks=(64, 128), warps=(4, 8), stages=(2, 3)):
    """The tiles that tuning tries first."""
    return [
        Tuning(block=block, warps=warp, stages=stage)
        for block, warp, stage in product(blocks, warps, stages)
    ]
