"""TurboQuant: the distortion its theory predicts, no bias where none is promised, every byte."""

import math
import runpy
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sizewise import paths
from sizewise.data import records
from sizewise.quantization import packing
from sizewise.quantization.turboquant import lloyd_max, rotations, theory
from sizewise.quantization.turboquant.codec import VARIANTS, TurboQuant

torch.set_num_threads(1)
SCALED = ("norm-corrected", "eden-biased", "eden-unbiased")


def directions(n, d, seed=0):
    draw = rotations.generator("test_turboquant", d, seed)
    x = torch.from_numpy(draw.standard_normal((n, d))).float()
    return x / x.norm(dim=-1, keepdim=True)


def errors(code, u):
    """Squared distance of each unit vector from what its code decodes to."""
    return ((code.decode(code.encode(u)) - u) ** 2).sum(-1).double()


@pytest.mark.parametrize("rotation", rotations.KINDS)
@pytest.mark.parametrize(("bits", "expected"), [(1, 0.3609), (2, 0.1160), (3, 0.0340), (4, 0.0093)])
def test_distortion_at_128_is_that_of_the_table(rotation, bits, expected):
    result = errors(
        TurboQuant(128, bits, rotation=rotation, seed=5), directions(20_000, 128)
    ).mean()
    assert result == pytest.approx(expected, rel=0.01)
    assert result == pytest.approx(lloyd_max.lloyd_max(bits, 128).distortion, rel=0.01)


def test_distortion_does_not_depend_on_the_data_under_a_haar_rotation():
    """Vectors with one entry, flat ones and steps: over rotations all err alike."""
    d = 64
    x = torch.zeros(3, d)
    x[0, 7], x[1], x[2, : d // 4] = 1, d**-0.5, 2 / d**0.5
    result = torch.stack([errors(TurboQuant(d, 2, seed=s), x) for s in range(300)])  # (300, 3)
    expected = lloyd_max.lloyd_max(2, d).distortion
    difference = (result.mean(0) - expected) / (result.std(0) / 300**0.5)
    assert difference.abs().max() < 4


@pytest.mark.parametrize("variant", ["prod", "prod-orthogonal", "eden-unbiased"])
@pytest.mark.parametrize("bits", [1, 2, 4])
def test_inner_products_are_unbiased(variant, bits):
    """One sketch serves all vectors of a code, so the standard error is that between seeds."""
    d, u = 64, directions(500, 64)
    slopes = torch.tensor(
        [
            float((u * code.decode(code.encode(u))).sum(-1).mean())
            for code in (TurboQuant(d, bits, variant=variant, seed=s) for s in range(24))
        ]
    )
    error = float(slopes.std()) / 24**0.5
    assert abs(float(slopes.mean()) - 1) < max(3 * error, 2e-4)  # 2e-4: norms are in float16
    assert error < 0.01


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_mse_shrinks_inner_products_by_its_distortion(bits):
    u = directions(4000, 128)
    code = TurboQuant(128, bits, seed=1)
    result = float((u * code.decode(code.encode(u))).sum(-1).mean())
    assert result == pytest.approx(1 - lloyd_max.lloyd_max(bits, 128).distortion, abs=2e-3)
    assert result == pytest.approx(theory.slope("mse", bits, 128), abs=2e-3)


@pytest.mark.parametrize("variant", ["mse", "prod", "prod-orthogonal"])
@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_errors_are_those_expected(variant, bits):
    u = directions(1000, 64)
    result = torch.tensor(
        [float(errors(TurboQuant(64, bits, variant=variant, seed=s), u).mean()) for s in range(12)]
    )
    expected = theory.expected(variant, bits, 64)
    assert abs(float(result.mean()) - expected) < 4 * float(result.std()) / 12**0.5
    assert float(result.mean()) == pytest.approx(expected, rel=0.02)


def test_the_error_of_a_random_inner_product_is_the_distortion_over_d():
    d, n = 128, 20_000
    u, q = directions(n, d), directions(n, d, seed=1)
    code = TurboQuant(d, 2, variant="eden-unbiased", seed=1)
    difference = code.decode(code.encode(u)) - u
    inner = d * ((q * difference).sum(-1) ** 2).double()
    assert float(inner.mean()) == pytest.approx(
        float((difference**2).sum(-1).mean()), abs=4 * float(inner.std()) / n**0.5
    )


def test_eden_without_a_sketch_beats_prod_with_a_bit_more():
    """Printed in the reference measurements: .131 at 2 bits below .182 at 3, .0351 below .0527."""
    u = directions(4000, 128)
    for bits in (2, 3):
        eden = float(errors(TurboQuant(128, bits, variant="eden-unbiased", seed=2), u).mean())
        prod = float(errors(TurboQuant(128, bits + 1, variant="prod", seed=2), u).mean())
        assert eden < 0.8 * prod
        assert eden == pytest.approx({2: 0.131, 3: 0.0351}[bits], rel=0.03)
        assert prod == pytest.approx({2: 0.182, 3: 0.0527}[bits], rel=0.03)


def test_an_orthogonal_sketch_adds_less_than_a_gaussian_one():
    u = directions(2000, 128)
    gaussian, orthogonal = (
        float(errors(TurboQuant(128, 3, variant=v, seed=2), u).mean())
        for v in ("prod", "prod-orthogonal")
    )
    assert gaussian / orthogonal == pytest.approx(2.7, rel=0.1)


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_the_scale_of_least_error_is_never_beaten(bits):
    """For every single vector, since all four share their codes; up to the rounding of norms."""
    u = directions(1000, 128)
    result = {
        v: errors(TurboQuant(128, bits, variant=v, seed=3), u)
        for v in ("mse", "norm-corrected", "eden-biased", "eden-unbiased")
    }
    for name in ("mse", "norm-corrected", "eden-unbiased"):
        assert (result["eden-biased"] <= result[name] + 1e-6).all()
    gain = 1 - float(result["eden-biased"].mean() / result["mse"].mean())
    assert 0 < gain < 0.025


@pytest.mark.parametrize("variant", SCALED)
def test_scales_are_folded_into_the_norm_and_the_codes_are_the_same(variant):
    x = torch.randn(50, 64) * 5
    plain, scaled = (TurboQuant(64, 3, variant=v, seed=4) for v in ("mse", variant))
    item, other = plain.encode(x), scaled.encode(x)
    assert torch.equal(item.packed, other.packed)
    decoded = scaled.decode(other)
    if variant == "norm-corrected":
        torch.testing.assert_close(decoded.norm(dim=-1), x.norm(dim=-1), rtol=1e-3, atol=0)
    if variant == "eden-unbiased":
        torch.testing.assert_close((decoded * x).sum(-1), (x * x).sum(-1), rtol=1e-3, atol=0)
    if variant == "eden-biased":  # least error: what is left is orthogonal to what is decoded
        residue = ((decoded - x) * decoded).sum(-1) / (x * x).sum(-1)
        assert residue.abs().max() < 1e-3


# --- what is stored


@settings(max_examples=40, deadline=None)
@given(
    variant=st.sampled_from(VARIANTS),
    bits=st.sampled_from([1, 2, 3, 4, 8]),
    eighths=st.integers(1, 6),
    lead=st.lists(st.integers(0, 4), max_size=3),
)
def test_bytes_are_those_of_what_encode_returns(variant, bits, eighths, lead):
    if variant.startswith("prod") and bits == 8:
        return
    d = 8 * eighths
    code = TurboQuant(d, bits, variant=variant)
    codes = code.encode(torch.randn(*lead, d))
    parts = (codes.packed, codes.norms, codes.signs, codes.residuals)
    beside = 4 if variant.startswith("prod") else 2  # a norm, and what the sketch is scaled by
    assert codes.nbytes == sum(p.nbytes for p in parts if p is not None)
    assert codes.nbytes == math.prod(lead) * (d * bits // 8 + beside)
    assert codes.norms.shape == tuple(lead)
    assert codes.norms.dtype == torch.float16
    assert codes.packed.dtype == torch.uint8
    assert code.decode(codes).shape == (*lead, d)


@pytest.mark.parametrize(
    ("dim", "bits", "variant", "count", "size"),
    [
        (128, 4, "mse", 1, 64 + 2),
        (128, 3, "mse", 10, 10 * (48 + 2)),
        (128, 3, "prod", 1, 32 + 16 + 2 + 2),
        (64, 1, "prod", 1, 0 + 8 + 2 + 2),
    ],
)
def test_bytes_of_a_vector_worked_by_hand(dim, bits, variant, count, size):
    code = TurboQuant(dim, bits, variant=variant)
    assert code.encode(torch.randn(count, dim)).nbytes == size


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
def test_codes_are_the_nearest_centroids(bits):
    x = torch.randn(300, 64)
    code = TurboQuant(64, bits, rotation="hadamard", seed=9)
    result = packing.unpack(code.encode(x).packed, bits, 64).long()
    y = code.rotation.apply(x / x.norm(dim=-1, keepdim=True))
    difference = (y[..., None] - code.codebook).abs()  # (300, 64, 2**bits)
    chosen = difference.gather(-1, result[..., None])[..., 0]
    assert (chosen <= difference.amin(-1) + 1e-6).all()
    # what a GPU does instead of passes over the boundaries
    assert torch.equal(code._nearest(y), torch.bucketize(y, code.boundaries).byte())


def test_chunks_leave_no_seam(monkeypatch):
    from sizewise.quantization.turboquant import codec

    x = torch.randn(3, 67, 64)
    for variant in ("mse", "prod", "eden-biased"):
        code = TurboQuant(64, 3, variant=variant)
        full = code.encode(x)
        monkeypatch.setitem(codec.CHUNK, "cpu", 640)
        parts = code.encode(x)
        decoded = code.decode(parts)
        monkeypatch.undo()
        # products of other sizes may round the last bit of a coordinate at a boundary
        assert (full.packed != parts.packed).double().mean() < 1e-3
        torch.testing.assert_close(decoded, code.decode(full), rtol=0, atol=0.5)
        assert float((decoded - code.decode(full)).abs().mean()) < 1e-3


def test_leading_shapes_slices_and_dtypes():
    base = torch.randn(2, 5, 3, 32)
    x = base.transpose(1, 2)  # (2, 3, 5, 32), not contiguous
    code = TurboQuant(32, 4)
    codes = code.encode(x)
    assert codes.packed.shape == (2, 3, 5, 16)
    assert torch.equal(codes.packed, code.encode(x.contiguous()).packed)
    for dtype in (torch.bfloat16, torch.float16, torch.float64):
        decoded = code.decode(code.encode(x.to(dtype)), dtype)
        assert decoded.dtype == dtype
        assert float((decoded.float() - x).norm() / x.norm()) < 0.12
    item = code.encode(x[0, 0, 0])
    assert item.packed.shape == (16,)
    assert code.decode(item).shape == (32,)
    before = x.clone()
    code.encode(x.requires_grad_())
    assert torch.equal(x.detach(), before)


@pytest.mark.parametrize("variant", VARIANTS)
def test_zero_vectors_are_kept_exactly(variant):
    x = torch.randn(4, 64)
    x[1] = 0
    code = TurboQuant(64, 3, variant=variant)
    decoded = code.decode(code.encode(x))
    assert torch.equal(decoded[1], torch.zeros(64))
    assert torch.isfinite(decoded).all()
    assert (decoded[0] != 0).any()


@pytest.mark.parametrize("variant", VARIANTS)
def test_norms_at_the_ends_of_float16(variant):
    code = TurboQuant(64, 3, variant=variant, seed=6)
    u = directions(20, 64)
    expected = theory.expected(variant, 3, 64)
    large = code.decode(code.encode(u * 5e4)) / 5e4
    assert float(((large - u) ** 2).sum(-1).mean()) == pytest.approx(expected, rel=0.3)
    small = code.decode(code.encode(u * 1e-3)) / 1e-3
    assert float(((small - u) ** 2).sum(-1).mean()) == pytest.approx(expected, rel=0.3)
    for removed in (1e-9, 1e-30, 1e-42):
        assert torch.equal(code.decode(code.encode(u * removed)), torch.zeros_like(u))


@pytest.mark.parametrize("variant", ["mse", "prod", "eden-biased"])
def test_norms_past_those_of_half_precision_are_stored_in_single(variant):
    x = torch.randn(500, 64)
    x[3] *= 1e5
    code = TurboQuant(64, 3, variant=variant)
    coded = code.encode(x)
    assert coded.norms.dtype == torch.float32
    apart = ((code.decode(coded) - x) ** 2).sum(-1) / (x**2).sum(-1)
    assert apart[3] < 5 * apart.median()
    usual = code.encode(x[4:])
    assert usual.norms.dtype == torch.float16


@pytest.mark.parametrize("bad", [math.inf, math.nan])
@pytest.mark.parametrize("variant", ["mse", "prod", "eden-biased"])
def test_vectors_that_are_not_finite_are_refused(bad, variant):
    x = torch.randn(5, 64)
    x[3, 2] = bad
    code = TurboQuant(64, 2, variant=variant)
    with pytest.raises(ValueError, match="holds what is not a finite number"):
        code.encode(x)


@pytest.mark.parametrize(
    ("dim", "bits", "options", "named"),
    [
        (64, 5, {}, "got 5"),
        (60, 4, {}, "multiple of 8, got 60"),
        (64, 4, {"variant": "msee"}, "did you mean 'mse'"),
        (64, 4, {"rotation": "har"}, "did you mean 'haar'"),
        (64, 8, {"variant": "prod"}, "prod has 1, 2, 3 or 4 bits, got 8"),
        (64, 4, {"seed": -1}, "seed"),
    ],
)
def test_a_code_that_cannot_be_is_refused(dim, bits, options, named):
    with pytest.raises(ValueError, match=named):
        TurboQuant(dim, bits, **options)


def test_vectors_that_do_not_fit_are_refused():
    code = TurboQuant(64, 4)
    with pytest.raises(ValueError, match="vectors of 64, got 32"):
        code.encode(torch.zeros(2, 32))
    with pytest.raises(ValueError, match="floating-point"):
        code.encode(torch.zeros(2, 64, dtype=torch.int32))


@pytest.mark.gpu
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_gpu_makes_the_same_codes(variant):
    x = torch.randn(500, 128)
    code = TurboQuant(128, 3, variant=variant, rotation="hadamard")
    current, present = code.encode(x), code.encode(x.cuda())
    assert present.packed.is_cuda
    # sums in another order may move a coordinate that lies on a boundary
    differ = packing.unpack(current.packed, code.code_bits, 128) != packing.unpack(
        present.packed.cpu(), code.code_bits, 128
    )
    assert differ.double().mean() < 1e-3
    torch.testing.assert_close(code.decode(present).cpu(), code.decode(current), rtol=0, atol=2.0)
    assert float((code.decode(present).cpu() - code.decode(current)).abs().mean()) < 1e-2


# --- the experiment


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(paths.root() / "scripts" / "turboquant_theory.py"))


def test_every_kind_of_row_measures_its_columns(script):
    """On a few vectors, and each column described in the file beside the rows."""
    messages = (paths.root() / "data" / "turboquant_theory.md").read_text()
    rows = [
        {"what": "codebook", "dim": None, "bits": 2},
        {
            "what": "sampled",
            "dim": 64,
            "bits": 2,
            "variant": "prod",
            "rotation": "haar",
            "vectors": 200,
            "seed": 0,
        },
        {
            "what": "seed",
            "dim": 64,
            "bits": 4,
            "stream": "the data's",
            "library": "numpy",
            "vectors": 500,
            "seed": 42,
        },
    ]
    for row in rows:
        result = script["measure"](row)
        assert all(math.isfinite(value) for value in result.values())
        repeated = script["measure"](row)  # a function of the seed
        assert result == repeated
        for column in (*row, *result):
            assert f"| `{column}` |" in messages


def test_recall_finds_every_neighbour_without_loss_and_fewer_with_less(script, monkeypatch):
    """Vectors made here stand in for embeddings."""
    draw = rotations.generator("recall")
    base = torch.from_numpy(draw.standard_normal((400, 64))).float()
    base /= base.norm(dim=-1, keepdim=True)
    requested = base[:100] + 2 * torch.from_numpy(draw.standard_normal((100, 64))).float() / 8
    names = script["measure_recall"].__globals__
    monkeypatch.setitem(names, "embeddings", lambda *_: (base, requested, None))
    row = {"what": "recall", "model": "made up", "vectors": 400, "queries": 100, "seed": 0}
    result = {b: script["measure"]({**row, "method": "mse", "bits": b}) for b in (1, 4, 8)}
    assert result[8]["recall_at_1"] >= 0.98
    assert result[1]["recall_at_1"] < result[4]["recall_at_1"]
    assert result[1]["recall_at_1"] <= result[1]["recall_at_8"] <= result[1]["recall_at_64"]
    assert result[4]["bytes_each"] == 34
    monkeypatch.setitem(names, "_coded", lambda *_: (torch.zeros_like(base), 0.0))
    assert script["measure"]({**row, "method": "mse", "bits": 1})["recall_at_64"] == 0


@pytest.mark.peer("faiss")
def test_product_quantization_takes_as_many_bytes_less_the_norm(script):
    base = directions(600, 64)
    result = {}
    for method in ("product quantization", "product quantization, own"):
        row = {"method": method, "bits": 4, "seed": 0}
        decoded, each = script["_coded"](base, directions(600, 64, seed=2), row)
        assert each == 64 * 4 // 8
        result[method] = float(((decoded - base) ** 2).sum(-1).mean())
    fitted, plain = result["product quantization, own"], result["product quantization"]
    assert 0 < fitted < plain < 0.05  # 600 vectors teach 256 centroids little about other ones


def test_an_unknown_kind_of_row_is_one_line():
    command = [sys.executable, "scripts/turboquant_theory.py", "--what", "codebok", "--list"]
    done = subprocess.run(command, cwd=paths.root(), capture_output=True, text=True)
    assert done.returncode == 1
    assert "did you mean 'codebook'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_rounded_figures_of_the_paper_are_near_the_exact_ones():
    """0.03 and 0.009 are the exact ones rounded down, by 13 % and 5 %; the others are right."""
    facts = {item["name"]: item for item in records.facts("turboquant")}
    for bits, printed in facts["turboquant-mse"]["by_bits"].items():
        exact = lloyd_max.lloyd_max(bits).distortion
        assert printed == pytest.approx(exact, rel={3: 0.14, 4: 0.06}.get(bits, 0.01))
    for bits, printed in facts["turboquant-prod"]["by_bits"].items():
        assert printed == pytest.approx(theory.expected("prod", bits, 2**15), rel=0.14)


def test_the_split_of_channels_is_not_what_it_is_called():
    facts = {item["name"]: item for item in records.facts("turboquant")}
    split = {k: v["value"] for k, v in facts["turboquant-outliers"]["figures"].items()}
    bits = np.average(
        [split["outlier_bits"], split["other_bits"]],
        weights=[split["outlier_channels"], split["other_channels"]],
    )
    assert bits == 2.25
    assert split["stated_bits"] == 2.5
