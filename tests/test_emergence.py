"""Exact matches: what greedy generation gives, by another way, with errors that are honest."""

import dataclasses
import hashlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sizewise import paths
from sizewise.data import records
from sizewise.training import checkpoints, loop, models, run_config
from sizewise.training import tokenizer as token_files

sys.path.insert(0, str(paths.root() / "scripts"))
import emergence

torch.set_num_threads(1)


def continued(model, ids, number: int):
    """``number`` tokens after each row of ``ids``, each the most likely one: (rows, number).

    Without a cache: the long way round.
    """
    length = ids.shape[1]
    with torch.no_grad():
        for _ in range(number):
            following = model(input_ids=ids, use_cache=False).logits[:, -1].argmax(-1)
            ids = torch.cat([ids, following[:, None]], 1)
    return ids[:, length:]


def counting_text(vocabulary=512, length=12_000, seed=0):
    """Documents of 7, 8, 9, ... of 20 to 60 tokens, each ended by token 0."""
    chance = np.random.default_rng(seed)
    parts = []
    while sum(map(len, parts)) < length:
        start, size = chance.integers(1, vocabulary - 60), chance.integers(20, 60)
        parts.append(np.append(np.arange(start, start + size), 0))
    text = np.concatenate(parts)[:length].astype(np.uint16)
    return token_files.Tokens(
        "counts", vocabulary, text, text[: length // 3], np.ones(vocabulary, np.uint16)
    )


@pytest.fixture(scope="module")
def learned():
    """A model half way to counting, right often and not always."""
    text = counting_text()
    run = run_config.Run(
        family="dense",
        width=32,
        layers=2,
        vocabulary=512,
        context=32,
        text="counts",
        tokens=12 * 16 * 32,
        batch=16,
        lr=0.01,
        schedule="linear",
        warmup=0.1,
        weight_decay=0.1,
        clip=1.0,
        seed=0,
        validation_tokens=2048,
    )
    return loop.fit(run, text, device="cpu")[0].eval(), text


def test_a_match_is_what_greedy_generation_gives(learned):
    model, text = learned
    result = emergence.predict(model, text, 32, 40)
    windows = np.stack([text.validation[p : p + 33] for p in starts(text, 32, 40)]).astype(np.int64)
    matches = []
    for length in (1, 2, 4, 8):
        for start in (8, 15, 20):
            context = torch.from_numpy(windows[:, : start + 1])
            synthetic = continued(model, context, length).numpy()
            by_generation = (synthetic == windows[:, start + 1 : start + 1 + length]).all(1)
            by_one_pass = emergence.matches(result.right, length, start, start + 1)[:, 0]
            assert (by_generation == by_one_pass).all()
            matches += by_generation.tolist()
    assert 0.1 < np.mean(matches) < 0.9  # a model that is always right would show nothing


def starts(text, context, windows):
    count = (len(text.validation) - 1) // context
    return [place * count // windows * context for place in range(windows)]


def test_losses_and_documents_are_those_of_the_windows(learned):
    model, text = learned
    result = emergence.predict(model, text, 32, 40)
    nats, _ = loop.validate(model, text, plan_like(40))
    assert result.nats.mean() == pytest.approx(nats, rel=1e-4)
    for place, document in zip(starts(text, 32, 40), result.document, strict=True):
        assert document == (text.validation[:place] == 0).sum()


def plan_like(windows):
    run = run_config.at_budget(1e9, 16, vocabulary=512, context=32)
    return dataclasses.replace(run, validation_tokens=windows * 32)


def test_matches_by_hand():
    right = np.array([[1, 1, 0, 1, 1, 1], [1, 1, 1, 1, 1, 1]], bool)
    assert emergence.matches(right, 2, 0, 4).tolist() == [
        [True, False, False, True],
        [True] * 4,
    ]
    assert emergence.matches(right, 3, 3, 4).tolist() == [[True], [True]]


@given(st.integers(0, 2**32 - 1), st.integers(1, 16), st.floats(0.2, 0.95))
@settings(max_examples=25, deadline=None)
def test_a_longer_match_is_never_more_frequent(seed, length, share):
    right = np.random.default_rng(seed).random((20, 64)) < share
    short, long = (emergence.matches(right, k, 10, 40) for k in (length, length + 1))
    assert not (long & ~short).any()


def test_errors_cover_the_truth_where_positions_of_a_document_are_alike():
    chance, inside = np.random.default_rng(0), 0
    document = np.repeat(np.arange(40), 5)
    for _ in range(400):
        rate = chance.beta(2, 6, 40)  # each document has a share of its own
        middle, error = emergence.mean(chance.random((200, 30)) < rate[document][:, None], document)
        inside += abs(middle - 0.25) < 1.96 * error
    assert 0.90 < inside / 400 < 0.98


def test_errors_by_hand():
    # Two documents: 1 of 4 right, and 3 of 4. About the mean, off by -1 and 1.
    middle, error = emergence.mean(np.array([[1, 0, 0, 0], [1, 1, 1, 0]]), np.array([7, 9]))
    assert middle == 0.5
    assert error == pytest.approx((2 / 1 * (1 + 1) / 8**2) ** 0.5)


def test_the_summary_counts_all_lengths_over_the_same_starts(learned):
    model, text = learned
    result = emergence.predict(model, text, 32, 40)
    output = emergence.summary(result, 8)
    assert output["positions"] == 40 * (32 - 16 + 1 - 8)
    assert output["accuracy"] == pytest.approx(result.right[:, 8:17].mean())
    assert output["loss"] == pytest.approx(result.nats[:, 8:17].mean(), rel=1e-6)
    rates = [output["accuracy"], *(output[f"exact_{k}"] for k in emergence.LENGTHS[1:])]
    assert rates == sorted(rates, reverse=True)
    with pytest.raises(
        ValueError, match="a match of 16 tokens after 17 does not fit a window of 32"
    ):
        emergence.summary(result, 17)


def test_the_script_fills_rows_with_the_documented_columns(tmp_path):
    text = counting_text(length=20_000)
    folder = tmp_path / "cache" / "tokens" / f"packages-512-v{token_files.FORMAT}"
    keep(text, folder)
    home, file = paths.root(), tmp_path / "rows.jsonl"
    command = [
        sys.executable,
        str(home / "scripts" / "emergence.py"),
        "--widths",
        "8,16",
        "--tokens",
        "8000",
        "--vocabulary",
        "512",
        "--context",
        "32",
        "--first",
        "8",
        "--windows",
        "64",
        "--workers",
        "1",
        "--output",
        str(file),
    ]
    place = {
        "SIZEWISE_CACHE": str(tmp_path / "cache"),
        "PYTHONPATH": str(home / "book"),
        "OMP_NUM_THREADS": "1",
    }
    subprocess.run(command, check=True, env=os.environ | place, stderr=subprocess.DEVNULL)
    rows = records.read(file)
    assert [row["width"] for row in rows] == [16, 8]
    page = (home / "data" / "emergence.md").read_text()
    documented = {line.split("`")[1] for line in page.splitlines() if line.startswith("| `")}
    assert documented == rows[0].keys()
    assert rows[0]["tokens"] == rows[1]["tokens"] == pytest.approx(8000, rel=0.01)
    weights = sorted((tmp_path / "cache" / "models").glob(f"*/{checkpoints.WEIGHTS}"))
    assert len(weights) == 2


def test_the_plan_is_listed_with_its_cost_and_a_bad_text_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["emergence.py", "--list", "--widths", "8,16"])
    emergence.main()
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in listed] == [
        ["width", "16"],
        ["width", "8"],
        ["2", "runs,"],
    ]
    operations = [float(line.split("FLOPs ")[1]) for line in listed[:2]]
    assert sum(operations) == pytest.approx(float(listed[2].split()[4]), rel=0.01)
    monkeypatch.setattr(sys, "argv", ["emergence.py", "--text", "package"])
    with pytest.raises(SystemExit) as output:
        emergence.main()
    assert output.value.code == 2
    message = "emergence: unknown text 'package'; did you mean 'packages'?\n"
    assert capsys.readouterr().err == message


def keep(text, folder):
    """A folder of tokens as `tokens.load` reads it."""
    folder.mkdir(parents=True)
    text.train.tofile(folder / "train.bin")
    text.validation.tofile(folder / "validation.bin")
    text.bytes_of.tofile(folder / "bytes_of.bin")
    sha256 = hashlib.sha256(text.train.tobytes() + text.validation.tobytes()).hexdigest()
    meta = {"name": text.name, "vocabulary": text.vocabulary, "sha256": sha256}
    (folder / "meta.json").write_text(json.dumps(meta))


@pytest.mark.parametrize("width", [8, 192])
def test_every_width_of_the_family_reads_the_same_tokens(width):
    config = emergence.row(width, 0, emergence.arguments([]))
    assert width in models.WIDTHS
    assert config["tokens"] == pytest.approx(emergence.TOKENS, rel=1e-3)
    assert config["batch"] == 11
