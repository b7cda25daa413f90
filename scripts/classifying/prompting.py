"""A language model as a classifier: which label's word does it expect after the text?

Nothing is trained. Each label is given one word (a verbalizer: Schick and Schütze 2021), and the
likeliest of these words, next after the prompt, is the answer. A model expects some words more
than others whatever the text is; contextual calibration divides by what it expects after texts
without content (Zhao et al. 2021, section 5).
"""

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from sizewise import units as words
from sizewise.evaluation import likelihood
from sizewise.validation import whole

from . import classification

CALIBRATIONS = ("none", "contextual")
EMPTY = ("N/A", "[MASK]", "")  # texts without content, those of Zhao et al.
Row = dict[str, Any]


@dataclass(frozen=True)
class Wording:
    """How a set is put to a language model; ``words`` has one word a label."""

    task: str
    noun: str
    ask: str
    words: dict[str, str]

    def prompt(self, text: str, examples: Sequence[tuple[str, str]] = ()) -> str:
        """The task, the examples (text, label) with their words, and the text without its own."""
        visible = [f"{self._item(entry)} {self.words[label]}" for entry, label in examples]
        return "\n\n".join([self.task, *visible, self._item(text)])

    def _item(self, text: str) -> str:
        return f"{f'{self.noun}: {text}'.rstrip()}\n{self.ask}:"


WORDS = {  # of each label
    "rotten-tomatoes": {"bad": "negative", "good": "positive"},
    "spam": {"ham": "normal", "spam": "spam"},
    "bbc": {
        **{name: name for name in ("business", "entertainment", "politics")},
        "sports": "sport",
        "tech": "technology",
    },
    "sarcasm": {"serious": "news", "sarcastic": "satire"},
}
# How each set is asked: task, noun, question. The later ones ask the same in other words, to see
# how much of a score is the wording's; words of labels stay, since others are another question.
WORDINGS = {
    "rotten-tomatoes": (
        ("Say whether the review is positive or negative.", "Review", "Sentiment"),
        ("Film reviews, and whether they are negative or positive.", "Text", "Label"),
        ("Does the critic like the film? Answer positive or negative.", "Critic", "Answer"),
    ),
    "spam": (
        ("Say whether the email is spam or normal.", "Email", "Type"),
        ("Emails, and whether they are normal or spam.", "Text", "Label"),
        ("Is this message spam? Answer spam or normal.", "Message", "Answer"),
    ),
    "bbc": (
        (
            "Say whether the article is about business, entertainment, politics, sport or "
            "technology.",
            "Article",
            "Topic",
        ),
        (
            "Articles, each on technology, sport, politics, entertainment or business.",
            "Text",
            "Label",
        ),
        (
            "Is this story about business, entertainment, politics, sport or technology?",
            "Story",
            "Answer",
        ),
    ),
    "sarcasm": (
        ("Say whether the headline is news or satire.", "Headline", "Kind"),
        ("Headlines, and whether they are satire or news.", "Text", "Label"),
        ("Is this headline satire? Answer satire or news.", "Headline", "Answer"),
    ),
}


def wording(name: str, number: int = 0) -> Wording:
    """How a set is asked, in the first wording or in a later one."""
    return Wording(*WORDINGS[name][number], WORDS[name])


def scores(
    model, tokenizer, prompts: Sequence[str], answers: Sequence[str], *, batch: int = 16
) -> np.ndarray:
    """log p of each answer's token next after each prompt: (prompts, answers) float64.

    An answer follows a space and must be one token there, so that one pass over a prompt scores
    all answers. What all prompts begin with goes through the model once; prompts of like length
    go together, padded at the end, where no earlier token sees it. Raises ValueError for an answer
    of several tokens, and two answers of the same one.
    """
    import torch

    batch = whole("the batch", batch)
    tokens = [_token(tokenizer, prompts[0], answer) for answer in answers]
    if len(set(tokens)) < len(tokens):
        raise ValueError(f"two of the answers are the same token: {', '.join(answers)}")
    ids = [_ids(tokenizer, prompt) for prompt in prompts]
    common = _common(ids)
    order = sorted(range(len(ids)), key=lambda number: len(ids[number]))
    result = np.empty((len(ids), len(tokens)))
    device = next(model.parameters()).device
    with torch.no_grad(), likelihood.still(model):
        past = None
        if common:
            start = torch.tensor([ids[0][:common]], device=device)  # (1, common)
            past = model(input_ids=start, use_cache=True, logits_to_keep=1).past_key_values
        for first in range(0, len(order), batch):
            group = order[first : first + batch]
            suffixes = [ids[number][common:] for number in group]
            longest = max(map(len, suffixes))
            padded = torch.tensor(
                [entry + [0] * (longest - len(entry)) for entry in suffixes]
            )  # (b, t)
            ends = torch.tensor([len(entry) - 1 for entry in suffixes])
            places, which = ends.unique(return_inverse=True)
            cache = copy.deepcopy(past)
            if cache is not None:
                cache.batch_repeat_interleave(len(group))
            logits = model(
                input_ids=padded.to(device),
                past_key_values=cache,
                use_cache=cache is not None,
                logits_to_keep=places.to(device),
            ).logits  # (b, places, V)
            last = logits[torch.arange(len(group)), which].float()  # (b, V)
            result[group] = last.log_softmax(-1)[:, tokens].double().cpu().numpy()
    return result


def calibrated(log_p: np.ndarray, empty: np.ndarray) -> np.ndarray:
    """Log scores (n, classes) less the model's bias, seen on texts without content.

    Both are shared out over the labels; the mean over ``empty`` (e, classes) is what each
    label's share is divided by. A constant added to a label's log p in both changes nothing in
    the answers where the empty texts agree on it.
    Source: Zhao et al. 2021, section 5, with W diagonal and b = 0.
    """
    from scipy.special import log_softmax, logsumexp

    log_p, empty = np.atleast_2d(log_p), np.atleast_2d(empty)
    bias = logsumexp(log_softmax(empty, axis=1), axis=0) - np.log(len(empty))  # (classes,)
    return log_softmax(log_softmax(log_p, axis=1) - bias, axis=1)


def prompted(row: Row) -> Row:
    """A row of `prompted`: a language model without training, with examples in its prompt."""
    if row["calibration"] not in CALIBRATIONS:
        raise words.unknown("calibration", row["calibration"], CALIBRATIONS)
    names = ("model", "dtype", "set", "characters", "items", "labels_used", "seed")
    values = [row[name] for name in names]
    task, log_p, empty, parameters, wall, spent = _read(*values, row.get("wording", 0))
    if row["calibration"] == "contextual":
        log_p = calibrated(log_p, empty)
    return classification.scored(task, log_p.argmax(1)) | {
        "parameters": parameters,
        "seconds": wall,
        "training_cpu_seconds": 0.0,
        "cpu_seconds_per_1000": 1000 * spent / row["items"],
    }


@lru_cache(maxsize=1)
def _read(name, dtype, set_name, characters, items, shots, seed, number):
    """Scores of the test and of the empty texts, timed without the latter."""
    result = _model(name, dtype)
    task, question = classification.task(set_name, characters), wording(set_name, number)
    group = classification.draw(task.pool_labels, shots, seed) if shots else ()
    examples = [(task.pool[index], task.names[task.pool_labels[index]]) for index in group]
    answers = [question.words[entry] for entry in task.names]
    empty = [question.prompt(entry, examples) for entry in EMPTY]
    bias = scores(result.model, result.tokenizer, empty, answers)
    prompts = [question.prompt(entry, examples) for entry in task.texts[:items]]
    start, began = time.process_time(), time.perf_counter()
    log_p = scores(result.model, result.tokenizer, prompts, answers)
    spent, wall = time.process_time() - start, time.perf_counter() - began
    return task, log_p, bias, result.entry.parameters, wall, spent


@lru_cache(maxsize=1)
def _model(name: str, dtype: str):
    from sizewise.models import pretrained

    return pretrained.load(name, dtype=dtype)


def _ids(tokenizer, prompt: str) -> list[int]:
    result = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    return [*likelihood.start(tokenizer), *result]


def _token(tokenizer, prompt: str, answer: str) -> int:
    before, after = _ids(tokenizer, prompt), _ids(tokenizer, f"{prompt} {answer}")
    if after[: len(before)] != before or len(after) != len(before) + 1:
        raise ValueError(f"{answer!r} is not one token after the prompt; choose another word")
    return after[-1]


def _common(ids: list[list[int]]) -> int:
    """Tokens that all begin with, leaving each at least one; tokenized whole, so nothing is cut
    where a tokenizer would have joined."""
    first, last = min(ids), max(ids)  # in the order of lists, what these share all share
    same = next(
        (index for index, (a, b) in enumerate(zip(first, last, strict=False)) if a != b),
        min(len(first), len(last)),
    )
    return min(same, min(map(len, ids)) - 1)
