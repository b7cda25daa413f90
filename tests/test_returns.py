"""Returns to size: made tables with a known answer, the pilot's figures, and the collectors."""

import json
import sys

import numpy as np
import pandas as pd
import pytest
from sizewise import paths
from sizewise.data import records
from sizewise.scaling_laws import plateau

sys.path.insert(0, str(paths.root() / "scripts"))
from common import public_tables, returns
from common.task_laws import Sigmoid

SIZES = np.array([1e9, 4e9, 16e9, 64e9, 256e9])
BREAK = 30e9
QUIZ = public_tables.Benchmark("quiz", "knowledge", 0.25, BREAK)


def synthetic(families=12, at=None, scatter=0.02, ceiling=1.0, seed=0):
    """Families of five sizes on a logistic curve over the log of size, flat from ``at`` on."""
    rng = np.random.default_rng(seed)
    x = np.minimum(np.log2(SIZES), np.inf if at is None else np.log2(at))
    rows = []
    for k in range(families):
        eta = rng.normal(-1, 0.6) + 0.35 * (x - np.log2(SIZES[0]))
        score = 0.25 + (ceiling - 0.25) / (1 + np.exp(-eta)) + rng.normal(0, scatter, len(x))
        rows += [
            {"family": f"family {k}", "params": n, "quiz": s}
            for n, s in zip(SIZES, score, strict=True)
        ]
    return pd.DataFrame(rows)


# ------------------------------------------------------------------ pairs and intervals


def test_a_pair_is_worked_out_by_hand():
    table = pd.DataFrame(
        {"family": ["a"] * 3, "params": [1e9, 4e9, 8e9], "quiz": [0.35, 0.45, 0.6]}
    )
    result = returns.pairs(table, QUIZ)
    assert result["doublings"].tolist() == pytest.approx([2, 1])
    assert result["gain"].tolist() == pytest.approx(
        [5, 15]
    )  # 10 points in two doublings, 15 in one
    assert 2 ** result["error"].iloc[1] == pytest.approx(0.40 / 0.55)
    assert result["elasticity"].tolist() == pytest.approx([0.5, np.log2(0.35 / 0.2)])  # 0.1 to 0.2


def test_pairs_stay_inside_families_and_above_guessing():
    table = pd.DataFrame(
        {
            "family": ["a", "a", "b", "c", "c"],
            "params": [1e9, 2e9, 4e9, 1e9, 2e9],
            "quiz": [0.26, 0.5, 0.6, 0.4, 0.3],
        }
    )
    result = returns.pairs(table, QUIZ)
    assert result["family"].tolist() == ["c"]  # a starts at chance, b is alone
    assert result["gain"].tolist() == pytest.approx([-10])


def test_a_score_in_proportion_to_size_has_an_elasticity_of_one():
    table = pd.DataFrame(
        {"family": "a", "params": SIZES[:3], "quiz": 0.25 + 0.03 * 4.0 ** np.arange(3)}
    )
    assert returns.pairs(table, QUIZ)["elasticity"].tolist() == pytest.approx([1, 1])


def test_an_interval_needs_four_families_and_holds_the_truth():
    rows = returns.pairs(synthetic(3, scatter=0), QUIZ)
    assert returns.average(rows, "gain")["low"] is None
    inside = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        gain = np.repeat(rng.normal(5, 2, 20), 3) + rng.normal(0, 1, 60)
        values = pd.DataFrame({"family": np.repeat(np.arange(20), 3), "gain": gain})
        fitted = returns.average(values, "gain", samples=300)
        inside += fitted["low"] <= 5 <= fitted["high"]
    assert inside >= 33  # of 40; drawing rows instead of families would hold far fewer


def test_smaller_models_win_as_often_as_counted_by_hand():
    table = pd.DataFrame(
        {"family": list("abcd"), "params": [1e9, 2e9, 4e9, 3e9], "quiz": [0.5, 0.4, 0.6, 0.7]}
    )
    # At least twice: 1-2 (lower), 1-4, 1-3, 2-4; one of four pairs is lost.
    fitted = returns.smaller_wins(table, "quiz", 2, samples=50)
    assert (fitted["value"], fitted["pairs"]) == (0.25, 4)


def test_a_halving_time_and_its_break_are_found():
    days = np.arange(0, 800, 8.0)
    month = 365.25 / 12
    clean = 5 - np.minimum(days, 300) / (2 * month) - np.maximum(days - 300, 0) / (12 * month)
    inside = 0
    for seed in range(5):
        y = clean + np.random.default_rng(seed).normal(0, 0.02, len(days))
        result = returns.doubling_times(days, 2**y, samples=40)
        assert (result["before"], result["after"]) == pytest.approx((2, 12), rel=0.1)
        assert result["break_day"] == pytest.approx(300, abs=16)
        assert result["bic_gain"] > 50
        inside += result["after_low"] < 12 < result["after_high"]
    assert inside >= 3


# ------------------------------------------------------------------ plateaus


@pytest.mark.parametrize("seed", range(3))
def test_a_plateau_is_found_where_there_is_one(seed):
    points = plateau.Points.from_table(synthetic(at=BREAK, seed=seed), QUIZ)
    flat, smooth, capped = (
        plateau.fit(points, *how) for how in (("plateau", BREAK), ("smooth",), ("capped",))
    )
    assert returns.bic(points, flat) + 10 < returns.bic(points, smooth)
    assert returns.bic(points, flat) < returns.bic(points, capped)
    free = plateau.fit(points, "plateau")
    assert 16e9 < 2**free.at < 64e9
    fitted = plateau.kept_slope(points, BREAK, samples=60)
    assert fitted["low"] < 0.1
    assert fitted["high"] < 0.5
    output = returns.predict(points, "plateau", BREAK), returns.predict(points, "smooth")
    assert returns.better(*output, samples=200) > 0.9


@pytest.mark.parametrize("seed", range(3))
def test_no_plateau_is_found_where_there_is_none(seed):
    points = plateau.Points.from_table(synthetic(seed=seed), QUIZ)
    flat, smooth = plateau.fit(points, "plateau", BREAK), plateau.fit(points, "smooth")
    assert returns.bic(points, smooth) + 10 < returns.bic(points, flat)
    fitted = plateau.kept_slope(points, BREAK, samples=60)
    assert fitted["low"] > 0.5
    output = returns.predict(points, "smooth"), returns.predict(points, "plateau", BREAK)
    assert returns.better(*output, samples=200) > 0.9


def test_a_ceiling_is_not_taken_for_a_plateau():
    points = plateau.Points.from_table(synthetic(24, ceiling=0.7, scatter=0.01), QUIZ)
    capped, flat = plateau.fit(points, "capped"), plateau.fit(points, "plateau", BREAK)
    assert capped.ceiling == pytest.approx(0.7, abs=0.04)
    assert returns.bic(points, capped) + 10 < returns.bic(points, flat)


def test_a_fit_without_scatter_returns_what_made_it():
    points = plateau.Points.from_table(synthetic(scatter=0, at=BREAK), QUIZ)
    fitted = plateau.fit(points, "bent", BREAK)
    assert fitted.slopes == pytest.approx([0.35, 0], abs=1e-4)
    assert fitted.rss < 1e-8
    output = returns.predict(points, "plateau", BREAK)
    assert np.abs(output["observed"] - output["predicted"]).max() < 0.003  # offsets lie on a grid


def test_power_tells_a_blind_table_from_a_sharp_one():
    sharp = returns.power(
        plateau.Points.from_table(synthetic(16, scatter=0.01), QUIZ), BREAK, simulations=20
    )
    assert sharp["found"] == 1
    assert sharp["false"] == 0
    small = synthetic(16, scatter=0.1)
    small = small[(small["params"] < 1e11) | (small["family"] == "family 0")]
    blind = returns.power(plateau.Points.from_table(small, QUIZ), 200e9, simulations=40)
    assert 0.2 < blind["found"] < 0.9


def test_too_few_families_and_unknown_curves_are_refused():
    with pytest.raises(ValueError, match="2 families cannot tell a plateau"):
        plateau.Points.from_table(synthetic(2), QUIZ)
    with pytest.raises(ValueError, match="did you mean 'plateau'"):
        plateau.fit(plateau.Points.from_table(synthetic(), QUIZ), "plato")


# ------------------------------------------------------------------ emergence


def climbing(curve, x):
    return curve.accuracy(-np.log10(x))


def test_a_climb_returns_the_curve_that_made_it():
    x = np.geomspace(1e19, 1e25, 40)
    truth = Sigmoid(2.0, -22.0, 0.25, 0.8)
    result = returns.climb(x, climbing(truth, x), 0.25)
    assert (result.steepness, result.middle, result.top) == pytest.approx((2, -22, 0.8), rel=1e-3)
    assert climbing(truth, returns.onset(truth)) == pytest.approx(0.25 + 0.1 * 0.55)
    assert returns.decades(truth) == pytest.approx(2 * np.log(9) / 2)


@pytest.mark.parametrize(("jump", "low", "high"), [(0.0, -2, 2), (0.2, 10, 30)])
def test_an_excess_is_seen_only_where_it_was_put(jump, low, high):
    rng = np.random.default_rng(0)
    x = np.geomspace(1e20, 1e25, 80)
    y = climbing(Sigmoid(1.0, -24.0, 0.0), x) + rng.normal(0, 0.01, 80)
    y = y + jump * (x > np.quantile(x, 0.75))
    table = pd.DataFrame({"family": np.arange(80) % 20, "operations": x, "quiz": y})
    fitted = returns.excess(table, "quiz", 0.0, "operations", samples=40)
    assert low < fitted["low"] <= fitted["value"] <= fitted["high"] < high
    assert fitted["foretold"] == 20


def test_a_strict_metric_climbs_later():
    x = np.geomspace(1e20, 1e24, 60)
    p = climbing(Sigmoid(1.0, -22.5, 0.0), x)
    late, early = (returns.onset(returns.climb(x, y)) for y in (p**8, p))
    assert late > 3 * early


# ------------------------------------------------------------------ the published tables


README = """# x
| # | Record time | Description | Date | Log | Contributors |
1 | 45 minutes | [a](https://x.org) | 05/28/24 | [log](a.log) | @a
21 | 2.997 minutes | 21st with new timing | 02/01/25 | [log](b) | not a new record
66 | 1.595 minutes | Torch 2.10 | 01/31/26 | - | -

## Speedrun track 2: larger
1 | 5.8 hours | [b](https://x.org) | 05/28/24 | [log](c) | @c
2 | 29.3 minutes | [c](https://x.org) | 01/18/25 | [log](d) | @d
"""


def test_records_are_read_from_the_readme_of_the_first_track():
    rows = public_tables.COLLECTED["speedrun"][1]("README.md", README)
    assert [tuple(row[name] for name in public_tables.columns("speedrun")) for row in rows] == [
        ("1", "45", "2024-05-28"),
        ("21", "2.997", "2025-02-01"),
        ("66", "1.595", "2026-01-31"),
    ]


def test_an_evaluation_becomes_rows_with_the_mean_of_all_subjects():
    results = {"sciq": {"acc": 0.5, "acc_stderr": 0.1, "acc_norm": 0.6}}
    results |= {f"hendrycksTest-{k}": {"acc": k / 100, "acc_norm": 0.9} for k in range(57)}
    path = "evals/pythia-v1/pythia-1b-bf16/five-shot/1b-5shot_step143000.json"
    paths, parse = public_tables.COLLECTED["pythia"]
    rows = parse(path, json.dumps({"results": results}))
    rows = [tuple(row[name] for name in public_tables.columns("pythia")) for row in rows]
    assert rows[:2] == [
        ("1b-bf16", "five", 143000, "sciq", "acc", 0.5),
        ("1b-bf16", "five", 143000, "sciq", "acc_norm", 0.6),
    ]
    assert rows[2][3:] == ("mmlu_macro57", "acc", pytest.approx(0.28))
    assert len(paths()) == 32
    assert path in paths()


def test_a_digest_knows_notation_and_order_from_content():
    fitted = [("1", "3.80", "2024-12-10"), ("2", "3.4", "2025-01-04")]
    assert public_tables.digest(fitted) == public_tables.digest(
        [("2", 3.4, "2025-01-04"), (1, "3.8", "2024-12-10")]
    )
    assert public_tables.digest(fitted) != public_tables.digest(fitted[:1])


def test_other_rows_than_the_pinned_ones_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("SIZEWISE_PUBLISHED", str(tmp_path))
    with pytest.raises(ValueError, match=r"no speedrun_records\.csv"):
        public_tables.speedrun()
    (tmp_path / "speedrun_records.csv").write_text("record,minutes_8xH100,date\n1,45,2024-05-28\n")
    with pytest.raises(ValueError, match="other rows than KellerJordan/modded-nanogpt"):
        public_tables.speedrun()


def test_what_is_wrong_in_the_table_is_set_right(published_tables):
    raw, table = public_tables.scores(as_published=True), public_tables.scores()
    assert (len(raw), len(table)) == (148, 140)
    facts = public_tables.entry("benchmarks")
    dropped = {*facts["sparse"], *facts["tuned"]}
    assert dropped == set(raw["model"]) - set(table["model"])
    by_name = table.set_index("model")
    assert by_name.loc["openlm-research/open_llama_7b_v2", "params"] == 7e9
    btlm = by_name.loc["cerebras/btlm-3b-8k-base"]
    assert btlm["operations"] == pytest.approx(6 * 3e9 * 0.627e12)
    stated = table.dropna(subset=["operations"])
    assert stated["operations"].to_numpy() == pytest.approx(
        (6 * stated["params"] * stated["tokens"]).to_numpy(), rel=0.03
    )
    assert "meta-llama/Meta-Llama-3.1-405B-FP8" in set(table["model"])  # the only 8-bit weights


def test_the_pilot_is_reproduced_on_the_table_as_published(published_tables):
    raw = public_tables.scores(as_published=True)
    pilot = {
        "MMLU": (0.68, 0.85),
        "GSM8K": (0.68, 0.87),
        "HumanEval": (0.69, 0.82),
        "HellaSwag": (0.83, 0.84),
    }
    for name, (size, computing) in pilot.items():
        assert returns.rank(raw, name, "params", 10)["value"] == pytest.approx(size, abs=0.006)
        assert returns.rank(raw, name, "operations", 10)["value"] == pytest.approx(
            computing, abs=0.006
        )
    for times, share, pairs in ((2, 0.202, 8606), (8, 0.121, 4313)):
        fitted = returns.smaller_wins(raw, "MMLU", times, 10)
        assert (fitted["value"], fitted["pairs"]) == (pytest.approx(share, abs=5e-4), pairs)


def test_gains_lie_near_those_of_the_pilot(published_tables):
    # The pilot left out whole families that hold a sparse model and did not say which pairs of
    # sizes it took; neighbours alone give its figures within a point and a half.
    table, edges = public_tables.scores(), [(1e9, 6e9), (6e9, 12e9), (12e9, 34.5e9), (34.5e9, 1e12)]
    pilot = {
        "MMLU": (6.4, 6.3, 6.2, 4.4),
        "GSM8K": (11.3, 9.7, 8.3, 13.4),
        "HumanEval": (5.5, 5.3, 4.0, 8.9),
        "HellaSwag": (6.0, 3.4, 2.6, 1.6),
        "Winograd": (3.1, 3.0, 2.7, 1.6),
    }
    for name, gains in pilot.items():
        rows = returns.pairs(table, public_tables.benchmarks()[name])
        for (low, high), gain in zip(edges, gains, strict=True):
            chosen = rows[(rows["start"] >= low) & (rows["start"] < high)]["gain"]
            assert chosen.mean() == pytest.approx(gain, abs=1.5), (name, low)
    last = returns.pairs(table, public_tables.benchmarks()["MMLU"]).query("end == 405e9")
    assert last["gain"].iloc[0] * last["doublings"].iloc[0] == pytest.approx(6.1, abs=0.1)


def test_the_speedrun_halves_as_the_pilot_said(published_tables):
    rows = public_tables.speedrun()
    assert (len(rows), rows["minutes"].iloc[-1]) == (89, 1.23)
    result = returns.doubling_times(rows["days"], rows["minutes"], samples=50)
    assert result["ends"] == pytest.approx(4.93, abs=0.01)
    early = rows[rows["record"] <= 21]
    assert returns.doubling_times(early["days"], early["minutes"], 20)["ends"] == pytest.approx(
        2.0, abs=0.05
    )


def test_pythia_scores_are_those_of_the_suite(published_tables):
    rows = public_tables.pythia().set_index(["model", "shots", "task", "metric"])["value"]
    ends = [rows[(m, "zero", "lambada_openai", "acc")] for m in ("70m", "12b")]
    assert ends == pytest.approx([0.185, 0.705], abs=6e-4)


# ------------------------------------------------------------------ the recorded rows


def test_every_claimed_plateau_has_its_rows():
    rows = records.table("published_scores")
    if rows.empty:
        pytest.skip("no rows recorded yet")
    for name, fitted in public_tables.benchmarks().items():
        if fitted.claimed:
            curves = rows[(rows["benchmark"] == name) & (rows["what"] == "curve")]
            assert {"smooth", "capped", "plateau", "bent"} <= set(curves["curve"])
            assert curves["found_break"].dropna().between(5e8, 2e11).all()
    shares = rows[["smaller_wins", "capped_better", "found", "false"]].stack().dropna()
    assert shares.between(0, 1).all()
