"""What quantization and pruning cost: masks and bytes worked by hand, losses of known models."""

import copy
import math
import re
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sizewise import paths
from sizewise.chapters.tables import floor_and_silicon, weight_quantization
from sizewise.data import records
from sizewise.quantization.weights import convert
from sizewise.stats import bootstrap
from torch import nn

sys.path.insert(0, str(paths.root() / "scripts"))
import weight_quality

torch.set_num_threads(1)


class Head(nn.Module):
    """Two layers and an output head, so that a name is there to be skipped."""

    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(8, 16), nn.Linear(16, 8)
        self.lm_head = nn.Linear(8, 4)


# --- pruning


def test_the_smallest_magnitudes_go_whatever_their_sign():
    weight = torch.tensor([[0.5, -0.1, 3.0], [-2.0, 0.2, -0.3]])
    assert weight_quality.mask(weight, 0.5).tolist() == [[True, False, True], [True, False, False]]
    assert weight_quality.mask(weight, 0.0).all()


def test_equal_magnitudes_go_in_their_order():
    weight = torch.tensor([1.0, -1.0, 1.0, -1.0])
    assert weight_quality.mask(weight, 0.5).tolist() == [False, False, True, True]


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.floats(-9, 9, width=32), min_size=1, max_size=60),
    st.floats(0, 1, exclude_max=True),
)
def test_exactly_the_share_is_removed_and_nothing_left_is_smaller(values, share):
    weight = torch.tensor(values)
    mask = weight_quality.mask(weight, share)
    assert int((~mask).sum()) == math.floor(share * len(values))
    if mask.any() and not mask.all():
        assert weight[mask].abs().min() >= weight[~mask].abs().max()


def test_pruning_a_model_leaves_the_head_the_biases_and_what_is_kept():
    torch.manual_seed(0)
    model = Head()
    before = {name: item.clone() for name, item in model.state_dict().items()}
    assert weight_quality.prune(model, 0.25) == (2 * 32, 2 * 128)
    for name, now in model.state_dict().items():
        same = now == before[name]
        if name in ("up.weight", "down.weight"):
            assert torch.equal(same, now != 0)
        else:
            assert same.all()


def test_pruned_weights_stay_zero_in_nf4_and_memory_does_not_shrink():
    functional = pytest.importorskip("bitsandbytes").functional
    torch.manual_seed(0)
    weight = torch.randn(64, 128)
    zeroed = weight * weight_quality.mask(weight, 0.5)
    codes, state = functional.quantize_4bit(zeroed, quant_type="nf4", blocksize=64)
    decoded = functional.dequantize_4bit(codes, state)
    assert (decoded[zeroed == 0] == 0).all()
    assert zeroed.untyped_storage().nbytes() == weight.untyped_storage().nbytes()


@pytest.mark.parametrize("share", [1, -0.1, float("nan"), "half", True, None])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(ValueError, match="share to prune"):
        weight_quality.prune(Head(), share)


def test_what_cannot_be_pruned_is_refused():
    with pytest.raises(ValueError, match="no linear layer"):
        weight_quality.prune(nn.Embedding(3, 4), 0.5)


# --- comparing


class Bigram(nn.Module):
    """Predicts the next token from the last alone: p(next | last) = softmax(table[last])."""

    def __init__(self, table):
        super().__init__()
        self.table = nn.Parameter(torch.as_tensor(table, dtype=torch.float32))
        self.config = SimpleNamespace(
            get_text_config=lambda: SimpleNamespace(vocab_size=len(table))
        )

    def forward(self, input_ids, use_cache=False):
        return SimpleNamespace(logits=self.table[input_ids])


def make_sample(windows):
    windows = np.array(windows)
    return weight_quality.Sample(
        windows, np.full((len(windows), windows.shape[1] - 1), 2), np.arange(len(windows))
    )


def test_the_measured_columns_are_the_ones_worked_by_hand():
    even, tilted = np.zeros((2, 2)), np.log([[0.8, 0.2], [0.8, 0.2]])
    sample = make_sample([[0, 0, 0, 1], [1, 0, 0, 0]])
    original = weight_quality.scored(Bigram(even), sample)
    table = weight_quality.scored(Bigram(tilted), sample, Bigram(even))
    result = weight_quality.compare(table, original)
    nats = -(5 * math.log(0.8) + math.log(0.2)) / 6
    assert result["nats_per_token"] == pytest.approx(nats)
    assert result["bits_per_byte"] == pytest.approx(nats / math.log(2) / 2)
    assert result["loss_change"] == pytest.approx((nats - math.log(2)) / math.log(2) / 2)
    assert result["kl"] == pytest.approx(-0.5 * math.log(4 * 0.8 * 0.2), rel=1e-6)
    assert (result["documents"], result["tokens_scored"], result["bytes_scored"]) == (2, 6, 12)
    assert result["loss_change_low"] <= result["loss_change"] <= result["loss_change_high"]


def test_a_model_compared_with_itself_has_changed_nothing():
    sample = make_sample([[0, 1, 1], [1, 0, 1], [0, 0, 1]])
    table = weight_quality.scored(Bigram([[0.0, 1.0], [2.0, 0.0]]), sample)
    result = weight_quality.compare(table, table)
    assert (result["kl"], result["agreement"], result["loss_change"]) == (0, 1, 0)
    assert result["loss_change_low"] == result["loss_change_high"] == 0


# --- rows

ROW = {
    "model": "dense-32",
    "trained_tokens": 1000,
    "trained_context": 16,
    "text": weight_quality.LAB_TEXTS[0],
    "context": 16,
    "documents": 4,
    "seed": 0,
}


@pytest.fixture
def tiny(monkeypatch):
    """A laboratory model of width 64 with weights at random, in place of a trained one."""
    from sizewise.training import models

    model = models.build(models.spec("dense", 64, 512, 16), 0)
    torch.nn.init.normal_(model.get_output_embeddings().weight, 0, 0.3)
    tokens = np.random.default_rng(0).integers(0, 512, 4000).astype(np.uint16)
    text = SimpleNamespace(validation=tokens, bytes_of=np.full(512, 3, np.uint16))

    def sample(context, documents, name):
        return weight_quality.of_tokens(text, context, documents)

    def calibration(context):
        return tokens[: 8 * context].astype(np.int64).reshape(8, context)

    subject = weight_quality.Subject("dense-32", model.eval(), sample, calibration, "0" * 64)
    monkeypatch.setattr(weight_quality, "named", lambda *_: subject)
    weight_quality._original.cache_clear()
    yield subject
    weight_quality._original.cache_clear()


def test_a_format_changes_the_copy_and_leaves_the_subject(tiny):
    before = {name: tensor.clone() for name, tensor in tiny.model.state_dict().items()}
    exact = weight_quality.in_format(ROW | {"format": "fp32"})
    coarse = weight_quality.in_format(ROW | {"format": "nf4"})
    assert all(torch.equal(t, before[name]) for name, t in tiny.model.state_dict().items())
    assert (exact["kl"], exact["agreement"], exact["loss_change"]) == (0, 1, 0)
    assert coarse["kl"] > 0
    assert coarse["agreement"] < 1
    parameters = sum(p.numel() for p in tiny.model.parameters())
    assert exact["stored_bytes"] == 4 * parameters == 4 * coarse["parameters"]
    uncoded = 2 * (parameters - coarse["elements"])
    assert coarse["stored_bytes"] - uncoded == coarse["elements"] * coarse["bits"] / 8


def test_rounded_values_are_those_of_the_converted_model(tiny):
    """Quality is measured on rounded values, which are those of the layers in memory."""
    for form in ("nf4", "mxfp4", "q4_0", "gptq4"):
        rounded, sizes = weight_quality.rounded(
            tiny.model, ROW | {"format": form}, lambda: tiny.calibration(16)
        )
        other = copy.deepcopy(tiny.model)
        done = convert.convert(other, form, calibration=tiny.calibration(16))
        ids = torch.arange(16)[None]
        with torch.no_grad():
            apart = (rounded(input_ids=ids).logits - other(input_ids=ids).logits).abs().max()
        assert apart < 2e-5, form
        stored = done.stored.codes + done.stored.scales + done.stored.codebooks
        assert sizes["bits"] == pytest.approx(8 * stored / done.weights)


@pytest.mark.parametrize("form", ["nf4", "q4_0", "gptq3"])
def test_groups_that_begin_elsewhere_are_another_rounding_of_the_same_bits(tiny, form):
    current, moved = (
        weight_quality.in_format(ROW | {"format": form, "shift": shift}) for shift in (0, 11)
    )
    assert current["bits"] == moved["bits"]
    assert current["kl"] != moved["kl"]
    assert 0.3 < current["kl"] / moved["kl"] < 3


def test_a_scale_a_row_knows_no_shift(tiny):
    current, moved = (
        weight_quality.in_format(ROW | {"format": "fp8", "shift": shift}) for shift in (0, 11)
    )
    assert current["kl"] == pytest.approx(moved["kl"], rel=1e-3)


def test_four_bits_with_half_the_weights_gone_take_as_many_as_three_dense_ones(tiny):
    result = weight_quality.pruned(ROW | {"format": "nf4", "share": 0.5})
    tables = 14 * 16 * 32 / result["elements"]  # one of sixteen levels for each of 14 matrices
    assert result["bits"] == pytest.approx(1 + 0.5 * 4 + 0.5 + tables)
    dense = weight_quality.in_format(ROW | {"format": "nf3"})
    assert dense["bits"] == pytest.approx(3.5, abs=0.1)
    alone = weight_quality.pruned(ROW | {"format": "fp32", "share": 0.5})
    assert alone["bits"] == 17


# --- the intervals, on simulated models whose costs are known

TRUTH = {  # of the simulated models, per token: nats, and bits a byte of four bytes a token
    "bits_per_byte": (2 + 0.05 * math.log(2) * 4) / math.log(2) / 4,
    "loss_change": 0.05,
    "perplexity_change": math.expm1(0.05 * math.log(2) * 4),
    "kl": 0.04,
    "agreement": 0.9,
}


def simulated(draw, documents=40):
    """Losses of a model and of its original on documents of unlike length and hardness."""
    tokens = draw.integers(50, 151, documents)
    hard = draw.gamma(16, 2 / 16, documents)  # nats a token, shared by both models
    cost = 0.05 * math.log(2) * 4 * draw.gamma(4, 1 / 4, documents)
    common = {"document": np.arange(documents), "tokens": tokens, "bytes": 4 * tokens}
    agree = draw.binomial(tokens, 0.9)
    kl = tokens * 0.04 * draw.gamma(2, 1 / 2, documents)
    before = pd.DataFrame(common | {"nats": tokens * hard})
    return pd.DataFrame(common | {"nats": tokens * (hard + cost), "kl": kl, "agree": agree}), before


def within(estimates, truth):
    """Bias in standard errors of an estimate, and how often its interval holds the truth."""
    value, low, high = np.array(estimates).T
    return (value.mean() - truth) / value.std(), ((low <= truth) & (truth <= high)).mean()


@pytest.fixture(scope="module")
def trials():
    """250 simulated comparisons: each measured column as (value, low, high)."""
    draw, columns = np.random.default_rng(0), {name: [] for name in TRUTH}
    for seed in range(250):
        after, before = simulated(draw)
        result = weight_quality.compare(after, before, seed=seed)
        change = bootstrap.paired(after, before, "nats", "tokens", seed=seed).difference
        result |= change.through(np.expm1).columns("perplexity_change")
        for name, estimates in columns.items():
            estimates.append([result[f"{name}{end}"] for end in ("", "_low", "_high")])
    return columns


@pytest.mark.parametrize("name", TRUTH)
def test_intervals_over_documents_are_unbiased_and_hold_the_truth(trials, name):
    """Percentile intervals of 40 documents are a little narrow: 95 % in name, over 90 % here."""
    bias, coverage = within(trials[name], TRUTH[name])
    assert abs(bias) < 0.2
    assert 0.90 < coverage < 0.98


def test_an_interval_over_documents_alone_misses_what_another_rounding_costs():
    """Costs of random roundings about 0.05: one start on many documents, four on fewer."""
    draw, single, joined, truth = np.random.default_rng(1), [], [], 0.05
    for _ in range(2000):
        roundings = draw.normal(0, 0.005, 4)
        value = truth + roundings[0] + draw.normal(0, 0.002)
        ends = (value, value - 1.96 * 0.002, value + 1.96 * 0.002)
        fewer = truth + roundings + draw.normal(0, 0.004)  # the same documents for all starts
        single.append(ends)
        joined.append(weight_quantization.with_roundings(*ends, fewer))
    bias, coverage = within(joined, truth)
    assert abs(bias) < 0.1
    assert 0.93 < coverage < 0.99
    assert within(single, truth)[1] < 0.7


def test_a_cost_of_roundings_worked_by_hand():
    value, low, high = weight_quantization.with_roundings(0.10, 0.09, 0.12, [0.2, 0.3])
    error = 12.7062 * 0.05  # t of one degree of freedom times the standard error of two
    assert value == pytest.approx(0.15)
    assert (low, high) == pytest.approx(
        (0.15 - math.hypot(0.01, error), 0.15 + math.hypot(0.02, error)), rel=1e-4
    )
    with pytest.raises(ValueError, match="2 starts"):
        weight_quantization.with_roundings(0.1, 0.0, 0.2, [0.1])


def test_measured_columns_are_described(tiny):
    text = (paths.root() / "data" / "weight_quality.md").read_text(encoding="utf-8")
    described = set(re.findall(r"^\| `(\w+)` \|", text, re.M))
    built = [
        (ROW | {"format": "nf4", "shift": 11}, weight_quality.in_format),
        (ROW | {"format": "nf4", "share": 0.5}, weight_quality.pruned),
    ]
    for row, measure in built:
        measured = measure(row)
        assert not set(row) & set(measured)
        assert (set(row) | set(measured)) - {"id"} <= described


# --- the script


@pytest.fixture(scope="module")
def script():
    return weight_quality


def test_no_two_rows_are_the_same_and_every_format_is_there(script):
    rows = script.rows(script.arguments([]))
    assert len({records.identity(row) for row in rows}) == len(rows)
    quality_rows = [row for row in rows if row["what"] == "quality"]
    lab = [row for row in quality_rows if row["model"] == script.SUBJECT]
    assert {row["format"] for row in lab} == set(script.FORMATS)
    assert {row["text"] for row in lab} == set(weight_quality.LAB_TEXTS)
    full = [row for row in lab if row["text"] == weight_quality.LAB_TEXTS[0] and "shift" not in row]
    assert {row["format"] for row in full} == set(script.FORMATS)
    assert min(row["context"] * row["documents"] for row in full) >= 100_000
    shifts = {row["shift"] for row in lab if row["format"] == "nf4" and "shift" in row}
    assert shifts == set(script.SHIFTS)
    ladder = {row["trained_tokens"] for row in rows if row["what"] == "training"}
    assert ladder == set(script.LADDER_TOKENS)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--what", "qualty"], "did you mean 'quality'"),
        (["--formats", "nf5"], "did you mean 'nf4'"),
        (["--models", "minilm-l5"], "did you mean 'minilm-l6'"),
    ],
)
def test_a_word_that_is_none_is_refused_before_anything_is_loaded(script, words, message):
    with pytest.raises(ValueError, match=message):
        script.arguments(words)


# --- the chapter's tables


def rows(**columns):
    return pd.DataFrame(columns)


def costs(values, **columns):
    """Rows of formats of the laboratory's model whose intervals are a tenth of a cost wide."""
    values = np.asarray(values, float)
    ends = {"loss_change_low": 0.95 * values, "loss_change_high": 1.05 * values}
    return rows(loss_change=values, **ends, **columns)


def test_the_cost_of_a_format_covers_its_recorded_starts_or_those_of_others():
    forms = ["fp32", "fp8", "nf4", "nf4", "nf4", "int3"]
    table = costs(
        [0, 0.01, 0.10, 0.2, 0.3, 0.4],
        format=forms,
        model=weight_quantization.SUBJECT,
        text=weight_quantization.TEXTS[0],
        shift=[math.nan, math.nan, math.nan, 0, 11, math.nan],
        bits=[32, 8, 4.5, 4.5, 4.5, 3.5],
        bits_per_byte=[2.0] * 6,
    )
    result = weight_quantization.language(table)
    assert result["lost"].tolist() == pytest.approx([0, 0.005, 0.075, 0.2])
    by_hand = weight_quantization.with_roundings(0.10, 0.095, 0.105, [0.2, 0.3])
    assert result.loc["nf4", ["loss_change", "loss_change_low"]].tolist() == pytest.approx(
        by_hand[:2]
    )
    assert result.loc["fp8", "lost_high"] == pytest.approx(1.05 * 0.005)  # a scale a row
    spread = math.sqrt(0.005) / 0.25  # of the two starts, as a share of their mean
    error = 12.7062 * spread * 0.2
    assert result.loc["int3", "lost_high"] == pytest.approx(0.2 + math.hypot(0.01, error), rel=1e-4)


def make_ladder(power, noise=0.0, seed=0):
    tokens = np.array([1e5, 1e6, 1e7, 1e8])
    wobble = np.random.default_rng(seed).normal(0, noise, 4)
    return costs(
        1e-5 * tokens**power * np.exp(wobble),
        format="nf4",
        trained_tokens=tokens,
        parameters=1e5,
    )


def test_a_power_of_training_tokens_is_found_again():
    exact = weight_quantization.exponents(weight_quantization.ladder(make_ladder(0.5)))
    assert exact.loc["nf4", "power"] == pytest.approx(0.5)
    assert exact.loc["nf4", "growth"] == pytest.approx(1000**0.5)
    broken = make_ladder(0.5)
    broken.loc[0, "loss_change"] = -1e-5
    assert weight_quantization.exponents(broken)["power"].isna().all()


@pytest.mark.parametrize("power", [0.0, 0.5, -0.3])
def test_the_interval_of_a_power_is_unbiased_and_holds_it(power):
    """One training run a step; all other differences are in the residuals."""
    result = [
        weight_quantization.exponents(make_ladder(power, 0.2, seed)).loc[
            "nf4", ["power", "power_low", "power_high"]
        ]
        for seed in range(200)
    ]
    bias, coverage = within(np.array(result, float), power)
    assert abs(bias) < 0.2
    assert 0.91 < coverage < 0.99


def test_four_bits_of_half_the_weights_stand_beside_as_many_dense_bits():
    pruned = costs([0.2, 0.24], format=["fp32", "nf4"], share=0.5, bits=[17.0, 3.6])
    full = costs([0.03, 0.09], format=["nf4", "nf3"], bits=[4.5, 3.5]).set_index("format")
    result = weight_quantization.equal_bytes(pruned, full, "loss_change")
    assert result["bits"].tolist() == [3.6, 3.5, 4.5, 17.0]
    assert result["loss_change"].tolist() == [0.24, 0.09, 0.03, 0.2]
    assert result["weights"].iloc[0] == "50% pruned, NF4"


def test_a_recipe_takes_the_fewest_bits_whose_loss_stays_within_the_tolerance():
    table = rows(
        format=["fp32", "bf16", "int8", "nf4"],
        bits=[32, 16, 8, 4.5],
        lost=[0.0, 0.01, 0.05, 0.2],
        lost_high=[0.0, 0.02, 0.06, 0.25],
    )
    result = weight_quantization.recipe(table, (0.3, 0.0, 0.05, 0.06))
    assert result["format"].tolist() == ["fp32", "bf16", "LLM.int8()", "NF4"]


def test_bits_as_used_count_what_stays_whole_in_bf16():
    """80 bytes of codes and 10 of scales; 40 in fp32 are 20 in bf16: 880 bits for 100."""
    table = rows(
        codes_bytes=[80, 0, math.nan],
        scales_bytes=[10, 0, math.nan],
        codebooks_bytes=[0, 0, math.nan],
        high_precision_bytes=[40, 400, math.nan],
        parameters=[100, 100, 100],
        stored_bytes=[math.nan, math.nan, 50],
    )
    assert weight_quantization.as_used(table).tolist() == [8.8, 32, 4]


# --- what the recorded rows must show


@pytest.fixture(scope="module")
def recorded():
    return records.kinds("weight_quality")


def test_llama_3_moves_further_than_llama_2_in_every_file():
    assert (weight_quantization.divergences()["ratio"] > 2).all()


def test_at_least_ten_formats_of_the_never_rounded_model_on_enough_text(recorded):
    table = weight_quantization.language(recorded["quality"]).drop("fp32")
    assert len(table) >= 10
    assert (table["tokens_scored"] >= 100_000).all()
    assert (table["context"] >= 512).all()
    assert abs(table.loc["bf16", "lost"]) < 0.001
    assert (table["lost_low"] <= table["lost"]).all()
    assert (table["lost"] <= table["lost_high"]).all()


@pytest.fixture(scope="module")
def format_costs(recorded):
    """On the text like that of training, on news, and for the encoder."""
    texts = (
        weight_quantization.language(recorded["quality"], t) for t in weight_quantization.TEXTS
    )
    return *texts, weight_quantization.encoders(recorded["encoder"], "minilm-l6")


def test_both_texts_and_the_encoder_rank_formats_alike_but_not_those_of_four_bits(format_costs):
    """The page says "nearly alike", and "less so" of four bits."""
    first, *others = format_costs
    four = first[first["bits"].between(4, 5) | (first["format"] == "fp32")]
    assert len(four) == 11
    for other in others:
        over_all = weight_quantization.order_agreement(first, other)
        assert over_all > 0.8
        assert weight_quantization.order_agreement(four, other) < over_all - 0.2


def test_data_helps_three_bits_on_both_texts_and_four_bits_on_one(format_costs):
    """The page says so of GPTQ."""
    validation, news, _ = (table["lost"] for table in format_costs)
    assert validation["gptq3"] < validation["int3"]
    assert news["gptq3"] < news["int3"]
    assert validation["gptq4"] < validation["int4"]
    assert news["gptq4"] >= news["int4"]


def test_costs_by_width_are_the_least_and_the_most():
    """Nothing under a hundredth of a percent is written as a number."""
    table = rows(format=["q8", "a4", "b4", "a3"], bits=[8.5, 4.25, 4.56, 3.5])
    model = table.assign(lost=[0.00004, 0.0007, 0.003, 0.0055]).set_index("format")
    encoder = table.assign(lost=[0.02, 0.2, 0.3, 0.4]).set_index("format")
    result = weight_quantization.by_width(model, encoder)
    assert result["formats"].tolist() == [1, 2, 1]
    assert result["added to the loss"].tolist()[:2] == ["under 0.01%", "0.07% to 0.30%"]
    assert result["neighbours misplaced"].tolist()[1] == "20% to 30%"


def test_files_stand_beside_the_smallest_card_that_holds_them():
    """Llama 3 8B's Q4_K_M is published as 4.58 GiB and adds 0.175 to a perplexity of 6.23."""
    table = weight_quantization.files({"llama-3.1-8b": "8B", "llama-3.1-70b": "70B"}, context=1)
    table = table.set_index("file")
    assert table.loc["Q4_K_M", "8B"] == f"{4.58 * 2**30 / 1e9:.1f} GB: 12 GB card"
    assert table.loc["Q4_K_M", "70B"].endswith(": none of them")
    # 9.7 of 12 GB leave a fifth free, 23.4 of 24 GB hardly anything: `sizewise memory` refuses it
    cards = weight_quantization.files({"phi-3-medium": "14B", "qwen3-32b": "32B"}).set_index("file")
    assert cards.loc["Q3_K_M", "14B"] == "9.7 GB: 12 GB card"
    assert cards.loc["Q4_K_M", "32B"] == "23.4 GB: 24 GB card, barely"
    assert table.loc["Q4_K_M", "perplexity"] == pytest.approx(0.1755 / 6.2316, rel=1e-3)


def test_four_bit_products_gain_up_to_eight_rows_and_nothing_from_512_to_1024():
    """The figure's title says "for a few rows at once, not for hundreds"."""
    lines = floor_and_silicon.payoff_lines("int4")
    assert (lines.query("batch <= 8")["speedup"] > 1).all()
    assert (lines.query("512 <= batch <= 1024")["speedup"] < 1.1).all()


def test_what_rounding_costs_grew_with_training_in_every_measured_format(recorded):
    """The figure's title says so."""
    table = weight_quantization.exponents(weight_quantization.ladder(recorded["training"]))
    assert (table["growth"][table["power"].notna()] > 1).all()
