"""Models of random weights, their outliers, and the kernels of a step."""

import pytest
from device_parts import (  # noqa: F401 - fixtures
    FOUR_BITS,
    config,
    the_quick,
    the_tiny,
)
from sizewise.benchmark import decode, model
from sizewise.models import random_weights

torch = pytest.importorskip("torch")


def test_a_built_model_has_the_parameters_of_its_configuration(tiny):
    assert tiny.described.total == sum(item.numel() for item in tiny.model.parameters())
    frequencies = 2 * 4 * tiny.config.head_dim // 2
    assert tiny.held == 4 * tiny.described.total + frequencies


def test_its_random_weights_are_a_function_of_the_seed():
    first, repeated, other = (model.build("llama-tiny", "fp32", "cpu", seed) for seed in (0, 0, 1))
    weight = first.model.model.layers[1].mlp.up_proj.weight
    assert torch.equal(weight, repeated.model.model.layers[1].mlp.up_proj.weight)
    assert not torch.equal(weight, other.model.model.layers[1].mlp.up_proj.weight)
    assert float(weight.std()) == pytest.approx(0.5 / 128**0.5, rel=0.05)
    assert torch.equal(first.model.model.norm.weight, torch.full((128,), 0.5))
    gains = first.model.model.layers[1].input_layernorm.weight
    assert gains.unique().tolist() == [0.5, 12.0]
    assert (gains == 12).nonzero().tolist() == [[0]]
    assert (first.model.model.embed_tokens.weight[:, 0] == 1).all()


@pytest.mark.parametrize(("width", "number"), [(128, 1), (576, 1), (4096, 4), (8192, 8)])
def test_one_channel_in_1024_is_planted_and_they_lie_apart(width, number):
    channels = random_weights.planted(width)
    assert len(channels) == number
    assert channels[-1] < width
    assert len(set(channels)) == number


@FOUR_BITS
@pytest.mark.parametrize(("format", "bits"), [("nf4", 4.5), ("int8", 8.0), ("int8-plain", 8.0)])
def test_a_quantized_model_holds_what_its_format_says_and_decodes(format, bits):
    item = model.build("llama-little", format, "cpu")
    embedding = item.model.get_input_embeddings().weight.numel()
    inside = item.described.total - embedding
    assert (item.held - 2 * embedding) * 8 / inside == pytest.approx(bits, rel=0.02)
    step, _ = decode.prepared(item, "static", 2, 8)
    step()
    assert torch.isfinite(step.logits).all()
    assert step.logits.dtype == item.dtype


@FOUR_BITS
def test_int8_without_its_detour_has_no_threshold_left():
    thresholds = {
        format: {
            module.state.threshold
            for module in model.build("llama-tiny", format, "cpu").model.modules()
            if type(module).__name__ == "Linear8bitLt"
        }
        for format in ("int8", "int8-plain")
    }
    assert thresholds == {"int8": {6.0}, "int8-plain": {0.0}}


@pytest.mark.parametrize(
    ("name", "format", "words"),
    [
        ("llama-9b", "bf16", "unknown model"),
        ("llama-tiny", "nf5", "did you mean"),
        ("gpt2", "fp32", "like Llama"),
    ],
)
def test_a_model_or_format_that_is_not_there_is_named(name, format, words):
    with pytest.raises(ValueError, match=words):
        model.build(name, format, "cpu")


# ------------------------------------------------------------------ kernels


@pytest.mark.parametrize("rows", [1, 7])
@pytest.mark.parametrize(("name", "bits"), [("fp8-mm", 8), ("int4-mm", 4.5)])
def test_layers_of_a_gpu_stand_for_their_codes(name, bits, rows):
    from sizewise.benchmark import gpu_layers
    from sizewise.quantization.weights import codecs

    torch.manual_seed(0)
    linear = torch.nn.Linear(256, 32)
    layer = gpu_layers.FORMATS[name].make(linear, "cpu")
    x = torch.randn(2, rows, 256)
    weight = layer.decoded()
    if name == "fp8-mm":
        codec = codecs.CODECS["fp8"]
        assert torch.equal(weight, codec.decode(codec.encode(linear.weight.data)))
        # Both sides rounded to e4m3, a scale a row, and summed in more digits.
        x = codec.decode(codec.encode(x.flatten(0, 1))).view(x.shape)
    else:
        codec = codecs.CODECS["int4"]
        plain = codec.decode(codec.encode(linear.weight.data))
        assert (weight - plain).abs().max() < 0.01 * plain.abs().max()  # scales in bf16
    wanted = torch.nn.functional.linear(x, weight, linear.bias)
    assert torch.allclose(layer(x), wanted, atol=1e-4)
    stored = layer.codes.nbytes + layer.scales.nbytes
    assert 8 * stored / linear.weight.numel() == pytest.approx(bits, abs=0.2)
