"""Cascades: a toy by hand, bounds that hold, intervals that cover, rows from recorded answers."""

import importlib.util
import json
import math
import sys

import numpy as np
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom
from sizewise import paths
from sizewise.data import records
from sizewise.evaluation import cascade

sys.path.insert(0, str(paths.root() / "scripts"))
from common import reliability

ROOT = paths.root()
SEEDS = 200


def toy(**changed):
    """Six items from unsure to sure; the large model helps with the first and the third."""
    fields = {
        "small": [0, 1, 0, 1, 1, 1],
        "large": [1, 0, 1, 1, 1, 1],
        "confidence": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6],
        "small_cost": [1.0] * 6,
        "large_cost": [10.0] * 6,
    }
    return cascade.Cascade(**(fields | changed))


def random_pair(seed, items):
    """Small is right as often as it is confident, large four times in five."""
    rng = np.random.default_rng(seed)
    confidence = rng.random(items)
    return cascade.Cascade(
        rng.random(items) < confidence,
        rng.random(items) < 0.8,
        confidence,
        np.ones(items),
        np.full(items, 10.0),
    )


@st.composite
def cascades(draw):
    size = draw(st.integers(2, 30))
    bits = st.lists(st.integers(0, 1), min_size=size, max_size=size)
    confidence = draw(st.lists(st.integers(0, 5), min_size=size, max_size=size))  # with ties
    return cascade.Cascade(draw(bits), draw(bits), confidence, np.ones(size), np.full(size, 4.0))


# --- the curve


def test_the_curve_of_six_items_by_hand():
    table = toy().curve([k / 6 for k in range(7)])
    assert (table["right"] * 6).tolist() == pytest.approx([4, 5, 4, 5, 5, 5, 5])
    assert (table["random"] * 6).tolist() == pytest.approx([4 + k / 6 for k in range(7)])
    assert (table["oracle"] * 6).tolist() == pytest.approx([4, 5, 6, 6, 6, 6, 5])
    assert table["cost"].tolist() == pytest.approx([1 + 10 * k / 6 for k in range(7)])


def test_the_areas_of_six_items_by_hand():
    pair = toy()  # trapezoids of 4.5 and 9.5 sixths by sixths, less half of one sixth
    assert pair.area(samples=10).value == pytest.approx(4.5 / 36 - 1 / 12)
    assert pair.oracle_area == pytest.approx(9.5 / 36 - 1 / 12)
    assert pair.either == 1


def test_a_threshold_of_six_items_by_hand():
    pair = toy()
    assert pair.choose(1.0) == 0.2  # the first item alone brings all that the large model gains
    result = pair.judge(0.2, samples=10)
    assert result["share"].value == pytest.approx(1 / 6)
    assert result["right"].value == pytest.approx(5 / 6)
    assert result["cost_ratio"].value == pytest.approx((6 + 10) / 60)
    assert result["over_large"].value == pytest.approx(0)
    assert result["over_random"].value == pytest.approx(5 / 6 - (4 + 1 / 6) / 6)
    assert result["kept"].value == pytest.approx(1)


def test_costs_are_those_of_the_items_handed_on():
    pair = toy(small_cost=[1, 1, 1, 1, 1, 7], large_cost=[60, 0, 0, 0, 0, 6])
    assert pair.judge(0.15, samples=10)["cost_ratio"].value == pytest.approx((12 + 60) / 66)
    assert pair.curve([0.5])["cost"][0] == pytest.approx((12 + 60) / 6)


def test_handing_all_on_costs_more_than_the_large_model_alone():
    result = toy().judge(math.inf, samples=10)
    assert result["right"].value == pytest.approx(5 / 6)
    assert result["cost_ratio"].value == pytest.approx(66 / 60)


def test_without_confidence_the_curve_is_the_chord():
    pair = toy(confidence=[0.5] * 6)
    table = pair.curve(np.linspace(0, 1, 23))
    assert table["right"].to_numpy() == pytest.approx(table["random"].to_numpy())
    area = pair.area(samples=50)
    assert (area.value, area.low, area.high) == pytest.approx((0, 0, 0))


def test_random_routing_is_the_mean_of_random_confidences():
    rng = np.random.default_rng(0)
    base = random_pair(0, 60)
    shares = [0.25, 0.5]
    curves = [
        cascade.Cascade(base.small, base.large, rng.random(60), base.small_cost, base.large_cost)
        .curve(shares)["right"]
        .to_numpy()
        for _ in range(2000)
    ]
    error = np.std(curves, 0) / math.sqrt(2000)
    gap = np.mean(curves, 0) - base.curve(shares)["random"].to_numpy()
    assert (np.abs(gap) < 4 * error).all()


@settings(deadline=None)
@given(cascades())
def test_the_oracle_is_never_below_and_never_above_either(pair):
    table = pair.curve(np.linspace(0, 1, 31))
    assert (table["oracle"] >= table[["right", "random"]].max(axis=1) - 1e-12).all()
    assert (table["oracle"] <= pair.either + 1e-12).all()
    assert pair.area(samples=3).value <= pair.oracle_area + 1e-12
    shares = np.arange(len(pair) + 1) / len(pair)
    assert pair.curve(shares)["oracle"].max() == pytest.approx(pair.either)


@settings(deadline=None)
@given(cascades())
def test_a_perfectly_informative_confidence_reaches_the_oracle(pair):
    best = cascade.Cascade(pair.small, pair.large, -pair.gain, pair.small_cost, pair.large_cost)
    table = best.curve(np.linspace(0, 1, 31))
    assert table["right"].to_numpy() == pytest.approx(table["oracle"].to_numpy())
    assert best.area(samples=3).value == pytest.approx(pair.oracle_area)


@settings(deadline=None)
@given(cascades(), st.floats(0, 1))
def test_the_threshold_keeps_the_target_at_the_least_share(pair, keep):
    confidence, threshold = pair.confidence, pair.choose(keep)
    gained = pair.gain[confidence < threshold].sum()
    target = keep * max(pair.gain.sum(), 0)
    assert gained >= target - 1e-9
    for lower in [-math.inf, *confidence]:
        if lower < threshold and (confidence < lower).sum() < (confidence < threshold).sum():
            assert pair.gain[confidence < lower].sum() < target


# --- intervals and halves


def test_areas_and_judgements_of_a_known_cascade_are_covered():
    # right(s) = 0.5 + 0.8 s - s^2 / 2 against 0.5 + 0.3 s; at the threshold 0.4 a share of 0.4
    truth = {
        "share": 0.4,
        "right": 0.74,
        "cost_ratio": 0.5,
        "over_large": -0.06,
        "over_random": 0.12,
        "kept": 0.8,
        "area": 1 / 12,
    }
    hits = dict.fromkeys(truth, 0)
    for seed in range(SEEDS):
        pair = random_pair(seed, 400)
        result = pair.judge(0.4, samples=400, seed=seed)
        result["area"] = pair.area(samples=400, seed=seed)
        for name, value in truth.items():
            hits[name] += result[name].low <= value <= result[name].high
    low, high = binom.interval(0.999, SEEDS, 0.95)
    assert {name: n for name, n in hits.items() if not low <= n <= high} == {}


def test_a_threshold_flatters_itself_on_the_items_it_was_chosen_on():
    in_sample, held_out = [], []
    for seed in range(SEEDS):
        pair = random_pair(seed, 200)
        first = reliability.halves(range(200), seed)
        threshold = pair.part(first).choose(1.0)
        in_sample.append(pair.part(first).judge(threshold, samples=2)["over_large"].value)
        held_out.append(pair.part(~first).judge(threshold, samples=2)["over_large"].value)
    assert min(in_sample) >= -1e-12
    assert np.mean(held_out) < np.mean(in_sample) - 4 * np.std(held_out) / math.sqrt(SEEDS)


def test_where_the_large_model_gains_nothing_none_is_handed_on():
    worse = toy(large=[0] * 6)
    assert worse.choose(1.0) == -math.inf
    result = worse.judge(-math.inf, samples=10)
    assert result["share"].value == 0
    equal = toy(large=toy().small).judge(0.3, samples=10)["kept"]
    assert math.isnan(equal.value)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: toy(small=[2] * 6), "small must be a list of right"),
        (lambda: toy(confidence=[math.nan] * 6), "the confidence holds a number"),
    ],
)
def test_bad_input_is_one_clear_line(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


# --- many small ones


def test_votes_by_hand():
    p = np.array(
        [
            [[0.6, 0.4, 0.0], [0.5, 0.3, 0.2]],
            [[0.6, 0.4, 0.0], [0.1, 0.6, 0.3]],
            [[0.0, 1.0, 0.0], [0.1, 0.2, 0.7]],
        ]
    )
    assert cascade.vote(p).tolist() == [0, 2]  # 2 to 1; a tie of three, 0.4 is the largest mean
    assert cascade.vote(p, "mean").tolist() == [1, 2]


def test_three_independent_voters_are_right_as_often_as_binomials_say():
    rng = np.random.default_rng(0)
    right = rng.random((3, 20_000)) < 0.7
    p = np.stack([~right, right], -1).astype(float)  # (models, items, choices); 1 is right
    share = (cascade.vote(p) == 1).mean()
    assert share == pytest.approx(binom.sf(1, 3, 0.7), abs=4 * math.sqrt(0.2 / 20_000))


def scores(seed, items, **accuracy):
    """One row a model, task and item; ``accuracy`` of a model is one share a task."""
    rng = np.random.default_rng(seed)
    return pandas.concat(
        [
            pandas.DataFrame(
                {
                    "model": model,
                    "task": f"t{task}",
                    "item": range(items),
                    "right": (rng.random(items) < share).astype(int),
                }
            )
            for model, shares in accuracy.items()
            for task, share in enumerate(shares)
        ]
    )


def test_specialists_are_found_and_judged_on_other_items(script):
    table = scores(0, 400, left=[0.9, 0.3], right=[0.3, 0.9], both=[0.7, 0.7])
    picks = script.best_of_each_task(table)
    assert picks.groupby("task")["specialist"].first().tolist() == ["left", "right"]
    assert set(picks["generalist"]) == {"both"}
    for task, rows in picks.groupby("task"):
        first = reliability.halves(range(400))
        assert set(rows["item"]) == set(np.flatnonzero(~first))
        answers = table[(table["model"] == rows["specialist"].iloc[0]) & (table["task"] == task)]
        expected = answers.set_index("item")["right"].loc[rows["item"]]
        assert rows["specialist_right"].tolist() == expected.tolist()
    assert picks["specialist_right"].mean() > picks["generalist_right"].mean() + 0.1


def test_among_equal_models_specialists_gain_nothing_on_the_other_half(script):
    gains = []
    for seed in range(60):
        table = scores(seed, 60, **{f"m{k}": [0.5] * 4 for k in range(6)})
        picks = script.best_of_each_task(table)
        gains.append((picks["specialist_right"] - picks["generalist_right"]).mean())
    assert abs(np.mean(gains)) < 4 * np.std(gains) / math.sqrt(60)


def test_a_named_generalist_need_not_be_a_candidate(script):
    table = scores(0, 50, a=[0.5], b=[0.6], big=[0.9])
    picks = script.best_of_each_task(table, ["a", "b"], "big")
    assert set(picks["generalist"]) == {"big"}
    assert set(picks["specialist"]) <= {"a", "b"}


# --- rows from recorded answers


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("cascade_script", ROOT / "scripts/cascade.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def random_rows(seed=0):
    """Rows as of three models on two tasks in two parts, the larger the less noisy."""
    rng = np.random.default_rng(seed)
    rows = []
    for task, choices in (("easy", 3), ("hard", 4)):
        truth = rng.integers(0, choices, 80)
        sizes = rng.integers(4, 30, (80, choices))
        for model, params in (("s", 1e8), ("m", 3e8), ("l", 1e9)):
            noise = rng.normal(0, 8e3 / params**0.5, (80, choices))
            nats = 2 - (np.arange(choices) == truth[:, None]) + noise  # nats a byte
            for part in (1, 0):
                part_items = slice(40 * part, 40 * part + 40)
                rows.append(
                    {
                        "model": model,
                        "task": task,
                        "first": 40 * part,
                        "parameters": params,
                        "items": [f"{task}{k}" for k in range(80)[part_items]],
                        "norm": "per_byte",
                        "nats": (nats * sizes)[part_items].tolist(),
                        "bytes": sizes[part_items].tolist(),
                        "tokens": (sizes[part_items] // 4).tolist(),
                        "answers": truth[part_items].tolist(),
                        "right": (nats.argmin(1) == truth)[part_items].astype(int).tolist(),
                        "seconds": params / 1e9,
                        "tokens_read": 4000,
                        "id": f"{model}{task}{part}",
                    }
                )
                rows.append(
                    {
                        "model": model,
                        "task": "lambada",
                        "first": 0,
                        "parameters": params,
                        "items": ["w"],
                        "right": [1],
                        "nats": [[2.0]],
                        "id": f"{model}w",
                        "seconds": 1.0,
                        "tokens_read": 9,
                    }
                )
    return rows


def test_answers_are_read_in_parts_and_pooled(script):
    study = script.Study(random_rows())
    assert study.models == ["s", "m", "l"]
    assert study.tasks == ["easy", "hard", "all"]
    assert study.pairs() == [("s", "m"), ("s", "l"), ("m", "l")]
    table = study.answers["m"]["all"]
    energies = script.energies_of(table)
    assert energies.shape == (160, 4)
    assert np.isinf(energies[:80, 3]).all()
    assert table["cost"].sum() == pytest.approx(2 * 3e8 * 4 * 4000)
    assert table["seconds"].sum() == pytest.approx(4 * 0.3)
    assert study.first["all"].sum() == 80
    expected = {
        n: (np.array(c) / b, a)
        for row in random_rows()
        if row["model"] == "m"
        if row["task"] == "hard"
        for n, c, b, a in zip(row["items"], row["nats"], row["bytes"], row["answers"], strict=True)
    }
    energy, answer = expected["hard17"]
    assert energies[table.index.get_loc("hard/hard17")].tolist() == energy.tolist()
    assert table.loc["hard/hard17", "right"] == (energy.argmin() == answer)


def test_models_are_compared_on_the_items_they_share(script):
    rows = random_rows()
    for name in ("items", "nats", "bytes", "tokens", "answers", "right"):
        rows[0][name] = rows[0][name][5:]
    study = script.Study(rows[::-1])
    assert {len(tables["easy"]) for tables in study.answers.values()} == {75}
    rows[4]["answers"][20] = (rows[4]["answers"][20] + 1) % 3
    with pytest.raises(ValueError, match="different choices of easy"):
        script.Study(rows)


def test_every_row_is_described_and_computed_once(script, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(script, "SAMPLES", 50)
    answers, output = tmp_path / "answers.jsonl", tmp_path / "cascade.jsonl"
    answers.write_text("".join(json.dumps(row) + "\n" for row in random_rows()))
    args = script.arguments(["--input", str(answers), "--output", str(output)])
    script.run(args)
    rows = records.read(output)
    assert {row["what"] for row in rows} == set(script.KINDS)
    assert len(rows) == len(script.configs(script.Study(random_rows())))
    text = (ROOT / "data" / "cascade.md").read_text(encoding="utf-8")
    described = {line.split("`")[1] for line in text.splitlines() if line.startswith("| `")}
    assert {column for row in rows for column in row} == described
    capsys.readouterr()
    script.run(args)
    assert capsys.readouterr().out == ""
    results = [
        script.measure(script.Study(random_rows()), config)
        for config in script.configs(script.Study(random_rows()))[:3]
    ]
    for row, result in zip(rows, results, strict=False):
        assert {name: row[name] for name in result} == result
    answers.write_text("".join(json.dumps(row) + "\n" for row in random_rows(1)))
    with pytest.raises(ValueError, match="is of other answers than"):
        script.run(args)


def test_rows_agree_with_each_other(script, monkeypatch):
    monkeypatch.setattr(script, "SAMPLES", 50)
    study = script.Study(random_rows())
    rows = {kind: [] for kind in script.KINDS}
    for config in script.configs(study):
        if config["task"] == "all":
            rows[config["what"]].append(config | script.measure(study, config))
    for row in rows["cascade"]:
        assert row["right_at"][0] == pytest.approx(row["small_right"])
        assert row["right_at"][-1] == pytest.approx(row["large_right"])
        assert row["cost_at"][0] == pytest.approx(row["small_params"] / row["large_params"])
        assert row["cost_at"][-1] == pytest.approx(1 + row["small_cost_ratio"])
        assert row["gain"] == pytest.approx(row["large_right"] - row["small_right"])
        assert row["either"] == pytest.approx(row["small_right"] + row["only_large"])
        assert 0 < row["area"] < row["oracle_area"]
    for row in rows["chosen"]:
        assert row["over_large"] == pytest.approx(row["right"] - row["large_right"])
    for row in rows["calibration"]:
        assert row["surprise_fitted"] < row["surprise"]
        assert row["temperature"] < 1  # nats a byte lie too close together
    assert {row["against"] for row in rows["vote"]} == {"l"}
    assert {tuple(row["models"]) for row in rows["vote"]} == {("s", "m")}
    assert len(rows["specialists"]) == 2


def test_missing_answers_are_one_line(script, tmp_path):
    with pytest.raises(ValueError, match="has no rows"):
        script.run(script.arguments(["--input", str(tmp_path / "none.jsonl")]))
    with pytest.raises(ValueError, match="did you mean 'vote'"):
        script.run(script.arguments(["--what", "votes"]))
    with pytest.raises(ValueError, match="answers of two models, got 1"):
        script.Study([row for row in random_rows() if row["model"] == "s"])


def test_rows_of_other_scripts_are_refused_and_left_as_they_are(script, tmp_path):
    answers, foreign = tmp_path / "answers.jsonl", tmp_path / "foreign.jsonl"
    answers.write_text("".join(json.dumps(row) + "\n" for row in random_rows()))
    foreign.write_text('{"id": "0", "model": "bag", "answers": "0101", "items": 4}\n')
    content = foreign.read_bytes()
    with pytest.raises(ValueError, match="no likelihoods of choices: 'parameters'"):
        script.run(script.arguments(["--input", str(foreign)]))
    args = script.arguments(["--input", str(answers), "--output", str(foreign)])
    with pytest.raises(ValueError, match=r"foreign.jsonl holds rows of another script"):
        script.run(args)
    assert foreign.read_bytes() == content


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"norm": "per_bite"}, "no likelihoods of choices: 'per_bite'"),
        ({"right": [1]}, "no likelihoods of choices: Length of values"),
        ({"items": ["easy"]}, "no likelihoods of choices: Shape of passed values"),
    ],
)
def test_a_row_that_does_not_fit_is_refused(script, changed, message):
    rows = random_rows()
    rows[0] |= changed
    with pytest.raises(ValueError, match=message):
        script.Study(rows)


def test_what_cannot_be_opened_ends_the_script_in_one_line(script, tmp_path, monkeypatch):
    answers = tmp_path / "answers.jsonl"
    answers.write_text("".join(json.dumps(row) + "\n" for row in random_rows()))
    args = ["cascade", "--list", "--input", str(answers), "--output", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", args)
    with pytest.raises(SystemExit, match=r"^cascade: .*Is a directory") as caught:
        script.main()
    assert "\n" not in str(caught.value)


def test_rows_without_choices_do_not_make_the_answers_others(script):
    rows = random_rows()
    digest = script.digest(rows)
    assert script.digest([row for row in rows if row["task"] != "lambada"]) == digest
    assert script.digest([{**row, "from": {"time": "later"}} for row in rows]) == digest
    assert script.digest(rows[1:]) != digest


# --- probabilities


def test_a_temperature_leaves_the_order_of_items_only_with_two_choices():
    two = np.array([[0.0, 0.5], [0.0, 2.0], [1.0, 0.0]])
    orders = [np.argsort(reliability.probabilities(two, t).max(1)).tolist() for t in (0.1, 1, 10)]
    assert orders == [orders[0]] * 3
    # one rival close by, or three further off: cold, the close one hurts more; warm, the three
    four = np.array([[0.0, 1.0, 9.0, 9.0], [0.0, 1.5, 1.5, 1.5]])
    cold, warm = (reliability.probabilities(four, t) for t in (0.2, 2.0))
    assert cold[0].max() < cold[1].max()
    assert warm[0].max() > warm[1].max()
    assert cold.argmax(1).tolist() == warm.argmax(1).tolist() == [0, 0]
