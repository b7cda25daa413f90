"""What a checkpoint holds, from its headers alone: names, shapes, bytes. No tensor is read.

GGUF (versions 2 and 3), safetensors, and the ``index.json`` of a sharded safetensors checkpoint.
A header is a stranger's data: each length is held against the size of the file before anything
is read or made room for, so a lying header costs neither memory nor time.

Sources: the GGUF specification in ggml's ``docs/gguf.md``; the format section of the safetensors
README.
"""

import json
import math
import os
import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

MAX_HEADER = 1 << 28  # bytes; the largest known, a vocabulary of 262,144 with merges, takes 20 MB
MAX_TENSORS = 1_000_000  # Kimi K3 has 497,220
MAX_KEYS = 100_000
MAX_ITEMS = 20_000_000  # of one array; a vocabulary has at most a million
MAX_DIMS = 8
MAX_ELEMENTS = 10**15  # of one tensor

# ggml's types: values a block, bytes a block.
GGML_TYPES = {
    0: ("F32", 1, 4),
    1: ("F16", 1, 2),
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    9: ("Q8_1", 32, 36),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    24: ("I8", 1, 1),
    25: ("I16", 1, 2),
    26: ("I32", 1, 4),
    27: ("I64", 1, 8),
    28: ("F64", 1, 8),
    29: ("IQ1_M", 256, 56),
    30: ("BF16", 1, 2),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
}
# Bits of a value of each of safetensors' types.
SAFETENSORS_BITS = {
    name: bits
    for bits, names in {
        64: "F64 I64 U64 C64",
        32: "F32 I32 U32",
        16: "F16 BF16 I16 U16",
        8: "F8_E4M3 F8_E5M2 F8_E8M0 F8_E4M3FNUZ F8_E5M2FNUZ I8 U8 BOOL",
        6: "F6_E2M3 F6_E3M2",
        4: "F4",
    }.items()
    for name in names.split()
}
# A number of the GGUF key-value types: struct's letter.
_NUMBERS = dict(enumerate("BbHhIif?")) | {10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9

# What stands beside the weights in quantized safetensors files and is no parameter itself.
BESIDE = re.compile(
    r"(_scales?|\.scales?|\.biases|_scale_inv|scale_2|input_scale|k_scale|v_scale|weight_zero_point|qzeros"
    r"|g_idx|absmax|nested_absmax|quant_map|nested_quant_map|quant_state\S*|weight_shape"
    r"|weight_g_idx|SCB|weight_format|rotary_emb\.inv_freq|e_score_correction_bias)$"
)
LFS = b"version https://git-lfs"
MLX_GROUP = 64  # inputs with one scale, unless a configuration states others


class Tensor(NamedTuple):
    """One stored tensor. ``parameters`` are the weights in it, however they are packed."""

    name: str
    type: str
    shape: tuple[int, ...]
    bytes: int
    parameters: int


class Sum(NamedTuple):
    """All tensors of one type."""

    type: str
    tensors: int
    parameters: int
    bytes: int

    @property
    def bits(self) -> float:
        """Bits a weight, scales included."""
        return 8 * self.bytes / (self.parameters or 1)


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of one checkpoint, over all its files, and what its headers say beside them."""

    path: Path
    kind: str  # gguf, safetensors or index
    tensors: tuple[Tensor, ...] = field(repr=False)
    metadata: dict[str, Any] = field(repr=False)
    files: int
    file_bytes: int  # of all files: headers, tokenizer and padding too
    total_size: int | None = None  # as an index states it, where no shard lies beside it

    @property
    def parameters(self) -> int | None:
        """Weights in all tensors; None for an index without its shards."""
        return sum(tensor.parameters for tensor in self.tensors) if self.tensors else None

    @property
    def tensor_bytes(self) -> int:
        """Bytes of all tensors, without headers and padding."""
        if not self.tensors:
            return self.total_size or 0
        return sum(tensor.bytes for tensor in self.tensors)

    def by_type(self) -> list["Sum"]:
        """Tensors, parameters and bytes of each type, most bytes first."""
        sums: dict[str, Sum] = {}
        for tensor in self.tensors:
            _, number, parameters, size = sums.get(tensor.type, Sum(tensor.type, 0, 0, 0))
            sums[tensor.type] = Sum(
                tensor.type, number + 1, parameters + tensor.parameters, size + tensor.bytes
            )
        return sorted(sums.values(), key=lambda row: (-row.bytes, row.type))


def is_checkpoint(path: Path) -> bool:
    """Whether a file's name is that of a checkpoint that `read` can open."""
    return path.suffix.lower() in (".gguf", ".safetensors") or path.name.endswith(".index.json")


def read(path: str | Path) -> Checkpoint:
    """The headers of a GGUF or safetensors file, with its other shards, or of an index.

    Raises ValueError, in one line, for a file that is missing, of another kind, cut short, or
    whose header contradicts itself or the file's size.
    """
    path = Path(path)
    try:
        if not path.is_file():
            raise ValueError(f"no such file: {path}")
        if path.suffix.lower() == ".gguf":
            return _gguf(path)
        if path.name.endswith(".index.json"):
            return _index(path)
        return _joined(path, "safetensors", [path], _safetensors_part)
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error


def folder(path: Path) -> Checkpoint | None:
    """The safetensors checkpoint in a folder; None where there is none."""
    index = path / "model.safetensors.index.json"
    if index.is_file():
        return read(index)
    shards = sorted(path.glob("*.safetensors"))
    return _joined(path, "safetensors", shards, _safetensors_part) if shards else None


class _Header:
    """A file read from its beginning, never beyond its end or `MAX_HEADER`."""

    def __init__(self, file, path: Path):
        self.file, self.path = file, path
        if file.peek(len(LFS)).startswith(LFS):
            raise ValueError(f"{path}: a pointer of Git LFS; git lfs pull fetches the file itself")
        self.size = os.fstat(file.fileno()).st_size
        self.end = min(self.size, MAX_HEADER)
        self.place = 0

    def advance(self, length: int) -> int:
        """``length``, if so much is there; from here on it counts as passed."""
        if length > self.end - self.place:
            raise ValueError(f"{self.path}: cut short, or a length in its header is wrong")
        self.place += length
        return length

    def take(self, length: int) -> bytes:
        return self.file.read(self.advance(length))

    def skip(self, length: int) -> None:
        self.file.seek(self.advance(length), os.SEEK_CUR)

    def number(self, letter: str):
        return struct.unpack("<" + letter, self.take(struct.calcsize(letter)))[0]

    def count(self, label: str, limit: int) -> int:
        number = self.number("Q")
        if number > limit:
            raise ValueError(f"{self.path}: states {number} {label}, over {limit:,}")
        return number

    def text(self) -> str:
        return self.take(self.count("bytes of one name", 1 << 24)).decode("utf-8", "replace")


def _gguf(path: Path) -> Checkpoint:
    """All parts of a GGUF checkpoint, whichever of them ``path`` is."""
    match = re.fullmatch(r"(.*)-(\d{5})-of-(\d{5})\.gguf", path.name)
    paths = [path]
    if match and 1 < int(match[3]) <= 1000:
        names = (f"{match[1]}-{n:05}-of-{match[3]}.gguf" for n in range(1, int(match[3]) + 1))
        paths = [path.parent / name for name in names]
        if missing := [part.name for part in paths if not part.is_file()]:
            raise ValueError(
                f"{path}: {len(missing)} of its parts are not here, such as {missing[0]}"
            )
    return _joined(path, "gguf", paths, _gguf_part)


def _gguf_part(path: Path) -> tuple[list[Tensor], dict[str, Any]]:
    with path.open("rb") as file:
        header = _Header(file, path)
        if header.size < 24 or header.take(4) != b"GGUF":
            raise ValueError(f"{path}: not a GGUF file")
        version = header.number("I")
        if version not in (2, 3):
            raise ValueError(f"{path}: GGUF version {version} is not read here, only 2 and 3")
        tensor_count = header.count("tensors", MAX_TENSORS)
        key_count = header.count("keys", MAX_KEYS)
        metadata = {}
        for _ in range(key_count):
            key = header.text()
            metadata[key] = _gguf_value(header, header.number("I"))
        places = []
        for _ in range(tensor_count):
            name, dims = header.text(), header.number("I")
            if dims > MAX_DIMS:
                raise ValueError(f"{path}: {name[:80]} states {dims} dimensions")
            shape = tuple(header.number("Q") for _ in range(dims))
            kind, offset = header.number("I"), header.number("Q")
            places.append((_gguf_tensor(path, name, shape, kind), offset))
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or not 0 < alignment <= 1 << 20:
            raise ValueError(f"{path}: states an alignment of {alignment}")
        start = -(-header.place // alignment) * alignment
        for tensor, offset in places:
            if start + offset + tensor.bytes > header.size:
                raise ValueError(f"{path}: cut short: {tensor.name[:80]} ends beyond the file")
        _check_room(path, [tensor for tensor, _ in places], header.size - start)
    return [tensor for tensor, _ in places], metadata


def _check_room(path: Path, tensors: Iterable[Tensor], size: int) -> None:
    """Raise ValueError where tensors state more bytes than there are: some share their place."""
    if sum(tensor.bytes for tensor in tensors) > size:
        raise ValueError(f"{path}: its tensors overlap: they state more bytes than the file has")


def _gguf_value(header: _Header, kind: int, depth: int = 0):
    """One value of the header. Arrays of text and long arrays are passed over: their length."""
    if kind in _NUMBERS:
        return header.number(_NUMBERS[kind])
    if kind == _STRING:
        return header.text()
    if kind != _ARRAY or depth > 3:
        raise ValueError(f"{header.path}: a value of unknown type {kind} in its header")
    inner, length = header.number("I"), header.count("items of one array", MAX_ITEMS)
    if inner in _NUMBERS:
        size = struct.calcsize(_NUMBERS[inner])
        if length > 4096:
            header.skip(length * size)
            return length
        return list(struct.unpack(f"<{length}{_NUMBERS[inner]}", header.take(length * size)))
    if length > (header.end - header.place) // 8:  # each takes the eight bytes of its length
        raise ValueError(f"{header.path}: cut short, or a length in its header is wrong")
    for _ in range(length):
        if inner == _STRING:
            header.skip(header.number("Q"))
        else:
            _gguf_value(header, inner, depth + 1)
    return length


def _gguf_tensor(path: Path, name: str, shape: tuple[int, ...], kind: int) -> Tensor:
    if kind not in GGML_TYPES:
        raise ValueError(f"{path}: {name[:80]} has the unknown type {kind}")
    label, block, size = GGML_TYPES[kind]
    elements = math.prod(shape)
    if not shape or not 0 < elements <= MAX_ELEMENTS:
        raise ValueError(f"{path}: {name[:80]} states {elements} elements")
    if shape[0] % block:
        raise ValueError(f"{path}: rows of {name[:80]} do not divide into blocks of {block}")
    return Tensor(name, label, tuple(reversed(shape)), elements // block * size, elements)


def _joined(path: Path, kind: str, files: list[Path], read_part) -> Checkpoint:
    """The tensors of all files together; of a key that several state, the first one's value."""
    tensors: list[Tensor] = []
    metadata: dict[str, Any] = {}
    for file in files:
        more, keys = read_part(file)
        tensors += more
        metadata = keys | metadata
        if len(tensors) > MAX_TENSORS:
            raise ValueError(f"{path}: over {MAX_TENSORS:,} tensors")
    if not tensors:
        raise ValueError(f"{path}: holds no tensors")
    size = sum(file.stat().st_size for file in files)
    return Checkpoint(path, kind, tuple(tensors), metadata, len(files), size)


def _safetensors_part(path: Path) -> tuple[list[Tensor], dict[str, Any]]:
    with path.open("rb") as file:
        header = _Header(file, path)
        if header.size < 10:
            raise ValueError(f"{path}: not a safetensors file")
        length = header.number("Q")
        if length > MAX_HEADER:
            raise ValueError(f"{path}: states a header of {length} bytes, over {MAX_HEADER:,}")
        entries = _json(path, header.take(length))
    metadata = entries.pop("__metadata__", {})
    data = header.size - 8 - length
    tensors = {n: _safetensors_tensor(path, n, entry, data) for n, entry in entries.items()}
    _check_room(path, tensors.values(), data)
    counted_tensors = [t._replace(parameters=_packed(t, tensors)) for t in tensors.values()]
    return counted_tensors, metadata if isinstance(metadata, dict) else {}


def _json(path: Path, text: bytes) -> dict:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError(f"{path}: its header is not JSON") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path}: its header is no JSON object")
    return value


def _safetensors_tensor(path: Path, name: str, entry, data: int) -> Tensor:
    senseless = ValueError(f"{path}: the header's entry of {name[:80]} makes no sense")
    fields = entry if isinstance(entry, dict) else {}
    kind, shape, ends = (fields.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not (isinstance(kind, str) and isinstance(shape, list) and isinstance(ends, list)):
        raise senseless
    whole = all(type(n) is int and 0 <= n <= MAX_ELEMENTS for n in (*shape, *ends))
    if not whole or len(shape) > 64 or len(ends) != 2 or kind not in SAFETENSORS_BITS:
        raise senseless
    elements, size = math.prod(shape), ends[1] - ends[0]
    if elements > MAX_ELEMENTS or size != -(-elements * SAFETENSORS_BITS[kind] // 8):
        raise senseless
    if ends[1] > data:
        raise ValueError(f"{path}: cut short: {name[:80]} ends beyond the file")
    return Tensor(name, kind, tuple(shape), size, elements)


def _packed(tensor: Tensor, others: dict[str, Tensor]) -> int:
    """The weights in a tensor of a quantized checkpoint: none in scales, several in a number.

    How many, the shapes of what stands beside it say where they can: GPTQ's ``g_idx`` has an entry
    for each input, AWQ's scales one for each output, MLX's one for each 64 inputs.
    """
    name, kind, elements = tensor.name, tensor.type, tensor.parameters
    if BESIDE.search(name):
        return 0
    stem = name.rpartition(".")[0]

    def shape(ending: str) -> tuple[int, ...]:
        return others[f"{stem}.{ending}"].shape if f"{stem}.{ending}" in others else ()

    if name.endswith("qweight") and kind == "I32" and len(tensor.shape) == 2:
        if len(inputs := shape("g_idx")) == 1:
            return inputs[0] * tensor.shape[1]
        if len(scales := shape("scales")) == 2 and scales[1] != tensor.shape[1]:
            return tensor.shape[0] * scales[1]
        return 8 * elements  # 4 bits
    if kind == "U32" and len(scales := shape("scales")) == 2 and shape("biases"):
        return scales[0] * scales[1] * MLX_GROUP
    if name.endswith("weight_packed") and kind == "I32":
        return 8 * elements
    if kind == "U8" and name.endswith(("_blocks", "weight_packed", ".weight")):
        return 2 * elements  # mxfp4, bitsandbytes and modelopt: two codes of 4 bits in a byte
    return elements


def _index(path: Path) -> Checkpoint:
    if path.stat().st_size > MAX_HEADER:
        raise ValueError(f"{path}: over {MAX_HEADER:,} bytes, which no index is")
    entries = _json(path, path.read_bytes())
    shards, metadata = entries.get("weight_map"), entries.get("metadata") or {}
    if not isinstance(shards, dict) or not isinstance(metadata, dict):
        raise ValueError(f"{path}: no index of a checkpoint (it states no weight_map)")
    names = sorted({str(name) for name in shards.values()})
    if any("/" in name or name.startswith(".") for name in names):
        raise ValueError(f"{path}: names shards outside its folder")
    files = [path.parent / name for name in names]
    if files and all(file.is_file() for file in files):
        return _joined(path, "safetensors", files, _safetensors_part)
    size = metadata.get("total_size")
    if not isinstance(size, int | float) or not 0 < size <= 10**16:
        raise ValueError(f"{path}: its shards are not here and it states no total_size")
    return Checkpoint(path, "index", (), metadata, len(names), int(size), int(size))
