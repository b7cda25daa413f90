"""A run as data: everything that decides its result, and how a budget becomes one."""

import math
from dataclasses import asdict, dataclass

from sizewise import validation

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

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return self.tokens // (self.batch * self.context)

    def as_dict(self) -> dict:
        return asdict(self)


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
    validation_tokens: int = 65_536,
) -> Run:
    """The run that spends ``budget`` training operations on one rung, to within half a step.

    The batch grows with the square root of the tokens, in whole sequences and without steps:
    doublings would put kinks into the curves. Raises ValueError if fewer than two steps fit.
    """
    rung = models.shape(width)
    spec = models.spec(family, width, vocabulary, context)
    cost = flops.size(spec).operations_per_token
    tokens = validation.positive("the budget", budget) / cost
    batch = max(2, round(BATCH_RULE * math.sqrt(tokens) / context))
    steps = round(tokens / (batch * context))
    if steps < 2:
        raise ValueError(
            f"a budget of {budget:.3g} operations is {tokens:.3g} tokens at width {width}: "
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
        lr=validation.positive("the learning rate", lr),
        schedule=schedule,
        warmup=0.1,
        weight_decay=0.1,
        clip=1.0,
        seed=validation.whole("the seed", seed, 2**31 - 1, 0),
        validation_tokens=validation.whole("the validation tokens", validation_tokens),
    )


def around(
    budget: float, sizes: int, family: str = "dense", *, vocabulary: int = 1024, context: int = 128
) -> list[int]:
    """The ``sizes`` neighbouring widths of the ladder in whose middle the optimum is expected.

    Raises ValueError for more sizes than the ladder has.
    """
    validation.whole("the number of sizes", sizes, len(models.WIDTHS))

    def off(width: int) -> float:
        """How far from balance: the logarithm of tokens over elements, less that of `BALANCE`."""
        found = flops.size(models.spec(family, width, vocabulary, context))
        tokens = validation.positive("the budget", budget) / found.operations_per_token
        return abs(math.log(tokens / found.matrices / BALANCE))

    middle = min(range(len(models.WIDTHS)), key=lambda place: off(models.WIDTHS[place]))
    first = min(max(0, middle - (sizes - 1) // 2), len(models.WIDTHS) - sizes)
    return list(models.WIDTHS[first : first + sizes])
