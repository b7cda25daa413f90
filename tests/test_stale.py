"""What grows old is found: a catalogue without news, models without a reading, passed days."""

import importlib.util
from dataclasses import replace
from datetime import date

import pytest
import yaml
from sizewise import paths
from sizewise.chapters import claims

spec = importlib.util.spec_from_file_location("stale", paths.root() / "scripts" / "stale.py")
stale = importlib.util.module_from_spec(spec)
spec.loader.exec_module(stale)

TODAY = date(2026, 11, 30)


@pytest.fixture
def facts(monkeypatch):
    """The fact files that the script sees, by stem, for a test to fill."""
    files: dict = {}
    monkeypatch.setattr(stale.records, "facts", files.__getitem__)
    return files


@pytest.mark.parametrize(
    ("released", "fault"),
    [
        (["2024-07", "2026-11"], None),
        (["2026-07-31"], None),
        (["2026-06", None], "the newest model of the catalogue is of 2026-06, 5 months ago"),
        ([None], "no model of the catalogue says when it was released"),
    ],
)
def test_a_catalogue_without_news_for_four_months_is_stale(facts, released, fault):
    facts["models"] = [{"name": str(place), "released": day} for place, day in enumerate(released)]
    assert stale.old_catalogue(TODAY) == ([fault] if fault else [])


def test_a_model_that_the_ledger_was_not_read_against_is_named(facts, monkeypatch):
    maker = {"name": "A maker", "provider": "a", "models": ["one", "two"]}
    facts["price_list"] = [maker]
    monkeypatch.setattr(stale.prices, "models", lambda provider: {"one": None, "two": None})
    assert stale.unread_models() == []
    monkeypatch.setattr(stale.prices, "models", lambda provider: {"one": None, "three": None})
    assert len(stale.unread_models()) == 1
    assert stale.unread_models()[0].endswith("knows models of A maker: three")


def test_a_claim_whose_day_has_come_is_named(monkeypatch):
    claim = next(c for c in claims.ledger().values() if c.status == "open")
    monkeypatch.setattr(stale.claims, "ledger", lambda: {claim.id: replace(claim, until=TODAY)})
    assert stale.passed_deadlines(date(2026, 11, 29)) == []
    assert stale.passed_deadlines(TODAY) == [
        f"claim {claim.id} was open until 2026-11-30: decide it"
    ]


def test_nothing_is_read_into_the_ledger_that_the_pinned_price_list_does_not_know():
    assert stale.unread_models() == []
    for maker in stale.records.facts("price_list"):
        listed = stale.prices.models(maker["provider"])
        assert set(maker["models"]) <= listed.keys()
        assert {maker.get("flagship"), maker.get("top_before")} - {None} <= listed.keys()


def test_accepting_records_what_the_list_knows(tmp_path, monkeypatch):
    file = tmp_path / "data" / "facts" / "price_list.yml"
    file.parent.mkdir(parents=True)
    file.write_text("# as_of: 2026-01-01\n# Why.\n\n- {name: A, provider: a, models: [one]}\n")
    monkeypatch.setattr(stale.paths, "root", lambda: tmp_path)
    monkeypatch.setattr(stale.records, "facts", lambda stem: yaml.safe_load(file.read_text()))
    monkeypatch.setattr(stale.prices, "models", lambda provider: {"two": None, "one": None})
    stale.accept(TODAY)
    assert file.read_text().startswith("# as_of: 2026-11-30\n# Why.\n")
    assert yaml.safe_load(file.read_text()) == [
        {"name": "A", "provider": "a", "models": ["one", "two"]}
    ]
