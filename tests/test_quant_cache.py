"""A packed cache in place of the plain one: its contents, and the text of a model with it."""

import os
import subprocess
import sys

import pytest
import torch
from sizewise.models import config as configs
from sizewise.quantization.kv import rope
from sizewise.quantization.kv.cache import TurboQuantCache, held_bytes
from sizewise.quantization.kv.store import GROUP, SLACK, methods
from sizewise.training import models
from transformers import DynamicCache, LlamaConfig

HEADS, DIM = 2, 64
METHODS = [(name, 4) for name in methods()] + [("turboquant", bits) for bits in (1, 2, 3, 8)]


def config(layers=2, **fields):
    same = {"hidden_size": HEADS * DIM, "num_attention_heads": HEADS}
    same["num_key_value_heads"] = HEADS
    return LlamaConfig(num_hidden_layers=layers, head_dim=DIM, vocab_size=64, **same, **fields)


def states(tokens, seed=0, batch=1, dim=DIM):
    draw = torch.Generator().manual_seed(1000 + seed)
    return torch.randn(2, batch, HEADS, tokens, dim, generator=draw)


def filled(cache, tokens, chunk=None, batch=1, layers=2):
    """What the layers returned last, fed whole or in chunks."""
    full = [states(tokens, layer, batch) for layer in range(layers)]
    step, messages = chunk or tokens, [None] * layers
    for start in range(0, tokens, step):
        for layer in range(layers):
            k, v = full[layer][:, :, :, start : start + step]
            messages[layer] = cache.update(k, v, layer)
    return full, messages


@pytest.fixture(scope="module")
def small():
    """A random small Llama whose logits differ, in eager attention's order of sums."""
    return built("dense")


def built(family, width=64, context=512):
    model = models.build(models.spec(family, width, context=context), seed=3).eval()
    with torch.no_grad():  # a fresh head is zero: every token the same
        draw = torch.Generator().manual_seed(4)
        model.get_output_embeddings().weight.normal_(0, 1, generator=draw)
    return model


# ------------------------------------------------------------------ bytes


@pytest.mark.parametrize("bits", [3, 4])
def test_held_bytes_at_4k_tokens_are_codes_and_norms(bits):
    cache, tokens, layers = TurboQuantCache(config(), bits=bits), 4096, 2
    filled(cache, tokens, layers=layers)
    arithmetic = layers * 2 * HEADS * tokens * (DIM * bits / 8 + 2)
    assert cache.nbytes == arithmetic
    assert held_bytes(cache) <= arithmetic * 1.13  # an eighth in reserve, and a step
    assert held_bytes(cache.trim()) == arithmetic
    plain = DynamicCache(config=config())
    filled(plain, tokens, layers=layers)
    assert held_bytes(plain) == layers * 2 * HEADS * tokens * DIM * 4


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_what_is_held_after_trimming_is_what_is_counted(method):
    cache = TurboQuantCache(config(), keys=method, values=method, residual=5)
    filled(cache, 70, chunk=7)
    assert held_bytes(cache) >= cache.nbytes
    assert held_bytes(cache.trim()) == cache.nbytes


def test_appending_token_by_token_moves_each_byte_a_few_times():
    cache, tensors = TurboQuantCache(config(1)), set()
    k, v = states(1)
    for _ in range(700):
        cache.update(k, v, 0)
        tensors.add(cache.layers[0].tensors()[0].data_ptr())
    assert len(tensors) < 12
    assert held_bytes(cache) < cache.nbytes * 1.125 + SLACK * 2 * HEADS * (DIM / 2 + 2)


GROWTH = """
import ctypes, gc, sys, psutil, torch
torch.set_num_threads(1)
from transformers import LlamaConfig
from sizewise.quantization.kv import rope
from sizewise.quantization.kv.cache import TurboQuantCache
bits, heads, dim, tokens, layers = int(sys.argv[1]), 8, 128, 4096, 24
config = LlamaConfig(num_hidden_layers=layers, num_attention_heads=heads,
                     num_key_value_heads=heads, hidden_size=heads * dim, vocab_size=64)
x = torch.randn(1, heads, tokens, dim)
def fill(many):
    cache = TurboQuantCache(config, bits=bits)
    for layer in cache.layers[:many]:
        layer.lazy_initialization(x, x)
        for side in layer.sides:
            side.append(x)
    return cache.trim()
def private():
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return psutil.Process().memory_full_info().uss
for _ in range(2):  # tables, threads and the allocator's own pages are there afterwards
    fill(4)
before = private()
cache = fill(layers)
print((private() - before) / (layers * 2 * heads * tokens * (dim * bits // 8 + 2)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="private bytes and malloc_trim are Linux's")
@pytest.mark.parametrize("bits", [3, 4])
def test_the_process_grows_by_the_arithmetic_at_4k_tokens(bits):
    """Measured by the private bytes of the process, not by the sizes of the tensors."""
    grown = subprocess.run(
        [sys.executable, "-c", GROWTH, str(bits)],
        env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"},  # what is freed goes back at once
        check=True,
        capture_output=True,
        text=True,
    )
    assert 0.98 < float(grown.stdout) < 1.02


# ------------------------------------------------------------------ what comes back


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_the_first_update_gives_back_what_later_tokens_will_see(method):
    cache = TurboQuantCache(config(1), keys=method, values=method)
    k, v = states(2 * GROUP)
    first = cache.update(k, v, 0)
    next_k, next_v = states(1, seed=9)
    later = cache.update(next_k, next_v, 0)
    for now, then in zip(first, later, strict=True):
        torch.testing.assert_close(then[:, :, :-1], now, rtol=1e-6, atol=1e-6)
    if method[0] != "plain":
        assert not torch.equal(first[0], k)
        assert not torch.equal(first[1], v)
    if method[0] not in ("prod", "prod-orthogonal") and method[1] > 2:
        assert float((first[0] - k).norm() / k.norm()) < 0.25


def test_the_newest_tokens_stay_as_they_are_in_a_residual_window():
    cache = TurboQuantCache(config(1), residual=8)
    k, v = states(20)
    keys, _ = cache.update(k, v, 0)
    assert torch.equal(keys[:, :, -8:], k[:, :, -8:])
    assert not torch.equal(keys[:, :, -9], k[:, :, -9])
    item = states(1, seed=5)
    keys, _ = cache.update(item[0], item[1], 0)
    assert not torch.equal(keys[:, :, 12], k[:, :, 12])


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_a_prompt_in_chunks_leaves_the_cache_of_a_prompt_in_one(method):
    once, parts = (TurboQuantCache(config(), keys=method, values=method) for _ in range(2))
    _, a = filled(once, 80)
    _, b = filled(parts, 80, chunk=11)
    assert once.nbytes == parts.nbytes
    for item, two in zip(a, b, strict=True):
        for x, y in zip(item, two, strict=True):
            torch.testing.assert_close(x, y, rtol=1e-5, atol=1e-5)


def test_rows_follow_their_beams():
    cache = TurboQuantCache(config(1), residual=3)
    k, v = states(10, batch=3)
    cache.update(k, v, 0)
    order = torch.tensor([2, 2, 0])
    cache.reorder_cache(order)
    other = TurboQuantCache(config(1), residual=3)
    other.update(k[order], v[order], 0)
    item = states(1, seed=7, batch=3)
    for x, y in zip(cache.update(*item, 0), other.update(*item, 0), strict=True):
        torch.testing.assert_close(x, y)


def test_a_reset_cache_is_empty():
    cache = TurboQuantCache(config())
    filled(cache, 10)
    cache.reset()
    assert (cache.get_seq_length(), held_bytes(cache), cache.nbytes) == (0, 0, 0)
    filled(cache, 4)
    assert cache.get_seq_length() == 4


# ------------------------------------------------------------------ windows


@pytest.mark.parametrize("chunk", [1, 5, 40])
def test_a_windowed_layer_gives_back_what_the_plain_windowed_layer_does(chunk):
    family = models.spec("windowed", 64, context=64)  # windows of 16

    built_config = configs.build(family)
    packed, plain = TurboQuantCache(built_config, bits=8), DynamicCache(config=built_config)
    heads, dim = built_config.num_key_value_heads, built_config.head_dim
    draw = torch.Generator().manual_seed(0)
    full = torch.randn(2, 1, heads, 80, dim, generator=draw)
    for start in range(0, 80, chunk):
        for layer in range(built_config.num_hidden_layers):
            sizes = [cache.get_mask_sizes(chunk, layer) for cache in (packed, plain)]
            assert sizes[0] == sizes[1]
            new = full[:, :, :, start : start + chunk]
            result, expected = packed.update(*new, layer), plain.update(*new, layer)
            for x, y in zip(result, expected, strict=True):
                assert x.shape == y.shape
                assert float((x - y).norm() / y.norm()) < 0.02
    assert packed.is_sliding == plain.is_sliding == [True, False]
    window = packed.layers[0]
    assert window.nbytes == 2 * heads * 15 * (dim + 2)
    assert held_bytes(packed.trim()) == packed.nbytes


# ------------------------------------------------------------------ models


def test_eight_bits_write_the_greedy_text_of_the_plain_cache(small):
    prompt = torch.randint(1024, (1, 20), generator=torch.Generator().manual_seed(0))
    messages = {"max_new_tokens": 200, "do_sample": False, "use_cache": True, "pad_token_id": 0}
    expected = small.generate(prompt, past_key_values=DynamicCache(config=small.config), **messages)
    cache = TurboQuantCache(small.config, bits=8)
    result = small.generate(prompt, past_key_values=cache, **messages)
    assert result.shape == (1, 220)
    assert len(set(result[0, 20:].tolist())) > 20  # a text that could go wrong
    assert torch.equal(result, expected)


def test_eight_bits_predict_as_the_plain_cache_does_where_windows_slide():
    model = built("windowed", context=64)  # windows of 16
    text = torch.randint(1024, (1, 90), generator=torch.Generator().manual_seed(0))
    printed = []
    for cache in (DynamicCache(config=model.config), TurboQuantCache(model.config, bits=8)):
        with torch.inference_mode():
            steps = [
                model(item, past_key_values=cache, use_cache=True) for item in text.split(1, 1)
            ]
        printed.append(torch.cat([step.logits for step in steps], 1))
    assert float((printed[1] - printed[0]).norm() / printed[0].norm()) < 0.03


def test_a_prompt_read_in_chunks_predicts_what_it_does_in_one_pass(small):
    prompt = torch.randint(1024, (2, 48), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        item = small(prompt, past_key_values=TurboQuantCache(small.config, bits=3), use_cache=True)
        cache, parts = TurboQuantCache(small.config, bits=3), []
        for piece in prompt.split(13, 1):
            parts.append(small(piece, past_key_values=cache, use_cache=True).logits)
    # Sums in another order move a coordinate over a boundary now and then; most agree exactly.
    difference = (torch.cat(parts, 1) - item.logits).abs().amax(-1)
    assert float(difference.median()) < 1e-3
    plain = small(prompt).logits.detach()
    assert float((item.logits - plain).abs().amax(-1).median()) > 0.05  # quantized in one pass too


def test_beams_are_searched_as_with_the_plain_cache(small):
    prompt = torch.randint(1024, (2, 12), generator=torch.Generator().manual_seed(2))
    messages = {"max_new_tokens": 20, "num_beams": 3, "do_sample": False, "use_cache": True}
    messages |= {"pad_token_id": 0}
    plain = small.generate(prompt, past_key_values=DynamicCache(config=small.config), **messages)
    ours = TurboQuantCache(small.config, keys="plain", values="plain")
    assert torch.equal(small.generate(prompt, past_key_values=ours, **messages), plain)
    packed = TurboQuantCache(small.config, bits=8)
    assert torch.equal(small.generate(prompt, past_key_values=packed, **messages), plain)


@pytest.mark.cached("smollm2-135m")
def test_smollm2_writes_the_same_text_with_eight_bits():
    """A short text. Longer ones part sooner or later: rows of ``generation`` have the length."""
    from sizewise.models import pretrained

    loaded = pretrained.load("smollm2-135m")
    tokens = loaded.tokenizer("The history of the steam engine", return_tensors="pt")
    messages = {"max_new_tokens": 40, "do_sample": False}
    cache = TurboQuantCache(loaded.model.config, bits=8)
    expected = loaded.model.generate(**tokens, **messages)
    result = loaded.model.generate(**tokens, past_key_values=cache, **messages)
    assert expected.shape[1] > tokens.input_ids.shape[1] + 20  # it has not stopped at once
    assert torch.equal(result, expected)


# ------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"keys": "turbokuant"}, "did you mean 'turboquant'"),
        ({"bits": 5}, "1, 2, 3, 4, 8 bits"),
        ({"keys": ("prod", 8)}, "prod has 1, 2, 3 or 4 bits"),
        ({"residual": -1}, "the residual window"),
        ({"rotation": "hadamart"}, "did you mean 'hadamard'"),
    ],
)
def test_bad_options_are_refused_in_one_line(options, words):
    with pytest.raises(ValueError, match=words) as messages:
        TurboQuantCache(config(), **options)
    assert "\n" not in str(messages.value)


@pytest.mark.parametrize(
    ("family", "fields", "words"),
    [
        ("DeepseekV3Config", {}, "deepseek_v3 keeps a latent vector"),
        ("MambaConfig", {}, "mamba|LinearAttention"),
        ("Qwen3NextConfig", {}, "layer 0 is a LinearAttentionLayer"),
    ],
)
def test_models_that_keep_something_else_are_refused_by_name(family, fields, words):
    import transformers

    with pytest.raises(ValueError, match=words):
        TurboQuantCache(getattr(transformers, family)(num_hidden_layers=4, **fields))


# --- keys with a constant part, plain tokens, large norms


def through(cache, x, chunk=7):
    """What a layer gives back of keys (batch, heads, tokens, d) that come in chunks."""
    for part in x.split(chunk, 2):
        keys, _ = cache.update(part, part, 0)
    return keys


def constant_keys(tokens=96, d=64, size=40.0):
    """Keys that share a part many times longer than what differs, as a bias makes them."""
    draw = torch.Generator().manual_seed(3)
    shared = torch.randn(1, 2, 1, d, generator=draw) * size
    return shared + torch.randn(2, 2, tokens, d, generator=draw)


def llama(**more):
    shape = {"num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2}
    return LlamaConfig(**shape, head_dim=64, hidden_size=128, **more)


def error(keys, x):
    """Squared error over the squared length of what differs from the mean key."""
    return float((keys - x).square().sum() / (x - x.mean(2, keepdim=True)).square().sum())


def test_a_mean_key_taken_out_leaves_the_error_of_what_differs():
    x = constant_keys()
    plain, centered = (
        error(through(TurboQuantCache(llama(), bits=4, center=center), x), x)
        for center in (None, "mean")
    )
    assert plain > 3
    assert centered < 0.02  # 0.0094 of what differs, and what the mean of the first chunk misses


def test_the_rotary_embedding_is_undone_to_what_the_projection_gave():
    """Keys before their rotation, by a hook, against those in the cache turned back."""
    from transformers import LlamaForCausalLM

    torch.manual_seed(0)
    config = llama(vocab_size=64, intermediate_size=64)
    model, observed = LlamaForCausalLM(config).eval(), []
    hook = model.model.layers[0].self_attn.k_proj.register_forward_hook(
        lambda module, inputs, output: observed.append(output)
    )
    cache = DynamicCache(config=config)
    with torch.no_grad():
        model(input_ids=torch.arange(20)[None], past_key_values=cache)
    hook.remove()
    before = observed[0].view(1, 20, 2, 64).transpose(1, 2)
    turned = cache.layers[0].keys
    embedding = rope.of_layer(config, 0)
    assert torch.allclose(embedding.undo(turned, 0), before, atol=1e-5)
    assert torch.allclose(embedding.apply(before, 0), turned, atol=1e-5)
    assert torch.allclose(embedding.undo(turned[:, :, 7:], 7), before[:, :, 7:], atol=1e-5)


@pytest.mark.parametrize("chunk", [1, 7, 96])
def test_a_bias_before_the_rotation_is_found_only_by_undoing_it(chunk):
    x = rope.of_layer(llama(), 0).apply(constant_keys(), 0)
    errors = {}
    for center in ("mean", "rope"):
        cache = TurboQuantCache(llama(), bits=4, center=center)
        errors[center] = float((through(cache, x, chunk) - x).square().mean())
    assert errors["rope"] < 0.05 * errors["mean"]


def test_layers_of_gemma_are_turned_back_by_their_own_base():
    from transformers import Gemma3TextConfig

    config = Gemma3TextConfig(
        num_hidden_layers=2, layer_types=["sliding_attention", "full_attention"], head_dim=64
    )
    assert [rope.of_layer(config, layer).theta for layer in (0, 1)] == [1e4, 1e6]


def test_an_embedding_that_is_not_undone_is_refused():
    scaled = llama(rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4})
    with pytest.raises(ValueError, match="rotary embedding of type 'linear': not undone"):
        TurboQuantCache(scaled, center="rope")
    with pytest.raises(ValueError, match="did you mean 'mean'"):
        TurboQuantCache(llama(), center="men")


@pytest.mark.parametrize("chunk", [1, 5, 40])
def test_first_and_newest_tokens_stay_as_they_are_and_are_counted(chunk):
    x = torch.randn(1, 2, 40, 64, generator=torch.Generator().manual_seed(1))
    cache = TurboQuantCache(llama(), bits=2, sink=4, residual=8, plain="bf16")
    keys = through(cache, x, chunk)
    exact = x.bfloat16().float()
    assert torch.equal(keys[:, :, :4], exact[:, :, :4])
    assert torch.equal(keys[:, :, -8:], exact[:, :, -8:])
    assert not torch.equal(keys[:, :, 4:-8], exact[:, :, 4:-8])
    assert cache.trim().nbytes == 2 * 2 * (12 * 128 + 28 * (16 + 2))


def test_a_window_drops_its_oldest_plain_tokens_too():
    from transformers import Gemma3TextConfig

    config = Gemma3TextConfig(
        num_hidden_layers=1,
        layer_types=["sliding_attention"],
        sliding_window=16,
        head_dim=64,
        num_key_value_heads=2,
    )
    x = torch.randn(1, 2, 60, 64, generator=torch.Generator().manual_seed(1))
    wide, narrow = (TurboQuantCache(config, bits=8, sink=sink, residual=4) for sink in (4, 0))
    assert torch.equal(through(wide, x, 1), through(narrow, x, 1))


@pytest.mark.parametrize("stored", ["turboquant", "kivi", "int8", "fp8"])
def test_norms_past_half_precision_come_back_in_the_middle_of_a_text(stored):
    x = torch.randn(1, 2, 64, 64, generator=torch.Generator().manual_seed(1))
    x[:, :, 40] *= 1e5
    cache = TurboQuantCache(llama(), bits=4, keys=(stored, 4), values=(stored, 4))
    keys = through(cache, x, 8)
    assert torch.isfinite(keys).all()
    apart = ((keys - x) ** 2).sum(-1) / (x**2).sum(-1)
    assert apart[:, :, 40].max() < 0.05
    if stored != "kivi":  # whose 32 tokens share a range
        assert apart.max() < 0.05
