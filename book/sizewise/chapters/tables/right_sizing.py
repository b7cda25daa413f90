"""Which size a task needs: classifiers with a few labels against language models that are asked.

Tables of the rows in ``data/classifiers.jsonl``. A learner comes in several draws of labels, so its
measures are means over draws, and intervals draw both items and draws of labels. What it is held
against, the rival, is the best of the prompted language models in the best way of asking; that is
chosen on the test itself and so flatters the rival, never the small one. Whoever reads more items
than another is only counted on those that all classifiers of the set read (`common`). `size_duels`
compares a learner with its rival.
"""

from collections.abc import Mapping

import numpy as np

from sizewise import units, validation
from sizewise.data import records
from sizewise.evaluation import classification
from sizewise.stats import bootstrap

STEM = "classifiers"
LEARNERS = ("bag", "probe", "finetuned")
MEASURES = ("accuracy", "macro_f1", "macro_recall")
SAMPLES = 2000
SEED_OF_DRAWS = 2000  # another one than that of items


def rows():
    """The recorded rows. Raises ValueError without any."""
    return records.table(STEM)


def kinds():
    """The rows of ``data/cascade.jsonl`` by their column ``what``."""
    table = records.table("cascade")
    return {label: part.dropna(axis=1, how="all") for label, part in table.groupby("what")}


def common(table):
    """The rows, each cut to the items that all classifiers of its set answered.

    These are the first ones. ``items``, ``answers``, ``labels``, ``accuracy`` and ``macro_f1``
    are of them. Raises ValueError where two rows of a set were asked different items.
    """
    records_made = table.copy()
    for column in ("answers", "labels"):
        shortest = table["labels"].str.len().groupby(table["set"]).transform("min")
        records_made[column] = [text[:n] for text, n in zip(table[column], shortest, strict=True)]
    for name, part in records_made.groupby("set", sort=False):
        if part["labels"].nunique() > 1:
            raise ValueError(f"classifiers of {name} answered different items")
    pairs = [
        *zip(
            records_made["labels"].map(classification.digits),
            records_made["answers"].map(classification.digits),
            strict=True,
        )
    ]
    records_made["items"] = [len(real) for real, _ in pairs]
    records_made["accuracy"] = [float((real == predicted).mean()) for real, predicted in pairs]
    records_made["macro_f1"] = [
        classification.macro_f1(real, predicted) for real, predicted in pairs
    ]
    return records_made


def counts(answers, labels, number: int, weights) -> np.ndarray:
    """Hits, answers and items of each of ``number`` labels: (3, draws, number).

    ``answers`` and ``labels`` (n,) are places of labels, ``weights`` (draws, n) says how often
    each item counts. Sums of such counts are counts again.
    """
    every = np.arange(number)
    predicted, real = (np.asarray(x)[:, None] == every for x in (answers, labels))  # (n, number)
    return np.stack([weights @ x.astype(float) for x in (predicted & real, predicted, real)])


def measures(tallies: np.ndarray) -> dict[str, np.ndarray]:
    """`MEASURES` of `counts`, each (draws,). Recall and F1 are means over the labels, each alike.

    F1 is over labels that are given or answered (as in `classification.macro_f1`), recall over
    those given. The mean recall of two labels is what is also called balanced accuracy.
    """
    hits, predicted, real = tallies
    with np.errstate(invalid="ignore"):
        f1, recall = 2 * hits / (predicted + real), hits / real
    return {
        "accuracy": hits.sum(-1) / real.sum(-1),
        "macro_f1": np.nanmean(f1, -1),
        "macro_recall": np.nanmean(recall, -1),
    }


def rivals(table, model: str = "") -> dict:
    """By set the prompted row with the most right answers, in the best way of asking: a series.

    The row is that of `common`, and so are the items that count. ``model`` keeps to one language
    model. Among equals the smaller model is taken. Raises ValueError for a model that was not
    asked, where any was.
    """
    table = common(table)
    requested = table[table["what"] == "prompted"]
    if model and len(requested):
        if model not in set(requested["model"]):
            raise units.unknown("language model", model, requested["model"].unique())
        requested = requested[requested["model"] == model]
    return _best(requested)


def wording_spread(table):
    """Points between a language model's best wording and its worst, by model and set: a series.

    Without examples and calibration, of those that were asked in several.
    """
    plain = table[(table["what"] == "prompted") & (table["labels_used"] == 0)]
    right = plain[plain["calibration"] == "none"].groupby(["model", "set"])["accuracy"]
    return 100 * (right.max() - right.min())[right.size() > 1]


def _best(requested) -> dict:
    """By set the row with the most right answers."""
    ordered = requested.sort_values(
        ["accuracy", "parameters"], ascending=[False, True], kind="stable"
    )
    return {name: part.iloc[0] for name, part in ordered.groupby("set", sort=False)}


def learners(table):
    """The rows that learn, in groups of one set, kind, model and number of labels: (key, rows)."""
    group = table[table["what"].isin(LEARNERS)]
    yield from group.groupby(["set", "what", "model", "labels_used"], sort=False)


def at(table, labels: int):
    """Of each learner the draws with the most labels that are not above ``labels``."""
    group = table[table["what"].isin(LEARNERS) & (table["labels_used"] <= labels)]
    largest = group.groupby(["set", "what", "model"], sort=False)["labels_used"].transform("max")
    return group[group["labels_used"] == largest]


def scores(table, labels: int, samples: int = SAMPLES):
    """Every classifier of every set with intervals of 95 %: learners `at` so many labels.

    Columns ``set``, ``what``, ``model``, ``parameters``, ``labels_used``, ``draws``, ``items``,
    and each of `MEASURES` with its ``_low`` and ``_high``. Of a language model one row, in its
    best way of asking. ``items`` are the same for all of a set (`common`).
    """
    import pandas

    table = common(table)
    groups = [*learners(at(table, labels))]
    requested = table[table["what"] == "prompted"]
    for name, part in requested.groupby("model", sort=False):
        for kind, row in _best(part).items():
            groups.append(((kind, "prompted", name, row["labels_used"]), row.to_frame().T))
    return pandas.DataFrame([_scored(key, part, samples) for key, part in groups])


def curves(table, samples: int = SAMPLES // 4):
    """The columns of `scores` for every learner and number of labels, few draws of items."""
    import pandas

    return pandas.DataFrame([_scored(key, part, samples) for key, part in learners(common(table))])


def costs(table, against: Mapping, labels: int):
    """What reading takes, the rival over each learner `at` so many labels.

    Columns ``set``, ``what``, ``model``, ``large``, ``parameters``, ``seconds`` (of a processor,
    a thousand items), ``times_parameters``, ``times_seconds``. A bag of words has no seconds.
    """
    import pandas

    records_made = []
    for (name, label, model, _), part in learners(at(table, labels)):
        if name in against:
            rival, entry = against[name], part[["parameters", "cpu_seconds_per_1000"]].mean()
            records_made.append(
                {
                    "set": name,
                    "what": label,
                    "model": model,
                    "large": rival["model"],
                    "parameters": entry["parameters"],
                    "seconds": entry["cpu_seconds_per_1000"],
                    "times_parameters": rival["parameters"] / entry["parameters"],
                    "times_seconds": rival["cpu_seconds_per_1000"] / entry["cpu_seconds_per_1000"],
                }
            )
    return pandas.DataFrame(records_made)


def break_even(labels: int, label: float, dear: float, cheap: float = 0.0) -> float:
    """Requests after which ``labels`` at a price of ``label`` each have paid for themselves.

    ``dear`` and ``cheap`` are prices of one request, all in one currency. inf where the small
    model's request is not cheaper. Raises ValueError for a price below 0.
    """
    labels = validation.whole("the labels", labels, least=0)
    for name, value in (("a label", label), ("a request", dear), ("a small request", cheap)):
        if not value >= 0:
            raise ValueError(f"the price of {name} must be 0 or more, got {value!r}")
    return labels * label / (dear - cheap) if dear > cheap else float("inf")


def of_draws(part, items: int) -> np.ndarray:
    """The answers of the draws of one learner: (draws, items), by seed."""
    return np.stack(
        [classification.digits(entry[:items]) for entry in part.sort_values("seed")["answers"]]
    )


def over_draws(values: np.ndarray) -> np.ndarray:
    """The mean over draws of labels (samples, draws), drawn with replacement: (samples,).

    The same draws wherever there are as many: those of one seed belong together along a curve.
    """
    samples, draws = values.shape
    return (values * bootstrap.draws(draws, samples, SEED_OF_DRAWS) / draws).sum(1)


def _scored(key, part, samples: int) -> dict:
    """One row of `scores`: the mean over draws of labels, intervals by drawing items and draws."""
    truth = classification.digits(part["labels"].iloc[0])
    number = len(part["label_names"].iloc[0].split())
    weights = bootstrap.draws(len(truth), samples, 0).astype(float)
    records_made = dict(zip(("set", "what", "model", "labels_used"), key, strict=True))
    records_made |= {
        "parameters": part["parameters"].mean(),
        "draws": len(part),
        "items": len(truth),
    }
    all_of, once = of_draws(part, len(truth)), np.ones((1, len(truth)))
    here = [measures(counts(entry, truth, number, once)) for entry in all_of]
    resampled = [measures(counts(entry, truth, number, weights)) for entry in all_of]
    for name in MEASURES:
        ends = np.percentile(
            over_draws(np.stack([entry[name] for entry in resampled], 1)), [2.5, 97.5]
        )
        records_made |= {
            name: float(np.mean([entry[name][0] for entry in here])),
            f"{name}_low": ends[0],
            f"{name}_high": ends[1],
        }
    return records_made
