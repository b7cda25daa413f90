"""Number formats: what one stored weight or cache value takes, its scales included."""

from dataclasses import dataclass

from sizewise import units


@dataclass(frozen=True)
class Format:
    """Bits of one stored value, with everything that is stored beside it.

    ``per_row`` bits come once for every row of a weight matrix, or once for every stored vector
    of a cache (one head's key or value of one token).
    """

    name: str
    bits: float
    per_row: float = 0.0
    note: str = ""


def _table(*formats: Format) -> dict[str, Format]:
    return {one.name: one for one in formats}


PLAIN = (
    Format("fp32", 32),
    Format("bf16", 16),
    Format("fp16", 16),
    Format("fp8", 8, note="one scale a tensor, not counted"),
)
WEIGHTS = _table(
    *PLAIN,
    Format("fp8-block", 8 + 32 / 128**2, note="fp32 scale for 128 x 128: DeepSeek-V3, section 3.3"),
    Format("int8", 8, 32, note="fp32 scale an output row: LLM.int8(), Dettmers et al. 2022"),
    Format("nf4", 4 + 32 / 64, note="fp32 scale for 64: QLoRA, section 3"),
    Format("nf4-dq", 4 + 8 / 64 + 32 / (64 * 256), note="scales in 8 bits: QLoRA, section 3"),
    Format("fp4", 4 + 32 / 64, note="bitsandbytes: fp32 scale for 64"),
    Format("fp4-dq", 4 + 8 / 64 + 32 / (64 * 256), note="bitsandbytes: scales in 8 bits"),
    Format("mxfp4", 4 + 8 / 32, note="8-bit exponent for 32: OCP Microscaling v1.0"),
    Format("nvfp4", 4 + 8 / 16, note="fp8 scale for 16; one fp32 a tensor not counted"),
    Format("int4", 4, note="no scales: a bound, not a format"),
    Format("int4-g128", 4 + 16 / 128, note="fp16 scale for 128, symmetric"),
    Format("int4-g128-zero", 4 + 20 / 128, note="fp16 scale and 4-bit zero point for 128: GPTQ"),
    Format("q8_0", 8 + 16 / 32, note="GGUF: fp16 scale for 32"),
    Format("q6_k", 6.5625, note="GGUF: 210 bytes for 256"),
    Format("q4_0", 4 + 16 / 32, note="GGUF: fp16 scale for 32"),
    Format("q4_k", 4.5, note="GGUF: 144 bytes for 256"),
    Format(
        "q4_k_m", 4.85, note="GGUF mixture of q4_k and q6_k; typical, differs from file to file"
    ),
)
CACHES = _table(
    *PLAIN,
    Format("int8", 8, note="scales not counted"),
    Format("int8-token", 8, 16, note="fp16 scale a vector"),
    Format("int4", 4 + 32 / 64, note="fp16 scale and zero point for 64"),
    Format("int2", 2 + 32 / 32, note="fp16 scale and zero point for 32: KIVI, Liu et al. 2024"),
    Format("nf4", 4 + 16 / 64, note="fp16 scale for 64"),
    Format("tq4", 4, 16, note="TurboQuant, 4 bits a coordinate, fp16 norm a vector"),
    Format("tq3", 3, 16, note="TurboQuant, 3 bits a coordinate, fp16 norm a vector"),
    Format("tq2", 2, 16, note="TurboQuant, 2 bits a coordinate, fp16 norm a vector"),
)


def weight_format(name: str | Format) -> Format:
    """A weight format by name, or as it is. Raises ValueError with the nearest name."""
    return _lookup("weight format", name, WEIGHTS)


def cache_format(name: str | Format) -> Format:
    """A cache format by name, or as it is. Raises ValueError with the nearest name."""
    return _lookup("cache format", name, CACHES)


def _lookup(kind: str, name: str | Format, table: dict[str, Format]) -> Format:
    if isinstance(name, Format):
        return name
    found = table.get(str(name).lower().replace("_", "-")) or table.get(str(name).lower())
    if found is None:
        raise units.unknown(kind, name, table)
    return found
