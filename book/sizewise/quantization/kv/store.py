"""Keys or values of one layer as bytes: encoded as they come, in buffers that grow.

What a method stores for a token (codes, norms, scales) lies in one buffer a field, tokens along
axis 2. A method that shares ranges among tokens (KIVI's keys) stores whole groups; tokens of an
unfinished group wait in full precision, as do the newest ``residual`` ones.
"""

from functools import lru_cache

from sizewise import units
from sizewise.validation import whole

GROUP = 32  # tokens that share a channel's range: KIVI, Liu et al. 2024
SLACK = 64  # tokens; buffers grow by an eighth, in steps of this
FIELDS = ("packed", "norms", "signs", "residuals", "scales", "zeros")


class Plain:
    """Vectors as they are."""

    def encode(self, x):
        return Stored(x)

    def decode(self, coded, dtype=None):
        return coded.packed if dtype is None else coded.packed.to(dtype)


class Stored:
    """Fields of a method by name, those it has not being None."""

    def __init__(self, packed, **others):
        self.packed = packed
        for name in FIELDS[1:]:
            setattr(self, name, others.get(name))


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
        raise units.unknown("cache method", method, methods())
    if method == "plain":
        return Plain()
    if method == "fp8":
        return baselines.Float8(
            dim, scaled=False
        )  # one scale for all would have to know the future
    if method == "int8":
        return baselines.Int8(dim)
    if method == "uniform" or (method == "kivi" and side == "values"):
        return baselines.PerToken(dim, bits)
    if method == "kivi":
        return baselines.PerChannel(dim, bits, GROUP)
    variant = "mse" if method == "turboquant" else method
    return turboquant.TurboQuant(dim, bits, variant=variant, rotation=rotation, seed=seed)


class Store:
    """One side of one layer.

    ``first`` and ``length`` bound the encoded tokens within the buffers; ``recent`` holds the
    newest ones, (batch, heads, tokens, d), in the model's type.
    """

    def __init__(self, coder, residual: int = 0):
        self.codec, self.residual = coder, whole("the residual window", residual, least=0)
        self.group = getattr(coder, "group", 1) if type(coder).__name__ == "PerChannel" else 1
        self.forget()

    def forget(self) -> None:
        self.buffers, self.first, self.length, self.recent = {}, 0, 0, None

    def __len__(self) -> int:
        """Tokens held."""
        return self.length - self.first + (0 if self.recent is None else self.recent.shape[2])

    def append(self, x) -> None:
        """Take new vectors (batch, heads, new, d); those that leave ``recent`` are encoded."""
        import torch

        pending = x if self.recent is None else torch.cat([self.recent, x], 2)
        ready = max(0, pending.shape[2] - self.residual) // self.group * self.group
        if ready:
            self._encode(pending[:, :, :ready])
        # cloned: a view would keep the whole prompt alive
        self.recent = pending[:, :, ready:].clone() if ready else pending

    def decoded(self, dtype):
        """All tokens held, (batch, heads, tokens, d)."""
        import torch

        if self.length == self.first:
            return self.recent
        old = self.codec.decode(self._stored(), dtype)
        return old if not self.recent.shape[2] else torch.cat([old, self.recent], 2)

    def drop_first(self, count: int) -> None:
        """Forget the oldest tokens, whole groups of them."""
        count = min(count, len(self))
        encoded = min(count, self.length - self.first) // self.group * self.group
        self.first += encoded
        if self.first == self.length and count > encoded and self.group == 1:
            self.recent = self.recent[:, :, count - encoded :].clone()

    def drop_last(self, count: int) -> None:
        """Forget the newest tokens. Of a group that is cut, the rest waits decoded."""
        import torch

        if not count:
            return
        waiting = self.recent.shape[2]
        if count <= waiting:
            self.recent = self.recent[:, :, : waiting - count].clone()
            return
        empty = self.recent[:, :, :0].clone()
        kept = max(0, self.length - self.first - (count - waiting))
        whole_groups = kept // self.group * self.group
        if kept > whole_groups:
            part = self.codec.decode(self._stored(), empty.dtype)[:, :, whole_groups:kept]
            empty = torch.cat([part, empty], 2)
        self.length, self.recent = self.first + whole_groups, empty

    def rows(self, pick) -> None:
        """Apply ``pick`` (a tensor in, another number of rows out) to all tensors."""
        self.buffers = {name: pick(tensor) for name, tensor in self.buffers.items()}
        self.recent = None if self.recent is None else pick(self.recent)

    def trim(self) -> None:
        """Give back what is allocated and not filled."""
        if self.length > self.first:
            self._resize(self.length - self.first)

    def tensors(self) -> list:
        return [*self.buffers.values(), *([] if self.recent is None else [self.recent])]

    @property
    def nbytes(self) -> int:
        """Bytes of what is filled."""
        total = 0 if self.recent is None else self.recent.numel() * self.recent.element_size()
        for name, tensor in self.buffers.items():
            filled = tensor[:, :, self._span(name)]
            total += filled.numel() * filled.element_size()
        return total

    def view(self, name: str):
        """The filled part of a field's buffer."""
        return self.buffers[name][:, :, self._span(name)]

    def reserve(self, count: int) -> int:
        """Room for ``count`` more encoded tokens; where the first of them goes."""
        needed = self.length + count
        if needed > self._capacity():
            kept = self.length - self.first + count
            if self.first and kept + SLACK <= self._capacity():
                self._resize(self._capacity())  # enough was dropped in front: move to there
            else:
                self._resize(-(-(kept + kept // 8) // SLACK) * SLACK)
        return self.length

    def _encode(self, x) -> None:
        coded = self.codec.encode(x)
        present = {f: getattr(coded, f, None) for f in FIELDS}
        present = {name: tensor for name, tensor in present.items() if tensor is not None}
        if not self.buffers:
            self.buffers = {
                name: tensor.new_empty((*tensor.shape[:2], 0, *tensor.shape[3:]))
                for name, tensor in present.items()
            }
        start = self.reserve(x.shape[2])
        for name, tensor in present.items():
            at = start // self._tokens(name)
            self.buffers[name][:, :, at : at + tensor.shape[2]] = tensor
        self.length = start + x.shape[2]

    def _stored(self):
        return Stored(**{name: self.view(name) for name in self.buffers})

    def _tokens(self, name: str) -> int:
        """Tokens that an entry of a field stands for."""
        return self.group if name in ("scales", "zeros") else 1

    def _span(self, name: str) -> slice:
        each = self._tokens(name)
        return slice(self.first // each, self.length // each)

    def _capacity(self) -> int:
        return self.buffers["packed"].shape[2] if self.buffers else 0

    def _resize(self, capacity: int) -> None:
        for name, tensor in self.buffers.items():
            each = self._tokens(name)
            new = tensor.new_empty((*tensor.shape[:2], -(-capacity // each), *tensor.shape[3:]))
            filled = tensor[:, :, self._span(name)]
            new[:, :, : filled.shape[2]] = filled
            self.buffers[name] = new
        self.first, self.length = 0, self.length - self.first
