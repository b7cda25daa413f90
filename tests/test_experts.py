"""Mixtures of experts: what serving touches, reads and sends."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sizewise.costs import expert_serving, memory, roofline
from sizewise.data import catalog

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
