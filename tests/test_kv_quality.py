"""Caches judged by what models predict through them: known models, hand-made caches, every byte."""

import importlib.util
import math
import re
import runpy

import numpy as np
import pytest
import torch
from sizewise import paths
from sizewise.chapters.figures import kv_cache as figures
from sizewise.chapters.figures import style
from sizewise.chapters.tables import gpu_kv, kv_cache, turboquant
from sizewise.chapters.tables import kv_quality as quality_rows
from sizewise.costs import memory
from sizewise.data import records
from sizewise.evaluation import likelihood
from sizewise.experiments import kv_quality as cache_trials
from sizewise.models import parameters
from sizewise.quantization.kv import evaluate, needle, store
from sizewise.quantization.kv.cache import TurboQuantCache
from sizewise.quantization.turboquant import lloyd_max

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
    return evaluate.original(model, WINDOWS, chunk=16)


def read(model, reference, chunk=16, **stored):
    return evaluate.measure(
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
    found = read(model, reference, keys="plain", values="plain").table
    direct = likelihood.measure(model, WINDOWS, bytes_of_targets=BYTES, document=DOCUMENT)
    assert found["nats"].to_numpy() == pytest.approx(direct["nats"].to_numpy(), rel=1e-5)
    assert found["tokens"].tolist() == direct["tokens"].tolist()
    assert found["document"].tolist() == direct["document"].tolist()
    assert (found["agree"] == found["tokens"]).all()
    assert found["kl"].abs().max() < 1e-4


def test_the_divergence_is_the_one_of_two_models(model, reference):
    """Against `likelihood.measure`, the packed model being one that quantizes as it attends."""
    found = read(model, reference, bits=2).table
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
    assert found["kl"].to_numpy() == pytest.approx(kl.numpy(), rel=1e-3)
    assert found["agree"].tolist() == agree.tolist()
    assert found["kl"].min() > 0.01


@pytest.mark.parametrize("stored", [{"bits": 3}, {"keys": ("uniform", 3), "values": "int8"}])
def test_the_current_token_is_packed_too_so_that_chunks_do_not_matter(model, reference, stored):
    whole, fine = (read(model, reference, chunk, **stored).table["nats"] for chunk in (64, 4))
    plain = read(model, reference, keys="plain", values="plain").table["nats"]
    assert fine.to_numpy() == pytest.approx(whole.to_numpy(), rel=1e-5)
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
    held = read(model, reference, bits=bits).bytes
    assert held == 2 * 2 * 2 * 64 * (16 * bits / 8 + 2)  # layers, sides, heads, tokens
    assert reference.values == 2 * 2 * 2 * 64 * 16


def test_windowed_layers_hold_their_window():
    model = small(
        "Gemma3Text", sliding_window=16, layer_types=["sliding_attention", "full_attention"]
    )
    reference = evaluate.original(model, WINDOWS, chunk=8)
    found = read(model, reference, 8, keys="plain", values="plain")
    assert reference.values == 2 * 2 * (15 + 64) * 16
    assert found.bytes == 4 * reference.values
    assert found.table["kl"].abs().max() < 1e-4


def test_what_cannot_be_compared_is_refused(model, reference):
    with pytest.raises(ValueError, match="reference read"):
        evaluate.measure(
            model, WINDOWS[:2], lambda: None, reference, bytes_of_targets=BYTES, document=DOCUMENT
        )
    with pytest.raises(ValueError, match="must be full"):
        evaluate.original(model, np.where(np.arange(65) > 60, likelihood.PADDING, WINDOWS))
    capped = small("Gemma2", layer_types=["full_attention"] * 2)
    with pytest.raises(ValueError, match="final_logit_softcapping"):
        evaluate.original(capped, WINDOWS)


def test_greedy_text_is_what_generate_writes(model, monkeypatch):
    monkeypatch.setattr(model.generation_config, "eos_token_id", None)
    ids = torch.from_numpy(WINDOWS[:2, :20])
    wanted = model.generate(
        ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=12
    )
    found = evaluate.greedy(model, ids, transformers.DynamicCache(config=model.config), 12)
    assert found.tolist() == wanted[:, 20:].tolist()


def test_keys_and_values_are_those_of_the_cache(model):
    found = evaluate.keys_and_values(model, WINDOWS, chunk=8)
    cache = transformers.DynamicCache(config=model.config)
    with torch.no_grad():
        model(input_ids=torch.from_numpy(WINDOWS[:, :-1]), past_key_values=cache)
    for (keys, values), layer in zip(found, cache.layers, strict=True):
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
    tokenizer(" ".join((*SENTENCES, *needle.NAMES, *needle.WORDS)) + " The secret word of is")
    return tokenizer


@pytest.mark.parametrize("context", [150, 400])
def test_every_fact_stands_in_the_text_where_it_is_said_to(words, context):
    stack = needle.haystack(words, SENTENCES, context, needles=5, seed=1)
    back = {number: word for word, number in words.known.items()}
    text = [back[one] for one in stack.ids]
    longest = max(len(q.ids) + len(q.answer) for q in stack.questions)
    assert context - 40 < len(stack.ids) + longest <= context
    assert text.count("secret") == len(stack.questions) == 5
    assert len({q.answer for q in stack.questions}) == 5
    for question in stack.questions:
        end = len(text) - question.distance
        asked, answer = ([back[one] for one in part] for part in (question.ids, question.answer))
        assert text[end - len(asked) - 2 : end] == [*asked, *answer, "."]


def test_a_haystack_is_a_function_of_its_seed(words):
    one, same, other = (
        needle.haystack(words, SENTENCES, 200, needles=3, seed=s) for s in (1, 1, 2)
    )
    assert one == same != other


def test_facts_are_spread_over_the_text(words):
    stack = needle.haystack(words, SENTENCES, 800, needles=8)
    parts = sorted(8 * (len(stack.ids) - q.distance - 1) // len(stack.ids) for q in stack.questions)
    assert all(abs(part - wanted) <= 1 for part, wanted in zip(parts, range(8), strict=True))


def test_a_context_without_room_is_refused(words):
    with pytest.raises(ValueError, match="too short"):
        needle.haystack(words, SENTENCES, 40, needles=8)
    with pytest.raises(ValueError, match="the needles"):
        needle.haystack(words, SENTENCES, 400, needles=99)


def test_answers_are_scored_by_the_model_that_saw_the_text(words):
    model = small(vocab_size=len(words.known))
    stack = needle.haystack(words, SENTENCES, 150, needles=4)
    plain = needle.ask(
        model, stack, lambda: TurboQuantCache(model.config, keys="plain", values="plain"), chunk=8
    )
    for row, one in zip(plain.itertuples(), stack.questions, strict=True):
        ids = torch.tensor([stack.ids + one.ids])
        with torch.no_grad():
            log_p = model(input_ids=ids).logits[0, -1].log_softmax(-1)
        assert row.nats == pytest.approx(-log_p[one.answer[0]].item(), abs=1e-4)
        assert row.right == int(log_p.argmax() == one.answer[0])
    packed = needle.ask(model, stack, lambda: TurboQuantCache(model.config, bits=1))
    assert (packed["nats"] - plain["nats"]).abs().max() > 0.01


# --- tables of the chapters


def test_factors_are_those_worked_by_hand():
    steps = kv_cache.steps(["llama-3.1-70b", "gemma-3-27b"], 131072)
    by = kv_cache.factors(steps).set_index("model")
    assert by.loc["llama-3.1-70b"].tolist() == pytest.approx([8, 1, 16 / 3.125])
    n, w = 131072, 1024  # 62 layers, one in six without a window
    assert by.loc["gemma-3-27b", "windowed layers"] == pytest.approx(62 * n / (10 * n + 52 * w))


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
    assert plain["sequences"] == room // (8192 * 131072)
    assert packed["sequences"] > 5 * plain["sequences"]
    assert plain["dollars"] / packed["dollars"] > 4
    with pytest.raises(ValueError, match="no room"):
        kv_cache.filled("llama-3.1-405b", device, 8192, "bf16")


@pytest.mark.parametrize(
    ("row", "wanted"),
    [
        ({}, "plain"),
        ({"keys": "int8", "keys_bits": 8, "values": "int8", "values_bits": 8}, "int8"),
        (
            {"keys": "kivi", "keys_bits": 4.0, "values": "turboquant", "values_bits": 3},
            "K kivi 4, V turboquant 3",
        ),
        ({"keys": "turboquant", "keys_bits": 3, "seed": 2}, "K turboquant 3, V plain, seed 2"),
        ({"residual": 32, "rotation": "hadamard"}, "plain, Hadamard, newest 32 plain"),
    ],
)
def test_ways_have_names(row, wanted):
    plain = {
        "keys": "plain",
        "keys_bits": math.nan,
        "values": "plain",
        "values_bits": None,
        "rotation": "haar",
        "residual": 0,
        "seed": 0,
    }
    assert quality_rows.label(plain | row) == wanted


def recorded(what="quality", model="a", keys="turboquant", bits=4, documents=8, **more):
    """A row as recorded, with the same method for values."""
    change = more.pop("change", 0.1)
    row = {
        "what": what,
        "model": model,
        "keys": keys,
        "keys_bits": bits,
        "values": keys,
        "values_bits": bits,
        "rotation": "haar",
        "residual": 0,
        "seed": 0,
        "text": "sotu",
        "context": 257,
        "documents": documents,
        "bits": 4.25,
        "kl": 0.1,
        "agreement": 0.9,
    }
    ends = {f"perplexity_change{end}": change for end in ("", "_low", "_high")}
    return row | ends | more


@pytest.fixture
def kept(monkeypatch):
    """Rows in the place of those on disk, by the stem of their file."""

    def put(**files):
        import pandas

        monkeypatch.setattr(records, "read", lambda stem: files.get(stem, []))
        monkeypatch.setattr(
            records, "table", lambda stem: pandas.json_normalize(files.get(stem, []), max_level=1)
        )

    return put


@pytest.mark.parametrize("last", [4, 16])
def test_of_rows_alike_the_one_with_most_documents_is_kept(kept, last):
    first = 20 - last  # 16 before 4, and 4 before 16
    doubled = [
        recorded(what, keys=keys, bits=bits, documents=documents, nats=documents, **more)
        for documents in (first, last)
        for keys, bits in (("plain", None), ("turboquant", 4))
        for what, more in (
            ("quality", {"chunk": 64}),
            ("needle", {"needles": 8, "context": 512}),
            ("needle", {"needles": 8, "context": 1024}),
            ("generation", {"tokens": 200}),
        )
    ] + [
        {"what": "layer", "model": "a", "layer": 3, "side": side, "documents": documents}
        for documents in (first, last)
        for side in ("keys", "values")
    ]
    kept(kv_quality=[*doubled, recorded(model="b", documents=2, chunk=64)])
    for what, count in (("quality", 2), ("needle", 4), ("generation", 2), ("layer", 2)):
        found = quality_rows.chosen(what, "a")
        assert len(found) == count
        assert set(found["documents"]) == {16}
    assert len(quality_rows.quality()) == 3
    assert quality_rows.quality("b")["documents"].tolist() == [2]
    assert quality_rows.quality("a")["way"].is_unique
    assert quality_rows.quality("c").empty
    needles = quality_rows.chosen("needle", "a")
    assert needles.pivot(index="way", columns="context", values="nats").shape == (2, 2)


def test_the_worst_model_is_named_and_what_was_not_measured_too(kept):
    kept(
        kv_quality=[
            recorded(change=0.047),
            recorded(model="b", change=1.7229),
            recorded(keys="int8", bits=8, change=0.004),
        ]
    )
    rows = quality_rows.quality()
    assert quality_rows.at_most(rows, "turboquant 4") == "+172% (b)"
    assert quality_rows.across(rows, "turboquant 4") == "+4.7% to +172%"
    assert quality_rows.across(rows, "int8") == "+0.4%"
    own = rows[rows["model"] == "b"]
    assert quality_rows.added(own, "turboquant 4") == "+172%"
    for words in (
        quality_rows.added(own, "int8"),
        quality_rows.at_most(rows, "kivi 4"),
        quality_rows.across(rows, "kivi 4"),
        quality_rows.judged(own, "turboquant 4", "int8", "less", "more"),
    ):
        assert words == "not measured"
    both = rows[rows["model"] == "a"]
    assert quality_rows.judged(both, "int8", "turboquant 4", "less", "more") == "less"
    assert quality_rows.judged(both, "turboquant 4", "int8", "less", "more") == "more"
    table = quality_rows.by_model(rows, ["turboquant 4", "int8"])
    assert table.to_numpy().tolist() == [
        ["turboquant 4", "+4.7%", "+172%", "+172%"],
        ["int8", "+0.4%", "not measured", "+0.4%"],
    ]


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (0.0014, "+0.14%"),
        (-0.0014, "-0.14%"),
        (0.4119, "+41.19%"),
        (1.4473, "+145%"),
        (53.1925, "+5,319%"),
    ],
)
def test_changes_stay_readable_however_large(value, wanted):
    assert quality_rows.change(value, 2) == wanted


def test_texts_that_differ_part_where_they_do():
    """Of four texts of 200 tokens one is the same, the others part after 10, 20 and 30."""
    row = {"equal_until": (200 + 10 + 20 + 30) / 4, "identical": 0.25, "tokens": 200}
    assert quality_rows.parted(row) == pytest.approx(20)


def test_layers_err_against_the_theory_of_their_own_heads():
    import pandas

    rows = pandas.DataFrame(
        [
            {
                "model": name,
                "layer": 0,
                "side": "keys",
                "dim": dim,
                "norm": norm,
                "channel_spread": 9.0,
                "error_turboquant_3": 0.035,
                "error_kivi_3": 0.001,
            }
            for name, dim, norm in (("a", 64, 20.0), ("b", 128, 280.0))
        ]
    )
    found = quality_rows.errors(rows).set_index(["model", "method"])
    for name, dim in (("a", 64), ("b", 128)):
        exact = lloyd_max.lloyd_max(3, dim).distortion
        assert found.loc[(name, "turboquant"), "theory"] == pytest.approx(exact)
    table = quality_rows.longest_keys(rows, ["a", "b", "c"]).set_index("model")
    assert table.loc["b", "length"] == "280"
    assert table.loc["b", "constant"] == table.loc["c", "layer"] == "not measured"
    table = quality_rows.longest_keys(rows.assign(constant=0.5), ["a"])
    assert table["constant"].tolist() == ["50.0%"]


def test_bits_of_files_are_their_bytes_over_the_parameters():
    one = {one["name"]: one for one in records.facts("pretrained")}["smollm2-135m"]
    wanted = f"{8 * one['files'][0]['bytes'] / one['parameters']:.1f}"
    assert quality_rows.file_bits(["smollm2-135m"]) == wanted == "5.8"
    assert quality_rows.file_bits(["smollm2-135m", "gemma-3-270m"]) == "5.8 to 7.6"


# --- rows of a GPU, invented here


def timed(method, context=131072, over=None, what="attend", gpu="H100", **more):
    row = {
        "what": what,
        "method": method,
        "context": context,
        "batch": 1,
        "group": 4,
        "us": 90.0,
        "bytes": 1e8,
        "over_bf16": over,
        "over_fp32": None,
        "share_of_copy": 0.7,
        "refused": None,
        "from": {"machine": {"gpu": gpu}},
    }
    return row | more


def test_the_sentence_on_speed_is_of_four_bits_at_long_contexts(kept):
    kept(
        gpu_kv=[
            timed("tq4", over=2.75),
            timed("tq4", 32768, over=2.41, share_of_copy=0.6),
            timed("tq4", 4096, over=9.9),
            timed("tq3", over=3.4),
            timed("tq2", over=4.8),
            timed("bf16-triton"),
            timed("tq4", over=7.7, gpu=None),
            timed("tq4", over=8.8, refused="no such kernel"),
            timed("tq4", over=9.8, device="CPU"),
        ]
    )
    rows = gpu_kv.measured()
    assert gpu_kv.best(rows)["over_bf16"] == 2.75
    words = gpu_kv.sentence(rows)
    assert words.startswith(
        "With four bits and 32k tokens or more, the fastest row here, tq4 at "
        "131,072 tokens, 1 sequence, groups of 4, runs 2.75 times"
    )
    assert "tq3 3.40 times" in words
    assert "tq2 4.80 times" in words
    aims = gpu_kv.aims(rows)
    assert aims["lowest"].tolist() == ["2.41", "60%"]
    assert aims["highest"].tolist() == ["2.75", "70%"]
    assert aims["shapes that reach it"].tolist() == ["1 of 2", "1 of 2"]
    attend = gpu_kv.kind(rows, "attend")
    assert sorted(attend["over_bf16"]) == [2.41, 2.75, 3.4, 4.8]
    assert "over_fp32" not in attend
    drawn = style.show(figures.attention, gpu_kv.attend(rows), alt="speed", caption="Speed.")
    assert all(name in drawn._repr_mimebundle_()["text/html"] for name in gpu_kv.PACKED)


def test_each_kind_of_gpu_row_has_its_table(kept):
    model = {"model": "llama-3.1-8b", "group": None, "us": None, "share_of_copy": None}
    kept(
        gpu_kv=[
            timed("tq4", what="logits", over_fp32=6.9),
            timed("tq3", 4096, what="append"),
            timed("tq4", 4096, what="decode", tokens_per_second=120.0, **model),
            timed("bf16", None, what="capacity", tokens=100_000, **model),
            timed("tq4", None, what="capacity", tokens=380_000, **model),
        ]
    )
    rows = gpu_kv.measured()
    assert gpu_kv.kind(rows, "logits")["over_fp32"].tolist() == [6.9]
    assert gpu_kv.kind(rows, "append")["new tokens"].tolist() == [4096]
    assert gpu_kv.kind(rows, "decode")["tokens/s"].tolist() == [120]
    assert gpu_kv.kind(rows, "capacity")["times bf16"].tolist() == [1, 3.8]
    with pytest.raises(ValueError, match="unknown kind of row 'decod'"):
        gpu_kv.kind(rows, "decod")


def test_nothing_recorded_on_a_gpu_is_said_to_be_not_measured(kept):
    kept()
    rows = gpu_kv.measured()
    assert rows.empty
    assert gpu_kv.best(rows) is None
    assert gpu_kv.sentence(rows) == "On a GPU this was not measured here."
    assert set(gpu_kv.aims(rows)["highest"]) == {"not measured"}
    for what in ("attend", "logits", "append", "decode", "capacity"):
        assert gpu_kv.kind(rows, what).to_numpy().tolist() == [["not measured"]]


@pytest.mark.parametrize(
    ("rows", "wanted"),
    [
        ([], ["not measured", "no"]),  # 7.76 rounds to eight, 3.88 does not
        ([timed("tq4", what="logits", over_fp32=6.9), timed("tq4", over=2.75)], ["no", "no"]),
        ([timed("tq4", what="logits", over_fp32=8.1)], ["yes", "no"]),
        ([timed("tq2", what="logits", over_fp32=14.0)], ["not measured", "no"]),
    ],
)
def test_the_promise_of_speed_has_two_parts(kept, rows, wanted):
    kept(gpu_kv=rows)
    found = gpu_kv.promised(8, {"fp32": 7.76, "bf16": 3.88}, gpu_kv.measured())
    assert found["holds"].tolist() == wanted


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
        [
            {"dim": 128, "bits": b, "variant": v, "distortion": 0.0, "inner": 0.0}
            for b in (1, 2, 3, 4)
            for v in ("mse", "prod")
        ]
    )
    table = turboquant.against_print({"codebook": exact, "sampled": sampled}, 128).set_index("bits")
    assert table.loc[3, "print off by"] == pytest.approx(0.03 / 0.034548 - 1, abs=1e-3)
    assert table.loc[4, "prod off by"] == pytest.approx(
        0.047 / (math.pi / 2 * 0.034548) - 1, abs=1e-3
    )


def test_printed_encoding_times_exceed_the_device():
    from sizewise.data import catalog

    rates = turboquant.encode_rates(catalog.device("A100-80GB")).set_index("dimension")
    assert rates.loc[3072, "printed"] == pytest.approx(898.8, abs=0.1)
    assert (rates["run again"] < 20).all()


# --- the script


@pytest.fixture(scope="module")
def script():
    file = paths.root() / "scripts" / "kv_quality.py"
    spec = importlib.util.spec_from_file_location("kv_quality_script", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def subject(script, monkeypatch):
    """A tiny model in the place of a pretrained one."""
    from sizewise.experiments import weight_quality
    from sizewise.quantization import quality

    tiny = small()

    def sample(context, documents, text):
        some = np.random.default_rng(len(text)).integers(0, VOCAB, (documents, context))
        return quality.Sample(
            some, np.ones((documents, context - 1), np.int64), np.arange(documents)
        )

    made = weight_quality.Subject("tiny", tiny, sample, None, "0" * 64)
    monkeypatch.setattr(weight_quality, "named", lambda name: made)
    for name in ("original", "states", "asked", "written"):
        getattr(cache_trials, name).cache_clear()
    return made


def described():
    text = (paths.root() / "data" / "kv_quality.md").read_text(encoding="utf-8")
    return set(re.findall(r"^\| `(\w+)` \|", text, re.M))


def test_all_rows_have_their_own_identity_and_the_controls_are_there(script):
    given = script.arguments(["--models", "smollm2-135m,gemma-3-270m"])
    rows = [row for what in ("quality", "needle", "generation") for row in script.rows(what, given)]
    names = [records.identity(row) for row in rows]
    assert len(set(names)) == len(names)
    first = [r for r in rows if r["what"] == "quality" and r["model"] == "smollm2-135m"]
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
    assert {r["model"] for r in rows if r["what"] != "quality"} == {"smollm2-135m"}


def test_a_row_of_each_kind_has_the_described_columns(script, subject):
    small_text, kivi = {"text": "sotu", "context": 33, "documents": 3}, cache_trials.way("kivi", 4)
    for row in (
        {
            "what": "quality",
            "model": "tiny",
            **cache_trials.way("turboquant", 3),
            **small_text,
            "chunk": 8,
        },
        {"what": "layer", "model": "tiny", "layer": 1, "side": "values", **small_text, "seed": 0},
        {
            "what": "generation",
            "model": "tiny",
            **kivi,
            **small_text,
            "tokens": 5,
        },
    ):
        measured = script.measure(row)
        assert not row.keys() & measured.keys()
        assert row.keys() | measured.keys() <= described()
        assert all(math.isfinite(v) for v in measured.values() if isinstance(v, float))


@pytest.mark.parametrize("center", ["mean", "rope"])
def test_keys_without_their_common_part_and_plain_tokens_are_rows_of_their_own(
    script, subject, center
):
    row = next(one for one in script.many() if one.get("center") == center)
    read = {"model": "tiny", "text": "sotu", "context": 33, "documents": 2, "chunk": 8}
    made = cache_trials.through_cache({"what": "quality", **read, **row})
    assert made["bits"] > 4
    own = next(one for one in script.many() if one.get("sink"))
    mixed = cache_trials.through_cache({"what": "quality", **read, **own})
    assert mixed["kl"] < made["kl"]
    assert set(row) | set(own) <= described()


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
    found = script.measure(row)
    assert found["bits"] == 32
    assert abs(found["perplexity_change"]) < 1e-6
    assert found["agreement"] == 1
    low, high = found["perplexity_change_low"], found["perplexity_change_high"]
    assert low <= found["perplexity_change"] <= high


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
    found = script.measure(row)
    assert found["vectors"] == 4 * 2 * 128
    assert found["norm_5"] < found["norm"] < found["norm_95"]
    assert 0 < found["constant"] < 1
    for bits in (2, 3, 4):
        exact = lloyd_max.lloyd_max(bits, 16).distortion
        assert found[f"error_turboquant_{bits}"] == pytest.approx(exact, rel=0.25)


def test_keys_that_share_a_part_are_told_by_its_share_of_their_length(script, subject, monkeypatch):
    """Length 5 of which 4 is the same in all: 16 of 25. A range for each channel gains by it."""
    draw = torch.Generator().manual_seed(0)
    apart = torch.randn(4, 2, 128, 16, generator=draw)
    apart -= apart.mean((0, 2), keepdim=True)
    apart *= 3 / apart.square().sum(-1).mean((0, 2)).sqrt()[:, None, None]
    keys = apart + 4 / 16**0.5
    monkeypatch.setattr(cache_trials, "states", lambda of: [(keys, apart)])
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
    found = script.measure(row)
    assert found["constant"] == pytest.approx(16 / 25, rel=1e-4)
    assert script.measure(row | {"side": "values"})["constant"] < 1e-6
    gain = found["error_turboquant_3"] / found["error_kivi_3"]
    plain = script.measure(row | {"side": "values"})
    assert gain > 2 * plain["error_turboquant_3"] / plain["error_kivi_3"]


def test_the_command_lists_its_rows_and_names_what_it_does_not_know(script, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["kv_quality.py", "--what", "quality", "--list"])
    script.main()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(script.many())
    for words in (["--what", "qualty"], ["--models", "smollm2"]):
        monkeypatch.setattr("sys.argv", ["kv_quality.py", *words])
        with pytest.raises(SystemExit) as left:
            runpy.run_path(str(paths.root() / "scripts" / "kv_quality.py"), run_name="__main__")
        assert str(left.value).startswith("kv_quality: unknown")
