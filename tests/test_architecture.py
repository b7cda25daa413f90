"""Descriptions of real configurations, by hand, and what is refused."""

import json
import subprocess
import sys
from collections import Counter
from types import SimpleNamespace

import pytest
import transformers
from sizewise.models.architecture import (
    Compressed,
    Grouped,
    Latent,
    Layer,
    Model,
    Span,
    StateSpace,
    from_json,
    to_json,
)
from sizewise.models.from_config import from_config
from transformers import CONFIG_MAPPING


def layers(name, **fields):
    return from_config(CONFIG_MAPPING[name](**fields)).layers


def test_grouped_attention_of_llama_3_1_8b():
    config = transformers.LlamaConfig(
        vocab_size=128256,
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        max_position_embeddings=131072,
    )
    model = from_config(config, total=8_030_261_248, name="llama-3.1-8b")
    assert model == Model(
        name="llama-3.1-8b",
        total=8_030_261_248,
        active=8_030_261_248,
        layers=(Layer(Grouped(32, 8, 128, 128)),) * 32,
        hidden_size=4096,
        vocab_size=128256,
        embedding=525_336_576,
        lookup=525_336_576,
        max_context=131072,
        config_type="llama",
        mlp_width=14336,
    )


@pytest.mark.parametrize(
    ("name", "fields", "expected"),
    [
        ("gpt2", {}, Grouped(12, 12, 64, 64)),
        ("opt", {}, Grouped(12, 12, 64, 64)),
        ("gpt_neox", {}, Grouped(64, 64, 96, 96)),
        ("bloom", {"hidden_size": 4096, "n_head": 32}, Grouped(32, 32, 128, 128)),
        ("qwen3", {"head_dim": 128, "hidden_size": 1024}, Grouped(32, 32, 128, 128)),
        ("gpt_bigcode", {}, Grouped(12, 1, 64, 64)),
        ("falcon", {}, Grouped(71, 1, 64, 64)),
        (
            "falcon",
            {
                "new_decoder_architecture": True,
                "num_attention_heads": 128,
                "num_kv_heads": 8,
                "hidden_size": 8192,
            },
            Grouped(128, 8, 64, 64),
        ),
        (
            "dbrx",
            {"attn_config": {"kv_n_heads": 8}, "d_model": 6144, "n_heads": 48},
            Grouped(48, 8, 128, 128),
        ),
        ("mistral", {}, Grouped(32, 8, 128, 128, 4096)),
        ("deepseek_v3", {}, Latent(128, 512, 64, 128, 128)),
        ("deepseek_v32", {}, Latent(128, 512, 64, 128, 128, 64, 128, 2048)),
        ("kimi_k25", {}, Latent(128, 512, 64, 128, 128)),
        ("longcat_flash", {}, Latent(64, 512, 64, 128, 128)),
    ],
)
def test_every_layer_of_a_uniform_model(name, fields, expected):
    assert {layer.attention for layer in layers(name, **fields)} == {expected}
    assert {layer.state for layer in layers(name, **fields)} == {None}


@pytest.mark.parametrize(
    ("name", "fields", "windowed", "full", "window"),
    [
        ("gemma2", {"num_hidden_layers": 46}, 23, 23, 4096),
        ("gemma3_text", {"num_hidden_layers": 62, "sliding_window": 1024}, 52, 10, 1024),
        ("gpt_oss", {}, 18, 18, 128),
        ("cohere2", {}, 30, 10, 4096),
        ("llama4_text", {}, 36, 12, 8192),
        ("olmo3", {}, 24, 8, 4096),
    ],
)
def test_windowed_layers_alternate_with_full_ones(name, fields, windowed, full, window):
    windows = Counter(layer.attention.window for layer in layers(name, **fields))
    assert windows == {window: windowed, None: full}


def test_gemma_4_31b_has_wider_heads_in_fewer_global_layers():
    counts = Counter(
        layers(
            "gemma4_text",
            num_hidden_layers=60,
            num_attention_heads=32,
            head_dim=256,
            num_key_value_heads=16,
            num_global_key_value_heads=4,
            attention_k_eq_v=True,
            sliding_window=1024,
        )
    )
    assert counts == {
        Layer(Grouped(32, 16, 256, 256, 1024)): 50,
        Layer(Grouped(32, 4, 512, 512)): 10,
    }


def test_gemma_4s_last_layers_share_keys_and_values():
    stack = layers("gemma4_text", num_hidden_layers=12, num_kv_shared_layers=4)
    assert [layer.attention.shares_kv for layer in stack] == [False] * 8 + [True] * 4
    assert stack[-1].attention.stored() == ()
    assert stack[-1].attention.read() == (Span(4, 512), Span(4, 512))


def test_mimos_windowed_layers_have_twice_the_heads_and_narrower_values():
    counts = Counter(layers("mimo_v2_flash"))
    assert counts == {
        Layer(Grouped(64, 4, 192, 128)): 9,
        Layer(Grouped(64, 8, 192, 128, 129)): 39,
    }


def test_deepseek_v4_compresses_four_or_128_tokens_into_one_entry():
    counts = Counter(layer.attention for layer in layers("deepseek_v4"))
    assert counts == {
        Compressed(64, 512, 128, 4, True, 64, 128, 512): 20,
        Compressed(64, 512, 128, 128): 23,
    }


def test_one_indexer_serves_several_layers_of_hy_v4():
    counts = Counter(layer.attention.index_dim for layer in layers("hy_v4"))
    assert counts == {128: 10, 0: 24}
    assert {layer.attention.index_topk for layer in layers("hy_v4")} == {2048}


@pytest.mark.parametrize(
    ("name", "attention", "states", "state"),
    [
        ("jamba", 4, 28, StateSpace("mamba", (8192, 4), (8192, 16))),
        ("mamba", 0, 32, StateSpace("mamba", (1536, 4), (1536, 16))),
        ("mamba2", 0, 64, StateSpace("mamba2", (10240, 4), (128, 64, 128))),
        ("falcon_h1", 32, 32, StateSpace("mamba2", (1536, 4), (128, 8, 256))),
        ("zamba2", 9, 54, StateSpace("mamba2", (5248, 4), (8, 640, 64))),
        ("qwen3_next", 12, 36, StateSpace("delta", (8192, 4), (32, 128, 128))),
        ("qwen3_5_text", 8, 24, StateSpace("delta", (8192, 4), (32, 128, 128))),
        ("kimi_linear", 6, 21, StateSpace("delta", (12288, 4), (32, 128, 128))),
        ("recurrent_gemma", 8, 18, StateSpace("rg_lru", (2560, 3), (2560,))),
        ("minimax", 16, 16, StateSpace("lightning", (), (32, 128, 128), True)),
    ],
)
def test_states_and_attention_of_hybrids(name, attention, states, state):
    stack = layers(name)
    assert sum(layer.attention is not None for layer in stack) == attention
    assert Counter(layer.state for layer in stack if layer.state) == {state: states}


def test_lfm2_has_short_convolutions():
    stack = layers("lfm2", layer_types=["conv", "full_attention"], num_hidden_layers=2)
    assert stack[0] == Layer(state=StateSpace("convolution", (2560, 3)))
    assert stack[1] == Layer(Grouped(32, 8, 80, 80))


def test_expert_layers_of_nemotron_h_hold_nothing():
    stack = layers("nemotron_h", layers_block_type=["moe", "attention"], num_hidden_layers=2)
    assert stack[0] == Layer()


@pytest.mark.parametrize(
    ("name", "experts", "used", "width"),
    [
        ("mixtral", 8, 2, 2 * 14336),
        ("deepseek_v3", 256, 8, 9 * 2048),
        ("gpt_oss", 128, 4, 4 * 2880),
        ("qwen3_next", 512, 10, 11 * 512),
        ("llama", None, None, 11008),
        ("gpt2", None, None, 4 * 768),
    ],
)
def test_routing_and_the_widest_inner_layer_of_a_token(name, experts, used, width):
    model = from_config(CONFIG_MAPPING[name]())
    assert (model.experts, model.experts_per_token, model.mlp_width) == (experts, used, width)


def test_routed_parameters_follow_from_the_two_counts():
    model = from_config(transformers.DeepseekV3Config(), 671_026_404_352, 37_552_282_624)
    # 58 layers x 256 experts x 3 matrices of 7168 x 2048.
    assert model.routed == pytest.approx(58 * 256 * 3 * 7168 * 2048, rel=1e-12)


def test_active_is_unknown_for_experts_and_total_otherwise():
    assert from_config(transformers.MixtralConfig(), total=5).active is None
    assert from_config(transformers.LlamaConfig(), total=5).active == 5


def test_a_tied_embedding_is_read_whole_and_gemmas_per_layer_tables_never():
    tied = from_config(transformers.LlamaConfig(tie_word_embeddings=True))
    assert (tied.embedding, tied.lookup) == (32000 * 4096, 0)
    # Gemma 4 E4B: 42 layers, 2,818,572,288 parameters of per-layer embeddings.
    gemma = from_config(transformers.Gemma4TextConfig(num_hidden_layers=42))
    assert gemma.lookup == 2_818_572_288
    assert gemma.embedding == gemma.lookup + 262_144 * 2304


def test_a_multimodal_configuration_is_described_by_its_text_part():
    text = transformers.Gemma3TextConfig(num_hidden_layers=7)
    config = transformers.Gemma3Config(text_config=text)
    assert from_config(config).layers == from_config(text).layers
    assert from_config(config).config_type == "gemma3_text"


def test_plain_objects_with_the_same_fields_will_do():
    plain = SimpleNamespace(
        model_type="llama",
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=97,
    )
    assert from_config(plain).layers == (Layer(Grouped(4, 2, 16, 16)),) * 2


def test_ten_thousand_equal_layers_are_one_object():
    stack = layers("llama", num_hidden_layers=10_000)
    assert len(stack) == 10_000
    assert len({id(layer) for layer in stack}) == 1


def test_a_description_becomes_json_and_comes_back_the_same():
    whisper = transformers.WhisperConfig()
    for config in (transformers.JambaConfig(), transformers.DeepseekV4Config(), whisper):
        model = from_config(config)
        assert from_json(json.loads(json.dumps(to_json(model)))) == model


def test_the_arithmetic_imports_neither_torch_nor_transformers():
    code = (
        "import sys; from sizewise.costs import memory, roofline, training;"
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("name", "fields", "message"),
    [
        ("rwkv", {}, "rwkv: its cache is not described"),
        ("xlstm", {}, "xlstm: its cache is not described"),
        ("zaya", {}, "zaya: its cache is not described"),
        (
            "minimax_m3_vl_text",
            {"layer_types": ["minimax_m3_sparse"], "num_hidden_layers": 1},
            "'minimax_m3_sparse' layer is not described",
        ),
    ],
)
def test_what_is_not_described_is_refused_in_one_line(name, fields, message):
    with pytest.raises(ValueError, match=message) as error:
        layers(name, **fields)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_attention_heads": None}, "no usable num_attention_heads"),
        ({"num_hidden_layers": 0}, "no usable num_hidden_layers"),
        ({"hidden_size": -64}, "no usable hidden_size"),
        ({"vocab_size": 9.5}, "no usable vocab_size"),
        ({"layer_types": ["full_attention"]}, "1 layer types for 2 layers"),
        ({"layer_types": ["sliding_attention"] * 2}, "no usable sliding_window"),
        ({"layer_types": ["linear_attention"] * 2}, "state of a 'linear_attention' layer"),
        ({"layer_types": ["indexed_attention"] * 2}, "cache of a 'indexed_attention' layer"),
        ({"layer_types": ["telepathy"] * 2}, "cache of a 'telepathy' layer"),
    ],
)
def test_shapes_that_are_not_stated_are_refused_in_one_line(change, message):
    fields = {
        "model_type": "made up",
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "vocab_size": 97,
    }
    with pytest.raises(ValueError, match=message) as error:
        from_config(SimpleNamespace(**(fields | change)))
    assert "\n" not in str(error.value)
