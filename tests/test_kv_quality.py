"""Caches judged by what models predict through them: known models, hand-made caches, every byte."""

import math
import re
import runpy
import sys

import numpy as np
import pytest
import torch
from sizewise import paths
from sizewise.chapters.tables import kv_cache, turboquant
from sizewise.costs import memory, roofline
from sizewise.data import catalog, records
from sizewise.evaluation import likelihood
from sizewise.models import parameters
from sizewise.quantization.kv import store
from sizewise.quantization.kv.cache import TurboQuantCache
from sizewise.quantization.turboquant import lloyd_max

sys.path.insert(0, str(paths.root() / "scripts"))
import kv_quality as cache_trials
import weight_quality

transformers = pytest.importorskip("transformers")
torch.set_num_threads(1)
VOCAB = 96
WINDOWS = np.random.default_rng(3).integers(0, VOCAB, (5, 65))
DOCUMENT, BYTES = np.arange(5), np.ones((5, 64), np.int64)


def small(kind="Llama", **more):
    sizes = {
        "vocab_size": VOCAB,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
    } | more
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}Config")(**sizes)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():  # attention that matters: the first weights hardly look at any token
        for name, weight in model.named_parameters():
            if "q_proj" in name or "k_proj" in name:
                weight.mul_(6)
    return model


@pytest.fixture(scope="module")
def model():
    return small()


@pytest.fixture(scope="module")
def reference(model):
    return cache_trials.read_plain(model, WINDOWS, chunk=16)


def read(model, reference, chunk=16, **stored):
    return cache_trials.read_through(
        model,
        WINDOWS,
        lambda: TurboQuantCache(model.config, **stored),
        reference,
        bytes_of_targets=BYTES,
        document=DOCUMENT,
        chunk=chunk,
        batch=2,
    )


# --- likelihood through a cache


def test_with_the_plain_cache_it_is_the_likelihood_of_one_pass(model, reference):
    result = read(model, reference, keys="plain", values="plain").table
    direct = likelihood.measure(model, WINDOWS, bytes_of_targets=BYTES, document=DOCUMENT)
    assert result["nats"].to_numpy() == pytest.approx(direct["nats"].to_numpy(), rel=1e-5)
    assert result["tokens"].tolist() == direct["tokens"].tolist()
    assert result["document"].tolist() == direct["document"].tolist()
    assert (result["agree"] == result["tokens"]).all()
    assert result["kl"].abs().max() < 1e-4


def test_the_divergence_is_the_one_of_two_models(model, reference):
    """Against `likelihood.measure`, the packed model being one that quantizes as it attends."""
    result = read(model, reference, bits=2).table
    with torch.no_grad():
        logs = [
            model(
                input_ids=torch.from_numpy(WINDOWS[:, :-1]), past_key_values=cache, use_cache=True
            )
            .logits.double()
            .log_softmax(-1)
            for cache in (TurboQuantCache(model.config, bits=2), None)
        ]
    kl = (logs[1].exp() * (logs[1] - logs[0])).sum((-1, -2))
    agree = (logs[0].argmax(-1) == logs[1].argmax(-1)).sum(-1)
    assert result["kl"].to_numpy() == pytest.approx(kl.numpy(), rel=1e-3)
    assert result["agree"].tolist() == agree.tolist()
    assert result["kl"].min() > 0.01


@pytest.mark.parametrize("stored", [{"bits": 3}, {"keys": ("uniform", 3), "values": "int8"}])
def test_the_current_token_is_packed_too_so_that_chunks_do_not_matter(model, reference, stored):
    full, fine = (read(model, reference, chunk, **stored).table["nats"] for chunk in (64, 4))
    plain = read(model, reference, keys="plain", values="plain").table["nats"]
    assert fine.to_numpy() == pytest.approx(full.to_numpy(), rel=1e-5)
    assert (fine - plain).abs().max() > 1e-3


def test_a_window_of_plain_tokens_loses_less(model, reference):
    packed, window = (
        read(model, reference, 4, bits=2, residual=r).table["kl"].sum() for r in (0, 16)
    )
    assert window < 0.9 * packed


def test_fewer_bits_lose_more(model, reference):
    lost = [read(model, reference, bits=bits).table["kl"].sum() for bits in (8, 4, 3, 2, 1)]
    assert lost == sorted(lost)
    assert lost[0] < 0.01 * lost[-1]


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_bytes_of_a_window_are_counted_with_their_norms(model, reference, bits):
    stored = read(model, reference, bits=bits).bytes
    assert stored == 2 * 2 * 2 * 64 * (16 * bits / 8 + 2)  # layers, sides, heads, tokens
    assert reference.values == 2 * 2 * 2 * 64 * 16


def test_windowed_layers_hold_their_window():
    model = small(
        "Gemma3Text", sliding_window=16, layer_types=["sliding_attention", "full_attention"]
    )
    reference = cache_trials.read_plain(model, WINDOWS, chunk=8)
    result = read(model, reference, 8, keys="plain", values="plain")
    assert reference.values == 2 * 2 * (15 + 64) * 16
    assert result.bytes == 4 * reference.values
    assert result.table["kl"].abs().max() < 1e-4


def test_what_cannot_be_compared_is_refused(model, reference):
    with pytest.raises(ValueError, match="reference read"):
        cache_trials.read_through(
            model, WINDOWS[:2], lambda: None, reference, bytes_of_targets=BYTES, document=DOCUMENT
        )
    with pytest.raises(ValueError, match="must be full"):
        cache_trials.read_plain(model, np.where(np.arange(65) > 60, likelihood.PADDING, WINDOWS))
    capped = small("Gemma2", layer_types=["full_attention"] * 2)
    with pytest.raises(ValueError, match="final_logit_softcapping"):
        cache_trials.read_plain(capped, WINDOWS)


def test_keys_and_values_are_those_of_the_cache(model):
    result = cache_trials.keys_and_values(model, WINDOWS, chunk=8)
    cache = transformers.DynamicCache(config=model.config)
    with torch.no_grad():
        model(input_ids=torch.from_numpy(WINDOWS[:, :-1]), past_key_values=cache)
    for (keys, values), layer in zip(result, cache.layers, strict=True):
        assert torch.allclose(keys, layer.keys, atol=1e-5)
        assert torch.allclose(values, layer.values, atol=1e-5)


# --- facts in a haystack


class Words:
    """A tokenizer with one token a word, the space and the full stop going with it."""

    def __init__(self):
        self.known = {}

    def __call__(self, text, add_special_tokens=True):
        parts = re.findall(r"\s*[^\s.]+|\.", text)
        return {"input_ids": [self.known.setdefault(p.strip(), len(self.known)) for p in parts]}


SENTENCES = tuple(f"word{k} stands before other{k} here." for k in range(40))


@pytest.fixture(scope="module")
def words():
    tokenizer = Words()
    tokenizer(
        " ".join((*SENTENCES, *cache_trials.NAMES, *cache_trials.WORDS)) + " The secret word of is"
    )
    return tokenizer


@pytest.mark.parametrize("context", [150, 400])
def test_every_fact_is_at_its_stated_place_in_the_text(words, context):
    stack = cache_trials.haystack(words, SENTENCES, context, needles=5, seed=1)
    decoded = {number: word for word, number in words.known.items()}
    text = [decoded[item] for item in stack.ids]
    longest = max(len(q.ids) + len(q.answer) for q in stack.questions)
    assert context - 40 < len(stack.ids) + longest <= context
    assert text.count("secret") == len(stack.questions) == 5
    assert len({q.answer for q in stack.questions}) == 5
    for question in stack.questions:
        end = len(text) - question.distance
        requested, answer = (
            [decoded[item] for item in part] for part in (question.ids, question.answer)
        )
        assert text[end - len(requested) - 2 : end] == [*requested, *answer, "."]


def test_a_haystack_is_a_function_of_its_seed(words):
    item, same, other = (
        cache_trials.haystack(words, SENTENCES, 200, needles=3, seed=s) for s in (1, 1, 2)
    )
    assert item == same != other


def test_facts_are_spread_over_the_text(words):
    stack = cache_trials.haystack(words, SENTENCES, 800, needles=8)
    parts = sorted(8 * (len(stack.ids) - q.distance - 1) // len(stack.ids) for q in stack.questions)
    assert all(abs(part - place) <= 1 for part, place in zip(parts, range(8), strict=True))


def test_a_context_without_room_is_refused(words):
    with pytest.raises(ValueError, match="too short"):
        cache_trials.haystack(words, SENTENCES, 40, needles=8)
    with pytest.raises(ValueError, match="the needles"):
        cache_trials.haystack(words, SENTENCES, 400, needles=99)


def test_answers_are_scored_by_the_model_that_saw_the_text(words):
    model = small(vocab_size=len(words.known))
    stack = cache_trials.haystack(words, SENTENCES, 150, needles=4)
    plain = cache_trials.ask(
        model, stack, lambda: TurboQuantCache(model.config, keys="plain", values="plain"), chunk=8
    )
    for row, item in zip(plain.itertuples(), stack.questions, strict=True):
        ids = torch.tensor([stack.ids + item.ids])
        with torch.no_grad():
            log_p = model(input_ids=ids).logits[0, -1].log_softmax(-1)
        assert row.nats == pytest.approx(-log_p[item.answer[0]].item(), abs=1e-4)
        assert row.right == int(log_p.argmax() == item.answer[0])
    packed = cache_trials.ask(model, stack, lambda: TurboQuantCache(model.config, bits=1))
    assert (packed["nats"] - plain["nats"]).abs().max() > 0.01


# --- tables of the chapters


def test_factors_are_those_worked_by_hand():
    steps = kv_cache.steps(["llama-3.1-70b", "gemma-3-27b"], 131072)
    by = kv_cache.factors(steps).set_index("model")
    assert by.loc["llama-3.1-70b"].tolist() == pytest.approx([8, 1, 16 / 3.125])
    n, w = 131072, 1024  # 62 layers, one in six without a window
    assert by.loc["gemma-3-27b", "windowed layers"] == pytest.approx(62 * n / (10 * n + 52 * w))


def test_reading_a_long_prompt_waits_for_arithmetic():
    """The page says that a smaller cache does not make it faster."""
    model, device = parameters.describe("llama-3.1-8b"), catalog.device("H100")
    assert roofline.prefill(model, device, 131072).bound == "compute"


def test_less_cache_saves_its_share_of_the_memory():
    table = kv_cache.hardware("llama-3.1-8b", (8192,), (1, 64), 6)
    for row in table.itertuples():
        assert row.factor == pytest.approx(1 / (1 - row.cache * 5 / 6), rel=1e-6)
        assert 1 < row.factor < 6


def test_a_filled_device_is_cheaper_by_its_sequences():
    from sizewise.data import catalog

    device = catalog.device("H100")
    plain, packed = (kv_cache.filled("llama-3.1-8b", device, 8192, kv) for kv in ("bf16", "tq3"))
    model = parameters.describe("llama-3.1-8b")
    room = device.memory_bytes - memory.weights_bytes(model)
    assert plain[0] == room // (8192 * 131072)
    assert packed[0] > 5 * plain[0]
    assert plain[1] / packed[1] > 4  # dollars
    with pytest.raises(ValueError, match="no room"):
        kv_cache.filled("llama-3.1-405b", device, 8192, "bf16")


def recorded(**more):
    """A row on loss as recorded: four bits for keys and values, all tokens packed."""
    row = {
        **{"what": "quality", "model": "a", "text": "sotu", "context": 257, "documents": 8},
        **{"keys": "turboquant", "keys_bits": 4, "values": "turboquant", "values_bits": 4},
        **{"rotation": "haar", "residual": 0, "seed": 0, "bits": 4.25},
    }
    change = more.pop("change", 0.1)
    ends = {"perplexity_change_low": change - 0.01, "perplexity_change_high": change + 0.01}
    return row | {"perplexity_change": change} | ends | more


PLAIN = {"keys": "plain", "keys_bits": math.nan, "values": "plain", "values_bits": None}


@pytest.mark.parametrize(
    ("row", "name"),
    [
        (PLAIN, "plain"),
        ({}, "TurboQuant 4"),
        ({"keys": "int8", "keys_bits": 8, "values": "int8", "values_bits": 8}, "int8"),
        ({"keys": "kivi", "values_bits": 3.0}, "K KIVI 4, V TurboQuant 3"),
        ({"seed": 2, "residual": 32}, "TurboQuant 4, newest 32 plain, seed 2"),
        ({"rotation": "hadamard", "sink": 4}, "TurboQuant 4, Hadamard, first 4 plain"),
        ({"center": "rope"}, "TurboQuant 4, mean taken out before RoPE"),
    ],
)
def test_ways_have_names(row, name):
    absent = dict.fromkeys(turboquant.IDENTITY) | {"sink": math.nan}
    assert turboquant.way(absent | recorded(**row)) == name


@pytest.fixture
def rows(monkeypatch):
    """`turboquant.quality` of rows in the place of those on disk."""
    import pandas

    def quality(*rows):
        monkeypatch.setattr(records, "table", lambda stem: pandas.DataFrame(list(rows)))
        return turboquant.quality()

    return quality


@pytest.mark.parametrize("last", [4, 16])
def test_of_rows_alike_the_one_with_most_documents_stays(rows, last):
    table = rows(
        recorded(documents=8, change=0.2),
        recorded(documents=last, change=0.3),
        recorded(center="rope", documents=2),
        recorded(context=2049, documents=2),
        recorded(what="layer"),
    )
    assert sorted(table["documents"]) == [2, max(8, last)]
    assert table["way"].is_unique


def test_plain_tokens_count_sixteen_bits(rows):
    """Of 257 tokens 32 in fp32 instead of bf16 are 16 x 32 / 257 bits a token too many."""
    table = rows(recorded(residual=32, bits=6), recorded(residual=32, plain="bf16", bits=4))
    assert table["bits"].tolist() == pytest.approx([6 - 16 * 32 / 257, 4])


MODE = {"residual": 32, "plain": "bf16"}
KIVI = {"keys": "kivi", "values": "kivi"}


def width(bits, **more):
    return {"keys_bits": bits, "values_bits": bits} | more


def test_each_method_has_a_line_of_its_own_mode(rows):
    table = rows(
        recorded(),
        recorded(**MODE, sink=4),
        recorded(**MODE),  # no server has this mode without its first tokens
        recorded(**MODE, sink=4, center="rope"),
        recorded(**MODE, **KIVI),
        recorded(**KIVI),
        recorded(values="plain"),
        recorded(model="b"),
    )
    assert turboquant.lines(table, "a")["method"].tolist() == [
        *("TurboQuant, mean out", "TurboQuant", "KIVI", "TurboQuant, all packed")
    ]


def test_at_equal_bytes_kivi_is_read_between_its_widths(rows):
    """At 3.25 bits, half-way from 2.75 to 3.75, 1 % is half-way from 10 % to 0.1 % in logarithm."""
    table = rows(
        recorded(**MODE, **KIVI, **width(2), bits=2.75, change=0.1),
        recorded(**MODE, **KIVI, **width(3), bits=3.75, change=0.001),
        recorded(**MODE, sink=4, **width(3), bits=3.25, change=0.05),
        recorded(**MODE, sink=4, **width(2), bits=2.25, change=0.05),
        recorded(**MODE, sink=4, center="rope", **width(2), bits=2.25, change=0.3),
    )
    result = turboquant.equal_bytes(table).set_index(["method", "width"])
    plain, cured = result.loc["TurboQuant"], result.loc["TurboQuant, mean out"]
    assert plain.loc[3, "KIVI"] == pytest.approx(0.01)
    assert plain.loc[3, "better"] == "KIVI"
    assert plain.loc[2, ["KIVI", "KIVI's bits"]].tolist() == pytest.approx([0.1, 2.75])
    assert plain.loc[2, "better"] == "TurboQuant"
    assert cured.loc[2, "better"] == "KIVI"
    table = turboquant.equal_bytes(table)
    beside = turboquant.side_by_side(table).set_index("width")
    assert beside.loc[2, "with its mean key taken out"] == 0.3
    assert math.isnan(beside.loc[3, "with its mean key taken out"])
    assert turboquant.wins(table.assign(model="smollm2-135m"), "KIVI") == ("2 of 3 on SmolLM2 135M")


def test_advice_is_the_fewest_bits_within_the_loss_in_every_model(rows):
    table = rows(
        *(recorded(model=model, **KIVI, bits=4.75, change=0.01) for model in "ab"),
        recorded(model="a", bits=4.17, change=0.01),
        recorded(model="b", bits=4.17, change=0.2),
        recorded(model="a", **width(3), bits=3.25, change=0.001),  # not measured on b
        *(recorded(model=model, sink=4, bits=4.23, change=0.1) for model in "ab"),
    )
    picks = turboquant.advice(table, (0.001, 0.025, 0.3))
    # At 4.17 bits TurboQuant 4 would do, but at 4.23 it loses half.
    assert picks["way"].tolist() == ["bf16", "KIVI 4", "TurboQuant 4, first 4 plain"]
    assert picks["bits"].tolist() == [16, 4.75, 4.23]


def test_the_announcement_stands_beside_what_was_measured(rows):
    """Sixteen bits over 4.25 are 3.8 times; of two models the least and the most are listed."""
    packed = rows(
        *(recorded(model=model, change=change) for model, change in (("a", 0.05), ("b", 1.7))),
        recorded(**width(3), bits=3.25, change=0.24),
    )
    ours = rows(*(recorded(**MODE, sink=4, **width(b), bits=b + 1, change=0.01) for b in (4, 3, 2)))
    mode = "TurboQuant {}, first 4 plain, newest 32 plain"
    table = turboquant.against_announcement(packed, ours, mode)
    assert table.loc[1, ["smaller", "smaller_most", "lost", "lost_most"]].tolist() == pytest.approx(
        [16 / 4.25, 16 / 4.25, 0.05, 1.7]
    )
    table = turboquant.in_print(table)
    assert table["bits a code"].tolist() == [3, 4, 3, 4, 3, 2, 4, 3]
    assert table["models"].tolist()[1:6] == [2, 1, 1, 1, 1]
    assert table["times smaller than bf16"].tolist()[:4] == ["6.0", "3.8", "4.9", "3.2"]
    assert table["perplexity added"].tolist()[:3] == ["+0.0%", "+5.0% to +170%", "+24.0%"]
    assert table["perplexity added"].tolist()[-2:] == ["+2.7%", "+20.6%"]


def test_remedies_stand_beside_the_method_with_all_packed(rows):
    name = list(turboquant.MODELS)[-1]
    table = rows(
        recorded(model=name, center="rope", change=0.02),
        recorded(model=name, change=1.7),
        recorded(model=name, **KIVI, change=0.01),
        recorded(model=name, **width(3)),
    )
    cured = turboquant.remedies(table)
    assert cured["perplexity_change"].tolist() == [1.7, 0.02, 0.01]
    assert cured["label"].tolist() == [
        f"{turboquant.MODELS[name]}: {form}"
        for form in ("all packed", "mean out before RoPE", "KIVI")
    ]
    assert turboquant.added(table, "TurboQuant 4").to_dict() == {name: 1.7}


def test_presets_of_vllm_lose_more_than_the_smallest_model_in_its_own_mode():
    """The section's title says so."""
    long = turboquant.quality(turboquant.LONG)
    losses = turboquant.lines(long, "smollm2-135m").query("method == 'TurboQuant'")
    losses = losses.set_index("keys_bits")["perplexity_change"]
    preset = records.fact("turboquant", "turboquant-vllm-perplexity")["figures"]
    assert all(preset[f"{bits}_bits"]["value"] > losses[bits] for bits in (4, 3))


def test_the_sketch_costs_more_than_the_bit_that_it_takes():
    """At every width `prod` errs more in inner products than the others at one bit less."""
    errors = records.table("turboquant_theory").query("what == 'sampled' and dim == 128")
    errors = errors[errors["rotation"] == "haar"]
    errors = errors.pivot_table(index="bits", columns="variant", values="inner")
    for bits in (2, 3, 4):
        assert errors.loc[bits, "prod"] > errors.loc[bits - 1, "eden-unbiased"]


@pytest.mark.parametrize(
    ("value", "text"), [(0.0469, "+4.7%"), (-0.001, "-0.1%"), (53.19, "+5,319%")]
)
def test_changes_stay_readable_however_large(value, text):
    assert turboquant.percent(value) == text


def test_classes_with_keys_and_values_run_and_others_are_refused():
    classes = ("Gemma3Text", "Mistral", "DeepseekV3", "Mamba")
    assert [turboquant.runs(name) for name in classes] == [True, True, False, False]


def test_held_bytes_are_the_counted_ones():
    table = kv_cache.measured_bytes(layers=2, heads=2, dim=64, tokens=100, bits=(16, 4, 3, 2))
    assert (table["in memory"] == table["counted"]).all()
    assert table["times smaller"].tolist() == pytest.approx([1, 16 / 4.25, 16 / 3.25, 16 / 2.25])


def test_print_and_theory_differ_as_computed_here():
    import pandas as pd

    exact = pd.DataFrame(
        [
            {"dim": d, "bits": b, "distortion": lloyd_max.lloyd_max(b, d).distortion}
            for d in (128, None)
            for b in (1, 2, 3, 4)
        ]
    )
    sampled = pd.DataFrame(
        [{"dim": 128, "bits": b, "variant": "mse", "distortion": 0.1 * b} for b in (1, 2, 3, 4)]
    )
    table = turboquant.against_print({"codebook": exact, "sampled": sampled}, 128).set_index("bits")
    assert table.loc[3, "print off by"] == pytest.approx(0.03 / 0.034548 - 1, abs=1e-3)
    assert table.loc[4, "sampled"] == pytest.approx(0.4)


def test_printed_encoding_times_exceed_the_device():
    # An A100 has 312e12 in bf16.
    assert turboquant.encode_rate(3072) == pytest.approx(898.8e12, rel=1e-3)
    assert turboquant.encode_rate(3072, again=True) < 20e12


# --- the script


@pytest.fixture(scope="module")
def script():
    return cache_trials


@pytest.fixture
def subject(script, monkeypatch):
    """A tiny model in the place of a pretrained one."""
    tiny = small()

    def sample(context, documents, text):
        subset = np.random.default_rng(len(text)).integers(0, VOCAB, (documents, context))
        return weight_quality.Sample(
            subset, np.ones((documents, context - 1), np.int64), np.arange(documents)
        )

    built = weight_quality.Subject("tiny", tiny, sample, None, "0" * 64)
    monkeypatch.setattr(weight_quality, "named", lambda name: built)
    for name in ("original", "states", "answers"):
        getattr(cache_trials, name).cache_clear()
    return built


def described():
    text = (paths.root() / "data" / "kv_quality.md").read_text(encoding="utf-8")
    return set(re.findall(r"^\| `(\w+)` \|", text, re.M))


def test_all_rows_have_their_own_identity_and_the_controls_are_there(script):
    inputs = script.arguments(["--models", "smollm2-135m,gemma-3-270m"])
    rows = [row for kind in ("quality", "long", "needle") for row in script.rows(kind, inputs)]
    names = [records.identity(row) for row in rows]
    assert len(set(names)) == len(names)
    every = [r for r in rows if r["what"] == "quality" and r["model"] == "smollm2-135m"]
    first = [r for r in every if r["context"] < script.LONG]
    long = [r for r in every if r["context"] == script.LONG]
    assert (script.LONG - 1) * script.LONG_DOCUMENTS >= 16_000
    modes = {(r["keys"], r["residual"], r.get("sink")) for r in long if r["keys_bits"] == 2}
    assert modes == {
        (method, script.LONG_RESIDUAL, sink)
        for method, sink in (("kivi", None), ("turboquant", 4), ("turboquant", None))
    }
    assert {r["seed"] for r in first} == {0, 1, 2}
    assert {r["rotation"] for r in first} == {"haar", "hadamard"}
    assert (
        {"plain", *store.methods()}
        >= {r["keys"] for r in first}
        >= {
            "plain",
            "int8",
            "fp8",
            "uniform",
            "kivi",
            "turboquant",
            "prod",
            "eden-biased",
            "eden-unbiased",
            "norm-corrected",
        }
    )
    assert any(r["residual"] for r in first)
    assert all(row["chunk"] < row["residual"] for row in first if row["residual"])
    assert {r["model"] for r in rows if r["what"] == "needle"} == {"smollm2-135m"}


def test_a_row_of_each_kind_has_the_described_columns(script, subject):
    small_text = {"text": "sotu", "context": 33, "documents": 3}
    for row in (
        {
            "what": "quality",
            "model": "tiny",
            **cache_trials.way("turboquant", 3),
            **small_text,
            "chunk": 8,
        },
        {"what": "layer", "model": "tiny", "layer": 1, "side": "values", **small_text, "seed": 0},
    ):
        measured = script.measure(row)
        assert not row.keys() & measured.keys()
        assert row.keys() | measured.keys() <= described()
        assert all(math.isfinite(v) for v in measured.values() if isinstance(v, float))


@pytest.mark.parametrize("center", ["mean", "rope"])
def test_keys_without_their_common_part_and_plain_tokens_are_rows_of_their_own(
    script, subject, center
):
    row = next(item for item in script.many() if item.get("center") == center)
    base = {"model": "tiny", "text": "sotu", "context": 33, "documents": 2, "chunk": 8}
    built = cache_trials.through_cache({"what": "quality", **base, **row})
    assert built["bits"] > 4
    sink = next(item for item in script.many() if item.get("sink"))
    mixed = cache_trials.through_cache({"what": "quality", **base, **sink})
    assert mixed["kl"] < built["kl"]
    assert set(row) | set(sink) <= described()


def test_the_plain_row_is_the_plain_cache(script, subject):
    row = {
        "what": "quality",
        "model": "tiny",
        **cache_trials.way(),
        "text": "sotu",
        "context": 33,
        "documents": 3,
        "chunk": 8,
    }
    result = script.measure(row)
    assert result["bits"] == 32
    assert abs(result["perplexity_change"]) < 1e-6
    assert result["agreement"] == 1
    low, high = result["perplexity_change_low"], result["perplexity_change_high"]
    assert low <= result["perplexity_change"] <= high


def test_errors_of_layers_are_those_of_the_codes(script, subject):
    row = {
        "what": "layer",
        "model": "tiny",
        "layer": 0,
        "side": "keys",
        "text": "sotu",
        "context": 129,
        "documents": 4,
        "seed": 0,
    }
    result = script.measure(row)
    assert result["vectors"] == 4 * 2 * 128
    assert result["norm_5"] < result["norm"] < result["norm_95"]
    assert 0 < result["constant"] < 1
    for bits in (2, 3, 4):
        exact = lloyd_max.lloyd_max(bits, 16).distortion
        assert result[f"error_turboquant_{bits}"] == pytest.approx(exact, rel=0.25)


def test_a_part_that_keys_share_is_measured_by_its_share_of_length(script, subject, monkeypatch):
    """Length 5 of which 4 is the same in all: 16 of 25. A range for each channel gains by it."""
    draw = torch.Generator().manual_seed(0)
    apart = torch.randn(4, 2, 128, 16, generator=draw)
    apart -= apart.mean((0, 2), keepdim=True)
    apart *= 3 / apart.square().sum(-1).mean((0, 2)).sqrt()[:, None, None]
    keys = apart + 4 / 16**0.5
    monkeypatch.setattr(cache_trials, "states", lambda key: [(keys, apart)])
    row = {
        "what": "layer",
        "model": "tiny",
        "layer": 0,
        "side": "keys",
        "text": "sotu",
        "context": 129,
        "documents": 4,
        "seed": 0,
    }
    result = script.measure(row)
    assert result["constant"] == pytest.approx(16 / 25, rel=1e-4)
    assert script.measure(row | {"side": "values"})["constant"] < 1e-6
    gain = result["error_turboquant_3"] / result["error_kivi_3"]
    plain = script.measure(row | {"side": "values"})
    assert gain > 2 * plain["error_turboquant_3"] / plain["error_kivi_3"]


def test_the_command_lists_its_rows_and_names_what_it_does_not_know(script, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["kv_quality.py", "--what", "quality", "--list"])
    script.main()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(script.many())
    for words in (["--what", "qualty"], ["--models", "smollm2"]):
        monkeypatch.setattr("sys.argv", ["kv_quality.py", *words])
        with pytest.raises(SystemExit) as stopped:
            runpy.run_path(str(paths.root() / "scripts" / "kv_quality.py"), run_name="__main__")
        assert str(stopped.value).startswith("kv_quality: unknown")
