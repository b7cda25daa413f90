"""Fine-tuning: all weights of an encoder follow the labels, with a linear layer on top.

The mean over a text's tokens goes into the layer, as for its vectors, but is not normalised.
Devlin et al. 2019 (section 4.1 and appendix A.3) for the recipe: a few epochs of AdamW at a small
rate, warmed up and led to 0. The new layer starts from nothing and learns at a larger rate.
"""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from . import classification

BATCH = 16
RATE, RATE_OF_HEAD = 5e-5, 1e-3
WARM = 0.1  # of the steps
DECAY = 0.01
Row = dict[str, Any]


def answers(encoder, head, texts: Sequence[str], batch: int = 32) -> np.ndarray:
    """Answers (n,) to texts of an encoder with its layer, those of like length together."""
    import torch

    ids = _tokens(encoder, texts)
    order = sorted(range(len(ids)), key=lambda number: len(ids[number]))
    result = np.empty(len(ids), np.int64)
    with torch.no_grad():
        for first in range(0, len(order), batch):
            group = order[first : first + batch]
            scores = head(_means(encoder, [ids[number] for number in group]))
            result[group] = scores.argmax(-1).numpy()
    return result


def tune(encoder, texts: Sequence[str], labels, classes: int, *, epochs: int, seed: int):
    """Train ``encoder`` (a `pretrained.Encoder` in torch, fp32; it is changed) on labels (n,).

    Returns the layer on top, which maps means (b, d) to scores (b, classes).

    The seed settles the layer's start, the order and dropout, so that the same machine finds
    the same weights.
    """
    import torch

    ids, targets = _tokens(encoder, texts), torch.from_numpy(np.asarray(labels, np.int64))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = torch.nn.Linear(encoder.model.config.hidden_size, classes)
        groups = [
            {"params": list(encoder.model.parameters()), "lr": RATE},
            {"params": list(head.parameters()), "lr": RATE_OF_HEAD},
        ]
        optimizer = torch.optim.AdamW(groups, weight_decay=DECAY)
        steps = epochs * -(-len(ids) // BATCH)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _share(step, steps))
        encoder.model.train()
        for _ in range(epochs):
            for group in torch.randperm(len(ids)).split(BATCH):
                scores = head(_means(encoder, [ids[number] for number in group]))  # (b, classes)
                loss = torch.nn.functional.cross_entropy(scores, targets[group])
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(encoder.model.parameters(), 1.0)
                optimizer.step()
                schedule.step()
    encoder.model.eval()
    return head


def finetuned(row: Row) -> Row:
    """A row of `finetuned`: a fresh encoder, all of it trained on the labels."""
    from sizewise.models import pretrained

    task = classification.task(row["set"], row["characters"])
    group = classification.draw(task.pool_labels, row["labels_used"], row["seed"])
    encoder = pretrained.encoder(row["model"])
    start = time.process_time()
    head = tune(
        encoder,
        [task.pool[index] for index in group],
        task.pool_labels[group],
        len(task.names),
        epochs=row["epochs"],
        seed=row["seed"],
    )
    trained = time.process_time() - start
    start, began = time.process_time(), time.perf_counter()
    result = answers(encoder, head, task.texts[: row["items"]])
    spent, wall = time.process_time() - start, time.perf_counter() - began
    return classification.scored(task, result) | {
        "parameters": encoder.entry.parameters + sum(entry.numel() for entry in head.parameters()),
        "seconds": wall,
        "training_cpu_seconds": trained,
        "cpu_seconds_per_1000": 1000 * spent / row["items"],
    }


def _share(step: int, steps: int) -> float:
    """Of the rate: up in a line over the first steps, then down in a line to 0."""
    warm = max(1, round(WARM * steps))
    return (step + 1) / warm if step < warm else (steps - step) / max(1, steps - warm)


def _tokens(encoder, texts: Sequence[str]) -> list[list[int]]:
    return encoder.tokenizer(list(texts), truncation=True, max_length=encoder.entry.context)[
        "input_ids"
    ]


def _means(encoder, ids: list[list[int]]):
    """The mean over each text's tokens: (b, d), with its gradient."""
    import torch

    longest = max(map(len, ids))
    blank = encoder.tokenizer.pad_token_id
    padded = torch.tensor([entry + [blank] * (longest - len(entry)) for entry in ids])  # (b, t)
    mask = torch.tensor([[1] * len(entry) + [0] * (longest - len(entry)) for entry in ids])
    hidden = encoder.model(input_ids=padded, attention_mask=mask).last_hidden_state  # (b, t, d)
    weights = mask[..., None] / mask.sum(1)[:, None, None]
    return (hidden * weights).sum(1)
