"""Small models against larger ones on the same questions.

Published answers question by question (``data/mmlu_pro.jsonl``) and those of our own small models
(``data/small_vs_large.jsonl``). All comparisons are paired (`stats.paired`), and p-values are
adjusted for how many were made. Models differ in more than size; what a difference is due to is
not in these tables.
"""

from itertools import pairwise

import numpy as np
import pandas as pd

from sizewise.data import prices, records
from sizewise.evaluation import exact_match, item_answers, tasks
from sizewise.stats import paired

ITEMS = "mmlu_pro"
LETTERS = 4  # characters of a token, about
# How many questions there are of each task.
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


def by_size() -> pd.DataFrame:
    """Scores of models of which a family has several sizes.

    Columns ``family``, ``model``, ``parameters``, ``right``, ``right_low``, ``right_high``.
    """
    pairs, shares = part("pair", kind="family"), part("score").set_index("model")
    models = pd.unique(pd.concat([pairs["small"], pairs["large"]]))
    about = (
        _models().loc[models, ["family", "name", "parameters"]].rename(columns={"name": "model"})
    )
    table = about.join(shares[["right", "right_low", "right_high"]])
    return table.sort_values(["family", "parameters"], ignore_index=True)


def _models() -> pd.DataFrame:
    """What is known of each model whose answers there are, by its name in the rows."""
    return pd.DataFrame.from_dict(item_answers.models(), orient="index")


def doublings():
    """What a doubling of the parameters gains on MMLU-Pro inside each family.

    Columns ``small_name``, ``large_name``, ``subject`` (all, knowledge, reasoning or code),
    ``points`` with ``low`` and ``high`` (95 %, by questions), and ``elasticity``: the power of
    size with which the score above guessing grows, 1 where they grow in proportion.
    """
    rows = pd.concat(
        [
            part("pair", kind="family").assign(subject="all"),
            part("subject", kind="family").query("subject in @item_answers.GROUPS"),
        ]
    )
    sizes = _models()["parameters"]
    factor = np.log2(rows["large"].map(sizes) / rows["small"].map(sizes))
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
    cheap, dear = (prices.price(vendor, name, on) for name in (small, large))
    rows = part("agreement")

    def request(price, characters: float) -> float:
        """Dollars for a thousand questions and their answers."""
        return 1000 * price.request(prompt, round(characters / LETTERS))

    spent = [sum(request(cheap, size) for size in sizes) for sizes in rows["characters_small"]]
    handed = [
        share * request(dear, size) if share else 0.0
        for share, size in zip(rows["handed_on"], rows["characters_large"], strict=True)
    ]
    rows = rows.assign(
        models=rows["small"].str.len(),
        names=[" + ".join(map(item_answers.name, names)) for names in rows["small"]],
        dollars=np.add(spent, handed),
        dollars_small=spent,
    )
    alone = part("answers", model=rows["large"].iloc[0]).iloc[0]
    whole = {
        "models": 0,
        "names": rows["large_name"].iloc[0],
        "right": rows["large_right"].iloc[0],
        "handed_on": 1.0,
        "dollars": request(dear, alone["characters"]),
    }
    shown = ["models", "names", "right", "handed_on", "over_random", "over_random_low"]
    shown += ["over_random_high", "dollars", "dollars_small"]
    return pd.concat([rows, pd.DataFrame([whole])], ignore_index=True)[shown]


# ---------------------------------------------------------------- our own small models


def answers(table: pd.DataFrame) -> pd.DataFrame:
    """One row an item: ``model``, ``task``, ``item``, ``right``."""
    lists = table[["model", "task", "items", "right"]].rename(columns={"items": "item"})
    return lists.explode(["item", "right"], ignore_index=True).astype({"right": float})


def sizes(table: pd.DataFrame) -> dict[str, int]:
    """Parameters by model, from the smallest on."""
    return table.groupby("model")["parameters"].first().sort_values().astype(int).to_dict()


def duels(table: pd.DataFrame, order, level: float = 0.05) -> pd.DataFrame:
    """Neighbours in size on each task: accuracy of the larger model minus that of the smaller.

    ``table`` is that of `answers`; ``order`` names the models from the smallest on; pairs are
    neighbours in it among those that answered the task, and its ends, on the items that both
    answered. Columns ``task``, ``small``, ``large``, ``items``, ``only_small``, ``only_large``;
    ``difference``, ``low`` and ``high`` (95 %, drawing items); ``p`` (McNemar, mid-p), ``p_holm``
    over all rows; ``ahead``: ``larger``, ``smaller``, or ``no`` where chance may have made the
    difference; ``detectable``, the least difference that so many items show four times in five, at
    a level divided by the number of rows, missing where there is none.
    """
    lines = []
    for task, group in table.groupby("task", sort=False):
        wide = group.pivot(index="item", columns="model", values="right")
        models = [model for model in order if model in wide]
        ends = [(models[0], models[-1])] if len(models) > 2 else []
        for small, large in [*pairwise(models), *ends]:
            both = wide[[small, large]].dropna()
            if len(both) > 1:
                test = paired.compare(both[large].to_numpy(), both[small].to_numpy())
                only, drawn = (test.only_b, test.only_a), test.drawn
                interval = drawn.value, drawn.low, drawn.high
                lines.append((task, small, large, test.items, *only, *interval, test.mid))
    names = "task", "small", "large", "items", "only_small", "only_large"
    frame = pd.DataFrame(lines, columns=[*names, "difference", "low", "high", "p"])
    frame["p_holm"] = paired.holm(frame["p"])
    larger = np.where(frame["difference"] > 0, "larger", "smaller")
    frame["ahead"] = np.where(frame["p_holm"] < level, larger, "no")
    shares = (frame["only_small"] + frame["only_large"]) / frame["items"]
    frame["detectable"] = [
        least(share, items, level / len(frame))
        for share, items in zip(shares, frame["items"], strict=True)
    ]
    return frame


def least(share: float, items: int, level: float) -> float:
    """The least difference that ``items`` show, of which a ``share`` tells the models apart.

    Not a number where no difference can be found, as when all items come out alike.
    """
    try:
        return paired.detectable(share, items, level=level)
    except ValueError:
        return np.nan
