"""Can the model still find what it read? Facts hidden in a long text, each asked for at its end.

A haystack is running text with sentences such as "The secret word of Alice is lemon." spread over
it. The text goes into the cache once; then each question is put to a copy of that cache. The
answer is one word, scored by its likelihood and by whether it is the likeliest (which is what
greedy decoding would say). All facts have one form, so a model that does not look answers with a
word it saw, and is right once in as many times as there are facts.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

import numpy as np

from sizewise.evaluation import likelihood
from sizewise.validation import whole

from .evaluate import CHUNK

FACT = "The secret word of {} is{}."
_NAMES = (
    "Alice Bruno Clara David Elena Felix Greta Henry Irene Jacob Karen Louis Maria Nolan Olga Peter"
)
_WORDS = (
    "banana tiger violin hammer candle rocket pepper castle guitar monkey "
    "carpet lemon anchor pillow ladder basket"
)
NAMES, WORDS = tuple(_NAMES.split()), tuple(_WORDS.split())


@dataclass(frozen=True)
class Question:
    """Tokens of a question and of its answer, and how many tokens of text come after the fact."""

    ids: tuple[int, ...]
    answer: tuple[int, ...]
    distance: int


@dataclass(frozen=True)
class Haystack:
    """Tokens of a text and the questions that it answers."""

    ids: tuple[int, ...]
    questions: tuple[Question, ...]


def haystack(
    tokenizer, sentences: Sequence[str], context: int, *, needles: int = 8, seed: int = 0
) -> Haystack:
    """A text of at most ``context`` tokens, questions and answers included.

    ``needles`` facts stand each at a random place in its own part of the text; names, words,
    places and where in ``sentences`` the text begins are drawn with ``seed``. Raises ValueError
    for more facts than names, for a context too short for them, and too few sentences.
    """
    needles = whole("the needles", needles, len(NAMES))
    draw = np.random.default_rng([context, seed])
    names, secrets = (draw.permutation(subset)[:needles].tolist() for subset in (NAMES, WORDS))
    requested = [
        _ids(tokenizer, "\n" + FACT.split("{}.")[0].replace("{}", name).removesuffix("{}."))
        for name in names
    ]
    answers = [_ids(tokenizer, f" {secret}") for secret in secrets]
    room = context - max(map(len, requested)) - max(map(len, answers)) - 1
    filler = islice(cycle(sentences), int(draw.integers(len(sentences))), None)
    ids, ends = list(likelihood.start(tokenizer)), []
    for number, (name, secret) in enumerate(zip(names, secrets, strict=True), 1):
        fact = _ids(tokenizer, " " + FACT.format(name, f" {secret}"))
        parts = _fill(tokenizer, filler, room * number // needles - len(ids) - len(fact))
        position = int(draw.integers(len(parts) + 1))
        ids += [item for part in parts[:position] for item in part] + fact
        ends.append(len(ids))
        ids += [item for part in parts[position:] for item in part]
    questions = zip(requested, answers, ends, strict=True)
    return Haystack(
        tuple(ids), tuple(Question(tuple(q), tuple(a), len(ids) - end) for q, a, end in questions)
    )


def ask(model, stack: Haystack, make: Callable[[], Any], *, chunk: int = CHUNK):
    """A data frame with one row a question: ``question``, ``distance``, ``nats``, ``right``.

    ``make`` returns the cache. ``nats`` is -log p of the answer, ``right`` whether each of its
    tokens was the likeliest.
    """
    import pandas
    import torch

    device, cache, rows = next(model.parameters()).device, make(), []
    with torch.inference_mode(), likelihood.still(model):
        for part in torch.tensor([stack.ids], device=device).split(chunk, 1):
            model.base_model(input_ids=part, past_key_values=cache, use_cache=True)
        for number, item in enumerate(stack.questions):
            inputs = torch.tensor([item.ids + item.answer[:-1]], device=device)
            answer = torch.tensor(item.answer, device=device)
            logits = model(
                input_ids=inputs,
                past_key_values=copy.deepcopy(cache),
                use_cache=True,
                logits_to_keep=len(answer),
            ).logits[0]
            log_p = logits.float().log_softmax(-1)  # (answer, V)
            rows.append(
                {
                    "question": number,
                    "distance": item.distance,
                    "nats": -log_p.gather(-1, answer[:, None]).sum().item(),
                    "right": int((log_p.argmax(-1) == answer).all()),
                }
            )
    return pandas.DataFrame(rows)


def _fill(tokenizer, filler, left: int) -> list[list[int]]:
    """Sentences one after the other as tokens, until one does not fit any more."""
    if left < 0:
        raise ValueError("the context is too short for so many facts")
    parts = []
    for sentence in filler:
        part = _ids(tokenizer, f" {sentence}")
        if len(part) > left:
            break
        parts.append(part)
        left -= len(part)
    return parts


def _ids(tokenizer, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]
