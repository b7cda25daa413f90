"""A run as data: everything that decides its result, and how a budget becomes one."""

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from sizewise.validation import positive, whole

from . import flops, models, optimizer

LR = 0.01  # at `optimizer.BASE_WIDTH`; `scripts/isoflop.py --tune` shows how it was found
BATCH_RULE = 0.8  # tokens in a batch = this times the square root of the run's tokens


# Tokens for each matrix element about which the loss is lowest at the smallest budgets. It only
# places the grid: where the optimum is, is for the runs to say.
BALANCE = 8.0


@dataclass(frozen=True)
class Run:
    """One training run. Two runs with equal fields end with equal losses on one kind of CPU."""

    family: str
    width: int
    layers: int
    vocabulary: int
    context: int
    text: str
    tokens: int  # trained on, whole batches
    batch: int  # sequences
    lr: float  # peak, at the base width
    schedule: str
    warmup: float  # share of the steps
    weight_decay: float
    clip: float  # largest norm of the gradient
    seed: int
    validation_tokens: int
    per_input: bool = False  # a matrix's rate by its own inputs, not by the width (`optimizer`)

    @classmethod
    def from_row(cls, config: dict[str, Any]) -> Self:
        """The run in a row's configuration, which may have other columns beside."""
        names = [field.name for field in fields(cls)]
        return cls(**{name: config[name] for name in names if name in config})

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return self.tokens // (self.batch * self.context)

    def as_dict(self) -> dict[str, Any]:
        """The fields; ``per_input`` only where true, so that older rows keep their identity."""
        values = asdict(self)
        if not self.per_input:
            del values["per_input"]
        return values


def at_budget(
    budget: float,
    width: int,
    family: str = "dense",
    *,
    seed: int = 0,
    text: str = "packages",
    vocabulary: int = 1024,
    context: int = 128,
    lr: float = LR,
    schedule: str = "linear",
    per_input: bool = False,
    validation_tokens: int = 65_536,
) -> Run:
    """The run that spends ``budget`` training FLOPs on one rung, to within half a step.

    The batch grows with the square root of the tokens, in whole sequences and without steps:
    doublings would put kinks into the curves. Raises ValueError if fewer than two steps fit.
    """
    rung = models.shape(width)
    spec = models.spec(family, width, vocabulary, context)
    cost = flops.size(spec).operations_per_token
    tokens = positive("the budget", budget) / cost
    batch = max(2, round(BATCH_RULE * math.sqrt(tokens) / context))
    steps = round(tokens / (batch * context))
    if steps < 2:
        raise ValueError(
            f"a budget of {budget:.3g} FLOPs is {tokens:.3g} tokens at width {width}: "
            "under two steps"
        )
    optimizer.factor(0, steps, 0.1, schedule)  # refuses an unknown schedule now, not in a worker
    return Run(
        family=family,
        width=rung["width"],
        layers=spec.fields["num_hidden_layers"],
        vocabulary=vocabulary,
        context=context,
        text=text,
        tokens=steps * batch * context,
        batch=batch,
        lr=positive("the learning rate", lr),
        schedule=schedule,
        warmup=0.1,
        weight_decay=0.1,
        clip=1.0,
        seed=whole("the seed", seed, 2**31 - 1, 0),
        validation_tokens=whole("the validation tokens", validation_tokens),
        per_input=per_input,
    )


def around(
    budget: float, sizes: int, family: str = "dense", *, vocabulary: int = 1024, context: int = 128
) -> list[int]:
    """The ``sizes`` neighbouring widths of the ladder in whose middle the optimum is expected.

    Raises ValueError for more sizes than the ladder has.
    """
    whole("the number of sizes", sizes, len(models.WIDTHS))

    def imbalance(width: int) -> float:
        """The logarithm of tokens over matrix elements, less that of `BALANCE`."""
        size = flops.size(models.spec(family, width, vocabulary, context))
        tokens = positive("the budget", budget) / size.operations_per_token
        return abs(math.log(tokens / size.matrices / BALANCE))

    middle = min(range(len(models.WIDTHS)), key=lambda rung: imbalance(models.WIDTHS[rung]))
    first = min(max(0, middle - (sizes - 1) // 2), len(models.WIDTHS) - sizes)
    return list(models.WIDTHS[first : first + sizes])
