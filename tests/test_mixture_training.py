"""The laboratory's mixtures of experts: shapes, balance loss, routes, and the script."""

import json
import math
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sizewise import paths
from sizewise.data import records
from sizewise.models import parameters
from sizewise.training import (
    batches,
    flops,
    load_balancing,
    models,
    run_config,
)
from test_lab import counting

sys.path.insert(0, str(paths.root() / "scripts"))
import moe

torch.set_num_threads(1)


# --- shapes


def test_the_default_mixture_halves_an_mlp_and_has_eight_of_the_halves():
    fields = models.spec("moe", 32).fields
    assert fields["model_type"] == "qwen3_moe"
    assert (fields["num_experts"], fields["num_experts_per_tok"]) == (8, 2)
    assert 2 * fields["moe_intermediate_size"] == fields["intermediate_size"] == 80
    assert fields["norm_topk_prob"] is True
    assert "router_aux_loss_coef" not in fields
    assert mixed() == "moe"
    assert run_config.at_budget(1e9, 32, "moe").family == "moe"


@settings(max_examples=30)
@given(
    st.fixed_dictionaries(
        {
            "experts": st.integers(1, 64),
            "used": st.integers(1, 8),
            "wide": st.integers(1, 4),
            "balance": st.sampled_from([0.0, 0.001, 0.01]),
        }
    )
)
def test_a_mixture_is_read_from_its_name(mixture):
    assert models.options(mixed(**mixture)) == mixture


@pytest.mark.parametrize(
    ("family", "message"),
    [
        ("moe:expert=4", "did you mean 'experts'"),
        ("moe:experts=four", "must be a number"),
        ("moe:experts=1", "experts a token"),
        ("hybrid:experts=4", "unknown family"),
        ("moe:used=7", "does not divide into 7"),
        ("moe:balance=-1", "balance"),
    ],
)
def test_a_mixture_that_cannot_be_is_refused(family, message):
    with pytest.raises(ValueError, match=message):
        models.spec(family, 32)


def mixed(**options):
    return models.family("moe", **options)


def test_what_a_token_uses_stays_the_same_whatever_the_mixture():
    for options in ({"experts": 1, "used": 1}, {}, {"experts": 64}, {"experts": 32, "used": 8}):
        count = parameters.count(models.spec(mixed(**options), 24))
        used = count.active - count.by_kind["router"]
        assert used == parameters.count(models.spec("moe", 24)).active - 8 * 24 * 2
    sparse, dense = (
        parameters.count(models.spec(mixed(**options), 24))
        for options in ({}, {"experts": 1, "used": 1, "wide": 4})
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
    ours, expected = (model.eval().base_model(ids)[0] for model in (ours, dense))
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


# --- the balance loss


def test_the_balance_loss_is_that_of_its_definition():
    logits = torch.tensor([[2.0, 0, 0], [2.0, 0, 0], [0, 2.0, 0], [2.0, 0, 1.0]])
    choices = logits.topk(2).indices
    share = np.bincount(choices.flatten(), minlength=3) / 8
    odds = logits.double().softmax(-1).mean(0).numpy()
    expected = 3 * float((share * odds).sum())
    assert float(load_balancing.loss(logits, choices)) == pytest.approx(expected, rel=1e-6)
    even = torch.eye(4)
    assert float(load_balancing.loss(even, even.topk(1).indices)) == pytest.approx(1)


def test_its_gradient_enters_at_the_router_and_the_loss_stays_that_of_the_next_token():
    ids = torch.randint(0, 1024, (2, 32), generator=torch.Generator().manual_seed(0))
    plain = models.build(models.spec(mixed(), 24), 0)
    balanced = models.build(models.spec(mixed(balance=0.5), 24), 0)

    def step(model):
        value = model.base_model(ids)[0].square().mean()
        value.backward()
        return float(value.detach())

    assert step(plain) == step(balanced)
    logits, choices = [], []

    def keep(router, inputs, outputs):
        logits.append(outputs[0])
        choices.append(outputs[2])

    for router in load_balancing.routers(plain):
        router.register_forward_hook(keep)
    plain.zero_grad()
    value = plain.base_model(ids)[0].square().mean()
    extra = sum(map(load_balancing.loss, logits, choices))
    (value + 0.5 * extra).backward()
    pairs = zip(load_balancing.routers(plain), load_balancing.routers(balanced), strict=True)
    for router, other in pairs:
        torch.testing.assert_close(router.weight.grad, other.weight.grad)


# --- routes


def test_routes_are_the_experts_that_the_router_ranks_first():
    model = models.build(models.spec(mixed(), 24), 0)
    ids, _ = batches.fixed(counting().validation, 16, 3)
    sent = moe.routes(model, ids)
    assert sent.shape == (2, 3, 16, 2)
    logits = []
    load_balancing.routers(model)[0].register_forward_hook(
        lambda router, inputs, outputs: logits.append(outputs[0])
    )
    model.eval().base_model(ids)
    best = logits[0].topk(2).indices.reshape(3, 16, 2)
    assert (np.sort(sent[0]) == np.sort(best.numpy())).all()
    assert moe.routes(models.build(models.spec("dense", 24), 0), ids).shape[0] == 0


def test_loads_and_their_evenness_by_hand():
    sent = np.array([[[[0], [0], [1], [1]]], [[[2], [2], [2], [2]]]])  # two layers, four tokens
    loads = moe.load(sent, 4)
    assert loads.tolist() == [[0.5, 0.5, 0, 0], [0, 0, 1, 0]]
    assert moe.evenness(loads) == pytest.approx([0.5, 0])
    assert moe.dead(loads) == pytest.approx([0.5, 0.75])


def test_experts_touched_by_independent_tokens_are_those_of_the_formula():
    loads = np.arange(16, 0, -1) ** 0.5
    loads /= loads.sum()
    rng = np.random.default_rng(0)
    # Systematic sampling gives every expert exactly its share (Madow 1949).
    points = rng.random((64 * 128, 1)) + np.arange(2)
    sent = np.searchsorted(np.cumsum(2 * loads), points, side="right").clip(0, 15)
    sent = sent.reshape(1, 64, 128, 2)
    expected = (1 - (1 - 2 * moe.load(sent, 16)[0]) ** 8).sum()
    assert moe.touched(sent, 8, 2000)[0] == pytest.approx(expected, abs=0.1)
    same = np.zeros((1, 8, 4, 1), int)
    assert moe.touched(same, 8, 3).tolist() == [1.0]


def test_information_is_all_of_it_for_a_function_of_the_label_and_none_for_chance():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 50, (64, 128))
    decided = (labels % 4)[None, :, :, None]
    chance = rng.integers(0, 4, (12, 64, 128, 1))
    assert moe.information(labels, decided, 4)[0] == pytest.approx(1, abs=0.02)
    # The plain estimate would say (49 * 3) / (2 * 8192) / ln 4 = 0.0065.
    assert moe.information(labels, chance, 4).mean() == pytest.approx(0, abs=0.001)
    assert math.isnan(moe.information(labels, np.zeros_like(chance), 4)[0])


def test_half_of_the_information_is_half():
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 2, (64, 128))
    sent = (2 * labels + rng.integers(0, 2, labels.shape))[None, ..., None]  # one bit of two
    assert moe.information(labels, sent, 4)[0] == pytest.approx(0.5, abs=0.01)


def test_a_collapse_is_in_the_row():
    model = models.build(models.spec(mixed(experts=16), 16, 512, 16), 0)
    for router in load_balancing.routers(model):
        with torch.no_grad():  # rows that are alike: all tokens choose by the sign of one number
            router.weight.copy_(torch.linspace(1, 2, 16)[:, None] * router.weight[:1])
    columns = moe.routing(model, counting(), 16, 16, 8)
    assert columns["collapsed"] is True
    assert max(columns["dead"]) > 0.5
    assert set(moe.routing(model, counting(), 16, 1, 8).values()) == {None}


# --- the script


@pytest.fixture
def few(monkeypatch):
    """The script's rows at a tiny budget on a counting text."""
    tokens = counting(1024)
    monkeypatch.setattr(moe.tokenizer, "prepare", lambda *a, **k: tokens)
    options = "--budgets 4e8 --width 8 --seeds 1 --windows 8 --context 16"
    return moe.runs(moe.arguments(options.split()))


def test_every_column_of_a_row_is_described_and_none_is_missing(few):
    lines = (paths.root() / "data" / "moe.md").read_text(encoding="utf-8").splitlines()
    described = {line.split("`")[1] for line in lines if line.startswith("| `")}
    columns = set()
    for config in (few[0], few[2]):
        measured = moe.measure(config | {"validation_tokens": 256})
        json.dumps(measured, allow_nan=False)
        columns |= config.keys() | measured.keys()
    assert described == columns | {"id", "from", "tokens_per_second"}


def test_rows_differ_and_their_families_are_read_back(few):
    assert len({records.identity(config) for config in few}) == len(few)
    for config in few:
        assert models.options(config["family"]).items() <= config.items()
    assert {config["what"] for config in few} == set(moe.ONLY)


def test_all_arms_of_a_budget_read_the_same_tokens_in_the_same_batches():
    rows = moe.runs(moe.arguments(["--only", "arms", "--seeds", "1"]))
    for budget in moe.BUDGETS:
        arms = [row for row in rows if row["budget"] == budget]
        assert len(arms) == len(moe.ARMS)
        assert len({(row["tokens"], row["batch"], row["width"], row["lr"]) for row in arms}) == 1
        dense = flops.size(models.spec(arms[0]["family"], arms[0]["width"]))
        assert arms[0]["tokens"] * dense.operations_per_token == pytest.approx(budget, rel=0.02)


def test_the_experiment_on_rates_is_the_arms_with_another_rule():
    rows = moe.runs(moe.arguments(["--only", "arms,rates", "--seeds", "1"]))
    arms = {row["family"]: row for row in rows if row["what"] == "arms" and row["budget"] == 1e11}
    for row in (row for row in rows if row["what"] == "rates"):
        same = arms[row["family"]] | {"what": "rates"}
        del same["per_input"]
        assert row == same
