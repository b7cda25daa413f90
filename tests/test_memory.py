"""Bytes against what `transformers` and bitsandbytes really allocate, and published figures."""

import json
import math
import weakref
from types import SimpleNamespace

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from sizewise.costs import formats, memory
from sizewise.models.architecture import Compressed, Grouped, Layer, Model, StateSpace
from sizewise.models.from_config import from_config
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

WINDOW, BATCH = 8, 2
BASE = {
    "vocab_size": 97,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
OLD = {"vocab_size": 97, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
SLIDING = {**BASE, "sliding_window": WINDOW, "head_dim": 16}
GATED = {"moe_intermediate_size": 32, "n_routed_experts": 4, "num_experts_per_tok": 2}
MOE = {"num_local_experts": 4, "num_experts_per_tok": 2}
MLA = {
    **BASE,
    **GATED,
    "n_shared_experts": 1,
    "n_group": 1,
    "topk_group": 1,
    "num_key_value_heads": 4,
    "q_lora_rank": 24,
    "kv_lora_rank": 20,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 12,
}
INDEX = {**MLA, "index_head_dim": 16, "index_n_heads": 2, "index_topk": 4}
MAMBA2 = {
    **BASE,
    "mamba_n_heads": 8,
    "mamba_d_head": 16,
    "mamba_d_state": 6,
    "mamba_n_groups": 2,
    "mamba_chunk_size": 8,
}
DELTA = {
    **BASE,
    "head_dim": 16,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 12,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
}
LOCAL_GLOBAL = ["sliding_attention", "sliding_attention", "full_attention"]

SHRUNK = {
    "gpt2": {"vocab_size": 97, "n_embd": 64, "n_layer": 2, "n_head": 4},
    "gptj": {"vocab_size": 97, "n_embd": 64, "n_layer": 2, "n_head": 4, "rotary_dim": 8},
    "opt": {**OLD, "ffn_dim": 96, "word_embed_proj_dim": 64},
    "bloom": {"vocab_size": 97, "hidden_size": 64, "n_layer": 2, "n_head": 4},
    "mpt": {"vocab_size": 97, "d_model": 64, "n_layers": 2, "n_heads": 4, "max_seq_len": 64},
    "gpt_neo": {
        "vocab_size": 97,
        "hidden_size": 64,
        "num_layers": 2,
        "num_heads": 4,
        "attention_types": [[["global", "local"], 1]],
        "window_size": WINDOW,
    },
    "gpt_neox": {**OLD, "intermediate_size": 96},
    "gpt_bigcode": {"vocab_size": 97, "n_embd": 64, "n_layer": 2, "n_head": 4},
    "falcon": {**OLD, "multi_query": True, "new_decoder_architecture": False},
    "llama": BASE,
    "qwen3": {**BASE, "head_dim": 24},
    "mixtral": {**BASE, "num_local_experts": 4},
    "mistral": SLIDING,
    "gemma2": SLIDING,
    "gemma3_text": {**SLIDING, "num_hidden_layers": 7},
    "gemma3n_text": {
        **SLIDING,
        "num_hidden_layers": 10,
        "num_kv_shared_layers": 4,
        "vocab_size_per_layer_input": 97,
        "hidden_size_per_layer_input": 8,
        "intermediate_size": [96] * 10,
        "activation_sparsity_pattern": [0.0] * 10,
        "layer_types": LOCAL_GLOBAL * 3 + ["full_attention"],
    },
    "gemma4_text": {
        **SLIDING,
        "num_hidden_layers": 12,
        "num_kv_shared_layers": 4,
        "global_head_dim": 32,
        "vocab_size_per_layer_input": 97,
        "hidden_size_per_layer_input": 8,
        "layer_types": LOCAL_GLOBAL * 4,
    },
    "gemma4_text, keys as values": {
        **SLIDING,
        "num_hidden_layers": 6,
        "global_head_dim": 32,
        "attention_k_eq_v": True,
        "num_global_key_value_heads": 1,
        "vocab_size_per_layer_input": 97,
        "hidden_size_per_layer_input": 0,
        "layer_types": LOCAL_GLOBAL * 2,
    },
    "gpt_oss": {**SLIDING, **MOE},
    "cohere2": SLIDING,
    "llama4_text": {
        **BASE,
        "attention_chunk_size": WINDOW,
        "head_dim": 16,
        "num_local_experts": 4,
        "intermediate_size_mlp": 96,
    },
    "mimo_v2_flash": {**SLIDING, **GATED, "head_dim": 24, "v_head_dim": 16},
    "deepseek_v2": {**MLA, "first_k_dense_replace": 1},
    "deepseek_v3": {**MLA, "first_k_dense_replace": 1},
    "deepseek_v32": INDEX,
    "glm_moe_dsa": INDEX,
    "hy_v4": {**INDEX, "head_dim": 8, "indexer_types": ["full", "full", "shared", "shared"]},
    "jamba": {
        **BASE,
        "attn_layer_period": 4,
        "attn_layer_offset": 2,
        "mamba_d_state": 6,
        "mamba_dt_rank": 4,
        "num_experts": 2,
        "use_mamba_kernels": False,
    },
    "mamba": {"vocab_size": 97, "hidden_size": 64, "num_hidden_layers": 2, "state_size": 6},
    "falcon_mamba": {"vocab_size": 97, "hidden_size": 64, "num_hidden_layers": 2, "state_size": 6},
    "mamba2": {
        "vocab_size": 97,
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "state_size": 6,
        "num_heads": 8,
        "head_dim": 16,
        "n_groups": 2,
        "chunk_size": 8,
    },
    "falcon_h1": {**MAMBA2, "mamba_d_ssm": 128},
    "bamba": {**MAMBA2, "attn_layer_indices": [1]},
    "granitemoehybrid": {**MAMBA2, **MOE, "layer_types": ["mamba", "attention", "mamba", "mamba"]},
    "nemotron_h": {
        **BASE,
        **GATED,
        "layers_block_type": ["mamba", "attention", "moe", "mamba"],
        "mamba_num_heads": 8,
        "mamba_head_dim": 16,
        "ssm_state_size": 6,
        "n_groups": 2,
        "chunk_size": 8,
        "head_dim": 16,
        "moe_shared_expert_intermediate_size": 32,
    },
    "zamba": {
        **BASE,
        "num_key_value_heads": 4,
        "num_hidden_layers": 8,
        "attn_layer_period": 3,
        "attn_layer_offset": 2,
        "mamba_d_state": 6,
        "mamba_dt_rank": 4,
        "n_mamba_heads": 2,
        "use_mamba_kernels": False,
    },
    "zamba2": {
        **BASE,
        "num_key_value_heads": 4,
        "mamba_d_state": 6,
        "n_mamba_heads": 8,
        "layers_block_type": ["mamba", "hybrid", "mamba", "hybrid"],
        "mamba_ngroups": 2,
        "chunk_size": 8,
        "num_mem_blocks": 1,
        "use_mamba_kernels": False,
    },
    "qwen3_next": {
        **DELTA,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 32,
        "shared_expert_intermediate_size": 32,
    },
    "qwen3_5_text": DELTA,
    "olmo_hybrid": {**DELTA, "linear_num_key_heads": 4},
    "kimi_linear": {
        **MLA,
        "q_lora_rank": None,
        "head_dim": 16,
        "linear_head_dim": 8,
        "linear_num_heads": 2,
        "num_experts": 4,
        "num_local_experts": 4,
        "layer_types": ["linear_attention"] * 3 + ["full_attention"],
    },
    "bailing_hybrid": {
        **MLA,
        "linear_head_dim": 8,
        "linear_num_heads": 2,
        "layer_group_size": 2,
        "num_experts": 4,
    },
    "lfm2": {**BASE, "layer_types": ["conv", "full_attention"] * 2, "conv_L_cache": 3},
    "minimax": {**BASE, **MOE, "block_size": 8, "head_dim": 16},
}
DEEPSEEK_V4 = {
    **SLIDING,
    **GATED,
    "num_key_value_heads": 1,
    "qk_rope_head_dim": 8,
    "q_lora_rank": 24,
    "o_lora_rank": 8,
    "o_groups": 2,
    "index_head_dim": 8,
    "index_n_heads": 2,
    "index_topk": 2,
    "num_hash_layers": 0,
    "num_hidden_layers": 3,
    "compress_rates": {"compressed_sparse_attention": 4, "heavily_compressed_attention": 8},
    "layer_types": [
        "sliding_attention",
        "heavily_compressed_attention",
        "compressed_sparse_attention",
    ],
}


def shrunk(name, fields=None):
    """A small model of this architecture with random bf16 weights, and its configuration."""
    fields = SHRUNK[name] if fields is None else fields
    config = transformers.CONFIG_MAPPING[name.split(",")[0]](**fields)
    torch.manual_seed(0)
    return transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval()


def run(model, tokens, cache=None):
    """The cache after reading all but the last of ``tokens`` tokens at once, and that one."""
    name = "cache_params" if "mamba" in model.config.model_type else "past_key_values"
    with torch.no_grad():
        for width in (tokens - 1, 1):
            ids = torch.randint(3, 90, (BATCH, width))
            inputs = {} if cache is None else {name: cache}
            output = model(ids, use_cache=True, **inputs)
            cache = output.get(name, cache)  # RecurrentGemma fills a cache but returns none
    return cache


def allocated(state, seen=None) -> int:
    """Bytes of all tensors within an object, each once; scalars are bookkeeping."""
    seen = set() if seen is None else seen
    if isinstance(state, torch.Tensor):
        key = (state.data_ptr(), state.shape)
        if state.numel() < 2 or key in seen:
            return 0
        seen.add(key)
        return state.nbytes
    if isinstance(state, dict):
        return sum(allocated(value, seen) for value in state.values())
    if isinstance(state, list | tuple):
        return sum(allocated(value, seen) for value in state)
    return allocated(vars(state), seen) if hasattr(state, "__dict__") else 0


def windowed_token_bytes(model: Model) -> int:
    """Bytes of one token in every windowed layer."""
    grouped = [layer.attention for layer in model.layers if isinstance(layer.attention, Grouped)]
    return sum(
        2 * BATCH * part.kv_heads * (part.head_dim + part.value_dim)
        for part in grouped
        if part.window and not part.shares_kv
    )


@pytest.mark.parametrize("name", SHRUNK)
def test_cache_bytes_equal_what_transformers_allocates(name):
    # Inside the window to the byte; beyond it transformers keeps window - 1 tokens between steps.
    network = shrunk(name)
    model = from_config(network.config)
    for context in (WINDOW - 1, WINDOW + 7):
        real = allocated(run(network, context))
        spare = windowed_token_bytes(model) if context >= WINDOW else 0
        assert memory.kv_cache_bytes(model, context, BATCH) == real + spare
        assert real > 0


@pytest.mark.parametrize("name", ["mistral", "gemma2", "gemma3_text", "gpt_oss", "cohere2"])
def test_a_static_cache_holds_the_whole_window(name):
    network = shrunk(name)
    context = WINDOW + 7
    static = transformers.StaticCache(config=network.config, max_cache_len=context)
    with torch.no_grad():
        network(torch.randint(3, 90, (BATCH, context)), past_key_values=static)
    real = allocated([(layer.keys, layer.values) for layer in static.layers])
    assert memory.kv_cache_bytes(from_config(network.config), context, BATCH) == real


def test_compressed_caches_are_counted_at_their_fullest():
    network = shrunk("deepseek_v4", DEEPSEEK_V4)
    model = from_config(network.config)
    # transformers stores the one vector of a purely windowed layer twice, as key and as value.
    twice = 2 * BATCH * DEEPSEEK_V4["head_dim"]
    for context in (3, 7, 12, 15, 18, 31):
        real = allocated(run(network, context))
        window = min(context, WINDOW - 1)
        spare = 3 * twice * (context >= WINDOW) - window * twice
        assert memory.kv_cache_bytes(model, context, BATCH) >= real + spare
        if context % 8 == 7:  # both buffers are full: 7 of 8 and 3 of 4 tokens
            assert memory.kv_cache_bytes(model, context, BATCH) == real + spare


def test_recurrent_gemma_keeps_its_state_in_its_modules():
    fields = {**BASE, "head_dim": 16, "attention_window_size": WINDOW, "num_hidden_layers": 3}
    network = shrunk("recurrent_gemma", fields)
    cache, context = transformers.DynamicCache(config=network.config), WINDOW - 1
    run(network, context, cache)
    states = [
        getattr(module, field)
        for module in network.modules()
        for field in ("conv1d_state", "recurrent_states")
        if getattr(module, field, None) is not None
    ]
    assert len(states) == 4  # two recurrent layers
    model = from_config(network.config)
    assert memory.kv_cache_bytes(model, context, BATCH) == allocated([cache.layers, states])


def test_falcons_class_stores_repeated_heads_and_the_count_does_not():
    network = shrunk("falcon", {**OLD, "num_kv_heads": 2, "new_decoder_architecture": True})
    real = allocated(run(network, 9))
    assert real == 2 * memory.kv_cache_bytes(from_config(network.config), 9, BATCH)


def test_latent_layers_count_expanded_heads_when_not_absorbed():
    network = shrunk("deepseek_v3")
    model, context = from_config(network.config), 9
    expanded = 0
    for layer, cached in zip(network.model.layers, run(network, context).layers, strict=True):
        with torch.no_grad():
            expanded += allocated(layer.self_attn.expand_kv(cached.keys, cached.values))
    assert memory.kv_cache_bytes(model, context, BATCH, absorbed=False) == expanded
    assert memory.kv_cache_bytes(model, context, BATCH) < expanded


def test_fp8_cache_equals_transformers_fp8_layers():
    from transformers.cache_utils import Fp8QuantizedLayer

    layer = Fp8QuantizedLayer()
    layer.update(torch.randn(BATCH, 2, 9, 16), torch.randn(BATCH, 2, 9, 16))
    real = layer._quantized_keys[0].nbytes + layer._quantized_values[0].nbytes
    model = Model("one layer", None, None, (Layer(Grouped(4, 2, 16, 16)),), 64, 97)
    assert memory.kv_cache_bytes(model, 9, BATCH, "fp8") == real


# Configurations of released models, cache shapes only.
LLAMA_8B = transformers.LlamaConfig(
    vocab_size=128256,
    hidden_size=4096,
    intermediate_size=14336,
    num_hidden_layers=32,
    num_attention_heads=32,
    num_key_value_heads=8,
    max_position_embeddings=131072,
)
LLAMA_70B = transformers.LlamaConfig(
    vocab_size=128256,
    hidden_size=8192,
    intermediate_size=28672,
    num_hidden_layers=80,
    num_attention_heads=64,
    num_key_value_heads=8,
)
LLAMA_405B = transformers.LlamaConfig(
    hidden_size=16384, num_hidden_layers=126, num_attention_heads=128, num_key_value_heads=8
)
LLAMA_2_7B = transformers.LlamaConfig()
MIXTRAL = transformers.MixtralConfig(sliding_window=None)
JAMBA = transformers.JambaConfig()
GPT_3 = transformers.GPT2Config(n_embd=12288, n_layer=96, n_head=96)
DEEPSEEK_V3 = transformers.DeepseekV3Config()
GPT_OSS = transformers.GptOssConfig()
GEMMA_2_27B = transformers.Gemma2Config(
    num_hidden_layers=46,
    hidden_size=4608,
    num_attention_heads=32,
    num_key_value_heads=16,
    head_dim=128,
    sliding_window=4096,
)
GEMMA_3_27B = transformers.Gemma3TextConfig(
    num_hidden_layers=62,
    hidden_size=5376,
    num_attention_heads=32,
    num_key_value_heads=16,
    head_dim=128,
    sliding_window=1024,
)
GEMMA_4_31B = transformers.Gemma4TextConfig(
    num_hidden_layers=60,
    hidden_size=5376,
    num_attention_heads=32,
    num_key_value_heads=16,
    head_dim=256,
    global_head_dim=512,
    num_global_key_value_heads=4,
    attention_k_eq_v=True,
    sliding_window=1024,
    hidden_size_per_layer_input=0,
)
GIB = 2**30


@pytest.mark.parametrize(
    ("config", "published"),
    [
        (LLAMA_8B, 131_072),
        (LLAMA_70B, 327_680),
        (LLAMA_405B, 516_096),
        (GPT_3, 4_718_592),
        (DEEPSEEK_V3, 70_272),
        (GPT_OSS, 73_728),
    ],
    ids=["Llama 8B", "Llama 70B", "Llama 405B", "GPT-3", "DeepSeek-V3", "gpt-oss-120b"],
)
def test_bytes_per_token_without_windows_are_the_published_ones(config, published):
    model, token = from_config(config), 131_072
    without = [memory.kv_cache_bytes(model, token + n, windows=False) for n in (0, 1)]
    assert without[1] - without[0] == published


def test_half_of_gpt_oss_layers_stop_growing():
    model = from_config(GPT_OSS)
    assert memory.kv_bytes_per_token(model) == 73_728 / 2
    grown = memory.kv_cache_bytes(model, 4097) - memory.kv_cache_bytes(model, 4096)
    assert grown == 73_728 / 2


def test_llama_70b_takes_160_kb_a_token_in_int8():
    # Austin et al. 2025, applied inference: 160 kB, where 1 kB is 1024 bytes.
    assert memory.kv_bytes_per_token(from_config(LLAMA_70B), "int8") == 160 * 1024


@pytest.mark.parametrize(
    ("config", "gibibytes", "tolerance"),
    [(LLAMA_2_7B, 128, 0), (MIXTRAL, 32, 0), (JAMBA, 4, 0.02)],
    ids=["Llama-2-7B", "Mixtral", "Jamba"],
)
def test_jamba_papers_table_1_at_256k_tokens(config, gibibytes, tolerance):
    # Lieber et al. 2024, table 1, 16 bit. Jamba's own states add 16 MiB to its 4 GiB.
    size = memory.kv_cache_bytes(from_config(config), 256 * 1024)
    assert gibibytes <= size / GIB <= gibibytes + tolerance


@pytest.mark.parametrize(
    ("config", "context", "windowed", "naive"),
    [
        (LLAMA_8B, 2**17, 16.0, 16.0),
        (GEMMA_2_27B, 2**17, 23.7, 46.0),
        (GEMMA_3_27B, 2**17, 10.41, 62.0),
        (GEMMA_4_31B, 2**17, 10.78, 110.0),
        (GEMMA_4_31B, 2**18, 20.78, 220.0),
    ],
    ids=["Llama 8B", "Gemma 2 27B", "Gemma 3 27B", "Gemma 4 31B", "Gemma 4 31B at 256k"],
)
def test_windows_cut_long_caches_as_measured(config, context, windowed, naive):
    model = from_config(config)
    assert memory.kv_cache_bytes(model, context) / GIB == pytest.approx(windowed, abs=0.05)
    without = memory.kv_cache_bytes(model, context, windows=False) / GIB
    assert without == pytest.approx(naive, abs=0.05)


def test_gemma_3_27b_on_meta_tensors_holds_one_windowed_token_less():
    cache, context = transformers.DynamicCache(config=GEMMA_3_27B), 2**17
    for index in range(62):
        keys = torch.empty(1, 16, context, 128, dtype=torch.bfloat16, device="meta")
        cache.update(keys, torch.empty_like(keys), index)
    real = sum(layer.keys.nbytes + layer.values.nbytes for layer in cache.layers)
    token = 52 * 2 * 16 * 128 * 2
    assert memory.kv_cache_bytes(from_config(GEMMA_3_27B), context) == real + token


@pytest.mark.parametrize(
    ("config", "gigabytes"), [(LLAMA_8B, 262), (LLAMA_70B, 655), (DEEPSEEK_V3, 141)]
)
def test_two_million_tokens(config, gigabytes):
    size = memory.kv_cache_bytes(from_config(config), 2_000_000)
    assert round(size / 1e9) == gigabytes


@pytest.mark.parametrize(
    ("format", "ratio"), [("tq3", 5.12), ("tq4", 16 / 4.125), ("fp8", 2), ("int2", 16 / 3)]
)
def test_cache_formats_count_what_is_stored_beside_the_values(format, ratio):
    model = from_config(LLAMA_8B)  # heads of 128
    smaller = memory.kv_cache_bytes(model, 4096) / memory.kv_cache_bytes(model, 4096, 1, format)
    assert smaller == pytest.approx(ratio, rel=1e-3)


def test_quantized_caches_leave_recurrent_states_alone():
    mamba = from_config(transformers.MambaConfig())
    assert memory.kv_cache_bytes(mamba, 10, 1, "int4") == memory.kv_cache_bytes(mamba, 10)


@pytest.mark.parametrize(
    ("format", "terabytes"), [("fp32", 40), ("bf16", 20), ("fp8", 10), ("int4", 5)]
)
def test_weights_of_ten_trillion_parameters(format, terabytes):
    assert memory.weights_bytes(10**13, format) == terabytes * 10**12


@pytest.mark.parametrize(
    ("format", "bits"),
    [("nf4", 4.5), ("nf4-dq", 4.127), ("mxfp4", 4.25), ("int4-g128", 4.125), ("q4_k_m", 4.85)],
)
def test_bits_of_a_weight_are_the_published_ones(format, bits):
    assert formats.weight_format(format).bits == pytest.approx(bits, abs=5e-4)


@pytest.mark.parametrize("nested", [False, True], ids=["nf4", "nf4-dq"])
def test_nf4_bytes_equal_what_bitsandbytes_stores(nested):
    functional = pytest.importorskip("bitsandbytes.functional")
    weight = torch.randn(512, 1024, dtype=torch.bfloat16)
    packed, state = functional.quantize_4bit(
        weight, blocksize=64, quant_type="nf4", compress_statistics=nested
    )
    real = packed.nbytes + state.absmax.nbytes + (state.state2.absmax.nbytes if nested else 0)
    format = "nf4-dq" if nested else "nf4"  # code tables, 64 to 1092 bytes a matrix, left out
    assert memory.weights_bytes(weight.numel(), format) == real


def test_int8_bytes_equal_what_bitsandbytes_stores():
    functional = pytest.importorskip("bitsandbytes.functional")
    codes, scales, _ = functional.int8_vectorwise_quant(torch.randn(512, 1024).half())
    form = formats.weight_format("int8")
    assert (512 * 1024 * form.bits + 512 * form.per_row) / 8 == codes.nbytes + scales.nbytes
    assert memory.weights_bytes(512 * 1024, "int8") == codes.nbytes


@pytest.mark.parametrize(("format", "megabytes"), [("nf4", 173.1), ("nf4-dq", 168.2)])
def test_a_small_model_with_its_embedding_kept_in_fp32(format, megabytes):
    # SmolLM2-135M through bitsandbytes: measured bytes of all tensors. Embedding and 61 norms
    # of 576 stay fp32; code tables (1092 bytes for each of 210 matrices) explain the rest.
    fp32 = 49_152 * 576 + 61 * 576
    size = memory.weights_bytes(134_515_008, format, kept=fp32) + 2 * fp32  # fp32, not bf16
    assert size / 1e6 == pytest.approx(megabytes, rel=0.002)


class LiveBytes(TorchDispatchMode):
    """The most bytes alive at once in tensors made by a forward pass, weights left out."""

    def __init__(self, module):
        super().__init__()
        tensors = [*module.parameters(), *module.buffers()]
        self.known = {tensor.untyped_storage()._cdata for tensor in tensors}
        self.now = self.peak = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        output = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(output):
            storage = tensor.untyped_storage() if isinstance(tensor, torch.Tensor) else None
            if storage is None or storage._cdata in self.known:
                continue
            self.known.add(storage._cdata)
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self.drop, storage._cdata, storage.nbytes())
        return output

    def drop(self, key, size):
        self.known.discard(key)
        self.now -= size


@pytest.mark.parametrize("name", ["llama", "qwen3", "mixtral"])
def test_activation_estimate_is_near_what_a_forward_pass_allocates(name):
    wide = {"hidden_size": 256, "intermediate_size": 896, "num_hidden_layers": 2, "head_dim": 64}
    network = shrunk(name, {**SHRUNK[name], **wide})
    with torch.no_grad(), LiveBytes(network) as live:
        network(torch.randint(3, 90, (2, 256)), use_cache=False, logits_to_keep=1)
    estimate = memory.activation_bytes(from_config(network.config), 256, 2)
    assert 1.0 <= live.peak / estimate <= 1.5


def test_a_large_vocabulary_makes_the_head_the_peak():
    model = Model("wide head", 1, 1, (), hidden_size=8, vocab_size=10**6, mlp_width=8)
    assert memory.activation_bytes(model, 10, 4) == 4 * 10**6 * 4 + 40 * 8 * 2


H100 = SimpleNamespace(name="H100", memory_bytes=80e9)


@pytest.mark.parametrize(("format", "devices"), [("bf16", 250), ("fp8", 125), ("int4", 63)])
def test_h100s_that_hold_the_weights_of_ten_trillion(format, devices):
    size = memory.weights_bytes(10**13, format)
    assert math.ceil(size / H100.memory_bytes) == devices


def test_total_is_the_sum_of_its_parts_and_says_where_it_fits():
    model = from_config(LLAMA_8B, total=8_030_261_248)
    total = memory.total_memory(model, "bf16", "bf16", 8192, 1, H100)
    assert total.weights_bytes == 16_060_522_496
    assert total.kv_bytes == 2**30
    assert total.total_bytes == total.weights_bytes + total.kv_bytes + total.activation_bytes
    assert (total.devices, total.fits) == (1, True)
    many = memory.total_memory(model, "bf16", "bf16", 131_072, 8, H100)
    assert many.devices == math.ceil(many.total_bytes / 72e9) == 3
    assert not many.fits
    assert json.loads(json.dumps(total.as_dict()))["total_bytes"] == total.total_bytes


def test_a_smaller_usable_share_needs_more_devices():
    model = from_config(LLAMA_70B, total=70_553_706_496)
    assert memory.total_memory(model, device=H100, usable=1).devices == 2
    assert memory.total_memory(model, device=H100, usable=0.5).devices == 4


def test_without_a_device_nothing_is_reported_about_fitting():
    total = memory.total_memory(from_config(LLAMA_8B, total=8_030_261_248))
    assert total.devices is None
    assert total.fits is None


def test_a_context_beyond_the_stated_one_is_noted():
    model = from_config(LLAMA_8B, total=8_030_261_248)
    (warning,) = memory.total_memory(model, context=2**20).warnings
    assert "131,072" in warning
    assert memory.total_memory(model, context=131_072).warnings == ()


MODELS = [
    from_config(config)
    for config in (
        LLAMA_8B,
        GEMMA_3_27B,
        GEMMA_4_31B,
        DEEPSEEK_V3,
        JAMBA,
        GPT_OSS,
        transformers.DeepseekV4Config(),
        transformers.Mamba2Config(),
    )
]
models = st.sampled_from(MODELS)
contexts = st.integers(1, 300_000)
cache_names = st.sampled_from(sorted(formats.CACHES))


@settings(max_examples=200, deadline=None)
@given(models, contexts, contexts, st.integers(1, 64), cache_names)
def test_cache_never_shrinks_with_context_and_is_proportional_to_batch(model, a, b, batch, format):
    short, long = sorted((a, b))
    single = memory.kv_cache_bytes(model, short, 1, format)
    assert single <= memory.kv_cache_bytes(model, long, 1, format)
    several = memory.kv_cache_bytes(model, short, batch, format)
    assert several == pytest.approx(batch * single, abs=batch * len(model.layers))


@settings(max_examples=100, deadline=None)
@given(models, contexts, cache_names)
def test_layers_sum_to_the_total_and_windows_never_add(model, context, format):
    layers = memory.kv_cache_by_layer(model, context, 1, format)
    total = memory.kv_cache_bytes(model, context, 1, format)
    assert len(layers) == len(model.layers)
    assert sum(layers) == total
    assert total <= memory.kv_cache_bytes(model, context, 1, format, windows=False)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 4096), st.integers(0, 10_000))
def test_a_window_caps_its_layer(window, beyond):
    model = Model("one layer", None, None, (Layer(Grouped(4, 2, 16, 16, window)),), 64, 97)
    full = memory.kv_cache_bytes(model, window)
    assert memory.kv_cache_bytes(model, window + beyond) == full == window * 2 * 2 * 16 * 2


@settings(max_examples=100, deadline=None)
@given(models, contexts, st.integers(1, 64), st.sampled_from(sorted(formats.WEIGHTS)), cache_names)
def test_parts_of_a_deployment_always_sum(model, context, batch, weights, kv):
    sized = Model(**{**vars(model), "total": 10**9, "active": 10**9})
    total = memory.total_memory(sized, weights, kv, context, batch, H100, usable=1)
    parts = (total.weights_bytes, total.kv_bytes, total.activation_bytes)
    assert total.total_bytes == sum(parts)
    assert total.fits == (total.total_bytes <= H100.memory_bytes)
    assert (total.devices - 1) * 80e9 < total.total_bytes <= total.devices * 80e9


MODEL = MODELS[0]
BAD = [
    (lambda: memory.kv_cache_bytes(MODEL, 0), "context must be from 1"),
    (lambda: memory.kv_cache_bytes(MODEL, -5), "context must be from 1"),
    (lambda: memory.kv_cache_bytes(MODEL, 10**12 + 1), "context must be from 1"),
    (lambda: memory.kv_cache_bytes(MODEL, 1.5), "context must be a whole number"),
    (lambda: memory.kv_cache_bytes(MODEL, "8k"), "context must be a whole number"),
    (lambda: memory.kv_cache_bytes(MODEL, float("nan")), "context must be a whole number"),
    (lambda: memory.kv_cache_bytes(MODEL, True), "context must be a whole number"),
    (lambda: memory.kv_cache_bytes(MODEL, 8, 0), "batch must be from 1"),
    (lambda: memory.kv_cache_bytes(MODEL, 8, 1, "bf61"), "unknown cache format 'bf61'; .*'bf16'"),
    (lambda: memory.weights_bytes(8, "mxpf4"), "unknown weight format 'mxpf4'; .*'mxfp4'"),
    (lambda: memory.weights_bytes(8, "tf32"), "unknown weight format 'tf32'"),
    (lambda: memory.weights_bytes(0), "parameters must be from 1"),
    (lambda: memory.weights_bytes(8, kept=9), "9 kept parameters are more than all 8"),
    (lambda: memory.weights_bytes(MODEL), "states no total parameter count"),
    (lambda: memory.total_memory(MODEL, usable=0), "usable share of memory must be"),
    (lambda: memory.total_memory(MODEL, usable=1.1), "usable share of memory must be"),
]


@pytest.mark.parametrize(("call", "message"), BAD)
def test_bad_input_is_refused_in_one_line(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


def test_format_names_do_not_mind_case_or_underscores():
    assert memory.weights_bytes(100, "NF4_DQ") == memory.weights_bytes(100, "nf4-dq")
    assert memory.weights_bytes(100, "Q4_K_M") == memory.weights_bytes(100, "q4_k_m")


def test_hand_worked_hybrid_layer():
    # 2 heads of 4 at 10 tokens, 16 bit: 10 x 2 x (4 + 4) x 2 = 320; conv 3 x 4 x 2 = 24;
    # state 2 x 5 in fp32 = 40.
    layer = Layer(Grouped(2, 2, 4, 4), StateSpace("mamba", (3, 4), (2, 5)))
    model = Model("by hand", None, None, (layer, Layer()), 8, 8)
    assert memory.kv_cache_by_layer(model, 10) == [384, 0]


def test_hand_worked_compressed_layer():
    # Window 8 of 16 values; 33 // 4 entries of 16; buffer 3 tokens x 4 x 16; overlap 8 x 16.
    attention = Compressed(4, 16, window=8, rate=4, overlap=True)
    model = Model("by hand", None, None, (Layer(attention),), 8, 8)
    values = 8 * 16 + 8 * 16 + 3 * 4 * 16 + 8 * 16
    assert memory.kv_cache_bytes(model, 33) == 2 * values
