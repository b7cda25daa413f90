"""`sizewise compare`: tasks, marking, figures, and models that run here."""

import json

import numpy as np
import pandas
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sizewise.compare import cost, models, report, run, scoring
from sizewise.compare import task as tasks

torch.set_num_threads(1)
LINES = [{"id": f"q{i}", "prompt": f"The fox {i}", "answer": "lazy dog"} for i in range(3)]
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}> {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant> {% endif %}"
)


@pytest.fixture(autouse=True)
def _no_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def tiny(folder, seed=0, template=TEMPLATE):
    """A llama at random with a byte-level tokenizer, as `transformers` saves them."""
    from tokenizers import Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import BPE
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: at for at, letter in enumerate([*letters, "<eos>"])}
    raw = Tokenizer(BPE(vocab=vocabulary, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<eos>")  # noqa: S106
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    torch.manual_seed(seed)
    settings = LlamaConfig(
        vocab_size=257,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=512,
        eos_token_id=256,
        bos_token_id=None,
        initializer_range=0.3,
    )
    LlamaForCausalLM(settings).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two models")
    return tiny(folder / "a"), tiny(folder / "b", seed=1, template=None)


@pytest.fixture
def task(tmp_path):
    return written(tmp_path, *LINES)


def written(tmp_path, *lines):
    file = tmp_path / "my.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)))
    return file


def item(**fields):
    return tasks.parse({"prompt": "?", **fields}, 1)


class TestTasks:
    @pytest.mark.parametrize(
        ("content", "fault"),
        [
            (b'{"prompt": "a", "answer": "b"}\nnot json', "line 2: not JSON"),
            (b'{"prompt": "a", "answer": "b"}\n[1]', "line 2: not a JSON object"),
            (b'\n\n{"answer": "b"}', "line 3: no prompt"),
            (b'{"prompt": " ", "answer": "b"}', "line 1: no prompt"),
            (b'{"prompt": "a"}', "line 1: no answer"),
            (b'{"prompt": "a", "answer": ""}', "line 1: answer must be text or a number"),
            (b'{"prompt": "a", "answer": {"b": 1}}', "line 1: answer must be"),
            (b'{"prompt": "a", "answers": "b"}', "unknown field 'answers'; did you mean 'answer'"),
            (
                b'{"id": 1, "prompt": "a", "answer": 1}\n\n{"id": "1", "prompt": "b", "answer": 1}',
                "line 3: id '1' is that of line 1",
            ),
            (b'{"id": true, "prompt": "a", "answer": 1}', "line 1: id must be"),
            (b'{"prompt": "a", "answer": "x", "score": "number"}', "the answer must be a number"),
            (b'{"prompt": "a", "answer": "x", "score": "exakt"}', "did you mean 'exact'"),
            (b'{"prompt": "a", "answer": "x", "score": "rubric"}', "a rubric needs"),
            (b'{"prompt": "a", "regex": "("}', "line 1: regex '('"),
            (b'{"prompt": "a", "rubric": [{"points": 1}]}', "either contains or regex"),
            (b'{"prompt": "a", "rubric": [{"regex": "b", "points": 0}]}', "points must be"),
            (b'{"prompt": "a", "rubric": [{"regex": 3}]}', "either contains or regex"),
            (b'{"prompt": "a", "answer": "z", "choices": ["x", "y"]}', "is none of the choices"),
            (b'{"prompt": "a", "answer": "x", "choices": ["x"]}', "choices must be 2 to 26"),
            (b'{"prompt": "a", "answer": "x", "choices": ["x", "x"]}', "are the same"),
            (b'{"prompt": "\\ud800", "answer": "x"}', "half of a character"),
            (b'{"prompt": "a", "answer": ' + b"[" * 100_000, "line 1: not JSON"),
            (b'{"prompt": "a", "answer": NaN}', "line 1: not JSON"),
            (
                b'{"prompt": "a", "answer": 1}\n{"id": 2, "prompt": "a", "answer": 1}',
                "line 2: the same question as on line 1",
            ),
            (
                b'{"prompt": "a", "answer": "A", "choices": ["B", "A"]}',
                "answer 'A' is one choice and the letter of another",
            ),
            (b"", "holds no items"),
            (b"\n \n", "holds no items"),
            (b"\xff\xfe", "no UTF-8 text"),
        ],
        ids=lambda value: value[:24] if isinstance(value, str) else "",
    )
    def test_bad_files_are_one_line_with_the_lines_number(self, sizewise, tmp_path, content, fault):
        (tmp_path / "my.jsonl").write_bytes(content)
        pair = ("--model", "a@http://localhost:9", "--model", "b@http://localhost:9")
        code, out, err = sizewise("compare", "--task", tmp_path / "my.jsonl", *pair)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert fault in err
        assert not (tmp_path / "my.compare.jsonl").exists()

    def test_items_are_what_the_file_says(self, tmp_path):
        file = written(
            tmp_path,
            {"prompt": "a", "answer": 3},
            {"id": 7, "prompt": "b", "answer": "C", "choices": ["x", "y", "z"]},
            {"prompt": "c", "contains": ["d", "e"], "regex": "f+"},
        )
        first, second, third = tasks.read(file)
        assert (first.name, first.rule, first.answers) == ("line 1", "exact", ("3",))
        assert second.prompt == "b\nA. x\nB. y\nC. z"
        assert (second.name, second.answers) == ("7", ("z",))
        assert (third.rule, len(third.parts)) == ("rubric", 3)
        assert [entry.rule for entry in tasks.read(file, "contains")[:2]] == ["contains"] * 2

    def test_a_sample_is_the_same_for_the_same_seed(self):
        items = [tasks.Item(str(n), "?", "exact", ("a",)) for n in range(50)]
        sample = tasks.sample(items, 10, 1)
        assert sample == tasks.sample(items, 10, 1) != tasks.sample(items, 10, 2)
        assert sorted(sample, key=items.index) == sample
        assert len(set(sample)) == 10
        assert tasks.sample(items, 99) == tasks.sample(items, None) == items

    def test_the_example_is_marked_right_by_its_own_answers(self):
        items = tasks.read("example")
        assert len(items) == 20
        assert {question.rule for question in items} == {"exact", "number", "rubric"}
        for question in items:
            if question.rule != "rubric":
                for answer in question.answers:
                    assert scoring.score(question, answer) == 1, question.name
            assert scoring.score(question, "I do not know.") == 0
        truths = {
            "sum": 47 + 86,
            "product": 17 * 24,
            "change": 20 - 2 * 3.4 - 4 * 1.25,
            "train": (13 - 9) * 60 + 15 - 50,
            "percent": 80 * 0.65,
        }
        named = {question.name: question for question in items}
        for name, truth in truths.items():
            assert float(named[name].answers[0]) == pytest.approx(truth)
        assert scoring.score(named["json"], '```json\n{"city": "Porto", "year": 1886}\n```') == 1
        assert scoring.score(named["three-parts"], "Pump P2, at 6:40.") == 0.5


class TestMarking:
    @pytest.mark.parametrize(
        ("fields", "answer", "earned"),
        [
            ({"answer": "Paris"}, ' "paris". ', 1),
            ({"answer": "Paris"}, "**Paris**", 1),
            ({"answer": "Paris"}, "It is Paris", 0),
            ({"answer": "new york"}, "New\n York", 1),
            ({"answer": ["a", "b"]}, "b", 1),
            ({"answer": "+"}, "-", 0),
            ({"answer": "."}, ".", 1),
            ({"answer": "."}, "?", 0),
            ({"answer": "½"}, "1⁄2", 1),
            ({"answer": "Paris"}, "", 0),
            ({"answer": "cat", "score": "contains"}, "It is a Cat.", 1),
            ({"answer": "cat", "score": "contains"}, "a category", 0),
            ({"answer": 3, "score": "contains"}, "13", 0),
            ({"answer": "c++", "score": "contains"}, "in C++ of course", 1),
            ({"answer": 1234.5, "score": "number"}, "first 7, so 1,234.50", 1),
            ({"answer": -4, "score": "number"}, "x = \u22124", 1),
            ({"answer": 4, "score": "number"}, "GPT-4", 1),
            ({"answer": 4, "score": "number"}, "four", 0),
            ({"answer": 0, "score": "number"}, "0.0", 1),
            ({"answer": 12, "score": "number"}, "12, not 13", 1),
            ({"answer": "Paris"}, "It was hot that day.\n\nAnswer: Paris", 1),
            ({"answer": "Paris"}, "\\boxed{Paris}", 1),
            ({"answer": "Paris"}, '{"answer": "Paris"}', 1),
            ({"answer": "B", "choices": ["x", "y"]}, "B", 1),
            ({"answer": "B", "choices": ["x", "y"]}, "(b)", 1),
            ({"answer": "y", "choices": ["x", "y"]}, "B. y", 1),
            ({"answer": "y", "choices": ["x", "y"]}, "The answer is B, as", 1),
            ({"answer": "y", "choices": ["x", "y"]}, "A. x", 0),
            ({"answer": "oak", "choices": ["oak", "elm"]}, "An oak, I think.", 1),
            ({"answer": "oak", "choices": ["elm", "oak"]}, "A tree such as the oak", 1),
            ({"answer": "oak", "choices": ["oak", "elm"]}, "oak or elm", 0),
            ({"answer": "oak", "choices": ["oak", "elm"]}, "C", 0),
            ({"contains": ["a", "b"]}, "only a", 0.5),
            ({"contains": "a", "regex": r"\d{3}"}, "a 123", 1),
            ({"rubric": [{"contains": "a", "points": 3}, {"regex": "^b"}]}, "b", 0.25),
        ],
    )
    def test_answers_earn_what_they_should(self, fields, answer, earned):
        assert scoring.score(item(**fields), answer) == earned


class TestFigures:
    def test_an_interval_of_right_and_wrong_is_wilsons(self):
        score = report._score([1, 1, 1, 0], 0)
        wilson = stats.binomtest(3, 4).proportion_ci(method="wilson")
        assert (score["low"], score["high"]) == pytest.approx((wilson.low, wilson.high))

    def test_the_difference_is_that_of_items_both_answered(self):
        a, b = {"x": 1.0, "y": 1.0, "z": 0.0}, {"y": 0.0, "z": 0.0, "w": 1.0}
        gap = report._difference(a, b, 0)
        assert (gap["items"], gap["value"], gap["only_a"]) == (2, 0.5, 1)
        assert report._difference(a, {"x": 1.0}, 0) is None

    def test_graded_scores_have_no_mcnemar_and_their_own_interval(self):
        draw = np.random.default_rng(0)
        a = dict(enumerate(draw.uniform(0.4, 0.9, 60)))
        b = {name: value - 0.3 + draw.normal(0, 0.05) for name, value in a.items()}
        gap = report._difference(a, b, 0)
        assert gap["p_mid"] is None
        assert gap["shown"]
        gaps = np.array([a[name] - b[name] for name in a])
        half = 1.96 * gaps.std(ddof=1) / 60**0.5
        assert gap["low"] == pytest.approx(gaps.mean() - half, abs=0.005)
        assert gap["detectable"] == pytest.approx(
            half / 1.96 * 2.8016, rel=1e-3
        )  # z of 0.975 and of 0.8

    def test_what_a_sample_could_have_shown_is_what_it_finds_four_times_in_five(self):
        least, items, differ = report._detectable(40, 200), 200, 42 / 202
        up = (differ + least) / 2
        draw = np.random.default_rng(0)
        counts = draw.multinomial(items, [up, differ - up, 1 - differ], 400)
        verdicts = [report.significant(int(a), int(b), items) for a, b, _ in counts]
        assert np.mean(verdicts) == pytest.approx(0.8, abs=0.07)
        assert report._detectable(0, 3) is None
        assert report._detectable(0, 30) > 0.1

    def test_a_difference_is_shown_where_test_and_interval_agree(self):
        # 5:0 of 60 by hand: mid-p is 1/32; p = 6/62, q = 1/62, half = 1.96 sqrt(0.1064 / 62)
        a, b = (
            {n: float(n < 40) for n in range(60)},
            {n: float(5 <= n < 40) for n in range(60)},
        )
        gap = report._difference(a, b, 0)
        assert (gap["only_a"], gap["only_b"], gap["value"]) == (5, 0, pytest.approx(5 / 60))
        assert gap["p_mid"] == pytest.approx(1 / 32)
        assert gap["low"] == pytest.approx(5 / 62 - 1.96 * (0.1064 / 62) ** 0.5, abs=1e-4)
        assert gap["low"] < 0 < gap["high"]
        assert not gap["shown"]
        verdict = report.verdict(gap, ["x", "y"])
        assert verdict.startswith(
            "no difference shown: McNemar's test (p = 0.0312) and the interval"
        )
        assert "x over y (-0.1 to 16.2 points) disagree" in verdict
        assert not report.significant(0, 5, 60)
        assert report.significant(6, 0, 60)
        assert not report.significant(21, 10, 60)  # the interval alone is away from 0

    @given(st.integers(1, 300), st.integers(0, 300), st.integers(0, 300))
    def test_what_is_shown_has_an_interval_on_one_side_of_nothing(self, items, a, b):
        a = min(a, items)
        b = min(b, items - a)
        interval = report.paired.difference_interval(a, b, items)
        if report.significant(a, b, items):
            assert interval.low * interval.high > 0
            assert report.paired.mcnemar(a, b)[1] < 0.05

    def test_the_verdict_says_which_and_how_sure(self):
        good, bad = dict.fromkeys(range(30), 1.0), {n: float(n > 9) for n in range(30)}
        gap = report._difference(good, bad, 0)
        for values, names in (((good, bad), "x above y"), ((bad, good), "y above x")):
            verdict = report.verdict(report._difference(*values, 0), ["x", "y"])
            better, _, worse = names.split()
            assert verdict.startswith(f"{better} scores 33.3 points above {worse}")
        low, high = (float(end) for end in verdict.split("interval ")[1][:-1].split(" to "))
        assert 0 < low < 33.3 < high
        assert low == pytest.approx(gap["low"] * 100, abs=0.05)
        same = report._difference(good, good, 0)
        verdict = report.verdict(same, ["x", "y"])
        assert verdict.startswith("no difference shown; this sample could have shown one of ")
        assert f"{same['detectable'] * 100:.1f} points or more" in verdict
        few = report._difference({0: 1.0, 1: 1.0}, {0: 1.0, 1: 0.0}, 0)
        assert "2 items could not have shown any" in report.verdict(few, ["x", "y"])
        flat = report._difference({0: 0.5, 1: 0.5}, {0: 0.5, 1: 0.5}, 0)
        assert "the same on each item" in report.verdict(flat, ["x", "y"])
        assert "undecidable" in report.verdict(None, ["x", "y"])

    def test_reliability_is_the_share_of_like_pairs(self):
        def reliability(**items):
            rows = [
                (name, 0, text, "failed" if text == "bad" else "answered")
                for name, texts in items.items()
                for text in texts
            ]
            table = pandas.DataFrame(rows, columns=["item", "wording", "text", "came"])
            return report._reliability(table)

        assert reliability(x=["a", "a ", "b"]) == pytest.approx(1 / 3)
        assert reliability(x=["a", "a", "bad"], y=["a", "b"], z=["a"]) == 0.5
        assert reliability(x=["a"], y=["bad"]) is None

    def test_listed_prices_are_found_by_address(self):
        url = models.address("https://api.openai.com/v1")
        rates = cost.rates(models.Model("gpt-4o-2024-08-06", url))
        assert (rates.input, rates.output) == (2.5, 10)
        assert "genai-prices" in rates.source
        row = {"prompt_tokens": 1000, "answer_tokens": 100}
        assert rates.thousand([row, row]) == pytest.approx(3.5)
        assert rates.thousand([{"prompt_tokens": None, "answer_tokens": 1}]) is None
        unknown = cost.rates(models.Model("gpt-4o", models.address("http://localhost:1")))
        assert unknown.thousand([row]) is None
        assert cost.rates(models.Model("here")).input is None


class TestLocalModels:
    def args(self, task, folders, *options):
        pair = ("--model", folders[0], "--model", folders[1], "--most", "8")
        return ("compare", "--task", task, *pair, "--wordings", "0", *options)

    def test_answers_are_those_of_the_model_itself(self, sizewise, task, folders):
        from sizewise.models import load
        from transformers import AutoModelForCausalLM, AutoTokenizer

        output = sizewise(*self.args(task, folders, "--system", "Be brief.", "--json"))
        assert (output.code, output.err) == (0, "")
        lines = json.loads(output.out)["answers"]
        prompts = [  # the first has a template, the second has none
            "<system> Be brief.\n<user> The fox 1\n<assistant> ",
            "Be brief.\n\nThe fox 1",
        ]
        for folder, prompt, answer in zip(folders, prompts, lines[1]["answers"], strict=True):
            model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
            tokenizer = AutoTokenizer.from_pretrained(folder)
            ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
            out = model.generate(ids, do_sample=False, max_new_tokens=8)[0, ids.shape[1] :]
            assert answer == tokenizer.decode(out, skip_special_tokens=True)
        assert load.find(str(folders[0])).kind == "folder"

    def test_drawn_answers_are_the_same_for_the_same_seed(self, sizewise, tmp_path, task, folders):
        def compare(name, *options):
            file = tmp_path / name
            drawing = ("--temperature", "1", "--repeats", "2", "--output", file, "--json")
            output = sizewise(*self.args(task, folders, *drawing, *options))
            assert output.code == 0
            texts = [json.loads(line)["text"] for line in file.read_text().splitlines()]
            return texts, json.loads(output.out)["models"][0]["reliability"]

        (first, alike), (repeated, _), (other, _) = (
            compare("a"),
            compare("b"),
            compare("c", "--seed", "1"),
        )
        assert first == repeated != other
        assert first[:3] != first[3:6]  # repeats are draws of their own
        assert alike < 1

    def test_other_weights_under_the_same_name_are_asked_anew(self, tmp_path, task):
        model = models.Model(str(tiny(tmp_path / "m")))
        items = tasks.read(task)
        before = run.plan(model, items, run.Settings())
        assert run.plan(model, items, run.Settings()) == before
        tiny(tmp_path / "m", seed=2)
        after = run.plan(model, items, run.Settings())
        assert before[0].config["weights"] != after[0].config["weights"]

    def test_a_prompt_that_does_not_fit_is_named(self, sizewise, tmp_path, folders):
        long = {"id": "long", "prompt": "word " * 200, "answer": "x"}
        for options in ((), ("--temperature", "0.5")):
            output = sizewise(*self.args(written(tmp_path, *LINES, long), folders, *options))
            assert output.code == 1
            assert "not answered by A: long: a prompt of " in output.out
            assert "over the context 512" in output.out

    def test_a_template_without_a_system_has_it_in_the_turn(self, tmp_path):
        from sizewise.compare.endpoint import Asking
        from sizewise.compare.local import Local
        from sizewise.models import load

        strict = "{% if messages[0].role == 'system' %}{{ raise_exception('no') }}{% endif %}"
        folder = tiny(tmp_path / "m", template=strict + TEMPLATE)
        local = Local(load.find(str(folder)), Asking("Be brief.", 4))
        assert local._turn("Why?") == "<user> Be brief.\n\nWhy?\n<assistant> "

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--model", "smolm2-135m"], "did you mean 'smollm2-135m'"),
            (["--model", "./nothing"], "no such file or folder"),
            (["--dtype", "fp64"], "unknown dtype"),
            (["--device", "mps"], "unknown device"),
            (["--temperature", "hot"], "temperature must be from 0 to 2, or default"),
            (["--temperature", "nan"], "temperature must be"),
            (["--timeout", "0"], "timeout must be"),
            (["--repeats", "0"], "repeats must be from 1"),
            (["--most", "0"], "most must be"),
            (["--sample", "0"], "the sample must be"),
            (["--score", "fuzzy"], "unknown score 'fuzzy'"),
            (["--price-a", "1"], "a price is INPUT,OUTPUT"),
            (["--price-b", "1,-2"], "a price is INPUT,OUTPUT"),
            (["--concurrency", "1000"], "concurrency must be"),
        ],
        ids=lambda value: " ".join(value) if isinstance(value, list) else "",
    )
    def test_bad_options_are_one_line_before_any_question(
        self, sizewise, task, tmp_path, folders, options, message
    ):
        first, second = (("--model", folder) for folder in folders)
        pair = first if options[0] == "--model" else (*first, *second)
        code, out, err = sizewise("compare", "--task", task, *pair, *options)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert message in err
        assert not (tmp_path / "my.compare.jsonl").exists()
