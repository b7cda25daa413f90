"""Mixtures of experts: what serving touches, reads and sends."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sizewise.chapters.tables import serving_experts as tables
from sizewise.costs import expert_serving, memory, roofline
from sizewise.data import catalog

SPARSE = [name for name, entry in catalog.models().items() if entry.counted.get("routed")]
# Experts, experts a token and layers that have them, as the vendors' reports state them.
SHAPES = {
    "mixtral-8x7b": (8, 2, 32),
    "qwen3-30b-a3b": (128, 8, 48),
    "qwen3-235b-a22b": (128, 8, 94),
    "deepseek-v3": (256, 8, 58),
    "deepseek-v2-lite": (64, 6, 26),
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
    model, first = expert_serving.sparse(name), catalog.model(name).counted
    assert model.count.total == first["total"]
    assert model.count.active == first["active"]
    assert model.count.routed == first["routed"]
    assert round(model.active) == pytest.approx(first["active_without_input_embedding"], abs=1)


@pytest.mark.parametrize("name", ["glm-4.7-flash", "minimax-m2", "switch-base-128"])
def test_so_are_totals_where_only_those_were_counted(name):
    assert expert_serving.sparse(name).count.total == catalog.model(name).counted["total"]


@pytest.mark.parametrize(("name", "shape"), SHAPES.items())
def test_experts_and_their_layers_are_the_published_ones(name, shape):
    model = expert_serving.sparse(name)
    assert (model.experts, model.used, model.layers) == shape


def test_parts_of_mixtral_are_what_its_shape_gives_by_hand(mixtral):
    assert mixtral.expert == 3 * 4096 * 14336
    assert mixtral.count.by_kind["router"] == 32 * 8 * 4096
    assert mixtral.always == 46_702_792_704 - 32 * 8 * 3 * 4096 * 14336 - 32_000 * 4096
    assert mixtral.geometric_mean**2 == pytest.approx(mixtral.active * mixtral.total)


@pytest.mark.parametrize("tokens", [1, 7, 300])
def test_what_a_step_reads_is_what_the_roofline_reads_less_the_rows_looked_up(mixtral, tokens):
    rows = min(mixtral.model.lookup, tokens * mixtral.model.hidden_size)
    expected = roofline.touched_parameters(mixtral.model, tokens) - rows
    assert mixtral.read(tokens) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("name", "message"), [("llama-3.1-8b", "no routed experts"), ("mixtrall", "unknown model")]
)
def test_what_is_no_sparse_model_is_refused(name, message):
    with pytest.raises(ValueError, match=message):
        expert_serving.sparse(name)


# --- experts read


@pytest.mark.parametrize(("number", "used", "tokens"), [(4, 2, 3), (5, 1, 4), (3, 3, 2), (5, 2, 3)])
def test_experts_read_are_those_of_every_way_to_choose(number, used, tokens):
    from itertools import combinations, product

    sets = list(combinations(range(number), used))
    sizes = [len(set().union(*map(set, way))) for way in product(sets, repeat=tokens)]
    even = np.full(number, 1 / number)
    assert roofline.expected_experts(number, used, tokens) == pytest.approx(np.mean(sizes))
    assert expert_serving.expected_distinct(even, used, tokens) == pytest.approx(np.mean(sizes))


@pytest.mark.parametrize("shape", sorted({SHAPES[name][:2] for name in SHAPES}))
@pytest.mark.parametrize("tokens", [1, 8, 64])
def test_the_expectation_agrees_with_drawn_batches_for_every_published_shape(shape, tokens):
    number, used = shape
    rng = np.random.default_rng(tokens)
    drawn = [
        len(np.unique(rng.random((tokens, number)).argpartition(used - 1)[:, :used]))
        for _ in range(300)
    ]
    error = np.std(drawn, ddof=1) / math.sqrt(len(drawn))
    off = np.mean(drawn) - roofline.expected_experts(number, used, tokens)
    assert abs(off) <= 3.5 * error + 1e-6


@given(st.lists(st.floats(0.01, 1), min_size=2, max_size=40), st.integers(1, 50))
def test_even_loads_reach_the_most_experts(weights, tokens):
    loads = np.array(weights) / sum(weights)
    reached = expert_serving.expected_distinct(loads, 1, tokens)
    assert 1 - 1e-9 <= reached <= roofline.expected_experts(len(loads), 1, tokens) + 1e-9


def test_unequal_loads_by_hand():
    # One token in two uses the first expert, none the last: 1 - 1/4, twice 1 - (3/4)^2, and 0.
    assert expert_serving.expected_distinct([0.5, 0.25, 0.25, 0], 1, 2) == pytest.approx(
        0.75 + 2 * 7 / 16
    )


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
        expert_serving.expected_distinct(loads, used, 4)


# --- devices


def test_a_device_that_nobody_rents_out_has_no_rent(mixtral):
    models, l4 = {"Mixtral": mixtral}, catalog.device("L4")
    priced, unpriced = (tables.entrance_fee(models, l4, "fp8", price) for price in ((1, 2), None))
    assert priced["dollars an hour"][0] == 2 * priced["fewest L4"][0] > 0
    assert unpriced["dollars an hour"].isna().all()
    assert unpriced.drop(columns="dollars an hour").equals(priced.drop(columns="dollars an hour"))


def test_memory_by_expert_parallel_degree_by_hand(mixtral):
    expert, shared = 32 * 3 * 4096 * 14336, 46_702_792_704 - 45_097_156_608
    assert expert_serving.device_bytes(mixtral, 1) == memory.weights_bytes(mixtral.count.total)
    assert expert_serving.device_bytes(mixtral, 8) == 2 * (expert + shared)
    assert expert_serving.device_bytes(mixtral, 3) == 2 * (
        3 * expert + shared
    )  # 8 experts: 3, 3 and 2
    assert expert_serving.device_bytes(mixtral, 8, "fp8", tensor=8) == expert + shared // 8
    assert expert_serving.min_devices(mixtral, 2 * (2 * expert + shared)) == 4
    assert expert_serving.min_devices(mixtral, 2 * shared) is None
    assert expert_serving.min_devices(mixtral, 2 * (2 * expert + shared / 4) + 1, tensor=8) == 4
    with pytest.raises(ValueError, match="expert parallel"):
        expert_serving.device_bytes(mixtral, 9)


def test_devices_that_a_token_is_sent_to_are_those_of_every_choice(mixtral):
    from itertools import combinations

    devices = [{expert // 2 for expert in pair} for pair in combinations(range(8), 2)]  # 4 devices
    expected = np.mean([len(reached) for reached in devices])
    assert expert_serving.devices_reached(mixtral, 4) == pytest.approx(expected)
    assert expert_serving.devices_reached(mixtral, 8) == pytest.approx(2)
    assert expert_serving.devices_reached(mixtral, 1) == 1
    with pytest.raises(ValueError, match="8 experts do not divide among 3 devices"):
        expert_serving.devices_reached(mixtral, 3)


def test_bytes_of_the_all_to_all_by_hand(deepseek):
    # One expert a device: 8 copies of 7,168 values, of which 255/256 leave the device, one byte
    # a value on the way there and two back, in each of 58 layers.
    elements = 58 * 8 * 7168 * 255 / 256
    traffic = expert_serving.all_to_all_bytes
    assert traffic(deepseek, 256) == pytest.approx(elements * 3)
    assert traffic(deepseek, 1) == 0
    assert traffic(deepseek, 8) < 58 * 8 * 7168 * 7 / 8 * 3  # several experts on one device


def test_time_of_the_all_to_all_by_hand(deepseek):
    # 1,024 tokens on 256 devices are four each; each sends its bytes over one link of 50 GB/s.
    seconds = expert_serving.all_to_all_seconds(deepseek, 256, 1024, 50e9)
    assert seconds == pytest.approx(4 * 58 * 8 * 7168 * (255 / 256) * 3 / 50e9)
    # At this batch on 64 devices it takes as long as reading the weights does.
    reading = deepseek.read(1024) / (64 * catalog.device("H100").bandwidth)  # fp8: a byte each
    sending = expert_serving.all_to_all_seconds(deepseek, 64, 1024, 50e9)
    assert sending / reading == pytest.approx(1, abs=0.1)


# --- sparse against dense


def test_deepseek_v3_against_37_billion_by_hand(deepseek):
    """147 requests of 8,192 tokens on H100: products in bf16, weights in fp8, cache in bf16."""
    batch, bandwidth, peak = 147, 3.35e12, 989.4e12
    routed = 58 * 256 * 3 * 7168 * 2048  # three matrices of 7,168 by 2,048 an expert
    total = 671_026_419_200  # the checkpoint without the module that predicts a second token
    always = total - routed - 129_280 * 7168  # less the embedding, which is looked up
    active = always + routed * 8 / 256
    cache = batch * 8192 * 61 * (512 + 64) * 2 / bandwidth  # latent and rotary part, 61 layers
    ours = max(
        (always + routed * (1 - (248 / 256) ** batch)) / bandwidth, 2 * active * batch / peak
    )
    theirs = max(active / bandwidth, 2 * active * batch / peak)
    without, with_cache = ours / theirs, (ours + cache) / (theirs + cache)
    assert without == pytest.approx(18, abs=0.2)
    assert with_cache == pytest.approx(6.2, abs=0.05)
    device, formats = catalog.device("H100"), {"weights": "fp8"}
    step = expert_serving.step_seconds
    ratio = step(deepseek, batch, device, 8192, **formats) / step(
        deepseek, batch, device, 8192, dense=deepseek.active, **formats
    )
    assert ratio == pytest.approx(with_cache, rel=0.01)


@pytest.fixture(scope="module")
def compared():
    device = catalog.device("H100")
    return {
        name: expert_serving.compare(model, model.active, device, 8192, weights="fp8")
        for name, model in expert_serving.catalogue().items()
    }


def test_the_cache_takes_the_ratio_down_to_what_a_referee_computed(compared):
    device, model = catalog.device("H100"), expert_serving.sparse("qwen3-235b-a22b")
    step = expert_serving.step_seconds
    ours, theirs = (
        step(model, 147, device, 8192, dense=dense, weights="fp8") for dense in (None, model.active)
    )
    assert ours / theirs == pytest.approx(1.8, abs=0.05)
    # The eighteen sparse models of the catalogue when it was computed.
    names = """mixtral-8x7b qwen3-30b-a3b qwen3-235b-a22b qwen3-next-80b-a3b deepseek-v3
        deepseek-v4-flash kimi-k2 gpt-oss-120b olmoe-1b-7b grok-1 llama-4-scout glm-4.5-air
        deepseek-v4-pro glm-5 qwen3.5-35b-a3b kimi-linear-48b-a3b glm-4.7-flash minimax-m2"""
    worst = [compared[name].most for name in names.split()]
    # Four of them were class defaults then, with smaller caches: the released ones give 3.2.
    assert np.median(worst) == pytest.approx(3.6, abs=0.5)


def test_crossings_are_those_of_a_plain_loop(mixtral):
    device = catalog.device("H100")
    size = mixtral.geometric_mean
    result = expert_serving.compare(mixtral, size, device, 4096, weights="fp8")
    alone = {"total": round(size), "active": round(size), "lookup": 0, "experts": None}
    dense = replace(mixtral.model, **alone)
    ratios = {}
    for batch in range(1, 1000):
        ours, theirs = (
            roofline.decode(model, device, 4096, batch, weights="fp8")
            for model in (mixtral.model, dense)
        )
        ratios[batch] = ours.seconds / theirs.seconds
    slower = [batch for batch, ratio in ratios.items() if ratio > 1.005]
    assert result.first == pytest.approx(slower[0], abs=1)
    assert result.last == pytest.approx(slower[-1], rel=0.05)
    assert result.most == pytest.approx(max(ratios.values()), rel=0.01)
    assert result.alone == pytest.approx(ratios[1], rel=0.01)


@pytest.mark.parametrize("name", ["mixtral-8x7b", "deepseek-v3", "gpt-oss-120b"])
def test_a_sparse_model_costs_no_less_than_its_active_and_no_more_than_its_total_size(name):
    model, device = expert_serving.sparse(name), catalog.device("H100")
    small, large = (
        expert_serving.compare(model, size, device, 8192) for size in (model.active, model.total)
    )
    assert small.first == 2  # one token reads what the dense one reads
    assert small.most > 1
    assert large.first is None
    assert large.most <= 1 + 1e-9


def test_a_dense_model_of_no_size_is_refused(mixtral):
    with pytest.raises(ValueError, match="dense parameters"):
        expert_serving.compare(mixtral, 0, catalog.device("H100"), 8192)


# --- the chapter's tables


def test_the_affordable_batch_is_the_first_one_that_is(deepseek):
    device, price = catalog.device("H100"), 3.0
    batch = tables.affordable_batch(deepseek, 1.0, device, 8192, price, weights="fp8")
    floors = [
        roofline.decode(deepseek.model, device, 8192, n, weights="fp8", price=price)
        for n in (batch - 1, batch)
    ]
    before, at = (floor.dollars_per_million_tokens.high for floor in floors)
    assert before > 1.0 >= at
    assert tables.affordable_batch(deepseek, 1e-6, device, 8192, price) is None


def test_an_exchange_costs_nothing_while_it_hides_and_its_time_when_it_does_not(deepseek):
    (line,) = tables.exchange(
        {"x": deepseek}, [1024], catalog.device("H100"), 8192, 50e9, 3.0, weights="fp8"
    ).to_dict("records")
    assert line["H100s"] == 64
    assert line["exposed"] / line["hidden"] == pytest.approx(1 + line["sending"] / line["reading"])
    floor = roofline.decode(
        deepseek.model, catalog.device("H100"), 8192, 1024, weights="fp8", price=3.0
    )
    assert line["hidden"] == pytest.approx(floor.dollars_per_million_tokens.high)
