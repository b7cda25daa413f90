"""Answers that must match: the last word of a passage, a number, a function that runs.

The last word is read, not generated; numbers and functions are written (`generation`). The tasks
and what makes an answer right are in `exact_tasks`.

>>> items = exact_match.TASKS["gsm8k"].items(50)                               # doctest: +SKIP
>>> exact_match.score(model, tokenizer, "gsm8k", items).right.mean()           # doctest: +SKIP
"""

import math
from collections.abc import Callable
from typing import Any

from sizewise.validation import whole

from . import generation, likelihood, multiple_choice
from .exact_tasks import TASKS, Item, Task, known

__all__ = ["COLUMNS", "TASKS", "Item", "Task", "known", "score"]

COLUMNS = ["item", "right", "nats", "tokens", "answer"]


def score(
    model,
    tokenizer,
    name: str,
    items: list[Item],
    *,
    batch: int = 8,
    chat: bool = False,
    progress: Callable[[int, int], None] | None = None,
):
    """A data frame with one row an item: ``item``, ``right``, ``nats``, ``tokens``, ``answer``.

    ``right`` is 1 or 0, so that `bootstrap.ratio` of it with ``by="item"`` is an accuracy with
    its interval; ``tokens`` are those of the answer. ``nats`` is -log p of LAMBADA's word, nan
    for the others. LAMBADA's word is read, not generated: it is right if each of its tokens is
    the likeliest after the right ones, which is when greedy decoding gives them all; its
    ``answer`` is these likeliest tokens.

    With ``chat`` the question is put as a user's turn in the tokenizer's template, without
    examples. ``progress`` is told (items done, items). Raises ValueError for an unknown task, no
    items, and a chat where the task or the tokenizer has none.
    """
    import pandas

    task = known(name)
    if not items:
        raise ValueError(f"no items of {name} to score")
    if chat and not items[0].chat:
        raise ValueError(f"{name} asks to continue a text, which a chat does not do")
    if name == "lambada":
        rows = _words(model, tokenizer, items, whole("the batch", batch), progress)
        return pandas.DataFrame(rows, columns=COLUMNS)
    prompts = [generation.chat(tokenizer, item.chat) if chat else item.prompt for item in items]
    answers = generation.answers(
        model,
        tokenizer,
        prompts,
        max_tokens=task.most,
        stops=() if chat else task.stops,
        batch=batch,
        progress=progress,
    )
    rows = [
        [item.name, int(task.right(item, entry.text)), math.nan, entry.tokens, entry.text]
        for item, entry in zip(items, answers, strict=True)
    ]
    return pandas.DataFrame(rows, columns=COLUMNS)


def _words(model, tokenizer, items, batch, progress) -> list[list]:
    """Rows of `score` in the items' order; passages of like length are read together."""
    import torch

    rows = [
        multiple_choice.tokenized(
            tokenizer, multiple_choice.Item(item.name, item.prompt, (item.target,), 0)
        )[0]
        for item in items
    ]
    order = sorted(range(len(rows)), key=lambda number: -len(rows[number]["ids"]))
    entries, result = int(model.config.get_text_config().vocab_size), {}
    device = next(model.parameters()).device
    with torch.no_grad(), likelihood.still(model):
        while len(result) < len(order):
            longest = len(rows[order[len(result)]]["ids"]) - 1
            size = max(1, min(batch, likelihood.MOST_LOGITS // (longest * entries)))
            group = order[len(result) : len(result) + size]
            ids, targets = _padded([rows[number] for number in group])  # (b, t)
            is_target = targets != likelihood.PADDING
            logits = model(input_ids=ids.clamp(min=0).to(device), use_cache=False).logits  # (b,t,V)
            log_p = logits[is_target.to(device)].float().log_softmax(-1)  # (words' tokens, V)
            expected = targets[is_target].to(device)
            nats = -log_p.gather(-1, expected[:, None])[:, 0].double().cpu()
            likeliest, expected = log_p.argmax(-1).cpu(), expected.cpu()
            sizes = is_target.sum(1).tolist()
            parts = zip(
                group, nats.split(sizes), likeliest.split(sizes), expected.split(sizes), strict=True
            )
            for number, losses, first, word in parts:
                result[number] = [
                    items[number].name,
                    int(torch.equal(first, word)),
                    losses.sum().item(),
                    len(word),
                    tokenizer.decode(first, **generation.DECODING),
                ]
            if progress:
                progress(len(result), len(order))
    return [result[number] for number in range(len(items))]


def _padded(rows: list[dict[str, Any]]):
    """Tokens (b, t) and targets (b, t), which are padding but for the choices' tokens."""
    import torch

    longest = max(len(row["ids"]) for row in rows)
    windows = torch.full((len(rows), longest), likelihood.PADDING)
    targets = windows.clone()
    for number, row in enumerate(rows):
        size = len(row["ids"])
        windows[number, :size] = torch.tensor(row["ids"])
        targets[number, size - row["tokens"] : size] = windows[number, size - row["tokens"] : size]
    return windows[:, :-1], targets[:, 1:]
