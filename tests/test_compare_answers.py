"""What is taken for a model's answer: thoughts, style, cut answers, and runs that stop early."""

import json
import re
import time
from pathlib import Path

import numpy as np
import pytest
from compare_server import Server
from hypothesis import given, settings
from hypothesis import strategies as st
from sizewise.compare import (
    endpoint,
    extraction,
    models,
    numbers,
    report,
    run,
    scoring,
    thoughts,
)
from sizewise.compare import task as tasks
from sizewise.compare.endpoint import Asking, outcome
from sizewise.stats import sequential
from test_compare_endpoint import argv, client, rows, sums


@pytest.fixture
def server():
    with Server() as running:
        yield running


@pytest.fixture
def task(tmp_path):
    return sums(tmp_path / "my.jsonl", 12)


CHOICES = ("Lima", "Paris", "Rome", "Oslo")
PHRASINGS = [  # what models write for an answer, labelled by hand as a reader would take it
    json.loads(line)
    for line in Path(__file__).with_name("answer_phrasings.jsonl").read_text("utf-8").splitlines()
]
LETTERS = [(row["letter"], row["text"]) for row in PHRASINGS if "letter" in row]
NUMBERS = [(row["number"], row["text"], row["right"]) for row in PHRASINGS if "number" in row]


class TestExtraction:
    """Right answers in other styles were marked wrong in lm-evaluation-harness #3382, lighteval
    #869 and sglang-jax PR #1306, whose phrasings are among these."""

    def test_there_are_enough_phrasings_in_enough_languages(self):
        texts = {text for _, text in LETTERS} | {text for _, text, _ in NUMBERS}
        assert len(texts) >= 850
        assert len([text for _, text in LETTERS if not text.isascii()]) >= 70

    def test_the_letter_is_the_one_that_a_reader_would_take(self):
        letters = [(text, extraction.letter(text, CHOICES).value) for _, text in LETTERS]
        assert letters == [(text, expected) for expected, text in LETTERS]

    def test_the_number_is_the_one_that_a_reader_would_take(self):
        verdicts = [
            (text, expected, numbers.number_is(text, (str(expected),)).value is not None)
            for expected, text, _ in NUMBERS
        ]
        assert verdicts == [(text, expected, right) for expected, text, right in NUMBERS]

    def test_few_of_the_right_ones_are_guesses(self):
        letters = [extraction.letter(text, CHOICES) for expected, text in LETTERS if expected]
        assert sum(not letter.stated for letter in letters) <= 0.06 * len(letters)
        guess = extraction.letter("It has to do with Paris, I suppose.", CHOICES)
        assert (guess.value, guess.stated) == ("B", False)
        assert not numbers.number_is("The order 66 ships 2 pieces.", ("2",)).stated

    def test_ten_choices_have_letters_that_are_words_as_well(self):
        ten = tuple(f"number {at}" for at in range(10))
        assert extraction.letter("I think I know it. The answer is J.", ten).value == "J"
        assert extraction.letter("The answer is I.", ten).value == "I"
        assert extraction.letter("I would say E", ten).value == "E"

    @pytest.mark.parametrize(
        ("text", "thought", "answer"),
        [
            ("<think>6 x 7</think>\n\n42", "6 x 7", "42"),
            ("6 x 7</think>42", "6 x 7", "42"),
            ("<think>6 x 7", "6 x 7", ""),
            ("<think></think>42", "", "42"),
            ("[THINK]6 x 7[/THINK]42", "6 x 7", "42"),
            ("◁think▷6 x 7◁/think▷42", "6 x 7", "42"),
            ("<think>a</think>no <think>b</think>42", "", "42"),
            (
                "<|channel|>analysis<|message|>6 x 7<|end|><|start|>assistant<|channel|>final"
                "<|message|>42<|return|>",
                "6 x 7",
                "42",
            ),
            ("<|channel|>analysis<|message|>6 x 7", "6 x 7", ""),
            ("no thought at all", "", "no thought at all"),
            ("<think time=3>x</think >42", "x", "42"),
            ("<mm:think>x</mm:think>42", "x", "42"),
            ("<longcat_think>x</longcat_think>42", "x", "42"),
            ("<|think|>x<|/think|>42", "x", "42"),
            ("<unused94>thought\nx<unused95>42", "x", "42"),
            ('<details type="reasoning"><summary>For 3 s</summary>x</details>42', "x", "42"),
            (
                "42\n<details><summary>Steps</summary>6 x 7</details>",
                "",
                "42\n<details><summary>Steps</summary>6 x 7</details>",
            ),
            ("<think>x</think>\n<|begin_of_box|>42<|end_of_box|>", "x", "42"),
            ("<|assistant|><think>x</think>42<|im_end|>", "x", "42"),
        ],
    )
    def test_a_thought_is_split_off_and_kept(self, text, thought, answer):
        result = thoughts.split_thought(text)
        assert result[1].endswith(answer) if "no <think>" in text else result[1] == answer
        assert thought in result[0]

    @given(st.text(max_size=400))
    @settings(max_examples=150, deadline=None)
    def test_any_text_is_read_without_an_error(self, text):
        thoughts.split_thought(text)
        assert extraction.letter(text, CHOICES).value in (*"ABCD", None)
        numbers.number_is(text, ("1",))

    @pytest.mark.parametrize(
        "piece",
        [
            "answer ",
            "1 ",
            "A ",
            "(",
            "*",
            "<think>",
            "1,",
            "\\boxed{",
            "\n",
            "答案",
            "=1",
            "<answer>",
        ],
    )
    def test_no_text_takes_long(self, piece):
        text = piece * (40_000 // len(piece))
        started = time.process_time()
        thoughts.split_thought(text)
        extraction.letter(text, CHOICES)
        numbers.number_is(text, ("1",))
        assert time.process_time() - started < 5


class TestThinkingModels:
    @pytest.mark.parametrize("kind", ["tags", "prompted", "channels", "separate", "cut"])
    def test_a_right_answer_with_a_thought_is_right(self, server, kind):
        reply = client(server, f"thinks-{kind}").ask("2 + 3")
        assert (reply.text, outcome(vars(reply))) == ("5", "answered")
        assert "Is it 6?" in reply.thought

    def test_thought_tokens_are_part_of_what_is_charged(self, server):
        reply = client(server, "thinks-separate").ask("2 + 3")
        assert (reply.answer_tokens, reply.thought_tokens) == (105, 100)

    def test_thinking_does_not_lose_to_a_bare_answer(self, sizewise, server, task):
        result = json.loads(sizewise(*argv(server, task, "good", "thinks-tags"), "--json").out)
        assert [model["score"]["value"] for model in result["models"]] == [1, 1]
        assert result["verdict"].startswith("no difference shown")

    def test_cut_and_filtered_answers_are_counted_separately_and_named(
        self,
        sizewise,
        server,
        task,
        tmp_path,
        monkeypatch,
    ):
        monkeypatch.setenv("COLUMNS", "200")  # a narrow table may break a label over two lines
        output = sizewise(*argv(server, task, "good", "thinks-cut"), "--concurrency", "1")
        assert output.code == 0
        assert "cut at --most tokens, left out" in output.out
        assert "cut, B: q1, q3, q5 and 3 more" in output.out
        assert "6 of 12 answers of thinks-cut" in output.out
        assert "raise --most" in output.out
        assert re.search(r"were the cut answers wrong +50\.0", output.out)
        answers = rows(tmp_path / "my.compare.jsonl")
        assert {row["finish"] for row in answers} == {"stop", "length"}
        result = json.loads(sizewise(*argv(server, task, "good", "filtered"), "--json").out)
        assert [len(model["filtered"]) for model in result["models"]] == [0, 12]
        assert result["models"][1]["score"] is None
        assert "undecidable" in result["verdict"]

    def test_an_answer_that_is_all_thought_is_cut(self, server):
        assert outcome(vars(client(server, "thinks-silent").ask("1"))) == "cut"


def completion(message, finish="stop", **fields):
    return {"choices": [{"message": message, "finish_reason": finish}], **fields}


class TestServersOwnWays:
    @pytest.mark.parametrize(
        "message",
        [
            {"content": "B", "reasoning_content": "Is it A?"},
            {"content": "B", "reasoning": {"content": "Is it A?"}},
            {"content": "B", "reasoning_details": [{"type": "reasoning.text", "text": "Is it A?"}]},
            {"content": "B", "thinking_content": "Is it A?"},
            {
                "content": [
                    {"type": "thinking", "thinking": "Is it A?"},
                    {"type": "text", "text": "B"},
                ]
            },
            {
                "content": [
                    {"type": "thinking", "thinking": [{"type": "text", "text": "Is it A?"}]},
                    {"type": "text", "text": "B"},
                ]
            },
            {"content": [{"type": "reasoning", "text": "Is it A?"}, {"type": "text", "text": "B"}]},
            {"content": "<think>Is it A?</think>B"},
        ],
    )
    def test_a_thought_is_kept_wherever_the_server_puts_it(self, message):
        reply = endpoint._read(completion(message), 100)
        assert (reply.text, reply.thought) == ("B", "Is it A?")

    @pytest.mark.parametrize(
        ("finish", "expected"),
        [
            *(
                (name, "cut")
                for name in ("length", "MAX_TOKENS", "max_output_tokens", "incomplete")
            ),
            *((name, "filtered") for name in ("content-filter", "SAFETY", "refusal", "blocklist")),
            *((name, "answered") for name in ("stop", "end_turn", "eos", "")),
        ],
    )
    def test_a_finish_reason_is_known_by_all_its_names(self, finish, expected):
        reply = endpoint._read(completion({"content": "B"}, finish), 100)
        assert outcome(vars(reply)) == expected

    def test_an_answer_that_the_server_broke_off_is_asked_again(self):
        with pytest.raises(endpoint._Failure, match="broke off"):
            endpoint._read(completion({"content": "B"}, "error"), 100)

    def test_tokens_are_counted_under_either_name(self):
        usage = {"input_tokens": 5, "output_tokens": 7}
        usage["output_tokens_details"] = {"reasoning_tokens": 4}
        reply = endpoint._read(completion({"content": "B"}, usage=usage), 100)
        assert (reply.prompt_tokens, reply.answer_tokens, reply.thought_tokens) == (5, 7, 4)

    @pytest.mark.parametrize(
        "body",
        [
            '{"error": "no"}',
            '{"error": {"message": "no"}}',
            '[{"error": {"message": "no", "code": 400}}]',
            '{"errors": [{"message": "no"}]}',
            '{"error": {"code": "no", "message": ""}}',
            '{"success": false, "msg": "no"}',
            '{"base_resp": {"status_code": 1004, "status_msg": "no"}}',
            '{"detail": "no"}',
            '{"fault": {"faultstring": "no"}}',
            '{"choices": [{"error": {"message": "no", "code": 502}, "message": {"content": ""}}]}',
        ],
    )
    def test_an_error_object_is_read_in_any_of_its_forms(self, body):
        assert endpoint._error(endpoint._body(body.encode())) == "no"

    def test_a_completion_is_no_error(self):
        body = completion({"content": "B"}, base_resp={"status_msg": "success"})
        assert endpoint._error(body | {"message": "fine"}) == ""

    def test_failures_that_differ_in_the_name_of_the_request_are_one(self, server, tmp_path):
        server.message = "quota exceeded (request req_8fa{n}c)"
        big = sums(tmp_path / "big.jsonl", 1000)
        pair = models.parse(["error400", "good"], server.url)
        setting = run.Settings(Asking(timeout=5), concurrency=1)
        with pytest.raises(endpoint.Refused, match="the first 3 of 1000 requests all failed"):
            run.ask_all(pair, tasks.read(big), setting, tmp_path / "a.jsonl")

    def test_a_model_that_fails_from_some_question_on_stops_and_keeps_its_answers(
        self, server, tmp_path
    ):
        big = tasks.read(sums(tmp_path / "big.jsonl", 1000))
        pair = models.parse(["dries-up", "good"], server.url)
        setting = run.Settings(Asking(timeout=5), concurrency=1)
        with pytest.raises(endpoint.Refused, match="the last 20 of 1000 requests all failed"):
            run.ask_all(pair, big, setting, tmp_path / "a.jsonl")
        answers = rows(tmp_path / "a.jsonl")
        assert [bool(row["failed"]) for row in answers] == [False] * 10 + [True] * 20

    def test_an_error_with_status_200_keeps_its_message(self, server):
        server.message = "the model is asleep"
        reply = client(server, "error200").ask("1")
        assert reply.failed == "an error: the model is asleep"
        assert reply.tries == 1
        server.code = 503
        assert client(server, "error200").ask("1").tries == 4

    @pytest.mark.parametrize(
        ("message", "option"),
        [
            ("Unsupported value: 'temperature'", "--temperature default"),
            ("maximum context length is 4096", "a smaller --most"),
            ("the model `gpt-9` does not exist", "another name after --model"),
        ],
    )
    def test_what_fails_for_all_stops_after_a_few_and_names_the_option(
        self,
        sizewise,
        server,
        tmp_path,
        message,
        option,
    ):
        server.message = message
        big = sums(tmp_path / "big.jsonl", 10_000)
        output = sizewise(*argv(server, big, "error400", "good"))
        assert (output.code, output.out, output.err.count("\n")) == (2, "", 1)
        assert "the first 3 of 10000 requests all failed: HTTP 400: " in output.err
        assert f"try {option}" in output.err
        assert server.request_count("error400") <= 3 + 8  # and those that were under way

    def test_the_option_helps(self, sizewise, server, task):
        assert "--temperature default" in sizewise(*argv(server, task, "strict", "good")).err
        output = sizewise(*argv(server, task, "strict", "good"), "--temperature", "default")
        assert output.code == 0

    def test_a_report_of_many_unanswered_items_is_short(self, sizewise, server, tmp_path):
        many = sums(tmp_path / "many.jsonl", 200)
        output = sizewise(*argv(server, many, "drops", "good"), "--retries", "0", "--timeout", "1")
        assert output.code == 1
        assert output.out.count("not answered") <= 4
        assert len(output.out.splitlines()) < 50


class TestWordings:
    def test_items_have_three_wordings_and_style_is_shown(self, sizewise, server, task):
        args = (*argv(server, task, "good", "formal"), "--wordings", "3")
        result = json.loads(sizewise(*args, "--json").out)
        a, b = result["models"]
        assert (a["answered"], a["by_wording"]) == (36, [1, 1, 1])
        assert b["by_wording"] == [0, 1, 0]
        assert b["score"]["value"] == pytest.approx(1 / 3)
        assert "in each wording" in sizewise(*args).out
        assert len({body["messages"][-1]["content"] for body in server.bodies}) == 36

    def test_the_prompt_asks_for_a_form(self):
        item = tasks.parse({"prompt": "Which?", "answer": "B", "choices": ["x", "y"]}, 1)
        assert item.prompt == "Which?\nA. x\nB. y"
        assert "Answer: " in item.wording(0)
        assert "the letter of your choice" in item.wording(0)
        assert "(B) y" in item.wording(1)
        assert "B) y" in item.wording(2)
        free = tasks.parse({"prompt": "Which?", "contains": "y"}, 1)
        assert free.wording(0) == "Which?"


class TestUntilDecided:
    def test_a_clear_case_stops_early_and_reports_it(self, sizewise, server, tmp_path):
        many = sums(tmp_path / "many.jsonl", 400)
        output = sizewise(*argv(server, many, "good", "weak"), "--until", "decided")
        assert output.code == 0
        assert "Decided after " in output.out
        assert "confidence sequence" in output.out
        assert len(server.bodies) < 400
        result = json.loads(
            sizewise(*argv(server, many, "good", "weak"), "--until", "decided", "--json").out
        )
        assert result["items"] < 200
        assert result["difference"]["low"] > 0

    def test_equal_models_stop_too_where_a_margin_is_given(self, sizewise, server, tmp_path):
        many = sums(tmp_path / "many.jsonl", 400)
        args = (*argv(server, many, "good", "good-too"), "--until", "decided", "--margin", "10")
        result = json.loads(sizewise(*args, "--json").out)
        assert result["items"] < 400
        assert result["verdict"].startswith("no difference that matters")

    def test_looking_after_every_question_keeps_the_error_rate(self):
        """200 pairs of equal models, looked at after each of 300 questions: a fixed-size test
        finds a difference in many, the sequential one in at most 5 % (binomial: 18 of 200)."""
        rng = np.random.default_rng(1)
        fixed = always = 0
        for _ in range(200):
            draws = rng.choice([1, -1, 0], 300, p=[0.15, 0.15, 0.7])
            looks = range(20, 301, 10)
            fixed += any(
                report.significant(int((draws[:n] > 0).sum()), int((draws[:n] < 0).sum()), n)
                for n in looks
            )
            always += any(sequential.decided(draws[:n]) in ("a", "b") for n in looks)
        assert fixed > 25
        assert always <= 18

    def test_it_finds_a_real_difference_with_about_the_questions_of_a_planned_test(self):
        rng = np.random.default_rng(2)
        sizes = []
        for _ in range(40):
            draws = rng.choice([1, -1, 0], 1000, p=[0.15, 0.05, 0.8])
            for n in range(20, 1001, 20):
                if verdict := sequential.decided(draws[:n]):
                    break
            assert verdict == "a"
            sizes.append(n)
        assert np.mean(sizes) < 1.6 * 155  # paired.required_sample_size(0.2, 0.1)

    def test_the_interval_at_all_times_covers(self):
        rng = np.random.default_rng(3)
        missed = 0
        for _ in range(100):
            draws = rng.choice([1, -1, 0], 400, p=[0.2, 0.1, 0.7])
            intervals = [sequential.confidence_sequence(draws[:n]) for n in range(20, 401, 20)]
            missed += any(not interval.low <= 0.1 <= interval.high for interval in intervals)
        assert missed <= 11  # 5 % and its chance

    def test_order_does_not_matter_and_graded_scores_are_allowed(self):
        draws = np.random.default_rng(4).uniform(-0.5, 1, 200)
        assert sequential.confidence_sequence(draws) == sequential.confidence_sequence(draws[::-1])
        assert sequential.decided(draws) == "a"
        with pytest.raises(ValueError, match="from -1 to 1"):
            sequential.confidence_sequence([2])


def test_items_are_asked_in_blocks_of_both_models(server, tmp_path):
    pair = models.parse(["good", "weak"], server.url)
    items = tasks.read(sums(tmp_path / "my.jsonl", 60))
    watch = run.Watch(enough=lambda plans, answers: len(plans[0]) >= 40)
    setting = run.Settings(Asking(timeout=5))
    _, plans = run.ask_all(pair, items, setting, tmp_path / "a.jsonl", watch)
    assert [len(plan) for plan in plans] == [40, 40]
    assert len(server.bodies) == 80


def test_marks_say_when_they_guess():
    item = tasks.parse({"prompt": "Which?", "answer": "B", "choices": list(CHOICES)}, 1)
    assert scoring.mark(item, "Answer: B") == scoring.Mark(1.0)
    assert scoring.mark(item, "Well, something with Paris.") == scoring.Mark(1.0, True)
    assert scoring.mark(item, "") == scoring.Mark(0.0)
