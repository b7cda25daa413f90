"""Small against large: tables from random answers, and published scores against sums by hand."""

import datetime

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sizewise.chapters import claims
from sizewise.chapters.figures import small_versus_large as figures
from sizewise.chapters.tables import published_scores, small_versus_large
from sizewise.data import catalog, records
from sizewise.stats import paired

GEMMA = ("gemma-4-e4b", "gemma-3-27b")


def sample(accuracies, items=200, task="arc-easy", part=50, seed=0, share=0.7):
    """Rows as they are recorded: models whose right answers overlap, in parts of ``part`` items."""
    rng = np.random.default_rng(seed)
    hard = rng.random(items)
    rows = []
    for k, (model, accuracy) in enumerate(accuracies.items()):
        difficulty = np.where(rng.random(items) < share, hard, rng.random(items))
        right = (difficulty < accuracy).astype(int)
        for start in range(0, items, part):
            names = [f"{task}/{n}" for n in range(start, min(start + part, items))]
            rows.append(
                {
                    "model": model,
                    "task": task,
                    "part": start // part,
                    "items": names,
                    "right": right[start : start + part].tolist(),
                    "parameters": 10 ** (8 + k),
                    "cpu_seconds": 2.0 * 10**k * len(names),
                    "tokens_read": 30 * len(names),
                    "tokens_written": 2 * len(names),
                    "held_bytes": 4 * 10 ** (8 + k),
                    "peak_bytes": 10 ** (9 + k) + start,
                }
            )
    return pd.DataFrame(rows)


# ------------------------------------------------------------------ recorded answers


def test_answers_are_the_parts_joined():
    table = sample({"a": 0.3, "b": 0.6}, items=120)
    answers = small_versus_large.answers(table)
    assert len(answers) == 240
    assert answers.groupby("model")["right"].sum().to_dict() == {
        model: sum(map(sum, rows["right"])) for model, rows in table.groupby("model")
    }


def test_an_item_answered_twice_is_an_error():
    table = sample({"a": 0.5})
    twice = small_versus_large.answers(pd.concat([table, table.head(1)]))
    with pytest.raises(ValueError, match="duplicate"):
        small_versus_large.duels(twice, ["a"])


def test_a_duel_is_worked_out_by_hand():
    rows = pd.DataFrame(
        {
            "model": ["s", "l"],
            "task": "piqa",
            "items": [list("abcdefgh"), list("bcdefghi")],
            "right": [[1, 1, 0, 0, 0, 0, 1, 0], [1, 1, 1, 1, 0, 0, 1, 1]],
            "parameters": [1, 2],
        }
    )
    duel = small_versus_large.duels(small_versus_large.answers(rows), ["s", "l"]).iloc[0]
    # shared are b to h: s 1000010, l 1111001
    assert (duel["items"], duel["only_small"], duel["only_large"]) == (7, 1, 4)
    assert duel["difference"] == pytest.approx(3 / 7)
    assert duel["p"] == pytest.approx(12 / 32 - 5 / 32)  # two tails of 5 tosses less half of both
    assert duel["p_holm"] == duel["p"]
    assert duel["ahead"] == "no"


def test_duels_find_a_real_difference_and_none_where_there_is_none():
    rows = pd.concat(
        [
            sample({"s": 0.4, "l": 0.7}, 400),
            sample({"s": 0.5, "l": 0.5}, 400, "piqa"),
            sample({"s": 0.7, "l": 0.4}, 400, "boolq"),
        ]
    )
    ahead = small_versus_large.duels(small_versus_large.answers(rows), ["s", "l"]).set_index(
        "task"
    )["ahead"]
    assert ahead.to_dict() == {"arc-easy": "larger", "piqa": "no", "boolq": "smaller"}


def test_p_values_are_corrected_over_all_duels_together():
    def duel(task, only_small, only_large):
        small = [1] * only_small + [0] * only_large + [1] * 4
        large = [0] * only_small + [1] * only_large + [1] * 4
        items = list(range(len(small)))
        return pd.DataFrame(
            {
                "model": ["s", "l"],
                "task": task,
                "items": [items, items],
                "right": [small, large],
                "parameters": [1, 2],
            }
        )

    rows = pd.concat([duel("piqa", 0, 5), duel("boolq", 1, 1), duel("arc-easy", 0, 8)])
    duels = small_versus_large.duels(small_versus_large.answers(rows), ["s", "l"]).set_index("task")
    # mid-p of k tosses that all fall alike: both ends, 2 in 2**k, less half of them
    assert duels["p"].to_dict() == pytest.approx(
        {"piqa": 1 / 32, "boolq": 1 - 1 / 4, "arc-easy": 1 / 256}
    )
    # Holm: the least times three, the next times two, the last as it is
    assert duels["p_holm"].to_dict() == pytest.approx(
        {"piqa": 2 / 32, "boolq": 3 / 4, "arc-easy": 3 / 256}
    )
    assert duels["ahead"].to_dict() == {"piqa": "no", "boolq": "no", "arc-easy": "larger"}


def test_the_detectable_difference_is_found_four_times_in_five():
    items, share, level = 400, 0.3, 0.01
    gap = small_versus_large.least(share, items, level)
    rng, hits = np.random.default_rng(0), 0
    for _ in range(400):
        kinds = rng.multinomial(items, [(share + gap) / 2, (share - gap) / 2, 1 - share])
        hits += paired.mcnemar(int(kinds[0]), int(kinds[1]))[1] < level
    assert hits / 400 == pytest.approx(0.8, abs=0.06)
    assert np.isnan(small_versus_large.least(0, 400, level))


def test_neighbours_are_those_that_answered_the_task():
    rows = pd.concat(
        [sample({"a": 0.3, "b": 0.4, "c": 0.6}, 60), sample({"a": 0.3, "c": 0.6}, 60, "piqa")]
    )
    duels = small_versus_large.duels(small_versus_large.answers(rows), ["a", "b", "c"])
    assert list(zip(duels["task"], duels["small"], duels["large"], strict=True)) == [
        ("arc-easy", "a", "b"),
        ("arc-easy", "b", "c"),
        ("arc-easy", "a", "c"),
        ("piqa", "a", "c"),
    ]


def test_models_are_ordered_by_size():
    table = sample({"s": 0.5, "l": 0.5}).iloc[::-1]
    assert list(small_versus_large.sizes(table).items()) == [("s", 10**8), ("l", 10**9)]


# ------------------------------------------------------------------ published scores


def test_every_entry_names_a_model_that_is_known_and_a_date():
    for entry in records.facts("scores"):
        name, date = entry["name"], entry["published"]
        assert entry.get("model") is None or catalog.model(entry["model"]), name
        assert date is None or isinstance(date, datetime.date), name
        for figure in entry["figures"].values():
            assert figure["unit"] != "%" or 0 <= figure["value"] <= 100


def test_a_snapshot_is_named_by_its_date_and_falls_from_best_to_fifth_maker():
    snapshots = [e for e in records.facts("scores") if e["name"].startswith("arena-")]
    assert len(snapshots) >= 6
    for entry in snapshots:
        name, figures = entry["name"], entry["figures"]
        assert name == f"arena-{entry['published'].isoformat()}"
        best, fifth, maker = (figures[k]["value"] for k in ("best", "fifth", "fifth_maker"))
        assert best > fifth >= maker, name


def test_the_small_gemma_leads_in_all_rows_whichever_way_is_better():
    table = published_scores.versus(*GEMMA).set_index("benchmark")
    assert len(table) == 12
    assert table["small_wins"].all()
    assert table.loc["MMLU-Pro", "lead"] == pytest.approx(1.8)
    assert table.loc["OmniDocBench 1.5", "lead"] == pytest.approx(0.184)


def test_versus_is_the_same_contest_seen_from_either_side():
    table, swapped = published_scores.versus(*GEMMA), published_scores.versus(*GEMMA[::-1])
    assert set(table["benchmark"]) == set(swapped["benchmark"])
    swapped = swapped.set_index("benchmark").loc[table["benchmark"]]
    assert table["lead"].tolist() == pytest.approx((-swapped["lead"]).tolist())


def test_the_ratio_of_claim_58_is_that_of_the_printed_scores():
    large, small = (claims.fact(f"scores/{name}/AIME 2026") for name in ("gemma-4-31b", GEMMA[1]))
    assert large / small == pytest.approx(4.288, abs=1e-3)


def test_the_fifth_is_nearer_to_the_best_than_the_tenth_that_the_ai_index_names():
    fifth = published_scores.ratings().set_index("date").loc[datetime.date(2024, 11, 13)]
    best = claims.fact("scores/arena-2024-11-13/best")
    assert 100 * fifth["model"] / best < claims.fact("scores/ai-index-2025/tenth_after")


@pytest.mark.parametrize(("right", "items"), [(6, 30), (0, 30), (27, 30), (30, 30)])
def test_the_interval_of_a_printed_score_is_wilsons(right, items):
    from scipy.stats import binomtest

    expected = binomtest(right, items).proportion_ci(0.95, "wilson")
    interval = paired.wilson(right / items, items)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), abs=1e-6)


@pytest.mark.parametrize(("share", "items"), [(0.892, 30), (0.05, 7), (0.5, 100)])
def test_the_ends_of_the_interval_are_where_the_share_lies_at_the_quantile(share, items):
    """Wilson's definition: (share - end)**2 = z**2 end (1 - end) / items, share any number."""
    interval = paired.wilson(share, items)
    assert interval.value == share
    for end in (interval.low, interval.high):
        assert abs(share - end) / (end * (1 - end) / items) ** 0.5 == pytest.approx(1.959964)
    assert interval.low < share < interval.high


def test_a_share_outside_0_to_1_has_no_interval():
    assert paired.wilson(0.0, 30).low == 0
    assert paired.wilson(1.0, 30).high == 1
    with pytest.raises(ValueError, match=r"share must be from 0 to 1, got 1\.2"):
        paired.wilson(1.2, 30)


@given(st.floats(-1500, 1500))
def test_votes_go_to_one_of_the_two(gap):
    assert published_scores.preferred(gap) + published_scores.preferred(-gap) == pytest.approx(1)


def test_four_hundred_points_are_odds_of_ten_to_one():
    share = published_scores.preferred(400)
    assert share / (1 - share) == pytest.approx(10)


def test_gaps_and_their_margins_are_worked_out_by_hand():
    table = published_scores.ratings().set_index("date")
    assert table.index.is_monotonic_increasing
    last = table.loc[datetime.date(2026, 3, 27)]
    assert (last["model"], last["maker"]) == (18, 39)
    assert last["model_margin"] == pytest.approx((6**2 + 4**2) ** 0.5)
    assert np.isnan(table.loc[datetime.date(2023, 5, 8), "model_margin"])


@settings(deadline=None)
@given(st.lists(st.integers(0, 1500), min_size=2, max_size=8, unique=True), st.integers(1, 3))
def test_pairs_are_as_many_years_apart_as_requested(days, years):
    start = datetime.date(2023, 1, 1)
    table = pd.DataFrame(
        {
            "date": [start + datetime.timedelta(d) for d in sorted(days)],
            "model": 1.0,
            "maker": 2.0,
        }
    )
    for row in published_scores.apart(table, years).itertuples():
        assert abs((row.after - row.before).days / 365.25 - years) <= 0.25


# ------------------------------------------------------------------ figures


@pytest.fixture
def axes():
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots()
    yield axes
    plt.close(figure)


def test_only_differences_that_are_sure_are_filled(axes):
    rows = pd.concat([sample({"s": 0.3, "l": 0.8}, 400), sample({"s": 0.5, "l": 0.5}, 400, "piqa")])
    figures.differences(
        axes, small_versus_large.duels(small_versus_large.answers(rows), ["s", "l"])
    )
    inside = [line.get_markerfacecolor() for line in axes.lines if len(line.get_xdata()) == 1]
    assert len(inside) == 2
    assert inside.count("none") == 1


def test_recorded_comparisons_are_drawn_with_their_numbers_in_words(axes):
    bands = small_versus_large.part(
        "band", small="Meta-Llama-3_1-8B", large="Meta-Llama-3_1-70B"
    ).sort_values("band")
    assert len(bands) == 5
    assert bands["judged_right"].is_monotonic_decreasing
    assert figures.bands(axes, bands, "8B", "70B").count(" %") == 5
    assert "Llama 2 70B 36.3 %" in figures.families(
        axes, small_versus_large.by_size(), "Llama 2 70B", 0.363
    )


def test_a_cascade_pays_for_every_model_it_asks():
    table = small_versus_large.cascades(
        "together",
        "meta-llama/Meta-Llama-3.1-8B-Instruct-Turbo",
        "meta-llama/Meta-Llama-3.1-70B-Instruct-Turbo",
        "2026-04-15",
        300,
    )
    first, last = table.iloc[0], table.iloc[-1]
    # by hand: 300 tokens and 916.4 / 4, at 0.18 dollars a million
    assert first["dollars"] == pytest.approx(1000 * 0.18 * (300 + 229) / 1e6)
    assert last["dollars"] == pytest.approx(1000 * 0.88 * (300 + 124) / 1e6)
    between = table[table["models"] > 1]
    assert (between["dollars"] > between["dollars_small"]).all()
    assert (between["right"] > first["right"]).all()


def test_what_was_not_recorded_is_refused():
    with pytest.raises(ValueError, match="no row of pair"):
        small_versus_large.pair("gemma-7b", "gemma-7b")


def test_a_doubling_gains_what_the_pair_gains_over_its_doublings():
    table = small_versus_large.doublings().query("subject == 'all'").set_index("large_name")
    row = table.loc["Llama 3.1 70B"]  # 36.5 to 52.5 % right, 8.03 to 70.554 billion
    assert row["points"] == pytest.approx(15.974 / np.log2(70.554 / 8.03), abs=0.01)
    above = (0.52477 - 0.11) / (0.36503 - 0.11)
    assert row["elasticity"] == pytest.approx(np.log(above) / np.log(70.554 / 8.03), abs=0.01)
    assert ((table["low"] < table["points"]) & (table["points"] < table["high"])).all()


def test_llama_2_gains_as_much_past_13b_as_before():
    table = small_versus_large.levelling().query("middle == 'Llama 2 13B'").set_index("subject")
    assert (table["verdict"] == "goes on").all()
    assert table.loc["all", "before"] == pytest.approx(5.178 / np.log2(13.016 / 6.738), abs=0.01)
    assert table.loc["all", "after"] == pytest.approx(12.766 / np.log2(68.977 / 13.016), abs=0.01)


def test_gains_level_off_where_the_whole_interval_is_under_a_quarter(monkeypatch):
    rows = pd.DataFrame(
        {
            "chain": [["Llama-2-7b-hf", "Llama-2-13b-hf", "Llama-2-70b-hf"]] * 3,
            "subject": ["a", "b", "c"],
            "items": 9,
            "before": 4.0,
            "after": 1.0,
            "over_quarter_low": [0.1, -2.0, -1.0],
            "over_quarter_high": [2.0, -0.1, 1.0],
        }
    )
    monkeypatch.setattr(small_versus_large, "part", lambda kind: rows)
    table = small_versus_large.levelling()
    assert table["verdict"].tolist() == ["goes on", "levels off", "open"]
    assert (table["middle"] == "Llama 2 13B").all()
