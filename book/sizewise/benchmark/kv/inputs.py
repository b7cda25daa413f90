"""Random caches of one shape, plain and packed, as the rows about attention read them."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from sizewise.data import records

HEADS, DIM = 8, 128  # kv heads and their size in every shape: Llama 3.1 8B and 70B
PACKED = ("tq4", "tq3", "tq2")
BYTES = {"fp32": 4, "bf16": 2, "fp16": 2, "fp8": 1}


@dataclass(frozen=True)
class Bench:
    """Where rows are measured: "cuda" or "cpu", the file of earlier rows, and the device's name,
    of which alone those rows count.
    """

    device: str
    file: Path
    name: str = "CPU"

    @property
    def triton(self) -> bool:
        """Whether the kernels run here; else torch does their work."""
        return self.backend == "triton"

    @property
    def backend(self) -> str:
        import torch

        from sizewise.quantization import kernels

        return kernels.backend(torch.device(self.device))

    def rows(self, what: str) -> list[dict]:
        """The rows of one kind that were recorded on this device."""
        return [
            row
            for row in records.read(self.file)
            if row["what"] == what and row["device"] == self.name
        ]

    def tried(self) -> list[dict]:
        """The launches that were recorded, those that do not run left out."""
        return [row for row in self.rows("tune") if not row["refused"]]


def kind(method: str) -> str:
    """The type of a plain method's cache: "fp32", "bf16", "fp16" or "fp8"."""
    return method.split("-")[0]


def dtype(method: str):
    """The torch type of a plain method's cache."""
    import torch

    names = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16", "fp8": "float8_e4m3fn"}
    return getattr(torch, names[kind(method)])


def bits(method: str) -> int:
    """Of a packed method's codes."""
    return int(method[2])


def vector_bytes(method: str, dim: int = DIM) -> int:
    """Bytes of one stored key or value, its norm included."""
    return dim * bits(method) // 8 + 2 if method in PACKED else dim * BYTES[kind(method)]


def query(config: dict, bench: Bench):
    """One new token of each sequence, (batch, query heads, d), in the type of a plain cache; bf16
    over packed codes and fp8."""
    import torch

    shape = (config["batch"], config["kv_heads"] * config["group"], config["dim"])
    drawn = torch.randn(shape, device=bench.device)
    wide = config["method"] not in PACKED and kind(config["method"]) != "fp8"
    return drawn.to(dtype(config["method"]) if wide else torch.bfloat16)


def plain(batch: int, tokens: int, method: str, bench: Bench, dim: int = DIM):
    """Normal keys or values (batch, kv heads, tokens, d) in the method's type."""
    import torch

    x = torch.empty(batch, HEADS, tokens, dim, device=bench.device, dtype=dtype(method))
    for row in x:  # one sequence at a time: fp8 is drawn in bf16
        row.copy_(torch.randn(row.shape, device=bench.device, dtype=torch.bfloat16))
    return x


def packed(batch: int, tokens: int, method: str, bench: Bench):
    """Random bytes, which are codes like any others; norms as those of random vectors."""
    import torch

    size = (batch, HEADS, tokens, DIM * bits(method) // 8)
    codes = torch.randint(256, size, dtype=torch.uint8, device=bench.device)
    norms = (torch.rand(batch, HEADS, tokens, device=bench.device) + 0.5) * DIM**0.5
    return encoded(1, 8, method, 0, bench).over(codes, norms.half())


def encoded(batch: int, tokens: int, method: str, seed: int, bench: Bench, dim: int = DIM):
    """Normal vectors, encoded by `TurboQuant` itself."""
    import torch

    from sizewise.quantization.kernels import Packed

    code = _code(dim, bits(method), seed)
    told = code.encode(torch.randn(batch, HEADS, tokens, dim, device=bench.device))
    matrix = code.rotation.matrix(torch.device(bench.device))
    codebook = code.codebook.to(bench.device)
    return Packed(told.packed, told.norms, bits(method), codebook, matrix)


@lru_cache(maxsize=16)
def _code(dim: int, width: int, seed: int):
    from sizewise.quantization.turboquant.codec import TurboQuant

    return TurboQuant(dim, width, seed=seed)
