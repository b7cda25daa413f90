"""Options that a family's name carries: ``moe:experts=16,used=4``, ``windowed:window=16``.

A name states what differs from the defaults. It is part of a run's identity, as every family is,
so that two families with different options are two experiments.
"""

import math
from dataclasses import dataclass, fields
from typing import Any, Self

from sizewise.models import config
from sizewise.units import unknown
from sizewise.validation import whole

EXPERTS, EXPERTS_USED = 8, 2
WINDOWS_IN_CONTEXT = 4  # a window is so small a part of the context unless said otherwise
FULL_EVERY = 2  # one layer in so many sees everything


class Options:
    """What options of every family share: `parse` reads them from a name, `name` writes it."""

    kind = ""  # the family without its options

    @classmethod
    def parse(cls, family: str) -> Self:
        """From a family's name. Raises ValueError for unknown options and for what is no number."""
        kinds = {field.name: field.type for field in fields(cls)}
        values: dict[str, Any] = {}
        for option in filter(None, family.partition(":")[2].split(",")):
            name, _, value = option.partition("=")
            if name not in kinds:
                raise unknown(f"option of {cls.kind}", name, kinds)
            try:
                values[name] = kinds[name](value)
            except ValueError:
                raise ValueError(f"{name} of {cls.kind} must be a number, got {value!r}") from None
        return cls(**values)

    @property
    def name(self) -> str:
        """The family's name with these options; without any for the defaults."""
        options = [
            f"{field.name}={getattr(self, field.name):g}"
            for field in fields(self)
            if getattr(self, field.name) != field.default
        ]
        return self.kind + (f":{','.join(options)}" if options else "")


@dataclass(frozen=True)
class Dense(Options):
    """Options of the family ``dense``.

    ``convolution`` is the length of a short convolution before the first ``sublayers`` of each
    layer (`short_convolution`): 1 is attention alone, 2 the MLP as well. A length of 0 is none.
    """

    kind = "dense"
    convolution: int = 0
    sublayers: int = 2


@dataclass(frozen=True)
class Mixture(Options):
    """Options of the family ``moe``.

    A token always uses one MLP of its rung: ``used`` experts, each an equal part of it. ``wide``
    makes that MLP so many times wider. ``balance`` is the coefficient of the balance loss of each
    layer (`load_balancing`).
    """

    kind = "moe"
    experts: int = EXPERTS  # routed experts in a layer
    used: int = EXPERTS_USED  # of them by a token
    wide: int = 1
    balance: float = 0.0

    def expert_width(self, mlp: int) -> int:
        """The width of one expert of an ``mlp``. Raises ValueError for what cannot be built."""
        whole("experts", self.experts, config.MAX_EXPERTS)
        whole("experts a token", self.used, self.experts)
        whole("times as wide", self.wide, 1024)
        if not 0 <= self.balance < math.inf:
            raise ValueError(f"the balance loss must be 0 or more, got {self.balance}")
        if mlp % self.used:
            raise ValueError(f"an MLP of {mlp} does not divide into {self.used} equal experts")
        return self.wide * mlp // self.used


@dataclass(frozen=True)
class Windows(Options):
    """Options of the family ``windowed``.

    A layer with sliding-window attention sees the last ``window`` tokens, its own among them; 0 is
    a quarter of the context. The last of ``every`` layers sees all: 1 makes every layer see all,
    0 none. ``convolution`` and ``sublayers`` as in `Dense`.
    """

    kind = "windowed"
    window: int = 0
    every: int = FULL_EVERY
    convolution: int = 0
    sublayers: int = 2

    def size(self, context: int) -> int:
        """The window in tokens. Raises ValueError for one that is longer than the context."""
        size = whole("the window", self.window, context, 0)
        return size or max(1, context // WINDOWS_IN_CONTEXT)

    def types(self, layers: int) -> list[str]:
        """The kind of each layer, as `transformers` names it. Raises ValueError if none can be."""
        every = whole("layers from one full one to the next", self.every, config.MAX_LAYERS, 0)
        full = [every > 0 and layer % every == every - 1 for layer in range(layers)]
        return ["full_attention" if sees_all else "sliding_attention" for sees_all in full]


OF: dict[str, type[Options]] = {options.kind: options for options in (Dense, Mixture, Windows)}
