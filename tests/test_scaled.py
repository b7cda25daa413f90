"""Published shapes made larger reach the total by the one thing that grows."""

import pytest
from sizewise.chapters.tables import upscaling
from sizewise.data import catalog
from sizewise.models import config, parameters

TEN = 10e12


def test_more_experts_changes_nothing_but_their_number():
    spec = upscaling.more_experts(TEN, "deepseek-v3")
    grown, base = parameters.count(spec), parameters.count("deepseek-v3")
    # One expert of DeepSeek-V3: three matrices of 7168 x 2048 and a router row, in 58 layers.
    expert = 58 * (3 * 7168 * 2048 + 7168)
    groups = 8
    assert abs(grown.total - TEN) <= groups * expert / 2
    assert grown.total - base.total == (grown.experts - base.experts) * expert
    assert grown.experts_per_token == base.experts_per_token
    changed = {k for k in spec.fields if spec.fields[k] != _stated("deepseek-v3").get(k)}
    assert changed == {"n_routed_experts"}


def _stated(name):
    return config.build(name).to_dict()


def test_wider_experts_keeps_their_number():
    grown, base = parameters.count(upscaling.wider_experts(TEN)), parameters.count("deepseek-v3")
    assert grown.experts == base.experts
    assert grown.total == pytest.approx(TEN, rel=0.05)
    assert grown.active > 10 * base.active


def test_a_dense_model_keeps_its_proportions():
    spec = upscaling.deeper_and_wider(2e12)
    base = catalog.model("llama-3.1-405b").config
    fields = spec.fields
    assert parameters.count(spec).total == pytest.approx(2e12, rel=0.025)
    aspect = base["hidden_size"] / base["num_hidden_layers"]
    assert fields["hidden_size"] / fields["num_hidden_layers"] == pytest.approx(aspect, rel=0.02)
    assert fields["num_attention_heads"] * 128 == fields["hidden_size"]
    assert fields["num_attention_heads"] % fields["num_key_value_heads"] == 0


def test_a_total_below_the_shape_is_refused():
    with pytest.raises(ValueError, match="already over"):
        upscaling.more_experts(1e9, "deepseek-v3")
