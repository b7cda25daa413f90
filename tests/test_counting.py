"""Counts against published totals, numbers worked by hand, and full builds of the same classes."""

import json
import resource
import sys
from functools import cache

import pytest
from conftest import run_python
from hypothesis import given, settings
from hypothesis import strategies as st
from sizewise.costs import memory
from sizewise.data import catalog
from sizewise.models import config as configs
from sizewise.models import parameters

ENTRIES = catalog.models()
# The 2,048 experts a layer of Switch-C are modules of their own, and take minutes to build.
BUILT = [  # entries with tensors have no class: the checkpoint's own list stands for it
    pytest.param(n, marks=pytest.mark.slow) if n == "switch-c-2048" else n
    for n, entry in ENTRIES.items()
    if not entry.tensors
]
EXACT = [name for name, entry in ENTRIES.items() if entry.exact]
GIB = 2**30


@cache
def counted(name):
    return parameters.count(name)


def spec(model_type, **fields):
    return configs.Spec(model_type, {"model_type": model_type, **fields})


def fully_built(config):
    """The model with every layer built, by the class that `transformers` chooses."""
    import torch
    import transformers

    with torch.device("meta"):
        return transformers.AutoModelForCausalLM.from_config(configs.build(config))


def built_total(model):
    return sum(tensor.numel() for _, tensor in model.named_parameters())


class TestCatalogue:
    @pytest.mark.parametrize("name", EXACT)
    def test_count_equals_the_published_total(self, name):
        assert counted(name).total == ENTRIES[name].published_total

    @pytest.mark.parametrize("name", ENTRIES)
    def test_count_agrees_with_the_independent_first_count(self, name):
        count = counted(name).as_dict()
        stated = dict(ENTRIES[name].counted)
        cache = stated.pop("kv_bytes_per_token")  # by hand, from the shapes
        assert {field: count[field] for field in stated} == stated
        assert memory.kv_bytes_per_token(parameters.describe(name)) == cache

    @pytest.mark.parametrize("name", BUILT)
    def test_what_is_stored_is_what_the_class_gives(self, name):
        entry = ENTRIES[name]
        notes = (catalog.TEXT_ONLY,) if entry.text_only else ()
        spec = configs.Spec(name, dict(entry.config), notes=notes)
        assert parameters.describe(spec) == parameters.describe(name)
        fresh, stored = parameters.count(spec), parameters.count(name)
        assert fresh == stored

    @pytest.mark.parametrize("name", ENTRIES)
    def test_parts_sum_to_the_whole(self, name):
        count = counted(name)
        assert sum(count.by_kind.values()) == count.total
        assert sum(map(sum, count.layers.values())) < count.total
        assert count.non_embedding + count.embedding_and_head == count.total
        assert (count.routed > 0) == bool(count.experts)

    def test_building_leaves_the_catalogue_as_it_was(self):
        before = json.dumps({name: entry.config for name, entry in ENTRIES.items()})
        for name, entry in ENTRIES.items():
            if not entry.tensors:
                configs.build(name)
        assert json.dumps({name: entry.config for name, entry in ENTRIES.items()}) == before


# Every matrix and vector written out: V vocabulary, d width, L layers, h heads, g heads that hold
# keys and values, a size of a head, m inner width, E experts of which k see a token.


def llama(V, d, L, h, g, a, m, tied):
    attention = d * h * a + 2 * d * g * a + h * a * d  # q, k and v, o
    mlp = 3 * d * m  # gate, up, down
    norms = 2 * d
    head = 0 if tied else V * d
    return V * d + L * (attention + mlp + norms) + d + head


def mixtral(V, d, L, h, g, a, m, E, k):
    attention = d * h * a + 2 * d * g * a + h * a * d
    expert, router, norms = 3 * d * m, d * E, 2 * d
    outside = V * d + L * (attention + router + norms) + d + V * d
    return outside + L * E * expert, outside + L * k * expert


LLAMA = {
    "model_type": "llama",
    "vocab_size": 1009,
    "hidden_size": 90,
    "num_hidden_layers": 5,
    "num_attention_heads": 6,
    "num_key_value_heads": 3,
    "head_dim": 14,
    "intermediate_size": 211,
}


class TestUnseenConfigurations:
    """Configurations with odd sizes, so that no two dimensions can be mistaken for one another."""

    @pytest.fixture
    def check(self, tmp_path):
        def verify(total, active=None, **fields):
            file = tmp_path / "config.json"
            file.write_text(json.dumps(fields))
            count = parameters.count(file)
            assert count.total == total
            assert count.total == built_total(fully_built(configs.load(file)))
            assert count.active == (total if active is None else active)
            assert count.model_type == fields["model_type"]
            return count

        return verify

    def test_llama_with_a_head_of_its_own(self, check):
        total = llama(V=1009, d=90, L=5, h=6, g=3, a=14, m=211, tied=False)
        count = check(total, **LLAMA, tie_word_embeddings=False)
        assert not count.tied
        assert count.by_kind == {
            "mlp": 5 * 3 * 90 * 211,
            "attention": 5 * (2 * 90 * 6 * 14 + 2 * 90 * 3 * 14),
            "input embedding": 1009 * 90,
            "output head": 1009 * 90,
            "norm": (2 * 5 + 1) * 90,
        }
        assert len(count.layers["model.layers"]) == count.depth == 5
        assert set(count.layers["model.layers"]) == {(total - 2 * 1009 * 90 - 90) // 5}

    def test_llama_with_a_tied_head(self, check):
        total = llama(V=1009, d=90, L=5, h=6, g=3, a=14, m=211, tied=True)
        count = check(total, **LLAMA, tie_word_embeddings=True)
        assert count.tied
        assert count.embedding == count.embedding_and_head == 1009 * 90
        assert count.active_without_input_embedding == count.active  # the head multiplies with it

    def test_llama_with_biases(self, check):
        total = llama(V=1009, d=90, L=5, h=6, g=3, a=14, m=211, tied=False)
        biases = 5 * (6 * 14 + 2 * 3 * 14 + 90) + 5 * (2 * 211 + 90)
        check(total + biases, **LLAMA, attention_bias=True, mlp_bias=True)

    def test_gpt2_with_biases_and_positions(self, check):
        V, P, d, L = 503, 130, 36, 4
        layer = 2 * d + (d * 3 * d + 3 * d) + (d * d + d) + 2 * d  # norm, qkv, output, norm
        layer += d * 4 * d + 4 * d + 4 * d * d + d
        count = check(
            V * d + P * d + L * layer + 2 * d,
            model_type="gpt2",
            vocab_size=V,
            n_positions=P,
            n_embd=d,
            n_layer=L,
            n_head=6,
        )
        assert count.tied
        assert count.embedding == V * d
        assert count.embedding_and_head == (V + P) * d

    def test_mixtral_total_and_active(self, check):
        total, active = mixtral(V=701, d=48, L=3, h=4, g=2, a=12, m=70, E=7, k=3)
        count = check(
            total,
            active,
            model_type="mixtral",
            vocab_size=701,
            hidden_size=48,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
            intermediate_size=70,
            num_local_experts=7,
            num_experts_per_tok=3,
            tie_word_embeddings=False,
        )
        assert (count.experts, count.experts_per_token) == (7, 3)
        assert count.routed == count.by_kind["routed experts"] == 3 * 7 * 3 * 48 * 70
        assert count.by_kind["router"] == 3 * 48 * 7

    def test_qwen3_moe_with_dense_layers_in_between(self, check):
        V, d, L, h, g, a, m, E, k, w = 307, 72, 7, 6, 2, 16, 150, 9, 2, 20
        sparse = [1, 5]  # every second layer, but the fourth is on the list of dense ones
        layer = 2 * d * h * a + 2 * d * g * a + 2 * a + 2 * d  # with norms of queries and keys
        dense, router, expert = 3 * d * m, d * E, 3 * d * w
        outside = 2 * V * d + L * layer + (L - len(sparse)) * dense + len(sparse) * router + d
        check(
            outside + len(sparse) * E * expert,
            outside + len(sparse) * k * expert,
            model_type="qwen3_moe",
            vocab_size=V,
            hidden_size=d,
            num_hidden_layers=L,
            num_attention_heads=h,
            num_key_value_heads=g,
            head_dim=a,
            intermediate_size=m,
            moe_intermediate_size=w,
            num_experts=E,
            num_experts_per_tok=k,
            decoder_sparse_step=2,
            mlp_only_layers=[3],
            tie_word_embeddings=False,
        )

    def test_deepseek_v3_with_latent_attention_shared_experts_and_dense_first_layers(self, check):
        V, d, L, h, m, E, k, w, shared, first = 211, 80, 5, 4, 176, 12, 3, 24, 2, 2
        q, c, nope, rope, v = 40, 28, 12, 8, 10  # ranks of queries and of keys and values; sizes
        attention = d * q + q + q * h * (nope + rope)  # down, norm, up
        attention += d * (c + rope) + c + c * h * (nope + v)
        attention += h * v * d
        dense, expert = 3 * d * m, 3 * d * w
        sparse = d * E + shared * expert  # the router's correction bias is a buffer
        outside = 2 * V * d + L * (attention + 2 * d) + first * dense + (L - first) * sparse + d
        count = check(
            outside + (L - first) * E * expert,
            outside + (L - first) * k * expert,
            model_type="deepseek_v3",
            vocab_size=V,
            hidden_size=d,
            num_hidden_layers=L,
            num_attention_heads=h,
            num_key_value_heads=h,
            intermediate_size=m,
            moe_intermediate_size=w,
            n_routed_experts=E,
            n_shared_experts=shared,
            num_experts_per_tok=k,
            n_group=4,
            topk_group=2,
            first_k_dense_replace=first,
            q_lora_rank=q,
            kv_lora_rank=c,
            qk_nope_head_dim=nope,
            qk_rope_head_dim=rope,
            v_head_dim=v,
        )
        assert count.by_kind["shared experts"] == (L - first) * shared * expert
        assert count.buffers == (L - first) * E

    def test_mamba2_without_attention(self, check):
        V, d, L, state, groups, heads, size, kernel = 301, 96, 3, 16, 2, 8, 24, 4
        inner = heads * size
        mixed = inner + 2 * groups * state  # what the convolution runs over: x, B, C
        layer = d + d * (inner + mixed + heads)  # norm; gate, x, B, C and step size
        layer += mixed * kernel + mixed + 3 * heads  # convolution; A, D, step bias
        layer += inner + inner * d
        count = check(
            V * d + L * layer + d + V * d,
            model_type="mamba2",
            vocab_size=V,
            hidden_size=d,
            num_hidden_layers=L,
            state_size=state,
            expand=2,
            head_dim=size,
            num_heads=heads,
            n_groups=groups,
            conv_kernel=kernel,
            tie_word_embeddings=False,
        )
        assert count.by_kind["state space"] == L * (layer - d - inner)
        assert "attention" not in count.by_kind

    def test_gemma3_with_four_norms_and_tied_embeddings(self, check):
        V, d, L, h, g, a, m = 401, 60, 7, 5, 1, 16, 130
        layer = 2 * d * h * a + 2 * d * g * a + 2 * a + 3 * d * m + 4 * d
        count = check(
            V * d + L * layer + d,
            model_type="gemma3_text",
            vocab_size=V,
            hidden_size=d,
            num_hidden_layers=L,
            num_attention_heads=h,
            num_key_value_heads=g,
            head_dim=a,
            intermediate_size=m,
        )
        assert count.tied

    def test_jamba_with_both_kinds_of_mixer_and_experts_in_some_layers(self, check):
        V, d, L, h, g, m, E, k, n, kernel, rank = 203, 64, 9, 4, 2, 112, 5, 2, 8, 3, 5
        attention_in = [i for i in range(L) if i % 4 == 1]
        sparse_in = [i for i in range(L) if i % 3 == 1]
        inner = 2 * d
        mamba = d * 2 * inner + inner * kernel + inner  # projection, convolution
        mamba += inner * (rank + 2 * n) + rank * inner + inner + rank + 2 * n  # step, B, C; norms
        mamba += inner * n + inner + inner * d  # A, D, output
        attention = 2 * d * d + 2 * d * g * (d // h)
        mlp = 3 * d * m
        outside = 2 * V * d + d + L * 2 * d + len(sparse_in) * d * E
        outside += len(attention_in) * attention + (L - len(attention_in)) * mamba
        outside += (L - len(sparse_in)) * mlp
        check(
            outside + len(sparse_in) * E * mlp,
            outside + len(sparse_in) * k * mlp,
            model_type="jamba",
            vocab_size=V,
            hidden_size=d,
            num_hidden_layers=L,
            num_attention_heads=h,
            num_key_value_heads=g,
            intermediate_size=m,
            num_experts=E,
            num_experts_per_tok=k,
            attn_layer_period=4,
            attn_layer_offset=1,
            expert_layer_period=3,
            expert_layer_offset=1,
            mamba_d_state=n,
            mamba_d_conv=kernel,
            mamba_expand=2,
            mamba_dt_rank=rank,
            tie_word_embeddings=False,
        )

    def test_active_is_unknown_where_no_experts_per_token_are_stated(self):
        count = parameters.count(spec("mixtral", num_hidden_layers=2, num_experts_per_tok=0))
        assert count.routed > 0
        assert count.active is None
        assert count.active_without_input_embedding is None

    def test_switch_transformers_sends_a_token_to_one_expert(self):
        count = parameters.count(spec("switch_transformers", num_experts=4, num_layers=4))
        assert (count.experts, count.experts_per_token) == (4, 1)
        assert count.total - count.active == count.routed * 3 // 4

    def test_the_class_that_the_configuration_names_is_counted(self):
        fields = {k: v for k, v in LLAMA.items() if k != "model_type"}
        without_head = parameters.count(spec("llama", **fields, architectures=["LlamaModel"]))
        assert without_head.built_as == "LlamaModel"
        assert without_head.total == parameters.count(spec("llama", **fields)).total - 1009 * 90

    @pytest.mark.parametrize(
        "named", [["GPT2LMHeadModel"], ["os"], ["NoSuchModel"], [None], 5, "x"]
    )
    def test_a_class_of_another_configuration_is_not_used(self, named):
        fields = {k: v for k, v in LLAMA.items() if k != "model_type"}
        assert parameters.count(spec("llama", **fields, architectures=named)).built_as == (
            "LlamaForCausalLM"
        )

    def test_a_model_of_images_is_counted_though_it_takes_no_tokens(self):
        count = parameters.count(spec("clip"))
        assert count.total == 151_277_313  # openai/clip-vit-base-patch32
        assert not count.tied
        assert count.embedding == 0


class TestSizes:
    @pytest.mark.skipif(sys.platform != "linux", reason="reads the peak from /proc")
    def test_a_trillion_parameters_are_counted_within_a_gigabyte_of_memory(self):
        # Not ru_maxrss: it survives exec, so a child starts with the peak of the tests before it.
        code = (
            "from pathlib import Path; from sizewise.models import config, parameters; "
            "spec = config.Spec('k2', config.load('kimi-k2').fields); "
            "total = parameters.count(spec).total; "
            "peak = [line for line in Path('/proc/self/status').read_text().splitlines() "
            "if line.startswith('VmHWM')]; print(total, peak[0].split()[1])"
        )
        process = run_python("-c", code)
        assert process.returncode == 0, process.stderr
        total, kibibytes = map(int, process.stdout.split())
        assert total == ENTRIES["kimi-k2"].counted["total"] > 10**12
        assert kibibytes * 1024 < GIB

    def test_two_thousand_layers_are_counted_like_any_others(self):
        fields = LLAMA | {"num_hidden_layers": 2_000, "tie_word_embeddings": False}
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        count = parameters.count(configs.Spec("deep", fields))
        assert count.total == llama(V=1009, d=90, L=2_000, h=6, g=3, a=14, m=211, tied=False)
        assert count.depth == 2_000
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        assert grown * (1 if sys.platform == "darwin" else 1024) < GIB

    def test_widths_of_a_million_cost_no_memory(self):
        d, m, V = 2**22, 2**24, 2**20
        count = parameters.count(
            spec(
                "llama",
                hidden_size=d,
                intermediate_size=m,
                vocab_size=V,
                num_hidden_layers=2,
                num_attention_heads=2**12,
            )
        )
        assert count.total == llama(V=V, d=d, L=2, h=2**12, g=2**12, a=2**10, m=m, tied=False)


shapes = st.fixed_dictionaries(
    {
        "V": st.integers(2, 2000),
        "L": st.integers(1, 40),
        "g": st.integers(1, 6),
        "group": st.integers(1, 4),
        "a": st.sampled_from([2, 4, 6, 10, 64]),
        "m": st.integers(1, 500),
    }
)


class TestProperties:
    @settings(max_examples=100, deadline=None)
    @given(shapes, st.integers(1, 30), st.booleans())
    def test_llama_counts_are_the_formula(self, shape, width, tied):
        heads = shape["g"] * shape["group"]
        d = heads * width  # transformers wants a multiple of the heads, not of their size
        count = parameters.count(
            spec(
                "llama",
                vocab_size=shape["V"],
                hidden_size=d,
                num_hidden_layers=shape["L"],
                num_attention_heads=heads,
                num_key_value_heads=shape["g"],
                head_dim=shape["a"],
                intermediate_size=shape["m"],
                tie_word_embeddings=tied,
            )
        )
        assert count.total == llama(
            shape["V"], d, shape["L"], heads, shape["g"], shape["a"], shape["m"], tied
        )
        assert count.active == count.total
        assert count.tied == tied
        without = count.active if tied else count.active - shape["V"] * d
        assert count.active_without_input_embedding == without
        assert count.embedding == shape["V"] * d

    @settings(max_examples=100, deadline=None)
    @given(shapes, st.integers(1, 30), st.booleans(), st.integers(1, 40), st.data())
    def test_mixtral_counts_are_the_formula(self, shape, width, tied, experts, data):
        used = data.draw(st.integers(1, experts))
        heads = shape["g"] * shape["group"]
        d, V = heads * width, shape["V"]
        count = parameters.count(
            spec(
                "mixtral",
                vocab_size=V,
                hidden_size=d,
                num_hidden_layers=shape["L"],
                num_attention_heads=heads,
                num_key_value_heads=shape["g"],
                head_dim=shape["a"],
                intermediate_size=shape["m"],
                tie_word_embeddings=tied,
                num_local_experts=experts,
                num_experts_per_tok=used,
            )
        )
        total, active = mixtral(
            V, d, shape["L"], heads, shape["g"], shape["a"], shape["m"], experts, used
        )
        head = V * d if tied else 0  # the formula has one of its own
        assert count.total == total - head
        assert count.active == active - head
        assert count.active <= count.total
        assert (count.active == count.total) == (used == experts)
        without = count.active if tied else count.active - V * d
        assert count.active_without_input_embedding == without
