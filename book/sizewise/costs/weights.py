"""Bytes of a model's weights in a format, tensor by tensor, with what stays in 16 bits named.

The inventory of tensors comes from `models.parameters` (or a checkpoint's headers). For GGUF file
types the choice of each tensor's type follows llama.cpp's quantizer
(``llama_tensor_get_type_impl`` in ``src/llama-quant.cpp``), which the tests hold against the
headers of published files.
"""

import math
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

from sizewise.models.architecture import Model, Tensors
from sizewise.models.checkpoint import GGML_TYPES

from . import formats
from .formats import ONLY_EXPERTS, WEIGHTS, Format, Stored, is_ignored

AS_STORED = "as stored"
_BLOCKS = {label: (block, size) for label, block, size in GGML_TYPES.values()}
# Bytes of a GGUF file's header for each token of its tokenizer, measured on three published files:
# gemma-3-270m 24.9 (text and score), smollm2-135m 36.3 and qwen2.5-coder-0.5b 39.1 (text and
# merges). A text is as long as its tokenizer's words, so another file may differ by a tenth.
SCORED, MERGED = 24.9, 37.7
SCORED_TYPES = ("gemma", "mistral", "mixtral", "phi3", "t5")  # tokenizers of SentencePiece


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
    return formats.stored(model.quantization)


def parts(model: Model, format: "str | Format | Stored | None" = None) -> list[Part]:
    """Every part of a model's weights, most bytes first.

    Without a ``format``, what the checkpoint's own configuration keeps stays in 16 bits. Raises
    ValueError for an unknown format and for a model whose tensors are not known.
    """
    stored_as = scheme(model, format)
    if not model.inventory:
        raise ValueError(f"{model.name}: its tensors are not known, only their number")
    elements: dict[tuple[str, str], int] = defaultdict(int)
    sizes: dict[tuple[str, str], float] = defaultdict(float)
    for row, count, name, row_bytes in assigned(model, stored_as):
        elements[_what(row, name, stored_as), name] += count * row.elements
        sizes[_what(row, name, stored_as), name] += row_bytes
    every = [Part(*key, elements[key], math.ceil(size)) for key, size in sizes.items()]
    every.sort(key=lambda part: -part.bytes)
    if stored_as.format.mixture:
        scored = model.vocab_size <= 32_768 or model.config_type.startswith(SCORED_TYPES)
        header = math.ceil((SCORED if scored else MERGED) * model.vocab_size)
        every.append(Part("header and tokenizer (within 10 %)", "", 0, header))
    return every


def mtp_bytes(model: Model, format: "str | Format | Stored | None" = None) -> int:
    """Bytes of the layers for multi-token prediction that are stored beside the model.

    Each is a layer like the last, in its formats; what joins it to the model stays in 16 bits.
    """
    last, stored_as = len(model.layers) - 1, scheme(model, format)
    if not model.mtp or not model.inventory:
        return 2 * model.mtp
    if stored_as.format.name == AS_STORED:  # whatever is stored is in the model's own bytes
        stored_as = formats.stored(model.quantization)
    rows = [
        (row, n, size)
        for row, n, _, size in assigned(model, stored_as)
        if row.kind != "vision" and last in row.layers
    ]
    layer = sum(n * row.elements / len(row.layers) for row, n, _ in rows)
    size = sum(size / len(row.layers) for row, _, size in rows)
    number = max(1, int(model.mtp // (layer or model.mtp)))
    return math.ceil(number * size + 2 * (model.mtp - number * layer))


@lru_cache(maxsize=256)
def assigned(model: Model, stored_as: Stored) -> tuple[tuple[Tensors, int, str, float], ...]:
    """Each row of a model's tensors with its format: (row, how many, format's name, bytes)."""
    return tuple(_assigned(model, stored_as))


def _assigned(model: Model, stored_as: Stored) -> Iterator[tuple[Tensors, int, str, float]]:
    if stored_as.format.name == AS_STORED:
        for row, kind, size in model.stored:
            yield row, row.count, kind.lower(), size
        return
    for row in model.inventory:
        if stored_as.format.mixture:
            number = row.count // max(1, len(row.layers))
            for index in range(max(1, len(row.layers))):
                kind = gguf_type(model, row, index, stored_as.format.mixture)
                block, size = _BLOCKS[kind]
                part = replace(row, layers=row.layers[index : index + 1])
                yield part, number, kind.lower(), number * math.ceil(row.elements / block) * size
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
    quantized = {stored_as.format.name, *(form.name for _, form in stored_as.groups)}
    return "linear layers" if name in quantized else row.kind


def _formats_of(row: Tensors, stored_as: Stored, sparse: bool) -> list[tuple[int, Format]]:
    """How many of a row's tensors have which format."""
    main, plain, modules = stored_as.format, WEIGHTS["bf16"], row.modules()
    if row.kind == "routed experts" and stored_as.experts and row.is_matrix:
        return [(row.count, stored_as.experts)]
    counts: dict[Format, int] = defaultdict(int)
    for name in modules if row.is_matrix and (stored_as.groups or stored_as.ignored) else ():
        # A group that names the module decides, then the list of what was left alone.
        form = next((f for targets, f in stored_as.groups if is_ignored(name, targets)), None)
        if form is None and is_ignored(name, stored_as.ignored):
            form = plain
        if form is not None:
            counts[form] += row.count // len(modules)
    keeps = (
        ONLY_EXPERTS if main.name == "mxfp4" and sparse and not stored_as.ignored else main.keeps
    )
    in_16_bits = keeps and (row.kind in keeps or not row.is_matrix)
    counts[plain if in_16_bits else main] += row.count - sum(counts.values())
    return [(n, form) for form, n in counts.items() if n]


def _more_bits(index: int, layers: int) -> bool:
    """llama.cpp's ``use_more_bits``: the first and last eighth, and every third between."""
    return index < layers // 8 or index >= 7 * layers // 8 or (index - layers // 8) % 3 == 2


def gguf_type(model: Model, row: Tensors, index: int, file_type: str) -> str:
    """The ggml type of the tensor of ``row`` in the ``place``-th layer that has one."""
    if len(row.shape) < 2 or row.kind in ("norm", "router") or not row.is_weight:
        return "F32"
    if row.kind == "vision":
        return "F16"
    plain = file_type if file_type in _BLOCKS else re.sub("_[SML]$", "", file_type)
    kind = _by_role(file_type, plain, _role(row, model), index, max(1, len(row.layers)), model)
    if row.shape[-1] % _BLOCKS[kind][0]:  # llama.cpp's stand-in where rows don't divide in blocks
        kind = _NARROWER.get(kind, "F16")
    return "F16" if row.shape[-1] % _BLOCKS[kind][0] else kind


_NARROWER = {
    "Q2_K": "IQ4_NL",
    "Q3_K": "IQ4_NL",
    "IQ4_XS": "IQ4_NL",
    "Q4_K": "Q5_0",
    "Q5_K": "Q5_1",
    "Q6_K": "Q8_0",
}
_MARKS = {
    "value": ("v_proj", "attn_v.", "kv_b_proj", "attn_v_b"),
    "fused": ("qkv", "query_key_value", "c_attn", "attn_qkv"),
    "down": ("down_proj", "ffn_down", "mlp.c_proj", "dense_4h_to_h", "w2", "fc2"),
    "output": ("o_proj", "attn_output", "attn.c_proj", "attention.dense"),
    "key": ("k_proj", "attn_k."),
}
# By role and file type, the type of a tensor where it isn't the file's own.
_OTHER = {
    "value": {"Q3_K_L": "Q5_K", "Q3_K_M": "Q4_K"},
    "down": {"Q2_K": "Q3_K", "Q3_K_M": "Q4_K", "Q3_K_L": "Q5_K"},
    "output": {"Q2_K": "Q3_K", "Q3_K_M": "Q4_K", "Q3_K_L": "Q5_K"},
    "fused": {"Q3_K_M": "Q4_K", "Q3_K_L": "Q4_K", "Q4_K_M": "Q5_K", "Q5_K_M": "Q6_K"},
}
# Mixtures whose attention output gets more bits in a model of eight experts, as Mixtral is.
_EIGHT = {"Q2_K", "Q3_K_S", "Q3_K_M", "Q4_K_S", "Q4_K_M", "IQ4_XS", "IQ4_NL"}


def _role(row: Tensors, model: Model) -> str:
    if row.kind == "output head":
        return "head"
    if row.kind == "input embedding":  # a tied one is also the head
        return "other" if any(t.kind == "output head" for t in model.inventory) else "head"
    for role, marks in _MARKS.items():
        if any(mark in row.name for mark in marks):
            return role
    return "other"


def _by_role(file_type: str, plain: str, role: str, index: int, layers: int, model: Model) -> str:
    """The rules for one tensor, in the order of llama.cpp's own."""
    if role == "head":
        return plain if plain == "Q8_0" else "Q6_K"
    if role in ("value", "key") and model.experts == 8:
        return "Q8_0"
    if role == "value" and file_type == "Q4_K_S" and index < 4:
        return "Q5_K"
    if role == "value" and file_type == "Q3_K_M" and index < 2:
        return "Q5_K"
    if role == "value" and file_type in ("Q2_K", "IQ4_XS"):
        wide = {"Q2_K": ("Q4_K", "Q3_K"), "IQ4_XS": ("Q5_K", plain)}[file_type]
        return wide[0] if _queries_per_key(model) >= 4 else wide[1]
    if role in ("value", "down") and file_type in ("Q4_K_M", "Q5_K_M"):
        return "Q6_K" if _more_bits(index, layers) else plain
    if role == "down" and file_type in ("Q4_K_S", "IQ4_XS", "IQ4_NL") and index < layers // 8:
        return "Q5_K"
    if role == "down" and file_type == "Q3_K_M" and index < layers // 16:
        return "Q5_K"
    if role == "output" and model.experts == 8 and file_type in _EIGHT:
        return "Q5_K"
    return _OTHER.get(role, {}).get(file_type, plain)


def _queries_per_key(model: Model) -> int:
    for layer in model.layers:
        heads, cached = (getattr(layer.attention, n, None) for n in ("query_heads", "kv_heads"))
        if heads and cached:
            return heads // cached
    return 1
