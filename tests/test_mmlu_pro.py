"""MMLU-Pro question by question: archives read, pairs compared, recorded rows as published."""

import gzip
import json
import runpy
import subprocess
import sys
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
from sizewise import paths
from sizewise.data import records
from sizewise.evaluation import item_answers

FILE = paths.root() / "scripts" / "mmlu_pro.py"


@pytest.fixture(scope="module")
def script():
    return SimpleNamespace(**runpy.run_path(str(FILE)))


def make_answers(script, **models):
    """Answers of two or more models to a few questions, all of one subject."""
    right = np.array(list(models.values()), float)
    number = right.shape[1]
    return script.Answers(list(models), np.arange(number), np.array(["math"] * number), right)


class TestArchives:
    @pytest.mark.parametrize(
        ("text", "letter"),
        [
            ("So the answer is (C).", "C"),
            ("The answer is C. Another thought: the answer is D.", "C"),  # as the authors do
            ("Answer: (D)", "D"),
            ("It must be B because of A. Then B", "B"),
            ("no letter", ""),
            ("", ""),
        ],
    )
    def test_a_letter_is_taken_by_the_authors_rules(self, script, text, letter):
        assert script.extract(text) == letter

    def test_an_archive_is_read_with_its_questions_and_without_its_sums(self, script, tmp_path):
        rows = [
            {
                "question_id": 7,
                "category": "math",
                "answer": "B",
                "pred": "B",
                "options": ["a"] * 4,
                "generated_text": "The answer is (B).",
            },
            {
                "question_id": 3,
                "category": "law",
                "answer": "A",
                "pred": None,
                "options": ["a"] * 10,
                "model_outputs": ["I do not know"],
            },
            "total",
        ]
        file = tmp_path / "one.zip"
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("one.json", json.dumps(rows))
        answers = script._from_archives([file])
        assert answers.questions.tolist() == [3, 7]
        assert answers.right.tolist() == [[0, 1]]
        assert answers.letters.tolist() == [["", "B"]]
        assert answers.chance.tolist() == [0.1, 0.25]

    def test_a_file_that_is_not_the_pinned_one_is_refused(self, script, tmp_path, monkeypatch):
        with gzip.open(tmp_path / "mmlu_pro_items.csv.gz", "wt") as table:
            table.write("question_id,category\n1,math\n")
        monkeypatch.setenv("SIZEWISE_PUBLISHED", str(tmp_path))
        script.load.cache_clear()
        with pytest.raises(ValueError, match="SHA-256"):
            script.load()
        done = subprocess.run(
            [sys.executable, FILE, "--output", tmp_path / "x.jsonl"], capture_output=True, text=True
        )
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert not (tmp_path / "x.jsonl").exists()


class TestMeasures:
    def test_a_gain_is_counted_by_questions(self, script):
        answers = make_answers(script, a=[1, 1, 0, 0, 0, 1, 0, 1], b=[1, 0, 1, 1, 0, 1, 1, 1])
        row = script.gain(answers.right_of("a"), answers.right_of("b"))
        assert (row["only_small"], row["only_large"], row["gain"]) == (1, 3, 25)
        assert row["discordant"] == 0.5
        assert row["small_right_where_large_wrong"] == 0.5  # of questions 2 and 5
        assert row["gain_low"] < 25 < row["gain_high"]

    def test_questions_that_one_model_lacks_do_not_count(self, script):
        answers = make_answers(script, a=[1, np.nan, 0], b=[0, 1, 1])
        small, large, asked = script.both(answers, {"small": "a", "large": "b"})
        assert (small.tolist(), large.tolist(), asked.tolist()) == (
            [1, 0],
            [0, 1],
            [True, False, True],
        )

    def test_a_cascade_keeps_what_the_small_ones_agree_on(self, script):
        letters = np.array([list("AABBA"), list("ABBBC"), list("AAAAA")])
        key = np.array(list("AAAAA"))
        answers = script.Answers(
            ["s", "t", "l"],
            np.arange(5),
            np.array(["math"] * 5),
            (letters == key).astype(float),
            letters=letters,
            again=letters,
            key=key,
            characters=np.full((3, 5), 10.0),
        )
        row = script.agreement(answers, {"small": ["s", "t"], "large": "l"})
        # kept: A right, B wrong, B wrong; handed on: two, both right in the large model
        assert (row["handed_on"], row["right"], row["right_where_kept"]) == (0.4, 0.6, 1 / 3)
        assert row["large_right_where_kept"] == 1
        # at random: 3 of 5 right alone, 0.4 of the 2 others gained; cascade: 3 of 5
        assert row["over_random"] == pytest.approx(100 * (0.6 - (3 + 0.8) / 5))

    def test_models_of_one_maker_do_not_judge_their_own_questions(self, script):
        names = list(item_answers.models())
        rng = np.random.default_rng(0)
        right = rng.integers(0, 2, (len(names), 100)).astype(float)
        answers = script.Answers(names, np.arange(100), np.array(["math"] * 100), right)
        row = script.band(answers, {"small": "Llama-2-7b-hf", "large": "Llama-2-70b-hf", "band": 0})
        assert row["judges"] == sum("Llama" not in name for name in names)
        assert row["items"] == 20

    def test_a_doubling_is_counted_from_the_sizes(self, script):
        names = list(script.CHAINS[0])
        sizes = np.array([item_answers.models()[name]["parameters"] for name in names])
        rights = np.repeat([[0.0], [0.2], [0.3]], 100, axis=1)
        rights = (np.arange(100) < 100 * rights).astype(float)  # 0, 20 and 30 of 100 right
        answers = script.Answers(names, np.arange(100), np.array(["math"] * 100), rights)
        answers.subjects[::2] = "law"
        row = script.doubling(answers, {"chain": names, "subject": "all"})
        assert row["items"] == 100
        assert row["before"] == pytest.approx(20 / np.log2(sizes[1] / sizes[0]))
        assert row["after"] == pytest.approx(10 / np.log2(sizes[2] / sizes[1]))
        assert row["over_quarter"] == pytest.approx(row["after"] - row["before"] / 4)
        assert row["over_quarter_low"] < row["over_quarter"] < row["over_quarter_high"]

    def test_the_grid_has_each_row_once(self, script):
        rows = script.grid()
        assert len({records.identity(row) for row in rows}) == len(rows)


ROWS = records.read("mmlu_pro") if records.path("mmlu_pro").exists() else []


@pytest.mark.skipif(not ROWS, reason="nothing is recorded yet")
class TestRecorded:
    def row(self, **config):
        (row,) = [row for row in ROWS if config.items() <= row.items()]
        return row

    @pytest.mark.parametrize(
        ("small", "large", "gain"),
        [
            ("Llama-2-13b-hf", "Llama-2-70b-hf", 12.8),
            ("Meta-Llama-3_1-8B", "Meta-Llama-3_1-70B", 16.0),
        ],
    )
    def test_gains_are_those_that_a_reader_of_the_archives_finds(self, small, large, gain):
        row = self.row(what="pair", small=small, large=large)
        assert row["gain"] == pytest.approx(gain, abs=0.2)
        assert row["gain_low"] < gain < row["gain_high"]
        assert row["clustered_low"] < gain < row["clustered_high"]

    def test_the_subjects_of_a_pair_add_up_to_it(self):
        for pair in [row for row in ROWS if row["what"] == "pair" and row["kind"] == "family"]:
            parts = [
                row
                for row in ROWS
                if row["what"] == "subject"
                and row["small"] == pair["small"]
                and row["large"] == pair["large"]
                and row["subject"] in item_answers.GROUPS
            ]
            assert len(parts) == 3
            for name in ("items", "only_small", "only_large"):
                assert sum(row[name] for row in parts) == pair[name]
