"""Bytes of a model's weights in a format, tensor by tensor, with what stays in 16 bits named.

The inventory of tensors comes from `models.parameters` (or a checkpoint's headers). For GGUF file
types the choice of each tensor's type follows llama.cpp's quantizer
(``llama_tensor_get_type_impl`` in ``src/llama-quant.cpp``), which the tests hold against the
headers of published files.
"""

import math
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

from sizewise.models.architecture import Model, Tensors
from sizewise.models.checkpoint import GGML_TYPES

from . import formats
from .formats import ONLY_EXPERTS, WEIGHTS, Format, Stored, is_ignored

HEADER_BYTES_A_TOKEN = 25  # of a GGUF file: a token with its score and type; 36 with merges
AS_STORED = "as stored"
_BLOCKS = {label: (block, size) for label, block, size in GGML_TYPES.values()}


class Part(NamedTuple):
    """Weights of some kinds in one format: what they are, how many and their bytes."""

    what: str
    format: str
    parameters: int
    bytes: int


def scheme(model: Model, format: "str | Format | Stored | None") -> Stored:
    """The format asked for; None: the one that the checkpoint's configuration states, else bf16.

    Raises ValueError for a format or a quantization method that is not known here.
    """
    if isinstance(format, Stored):
        return format
    if format is not None:
        return Stored(formats.weight_format(format))
    if model.stored:  # the checkpoint itself is here: its own bytes
        size = sum(size for _, _, size in model.stored)
        return Stored(Format(AS_STORED, 8 * size / (model.total or 1), keeps=frozenset({"-"})))
    return formats.stored(model.quantization or {}) or Stored(WEIGHTS["bf16"])


def parts(model: Model, format: "str | Format | Stored | None" = None) -> list[Part]:
    """Every part of a model's weights, most bytes first.

    Without a ``format``, what the checkpoint's own configuration keeps stays in 16 bits. Raises
    ValueError for an unknown format and for a model whose tensors are not known.
    """
    stored_as = scheme(model, format)
    if not model.inventory:
        if not stored_as.format.keeps and not stored_as.format.mixture and model.total:
            size = math.ceil(model.total * stored_as.format.bits / 8)
            return [Part("all weights", stored_as.format.name, model.total, size)]
        raise ValueError(f"{model.name}: its tensors are not known, only their number")
    sums: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0, 0.0])
    for row, count, name, size in assigned(model, stored_as):
        total = sums[_what(row, name, stored_as), name]
        total[0] += count * row.elements
        total[1] += size
    every = [Part(what, name, n, math.ceil(size)) for (what, name), (n, size) in sums.items()]
    every.sort(key=lambda part: -part.bytes)
    if stored_as.format.mixture:
        header = HEADER_BYTES_A_TOKEN * model.vocab_size
        every.append(Part("header and tokenizer (estimate)", "", 0, header))
    return every


def assigned(model: Model, stored_as: Stored) -> Iterator[tuple[Tensors, int, str, float]]:
    """Each row of a model's tensors with its format: (row, how many, format's name, bytes)."""
    if stored_as.format.name == AS_STORED:
        for row, kind, size in model.stored:
            yield row, row.count, kind.lower(), size
        return
    for row in model.inventory:
        if stored_as.format.mixture:
            each = row.count // max(1, len(row.layers))
            for place in range(max(1, len(row.layers))):
                kind = gguf_type(model, row, place, stored_as.format.mixture)
                block, size = _BLOCKS[kind]
                yield row, each, kind.lower(), each * math.ceil(row.elements / block) * size
            continue
        for count, form in _formats_of(row, stored_as, bool(model.experts)):
            bits = row.elements * form.bits + form.per_row * row.rows
            yield row, count, form.name, count * bits / 8


def bytes_by_kind(model: Model, stored_as: Stored) -> dict[str, float]:
    """Bytes of each kind of tensor, scales included."""
    sums: dict[str, float] = defaultdict(float)
    for row, _, _, size in assigned(model, stored_as):
        sums[row.kind] += size
    return sums


def _what(row: Tensors, name: str, stored_as: Stored) -> str:
    """Quantized linear layers are one part; what is kept is named by its kind."""
    if stored_as.format.mixture or stored_as.format.name == AS_STORED:
        return "tensors"
    if not stored_as.format.keeps and not stored_as.experts:
        return "all weights"
    if stored_as.experts and name == stored_as.experts.name:
        return "routed experts"
    return "linear layers" if name == stored_as.format.name else row.kind


def _formats_of(row: Tensors, stored_as: Stored, sparse: bool) -> list[tuple[int, Format]]:
    """How many of a row's tensors have which format."""
    wanted, plain = stored_as.format, WEIGHTS["bf16"]
    if row.kind == "routed experts" and stored_as.experts and row.is_matrix:
        return [(row.count, stored_as.experts)]
    keeps = wanted.keeps
    if wanted.name == "mxfp4" and sparse and not stored_as.ignored:
        keeps = ONLY_EXPERTS
    if not keeps:
        return [(row.count, wanted)]
    if row.kind in keeps or not row.is_matrix:
        return [(row.count, plain)]
    if not stored_as.ignored:
        return [(row.count, wanted)]
    ignored = sum(is_ignored(name, stored_as.ignored) for name in row.modules())
    kept = row.count * ignored // max(1, len(row.modules()))
    return [(n, f) for n, f in ((row.count - kept, wanted), (kept, plain)) if n]


def _more_bits(place: int, layers: int) -> bool:
    """llama.cpp's ``use_more_bits``: the first and last eighth, and every third between."""
    return place < layers // 8 or place >= 7 * layers // 8 or (place - layers // 8) % 3 == 2


def gguf_type(model: Model, row: Tensors, place: int, file_type: str) -> str:
    """The ggml type of the tensor of ``row`` in the ``place``-th layer that has one."""
    if len(row.shape) < 2 or row.kind in ("norm", "router") or not row.is_weight:
        return "F32"
    if row.kind == "vision":
        return "F16"
    wide = _wide(file_type)
    role, layers = _role(row, model), max(1, len(row.layers))
    if role == "head":
        kind = wide if wide == "Q8_0" else "Q6_K"
    else:
        kind = _by_role(file_type, wide, role, place, layers, model)
    return _that_divides(kind, row.shape[-1])


def _wide(file_type: str) -> str:
    name = file_type.removesuffix("_M").removesuffix("_S").removesuffix("_L")
    return file_type if file_type in _BLOCKS else name


def _role(row: Tensors, model: Model) -> str:
    name = row.name
    if row.kind == "output head":
        return "head"
    if row.kind == "input embedding":
        return "embedding" if any(t.kind == "output head" for t in model.inventory) else "head"
    for role, marks in (
        ("value", ("v_proj", "attn_v.", "kv_b_proj", "attn_v_b")),
        ("fused", ("qkv", "query_key_value", "c_attn", "attn_qkv")),
        ("down", ("down_proj", "ffn_down", "mlp.c_proj", "dense_4h_to_h", "w2", "fc2")),
        ("output", ("o_proj", "attn_output", "attn.c_proj", "attention.dense")),
        ("key", ("k_proj", "attn_k.")),
    ):
        if any(mark in name for mark in marks):
            return role
    return "other"


def _by_role(file_type, wide, role, place, layers, model) -> str:
    """The rules for one tensor, in the order of llama.cpp's own."""
    grouped = _queries_per_key(model)
    eight = model.experts == 8
    if role == "value":
        if file_type in ("Q4_K_M", "Q5_K_M") and _more_bits(place, layers):
            kind = "Q6_K"
        elif file_type == "Q4_K_S" and place < 4:
            kind = "Q5_K"
        elif file_type == "Q3_K_M":
            kind = "Q5_K" if place < 2 else "Q4_K"
        elif file_type == "Q2_K":
            kind = "Q4_K" if grouped >= 4 else "Q3_K"
        else:
            kind = {"Q3_K_L": "Q5_K", "IQ4_XS": "Q5_K" if grouped >= 4 else wide}.get(
                file_type, wide
            )
        return "Q8_0" if eight else kind
    if role == "key":
        return "Q8_0" if eight else wide
    if role == "down":
        if file_type in ("Q4_K_M", "Q5_K_M") and _more_bits(place, layers):
            return "Q6_K"
        early = place < layers // 8
        return {
            "Q2_K": "Q3_K", "Q3_K_M": "Q5_K" if place < layers // 16 else "Q4_K",
            "Q3_K_L": "Q5_K", "Q4_K_S": "Q5_K" if early else wide,
            "IQ4_XS": "Q5_K" if early else wide, "IQ4_NL": "Q5_K" if early else wide,
        }.get(file_type, wide)  # fmt: skip
    if role == "output":
        if eight and file_type in (
            "Q2_K",
            "Q3_K_S",
            "Q3_K_M",
            "Q4_K_S",
            "Q4_K_M",
            "IQ4_XS",
            "IQ4_NL",
        ):
            return "Q5_K"
        return {"Q2_K": "Q3_K", "Q3_K_M": "Q4_K", "Q3_K_L": "Q5_K"}.get(file_type, wide)
    if role == "fused":
        return {"Q3_K_M": "Q4_K", "Q3_K_L": "Q4_K", "Q4_K_M": "Q5_K", "Q5_K_M": "Q6_K"}.get(
            file_type, wide
        )
    return wide


def _queries_per_key(model: Model) -> int:
    for layer in model.layers:
        heads = getattr(layer.attention, "query_heads", None)
        if heads and hasattr(layer.attention, "kv_heads"):
            return heads // layer.attention.kv_heads
    return 1


_NARROWER = {
    "Q2_K": "IQ4_NL", "Q3_K": "IQ4_NL", "IQ4_XS": "IQ4_NL", "Q4_K": "Q5_0", "Q5_K": "Q5_1",
    "Q6_K": "Q8_0",
}  # fmt: skip


def _that_divides(kind: str, row: int) -> str:
    """The type itself, or llama.cpp's stand-in where a row is no multiple of its block."""
    if row % _BLOCKS[kind][0]:
        kind = _NARROWER.get(kind, "F16")
    return "F16" if row % _BLOCKS[kind][0] else kind
