"""Small models against larger ones on the same questions.

Published answers question by question (``data/mmlu_pro.jsonl``) and those of our own small models
(``data/small_vs_large.jsonl``). All comparisons are paired (`stats.paired`), and p-values are
adjusted for how many were made. Models differ in more than size; what a difference is due to is
not in these tables.
"""

from itertools import pairwise

import numpy as np

from sizewise.data import prices, records
from sizewise.evaluation import exact_match, item_answers, tasks
from sizewise.stats import paired

STEM = "small_vs_large"
ITEMS = "mmlu_pro"
ANSWERS = ["model", "task", "item", "right", "answer"]
LEVEL = 0.05
POWER = 0.8
LETTERS = 4  # characters of a token, about
# What a blind guess gets right: one over the choices.
CHANCE = {name: task.chance for name, task in tasks.TASKS.items()} | dict.fromkeys(
    exact_match.TASKS, 0.0
)
# How many there are of each task.
QUESTIONS = {
    name: task.questions for name, task in [*tasks.TASKS.items(), *exact_match.TASKS.items()]
}


# ---------------------------------------------------------------- MMLU-Pro, question by question


def part(what: str, **where):
    """The recorded rows of one kind, with the models' names (``small_name``, ``large_name``).

    Raises ValueError where there are none.
    """
    rows = records.table(ITEMS)
    for name, value in {"what": what, **where}.items():
        rows = rows[rows[name] == value]
    if not len(rows):
        raise ValueError(f"data/{ITEMS}.jsonl has no row of {what} with {where}")
    rows = rows.dropna(axis=1, how="all").reset_index(drop=True)
    for size in ("small", "large", "model"):
        if size in rows and isinstance(rows[size].iloc[0], str):
            rows[f"{size}_name"] = rows[size].map(item_answers.name)
    return rows


def pair(small: str, large: str):
    """The recorded comparison of two models, a series."""
    return part("pair", small=small, large=large).iloc[0]


def standing(gain: float) -> str:
    """Where the smaller model stands if the larger gains so many points: "0.2 points ahead"."""
    return f"{abs(gain):.1f} points {'behind' if gain > 0 else 'ahead'}"


def by_size():
    """Scores of models of which a family has several sizes.

    Columns ``family``, ``model``, ``parameters``, ``right``, ``right_low``, ``right_high``.
    """
    import pandas

    scores = part("score").set_index("model")
    pairs = part("pair", kind="family")
    rows = []
    for model in dict.fromkeys([*pairs["small"], *pairs["large"]]):
        facts = item_answers.models()[model]
        shares = scores.loc[model, ["right", "right_low", "right_high"]]
        rows.append(
            {
                "family": facts["family"],
                "model": facts["name"],
                "parameters": facts["parameters"],
                **shares.astype(float),
            }
        )
    return pandas.DataFrame(rows).sort_values(["family", "parameters"], ignore_index=True)


def doublings():
    """What a doubling of the parameters gains on MMLU-Pro inside each family.

    Columns ``small_name``, ``large_name``, ``subject`` (all, knowledge, reasoning or code),
    ``points`` with ``low`` and ``high`` (95 %, by questions), and ``elasticity``: the power of
    size with which the score above guessing grows, 1 where they grow in proportion.
    """
    import pandas

    rows = pandas.concat(
        [
            part("pair", kind="family").assign(subject="all"),
            part("subject", kind="family").query("subject in @item_answers.GROUPS"),
        ]
    )
    facts = item_answers.models()
    sizes = rows[["small", "large"]].map(lambda name: facts[name]["parameters"])
    factor = np.log2(sizes["large"] / sizes["small"])
    chance = part("answers")["chance"].iloc[0]
    above = np.log2((rows["large_right"] - chance) / (rows["small_right"] - chance))
    return rows[["small_name", "large_name", "subject"]].assign(
        points=rows["gain"] / factor,
        low=rows["gain_low"] / factor,
        high=rows["gain_high"] / factor,
        elasticity=above / factor,
    )


def levelling():
    """What a doubling gains below and above a middle size of one family (rows ``doubling``).

    Columns ``middle`` (the middle model's name), ``from``, ``to``, ``subject``, ``before`` and
    ``after`` (points a doubling), ``verdict``: ``goes on`` where ``after`` is over a quarter of
    ``before`` by the whole interval, ``levels off`` where it is under, else ``open``.
    """
    rows = part("doubling")
    names = rows["chain"].map(lambda chain: [item_answers.name(model) for model in chain])
    verdict = np.select(
        [rows["over_quarter_low"] > 0, rows["over_quarter_high"] < 0],
        ["goes on", "levels off"],
        "open",
    )
    ends = {name: names.str[at] for at, name in enumerate(("from", "middle", "to"))}
    return rows[["subject", "items", "before", "after"]].assign(**ends, verdict=verdict)


def cascades(vendor: str, small: str, large: str, on: str, prompt: int):
    """Cascades by agreement with what a thousand questions cost at list prices.

    Every small model costs as ``small``, the one that is listed; answers have a token for every
    four characters. Columns ``models`` (small ones asked), ``names``, ``right``, ``handed_on``,
    ``over_random`` with ends, ``dollars`` and of these ``dollars_small`` for the small models; the
    last row is the large model alone.
    """
    import pandas

    cheap, dear = (prices.price(vendor, name, on) for name in (small, large))
    rows = part("agreement")
    alone = part("answers", model=rows["large"].iloc[0]).iloc[0]
    result = []
    for row in rows.itertuples():
        small = sum(cheap.request(prompt, round(size / LETTERS)) for size in row.characters_small)
        spent = small
        if row.handed_on:
            tokens = round(row.characters_large / LETTERS)
            spent += row.handed_on * dear.request(prompt, tokens)
        result.append(
            {
                "models": len(row.small),
                "names": " + ".join(map(item_answers.name, row.small)),
                "right": row.right,
                "handed_on": row.handed_on,
                "over_random": row.over_random,
                "over_random_low": row.over_random_low,
                "over_random_high": row.over_random_high,
                "dollars": 1000 * spent,
                "dollars_small": 1000 * small,
            }
        )
    tokens = round(alone["characters"] / LETTERS)
    result.append(
        {
            "models": 0,
            "names": item_answers.name(rows["large"].iloc[0]),
            "right": rows["large_right"].iloc[0],
            "handed_on": 1.0,
            "dollars": 1000 * dear.request(prompt, tokens),
        }
    )
    return pandas.DataFrame(result)


# ---------------------------------------------------------------- our own small models


def answers(table):
    """One row an item: `ANSWERS`, where ``answer`` is the number of the right choice, if any.

    Raises ValueError for an item that a model answered twice.
    """

    lists = table[["model", "task", "items", "right"]].rename(columns={"items": "item"})
    right_choices = table["answers"] if "answers" in table else [None] * len(table)
    lists["answer"] = [
        choices if isinstance(choices, list) else [None] * len(items)
        for choices, items in zip(right_choices, lists["item"], strict=True)
    ]
    long = lists.explode(["item", "right", "answer"], ignore_index=True)
    long["right"] = long["right"].astype(float)
    if (twice := long.duplicated(["model", "task", "item"])).any():
        first = long[twice].iloc[0]
        raise ValueError(f"{first.model} answered {first['item']!r} of {first.task} twice")
    return long[ANSWERS]


def sizes(table) -> dict[str, int]:
    """Parameters by model, from the smallest on."""
    parameters = dict(zip(table["model"], table["parameters"], strict=True))
    return {name: int(parameters[name]) for name in sorted(parameters, key=parameters.__getitem__)}


def scores(table, order=()):
    """The share right by task and model with its Wilson interval, models in ``order``.

    ``table`` is that of `answers`. Columns ``task``, ``model``, ``items``, ``accuracy``, ``low``,
    ``high`` and ``chance``, what guessing gets right of the same items.
    """
    import pandas

    rows = []
    for (task, model), group in table.groupby(["task", "model"], sort=False):
        accuracy = paired.accuracy(group["right"].to_numpy())
        rows.append(
            {
                "task": task,
                "model": model,
                "items": len(group),
                "accuracy": accuracy.value,
                "low": accuracy.low,
                "high": accuracy.high,
                "chance": guessing(task, group["answer"]),
            }
        )
    order, task_order = list(order), list(CHANCE)
    rows.sort(key=lambda row: (task_order.index(row["task"]), order.index(row["model"])))
    return pandas.DataFrame(rows)


def guessing(task: str, answers) -> float:
    """The share that guessing gets right: blindly or always alike, whichever gets more.

    Who always gives the answer that is right most often earns more where these are uneven, as on
    BoolQ, where most are yes. ``answers`` is a series of the numbers of the right choices, missing
    where there are none.
    """
    shares = answers.value_counts(normalize=True)
    return max(CHANCE[task], float(shares.max()) if len(shares) else 0.0)


def duels(table, order, level: float = LEVEL):
    """Neighbours in size on each task: accuracy of the larger model minus that of the smaller.

    ``table`` is that of `answers`; ``order`` names the models from the smallest on; pairs are the
    `neighbours` among those that answered the task, on the items that both answered. Columns
    ``task``, ``small``, ``large``, ``items``, ``only_small``, ``only_large``; ``difference``,
    ``low`` and ``high`` (95 %, drawing items); ``p`` (McNemar, mid-p), ``p_holm`` over all rows;
    ``ahead``: ``larger``, ``smaller``, or ``no`` where chance may have made the difference;
    ``detectable``, the least difference that so many items show four times in five, at a level
    divided by the number of rows, missing where there is none.
    """
    import pandas

    rows = []
    for task, group in table.groupby("task", sort=False):
        wide = group.pivot(index="item", columns="model", values="right")
        for small, large in neighbours([model for model in order if model in wide]):
            both = wide[[small, large]].dropna()
            if len(both) > 1:
                test = paired.compare(both[large].to_numpy(), both[small].to_numpy())
                rows.append(
                    {
                        "task": task,
                        "small": small,
                        "large": large,
                        "items": test.items,
                        "only_small": test.only_b,
                        "only_large": test.only_a,
                        "difference": test.drawn.value,
                        "low": test.drawn.low,
                        "high": test.drawn.high,
                        "p": test.mid,
                    }
                )
    frame = pandas.DataFrame(rows)
    frame["p_holm"] = paired.holm(frame["p"])
    larger = np.where(frame["difference"] > 0, "larger", "smaller")
    frame["ahead"] = np.where(frame["p_holm"] < level, larger, "no")
    frame["detectable"] = [
        least(row.only_small + row.only_large, row.items, level / len(frame))
        for row in frame.itertuples()
    ]
    return frame


def least(differ: int, items: int, level: float = LEVEL, power: float = POWER) -> float | None:
    """The least difference that ``items`` show, of which ``differ`` tell the models apart.

    None where no difference can be found, as when all items come out alike.
    """
    try:
        return paired.detectable(differ / items, items, power=power, level=level)
    except ValueError:
        return None


def neighbours(order) -> list[tuple[str, str]]:
    """Pairs of models next to each other in size, and the smallest with the largest."""
    order = list(order)
    ends = [(order[0], order[-1])] if len(order) > 2 else []
    return [*pairwise(order), *ends]
