"""How well a model predicts text: nats and bytes a window, and how far it is from another model.

Perplexity a token does not compare across tokenizers, since each cuts text into other tokens.
Bits a byte do: the same text has the same bytes. Both are ratios of sums over windows
(`bits_per_byte`, `perplexity`); `bootstrap.ratio` puts an interval around the first.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import numpy as np

from sizewise.validation import whole

PADDING = -1  # in a window: no token; it is neither predicted nor counted
MOST_LOGITS = 1 << 27  # elements held at once, of the model and of its reference together
ROWS = 1 << 24  # logits that are turned to fp32 at a time


def documents(
    tokenizer, texts: Iterable[str], context: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut texts into windows: tokens (n, context), bytes of their targets (n, context - 1), and
    the number of each window's text (n,).

    No window crosses texts. Neighbours share one token, the last of one being the first of the
    next, so that every token but a text's first is predicted once. Where the tokenizer starts a
    text with a token of its own (Gemma's ``<bos>``), each window starts with it, and the first is
    predicted too. What does not fill a window is left out. Raises ValueError for a context under 2,
    and if no window is left.
    """
    context = whole("the context", context, 1 << 24, 2)
    opening = start(tokenizer)
    step = context - 1
    windows, sizes, numbers = [], [], []
    for number, text in enumerate(texts):
        ids, sizes_of = token_bytes(tokenizer, text)
        end = len(ids) - (0 if opening else 1)  # tokens that can be predicted
        for first in range(0, end - step + 1, step):
            target = first + (0 if opening else 1)
            windows.append([*opening, *ids[first : target + step]])
            sizes.append(sizes_of[target : target + step])
            numbers.append(number)
    if not windows:
        raise ValueError(f"no text has the {context} tokens of a window")
    return np.array(windows, np.int64), np.array(sizes, np.int64), np.array(numbers, np.int64)


def token_bytes(tokenizer, text: str) -> tuple[list[int], list[int]]:
    """The tokens of a text and the UTF-8 bytes that each stands for, which sum to the text's.

    A token's bytes are those from where the one before ended to its own end in the text, so that
    a space which a tokenizer drops belongs to the token after it. Where several tokens make one
    character, its bytes are the first one's.
    """
    result = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    ends = np.array([end for _, end in result["offset_mapping"]], np.int64)
    until = np.zeros(len(text) + 1, np.int64)  # bytes before each character
    points = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    np.cumsum(1 + (points > 0x7F) + (points > 0x7FF) + (points > 0xFFFF), out=until[1:])
    if len(ends):
        ends[-1] = len(text)
    ended = until[np.maximum.accumulate(ends)] if len(ends) else ends
    return list(result["input_ids"]), np.diff(ended, prepend=0).tolist()


def measure(
    model,
    windows: np.ndarray,
    *,
    bytes_of_targets: np.ndarray | None = None,
    document: np.ndarray | None = None,
    reference=None,
    batch: int = 8,
    progress: Callable[[int, int], None] | None = None,
):
    """A data frame with one row a window of ``windows`` (n, T), each token but the first predicted.

    ``nats`` is the sum of -log p over the targets, ``tokens`` their number, ``bytes`` the sum of
    ``bytes_of_targets`` (n, T - 1), ``document`` is passed on. Against a ``reference`` model:
    ``kl``, the sum of KL(reference || model) over the positions in nats, and ``agree``, at how
    many of them both give the same token the highest probability.

    ``batch`` windows at most go through the model at once, fewer where their logits would be
    over `MOST_LOGITS` elements. ``progress`` gets (windows done, windows). Logits are summed
    in fp32, windows in float64. A model that overflows gives nan, which `bootstrap` refuses.
    Raises ValueError for windows of another shape, or tokens that the model has not.
    """
    import pandas
    import torch

    batch = whole("the batch", batch)
    windows = _checked(windows, model, reference)
    stored = (2 if reference is not None else 1) * (windows.shape[1] - 1) * _entries(model)
    batch = max(1, min(batch, MOST_LOGITS // stored))
    rows: dict[str, list] = {}
    with torch.no_grad(), still(model), still(reference):
        for first in range(0, len(windows), batch):
            group = torch.from_numpy(windows[first : first + batch])  # (b, T)
            for name, values in sums(model, group[:, :-1], group[:, 1:], reference).items():
                rows.setdefault(name, []).extend(values.tolist())
            if progress:
                progress(min(first + batch, len(windows)), len(windows))
    table = pandas.DataFrame(rows)
    if bytes_of_targets is not None:
        sizes = np.asarray(bytes_of_targets)
        if sizes.shape != (len(windows), windows.shape[1] - 1):
            raise ValueError(f"bytes of targets are {sizes.shape} for windows {windows.shape}")
        table.insert(2, "bytes", np.where(windows[:, 1:] == PADDING, 0, sizes).sum(1))
    if document is not None:
        table.insert(0, "document", np.asarray(document))
    return table


BITS_PER_BYTE = ("nats", "bytes", 1 / math.log(2))  # top, bottom and scale for `bootstrap`


def bits_per_byte(table) -> float:
    """Bits that the model needs for a byte of text, of a table that `measure` made.

    Raises ValueError where a window's loss is not finite.
    """
    return _nats(table) / float(table.bytes.sum()) / math.log(2)


def perplexity(table) -> float:
    """exp of the mean nats a token; inf above 1e304. Compares only models of one tokenizer.

    Raises ValueError where a window's loss is not finite.
    """
    mean = _nats(table) / float(table.tokens.sum())
    return math.exp(mean) if mean < 700 else math.inf


def _nats(table) -> float:
    """The sum of the losses. pandas would leave NaN out, and call a broken model perfect."""
    broken = int((~np.isfinite(table.nats.to_numpy())).sum())
    if broken:
        raise ValueError(f"the loss of {broken} of {len(table)} windows is not finite")
    return float(table.nats.sum())


def sums(model, ids, targets, reference=None) -> dict:
    """Of one batch: the columns of `measure` for each row, as tensors (b,) on the CPU.

    ``ids`` (b, t) are read, ``targets`` (b, t) are predicted, one place ahead of them; where a
    target is `PADDING` nothing is counted.
    """
    import torch

    device = next(model.parameters()).device
    ids, targets = ids.clamp(min=0), targets.to(device)
    is_target = targets != PADDING
    logits = _logits(model, ids)  # (b, t, V)
    other = None if reference is None else _logits(reference, ids).to(device)
    shape = targets.shape
    result = {"nats": torch.zeros(shape, dtype=torch.float64, device=device), "tokens": is_target}
    if reference is not None:
        result |= {"kl": torch.zeros_like(result["nats"]), "agree": torch.zeros_like(is_target)}
    step = max(1, ROWS // (logits.shape[0] * logits.shape[2]))
    for at in range(0, shape[1], step):
        part = slice(at, at + step)
        log_p = logits[:, part].float().log_softmax(-1)  # (b, step, V)
        selected = targets[:, part].clamp(min=0).unsqueeze(-1)  # (b, step, 1)
        result["nats"][:, part] = -log_p.gather(-1, selected).squeeze(-1).double()
        if other is not None:
            log_q = other[:, part].float().log_softmax(-1)  # (b, step, V)
            result["agree"][:, part] = log_p.argmax(-1) == log_q.argmax(-1)
            # an entry that the reference rules out adds 0, as x log x does at 0
            difference = (log_q - log_p).masked_fill_(log_q.isneginf(), 0)
            result["kl"][:, part] = difference.mul_(log_q.exp_()).sum(-1, dtype=torch.float64)
    return {name: values.where(is_target, 0).sum(1).cpu() for name, values in result.items()}


def _logits(model, ids):
    device = next(model.parameters()).device
    return model(input_ids=ids.to(device), use_cache=False).logits


@contextmanager
def still(model) -> Iterator[None]:
    """The model without dropout, and afterwards as it was; None is no model."""
    trained = model is not None and model.training
    if trained:
        model.eval()
    try:
        yield
    finally:
        if trained:
            model.train()


def start(tokenizer) -> list[int]:
    """What the tokenizer puts before a text: nothing, or one token."""
    plain = tokenizer("a", add_special_tokens=False)["input_ids"]
    full = tokenizer("a")["input_ids"]
    return full[:1] if full[1 : 1 + len(plain)] == plain else []


def _entries(model) -> int:
    return int(model.config.get_text_config().vocab_size)


def _checked(windows, model, reference) -> np.ndarray:
    windows = np.ascontiguousarray(windows, np.int64)
    if windows.ndim != 2 or windows.shape[1] < 2 or not len(windows):
        raise ValueError(f"windows must be (n, T) with T over 1, got shape {windows.shape}")
    for entry in (model, reference):
        if entry is not None and not PADDING <= windows.min() <= windows.max() < _entries(entry):
            raise ValueError(
                f"windows hold tokens {windows.min()} to {windows.max()}, "
                f"and the model has {_entries(entry)}"
            )
    if (windows[:, 0] == PADDING).any():
        raise ValueError("a window starts with padding; it stands at the end")
    return windows
