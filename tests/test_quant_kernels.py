"""Decode attention over packed bytes against float64: with torch, and in Triton's interpreter.

Triton decides when it is imported whether kernels run on the CPU, so that they run in a process of
their own: this file, started as a script.
"""

import json
import os
import random
import subprocess
import sys
from itertools import product

import pytest
import torch
from sizewise.quantization import kernels
from sizewise.quantization.kernels import reference
from sizewise.quantization.turboquant import codec

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
    messages = code.encode(x)
    return kernels.Packed(
        messages.packed, messages.norms, bits, code.codebook, code.rotation.matrix()
    ), x


def problem(case):
    """Queries, caches, lengths, how the kernel is launched, and the vectors of a case."""
    d, (kbits, vbits), group, lengths, block, splits, narrow = case
    keys, k = stored(len(lengths), 2, max(lengths) + 5, d, kbits, 1)
    values, v = stored(len(lengths), 2, max(lengths) + 5, d, vbits, 2)
    draw = torch.Generator().manual_seed(5)
    query = torch.randn(len(lengths), 2 * group, d, generator=draw)
    query = query.to(torch.bfloat16) if narrow else query
    resident = torch.tensor(lengths, dtype=torch.int32)
    for packed, length in product((keys, values), enumerate(lengths)):
        packed.norms[length[0], :, length[1] :] = torch.nan  # beyond the length is never read
    return query, keys, values, resident, {"block": block, "splits": splits}, (k, v)


def error(result, expected) -> float:
    """|got - expected| / |expected| of the worst head; |got| where nothing is expected."""
    apart, size = (result.double() - expected).norm(dim=-1), expected.norm(dim=-1)
    return float((apart / torch.where(size > 0, size, 1.0)).max())


# ------------------------------------------------------------------ in Triton's interpreter


def child() -> None:
    """What the kernels answer in the interpreter, as one line of JSON."""
    from sizewise.quantization.kernels import decode, encode, logits

    messages = {"backend": kernels.backend(torch.device("cpu")), "attend": [], "plain": []}
    for case in CASES:
        query, keys, values, resident, launch, (k, v) = problem(case)
        truth = reference.attend(query, keys, values, resident, case[0] ** -0.5)
        requested = launch | {"dtype": torch.float32}
        result = kernels.attend(query, keys, values, resident, **requested)
        messages["attend"].append(error(result, truth))
        sides = query.double(), k.double(), v.double()
        truth = reference.over(*sides, resident, case[0] ** -0.5)
        result = decode.attend(query.float(), (k, None), (v, None), resident, **requested)
        messages["plain"].append(error(result, truth))
    query, _, _, resident, launch, (k, v) = problem(CASES[0])
    sides = []
    for side in (k, v):
        scales = (side.abs().amax(-1) / 127).half()
        sides.append(((side / scales[..., None].float()).round().to(torch.int8), scales))
    plain = [codes.double() * scales[..., None].double() for codes, scales in sides]
    truth = reference.over(query.double(), *plain, resident, CASES[0][0] ** -0.5)
    result = decode.attend(query, *sides, resident, **launch, dtype=torch.float32)
    messages["int8"] = error(result, truth)
    messages["append"] = {}
    for bits, d, kind in product((2, 3, 4), (64, 128), ("haar", "hadamard")):
        code = codec.TurboQuant(d, bits, rotation=kind)
        packed, _ = stored(2, 3, 30, d, bits, 4)
        rotation = code.rotation.matrix()
        packed = kernels.Packed(packed.codes, packed.norms, bits, code.codebook, rotation)
        before = packed.codes.clone()
        x = torch.randn(2, 3, 7, d, generator=torch.Generator().manual_seed(3)) * 4
        encode.append(x, packed, torch.tensor([3, 21], dtype=torch.int32))
        codes, norms = reference.quantize(x, packed)
        wrong = 0
        for row, start in enumerate((3, 21)):
            position = slice(start, start + 7)
            wrong += int((packed.codes[row, :, position] != codes[row]).sum())
            wrong += int((packed.norms[row, :, position] != norms[row]).sum())
            before[row, :, position] = packed.codes[row, :, position]
        messages["append"][f"{bits} bits, {d}, {kind}"] = wrong + int(
            (before != packed.codes).sum()
        )
    messages["logits"] = {}
    for bits in (2, 3, 4):
        query, keys, *_ = problem((64, (bits, 4), 4, (50, 50), 32, 1, False))
        keys.norms.nan_to_num_(1.0)
        q = query.double().view(2, 2, 4, 64)
        result = logits.packed(query, keys, block=32)
        truth = 0.125 * (q @ reference.vectors(keys).transpose(-1, -2)).view(2, 8, -1)
        messages["logits"][bits] = error(result, truth)
    print(json.dumps(messages))


@pytest.fixture(scope="module")
def interpreted():
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


def test_the_plain_kernel_reads_int8_by_its_scales(interpreted):
    assert interpreted["int8"] < 1e-3


def test_the_kernel_writes_the_codes_of_float64_and_nothing_else(interpreted):
    assert interpreted["append"] == dict.fromkeys(interpreted["append"], 0)
    assert len(interpreted["append"]) == 12


def test_scores_alone_equal_float64(interpreted):
    assert max(interpreted["logits"].values()) < 1e-3


# ------------------------------------------------------------------ byte permutes


def emulated(program: str, inputs: dict[str, int]) -> dict[str, int]:
    """The registers after a program of the few PTX instructions that the look-ups use."""
    registers = dict(inputs)

    def value(word):
        return registers[word] if word in registers else int(word, 0)

    for line in program.strip().strip("{}").split(";"):
        if not line.strip() or line.strip().startswith(".reg"):
            continue
        name, operands = line.split(None, 1)
        target, *sources = (item.strip() for item in operands.split(","))
        a = [value(item) for item in sources]
        kind = name.split(".")[0]
        if kind == "lop3":
            picks = (
                ((a[0] >> n & 1) << 2) | ((a[1] >> n & 1) << 1) | (a[2] >> n & 1) for n in range(32)
            )
            result = sum((a[3] >> pick & 1) << n for n, pick in enumerate(picks))
        elif kind == "prmt":
            table = [word >> 8 * n & 255 for word in a[:2] for n in range(4)]
            result = 0
            for n in range(4):
                selector = a[2] >> 4 * n & 15
                byte = table[selector & 7]
                result |= (255 * (byte >> 7) if selector & 8 else byte) << 8 * n
        else:
            result = {"shr": a[0] >> a[1], "shl": a[0] << a[1], "sub": a[0] - a[1]}[kind]
        registers[target] = result & 0xFFFFFFFF
    return registers


@pytest.mark.triton
@pytest.mark.parametrize("bits", [2, 3, 4])
def test_byte_permutes_pick_the_centroid_of_every_code(bits):
    from sizewise.quantization.kernels import lookup

    packed, _ = stored(1, 1, 1, 64, bits, 1)
    table = packed.table
    planes = [word & 0xFFFFFFFF for word in packed.planes.tolist()]
    places = {
        4: ("$5", "$9", "$13", "$17"),
        3: ("$11", "$15", "$19", "$23"),
        2: ("$9", "", "$13", ""),
    }
    constants = dict(zip(places[bits], planes, strict=True))
    first, fields = {4: ("$4", 2), 3: ("$8", 4), 2: ("$8", 4)}[bits]
    program = {4: lookup.FOUR, 3: lookup.THREE, 2: lookup.TWO}[bits]
    draw = torch.Generator().manual_seed(0)
    for shift in (0, 1):
        for low in torch.randint(256, (60, 4), generator=draw):
            high = torch.randint(256, (4,), generator=draw)
            inputs = constants | {first: sum(int(b) << 8 * n for n, b in enumerate(low))}
            inputs |= {"$9": sum(int(b) << 8 * n for n, b in enumerate(high))} if bits == 3 else {}
            inputs |= {"$10": 0x01010101 * shift} if bits == 3 else {}
            registers = emulated(program, inputs)
            for k in range(fields):
                code = low >> k * (8 // fields) & (1 << 8 // fields) - 1
                code = code | (high >> 2 * k + shift & 1) << 2 if bits == 3 else code
                out = [registers[f"${2 * k + half}"] for half in (0, 1)]
                result = torch.tensor([word >> s & 0xFFFF for word in out for s in (0, 16)])
                assert torch.equal(result, table[code].view(torch.int16).long() & 0xFFFF)


# ------------------------------------------------------------------ with torch


@pytest.mark.parametrize("case", CASES, ids=str)
def test_torchs_way_equals_attention_over_decoded_vectors(case):
    query, keys, values, resident, _, _ = problem(case)
    result = kernels.attend(query, keys, values, resident, dtype=torch.float32)
    group = query.shape[1] // keys.codes.shape[1]
    for row, length in enumerate(resident.tolist()):  # a sequence and a head at a time, by hand
        for head in range(query.shape[1]):
            k, v = (reference.vectors(side)[row, head // group, :length] for side in (keys, values))
            weights = torch.softmax(k @ query[row, head].double() * case[0] ** -0.5, 0)
            expected = weights @ v
            assert error(result[row, head], expected) < 1e-5


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
    kernels.append(x, packed, torch.tensor([2, 9], dtype=torch.int32))
    messages = code.encode(x)
    assert torch.equal(packed.codes[0, :, 2:6], messages.packed[0])
    assert torch.equal(packed.norms[1, :, 9:13], messages.norms[1])


# ------------------------------------------------------------------ refusals


def test_shapes_that_do_not_fit_are_refused():
    keys, _ = stored(1, 2, 8, 64, 4, 0)
    other, _ = stored(1, 2, 9, 64, 4, 0)
    query, lengths = torch.randn(1, 4, 64), torch.tensor([8])
    for arguments in (
        (query, keys, other, lengths),
        (torch.randn(1, 3, 64), keys, keys, lengths),
        (torch.randn(1, 4, 32), keys, keys, lengths),
        (query[0], keys, keys, lengths),
        (query, keys, keys, torch.tensor([1, 2])),
    ):
        with pytest.raises(ValueError, match=r"queries .* do not fit"):
            kernels.attend(*arguments)
    with pytest.raises(ValueError, match="got 3 bits, 16 centroids"):
        kernels.Packed(keys.codes, keys.norms, 3, keys.centroids, keys.rotation)
    with pytest.raises(ValueError, match="2, 3 or 4 bits"):
        kernels.Packed(keys.codes, keys.norms, 8, keys.centroids, keys.rotation)
    with pytest.raises(ValueError, match="new vectors must be"):
        kernels.append(torch.randn(1, 3, 1, 64), keys, torch.zeros(1, dtype=torch.int32))


if __name__ == "__main__":
    child()
