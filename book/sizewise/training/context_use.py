"""What a trained model makes of its context: loss by position, gain from repetition, bytes stored.

A model that uses what is far behind has a lower loss late in a window than early in it. A model
that can look up finds what stood behind a token the last time that the token was there: then the
second half of a repeated sequence costs it nothing. Jelassi et al. (2024, Repeat After Me) and
Arora et al. (2023, Zoology) show that a state of fixed size copies and recalls worse than
attention does. Nothing is trained here.
"""

import numpy as np

from sizewise import validation
from sizewise.costs import memory
from sizewise.models import config, from_config

from . import batches, loss, models

ROWS = 32  # sequences at a time


def scores(model, ids, targets) -> tuple[np.ndarray, np.ndarray]:
    """(cross entropy in nats, whether the most likely token is it) of each target after ``ids``.

    Both of the shape of ``ids`` and ``targets``, (sequences, length); float64 and bool.
    """
    import torch
    from torch.nn import functional

    weight = model.get_output_embeddings().weight  # (vocabulary, width)
    nats, right, training = [], [], model.training
    model.eval()
    try:
        with torch.no_grad():
            for inputs, true in zip(ids.split(ROWS), targets.split(ROWS), strict=True):
                hidden = model.base_model(input_ids=inputs.to(weight.device), use_cache=False)[0]
                flat, true = hidden.flatten(0, 1), true.to(weight.device).flatten()
                for rows, following in zip(
                    flat.split(loss.ROWS), true.split(loss.ROWS), strict=True
                ):
                    logits = rows @ weight.T  # (rows, vocabulary)
                    nats.append(functional.cross_entropy(logits, following, reduction="none").cpu())
                    right.append((logits.argmax(-1) == following).cpu())
    finally:
        model.train(training)
    nats_each = torch.cat(nats).double().numpy().reshape(targets.shape)
    return nats_each, torch.cat(right).numpy().reshape(targets.shape)


def by_position(nats_each: np.ndarray, bins: int) -> list[float]:
    """Mean of ``nats_each`` (windows, context) in ``bins`` equal parts of the context, in order."""
    return nats_each.reshape(len(nats_each), bins, -1).mean((0, 2)).tolist()


def repeated(first):
    """Inputs and targets of sequences that come twice: (sequences, 2 length) each.

    ``first`` (sequences, length) is an int64 tensor. The last target is the first token again.
    """
    import torch

    twice = torch.cat([first, first, first[:, :1]], 1)  # (sequences, 2 length + 1)
    return twice[:, :-1].contiguous(), twice[:, 1:].contiguous()


def random_tokens(vocabulary: int, length: int, number: int, seed: int = 0):
    """``number`` sequences of ``length`` tokens, none twice in one, the end of a document in none.

    What follows a token the second time is then beyond doubt, and no pair is more likely than
    another. int64, (number, length). Raises ValueError for more tokens than the vocabulary has.
    """
    import torch

    validation.whole("the length of a sequence", length, vocabulary - 1, 2)
    rng = np.random.default_rng(seed)
    permutations = [1 + rng.permutation(vocabulary - 1)[:length] for _ in range(number)]
    return torch.from_numpy(np.stack(permutations).astype(np.int64))


def text_tokens(tokens, length: int, number: int):
    """``number`` spans of the validation text, evenly spaced: int64, (number, length)."""
    return batches.fixed(tokens.validation, length, number)[0]


def recall(model, first) -> dict[str, float]:
    """Loss the ``first`` and the ``second`` time, nats a token; share ``right`` the second time.

    ``first`` (sequences, length) comes twice. All three are of the same targets, those that
    follow a token inside the sequence: that its beginning comes again could not be known. A model
    that looks at the last token only has the same loss twice.
    """
    length = first.shape[1]
    nats_each, right = scores(model, *repeated(first))  # (sequences, 2 length)
    return {
        "first": float(nats_each[:, : length - 1].mean()),
        "second": float(nats_each[:, length:-1].mean()),
        "right": float(right[:, length:-1].mean()),
    }


def stored_bytes(spec: config.Spec, lengths: list[int]) -> list[int]:
    """Bytes that one sequence of each length stores for its next token, by `memory`.

    Keys and values in 16 bits, recurrent states in fp32. A window stays what it was in training,
    however long the sequence.
    """
    model = from_config.from_config(config.build(spec), name=spec.name)
    return [memory.kv_cache_bytes(model, length) for length in lengths]


def columns(
    model,
    run,
    tokens,
    *,
    bins: int,
    distances: list[int],
    sequences: int,
    lengths: list[int],
) -> dict:
    """The measured columns of ``data/attention_variants.md`` beside those of the loop.

    ``run`` is the `run_config.Run` that made ``model``; its context holds each repetition twice and
    divides into the ``bins``.
    """
    rows = max(1, run.validation_tokens // run.context)
    ids, targets = batches.fixed(tokens.validation, run.context, rows)
    nats_each, _ = scores(model, ids, targets)
    measured = {"nats_by_position": by_position(nats_each, bins)}
    for distance in distances:
        for name, first in {
            "random": random_tokens(run.vocabulary, distance, sequences),
            "text": text_tokens(tokens, distance, sequences),
        }.items():
            for side, value in recall(model, first).items():
                measured.setdefault(f"{name}_{side}", []).append(value)
    spec = models.spec(run.family, run.width, run.vocabulary, run.context)
    measured["cache_bytes"], *measured["cache_bytes_at"] = stored_bytes(
        spec, [run.context, *lengths]
    )
    return measured
