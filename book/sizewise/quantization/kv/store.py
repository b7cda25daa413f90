"""Keys or values of one layer as bytes: encoded as they come, in buffers that grow.

What a method stores for a token (codes, norms, scales) lies in one buffer a field, tokens along
axis 2. A method that shares ranges among tokens (KIVI's keys) stores whole groups; tokens of an
unfinished group wait in full precision, as do the first ``sink`` and the newest ``residual`` ones.

Keys may have a large part in common with all others of their head (a bias of the projection, in
Qwen 2.5), which every code rounds again and again. It can be taken out before encoding: the mean
of the first tokens that were encoded, after undoing the rotary embedding if it is told how, since a
constant that was rotated by its position is constant no more.
"""

from functools import lru_cache
from typing import Any

from sizewise.quantization.packing import Coded
from sizewise.units import unknown
from sizewise.validation import whole

GROUP = 32  # tokens that share a channel's range: KIVI, Liu et al. 2024
SLACK = 64  # tokens; buffers grow by an eighth, in steps of this


class Plain:
    """Vectors as they are."""

    group = 1

    def encode(self, x):
        return Coded(x)

    def decode(self, coded, dtype):
        return coded.packed.to(dtype)


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
    model's type). ``dropped`` counts tokens that a window has left behind. ``center``: the mean of
    the first encoded tokens is taken out, after ``rope``, if any, is undone.
    """

    def __init__(self, coder, residual=0, sink=0, plain=None, center=False, rope=None):
        self.codec, self.plain, self.center, self.rope = coder, plain, center, rope
        self.residual = whole("the residual window", residual, least=0)
        self.sink = whole("the sink", sink, least=0)
        self.group = coder.group
        self.buffers: dict[str, Any] = {}
        self.first = self.length = self.dropped = 0
        self.sinks = self.recent = self.mean = None

    def __len__(self) -> int:
        """Tokens in the store."""
        return self.sinks.shape[2] + self.length - self.first + self.recent.shape[2]

    def append(self, x) -> None:
        """Take new vectors (batch, heads, new, d); those that leave ``recent`` are encoded."""
        import torch

        x = x if self.plain is None else x.to(self.plain)
        if self.recent is None:
            self.sinks, self.recent = x[:, :, :0].clone(), x[:, :, :0].clone()
        room = self.sink - self.dropped - self.sinks.shape[2]
        if room > 0 and len(self) == self.sinks.shape[2]:
            self.sinks, x = torch.cat([self.sinks, x[:, :, :room]], 2), x[:, :, room:]
        pending = torch.cat([self.recent, x], 2)
        ready = max(0, pending.shape[2] - self.residual) // self.group * self.group
        if ready:
            self._encode(pending[:, :, :ready])
        # cloned: a view would keep the whole prompt alive
        self.recent = pending[:, :, ready:].clone()

    def decoded(self, dtype):
        """All tokens in the store, (batch, heads, tokens, d)."""
        import torch

        parts = [part for part in (self.sinks, self.recent) if part.shape[2]]
        parts = [part.to(dtype) for part in parts]
        if self.length > self.first:
            parts.insert(bool(self.sinks.shape[2]), self._decoded(dtype))
        return parts[0] if len(parts) == 1 else torch.cat(parts, 2)

    def drop_first(self, count: int) -> None:
        """Forget the oldest tokens, of the encoded ones whole groups."""
        early = min(count, self.sinks.shape[2])
        encoded = min(count - early, self.length - self.first) // self.group * self.group
        self.first += encoded
        late = 0
        if self.first == self.length and self.group == 1:
            late = min(count - early - encoded, self.recent.shape[2])
        self.sinks, self.recent = self.sinks[:, :, early:].clone(), self.recent[:, :, late:].clone()
        self.dropped += early + encoded + late

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
        return [*self.buffers.values(), *self._plain()]

    @property
    def nbytes(self) -> int:
        """Bytes of what is filled."""
        return sum(part.nbytes for part in (*map(self.view, self.buffers), *self._plain()))

    def view(self, name: str):
        """The filled part of a field's buffer."""
        shared = self._shared(name)
        return self.buffers[name][:, :, self.first // shared : -(-self.length // shared)]

    def _plain(self) -> list:
        return [part for part in (self.sinks, self.recent, self.mean) if part is not None]

    def _encode(self, x) -> None:
        import torch

        if self.rope is not None:
            x = self.rope.undo(x, self._position() + self.length - self.first)
        if self.center:
            if self.mean is None:  # of these tokens, for good: codes of later ones rely on it
                self.mean = x.float().mean(2, keepdim=True).to(x.dtype)  # (batch, heads, 1, d)
            x = x - self.mean
        present = self.codec.encode(x).tensors()
        if not self.buffers:
            self.buffers = {
                name: tensor.new_empty((*tensor.shape[:2], 0, *tensor.shape[3:]))
                for name, tensor in present.items()
            }
        if self.length + x.shape[2] > self.buffers["packed"].shape[2]:
            retained = self.length - self.first + x.shape[2]
            self._resize(-(-(retained + retained // 8) // SLACK) * SLACK)
        for name, tensor in present.items():
            if tensor.dtype == torch.float32 != self.buffers[name].dtype:  # past fp16's range
                self.buffers[name] = self.buffers[name].float()
            at = self.length // self._shared(name)
            self.buffers[name][:, :, at : at + tensor.shape[2]] = tensor
        self.length += x.shape[2]

    def _decoded(self, dtype):
        """The encoded tokens."""
        x = self.codec.decode(Coded(**{name: self.view(name) for name in self.buffers}), dtype)
        if self.mean is not None:
            x = x + self.mean.to(x.dtype)
        return x if self.rope is None else self.rope.apply(x, self._position())

    def _position(self) -> int:
        """The position in the text of the first encoded token that is there."""
        return self.dropped + self.sinks.shape[2]

    def _shared(self, name: str) -> int:
        """Tokens that an entry of a field stands for."""
        return self.group if name in ("scales", "zeros") else 1

    def _resize(self, capacity: int) -> None:
        """Move what is filled to the start of buffers for ``capacity`` tokens."""
        for name, tensor in self.buffers.items():
            filled, entries = self.view(name), -(-capacity // self._shared(name))
            self.buffers[name] = tensor.new_empty((*tensor.shape[:2], entries, *tensor.shape[3:]))
            self.buffers[name][:, :, : filled.shape[2]] = filled
        self.first, self.length = 0, self.length - self.first
