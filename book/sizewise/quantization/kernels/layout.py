"""What the kernels read: packed codes with their norms, and how a launch is tuned."""

from dataclasses import dataclass, field, replace

from sizewise.quantization.packing import width
from sizewise.validation import whole

BITS = (2, 3, 4)
MOST = 512  # splits of one sequence: `merge` reads them in one tile
WAVES = 4  # programs a multiprocessor


@dataclass(frozen=True)
class Packed:
    """Keys or values of a layer: vector = rotation^T centroids[codes] * norm.

    ``codes`` uint8 (batch, kv heads, capacity, bytes), laid out by `packing`; ``norms`` fp16
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

    ``block`` tokens a tile; ``splits`` of each sequence, 0 for as many as fill the device
    (`splits_for`); ``warps`` and ``stages`` of the kernel.
    Raises ValueError for values outside what the kernels take.
    """

    block: int = 64
    splits: int = 0
    warps: int = 4
    stages: int = 3

    def __post_init__(self):
        if self.block not in (16, 32, 64, 128, 256):
            raise ValueError(f"a tile has 16, 32, 64, 128 or 256 tokens, got {self.block!r}")
        whole("splits", self.splits, MOST, 0)
        if self.warps not in (1, 2, 4, 8):
            raise ValueError(f"warps must be 1, 2, 4 or 8, got {self.warps!r}")
        whole("stages", self.stages, 8)


def splits_for(programs: int, tokens: int, tuning: Tuning, device) -> int:
    """Shares of each sequence, so that ``programs`` times as many fill the device `WAVES` times.

    No share is shorter than a tile. A multiprocessor that holds several programs at once hides
    the loads of one behind the work of another.
    """
    import torch

    if tuning.splits:
        return tuning.splits
    units = 132  # of an H100 or H200, where there is no GPU to ask
    if device.type == "cuda":
        units = torch.cuda.get_device_properties(device).multi_processor_count
    return max(1, min(WAVES * units // programs, -(-tokens // tuning.block), MOST))
