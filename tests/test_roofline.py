"""Floors against published worked examples and hand counts."""

import math
import random
from dataclasses import replace
from types import SimpleNamespace

import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from sizewise.costs import memory, roofline
from sizewise.models.architecture import Grouped, Latent, Layer, Model, StateSpace
from sizewise.models.from_config import from_config


def device(name, memory_bytes, bandwidth, bf16, watts=None, **flops):
    return SimpleNamespace(
        name=name,
        memory_bytes=memory_bytes,
        bandwidth=bandwidth,
        tdp_watts=watts,
        flops={"bf16": bf16, **flops},
    )


H100 = device("H100", 80e9, 3.35e12, 989.4e12, 700, fp8=1978.9e12, fp4=None)
V5E = device("TPU v5e", 16e9, 0.82e12, 197e12, int8=394e12)
MAC = device("M4 Max", 128e9, 0.546e12, None)
LLAMA_70B = from_config(
    transformers.LlamaConfig(
        vocab_size=128256,
        hidden_size=8192,
        intermediate_size=28672,
        num_hidden_layers=80,
        num_attention_heads=64,
        num_key_value_heads=8,
    ),
    total=70_553_706_496,
)
MIXTRAL = from_config(
    transformers.MixtralConfig(sliding_window=None), total=46_702_792_704, active=12_879_925_248
)
TEN_TRILLION = Model("10T", 10**13, 10**13, (), hidden_size=1, vocab_size=1)


def test_ridge_of_an_h100_is_295_operations_a_byte():
    assert roofline.ridge(H100) == pytest.approx(295, abs=0.5)


def test_critical_batch_on_a_tpu_v5e_is_240():
    # Austin et al. 2025: products with bf16 weights turn compute-bound at about 240 tokens.
    assert roofline.ridge(V5E) == pytest.approx(240, abs=0.5)
    dense = Model("dense", 10**9, 10**9, (), hidden_size=1, vocab_size=1)
    assert roofline.decode(dense, V5E, 1, 240).bound == "memory"
    assert roofline.decode(dense, V5E, 1, 241).bound == "compute"


def test_scaling_books_llama_70b_on_eight_v5e():
    # Austin et al. 2025, applied inference: int8, batch 32, 8192 tokens: 112 GB, 17 ms, 1882
    # tokens a second. The book rounds to 70 GB of weights and 160 kB a token of cache.
    floor = roofline.decode(LLAMA_70B, V5E, 8192, 32, weights="int8", kv="int8", devices=8)
    assert floor.bytes / 1e9 == pytest.approx(112, rel=0.015)
    assert floor.seconds * 1e3 == pytest.approx(17, rel=0.02)
    assert floor.tokens_per_second == pytest.approx(1882, rel=0.02)
    assert floor.bound == "memory"


def test_decoding_ten_trillion_takes_23_9_ms_however_many_h100s_it_fills():
    filling = roofline.decode(TEN_TRILLION, H100, 1, devices=250)
    assert filling.seconds == pytest.approx(23.9e-3, abs=0.05e-3)
    assert filling.seconds == pytest.approx(roofline.full_read_seconds(H100), rel=1e-6)
    fp8 = roofline.decode(TEN_TRILLION, H100, 1, weights="fp8", devices=125)
    assert fp8.seconds == pytest.approx(filling.seconds, rel=1e-6)


def test_claimed_bandwidths_give_two_seconds_and_twenty_seconds_a_token():
    # A dense 100B model at 100 GB/s and 10T at 1 TB/s, bf16.
    slow = roofline.decode(
        Model("100B", 10**11, 10**11, (), 1, 1), device("a", 1e12, 1e11, 1e15), 1
    )
    assert slow.tokens_per_second == pytest.approx(0.5)
    claimed = roofline.decode(TEN_TRILLION, device("b", 1e14, 1e12, 1e15), 1)
    assert claimed.seconds == pytest.approx(20)


def test_reported_token_time_of_llama_8b_on_an_h100_is_above_the_floor():
    # vLLM's published fit on one H100: 6.44 ms, and 4.37e-5 ms for each token of context.
    config = transformers.LlamaConfig(
        vocab_size=128256,
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
    )
    model = from_config(config, total=8_030_261_248)
    for context in (1000, 10_000, 100_000):
        measured = 6.44e-3 + 4.37e-8 * context
        assert 0.5 < roofline.decode(model, H100, context).seconds / measured < 1


def test_kv_cache_compression_helps_only_as_far_as_the_cache_matters():
    # Memory of Llama 3.1 70B with a cache six times smaller: 1.02x, 1.46x and 3.24x.
    for batch, context, cut in ((1, 8192, 1.02), (32, 8192, 1.46), (16, 131_072, 3.24)):
        cache = memory.kv_cache_bytes(LLAMA_70B, context, batch)
        weights = memory.weights_bytes(LLAMA_70B)
        assert (weights + cache) / (weights + cache / 6) == pytest.approx(cut, abs=0.005)


def test_one_token_reads_the_active_parameters_and_a_large_batch_all():
    untied = MIXTRAL.vocab_size * MIXTRAL.hidden_size
    single = roofline.touched_parameters(MIXTRAL, 1)
    assert single == pytest.approx(12_879_925_248 - untied + MIXTRAL.hidden_size)
    many = roofline.touched_parameters(MIXTRAL, 100_000)
    assert many == pytest.approx(46_702_792_704)
    # Two tokens reach 8 (1 - (6/8)^2) = 3.5 of 8 experts.
    routed = (46_702_792_704 - 12_879_925_248) / (1 - 2 / 8)
    double = roofline.touched_parameters(MIXTRAL, 2)
    assert double - single == pytest.approx(routed * 1.5 / 8 + MIXTRAL.hidden_size)


def test_routed_parameters_follow_from_total_and_active():
    # 32 layers x 8 experts x 3 matrices of 4096 x 14336.
    assert MIXTRAL.routed == pytest.approx(32 * 8 * 3 * 4096 * 14336, rel=1e-12)


def test_expected_experts_agree_with_a_simulated_router():
    rng, trials = random.Random(0), 4000  # noqa: S311
    reached = sum(
        len({e for _ in range(16) for e in rng.sample(range(64), 6)}) for _ in range(trials)
    )
    assert roofline.expected_experts(64, 6, 16) == pytest.approx(reached / trials, rel=0.005)


def test_hand_worked_decode():
    # One layer, 4 query and 2 kv heads of 16, window 8, 10 tokens of context, 3 sequences.
    layer = Layer(Grouped(4, 2, 16, 16, window=8))
    model = Model("by hand", 1000, 1000, (layer,), hidden_size=10, vocab_size=20, lookup=200)
    floor = roofline.decode(model, device("d", 1e9, 1e6, 1e9), 10, 3)
    assert floor.weights.bytes == 2 * (1000 - 200 + 3 * 10)
    assert floor.weights.operations == 2 * 3 * 800
    assert floor.attention.bytes == 3 * 8 * 2 * (16 + 16) * 2
    assert floor.attention.operations == 3 * 8 * 2 * 4 * (16 + 16)
    assert floor.seconds == pytest.approx((1660 + 3072) / 1e6)


def test_hand_worked_prefill():
    # 3 tokens see 1, 2 and 2 keys through a window of 2: 5 keys, 4 heads of 16 + 16.
    layer = Layer(Grouped(4, 2, 16, 16, window=2))
    model = Model("by hand", 1000, 1000, (layer,), hidden_size=10, vocab_size=20)
    floor = roofline.prefill(model, device("d", 1e9, 1e6, 1e9), 3, 2)
    assert floor.attention.operations == 2 * 5 * 2 * 4 * 32
    # Products for 6 tokens; the head, 200 parameters, for the 2 last ones only.
    assert floor.weights.operations == 2 * (800 * 6 + 200 * 2)
    assert floor.tokens == 6


def test_latent_attention_reads_less_absorbed_and_works_more():
    layer = Layer(Latent(128, 512, 64, 128, 128))
    model = Model("latent", 10**9, 10**9, (layer,), 7168, 1)
    absorbed = roofline.decode(model, H100, 4096)
    expanded = roofline.decode(model, H100, 4096, absorbed=False)
    assert absorbed.attention.bytes == 4096 * 576 * 2
    assert expanded.attention.bytes == 4096 * 128 * 320 * 2
    assert absorbed.attention.operations == 4096 * 2 * 128 * (512 + 64 + 512)
    assert expanded.attention.operations == 4096 * 2 * 128 * 320


def test_an_indexed_layer_reads_its_index_and_the_chosen_tokens():
    layer = Layer(Latent(128, 512, 64, 128, 128, 64, 128, 2048))
    model = Model("indexed", 1, 1, (layer,), 1, 1)
    read = roofline.kv_read_bytes(model, 100_000)
    assert read == (2048 * 576 + 100_000 * 128) * 2
    assert memory.kv_cache_bytes(model, 100_000) == 100_000 * (576 + 128) * 2


def test_shared_keys_are_read_and_not_held():
    stored, borrowed = (Layer(Grouped(4, 2, 16, 16, shares_kv=shared)) for shared in (False, True))
    model = Model("shared", 1, 1, (stored, borrowed), 1, 1)
    assert roofline.kv_read_bytes(model, 100) == 2 * memory.kv_cache_bytes(model, 100)


def test_a_recurrent_state_costs_the_same_at_any_context():
    layer = Layer(state=StateSpace("mamba", (8, 4), (8, 16)))
    model = Model("state", 1, 1, (layer,), 1, 1)
    near, far = (roofline.decode(model, H100, n).attention for n in (1, 10**6))
    assert near == far
    assert near.bytes == 2 * (8 * 4 * 2 + 8 * 16 * 4)  # read and written


def test_energy_and_money_follow_from_time():
    floor = roofline.decode(LLAMA_70B, H100, 8192, 8, devices=2, price=(2, 3))
    each = floor.seconds / 8 * 1e6
    assert floor.joules_per_million_tokens == pytest.approx(2 * 700 * each)
    assert floor.dollars_per_million_tokens.low == pytest.approx(2 * 2 * each / 3600)
    assert floor.dollars_per_million_tokens.high == pytest.approx(2 * 3 * each / 3600)


def test_a_device_without_a_published_peak_is_bound_by_memory():
    floor = roofline.decode(LLAMA_70B, MAC, 8192, 1000, weights="nf4")
    assert floor.bound == "memory"
    assert floor.weights.compute_seconds == 0
    assert any("compute ignored" in note for note in floor.assumptions)
    assert floor.joules_per_million_tokens is None


def test_results_name_their_assumptions():
    floor = roofline.decode(MIXTRAL, H100, 8192, 4, price=2)
    named = " ".join(floor.assumptions)
    for word in ("communication is ignored", "3.35 TB/s", "989", "uniformly", "700 W"):
        assert word in named
    assert floor.bound == "memory"


def test_prefill_of_a_long_prompt_is_bound_by_arithmetic():
    floor = roofline.prefill(LLAMA_70B, H100, 8192, devices=8)
    assert floor.bound == "compute"
    exact = 2 * (70_553_706_496 - 2 * 128_256 * 8192) * 8192
    attention = 80 * 2 * 64 * 256 * 8192 * 8193 / 2
    assert floor.operations == pytest.approx(exact + attention, rel=1e-4)


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 3000), st.one_of(st.none(), st.integers(1, 500)), st.integers(1, 40))
def test_keys_seen_is_the_sum_it_stands_for(context, limit, stride):
    cap = math.inf if limit is None else limit
    assert roofline.keys_seen(context, limit, stride) == sum(
        min(t // stride, cap) for t in range(1, context + 1)
    )


MODELS = st.sampled_from(
    [
        LLAMA_70B,
        MIXTRAL,
        from_config(transformers.DeepseekV3Config(), 671_026_404_352, 37_552_282_624),
        from_config(transformers.JambaConfig(), 51_570_323_328, 12_000_000_000),
        from_config(transformers.GptOssConfig(), 116_829_156_672, 5_711_982_912),
        from_config(transformers.DeepseekV4Config(), 284_325_869_015, 14_000_000_000),
    ]
)


@settings(max_examples=150, deadline=None)
@given(MODELS, st.integers(1, 200_000), st.integers(1, 200_000), st.integers(1, 512))
def test_a_step_takes_longer_with_context_and_batch_but_less_for_each_token(model, a, b, batch):
    short, long = sorted((a, b))
    step = roofline.decode(model, H100, short, batch, devices=16)
    assert step.seconds <= roofline.decode(model, H100, long, batch, devices=16).seconds
    more = roofline.decode(model, H100, short, batch + 1, devices=16)
    assert step.seconds <= more.seconds
    assert more.seconds / (batch + 1) <= step.seconds / batch * (1 + 1e-9)


@settings(max_examples=50, deadline=None)
@given(MODELS, st.integers(1, 50_000), st.integers(1, 64))
def test_devices_divide_time_and_change_no_work(model, context, devices):
    single = roofline.decode(model, H100, context)
    many = roofline.decode(model, H100, context, devices=devices)
    assert many.seconds * devices == pytest.approx(single.seconds)
    assert (many.bytes, many.operations) == (single.bytes, single.operations)


BARE = from_config(transformers.LlamaConfig())
NO_ACTIVE = from_config(transformers.MixtralConfig(), total=46_702_792_704)
BAD = [
    (lambda: roofline.decode(LLAMA_70B, H100, 0), "context must be from 1"),
    (lambda: roofline.decode(LLAMA_70B, H100, 8, 1.5), "batch must be a whole number"),
    (lambda: roofline.decode(LLAMA_70B, H100, 8, devices=0), "devices must be from 1"),
    (lambda: roofline.decode(LLAMA_70B, H100, 8, weights="nf5"), "unknown weight format 'nf5'"),
    (lambda: roofline.decode(LLAMA_70B, H100, 8, kv="tq9"), "unknown cache format 'tq9'"),
    (lambda: roofline.decode(LLAMA_70B, H100, 8, compute="bf61"), "did you mean 'bf16'"),
    (lambda: roofline.decode(LLAMA_70B, H100, 8, price=-1), "price must be a number above 0"),
    (lambda: roofline.decode(BARE, H100, 8), "states no total parameter count"),
    (lambda: roofline.decode(NO_ACTIVE, H100, 8), "states no active parameter count"),
    (lambda: roofline.prefill(NO_ACTIVE, H100, 8), "states no active parameter count"),
    (lambda: roofline.ridge(MAC), "M4 Max states no peak in bf16"),
    (lambda: roofline.expected_experts(8, 9, 1), "cannot use 9 of 8 experts"),
]


@pytest.mark.parametrize(("call", "message"), BAD)
def test_bad_input_is_refused_in_one_line(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


def test_a_model_that_does_not_say_how_many_experts_a_token_uses_is_refused():
    silent = replace(MIXTRAL, experts_per_token=None)
    with pytest.raises(ValueError, match="does not say how many experts a token uses"):
        roofline.touched_bytes(silent, 1)
