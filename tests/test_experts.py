"""Mixtures of experts: what serving touches, reads and sends; how the laboratory trains them."""

import dataclasses
import json
import math
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sizewise import paths
from sizewise.costs import expert_serving, memory, roofline
from sizewise.data import catalog, records
from sizewise.models import config as configs
from sizewise.models import parameters
from sizewise.training import (
    batches,
    capacity,
    flops,
    load_balancing,
    loop,
    models,
    routing,
    routing_metrics,
    run_config,
    token_source,
)
from sizewise.training import tokenizer as token_files

sys.path.insert(0, str(paths.root() / "scripts"))
import moe

torch.set_num_threads(1)
SPARSE = [name for name, one in catalog.models().items() if one.counted.get("routed")]
# Experts, experts a token and layers that have them, as the vendors' reports state them.
SHAPES = {
    "mixtral-8x7b": (8, 2, 32),
    "qwen3-30b-a3b": (128, 8, 48),
    "qwen3-235b-a22b": (128, 8, 94),
    "deepseek-v3": (256, 8, 58),
    "kimi-k2": (384, 8, 60),
    "gpt-oss-120b": (128, 4, 36),
    "olmoe-1b-7b": (64, 8, 16),
    "grok-1": (8, 2, 64),
    "llama-4-scout": (16, 1, 48),
    "glm-4.5-air": (128, 8, 45),
}


@pytest.fixture(scope="module")
def mixtral():
    return expert_serving.sparse("mixtral-8x7b")


@pytest.fixture(scope="module")
def deepseek():
    return expert_serving.sparse("deepseek-v3")


# --- shapes


@pytest.mark.parametrize("name", SPARSE)
def test_counts_of_sparse_models_are_those_of_an_independent_count(name):
    found, first = expert_serving.sparse(name), catalog.model(name).counted
    assert found.count.total == first["total"]
    assert found.count.active == first["active"]
    assert found.count.routed == first["routed"]
    assert round(found.active) == pytest.approx(first["active_without_input_embedding"], abs=1)


@pytest.mark.parametrize("name", ["glm-4.7-flash", "minimax-m2", "switch-base-128"])
def test_so_are_totals_where_only_those_were_counted(name):
    assert expert_serving.sparse(name).count.total == catalog.model(name).counted["total"]


@pytest.mark.parametrize(("name", "shape"), SHAPES.items())
def test_experts_and_their_layers_are_the_published_ones(name, shape):
    found = expert_serving.sparse(name)
    assert (found.experts, found.used, found.layers) == shape


def test_parts_of_mixtral_are_what_its_shape_gives_by_hand(mixtral):
    assert mixtral.expert == 3 * 4096 * 14336
    assert mixtral.count.by_kind["router"] == 32 * 8 * 4096
    assert mixtral.always == 46_702_792_704 - 32 * 8 * 3 * 4096 * 14336 - 32_000 * 4096
    assert mixtral.geometric_mean**2 == pytest.approx(mixtral.active * mixtral.total)


@pytest.mark.parametrize("tokens", [1, 7, 300])
def test_what_a_step_reads_is_what_the_roofline_reads_less_the_rows_looked_up(mixtral, tokens):
    rows = min(mixtral.model.lookup, tokens * mixtral.hidden)
    expected = roofline.touched_parameters(mixtral.model, tokens) - rows
    assert mixtral.read(tokens) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("name", "message"), [("llama-3.1-8b", "no routed experts"), ("mixtrall", "mixtral-8x7b")]
)
def test_what_is_no_sparse_model_is_refused(name, message):
    with pytest.raises(ValueError, match=message):
        expert_serving.sparse(name)


# --- experts touched


def by_enumeration(number, used, tokens):
    """Mean and variance of the distinct experts over every way to choose, by brute force."""
    from itertools import combinations, product

    sets = list(combinations(range(number), used))
    sizes = [len(set().union(*map(set, way))) for way in product(sets, repeat=tokens)]
    return np.mean(sizes), np.var(sizes)


@pytest.mark.parametrize(("number", "used", "tokens"), [(4, 2, 3), (5, 1, 4), (3, 3, 2), (5, 2, 3)])
def test_mean_and_spread_are_those_of_every_way_to_choose(number, used, tokens):
    mean, variance = by_enumeration(number, used, tokens)
    assert roofline.expected_experts(number, used, tokens) == pytest.approx(mean)
    assert expert_serving.spread(number, used, tokens) ** 2 == pytest.approx(variance, abs=1e-9)
    even = np.full(number, 1 / number)
    assert expert_serving.touched(even, used, tokens) == pytest.approx(mean)


@pytest.mark.parametrize("shape", sorted({SHAPES[name][:2] for name in SHAPES}))
@pytest.mark.parametrize("tokens", [1, 8, 64])
def test_the_expectation_agrees_with_simulation_for_every_published_shape(shape, tokens):
    number, used = shape
    repeats = 300
    found = expert_serving.simulated(
        np.full(number, 1 / number), used, tokens, repeats, seed=tokens
    )
    error = expert_serving.spread(number, used, tokens) / math.sqrt(repeats)
    off = found.mean() - roofline.expected_experts(number, used, tokens)
    assert abs(off) <= 3.5 * error + 1e-9
    if error > 0.02:
        assert found.std() == pytest.approx(expert_serving.spread(number, used, tokens), rel=0.25)


@pytest.mark.parametrize("shape", [(8, 2), (64, 8), (256, 8)])
def test_so_does_the_expectation_under_unequal_loads(shape):
    number, used = shape
    loads = expert_serving.zipf(number, 1.0, used)
    found = expert_serving.simulated(loads, used, 16, 400)
    error = found.std() / math.sqrt(len(found))
    assert abs(found.mean() - expert_serving.touched(loads, used, 16)) <= 3.5 * error


@given(st.integers(2, 40), st.floats(0, 3), st.integers(1, 50), st.data())
def test_even_loads_reach_the_most_experts(number, exponent, tokens, data):
    used = data.draw(st.integers(1, number))
    loads = expert_serving.zipf(number, exponent, used)
    assert loads.sum() == pytest.approx(1)
    assert loads.max() <= 1 / used + 1e-12
    reached = expert_serving.touched(loads, used, tokens)
    assert reached <= roofline.expected_experts(number, used, tokens) + 1e-9
    assert reached >= used - 1e-9


def test_unequal_loads_by_hand():
    # One token in two uses the first expert, none the last: 1 - 1/4, twice 1 - (3/4)^2, and 0.
    assert expert_serving.touched([0.5, 0.25, 0.25, 0], 1, 2) == pytest.approx(0.75 + 2 * 7 / 16)


@pytest.mark.parametrize(
    ("loads", "used", "message"),
    [
        ([0.5, 0.6], 1, "sum to 1"),
        ([0.9, 0.1], 2, "over 1 / 2"),
        ([1.5, -0.5], 1, "shares"),
        ([0.5, 0.5], 3, "experts a token"),
    ],
)
def test_loads_that_are_none_are_refused(loads, used, message):
    with pytest.raises(ValueError, match=message):
        expert_serving.touched(loads, used, 4)


# --- devices


def test_memory_by_expert_parallel_degree_by_hand(mixtral):
    expert, rest = 32 * 3 * 4096 * 14336, 46_702_792_704 - 45_097_156_608
    assert expert_serving.device_bytes(mixtral, 1) == memory.weights_bytes(mixtral.count.total)
    assert expert_serving.device_bytes(mixtral, 8) == 2 * (expert + rest)
    assert expert_serving.device_bytes(mixtral, 3) == 2 * (
        3 * expert + rest
    )  # 8 experts: 3, 3 and 2
    assert expert_serving.device_bytes(mixtral, 8, "fp8", tensor=8) == expert + rest // 8
    assert expert_serving.least_degree(mixtral, 2 * (2 * expert + rest)) == 4
    assert expert_serving.least_degree(mixtral, 2 * rest) is None
    assert expert_serving.least_degree(mixtral, 2 * (2 * expert + rest / 4) + 1, tensor=8) == 4
    with pytest.raises(ValueError, match="expert parallel"):
        expert_serving.device_bytes(mixtral, 9)


def test_devices_that_a_token_is_sent_to_are_those_of_every_choice(mixtral):
    from itertools import combinations

    where = [{one // 2 for one in pair} for pair in combinations(range(8), 2)]  # 4 devices
    expected = np.mean([len(one) for one in where])
    assert expert_serving.devices_reached(mixtral, 4) == pytest.approx(expected)
    assert expert_serving.devices_reached(mixtral, 8) == pytest.approx(2)
    assert expert_serving.devices_reached(mixtral, 1) == 1
    with pytest.raises(ValueError, match="8 experts do not divide among 3 devices"):
        expert_serving.devices_reached(mixtral, 3)


def test_bytes_of_the_all_to_all_by_hand(deepseek):
    # One expert a device: 8 copies of 7,168 values, of which 255/256 leave the device.
    everywhere = 8 * 7168 * 255 / 256
    assert expert_serving.all_to_all_bytes(deepseek, 256) == pytest.approx(everywhere * 4)
    assert expert_serving.all_to_all_bytes(deepseek, 256, there=8) == pytest.approx(everywhere * 3)
    assert expert_serving.all_to_all_bytes(deepseek, 1) == 0
    few = expert_serving.all_to_all_bytes(deepseek, 8)
    assert few < expert_serving.all_to_all_bytes(deepseek, 8, once=False) == 8 * 7168 * 7 / 8 * 4


# --- sparse against dense


def test_crossings_are_those_of_a_plain_loop(mixtral):
    device = catalog.device("H100")
    found = expert_serving.against(mixtral, mixtral.geometric_mean, device, "fp8", "bf16")

    def seconds(read, multiplied, batch):
        arithmetic = 2 * multiplied * batch / device.flops["bf16"]
        return max(read / device.bandwidth, arithmetic) / batch

    size = mixtral.geometric_mean
    ratios = {
        b: seconds(mixtral.read(b), mixtral.active, b) / seconds(size, size, b)
        for b in range(1, 3000)
    }
    dearer = [b for b, ratio in ratios.items() if ratio > 1 + 1e-9]
    assert (found.first, found.last) == (dearer[0], dearer[-1])
    assert found.most == pytest.approx(max(ratios.values()))
    assert found.worst == max(ratios, key=ratios.get)


@pytest.mark.parametrize("name", ["mixtral-8x7b", "deepseek-v3", "gpt-oss-120b"])
def test_a_sparse_model_costs_no_less_than_its_active_and_no_more_than_its_total_size(name):
    model, device = expert_serving.sparse(name), catalog.device("H100")
    small, large = (expert_serving.against(model, n, device) for n in (model.active, model.total))
    assert small.first == 2  # one token reads what the dense one reads
    assert small.most > 1
    assert large.first is None
    assert large.most <= 1 + 1e-9


def test_a_dense_model_of_no_size_is_refused(mixtral):
    with pytest.raises(ValueError, match="dense parameters"):
        expert_serving.against(mixtral, 0, catalog.device("H100"))


# --- the laboratory's mixtures


def test_the_default_mixture_is_what_it_was_before_it_had_options():
    fields = models.spec("moe", 32).fields
    assert fields == {
        "hidden_size": 32,
        "vocab_size": 1024,
        "max_position_embeddings": 128,
        "tie_word_embeddings": False,
        "use_cache": False,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
        "model_type": "qwen3_moe",
        "intermediate_size": 80,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "num_experts": 8,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 40,
        "norm_topk_prob": True,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
    }
    assert models.Mixture().name == "moe"
    assert run_config.at_budget(1e9, 32, "moe").family == "moe"


@settings(max_examples=30)
@given(
    st.builds(
        models.Mixture,
        experts=st.integers(1, 64),
        used=st.integers(1, 8),
        shared=st.integers(0, 1),
        wide=st.integers(1, 4),
        balance=st.sampled_from([0.0, 0.001, 0.01]),
    )
)
def test_a_mixture_is_read_from_its_name(mixture):
    assert models.Mixture.of(mixture.name) == mixture


@pytest.mark.parametrize(
    ("family", "message"),
    [
        ("moe:expert=4", "did you mean 'experts'"),
        ("moe:experts=four", "must be a number"),
        ("moe:experts=1", "experts a token"),
        ("dense:experts=4", "unknown family"),
        ("moe:used=7", "does not divide into 7"),
        ("moe:used=1,shared=1", "learns nothing"),
        ("moe:balance=-1", "balance"),
        ("moe:shared=2", "shared experts"),
    ],
)
def test_a_mixture_that_cannot_be_is_refused(family, message):
    with pytest.raises(ValueError, match=message):
        models.spec(family, 32)


def mixed(**options):
    return models.Mixture(**options).name


def test_what_a_token_uses_stays_the_same_whatever_the_mixture():
    mixtures = [
        {"experts": 1, "used": 1},
        {},
        {"experts": 64},
        {"experts": 32, "used": 8},
        {"experts": 15, "used": 3, "shared": 1},
    ]
    for options in mixtures:
        found = parameters.count(models.spec(mixed(**options), 24))
        used = found.active - found.by_kind["router"]
        assert used == parameters.count(models.spec("moe", 24)).active - 8 * 24 * 2
    sparse, dense = (
        parameters.count(models.spec(mixed(**one), 24))
        for one in ({}, {"experts": 1, "used": 1, "wide": 4})
    )
    assert sparse.total - dense.total == (8 - 1) * 24 * 2  # the routers


def test_one_expert_is_a_dense_model():
    from transformers import AutoModelForCausalLM, Qwen3Config

    spec = models.spec(mixed(experts=1, used=1), 24)
    ours = models.build(spec, 0)
    fields = {k: v for k, v in spec.fields.items() if "expert" not in k and k != "model_type"}
    dense = AutoModelForCausalLM.from_config(Qwen3Config(**fields), dtype=torch.float32)
    state = {}
    for name, weight in ours.state_dict().items():
        if name.endswith("experts.gate_up_proj"):
            gate, up = weight[0].chunk(2)
            prefix = name.removesuffix("experts.gate_up_proj")
            state |= {prefix + "gate_proj.weight": gate, prefix + "up_proj.weight": up}
        elif name.endswith("experts.down_proj"):
            state[name.replace("experts.down_proj", "down_proj.weight")] = weight[0]
        elif not name.endswith("gate.weight"):
            state[name] = weight
    dense.load_state_dict(state)
    ids = torch.randint(0, 1024, (2, 32))
    found, expected = (m.eval().base_model(ids)[0] for m in (ours, dense))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_the_balance_loss_is_that_of_its_definition():
    logits = torch.tensor([[2.0, 0, 0], [2.0, 0, 0], [0, 2.0, 0], [2.0, 0, 1.0]])
    chosen = logits.topk(2).indices
    share = np.bincount(chosen.flatten(), minlength=3) / 8
    odds = logits.double().softmax(-1).mean(0).numpy()
    expected = 3 * float((share * odds).sum())
    assert float(load_balancing.loss(logits, chosen)) == pytest.approx(expected, rel=1e-6)
    even = torch.eye(4)
    assert float(load_balancing.loss(even, even.topk(1).indices)) == pytest.approx(1)


def test_its_gradient_enters_at_the_router_and_the_loss_stays_that_of_the_next_token():
    ids = torch.randint(0, 1024, (2, 32), generator=torch.Generator().manual_seed(0))
    plain = models.build(models.spec(mixed(), 24), 0)
    held = models.build(models.spec(mixed(balance=0.5), 24), 0)

    def step(model):
        value = model.base_model(ids)[0].square().mean()
        value.backward()
        return float(value.detach())

    assert step(plain) == step(held)
    logits, picked = [], []

    def keep(router, given, out):
        logits.append(out[0])
        picked.append(out[2])

    for router in load_balancing.routers(plain):
        router.register_forward_hook(keep)
    plain.zero_grad()
    value = plain.base_model(ids)[0].square().mean()
    extra = sum(map(load_balancing.loss, logits, picked))
    (value + 0.5 * extra).backward()
    for one, other in zip(load_balancing.routers(plain), load_balancing.routers(held), strict=True):
        torch.testing.assert_close(one.weight.grad, other.weight.grad)


# --- routes


def made_up(vocabulary=512, length=20_000, seed=0):
    """A text in which each token is the one before it plus one: 7, 8, 9, ..."""
    starts = np.random.default_rng(seed).integers(1, vocabulary, length // 50)
    text = ((starts[:, None] + np.arange(50)) % vocabulary).astype(np.uint16).reshape(-1)
    ones = np.ones(vocabulary, np.uint16)
    return token_files.Tokens("made up", vocabulary, text, text[: length // 4], ones)


def tiny(family, steps=12, seed=0):
    return run_config.Run(
        family=family,
        width=16,
        layers=2,
        vocabulary=512,
        context=16,
        text="made up",
        tokens=steps * 4 * 16,
        batch=4,
        lr=0.01,
        schedule="linear",
        warmup=0.1,
        weight_decay=0.1,
        clip=1.0,
        seed=seed,
        validation_tokens=512,
    )


@pytest.mark.parametrize("options", [{"balance": 0.01}, {"experts": 7, "used": 3, "shared": 1}])
def test_looking_at_routes_changes_no_loss(options):
    run, tokens = tiny(mixed(**options)), made_up()
    watched = routing.train(run, tokens, windows=4, device="cpu")
    plain = loop.train(run, tokens, device="cpu")
    assert plain.items() <= watched.measured.items()
    assert watched.steps[0] == 0
    assert watched.steps[-1] == run.steps
    assert len(watched.steps) == len(watched.routes)


def test_routes_are_the_experts_that_the_router_ranks_first():
    model = models.build(models.spec(mixed(), 24), 0)
    ids, _ = batches.fixed(made_up().validation, 16, 3)
    sent = routing.routes(model, ids)
    assert sent.shape == (2, 3, 16, 2)
    seen = []
    load_balancing.routers(model)[0].register_forward_hook(
        lambda _, given, out: seen.append(out[0])
    )
    model.eval().base_model(ids)
    best = seen[0].topk(2).indices.reshape(3, 16, 2)
    assert (np.sort(sent[0]) == np.sort(best.numpy())).all()
    assert routing.routes(models.build(models.spec("dense", 24), 0), ids).shape[0] == 0


def test_loads_and_their_evenness_by_hand():
    sent = np.array([[[[0], [0], [1], [1]]], [[[2], [2], [2], [2]]]])  # two layers, four tokens
    loads = routing.load(sent, 4)
    assert loads.tolist() == [[0.5, 0.5, 0, 0], [0, 0, 1, 0]]
    assert routing.evenness(loads) == pytest.approx([0.5, 0])
    assert routing.peak(loads) == pytest.approx([2, 4])
    assert routing.dead(loads) == pytest.approx([0.5, 0.75])


def test_experts_touched_by_real_routes_are_those_of_independent_tokens_if_routes_are_such():
    loads = expert_serving.zipf(16, 1.0, 2)
    rng = np.random.default_rng(0)
    points = rng.random((64 * 128, 1)) + np.arange(2)
    drawn = np.searchsorted(np.cumsum(2 * loads), points, side="right").clip(0, 15)
    sent = drawn.reshape(1, 64, 128, 2)
    found = routing.touched(sent, 16, 8, 2000)
    assert found[0] == pytest.approx(
        expert_serving.touched(routing.load(sent, 16)[0], 2, 8), abs=0.1
    )
    same = np.zeros((1, 8, 4, 1), int)
    assert routing.touched(same, 16, 8, 3).tolist() == [1.0]
    with pytest.raises(ValueError, match="different windows"):
        routing.touched(same, 16, 9, 3)


def test_what_a_capacity_drops_comes_last_in_its_group():
    sent = np.zeros((1, 2, 4, 1), int)  # two windows of four tokens, all for expert 0 of 2
    late = routing.dropped(sent, 2, 1.0, 2)  # it takes 4 of 8: positions 0 and 1 of both windows
    assert late[0, :, :, 0].tolist() == [[False, False, True, True]] * 2
    assert routing.dropped(sent, 2, 2.0, 2).sum() == 0
    even = np.tile([0, 1], 4).reshape(1, 2, 4, 1)
    assert routing.dropped(even, 2, 1.0, 2).sum() == 0
    assert routing.dropped(sent, 2, 1.0, 1).sum() == 4


def test_late_choices_are_those_that_a_count_by_hand_finds_late():
    rng = np.random.default_rng(3)
    windows, context, used, experts, factor = 3, 5, 2, 4, 0.8
    chosen = rng.permuted(np.tile(np.arange(experts), (windows * context, 1)), axis=1)[:, :used]
    most = math.ceil(factor * chosen.size / experts)
    taken, expected = [0] * experts, np.zeros(chosen.shape, bool)
    for place in range(context):
        for window in range(windows):
            token = window * context + place
            for slot, expert in enumerate(chosen[token]):
                expected[token, slot] = taken[expert] >= most
                taken[expert] += 1
    found = capacity.late(torch.from_numpy(chosen), experts, factor, context).numpy()
    assert expected.any()
    assert (found == expected).all()
    with pytest.raises(ValueError, match="windows of 4"):
        capacity.late(torch.from_numpy(chosen), experts, factor, 4)


@pytest.mark.parametrize("family", ["moe", "moe:experts=7,used=1,shared=0", "moe:used=3,shared=1"])
def test_a_wide_capacity_changes_nothing_and_a_narrow_one_takes_out_the_late_choices(family):
    ids = torch.randint(0, 64, (4, 16), generator=torch.Generator().manual_seed(0))
    options = models.Mixture.of(family)
    outputs = []
    for share in (0, 100, 0.5):
        spec = models.spec(replace(options, capacity=share).name, 48, 64, 16)
        model = models.build(spec, seed=0)
        block = model.base_model.layers[0].mlp
        given = torch.randn(64, 48, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            out = block(given.view(4, 16, 48))
        outputs.append(out[0] if isinstance(out, tuple) else out)
        assert torch.isfinite(model(input_ids=ids).logits).all()
    plain, wide, narrow = outputs
    assert torch.equal(plain, wide)
    untouched = (plain == narrow).all(-1)  # (windows, context)
    assert untouched[:, 0].all()  # the first of each window find room
    assert not untouched[:, -1].all()


def test_information_is_all_of_it_for_a_function_of_the_label_and_none_for_chance():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 50, (64, 128))
    decided = (labels % 4)[None, :, :, None]
    chance = rng.integers(0, 4, (12, 64, 128, 1))
    assert routing.information(labels, decided, 4)[0] == pytest.approx(1, abs=0.02)
    # The plain estimate would say (49 * 3) / (2 * 8192) / ln 4 = 0.0065.
    assert routing.information(labels, chance, 4).mean() == pytest.approx(0, abs=0.001)
    assert math.isnan(routing.information(labels, np.zeros_like(chance), 4)[0])


def test_half_of_the_information_is_found_to_be_half():
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 2, (64, 128))
    sent = (2 * labels + rng.integers(0, 2, labels.shape))[None, ..., None]  # one bit of two
    assert routing.information(labels, sent, 4)[0] == pytest.approx(0.5, abs=0.01)


def test_agreement_and_what_chance_gives():
    first = np.array([[[[0, 1], [2, 3]]]])
    second = np.array([[[[1, 0], [0, 1]]]])
    found, chance = routing.agreement(first, second, 4)
    assert found == pytest.approx([0.5])
    # Loads of tokens 1/2 each, against 1 and 1 for experts 0 and 1: (1/2 + 1/2) / 2.
    assert chance == pytest.approx([0.5])
    rng = np.random.default_rng(0)
    one, other = (rng.integers(0, 8, (1, 50, 100, 1)) for _ in range(2))
    found, chance = routing.agreement(one, other, 8)
    assert found[0] == pytest.approx(chance[0], abs=0.02)


def test_tokens_are_traced_to_their_package(tmp_path, monkeypatch):
    monkeypatch.setenv("SIZEWISE_CACHE", str(tmp_path))
    parts = {"a": [f"first {n}" for n in range(300)], "b": [f"second {n}" for n in range(200)]}
    named = [dataclasses.make_dataclass("P", ["name", "extract"])(n, "any") for n in parts]
    monkeypatch.setattr(token_source.downloads, "named", lambda name: named)
    monkeypatch.setattr(token_source.downloads, "fetch", lambda package: package.name)
    monkeypatch.setattr(token_source.extract, "WAYS", {"any": lambda name: iter(parts[name])})
    documents = [d for some in parts.values() for d in some]
    token_files.write(documents, tmp_path / "t", "set", 512)
    tokens = token_files.load(tmp_path / "t")
    for _ in range(2):  # the second time from the cache
        source, names = token_source.of(tokens)
        assert names == ["a", "b"]
        assert len(source) == len(tokens.validation)
        held = [d for d in documents if token_files.texts.validates(d)]
        ends = np.flatnonzero(np.asarray(tokens.validation) == 0)
        assert [names[source[end]] for end in ends] == ["a" if "first" in d else "b" for d in held]
    shorter = replace(tokens, validation=tokens.validation[: ends[-2] + 1])
    with pytest.raises(ValueError, match="documents validate"):
        token_source.of(shorter)


# --- the script


@pytest.fixture
def few(monkeypatch):
    """The script's rows at a tiny budget on a made-up text."""
    tokens = made_up(1024)
    monkeypatch.setattr(moe.tokenizer, "prepare", lambda *a, **k: tokens)
    spread = np.arange(len(tokens.validation)) % 3
    monkeypatch.setattr(routing_metrics.token_source, "of", lambda _: (spread, ["a", "b", "c"]))
    words = [
        "--budgets",
        "4e8",
        "--widths",
        "8",
        "--width",
        "8",
        "--seeds",
        "1",
        "--windows",
        "8",
        "--watched",
        "2",
        "--context",
        "16",
        "--experts",
        "2,64",
        "--grains",
        "1",
    ]
    return moe.runs(moe.arguments(words))


def columns():
    """The columns that the description of the rows has."""
    lines = (paths.root() / "data" / "moe.md").read_text(encoding="utf-8").splitlines()
    return {line.split("`")[1] for line in lines if line.startswith("| `")}


def test_every_column_of_a_row_is_described_and_none_is_missing(few):
    seen = set()
    for config in few[:2]:
        measured = moe.measure(config | {"validation_tokens": 256})
        json.dumps(measured, allow_nan=False)
        seen |= config.keys() | measured.keys()
    assert columns() == seen | {"id", "from", "tokens_per_second"}


def test_a_collapse_is_told_in_the_row():
    run, tokens = tiny(mixed(experts=16), steps=4), made_up()
    watched = routing.train(run, tokens, windows=4, device="cpu")
    one = dataclasses.replace(watched, model=watched.model)
    for router in load_balancing.routers(one.model):
        with torch.no_grad():  # rows that are alike: all tokens choose by the sign of one number
            router.weight.copy_(torch.linspace(1, 2, 16)[:, None] * router.weight[:1])
    tokens = replace(tokens, name="hub:none")
    told = routing_metrics.columns(one, tokens, 16, 16, 8)
    assert told["collapsed"] is True
    assert max(told["dead"]) > 0.5
    assert told["by_source"] is None


def test_rows_differ_and_their_families_are_read_back(few):
    assert len({records.identity(config) for config in few}) == len(few)
    for config in few:
        mixture = models.Mixture.of(config["family"])
        assert dataclasses.asdict(mixture).items() <= config.items()
    assert {config["what"] for config in few} == set(moe.ONLY)


def test_dense_runs_of_the_experiment_tokens_read_what_the_sparse_one_reads():
    rows = moe.runs(moe.arguments(["--only", "arms,tokens", "--seeds", "1"]))
    for budget in moe.BUDGETS:
        sparse = [
            r for r in rows if r["what"] == "arms" and r["experts"] > 1 and r["budget"] == budget
        ]
        for one in (r for r in rows if r["what"] == "tokens" and r["width"] == sparse[0]["width"]):
            assert one["tokens"] in [r["tokens"] for r in sparse]


def test_the_arms_run_at_other_rates_where_the_rest_compares_and_at_the_largest_budget():
    rows = moe.runs(moe.arguments(["--only", "arms,rates", "--seeds", "1"]))
    arms = {(r["budget"], r["width"], r["family"]): r for r in rows if r["what"] == "arms"}
    others = [r for r in rows if r["what"] == "rates"]
    assert {r["budget"] for r in others} == {moe.BUDGETS[1], moe.BUDGETS[2]}
    assert len(others) == 2 * 3 * len(moe.FACTORS)
    for one in others:
        arm = arms[one["budget"], one["width"], one["family"]]
        assert one["lr"] / arm["lr"] in moe.FACTORS
        assert one == arm | {"what": "rates", "lr": one["lr"]}


def test_the_cost_is_that_of_training_and_of_every_look():
    (config,) = moe.runs(
        moe.arguments(["--only", "shared", "--at", "1e9", "--width", "24", "--seeds", "1"])
    )
    each = flops.size(configs.Spec("x", models.spec(config["family"], 24).fields))
    trained = each.operations_per_token * config["tokens"]
    looked = 65_536 + (512 + 8 * 64) * 128
    assert moe.cost(config) == pytest.approx(trained + each.operations_per_token * looked / 3)
    assert trained == pytest.approx(1e9, rel=0.5)
