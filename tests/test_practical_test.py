"""Items made by rule, the script that asks models, and its rows in the report."""

import json
import re
import runpy
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sizewise import paths
from sizewise.chapters.tables import practical_test
from sizewise.compare import models, report, run, scoring, synthetic_items
from sizewise.compare import task as tasks
from sizewise.compare.endpoint import Asking
from sizewise.data import records
from sizewise.stats import paired
from test_compare import tiny

torch.set_num_threads(1)
FILE = paths.root() / "scripts" / "practical_test.py"
LISTS = ("texts", "finishes", "scores", "prompt_tokens", "answer_tokens", "answer_seconds")


@pytest.fixture(scope="module")
def script():
    return SimpleNamespace(**runpy.run_path(str(FILE)))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    parent = tmp_path_factory.mktemp("models")
    return [str(tiny(parent / name, seed)) for seed, name in enumerate("ab")]


def config(model, temperature=0.0, repeats=1, items=6):
    return {
        "model": model,
        "task": "made",
        "items": items,
        "temperature": temperature,
        "repeats": repeats,
        "wordings": 1,
        "most": 5,
        "seed": 0,
    }


@pytest.fixture(scope="module")
def rows(folders):
    """Two random models on six items, thrice each, with tokens drawn."""
    measure = runpy.run_path(str(FILE))["measure"]
    measure.__globals__["about"] = lambda name: {"parameters": 1, "weights_sha256": "0" * 64}
    return [row | measure(row) for row in (config(folder, 1.0, 3) for folder in folders)]


class TestMadeItems:
    @settings(max_examples=20, deadline=None)
    @given(st.integers(0, 10**6), st.integers(1, 60))
    def test_fewer_are_the_first_of_more_and_no_two_are_alike(self, seed, number):
        every = synthetic_items.items(60, seed)
        assert synthetic_items.items(number, seed) == every[:number]
        assert len({item.prompt for item in every}) == len({item.name for item in every}) == 60

    def test_seeds_make_other_items(self):
        assert synthetic_items.items(30, 0) != synthetic_items.items(30, 1)

    def test_sums_are_right_by_their_own_words(self):
        sums = [item for item in synthetic_items.fields(600, 1) if item["id"].startswith("sum")]
        assert len(sums) == 200
        signs = set()
        for item in sums:
            a, sign, b = re.fullmatch(r"What is (\d+) ([-+*]) (\d+)\?.*", item["prompt"]).groups()
            truth = {"+": int(a) + int(b), "-": int(a) - int(b), "*": int(a) * int(b)}[sign]
            assert item["answer"] == truth >= 0
            signs.add(sign)
        assert signs == set("+-*")

    def test_the_answer_is_once_in_the_note(self):
        notes = [item for item in synthetic_items.fields(600, 2) if item["id"].startswith("find")]
        for item in notes:
            note = item["prompt"].split("'")[1]
            assert len(re.findall(rf"(?<![\w-]){item['answer']}(?![\w-])", note)) == 1, note
        assert len({item["prompt"].split("' ")[1] for item in notes}) == len(synthetic_items.FIELDS)

    def test_messages_belong_to_the_team_of_their_pattern(self):
        counted = r"\w+ of \d+ \w+"
        patterns = {
            text.replace("{} of {}", counted).replace("?", r"\?"): team
            for team, messages in synthetic_items.TEAMS.items()
            for text in messages
        }
        items = [item for item in synthetic_items.fields(600, 3) if item["id"].startswith("sort")]
        for item in items:
            message = re.search("'(.*)'", item["prompt"])[1]
            (team,) = {t for pattern, t in patterns.items() if re.fullmatch(pattern, message)}
            assert item["answer"] == team
            assert sorted(item["choices"]) == sorted(synthetic_items.TEAMS)

    def test_they_are_items_of_a_task_file(self, tmp_path):
        file = tmp_path / "made.jsonl"
        file.write_text("\n".join(map(json.dumps, synthetic_items.fields(30))))
        assert tasks.read(file) == synthetic_items.items(30)
        for item in synthetic_items.items(300):
            assert scoring.score(item, item.answers[0]) == 1
            assert scoring.score(item, "I do not know.") == 0

    @pytest.mark.parametrize("number", [0, 3001, 1.5])
    def test_a_number_of_items_that_is_none_is_refused(self, number):
        with pytest.raises(ValueError, match="number of questions"):
            synthetic_items.items(number)


class TestRows:
    def test_the_answers_are_those_of_the_command(self, rows, folders, tmp_path):
        for row, folder in zip(rows, folders, strict=True):
            asking = Asking(max_tokens=5, temperature=1.0)
            answers, (plan,) = run.ask_all(
                (models.Model(folder),),
                synthetic_items.items(6),
                run.Settings(asking, 3),
                tmp_path / "a.jsonl",
            )
            configs = {(q.config["item"], q.config["repeat"]): q.config for q in plan}
            for at, name in enumerate(row["names"]):
                for repeat in range(3):
                    answer = answers.row(configs[name, repeat])
                    assert row["texts"][at][repeat] == answer["text"]
                    assert row["answer_tokens"][at][repeat] == answer["answer_tokens"] <= 5
                    assert row["prompt_tokens"][at][repeat] == answer["prompt_tokens"] > 0
                    assert row["finishes"][at][repeat] == answer["finish"]

    def test_lists_have_an_entry_for_each_item_and_repeat(self, rows):
        for row in rows:
            assert row["names"] == [item.name for item in synthetic_items.items(6)]
            assert all([len(values) for values in row[name]] == [3] * 6 for name in LISTS)
            assert 0 < sum(map(sum, row["answer_seconds"])) < row["seconds"]
            assert len({text for texts in row["texts"] for text in texts}) > 6  # they are drawn

    def test_the_report_of_rows_is_that_of_the_answers(self, rows, folders, tmp_path):
        two = tuple(map(models.Model, folders))
        items = synthetic_items.items(6)
        setting = run.Settings(Asking(max_tokens=5, temperature=1.0), 3)
        answers, plans = run.ask_all(two, items, setting, tmp_path / "answers.jsonl")
        direct = report.compare(items, two, plans, answers, [practical_test.UNPRICED] * 2)
        result = practical_test.compared(*rows)
        for model in (*direct["models"], *result["models"]):
            del model["seconds"]  # measured twice
        assert result == direct

    def test_some_items_of_rows_can_be_compared(self, rows):
        result = practical_test.compared(*rows, items=synthetic_items.items(6)[::3])
        assert result["items"] == 2
        assert [answer["item"] for answer in result["answers"]] == ["sum-0", "sum-1"]

    def test_rows_of_other_questions_are_refused(self, rows):
        a, b = rows
        for changed in ({"items": 5}, {"asked": "0" * 16}, {"seed": 1}):
            with pytest.raises(ValueError, match="not asked what made asks now"):
                practical_test.compared(a | changed, b)

    def test_differences_are_in_points_of_the_first_over_the_second(self, rows):
        texts = [
            [[item.answers[0]] for item in synthetic_items.items(6)],
            [["?"] for _ in range(6)],
        ]
        texts[0][5], texts[1][5] = texts[1][5], texts[0][5]  # 5 of 6 against 1
        finishes = [["stop"]] * 6
        a, b = (
            row | {"repeats": 1, "texts": answers, "finishes": finishes}
            for row, answers in zip(rows, texts, strict=True)
        )
        (pair,) = practical_test.differences({"x": practical_test.compared(a, b)}).itertuples()
        assert (pair.label, pair.items, pair.only_first, pair.only_second) == ("x", 6, 5, 1)
        assert pair.difference == pytest.approx(100 * 4 / 6)
        assert pair.p == pytest.approx(2 * (1 + 6) / 64 - 6 / 64)  # by hand: binomial of 6, mid-p
        assert not pair.shown
        assert pair.low < pair.difference < pair.high

    def test_looking_early_is_a_false_alarm_that_the_sequential_test_does_not_raise(self):
        alarms = practical_test.false_alarms(0.3, 200, 20, runs=100).set_index("test")["wrong"]
        assert alarms["fixed, at every look"] > 2 * alarms["fixed, once at the end"]
        assert alarms["sequential, at every look"] <= 0.05

    def test_the_sequential_test_takes_more_items_than_a_planned_one_but_not_thrice_as_many(self):
        planned = paired.required_sample_size(0.35, 0.3)
        assert planned < practical_test.sequential_need(0.35, 0.3, 200, 5, 60) < 3 * planned

    def test_tokens_are_pairs_of_each_request(self, rows):
        pairs = practical_test.tokens(rows[0])
        assert len(pairs) == 18
        assert pairs[3] == (rows[0]["prompt_tokens"][1][0], rows[0]["answer_tokens"][1][0])


class TestScript:
    def test_models_share_their_questions(self, script):
        grid = script.grid(script.arguments([]))
        assert len({records.identity(part) for part in grid}) == len(grid)
        greedy = [part for part in grid if (part["task"], part["temperature"]) == ("example", 0)]
        assert [part["model"] for part in greedy] == list(script.MODELS)
        assert {part["items"] for part in greedy} == {len(tasks.read("example"))}
        assert {part["wordings"] for part in greedy} == {3}
        assert {part["repeats"] for part in grid if part["model"] in script.ONCE} == {1}
        drawn = [part for part in grid if part["temperature"]]
        assert len(drawn) == len(script.MODELS) - len(script.ONCE)

    def test_an_item_without_an_answer_makes_no_row(self, script, folders):
        script.measure.__globals__["loaded"](folders[0]).model.config.max_position_embeddings = 9
        with pytest.raises(RuntimeError, match="over the context"):
            script.measure(config(folders[0]))

    def test_every_column_is_described(self, rows):
        text = (paths.root() / "data" / "practical_test.md").read_text(encoding="utf-8")
        columns = set(re.findall(r"^\| `(\w+)` \|", text, re.M))
        assert columns == rows[0].keys() | {"id", "from"}

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["--models", "smollm2-135"], "did you mean 'smollm2-135m'"),
            (["--models", "minilm-l6"], "minilm-l6 is no language model"),
            (["--items", "0"], "--items must be from 1"),
        ],
    )
    def test_a_wrong_word_ends_in_one_line(self, words, message):
        done = subprocess.run(
            [sys.executable, FILE, *words, "--list"], capture_output=True, text=True
        )
        assert done.returncode == 1
        assert message in done.stderr
        assert done.stderr.count("\n") == 1


def test_recorded_answers_are_of_the_items_of_now():
    for row in practical_test.load():
        items = practical_test.questions(row["task"], row["items"], row["seed"])
        assert row["asked"] == practical_test.digest(items)


def test_the_rules_of_now_mark_nearly_all_recorded_answers_as_those_of_then():
    """They read what is stated; then a number was the last in sight."""
    pairs = [
        (then, scoring.score(item, text))
        for row in records.read("practical_test")
        for item, scores, texts in zip(
            practical_test.questions(row["task"], row["items"], row["seed"]),
            row["scores"],
            row["texts"],
            strict=True,
        )
        for then, text in zip(scores, texts, strict=True)
    ]
    assert len(pairs) > 400
    assert sum(a != b for a, b in pairs) <= 0.03 * len(pairs)
