"""What guessing earns on a benchmark, and whether a score lies above it.

Who knows nothing may guess blindly, or always give the answer that is right most often. The
second earns more where right answers are uneven, as on BoolQ, where most are yes.
"""

from sizewise.evaluation import tasks

# What a blind guess gets right: one over the choices.
CHANCE = {name: task.chance for name, task in tasks.TASKS.items()} | dict.fromkeys(
    ("lambada", "gsm8k", "humaneval"), 0.0
)
AGAINST = ("above", "alike", "below")  # where an interval lies against guessing


def share(task: str, answers) -> float:
    """The share that guessing gets right: blindly or always alike, whichever gets more.

    ``answers`` is a series of the numbers of the right choices, missing where there are none.
    """
    shares = answers.value_counts(normalize=True)
    return max(CHANCE.get(task, 0.0), float(shares.max()) if len(shares) else 0.0)


def against(low: float, high: float, chance: float) -> str:
    """One of `AGAINST`: ``above`` or ``below`` where the whole interval is."""
    return AGAINST[0 if low > chance else 2 if high < chance else 1]


def leanings(rows, least: float = 0.7):
    """Models that give one and the same answer to at least a share ``least`` of a task.

    ``rows`` are those of the recorded file; columns ``task``, ``model``, ``share``.
    """
    import pandas

    made = []
    some = rows.dropna(subset=["chosen"]) if "chosen" in rows else rows.head(0)
    for (task, model), part in some.groupby(["task", "model"], sort=False):
        commonest = part["chosen"].explode().value_counts(normalize=True).max()
        if commonest >= least:
            made.append({"task": task, "model": model, "share": float(commonest)})
    return pandas.DataFrame(made, columns=["task", "model", "share"])


def wording(scores) -> str:
    """What a table of `contest.scores` says about guessing, in words."""
    if not len(scores):
        return "Not measured."
    above, alike, below = (scores[scores["against"] == kind] for kind in AGAINST)
    if len(above) == len(scores):
        return f"All {len(scores)} scores lie above guessing with their whole interval."
    said = [f"Of {len(scores)} scores {len(above)} lie above guessing with their whole interval."]
    for some, what in ((alike, "cannot be told from guessing"), (below, "below guessing")):
        if len(some):
            named = ", ".join(f"{r.model} on {r.task}" for r in some.itertuples())
            said.append(f"{len(some)} {what}: {named}.")
    return " ".join(said)
