"""Attention and what takes its place: what is kept, what is seen, what is recalled."""

import importlib
import json
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sizewise import paths
from sizewise.costs import memory
from sizewise.data import records
from sizewise.models import config as configs
from sizewise.models import from_config
from sizewise.training import flops, loop, loss, models, run_config
from sizewise.training import tokenizer as token_files
from torch import nn

torch.set_num_threads(1)
sys.path.insert(0, str(paths.root() / "scripts"))
script = importlib.import_module("attention_variants")
FAMILIES = script.FAMILIES


class FixedModel(nn.Module):
    """A model over ``vocabulary`` tokens whose logits are a function of the ids."""

    def __init__(self, vocabulary, logits):
        super().__init__()
        self.head = nn.Linear(vocabulary, vocabulary, bias=False)
        nn.init.eye_(self.head.weight)
        self.base_model = lambda input_ids, use_cache: (logits(input_ids),)

    def get_output_embeddings(self):
        return self.head


def copier(vocabulary, sure=20.0):
    """Predicts what followed the same token the last time; uniform where it is new."""

    def logits(ids):
        out = torch.zeros(*ids.shape, vocabulary)
        for row, line in enumerate(ids.tolist()):
            last = {}
            for place, token in enumerate(line):
                if token in last:
                    out[row, place, line[last[token] + 1]] = sure
                last[token] = place
        return out

    return FixedModel(vocabulary, logits)


def unigram(vocabulary):
    chance = torch.randn(vocabulary, generator=torch.Generator().manual_seed(0))
    return FixedModel(vocabulary, lambda ids: chance.expand(*ids.shape, vocabulary))


def random_text(vocabulary=512, length=20_000):
    starts = np.random.default_rng(0).integers(1, vocabulary, length // 50)
    text = ((starts[:, None] + np.arange(50)) % vocabulary).reshape(-1).astype(np.uint16)
    return token_files.Tokens(
        "made up", vocabulary, text, text[: length // 4], np.ones(vocabulary, np.uint16)
    )


# --- options of windows


def test_the_usual_windows_are_what_they_were_before_they_had_options():
    fields = models.spec("windowed", 96, context=128).fields
    assert fields["sliding_window"] == 32
    assert fields["layer_types"] == ["sliding_attention", "full_attention", "sliding_attention"]
    assert models.family("windowed") == "windowed"
    assert models.spec("windowed:window=32,every=2", 96).fields == fields


@settings(max_examples=30)
@given(st.integers(0, 64), st.integers(0, 8))
def test_windows_are_read_from_their_name(window, every):
    options = models.options(models.family("windowed", window=window, every=every))
    assert (options["window"], options["every"], options["convolution"]) == (window, every, 0)


def test_one_layer_of_so_many_sees_everything():
    def full(every):
        types = models.spec(f"windowed:every={every}", 192).fields["layer_types"]
        return [place for place, kind in enumerate(types) if kind == "full_attention"]

    assert [full(every) for every in (0, 1, 3, 6, 7)] == [[], [*range(6)], [2, 5], [5], []]


@pytest.mark.parametrize(
    ("family", "message"),
    [
        ("windowed:windows=4", "unknown option of windowed 'windows'; did you mean 'window'"),
        ("windowed:window=four", "window of windowed must be a number, got 'four'"),
        ("windowed:window=129", "the window must be from 0 to 128, got 129"),
        ("windowed:every=-1", "layers from one full one to the next must be from 0"),
        ("hybrid:every=2", "unknown family 'hybrid:every=2'"),
    ],
)
def test_windows_that_cannot_be_are_refused_in_one_line(family, message):
    with pytest.raises(ValueError, match=message) as refused:
        models.spec(family, 32)
    assert "\n" not in str(refused.value)


def test_a_model_of_windows_alone_sees_so_many_tokens_a_layer_and_no_further():
    model = models.build(models.spec("windowed:window=4,every=0", 32, 64, 32), 0)
    nn.init.normal_(model.lm_head.weight)
    ids = torch.randint(0, 64, (1, 32), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        before = model(input_ids=ids).logits[0]
        after = model(input_ids=torch.cat([ids[:, :1] ^ 1, ids[:, 1:]], 1)).logits[0]
    moved = (before != after).any(-1).nonzero().flatten()
    assert moved.max() == 2 * (4 - 1)  # two layers, each with the token itself among its four


# --- what is kept


def by_hand(family, width, length, window):
    """Bytes of one sequence: 2 bytes a key or value, 4 an element of a state; 2 layers."""
    attends = 2 * 2 * width  # bytes of a token in one layer
    inner, state = 2 * width, max(16, width // 4)
    mixer = 4 * inner * state + 2 * 4 * (inner + 2 * state)
    return {
        "dense": 2 * attends * length,
        "windowed": attends * (min(window, length) + length),
        "hybrid": mixer + attends * length,
        "state-space": 4 * mixer,
    }[family]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("width", [32, 64])
def test_bytes_kept_are_those_counted_by_hand_and_by_memory(family, width):
    spec, lengths = models.spec(family, width, 1024, 256), [16, 256, 4096]
    stored = script.stored_bytes(spec, lengths)
    assert stored == [by_hand(family, width, length, 64) for length in lengths]
    model = from_config.from_config(configs.build(spec))
    assert stored == [memory.kv_cache_bytes(model, length) for length in lengths]


# --- loss by position


@pytest.mark.parametrize("family", FAMILIES)
def test_the_mean_of_the_positions_is_the_validation_loss(family):
    run = run_config.at_budget(4e8, 16, family, vocabulary=512, context=32, validation_tokens=1024)
    text = random_text()
    model, measured = loop.fit(run, text, device="cpu")
    result = script.context_use(
        model, run, text, bins=8, distances=[8, 16], sequences=4, lengths=[64]
    )
    assert len(result["nats_by_position"]) == 8
    assert np.mean(result["nats_by_position"]) == pytest.approx(measured["val_loss"], rel=1e-5)
    spec = models.spec(family, 16, 512, 32)
    assert [result["cache_bytes"], *result["cache_bytes_at"]] == script.stored_bytes(spec, [32, 64])
    assert not model.training  # as the loop left it


def test_positions_by_hand():
    nats = np.array([[1.0, 2, 3, 4], [3, 4, 5, 10]])
    assert script.by_position(nats, 2) == [2.5, 5.5]


def test_scores_are_those_of_the_class_itself():
    model = models.build(models.spec("dense", 16, 64, 8), 0)
    nn.init.normal_(model.lm_head.weight)
    ids = torch.randint(0, 64, (40, 9), generator=torch.Generator().manual_seed(0))
    nats, right = loss.per_token(model, ids[:, :-1], ids[:, 1:])
    with torch.no_grad():
        log_p = model(input_ids=ids[:, :-1]).logits.double().log_softmax(-1)
    expected = -log_p.gather(-1, ids[:, 1:, None])[..., 0].numpy()
    # A loss near 0 is a difference of large logits in fp32.
    np.testing.assert_allclose(nats, expected, rtol=1e-4, atol=1e-5)
    assert (right == (log_p.argmax(-1) == ids[:, 1:]).numpy()).all()


# --- recall


@pytest.mark.parametrize("distance", [2, 16, 63])
def test_a_copier_gains_everything_and_a_unigram_nothing(distance):
    tokens = script.random_tokens(64, distance, 12)
    sure, result = np.log(1 + 63 * np.exp(-20)), script.recall(copier(64), tokens)
    assert result["first"] == pytest.approx(np.log(64))
    assert result["second"] == pytest.approx(sure, abs=1e-6)
    assert result["right"] == 1
    result = script.recall(unigram(64), tokens)
    assert result["first"] == pytest.approx(result["second"], rel=1e-12)
    assert result["right"] < 0.2


def test_random_sequences_repeat_no_token_hold_no_end_and_are_the_same_every_time():
    tokens = script.random_tokens(100, 50, 20)
    assert tokens.shape == (20, 50)
    assert all(len(set(row)) == 50 and min(row) > 0 and max(row) < 100 for row in tokens.tolist())
    assert torch.equal(tokens, script.random_tokens(100, 50, 20))
    with pytest.raises(ValueError, match="the length of a sequence must be from 2 to 99, got 100"):
        script.random_tokens(100, 100, 1)


def test_a_repetition_holds_its_tokens_twice_and_its_targets_wrap_around():
    ids, targets = script.repeated(torch.tensor([[5, 6, 7]]))
    assert ids.tolist() == [[5, 6, 7, 5, 6, 7]]
    assert targets.tolist() == [[6, 7, 5, 6, 7, 5]]


# --- the script


def described():
    lines = (paths.root() / "data" / "attention_variants.md").read_text(encoding="utf-8")
    return {line.split("`")[1] for line in lines.splitlines() if line.startswith("| `")}


def rows(*args):
    return script.runs(script.arguments([*args]))


def test_identities_of_rows_stay_what_they_are():
    (config,) = rows(
        "--only",
        "arms",
        "--families",
        "windowed",
        "--budgets",
        "3e11",
        "--widths",
        "32",
        "--seeds",
        "1",
    )
    assert records.identity(config) == "402f66192771b972"


def test_every_family_spends_the_budget_and_is_compared_at_the_same_widths():
    runs = rows("--only", "arms")
    assert len({records.identity(config) for config in runs}) == len(runs)
    sizes = {}
    for config in runs:
        spec = models.spec(config["family"], config["width"], 1024, config["context"])
        spent = flops.size(spec).operations_per_token * config["tokens"]
        assert spent == pytest.approx(config["budget"], rel=0.01)
        sizes.setdefault(config["family"], set()).add((config["budget"], config["width"]))
    assert sizes.keys() == set(FAMILIES)
    assert len({frozenset(pairs) for pairs in sizes.values()}) == 1


def test_windows_differ_in_nothing_but_how_far_they_see_and_no_model_is_trained_twice():
    runs = rows("--seeds", "1")
    windows = [c for c in runs if c["what"] == "windows"]
    usual = [
        c
        for c in runs
        if c["family"] == "windowed"
        and (c["budget"], c["width"]) == (windows[0]["budget"], windows[0]["width"])
    ]
    assert len(usual) == 1
    patterns = set()
    for config in [*windows, *usual]:
        spec = models.spec(config["family"], config["width"], 1024, config["context"])
        patterns.add((spec.fields["sliding_window"], tuple(spec.fields["layer_types"])))
        same = {k: v for k, v in config.items() if k not in ("what", "family")}
        assert same == {k: v for k, v in usual[0].items() if k not in ("what", "family")}
    assert len(patterns) == len(windows) + 1
    alone = rows("--only", "windows", "--at", "3e11", "--width", "32", "--seeds", "1")
    assert [c["family"] for c in alone if c["what"] == "arms"] == ["windowed"]


def test_every_column_of_a_row_is_described_and_none_is_missing(monkeypatch, tmp_path):
    monkeypatch.setattr(script.tokenizer, "prepare", lambda *a, **k: random_text(1024))
    monkeypatch.setenv("SIZEWISE_CACHE", str(tmp_path))
    for config in rows(
        "--only",
        "arms",
        "--budgets",
        "4e8",
        "--widths",
        "8",
        "--seeds",
        "1",
        "--context",
        "16",
        "--distances",
        "4,8",
        "--sequences",
        "4",
        "--families",
        "windowed,state-space",
    ):
        measured = script.measure(config | {"validation_tokens": 256})
        json.dumps(measured, allow_nan=False)
        assert described() == config.keys() | measured.keys() | {"id", "from", "tokens_per_second"}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--only", "arm"], "unknown experiment 'arm'; did you mean 'arms'"),
        (["--families", "mamba"], "unknown family 'mamba'"),
        (["--distances", "129"], "--distances must be from 2 to 128, got 129"),
        (["--bins", "7"], "a context of 256 does not divide into 7 bins"),
        (["--parts", "0"], "--parts must be from 1 to 256, got 0"),
        (["--seeds", "0"], "--seeds must be from 1"),
    ],
)
def test_bad_arguments_are_one_line(args, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["attention_variants.py", "--list", *args])
    with pytest.raises(SystemExit) as stopped:
        script.main()
    assert stopped.value.code == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("attention_variants: ")
    assert message in line


def test_the_list_has_every_run_and_the_sum_of_operations(monkeypatch, capsys):
    args = ["--budgets", "3e11", "--seeds", "1", "--only", "arms", "--widths", "32"]
    monkeypatch.setattr(sys, "argv", ["attention_variants.py", "--list", *args])
    script.main()
    *lines, last = capsys.readouterr().out.splitlines()
    assert len(lines) == len(FAMILIES)
    operations = [float(line.split()[-1]) for line in lines]
    assert last.startswith(f"{len(FAMILIES)} runs, in all ")
    assert float(last.split()[-2]) == pytest.approx(sum(operations), rel=0.01)
    # two looks at the validation text, and 128 sequences twice of both kinds at three distances
    (config, *_) = rows(*args, "--families", "dense")
    evaluated = (2 * 65_536 + 2 * 128 * 2 * (16 + 64 + 128)) / 3
    operations = flops.size(models.spec("dense", 32, 1024, 256)).operations_per_token
    assert script.cost(config) == pytest.approx(operations * (config["tokens"] + evaluated))
