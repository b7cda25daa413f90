"""Codes of weights against other people's: casts of ml_dtypes, blocks of gguf, layers by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sizewise.quantization.packing import unpack
from sizewise.quantization.weights import calibrated, codecs

torch.set_num_threads(1)
ml_dtypes = pytest.importorskip("ml_dtypes")
quants = pytest.importorskip("gguf.quants")
gguf = pytest.importorskip("gguf")
SPREADS = (1e-4, 0.02, 1.0, 300.0)
BITS = {  # a weight, scales included, of a matrix of 64 rows and 512 columns, by hand
    "fp8": 8 + 32 / 512,
    "mxfp4": 4 + 8 / 32,
    "nvfp4": 4 + 8 / 16 + 32 / (64 * 512),
    "q8_0": 8 + 16 / 32,
    "q4_0": 4 + 16 / 32,
    "nf3": 3 + 32 / 64 + 8 * 32 / (64 * 512),
    "int4": 4 + 32 / 64,
    "int3": 3 + 32 / 64,
    "hqq4": 4 + 32 / 64,
    "hqq3": 3 + 32 / 64,
}


def weights(rows=64, columns=512, spread=0.02, seed=0):
    """Normal weights with a few large ones, one row of zeros and one group of zeros."""
    draw = torch.Generator().manual_seed(seed)
    weight = torch.randn(rows, columns, generator=draw) * spread
    weight[torch.rand(rows, columns, generator=draw) < 0.01] *= 8
    weight[1], weight[2, :64] = 0, 0
    return weight


def codes(tensors, bits=4):
    packed = tensors["codes"]
    return unpack(packed, bits, packed.shape[-1] * 8 // bits).numpy()


# --- FP8 and FP4 against ml_dtypes


@pytest.mark.parametrize("spread", SPREADS)
def test_fp8_rows_are_cast_as_ml_dtypes_casts_them(spread):
    weight = weights(spread=spread)
    built = codecs.encode_fp8(weight)
    scaled = np.clip((weight / built["scales"]).numpy(), -448, 448)
    theirs = scaled.astype(ml_dtypes.float8_e4m3fn)
    assert np.array_equal(built["codes"].view(torch.uint8).numpy(), theirs.view(np.uint8))
    largest = built["codes"].float().abs().amax(1)
    assert (largest[weight.abs().amax(1) > 0] == 448).all()
    decoded = codecs.decode_fp8(built)
    assert np.array_equal(decoded.numpy(), theirs.astype(np.float32) * built["scales"].numpy())


def test_e2m1_rounds_to_the_nearest_and_ties_to_even_as_ml_dtypes_does():
    x = np.concatenate([np.arange(-7, 7, 1 / 64), [0.0, -0.0, 1e-9, -1e-9, 100.0, -100.0]])
    x = np.concatenate([x, np.nextafter(x, 9), np.nextafter(x, -9)]).astype(np.float32)
    ours = codecs.e2m1_codes(torch.from_numpy(x)).numpy()
    theirs = np.clip(x, -6, 6).astype(ml_dtypes.float4_e2m1fn)
    assert np.array_equal(ours, theirs.view(np.uint8))
    values = codecs.e2m1_values(torch.arange(16)).numpy()
    theirs = np.arange(16, dtype=np.uint8).view(ml_dtypes.float4_e2m1fn)
    assert np.array_equal(values, theirs.astype(np.float32))


@pytest.mark.parametrize("spread", SPREADS)
def test_mxfp4_scales_and_codes_are_those_of_ml_dtypes(spread):
    weight = weights(spread=spread)
    built = codecs.encode_mxfp4(weight)
    groups = weight.numpy().reshape(64, -1, 32)
    largest = np.abs(groups).max(2)
    with np.errstate(divide="ignore"):
        scale = np.where(largest > 0, 2.0 ** (np.floor(np.log2(largest)) - 2), 2.0**-127)
    stored = scale.astype(ml_dtypes.float8_e8m0fnu)
    assert np.array_equal(built["scales"].numpy(), stored.view(np.uint8))
    theirs = np.clip(groups / scale[..., None], -6, 6).astype(ml_dtypes.float4_e2m1fn)
    assert np.array_equal(codes(built), theirs.view(np.uint8).reshape(64, -1))
    values = theirs.astype(np.float32) * scale[..., None].astype(np.float32)
    assert np.array_equal(codecs.decode_mxfp4(built).numpy(), values.reshape(64, -1))


@pytest.mark.parametrize("spread", SPREADS)
def test_mxfp4_blocks_are_those_of_gguf(spread):
    """Its codes of equal magnitude differ at ties alone, and no drawn weight is one."""
    weight = weights(spread=spread)
    kind = gguf.GGMLQuantizationType.MXFP4
    theirs = quants.dequantize(quants.quantize(weight.numpy(), kind), kind)
    assert np.array_equal(codecs.decode_mxfp4(codecs.encode_mxfp4(weight)).numpy(), theirs)


@pytest.mark.parametrize("spread", SPREADS)
def test_nvfp4_scales_and_codes_are_those_of_ml_dtypes(spread):
    weight = weights(spread=spread)
    built = codecs.encode_nvfp4(weight)
    groups = weight.numpy().reshape(64, -1, 16)
    largest = np.abs(groups).max(2)
    full = largest.max() / np.float32(448 * 6)
    scales = np.clip(largest / np.float32(6) / full, 0, 448).astype(ml_dtypes.float8_e4m3fn)
    assert np.array_equal(built["scales"].view(torch.uint8).numpy(), scales.view(np.uint8))
    step = scales.astype(np.float32) * full
    scaled = groups / np.where(step == 0, 1, step)[..., None]
    theirs = np.clip(scaled, -6, 6).astype(ml_dtypes.float4_e2m1fn)
    assert np.array_equal(codes(built), theirs.view(np.uint8).reshape(64, -1))
    values = theirs.astype(np.float32) * step[..., None]
    assert np.array_equal(codecs.decode_nvfp4(built).numpy(), values.reshape(64, -1))


def test_nvfp4_codes_mean_to_gguf_what_they_mean_here():
    weight = weights(spread=1.0)
    built = codecs.encode_nvfp4(weight)
    halves = codes(built).reshape(-1, 4, 2, 8)  # a block of 64: four groups, low and high nibbles
    nibbles = (halves[:, :, 0] | halves[:, :, 1] << 4).reshape(-1, 32)
    blocks = np.concatenate([built["scales"].view(torch.uint8).numpy().reshape(-1, 4), nibbles], 1)
    theirs = quants.NVFP4.dequantize_blocks(blocks.astype(np.uint8)).reshape(weight.shape)
    ours = codecs.decode_nvfp4(built | {"scale": torch.ones(())}).numpy()
    assert np.array_equal(ours, theirs)


# --- integers against gguf and by hand


@pytest.mark.parametrize("spread", SPREADS)
@pytest.mark.parametrize("name", ["q8_0", "q4_0"])
def test_gguf_codes_and_values_are_those_of_the_package(name, spread):
    weight = weights(spread=spread)
    built = codecs.CODECS[name].encode(weight)
    kind = getattr(gguf.GGMLQuantizationType, name.upper())
    raw = quants.quantize(weight.numpy(), kind)
    theirs = raw.reshape(-1, 34 if name == "q8_0" else 18)
    assert np.array_equal(built["scales"].numpy().view(np.uint8).reshape(-1, 2), theirs[:, :2])
    if name == "q8_0":
        ours = built["codes"].numpy().view(np.uint8).reshape(-1, 32)
    else:
        each = codes(built).reshape(-1, 2, 16)
        ours = each[:, 0] | each[:, 1] << 4
    assert np.array_equal(ours, theirs[:, 2:])
    decoded = codecs.CODECS[name].decode(built).numpy()
    assert np.array_equal(decoded, quants.dequantize(raw, kind))


@pytest.mark.parametrize("name", ["int4", "int3"])
def test_even_steps_err_by_half_a_step_and_the_rounding_of_their_scales(name):
    weight = weights()
    built = codecs.CODECS[name].encode(weight)
    step = built["scales"].float().repeat_interleave(64, 1)
    apart = (codecs.CODECS[name].decode(built) - weight).abs()
    assert (apart <= step * 0.5 + 2e-3 * weight.abs().amax()).all()


@pytest.mark.parametrize("bits", [3, 4])
def test_hqq_leaves_no_larger_norm_of_errors_than_rounding_to_the_nearest(bits):
    weight = weights(rows=256)

    def loss(name):
        codec = codecs.CODECS[f"{name}{bits}"]
        return (codec.decode(codec.encode(weight)) - weight).abs().pow(0.7).mean()

    assert loss("hqq") < loss("int")


@pytest.mark.parametrize("columns", [512, 40])  # blocks of 64 run over the ends of rows
def test_nf3_takes_the_nearest_of_eight_levels_and_three_bits_a_code(columns):
    weight = weights(columns=columns)
    built = codecs.CODECS["nf3"].encode(weight)
    flat = torch.nn.functional.pad(weight.flatten(), (0, -weight.numel() % 64)).view(-1, 64)
    scales = flat.abs().amax(1, keepdim=True).double().clamp(min=1e-38)
    levels = torch.tensor(codecs.normal_float(3))
    nearest = ((flat.double() / scales).unsqueeze(2) - levels).abs().amin(2) * scales
    error = (codecs.CODECS["nf3"].decode(built) - weight).abs().flatten().double()
    assert torch.allclose(error, nearest.flatten()[: weight.numel()], atol=1e-7)
    assert built["codes"].shape == (64, columns * 3 // 8)


@pytest.mark.parametrize("name", BITS)
def test_bytes_are_those_counted_by_hand(name):
    built = codecs.CODECS[name].encode(weights())
    assert codecs.nbytes(built) * 8 / (64 * 512) == pytest.approx(BITS[name], abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(sorted(codecs.CODECS)), st.integers(0, 999), st.sampled_from(SPREADS))
def test_values_that_were_decoded_are_decoded_again(name, seed, spread):
    """What a format can hold it keeps: exactly, but where a scale is found anew from the values."""
    codec = codecs.CODECS[name]
    once = codec.decode(codec.encode(weights(8, 128, spread, seed)))
    twice = codec.decode(codec.encode(once))
    assert (twice - once).square().sum() <= 2e-2 * once.square().sum()
    assert (once[1] == 0).all()


# --- codes that look at inputs


def inputs(columns, tokens=512, seed=0):
    """Correlated inputs with some large columns."""
    draw = torch.Generator().manual_seed(seed)
    mixing = torch.randn(columns // 4, columns, generator=draw)
    x = torch.randn(tokens, columns // 4, generator=draw) @ mixing
    x[:, :: columns // 8] *= 10
    return x + 0.1 * torch.randn(tokens, columns, generator=draw)


def layer_error(weight, other, x):
    return float(((weight - other).double() @ x.double().T).square().sum() / len(x))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", ["gptq4", "gptq3", "awq4", "awq3"])
def test_no_layer_errs_more_than_rounded_to_the_nearest(name, seed):
    weight, x = weights(48, 256, seed=seed), inputs(256, seed=seed)
    moments = x.T @ x / len(x)
    codec = calibrated.CALIBRATED[name]
    ours = codec.decode(codec.encode(weight, moments))
    nearest = codecs.CODECS[f"int{codec.bits}"]
    plain = layer_error(weight, nearest.decode(nearest.encode(weight)), x)
    assert layer_error(weight, ours, x) <= plain * (1 + 1e-6)
    if name.startswith("gptq"):
        assert layer_error(weight, ours, x) < 0.7 * plain


def test_the_error_from_second_moments_is_that_of_the_outputs():
    weight, x = weights(16, 128), inputs(128)
    other = codecs.CODECS["int3"].decode(codecs.CODECS["int3"].encode(weight))
    result = float(calibrated.output_errors(weight, other, x.T @ x / len(x)).sum())
    assert result == pytest.approx(layer_error(weight, other, x), rel=1e-4)


def test_gptq_of_uncorrelated_inputs_is_rounding_to_the_nearest():
    weight = weights(32, 192)
    built = calibrated.encode_gptq(weight, torch.eye(192), 4)
    nearest = codecs.CODECS["int4"].encode(weight)
    assert all(torch.equal(built[name], nearest[name]) for name in nearest)


def test_gptq_of_two_columns_worked_by_hand():
    """Equal inputs in two columns: what the first is rounded up by, the second gives back."""
    weight = torch.zeros(1, 64)
    weight[0, 0], weight[0, 1] = 1.4, 1.4
    weight[0, 2], weight[0, 3] = 0.0, 15.0  # the grid: 0 to 15 in steps of 1
    moments = torch.eye(64)
    moments[0, 1] = moments[1, 0] = 0.999
    built = calibrated.encode_gptq(weight, moments, 4)
    values = codecs.decode_integers(4)(built)[0, :4]
    assert values.tolist() == [1.0, 2.0, 0.0, 15.0]


def test_second_moments_are_those_of_the_inputs():
    torch.manual_seed(0)

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.layer = torch.nn.Embedding(16, 8), torch.nn.Linear(8, 4)

        def forward(self, input_ids):
            return self.layer(self.table(input_ids))

    model, ids = Model(), np.arange(32).reshape(4, 8) % 16
    result = calibrated.second_moments(model, ids, ["layer"], batch=3)["layer"]
    x = model.table.weight[ids.flatten()].detach()
    assert torch.allclose(result, x.T @ x / 32, atol=1e-6)
    model.unused = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match="no token of the calibration text reaches unused"):
        calibrated.second_moments(model, ids, ["layer", "unused"])
