"""Keys or values of one layer as bytes: encoded as they come, in buffers that grow.

What a method stores for a token (codes, norms, scales) lies in one buffer a field, tokens along
axis 2. A method that shares ranges among tokens (KIVI's keys) stores whole groups; tokens of an
unfinished group wait in full precision, as do the first ``sink`` and the newest ``residual`` ones.

Keys may have a large part in common with all others of their head (a bias of the projection, in
Qwen 2.5), which every code rounds again and again. ``Remedy`` takes it out before encoding: the
mean of the first tokens that were encoded, after undoing the rotary embedding if it is told how,
since a constant that was rotated by its position is constant no more.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sizewise.quantization.packing import Coded
from sizewise.units import unknown
from sizewise.validation import whole

from .rope import Rope

GROUP = 32  # tokens that share a channel's range: KIVI, Liu et al. 2024
SLACK = 64  # tokens; buffers grow by an eighth, in steps of this


class Plain:
    """Vectors as they are, or in another type."""

    def encode(self, x):
        return Coded(x)

    def decode(self, coded, dtype=None):
        return coded.packed if dtype is None else coded.packed.to(dtype)


@dataclass(frozen=True)
class Remedy:
    """What is taken out of vectors before they are encoded: their mean, their rotary embedding."""

    mean: bool = False
    rope: Rope | None = None


def methods() -> tuple[str, ...]:
    """What keys and values can be stored as."""
    from sizewise.quantization.turboquant.codec import VARIANTS

    same = tuple(name for name in VARIANTS if name not in ("mse", "prod"))
    return ("turboquant", "prod", *same, "kivi", "uniform", "int8", "fp8", "plain")


@lru_cache(maxsize=64)
def codec(method: str, bits: int, dim: int, side: str, rotation: str, seed: int):
    """The encoder of a method for vectors of ``dim``, shared by all layers.

    Raises ValueError for unknown methods, and for bits or dim that a method cannot do.
    """
    from sizewise.quantization.turboquant import codec as turboquant

    from . import baselines

    if method not in methods():
        raise unknown("cache method", method, methods())
    if method == "plain":
        return Plain()
    if method in ("fp8", "int8"):
        return baselines.EightBit(dim, method)
    if method == "uniform" or (method == "kivi" and side == "values"):
        return baselines.PerToken(dim, bits)
    if method == "kivi":
        return baselines.PerChannel(dim, bits, GROUP)
    variant = "mse" if method == "turboquant" else method
    return turboquant.TurboQuant(dim, bits, variant=variant, rotation=rotation, seed=seed)


class Store:
    """One side of one layer.

    ``first`` and ``length`` bound the encoded tokens within the buffers; ``sinks`` and ``recent``
    hold the oldest and the newest ones, (batch, heads, tokens, d), in ``plain`` (None: the
    model's type). ``dropped`` counts tokens that a window has left behind.
    """

    def __init__(self, coder, residual: int = 0, sink: int = 0, plain=None, remedy=None):
        self.codec, self.plain, self.remedy = coder, plain, remedy or Remedy()
        self.residual = whole("the residual window", residual, least=0)
        self.sink = whole("the sink", sink, least=0)
        self.group = getattr(coder, "group", 1)
        self.buffers: dict[str, Any] = {}
        self.first = self.length = self.dropped = 0
        self.sinks = self.recent = self.mean = None

    def __len__(self) -> int:
        """Tokens in the store."""
        return self.length - self.first + _tokens(self.sinks) + _tokens(self.recent)

    def append(self, x) -> None:
        """Take new vectors (batch, heads, new, d); those that leave ``recent`` are encoded."""
        import torch

        x = x if self.plain is None else x.to(self.plain)
        room = self.sink - self.dropped - _tokens(self.sinks)
        if room > 0 and self.length == self.first and not _tokens(self.recent):
            taken, x = x[:, :, :room], x[:, :, room:]
            self.sinks = taken.clone() if self.sinks is None else torch.cat([self.sinks, taken], 2)
        pending = x if self.recent is None else torch.cat([self.recent, x], 2)
        ready = max(0, pending.shape[2] - self.residual) // self.group * self.group
        if ready:
            self._encode(pending[:, :, :ready])
        # cloned: a view would keep the whole prompt alive
        self.recent = pending[:, :, ready:].clone() if ready else pending

    def decoded(self, dtype):
        """All tokens in the store, (batch, heads, tokens, d)."""
        import torch

        parts = [] if self.sinks is None else [self.sinks.to(dtype)]
        if self.length > self.first:
            parts.append(self._decoded(0, self.length - self.first, dtype))
        if _tokens(self.recent) or not parts:
            parts.append(self.recent.to(dtype))
        return parts[0] if len(parts) == 1 else torch.cat(parts, 2)

    def drop_first(self, count: int) -> None:
        """Forget the oldest tokens, whole groups of them."""
        count = min(count, len(self))
        early = min(count, _tokens(self.sinks))
        if early:
            self.sinks = self.sinks[:, :, early:].clone()
        encoded = min(count - early, self.length - self.first) // self.group * self.group
        self.first += encoded
        late = 0
        if self.first == self.length and count > early + encoded and self.group == 1:
            late = count - early - encoded
            self.recent = self.recent[:, :, late:].clone()
        self.dropped += early + encoded + late

    def drop_last(self, count: int) -> None:
        """Forget the newest tokens. Of a group that is cut, the rest waits decoded."""
        import torch

        if not count:
            return
        waiting = _tokens(self.recent)
        if count <= waiting:
            self.recent = self.recent[:, :, : waiting - count].clone()
            return
        empty, count = self.recent[:, :, :0].clone(), count - waiting
        current = self.length - self.first
        retained = max(0, current - count)
        whole_groups = retained // self.group * self.group
        if retained > whole_groups:
            part = self._decoded(whole_groups, retained, empty.dtype)
            empty = torch.cat([part, empty], 2)
        self.length, self.recent = self.first + whole_groups, empty
        if count > current and self.sinks is not None:
            self.sinks = self.sinks[:, :, : max(0, _tokens(self.sinks) - (count - current))].clone()

    def rows(self, pick) -> None:
        """Apply ``pick`` (a tensor in, another number of rows out) to all tensors."""
        self.buffers = {name: pick(tensor) for name, tensor in self.buffers.items()}
        for name in ("sinks", "recent", "mean"):
            if getattr(self, name) is not None:
                setattr(self, name, pick(getattr(self, name)))

    def trim(self) -> None:
        """Give back what is allocated and not filled."""
        if self.length > self.first:
            self._resize(self.length - self.first)

    def tensors(self) -> list:
        plain = [part for part in (self.sinks, self.recent, self.mean) if part is not None]
        return [*self.buffers.values(), *plain]

    @property
    def nbytes(self) -> int:
        """Bytes of what is filled."""
        filled = [self.view(name) for name in self.buffers]
        plain = [part for part in (self.sinks, self.recent, self.mean) if part is not None]
        return sum(tensor.numel() * tensor.element_size() for tensor in (*filled, *plain))

    def view(self, name: str):
        """The filled part of a field's buffer."""
        return self.buffers[name][:, :, self._span(name, 0, self.length - self.first)]

    def reserve(self, count: int) -> int:
        """Room for ``count`` more encoded tokens; where the first of them goes."""
        needed = self.length + count
        if needed > self._capacity():
            retained = self.length - self.first + count
            if self.first and retained + SLACK <= self._capacity():
                self._resize(self._capacity())  # enough was dropped in front: move to there
            else:
                self._resize(-(-(retained + retained // 8) // SLACK) * SLACK)
        return self.length

    def _encode(self, x) -> None:
        import torch

        if self.remedy.rope is not None:
            x = self.remedy.rope.undo(x, self._position(self.length - self.first))
        if self.remedy.mean:
            if self.mean is None:  # of these tokens, for good: codes of later ones rely on it
                self.mean = x.float().mean(2, keepdim=True).to(x.dtype)  # (batch, heads, 1, d)
            x = x - self.mean
        present = self.codec.encode(x).tensors()
        if not self.buffers:
            self.buffers = {
                name: tensor.new_empty((*tensor.shape[:2], 0, *tensor.shape[3:]))
                for name, tensor in present.items()
            }
        start = self.reserve(x.shape[2])
        for name, tensor in present.items():
            if tensor.dtype == torch.float32 != self.buffers[name].dtype:  # past fp16's range
                self.buffers[name] = self.buffers[name].float()
            at = start // self._shared(name)
            self.buffers[name][:, :, at : at + tensor.shape[2]] = tensor
        self.length = start + x.shape[2]

    def _decoded(self, start: int, end: int, dtype):
        """Encoded tokens from ``start`` to ``end``, counted from the first that is there."""
        fields = {
            name: self.buffers[name][:, :, self._span(name, start, end)] for name in self.buffers
        }
        x = self.codec.decode(Coded(**fields), dtype)
        if self.mean is not None:
            x = x + self.mean.to(x.dtype)
        if self.remedy.rope is not None:
            x = self.remedy.rope.apply(x, self._position(start))
        return x

    def _position(self, number: int) -> int:
        """The position in the text of an encoded token, counted from the first that is there."""
        return self.dropped + _tokens(self.sinks) + number

    def _shared(self, name: str) -> int:
        """Tokens that an entry of a field stands for."""
        return self.group if name in ("scales", "zeros") else 1

    def _span(self, name: str, start: int, end: int) -> slice:
        shared = self._shared(name)
        return slice((self.first + start) // shared, -(-(self.first + end) // shared))

    def _capacity(self) -> int:
        return self.buffers["packed"].shape[2] if self.buffers else 0

    def _resize(self, capacity: int) -> None:
        for name, tensor in self.buffers.items():
            entries = -(-capacity // self._shared(name))
            new = tensor.new_empty((*tensor.shape[:2], entries, *tensor.shape[3:]))
            filled = self.view(name)
            new[:, :, : filled.shape[2]] = filled
            self.buffers[name] = new
        self.first, self.length = 0, self.length - self.first


def _tokens(part) -> int:
    return 0 if part is None else part.shape[2]
