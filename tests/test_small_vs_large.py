"""The script that keeps every answer: its grid, its rows and what it measures."""

import re
import runpy
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sizewise import paths
from sizewise.data import records
from sizewise.evaluation import exact_match, generation, multiple_choice, tasks
from sizewise.models import pretrained
from test_evals import bpe, tiny

torch.set_num_threads(1)
FILE = paths.root() / "scripts" / "small_vs_large.py"
SCRIPT = SimpleNamespace(**runpy.run_path(str(FILE)))


@pytest.fixture
def script(monkeypatch):
    """Names of the script, with a tiny model and a few questions in place of the real ones."""
    names = runpy.run_path(str(FILE))
    entry = SimpleNamespace(parameters=1, kind="causal", holds="Tiny-Instruct")
    loaded = SimpleNamespace(model=tiny(), tokenizer=bpe(), sha256="0" * 64, entry=entry)
    monkeypatch.setattr(pretrained, "load", lambda name, dtype: loaded)
    monkeypatch.setattr(
        tasks,
        "_all",
        lambda name: tuple(
            multiple_choice.Item(f"q{n}", f"the quick {n}", ("fox", "lazy dog"), n % 2)
            for n in range(tasks.TASKS[name].questions)
        ),
    )
    lambada = exact_match.TASKS["lambada"]
    words = tuple(exact_match.Item(f"l{n}", f"over the lazy {n}", "dog") for n in range(9))
    changed = exact_match.Task(
        **{
            name: getattr(lambada, name)
            for name in ("name", "source", "questions", "most", "stops", "right")
        },
        load=lambda: words,
    )
    monkeypatch.setitem(exact_match.TASKS, "lambada", changed)
    return SimpleNamespace(**names)


def row(task, first=0, count=4, **more):
    config = {"model": "tiny", "dtype": "fp32", "task": task, **more}
    return config | {"first": first, "count": count, "seed": 0}


def grid(words):
    return SCRIPT.grid(SCRIPT.arguments(words))


def test_parts_cover_the_questions_once_and_a_larger_sample_keeps_them():
    parts = grid(["--items", "120", "--tasks", "piqa,gsm8k"])
    piqa = [part for part in parts if (part["model"], part["task"]) == ("smollm2-135m", "piqa")]
    assert [(part["first"], part["count"]) for part in piqa] == [(0, 50), (50, 50), (100, 20)]
    more = grid(["--items", "300", "--tasks", "piqa"])
    assert set(map(records.identity, piqa[:2])) <= set(map(records.identity, more))
    models = [part["model"] for part in parts]
    assert models == sorted(models, key=SCRIPT.MODELS.index)
    assert {part["model"] for part in parts if part["task"] == "gsm8k"} == {
        name for name in SCRIPT.MODELS if name != "gemma-3-270m"
    }


def test_no_more_questions_are_planned_than_a_task_has():
    words = ["--items", "9000", "--answers", "9000", "--models", "smollm2-135m", "--tasks"]
    for task, most in (("winogrande", 1267), ("lambada", 5153), ("humaneval", 164)):
        planned = grid([*words, task])
        assert sum(part["count"] for part in planned) == most
        assert planned[-1]["first"] + planned[-1]["count"] == most
    halved = grid([*words, "hellaswag"])
    assert sum(part["count"] for part in halved) == 4500


def test_further_questions_follow_the_sample_and_cover_the_whole_task_once():
    for model, sample in (("smollm2-135m", 150), ("qwen2.5-coder-1.5b", 75)):
        words = ["--models", model, "--tasks", "hellaswag,humaneval", "--more", "all"]
        planned = grid(words)
        for task, questions in (("hellaswag", 10042), ("humaneval", 164)):
            parts = [part for part in planned if part["task"] == task]
            numbers = [n for p in parts for n in range(p["first"], p["first"] + p["count"])]
            assert numbers == list(range(questions))
        further = [part for part in planned if part.get("likelihoods") is False]
        assert further[0]["first"] == sample
        assert {part["task"] for part in further} == {"hellaswag"}
    shorter = grid([*words[:4], "--more", "40"])
    assert [part["count"] for part in shorter if part["task"] == "humaneval"] == [15] * 4
    assert set(map(records.identity, shorter)) <= set(map(records.identity, planned))


def test_a_question_is_not_recorded_twice(tmp_path):
    file = tmp_path / "rows.jsonl"
    source = records.provenance()
    words = ["--models", "smollm2-135m", "--tasks", "winogrande"]
    plan = grid(words)
    for part in plan[:2]:
        records.append(file, part, {"right": []}, source)
    SCRIPT.refuse_overlap(grid([*words, "--more", "all"]), file)
    with pytest.raises(ValueError, match="questions 50 to 69 of winogrande are partly recorded"):
        SCRIPT.refuse_overlap(grid([*words, "--items", "70"]), file)


def test_a_row_without_likelihoods_has_the_same_answers_and_feeds_no_cascade(script):
    for task in ("boolq", "lambada"):
        full, short = script.measure(row(task)), script.measure(row(task, likelihoods=False))
        assert full.keys() - short.keys() == {"nats", "tokens"} | (
            {"bytes"} if task == "boolq" else set()
        )
        for name in ("items", "right", "tokens_read"):
            assert short[name] == full[name]
    rows = [row("boolq") | script.measure(row("boolq")), row("boolq", likelihoods=False) | short]
    with_choices = runpy.run_path(str(FILE.with_name("cascade.py")))["with_choices"]
    assert with_choices(rows) == rows[:1]


def test_recorded_rows_are_of_the_plan():
    recorded = records.read("small_vs_large")
    if not recorded:
        pytest.skip("nothing is recorded")
    plans = [grid(["--more", more]) for more in ("0", "all")]
    planned = set(map(records.identity, [*plans[0], *plans[1]]))
    assert {entry["id"] for entry in recorded} <= planned


def test_a_row_of_choices_keeps_what_any_score_needs(script):
    result = script.measure(row("arc-easy", first=2))
    items = tasks.items("arc-easy", 6)[2:]
    assert result["items"] == [item.name for item in items]
    assert result["answers"] == [item.answer for item in items]
    table = multiple_choice.score(tiny(), bpe(), items)
    nats = np.array(result["nats"])
    assert nats.ravel() == pytest.approx(table.nats.to_numpy(), abs=1e-4)
    assert result["tokens"] == [
        part.tolist() for _, part in table.groupby("item", sort=False).tokens
    ]
    chosen = (nats / np.array(result["bytes"])).argmin(1)
    assert result["norm"] == "per_byte"
    assert result["chosen"] == chosen.tolist()
    assert result["right"] == [int(a == b) for a, b in zip(result["answers"], chosen, strict=True)]
    assert result["tokens_read"] == table.read.sum()
    assert result["threads"] == 1
    tensors = [*tiny().parameters(), *tiny().buffers()]
    assert result["held_bytes"] == sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    assert result["cpu_seconds"] > 0


def test_the_last_word_has_its_nats(script):
    result = script.measure(row("lambada"))
    assert len(result["items"]) == len(result["right"]) == 4
    items = {item.name: item for item in exact_match.TASKS["lambada"].items()}
    model, tokenizer = tiny(), bpe()
    for name, [nats], [size] in zip(result["items"], result["nats"], result["tokens"], strict=True):
        ids = tokenizer(f"{items[name].prompt} {items[name].target}")["input_ids"]
        log_p = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        alone = -sum(log_p[at - 1, ids[at]].item() for at in range(len(ids) - size, len(ids)))
        assert nats == pytest.approx(alone, abs=1e-4)
    # the passages with their words: of each, the last token is predicted and not read
    whole = [f"{items[name].prompt} {items[name].target}" for name in result["items"]]
    assert result["tokens_read"] == sum(map(len, tokenizer(whole)["input_ids"]))


def test_tokens_of_a_chat_are_those_of_the_questions_without_the_template(script, monkeypatch):
    tokenizer, chats = bpe(), ("the quick brown", "over the lazy dog")
    tokenizer.chat_template = "{% for m in messages %}user: {{ m.content }}{% endfor %} model:"
    loaded = SimpleNamespace(model=tiny(), tokenizer=tokenizer)
    items = [exact_match.Item(f"g{n}", "", "4", chat=chat) for n, chat in enumerate(chats)]
    shown = []

    def answers(model, tokenizer, prompts, **more):
        shown.extend(prompts)
        return [generation.Answer("is 4", 3), generation.Answer("5", 1)]

    monkeypatch.setattr(generation, "answers", answers)
    result = script.answer(loaded, {"task": "gsm8k", "chat": True}, items, 2)
    plain, read = (sum(map(len, tokenizer(list(texts))["input_ids"])) for texts in (chats, shown))
    assert result["tokens_read"] == plain < read
    assert (result["right"], result["tokens_written"]) == ([1, 0], 4)


def test_the_peak_of_memory_is_of_the_row_alone(script):
    if not script.forget_peak():
        pytest.skip("this system does not start the peak anew")
    size = 1 << 28
    array = np.ones(size, np.uint8)
    high = script.peak()
    del array
    assert script.forget_peak()
    assert high - script.peak() > 0.9 * size


def test_every_column_is_described(script):
    text = (paths.root() / "data" / "small_vs_large.md").read_text(encoding="utf-8")
    columns = set(re.findall(r"^\| `(\w+)` \|", text, re.M))
    optional = {"chat", "texts", "likelihoods"}
    rows = [row(task) | script.measure(row(task)) for task in ("piqa", "lambada")]
    assert columns == {*rows[0], *rows[1], *optional, "id", "from"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--tasks", "piq"], "unknown task 'piq'; did you mean 'piqa'"),
        (["--models", "minilm-l6"], "minilm-l6 is no language model"),
        (["--threads", "0"], "--threads must be from 1"),
        (["--more", "some"], "--more is a number or all, got 'some'"),
    ],
)
def test_a_wrong_word_ends_in_one_line(words, message):
    done = subprocess.run([sys.executable, FILE, *words, "--list"], capture_output=True, text=True)
    assert done.returncode == 1
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_folder_as_output_ends_in_one_line(tmp_path):
    words = ["--models", "smollm2-135m", "--tasks", "piqa", "--items", "1", "--output", tmp_path]
    done = subprocess.run([sys.executable, FILE, *words], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("small_vs_large: ")
    assert str(tmp_path) in done.stderr
    assert done.stderr.count("\n") == 1
