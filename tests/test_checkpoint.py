"""Headers of checkpoints: exact counts without a class, and lying headers that cost nothing."""

import json
import math
import random
import resource
import struct
import time

import numpy as np
import pytest
from sizewise.costs import memory
from sizewise.models import checkpoint, parameters


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def gguf(tensors, keys=(), *, counts=None, data=None, version=3) -> bytes:
    """A GGUF file of (name, shape in file order, type, bytes) and (key, type, payload)."""
    stated = counts or (len(tensors), len(keys))
    out = b"GGUF" + struct.pack("<IQQ", version, *stated)
    for key, kind, payload in keys:
        out += text(key) + struct.pack("<I", kind) + payload
    offset = 0
    for name, shape, kind, size in tensors:
        out += text(name) + struct.pack("<I", len(shape))
        out += b"".join(struct.pack("<Q", n) for n in shape) + struct.pack("<IQ", kind, offset)
        offset += -(-size // 32) * 32
    out += b"\0" * (-len(out) % 32)
    return out + (b"\0" * offset if data is None else data)


def safetensors(entries: dict, data: bytes = b"") -> bytes:
    header = json.dumps(entries).encode()
    return struct.pack("<Q", len(header)) + header + data


LLAMA_KEYS = [
    ("general.architecture", 8, text("llama")),
    ("llama.block_count", 4, struct.pack("<I", 2)),
    ("llama.embedding_length", 4, struct.pack("<I", 64)),
    ("llama.attention.head_count", 4, struct.pack("<I", 4)),
    ("llama.attention.head_count_kv", 4, struct.pack("<I", 2)),
    ("llama.feed_forward_length", 4, struct.pack("<I", 128)),
    ("tokenizer.ggml.tokens", 9, struct.pack("<IQ", 8, 3) + text("a") + text("b") + text("cc")),
]


def test_a_gguf_file_gives_exact_counts_and_bytes(tmp_path):
    file = tmp_path / "a.gguf"
    tensors = [
        ("token_embd.weight", (256, 10), 12, 10 * 144),  # Q4_K
        ("blk.0.ffn_down.weight", (512, 256), 14, 256 * 2 * 210),  # Q6_K
        ("blk.0.attn_norm.weight", (256,), 0, 1024),
    ]
    file.write_bytes(gguf(tensors, LLAMA_KEYS))
    stored = checkpoint.read(file)
    assert stored.parameters == 2560 + 131_072 + 256
    assert stored.tensor_bytes == 1440 + 107_520 + 1024
    assert stored.file_bytes == file.stat().st_size
    assert [row.type for row in stored.by_type()] == ["Q6_K", "Q4_K", "F32"]
    assert stored.metadata["llama.block_count"] == 2


def test_numbers_of_every_type_are_read_as_the_format_s_own_library_writes_them(tmp_path):
    from gguf import GGUFWriter

    file = tmp_path / "a.gguf"
    writer = GGUFWriter(str(file), "llama")
    values = {
        f"{kind}{bits}": (-1) ** (kind == "int") * 7
        for kind in ("int", "uint")
        for bits in (8, 16, 32, 64)
    } | {"float32": 0.5, "float64": 0.1, "bool": True}
    for kind, value in values.items():
        getattr(writer, f"add_{kind}")(f"llama.{kind}", value)
    writer.add_tensor("output.weight", np.zeros((4, 32), np.float32))
    for step in ("header", "kv_data", "tensors"):
        getattr(writer, f"write_{step}_to_file")()
    writer.close()
    metadata = checkpoint.read(file).metadata
    assert {kind: metadata.get(f"llama.{kind}") for kind in values} == values


def test_the_parts_of_a_split_gguf_are_one_checkpoint(tmp_path):
    for number in (1, 2):
        tensors = [(f"blk.{number}.ffn_up.weight", (32, 4), 0, 512)]
        (tmp_path / f"m-0000{number}-of-00002.gguf").write_bytes(gguf(tensors, LLAMA_KEYS))
    stored = checkpoint.read(tmp_path / "m-00002-of-00002.gguf")
    assert (stored.parameters, stored.files) == (256, 2)
    (tmp_path / "m-00001-of-00002.gguf").unlink()
    with pytest.raises(ValueError, match="1 of its parts are not here"):
        checkpoint.read(tmp_path / "m-00002-of-00002.gguf")


def test_packed_codes_count_as_the_weights_they_hold_and_scales_as_none(tmp_path):
    file = tmp_path / "a.safetensors"
    entries = {
        "experts.w1.weight_packed": {"dtype": "U8", "shape": [4, 8], "data_offsets": [0, 32]},
        "experts.w1.weight_scale": {"dtype": "U8", "shape": [4, 1], "data_offsets": [32, 36]},
        "norm.weight": {"dtype": "BF16", "shape": [8], "data_offsets": [36, 52]},
    }
    file.write_bytes(safetensors(entries, b"\0" * 52))
    stored = checkpoint.read(file)
    assert (stored.parameters, stored.tensor_bytes) == (4 * 16 + 8, 52)


@pytest.mark.parametrize(
    ("stem", "tensors", "weights"),
    [
        # GPTQ in 3 bits: 64 inputs x 3 / 32 rows of codes, 16 outputs, scales for 32 inputs
        (
            "q",
            {
                "qweight": ("I32", [6, 16]),
                "scales": ("F16", [2, 16]),
                "g_idx": ("I32", [64]),
                "qzeros": ("I32", [2, 2]),
            },
            64 * 16,
        ),
        # AWQ in 4 bits: 64 inputs, 16 outputs, eight to a number
        (
            "q",
            {"qweight": ("I32", [64, 2]), "scales": ("F16", [2, 16]), "qzeros": ("I32", [2, 2])},
            64 * 16,
        ),
        # MLX in 8 bits: 16 outputs, 128 inputs, four to a number
        (
            "q",
            {"weight": ("U32", [16, 32]), "scales": ("BF16", [16, 2]), "biases": ("BF16", [16, 2])},
            16 * 128,
        ),
        # bitsandbytes in 4 bits, and a plain bias
        (
            "q",
            {
                "weight": ("U8", [512, 1]),
                "weight.absmax": ("F32", [16]),
                "weight.quant_state.bitsandbytes__nf4": ("U8", [80]),
                "bias": ("F16", [16]),
            },
            1040,
        ),
        ("q", {"weight": ("F8_E4M3", [16, 8]), "weight_scale_inv": ("F32", [1, 1])}, 128),
    ],
)
def test_packed_tensors_are_counted_by_the_shapes_beside_them(stem, tensors, weights, tmp_path):
    sizes = {"I32": 4, "U32": 4, "F32": 4, "F16": 2, "BF16": 2, "U8": 1, "F8_E4M3": 1}
    entries, end = {}, 0
    for ending, (kind, shape) in tensors.items():
        start, end = end, end + sizes[kind] * math.prod(shape)
        entries[f"{stem}.{ending}"] = {"dtype": kind, "shape": shape, "data_offsets": [start, end]}
    file = tmp_path / "a.safetensors"
    file.write_bytes(safetensors(entries, b"\0" * end))
    assert checkpoint.read(file).parameters == weights
    assert checkpoint.read(file).tensor_bytes == end


def test_an_index_without_its_shards_gives_the_bytes_it_states(tmp_path):
    file = tmp_path / "model.safetensors.index.json"
    file.write_text(
        json.dumps({"metadata": {"total_size": 1234}, "weight_map": {"a": "x.safetensors"}})
    )
    stored = checkpoint.read(file)
    assert (stored.tensor_bytes, stored.parameters, stored.kind) == (1234, None, "index")


def test_bytes_of_an_index_that_cannot_be_those_of_the_model_are_not_used(tmp_path):
    (tmp_path / "config.json").write_text(
        json.dumps(
            {
                "model_type": "llama",
                "hidden_size": 64,
                "intermediate_size": 128,
                "vocab_size": 100,
                "num_hidden_layers": 2,
                "num_attention_heads": 4,
            }
        )
    )
    index = tmp_path / "model.safetensors.index.json"
    for size, used in ((12, False), (10**15, False), (2 * 95_040, True)):
        index.write_text(json.dumps({"metadata": {"total_size": size}, "weight_map": {"a": "x.s"}}))
        model = parameters.describe(str(tmp_path))
        assert model.total == 95_040
        assert bool(model.stored) is used
        assert memory.weights_bytes(model, None) == 2 * 95_040
        assert used or any("is not used" in note for note in model.assumptions)


TENSOR = ("a.weight", (32, 2), 0, 256)
LIES = {
    "no GGUF": b"GGML" + b"\0" * 40,
    "an old version": gguf([TENSOR], version=1),
    "more tensors than the file": gguf([TENSOR], counts=(1 << 60, 0)),
    "more keys than the file": gguf([TENSOR], counts=(1, 1 << 60)),
    "a million tensors in 200 bytes": gguf([TENSOR], counts=(999_999, 0)),
    "a name of 2^60 bytes": b"GGUF" + struct.pack("<IQQQ", 3, 1, 0, 1 << 60),
    "an array of 2^60 numbers": gguf([TENSOR], [("a", 9, struct.pack("<IQ", 4, 1 << 60))]),
    "an array of 10^7 texts": gguf([TENSOR], [("a", 9, struct.pack("<IQ", 8, 10**7))]),
    "arrays in arrays": gguf([TENSOR], [("a", 9, struct.pack("<IQ", 9, 1) * 50)]),
    "an unknown value type": gguf([TENSOR], [("a", 99, b"\0" * 64)]),
    "an unknown tensor type": gguf([("a", (32,), 77, 32)]),
    "dimensions of 2^62": gguf([("a", (1 << 62, 4), 0, 32)]),
    "two tensors in one place": gguf([("a.weight", (32, 2), 0, 0), ("b.weight", (32, 2), 0, 256)]),
    "a tensor of nothing": gguf([("a", (0, 4), 0, 32)]),
    "rows that do not divide": gguf([("a", (33,), 12, 32)]),
    "nine dimensions": gguf([("a", (1,) * 9, 0, 4)]),
    "a wild alignment": gguf([TENSOR], [("general.alignment", 4, struct.pack("<I", 1 << 31))]),
    "no tensors": gguf([]),
    "data cut short": gguf([TENSOR])[:-1],
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lying_gguf_header_is_refused_in_one_line(lie, tmp_path):
    file = tmp_path / "a.gguf"
    file.write_bytes(LIES[lie])
    with pytest.raises(ValueError, match=r"a\.(gguf|safetensors)") as error:
        checkpoint.read(file)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize("name", ["a.gguf", "a.safetensors"])
def test_a_pointer_of_git_lfs_is_named(name, tmp_path):
    file = tmp_path / name
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 123\n")
    with pytest.raises(ValueError, match="a pointer of Git LFS; git lfs pull fetches the file"):
        checkpoint.read(file)


def entry(dtype="F32", shape=(2,), offsets=(0, 8)) -> dict:
    return {"a": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


SAFETENSORS_LIES = {
    "a header longer than the file": struct.pack("<Q", 1 << 20) + b"{}",
    "a header of 2^63 bytes": struct.pack("<Q", 1 << 63) + b"{}",
    "no JSON": struct.pack("<Q", 4) + b"{{{{",
    "deep JSON": struct.pack("<Q", 100_000) + b"[" * 100_000,
    "a list": struct.pack("<Q", 2) + b"[]",
    "nothing": b"",
    "no tensors": safetensors({}),
    "an unknown type": safetensors(entry("X7"), b"\0" * 8),
    "a negative size": safetensors(entry(shape=(-2,)), b"\0" * 8),
    "a size of 10^30": safetensors(entry(shape=(10**30,)), b"\0" * 8),
    "bytes that contradict the shape": safetensors(entry(offsets=(0, 4)), b"\0" * 8),
    "data beyond the file": safetensors(entry(shape=(20,), offsets=(0, 80)), b"\0" * 8),
    "two tensors in one place": safetensors(
        entry() | {"b": {"dtype": "F32", "shape": (2,), "data_offsets": (0, 8)}}, b"\0" * 8
    ),
    "no offsets": safetensors({"a": {"dtype": "F32", "shape": [1]}}),
    "text for a shape": safetensors(entry(shape="aa"), b"\0" * 8),
}


@pytest.mark.parametrize("lie", SAFETENSORS_LIES)
def test_a_lying_safetensors_header_is_refused_in_one_line(lie, tmp_path):
    file = tmp_path / "a.safetensors"
    file.write_bytes(SAFETENSORS_LIES[lie])
    with pytest.raises(ValueError, match=r"a\.(gguf|safetensors)") as error:
        checkpoint.read(file)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize("shards", [["../a.safetensors"], ["/etc/passwd"], [".hidden"]])
def test_an_index_may_not_name_files_outside_its_folder(shards, tmp_path):
    file = tmp_path / "model.safetensors.index.json"
    file.write_text(json.dumps({"weight_map": dict(enumerate(shards))}))
    with pytest.raises(ValueError, match="outside its folder"):
        checkpoint.read(file)


def test_random_damage_never_takes_more_than_a_gigabyte_or_ten_seconds(tmp_path):
    tensors = [(f"blk.{n}.ffn_up.weight", (256, 4), 12, 4 * 144) for n in range(20)]
    good = {
        "a.gguf": gguf(tensors, LLAMA_KEYS),
        "a.safetensors": safetensors(entry(), b"\0" * 8),
    }
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    chance = random.Random(0)  # noqa: S311 - a seed makes the damage the same each time
    for round_ in range(600):
        name = ("a.gguf", "a.safetensors")[round_ % 2]
        damaged = bytearray(good[name])
        for _ in range(chance.randint(1, 6)):
            damaged[chance.randrange(min(len(damaged), 1500))] = chance.choice((0, 1, 127, 255))
        file = tmp_path / name
        file.write_bytes(damaged[: chance.randrange(len(damaged))] if round_ % 3 == 0 else damaged)
        try:
            checkpoint.read(file)
        except ValueError as error:
            assert "\n" not in str(error)  # noqa: PT017 - either outcome is right
    assert time.process_time() - start < 10
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 1_000_000  # kilobytes
