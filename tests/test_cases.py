"""Questions that people asked in public, with their right values; the source stands in each test.

The configurations are those of ``data/conformance.json``, in the form the hub has them.
"""

import json

import pytest
from sizewise import paths, units
from sizewise.costs import deployment, memory, roofline, weights
from sizewise.data import catalog
from sizewise.models import config, foreign, from_config, parameters

ROWS = json.loads((paths.root() / "data" / "conformance.json").read_text(encoding="utf-8"))
CONFIGS = {row["name"]: row["config"] for row in ROWS["models"]}
GIB = 2**30


@pytest.fixture
def case(tmp_path):
    """The `architecture.Model` of one of the cases' configurations, by its name."""

    def describe(name: str):
        file = tmp_path / "config.json"
        file.write_text(json.dumps(CONFIGS["in the form of the hub: " + name]))
        return parameters.describe(config.load(file))

    return describe


def test_llama_70b_in_fp16():  # accelerate issue 3379, where a tool gave 64.7 GB
    assert memory.weights_bytes(parameters.describe("llama-3.1-70b"), "fp16") == 141_107_412_992


@pytest.mark.parametrize(("context", "gib"), [("32k", 4.5), ("256k", 36)])
def test_a_cache_of_36_layers_and_8_heads_of_128(context, gib):  # vllm-fit 2, LLM-Viewer 12
    model = parameters.describe("qwen3-8b")
    assert memory.kv_cache_bytes(model, units.tokens(context)) == gib * GIB


def test_gpt_oss_120b_as_its_file_says(case):  # huggingface.js PR 2323; vllm-dgx-spark 8
    model = case("gpt-oss-120b-hub")
    assert model.total == 116_829_156_672
    assert weights.scheme(model, None).name == "mxfp4"
    # The total_size of the checkpoint's own index.
    assert memory.weights_bytes(model, None) == 65_248_815_744
    assert memory.total_memory(model, None, device=catalog.device("H100")).fits


def test_the_whole_context_of_deepseek_v3(case):  # gguf-parser 8, llama.cpp PR 19067
    size = memory.kv_cache_bytes(case("deepseek-v3-hub"), 163_840)
    assert size / GIB == pytest.approx(10.72, abs=0.01)


def test_deepseek_v3_does_not_fit_eight_h200_at_128k_times_16(case):
    # sglang 2591 and DeepSeek-V3 283: every tensor-parallel rank holds the whole latent cache.
    model, device = case("deepseek-v3-hub"), catalog.device("H200")
    layout = deployment.layout(model, 8, tensor=8)
    (load,) = deployment.plan(model, device, layout, context=131_072, batch=16)
    assert load.weights_bytes + load.kv_bytes == pytest.approx(231e9, rel=0.01)
    assert load.kv_bytes == 16 * 131_072 * 61 * 576 * 2
    assert not load.fits


def test_six_ranks_are_refused_with_the_numbers_that_divide(case):
    with pytest.raises(ValueError, match="128 attention heads do not divide by TP 6; 4 and 8 do"):
        deployment.layout(case("deepseek-v3-hub"), 6, tensor=6)


def test_deepseek_v32_has_an_index_beside_its_latents(case):  # published tensors
    model = case("deepseek-v3.2-hub")
    assert model.total == 671_877_929_216
    assert memory.kv_bytes_per_token(model) == 85_888


def test_the_windows_of_gemma_3_27b_at_131072(case):  # unsloth PR 4757
    size = memory.kv_cache_bytes(case("gemma-3-27b-it-hub"), 131_072)
    assert size / GIB == pytest.approx(10.41, abs=0.01)


def test_gemma_3n_without_timm(case):  # by hand
    model = case("gemma-3n-e4b-hub")
    assert model.total == 6_835_235_568
    assert any("timm" in note for note in model.assumptions) or model.vision
    assert memory.kv_cache_bytes(model, 32_768) == 285_212_672


def test_the_convolutions_of_lfm2(case):  # gguf-parser-go 31
    assert memory.kv_cache_bytes(case("lfm2-1.2b-hub"), 32_768) == 402_776_064


TOTALS = {
    "mistral-small-3.1-24b-hub": 24_011_361_280,  # published tensors; no tie_word_embeddings
    "kimi-k2.5-hub": 1_026_879_353_328,  # published tensors
    "ernie-4.5-21b-a3b-hub": 21_825_437_888,  # published tensors
    "hunyuan-mt-7b-hub": 7_504_568_320,  # published tensors
    "mistral-nemo-headdim": 12_247_782_400,  # published tensors
    "glm-4.5-air-hub": 106_852_245_504,  # released configuration
    "t5-small-hub": 60_506_624,  # published tensors
    "whisper-large-v3-hub": 1_543_490_560,  # published tensors
    "exaone3.5-hub": 7_818_448_896,  # the card's total; no class: an estimate
}


@pytest.mark.parametrize("name", TOTALS)
def test_a_published_total_is_met(name, case):
    assert case(name).total == TOTALS[name]


def test_kimi_linear_with_code_of_its_own(case):  # released configuration
    model = case("kimi-linear-hub")
    assert model.total == pytest.approx(49.12e9, rel=2e-4)
    assert memory.kv_bytes_per_token(model) == 8064
    assert sum(layer.attention is not None for layer in model.layers) == 7
    assert any("auto_map" in note for note in model.assumptions)


def test_kimi_k2_takes_the_class_that_it_names(tmp_path):
    file = tmp_path / "config.json"
    file.write_text(json.dumps(CONFIGS["in the form of the hub: kimi-k2-hub"]))
    assert parameters.count(file).built_as == "DeepseekV3ForCausalLM"


def test_hunyuan_a13b_is_sparse(case):  # by hand; priced as dense it was 16.1 ms
    model, device = case("hunyuan-a13b-hub"), catalog.device("H100")
    assert model.active == 12_747_448_320
    floor = roofline.decode(model, device, 8192, devices=3)
    assert 1e3 * floor.seconds == pytest.approx(2.64, abs=0.02)


def test_glm_45_airs_prediction_layer_is_named_and_not_counted(case):  # released configuration
    model = case("glm-4.5-air-hub")
    assert model.mtp == pytest.approx(3.6e9, rel=0.01)
    assert memory.kv_bytes_per_token(model) == 188_416


@pytest.mark.parametrize(
    ("name", "a_token"), [("jamba-1.5-large-hub", 36_864), ("falcon-h1-34b-hub", 147_456)]
)
def test_states_stand_apart_from_the_cache(name, a_token, case):  # by hand
    model = case(name)
    assert memory.kv_bytes_per_token(model) == a_token
    growth = memory.kv_cache_bytes(model, 2) - memory.kv_cache_bytes(model, 1)
    assert growth == a_token
    assert memory.kv_cache_bytes(model, 1) > 2 * a_token


@pytest.mark.parametrize("name", ["llama-null-fields", "llama-1-nokv"])
def test_without_a_number_of_key_value_heads_there_are_as_many_as_heads(name, case):
    assert {layer.attention.kv_heads for layer in case(name).layers} == {32}


# Layers x key-value heads x head width, keys and values, two bytes: by hand from the shapes.
BY_HAND = {
    "falcon-7b-hub": (6_921_720_704, 32 * 1 * 64),
    "falcon-40b-hub": (41_303_293_952, 60 * 8 * 64),
    "bloomz-560m-hub": (559_214_592, 24 * 16 * 64),
    "codegen-16b": (16_032_155_648, 34 * 24 * 256),
    "gpt-j-6b": (6_050_882_784, 28 * 16 * 256),
    "opt-350m": (331_196_416, 24 * 16 * 64),
    "starcoder-gptbigcode": (15_517_456_384, 40 * 1 * 128),
    "mpt-7b-hub": (6_649_286_656, 32 * 32 * 128),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_older_shapes_are_read_by_their_own_names(name, case):
    total, width = BY_HAND[name]
    model = case(name)
    assert model.total == total
    assert memory.kv_bytes_per_token(model) == 2 * width * 2


def test_the_total_of_bloomz_by_hand(case):
    # Embedding and its norm, 24 layers of fused projections with biases, two norms, final norm.
    width, inner = 1024, 4096
    layer = 3 * width**2 + 3 * width + width**2 + width + 2 * width * inner + inner + width
    assert case("bloomz-560m-hub").total == 250_880 * width + 24 * (layer + 4 * width) + 4 * width


def test_an_encoder_keeps_no_cache(tmp_path):  # BAAI/bge-m3, published tensors
    file = tmp_path / "config.json"
    fields = {
        "architectures": ["XLMRobertaModel"],
        "model_type": "xlm-roberta",
        "hidden_size": 1024,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
        "vocab_size": 250_002,
        "max_position_embeddings": 8194,
        "type_vocab_size": 1,
    }
    file.write_text(json.dumps(fields))
    model = parameters.describe(file)
    assert (model.total, model.kind) == (567_754_752, "encoder")
    assert memory.kv_cache_bytes(model, 8192) == 0
    assert memory.total_memory(model).total_bytes > 2 * 567_754_752


def test_an_encoder_decoder_keeps_its_own_and_the_encoders_keys(case):
    size = memory.kv_cache_bytes(case("t5-small-hub"), 512)
    assert size == 6 * 2 * (8 * 64 * 2) * 512 * 2  # six layers, two attentions, keys and values
    whisper = case("whisper-large-v3-hub")
    crossed = memory.kv_cache_bytes(whisper, 1) - memory.kv_bytes_per_token(whisper)
    assert crossed == 32 * 2 * 1280 * 1500 * 2


@pytest.mark.parametrize(
    ("name", "billions"), [("exaone3.5-hub", 7.8), ("minimax-text-01-hub", 456)]
)
def test_what_has_no_class_is_an_estimate_with_its_error(name, billions, case):
    model = case(name)  # the totals are those of the models' cards
    assert model.total / 1e9 == pytest.approx(billions, rel=0.01)
    assert any(note.startswith("an estimate from its fields") for note in model.assumptions)
    assert any("is off by at most" in note for note in model.assumptions)


def test_an_unknown_architecture_is_refused_without_a_misleading_name(sizewise, tmp_path):
    file = tmp_path / "config.json"
    file.write_text(json.dumps(CONFIGS["in the form of the hub: unknown-arch"]))
    for command in ("count", "memory", "roofline"):
        code, out, err = sizewise(command, file)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert "did you mean" not in err
    assert sizewise("count", file, "--estimate").code == 0


def test_meta_and_deepseek_write_configurations_of_their_own(tmp_path):
    file = tmp_path / "params.json"
    file.write_text(
        json.dumps(
            {
                "dim": 4096,
                "ffn_dim_multiplier": 1.3,
                "multiple_of": 1024,
                "n_heads": 32,
                "n_kv_heads": 8,
                "n_layers": 32,
                "norm_eps": 1e-05,
                "rope_theta": 500000.0,
                "use_scaled_rope": True,
                "vocab_size": 128256,
            }
        )
    )
    assert parameters.count(file).total == 8_030_261_248  # Llama-3.1-8B's published tensors
    file.write_text(
        json.dumps(
            {
                "vocab_size": 129280,
                "dim": 7168,
                "inter_dim": 18432,
                "moe_inter_dim": 2048,
                "n_layers": 61,
                "n_dense_layers": 3,
                "n_heads": 128,
                "n_routed_experts": 256,
                "n_shared_experts": 1,
                "n_activated_experts": 8,
                "n_expert_groups": 8,
                "n_limited_groups": 4,
                "q_lora_rank": 1536,
                "kv_lora_rank": 512,
                "qk_nope_head_dim": 128,
                "qk_rope_head_dim": 64,
                "v_head_dim": 128,
                "dtype": "fp8",
            }
        )
    )
    model = parameters.describe(file)
    assert model.total == 671_026_404_352
    assert weights.scheme(model, None).name == "fp8-block"


def test_smollm2_in_nf4_is_what_quantize_reports():  # `sizewise quantize smollm2-135m`
    parts = weights.parts(parameters.describe("smollm2-135m"), "nf4")
    assert sum(part.bytes for part in parts) / 1e6 == pytest.approx(116.4, abs=0.1)
    bf16 = sum(part.bytes for part in parts if part.format == "bf16")
    assert bf16 / 1e6 == pytest.approx(56.7, abs=0.1)


def test_llama_8b_in_nf4_with_double_quantization():
    size = memory.weights_bytes(parameters.describe("llama-3.1-8b"), "nf4-dq")
    assert size / 1e9 == pytest.approx(5.70, abs=0.005)


def test_gemma_270m_in_q4_k_m_is_the_published_file():
    # The header of the published file: tensors, weights and bytes by type; 253,113,024 B in all.
    model = parameters.describe("gemma-3-270m")
    parts = {part.format: part for part in weights.parts(model, "q4_k_m")}
    file = {
        "q8_0": 179_824_640,
        "q5_0": 43_591_680,
        "q4_k": 13_271_040,
        "q6_k": 9_676_800,
        "f32": 223_744,
    }
    assert {name: parts[name].bytes for name in file} == file
    # Tensors are exact; the header holds the tokenizer, whose words an estimate can't know.
    assert sum(part.bytes for part in parts.values()) == pytest.approx(253_113_024, rel=2e-5)


@pytest.mark.parametrize(
    ("name", "header"),  # bytes before the first tensor and of padding, of three published files
    [("gemma-3-270m", 6_525_120), ("smollm2-135m", 1_785_664), ("qwen2.5-0.5b", 5_947_776)],
)
def test_a_gguf_header_is_estimated_within_a_tenth(name, header):
    parts = {part.what: part for part in weights.parts(parameters.describe(name), "q4_k_m")}
    assert parts["header and tokenizer (within 10 %)"].bytes == pytest.approx(header, rel=0.1)


def test_smollm2_in_q4_1_is_the_published_file():
    model = parameters.describe("smollm2-135m")
    parts = {part.format: part.bytes for part in weights.parts(model, "q4_1")}
    file = {"q4_1": 66_355_200, "q8_0": 30_081_024, "f32": 140_544}
    assert {name: parts[name] for name in file} == file


def test_states_of_recurrent_layers_stand_apart(case):
    """Jamba 1.5 Large: 63 Mamba layers; the state is the same at any context (by hand)."""
    model = case("jamba-1.5-large-hub")
    short, long = (memory.total_memory(model, context=context) for context in (1024, 65_536))
    assert short.state_bytes == long.state_bytes > 0
    assert long.kv_bytes - short.kv_bytes == 36_864 * (65_536 - 1024)
    assert short.kv_bytes == short.state_bytes + 36_864 * 1024


def test_qwen3_32b_on_two_rtx_4090():
    model, device = parameters.describe("qwen3-32b"), catalog.device("RTX 4090")
    layout = deployment.layout(model, 2)
    (load,) = deployment.plan(model, device, layout, weights="q4_k_m", kv="int8", context=32_768)
    assert 2 * load.total_bytes == pytest.approx(25.7e9, rel=0.01)
    assert load.fits
    assert load.devices == 2


def test_gpt2_beyond_its_longest_context_says_so(sizewise):
    _, out, err = sizewise("memory", "gpt2-xl", "--context", 131072, "--json")
    words = "131,072 tokens are beyond the model's longest context of 1,024"
    assert json.loads(out)["warnings"] == [words]
    assert err == f"sizewise: warning: {words}\n"
    _, out, err = sizewise("roofline", "gpt2-xl", "--context", "2k", "--json")
    assert "beyond the model's longest context" in json.loads(out)["warnings"][0]
    assert err.startswith("sizewise: warning: 2,048 tokens are beyond")
    assert sizewise("memory", "gpt2-xl", "--context", "1k").err == ""


def test_a_model_that_does_not_fit_is_not_timed_in_silence(sizewise):
    words = ("roofline", "qwen3-235b-a22b", "--weights", "bf16", "--devices", 1)
    out = json.loads(sizewise(*words, "--json").out)
    assert out["fits"] is False
    assert out["warning"].startswith("does not fit on 1 x H100")
    assert "warning: does not fit" in sizewise(*words).out


def test_arithmetic_that_a_device_does_not_have_is_refused(sizewise):
    code, _, err = sizewise("roofline", "llama-3.1-8b", "--device", "A100", "--compute", "fp8")
    assert code == 2
    assert "states no fp8 arithmetic" in err
    out = json.loads(sizewise("roofline", "llama-3.1-8b", "--device", "M4-Max", "--json").out)
    assert "prefill" not in out
    assert out["prefill_unknown"]


def test_a_hub_id_that_the_catalogue_knows_needs_no_network(sizewise):
    (count,) = json.loads(sizewise("count", "meta-llama/Llama-3.1-8B", "--json").out)
    assert (count["model"], count["total"]) == ("llama-3.1-8b", 8_030_261_248)


def test_the_latents_of_deepseek_v2_lite(sizewise):
    # vllm issue 15871: "0.95 GiB KV cache is needed" at 32,768; the total is the published one.
    out = json.loads(sizewise("memory", "deepseek-v2-lite", "--context", "32k", "--json").out)
    assert out["kv_bytes"] == 27 * (512 + 64) * 2 * 32_768
    assert round(out["kv_bytes"] / GIB, 2) == 0.95
    assert out["weights_bytes"] == 2 * 15_706_484_224
    # ollama PR 17201: what an engine holds beside the cache is the engine's.
    assert any("the engine's choice" in note for note in out["assumptions"])
    assert any("an engine's own buffers" in note for note in out["assumptions"])


LLAMA_VISION = {
    "architectures": ["MllamaForConditionalGeneration"],
    "model_type": "mllama",
    "text_config": {
        "model_type": "mllama_text_model",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 40,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "cross_attention_layers": [3, 8, 13, 18, 23, 28, 33, 38],
        "max_position_embeddings": 131072,
        "tie_word_embeddings": False,
    },
    "vision_config": {
        "model_type": "mllama_vision_model",
        "hidden_size": 1280,
        "intermediate_size": 5120,
        "num_hidden_layers": 32,
        "num_global_layers": 8,
        "attention_heads": 16,
        "image_size": 560,
        "patch_size": 14,
        "max_num_tiles": 4,
        "vision_output_dim": 7680,
        "intermediate_layers_indices": [3, 7, 15, 23, 30],
        "supported_aspect_ratios": [[1, 1], [1, 2], [1, 3], [1, 4], [2, 1], [2, 2], [3, 1], [4, 1]],
    },
}


def test_image_tokens_of_llama_vision_sit_in_its_cross_attention(tmp_path):
    # The published total; 4 tiles of (560 / 14)^2 + 1 tokens in 8 of 40 layers, by hand.
    file = tmp_path / "config.json"
    file.write_text(json.dumps(LLAMA_VISION))
    model = parameters.describe(file)
    assert model.total == 10_670_220_835
    heads = 2 * 8 * 128 * 2  # keys and values in 16 bits
    images = 8 * heads * 4 * (40 * 40 + 1)
    assert memory.kv_bytes_per_token(model) == 32 * heads
    for context in (1, 1000, 100_000):
        assert memory.kv_cache_bytes(model, context) == 32 * heads * context + images


def test_the_head_of_flan_t5_is_its_own(tmp_path):
    # T5's classes tie whatever the file says; the published files of FLAN-T5 hold a head.
    file = tmp_path / "config.json"
    fields = {
        "architectures": ["T5ForConditionalGeneration"],
        "model_type": "t5",
        "d_kv": 64,
        "d_model": 2048,
        "d_ff": 5120,
        "num_heads": 32,
        "num_layers": 24,
        "num_decoder_layers": 24,
        "vocab_size": 32128,
        "feed_forward_proj": "gated-gelu",
        "is_encoder_decoder": True,
        "tie_word_embeddings": False,
    }
    file.write_text(json.dumps(fields))
    assert parameters.count(file).total == 2_849_757_184  # google/flan-t5-xl
    model = parameters.describe(file)
    assert model.lookup == 32128 * 2048  # the input table alone, since the head is another
    file.write_text(json.dumps(fields | {"tie_word_embeddings": True}))
    assert parameters.count(file).total == 2_849_757_184 - 32128 * 2048


def test_layers_for_multi_token_prediction_have_bytes_of_their_own(sizewise):
    # DeepSeek-V3's README: 14B of MTP weights, of which embedding and head are copies.
    out = json.loads(sizewise("memory", "deepseek-v3", "--json").out)
    attention = 7168 * 1536 + 1536 + 1536 * 128 * 192 + 7168 * 576 + 512 + 512 * 128 * 256
    attention += 128 * 128 * 7168
    layer = attention + 257 * 3 * 7168 * 2048 + 256 * 7168 + 2 * 7168  # a shared expert, a router
    model = parameters.describe("deepseek-v3")
    last = sum(t.parameters // len(t.layers) for t in model.tensors if 60 in t.layers)
    joined = model.mtp - last
    assert last == layer
    assert joined == 2 * 7168**2 + 3 * 7168 + 2 * 129280 * 7168
    assert 2 * joined + last < out["mtp_bytes"] < 2 * joined + 1.01 * last  # fp8, and 16 bits
    assert out["total_bytes"] == out["weights_bytes"] + out["kv_bytes"] + out["activation_bytes"]
    assert "beside it: multi-token prediction" in sizewise("memory", "deepseek-v3").out


# ---- a checkpoint's own bytes


@pytest.fixture
def gguf_file(tmp_path):
    """A small Llama in GGUF: two layers, tied, in Q8_0 with norms in F32."""
    import numpy as np

    gguf = pytest.importorskip("gguf")
    path = tmp_path / "small.gguf"
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_block_count(2)
    writer.add_embedding_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_feed_forward_length(128)
    writer.add_context_length(512)
    shapes = {"token_embd": (96, 64), "output_norm": (64,)}
    for n in range(2):
        shapes |= {
            f"blk.{n}.attn_q": (64, 64),
            f"blk.{n}.attn_k": (32, 64),
            f"blk.{n}.attn_v": (32, 64),
            f"blk.{n}.attn_output": (64, 64),
            f"blk.{n}.ffn_gate": (128, 64),
            f"blk.{n}.ffn_up": (128, 64),
            f"blk.{n}.ffn_down": (64, 128),
            f"blk.{n}.attn_norm": (64,),
            f"blk.{n}.ffn_norm": (64,),
        }
    for name, shape in shapes.items():
        values = np.zeros(shape, np.float32)
        kind = gguf.GGMLQuantizationType.Q8_0
        if len(shape) == 2:
            writer.add_tensor(f"{name}.weight", gguf.quants.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(f"{name}.weight", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_gguf_file_is_sized_by_its_own_header(sizewise, gguf_file):
    matrices = 96 * 64 + 2 * (2 * 64 * 64 + 2 * 32 * 64 + 3 * 128 * 64)
    (count,) = json.loads(sizewise("count", gguf_file, "--json").out)
    assert count["total"] == matrices + 5 * 64
    stored = matrices // 32 * 34 + 5 * 64 * 4
    assert count["stored"]["tensor_bytes"] == stored
    result = json.loads(sizewise("memory", gguf_file, "--context", 512, "--json").out)
    assert (result["weights"], result["weights_bytes"]) == ("as stored", stored)
    assert result["kv_bytes"] == 2 * 2 * 2 * 16 * 512 * 2
    floor = json.loads(sizewise("roofline", gguf_file, "--context", 512, "--json").out)
    assert stored < floor["decode"]["bytes"] < stored + result["kv_bytes"] + 1


def test_weights_beside_a_configuration_are_their_own_bytes(sizewise, tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import save_file
    from transformers import LlamaConfig, LlamaForCausalLM

    model = LlamaForCausalLM(
        LlamaConfig(
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            vocab_size=96,
            num_attention_heads=4,
            num_key_value_heads=2,
        )
    ).to(torch.bfloat16)
    model.config.save_pretrained(tmp_path)
    save_file(dict(model.state_dict()), tmp_path / "model.safetensors")
    size = sum(tensor.nbytes for tensor in model.state_dict().values())
    for path in (tmp_path, tmp_path / "model.safetensors"):
        result = json.loads(sizewise("memory", path, "--context", 512, "--json").out)
        assert (result["weights"], result["weights_bytes"]) == ("as stored", size)
    (count,) = json.loads(sizewise("count", tmp_path / "model.safetensors", "--json").out)
    assert count["total"] == sum(p.numel() for p in model.parameters())


def test_an_index_alone_states_its_bytes_and_beside_a_configuration_decides(sizewise, tmp_path):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(
        json.dumps(
            {"metadata": {"total_size": 16_060_522_496}, "weight_map": {"a": "x.safetensors"}}
        )
    )
    code, _, err = sizewise("count", index)
    assert (code, err.count("\n")) == (2, 1)
    assert "states 16,060,522,496 bytes" in err
    (tmp_path / "config.json").write_text(
        json.dumps(CONFIGS["in the form of the hub: llama-3.1-8b-hub"])
    )
    result = json.loads(sizewise("memory", index, "--json").out)
    assert result["weights_bytes"] == 16_060_522_496


def test_the_best_format_that_fits_is_tried_among_all_of_four_bits():
    """Qwen3-32B on one RTX 4090: IQ4_XS takes 21.5 of the 21.6 GB that are free for it."""
    from sizewise.costs import deployment

    model, device = parameters.describe("qwen3-32b"), catalog.device("RTX 4090")
    shared = deployment.layout(model, 1)
    best = deployment.best_format(model, device, shared, context=8192, batch=1)
    ladder = list(deployment.LADDER)
    assert ladder.index(best) <= ladder.index("iq4_xs")


LLAMA_FILE = {"multiple_of": 256, "norm_eps": 1e-5, "rope_theta": 5e5, "use_scaled_rope": True}
LATENTS = {"kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128}
V2_LITE = {
    "vocab_size": 102400,
    "dim": 2048,
    "inter_dim": 10944,
    "moe_inter_dim": 1408,
    "n_layers": 27,
    "n_dense_layers": 1,
    "n_heads": 16,
    "n_routed_experts": 64,
    "n_shared_experts": 2,
    "n_activated_experts": 6,
    "q_lora_rank": 0,
} | LATENTS
MISTRAL_FILE = {"head_dim": 128, "n_heads": 32, "n_kv_heads": 8, "hidden_dim": 14336}
# A maker's own file, the published total, and the longest context where the file decides it.
PARAMS = {
    "mistral 7b v0.1": (
        MISTRAL_FILE | {"dim": 4096, "n_layers": 32, "sliding_window": 4096, "vocab_size": 32000},
        7_241_732_096,
        None,
    ),
    "mistral nemo": (
        MISTRAL_FILE | {"dim": 5120, "n_layers": 40, "vocab_size": 131072},
        12_247_782_400,
        None,
    ),
    "mixtral": (
        MISTRAL_FILE
        | {
            "dim": 4096,
            "n_layers": 32,
            "vocab_size": 32000,
            "moe": {"num_experts_per_tok": 2, "num_experts": 8},
        },
        46_702_792_704,
        None,
    ),
    "llama 3.2 1b, tied": (
        LLAMA_FILE
        | {
            "dim": 2048,
            "ffn_dim_multiplier": 1.5,
            "n_heads": 32,
            "n_kv_heads": 8,
            "n_layers": 16,
            "vocab_size": 128256,
        },
        1_235_814_400,
        131_072,
    ),
    "llama 2 70b": (
        {
            "dim": 8192,
            "multiple_of": 4096,
            "ffn_dim_multiplier": 1.3,
            "n_heads": 64,
            "n_kv_heads": 8,
            "n_layers": 80,
            "norm_eps": 1e-5,
            "vocab_size": -1,
        },
        68_976_648_192,
        4096,
    ),
    "llama 1 13b": (
        {
            "dim": 5120,
            "multiple_of": 256,
            "n_heads": 40,
            "n_layers": 40,
            "norm_eps": 1e-6,
            "vocab_size": -1,
        },
        13_015_864_320,
        2048,
    ),
    "codestral mamba": (
        {"dim": 4096, "n_layers": 64, "vocab_size": 32768, "n_groups": 8, "model_type": "mamba"},
        7_285_403_648,
        None,
    ),
    "deepseek v2 lite": (V2_LITE, 15_706_484_224, None),
    "deepseek v3.2, with its index": (
        LATENTS
        | {
            "vocab_size": 129280,
            "dim": 7168,
            "inter_dim": 18432,
            "moe_inter_dim": 2048,
            "n_layers": 61,
            "n_dense_layers": 3,
            "n_heads": 128,
            "n_routed_experts": 256,
            "n_shared_experts": 1,
            "n_activated_experts": 8,
            "q_lora_rank": 1536,
            "index_n_heads": 64,
            "index_head_dim": 128,
            "index_topk": 2048,
        },
        671_877_929_216,
        None,
    ),
}


@pytest.mark.parametrize("name", PARAMS)
def test_a_makers_own_params_file_is_counted(name, tmp_path):
    fields, total, longest = PARAMS[name]
    file = tmp_path / "params.json"
    file.write_text(json.dumps(fields))
    model = parameters.describe(file)
    assert model.total == total
    assert longest in (None, model.max_context)


def test_a_params_file_of_mistral_in_fp8_is_sized_as_fp8(sizewise, tmp_path):
    file = tmp_path / "params.json"
    shape = {"dim": 5120, "n_layers": 40, "vocab_size": 131072}
    fp8 = {"quantization": {"qformat_weight": "fp8_e4m3", "qscheme_act": "TENSOR"}}
    file.write_text(json.dumps(MISTRAL_FILE | shape | fp8))
    # Mistral Nemo: a byte for each weight of linear layers, two for embedding, head and norms.
    unquantized = 2 * 131072 * 5120 + 81 * 5120
    size = json.loads(sizewise("memory", file, "--json").out)["weights_bytes"]
    assert size == pytest.approx(12_247_782_400 + unquantized, rel=1e-4)
    odd = {"quantization": {"qformat_weight": "int3"}}
    file.write_text(json.dumps(MISTRAL_FILE | shape | odd))
    assert "int3" in sizewise("memory", file).err


LAYERS = {"num_hidden_layers": 8, "num_attention_heads": 40, "num_key_value_heads": 8}
EXAONE = LAYERS | {"model_type": "exaone4", "hidden_size": 5120, "head_dim": 128}


@pytest.mark.parametrize(
    ("fields", "local"),
    [
        (EXAONE | {"sliding_window": 4096, "sliding_window_pattern": "LLLG"}, 6),
        (EXAONE | {"sliding_window": 4096, "sliding_window_pattern": "LLL"}, 7),  # the last is full
        (MISTRAL_FILE | {"dim": 4096, "n_layers": 8, "sliding_window": [4096, *[None] * 3]}, 2),
        (MISTRAL_FILE | {"dim": 4096, "n_layers": 8, "sliding_window": [None]}, 0),
    ],
)
def test_windows_by_layer_in_their_makers_forms(fields, local, sizewise, tmp_path):
    file = tmp_path / "own.json"
    file.write_text(json.dumps(fields | {"vocab_size": 1000}))
    row = json.loads(sizewise("memory", file, "--context", "32768", "--json").out)
    # Keys and values of 8 heads of 128 in bf16: 4,096 bytes a token and layer.
    assert row["kv_bytes"] == 4096 * (local * 4096 + (8 - local) * 32768)


def test_windows_of_two_sizes_and_no_kv_heads_are_refused_in_one_line(sizewise, tmp_path):
    file = tmp_path / "own.json"
    two = {"dim": 4096, "n_layers": 8, "vocab_size": 1000, "sliding_window": [4096, 8192]}
    file.write_text(json.dumps(MISTRAL_FILE | two))
    assert "windows of 2 sizes" in sizewise("memory", file).err
    file.write_text(json.dumps(EXAONE | {"vocab_size": 1000, "num_key_value_heads": 0}))
    assert "num_key_value_heads = 0 is under 1" in sizewise("memory", file).err


@pytest.mark.parametrize(("part", "name"), [("vision_encoder", "vision"), ("multimodal", "audio")])
def test_what_a_params_file_has_beside_its_text_part_is_named(part, name, tmp_path):
    file = tmp_path / "params.json"
    shape = {"dim": 3072, "n_layers": 2, "vocab_size": 1000, part: {"dim": 1280}}
    file.write_text(json.dumps(MISTRAL_FILE | shape))
    assert f"its {name} encoder is not counted" in parameters.count(file).assumptions[0]


@pytest.mark.parametrize(
    "fields",
    [
        {"dim": 5120, "n_layers": 48, "multiple_of": 2048, "moe_args": {"num_experts": 16}},
        {"dim": 4096, "n_layers": 32, "multiple_of": 1024, "vision_num_cross_attention_layers": 8},
        {"dim": 4096, "n_layers": 32, "multiple_of": 256},
        {"dim": 4096, "n_layers": 32, "hidden_dim": 256, "n_heads": 0},
        {"dim": "wide", "n_layers": 32, "multiple_of": 256, "n_heads": 2},
    ],
)
def test_a_params_file_that_does_not_state_its_shape_is_refused(fields, sizewise, tmp_path):
    file = tmp_path / "params.json"
    file.write_text(json.dumps(fields))
    code, out, err = sizewise("count", file)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "a params.json" in err


# Weights of Llama-3.1-8B: in linear layers of attention, of MLPs, and the rest; the head is one
# of the rest. Each configuration's bytes by hand from its own fields.
ATTENTION, MLPS, HEAD = 32 * (2 * 4096**2 + 2 * 4096 * 1024), 32 * 3 * 4096 * 14336, 128256 * 4096
OTHER_WEIGHTS = 8_030_261_248 - ATTENTION - MLPS
LINEAR = ATTENTION + MLPS


def _group(bits, kind="int", **settings):
    return {"targets": ["Linear"], "weights": {"num_bits": bits, "type": kind, **settings}}


QUANTIZED = {
    "GPTQ, zero points too": (
        {"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": True},
        LINEAR * (4 + 20 / 128) / 8 + 2 * OTHER_WEIGHTS,
    ),
    "GPTQ of the head": (
        {"quant_method": "gptq", "bits": 4, "group_size": 128, "lm_head": True},
        (LINEAR + HEAD) * (4 + 20 / 128) / 8 + 2 * (OTHER_WEIGHTS - HEAD),
    ),
    "AWQ by its older names": (
        {"quant_method": "awq", "w_bit": 4, "q_group_size": 64},
        LINEAR * (4 + 20 / 64) / 8 + 2 * OTHER_WEIGHTS,
    ),
    "AWQ without attention": (
        {
            "quant_method": "awq",
            "bits": 4,
            "group_size": 128,
            "modules_to_not_convert": ["self_attn"],
        },
        MLPS * (4 + 20 / 128) / 8 + 2 * (ATTENTION + OTHER_WEIGHTS),
    ),
    "bitsandbytes without its name": (
        {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
        LINEAR * 4.5 / 8 + 2 * OTHER_WEIGHTS,
    ),
    "block-wise fp8": (
        {"quant_method": "fp8", "weight_block_size": [128, 128]},
        LINEAR * (1 + 4 / 128**2) + 2 * OTHER_WEIGHTS,
    ),
    "compressed-tensors, two groups": (
        {
            "quant_method": "compressed-tensors",
            "format": "mixed-precision",
            "ignore": ["lm_head"],
            "config_groups": {
                "a": _group(4, group_size=128, symmetric=True) | {"targets": ["re:.*mlp.*"]},
                "b": _group(8, "float", strategy="channel") | {"targets": ["re:.*self_attn.*"]},
            },
        },
        MLPS * 4.125 / 8 + ATTENTION + 2 * OTHER_WEIGHTS,
    ),
    "compressed-tensors, nvfp4": (
        {
            "quant_method": "compressed-tensors",
            "format": "nvfp4-pack-quantized",
            "config_groups": {"a": _group(4, "float", group_size=16)},
            "ignore": ["lm_head"],
        },
        LINEAR * 4.5 / 8 + 2 * OTHER_WEIGHTS,
    ),
    "HQQ": (
        {
            "quant_method": "hqq",
            "quant_config": {"weight_quant_params": {"nbits": 4, "group_size": 64}},
        },
        LINEAR * 4.5 / 8 + 2 * OTHER_WEIGHTS,
    ),
    "torchao int4": (
        {
            "quant_method": "torchao",
            "quant_type": {
                "default": {"_type": "Int4WeightOnlyConfig", "_data": {"group_size": 128}}
            },
        },
        LINEAR * 4.25 / 8 + 2 * OTHER_WEIGHTS,
    ),
    "torchao float8": (
        {
            "quant_method": "torchao",
            "quant_type": {"default": {"_type": "Float8DynamicActivationFloat8WeightConfig"}},
        },
        LINEAR + 2 * OTHER_WEIGHTS,
    ),
    "quark fp8": (
        {
            "quant_method": "quark",
            "exclude": ["lm_head"],
            "global_quant_config": {"weight": {"dtype": "fp8_e4m3"}},
        },
        LINEAR + 2 * OTHER_WEIGHTS,
    ),
    "exl2": (
        {"quant_method": "exl2", "bits": 4.65, "head_bits": 6},
        LINEAR * 4.65 / 8 + HEAD * 6 / 8 + 2 * (OTHER_WEIGHTS - HEAD),
    ),
    "modelopt, named layers": (
        {
            "quant_method": "modelopt",
            "quant_algo": "MIXED_PRECISION",
            "quantized_layers": {"model.layers.*.mlp": {"quant_algo": "FP8"}},
        },
        MLPS + 2 * (ATTENTION + OTHER_WEIGHTS),
    ),
}


@pytest.mark.parametrize("name", QUANTIZED)
def test_a_quantized_checkpoint_has_the_bytes_of_its_own_configuration(name, tmp_path):
    quantization, size = QUANTIZED[name]
    fields = CONFIGS["in the form of the hub: llama-3.1-8b-hub"]
    file = tmp_path / "config.json"
    file.write_text(json.dumps(fields | {"quantization_config": quantization}))
    assert memory.weights_bytes(parameters.describe(file), None) == pytest.approx(size, rel=1e-6)


@pytest.mark.parametrize(
    ("quantization", "words"),
    [
        ({"quant_method": "vptq"}, "names the method 'vptq', whose bytes are not known"),
        ("fp8", "quantization_config is no object of fields, but 'fp8'"),
        ({"quant_method": "gptq", "bits": "four"}, "states bits = 'four'"),
        ({"quant_method": "gptq", "bits": -4}, "states bits = -4"),
        ({"quant_method": "gptq", "bits": 99}, "states 99 bits"),
        ({"bits": 4}, "names the method '(none)'"),
    ],
)
def test_a_quantization_that_is_not_known_is_refused(quantization, words, sizewise, tmp_path):
    fields = CONFIGS["in the form of the hub: llama-3.1-8b-hub"]
    file = tmp_path / "config.json"
    file.write_text(json.dumps(fields | {"quantization_config": quantization}))
    code, out, err = sizewise("memory", file)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert words in err
    assert sizewise("count", file).code == 0  # parameters don't depend on it


# Keys of GGUF files as llama.cpp writes them, and the cache at a context, by hand from the layers.
GGUF_CACHES = {
    "lfm2: convolutions between attention": (  # gguf-parser-go 31
        {
            "block_count": 16,
            "embedding_length": 2048,
            "attention.head_count": 32,
            "attention.head_count_kv": [0, 0, 8, 0, 0, 8, 0, 0, 8, 0, 8, 0, 8, 0, 8, 0],
            "shortconv.l_cache": 3,
        },
        32_768,
        402_776_064,
    ),
    "gpt-oss: every other layer in full": (
        {
            "block_count": 36,
            "embedding_length": 2880,
            "attention.head_count": 64,
            "attention.head_count_kv": 8,
            "attention.key_length": 64,
            "attention.value_length": 64,
            "attention.sliding_window": 128,
        },
        1000,
        18 * (1000 + 128) * 2 * 8 * 64 * 2,
    ),
    "gemma3n: the last 15 layers share": (
        {
            "block_count": 35,
            "embedding_length": 2048,
            "attention.head_count": 8,
            "attention.head_count_kv": 2,
            "attention.key_length": 256,
            "attention.value_length": 256,
            "attention.sliding_window": 512,
            "attention.shared_kv_layers": 15,
        },
        32_768,
        285_212_672,
    ),
    "llama4: chunks in three of four": (
        {
            "block_count": 48,
            "embedding_length": 5120,
            "attention.head_count": 40,
            "attention.head_count_kv": 8,
            "attention.key_length": 128,
            "attention.value_length": 128,
            "attention.chunk_size": 8192,
        },
        10_000,
        (12 * 10_000 + 36 * 8192) * 2 * 8 * 128 * 2,
    ),
    "deepseek2: a latent a token": (  # vllm issue 15871
        {
            "block_count": 27,
            "embedding_length": 2048,
            "attention.head_count": 16,
            "attention.head_count_kv": 1,
            "attention.kv_lora_rank": 512,
            "attention.key_length": 576,
            "attention.value_length": 512,
            "attention.key_length_mla": 192,
            "attention.value_length_mla": 128,
            "rope.dimension_count": 64,
        },
        32_768,
        1_019_215_872,
    ),
}


@pytest.mark.parametrize("name", GGUF_CACHES)
def test_the_cache_of_a_gguf_file_follows_its_keys(name):
    keys, context, size = GGUF_CACHES[name]
    kind = name.partition(":")[0]
    metadata = {f"{kind}.{key}": value for key, value in keys.items()}
    plain = foreign.gguf_config(metadata | {"general.architecture": kind}, 1000, name)
    assert memory.kv_cache_bytes(from_config.from_config(plain), context) == size
