"""Decode attention over packed bytes against float64: with torch, and in Triton's interpreter.

Triton decides when it is imported whether kernels run on the CPU, so that they run in a process of
their own: this file, started as a script.
"""

import json
import os
import random
import subprocess
import sys
from importlib.util import find_spec
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sizewise.quantization import kernels
from sizewise.quantization.kernels import layout, occupancy, reference, torch_fallback
from sizewise.quantization.kv import cache as caches
from sizewise.quantization.turboquant import codec
from sizewise.training import models

TRITON = find_spec("triton") is not None
needs_triton = pytest.mark.skipif(not TRITON, reason="Triton is not installed (extra: gpu)")
# head size, bits of keys and values, group, lengths, tokens a tile, splits, and whether queries
# are bf16
CASES = [
    (d, bits, group, lengths, block, splits, False)
    for (d, group), bits, (lengths, block, splits) in zip(
        [*product((64, 128), (1, 4, 8, 16)), (64, 2), (64, 3), (128, 5), (64, 1)],
        [(4, 4), (3, 3), (2, 2), (4, 2), (3, 3), (2, 2), (4, 4), (2, 3)] + [(4, 3), (4, 4)] * 2,
        [((100, 37), 32, 3), ((64, 1), 16, 2), ((90, 0), 32, 4), ((33, 70), 64, 1)] * 3,
        strict=True,
    )
]


def drawn(number, seed=20):
    """Cases at random: any bits on either side, one or two sequences, splits as they come."""
    draw = random.Random(seed)  # noqa: S311 - nothing secret
    for _ in range(number):
        lengths = tuple(draw.choice((0, 1, draw.randint(2, 200))) for _ in range(2))
        yield (
            draw.choice((64, 128)),
            (draw.choice((2, 3, 4)), draw.choice((2, 3, 4))),
            draw.randint(1, 16),
            (*lengths[: draw.randint(0, 1)], draw.randint(2, 200)),
            draw.choice((32, 64, 128)),
            draw.choice((0, 1, 2, 5)),
            draw.random() < 0.7,
        )


CASES += list(drawn(8))


def stored(batch, heads, tokens, d, bits, seed):
    """Vectors of uneven norms, encoded by `TurboQuant` itself.

    The longest are a quarter longer than normal ones: fp16 rounds a score by a share of it, so
    that no kernel with fp16 tables keeps 1e-3 of every head where scores run into the tens.
    """
    draw = torch.Generator().manual_seed(900 + seed)
    x = torch.randn(batch, heads, tokens, d, generator=draw)
    x *= torch.rand(batch, heads, tokens, 1, generator=draw) * 1.2 + 0.05
    code = codec.TurboQuant(d, bits, seed=seed)
    told = code.encode(x)
    return kernels.Packed(told.packed, told.norms, bits, code.codebook, code.rotation.matrix()), x


def problem(case):
    d, (kbits, vbits), group, lengths, block, splits, narrow = case
    keys, k = stored(len(lengths), 2, max(lengths) + 5, d, kbits, 1)
    values, v = stored(len(lengths), 2, max(lengths) + 5, d, vbits, 2)
    draw = torch.Generator().manual_seed(5)
    query = torch.randn(len(lengths), 2 * group, d, generator=draw)
    query = query.to(torch.bfloat16) if narrow else query
    held = torch.tensor(lengths, dtype=torch.int32)
    for packed, length in product((keys, values), enumerate(lengths)):
        packed.norms[length[0], :, length[1] :] = torch.nan  # beyond the length is never read
    return query, keys, values, held, kernels.Tuning(block=block, splits=splits), (k, v)


def error(got, expected) -> float:
    """|got - expected| / |expected| of the worst head; |got| where nothing is expected."""
    apart, size = (got.double() - expected).norm(dim=-1), expected.norm(dim=-1)
    return float((apart / torch.where(size > 0, size, 1.0)).max())


# ------------------------------------------------------------------ in Triton's interpreter


def child() -> None:
    """What the kernels answer in the interpreter, as one line of JSON."""
    from sizewise.quantization.kernels import append_kernel, dense, logits

    told = {"backend": kernels.backend(torch.device("cpu")), "attend": [], "plain": []}
    for case in CASES:
        query, keys, values, held, tuning, (k, v) = problem(case)
        truth = reference.attend(query, keys, values, held, case[0] ** -0.5)
        asked = {"tuning": tuning, "dtype": torch.float32}
        got = kernels.attend(query, keys, values, held, **asked)
        told["attend"].append(error(got, truth))
        truth = reference.over(query, k, v, held, case[0] ** -0.5)
        told["plain"].append(error(dense.attend(query.float(), k, v, held, **asked), truth))
    told["append"] = {}
    for bits, d, kind in product((2, 3, 4), (64, 128), ("haar", "hadamard")):
        code = codec.TurboQuant(d, bits, rotation=kind)
        packed, _ = stored(2, 3, 30, d, bits, 4)
        packed = kernels.Packed(
            packed.codes,
            packed.norms,
            bits,
            code.codebook,
            code.rotation.matrix()
            if hasattr(code.rotation, "matrix")
            else code.rotation.apply(torch.eye(d)).T,
        )
        before = packed.codes.clone()
        x = torch.randn(2, 3, 7, d, generator=torch.Generator().manual_seed(3)) * 4
        append_kernel.append(x, packed, torch.tensor([3, 21], dtype=torch.int32))
        codes, norms = reference.quantize(x, packed)
        wrong = 0
        for row, start in enumerate((3, 21)):
            place = slice(start, start + 7)
            wrong += int((packed.codes[row, :, place] != codes[row]).sum())
            wrong += int((packed.norms[row, :, place] != norms[row]).sum())
            before[row, :, place] = packed.codes[row, :, place]
        told["append"][f"{bits} bits, {d}, {kind}"] = wrong + int((before != packed.codes).sum())
    told["logits"] = {}
    for bits in (2, 3, 4):
        query, keys, _, held, _, (k, _) = problem((64, (bits, 4), 4, (50, 50), 32, 1, False))
        keys.norms.nan_to_num_(1.0)
        tuning = kernels.Tuning(block=32)
        q = query.double().view(2, 2, 4, 64)
        for name, got, vectors in (
            ("packed", logits.packed(query, keys, 0.125, tuning), reference.vectors(keys)),
            ("plain", logits.plain(query, k, 0.125, tuning), k.double()),
        ):
            truth = 0.125 * (q @ vectors.transpose(-1, -2)).view(2, 8, -1)
            told["logits"][f"{name} {bits}"] = error(got, truth)
    print(json.dumps(told))


@pytest.fixture(scope="module")
def interpreted():
    if not TRITON:
        pytest.skip("Triton is not installed (extra: gpu)")
    done = subprocess.run(
        [sys.executable, __file__],
        env=os.environ | {"TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_the_interpreter_ran_the_kernels(interpreted):
    assert interpreted["backend"] == "triton"


@pytest.mark.parametrize("number", range(len(CASES)), ids=[str(case) for case in CASES])
def test_the_kernel_equals_float64(interpreted, number):
    assert interpreted["attend"][number] < 1e-3


@pytest.mark.parametrize("number", range(len(CASES)), ids=[str(case) for case in CASES])
def test_the_plain_kernel_equals_float64(interpreted, number):
    assert interpreted["plain"][number] < 1e-3


def test_the_kernel_writes_the_codes_of_float64_and_nothing_else(interpreted):
    assert interpreted["append"] == dict.fromkeys(interpreted["append"], 0)
    assert len(interpreted["append"]) == 12


def test_scores_alone_equal_float64(interpreted):
    assert max(interpreted["logits"].values()) < 1e-3


# ------------------------------------------------------------------ compiled for another machine

TYPES = {
    "Q": "*fp16",
    "SIZE": "*fp32",
    "KC": "*u8",
    "KN": "*fp16",
    "VC": "*u8",
    "VN": "*fp16",
    "LENGTH": "*i32",
    "PARTIAL": "*fp32",
    "LSE": "*fp32",
    "SPLITS": "i32",
    "KT": "*i32",
    "VT": "*i32",
    "factor": "fp32",
    "scale": "fp32",
    "X": "*bf16",
    "ROT": "*fp32",
    "Y": "*fp16",
    "BOUND": "*fp32",
    "CODES": "*u8",
    "NORMS": "*fp16",
    "POSITION": "*i32",
    "NEW": "i32",
    "TOTAL": "i32",
    "TABLE": "*i32",
    "tokens": "i32",
} | {
    f"{side}_{what}": "i32"
    for side in ("kc", "kn", "vc", "vn", "k", "v", "c", "n", "x")
    for what in ("batch", "head", "token")
}
HEAD = {"HEADS": 8, "GROUP": 4, "ROWS": 16, "D": 128, "OVERLAP": False}
SPLIT = {"KBITS": 4, "VBITS": 4, "BLOCK": 64, "LOOKUP": "prmt"}


def for_hopper(file, name, fixed, types=None, warps=4):
    """A kernel compiled for an H100, without one."""
    from importlib import import_module

    from sizewise.quantization.kernels import resources

    kernel = getattr(import_module(f"sizewise.quantization.kernels.{file}"), name)
    fixed = {one: value for one, value in fixed.items() if one in kernel.arg_names}
    return resources.compiled(kernel, TYPES | (types or {}), fixed, warps=warps)


@needs_triton
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_the_kernel_compiles_for_hopper_without_spilling(bits):
    from sizewise.quantization.kernels import resources

    fixed = HEAD | SPLIT | {"KBITS": bits, "VBITS": bits}
    told = resources.resources(for_hopper("decode", "split_kernel", fixed))
    assert told.spilled_bytes == 0
    assert told.registers <= 128  # four blocks of four warps a multiprocessor
    assert told.matrix_instructions > 0
    per_code = told.longest_loop * 4 * 32 / (64 * 2 * 128)
    assert per_code < 6  # 5.4, 4.7 and 3.9 when written; a table look-up takes 11


def plainly(kind):
    """Types of the plain kernels for a cache of one type; fp8 meets a bf16 query."""
    return {"Q": "*bf16" if kind == "fp8e4nv" else f"*{kind}", "K": f"*{kind}", "V": f"*{kind}"}


MERGE = {"PADDED": 128, "CHUNK": 32, "COLUMNS": 32}


@needs_triton
@pytest.mark.parametrize(
    ("file", "name", "fixed", "types", "warps"),
    [
        ("decode", "split_kernel", SPLIT | {"D": 64}, {}, 4),
        ("decode", "split_kernel", SPLIT | {"D": 256}, {}, 8),
        ("decode", "split_kernel", SPLIT | {"LOOKUP": "gather"}, {"KT": "*fp16", "VT": "*fp16"}, 4),
        ("rotate", "rotate_kernel", {"COLUMNS": 16}, {}, 4),
        ("merge", "merge_kernel", MERGE | {"ROTATED": True}, {"OUT": "*bf16"}, 4),
        ("merge", "merge_kernel", MERGE | {"ROTATED": False}, {"OUT": "*fp32"}, 4),
        ("append_kernel", "append_kernel", {"BITS": 3, "ROWS": 16, "PRECISION": "ieee"}, {}, 4),
        *(
            ("dense", "plain_kernel", {"BLOCK": block, "WIDEN": widen}, plainly(kind), 4)
            for kind, block, widen in (
                ("bf16", 64, False),
                ("fp16", 64, False),
                ("fp32", 32, False),
                ("fp8e4nv", 64, True),
            )
        ),
        (
            "logits",
            "packed_kernel",
            {"BITS": 4, "BLOCK": 128, "LOOKUP": "prmt"},
            {"OUT": "*fp32"},
            4,
        ),
        ("logits", "plain_kernel", {"BLOCK": 128}, plainly("bf16") | {"OUT": "*fp32"}, 4),
    ],
)
def test_every_kernel_compiles_for_hopper_without_spilling(file, name, fixed, types, warps):
    from sizewise.quantization.kernels import resources

    told = resources.resources(for_hopper(file, name, HEAD | fixed, types, warps))
    assert told.spilled_bytes == 0
    assert told.registers * 32 * warps <= 65536
    assert told.shared_bytes <= 227 * 1024


@needs_triton
@pytest.mark.parametrize("overlap", [False, True])
def test_a_launch_that_overlaps_waits_before_it_reads_what_another_made(overlap):
    built = for_hopper(
        "merge",
        "merge_kernel",
        HEAD | MERGE | {"ROTATED": True, "OVERLAP": overlap},
        {"OUT": "*bf16"},
    )
    before, wait, after = built.asm["ptx"].partition("griddepcontrol.wait")
    assert bool(wait) is overlap
    if overlap:
        assert "ld.global" not in before
        assert "ld.global" in after


# ------------------------------------------------------------------ grids


@pytest.mark.parametrize(
    ("registers", "shared", "warps", "blocks"),
    [
        (121, 38912, 4, 4),  # 128 registers x 32 lanes: 16 warps of the file of 65536
        (138, 38912, 4, 3),  # 144: 14 warps, given out four at a time
        (86, 71680, 4, 3),  # 228 KB over 71
        (120, 38912, 8, 2),
        (40, 0, 4, 12),  # 1280 registers a warp: 51 warps, 48 in fours
        (32, 0, 4, 16),  # no more than 64 warps
        (255, 232448, 16, 1),
    ],
)
def test_blocks_of_a_multiprocessor_follow_from_registers_bytes_and_warps(
    registers, shared, warps, blocks
):
    taken = occupancy.Compiled(registers, 0, shared, warps)
    assert occupancy.resident(occupancy.HOPPER, taken) == blocks


@pytest.mark.parametrize(
    ("programs", "tokens", "slots", "rounds", "splits"),
    [
        (128, 32768, 528, 0, 4),  # batch 16: 512 programs, where 5 each would make 640
        (32, 524288, 528, 0, 16),  # 512, where 17 each would make 544
        (8, 131072, 528, 0, 66),
        (512, 4096, 528, 0, 1),
        (128, 32768, 396, 0, 3),
        (512, 32768, 396, 0, 3),  # 1536 of the 1584 slots of four rounds; one round holds none
        (128, 32768, 528, 2, 8),
        (8, 640, 528, 0, 10),  # no share shorter than a tile of 64
        (1000, 32768, 528, 1, 1),
    ],
)
def test_a_grid_fills_whole_rounds_of_the_device(programs, tokens, slots, rounds, splits):
    assert occupancy.splits(programs, tokens, 64, slots, rounds) == splits


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 4096), st.integers(100, 2000))
def test_no_other_number_of_splits_leaves_less_idle(programs, slots):
    def full(number):
        rounds = -(-number * programs // slots)
        return number * programs / (rounds * slots) if rounds <= occupancy.ROUNDS else 0.0

    found = occupancy.splits(programs, 1 << 20, 64, slots)
    best = max(full(number) for number in range(1, occupancy.MOST + 1))
    assert full(found) >= min(best, occupancy.ENOUGH) or found == occupancy.MOST


def emulated(program: str, given: dict[str, int]) -> dict[str, int]:
    """The registers after a program of the few PTX instructions that the look-ups use."""
    held = dict(given)

    def value(word):
        return held[word] if word in held else int(word, 0)

    for line in program.strip().strip("{}").split(";"):
        if not line.strip() or line.strip().startswith(".reg"):
            continue
        name, rest = line.split(None, 1)
        target, *words = (word.strip() for word in rest.split(","))
        a = [value(word) for word in words]
        kind = name.split(".")[0]
        if kind == "lop3":
            picks = (
                ((a[0] >> n & 1) << 2) | ((a[1] >> n & 1) << 1) | (a[2] >> n & 1) for n in range(32)
            )
            made = sum((a[3] >> pick & 1) << n for n, pick in enumerate(picks))
        elif kind == "prmt":
            table = [word >> 8 * n & 255 for word in a[:2] for n in range(4)]
            made = 0
            for n in range(4):
                selector = a[2] >> 4 * n & 15
                byte = table[selector & 7]
                made |= (255 * (byte >> 7) if selector & 8 else byte) << 8 * n
        else:
            made = {"shr": a[0] >> a[1], "shl": a[0] << a[1], "sub": a[0] - a[1]}[kind]
        held[target] = made & 0xFFFFFFFF
    return held


@needs_triton
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_byte_permutes_pick_the_centroid_of_every_code(bits):
    from sizewise.quantization.kernels import lookup

    packed, _ = stored(1, 1, 1, 64, bits, 1)
    table = packed.table()
    words = [word & 0xFFFFFFFF for word in lookup.planes(packed).tolist()]
    places = {
        4: ("$5", "$9", "$13", "$17"),
        3: ("$11", "$15", "$19", "$23"),
        2: ("$9", "", "$13", ""),
    }
    constants = dict(zip(places[bits], words, strict=True))
    first, fields = {4: ("$4", 2), 3: ("$8", 4), 2: ("$8", 4)}[bits]
    program = {4: lookup.FOUR, 3: lookup.THREE, 2: lookup.TWO}[bits]
    draw = torch.Generator().manual_seed(0)
    for shift in (0, 1):
        for low in torch.randint(256, (60, 4), generator=draw):
            high = torch.randint(256, (4,), generator=draw)
            given = constants | {first: sum(int(b) << 8 * n for n, b in enumerate(low))}
            given |= {"$9": sum(int(b) << 8 * n for n, b in enumerate(high))} if bits == 3 else {}
            given |= {"$10": 0x01010101 * shift} if bits == 3 else {}
            held = emulated(program, given)
            for k in range(fields):
                code = low >> k * (8 // fields) & (1 << 8 // fields) - 1
                code = code | (high >> 2 * k + shift & 1) << 2 if bits == 3 else code
                out = [held[f"${2 * k + half}"] for half in (0, 1)]
                got = torch.tensor([word >> s & 0xFFFF for word in out for s in (0, 16)])
                assert torch.equal(got, table[code].view(torch.int16).long() & 0xFFFF)


# ------------------------------------------------------------------ with torch


@pytest.mark.parametrize("case", CASES, ids=str)
def test_torchs_way_equals_float64(case):
    query, keys, values, held, _, _ = problem(case)
    truth = reference.attend(query, keys, values, held, case[0] ** -0.5)
    got = torch_fallback.attend(query, keys, values, held, case[0] ** -0.5, torch.float32)
    assert error(got, truth) < 1e-5


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_the_reference_decodes_what_turboquant_encodes(bits):
    packed, x = stored(1, 2, 9, 64, bits, 0)
    code = codec.TurboQuant(64, bits, seed=0)
    decoded = code.decode(code.encode(x))
    assert error(decoded, reference.vectors(packed)) < 1e-5
    codes, norms = reference.quantize(x, packed)
    assert torch.equal(codes, packed.codes)
    assert torch.equal(norms, packed.norms)


def test_torchs_way_appends_what_turboquant_encodes():
    code = codec.TurboQuant(64, 3)
    packed, _ = stored(2, 2, 20, 64, 3, 0)
    x = torch.randn(2, 2, 4, 64, generator=torch.Generator().manual_seed(8))
    torch_fallback.append(x, packed, torch.tensor([2, 9], dtype=torch.int32))
    told = code.encode(x)
    assert torch.equal(packed.codes[0, :, 2:6], told.packed[0])
    assert torch.equal(packed.norms[1, :, 9:13], told.norms[1])


@pytest.mark.parametrize("family", ["dense", "windowed"])
def test_a_model_over_packed_bytes_predicts_what_it_does_over_decoded_ones(family):
    from sizewise.quantization.kernels import hf_attention

    spec = models.spec(family, 128, context=256)
    spec.fields.update(head_dim=64)
    model = models.build(spec, seed=1).eval()
    with torch.no_grad():
        model.get_output_embeddings().weight.normal_(0, 1)
    prompt = torch.randint(1024, (2, 70), generator=torch.Generator().manual_seed(0))
    told = {}
    for fused in (False, True):
        name = hf_attention.register() if fused else "sdpa"
        model.set_attn_implementation(name)
        cache = caches.TurboQuantCache(model.config, bits=4, fused=fused)
        with torch.inference_mode():
            model(prompt, past_key_values=cache, use_cache=True)
            parts = [
                model(prompt[:, n : n + 1], past_key_values=cache, use_cache=True).logits
                for n in range(12)
            ]
        told[fused] = torch.cat(parts, 1)
    assert error(told[True], told[False].double()) < 1e-4


@pytest.mark.parametrize(
    ("asked", "none"), [({}, True), ({"local_size": 9}, False), ({"q_length": 2}, False)]
)
def test_a_single_token_needs_no_mask_and_nothing_waits_to_find_out(monkeypatch, asked, none):
    from sizewise.quantization.kernels import hf_attention
    from transformers import masking_utils

    # As while a CUDA graph is captured: transformers 5.17 skips no mask then.
    monkeypatch.setattr(masking_utils, "_ignore_causal_mask_sdpa", lambda *a, **k: False)
    mask = masking_utils.ALL_MASK_ATTENTION_FUNCTIONS[hf_attention.register()]
    shape = {"batch_size": 1, "q_length": 1, "kv_length": 9, "q_offset": 8, "kv_offset": 0}

    def made(device):
        return mask(**shape | asked, device=device)

    if none:
        assert made("meta") is None  # whose values nobody can look at
    else:
        assert (made("cpu") is None) == (asked.get("q_length", 1) == 1)


# ------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"block": 48}, "a tile has 16, 32"),
        ({"warps": 3}, "warps must be"),
        ({"splits": -1}, "splits must be"),
        ({"waves": -1}, "waves must be"),
        ({"lookup": "permt"}, "did you mean 'prmt'"),
    ],
)
def test_launches_that_no_kernel_takes_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        kernels.Tuning(**options)


def test_shapes_that_do_not_fit_are_refused():
    keys, _ = stored(1, 2, 8, 64, 4, 0)
    other, _ = stored(1, 2, 9, 64, 4, 0)
    query = torch.randn(1, 4, 64)
    with pytest.raises(ValueError, match="same sequences"):
        kernels.attend(query, keys, other)
    with pytest.raises(ValueError, match="do not share"):
        kernels.attend(torch.randn(1, 3, 64), keys, keys)
    with pytest.raises(ValueError, match="against keys of 64"):
        kernels.attend(torch.randn(1, 4, 32), keys, keys)
    with pytest.raises(ValueError, match="lengths must be"):
        kernels.attend(query, keys, keys, torch.tensor([1, 2]))
    with pytest.raises(ValueError, match="codes of 3 bits"):
        kernels.Packed(keys.codes, keys.norms, 3, keys.centroids, keys.rotation)
    with pytest.raises(ValueError, match="2, 3 or 4 bits"):
        kernels.Packed(keys.codes, keys.norms, 8, keys.centroids, keys.rotation)
    with pytest.raises(ValueError, match="new vectors must be"):
        kernels.append(torch.randn(1, 3, 1, 64), keys, torch.zeros(1, dtype=torch.int32))


def test_tuning_tries_each_launch_once():
    tried = layout.space()
    assert len(set(tried)) == len(tried) == 8


if __name__ == "__main__":
    child()
