"""The step that is timed: the model's own logits, every weight read, the whole cache."""

import gc
import json
import weakref

import pytest
from device_parts import (  # noqa: F401 - fixtures
    FOUR_BITS,
    QUICK,
    filled,
    the_quick,
    the_tiny,
)
from sizewise.benchmark import decode, model, static_cache

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", ["llama-tiny", "qwen3"])
def test_a_step_gives_the_logits_of_a_plain_pass_over_all_tokens(name, batch, tmp_path):
    if name == "qwen3":  # norms of queries and keys, and heads of another width
        config = {"model_type": "qwen3", "head_dim": 16, "num_attention_heads": 6}
        config = model.COMMON | {"hidden_size": 64, "intermediate_size": 96} | config
        path = tmp_path / "config.json"
        path.write_text(json.dumps(config | {"num_hidden_layers": 3}))
        name = str(path)
    item = model.build(name, "fp32", "cpu")
    for number, gain in enumerate(item.model.parameters()):
        if gain.ndim == 1:  # norms of many gains, so that each must be in its place
            gain.data.mul_(torch.linspace(0.5, 1.5, len(gain)) + 0.01 * number)
    step = decode.prepared(item, "static", batch, 17)[0]
    tokens = torch.randint(item.config.vocab_size, (batch, 17))
    filled(item, step.cache, tokens[:, :-1])
    with torch.inference_mode():
        wanted = item.model(tokens, use_cache=False).logits[:, -1]  # still transformers' attention
    static_cache.use(item.config)
    step.tokens.copy_(tokens[:, -1:])
    step()
    torch.testing.assert_close(step.logits[:, -1], wanted, rtol=1e-4, atol=1e-4)
    assert step.tokens[:, 0].tolist() == wanted.argmax(-1).tolist()


def test_an_eager_step_in_use_holds_its_cache_once(tiny):
    eager, _ = decode.prepared(tiny, "eager", 1, 9)
    eager()
    stored = [weakref.ref(keys) for keys, _ in eager.before]
    eager.in_use()
    gc.collect()
    assert not any(item() is not None for item in stored)
    assert eager.cache.get_seq_length() == 9


def test_an_eager_step_gives_the_logits_of_the_static_one_and_forgets_its_token(tiny):
    eager, _ = decode.prepared(tiny, "eager", 2, 9)
    eager()
    tokens = torch.randint(tiny.config.vocab_size, (2, 1))
    eager.tokens.copy_(tokens)
    eager()
    assert eager.cache.get_seq_length() == 8
    static, _ = decode.prepared(tiny, "static", 2, 9)
    for layer, (keys, values) in enumerate(eager.before):
        static.cache.keys[layer][:, :, :-1].copy_(keys)
        static.cache.values[layer][:, :, :-1].copy_(values)
    static.tokens.copy_(tokens)
    static()
    torch.testing.assert_close(eager.logits, static.logits, rtol=1e-4, atol=1e-4)


def test_a_prompt_is_read_as_transformers_reads_it(tiny):
    tokens = torch.randint(tiny.config.vocab_size, (2, 12))
    tiny.config._attn_implementation = "eager"
    with torch.inference_mode():
        wanted = tiny.model(tokens, use_cache=False).logits
    static_cache.use(tiny.config)
    cache = static_cache.Static(tiny.config, 2, 12, torch.float32, "cpu")
    with torch.inference_mode():
        result = tiny.model(tokens, past_key_values=cache, position_ids=torch.arange(12)[None])
    torch.testing.assert_close(result.logits, wanted, rtol=1e-4, atol=1e-4)


def test_a_step_reads_every_weight_and_the_whole_cache():
    item = model.build("llama-tiny", "fp32", "cpu")
    step, _ = decode.prepared(item, "static", 1, 8)
    caches = [(f"cache {i}", one_cache) for i, one_cache in enumerate(step.cache.keys)]
    caches += [(f"values {i}", one_cache) for i, one_cache in enumerate(step.cache.values)]
    everything = dict([*item.model.named_parameters(), *caches])
    retained = {
        name: tensor.data[(0,) * tensor.ndim].clone() for name, tensor in everything.items()
    }

    def logits():
        step.tokens.zero_()
        step()
        return step.logits.clone()

    before = logits()
    assert torch.equal(logits(), before)
    for name, tensor in everything.items():
        if "embed" in name:  # tied here, so that the head reads all of it
            assert item.model.lm_head.weight is tensor
        position = (0,) * tensor.ndim
        tensor.data[position] += 1
        assert not torch.equal(logits(), before), name
        tensor.data[position] = retained[name]
    assert torch.equal(logits(), before)


def test_a_step_that_is_not_finite_is_not_recorded():
    item = model.build("llama-tiny", "fp32", "cpu")
    item.model.model.norm.weight.data[0] = float("inf")
    with pytest.raises(ValueError, match="not finite"):
        decode.decode(item, "static", 1, 4, **QUICK)


def test_a_mask_or_a_part_of_a_prompt_is_refused():
    q = torch.zeros(1, 4, 2, 8)
    with pytest.raises(ValueError, match="without a mask"):
        static_cache.attend(None, q, torch.zeros(1, 2, 5, 8), torch.zeros(1, 2, 5, 8))


@pytest.mark.parametrize(
    ("mode", "batch", "context", "words"),
    [
        ("grapf", 1, 8, "did you mean 'graph'"),
        ("static", 0, 8, "batch"),
        ("eager", 1, 1, "context"),
    ],
)
def test_bad_requests_are_named(tiny, mode, batch, context, words):
    with pytest.raises(ValueError, match=words):
        decode.decode(tiny, mode, batch, context, **QUICK)


def test_a_graph_needs_a_gpu_and_says_so(tiny):
    with pytest.raises(decode.NotCaptured, match="GPU"):
        decode.prepared(tiny, "graph", 1, 8)
