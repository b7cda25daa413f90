"""What a model is made of, as far as memory and time are concerned: plain, without torch.

A `Model` is its layers and, for each, what attention or a recurrent state keeps and reads, and
its tensors. `from_config` makes one of a `transformers` configuration; `costs.memory` puts bits on
it, `costs.roofline` seconds.

A layer's cache is written as `Span`s: at a context of n tokens a span holds
``min(n // stride, limit)`` positions of ``vectors`` vectors of ``width`` values. One form covers
full attention (stride 1, no limit), a window (limit), and caches that keep one entry for several
tokens (stride).
"""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from itertools import groupby
from typing import Any, NamedTuple


class Span(NamedTuple):
    """Vectors: ``vectors`` of ``width`` values at each of min(n // stride, limit) positions."""

    vectors: int
    width: int
    limit: int | None = None
    stride: int = 1


class Scores(NamedTuple):
    """Work of one query: ``operations`` (FLOPs) for each of min(n // stride, limit) keys."""

    operations: int
    limit: int | None = None
    stride: int = 1


@dataclass(frozen=True)
class Grouped:
    """Attention with a key and a value a head; ``kv_heads`` of them serve ``query_heads``.

    Multi-head (kv_heads = query_heads) and multi-query (1) are its ends: Ainslie et al. 2023.
    A layer with ``window`` needs the last ``window`` tokens, chunked attention at most one chunk;
    a layer that ``shares_kv`` reads an earlier layer's cache and holds none.
    """

    query_heads: int
    kv_heads: int
    head_dim: int
    value_dim: int
    window: int | None = None
    shares_kv: bool = False

    def stored(self, absorbed: bool = True) -> tuple[Span, ...]:
        return () if self.shares_kv else self.read(absorbed)

    def read(self, absorbed: bool = True) -> tuple[Span, ...]:
        return (
            Span(self.kv_heads, self.head_dim, self.window),
            Span(self.kv_heads, self.value_dim, self.window),
        )

    def scores(self, absorbed: bool = True) -> tuple[Scores, ...]:
        return (Scores(2 * self.query_heads * (self.head_dim + self.value_dim), self.window),)


@dataclass(frozen=True)
class Latent:
    """Multi-head latent attention: one compressed vector and one rotary key for all heads.

    DeepSeek-V2 (2024), section 2.1. ``absorbed`` stores the compressed vector, as the paper and
    `transformers` do; otherwise the keys and values expanded for every head. With ``index_dim``,
    a small key a token picks the ``index_topk`` tokens that are attended to (DeepSeek-V3.2).
    """

    heads: int
    kv_lora_rank: int
    rope_dim: int
    key_dim: int  # of one head, without the rotary part
    value_dim: int
    index_heads: int = 0
    index_dim: int = 0
    index_topk: int | None = None

    def stored(self, absorbed: bool = True) -> tuple[Span, ...]:
        return self._keys(absorbed, None) + self._index()

    def read(self, absorbed: bool = True) -> tuple[Span, ...]:
        return self._keys(absorbed, self.index_topk) + self._index()

    def scores(self, absorbed: bool = True) -> tuple[Scores, ...]:
        width = (
            2 * self.kv_lora_rank + self.rope_dim
            if absorbed
            else self.key_dim + self.rope_dim + self.value_dim
        )
        attended = (Scores(2 * self.heads * width, self.index_topk),)
        return attended + ((Scores(2 * self.index_heads * self.index_dim),) * bool(self.index_dim))

    def _keys(self, absorbed: bool, limit: int | None) -> tuple[Span, ...]:
        if absorbed:
            return (Span(1, self.kv_lora_rank, limit), Span(1, self.rope_dim, limit))
        return (
            Span(self.heads, self.key_dim + self.rope_dim, limit),
            Span(self.heads, self.value_dim, limit),
        )

    def _index(self) -> tuple[Span, ...]:
        return (Span(1, self.index_dim),) if self.index_dim else ()


@dataclass(frozen=True)
class Compressed:
    """DeepSeek-V4's attention: a window of shared key-values, and one entry for ``rate`` tokens.

    Key and value are one vector of one head. Until ``rate`` tokens are there to be compressed,
    their projections and gates wait in a buffer, counted at its fullest (rate - 1 tokens). With
    ``overlap`` an entry also draws on the window before, whose projections are kept, and an
    indexer picks ``index_topk`` entries. Shapes as in `transformers`' deepseek_v4 classes.
    """

    query_heads: int
    head_dim: int
    window: int
    rate: int | None = None  # None: the window alone
    overlap: bool = False
    index_heads: int = 0
    index_dim: int = 0
    index_topk: int | None = None

    def stored(self, absorbed: bool = True) -> tuple[Span, ...]:
        spans = [Span(1, self.head_dim, self.window)]
        if self.rate:
            series = 2 if self.overlap else 1
            for width in filter(None, (self.head_dim, self.index_dim)):
                spans.append(Span(1, width, None, self.rate))
                spans.append(Span(2 * series, width, self.rate - 1))
                if self.overlap:
                    spans.append(Span(2 * self.rate, width, 1, self.rate))
        return tuple(spans)

    def read(self, absorbed: bool = True) -> tuple[Span, ...]:
        spans = [Span(1, self.head_dim, self.window)]
        if self.rate:
            spans.append(Span(1, self.head_dim, self.index_topk, self.rate))
        if self.rate and self.index_dim:
            spans.append(Span(1, self.index_dim, None, self.rate))
        return tuple(spans)

    def scores(self, absorbed: bool = True) -> tuple[Scores, ...]:
        score = 4 * self.query_heads * self.head_dim
        scores = [Scores(score, self.window)]
        if self.rate:
            scores.append(Scores(score, self.index_topk, self.rate))
        if self.rate and self.index_dim:
            scores.append(Scores(2 * self.index_heads * self.index_dim, None, self.rate))
        return tuple(scores)


@dataclass(frozen=True)
class StateSpace:
    """A state of fixed size: the last inputs of a short convolution, and a recurrent state.

    ``kind`` names the family: mamba, mamba2, delta (gated delta net, Kimi delta), lightning,
    rg_lru, or convolution (no recurrent state). The recurrent state is kept in fp32, as
    `transformers` keeps it, unless ``in_model_format``.
    """

    kind: str
    conv_shape: tuple[int, ...]
    recurrent_shape: tuple[int, ...] = ()
    in_model_format: bool = False

    @property
    def conv_values(self) -> int:
        return math.prod(self.conv_shape) if self.conv_shape else 0

    @property
    def recurrent_values(self) -> int:
        return math.prod(self.recurrent_shape) if self.recurrent_shape else 0


@dataclass(frozen=True)
class Cross:
    """Attention to another part's output, whose keys and values are computed once and kept.

    ``positions`` is that part's length where the architecture fixes it (1,500 frames of sound in
    Whisper, image tokens in Llama 3.2 Vision); None: as long as the context, as for a translation.
    """

    query_heads: int
    kv_heads: int
    head_dim: int
    positions: int | None = None

    def stored(self, absorbed: bool = True) -> tuple[Span, ...]:
        return (Span(2 * self.kv_heads * (self.positions or 1), self.head_dim, self._limit),)

    def scores(self, absorbed: bool = True) -> tuple[Scores, ...]:
        score = 4 * self.query_heads * self.head_dim * (self.positions or 1)
        return (Scores(score, self._limit),)

    read = stored

    @property
    def _limit(self) -> int | None:
        """One entry of all positions, where they are fixed: there from the first token on."""
        return 1 if self.positions else None


Attention = Grouped | Latent | Compressed | Cross
KINDS = {kind.__name__: kind for kind in (Grouped, Latent, Compressed, Cross)}


@dataclass(frozen=True)
class Layer:
    """One layer: attention, a recurrent state, both (Falcon-H1, Zamba) or neither.

    ``cross`` is what a decoder's layer attends to beside its own tokens.
    """

    attention: Attention | None = None
    state: StateSpace | None = None
    cross: Cross | None = None

    @property
    def attentions(self) -> tuple[Attention, ...]:
        return tuple(part for part in (self.attention, self.cross) if part is not None)


@dataclass(frozen=True, slots=True)
class Tensors:
    """Tensors of one name and shape. ``name`` has * for numbers; ``layers`` are the layers'."""

    name: str
    kind: str  # as `parameters.KINDS` names it
    shape: tuple[int, ...]
    count: int = 1
    layers: tuple[int, ...] = ()

    @property
    def elements(self) -> int:
        """Of one of them."""
        return math.prod(self.shape)

    @property
    def rows(self) -> int:
        """Vectors of the last dimension in one of them."""
        return math.prod(self.shape[:-1])

    @property
    def parameters(self) -> int:
        """Of all of them."""
        return self.count * self.elements

    @property
    def is_weight(self) -> bool:
        """Neither a bias nor a small tensor of a state space that no quantizer touches."""
        return not ("bias" in self.name or "conv" in self.name or "A_log" in self.name)

    @property
    def is_matrix(self) -> bool:
        """A weight of a linear layer, or several stacked as experts."""
        return self.is_weight and len(self.shape) >= 2 and min(self.shape[-2:]) > 1

    def modules(self) -> list[str]:
        """The names of the modules that own them, one a layer."""
        module = self.name.removesuffix(".weight")
        if not self.layers:
            return [module]
        return [module.replace("*", str(number), 1) for number in self.layers]


@dataclass(frozen=True)
class Model:
    """A model as data. Counts are numbers of parameters; None where not known.

    ``active`` are those that one token's forward pass can use, input embedding included.
    ``lookup`` is what a token reads a row of, not the whole: the input embedding unless it is
    also the output head, and Gemma's per-layer embeddings. ``mlp_width`` is the widest inner
    layer that one token goes through, all its experts together. ``vision`` are the parameters of
    towers for images and sound, which no token of text reads. ``kind`` is decoder, encoder or
    encoder-decoder. ``quantization`` is what the checkpoint's configuration says of its format.
    """

    name: str
    total: int | None
    active: int | None
    layers: tuple[Layer, ...]
    hidden_size: int
    vocab_size: int
    embedding: int = 0
    lookup: int = 0
    max_context: int | None = None
    config_type: str = ""
    experts: int | None = None
    experts_per_token: int | None = None
    mlp_width: int = 0
    vision: int = 0
    mtp: int = 0  # multi-token prediction, stored beside the model and in no count
    kind: str = "decoder"
    tensors: tuple[Tensors, ...] = field(default=(), repr=False)
    quantization: dict[str, Any] | None = field(default=None, repr=False, compare=False)
    assumptions: tuple[str, ...] = ()
    # What a checkpoint's headers list: (tensors, their type, bytes of all of them).
    stored: tuple[tuple[Tensors, str, int], ...] = field(default=(), repr=False)

    def __hash__(self) -> int:  # cheap, since plans look models up in caches
        return hash((self.name, self.total, self.active, len(self.layers), self.vocab_size))

    @cached_property
    def distinct_layers(self) -> tuple[tuple[Layer, int], ...]:
        """Each kind of layer with how many there are of it."""
        return tuple(Counter(self.layers).items())

    @property
    def attentions(self) -> Iterator[Attention]:
        """Every layer's attentions in turn."""
        return (part for layer in self.layers for part in layer.attentions)

    @property
    def expert_choice(self) -> tuple[int, int]:
        """Routed experts of a layer and how many a token uses; one of one in a dense model.

        Raises ValueError if it is not known how many a token uses.
        """
        if not self.experts:
            return 1, 1
        if not self.experts_per_token:
            raise ValueError(f"{self.name}: does not say how many experts a token uses")
        return self.experts, self.experts_per_token

    @property
    def routed(self) -> float:
        """Parameters of all routed experts: what a token leaves out is (1 - k/E) of them."""
        if self.total is None or self.active is None:
            return 0
        experts, used = self.expert_choice
        share = used / experts
        return (self.total - self.active) / (1 - share) if share < 1 else 0

    @property
    def inventory(self) -> tuple[Tensors, ...]:
        """Its tensors; none where its total was replaced, so that they no longer are the model."""
        expanded = sum(row.parameters for row in self.tensors)
        return self.tensors if expanded == self.total else ()


def to_json(model: Model) -> dict[str, Any]:
    """A model as short plain data: each different layer once, fields at their default left out."""
    distinct = list(dict.fromkeys(model.layers))
    plain = {
        f.name: getattr(model, f.name)
        for f in fields(model)
        if f.name not in ("layers", "tensors", "stored") and getattr(model, f.name) != f.default
    }
    return plain | {
        "layer_kinds": [
            {
                # An attention says which kind it is; a state needs not.
                name: asdict(part) | ({"is": type(part).__name__} if name != "state" else {})
                for name, part in vars(layer).items()
                if part
            }
            for layer in distinct
        ],
        # [which of them, how many in a row]
        "layers": [
            [kind, len(list(same))]
            for kind, same in groupby(distinct.index(layer) for layer in model.layers)
        ],
        "tensors": [
            [t.name, t.kind, list(t.shape), t.count, ranges(t.layers)] for t in model.tensors
        ],
    }


def from_json(plain: dict[str, Any]) -> Model:
    """The model of `to_json`'s data."""
    kinds = [
        Layer(**{name: _part(part) for name, part in layer.items()})
        for layer in plain["layer_kinds"]
    ]
    layers = tuple(kinds[kind] for kind, times in plain["layers"] for _ in range(times))
    tensors = tuple(
        Tensors(name, kind, tuple(shape), count, tuple(numbers(span)))
        for name, kind, shape, count, span in plain["tensors"]
    )
    others = {k: v for k, v in plain.items() if k not in ("layer_kinds", "layers", "tensors")}
    others["assumptions"] = tuple(others.get("assumptions", ()))
    others.setdefault("total", None)
    others.setdefault("active", None)
    return Model(layers=layers, tensors=tensors, **others)


def _part(plain: dict[str, Any]) -> Any:
    """An attention or a state from its fields."""
    kind = KINDS[plain["is"]] if "is" in plain else StateSpace
    sizes: dict[str, Any] = {
        name: tuple(v) if isinstance(v, list) else v for name, v in plain.items()
    }
    sizes.pop("is", None)
    return kind(**sizes)


def ranges(values: tuple[int, ...]) -> str:
    """``0-3,7`` for (0, 1, 2, 3, 7)."""
    spans: list[list[int]] = []
    for value in values:
        if spans and value == spans[-1][1] + 1:
            spans[-1][1] = value
        else:
            spans.append([value, value])
    return ",".join(f"{a}-{b}" if a != b else str(a) for a, b in spans)


def numbers(text: str) -> Iterator[int]:
    """The inverse of `ranges`."""
    for span in text.split(",") if text else ():
        first, _, last = span.partition("-")
        yield from range(int(first), int(last or first) + 1)
