"""Several continuations of one text in one pass: what they share goes through the model once.

Continuations that begin alike are laid out in one row, the common part first and then each one's
own tokens. A mask lets a token see the common part and its own continuation, and its position is
the one that it would have alone, so its logits are those of a pass of its own. That saves what a
key-value cache of the common part would save, in one pass instead of two, without the cache.
The output matrix is applied where something is predicted and nowhere else.
"""

from collections.abc import Sequence
from dataclasses import dataclass

SEEING_ALL = ("full_attention", "sliding_attention")  # layers that one mask is right for
MOST_LOGITS = 1 << 25  # elements that are held at once; 128 MiB in fp32


@dataclass(frozen=True)
class Row:
    """Tokens of a text and a continuation; the last ``scored`` ones are predicted."""

    ids: tuple[int, ...]
    scored: int


@dataclass(frozen=True)
class Tree:
    """Rows with a common start as one sequence of ``len(ids)`` tokens.

    ``segments`` is 0 in the common part and i + 1 in the i-th row's own. ``targets`` holds, for
    each row, the pairs (place in ``ids``, the token that comes next) that are scored.
    """

    ids: tuple[int, ...]
    positions: tuple[int, ...]
    segments: tuple[int, ...]
    targets: tuple[tuple[tuple[int, int], ...], ...]

    @property
    def places(self) -> int:
        """Places at which the model predicts, each once however many rows ask for it."""
        return len({position for pairs in self.targets for position, _ in pairs})


def refusal(model) -> str | None:
    """Why rows cannot share their start in this model, or None if they can.

    The way needs attention that takes a mask and positions: rotary ones, and no state that runs
    through the sequence.
    """
    config = model.config.get_text_config()
    if getattr(model, "_is_stateful", False):
        return "the model carries a state through the sequence"
    if strange := set(getattr(config, "layer_types", None) or ()) - set(SEEING_ALL):
        return f"the model has layers of the kind {min(strange)}"
    if not getattr(config, "rope_parameters", None):
        return "the model has no rotary positions"
    if config._attn_implementation not in ("sdpa", "eager"):
        return f"{config._attn_implementation} takes no mask of its own"
    return None


def fits(model, rows: Sequence[Row]) -> bool:
    """Whether every row lies within the model's attention window, if it has one."""
    window = getattr(model.config.get_text_config(), "sliding_window", None)
    return not window or max(len(row.ids) for row in rows) <= window


def tree(rows: Sequence[Row]) -> Tree:
    """Rows laid out in one sequence. A row's last token is predicted, so it is not read."""
    first, read = rows[0].ids, min(len(row.ids) for row in rows) - 1
    common = next((at for at in range(read) if any(row.ids[at] != first[at] for row in rows)), read)
    ids, positions, segments = list(first[:common]), list(range(common)), [0] * common
    text = []
    for number, row in enumerate(rows, 1):
        size, shift = len(row.ids), len(ids) - common
        ids += row.ids[common:-1]
        positions += range(common, size - 1)
        segments += [number] * (size - 1 - common)
        before = range(size - row.scored - 1, size - 1)
        text.append(tuple((at if at < common else at + shift, row.ids[at + 1]) for at in before))
    return Tree(tuple(ids), tuple(positions), tuple(segments), tuple(text))


def nats(model, trees: Sequence[Tree]) -> list[list[float]]:
    """-log p of each row's scored tokens, summed, for each tree; all go through together.

    Sequences are filled up at their ends, where nothing looks. Logits are taken to fp32, sums are
    made in float64. Gradients and dropout are the caller's affair, and so are `refusal` and
    `fits` where a tree has several rows. Raises ValueError for trees of one row among trees of
    several: one row may be longer than the window that the mask of the others does not know.
    """
    import torch

    several = {len(entry.targets) > 1 for entry in trees}
    if len(several) > 1:
        raise ValueError("trees of one row cannot go through with trees of several")

    device = next(model.parameters()).device
    shape = len(trees), max(len(entry.ids) for entry in trees)
    ids, positions = torch.zeros(shape, dtype=torch.int64), torch.zeros(shape, dtype=torch.int64)
    segments = torch.full(shape, -1)
    for at, entry in enumerate(trees):
        size = len(entry.ids)
        ids[at, :size] = torch.tensor(entry.ids)
        positions[at, :size] = torch.tensor(entry.positions)
        segments[at, :size] = torch.tensor(entry.segments)
    value = {"input_ids": ids.to(device)}
    if True in several:
        value |= {
            "position_ids": positions.to(device),
            "attention_mask": _mask(segments, model.dtype).to(device),
        }
    pairs = [
        (row, number, position, token)
        for row, entry in enumerate(trees)
        for number, text in enumerate(entry.targets)
        for position, token in text
    ]
    places = sorted({(row, position) for row, _, position, _ in pairs})
    index = {position: at for at, position in enumerate(places)}
    logits = _logits(model, value, torch.tensor(places, device=device))  # (n, V)
    step = max(1, (1 << 22) // logits.shape[1])
    total = torch.cat([part.float().logsumexp(-1) for part in logits.split(step)])  # (n,)
    at = torch.tensor([index[row, position] for row, _, position, _ in pairs], device=device)
    tokens = torch.tensor([token for *_, token in pairs], device=device)
    losses = (total[at].double() - logits[at, tokens].double()).tolist()  # (pairs,)
    result = [[0.0] * len(entry.targets) for entry in trees]
    for (row, number, _, _), loss in zip(pairs, losses, strict=True):
        result[row][number] += loss
    return result


def _mask(segments, dtype):
    """0 where a token may look and the least number where not: (b, 1, t, t) of (b, t)."""
    import torch

    query, key = segments[:, :, None], segments[:, None, :]  # the token that looks, and its keys
    seen = (
        (key == 0) | (key == query)
    ).tril()  # (b, t, t); padding sees padding, so no row is empty
    mask = torch.zeros(seen.shape, dtype=dtype)
    return mask.masked_fill_(~seen, torch.finfo(dtype).min)[:, None]


def _logits(model, value, places):
    """Logits (n, V) at ``places`` (n, 2) of (b, t), the output matrix applied to these alone."""
    rows, columns = places.T
    head = model.get_output_embeddings()
    if head is None:
        return model(**value, use_cache=False).logits[rows, columns]
    # before the head, so that what the model does to its logits afterwards still happens
    hook = head.register_forward_pre_hook(
        lambda _, inputs: (inputs[0][rows, columns][None], *inputs[1:])
    )
    try:
        return model(**value, use_cache=False).logits[0]
    finally:
        hook.remove()
