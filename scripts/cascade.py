"""Small model first, large one where it is unsure: worked out from recorded answers, no model runs.

    python scripts/cascade.py
    python scripts/cascade.py --list

Reads data/small_vs_large.jsonl, the likelihoods of all choices by all models, and takes under a
minute. Rows go to data/cascade.jsonl; what has a row is not computed again. Where the
answers have changed since, remove the file first.
"""

import argparse
import hashlib
import json
import sys
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas
from common import reliability
from sizewise import units
from sizewise.data import records
from sizewise.evaluation.cascade import WAYS, Cascade, vote
from sizewise.stats import paired

SEED = 0  # of the halves and of the draws
SAMPLES = 1000
KEEPS = (0.9, 1.0)  # of what the large model gains
APART = 1.5  # a pair is two models of which one has at least so many times the parameters
ALL = "all"  # every task, pooled by items
MEASURES = ("probability", "margin")
NORMS = {"plain": None, "per_token": "tokens", "per_byte": "bytes"}  # the column to divide by
KINDS = ("cascade", "chosen", "calibration", "specialists", "vote")
Row = dict[str, Any]


# --- recorded answers, aligned item by item


def with_choices(rows: list[Row]) -> list[Row]:
    """The rows with the likelihood of each choice and the right one."""
    return [row for row in rows if row.get("likelihoods", True) and "answers" in row]


def read(rows: list[Row]) -> dict[str, dict[str, pandas.DataFrame]]:
    """Recorded answers by model and task, the smallest model first: a row an item, by its name.

    Columns ``answer`` (number of the right choice), ``right`` (1 or 0), ``cost`` (FLOPs),
    ``seconds``, and for each choice, by its number, the energy. Tasks without choices are left
    out. A row tells the tokens that its questions took together, and all rows of a task its
    seconds; each item bears an equal part of them. Raises ValueError for rows of another kind.
    """
    result: dict[str, dict[str, list[pandas.DataFrame]]] = {}
    try:
        order = sorted(
            with_choices(rows), key=lambda row: (row["parameters"], row["model"], row["first"])
        )
        for row in order:
            divisor, number = NORMS[row["norm"]], len(row["items"])
            energies = reliability.energies(row["nats"], row[divisor] if divisor else None)
            part = pandas.DataFrame(energies, index=row["items"]).assign(
                answer=np.asarray(row["answers"], int),
                right=paired.answers("right", row["right"]),
                cost=2 * row["parameters"] * row["tokens_read"] / number,
                seconds=row["seconds"] / number,
            )
            result.setdefault(row["model"], {}).setdefault(row["task"], []).append(part)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"these are no likelihoods of choices: {error}") from None
    return {
        model: {
            task: _joined(parts).assign(seconds=lambda answers: answers["seconds"].mean())
            for task, parts in tasks.items()
        }
        for model, tasks in result.items()
    }


def _joined(parts: list[pandas.DataFrame]) -> pandas.DataFrame:
    return pandas.concat(parts).fillna(np.inf)  # the energy of a choice that some items lack


def energies_of(answers: pandas.DataFrame) -> np.ndarray:
    """The energies in a table of `read`: (items, choices)."""
    return answers[sorted(name for name in answers if isinstance(name, int))].to_numpy()


class Study:
    """All answers, aligned: every model on the same items of the tasks that all models have."""

    def __init__(self, rows: list[Row], seed: int = 0):
        """``seed`` is of the halves. Raises ValueError where there is nothing to compare."""
        by_model = read(rows)
        if len(by_model) < 2:
            raise ValueError(f"a cascade needs answers of two models, got {len(by_model)}")
        self.models = list(by_model)  # by parameters
        self.params = {row["model"]: row["parameters"] for row in with_choices(rows)}
        shared = [t for t in by_model[self.models[0]] if all(t in a for a in by_model.values())]
        if not shared:
            raise ValueError("no task was answered by every model")
        self.answers = {m: {t: by_model[m][t] for t in shared} for m in self.models}
        self.first: dict[str, np.ndarray] = {}  # the half on which choices are made
        for task in shared:
            self._align(task, seed)
        for by_task in self.answers.values():
            parts = [by_task[t].rename(index=f"{t}/{{}}".format) for t in shared]
            by_task[ALL] = _joined(parts)
        self.first[ALL] = np.concatenate([self.first[t] for t in shared])
        self.tasks = [*shared, ALL]

    def _align(self, task: str, seed: int) -> None:
        """Keep the items that all models have, in one order, and split them."""
        names = sorted(set.intersection(*(set(a[task].index) for a in self.answers.values())))
        if len(names) < 4:
            raise ValueError(f"the models share {len(names)} items of {task}; 4 are the least")
        for by_task in self.answers.values():
            by_task[task] = by_task[task].loc[names]
        answers = [by_task[task]["answer"] for by_task in self.answers.values()]
        if not all(answers[0].equals(other) for other in answers):
            raise ValueError(f"the models were asked different choices of {task}")
        self.first[task] = reliability.halves(names, seed)

    def pairs(self) -> list[tuple[str, str]]:
        """Small and large model, as far `APART` as is asked."""
        size = self.params
        return [(s, b) for s, b in product(self.models, repeat=2) if size[b] >= APART * size[s]]

    def cascade(self, small: str, large: str, task: str, by: str) -> Cascade:
        """One model before another on a task, unsure `by` one of `MEASURES`."""
        a, b = self.answers[small][task], self.answers[large][task]
        p = reliability.probabilities(energies_of(a))
        sure = reliability.margin(p) if by == "margin" else p.max(1)
        columns = (a["right"], b["right"], sure, a["cost"], b["cost"])
        return Cascade(*map(np.asarray, columns))

    def up_to(self, model: str) -> list[str]:
        """The models that are no larger than this one."""
        return [m for m in self.models if self.params[m] <= self.params[model]]


def best_of_each_task(table, candidates=None, generalist: str | None = None, *, split: int = 0):
    """For each task the model that is best on one half of it, and one generalist, on the other.

    ``table`` has one row a model and item: ``model``, ``task``, ``item``, ``right``. Specialists
    come from ``candidates``, all models by default; the generalist is the candidate best over
    all items of the first halves, unless one is named. ``split`` seeds the halves. Among equals
    the earlier model is taken.

    A data frame with one row an item of the second halves: ``task``, ``item``, ``specialist``,
    ``generalist`` (names), ``specialist_right``, ``generalist_right``. `paired.compare` of the
    last two is the verdict.
    """
    wide = table.pivot(index=["task", "item"], columns="model", values="right")
    names = list(candidates) if candidates is not None else list(dict.fromkeys(table["model"]))
    parts = {}
    for task, rows in wide.groupby(level="task", sort=False):
        first = reliability.halves(rows.index.get_level_values("item"), split)
        parts[task] = rows[first], rows[~first]
    selected = generalist or pandas.concat([a for a, _ in parts.values()])[names].mean().idxmax()
    result = []
    for task, (first, second) in parts.items():
        best = first[names].mean().idxmax()
        result.append(
            pandas.DataFrame(
                {
                    "task": task,
                    "item": second.index.get_level_values("item"),
                    "specialist": best,
                    "generalist": selected,
                    "specialist_right": second[best].to_numpy(),
                    "generalist_right": second[selected].to_numpy(),
                }
            )
        )
    return pandas.concat(result, ignore_index=True)


# --- rows


def configs(study: Study) -> list[Row]:
    """All rows that these answers allow."""
    pairs, smaller = study.pairs(), study.models[:-1]
    sets = [m for m in smaller if len(study.up_to(m)) > 1]
    return [
        *(
            {"what": "cascade", "small": s, "large": b, "task": t, "confidence": by}
            for (s, b), t, by in product(pairs, study.tasks, MEASURES)
        ),
        *(
            {
                "what": "chosen",
                "small": s,
                "large": b,
                "task": t,
                "confidence": MEASURES[0],
                "keep": k,
            }
            for (s, b), t, k in product(pairs, study.tasks, KEEPS)
        ),
        *(
            {"what": "calibration", "model": m, "task": t}
            for m, t in product(study.models, study.tasks)
        ),
        *(
            {"what": "specialists", "up_to": m, "generalist": g, "task": t}
            for m, g, t in product(sets, ("of the same", "the largest"), study.tasks)
        ),
        *(
            {"what": "vote", "up_to": m, "way": w, "task": t}
            for m, w, t in product(sets, WAYS, study.tasks)
        ),
    ]


def measure(study: Study, config: Row) -> Row:
    """The measurements of one row."""
    measures = {
        "cascade": measure_cascade,
        "chosen": measure_chosen,
        "calibration": calibration,
        "specialists": specialists,
        "vote": measure_vote,
    }
    return measures[config["what"]](study, config)


def measure_cascade(study: Study, config: Row) -> Row:
    """The whole curve, of all items: nothing is chosen here."""
    small, large, task = config["small"], config["large"], config["task"]
    entry = study.cascade(small, large, task, config["confidence"])
    curve, area = entry.curve(), entry.area(samples=SAMPLES, seed=SEED)
    a, b = study.answers[small][task], study.answers[large][task]
    full = entry.large_cost.mean()
    return {
        "items": len(entry),
        "small_params": study.params[small],
        "large_params": study.params[large],
        "small_right": float(entry.small.mean()),
        "large_right": float(entry.large.mean()),
        **compared("gain", entry.large, entry.small),
        "only_large": float((entry.gain > 0).mean()),
        "only_small": float((entry.gain < 0).mean()),
        "either": entry.either,
        **value_columns("area", area),
        "oracle_area": entry.oracle_area,
        "small_cost_ratio": float(entry.small_cost.mean() / full),
        "small_seconds_ratio": float(a["seconds"].sum() / b["seconds"].sum()),
        "shares": curve["share"].tolist(),
        "right_at": curve["right"].tolist(),
        "cost_at": (curve["cost"] / full).tolist(),
        "random_at": curve["random"].tolist(),
        "oracle_at": curve["oracle"].tolist(),
    }


def measure_chosen(study: Study, config: Row) -> Row:
    """A threshold chosen on one half, judged on the other."""
    task, first = config["task"], study.first[config["task"]]
    entry = study.cascade(config["small"], config["large"], task, config["confidence"])
    threshold = entry.part(first).choose(config["keep"])
    judged = entry.part(~first)
    result = {
        "items": len(judged),
        "small_right": float(judged.small.mean()),
        "large_right": float(judged.large.mean()),
        "threshold": threshold if np.isfinite(threshold) else None,
    }
    for name, estimate in judged.judge(threshold, samples=SAMPLES, seed=SEED).items():
        result |= value_columns(name, estimate)
    return result


def calibration(study: Study, config: Row) -> Row:
    """Calibration on the second half, as it is and at the temperature of the first half."""
    entry, first = study.answers[config["model"]][config["task"]], study.first[config["task"]]
    energy, answer = energies_of(entry), entry["answer"].to_numpy()
    fitted = reliability.temperature(energy[first], answer[first])
    energy, answer, right = energy[~first], answer[~first], entry["right"].to_numpy()[~first]
    bins = min(reliability.BINS, len(right))
    params = study.params[config["model"]]
    result = {"items": len(right), "params": params, "temperature": fitted, "bins": bins}
    for name, value in (("", 1.0), ("_fitted", fitted)):
        p = reliability.probabilities(energy, value)
        confidences = p.max(1)
        table = reliability.reliability(confidences, right, bins)
        result |= {
            f"ece{name}": reliability.calibration_error(confidences, right, bins),
            f"ece_floor{name}": reliability.calibration_floor(confidences, bins, seed=SEED),
            f"brier{name}": reliability.brier(p, answer),
            f"surprise{name}": reliability.surprise(energy, answer, value),
            f"confidence_at{name}": table["confidence"].tolist(),
            f"right_in_bin{name}": table["right"].tolist(),
        }
    return result


@cache
def per_task(study: Study, up_to: str, generalist: str):
    """One row an item of the second halves: who answered, and whether rightly."""
    table = pandas.concat(
        study.answers[m][t][["right"]].rename_axis("item").reset_index().assign(model=m, task=t)
        for m, t in product(study.models, study.tasks[:-1])
    )
    named = None if generalist == "of the same" else study.models[-1]
    return best_of_each_task(table, study.up_to(up_to), named, split=SEED)


def specialists(study: Study, config: Row) -> Row:
    """For each task the best of several models, against one model for all tasks."""
    rows = per_task(study, config["up_to"], config["generalist"])
    if config["task"] != ALL:
        rows = rows[rows["task"] == config["task"]]
    return {
        "items": len(rows),
        "models": study.up_to(config["up_to"]),
        "specialists": list(dict.fromkeys(rows["specialist"])),
        "against": rows["generalist"].iloc[0],
        "specialist_right": float(rows["specialist_right"].mean()),
        "generalist_right": float(rows["generalist_right"].mean()),
        **compared("gain", rows["specialist_right"], rows["generalist_right"]),
    }


def measure_vote(study: Study, config: Row) -> Row:
    """Several models vote, against the largest of all, on the second half."""
    task, second = config["task"], ~study.first[config["task"]]
    members = [study.answers[m][task][second] for m in study.up_to(config["up_to"])]
    largest = study.answers[study.models[-1]][task][second]
    p = np.stack([reliability.probabilities(energies_of(a)) for a in members])  # (models, n, k)
    right = (vote(p, config["way"]) == largest["answer"].to_numpy()).astype(float)
    return {
        "items": len(right),
        "models": study.up_to(config["up_to"]),
        "against": study.models[-1],
        "vote_right": float(right.mean()),
        "generalist_right": float(largest["right"].mean()),
        "cost_ratio": float(sum(entry["cost"].sum() for entry in members) / largest["cost"].sum()),
        **compared("gain", right, largest["right"]),
    }


def compared(name: str, a, b) -> Row:
    """Accuracy of a less that of b with its interval, and McNemar's mid-p."""
    result = paired.compare(a, b, samples=SAMPLES, seed=SEED)
    return {**value_columns(name, result.drawn), f"{name}_p": result.mid}


def value_columns(name: str, estimate) -> Row:
    """A value with the ends of its interval; what is not a number is left out."""
    return {key: float(v) for key, v in estimate.columns(name).items() if np.isfinite(v)}


def digest(rows: list[Row]) -> str:
    """Of the recorded answers with choices, whatever machine and day they come from."""
    lines = sorted(
        json.dumps({k: v for k, v in row.items() if k != "from"}, sort_keys=True)
        for row in with_choices(rows)
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def names(text: str) -> list[str]:
    """A list on the command line, a,b,c."""
    return text.split(",")


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--input", help="another file of answers than data/small_vs_large.jsonl")
    add("--output", help="another file than data/cascade.jsonl")
    add("--what", type=names, default=list(KINDS), help=", ".join(KINDS))
    add("--list", action="store_true", help="print the rows and compute nothing")
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> None:
    """Compute what has no row yet."""
    for kind in args.what:
        if kind not in KINDS:
            raise units.unknown("kind of row", kind, KINDS)
    answers_file = Path(args.input) if args.input else records.path("small_vs_large")
    if not (rows := records.read(answers_file)):
        raise ValueError(f"{answers_file.name} has no rows: record scripts/small_vs_large.py first")
    file = Path(args.output) if args.output else records.path("cascade")
    answers_digest = digest(rows)
    study = Study(rows, SEED)
    before = {row.get("answers_digest") for row in records.read(file)}
    if None in before:
        raise ValueError(f"{file.name} holds rows of another script: name another file")
    if before - {answers_digest}:
        raise ValueError(
            f"{file.name} is of other answers than {answers_file.name}: remove it first"
        )
    todo = records.missing(file, [c for c in configs(study) if c["what"] in args.what])
    source = None if args.list else records.provenance(seed=SEED)
    for number, config in enumerate(todo, 1):
        print(f"[{number}/{len(todo)}] {' '.join(map(str, config.values()))}", flush=True)
        if source:
            measured = measure(study, config) | {"answers_digest": answers_digest}
            records.append(file, config, measured, source)


def main() -> None:
    try:
        run(arguments())
    except (ValueError, OSError) as error:
        sys.exit(f"cascade: {error}")


if __name__ == "__main__":
    main()
