"""Measure what a packed KV cache costs a real model: loss, divergence, recall, text, errors.

    python scripts/kv_quality.py
    python scripts/kv_quality.py --what quality --models gemma-3-270m,qwen2.5-coder-0.5b

Everything in the cache is packed, the current token too, unless a row has a residual window. The
text goes through the model in chunks, so that attention sees what the cache gives back. A row
compares one way of storing keys and values with the plain cache of the same model on the same text,
and counts the bytes that the cache holds. The first model gets all rows, further ones a few.
Models are fetched once and checked by their SHA-256. Rows go to data/kv_quality.jsonl; what has a
row is not measured again. Nothing here is a time: scripts/gpu.py has those.
"""

import argparse
import copy
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import weight_quality
from sizewise import units
from sizewise.data import records
from sizewise.evaluation import corpora, likelihood
from sizewise.experiments import engine
from sizewise.models import pretrained
from sizewise.quantization.kv import store
from sizewise.quantization.kv.cache import TurboQuantCache, held_bytes
from sizewise.stats import bootstrap
from sizewise.validation import whole

Row = dict[str, Any]
BITS = (4, 3, 2)
SAME = (
    "turboquant",
    "uniform",
    "kivi",
    "eden-biased",
    "eden-unbiased",
    "norm-corrected",
    "prod",
)
MIXED = (  # keys, their bits, bits of the values
    ("int8", 8, 4),
    ("int8", 8, 3),
    ("int8", 8, 2),
    ("kivi", 4, 3),
    ("kivi", 4, 2),
    ("kivi", 3, 2),
)
SEEDS = (1, 2)  # of the control; all other rows have 0
RESIDUAL = 32  # newest tokens in full precision, in rows that have them
SINK = 4  # first ones, at which a model looks whatever they say
FINE = 8  # tokens at once where there is a residual window
LONG = 2049  # tokens of a window of the long texts, of which all but the first are predicted
LONG_DOCUMENTS = 8  # so many windows: 16,384 predicted tokens
LONG_RESIDUAL = 128  # newest tokens that stay plain, as in KIVI (Liu et al. 2024, section 4)
LONG_CHUNK = 32  # tokens at once: each sees 96 to 128 plain ones before it
CONTEXTS = (512, 1024, 2048)
NEEDLES = 8
ERRORS = ("turboquant", "hadamard", "uniform", "kivi")
CHUNK = 64  # tokens that are read at once
UNTOLD = ("final_logit_softcapping", "logits_scaling", "logit_scale")  # between head and logits
WIDE = {"int8": 8, "fp8": 8, "plain": None}  # methods that have one width


# --- the rows


def way(
    keys: str = "plain",
    keys_bits: int | None = None,
    values: str | None = None,
    values_bits: int | None = None,
    **more,
) -> Row:
    """The columns that say how keys and values are stored; values as keys by default.

    ``more`` may have ``rotation``, ``residual``, ``seed``, and `TurboQuantCache`'s ``sink``,
    ``plain`` and ``center``.
    """
    values, values_bits = (keys, keys_bits) if values is None else (values, values_bits)
    return {
        "keys": keys,
        "keys_bits": WIDE.get(keys, keys_bits),
        "values": values,
        "values_bits": WIDE.get(values, values_bits),
        "rotation": "haar",
        "residual": 0,
        "seed": 0,
        **more,
    }


PLAIN = way()
NEEDLE_WAYS = (
    way(),
    way("int8"),
    *(way("turboquant", bits) for bits in BITS),
    way("kivi", 3),
    way("kivi", 2),
    way("prod", 4),
)


def few() -> list[Row]:
    """Ways for any model."""
    return [
        way(),
        way("int8"),
        way("fp8", fp8_scale="token"),
        *(way(method, bits) for method in ("turboquant", "kivi") for bits in BITS),
        way("turboquant", 3, "plain"),
        way("plain", None, "turboquant", 3),
        *(way("turboquant", bits, center="rope") for bits in (4, 3)),
        way("turboquant", 4, center="mean"),
    ]


def many() -> list[Row]:
    """Ways for the first model: methods, sides apart, mixtures, seeds, residual windows."""
    result = few() + [way(method, bits) for method in SAME for bits in BITS]
    for bits in BITS:
        result += [
            way("turboquant", bits, rotation="hadamard"),
            way("turboquant", bits, "plain"),
            way("plain", None, "turboquant", bits),
            way("kivi", bits, "plain"),
            way("prod", bits, "turboquant", bits),
            *(way("turboquant", bits, seed=seed) for seed in SEEDS),
        ]
    result += [way(keys, wide, "turboquant", narrow) for keys, wide, narrow in MIXED]
    result += [
        way(method, bits, residual=RESIDUAL) for method in ("turboquant", "kivi") for bits in (3, 2)
    ]
    for bits in BITS:  # as each is meant to be used, plain tokens in bf16
        result.append(way("kivi", bits, residual=RESIDUAL, plain="bf16"))
        result.append(way("turboquant", bits, residual=RESIDUAL, sink=SINK, plain="bf16"))
    return list({records.identity(item): item for item in result}.values())


def long() -> list[Row]:
    """Ways for texts of 2,048 tokens, with methods of few bits each in its own mode.

    The plain tokens are in bf16. ``sink`` alone tells what leaving the first tokens plain is worth.
    """
    window = {"residual": LONG_RESIDUAL, "plain": "bf16"}
    result = [way(), way("int8"), way("fp8", fp8_scale="token")]
    result += [way("turboquant", 4), way("kivi", 4), way("turboquant", 4, center="rope")]
    for bits in (4, 2, 3):
        result.append(way("kivi", bits, **window))
        result.append(way("turboquant", bits, sink=SINK, **window))
        result.append(way("turboquant", bits, sink=SINK, center="rope", **window))
    return [*result, way("turboquant", 4, sink=SINK, plain="bf16"), way("turboquant", 2, **window)]


def rows(kind: str, args) -> Iterator[Row]:
    """The rows of a kind, model after model."""
    for model in args.models:
        first = model == args.models[0]
        common = {"what": "quality" if kind == "long" else kind, "model": model}
        if kind == "quality":
            texts = {"text": "sotu", "context": 257}
            documents = args.documents if first else args.documents // 2
            for item in many() if first else few():
                chunk = FINE if item["residual"] else CHUNK
                yield common | item | texts | {"chunk": chunk, "documents": documents}
        elif kind == "long":
            texts = {"text": "sotu", "context": LONG, "documents": LONG_DOCUMENTS}
            for item in long():
                chunk = LONG_CHUNK if item["residual"] else CHUNK
                yield common | item | texts | {"chunk": chunk}
        elif kind == "layer":
            texts = {"text": "brown", "context": 257, "documents": 4, "seed": 0}
            for layer in range(pretrained.entry(model).layers):
                for side in ("keys", "values"):
                    yield common | {"layer": layer, "side": side} | texts
        elif kind == "needle" and first:
            for context in args.contexts:
                texts = {"text": "brown", "context": context, "documents": args.haystacks}
                for item in NEEDLE_WAYS:
                    yield common | item | texts | {"needles": NEEDLES}


# --- the measurements


def through_cache(row: Row) -> Row:
    """A row of `quality`: loss and divergence from the plain cache, with the bytes held."""
    chosen, (sample, reference, plain) = weight_quality.named(row["model"]), original(read(row))
    result = read_through(
        chosen.model,
        sample.windows,
        lambda: cache(chosen.model, row),
        reference,
        bytes_of_targets=sample.bytes,
        document=sample.document,
        chunk=row["chunk"],
    )
    values = weight_quality.compare(result.table, plain)
    change = bootstrap.paired(result.table, plain, "nats", "tokens").difference
    values |= change.through(np.expm1).columns("perplexity_change")
    return {name: value for name, value in values.items() if name != "documents"} | {
        "cache_bytes": result.bytes,
        "values_held": reference.values,
        "bits": 8 * result.bytes / reference.values,
        "weights_sha256": chosen.weights_sha256,
    }


def coding_errors(row: Row) -> Row:
    """A row of `layer`: norms and coding errors of one layer's keys or values."""
    x = states(read(row))[row["layer"]][row["side"] == "values"].float()  # (n, heads, t, d)
    norms = x.norm(dim=-1)
    channels = x.square().mean((0, 2)).sqrt()  # (heads, d)
    shared = x.mean((0, 2)).square().sum(-1) / channels.square().sum(-1)  # (heads,)
    result = {
        "dim": x.shape[-1],
        "vectors": norms.numel(),
        "norm": norms.mean().item(),
        "norm_5": norms.flatten().quantile(0.05).item(),
        "norm_95": norms.flatten().quantile(0.95).item(),
        "channel_spread": (channels.amax(-1) / channels.median(-1).values).mean().item(),
        "constant": shared.mean().item(),
    }
    for method in ERRORS:
        for bits in BITS:
            name, turn = ("turboquant", "hadamard") if method == "hadamard" else (method, "haar")
            side = "keys" if method == "kivi" else row["side"]  # by channel, whatever the side
            coder = store.codec(name, bits, x.shape[-1], side, turn, row["seed"])
            difference = (coder.decode(coder.encode(x)) - x).norm(dim=-1)
            result[f"error_{method}_{bits}"] = (difference / norms).square().mean().item()
    return result


def needles(row: Row) -> Row:
    """A row of `needle`: right answers after a long text, and how unlikely the right ones are."""
    table = answers(**{name: value for name, value in row.items() if name != "what"})
    plain = answers(**{name: value for name, value in (row | PLAIN).items() if name != "what"})
    values = {"questions": len(table), "distance": float(table["distance"].mean())}
    for name, column in (("right", "right"), ("answer_nats", "nats")):
        values |= bootstrap.ratio(table, column, by="question").columns(name)
        change = bootstrap.paired(table, plain, column, by="question").difference
        values |= change.columns(f"{name}_change")
    return values


def cache(model, row: Row) -> TurboQuantCache:
    """An empty cache that stores as the row says."""
    sides = {side: (row[side], row[f"{side}_bits"] or 16) for side in ("keys", "values")}
    options = {name: row[name] for name in ("sink", "plain", "center") if row.get(name)}
    return TurboQuantCache(
        model.config,
        residual=row["residual"],
        rotation=row["rotation"],
        seed=row["seed"],
        **options,
        **sides,
    )


def read(row: Row) -> tuple:
    """The model and the text of a row."""
    return tuple(row[name] for name in ("model", "text", "context", "documents"))


@lru_cache(maxsize=1)
def original(key: tuple):
    """The sample of a row, what the plain cache leads to on it, and the table of its losses."""
    name, text, context, documents = key
    chosen = weight_quality.named(name)
    sample = chosen.sample(context, documents, text)
    reference = read_plain(chosen.model, sample.windows)
    plain = read_through(
        chosen.model,
        sample.windows,
        lambda: plain_cache(chosen.model),
        reference,
        bytes_of_targets=sample.bytes,
        document=sample.document,
    )
    return sample, reference, plain.table


def plain_cache(model):
    """The cache that `transformers` makes itself."""
    from transformers import DynamicCache

    return DynamicCache(config=model.config)


@lru_cache(maxsize=1)
def states(key: tuple):
    """Keys and values of all layers on a text."""
    name, text, context, documents = key
    chosen = weight_quality.named(name)
    return keys_and_values(
        chosen.model, chosen.sample(context, documents, text).windows, chunk=context
    )


@lru_cache(maxsize=8)
def answers(model, text, context, needles, documents, **stored):
    """All questions of some haystacks, put to a cache: one row each."""
    import pandas

    chosen, parts = weight_quality.named(model), []
    for number in range(documents):
        stack = haystack(chosen.tokenizer, sentences(text), context, needles=needles, seed=number)
        parts.append(ask(chosen.model, stack, lambda: cache(chosen.model, stored)))
    table = pandas.concat(parts, ignore_index=True)
    return table.assign(question=range(len(table)))


@lru_cache(maxsize=1)
def sentences(name: str) -> tuple[str, ...]:
    """Sentences of 6 to 30 words of the first texts."""
    result = (
        item
        for document in corpora.fixed(name, count=60)
        for item in re.split(r"(?<=[.!?])\s+", " ".join(document.split()))
    )
    return tuple(item for item in result if 6 <= len(item.split()) <= 30)


# --- what a model predicts when all it attends to has gone through a cache
#
# A text read in one pass need not touch the cache: attention may take the keys and values that
# were just computed, and `transformers`' own quantized caches hand exactly these back. Here the
# text goes through in chunks, and each chunk attends to what the cache gives back. `read_plain`
# reads it once with the plain cache; `read_through` reads it with another and compares the two at
# every token.


@dataclass(frozen=True)
class Original:
    """What the plain cache led to: last hidden states, and how many numbers it held."""

    hidden: Any = field(repr=False)  # float (n, T - 1, width), on the CPU
    values: int  # keys and values of one window, each number counted once


@dataclass(frozen=True)
class Measured:
    """One row a window, as `likelihood.measure` makes them, and the bytes held for a window."""

    table: Any = field(repr=False)
    bytes: float


def read_plain(model, windows: np.ndarray, *, chunk: int = CHUNK, batch: int = 8) -> Original:
    """The model's own reading of ``windows`` (n, T) with `transformers`' DynamicCache.

    Raises ValueError as `likelihood.measure` does, and for models that do more to their last
    hidden state than to multiply it with the output matrix.
    """
    import torch
    from transformers import DynamicCache

    windows = _checked(model, windows)
    hidden, values = [], 0
    for _, states, cache in _read(
        model, windows, lambda: DynamicCache(config=model.config), chunk, batch
    ):
        hidden.append(states.cpu())
        stored = [item for layer in cache.layers for item in (layer.keys, layer.values)]
        values += sum(item.numel() for item in stored)
    return Original(torch.cat(hidden), values // len(windows))


def read_through(
    model,
    windows: np.ndarray,
    make: Callable[[], Any],
    reference: Original,
    *,
    bytes_of_targets: np.ndarray,
    document: np.ndarray,
    chunk: int = CHUNK,
    batch: int = 8,
) -> Measured:
    """Read ``windows`` (n, T) with caches that ``make`` returns, each for ``batch`` of them.

    The table has ``document``, ``nats``, ``tokens``, ``bytes``, and against the reference ``kl``
    (nats, summed; KL(reference || this)) and ``agree``: see `likelihood.measure`. ``bytes`` of the
    result are those of the tensors behind a `TurboQuantCache` without reserve, at the end.
    Raises ValueError as `read_plain` does, and for a reference of other windows.
    """
    import pandas
    import torch

    windows = _checked(model, windows)
    if reference.hidden.shape[:2] != (len(windows), windows.shape[1] - 1):
        raise ValueError(
            f"the reference read {tuple(reference.hidden.shape[:2])} tokens, these windows have "
            f"{(len(windows), windows.shape[1] - 1)}"
        )
    rows, stored = [], 0
    for first, states, cache in _read(model, windows, make, chunk, batch):
        stored += held_bytes(cache.trim() if hasattr(cache, "trim") else cache)
        targets = torch.from_numpy(windows[first : first + len(states), 1:])
        for position, target in enumerate(targets.to(states.device)):
            before = reference.hidden[first + position].to(states.device)
            rows.append(_compared(model, states[position], before, target))
    table = pandas.DataFrame(rows)
    table.insert(2, "bytes", np.asarray(bytes_of_targets).sum(1))
    table.insert(0, "document", np.asarray(document))
    return Measured(table, stored / len(windows))


def keys_and_values(model, windows: np.ndarray, *, chunk: int = CHUNK) -> list[tuple[Any, Any]]:
    """For each layer its keys and values (n, heads, tokens, d) as the plain cache holds them.

    Keys are as attention uses them, after the rotary embedding. A windowed layer has its window.
    """
    from transformers import DynamicCache

    windows = _checked(model, windows)
    built = _read(model, windows, lambda: DynamicCache(config=model.config), chunk, len(windows))
    _, _, cache = next(built)
    return [(layer.keys, layer.values) for layer in cache.layers]


def _read(model, windows, make, chunk: int, batch: int):
    """(first window, last hidden states (b, T - 1, width), the filled cache) of each batch."""
    import torch

    chunk, batch = whole("the chunk", chunk), whole("the batch", batch)
    device = next(model.parameters()).device
    with torch.inference_mode(), likelihood.still(model):
        for first in range(0, len(windows), batch):
            ids = torch.from_numpy(windows[first : first + batch, :-1]).to(device)  # (b, T - 1)
            cache = make()
            states = [
                model.base_model(
                    input_ids=part, past_key_values=cache, use_cache=True
                ).last_hidden_state
                for part in ids.split(chunk, 1)
            ]
            yield first, torch.cat(states, 1), cache


def _compared(model, states, before, target) -> dict[str, float]:
    """Sums over one window: ``states`` and ``before`` (t, width), ``target`` (t,)."""
    head = model.get_output_embeddings()
    result = {"nats": 0.0, "tokens": len(target), "kl": 0.0, "agree": 0}
    step = max(1, likelihood.ROWS // head.weight.shape[0])
    for part in range(0, len(target), step):
        current = slice(part, part + step)
        log_p = head(states[current]).float().log_softmax(-1)  # (step, V)
        log_q = head(before[current]).float().log_softmax(-1)
        result["nats"] -= log_p.gather(-1, target[current, None]).double().sum().item()
        result["agree"] += (log_p.argmax(-1) == log_q.argmax(-1)).sum().item()
        result["kl"] += ((log_q - log_p) * log_q.exp()).double().sum().item()
    return result


def _checked(model, windows: np.ndarray) -> np.ndarray:
    config = model.config.get_text_config()
    for name in UNTOLD:
        if getattr(config, name, None) not in (None, 1, 1.0):
            raise ValueError(f"{config.model_type} has {name}: not measured with caches here")
    windows = likelihood._checked(windows, model, None)
    if (windows == likelihood.PADDING).any():
        raise ValueError("windows must be full: padding would go into the cache")
    return windows


# --- facts in a long text

# A haystack is running text with sentences such as "The secret word of Alice is lemon." spread over
# it. The text goes into the cache once; then each question is put to a copy of that cache. The
# answer is one word, scored by its likelihood and by whether it is the likeliest (which is what
# greedy decoding would say). All facts have one form, so a model that does not look answers with a
# word it saw, and is right once in as many times as there are facts.
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


# --- the command

KINDS = {
    "quality": through_cache,
    "long": through_cache,
    "layer": coding_errors,
    "needle": needles,
}


def measure(config: Row) -> Row:
    """One row."""
    return KINDS[config["what"]](config)


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add, names = parser.add_argument, (lambda text: text.split(","))
    add("--what", type=names, default=list(KINDS), help=f"kinds of rows: {', '.join(KINDS)}")
    models = "names of sizewise.models.pretrained; the first gets all rows, the others a few"
    add("--models", type=names, default=["smollm2-135m"], help=models)
    documents = "a window of each (quality); further models read half as many"
    add("--documents", type=int, default=16, help=documents)
    contexts = "tokens of the texts with facts (needle)"
    add(
        "--contexts",
        type=lambda text: [int(n) for n in text.split(",")],
        default=list(CONTEXTS),
        help=contexts,
    )
    add("--haystacks", type=int, default=4, help=f"texts with {NEEDLES} facts each (needle)")
    add("--threads", type=int, default=2, help="of torch; losses differ in the last digits")
    output = records.path("kv_quality")
    add("--output", type=Path, default=output, help="another file than data/kv_quality.jsonl")
    add("--having", help="only rows that say this of how they store: center, sink, plain")
    add("--list", action="store_true", help="print the rows and measure none")
    args = parser.parse_args(argv)
    for kind in args.what:
        if kind not in KINDS:
            raise units.unknown("kind of row", kind, KINDS)
    for model in args.models:
        if model not in (causal := pretrained.names("causal")):
            raise units.unknown("language model", model, causal)
    return args


def main() -> None:
    try:
        args = arguments()
        subset = [row for kind in args.what for row in rows(kind, args)]
        subset = [row for row in subset if not args.having or row.get(args.having)]
        # Model by model, in this process: models are large and kept between rows.
        subset.sort(key=lambda row: args.models.index(row["model"]))
        if args.list:
            for row in subset:
                print("  ".join(f"{name} {value}" for name, value in row.items()))
            return
        import torch

        torch.set_num_threads(args.threads)
        engine.run_all(measure, subset, args.output, workers=1, backend="here")
    except (ValueError, RuntimeError) as error:
        sys.exit(f"kv_quality: {error}")


if __name__ == "__main__":
    main()
