"""Predictions on record: made before the runs, from the runs they name, and never renewed."""

import hashlib
import importlib
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from sizewise import paths, scaling_laws
from sizewise.data import records

sys.path.insert(0, str(paths.root() / "scripts"))
foretell = importlib.import_module("foretell")

TRUE = scaling_laws.Hoffmann(1.2, 60.0, 90.0, 0.3, 0.3)


@pytest.fixture
def ladder(monkeypatch):
    """Thirty rows of a ladder whose law is known; two more that must not be fitted."""
    import pandas

    rows = [
        {
            "id": f"{place:016x}",
            "what": "ladder",
            "family": "dense",
            "ended": "done",
            "budget": budget,
            "width": place,
            "seed": 0,
            "params_non_embedding": size,
            "tokens": budget / (6 * size),
            "val_loss": float(TRUE.loss(size, budget / (6 * size))),
        }
        for place, (budget, size) in enumerate(
            (b, s) for b in (1e11, 1e12, 1e13) for s in np.geomspace(1e4, 1e6, 10)
        )
    ]
    ignored = [{**rows[0], "id": "moe", "family": "moe"}, {**rows[0], "id": "lr", "what": "tuning"}]
    monkeypatch.setattr(records, "table", lambda stem: pandas.DataFrame(rows + ignored))
    monkeypatch.setattr(foretell, "SAMPLES", 40)
    text = SimpleNamespace(train=range(1_000_000))
    monkeypatch.setattr(foretell.tokenizer, "prepare", lambda name, vocabulary: text)
    return rows


def output(tmp_path: Path, monkeypatch, *args: str) -> list[dict]:
    file = tmp_path / "rows.jsonl"
    monkeypatch.setattr(sys, "argv", ["foretell", "--output", str(file), *args])
    foretell.main()
    return records.read(file)


def test_a_known_law_is_foretold_within_its_interval(ladder, tmp_path, monkeypatch):
    rows = output(tmp_path, monkeypatch, "--budgets", "1e14", "--most", "1e13")
    assert len(rows) == foretell.SIZES
    named = hashlib.sha256(" ".join(row["id"] for row in ladder).encode()).hexdigest()
    for row in rows:
        true = TRUE.loss(row["params_non_embedding"], row["tokens"])
        assert row["loss"] == pytest.approx(true, rel=1e-3)
        assert (row["runs"], row["runs_sha256"]) == (30, named)
        assert row["times_largest_budget"] == pytest.approx(10)
        assert row["epochs"] == row["tokens"] / 1_000_000


def test_tokens_read_again_count_for_less_and_others_in_full(ladder, tmp_path, monkeypatch):
    rows = output(tmp_path, monkeypatch, "--budgets", "1e13", "--most", "3e12", "--sizes", "10")
    repeated = [row["loss_repeated"] - row["loss"] for row in rows if row["epochs"] > 1.05]
    once = [row["loss_repeated"] - row["loss"] for row in rows if row["epochs"] <= 1]
    assert repeated
    assert once
    assert min(repeated) > 0
    assert np.abs(once).max() < 1e-6


def test_what_is_foretold_is_not_foretold_again(ladder, tmp_path, monkeypatch, capsys):
    first = output(tmp_path, monkeypatch, "--budgets", "1e14", "--most", "1e13")
    for row in ladder:
        row["val_loss"] += 0.1
    assert output(tmp_path, monkeypatch, "--budgets", "1e14", "--most", "1e13") == first
    assert "has its prediction" in capsys.readouterr().out


def test_a_budget_among_the_fitted_ones_is_refused(ladder, tmp_path, monkeypatch, capsys):
    with pytest.raises(SystemExit, match="2"):
        output(tmp_path, monkeypatch, "--budgets", "1e12", "--most", "1e13")
    assert "not above --most" in capsys.readouterr().err


def test_the_predictions_on_record_are_older_than_the_runs_they_are_about():
    synthetic = {}
    for row in records.read("isoflop"):
        synthetic.setdefault(row["budget"], []).append(row["from"]["time"])
    foretold = records.read("foretell")
    assert foretold
    for row in foretold:
        assert row["budget"] > row["fitted_up_to"]
        assert all(row["from"]["time"] < time for time in synthetic.get(row["budget"], []))
        assert row["low"] < row["loss"] < row["high"]
        assert row["run_low"] < row["loss"] < row["run_high"]
        assert row["loss"] <= row["loss_repeated"]
