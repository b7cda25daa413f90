"""Options that a family's name carries: ``moe:experts=16,used=4``, ``windowed:window=16``.

A name states what differs from the defaults. It is part of a run's identity, as every family is,
so that two families with different options are two experiments.
"""

import math
from dataclasses import dataclass, fields
from typing import Any, Self

from sizewise import units, validation
from sizewise.models import config

EXPERTS, EXPERTS_USED = 8, 2
WINDOWS_IN_CONTEXT = 4  # a window is so small a part of the context unless said otherwise
FULL_EVERY = 2  # one layer in so many sees everything


class Options:
    """What the options of every family share: `of` reads them from its name, `name` writes it."""

    kind = ""  # the family without its options

    @classmethod
    def of(cls, family: str) -> Self:
        """From a family's name. Raises ValueError for options that are not there or not numbers."""
        kinds = {field.name: field.type for field in fields(cls)}
        given: dict[str, Any] = {}
        for option in filter(None, family.partition(":")[2].split(",")):
            name, _, value = option.partition("=")
            if name not in kinds:
                raise units.unknown(f"option of {cls.kind}", name, kinds)
            try:
                given[name] = kinds[name](value)
            except ValueError:
                raise ValueError(f"{name} of {cls.kind} must be a number, got {value!r}") from None
        return cls(**given)

    @property
    def name(self) -> str:
        """The family's name with these options; without any for the defaults."""
        told = [
            f"{field.name}={getattr(self, field.name):g}"
            for field in fields(self)
            if getattr(self, field.name) != field.default
        ]
        return self.kind + (f":{','.join(told)}" if told else "")


@dataclass(frozen=True)
class Mixture(Options):
    """Options of the family ``moe``.

    A token always uses one MLP of its rung: ``used`` routed experts and ``shared`` ones, each an
    equal part of it, so that ``used + shared`` is the granularity. ``wide`` makes that MLP so many
    times wider. ``balance`` is the coefficient of the balance loss of each layer (`balance`). With
    a ``capacity`` an expert takes at most so many times an even share of a batch (`capacity`).
    """

    kind = "moe"
    experts: int = EXPERTS  # routed experts in a layer
    used: int = EXPERTS_USED  # of them by a token
    shared: int = 0  # experts that every token uses; their class has none or one
    wide: int = 1
    balance: float = 0.0
    capacity: float = 0.0  # of an expert, in even shares of a batch (`capacity`); 0: no limit

    def check(self, mlp: int) -> int:
        """The width of one expert of an ``mlp``. Raises ValueError for what cannot be built."""
        validation.whole("experts", self.experts, config.MAX_EXPERTS)
        validation.whole("experts a token", self.used, self.experts)
        validation.whole("shared experts", self.shared, 1, 0)
        validation.whole("times as wide", self.wide, 1024)
        if not 0 <= self.balance < math.inf:
            raise ValueError(f"the balance loss must be 0 or more, got {self.balance}")
        if not 0 <= self.capacity < math.inf:
            raise ValueError(f"the capacity must be 0 or more, got {self.capacity}")
        if self.shared and self.used == 1:  # its class makes the weights of a token sum to one
            raise ValueError(
                "one routed expert beside a shared one: its weight is always one, "
                "and the router learns nothing"
            )
        parts = self.used + self.shared
        if mlp % parts:
            raise ValueError(f"an MLP of {mlp} does not divide into {parts} equal experts")
        return self.wide * mlp // parts


@dataclass(frozen=True)
class Windows(Options):
    """Options of the family ``windowed``.

    A layer with a window sees the last ``window`` tokens, the one it stands at among them; 0 is a
    quarter of the context. The last of ``every`` layers sees all: 1 makes every layer see all,
    0 none.
    """

    kind = "windowed"
    window: int = 0
    every: int = FULL_EVERY

    def size(self, context: int) -> int:
        """The window in tokens. Raises ValueError for one that is longer than the context."""
        given = validation.whole("the window", self.window, context, 0)
        return given or max(1, context // WINDOWS_IN_CONTEXT)

    def types(self, layers: int) -> list[str]:
        """The kind of each layer, as `transformers` names it. Raises ValueError if none can be."""
        every = validation.whole(
            "layers from one full one to the next", self.every, config.MAX_LAYERS, 0
        )
        full = [every > 0 and layer % every == every - 1 for layer in range(layers)]
        return ["full_attention" if one else "sliding_attention" for one in full]


OF: dict[str, type[Options]] = {one.kind: one for one in (Mixture, Windows)}
