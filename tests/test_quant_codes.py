"""Codes and their parts: packed bytes, codebooks, rotations, and the rivals of TurboQuant."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.linalg import hadamard
from scipy.special import gammaln
from sizewise.quantization import packing
from sizewise.quantization.kv import baselines
from sizewise.quantization.turboquant import lloyd_max, rotations, theory

torch.set_num_threads(1)


# --- packing


@settings(max_examples=60, deadline=None)
@given(
    bits=st.sampled_from(sorted(packing.PLANES)),
    eighths=st.integers(1, 20),
    lead=st.lists(st.integers(0, 3), max_size=2),
    seed=st.integers(0, 2**32),
)
def test_unpacking_gives_the_codes_back(bits, eighths, lead, seed):
    draw = torch.Generator().manual_seed(seed)
    codes = torch.randint(0, 2**bits, (*lead, 8 * eighths), dtype=torch.uint8, generator=draw)
    packed = packing.pack(codes, bits)
    assert packed.dtype == torch.uint8
    assert packed.shape == (*lead, eighths * bits)
    assert torch.equal(packing.unpack(packed, bits, 8 * eighths), codes)


@pytest.mark.parametrize(
    ("bits", "codes", "packed"),
    [
        # field k of byte j is coordinate j + k d / f
        (4, [1, 2, 3, 4, 5, 6, 7, 8], [0x51, 0x62, 0x73, 0x84]),
        (2, [0, 1, 2, 3, 3, 2, 1, 0], [0b01_11_10_00, 0b00_10_11_01]),
        (1, [1, 0, 0, 0, 0, 0, 1, 1], [0b11000001]),
        # low two bits 1 2 3 0 1 2 3 0, then the high bits 0 0 0 1 1 1 1 0
        (3, [1, 2, 3, 4, 5, 6, 7, 0], [0b11_01_11_01, 0b00_10_00_10, 0b01111000]),
        (8, [0, 1, 2, 3, 4, 5, 6, 255], [0, 1, 2, 3, 4, 5, 6, 255]),
    ],
)
def test_bytes_are_laid_out_as_worked_by_hand(bits, codes, packed):
    built = packing.pack(torch.tensor(codes, dtype=torch.uint8), bits)
    assert built.tolist() == packed


def test_packing_of_a_slice_that_is_not_contiguous():
    codes = torch.randint(0, 8, (5, 3, 16), dtype=torch.uint8)
    turned = codes.transpose(0, 1)
    assert torch.equal(packing.pack(turned, 3), packing.pack(codes, 3).transpose(0, 1))


@pytest.mark.parametrize(
    ("codes", "bits", "named"),
    [
        (torch.zeros(8, dtype=torch.uint8), 5, "got 5"),
        (torch.zeros(12, dtype=torch.uint8), 4, "multiple of 8, got 12"),
        (torch.full((8,), 4, dtype=torch.uint8), 2, "below 4, got 4"),
        (torch.zeros(8), 4, "uint8"),
        ([0] * 8, 4, "uint8"),
    ],
)
def test_codes_that_cannot_be_packed_are_named(codes, bits, named):
    with pytest.raises(ValueError, match=named):
        packing.pack(codes, bits)


def test_bytes_of_another_length_are_refused():
    with pytest.raises(ValueError, match="16 codes of 3 bits are 6 bytes, got 5"):
        packing.unpack(torch.zeros(2, 5, dtype=torch.uint8), 3, 16)


# --- codebooks

TABLE = {  # exact distortions for 1 to 4 bits, found apart from this code
    None: (0.363380, 0.117482, 0.034548, 0.009501),
    64: (0.358387, 0.114526, 0.033391, 0.009132),
    128: (0.360889, 0.116000, 0.033966, 0.009315),
    1536: (0.363173, 0.117358, 0.034499, 0.009485),
}


@pytest.mark.parametrize("dim", TABLE)
def test_distortion_equals_the_table(dim):
    result = [lloyd_max.lloyd_max(bits, dim).distortion for bits in (1, 2, 3, 4)]
    assert result == pytest.approx(TABLE[dim], abs=6e-7)


@pytest.mark.parametrize("dim", [None, 2, 3, 4, 8, 64, 1536, 32768])
@pytest.mark.parametrize("bits", range(1, 9))
def test_both_lloyd_conditions_hold(dim, bits):
    built = lloyd_max.lloyd_max(bits, dim)
    assert max(lloyd_max.conditions(built)) < 1e-9
    assert len(built.centroids) == 2**bits
    assert np.all(np.diff(built.centroids) > 0)
    np.testing.assert_array_equal(built.centroids, -built.centroids[::-1])


@pytest.mark.parametrize("dim", [4, 64, 128, 1536])
@pytest.mark.parametrize("bits", [1, 3, 4])
def test_a_quadrature_agrees(dim, bits):
    """Neither the closed forms nor this normalisation know of each other."""
    k = math.exp(gammaln(dim / 2) - gammaln((dim - 1) / 2)) / math.sqrt(math.pi)
    built = lloyd_max.lloyd_max(bits, dim)
    edges = [max(-1, -12 / dim**0.5), *built.boundaries, min(1, 12 / dim**0.5)]
    error = 0.0
    for c, low, high in zip(built.centroids, edges[:-1], edges[1:], strict=True):

        def weight(t):
            return k * (1 - t * t) ** ((dim - 3) / 2)

        mass = quad(weight, low, high, epsabs=1e-15)[0]
        mean = quad(lambda t: t * weight(t), low, high, epsabs=1e-15)[0] / mass
        assert abs(mean - c) * dim**0.5 < 1e-10
        error += quad(lambda t: (t - c) ** 2 * weight(t), low, high, epsabs=1e-15)[0]  # noqa: B023
    assert dim * error == pytest.approx(built.distortion, rel=1e-9)


def test_the_uniform_coordinate_of_space_gets_even_steps():
    """At d = 3 a coordinate is uniform on [-1, 1] (Archimedes), so the codebook is known."""
    for bits in (1, 2, 3, 4):
        built = lloyd_max.lloyd_max(bits, 3)
        even = (np.arange(2**bits) + 0.5) / 2 ** (bits - 1) - 1
        np.testing.assert_allclose(built.centroids, even, atol=1e-12)
        assert built.distortion == pytest.approx(4.0**-bits, rel=1e-9)


def test_one_bit_has_its_closed_form():
    assert lloyd_max.lloyd_max(1).distortion == pytest.approx(1 - 2 / math.pi, abs=1e-12)
    assert lloyd_max.lloyd_max(1, 2).distortion == pytest.approx(1 - 8 / math.pi**2, abs=1e-12)


@pytest.mark.parametrize(("bits", "dim"), [(0, 64), (9, 64), (2, 1), (2, 2**15 + 1), (2.5, 64)])
def test_a_codebook_that_cannot_be_is_refused(bits, dim):
    with pytest.raises(ValueError, match="must be"):
        lloyd_max.lloyd_max(bits, dim)


# --- theory


def test_bounds_hold_from_64_dimensions():
    for dim in (64, 128, 256, 1536, None):
        for bits in (1, 2, 3, 4):
            exact = lloyd_max.lloyd_max(bits, dim).distortion
            assert theory.lower(bits) < exact < theory.upper(bits)
            if dim and bits > 1:
                inner = theory.expected("prod", bits, dim)
                assert theory.lower(bits) < inner < math.sqrt(3) * math.pi**2 / 4**bits


def test_the_lower_bound_as_printed_fails_in_the_plane():
    assert theory.circle(1) == pytest.approx(0.18943, abs=5e-6)
    assert lloyd_max.lloyd_max(1, 2).distortion == pytest.approx(theory.circle(1), rel=1e-9)
    assert lloyd_max.lloyd_max(1, 2).distortion < theory.lower(1)
    assert lloyd_max.lloyd_max(1, 4).distortion > theory.lower(1)


def test_unknown_variants_are_named_with_the_nearest():
    with pytest.raises(ValueError, match="did you mean 'eden-biased'"):
        theory.expected("eden-biases", 2, 64)
    with pytest.raises(ValueError, match="did you mean 'prod'"):
        theory.slope("prd", 2, 64)


# --- rotations


@pytest.mark.parametrize("kind", rotations.KINDS)
@pytest.mark.parametrize("dim", [2, 8, 24, 64, 96, 128, 200, 384])
def test_a_rotation_is_orthogonal_and_undone_by_its_inverse(kind, dim):
    turn = rotations.rotation(kind, dim, 3)
    x = torch.randn(5, 2, dim, dtype=torch.float64)
    y = turn.apply(x)
    assert y.shape == x.shape
    torch.testing.assert_close(turn.inverse(y), x, rtol=0, atol=1e-12)
    torch.testing.assert_close((y**2).sum(-1), (x**2).sum(-1), rtol=1e-12, atol=0)
    q = turn.matrix(dtype=torch.float64)
    torch.testing.assert_close(q @ q.T, torch.eye(dim).double(), rtol=0, atol=1e-12)
    torch.testing.assert_close(x @ q.T, y, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dim", [2, 4, 8, 32, 128, 512])
def test_the_fast_transform_is_the_hadamard_matrix(dim):
    turn = rotations.Hadamard(dim, 7)
    signs = turn._tables("signs", torch.empty(0, dtype=torch.float64))[0]
    expected = torch.from_numpy(hadamard(dim)).double() / dim**0.5 * signs
    torch.testing.assert_close(turn.matrix(dtype=torch.float64), expected, rtol=0, atol=1e-12)


def test_blocks_mix_where_the_dimension_is_no_power_of_two():
    """Energy in one block of 96 = 3 x 32 must reach the others; a single round cannot do that."""
    turn = rotations.rotation("hadamard", 96, 0)
    x = torch.zeros(32, 96)
    x[:, :32] = torch.eye(32)
    energy = (turn.apply(x) ** 2).unflatten(-1, (3, 32)).sum(-1)  # (32, 3)
    assert energy.min() > 0.1


def test_haar_coordinates_have_the_law_of_a_random_direction():
    """The first two even moments of entries: 1 / d and 3 / (d (d + 2)); no bias of the sign."""
    d, rows = 16, []
    for seed in range(400):
        rows.append(rotations.Haar(d, seed).matrix(dtype=torch.float64).numpy())
    q = np.stack(rows)  # (400, d, d)
    assert (q**2).mean() == pytest.approx(1 / d, rel=1e-9)
    assert (q**4).mean() == pytest.approx(3 / (d * (d + 2)), rel=0.03)
    diagonal = q[:, range(d), range(d)].mean()  # 0 only with the sign correction
    assert abs(diagonal) < 4 / math.sqrt(400 * d * d)


def test_a_seed_gives_one_rotation_and_another_seed_another():
    for kind in rotations.KINDS:
        item, same, other = (rotations.rotation(kind, 32, seed).matrix() for seed in (0, 0, 1))
        assert torch.equal(item, same)
        assert not torch.equal(item, other)


def tail(u, turn):
    """Share of unit vectors whose error at 4 bits is over four times the median."""
    built = lloyd_max.lloyd_max(4, u.shape[-1])
    y = turn(u).numpy()
    error = ((y - built.centroids[np.searchsorted(built.boundaries, y)]) ** 2).sum(-1)
    return float((error > 4 * np.median(error)).mean())


def drawn(library, seed, *shape):
    if library == "numpy":
        return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))
    torch.manual_seed(seed)
    return torch.randn(*shape).double()


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("kind", rotations.KINDS)
def test_data_of_the_same_seed_never_meet_their_own_rotation(library, kind):
    d, n = 128, 1000
    for seed in (0, 1, 42, 1234):
        x = drawn(library, seed, n, d)
        u = x / x.norm(dim=-1, keepdim=True)
        assert tail(u, rotations.rotation(kind, d, seed).apply) < 0.01
        q, r = torch.linalg.qr(drawn(library, seed, d, d))  # the usual way to draw it
        q = q * r.diagonal().sign()
        assert tail(u, lambda v, q=q: v @ q.T) == pytest.approx(d / n, abs=0.01)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("hadamar", 8), "did you mean 'hadamard'"),
        (("haar", 1), "dimension"),
        (("haar", 8, -1), "seed"),
        (("hadamard", 9), "even dimension, got 9"),
    ],
)
def test_a_rotation_that_cannot_be_is_refused(words, named):
    with pytest.raises(ValueError, match=named):
        rotations.rotation(*words)
    with pytest.raises(ValueError, match="vectors of 8, got 9"):
        rotations.rotation("haar", 8).apply(torch.zeros(9))


# --- rivals

CODES = {
    "per token": lambda: baselines.PerToken(64, 4),
    "per channel": lambda: baselines.PerChannel(64, 3, group=32),
    "int8": lambda: baselines.EightBit(64, "int8"),
    "float8": lambda: baselines.EightBit(64, "fp8"),
}


@pytest.mark.parametrize("name", CODES)
@pytest.mark.parametrize("count", [1, 32, 45])
def test_as_many_vectors_come_back(name, count):
    code = CODES[name]()
    assert code.decode(code.encode(torch.randn(count, 64))).shape == (count, 64)


@pytest.mark.parametrize(
    ("code", "tokens", "bits"),
    [
        (CODES["per token"](), 1, 4.5),
        (baselines.PerChannel(64, 4, group=64), 64, 4.5),
        (baselines.PerChannel(64, 2, group=32), 32, 3),
        (baselines.PerChannel(64, 2, group=32), 33, 2 + 2 * 32 / 33),  # a range for one token
        (CODES["int8"](), 1, 8.25),
        (CODES["float8"](), 1, 8.25),
    ],
)
def test_metadata_are_counted_to_the_bit(code, tokens, bits):
    coded = code.encode(torch.randn(tokens, 64))
    assert 8 * coded.nbytes / (tokens * 64) == pytest.approx(bits, rel=1e-12)


@pytest.mark.parametrize("name", CODES)
def test_errors_are_within_half_a_step(name):
    x = torch.randn(2, 40, 64) * 3
    code = CODES[name]()
    difference = (code.decode(code.encode(x)) - x).abs()
    if name.startswith("float8"):  # three bits of mantissa: a sixteenth, and steps near zero
        assert (difference <= x.abs() / 16 + 0.002).all()
        return
    if name == "int8":
        step = x.abs().amax(-1, keepdim=True) / 127
    else:
        grouped = x
        if name == "per channel":
            grouped = x[:, :32].transpose(1, 2)
            difference = difference[:, :32].transpose(1, 2)
        step = (grouped.amax(-1, keepdim=True) - grouped.amin(-1, keepdim=True)) / (
            2**code.bits - 1
        )
    # a scale and a zero of float16 add a little to half a step
    assert (difference <= 0.5 * step + 0.002 * x.abs().max()).all()


def test_a_channel_of_large_keys_costs_other_channels_nothing_by_channel():
    x = torch.randn(64, 64)
    x[:, 5] += 50
    others = [k for k in range(64) if k != 5]
    token, channel = baselines.PerToken(64, 4), baselines.PerChannel(64, 4)
    errors = [
        ((code.decode(code.encode(x)) - x)[:, others] ** 2).mean() for code in (token, channel)
    ]
    assert errors[0] > 50 * errors[1]


@pytest.mark.parametrize("name", CODES)
def test_constant_and_zero_vectors_come_back(name):
    code = CODES[name]()
    for value in (0.0, 2.0, -1.5):
        x = torch.full((3, 64), value)
        torch.testing.assert_close(code.decode(code.encode(x)), x, rtol=2e-3, atol=0)


@pytest.mark.parametrize("name", CODES)
def test_numbers_that_are_none_are_refused(name):
    x = torch.ones(2, 64)
    x[1, 3] = math.nan
    with pytest.raises(ValueError, match="not a finite number"):
        CODES[name]().encode(x)
    with pytest.raises(ValueError, match="vectors of 64, got 8"):
        CODES[name]().encode(torch.ones(2, 8))


@pytest.mark.parametrize("spread", [1e-2, 1.0, 1e4])
def test_float8_scales_a_token_and_rounds_as_ml_dtypes_does(spread):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    x = torch.randn(6, 64) * spread * torch.logspace(-2, 2, 6)[:, None]
    code = baselines.EightBit(64, "fp8")
    coded = code.encode(x)
    scaled = (x / coded.scales[:, None].float()).clamp(-448, 448).numpy()
    theirs = scaled.astype(ml_dtypes.float8_e4m3fn)
    ours = coded.packed.view(torch.uint8).numpy()
    assert np.array_equal(ours, theirs.view(np.uint8))
    difference = (code.decode(coded) - x).abs()
    assert (difference <= x.abs() / 15 + 0.02 * x.abs().amax(-1, keepdim=True)).all()


@pytest.mark.parametrize("name", CODES)
def test_ranges_past_those_of_half_precision_are_stored_in_single(name):
    x = torch.randn(40, 64) * 1e7
    coded = CODES[name]().encode(x)
    assert coded.scales.dtype == torch.float32
    difference = (CODES[name]().decode(coded) - x).square().sum() / x.square().sum()
    assert difference < 0.3
