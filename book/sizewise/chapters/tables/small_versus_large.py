"""Small models against larger ones on the same questions, from ``data/small_vs_large.jsonl``.

All models answered the same items, so every comparison is paired (`paired`), and p-values are
adjusted for how many comparisons were made. Models differ in more than size; what a difference is
due to is not in these tables.
"""

from itertools import pairwise

import numpy as np

from sizewise.data import records
from sizewise.stats import paired

from . import chance_baseline
from .chance_baseline import CHANCE

STEM = "small_vs_large"
ANSWERS = ["model", "task", "item", "right", "answer"]
LEVEL = 0.05
POWER = 0.8


def rows(stem=STEM):
    """The recorded rows, one a model, task and part of its items; without rows an empty table."""
    import pandas

    table = records.table(stem)
    return table if len(table) else pandas.DataFrame(columns=["model", "task", "parameters"])


def answers(table):
    """One row an item: `ANSWERS`, where ``answer`` is the number of the right choice, if any.

    Raises ValueError for an item that a model answered twice.
    """
    import pandas

    if not len(table):
        return pandas.DataFrame(columns=ANSWERS)
    lists = table[["model", "task", "items", "right"]].rename(columns={"items": "item"})
    known = table["answers"] if "answers" in table else [None] * len(table)
    lists["answer"] = [
        given if isinstance(given, list) else [None] * len(items)
        for given, items in zip(known, lists["item"], strict=True)
    ]
    found = lists.explode(["item", "right", "answer"], ignore_index=True)
    found["right"] = found["right"].astype(float)
    if (twice := found.duplicated(["model", "task", "item"])).any():
        first = found[twice].iloc[0]
        raise ValueError(f"{first.model} answered {first['item']!r} of {first.task} twice")
    return found[ANSWERS]


def sizes(table) -> dict[str, int]:
    """Parameters by model, from the smallest on."""
    known = dict(zip(table["model"], table["parameters"], strict=True))
    return {name: int(known[name]) for name in sorted(known, key=known.__getitem__)}


def scores(found, order=()):
    """The share right by task and model with its Wilson interval, models in ``order``.

    Columns ``task``, ``model``, ``items``, ``accuracy``, ``low``, ``high``, ``chance`` (what
    `guessing` gets right of the same items) and ``against`` (`guessing.against`).
    """
    import pandas

    made = []
    for (task, model), some in found.groupby(["task", "model"], sort=False):
        one, chance = (
            paired.accuracy(some["right"].to_numpy()),
            chance_baseline.share(task, some["answer"]),
        )
        made.append(
            {
                "task": task,
                "model": model,
                "items": len(some),
                "accuracy": one.value,
                "low": one.low,
                "high": one.high,
                "chance": chance,
                "against": chance_baseline.against(one.low, one.high, chance),
            }
        )
    columns = ["task", "model", "items", "accuracy", "low", "high", "chance", "against"]
    table = pandas.DataFrame(made, columns=columns)
    place = [list(order).index(model) if model in order else len(order) for model in table["model"]]
    tasks = [list(CHANCE).index(t) if t in CHANCE else len(CHANCE) for t in table["task"]]
    table = table.assign(_task=tasks, _model=place).sort_values(["_task", "_model"])
    return table.drop(columns=["_task", "_model"]).reset_index(drop=True)


def duels(found, order, level: float = LEVEL):
    """Neighbours in size on each task: accuracy of the larger model less that of the smaller.

    ``order`` names the models from the smallest on; pairs are the `neighbours` among those that
    answered the task, on the items that both answered. Columns ``task``, ``small``, ``large``,
    ``items``, ``only_small``, ``only_large``; ``difference``, ``low`` and ``high`` (95 %, drawing
    items); ``p`` (McNemar, mid-p), ``p_holm`` over all rows; ``found``: ``larger``, ``smaller``, or
    ``no`` where chance may have made the difference; ``detectable``, the least difference that so
    many items show four times in five, at a level divided by the number of rows.
    """
    import pandas

    made = []
    for task, some in found.groupby("task", sort=False):
        wide = some.pivot(index="item", columns="model", values="right")
        for small, large in neighbours([model for model in order if model in wide]):
            both = wide[[small, large]].dropna()
            if len(both) > 1:
                made.append({"task": task, "small": small, "large": large, **_duel(both)})
    columns = [
        "task",
        "small",
        "large",
        "items",
        "only_small",
        "only_large",
        "difference",
        "low",
        "high",
        "p",
        "p_holm",
        "found",
        "detectable",
    ]
    table = pandas.DataFrame(made, columns=columns)
    if not len(table):
        return table
    table["p_holm"] = paired.holm(table["p"])
    sure, ahead = table["p_holm"] < level, table["difference"] > 0
    table["found"] = np.where(sure, np.where(ahead, "larger", "smaller"), "no")
    table["detectable"] = [
        least(r.only_small + r.only_large, r.items, level / len(table)) for r in table.itertuples()
    ]
    return table


def _duel(both) -> dict:
    """One row of `duels`: ``both`` has right and wrong of the small and of the large model."""
    small, large = (both.iloc[:, k].to_numpy(float) for k in (0, 1))
    one = paired.compare(large, small)
    return {
        "items": one.items,
        "only_small": one.only_b,
        "only_large": one.only_a,
        "difference": one.drawn.value,
        "low": one.drawn.low,
        "high": one.drawn.high,
        "p": one.mid,
    }


def least(differ: int, items: int, level: float = LEVEL, power: float = POWER) -> float | None:
    """The least difference that ``items`` show, of which ``differ`` tell the models apart.

    None where no difference can be found, as when all items come out alike.
    """
    try:
        return paired.detectable(differ / items, items, power=power, level=level)
    except ValueError:
        return None


def upsets(found, small: str, large: str):
    """Items that the small model gets right and the large one wrong, by task.

    Columns ``task``, ``items``, ``upsets`` (share of all items), ``of_errors`` (share of the large
    model's errors that the small one gets right), ``guessing`` (the share of those that a blind
    guess would get right) and ``either`` (share of items that at least one gets right: what
    choosing between the two could reach at most).
    """
    import pandas

    made = []
    for task, some in found.groupby("task", sort=False):
        wide = some.pivot(index="item", columns="model", values="right")
        if not {small, large} <= set(wide):
            continue
        both = wide[[small, large]].dropna()
        a, b = both[small].to_numpy(bool), both[large].to_numpy(bool)
        made.append(
            {
                "task": task,
                "items": len(both),
                "upsets": (a & ~b).mean(),
                "of_errors": (a & ~b).sum() / (~b).sum() if (~b).any() else None,
                "guessing": CHANCE.get(task, 0.0),
                "either": (a | b).mean(),
            }
        )
    columns = ["task", "items", "upsets", "of_errors", "guessing", "either"]
    return pandas.DataFrame(made, columns=columns)


def costs(table):
    """What answers took, by task and model, from the rows themselves.

    Columns ``task``, ``model``, ``parameters``, ``items``, ``accuracy``, ``cpu_seconds`` (of the
    processor, an item), ``tokens`` (read and written, an item; missing for chats, of which rows do
    not count the template), ``cpu_per_right`` (processor seconds spent for each right answer,
    wrong ones paid for too; missing without a right answer), ``held_bytes`` (of the model's
    tensors), ``peak_bytes`` (of the process).
    """
    import pandas

    made = []
    for (task, model), some in table.groupby(["task", "model"], sort=False):
        right = float(sum(sum(part) for part in some["right"]))
        items, spent = sum(len(part) for part in some["items"]), some["cpu_seconds"].sum()
        chat = "chat" in some and some["chat"].eq(True).any()
        made.append(
            {
                "task": task,
                "model": model,
                "parameters": int(some["parameters"].iloc[0]),
                "items": items,
                "accuracy": right / items,
                "cpu_seconds": spent / items,
                "tokens": None
                if chat
                else (some["tokens_read"] + some["tokens_written"]).sum() / items,
                "cpu_per_right": spent / right if right else None,
                "held_bytes": some["held_bytes"].max(),
                "peak_bytes": some["peak_bytes"].max() if "peak_bytes" in some else None,
            }
        )
    columns = [
        "task",
        "model",
        "parameters",
        "items",
        "accuracy",
        "cpu_seconds",
        "tokens",
        "cpu_per_right",
        "held_bytes",
        "peak_bytes",
    ]
    return pandas.DataFrame(made, columns=columns)


def neighbours(order) -> list[tuple[str, str]]:
    """Pairs of models next to each other in size, and the smallest with the largest."""
    order = list(order)
    ends = [(order[0], order[-1])] if len(order) > 2 else []
    return [*pairwise(order), *ends]


def wording(table) -> str:
    """What a table of `duels` found, in a sentence; surely means `found` after correction."""
    if not len(table):
        return "Not measured."
    count = {name: int((table["found"] == name).sum()) for name in ("larger", "smaller", "no")}
    return (
        f"Of {len(table)} comparisons the larger model is surely ahead in {count['larger']}, the "
        f"smaller in {count['smaller']}; in {count['no']} chance may have made the difference."
    )


def reach(table) -> str:
    """What a table of `duels` could have found at all, in words."""
    if not len(table):
        return ""
    known = 100 * table["detectable"].dropna().astype(float)
    said = (
        f"Differences of {known.min():.0f} to {known.max():.0f} points, by comparison, would be "
        "found four times in five; smaller ones would mostly be missed, so that a small difference "
        "cannot be told from none."
        if len(known)
        else ""
    )
    blind = len(table) - len(known)
    return said + (
        f" In {blind} the items were too few to find any difference so often." if blind else ""
    )
